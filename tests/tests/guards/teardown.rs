//! Teardown commands: what runs on a host before it goes, whoever releases it.

use std::sync::OnceLock;

use broker::prelude::*;
use broker_core::HookError;
use broker_tests::conformance::current_thread;
use broker_tests::wait::until;

use crate::support::{LONG, Watcher, holder, name_of, request};

fn with_command(root: &std::path::Path) -> HostRequest {
    request().teardown_command(format!("echo done >> '{}'", root.join("torn down").display()))
}

/// The command runs once, on the way out of a host that is dropped, checked in, held to the end of its process, kept and
/// checked in by somebody else, or left by a process that was killed.
#[test]
fn a_teardown_command_runs_whoever_releases() {
    static GUARD: OnceLock<HostGuard> = OnceLock::new();

    if let Some(holder) = holder() {
        let guard = holder.checkout(with_command(&holder.path("")));
        match holder.role.as_str() {
            "drops" => drop(guard),
            "checks in" => current_thread().block_on(guard.checkin()).unwrap(),
            "exits" => drop(GUARD.set(guard)),
            "keeps" => drop(current_thread().block_on(guard.keep()).unwrap()),
            _ => holder.wait_for_the_end(),
        }
        return;
    }
    let watcher = Watcher::new(name_of!(a_teardown_command_runs_whoever_releases));
    for role in ["drops", "checks in", "exits", "keeps", "killed"] {
        if role == "killed" {
            watcher.start_ready(role).kill();
        } else {
            watcher.run(role).ok();
        }
        if role == "keeps" {
            watcher.env.ok(["checkin", "--all", "--yes"]);
        }
        watcher.all_is_settled();
        let ran = std::fs::read_to_string(watcher.path("torn down")).unwrap_or_default();
        assert_eq!(ran.lines().count(), 1, "{role}: {ran:?}\n{}", watcher.log());
        std::fs::remove_file(watcher.path("torn down")).unwrap();
    }
}

/// A command that fails, hangs or cannot run keeps no host.
#[test]
fn a_bad_teardown_command_keeps_no_host() {
    if let Some(holder) = holder() {
        let request = |line: &str| request().teardown_command(line);
        let _guards = ["exit 3", "kill -9 $$", "sleep 1000", "/nonexistent"].map(|line| holder.checkout(request(line)));
        if holder.role == "killed" {
            holder.wait_for_the_end();
        }
        return;
    }
    let watcher = Watcher::new(name_of!(a_bad_teardown_command_keeps_no_host));
    let ends = watcher.start("ends");
    let killed = watcher.start_ready("killed");
    killed.kill();
    ends.wait().ok();
    watcher.all_is_settled();
}

struct TearsDown;

impl HostType for TearsDown {
    fn new(_host: Host) -> Self {
        Self
    }

    async fn teardown(&self, host: &Host) -> Result<(), HookError> {
        let mark = crate::support::holder().unwrap().path("torn down");
        host.execute(format!("sleep 0.2; touch '{}'", mark.display())).await?.check()?;
        Ok(())
    }
}

/// A teardown can use its host to the last, also when it is the process that ends.
#[test]
fn a_teardown_works_at_the_end_of_the_process() {
    static GUARD: OnceLock<HostGuard<TearsDown>> = OnceLock::new();

    if let Some(holder) = holder() {
        let guard = current_thread().block_on(holder.broker().checkout_as::<TearsDown>(request())).unwrap();
        if holder.role == "static" {
            drop(GUARD.set(guard));
        }
        return;
    }
    let watcher = Watcher::without_guardian(name_of!(a_teardown_works_at_the_end_of_the_process));
    for role in ["dropped", "static"] {
        let ended = watcher.run(role);
        ended.ok();
        assert!(watcher.path("torn down").exists(), "{role}: {}", ended.said);
        std::fs::remove_file(watcher.path("torn down")).unwrap();
        watcher.nothing_is_left();
    }
}

/// A guardian that is killed over a teardown is replaced, or somebody else finishes: the host goes in the end.
#[test]
fn a_teardown_that_was_cut_off_runs_again() {
    if let Some(holder) = holder() {
        let line = format!("echo x >> '{}'; test -e '{}'", holder.path("begun").display(), holder.path("go").display());
        let _guard = holder.checkout(request().teardown_command(format!("{line} || sleep 1000")));
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(a_teardown_that_was_cut_off_runs_again));
    watcher.start_ready("holds").kill();
    until("the teardown", || watcher.path("begun").exists());
    for guardian in watcher.guardians() {
        rustix::process::kill_process(guardian, rustix::process::Signal::KILL).unwrap();
    }
    broker_tests::wait::until_within(LONG, "its end", || watcher.guardians().is_empty());
    assert_eq!(watcher.hosts().len(), 1);
    watcher.sign("go");
    watcher.env.ok(["checkin", "--all", "--yes"]);
    watcher.all_is_settled();
    assert_eq!(std::fs::read_to_string(watcher.path("begun")).unwrap().lines().count(), 2);
}
