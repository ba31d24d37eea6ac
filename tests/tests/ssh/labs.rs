//! The servers themselves, tried with OpenSSH's clients: what fails here is no fault of Broker's.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use broker_tests::engines::Engine;
use broker_tests::ssh::jail::{PASSWORD, TESTER};
use broker_tests::ssh::{Agent, ContainerHost, Flow, Key, Kind, Setup, Wire};
use broker_tests::wait;
use serde_json::json;

#[track_caller]
fn works(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} works");
    output
}

#[test]
fn sshd_lets_in_by_key_and_ends_with_all_it_started() {
    let server = Setup::openssh().start();
    assert_eq!(works(server.client("ssh").args(["lab", "echo works"])), "works\n");
    std::fs::write(server.directory().join("batch"), "pwd\n").unwrap();
    works(server.client("sftp").arg("-b").arg(server.directory().join("batch")).arg("lab"));
    wait::until("the end of those before", || server.connections() == 0);
    let begun = server.directory().join("begun");
    let line = format!("touch '{}'; sleep 1000", begun.display());
    let mut running = server.client("ssh").args(["lab", &line]).spawn().unwrap();
    wait::until("the command", || begun.exists());
    server.drop_connections();
    assert!(!running.wait().unwrap().success());
    assert_eq!(works(server.client("ssh").args(["lab", "echo again"])), "again\n");
    let address = server.address();
    server.stop();
    fails(server.client("ssh").args(["lab", "true"]));
    server.change_host_keys();
    server.start();
    assert_eq!(server.address(), address);
    works(server.client("ssh").args(["lab", "true"]));
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}

/// `ssh` with a password: it asks a program for it where there is no terminal.
fn with_password(mut ssh: Command, directory: &Path, password: &str) -> Command {
    let ask = directory.join("ask");
    std::fs::write(&ask, "#!/bin/sh\nprintf '%s\\n' \"$ANSWER\"\n").unwrap();
    works(Command::new("chmod").arg("755").arg(&ask));
    ssh.args(["-o", "BatchMode=no", "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]);
    ssh.env("SSH_ASKPASS", &ask).env("SSH_ASKPASS_REQUIRE", "force").env("ANSWER", password);
    ssh
}

#[test]
fn a_jail_has_users_of_its_own() {
    for method in ["PasswordAuthentication yes", "KbdInteractiveAuthentication yes"] {
        let server = Setup::openssh().jailed().option(method).start();
        let home = works(server.client("ssh").args(["lab", "cd && pwd"]));
        assert_eq!(home.trim(), server.jail().home("root").display().to_string());
        assert_eq!(works(server.client("ssh").args(["-l", TESTER, "lab", "id -un"])), format!("{TESTER}\n"));
        let with = |password: &str| {
            let mut ssh = with_password(server.client("ssh"), server.directory(), password);
            ssh.args(["-l", TESTER, "lab", "id -un"]);
            ssh
        };
        assert_eq!(works(&mut with(PASSWORD)), format!("{TESTER}\n"), "{method}");
        fails(&mut with("wrong"));
    }
}

#[test]
fn dropbear_lets_in_by_key() {
    let server = Setup::dropbear().host_keys(&[Kind::Ed25519, Kind::Rsa]).start();
    assert_eq!(works(server.client("ssh").args(["lab", "echo works"])), "works\n");
    server.stop();
    fails(server.client("ssh").args(["lab", "true"]));
}

#[test]
fn containers_have_servers_too() {
    for engine in Engine::all() {
        for name in ["debian", "dropbear"] {
            let host = ContainerHost::start(&engine, name, "", &json!({}));
            let address = host.address();
            let directory = tempfile::tempdir().unwrap();
            let mut ssh = with_password(Command::new("ssh"), directory.path(), "toor");
            ssh.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
            ssh.args(["-p", &address.port().to_string(), "root@127.0.0.1", "echo works"]);
            assert_eq!(works(&mut ssh), "works\n", "{name} in {}", engine.name);
            drop(host);
            wait::until("the end of the container", || TcpStream::connect(address).is_err());
        }
    }
}

#[test]
fn an_agent_holds_keys() {
    let directory = tempfile::tempdir().unwrap();
    let keys = Kind::ALL.map(|kind| Key::make(directory.path().join(kind.name()), kind, ""));
    let agent = Agent::start(&keys);
    let listed = works(Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", agent.socket()));
    let fingerprints: Vec<_> = listed.lines().map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect();
    assert_eq!(fingerprints, keys.map(|key| key.fingerprint()));
}

#[test]
fn a_wire_delays_freezes_and_cuts() {
    let server = Setup::openssh().start();
    let delay = Duration::from_millis(100);
    let wire = Wire::delayed(server.address(), delay);
    let ssh = |command: &str| {
        let mut ssh = server.client_at("ssh", wire.address());
        ssh.args(["lab", command]);
        ssh
    };
    let begun = Instant::now();
    assert_eq!(works(&mut ssh("echo works")), "works\n");
    // At least the greeting, the keys, the login and the command go there and back.
    assert!(begun.elapsed() > 8 * delay, "{:?}", begun.elapsed());
    // Much gets through as fast as ever.
    let begun = Instant::now();
    assert_eq!(works(&mut ssh("head -c 5000000 /dev/zero | tr '\\0' x")).len(), 5_000_000);
    assert!(begun.elapsed() < wait::SOON);

    let mut running = ssh("echo ready; read line; echo got").stdin(std::process::Stdio::piped()).spawn().unwrap();
    wait::until("the connection", || server.log().matches("Starting session").count() == 3);
    wire.set(Flow::Frozen);
    drop(running.stdin.take());
    std::thread::sleep(Duration::from_millis(500));
    assert!(running.try_wait().unwrap().is_none(), "something got through");
    wire.set(Flow::Cut);
    assert!(!running.wait().unwrap().success());
    fails(&mut ssh("true"));
    wire.set(Flow::Delayed(Duration::ZERO));
    works(&mut ssh("true"));
}

#[test]
fn servers_end_with_the_process_that_started_them() {
    const CHILD: &str = "BROKER_TESTS_SERVER_LOG";
    if let Some(told) = std::env::var_os(CHILD) {
        // Killed in a while.
        let server = Setup::openssh().start();
        std::fs::write(told, server.address().to_string()).unwrap();
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let told = directory.path().join("address");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["labs::servers_end_with_the_process_that_started_them", "--exact"])
        .env(CHILD, &told)
        .env("TMPDIR", directory.path())
        .spawn()
        .unwrap();
    let address = || std::fs::read_to_string(&told).unwrap_or_default();
    wait::until("the server", || !address().is_empty());
    let address = address();
    TcpStream::connect(&address).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    wait::until("the end of the server", || TcpStream::connect(&address).is_err());
}
