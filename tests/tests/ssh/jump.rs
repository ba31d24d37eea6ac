//! Hosts behind another host.

use broker_core::session::SessionErrorKind;
use broker_core::session::ssh::{HostKeyPolicy, SshTarget};
use broker_tests::ssh::{Flow, Key, Kind, Server, Setup, Wire};
use broker_tests::wait;
use futures_util::future::join_all;

use crate::support::{block, gets_in, is_kept_out, output, run, target, target_at};

fn jump() -> Server {
    Setup::openssh().option("LogLevel DEBUG1").start()
}

fn behind(host: SshTarget, jump: SshTarget) -> SshTarget {
    SshTarget { jump: Some(Box::new(SshTarget { label: "lab-jump".to_owned(), ..jump })), ..host }
}

#[test]
fn the_way_leads_through_the_jump_host() {
    let (outer, inner) = (jump(), Setup::openssh().start());
    let behind = behind(target(&inner), target(&outer));
    let connected = gets_in(&behind);
    assert!(outer.log().contains("direct-tcpip"), "{}", outer.log());
    // It is the inner one that is looked at.
    assert_eq!(connected.host_key.to_string(), inner.host_key(Kind::Ed25519));
    block(async {
        let connected = broker_core::session::ssh::connect(&behind).await.unwrap();
        let port = output(&*connected.session, "echo $SSH_CONNECTION").await;
        assert!(port.trim().ends_with(&inner.port().to_string()), "{port}");
        // Much, both ways at once.
        let done = run(&*connected.session, "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2").await.unwrap();
        assert_eq!((done.stdout.len(), done.stderr.len()), (3_000_000, 3_000_000));
        connected.session.close().await;
    });
    wait::until("both connections to be closed", || outer.connections() + inner.connections() == 0);
}

#[test]
fn two_jump_hosts_in_a_row() {
    let (first, second, host) = (jump(), jump(), Setup::openssh().start());
    gets_in(&behind(target(&host), behind(target(&second), target(&first))));
    assert!(first.log().contains("direct-tcpip") && second.log().contains("direct-tcpip"));
}

#[test]
fn what_is_wrong_with_the_jump_host_is_said_of_it() {
    let (outer, inner) = (jump(), Setup::openssh().start());
    let other = Key::make(outer.directory().join("other"), Kind::Ed25519, "").public();
    let impostor = SshTarget { host_key: HostKeyPolicy::Pinned(other.parse().unwrap()), ..target(&outer) };
    let said = is_kept_out(&behind(target(&inner), impostor), SessionErrorKind::HostKey);
    assert!(said.contains("lab-jump"), "{said}");
    let nobody = SshTarget { credentials: Vec::new(), ..target(&outer) };
    let said = is_kept_out(&behind(target(&inner), nobody), SessionErrorKind::Auth);
    assert!(said.contains("lab-jump"), "{said}");
    outer.stop();
    let said = is_kept_out(&behind(target(&inner), target(&outer)), SessionErrorKind::Unreachable);
    assert!(said.contains("lab-jump"), "{said}");
}

#[test]
fn what_is_wrong_behind_the_jump_host_is_said_of_the_host() {
    let (outer, inner) = (jump(), Setup::openssh().prepare());
    let said = is_kept_out(&behind(target(&inner), target(&outer)), SessionErrorKind::Unreachable);
    assert!(said.contains("lab-host") || said.contains(&inner.port().to_string()), "{said}");
    inner.start();
    let nobody = SshTarget { credentials: Vec::new(), ..target(&inner) };
    let said = is_kept_out(&behind(nobody, target(&outer)), SessionErrorKind::Auth);
    assert!(said.contains("lab-host"), "{said}");
}

#[test]
fn a_jump_host_that_goes_away_ends_what_is_behind_it() {
    let (outer, inner) = (jump(), Setup::openssh().start());
    let wire = Wire::to(outer.address());
    let behind = behind(target(&inner), target_at(&outer, wire.address()));
    block(async {
        let connected = broker_core::session::ssh::connect(&behind).await.unwrap();
        assert_eq!(output(&*connected.session, "echo in").await, "in\n");
        let running = run(&*connected.session, "sleep 1000");
        let ending = async {
            let one = || inner.log().matches("Starting session").count() == 2;
            wait::until_async("the command", async || one()).await;
            wire.set(Flow::Cut);
        };
        let (outcome, ()) = tokio::join!(running, ending);
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), SessionErrorKind::Unreachable, "{error}");
        assert!(connected.session.is_broken());
    });
}

#[test]
fn dropbear_in_front_and_behind() {
    let (openssh, dropbear) = (Setup::openssh().start(), Setup::dropbear().start());
    let second = Setup::dropbear().start();
    for (host, gate) in [(&openssh, &dropbear), (&dropbear, &openssh), (&dropbear, &second)] {
        let behind = behind(target(host), target(gate));
        block(async {
            let session = broker_core::session::ssh::connect(&behind).await.unwrap().session;
            let port = output(&*session, "echo $SSH_CONNECTION").await;
            assert!(port.trim().ends_with(&host.port().to_string()), "{port}");
            let commands =
                (0..6).map(async |at| run(&*session, format!("echo out{at}; echo err{at} >&2; exit {at}")).await);
            for (at, outcome) in join_all(commands).await.into_iter().enumerate() {
                let done = outcome.unwrap();
                assert_eq!(done.stdout, format!("out{at}\n").into_bytes());
                assert_eq!(done.stderr, format!("err{at}\n").into_bytes());
                assert_eq!(done.status.code(), i32::try_from(at).unwrap());
            }
            let done = run(&*session, "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2").await.unwrap();
            assert_eq!((done.stdout.len(), done.stderr.len()), (3_000_000, 3_000_000));
            session.close().await;
        });
    }
    let others = || openssh.connections() + dropbear.connections() + second.connections();
    wait::until("all connections to be closed", || others() == 0);
}

#[test]
fn a_jump_host_that_may_not_forward_connections() {
    let host = Setup::openssh().start();
    for gate in [Setup::dropbear().option("-j"), Setup::openssh().option("AllowTcpForwarding no")] {
        let gate = gate.start();
        let said = is_kept_out(&behind(target(&host), target(&gate)), SessionErrorKind::Permission);
        assert!(said.contains("`lab-jump` may not forward connections") && said.contains("lab-host"), "{said}");
        gets_in(&target(&gate));
    }
}
