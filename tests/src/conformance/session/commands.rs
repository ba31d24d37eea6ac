//! What must be true of commands.

use std::time::Duration;

use broker_core::session::{Command, ExitStatus, Output, SessionErrorKind};
use broker_core::{Error, Running, error_chain};
use futures_util::future::join_all;

use super::super::Case;
use super::{SessionSubject, kind, noise, output};
use crate::wait;

/// 8 MB, and a little more, so that it is no multiple of any buffer.
const MUCH: usize = 8_000_003;

/// Both outputs arrive byte by byte, and each on its own.
pub fn outputs_are_apart_and_exact<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let line = r"printf 'a\000b\377\r\n\303\050'; printf 'err\376' >&2";
        let done = host.execute(line).await.unwrap();
        assert_eq!(done.status(), &ExitStatus::Code(0));
        assert_eq!(&done.stdout_bytes()[..], b"a\0b\xff\r\n\xc3\x28");
        assert_eq!(&done.stderr_bytes()[..], b"err\xfe");
        assert_eq!(done.stderr(), "err\u{fffd}");
        // The order within each output stays, however they are mixed.
        let line = "for i in 1 2 3 4 5 6 7 8 9; do echo out$i; echo err$i >&2; done";
        let done = host.execute(line).await.unwrap();
        let expected = |word: &str| (1..10).map(|i| format!("{word}{i}\n")).collect::<String>();
        assert_eq!((done.stdout().into_owned(), done.stderr().into_owned()), (expected("out"), expected("err")));
        let done = host.execute("true").await.unwrap();
        assert!(done.stdout().is_empty() && done.stderr().is_empty() && done.success());
    });
}

/// The status is what the command exits with, also where it looks like a signal or like a failure of the way.
pub fn statuses_are_told<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let statuses = [0, 1, 2, 3, 42, 64, 125, 126, 127, 128, 129, 137, 143, 200, 254, 255];
        let outcomes = statuses.map(|status| host.execute(format!("exit {status}")));
        for (status, outcome) in statuses.into_iter().zip(join_all(outcomes).await) {
            let done = outcome.unwrap();
            assert_eq!(done.status(), &ExitStatus::Code(status));
            assert_eq!(done.success(), status == 0);
        }
        // What the shell itself says of a program that is not there is the command's own status.
        let done = host.execute("no-such-program-anywhere").await.unwrap();
        assert_eq!(done.status().code(), 127);
        assert!(done.stderr().contains("no-such-program-anywhere"), "{}", done.stderr());
    });
}

/// A failure that is checked says which command, how it ended, and what it said last.
pub fn a_check_names_the_command_and_its_last_lines<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        host.execute("echo fine").await.unwrap().check().unwrap();
        let line = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line$i >&2; done; exit 4";
        let error = host.execute(line).await.unwrap().check().unwrap_err();
        let Error::Command { status, tail, .. } = &error else { panic!("{error:?}") };
        assert_eq!(status, &ExitStatus::Code(4));
        assert!(tail.ends_with("line12") && tail.contains("line3") && !tail.contains("line2\n"), "{tail}");
        let text = error.to_string();
        assert!(text.contains("exit 4") && text.contains(&host.label()), "{text}");
        let error = host.execute("echo only here; false").await.unwrap().check().unwrap_err();
        assert!(error.to_string().contains("only here"), "{error}");
    });
}

/// One word is a line for the shell, several are a program and its arguments.
pub fn one_word_is_a_line_and_several_are_words<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        assert_eq!(output(host, "x=shell; echo $x | tr a-z A-Z && echo \"two  spaces\"").await, "SHELL\ntwo  spaces\n");
        let words = async |words: &[&str]| {
            let done = host.execute(Command::words(words.iter().copied())).await.unwrap();
            assert!(done.success(), "{words:?}: {}", done.stderr());
            done.stdout().into_owned()
        };
        assert_eq!(
            words(&["echo", "$HOME", "*", "a;b", "`id`", "$(id)", "&&", ">x"]).await,
            "$HOME * a;b `id` $(id) && >x\n"
        );
        assert_eq!(words(&["true"]).await, "");
        assert_eq!(words(&["printf", "%s|", "a b", "", "c"]).await, "a b||c|");
        // A single word is a program, and not a line.
        host.execute(Command::words(["echo works"])).await.unwrap_err();
    });
}

