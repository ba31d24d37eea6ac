//! Guardians as processes: which program, what it is told, when it starts and ends, and what becomes of it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use broker::prelude::*;
use broker_tests::conformance::current_thread;
use broker_tests::wait::until;
use rustix::process::{Pid, Signal, getsid, kill_process};

use crate::support::{LONG, Watcher, broker_of, holder, name_of, request};

const CUSTOM: &str = env!("CARGO_BIN_EXE_custom-broker");

/// A script in the place of a guardian.
fn script(watcher: &Watcher, text: &str) -> std::path::PathBuf {
    let path = watcher.env.write("bin/broker", format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// It is there from the first guard on, apart from its owner's group and terminal, and ends with the last host at the
/// owner's end, or at once where nothing is held.
#[test]
fn a_guardian_comes_and_goes() {
    if let Some(holder) = holder() {
        let broker = holder.broker();
        drop(current_thread().block_on(broker.inventory()).unwrap());
        holder.sign("begun");
        holder.await_sign("go");
        let guard = holder.checkout(request());
        holder.sign("held");
        holder.await_sign("on");
        drop(guard);
        holder.sign("free");
        holder.await_sign("out");
        return;
    }
    let watcher = Watcher::new(name_of!(a_guardian_comes_and_goes));
    let holder = watcher.start("comes and goes");
    watcher.await_sign("begun");
    assert!(watcher.guardians().is_empty(), "nothing is guarded yet");
    watcher.sign("go");
    watcher.await_sign("held");
    let guardians = watcher.guardians();
    assert_eq!(guardians.len(), 1);
    assert_eq!(getsid(Some(guardians[0])).unwrap(), guardians[0]);
    watcher.sign("on");
    watcher.await_sign("free");
    assert_eq!(watcher.guardians(), guardians);
    watcher.sign("out");
    holder.wait().ok();
    let begun = Instant::now();
    watcher.all_is_settled();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// It costs next to nothing, and holds nothing open that its owner had open: somebody may wait for the end of that.
#[test]
fn a_guardian_is_small_and_holds_nothing_open() {
    if let Some(holder) = holder() {
        // A descriptor that every program inherits.
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let _guard = holder.checkout(request());
        drop(writer);
        // The end of the pipe comes, which it would not if somebody else had it open.
        assert_eq!(rustix::io::read(&reader, &mut [0_u8; 1]).unwrap(), 0);
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(a_guardian_is_small_and_holds_nothing_open));
    let holder = watcher.start_ready("holds");
    let guardian = watcher.guardians()[0].as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{guardian}/status")).unwrap();
    let figure = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    assert!(figure("Threads:") <= 3, "{status}");
    // An unoptimised build is several times as large as what people use.
    assert!(figure("RssAnon:") < 15 * 1024, "{status}");
    holder.kill();
    watcher.all_is_settled();
}

/// What is secret goes through the pipe alone: not to the guardian's arguments or environment, and not to the disk.
#[test]
fn a_guardian_keeps_secrets() {
    const SECRET: &str = "tell-nobody-of-this";

    if let Some(holder) = holder() {
        let _guard = holder.checkout(request());
        holder.wait_for_the_end();
    }
    let mut watcher = Watcher::new(name_of!(a_guardian_keeps_secrets));
    watcher.env.set("BROKER_TestProvider__foo", "visible");
    watcher.env.set("BROKER_TestProvider__api_token", SECRET);
    watcher.env.set("BROKER_logging__file_level", "trace");
    let holder = watcher.start_ready("holds");
    let guardian = watcher.guardians()[0].as_raw_nonzero();
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{guardian}/{file}")).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{file}");
    }
    holder.kill();
    watcher.all_is_settled();
    let found = std::process::Command::new("grep").arg("-rl").arg(SECRET).arg(watcher.env.root()).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
}

/// The settings that the program gives are the guardian's too, with the instances that they name.
#[test]
fn a_guardian_has_its_owners_settings() {
    if let Some(holder) = holder() {
        let settings = broker_core::settings::Settings::builder()
            .set("TestProvider.instances.one.directory", holder.path("one").to_str().unwrap())
            .set("TestProvider.instances.two.directory", holder.path("two").to_str().unwrap())
            .build();
        let broker = Broker::builder().settings(settings.unwrap().settings).build().unwrap();
        let checkout = |name: &str| current_thread().block_on(broker.checkout(request().instance(name))).unwrap();
        let _guards = [checkout("one"), checkout("two")];
        holder.wait_for_the_end();
    }
    let mut watcher = Watcher::new(name_of!(a_guardian_has_its_owners_settings));
    watcher.env.unset("BROKER_TEST_PROVIDER_DIR");
    let holder = watcher.start_ready("holds");
    let files = |name: &str| {
        let names = fs::read_dir(watcher.path(name)).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().len() == "0123456789abcdef0123456789abcdef.json".len()).count()
    };
    assert_eq!((files("one"), files("two")), (1, 1));
    holder.kill();
    watcher.all_is_settled();
    assert_eq!((files("one"), files("two")), (0, 0));
}

