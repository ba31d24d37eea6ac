//! What moves on channels, and that none of them gets in the way of others.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;

use super::super::ear;
use super::server::Sshd;
use super::*;
use crate::session::{PtyRequest, PtySize, SessionErrorKind};

#[tokio::test]
async fn a_command_says_what_it_says_and_how_it_ended() {
    let sshd = Sshd::start("");
    let connection = sshd.connect().await;
    let said = run(&connection, "echo out; echo err >&2; exit 7").await;
    assert_eq!((said.text().as_str(), &said.stderr[..]), ("out\n", &b"err\n"[..]));
    assert_eq!(said.ended, Some(ExitStatus::Code(7)));
    let said = run(&connection, "kill -TERM $$").await;
    assert_eq!(said.ended, Some(ExitStatus::Signal("TERM".to_owned())));
    let said = run(&connection, "exec 1>&- 2>&-; sleep 0.3; exit 3").await;
    assert_eq!(said.ended, Some(ExitStatus::Code(3)));
    let start = Start::Exec { line: b"printf '%s' 'a\xff\n' | od -An -tx1".to_vec(), pty: None };
    assert_eq!(collect(connection.open(start).await.unwrap()).await.text(), " 61 ff 0a\n");
    connection.close().await;
    assert!(connection.broken().is_some());
    let error = connection.open(exec("true")).await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::Unreachable);
    assert!(error.to_string().contains("`lab`"), "{error}");
}

#[tokio::test]
async fn fifty_commands_at_once_wait_for_the_servers_ten() {
    let sshd = Sshd::start("MaxSessions 10");
    let connection = sshd.connect().await;
    let all = (0..50).map(|index| {
        let connection = &connection;
        async move {
            let said = run(connection, &format!("echo {index}; sleep 0.2; exit {index}")).await;
            assert_eq!((said.text(), said.ended), (format!("{index}\n"), Some(ExitStatus::Code(index))));
        }
    });
    join_all(all).await;
    // A connection that forwards, and nothing else, is none of the ten.
    let ten = join_all((0..10).map(|_| connection.open(exec("cat")))).await;
    let start = Start::Tcp { host: "127.0.0.1".to_owned(), port: sshd.address.port() };
    let mut forwarded = connection.open(start).await.unwrap();
    let FromRemote::Stdout(banner) = forwarded.output.recv().await.unwrap() else { panic!("no banner") };
    assert!(banner.starts_with(b"SSH-2.0-"));
    let mut eleventh = Box::pin(connection.open(exec("echo in")));
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut eleventh).await.is_err());
    drop(ten.into_iter().next());
    assert_eq!(collect(eleventh.await.unwrap()).await.text(), "in\n");
}

#[tokio::test]
async fn a_server_that_takes_no_commands_says_so() {
    let sshd = Sshd::start("MaxSessions 0");
    let connection = sshd.connect().await;
    let error = connection.open(exec("true")).await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::Unsupported);
    let start = Start::Tcp { host: "127.0.0.1".to_owned(), port: sshd.address.port() };
    let channel = connection.open(start).await.unwrap();
    drop(channel);
    assert_eq!(connection.broken(), None);
    // Nothing reads from the connection now, and its end is noticed all the same.
    sshd.kill();
    until("the end of the connection", || connection.broken().is_some()).await;
}

#[tokio::test]
async fn subsystems_and_forwarding_that_the_server_does_not_have_are_told_apart() {
    let sshd = Sshd::start("AllowTcpForwarding no");
    let connection = sshd.connect().await;
    let error = connection.open(Start::Subsystem("nothing")).await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::Unsupported);
    assert!(error.to_string().contains("`nothing`"), "{error}");
    let start = Start::Tcp { host: "127.0.0.1".to_owned(), port: 1 };
    let error = connection.open(start).await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::Permission);
    let sshd = Sshd::start("");
    let connection = sshd.connect().await;
    let start = Start::Tcp { host: "127.0.0.1".to_owned(), port: 1 };
    let error = connection.open(start).await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::Unreachable);
    let mut sftp = connection.open(Start::Subsystem("sftp")).await.unwrap();
    sftp.input.send(ToRemote::Data(Bytes::from_static(b"\0\0\0\x05\x01\0\0\0\x03"))).await.unwrap();
    let Some(FromRemote::Stdout(version)) = sftp.output.recv().await else { panic!("no answer") };
    assert_eq!(version[4..9], *b"\x02\0\0\0\x03");
}