/// Words arrive as they are, whatever is in them.
pub fn words_survive_as_they_are<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let long = "x".repeat(100_000);
        let words = [
            "",
            " ",
            "'",
            "\"",
            "''",
            "\\",
            "\\\\n",
            "\n",
            "a\nb\n",
            "\t",
            "$HOME",
            "!history",
            "~",
            "-n",
            "--",
            "#",
            "{a,b}",
            "%s%d",
            "é漢字🦀",
            "a'b\"c$d`e\\f",
            "\u{1}\u{7f}",
            &long,
        ];
        let script = "for word in \"$@\"; do printf '%s' \"$word\" | od -An -v -tx1 | tr -d ' \\n'; echo; done";
        let given = ["sh", "-c", script, "script"].into_iter().chain(words);
        let done = host.execute(Command::words(given)).await.unwrap().check().unwrap();
        let printed = done.stdout();
        let hex = |word: &str| word.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let arrived: Vec<&str> = printed.lines().collect();
        assert_eq!(arrived.len(), words.len());
        for (word, arrived) in words.iter().zip(arrived) {
            assert!(arrived == hex(word), "{:?} arrived as {arrived:.100}", word.chars().take(20).collect::<String>());
        }
    });
}

/// Variables and the directory are what was asked for.
pub fn environment_and_directory_are_set<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let value = "a b'c\"$HOME\n\\ é=";
        let command = Command::shell("printf '%s' \"$BROKER_X\"; printf '|%s' \"${BROKER_Y-unset}\"");
        let done = host.execute(command.env("BROKER_X", value).env("BROKER_Y", "")).await.unwrap().check().unwrap();
        assert_eq!(done.stdout(), format!("{value}|"));
        assert_eq!(output(host, "echo ${BROKER_X-unset}").await, "unset\n");

        let odd = format!("{directory}/a 'b\" $c");
        output(host, format!("mkdir -p \"{directory}/a 'b\\\" \\$c\"")).await;
        let done = host.execute(Command::shell("pwd").directory(&odd)).await.unwrap().check().unwrap();
        let home = output(host, format!("cd '{directory}' && pwd -P")).await;
        let pwd = done.stdout().into_owned();
        assert!(pwd.trim_end().ends_with("/a 'b\" $c") && pwd.starts_with(home.trim_end()), "{pwd}");
        let done = host.execute(Command::words(["sh", "-c", "pwd"]).directory(&odd)).await.unwrap().check().unwrap();
        assert_eq!(done.stdout(), pwd);
        // Both with a program that is named without its place, which is found all the same.
        let command = Command::words(["env"]).env("BROKER_X", "1").directory(directory);
        assert!(host.execute(command).await.unwrap().stdout().lines().any(|line| line == "BROKER_X=1"));
    });
}

/// The user is the one that was asked for, or the error says that there is no choice.
pub fn another_user_runs_it_or_it_is_said_that_none_can<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let own = output(host, "id -u").await;
        let as_user = async |user: &str| host.execute(Command::shell("id -u; id -un || true").user(user)).await;
        match case.subject.traits().user {
            Some(user) => {
                let done = as_user(user).await.unwrap();
                let printed = done.stdout();
                assert!(printed.lines().any(|line| line == user), "{printed}");
                assert_ne!(printed.lines().next(), own.lines().next());
            }
            None => {
                let error = as_user("nobody").await.unwrap_err();
                assert_eq!(kind(&error), SessionErrorKind::Unsupported, "{}", error_chain(&error));
            }
        }
        assert_eq!(as_user(own.trim()).await.unwrap().stdout().lines().next(), Some(own.trim()));
        let error = as_user("no-such-user-anywhere").await.unwrap_err();
        assert!(error_chain(&error).contains("no-such-user-anywhere"), "{}", error_chain(&error));
    });
}

/// What is given as input arrives, whole and in order, and can be much.
pub fn what_is_given_is_read<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let bytes = noise(1, MUCH);
        let done = host.execute(Command::shell("cat").stdin(bytes.clone())).await.unwrap();
        assert!(done.stdout_bytes() == &bytes, "{} bytes came back of {MUCH}", done.stdout_bytes().len());
        let command = Command::shell("od -An -tx1").stdin(&b"a\0b\xff"[..]);
        let done = host.execute(command).await.unwrap().check().unwrap();
        assert_eq!(done.stdout().trim(), "61 00 62 ff");
        // A command that does not read what it is given does not hold anything up.
        let done = host.execute(Command::shell("exit 6").stdin(bytes.clone())).await.unwrap();
        assert_eq!(done.status(), &ExitStatus::Code(6));
        let done = host.execute(Command::shell("head -c 5").stdin(bytes.clone())).await.unwrap();
        assert!(done.success(), "{}", done.status());
        if case.subject.traits().unread_input_is_harmless {
            assert_eq!(done.stdout_bytes()[..], bytes[..5]);
        }
    });
}