/// A provider of one's own needs a `broker` of one's own, and any other says so.
#[test]
fn a_custom_provider_needs_a_custom_guardian() {
    if let Some(holder) = holder() {
        let builder = Broker::builder().provider(broker_tests::lab::factory());
        let builder = if holder.role == "custom" { builder.guardian(CUSTOM) } else { builder };
        let broker = builder.build().unwrap();
        let machine = HostRequest::action("lab_machine", "anvil");
        let _guards = current_thread().block_on(broker.checkout_many(machine.count(2))).unwrap();
        let _usual = current_thread().block_on(broker.checkout(request())).unwrap();
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(a_custom_provider_needs_a_custom_guardian));
    let holder = watcher.start_ready("custom");
    assert_eq!(watcher.hosts().len(), 3);
    assert_eq!(holder.said(), "");
    holder.kill();
    watcher.all_is_settled();

    let holder = watcher.start_ready("usual");
    let ended = holder.kill();
    assert_eq!(ended.said.matches("does not have provider `Lab`").count(), 1, "{}", ended.said);
    assert!(ended.said.contains("Broker::builder().guardian"), "{}", ended.said);
    // What it can serve is settled, and for the rest it does not stay.
    until("the guardian to go", || watcher.guardians().is_empty());
    assert_eq!(watcher.hosts().len(), 2);
    assert!(watcher.records().iter().all(|record| record.provider == "Lab"));
    let checkin = watcher.env.command(CUSTOM).args(["checkin", "--all", "--yes"]).output().unwrap();
    assert!(checkin.status.success(), "{checkin:?}");
    watcher.all_is_settled();
}

/// Where there is no guardian, or none that does, a process says so once and works as well as it can alone.
#[test]
fn a_process_can_do_without_a_guardian() {
    if let Some(holder) = holder() {
        let begun = Instant::now();
        drop(holder.checkout(request()));
        let guards = holder.checkout_many(2);
        // The first of these may have waited for an answer, within reason.
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        drop(guards);
        return;
    }
    let mut watcher = Watcher::new(name_of!(a_process_can_do_without_a_guardian));
    let other_version = "read hello\nprintf '%s\\n' '{\"refused\": {\"why\": \"it is of version 9.9.9\"}}'";
    for (text, says) in [
        (other_version, "it is of version 9.9.9"),
        ("echo 'Error: No such command' >&2; exit 2", "is none, or ended at once"),
        ("exec cat", "answers as no guardian does"),
        ("cat > /dev/null", "does not answer"),
        ("echo $$ > stopped; kill -STOP $$", "does not answer"),
    ] {
        let path = script(&watcher, text);
        watcher.env.set("BROKER_GUARDIAN", &path);
        let ended = watcher.run("alone");
        ended.ok();
        assert_eq!(ended.said.matches("no guardian: ").count(), 1, "{text}: {}", ended.said);
        assert!(ended.said.contains(says) && ended.said.contains("broker checkin"), "{text}: {}", ended.said);
        watcher.nothing_is_left();
    }
    let stopped = fs::read_to_string(watcher.path("stopped")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(stopped).unwrap(), Signal::KILL).unwrap();
    for (guardian, path, says) in [
        (Some("/nonexistent/broker"), None, "cannot be run"),
        (Some("off"), None, ""),
        // Found by itself: on the PATH, and not there.
        (None, Some("/usr/bin:/bin"), "cargo install"),
    ] {
        match guardian {
            Some(guardian) => watcher.env.set("BROKER_GUARDIAN", guardian),
            None => watcher.env.unset("BROKER_GUARDIAN"),
        };
        if let Some(path) = path {
            watcher.env.set("PATH", path);
        }
        let ended = if path.is_some() { run_elsewhere(&watcher) } else { watcher.run("alone") };
        ended.ok();
        assert_eq!(ended.said.matches("no guardian: ").count(), usize::from(!says.is_empty()), "{}", ended.said);
        assert!(ended.said.contains(says), "{}", ended.said);
        watcher.nothing_is_left();
    }
}

/// Runs the holder as a program that has no `broker` beside it.
fn run_elsewhere(watcher: &Watcher) -> crate::support::Ended {
    let copy = watcher.path("elsewhere");
    fs::hard_link(std::env::current_exe().unwrap(), &copy)
        .or_else(|_| fs::copy(std::env::current_exe().unwrap(), &copy).map(drop))
        .unwrap();
    watcher.start_program(&copy, "alone").wait()
}

