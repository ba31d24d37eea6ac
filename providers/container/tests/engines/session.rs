//! Commands in containers.

use std::time::{Duration, Instant};

use broker_core::session::{
    Command, ExitStatus, Input, Output, PtyRequest, PtySize, Session, SessionErrorKind, Signal, Streams,
};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{DEBIAN, Lab, TINY, run};

on_both_engines!(
    outputs_and_statuses,
    environment_directory_and_user,
    what_cannot_be_run,
    what_looks_like_the_engines_own_words_and_is_not,
    standard_input,
    eight_megabytes_on_both_outputs,
    a_slow_reader_slows_the_command,
    nobody_listens,
    a_terminal,
    a_signal_reaches_the_children,
    a_dropped_command_ends_with_its_children,
    a_command_that_closes_its_outputs_is_waited_for,
    closing_ends_what_runs,
    a_stopped_container,
    a_container_that_ends_under_a_command,
);

async fn outputs_and_statuses(lab: Lab) {
    for image in [TINY, DEBIAN] {
        let host = lab.host(image, json!({})).await;
        let session = lab.session(&host).await;
        let ran = run(&*session, &Command::shell("echo out; echo err >&2; exit 3")).await.unwrap();
        assert_eq!((ran.stdout().as_str(), ran.stderr().as_str()), ("out\n", "err\n"));
        assert_eq!(ran.status, ExitStatus::Code(3));
        let ran = run(&*session, &Command::words(["echo", "$HOME;", "it's", "a  b"])).await.unwrap();
        assert_eq!(ran.stdout(), "$HOME; it's a  b\n");
        let ran = run(&*session, &Command::shell("printf '\\001\\002\\377'; kill -9 $$")).await.unwrap();
        assert_eq!((ran.stdout.as_slice(), ran.status.code()), (b"\x01\x02\xff".as_slice(), 137));
        let none = run(&*session, &Command::words(["true"])).await.unwrap();
        assert!(none.status.success() && none.stdout.is_empty() && none.stderr.is_empty());
        lab.provider.release(&host).await.unwrap();
    }
}

async fn environment_directory_and_user(lab: Lab) {
    let host = lab.host(DEBIAN, json!({"environment": "A=host,B=host"})).await;
    let session = lab.session(&host).await;
    let command = Command::shell("echo \"$A $B $C\"; pwd; id -un")
        .env("A", "it's=mine")
        .env("C", "a b\nc")
        .directory("/usr/share")
        .user("daemon");
    let ran = run(&*session, &command).await.unwrap();
    assert_eq!(ran.stdout(), "it's=mine host a b\nc\n/usr/share\ndaemon\n", "{}", ran.stderr());
    lab.provider.release(&host).await.unwrap();
}

async fn what_cannot_be_run(lab: Lab) {
    let host = lab.host(TINY, json!({"name": format!("c-{}", broker_core::HostId::generate().short())})).await;
    let name = host.name.clone().unwrap();
    let session = lab.session(&host).await;
    for (command, kind, message) in [
        (Command::words(["no-such", "x"]), SessionErrorKind::NotFound, "there is no program `no-such` in container"),
        (Command::words(["/no/such"]), SessionErrorKind::NotFound, "there is no program `/no/such` in container"),
        (Command::words(["/etc/passwd"]), SessionErrorKind::Permission, "`/etc/passwd` in container"),
        (Command::words(["id"]).user("nobody-here"), SessionErrorKind::NotFound, "there is no user `nobody-here`"),
        (Command::words(["id"]).directory("/no/dir"), SessionErrorKind::NotFound, "there is no directory `/no/dir`"),
        (Command::words([""; 1]), SessionErrorKind::Failed, "the command names no program"),
        (Command::words(["a\0b"]), SessionErrorKind::Failed, "a word of the command has a zero byte"),
        (Command::words(["id"]).env("A=B", "c"), SessionErrorKind::Failed, "`A=B` is no name of a variable"),
        (Command::words(["no-such"]).pty(PtyRequest::default()), SessionErrorKind::NotFound, "there is no program"),
    ] {
        let error = run(&*session, &command).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{command}: {error}");
        assert!(error.to_string().contains(message), "{command}: {error}");
        assert!(error.to_string().contains(&name) || kind == SessionErrorKind::Failed, "{error}");
    }
    // A shell's own 127 is a status like any other.
    let ran = run(&*session, &Command::shell("no-such-thing")).await.unwrap();
    assert_eq!(ran.status.code(), 127);
    assert!(ran.stderr().contains("no-such-thing"), "{}", ran.stderr());
    lab.provider.release(&host).await.unwrap();
}

