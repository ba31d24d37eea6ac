//! Connections that end before they should.

use std::time::Instant;

use super::server::{Sshd, Wire};
use super::*;
use crate::session::SessionErrorKind;

#[tokio::test]
async fn a_killed_server_is_noticed_by_everybody() {
    let sshd = Sshd::start("");
    let connection = sshd.connect().await;
    let mut channel = connection.open(exec("echo begun; sleep 1000")).await.unwrap();
    let idle = connection.open(exec("cat")).await.unwrap();
    assert!(matches!(channel.output.recv().await, Some(FromRemote::Stdout(_))));
    sshd.kill();
    for channel in [channel, idle] {
        let said = collect(channel).await;
        let broken = said.broken.unwrap();
        assert!(broken.contains("`lab` broke") && said.ended.is_none(), "{broken}");
    }
    assert!(connection.broken().is_some());
    let error = connection.open(exec("true")).await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::Unreachable);
}

#[tokio::test]
async fn a_server_that_is_killed_while_nothing_happens_is_noticed() {
    let sshd = Sshd::start("");
    let connection = sshd.connect().await;
    sshd.kill();
    until("the end of the connection", || connection.broken().is_some()).await;
}

#[tokio::test]
async fn a_wire_that_is_cut_is_noticed_in_time() {
    let sshd = Sshd::start("");
    let wire = Wire::to(sshd.address);
    let mut target = sshd.target();
    target.port = wire.address.port();
    target.limits.keepalive = Duration::from_secs(2);
    let idle = connect(&target).await.unwrap().0;
    let reading = connect(&target).await.unwrap().0;
    let writing = connect(&target).await.unwrap().0;
    let quiet = reading.open(exec("sleep 1000")).await.unwrap();
    let full = writing.open(exec("cat > /dev/null")).await.unwrap();
    // Questions are answered, however quiet it is.
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!((idle.broken(), reading.broken(), writing.broken()), (None, None, None));
    wire.cut();
    let cut = Instant::now();
    let write = async {
        let piece = Bytes::from(vec![0; 1 << 20]);
        while full.input.send(ToRemote::Data(piece.clone())).await.is_ok() {}
        cut.elapsed()
    };
    let read = async {
        let said = collect(quiet).await;
        (cut.elapsed(), said.broken.unwrap())
    };
    let (written, (read, reason)) = tokio::join!(write, read);
    assert!(reason.contains("not a word from it for 6 seconds"), "{reason}");
    until("the end of the idle connection", || idle.broken().is_some()).await;
    for elapsed in [written, read, cut.elapsed()] {
        assert!(elapsed > Duration::from_secs(3) && elapsed < Duration::from_secs(30), "{elapsed:?}");
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut target = server::target(listener.local_addr().unwrap(), Vec::new());
    target.limits.handshake = Duration::from_millis(300);
    let error = refusal(&target).await;
    assert_eq!(error.kind(), SessionErrorKind::Unreachable);
    assert!(error.to_string().contains("does not say within 300ms that it is an SSH server"), "{error}");
}
