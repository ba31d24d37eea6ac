//! Logging in with what an agent holds. The agent is found by a variable, so each test is a process of its own.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use broker_core::session::SessionErrorKind;
use broker_core::session::ssh::{Credential, SshLimits, SshTarget};
use broker_tests::ssh::{Agent, Key, Kind, Server, Setup};

use crate::support::{by_key, elsewhere, gets_in, is_kept_out, target, this_test};

fn keys(server: &Server, count: usize) -> Vec<Key> {
    let kinds = Kind::ALL.into_iter().cycle();
    kinds.zip(0..count).map(|(kind, at)| Key::make(server.directory().join(format!("key-{at}")), kind, "")).collect()
}

/// The test in another process, to which a server and an agent are told.
fn there(test: &str, setup: Setup, count: usize, authorized: Option<usize>) -> Option<SshTarget> {
    const SERVER: &str = "BROKER_TESTS_AGENT_SERVER";
    if let Some(told) = std::env::var_os(SERVER) {
        let (user, port) = told.to_str().unwrap().split_once(' ').unwrap();
        let server = Setup::openssh().prepare();
        let port = port.parse().unwrap();
        return Some(SshTarget {
            user: user.to_owned(),
            port,
            credentials: vec![Credential::Agent],
            ..target(&server)
        });
    }
    let server = setup.start();
    let keys = keys(&server, count);
    if let Some(authorized) = authorized {
        server.authorize(&keys[authorized]);
    }
    let agent = Agent::start(&keys);
    let told = format!("{} {}", server.user(), server.port());
    assert!(elsewhere(test, &[("SSH_AUTH_SOCK", agent.socket().as_os_str()), (SERVER, told.as_ref())]));
    None
}

#[test]
fn each_identity_is_tried() {
    let Some(target) = there(this_test!(each_identity_is_tried), Setup::openssh(), 5, Some(4)) else { return };
    gets_in(&target);
}

#[test]
fn no_more_are_tried_than_the_server_allows() {
    let setup = Setup::openssh().option("MaxAuthTries 3");
    let test = this_test!(no_more_are_tried_than_the_server_allows);
    let Some(target) = there(test, setup, 6, Some(5)) else { return };
    // The server hangs up at its limit: that is a matter of logging in, and not of the network.
    let said = is_kept_out(&target, SessionErrorKind::Auth);
    assert!(said.contains("agent"), "{said}");
}

#[test]
fn a_key_that_was_asked_for_comes_before_those_of_the_agent() {
    let server = Setup::openssh().option("MaxAuthTries 2").prepare();
    let agent = Agent::start(&keys(&server, 5));
    let test = this_test!(a_key_that_was_asked_for_comes_before_those_of_the_agent);
    if elsewhere(test, &[("SSH_AUTH_SOCK", agent.socket().as_os_str())]) {
        return;
    }
    server.start();
    gets_in(&SshTarget { credentials: vec![by_key(server.key()), Credential::Agent], ..target(&server) });
}

#[test]
fn none_of_its_identities_will_do() {
    let Some(target) = there(this_test!(none_of_its_identities_will_do), Setup::openssh(), 2, None) else { return };
    let said = is_kept_out(&target, SessionErrorKind::Auth);
    assert!(said.contains("agent"), "{said}");
}

#[test]
fn an_agent_that_is_not_there_is_passed_over() {
    let test = this_test!(an_agent_that_is_not_there_is_passed_over);
    if elsewhere(test, &[("SSH_AUTH_SOCK", "/nowhere/agent.sock".as_ref())]) {
        return;
    }
    let server = Setup::openssh().start();
    gets_in(&SshTarget { credentials: vec![Credential::Agent, by_key(server.key())], ..target(&server) });
    let alone = SshTarget { credentials: vec![Credential::Agent], ..target(&server) };
    let said = is_kept_out(&alone, SessionErrorKind::Auth);
    assert!(said.contains("agent"), "{said}");
}

#[test]
fn an_agent_that_never_answers_is_given_up() {
    let directory = tempfile::Builder::new().prefix("broker-agent-").tempdir_in("/tmp").unwrap();
    let socket = directory.path().join("agent.sock");
    let _silent = UnixListener::bind(&socket).unwrap();
    if elsewhere(this_test!(an_agent_that_never_answers_is_given_up), &[("SSH_AUTH_SOCK", socket.as_os_str())]) {
        return;
    }
    let server = Setup::openssh().start();
    let limits = SshLimits { handshake: Duration::from_secs(6), ..SshLimits::default() };
    let target = SshTarget { credentials: vec![Credential::Agent, by_key(server.key())], limits, ..target(&server) };
    gets_in(&target);
    let alone = SshTarget { credentials: vec![Credential::Agent], ..target };
    let said = is_kept_out(&alone, SessionErrorKind::Auth);
    assert!(said.contains("agent"), "{said}");
}
