//! What must be true of files that are read from their end.

use broker_core::session::RemotePath;
use broker_core::{Error, Host, Tail, error_chain};

use super::super::Case;
use super::{SessionSubject, output};
use crate::wait;

/// The next line, which comes soon.
async fn line(tail: &mut Tail) -> String {
    match tokio::time::timeout(wait::SOON, tail.line()).await.expect("no line came") {
        Some(Ok(line)) => line,
        other => panic!("{other:?}"),
    }
}

/// All lines of a reading that ends by itself.
async fn lines(host: &Host, path: impl Into<RemotePath>, count: usize) -> Vec<String> {
    let mut tail = host.tail(path, count, false).await.unwrap();
    let mut lines = Vec::new();
    while let Some(line) = tail.line().await {
        lines.push(line.unwrap_or_else(|error| panic!("{}", error_chain(&error))));
    }
    assert!(tail.line().await.is_none() && tail.next().await.is_none(), "it has ended");
    lines
}

/// The last lines of a file come, as many as were asked for, whatever the file is called and has in it.
pub fn the_last_lines_of_a_file<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let path = format!("{directory}/log");
        host.write(path.clone(), (0..20_000).map(|at| format!("line {at}\n")).collect::<String>()).await.unwrap();
        assert_eq!(lines(host, path.clone(), 3).await, ["line 19997", "line 19998", "line 19999"]);
        assert_eq!(lines(host, path.clone(), 0).await, [""; 0]);
        let all = lines(host, path.clone(), 30_000).await;
        assert!(all.len() == 20_000 && all[0] == "line 0", "{} lines", all.len());
        // Ends of lines of every kind, and what is no text.
        host.write(path.clone(), &b"one\r\n\n\xff\xfe\nlast"[..]).await.unwrap();
        assert_eq!(lines(host, path.clone(), 9).await, ["one", "", "\u{fffd}\u{fffd}", "last"]);
        let mut bytes = Vec::new();
        let mut tail = host.tail(path, 2, false).await.unwrap();
        while let Some(piece) = tail.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(bytes, b"\xff\xfe\nlast");
        for name in [&b"-n 'a b' $(x) \"\n"[..], b"no text \xff\n"] {
            let path = RemotePath::from_bytes([directory.as_bytes(), b"/", name].concat());
            host.write(path.clone(), "found\n").await.unwrap();
            assert_eq!(lines(host, path, 1).await, ["found"]);
        }
        // What is wrong with a file is told in its place.
        let mut tail = host.tail(format!("{directory}/missing"), 1, false).await.unwrap();
        let error = tail.line().await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Command { .. }), "{}", error_chain(&error));
        assert!(error_chain(&error).contains(&format!("{directory}/missing")), "{}", error_chain(&error));
        assert!(tail.line().await.is_none());
    });
}

/// A file is followed from before its beginning on: what is added to it, what takes its place, and what is left of it.
pub fn what_is_added_to_a_file<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let write = async |line: &str| output(host, format!("cd '{directory}'; {line}")).await;
        let mut tail = host.tail(format!("{directory}/log"), 1, true).await.unwrap();
        write("printf 'one\\ntwo\\n' > new; mv new log").await;
        // What was written at once can be all that is new or its last line.
        while line(&mut tail).await != "two" {}
        write("echo three >> log; printf fo >> log").await;
        assert_eq!(line(&mut tail).await, "three");
        // Nothing is lost where nobody waits for the end of a line.
        drop(tokio::time::timeout(std::time::Duration::from_millis(50), tail.line()).await);
        write("echo ur >> log").await;
        assert_eq!(line(&mut tail).await, "four");
        // Rotated.
        write("mv log log.1; echo five > log").await;
        assert_eq!(line(&mut tail).await, "five");
        // Cut off.
        write("echo 6 > log").await;
        assert_eq!(line(&mut tail).await, "6");
        write("rm log; echo seven > log").await;
        assert_eq!(line(&mut tail).await, "seven");
    });
}

/// Nothing goes on reading once nobody wants it any more.
pub fn a_tail_that_was_dropped_ends_there<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let path = format!("{directory}/log");
        host.write(path.clone(), "one\n").await.unwrap();
        // Whatever else has the path for an argument is there for one of them.
        let readers = async || {
            let arguments = output(host, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'").await;
            arguments.lines().filter(|argument| *argument == path).count()
        };
        let mut tails = Vec::new();
        for _ in 0..2 {
            let mut tail = host.tail(path.clone(), 1, true).await.unwrap();
            assert_eq!(line(&mut tail).await, "one");
            tails.push(tail);
        }
        let all = readers().await;
        assert!(all >= 2, "{all}");
        tails.pop();
        wait::until_async("the end of what was dropped", async || readers().await == all / 2).await;
        output(host, format!("echo two >> '{path}'")).await;
        assert_eq!(line(&mut tails[0]).await, "two");
        drop(tails);
        wait::until_async("the end of the other", async || readers().await == 0).await;
    });
}
