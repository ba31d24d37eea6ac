//! Connections that break, and what follows.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use broker_core::session::ssh::{SshLimits, SshTarget, connect};
use broker_core::session::{Command, Output, SessionErrorKind};
use broker_core::{Host, Running, error_chain};
use broker_tests::conformance::session::{kind, noise, output};
use broker_tests::ssh::jail;
use broker_tests::ssh::provider::request;
use broker_tests::ssh::{Flow, Lab, Server, Setup, Wire};
use broker_tests::wait;

use crate::support::{self, block, target_at};

/// A host behind a wire.
fn wired(lab: &Lab, server: &Server) -> (Wire, broker_core::HostGuard) {
    let wire = Wire::to(server.address());
    let host = lab.host(request("wired", server, wire.address()));
    (wire, host)
}

async fn ready(host: &Host, line: &str) -> Running {
    let mut running = host.start(line).await.unwrap();
    let first = tokio::time::timeout(wait::SOON, running.next()).await.expect("no output came");
    assert_eq!(first, Some(Output::Stdout("ready\n".into())));
    running
}

#[track_caller]
fn is_broken(error: &broker_core::Error, host: &Host) {
    assert_eq!(kind(error), SessionErrorKind::Unreachable, "{}", error_chain(error));
    assert!(error_chain(error).contains(&host.label()), "{}", error_chain(error));
}

#[test]
fn a_server_that_is_killed_in_mid_command() {
    let server = Setup::openssh().start();
    let lab = Lab::new();
    let host = lab.server(&server);
    block(async {
        for _ in 0..3 {
            let running = ready(&host, "echo ready; exec sleep 1000").await;
            server.stop();
            let begun = Instant::now();
            let error = running.wait().await.unwrap_err();
            is_broken(&error, &host);
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
            let error = host.execute("true").await.unwrap_err();
            is_broken(&error, &host);
            // Back again: the next use connects.
            server.start();
            assert_eq!(output(&host, "echo works").await, "works\n");
        }
    });
}

#[test]
fn only_the_connection_is_killed() {
    let server = Setup::openssh().start();
    let lab = Lab::new();
    let host = lab.server(&server);
    block(async {
        let running = ready(&host, "echo ready; exec sleep 1000").await;
        server.drop_connections();
        is_broken(&running.wait().await.unwrap_err(), &host);
        assert_eq!(output(&host, "echo works").await, "works\n");
        // Also where nothing was running.
        server.drop_connections();
        wait::until_async("the end of the connection", async || server.connections() == 0).await;
        assert_eq!(output(&host, "echo works").await, "works\n");
    });
}

/// A connection over a wire that looks after itself every second.
async fn attentive(server: &Server, wire: &Wire) -> broker_core::session::ssh::Connected {
    let limits = SshLimits { keepalive: Duration::from_secs(1), ..SshLimits::default() };
    connect(&SshTarget { limits, ..target_at(server, wire.address()) }).await.unwrap()
}

#[test]
fn the_other_side_loses_its_power() {
    let server = Setup::openssh().start();
    let wire = Wire::to(server.address());
    block(async {
        let session = attentive(&server, &wire).await.session;
        assert_eq!(support::output(&*session, "echo in").await, "in\n");
        let running = support::run(&*session, "sleep 1000");
        let freezing = async {
            wait::until_async("the command", async || server.log().matches("Starting session").count() == 2).await;
            wire.set(Flow::Frozen);
            Instant::now()
        };
        let (outcome, frozen) = tokio::join!(running, freezing);
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), SessionErrorKind::Unreachable, "{}", error_chain(&error));
        // Three times a second in vain, and some for a busy machine.
        assert!(frozen.elapsed() > Duration::from_secs(2), "{:?}", frozen.elapsed());
        assert!(frozen.elapsed() < Duration::from_secs(20), "{:?}", frozen.elapsed());
        assert!(session.is_broken());
        support::run(&*session, "true").await.unwrap_err();
        tokio::time::timeout(Duration::from_secs(10), session.close()).await.expect("closing hangs");
    });
}

#[test]
fn the_other_side_loses_its_power_while_nothing_runs() {
    let server = Setup::openssh().start();
    let wire = Wire::to(server.address());
    block(async {
        let session = attentive(&server, &wire).await.session;
        // Looked after, it stays.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!session.is_broken());
        wire.set(Flow::Frozen);
        wait::until_async("it to be noticed", async || session.is_broken()).await;
        // Another one, in the middle of much input.
        wire.set(Flow::Delayed(Duration::ZERO));
        let session = attentive(&server, &wire).await.session;
        let (input, receiver) = tokio::sync::mpsc::channel(4);
        let (output, mut pieces) = tokio::sync::mpsc::channel(4);
        let command = Command::shell("cat > /dev/null");
        let streams = broker_core::session::Streams { input: Some(receiver), control: None, output };
        let feeding = async {
            let piece = broker_core::session::Input::Data(noise(1, 100_000).into());
            let mut count = 0;
            while input.send(piece.clone()).await.is_ok() {
                count += 1;
                if count == 30 {
                    wire.set(Flow::Frozen);
                }
            }
        };
        let draining = async { while pieces.recv().await.is_some() {} };
        let (outcome, (), ()) = tokio::join!(session.run(&command, streams), feeding, draining);
        assert_eq!(outcome.unwrap_err().kind(), SessionErrorKind::Unreachable);
    });
}

