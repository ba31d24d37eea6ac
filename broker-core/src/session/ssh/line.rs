//! Commands as lines for a login shell, which may be any, `csh` and `fish` too: all that is asked of it is `exec` and quotes.

use bytes::{Bytes, BytesMut};

use crate::session::mark::Mark;
use crate::session::{Command, ExitStatus, Program, RemotePath, SessionError, SessionErrorKind, Signal};

/// What the lines print on the standard error, before the mark and a word, where the command cannot be started.
const REPORT: &str = "broker-cannot-start";

/// The same in a script, of which it is no part: whoever lists the processes of a host is not to be taken for a report.
const REPORT_IN_SCRIPT: &str = r#"broker-cannot"-start""#;

/// Runs the words from `$1` on, where they name a program.
const WORDS: &str = concat!(
    r#"case $1 in */*) [ -e "$1" ] || { echo REPORT program >&2; exit 127; }; "#,
    r#"[ -x "$1" ] && [ -f "$1" ] || { echo REPORT denied >&2; exit 126; };; "#,
    r#"*) command -v "$1" >/dev/null 2>&1 || { echo REPORT program >&2; exit 127; };; esac; exec "$@""#
);

/// Runs the words from `$2` on as user `$1`.
const SWITCH: &str = r#"user=$1
shift
[ "$user" = "$(id -u)" ] && exec "$@"
name=$(id -un -- "$user" 2>/dev/null || id -un "$user" 2>/dev/null) || { echo REPORT user >&2; exit 1; }
[ "$name" = "$(id -un)" ] && exec "$@"
if [ "$(id -u)" = 0 ]; then
    command -v runuser >/dev/null 2>&1 && exec runuser -u "$name" -- "$@"
    exec su -s /bin/sh "$name" -c 'exec "$@"' sh "$@"
fi
sudo -n -u "$name" -- true >/dev/null 2>&1 || { echo REPORT sudo >&2; exit 1; }
exec sudo -n -u "$name" -- "$@""#;

