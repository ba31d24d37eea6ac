//! What section `ssh` of the settings says, put to the test at servers.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use broker_core::session::SessionErrorKind;
use broker_core::{HostGuard, HostRequest, error_chain};
use broker_tests::conformance::session::{kind, output};
use broker_tests::ssh::provider::bare_request;
use broker_tests::ssh::{Flow, HOST_ACTION, Key, Kind, Lab, Server, Setup, Wire};
use broker_tests::wait;

use crate::support::{block, this_test, where_names_are};

/// A broker with settings, lines of YAML below `ssh`. What they do not say is as the server needs it.
fn lab(server: &Server, settings: &str) -> Lab {
    let usual = [
        ("backend", broker_tests::ssh::backend()),
        ("boot_patience", "0".to_owned()),
        ("agent", "false".to_owned()),
        ("config", "false".to_owned()),
        ("host_username", server.user()),
        ("host_ssh_key_filename", server.key().path().display().to_string()),
    ];
    let is_said = |key: &str| settings.lines().any(|line| line.starts_with(&format!("  {key}:")));
    let rest: String =
        usual.iter().filter(|(key, _)| !is_said(key)).map(|(key, value)| format!("  {key}: {value}\n")).collect();
    Lab::with_settings(&format!("ssh:\n{rest}{settings}"))
}

/// The server's host, of which nothing is known but where it is.
fn host(lab: &Lab, server: &Server) -> HostGuard {
    lab.host(bare_request("lab-host", server.address()))
}

/// Gets in, and returns the two ends of the connection as the server sees them.
#[track_caller]
fn gets_in(host: &HostGuard) -> String {
    block(output(host, "echo $SSH_CONNECTION"))
}

/// Does not get in, for this kind of reason. Returns what is said about it.
#[track_caller]
fn is_kept_out(host: &HostGuard, reason: SessionErrorKind) -> String {
    let error = block(host.execute("true")).expect_err("it gets in");
    assert_eq!(kind(&error), reason, "{}", error_chain(&error));
    error_chain(&error)
}

/// A server that says in its log what goes through it, and lets in whoever comes with the key of another one.
fn gate(of: &Server) -> Server {
    let gate = Setup::openssh().option("LogLevel DEBUG1").start();
    gate.authorize(of.key());
    gate
}

fn at(server: &Server) -> String {
    format!("{}@{}", server.user(), server.address())
}

fn led_through(gate: &Server, to: SocketAddr) -> bool {
    let log = gate.log();
    log.contains("direct-tcpip") && log.contains(&format!("{} port {}", to.ip(), to.port()))
}

#[test]
fn jump_host() {
    let server = Setup::openssh().start();
    let (first, second) = (gate(&server), gate(&server));
    gets_in(&host(&lab(&server, &format!("  jump_host: {}\n", at(&first))), &server));
    assert!(led_through(&first, server.address()), "{}", first.log());
    assert!(second.log().matches("Accepted").count() == 0, "{}", second.log());
    // One after the other, as a list and as a line.
    for hosts in [format!("[{}, '{}']", at(&first), at(&second)), format!("'{},{}'", at(&first), at(&second))] {
        gets_in(&host(&lab(&server, &format!("  jump_host: {hosts}\n")), &server));
    }
    assert!(led_through(&first, second.address()) && led_through(&second, server.address()), "{}", second.log());
    // One that is not there.
    second.stop();
    let said = is_kept_out(
        &host(&lab(&server, &format!("  jump_host: {}\n", at(&second))), &server),
        SessionErrorKind::Unreachable,
    );
    assert!(said.contains(&second.port().to_string()) && said.contains("refuses"), "{said}");
}

#[test]
fn jump_host_none_goes_straight() {
    let (server, gone) = (Setup::openssh().start(), Setup::openssh().prepare());
    let config = server.directory().join("config");
    // By another name than the server's, since a host is not reached through itself.
    std::fs::write(&config, format!("Host *\n  ProxyJump {}\n", at(&gone).replace("127.0.0.1", "localhost"))).unwrap();
    let config = format!("  config: {}\n", config.display());
    let said = is_kept_out(&host(&lab(&server, &config), &server), SessionErrorKind::Unreachable);
    assert!(said.contains(&gone.port().to_string()), "{said}");
    gets_in(&host(&lab(&server, &(config + "  jump_host: none\n")), &server));
}

/// A file with lines of `known_hosts`.
fn known_hosts(server: &Server, name: &str, lines: &str) -> PathBuf {
    let path = server.directory().join(name);
    std::fs::write(&path, lines).unwrap();
    path
}