/// A reader that fails.
struct Failing;

impl tokio::io::AsyncRead for Failing {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::Error::other("the disk is on fire")))
    }
}

/// A command reads from a reader as it comes, to its end. One that fails is no end.
pub fn what_a_reader_gives_is_read<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let given = noise(11, 3_000_000);
        let line = format!("cat > '{directory}/given'; echo done");
        let done = host.execute_with_stdin(line.as_str(), std::io::Cursor::new(given.clone())).await.unwrap();
        assert_eq!(done.stdout(), "done\n");
        assert!(host.read(format!("{directory}/given")).await.unwrap() == given);
        let mut running = host.start("cat").await.unwrap();
        running.feed_blocking(std::io::Cursor::new(given.clone())).unwrap();
        assert!(running.output().await.unwrap().stdout_bytes() == &given);
        // One who does not read does not wait for the rest, and nobody waits for a reader that goes on.
        assert!(host.execute_with_stdin("true", tokio::io::repeat(7)).await.unwrap().success());

        let line = format!("cat > /dev/null; sleep 3; touch '{directory}/ended'");
        let half = tokio::io::AsyncReadExt::chain(&b"half"[..], Failing);
        let error = host.execute_with_stdin(line, half).await.unwrap_err();
        assert_eq!(kind(&error), SessionErrorKind::Local, "{}", error_chain(&error));
        assert!(error_chain(&error).contains("on fire"), "{}", error_chain(&error));
        assert_eq!(output(host, format!("ls '{directory}'")).await, "given\n");
    });
}

/// A command that reads to the end of its input comes to an end.
pub fn input_ends<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let soon = Command::shell("cat; echo end").deadline(wait::SOON);
        assert_eq!(host.execute(soon.clone()).await.unwrap().stdout(), "end\n");
        assert_eq!(host.execute(soon.clone().stdin("x")).await.unwrap().stdout(), "xend\n");
        // It stays open until it is closed.
        let mut running = host.start(soon).await.unwrap();
        running.write("first\n").await;
        assert_eq!(read_up_to(&mut running, 6).await, b"first\n");
        running.write("second\n").await;
        assert_eq!(read_up_to(&mut running, 7).await, b"second\n");
        running.close_stdin();
        assert_eq!(read_up_to(&mut running, 4).await, b"end\n");
        assert_eq!(running.next().await, None);
        assert!(running.wait().await.unwrap().success());
    });
}

/// So many bytes of standard output.
async fn read_up_to(running: &mut Running, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        match tokio::time::timeout(wait::SOON, running.next()).await.expect("no output came") {
            Some(Output::Stdout(piece)) => bytes.extend_from_slice(&piece),
            Some(Output::Stderr(piece)) => panic!("on standard error: {}", String::from_utf8_lossy(&piece)),
            None => break,
        }
    }
    bytes
}

/// A command that prints while it reads, more than fits anywhere between.
pub fn input_and_output_at_the_same_time<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let mut running = host.start("tr a-y b-z").await.unwrap();
        let input = running.input().unwrap();
        running.close_stdin();
        let write = async move {
            for _ in 0..200 {
                let piece = broker_core::session::Input::Data(vec![b'm'; 40_000].into());
                input.send(piece).await.unwrap();
            }
        };
        let read = async {
            let mut count = 0;
            while let Some(piece) = running.next().await {
                let Output::Stdout(bytes) = piece else { panic!("{piece:?}") };
                assert!(bytes.iter().all(|byte| *byte == b'n'));
                count += bytes.len();
            }
            count
        };
        assert_eq!(tokio::join!(write, read).1, 200 * 40_000);
        assert!(running.wait().await.unwrap().success());
    });
}

/// Much on both outputs at once, without either waiting for the other.
pub fn much_on_both_outputs_arrives_whole<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let bytes = noise(2, MUCH);
        let both = Command::shell("cat > x; (cat x >&2) & cat x; wait; rm x").stdin(bytes.clone());
        let done = host.execute(both.directory(directory)).await.unwrap();
        assert!(done.success(), "{}", done.status());
        assert!(done.stdout_bytes() == &bytes, "{} bytes on standard output", done.stdout_bytes().len());
        assert!(done.stderr_bytes() == &bytes, "{} bytes on standard error", done.stderr_bytes().len());
    });
}

