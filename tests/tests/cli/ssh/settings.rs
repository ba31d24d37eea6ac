//! The Python tool's `ssh` settings, and `~/.ssh/config`.

use std::fs;
use std::net::Ipv6Addr;
use std::process::Command;
use std::time::Duration;

use broker_tests::ssh::{Agent, Flow, Key, Kind, Setup, Wire};

use super::Lab;
use crate::support::Call;

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

#[test]
fn known_hosts_have_the_say_where_the_settings_are_strict() {
    let lab = Lab::new();
    lab.check_out("");
    let strict = |call: Call| call.env("BROKER_ssh__host_key_policy", "strict");
    let exec = || strict(lab.env.call("exec 0 -- true"));
    // The user's own file, which does not know the host.
    let own = lab.env.root().join("home/.ssh");
    fs::create_dir_all(&own).unwrap();
    let outcome = exec().run().exits(255);
    outcome.says(&format!("{}/known_hosts", own.display())).says("ssh-keyscan").says(&lab.server.port().to_string());
    // Written down as the message says, and hashed as Debian's client does it.
    fs::write(own.join("known_hosts"), lab.server.known_hosts_line(Kind::Ecdsa)).unwrap();
    exec().run().passes_on(0);
    let hash = Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(own.join("known_hosts")).output().unwrap();
    assert!(hash.status.success());
    assert!(fs::read_to_string(own.join("known_hosts")).unwrap().starts_with("|1|"));
    exec().run().passes_on(0);
    // Another file, from the Broker directory: it is the only one.
    let other = || exec().env("BROKER_ssh__known_hosts", "keys");
    other().run().exits(255).says(&lab.env.broker_path("keys").display().to_string());
    fs::write(lab.env.broker_path("keys"), lab.server.known_hosts_line(Kind::Ed25519)).unwrap();
    other().run().passes_on(0);
    // Another key.
    lab.server.stop();
    lab.server.change_host_keys();
    lab.server.start();
    other().run().exits(255).says("ssh-keygen -R").says(&lab.server.host_key_pair(Kind::Ed25519).fingerprint());
}

#[test]
fn insecure_is_loud() {
    let lab = Lab::new();
    lab.check_out("");
    let insecure = || lab.env.call("exec 0 -- true").env("BROKER_ssh__host_key_policy", "insecure").run();
    insecure().passes_on(0).says("warning").says("not checked");
    lab.server.stop();
    lab.server.change_host_keys();
    lab.server.start();
    insecure().passes_on(0).says("not checked");
    // Nothing was learned from that: what is seen now is what is believed.
    let quiet = lab.env.broker("exec 0 -- true").passes_on(0);
    assert!(!quiet.stderr.contains("not checked"), "{quiet}");
}

#[test]
fn a_jump_host_by_the_settings() {
    let lab = Lab::new();
    lab.check_out("");
    let gate = Setup::openssh().option("LogLevel DEBUG1").start();
    gate.authorize(lab.server.key());
    let through = |hosts: &str| lab.env.call("exec 0 -- 'echo in'").env("BROKER_ssh__jump_host", hosts).run();
    let at = format!("{}@{}", gate.user(), gate.address());
    assert_eq!(through(&at).passes_on(0).out(), "in\n");
    assert!(gate.log().contains(&format!("127.0.0.1 port {}", lab.server.port())), "{}", gate.log());
    gate.stop();
    through(&at).exits(255).says(&gate.port().to_string()).says("refuses");
    assert_eq!(through("none").passes_on(0).out(), "in\n");
}

#[test]
fn the_agent_is_asked_unless_the_settings_say_otherwise() {
    let lab = Lab::new();
    let agent = Agent::start([lab.server.key()]);
    lab.env.write_settings(&format!("ssh:\n  host_username: {}\n", lab.server.user()));
    lab.check_out("");
    let exec = || lab.env.call("exec 0 -- true").env("SSH_AUTH_SOCK", agent.socket());
    exec().run().passes_on(0);
    exec().env("BROKER_ssh__agent", "true").run().passes_on(0);
    let without = exec().env("BROKER_ssh__agent", "false").run().exits(255).says("password");
    assert!(!without.stderr.contains("agent ("), "{without}");
    let missing = lab.env.call("exec 0 -- true").run().exits(255);
    assert!(!lab.server.log().contains("Accepted password"), "{missing}");
}

#[test]
fn a_passphrase_is_looked_up_and_never_shown() {
    let lab = Lab::new();
    let key = Key::make(lab.env.work_path("locked"), Kind::Ed25519, "open sesame");
    lab.server.authorize(&key);
    lab.check_out("");
    let with = |passphrase: &str| {
        lab.env.write_settings(&format!(
            "ssh:\n  host_username: {}\n  host_ssh_key_filename: {}\n  host_ssh_key_passphrase: {passphrase}\n",
            lab.server.user(),
            key.path().display()
        ));
        lab.env.call("exec 0 -- true").env("KEY_PASSPHRASE", "open sesame").run()
    };
    fs::write(lab.env.broker_path("passphrase"), "open sesame\n").unwrap();
    for passphrase in ["open sesame", "{env: KEY_PASSPHRASE}", "{file: passphrase}", "{command: [echo, open sesame]}"] {
        with(passphrase).passes_on(0);
    }
    let wrong = with("hunter2").exits(255).says("passphrase").says(&key.path().display().to_string());
    assert!(!wrong.stderr.contains("hunter2"), "{wrong}");
    with("''").exits(255).says("locked");
}

#[test]
fn a_server_at_an_ipv6_address() {
    let lab = Lab::of(Setup::openssh().jailed_where_possible().listens_at(Ipv6Addr::LOCALHOST));
    lab.check_out("");
    let ends = lab.env.broker("exec 0 -- 'echo $SSH_CONNECTION'").passes_on(0);
    assert!(ends.out().starts_with("::1 "), "{ends}");
    lab.env.write("file", "text");
    lab.env.broker("cp file 0:file").ok();
    assert_eq!(lab.env.broker("exec 0 -- cat file").passes_on(0).out(), "text");
    lab.server.stop();
    lab.env.broker("exec 0 -- true").exits(255).says(&format!("[::1]:{}", lab.server.port()));
}

#[test]
fn a_frozen_connection_is_found_dead_after_the_settings_keepalive() {
    let lab = Lab::new();
    let wire = Wire::to(lab.server.address());
    lab.env.check_out(&format!("--test-ssh {}", wire.address()));
    let running = lab.env.call("exec 0 -- 'echo ready; exec sleep 1000'").env("BROKER_ssh__keepalive", "2s").start();
    broker_tests::wait::until("the command", || lab.server.log().contains("Starting session"));
    wire.set(Flow::Frozen);
    // By default it would take more than a minute.
    running.finish().exits(255).within(Duration::from_secs(40));
}
