//! Waiting for hosts, and asking them what they are.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use broker_core::session::SessionErrorKind;
use broker_core::{Error, HostGuard, OsRelease, error_chain};
use broker_tests::conformance::session::{kind, output};
use broker_tests::engines::Engine;
use broker_tests::ssh::provider::bare_request;
use broker_tests::ssh::server::free_port;
use broker_tests::ssh::{ContainerHost, Lab, Setup, Wire};
use broker_tests::wait::{self, SOON};
use serde_json::json;

use crate::support::block;

const SHORT: Duration = Duration::from_millis(300);

/// It was waited for in vain, and all of these are said about that.
#[track_caller]
fn in_vain(outcome: broker_core::Result<()>, says: &[&str]) {
    let error = outcome.unwrap_err();
    let text = error_chain(&error);
    assert!(matches!(error, Error::Waited { .. }), "{text}");
    assert!(says.iter().all(|word| text.contains(word)), "{says:?}: {text}");
}

#[test]
fn a_port_is_waited_for() {
    let server = Setup::openssh().start();
    let lab = Lab::new();
    let host = lab.server(&server);
    block(async {
        host.wait_for_port(server.port(), SOON).await.unwrap();
        let port = free_port();
        in_vain(host.wait_for_port(port, SHORT).await, &[&port.to_string(), &host.label(), "300ms"]);
        let listening = async {
            tokio::time::sleep(SHORT).await;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap()
        };
        let (waited, _listener) = tokio::join!(host.wait_for_port(port, SOON), listening);
        waited.unwrap();
    });
}

#[test]
fn a_command_is_waited_for() {
    let server = Setup::openssh().prepare();
    let lab = Lab::new();
    let host = lab.server(&server);
    let sign = server.directory().join("sign");
    let command = ["test", "-e", sign.to_str().unwrap()];
    block(async {
        // Neither the server nor the file is there; then the server is.
        in_vain(host.wait_until(command, SHORT).await, &["test -e", &host.label(), "300ms"]);
        server.start();
        in_vain(host.wait_until(command, Duration::from_secs(2)).await, &["test -e", &host.label(), "2s"]);
        let coming = async {
            tokio::time::sleep(SHORT).await;
            std::fs::write(&sign, "").unwrap();
        };
        let (waited, ()) = tokio::join!(host.wait_until(command, SOON), coming);
        waited.unwrap();
        // One that does not come to an end holds nobody up beyond the limit, and is ended.
        in_vain(host.wait_until("exec sleep 4545", Duration::from_secs(1)).await, &["sleep 4545"]);
        let runs = "ps -eo args | while read -r line; do test \"$line\" = 'sleep 4545' && echo runs; done; true";
        wait::until_async("its end", async || output(&host, runs).await.is_empty()).await;
    });
}

#[test]
fn what_runs_there_is_told() {
    let server = Setup::openssh().start();
    let lab = Lab::new();
    let host = lab.server(&server);
    let own = ["/etc/os-release", "/usr/lib/os-release"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    let told = block(host.os_release()).unwrap();
    assert_eq!(told, OsRelease::parse(&std::fs::read_to_string(own).unwrap()));
    assert!(!told.fields.is_empty());
}

/// A container that is a machine for whoever comes by SSH, and a wire that leads to it. Its `reboot` runs a line, and then
/// everything in it ends.
fn machine(reboot: &str) -> (ContainerHost, Wire) {
    let engine = Engine::all().into_iter().next().expect("there is no container engine");
    let prepare = format!(
        "cat > /usr/local/bin/reboot <<'end'\n#!/bin/sh\n{reboot}\nkill -KILL $(cat /proc/1/task/1/children)\nend\n\
         chmod 755 /usr/local/bin/reboot\nid tester >&2 || useradd --create-home --shell /bin/bash tester\n\
         echo tester:toor | chpasswd"
    );
    let container = ContainerHost::start(&engine, "debian", &prepare, &json!({"AutoRemove": false}));
    let wire = Wire::to(container.address());
    (container, wire)
}

fn log_in(lab: &Lab, wire: &Wire, user: &str) -> HostGuard {
    lab.host(bare_request("machine", wire.address()).arg("user", user).arg("password", "toor"))
}

/// Starts a machine again as soon as it is down.
fn boot(container: &mut ContainerHost, wire: &Wire) {
    wait::until("the machine to go down", || !container.is_running());
    container.start_again();
    wire.lead_to(container.address());
}

#[test]
fn a_machine_that_reboots_is_waited_for() {
    let (mut container, wire) = machine("echo >> /rebooted");
    let lab = Lab::new();
    // Not everybody may.
    let tester = log_in(&lab, &wire, "tester");
    let error = block(tester.reboot_and_wait(SOON)).unwrap_err();
    assert!(matches!(error, Error::Command { .. }), "{}", error_chain(&error));
    assert!(container.is_running());

    let root = log_in(&lab, &wire, "root");
    std::thread::scope(|scope| {
        scope.spawn(|| boot(&mut container, &wire));
        block(root.reboot_and_wait(Duration::from_secs(120))).unwrap();
    });
    // It was rebooted once, and is up.
    assert_eq!(block(output(&root, "wc -l < /rebooted")).trim(), "1");
}

#[test]
fn another_machine_after_a_reboot_is_said_at_once() {
    let (mut container, wire) = machine("rm /etc/ssh/ssh_host_*");
    let lab = Lab::new();
    let host = log_in(&lab, &wire, "root");
    std::thread::scope(|scope| {
        scope.spawn(|| boot(&mut container, &wire));
        let error = block(host.reboot_and_wait(Duration::from_secs(120))).unwrap_err();
        assert_eq!(kind(&error), SessionErrorKind::HostKey, "{}", error_chain(&error));
    });
}

#[test]
fn a_machine_that_does_not_come_back_is_given_up() {
    let limit = Duration::from_secs(4);
    let (container, wire) = machine("");
    let lab = Lab::new();
    let host = log_in(&lab, &wire, "root");
    block(output(&host, "true"));
    in_vain(block(host.reboot_and_wait(limit)), &["the return of host", &host.label(), "last: ", "4s"]);
    assert!(!container.is_running());
    // Nor does one that never goes down count as back.
    let (_container, wire) = machine("exit");
    let host = log_in(&lab, &wire, "root");
    in_vain(block(host.reboot_and_wait(limit)), &["the return of host", &host.label(), "4s"]);
}
