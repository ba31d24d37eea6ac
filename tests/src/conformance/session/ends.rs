//! What must be true of commands that do not end by themselves.

use std::time::{Duration, Instant};

use broker_core::session::{Command, ExitStatus, Input, Output, SessionErrorKind, Signal};
use broker_core::{Host, Running, error_chain};

use super::super::Case;
use super::{SessionSubject, kind, output};
use crate::wait;

/// A command with children and a grandchild that all ignore the requests that can be ignored. Their process ids are in
/// `pids`, once all of them are there.
const FAMILY: &str = "trap '' TERM INT HUP; \
    sh -c 'trap \"\" TERM INT HUP; sleep 1000 & echo $! >> ids; echo $$ >> ids; wait' & echo $! >> ids; \
    sleep 1000 & echo $! >> ids; echo $$ >> ids; \
    while test $(cat ids | wc -l) -lt 5; do sleep 0.02; done; mv ids pids; echo ready; wait; sleep 1000";

/// Waits until the family is there.
async fn family(host: &Host, directory: &str) {
    let there = async || host.execute(format!("test -e '{directory}/pids'")).await.unwrap().success();
    wait::until_async("the processes", there).await;
}

/// How many of the family still run.
async fn alive(host: &Host, directory: &str) -> usize {
    // A dead process that nobody has taken note of is a `Z`.
    let line = format!(
        "for pid in $(cat '{directory}/pids'); do test -r /proc/$pid/stat && read -r line < /proc/$pid/stat && \
         case ${{line##*) }} in Z*) ;; *) echo $pid ;; esac; done; true"
    );
    output(host, line).await.lines().count()
}

async fn everybody_ends(host: &Host, directory: &str) {
    wait::until_async("all the processes to end", async || alive(host, directory).await == 0).await;
}

/// Reads until a line was printed.
async fn until_ready(running: &mut Running) {
    let mut text = Vec::new();
    while !text.ends_with(b"ready\n") && !text.ends_with(b"ready\r\n") {
        match tokio::time::timeout(wait::SOON, running.next()).await.expect("no output came") {
            Some(Output::Stdout(piece)) => text.extend_from_slice(&piece),
            other => panic!("{other:?} after {}", String::from_utf8_lossy(&text)),
        }
    }
}

/// At its deadline a command is ended, with everything it has started.
pub fn a_deadline_ends_the_command_and_its_children<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let limit = Duration::from_secs(2);
        let begun = Instant::now();
        let error = host.execute(Command::shell(FAMILY).directory(directory).deadline(limit)).await.unwrap_err();
        assert!(begun.elapsed() >= limit && begun.elapsed() < wait::SOON, "{:?}", begun.elapsed());
        assert_eq!(kind(&error), SessionErrorKind::Timeout, "{}", error_chain(&error));
        assert!(error_chain(&error).contains("2s"), "{}", error_chain(&error));
        family(host, directory).await;
        everybody_ends(host, directory).await;
        // One that ends before its deadline has nothing to fear, and neither has the next one.
        let quick = Command::shell("echo works").deadline(wait::SOON);
        assert_eq!(host.execute(quick).await.unwrap().stdout(), "works\n");
    });
}

/// A command is ended when its future is dropped, with everything it has started.
pub fn a_command_that_nobody_waits_for_is_ended<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let command = Command::shell(FAMILY).directory(directory);
        tokio::select! {
            outcome = host.execute(command.clone()) => panic!("it ended: {outcome:?}"),
            () = family(host, directory) => {}
        }
        everybody_ends(host, directory).await;
        output(host, format!("rm '{directory}/pids'")).await;
        // The same while it is talked to.
        let mut running = host.start(command).await.unwrap();
        until_ready(&mut running).await;
        assert_eq!(alive(host, directory).await, 5);
        drop(running);
        everybody_ends(host, directory).await;
    });
}

/// A command is ended also where it is dropped before it has really begun.
pub fn a_command_that_was_dropped_at_once_is_ended<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        output(host, "true").await;
        for delay in [0, 3, 20, 60, 150] {
            let line = format!("echo $$ >> '{directory}/pids'; exec sleep 1000");
            drop(tokio::time::timeout(Duration::from_millis(delay), host.execute(line)).await);
        }
        output(host, format!("touch '{directory}/pids'")).await;
        // Those that begin later than this must be ended too: so it has to stay that way.
        let quiet = async || {
            for _ in 0..10 {
                if alive(host, directory).await > 0 {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            true
        };
        wait::until_async("all the processes to end", quiet).await;
    });
}

/// The end of one command is not the end of its neighbours.
pub fn what_is_dropped_ends_alone<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let mut neighbour = host.start("echo ready; read line; echo got $line").await.unwrap();
        until_ready(&mut neighbour).await;
        let mut dropped = host.start("echo ready; sleep 1000").await.unwrap();
        until_ready(&mut dropped).await;
        drop(dropped);
        let late = Command::shell("sleep 1000").deadline(Duration::from_millis(300));
        host.execute(late).await.unwrap_err();
        neighbour.write("word\n").await;
        assert_eq!(neighbour.next().await, Some(Output::Stdout("got word\n".into())));
        assert_eq!(neighbour.wait().await.unwrap(), ExitStatus::Code(0));
    });
}