/// A text as one word for a POSIX shell. Single quotes hold everything but themselves.
fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+./:@%,=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A line for a POSIX shell, as one for any: in quotes `csh` has a meaning for `!` and the end of a line, `fish` for `\`.
/// Where there are such, or bytes that are no text, `sh` puts the line together.
pub(super) fn for_any_shell(line: &[u8]) -> Vec<u8> {
    let is_harmless = |byte: &u8| (b' '..=b'~').contains(byte) && !b"\\!".contains(byte);
    if line.iter().all(is_harmless) {
        return line.to_vec();
    }
    // The dot keeps what newlines there are at the end.
    let mut told = br#"exec /bin/sh -c 'line=$(printf %b "$1"; echo .); eval "${line%.}"' sh '"#.to_vec();
    for byte in line {
        if is_harmless(byte) && *byte != b'\'' {
            told.push(*byte);
        } else {
            told.extend(format!("\\0{byte:03o}").into_bytes());
        }
    }
    told.push(b'\'');
    told
}

/// The line that runs a script of ours with paths, whatever bytes they have.
pub(super) fn scripted(script: &str, paths: &[&RemotePath]) -> Vec<u8> {
    let mut line = format!("exec /bin/sh -c {} sh", quote(script)).into_bytes();
    for path in paths {
        line.extend(b" '");
        line.extend(path.as_bytes().split(|byte| *byte == b'\'').collect::<Vec<_>>().join(&br"'\''"[..]));
        line.push(b'\'');
    }
    for_any_shell(&line)
}

/// The line that runs a command, with its mark, for a POSIX shell.
pub(super) fn running(command: &Command, mark: &Mark) -> Result<String, SessionError> {
    check(command)?;
    let report = format!("{REPORT_IN_SCRIPT} {}", mark.value());
    let enter = command.directory.as_deref().map(|directory| {
        let directory = quote(if directory == "-" { "./-" } else { directory });
        format!("CDPATH= cd -- {directory} >/dev/null 2>&1 || {{ echo {report} directory >&2; exit 127; }}; ")
    });
    let enter = enter.unwrap_or_default();
    let mut words = vec!["/bin/sh".to_owned(), "-c".to_owned()];
    match &command.program {
        Program::Shell(line) => words.push(enter + line),
        Program::Words(program) => {
            words.extend([enter + &WORDS.replace("REPORT", &report), "sh".to_owned()]);
            words.extend(program.iter().cloned());
        }
    }
    let own = format!("{}={}", mark.variable(), mark.value());
    let Some(user) = &command.user else {
        let env = command.env.iter().map(|(name, value)| format!("{name}={value}"));
        let words: Vec<String> = ["env".to_owned(), own].into_iter().chain(env).chain(words).collect();
        return Ok(format!("exec {}", joined(&words)));
    };
    // `sudo` empties the environment, so that it is filled behind it.
    let term = command.pty.as_ref().map(|pty| format!("TERM={}", pty.term));
    let env = command.env.iter().map(|(name, value)| format!("{name}={value}"));
    let switch = SWITCH.replace("REPORT", &report);
    let switch = ["/bin/sh", "-c", &switch, "sh", user, "env", &own].map(str::to_owned);
    let words: Vec<String> = switch.into_iter().chain(term).chain(env).chain(words).collect();
    Ok(format!("exec env {own} {}", joined(&words)))
}

/// The line that takes the real one from its input, where that is longer than a request can be.
///
/// Single bytes are read, since what comes behind them is the command's own input.
pub(super) fn reading(length: usize) -> String {
    format!("exec /bin/sh -c 'eval \"$(dd bs=1 count={length} 2>/dev/null)\"'")
}

/// The line that signals what carries a mark, as the user whose it is.
pub(super) fn signalling(mark: &Mark, signal: Signal, user: Option<&str>) -> Vec<u8> {
    let switch = user.map(|user| ["/bin/sh", "-c", SWITCH, "sh", user].map(str::to_owned));
    let words: Vec<String> = switch.into_iter().flatten().chain(mark.signalling(signal)).collect();
    for_any_shell(format!("exec {}", joined(&words)).as_bytes())
}

fn joined(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn check(command: &Command) -> Result<(), SessionError> {
    let bad = |message: String| Err(SessionError::new(SessionErrorKind::Failed, message));
    let argv = command.argv();
    if argv.first().is_none_or(String::is_empty) {
        return bad("the command names no program".to_owned());
    }
    let values = command.env.values().chain(&command.directory).chain(&command.user);
    if argv.iter().chain(values).any(|word| word.contains('\0')) {
        return bad(format!("`{command}` has a zero byte in it, which no program can be given"));
    }
    for name in command.env.keys() {
        let mut letters = name.bytes();
        let first = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if !first || !letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return bad(format!("`{name}` is no name of a variable that a shell can set"));
        }
    }
    Ok(())
}

/// How much of what a command prints is searched for a report: it comes first, behind what a shell's start-up files say.
const SEARCHED: usize = 16 * 1024;

/// What may be the beginning of a report is held back from here on, until it is known. What is shorter is let through,
/// since somebody may be typing it.
const TELLING: usize = "broker-cannot".len();

/// Looks through what a command prints on its standard error, or its terminal, for the report that it could not be
/// started.
pub(super) struct Reports {
    mark: Vec<u8>,
    searched: usize,
    /// What may be the beginning of a report, or is one, with all behind it.
    held: BytesMut,
}

impl Reports {
    pub(super) fn new(mark: &Mark) -> Self {
        let mark = format!("{REPORT} {} ", mark.value()).into_bytes();
        Self { mark, searched: 0, held: BytesMut::new() }
    }

    /// What of a piece is the command's own, as far as that is known.
    pub(super) fn pass(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() && self.searched >= SEARCHED {
            return piece;
        }
        self.searched += piece.len();
        self.held.extend_from_slice(&piece);
        let is_report = |rest: &[u8]| rest.starts_with(&self.mark);
        let may_become = |rest: &[u8]| rest.len() >= TELLING && self.mark.starts_with(rest);
        let begun = (0..self.held.len()).find(|at| {
            let rest = self.held.get(*at..).unwrap_or_default();
            is_report(rest) || may_become(rest)
        });
        self.held.split_to(begun.unwrap_or(self.held.len())).freeze()
    }

    /// The word of the report, if the command ended as one that was not started.
    pub(super) fn word(&self, status: Option<&ExitStatus>) -> Option<String> {
        let may_be = status.is_none_or(|status| matches!(status.code(), 1 | 126 | 127));
        let word = self.held.strip_prefix(self.mark.as_slice()).filter(|_| may_be)?;
        word.split(u8::is_ascii_whitespace).next().map(|word| String::from_utf8_lossy(word).into_owned())
    }

    /// What was held back, where it was no report after all.
    pub(super) fn rest(self) -> Bytes {
        self.held.freeze()
    }
}

/// The error that a report stands for.
pub(super) fn error(report: &str, command: &Command, label: &str) -> SessionError {
    let argv = command.argv();
    let program = argv.first().map(String::as_str).unwrap_or_default();
    let user = command.user.as_deref().unwrap_or_default();
    let (kind, message) = match report {
        "directory" => {
            let directory = command.directory.as_deref().unwrap_or_default();
            (SessionErrorKind::NotFound, format!("there is no directory `{directory}` on host `{label}`"))
        }
        "program" => (SessionErrorKind::NotFound, format!("there is no program `{program}` on host `{label}`")),
        "denied" => (SessionErrorKind::Permission, format!("`{program}` on host `{label}` may not be executed")),
        "user" => (SessionErrorKind::NotFound, format!("there is no user `{user}` on host `{label}`")),
        _ => {
            let message = format!("`sudo` on host `{label}` lets nobody run commands as `{user}` without a password");
            (SessionErrorKind::Unsupported, message)
        }
    };
    SessionError::new(kind, message)
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use super::*;

    /// Runs a line as sshd would, by a login shell.
    fn run(shell: &str, line: &str) -> (i32, String, String) {
        let done = Process::new(shell).args(["-c", line]).env("CDPATH", "/usr").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
    }

    fn ran(command: impl Into<Command>) -> (i32, String, String) {
        let line = running(&command.into(), &Mark::new()).unwrap();
        let dash = run("/bin/sh", &line);
        assert_eq!(dash, run("/bin/bash", &line), "{line}");
        let told = String::from_utf8(for_any_shell(line.as_bytes())).unwrap();
        assert_eq!(dash, run("/bin/sh", &told), "{told}");
        dash
    }

    #[test]
    fn any_words_reach_the_program() {
        let odd =
            ["", " ", "a b", "'", "''", "\"", "\\", "$HOME", "`id`", "!", "*", "a\nb\n", "-x", "é", "\u{1}", "~", "#"];
        let (status, printed, _) = ran(Command::words(["printf", "%s|"].into_iter().chain(odd)));
        assert_eq!((status, printed.as_str()), (0, format!("{}|", odd.join("|")).as_str()));
    }

    #[test]
    fn no_shell_is_asked_for_more_than_it_has() {
        let plain = Command::words(["/bin/echo", "a b"]).directory("/");
        let line = running(&plain, &Mark::new()).unwrap();
        assert_eq!(for_any_shell(line.as_bytes()), line.as_bytes(), "what is plain stays so");
        for odd in [Command::shell("echo 'a'\n"), Command::shell("! true"), Command::words(["\\", "é"]).user("x")] {
            let told = for_any_shell(running(&odd, &Mark::new()).unwrap().as_bytes());
            let text = std::str::from_utf8(&told).unwrap();
            // All there is of quotes is around two words, and `\\` is never before what `fish` knows there.
            assert_eq!(text.matches('\'').count(), 4, "{text}");
            assert!(text.starts_with("exec /bin/sh -c '") && !text.contains(['!', '\n']) && text.is_ascii(), "{text}");
            assert!(text.split('\\').skip(1).all(|rest| rest.starts_with('0')), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_get_through_a_shell() {
        let path = RemotePath::from_bytes(b"a\xff'\\ %s\n$HOME\n\n".to_vec());
        let line = scripted("printf %s \"$1\"; printf \"|$0\"", &[&path]);
        let done = Process::new("/bin/sh").arg("-c").arg(String::from_utf8(line).unwrap()).output().unwrap();
        assert_eq!(done.stdout, [path.as_bytes(), b"|sh"].concat());
        assert!(done.stderr.is_empty());
    }

    #[test]
    fn a_long_line_is_read_from_the_input() {
        use std::io::Write as _;
        let line = running(
            &Command::words(["sh", "-c", "printf '%s|' \"$1\"; cat", "sh", &"x y".repeat(20_000)]),
            &Mark::new(),
        );
        let line = line.unwrap();
        for shell in ["/bin/sh", "/bin/bash"] {
            let mut process = Process::new(shell);
            process.args(["-c", &reading(line.len())]);
            process.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
            let mut child = process.spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            let given = format!("{line}its own\n");
            std::thread::spawn(move || input.write_all(given.as_bytes()).unwrap());
            let printed = child.wait_with_output().unwrap().stdout;
            assert_eq!(String::from_utf8(printed).unwrap(), format!("{}|its own\n", "x y".repeat(20_000)));
        }
    }

    #[test]
    fn lines_are_the_shells() {
        assert_eq!(ran("echo $((1 + 2)); exit 3"), (3, "3\n".to_owned(), String::new()));
        let within = Command::shell("pwd; echo \"$0 $#\"").directory("/usr/bin");
        assert_eq!(ran(within).1, "/usr/bin\nsh 0\n".replace("sh 0", "/bin/sh 0"));
        let relative = Command::words(["pwd"]).directory("./");
        assert_eq!(ran(relative).0, 0);
    }

    #[test]
    fn variables_are_set() {
        let command = Command::words(["sh", "-c", "printf %s \"$A|$name\""]).env("A", "it's $B\n").env("name", "x");
        assert_eq!(ran(command).1, "it's $B\n|x");
        running(&Command::shell("true").env("A B", "x"), &Mark::new()).unwrap_err();
        running(&Command::shell("true").env("1", "x"), &Mark::new()).unwrap_err();
        running(&Command::shell("tr\0ue"), &Mark::new()).unwrap_err();
        running(&Command::words(Vec::<String>::new()), &Mark::new()).unwrap_err();
    }

    #[test]
    fn what_cannot_be_started_is_reported() {
        let mark = Mark::new();
        let report = |command: Command| {
            let (status, _, stderr) = run("/bin/sh", &running(&command, &mark).unwrap());
            assert_ne!(status, 0);
            // However it comes in pieces.
            for cut in [0, TELLING, 30, stderr.len() - 3] {
                let mut reports = Reports::new(&mark);
                let (one, other) = stderr.split_at(cut);
                let passed = [format!("noise {one}"), other.to_owned()].map(|piece| reports.pass(piece.into()));
                assert_eq!(passed.concat(), b"noise ", "{cut}");
                assert_eq!(reports.word(Some(&ExitStatus::Code(0))), None);
                assert!(reports.word(Some(&ExitStatus::Code(status))).is_some(), "{cut}");
            }
            let mut reports = Reports::new(&mark);
            drop(reports.pass(stderr.into()));
            reports.word(Some(&ExitStatus::Code(status))).unwrap()
        };
        assert_eq!(report(Command::words(["no-such-program-anywhere"])), "program");
        assert_eq!(report(Command::words(["/no/such/program"])), "program");
        assert_eq!(report(Command::words(["/etc/passwd"])), "denied");
        assert_eq!(report(Command::words(["/etc"])), "denied");
        assert_eq!(report(Command::words(["true"]).directory("/no/such/place")), "directory");
        assert_eq!(report(Command::shell("true").directory("/no/such/place")), "directory");
        assert_eq!(report(Command::shell("true").user("no-such-user-anywhere")), "user");
    }

    #[test]
    fn what_a_command_says_itself_is_no_report() {
        let mark = Mark::new();
        let mut reports = Reports::new(&mark);
        for text in ["broker", "broker-cannot-start program\n", "broker-cannot be\n"] {
            assert_eq!(reports.pass(text.into()), text);
        }
        // Nothing is lost of what only began like one.
        assert_eq!(reports.pass("x broker-cannot-st".into()), "x ");
        assert_eq!(reports.pass("op".into()), "broker-cannot-stop");
        assert_eq!(reports.pass("broker-cannot".into()), "");
        assert_eq!(reports.word(None), None);
        assert_eq!(reports.rest(), "broker-cannot");
        let mut reports = Reports::new(&mark);
        drop(reports.pass(vec![b'x'; SEARCHED].into()));
        let late = format!("{REPORT} {} program\n", mark.value());
        assert_eq!(reports.pass(late.clone().into()), late);
    }

    #[test]
    fn a_list_of_processes_is_no_report() {
        let mark = Mark::new();
        let shell = Command::shell("tr '\\0' ' ' < /proc/$$/cmdline >&2; true").directory("/");
        let words = Command::words(["true"]).directory("/");
        for command in [shell.clone(), words, shell.clone().user("root")] {
            let line = running(&command, &mark).unwrap();
            assert!(!line.contains(&format!("{REPORT} {}", mark.value())), "{line}");
        }
        let (_, _, stderr) = run("/bin/sh", &running(&shell, &mark).unwrap());
        assert!(stderr.contains(mark.value()), "{stderr}");
        assert_eq!(Reports::new(&mark).pass(stderr.clone().into()), stderr);
    }

    #[test]
    fn the_mark_is_in_the_environment() {
        let mark = Mark::new();
        let printed = |command: &Command| run("/bin/sh", &running(command, &mark).unwrap()).1;
        let own = String::from_utf8(Process::new("id").arg("-un").output().unwrap().stdout).unwrap();
        for command in [Command::shell("env"), Command::words(["env"]), Command::shell("env").user(own.trim())] {
            assert!(printed(&command).contains(&format!("{}={}\n", mark.variable(), mark.value())), "{command:?}");
        }
    }
}
