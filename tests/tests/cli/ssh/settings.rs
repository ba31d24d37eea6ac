//! The Python tool's `ssh` settings, and `~/.ssh/config`.

use std::fs;

use broker_tests::ssh::{Kind, Setup};

use super::Lab;

#[test]
fn the_port_and_the_user_are_those_of_the_settings() {
    let lab = Lab::new();
    // No port here: the setting's.
    lab.env.check_out("--test-ssh 127.0.0.1");
    let server = &lab.server;
    lab.env.write_settings(&format!(
        "ssh:\n  backend: hussh\n  host_username: {}\n  host_ssh_port: {}\n  host_ssh_key_filename: {}\n  \
         host_connection_timeout: 20\n",
        server.user(),
        server.port(),
        server.key().path().display()
    ));
    lab.env.broker("exec 0 -- true").passes_on(0);
    let outcome = lab.env.call("exec 0 -- true").env("BROKER_SSH__host_username", "no-such-user").run().exits(255);
    outcome.says("no-such-user");
}

#[test]
fn a_key_that_is_not_checked_is_said_once_and_loud() {
    let lab = Lab::new();
    lab.check_out("");
    let said = |rule: &str| {
        let outcome = lab.env.call("exec 0 -- true").env("BROKER_SSH__host_key_policy", rule).run().passes_on(0);
        outcome.stderr.matches("is not checked").count()
    };
    assert_eq!(said("insecure"), 1);
    assert_eq!(said("accept-new"), 0);
}

#[test]
fn an_alias_of_the_clients_settings_is_followed() {
    let lab = Lab::new();
    let (server, inner) = (&lab.server, Setup::openssh().start());
    let ssh = lab.env.root().join("home/.ssh");
    fs::create_dir_all(&ssh).unwrap();
    fs::write(ssh.join("known_hosts"), server.known_hosts_line(Kind::Ed25519) + &inner.known_hosts_line(Kind::Ed25519))
        .unwrap();
    let block = |name: &str, server: &broker_tests::ssh::Server| {
        format!(
            "Host {name}\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  IdentityFile {}\n",
            server.port(),
            server.user(),
            server.key().path().display()
        )
    };
    let text = format!("{}{}  ProxyJump lab-outer\n", block("lab-outer", server), block("lab-inner", &inner));
    fs::write(ssh.join("config"), text).unwrap();
    lab.env.write_settings("ssh: {}\n");
    lab.env.check_out("--test-ssh lab-outer");
    lab.env.check_out("--test-ssh lab-inner");
    let port = |number: u64| {
        let outcome = lab.env.broker(&format!("exec {number} -- 'echo $SSH_CONNECTION'")).ok();
        outcome.out().split_whitespace().last().map(str::to_owned)
    };
    assert_eq!(port(0), Some(server.port().to_string()));
    assert_eq!(port(1), Some(inner.port().to_string()));
    assert_eq!(server.log().matches("Accepted publickey").count(), 2, "{}", server.log());
}
