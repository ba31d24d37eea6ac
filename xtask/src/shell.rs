//! Running other programs: where they run, as whom, what is shown of them, and what is said when they fail.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Errors are for the person at the terminal only: the text is all there is to them.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// Adds what was being done to an error.
pub(crate) trait Context<T> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| format!("{}: {error}", doing()))
    }
}

/// The checkout this runs in.
pub(crate) struct Workspace {
    /// Where the root `Cargo.toml` is.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask is not inside a workspace")?.to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(set) => std::path::absolute(&set).context(|| format!("CARGO_TARGET_DIR `{}`", set.display()))?,
            None => root.join("target"),
        };
        let workspace = Self { root, target };
        let own = workspace.own("");
        fs::create_dir_all(&own).context(|| format!("cannot create `{}`", own.display()))?;
        Ok(workspace)
    }

    /// A path below xtask's own part of the target directory.
    pub(crate) fn own(&self, below: impl AsRef<Path>) -> PathBuf {
        self.target.join("xtask").join(below)
    }

    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    /// Held while engines and images are set up, so that two terminals do not do it twice. Let go by dropping it, and
    /// by the kernel if this process dies.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.own("setup.lock");
        let file = File::create(&path).context(|| format!("cannot open `{}`", path.display()))?;
        if file.try_lock().is_err() {
            say("waiting for another `cargo xtask` that is setting up");
            file.lock().context(|| format!("cannot lock `{}`", path.display()))?;
        }
        Ok(file)
    }
}

/// With what the workspace is built to be tested: the optional SSH library too. Always the same, so that nothing is built
/// twice.
pub(crate) const FEATURES: [&str; 2] = ["--features", "broker-tests/russh"];

/// One line about what is being done.
pub(crate) fn say(line: impl std::fmt::Display) {
    println!("xtask: {line}");
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a command in view of the user. Fails if it does.
pub(crate) fn run(command: &mut Command) -> Result {
    // What this process has printed comes before what the command prints.
    drop(std::io::stdout().flush());
    let status = command.status().context(|| format!("cannot run `{}`", line(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", line(command))) }
}

/// Runs a command out of view. An error carries the end of what it printed.
pub(crate) fn quietly(command: &mut Command) -> Result<String> {
    let output = finished(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let printed = [output.stdout, output.stderr].concat();
    let tail = last_lines(&String::from_utf8_lossy(&printed), 15);
    Err(format!("`{}` failed ({})\n{tail}", line(command), output.status))
}

/// Runs a command out of view, however it ends.
pub(crate) fn finished(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().context(|| format!("cannot run `{}`", line(command)))
}

pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The program's path, looked for where this user's shell would look and in the directories for administrators.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(administrators).map(|folder| folder.join(program)).find(|file| file.is_file())
}

pub(crate) fn is_root() -> Result<bool> {
    // The standard library has no `geteuid`; a process's own folder belongs to whom it runs as.
    Ok(fs::metadata("/proc/self").context(|| "cannot read `/proc/self`".into())?.uid() == 0)
}

/// A command for the administrator: as it is when this is root, else through sudo.
pub(crate) fn as_root(words: &[&str]) -> Result<Command> {
    let (first, rest) = words.split_first().ok_or("no command")?;
    if is_root()? {
        let mut command = Command::new(first);
        command.args(rest);
        return Ok(command);
    }
    if which("sudo").is_none() {
        return Err(format!("only root may do this, and there is no sudo; as root run `{}`", words.join(" ")));
    }
    let mut command = Command::new("sudo");
    if !std::io::stdin().is_terminal() {
        command.arg("--non-interactive");
    }
    command.args(words);
    Ok(command)
}

/// Installs Debian packages.
pub(crate) fn install(packages: &[&str]) -> Result {
    if which("apt-get").is_none() {
        return Err(format!(
            "not a Debian system; install by hand what these packages of Debian hold: {}",
            packages.join(" ")
        ));
    }
    say(format!("installing {}", packages.join(" ")));
    let mut words =
        vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--no-install-recommends"];
    words.extend(["-o", "DPkg::Lock::Timeout=300"]);
    words.extend(packages);
    if quietly(&mut as_root(&words)?).is_ok() {
        return Ok(());
    }
    refresh_package_lists()?;
    quietly(&mut as_root(&words)?).map(drop)
}

/// A machine's package lists may be missing, or so old that what they name is gone.
pub(crate) fn refresh_package_lists() -> Result {
    say("refreshing the package lists");
    // One broken source among several fails the whole update, and yet the lists of the others are fresh.
    if let Err(error) = quietly(&mut as_root(&["apt-get", "update"])?) {
        say(error);
    }
    Ok(())
}

/// Starts a service in a process session of its own, so that it outlives this terminal and its Ctrl-C. Its output goes
/// to the log. Returns as soon as it is ready.
pub(crate) fn start_service(mut command: Command, log: &Path, ready: impl Fn() -> bool) -> Result {
    let file = File::create(log).context(|| format!("cannot create `{}`", log.display()))?;
    let copy = file.try_clone().context(|| format!("cannot use `{}`", log.display()))?;
    let shown = line(&command);
    // It outlives us, and may outlive our folder.
    command.current_dir("/").stdin(Stdio::null()).stdout(file).stderr(copy);
    let mut child = command.spawn().context(|| format!("cannot run `{shown}`"))?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if ready() {
            return Ok(());
        }
        let ended = child.try_wait().context(|| format!("cannot watch `{shown}`"))?;
        if ended.is_some() || std::time::Instant::now() > deadline {
            let why = ended.map_or("does not answer after 60s".to_owned(), |status| format!("ended ({status})"));
            let tail = last_lines(&fs::read_to_string(log).unwrap_or_default(), 15);
            return Err(format!("`{shown}` {why}; the end of `{}`:\n{tail}", log.display()));
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_one_would_type_them() {
        let mut command = Command::new("broker");
        command.args(["exec", "0", "--", "echo 'a b'", ""]);
        assert_eq!(line(&command), r"broker exec 0 -- 'echo '\''a b'\''' ''");
    }

    #[test]
    fn the_end_of_a_text() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }
}
