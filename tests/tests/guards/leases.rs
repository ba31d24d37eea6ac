//! Hosts that outlive their process on purpose, and leases that end.

use std::time::Duration;

use broker::prelude::*;
use broker_core::inventory::Holding;
use broker_tests::conformance::current_thread;
use broker_tests::wait::until;
use jiff::Timestamp;
use rustix::process::Signal;

use crate::support::{Holder, Started, Watcher, holder, name_of, request};

fn keep(holder: &Holder, request: HostRequest) {
    let guard = holder.checkout(request);
    drop(current_thread().block_on(guard.keep()).unwrap());
}

/// A kept host stays with its guardian until its lease ends, whether its owner ends well or is killed.
#[test]
fn a_kept_host_stays_for_its_lease() {
    if let Some(holder) = holder() {
        keep(&holder, request().lease(Duration::from_secs(15)));
        let _guarded = holder.checkout(request());
        if holder.role == "killed" {
            holder.wait_for_the_end();
        }
        return;
    }
    let watcher = Watcher::new(name_of!(a_kept_host_stays_for_its_lease));
    for role in ["killed", "ends"] {
        if role == "killed" {
            watcher.start_ready(role).kill();
            until("the guarded host to go", || watcher.hosts().len() == 1);
        } else {
            watcher.run(role).ok();
        }
        let left = watcher.records();
        assert_eq!(left.len(), 1, "{left:#?}");
        assert_eq!((left[0].holding, watcher.guardians().len()), (Holding::Kept, 1));
        let until = left[0].lease_until.unwrap();
        watcher.all_is_settled();
        assert!(Timestamp::now() > until, "it was released before its lease was over");
    }
}

/// A kept host that somebody gives back, or gives more time: its guardian sees that, and ends with it.
#[test]
fn a_kept_host_is_for_people() {
    if let Some(holder) = holder() {
        keep(&holder, request().lease(Duration::from_secs(if holder.role == "long" { 3600 } else { 12 })));
        return;
    }
    let watcher = Watcher::new(name_of!(a_kept_host_is_for_people));
    watcher.run("long").ok();
    assert_eq!((watcher.hosts().len(), watcher.guardians().len()), (1, 1));
    watcher.env.ok(["checkin", "--all", "--yes"]);
    watcher.all_is_settled();

    watcher.run("short").ok();
    watcher.env.ok(["extend", "--all", "--lease", "1h"]);
    let first = watcher.records()[0].at;
    until("the first lease to be over", || Timestamp::now().duration_since(first).as_secs() > 16);
    assert_eq!((watcher.hosts().len(), watcher.guardians().len()), (1, 1), "{}", watcher.log());
    watcher.env.ok(["checkin", "--all", "--yes"]);
    watcher.all_is_settled();
}

/// The lease of a guarded host ends while its test hangs: the host goes, and the test can end as it likes.
#[test]
fn a_lease_ends_under_a_test_that_hangs() {
    if let Some(holder) = holder() {
        let guard = holder.checkout(request().lease(Duration::from_secs(3)));
        let id = guard.id().to_string();
        let host = holder.path(&format!("hosts/{id}.json"));
        until("the end of the lease", || !host.exists());
        drop(guard);
        return;
    }
    let watcher = Watcher::new(name_of!(a_lease_ends_under_a_test_that_hangs));
    watcher.run("hangs").ok();
    watcher.all_is_settled();
}

/// A test that panics keeps its host for as long as it said, and not longer.
#[test]
fn a_host_that_is_kept_on_failure_goes_in_the_end() {
    if let Some(holder) = holder() {
        let _guard = holder.checkout(request().keep_on_failure(Duration::from_secs(12)));
        panic!("as a test does");
    }
    let watcher = Watcher::new(name_of!(a_host_that_is_kept_on_failure_goes_in_the_end));
    let ended = watcher.run("panics");
    assert_eq!(ended.status.code(), Some(101));
    assert!(ended.said.contains("broker shell 0"), "{}", ended.said);
    assert_eq!(watcher.hosts().len(), 1);
    watcher.all_is_settled();
}

/// What was checked out to be kept is nobody's but its user's: no guardian, and no end with its process.
#[test]
fn what_nobody_guards_has_no_guardian() {
    if let Some(holder) = holder() {
        let kept = current_thread().block_on(holder.broker().checkout_kept(request().count(2))).unwrap();
        assert!(kept.iter().all(Result::is_ok));
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(what_nobody_guards_has_no_guardian));
    let started: Started = watcher.start_ready("keeps");
    assert!(watcher.guardians().is_empty());
    started.signal(Signal::KILL);
    started.wait();
    watcher.env.ok(["checkout", "--test-action", "t"]);
    assert!(watcher.guardians().is_empty());
    assert_eq!(watcher.hosts().len(), 3);
    watcher.env.ok(["checkin", "--all", "--yes"]);
    watcher.all_is_settled();
}