fn strict(files: &[&Path]) -> String {
    let files: Vec<String> = files.iter().map(|file| format!("'{}'", file.display())).collect();
    format!("  host_key_policy: strict\n  known_hosts: [{}]\n", files.join(", "))
}

#[test]
fn host_key_policy_strict() {
    let server = Setup::openssh().start();
    let missing = server.directory().join("missing");
    let plain = known_hosts(&server, "plain", &server.known_hosts_line(Kind::Ecdsa));
    let hashed = known_hosts(&server, "hashed", &server.known_hosts_line(Kind::Ed25519));
    assert!(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&hashed).output().unwrap().status.success());
    assert!(std::fs::read_to_string(&hashed).unwrap().starts_with("|1|"));
    for files in [[missing.as_path(), plain.as_path()], [hashed.as_path(), missing.as_path()]] {
        let lab = lab(&server, &strict(&files));
        let host = host(&lab, &server);
        gets_in(&host);
        // The files have the say, and nothing else is believed from now on.
        assert_eq!(host.record().ssh_host_key, None);
    }
    let before = server.log().len();
    let empty = known_hosts(&server, "empty", "# nothing\n");
    for (files, says) in [(vec![empty.as_path()], "ssh-keyscan"), (vec![missing.as_path()], "is not in")] {
        let said = is_kept_out(&host(&lab(&server, &strict(&files)), &server), SessionErrorKind::HostKey);
        assert!(said.contains(says) && said.contains(&files[0].display().to_string()), "{said}");
        assert!(said.contains(&server.port().to_string()), "{said}");
    }
    let strict_lab = lab(&server, &strict(&[&plain]));
    let host = host(&strict_lab, &server);
    server.stop();
    server.change_host_keys();
    server.start();
    let said = is_kept_out(&host, SessionErrorKind::HostKey);
    assert!(said.contains(&format!("{}:1", plain.display())) && said.contains("ssh-keygen -R"), "{said}");
    // Nobody was told who wants to come in.
    let log = server.log();
    assert!(!log[before..].contains("publickey"), "{log}");
}

#[test]
fn host_key_policy_strict_holds_for_jump_hosts() {
    let server = Setup::openssh().start();
    let gate = gate(&server);
    let jump = format!("  jump_host: {}\n", at(&gate));
    let own = known_hosts(&server, "own", &server.known_hosts_line(Kind::Ed25519));
    let said = is_kept_out(&host(&lab(&server, &(strict(&[&own]) + &jump)), &server), SessionErrorKind::HostKey);
    assert!(said.contains(&gate.port().to_string()), "{said}");
    let gates = known_hosts(&server, "gates", &gate.known_hosts_line(Kind::Ed25519));
    gets_in(&host(&lab(&server, &(strict(&[&own, &gates]) + &jump)), &server));
    // And for what is behind one.
    let said = is_kept_out(&host(&lab(&server, &(strict(&[&gates]) + &jump)), &server), SessionErrorKind::HostKey);
    assert!(said.contains(&server.port().to_string()), "{said}");
}

#[test]
fn host_key_policy_insecure() {
    let server = Setup::openssh().start();
    let lab = lab(&server, "  host_key_policy: insecure\n");
    let host = host(&lab, &server);
    for _ in 0..2 {
        gets_in(&host);
        assert_eq!(host.record().ssh_host_key, None);
        server.stop();
        server.change_host_keys();
        server.start();
        // The connection before was to the other machine.
        wait::until("the old connection to be found dead", || block(host.execute("true")).is_ok());
    }
}

#[test]
fn host_ssh_key_passphrase() {
    let server = Setup::openssh().start();
    let locked = Key::make(server.directory().join("locked"), Kind::Ed25519, "pass phrase's \"$x\"");
    server.authorize(&locked);
    let with = |more: &str| lab(&server, &format!("  host_ssh_key_filename: {}\n{more}", locked.path().display()));
    gets_in(&host(&with("  host_ssh_key_passphrase: \"pass phrase's \\\"$x\\\"\"\n"), &server));
    let said = is_kept_out(&host(&with("  host_ssh_key_passphrase: hunter2\n"), &server), SessionErrorKind::Auth);
    assert!(said.contains("does not open it") && !said.contains("hunter2"), "{said}");
    let said = is_kept_out(&host(&with(""), &server), SessionErrorKind::Auth);
    assert!(said.contains("locked") && said.contains(&locked.path().display().to_string()), "{said}");
}

