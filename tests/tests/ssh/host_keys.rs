//! Whom to believe: pins, `known_hosts`, and everybody.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use broker_core::session::SessionErrorKind;
use broker_core::session::ssh::{HostKey, HostKeyPolicy, KnownHosts, SshTarget};
use broker_core::{block_on, error_chain};
use broker_tests::conformance::session::{kind, output};
use broker_tests::ssh::provider::request;
use broker_tests::ssh::{Key, Kind, Lab, Server, Setup};

use crate::support::{block, gets_in, is_kept_out, target};

fn pinned(server: &Server, key: &str) -> SshTarget {
    SshTarget { host_key: HostKeyPolicy::Pinned(key.parse::<HostKey>().unwrap()), ..target(server) }
}

#[test]
fn the_key_that_was_shown_is_told_and_can_be_pinned() {
    let server = Setup::openssh().host_keys(&Kind::ALL).start();
    let seen = gets_in(&target(&server)).host_key;
    let own = Kind::ALL.map(|kind| server.host_key(kind));
    assert!(own.contains(&seen.to_string()), "{seen}");
    // Any of them, also one that would not have been shown first.
    for key in own {
        assert_eq!(gets_in(&pinned(&server, &key)).host_key.to_string(), key);
    }
}

#[test]
fn another_key_than_the_pinned_one_is_not_believed() {
    let server = Setup::openssh().start();
    for kind in [Kind::Ed25519, Kind::Ecdsa, Kind::Rsa] {
        // Also of a kind that the server has none of.
        let other = Key::make(server.directory().join(format!("other-{}", kind.name())), kind, "");
        let said = is_kept_out(&pinned(&server, &other.public()), SessionErrorKind::HostKey);
        assert!(said.contains(&other.fingerprint()) && said.contains("lab-host"), "{said}");
    }
    // Nobody was told who wants to come in.
    assert!(!server.log().contains("publickey"), "{}", server.log());

    let before = gets_in(&target(&server)).host_key;
    server.stop();
    server.change_host_keys();
    server.start();
    let said = is_kept_out(&pinned(&server, &before.to_string()), SessionErrorKind::HostKey);
    let shown = Kind::Ed25519;
    assert!(said.contains(&before.fingerprint()), "{said}");
    assert!(said.contains(&server.host_key_pair(shown).fingerprint()), "{said}");
    gets_in(&target(&server));
    gets_in(&SshTarget { host_key: HostKeyPolicy::Insecure, ..target(&server) });
}

#[test]
fn a_pin_is_the_checkouts_own() {
    let server = Setup::openssh().start();
    let lab = Lab::new();
    let first = lab.host(request("first", &server, server.address()));
    block(async { assert_eq!(output(&first, "echo works").await, "works\n") });
    block_on(first.close()).unwrap().unwrap();
    server.stop();
    server.change_host_keys();
    server.start();
    let error = block_on(first.execute("true")).unwrap().unwrap_err();
    assert_eq!(kind(&error), SessionErrorKind::HostKey, "{}", error_chain(&error));
    assert!(error_chain(&error).contains("first"), "{}", error_chain(&error));
    // No wait makes that better; another failure is told at the end of one.
    let waited = block_on(first.wait_until("true", Duration::from_secs(150))).unwrap().unwrap_err();
    assert_eq!(kind(&waited), SessionErrorKind::HostKey, "{}", error_chain(&waited));
    // Another machine at the same address.
    let second = lab.host(request("second", &server, server.address()));
    block(async {
        assert_eq!(output(&second, "echo works").await, "works\n");
        let waited = second.wait_until("exit 3", Duration::from_millis(500)).await.unwrap_err();
        assert!(error_chain(&waited).contains("(last: exit status 3)"), "{}", error_chain(&waited));
        server.stop();
        let waited = second.wait_until("true", Duration::from_secs(1)).await.unwrap_err();
        assert!(error_chain(&waited).contains("refuses"), "{}", error_chain(&waited));
    });
}

/// A `known_hosts` file as the policy.
fn strict(server: &Server, name: &str, lines: &str) -> (SshTarget, PathBuf) {
    let path = server.directory().join(name);
    std::fs::write(&path, lines).unwrap();
    let known = KnownHosts::read(std::slice::from_ref(&path)).unwrap();
    (SshTarget { host_key: HostKeyPolicy::Strict(known), ..target(server) }, path)
}

#[test]
fn known_hosts_are_believed() {
    let server = Setup::openssh().host_keys(&Kind::ALL).start();
    for kind in Kind::ALL {
        // A line of one kind alone: the server has to be asked for that one.
        let line = server.known_hosts_line(kind);
        let (target, path) = strict(&server, &format!("plain-{}", kind.name()), &line);
        assert_eq!(gets_in(&target).host_key.to_string(), server.host_key(kind));
        // Hashed, as Debian's client writes them.
        let hashed = Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&path).output().unwrap();
        assert!(hashed.status.success());
        let lines = std::fs::read_to_string(&path).unwrap();
        assert!(lines.starts_with("|1|"), "{lines}");
        gets_in(&strict(&server, "hashed", &lines).0);
    }
    let among_others = format!(
        "# a comment\n\nelsewhere ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample\nnonsense\n{}",
        server.known_hosts_line(Kind::Ecdsa)
    );
    gets_in(&strict(&server, "others", &among_others).0);
}

#[test]
fn what_known_hosts_do_not_say_is_not_believed() {
    let server = Setup::openssh().start();
    let other = Key::make(server.directory().join("other"), Kind::Ed25519, "").public();
    let port = server.port();
    let own = server.host_key(Kind::Ed25519);
    for (name, lines) in [
        ("nothing", String::new()),
        ("another host", format!("[127.0.0.2]:{port} {own}\n")),
        ("another port", format!("[127.0.0.1]:{} {own}\n", port - 1)),
        ("another key", format!("[127.0.0.1]:{port} {other}\n")),
        ("revoked", format!("[127.0.0.1]:{port} {own}\n@revoked [127.0.0.1]:{port} {own}\n")),
    ] {
        let said = is_kept_out(&strict(&server, "lines", &lines).0, SessionErrorKind::HostKey);
        assert!(said.contains("127.0.0.1") || said.contains("lab-host"), "{name}: {said}");
    }
    assert!(!server.log().contains("publickey"), "{}", server.log());
    // A file that does not exist says nothing.
    let missing = KnownHosts::read(&[server.directory().join("missing")]).unwrap();
    let nobody = SshTarget { host_key: HostKeyPolicy::Strict(missing), ..target(&server) };
    is_kept_out(&nobody, SessionErrorKind::HostKey);
}