#[tokio::test]
async fn both_outputs_are_drained_at_once() {
    let sshd = Sshd::start("");
    let connection = sshd.connect().await;
    let line = "head -c 8388608 /dev/zero >&2; head -c 8388608 /dev/zero; head -c 8388608 /dev/zero >&2";
    let said = run(&connection, line).await;
    assert_eq!((said.stdout.len(), said.stderr.len()), (8 << 20, 16 << 20));
    assert_eq!(said.ended, Some(ExitStatus::Code(0)));
}

#[tokio::test]
async fn much_goes_in_and_comes_back_while_keys_are_exchanged_anew() {
    for options in ["", "RekeyLimit 1M"] {
        let sshd = Sshd::start(options);
        let connection = sshd.connect().await;
        let echo = async |seed: usize| {
            let Channel { input, output, sizes } = connection.open(exec("cat")).await.unwrap();
            let bytes: Vec<u8> = (0..20_usize << 20).map(|index| (index * 31 + index / 997 + seed) as u8).collect();
            let bytes = Bytes::from(bytes);
            let send = async {
                for piece in 0..20 {
                    input.send(ToRemote::Data(bytes.slice(piece << 20..(piece + 1) << 20))).await.unwrap();
                }
                input.send(ToRemote::Eof).await.unwrap();
            };
            let (unused, _) = tokio::sync::mpsc::channel(1);
            let ((), said) = tokio::join!(send, collect(Channel { input: unused, output, sizes }));
            assert_eq!(said.ended, Some(ExitStatus::Code(0)));
            assert!(said.stdout == bytes, "what came back is not what was sent ({options})");
        };
        tokio::join!(echo(0), echo(1), echo(2));
    }
}

#[tokio::test]
async fn who_does_not_read_or_write_holds_nobody_else_up() {
    let sshd = Sshd::start("");
    let connection = sshd.connect().await;
    let unread: Vec<Channel> = join_all((0..4).map(|_| connection.open(exec("cat /dev/zero"))))
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    // Takes nothing, so that the server's window fills up.
    let full = connection.open(exec("sleep 1000")).await.unwrap();
    let filling =
        async { while tokio::time::timeout(Duration::from_secs(1), say(&full, &"x".repeat(1 << 20))).await.is_ok() {} };
    filling.await;
    for index in 0..20 {
        let said = run(&connection, &format!("head -c 1000000 /dev/zero; exit {index}")).await;
        assert_eq!((said.stdout.len(), said.ended), (1_000_000, Some(ExitStatus::Code(index))));
    }
    // What is not read fills the window, and then the other side waits.
    for mut channel in unread {
        let FromRemote::Stdout(piece) = channel.output.recv().await.unwrap() else { panic!("no zeros") };
        assert!(piece.iter().all(|byte| *byte == 0));
    }
}

#[tokio::test]
async fn a_quiet_connection_costs_nothing() {
    let sshd = Sshd::start("");
    let connection = sshd.connect().await;
    let unread = connection.open(exec("cat /dev/zero")).await.unwrap();
    let quiet = connection.open(exec("cat")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = thread_time();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spent = thread_time() - before;
    assert!(spent < 20, "{spent} hundredths of a second spent on nothing");
    drop((unread, quiet));
}

/// What threads of connections in this process have spent, in hundredths of a second.
fn thread_time() -> u64 {
    let mut sum = 0;
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
        if name.ends_with("(broker-ssh") {
            sum += rest.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum::<u64>();
        }
    }
    sum
}

#[tokio::test]
async fn a_terminal_has_its_kind_size_and_modes() {
    let sshd = Sshd::start("");
    let connection = sshd.connect().await;
    let pty = PtyRequest {
        term: "vt220".to_owned(),
        size: PtySize { columns: 101, rows: 37 },
        // No echo, and what is typed comes as it is.
        modes: vec![(53, 0), (51, 0)],
    };
    let line = b"stty size; stty -a | grep -o -e '-echo ' -e '-icanon'; echo $TERM; read x; stty size; exit 4".to_vec();
    let mut channel = connection.open(Start::Exec { line, pty: Some(pty) }).await.unwrap();
    let mut shown = String::new();
    while !shown.contains("vt220") {
        let Some(FromRemote::Stdout(piece)) = channel.output.recv().await else { panic!("ended after {shown}") };
        shown.push_str(&String::from_utf8_lossy(&piece));
    }
    assert_eq!(shown, "37 101\r\n-icanon\r\n-echo \r\nvt220\r\n");
    channel.sizes.send(PtySize { columns: 90, rows: 20 }).await.unwrap();
    say(&channel, "\n").await;
    let said = collect(channel).await;
    assert_eq!((said.text().as_str(), said.ended), ("20 90\r\n", Some(ExitStatus::Code(4))));
}