#[test]
fn a_deadline_passes_on_a_connection_that_is_frozen() {
    let server = Setup::openssh().start();
    let lab = Lab::new();
    let (wire, host) = wired(&lab, &server);
    block(async {
        assert_eq!(output(&host, "echo in").await, "in\n");
        wire.set(Flow::Frozen);
        let begun = Instant::now();
        let late = Command::shell("true").deadline(Duration::from_secs(1));
        let error = host.execute(late).await.unwrap_err();
        assert_eq!(kind(&error), SessionErrorKind::Timeout, "{}", error_chain(&error));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        wire.set(Flow::Delayed(Duration::ZERO));
        assert_eq!(output(&host, "echo again").await, "again\n");
    });
}

#[test]
fn a_command_is_never_run_twice() {
    let server = Setup::openssh().start();
    let lab = Lab::new();
    let (wire, host) = wired(&lab, &server);
    let file = server.directory().join("count");
    block(async {
        let mut sure = Vec::new();
        for turn in 0..40_u64 {
            let word = format!("turn-{turn}");
            let command = host.execute(format!("echo {word} >> '{}'; sleep 0.05", file.display()));
            let cutting = async {
                tokio::time::sleep(Duration::from_millis(turn * 3)).await;
                wire.set(Flow::Cut);
                wire.set(Flow::Delayed(Duration::ZERO));
            };
            let (outcome, ()) = tokio::join!(command, cutting);
            match outcome {
                Ok(done) => {
                    assert!(done.success());
                    sure.push(word);
                }
                // libssh2 takes a server that is cut off while keys are exchanged for one without the algorithms.
                Err(error) => assert!(
                    matches!(kind(&error), SessionErrorKind::Unreachable | SessionErrorKind::Unsupported),
                    "{}",
                    error_chain(&error)
                ),
            }
        }
        // Whatever is late has come by now.
        assert_eq!(output(&host, "sleep 0.5; echo works").await, "works\n");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        text.lines().for_each(|line| *counts.entry(line).or_default() += 1);
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
        assert!(sure.iter().all(|word| counts.contains_key(word.as_str())), "{sure:?}, {counts:?}");
        assert!(sure.len() < 40, "no cut came in time");
    });
    assert!(wire.made() > 1);
}

#[test]
fn a_transfer_that_is_cut_leaves_the_old_file() {
    let server = Setup::openssh().start();
    let lab = Lab::new();
    let (wire, host) = wired(&lab, &server);
    let place = server.directory().join("files");
    std::fs::create_dir(&place).unwrap();
    let here = server.directory().join("here");
    std::fs::write(&here, noise(3, 40_000_000)).unwrap();
    let there = place.join("file");
    block(async {
        host.write(there.display().to_string(), "old").await.unwrap();
        for delay in [10, 60, 150] {
            let cutting = async {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                wire.set(Flow::Cut);
                wire.set(Flow::Delayed(Duration::ZERO));
            };
            let (outcome, ()) = tokio::join!(host.put(&here, there.display().to_string()), cutting);
            let size = std::fs::metadata(&there).unwrap().len();
            match outcome {
                Ok(()) => assert_eq!(size, 40_000_000),
                Err(error) => {
                    is_broken(&error, &host);
                    assert!(size == 3 || size == 40_000_000, "{size} bytes");
                }
            }
        }
        host.put(&here, there.display().to_string()).await.unwrap();
        assert_eq!(std::fs::read(&there).unwrap().len(), 40_000_000);
    });
}

/// A stand-in for `sudo` that asks nobody anything, with which the jail's user can become root for some programs.
fn sudo(directory: &std::path::Path, programs: &str) {
    let own = std::process::Command::new("sh").args(["-c", "command -v setpriv"]).output().unwrap();
    let become_root = directory.join("become-root");
    std::fs::copy(String::from_utf8(own.stdout).unwrap().trim(), &become_root).unwrap();
    let script = format!(
        "#!/bin/sh\nwhile :; do case $1 in -n|--) shift ;; *) break ;; esac; done\n\
         case $1 in {programs}) exec '{}' --reuid=0 --regid=0 --clear-groups -- \"$@\" ;; esac\n\
         echo 'sudo: a password is required' >&2\nexit 1\n",
        become_root.display()
    );
    std::fs::write(directory.join("sudo"), script).unwrap();
    for (name, mode) in [("become-root", 0o4755), ("sudo", 0o755), ("", 0o755)] {
        std::fs::set_permissions(directory.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn a_deadline_ends_what_runs_as_root() {
    for (programs, can_end) in [("*", true), ("sleep", false)] {
        let programs_of_root = tempfile::tempdir().unwrap();
        sudo(programs_of_root.path(), programs);
        let path = format!("SetEnv PATH={}:/usr/bin:/bin", programs_of_root.path().display());
        let server = Setup::openssh().jailed().option(path).start();
        let lab = Lab::new();
        let host = lab.host(request("server", &server, server.address()).arg("user", jail::TESTER));
        block(async {
            let late = Command::shell("sudo -n sleep 1000; true").deadline(Duration::from_secs(1));
            let error = host.execute(late).await.unwrap_err();
            assert_eq!(kind(&error), SessionErrorKind::Timeout, "{}", error_chain(&error));
            let says = if can_end { "within 1s, and was ended" } else { "within 1s, and could not be ended" };
            assert!(error_chain(&error).contains(says), "{}", error_chain(&error));
            // The jail has processes of its own.
            let comms = output(&host, "cat /proc/[0-9]*/comm 2>/dev/null; true").await;
            assert_eq!(!comms.lines().any(|name| name == "sleep"), can_end, "{comms}");
        });
    }
}
