//! What must be true of terminals.

use broker_core::Running;
use broker_core::session::{Command, Output, PtyRequest, PtySize, Signal};

use super::super::Case;
use super::SessionSubject;
use crate::wait;

fn terminal(line: &str, columns: u16, rows: u16) -> Command {
    Command::shell(line).pty(PtyRequest {
        term: "vt100".to_owned(),
        size: PtySize { columns, rows },
        ..PtyRequest::default()
    })
}

/// Reads until the terminal has shown a text, and returns all that it showed.
async fn until_shown(running: &mut Running, text: &str) -> String {
    let mut shown = String::new();
    while !shown.contains(text) {
        match tokio::time::timeout(wait::SOON, running.next()).await {
            Ok(Some(Output::Stdout(piece))) => shown.push_str(&String::from_utf8_lossy(&piece)),
            other => panic!("{other:?} instead of `{text}`, after: {shown}"),
        }
    }
    shown
}

/// With a terminal all three streams are one; without, none is.
pub fn a_terminal_is_given_on_request<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let line = "for fd in 0 1 2; do test -t $fd && echo yes || echo no; done; echo $TERM >&2";
        let done = host.execute(terminal(line, 80, 24)).await.unwrap();
        assert_eq!(done.stdout(), "yes\r\nyes\r\nyes\r\nvt100\r\n");
        assert_eq!(done.stderr(), "");
        let done = host.execute("for fd in 0 1 2; do test -t $fd && echo yes || echo no; done").await.unwrap();
        assert_eq!(done.stdout(), "no\nno\nno\n");
        assert_eq!(host.execute(terminal("exit 11", 80, 24)).await.unwrap().status().code(), 11);
        // The command can open it by its name: it is the controlling one.
        let done = host.execute(terminal("echo works > /dev/tty", 80, 24)).await.unwrap();
        assert_eq!(done.stdout(), "works\r\n");
        // A variable of the caller's wins over the request.
        let done = host.execute(terminal("echo $TERM", 80, 24).env("TERM", "dumb")).await.unwrap();
        assert_eq!(done.stdout(), "dumb\r\n");
    });
}

/// The size is what was asked for, from the beginning, and changes when the window does.
pub fn a_terminal_has_a_size_that_changes<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        // The size is there before the command can look, or a moment later where the way sets it second.
        let line = "trap 'echo size $(stty size)' WINCH; until test \"$(stty size)\" = '33 101'; do sleep 0.05; done; \
                    echo first; while :; do sleep 0.05; done";
        let mut running = host.start(terminal(line, 101, 33)).await.unwrap();
        until_shown(&mut running, "first").await;
        running.resize(PtySize { columns: 132, rows: 50 }).await;
        until_shown(&mut running, "size 50 132").await;
        running.resize(PtySize { columns: 20, rows: 5 }).await;
        until_shown(&mut running, "size 5 20").await;
        running.signal(Signal::Kill).await;
        assert!(!running.wait().await.unwrap().success());
    });
}

/// Keys do what they do: text, Ctrl-C, Ctrl-D.
pub fn keys_reach_the_command<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let mut running =
            host.start(terminal("echo ready; read line; echo got $line; cat; echo end", 80, 24)).await.unwrap();
        until_shown(&mut running, "ready").await;
        running.write("word\r").await;
        until_shown(&mut running, "got word").await;
        running.write("\x04").await;
        until_shown(&mut running, "end").await;
        assert_eq!(running.wait().await.unwrap().code(), 0);

        // Where nobody types any more, the command sees the end of what is typed, also in the middle of a line.
        for given in ["", "whole\n", "begun"] {
            let command = terminal("cat; echo end", 80, 24).stdin(given).deadline(wait::SOON);
            let done = host.execute(command).await.unwrap();
            assert!(
                done.stdout().contains(given.trim()) && done.stdout().ends_with("end\r\n"),
                "{given:?}: {}",
                done.stdout()
            );
        }

        let line = "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done";
        let mut running = host.start(terminal(line, 80, 24)).await.unwrap();
        until_shown(&mut running, "ready").await;
        running.write("\x03").await;
        until_shown(&mut running, "interrupted").await;
        assert_eq!(running.wait().await.unwrap().code(), 5);

        // Once by the terminal and once by the program, which is there then: a shell that is just starting one may miss
        // the key.
        let mut running = host.start(terminal("exec cat", 80, 24)).await.unwrap();
        running.write("word\r").await;
        until_shown(&mut running, "word\r\nword").await;
        running.write("\x03").await;
        assert_eq!(running.wait().await.unwrap().code(), 130);
    });
}

/// A terminal loses nothing of what is much.
pub fn a_terminal_carries_much<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let line = "dd if=/dev/zero bs=10000 count=200 2>/dev/null | tr '\\0' x";
        let done = host.execute(terminal(line, 80, 24)).await.unwrap();
        assert!(done.success());
        assert_eq!(done.stdout_bytes().len(), 2_000_000);
        assert!(done.stdout_bytes().iter().all(|byte| *byte == b'x'));
    });
}
