//! Finding a host, and knowing it.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::net::{AddressFamily, SocketType};

use super::server::{Sshd, keygen};
use super::*;
use crate::session::SessionErrorKind;
use crate::session::ssh::HostKey;

fn nowhere() -> SshTarget {
    // Nobody listens where somebody has only just ceased to.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    server::target(address, Vec::new())
}

/// A socket that has no room for another connection, so that the system answers none.
struct Full {
    address: SocketAddr,
    _sockets: (OwnedFd, Vec<OwnedFd>),
}

impl Full {
    fn new() -> Self {
        let socket = || rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let listener = socket();
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
        let clients = (0..3).map(|_| {
            let client = socket();
            rustix::io::ioctl_fionbio(&client, true).unwrap();
            rustix::net::connect(&client, &address).ok();
            client
        });
        let clients = clients.collect();
        Self { address, _sockets: (listener, clients) }
    }
}

#[tokio::test]
async fn each_way_not_to_connect_has_its_own_words() {
    let target = nowhere();
    let error = refusal(&target).await;
    assert_eq!(error.kind(), SessionErrorKind::Unreachable);
    let at = format!("127.0.0.1:{}", target.port);
    let expected = format!("cannot connect to `lab` at `{at}`: `{at}` refuses connections");
    assert_eq!(error.to_string(), expected);

    let mut unknown = target.clone();
    unknown.address = "host.invalid".to_owned();
    let error = refusal(&unknown).await;
    assert_eq!(error.to_string(), "cannot connect to `lab`: no address is known for `host.invalid`");
    assert!(chain(&error).contains("lookup"), "{}", chain(&error));

    let full = Full::new();
    let mut silent = server::target(full.address, Vec::new());
    silent.limits.connect = Duration::from_millis(300);
    let error = refusal(&silent).await.to_string();
    assert!(error.contains("does not answer within 300ms"), "{error}");

    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = server::target(rude.local_addr().unwrap(), Vec::new());
    std::thread::spawn(move || {
        let mut first = rude.accept().unwrap().0;
        first.write_all(b"Not allowed at this time\r\n").unwrap();
        drop(first);
        drop(rude.accept());
    });
    let error = refusal(&target).await.to_string();
    assert!(error.contains("hangs up before") && error.contains("`Not allowed at this time`"), "{error}");
    let error = refusal(&target).await.to_string();
    assert!(error.contains("hangs up before"), "{error}");
}

#[tokio::test]
async fn a_host_that_is_booting_is_waited_for() {
    // Refuses at first, then hangs up, then is there.
    let mut target = nowhere();
    let port = target.port;
    target.limits.patience = SOON;
    let boot = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_secs(1));
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        drop(listener.accept().unwrap());
        Sshd::start_on(listener, "")
    });
    let connecting = tokio::spawn(async move {
        // No key is known yet, which is told from a machine that is not there yet.
        refusal(&target).await
    });
    let sshd = boot.await.unwrap();
    let error = connecting.await.unwrap();
    assert_eq!(error.kind(), SessionErrorKind::Auth, "{error}");
    assert_eq!(run(&sshd.connect().await, "echo there").await.text(), "there\n");

    let mut target = nowhere();
    target.limits.patience = Duration::from_millis(700);
    let begin = Instant::now();
    let refused = crate::error_chain(&refusal(&target).await);
    assert!(refused.contains("700ms") && refused.contains("refuses connections"), "{refused}");
    assert!(begin.elapsed() >= Duration::from_millis(600));
}

#[tokio::test]
async fn only_the_key_that_is_pinned_is_believed() {
    let sshd = Sshd::start("");
    let mut target = sshd.target();
    let key = connect(&target).await.unwrap().1;
    let public = std::fs::read_to_string(sshd.path("host_ed25519.pub")).unwrap();
    assert_eq!(key, public.parse::<HostKey>().unwrap());
    target.host_key = HostKeyPolicy::Pinned(key.clone());
    assert_eq!(connect(&target).await.unwrap().1, key);

    keygen(&sshd.path("other"), &["-t", "ed25519"]);
    let other: HostKey = std::fs::read_to_string(sshd.path("other.pub")).unwrap().parse().unwrap();
    target.host_key = HostKeyPolicy::Pinned(other.clone());
    let error = refusal(&target).await;
    assert_eq!(error.kind(), SessionErrorKind::HostKey);
    for part in [key.fingerprint(), other.fingerprint()] {
        assert!(error.to_string().contains(&part), "{error}");
    }
}

#[tokio::test]
async fn the_key_that_is_pinned_is_asked_for() {
    for kind in ["rsa", "ecdsa"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("host");
        keygen(&path, &["-t", kind]);
        let sshd = Sshd::start(&format!("HostKey {}", path.display()));
        let pinned: HostKey = std::fs::read_to_string(path.with_extension("pub")).unwrap().parse().unwrap();
        let mut target = sshd.target();
        target.host_key = HostKeyPolicy::Pinned(pinned.clone());
        assert_eq!(connect(&target).await.unwrap().1, pinned);
    }
}

#[tokio::test]
async fn a_server_with_nothing_in_common_is_named_as_such() {
    let sshd = Sshd::start("KexAlgorithms diffie-hellman-group14-sha1");
    let error = refusal(&sshd.target()).await;
    assert_eq!(error.kind(), SessionErrorKind::Unsupported);
    assert!(error.to_string().contains("no algorithm in common"), "{error}");
    // What is newest is not all there is.
    let sshd = Sshd::start(
        "KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256\nCiphers chacha20-poly1305@openssh.com",
    );
    assert_eq!(run(&sshd.connect().await, "echo new").await.text(), "new\n");
}

#[tokio::test]
async fn a_host_behind_another_is_reached_through_it() {
    let (gate, hidden) = (Sshd::start(""), Sshd::start(""));
    let mut target = hidden.target();
    let mut jump = gate.target();
    jump.label = "gate".to_owned();
    target.jump = Some(Box::new(jump));
    let connection = connect(&target).await.unwrap().0;
    let said = run(&connection, "echo $SSH_CONNECTION; head -c 3000000 /dev/zero").await;
    assert_eq!(said.ended, Some(ExitStatus::Code(0)));
    assert!(said.stdout.len() > 3_000_000);
    let echo = connection.open(exec("cat")).await.unwrap();
    say(&echo, &"x".repeat(1_000_000)).await;
    echo.input.send(ToRemote::Eof).await.unwrap();
    assert_eq!(collect(echo).await.stdout.len(), 1_000_000);
    drop(connection);

    // Two in a row.
    let mut far = hidden.target();
    far.jump = Some(Box::new(target.clone()));
    let connection = connect(&far).await.unwrap().0;
    assert_eq!(run(&connection, "echo far").await.text(), "far\n");
    gate.kill();
    until("the end of the connection", || connection.broken().is_some()).await;

    target.port = nowhere().port;
    let error = refusal(&target).await;
    assert_eq!(error.kind(), SessionErrorKind::Unreachable);
    let all = chain(&error);
    assert!(all.contains("`lab`") && all.contains("through `gate`") && all.contains("cannot connect"), "{all}");
}
