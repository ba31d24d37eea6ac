//! Servers of all kinds.

use broker_core::error_chain;
use broker_core::session::ssh::connect;
use broker_core::session::{Command, ExitStatus, PtyRequest, SessionErrorKind};
use broker_tests::conformance::session::kind;
use broker_tests::ssh::{Kind, Lab, Setup};

use crate::support::{block, gets_in, is_kept_out, output, run, target};

/// Gets in, and much arrives.
#[track_caller]
fn serves(setup: Setup) {
    let server = setup.start();
    let target = target(&server);
    gets_in(&target);
    block(async {
        let connected = connect(&target).await.unwrap();
        let done = run(&*connected.session, "head -c 1000000 /dev/zero | tr '\\0' x; echo end >&2").await.unwrap();
        assert!(done.stdout.len() == 1_000_000 && done.stdout.iter().all(|byte| *byte == b'x'));
        assert_eq!(done.stderr, b"end\n");
    });
}

#[test]
fn with_new_algorithms_alone() {
    serves(
        Setup::openssh()
            .host_keys(&[Kind::Ed25519])
            .option("KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256")
            .option("HostKeyAlgorithms ssh-ed25519")
            .option("Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com")
            .option("MACs hmac-sha2-512-etm@openssh.com"),
    );
}

#[test]
fn with_old_algorithms_alone() {
    serves(
        Setup::openssh()
            .host_keys(&[Kind::Rsa])
            .option("KexAlgorithms diffie-hellman-group14-sha256")
            .option("HostKeyAlgorithms rsa-sha2-256")
            .option("Ciphers aes128-cbc")
            .option("MACs hmac-sha2-256"),
    );
    serves(
        Setup::openssh()
            .host_keys(&[Kind::Ecdsa])
            .option("KexAlgorithms ecdh-sha2-nistp256")
            .option("Ciphers aes128-ctr"),
    );
}

#[test]
fn with_each_cipher() {
    let ciphers = [
        "chacha20-poly1305@openssh.com",
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-ctr",
        "aes192-ctr",
        "aes256-ctr",
        "aes256-cbc",
    ];
    for cipher in ciphers {
        serves(Setup::openssh().host_keys(&[Kind::Ed25519]).option(format!("Ciphers {cipher}")));
    }
}

#[test]
fn with_nothing_in_common() {
    let server = Setup::openssh().option("KexAlgorithms sntrup761x25519-sha512@openssh.com").start();
    let said = is_kept_out(&target(&server), SessionErrorKind::Unsupported);
    assert!(said.contains("lab-host") && said.contains("no algorithm in common"), "{said}");
}

#[test]
fn a_banner_is_no_output() {
    let text = "Unauthorised use is prohibited.\n".repeat(200);
    let directory = tempfile::tempdir().unwrap();
    let banner = directory.path().join("banner");
    std::fs::write(&banner, &text).unwrap();
    let setup = Setup::openssh().jailed_where_possible().option(format!("Banner {}", banner.display()));
    let server = setup.start();
    if broker_tests::ssh::jail::is_root() {
        server.jail().write("root", ".profile", "echo profile\n");
    }
    block(async {
        let session = connect(&target(&server)).await.unwrap().session;
        assert_eq!(output(&*session, "echo only this").await, "only this\n");
        let done = run(&*session, Command::shell("echo only this").pty(PtyRequest::default())).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stdout), "only this\r\n");
    });
}

#[test]
fn an_end_by_a_signal_is_told() {
    for setup in [Setup::openssh(), Setup::dropbear()] {
        let server = setup.start();
        block(async {
            let session = connect(&target(&server)).await.unwrap().session;
            for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("USR1", 10)] {
                let done = run(&*session, format!("exec sh -c 'kill -{name} $$'").as_str()).await.unwrap();
                assert_eq!(done.status.code(), 128 + number, "{name}: {}", done.status);
                assert!(!done.status.success());
            }
            let done = run(&*session, "exit 3").await.unwrap();
            assert_eq!(done.status, ExitStatus::Code(3));
        });
    }
}

#[test]
fn a_command_that_the_server_cuts_off_has_no_status() {
    let server = Setup::openssh().option("ChannelTimeout session:command=1s").start();
    let lab = Lab::new();
    let host = lab.server(&server);
    block(async {
        let error = host.execute("sleep 30; false").await.unwrap_err();
        assert_eq!(kind(&error), SessionErrorKind::Unreachable, "{}", error_chain(&error));
        assert!(error_chain(&error).contains("did not say how"), "{}", error_chain(&error));
        // The connection is as good as before.
        for status in [0, 1, 255] {
            assert_eq!(host.execute(format!("exit {status}")).await.unwrap().status(), &ExitStatus::Code(status));
        }
    });
    assert_eq!(server.log().matches("Accepted publickey").count(), 1);
}

#[test]
fn whatever_the_login_shell_is() {
    for shell in ["/bin/sh", "/bin/dash", "/bin/bash"] {
        let server = Setup::openssh().shell(shell).start();
        block(async {
            let session = connect(&target(&server)).await.unwrap().session;
            assert_eq!(output(&*session, "echo \"a  b\" | tr a-z A-Z").await, "A  B\n");
            let words = Command::words(["printf", "%s|", "it's", "$HOME", "", "new\nline", "back\\slash"]);
            let done = run(&*session, words).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&done.stdout), "it's|$HOME||new\nline|back\\slash|", "{shell}");
        });
    }
}