/// The `broker` beside the program is found, as tests in a workspace have it.
#[test]
fn the_guardian_beside_the_program_is_found() {
    if let Some(holder) = holder() {
        let _guard = holder.checkout(request());
        holder.wait_for_the_end();
    }
    let mut watcher = Watcher::new(name_of!(the_guardian_beside_the_program_is_found));
    watcher.env.unset("BROKER_GUARDIAN");
    let deps = watcher.path("target/debug/deps");
    fs::create_dir_all(&deps).unwrap();
    let copy = deps.join("test-0123456789abcdef");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::copy(broker_tests::env::program(), watcher.path("target/debug/broker")).unwrap();
    let mut started = watcher.start_program(&copy, "holds");
    watcher.await_ready(&mut started);
    let guardian = watcher.guardians()[0].as_raw_nonzero();
    let program = fs::read_link(format!("/proc/{guardian}/exe")).unwrap();
    assert_eq!(program, watcher.path("target/debug/broker"));
    started.kill();
    watcher.all_is_settled();
}

/// One that is killed is replaced by one that knows the same; one that hangs does what it has to when it can.
#[test]
fn a_guardian_that_fails_is_made_up_for() {
    if let Some(holder) = holder() {
        let _first = holder.checkout_many(2);
        holder.sign("first");
        holder.await_sign("go");
        let _second = holder.checkout_many(2);
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(a_guardian_that_fails_is_made_up_for));
    let mut holder = watcher.start("killed");
    watcher.await_sign("first");
    let first = watcher.guardians();
    kill_process(first[0], Signal::KILL).unwrap();
    until("another one", || watcher.guardians().len() == 1 && watcher.guardians() != first);
    watcher.sign("go");
    watcher.await_ready(&mut holder);
    holder.kill();
    watcher.all_is_settled();

    fs::remove_file(watcher.path("go")).unwrap();
    let mut holder = watcher.start("hangs");
    watcher.await_sign("first");
    let guardian = watcher.guardians()[0];
    kill_process(guardian, Signal::STOP).unwrap();
    watcher.sign("go");
    watcher.await_ready(&mut holder);
    holder.kill();
    assert_eq!(watcher.hosts().len(), 4);
    kill_process(guardian, Signal::CONT).unwrap();
    watcher.all_is_settled();
}

/// Both die at once: what they leave is in the inventory, and anybody can check it in.
#[test]
fn a_guardian_that_dies_with_its_owner_leaves_an_entry() {
    if let Some(holder) = holder() {
        let _guards = holder.checkout_many(3);
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(a_guardian_that_dies_with_its_owner_leaves_an_entry));
    let holder = watcher.start_ready("holds");
    for guardian in watcher.guardians() {
        kill_process(guardian, Signal::STOP).unwrap();
    }
    holder.kill();
    for guardian in watcher.guardians() {
        kill_process(guardian, Signal::KILL).unwrap();
    }
    assert_eq!((watcher.hosts().len(), watcher.records().len()), (3, 3));
    assert!(watcher.records().iter().all(|record| !broker_of(&watcher).is_held(record)));
    watcher.env.ok(["checkin", "--all", "--yes"]);
    watcher.all_is_settled();
}

/// What a guardian says to those that are not its owner.
#[test]
fn a_guardian_has_an_owner_of_its_own_version() {
    assert!(holder().is_none());
    let watcher = Watcher::new(name_of!(a_guardian_has_an_owner_of_its_own_version));
    let by_a_person = watcher.env.broker(["guardian"]);
    assert_eq!(by_a_person.code, Some(0), "a pipe that is closed at once is an owner that held nothing: {by_a_person}");
    let with = |input: &str| {
        let mut command = watcher.env.command(broker_tests::env::program());
        command.arg("guardian").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let refused = with("{\"hello\": {\"version\": \"9.9.9\"}}\n");
    let (out, err) = (String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    assert_eq!(refused.status.code(), Some(1));
    assert!(out.contains("\"refused\"") && out.contains("9.9.9") && err.contains("9.9.9"), "{out}{err}");
    let nonsense = with("secret nonsense\n");
    assert_eq!(nonsense.status.code(), Some(1));
    assert!(!String::from_utf8_lossy(&nonsense.stderr).contains("secret"), "{nonsense:?}");
    assert_eq!(with("{\"hello\": {\"vers").status.code(), Some(0), "a line that was cut off was not said");
    let mut command = watcher.env.command(broker_tests::env::program());
    let no_pipe = command.arg("guardian").stdin(Stdio::null()).output().unwrap();
    assert_eq!(no_pipe.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&no_pipe.stderr).contains("is started by a process that holds hosts"),
        "{no_pipe:?}"
    );
}

/// The Broker directory is gone: there is nothing that a guardian could go by, and it ends.
#[test]
fn a_guardian_without_a_directory_ends() {
    if let Some(holder) = holder() {
        let _guard = holder.checkout(request());
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(a_guardian_without_a_directory_ends));
    let holder = watcher.start_ready("holds");
    fs::remove_dir_all(watcher.env.directory()).unwrap();
    holder.kill();
    broker_tests::wait::until_within(LONG, "the guardian to go", || watcher.guardians().is_empty());
}