/// A reader that takes its time gets everything, and nothing is dropped or piles up in between.
pub fn a_slow_reader_gets_everything<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let line = "dd if=/dev/zero bs=65536 count=512 2>/dev/null; echo > written";
        let mut running = host.start(Command::shell(line).directory(directory)).await.unwrap();
        running.close_stdin();
        // As long as nobody reads, the command waits: 32 MiB fit in no buffer.
        tokio::time::sleep(Duration::from_millis(500)).await;
        if case.subject.traits().holds_back {
            assert_eq!(output(host, format!("ls '{directory}'")).await, "", "somebody has read all of it");
        }
        let mut count = 0;
        while let Some(piece) = running.next().await {
            let Output::Stdout(bytes) = piece else { panic!("{piece:?}") };
            count += bytes.len();
        }
        assert_eq!(count, 512 * 65536);
        assert!(running.wait().await.unwrap().success());
        assert_eq!(output(host, format!("ls '{directory}'")).await, "written\n");
    });
}

/// Output that nobody wants is thrown away, and the command goes on to its end.
pub fn output_that_nobody_takes_holds_nothing_up<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let line = "dd if=/dev/zero bs=65536 count=256 2>/dev/null; echo > written; exit 9";
        let running = host.start(Command::shell(line).directory(directory)).await.unwrap();
        assert_eq!(running.wait().await.unwrap(), ExitStatus::Code(9));
        assert_eq!(output(host, format!("ls '{directory}'")).await, "written\n");
        // Half of it taken, the rest not.
        let mut running = host.start(Command::shell(line).directory(directory)).await.unwrap();
        assert!(running.next().await.is_some());
        assert_eq!(running.wait().await.unwrap(), ExitStatus::Code(9));
    });
}

/// Fifty commands at the same time on one session, each with its own output and status.
pub fn fifty_at_once<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let commands = (0..50).map(|i| host.execute(format!("echo out{i}; echo err{i} >&2; sleep 0.2; exit {i}")));
        for (i, outcome) in join_all(commands).await.into_iter().enumerate() {
            let done = outcome.unwrap();
            assert_eq!(done.stdout(), format!("out{i}\n"));
            assert_eq!(done.stderr(), format!("err{i}\n"));
            assert_eq!(done.status().code(), i32::try_from(i).unwrap());
        }
    });
}

/// A program, a directory or words that do not do: an error that names them, and no status.
pub fn what_cannot_be_run_is_an_error_that_names_it<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let error = host.execute(["no-such-program-anywhere", "x"]).await.unwrap_err();
        assert_eq!(kind(&error), SessionErrorKind::NotFound, "{}", error_chain(&error));
        let text = error_chain(&error);
        assert!(text.contains("no-such-program-anywhere") && text.contains(&host.label()), "{text}");

        let missing = format!("{directory}/not-there");
        let error = host.execute(Command::shell("true").directory(&missing)).await.unwrap_err();
        assert_eq!(kind(&error), SessionErrorKind::NotFound, "{}", error_chain(&error));
        assert!(error_chain(&error).contains("not-there"), "{}", error_chain(&error));

        output(host, format!("echo text > '{directory}/plain'")).await;
        let plain = format!("{directory}/plain");
        let error = host.execute(Command::words([plain.as_str(), "x"])).await.unwrap_err();
        assert_eq!(kind(&error), SessionErrorKind::Permission, "{}", error_chain(&error));
        assert!(error_chain(&error).contains("plain"), "{}", error_chain(&error));

        host.execute(Command::words(Vec::<String>::new())).await.unwrap_err();
        host.execute(Command::words(["echo", "a\0b"])).await.unwrap_err();
        // The session is as good as before.
        assert_eq!(output(host, "echo works").await, "works\n");
    });
}

/// A session that was closed opens again with the next use.
pub fn a_session_that_was_closed_opens_again<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        for _ in 0..3 {
            assert_eq!(output(host, "echo works").await, "works\n");
            host.close().await.unwrap();
        }
        host.write(format!("{directory}/file"), "contents").await.unwrap();
        host.close().await.unwrap();
        host.close().await.unwrap();
        assert_eq!(host.read(format!("{directory}/file")).await.unwrap(), "contents");
        // What runs when it is closed ends, and does not hang.
        let running = host.start("sleep 1000").await.unwrap();
        output(host, "true").await;
        host.close().await.unwrap();
        let ended = tokio::time::timeout(wait::SOON, running.wait()).await.expect("it goes on");
        assert!(ended.is_err() || !ended.unwrap().success());
    });
}