async fn what_looks_like_the_engines_own_words_and_is_not(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    for (words, exit) in [("OCI runtime exec failed: my own words", 0), ("unable to find user input", 5)] {
        let ran = run(&*session, &Command::shell(format!("echo '{words}'; echo more; exit {exit}"))).await.unwrap();
        assert_eq!((ran.stdout(), ran.status.code()), (format!("{words}\nmore\n"), exit));
    }
    let ran = run(&*session, &Command::shell("echo 'Error: it is: OCI what' >&2; exit 1")).await.unwrap();
    assert_eq!((ran.stderr().as_str(), ran.status.code()), ("Error: it is: OCI what\n", 1));
    lab.provider.release(&host).await.unwrap();
}

/// Runs a command that is given something to read.
async fn fed(session: &dyn Session, command: &Command, input: Vec<Input>) -> (ExitStatus, Vec<u8>) {
    let (sender, receiver) = mpsc::channel(4);
    let (output, mut pieces) = mpsc::channel(4);
    let feeding = async move {
        for item in input {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    };
    let collecting = async {
        let mut all = Vec::new();
        while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = pieces.recv().await {
            all.extend_from_slice(&bytes);
        }
        all
    };
    let (status, all, ()) = tokio::join!(
        session.run(command, Streams { input: Some(receiver), control: None, output }),
        collecting,
        feeding
    );
    (status.unwrap(), all)
}

async fn standard_input(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    let data = |bytes: &[u8]| Input::Data(Bytes::copy_from_slice(bytes));
    let (status, all) = fed(&*session, &Command::words(["cat"]), vec![data(b"one\n"), data(b"two\n")]).await;
    assert!(status.success());
    assert_eq!(all, b"one\ntwo\n");
    // Its end is the end for the command.
    let (_, all) = fed(&*session, &Command::words(["wc", "-c"]), vec![]).await;
    assert_eq!(String::from_utf8(all).unwrap().trim(), "0");
    let (_, all) = fed(&*session, &Command::words(["cat"]).stdin(b"first ".to_vec()), vec![data(b"then")]).await;
    assert_eq!(all, b"first then");
    let ran = run(&*session, &Command::words(["cat"]).stdin(b"alone".to_vec())).await.unwrap();
    assert_eq!(ran.stdout(), "alone");
    let large = vec![b'x'; 3_000_000];
    let (_, all) = fed(&*session, &Command::words(["wc", "-c"]), large.chunks(70_000).map(data).collect()).await;
    assert_eq!(String::from_utf8(all).unwrap().trim(), "3000000");
    // A command that does not read is not waited for.
    let (status, _) = fed(&*session, &Command::words(["true"]), large.chunks(70_000).map(data).collect()).await;
    assert!(status.success());
    lab.provider.release(&host).await.unwrap();
}

async fn eight_megabytes_on_both_outputs(lab: Lab) {
    let host = lab.host(DEBIAN, json!({})).await;
    let session = lab.session(&host).await;
    let begun = Instant::now();
    let line = "(yes 0123456789abcde | head -c 8388608) & (yes FEDCBA987654321 | head -c 8388608 >&2) & wait";
    let ran = run(&*session, &Command::shell(line)).await.unwrap();
    assert_eq!((ran.stdout.len(), ran.stderr.len()), (8 << 20, 8 << 20));
    assert!(ran.stdout.chunks(16).all(|line| line == b"0123456789abcde\n"));
    assert!(ran.stderr.chunks(16).all(|line| line == b"FEDCBA987654321\n"));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    lab.provider.release(&host).await.unwrap();
}

async fn a_slow_reader_slows_the_command(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    let (output, mut pieces) = mpsc::channel(1);
    let command = Command::shell("head -c 20000000 /dev/zero; touch /tmp/done");
    let running = session.run(&command, Streams { input: None, control: None, output });
    let watching = async {
        // Nothing is taken: the command must not get to its end, for that would mean that all is held here.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let other = lab.session(&host).await;
        let done = run(&*other, &Command::shell("test -e /tmp/done")).await.unwrap();
        assert!(!done.status.success(), "20 MB were taken in without a reader");
        let mut size = 0;
        while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = pieces.recv().await {
            size += bytes.len();
        }
        assert_eq!(size, 20_000_000);
    };
    let (status, ()) = tokio::join!(running, watching);
    assert!(status.unwrap().success());
    lab.provider.release(&host).await.unwrap();
}

async fn nobody_listens(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    let (output, pieces) = mpsc::channel(1);
    drop(pieces);
    let command = Command::shell("head -c 3000000 /dev/zero; echo ended > /tmp/ended");
    assert!(session.run(&command, Streams { input: None, control: None, output }).await.unwrap().success());
    assert_eq!(lab.line(&host, "cat /tmp/ended").await, "ended\n");
    lab.provider.release(&host).await.unwrap();
}

async fn a_terminal(lab: Lab) {
    let host = lab.host(DEBIAN, json!({})).await;
    let session = lab.session(&host).await;
    let pty =
        PtyRequest { term: "vt100".to_owned(), size: PtySize { columns: 101, rows: 37 }, ..PtyRequest::default() };
    // The size is set once the command has started.
    let command = Command::shell("sleep 0.3; stty size; echo $TERM; tty; echo to stderr >&2").pty(pty.clone());
    let ran = run(&*session, &command).await.unwrap();
    let text = ran.stdout();
    assert!(text.starts_with("37 101\r\nvt100\r\n/dev/pts/"), "{text:?}");
    assert!(text.ends_with("to stderr\r\n") && ran.stderr.is_empty(), "a terminal has one output: {text:?}");
    let ran =
        run(&*session, &Command::shell("stty -opost; printf '\\001\\002\\000\\000'").pty(pty.clone())).await.unwrap();
    assert_eq!(ran.stdout, b"\x01\x02\0\0");
    let resize = Input::Resize(PtySize { columns: 55, rows: 11 });
    let (sender, receiver) = mpsc::channel(4);
    let (output, mut pieces) = mpsc::channel(4);
    let until = "while [ \"$(stty size)\" != '11 55' ]; do sleep 0.1; done";
    let command = Command::shell(format!("echo ready; {until}; read answer; echo \"got $answer\"; stty size")).pty(pty);
    let talking = async move {
        assert!(pieces.recv().await.is_some());
        sender.send(resize).await.unwrap();
        sender.send(Input::Data(Bytes::from_static(b"yes\n"))).await.unwrap();
        let mut text = String::new();
        while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = pieces.recv().await {
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        drop(sender);
        text
    };
    let running = session.run(&command, Streams { input: Some(receiver), control: None, output });
    let both = async { tokio::join!(running, talking) };
    let (status, text) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("the size was lost");
    assert!(status.unwrap().success());
    assert!(text.contains("got yes\r\n") && text.ends_with("11 55\r\n"), "{text:?}");
    lab.provider.release(&host).await.unwrap();
}

async fn a_signal_reaches_the_children(lab: Lab) {
    for image in [TINY, DEBIAN] {
        let host = lab.host(image, json!({})).await;
        let session = lab.session(&host).await;
        let (sender, receiver) = mpsc::channel(4);
        let (output, mut pieces) = mpsc::channel(4);
        let command = Command::shell("trap 'echo caught; exit 9' TERM; echo up; while :; do sleep 1; done");
        let talking = async move {
            assert_eq!(pieces.recv().await, Some(Output::Stdout(Bytes::from_static(b"up\n"))));
            sender.send(Input::Signal(Signal::Terminate)).await.unwrap();
            let mut text = String::new();
            while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = pieces.recv().await {
                text.push_str(&String::from_utf8_lossy(&bytes));
            }
            drop(sender);
            text
        };
        let running = session.run(&command, Streams { input: Some(receiver), control: None, output });
        let both = async { tokio::join!(running, talking) };
        let (status, text) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("the signal was lost");
        assert_eq!(status.unwrap(), ExitStatus::Code(9), "{text}");
        assert!(text.contains("caught"), "{text}");
        lab.provider.release(&host).await.unwrap();
    }
}

/// How many processes of the host have a word in their command lines.
async fn count(lab: &Lab, host: &broker_core::inventory::HostRecord, word: &str) -> usize {
    let line = format!(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null; echo; done | grep -c '[{}]{}' || true",
        word.get(..1).unwrap(),
        word.get(1..).unwrap()
    );
    lab.line(host, &line).await.trim().parse().unwrap()
}

async fn a_dropped_command_ends_with_its_children(lab: Lab) {
    for (image, user) in [(TINY, None), (DEBIAN, Some("daemon"))] {
        let host = lab.host(image, json!({})).await;
        let session = lab.session(&host).await;
        // Children in the background, one that ignores signals, one in a session of its own, one without the environment.
        let line = "trap '' TERM INT HUP; sleep 7771 & setsid sleep 7772 & (env -i sleep 7773 &) ; \
                    sh -c 'sleep 7774; true' & echo up; wait";
        let mut command = Command::shell(line);
        command.user = user.map(str::to_owned);
        let (output, mut pieces) = mpsc::channel(4);
        {
            let running = session.run(&command, Streams { input: None, control: None, output });
            tokio::select! {
                ended = running => panic!("it ended by itself: {ended:?}"),
                up = pieces.recv() => assert_eq!(up, Some(Output::Stdout(Bytes::from_static(b"up\n")))),
            }
        }
        let begun = Instant::now();
        while count(&lab, &host, "sleep 777").await > 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "{}", lab.line(&host, "ps").await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // What was there before still is.
        lab.line(&host, "true").await;
        lab.provider.release(&host).await.unwrap();
    }
}

async fn a_command_that_closes_its_outputs_is_waited_for(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    let ran = run(&*session, &Command::shell("exec >&- 2>&-; sleep 1; exit 4")).await.unwrap();
    assert_eq!(ran.status, ExitStatus::Code(4));
    lab.provider.release(&host).await.unwrap();
}

async fn closing_ends_what_runs(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    let command = Command::shell("echo up; sleep 7781");
    let (output, mut pieces) = mpsc::channel(4);
    let running = session.run(&command, Streams { input: None, control: None, output });
    let closing = async {
        assert!(pieces.recv().await.is_some());
        session.close().await;
        // No waiting: the command has ended when the session is closed.
        assert_eq!(count(&lab, &host, "sleep 7781").await, 0);
    };
    let (ended, ()) = tokio::join!(running, closing);
    assert!(ended.unwrap_err().to_string().contains("was closed"));
    lab.provider.release(&host).await.unwrap();
}

async fn a_stopped_container(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    let id = host.details.facts["container"].as_str().unwrap();
    assert!(matches!(lab.call("POST", &format!("/containers/{id}/kill")).0, 200 | 204));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let error = run(&*session, &Command::words(["true"])).await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::NotRunning);
    let name = host.name.clone().unwrap();
    assert_eq!(error.to_string(), format!("could not run `true`: container `{name}` is not running"));
    lab.provider.release(&host).await.unwrap();
    let error = run(&*session, &Command::words(["true"])).await.unwrap_err();
    assert_eq!(error.to_string(), format!("could not run `true`: container `{name}` does not exist any more"));
    let error = lab.provider.access(&host).await.err().unwrap();
    assert_eq!(error.kind(), SessionErrorKind::NotRunning, "{error}");
}

async fn a_container_that_ends_under_a_command(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    let command = Command::shell("echo up; sleep 1000");
    let (output, mut pieces) = mpsc::channel(4);
    let running = session.run(&command, Streams { input: None, control: None, output });
    let releasing = async {
        assert!(pieces.recv().await.is_some());
        lab.provider.release(&host).await.unwrap();
    };
    let both = async { tokio::join!(running, releasing) };
    let (ended, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("the command is waited for");
    match ended {
        Ok(status) => assert_eq!(status.code(), 137),
        Err(error) => {
            assert!(matches!(error.kind(), SessionErrorKind::NotRunning | SessionErrorKind::Unreachable), "{error}")
        }
    }
}