/// Signals arrive as what they are, at the command and its children.
pub fn signals_arrive<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let signals = [(Signal::Terminate, "TERM"), (Signal::Interrupt, "INT"), (Signal::Hangup, "HUP")];
        for (signal, name) in signals {
            let line = format!("trap 'echo got; exit 7' {name}; echo ready; while :; do sleep 0.05; done");
            let mut running = host.start(line).await.unwrap();
            until_ready(&mut running).await;
            running.signal(signal).await;
            let mut printed = Vec::new();
            while let Some(piece) = running.next().await {
                // A shell may say on its standard error that the signal has ended its child.
                if let Output::Stdout(bytes) = piece {
                    printed.extend_from_slice(&bytes);
                }
            }
            assert_eq!(String::from_utf8_lossy(&printed), "got\n", "{name}");
            assert_eq!(running.wait().await.unwrap(), ExitStatus::Code(7), "{name}");
        }
        for (signal, number) in [(Signal::Kill, 9), (Signal::Terminate, 15), (Signal::Quit, 3)] {
            let mut running = host.start("echo ready; exec sleep 1000").await.unwrap();
            until_ready(&mut running).await;
            running.signal(signal).await;
            let status = running.wait().await.unwrap();
            // As a signal or as the shell tells of one, whichever the way knows.
            assert_eq!(status.code(), 128 + number, "{status:?}");
            assert!(!status.success());
        }
        let mut running = host.start(Command::shell(FAMILY).directory(directory)).await.unwrap();
        until_ready(&mut running).await;
        running.signal(Signal::Kill).await;
        assert!(!running.wait().await.unwrap().success());
        everybody_ends(host, directory).await;
    });
}

/// Signals arrive also at a command that does not read what it is given.
pub fn a_signal_does_not_wait_for_what_is_not_read<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let mut running = host.start("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done").await.unwrap();
        until_ready(&mut running).await;
        let input = running.input().unwrap();
        let feeding = async {
            let piece = Input::Data(vec![b'x'; 64 * 1024].into());
            while tokio::time::timeout(Duration::from_secs(1), input.send(piece.clone()))
                .await
                .is_ok_and(|sent| sent.is_ok())
            {}
        };
        feeding.await;
        tokio::time::timeout(wait::SOON, running.signal(Signal::Terminate)).await.expect("the signal waits");
        drop(input);
        let status = tokio::time::timeout(wait::SOON, running.wait()).await.expect("it has no signal").unwrap();
        assert_eq!(status.code(), 7, "{status:?}");
    });
}

/// A command has ended when it has ended: what it leaves in the background goes on, and holds nothing up.
pub fn a_child_in_the_background_outlives_its_command<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let line = format!("sleep 1000 >/dev/null 2>&1 </dev/null & echo $! > '{directory}/pids'; echo started");
        assert_eq!(output(host, line).await, "started\n");
        assert_eq!(alive(host, directory).await, 1);
        output(host, format!("kill $(cat '{directory}/pids')")).await;
        everybody_ends(host, directory).await;
    });
}

/// A host that went away while a session was open: a clear error, soon.
pub fn a_host_that_is_gone_is_an_error<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        assert_eq!(output(host, "echo works").await, "works\n");
        case.subject.end(host);
        let soon = async |what: &str, work: std::pin::Pin<Box<dyn Future<Output = broker_core::Error>>>| {
            let error = tokio::time::timeout(wait::SOON, work).await.unwrap_or_else(|_| panic!("{what} hangs"));
            let kinds = [SessionErrorKind::NotRunning, SessionErrorKind::Unreachable];
            assert!(kinds.contains(&kind(&error)), "{what}: {}", error_chain(&error));
            assert!(error_chain(&error).contains(&host.label()), "{what}: {}", error_chain(&error));
        };
        let (own, path) = (host.clone(), format!("{directory}/file"));
        soon("execute", Box::pin(async move { own.execute("true").await.unwrap_err() })).await;
        let (own, to) = (host.clone(), path.clone());
        soon("write", Box::pin(async move { own.write(to, "x").await.unwrap_err() })).await;
        let own = host.clone();
        soon("read", Box::pin(async move { own.read(path).await.unwrap_err() })).await;
    });
}

/// A command that runs when its host goes away comes to an end here too.
pub fn a_command_ends_when_its_host_does<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let mut running = host.start("echo ready; exec sleep 1000").await.unwrap();
        until_ready(&mut running).await;
        case.subject.end(host);
        let ended = tokio::time::timeout(wait::SOON, running.wait()).await.expect("it goes on without its host");
        assert!(ended.is_err() || !ended.unwrap().success());
    });
}