#[test]
fn host_ipv6() {
    let test = this_test!(host_ipv6);
    if where_names_are(test, "127.0.0.1 both-kinds\n::1 both-kinds\n127.0.0.1 one-kind\n::1 other-kind\n") {
        return;
    }
    let four = Setup::openssh().start();
    let six = Setup::openssh().listens_at(Ipv6Addr::LOCALHOST).start();
    let host = |server: &Server, name: &str, settings: &str| {
        let lab = lab(server, settings);
        let request = HostRequest::action(HOST_ACTION, "lab-host").arg("address", name);
        let host = lab.host(request.arg("port", server.port().to_string()));
        (host, lab)
    };
    let over = |server: &Server, name: &str, settings: &str| {
        let ends = gets_in(&host(server, name, settings).0);
        if ends.starts_with("::1 ") { 6 } else { 4 }
    };
    let refuses = |server: &Server, name: &str, settings: &str| {
        is_kept_out(&host(server, name, settings).0, SessionErrorKind::Unreachable)
    };
    let (yes, no, only) =
        ("  host_ipv6: true\n", "  host_ipv6: false\n", "  host_ipv6: true\n  host_ipv4_fallback: false\n");
    assert_eq!(over(&six, "both-kinds", yes), 6);
    assert_eq!(over(&six, "both-kinds", only), 6);
    assert_eq!(over(&four, "both-kinds", yes), 4);
    for settings in ["", no] {
        assert_eq!(over(&four, "both-kinds", settings), 4);
        let said = refuses(&six, "both-kinds", settings);
        assert!(said.contains("127.0.0.1") && !said.contains("::1"), "{said}");
        // There is no other way to this one.
        assert_eq!(over(&six, "other-kind", settings), 6);
    }
    let said = refuses(&four, "both-kinds", only);
    assert!(said.contains("[::1]") && !said.contains("127.0.0.1"), "{said}");
    let said = refuses(&four, "one-kind", only);
    assert!(said.contains("has no IPv6 address"), "{said}");
}

#[test]
fn ipv6_addresses_are_written_with_brackets_everywhere() {
    let server = Setup::openssh().listens_at(Ipv6Addr::LOCALHOST).start();
    let gate = Setup::openssh().listens_at(Ipv6Addr::LOCALHOST).option("LogLevel DEBUG1").start();
    gate.authorize(server.key());
    let lines = server.known_hosts_line(Kind::Ed25519) + &gate.known_hosts_line(Kind::Ed25519);
    let known = known_hosts(&server, "known", &lines);
    let lab = lab(&server, &format!("  jump_host: '{}'\n{}", at(&gate), strict(&[&known])));
    let host = host(&lab, &server);
    gets_in(&host);
    assert!(led_through(&gate, server.address()), "{}", gate.log());
    block(host.wait_for_port(server.port(), wait::SOON)).unwrap();
}

#[test]
fn keepalive() {
    let server = Setup::openssh().start();
    let wire = Wire::to(server.address());
    // The one that is not set would need more than a minute.
    let lab = lab(&server, "  keepalive: 2s\n");
    let host = lab.host(bare_request("lab-host", wire.address()));
    block(async {
        let mut running = host.start("echo ready; exec sleep 1000").await.unwrap();
        running.next().await.unwrap();
        wire.set(Flow::Frozen);
        let begun = Instant::now();
        let error = running.wait().await.unwrap_err();
        assert_eq!(kind(&error), SessionErrorKind::Unreachable, "{}", error_chain(&error));
        assert!(begun.elapsed() < wait::SOON, "{:?}", begun.elapsed());
    });
}

#[test]
fn host_connection_timeout() {
    let server = Setup::openssh().start();
    let wire = Wire::to(server.address());
    wire.set(Flow::Frozen);
    let lab = lab(&server, "  host_connection_timeout: 1\n");
    let host = lab.host(bare_request("lab-host", wire.address()));
    let begun = Instant::now();
    let error = block(host.execute("true")).unwrap_err();
    assert!([SessionErrorKind::Unreachable, SessionErrorKind::Timeout].contains(&kind(&error)), "{error:?}");
    assert!(error_chain(&error).contains("1s"), "{}", error_chain(&error));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn a_provider_has_settings_of_its_own() {
    let server = Setup::openssh().start();
    let general = "  host_username: nobody-here\n";
    let own = format!("Servers:\n  ssh:\n    host_username: {}\n", server.user());
    gets_in(&host(&lab(&server, &format!("{general}{own}")), &server));
    let said = is_kept_out(&host(&lab(&server, general), &server), SessionErrorKind::Auth);
    assert!(said.contains("nobody-here"), "{said}");
}
