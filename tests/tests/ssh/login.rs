//! Every way to log in, and what is said where it does not work.

use broker_core::secrets::Secret;
use broker_core::session::SessionErrorKind;
use broker_core::session::ssh::{Credential, SshTarget, connect};
use broker_tests::ssh::jail::{PASSWORD, TESTER};
use broker_tests::ssh::{Key, Kind, Server, Setup};

use crate::support::{block, by_key, gets_in, is_kept_out, run, target};

fn with(server: &Server, credentials: Vec<Credential>) -> SshTarget {
    SshTarget { credentials, ..target(server) }
}

/// As a user with a password, by these.
fn tester(server: &Server, credentials: Vec<Credential>) -> SshTarget {
    SshTarget { user: TESTER.to_owned(), ..with(server, credentials) }
}

fn password(text: &str) -> Credential {
    Credential::Password(Secret::new(text))
}

fn locked(key: &Key, passphrase: Option<&str>) -> Credential {
    Credential::KeyFile { path: key.path().to_owned(), passphrase: passphrase.map(Secret::new), named: true }
}

#[test]
fn by_a_key_of_every_kind() {
    let server = Setup::openssh().start();
    for kind in Kind::ALL {
        let forms: [fn(std::path::PathBuf, Kind, &str) -> Key; 2] = [Key::make, Key::make_pem];
        for (number, make) in forms.into_iter().enumerate() {
            // russh reads no PEM of the kind that OpenSSL writes for these.
            if broker_tests::ssh::backend() == "russh" && number == 1 && kind == Kind::Ecdsa {
                continue;
            }
            for passphrase in ["", "pass phrase's \"$x\""] {
                let name = format!("{}-{number}-{}", kind.name(), passphrase.len());
                let key = make(server.directory().join(name), kind, passphrase);
                let credential = locked(&key, Some(passphrase).filter(|passphrase| !passphrase.is_empty()));
                let refused = is_kept_out(&with(&server, vec![credential.clone()]), SessionErrorKind::Auth);
                assert!(refused.contains(&key.path().display().to_string()), "{refused}");
                server.authorize(&key);
                gets_in(&with(&server, vec![credential]));
            }
        }
    }
}

#[test]
fn a_passphrase_that_is_wrong_or_missing_is_said() {
    let server = Setup::openssh().start();
    for kind in Kind::ALL {
        let key = Key::make(server.directory().join(kind.name()), kind, "right");
        server.authorize(&key);
        for (passphrase, says) in [(Some("wrong"), "passphrase"), (None, "passphrase")] {
            let said = is_kept_out(&with(&server, vec![locked(&key, passphrase)]), SessionErrorKind::Auth);
            assert!(said.contains(says) && said.contains(&key.path().display().to_string()), "{kind:?}: {said}");
            assert!(!said.contains("wrong") || said.contains("is wrong"), "it shows the passphrase: {said}");
        }
    }
}

#[test]
fn a_file_that_is_no_key_is_named() {
    let server = Setup::openssh().start();
    let directory = server.directory();
    let cases =
        [("missing", None), ("empty", Some("")), ("text", Some("hello\n")), ("public", Some("ssh-ed25519 AAAA x\n"))];
    for (name, contents) in cases {
        let path = directory.join(name);
        if let Some(contents) = contents {
            std::fs::write(&path, contents).unwrap();
        }
        let credential = Credential::KeyFile { path: path.clone(), passphrase: None, named: true };
        let said = is_kept_out(&with(&server, vec![credential]), SessionErrorKind::Auth);
        assert!(said.contains(&path.display().to_string()), "{name}: {said}");
    }
    // One that nobody asked for by name is passed over.
    let unnamed = Credential::KeyFile { path: directory.join("missing"), passphrase: None, named: false };
    gets_in(&with(&server, vec![unnamed, by_key(server.key())]));
}