#[tokio::test]
async fn what_is_dropped_is_closed_and_what_was_said_is_sent() {
    let sshd = Sshd::start("MaxSessions 1");
    let connection = sshd.connect().await;
    let file = sshd.path("written");
    let channel = connection.open(exec(&format!("cat > '{}'", file.display()))).await.unwrap();
    let piece = "x".repeat(100_000);
    for _ in 0..8 {
        say(&channel, &piece).await;
    }
    drop(channel);
    // There is room for one only, so that this waits for the end of the other.
    assert_eq!(run(&connection, &format!("wc -c < '{}'", file.display())).await.text().trim(), "800000");
    // A command that nobody waits for any more, before and after it has been begun.
    for _ in 0..20 {
        drop(tokio::time::timeout(Duration::from_millis(3), connection.open(exec("true"))).await);
    }
    // One that takes no input is not waited for for ever.
    let deaf = connection.open(exec("exec sleep 1 <&-")).await.unwrap();
    drop(
        tokio::time::timeout(Duration::from_millis(300), async {
            let piece = || ToRemote::Data(Bytes::copy_from_slice(piece.as_bytes()));
            while deaf.input.send(piece()).await.is_ok() {}
        })
        .await,
    );
    drop(deaf);
    assert_eq!(run(&connection, "echo over").await.text(), "over\n");
}

#[tokio::test]
async fn the_last_handle_takes_the_channels_with_it() {
    let sshd = Sshd::start("");
    let connection = sshd.connect().await;
    let channel = connection.open(exec("cat")).await.unwrap();
    let said = sshd.path("said");
    let last_words = connection.open(exec(&format!("cat > '{}'", said.display()))).await.unwrap();
    say(&last_words, "goodbye").await;
    drop(last_words);
    drop(connection);
    let ended = collect(channel).await;
    assert!(ended.broken.unwrap().contains("closed"));
    until("what was said", || std::fs::read_to_string(&said).is_ok_and(|text| text == "goodbye")).await;
}

#[tokio::test]
async fn threads_and_sockets_go_with_their_connections() {
    let sshd = Sshd::start("");
    let count = || {
        let sockets = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let threads: HashSet<_> =
            std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path()).collect();
        (sockets, threads.len())
    };
    drop(sshd.connect().await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (sockets, threads) = count();
    for _ in 0..10 {
        let connection = sshd.connect().await;
        let channel = connection.open(exec("cat")).await.unwrap();
        say(&channel, "x").await;
        drop(connection);
        drop(channel);
        // Given up in the middle.
        let target = sshd.target();
        drop(tokio::time::timeout(Duration::from_millis(20), connect(&target)).await);
    }
    until("the end of threads and sockets", || count().0 <= sockets && count().1 <= threads).await;
}

#[tokio::test]
async fn what_comes_between_two_looks_is_not_missed() {
    let sshd = Sshd::start("");
    let connection = sshd.connect().await;
    ear::HESITATION.store(500, Ordering::Relaxed);
    let talk = async || {
        let mut channel = connection.open(exec("cat; echo end >&2")).await.unwrap();
        for round in 0..50 {
            let word = format!("{round}\n");
            say(&channel, &word).await;
            let FromRemote::Stdout(back) = channel.output.recv().await.unwrap() else { panic!("no echo of {round}") };
            assert_eq!(back, word.as_bytes());
        }
        channel.input.send(ToRemote::Eof).await.unwrap();
        assert_eq!(&collect(channel).await.stderr[..], b"end\n");
        for _ in 0..10 {
            assert_eq!(run(&connection, "echo in").await.text(), "in\n");
        }
    };
    // Less than the keepalive, after which everything would be looked at again.
    let all = tokio::time::timeout(Duration::from_secs(25), join_all((0..3).map(|_| talk()))).await;
    ear::HESITATION.store(0, Ordering::Relaxed);
    assert!(all.is_ok(), "something was missed");
}