#[test]
fn one_after_the_other_until_one_is_taken() {
    let server = Setup::openssh().jailed().option("PasswordAuthentication yes").start();
    let stranger = Key::make(server.directory().join("stranger"), Kind::Ed25519, "");
    gets_in(&tester(&server, vec![by_key(&stranger), password(PASSWORD)]));
    gets_in(&tester(&server, vec![password("wrong"), by_key(server.key())]));
    // Each is named with its answer.
    let said = is_kept_out(&tester(&server, vec![by_key(&stranger), password("hunter2")]), SessionErrorKind::Auth);
    for word in ["stranger", "password", TESTER] {
        assert!(said.contains(word), "no `{word}`: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn by_password() {
    let server = Setup::openssh().jailed().option("PasswordAuthentication yes").start();
    gets_in(&tester(&server, vec![password(PASSWORD)]));
    let said = is_kept_out(&tester(&server, vec![password("wrong")]), SessionErrorKind::Auth);
    assert!(said.contains("password") && said.contains(TESTER), "{said}");
    let said = is_kept_out(&tester(&server, vec![password("")]), SessionErrorKind::Auth);
    assert!(said.contains("password"), "{said}");
}

#[test]
fn by_answering_questions() {
    let options =
        |setup: Setup| setup.option("KbdInteractiveAuthentication yes").option("PubkeyAuthentication no").start();
    let server = options(Setup::openssh().jailed());
    gets_in(&tester(&server, vec![password(PASSWORD)]));
    let said = is_kept_out(&tester(&server, vec![password("wrong")]), SessionErrorKind::Auth);
    assert!(said.contains("keyboard-interactive") || said.contains("password"), "{said}");
}

#[test]
fn a_method_that_the_server_does_not_take_is_said() {
    let server = Setup::openssh().jailed().start();
    // It takes keys alone.
    let said = is_kept_out(&tester(&server, vec![password(PASSWORD)]), SessionErrorKind::Auth);
    assert!(said.contains("password") && said.contains("publickey"), "{said}");
    let by_password =
        Setup::openssh().jailed().option("PubkeyAuthentication no").option("PasswordAuthentication yes").start();
    let said = is_kept_out(&with(&by_password, vec![by_key(server.key())]), SessionErrorKind::Auth);
    assert!(said.contains("keys") && said.contains("password"), "{said}");
}

#[test]
fn nothing_to_log_in_with_is_said() {
    let server = Setup::openssh().start();
    let said = is_kept_out(&with(&server, Vec::new()), SessionErrorKind::Auth);
    assert!(said.contains("publickey"), "{said}");
    let nobody = SshTarget { user: "no-such-user".to_owned(), ..target(&server) };
    let said = is_kept_out(&nobody, SessionErrorKind::Auth);
    assert!(said.contains("no-such-user"), "{said}");
}

#[test]
fn dropbear_takes_keys_and_passwords() {
    let server = Setup::dropbear().start();
    for kind in Kind::ALL {
        let key = Key::make(server.directory().join(kind.name()), kind, "");
        is_kept_out(&with(&server, vec![by_key(&key)]), SessionErrorKind::Auth);
        server.authorize(&key);
        gets_in(&with(&server, vec![by_key(&key)]));
    }
    gets_in(&tester(&server, vec![password(PASSWORD)]));
    is_kept_out(&tester(&server, vec![password("wrong")]), SessionErrorKind::Auth);
}

#[test]
fn a_key_and_a_password_where_the_server_wants_both() {
    let second =
        [("password", "PasswordAuthentication yes"), ("keyboard-interactive", "KbdInteractiveAuthentication yes")];
    for (method, option) in second {
        let both = format!("AuthenticationMethods publickey,{method}");
        let server = Setup::openssh().jailed().option(option).option(both).start();
        let key = || by_key(server.key());
        gets_in(&tester(&server, vec![key(), password(PASSWORD)]));
        let log = server.log();
        assert!(log.contains("Partial publickey") && log.contains(&format!("Accepted {method}")), "{log}");
        // A stranger's key in front of it is no hindrance.
        let stranger = Key::make(server.directory().join("stranger"), Kind::Ed25519, "");
        gets_in(&tester(&server, vec![by_key(&stranger), key(), password(PASSWORD)]));
        // Neither of them will do alone, nor a wrong password.
        for credentials in [vec![key()], vec![password(PASSWORD)], vec![key(), password("hunter2")]] {
            let last = credentials.last().cloned();
            let said = is_kept_out(&tester(&server, credentials), SessionErrorKind::Auth);
            let named = if matches!(last, Some(Credential::Password(_))) { "password" } else { "publickey" };
            assert!(said.contains(named) || said.contains(method), "{method}: {said}");
            assert!(!said.contains("hunter2") && !said.contains(PASSWORD), "{said}");
        }
    }
}

#[test]
fn a_password_that_has_expired() {
    let by_questions = Setup::openssh().jailed().option("KbdInteractiveAuthentication yes").start();
    by_questions.jail().expire_passwords();
    let said = is_kept_out(&tester(&by_questions, vec![password(PASSWORD)]), SessionErrorKind::Auth);
    assert!(said.contains("expired"), "{said}");
    // Nothing else is asked of who comes with a key, or OpenSSH's server lets in by the method `password` whom it then
    // tells to change it.
    let by_password = Setup::openssh().jailed().option("PasswordAuthentication yes").start();
    by_password.jail().expire_passwords();
    block(async {
        let target = tester(&by_password, vec![password(PASSWORD)]);
        let session = connect(&target).await.unwrap().session;
        let done = run(&*session, "echo in").await.unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && done.stdout.is_empty(), "{done:?}");
        assert!(said.contains("expired"), "{said}");
    });
}
