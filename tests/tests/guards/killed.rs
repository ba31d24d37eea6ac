//! Ends of a process that no code of its own can do anything about: its guardian does.

use std::sync::OnceLock;
use std::time::Duration;

use broker::prelude::*;
use broker_tests::conformance::current_thread;
use broker_tests::wait::until;
use rustix::process::Signal;

use crate::support::{Watcher, holder, name_of, request};

/// Every role is a way to die with guards alive. What is held is checked in by the guardian, which ends then.
#[test]
fn a_process_that_dies_leaves_nothing() {
    if let Some(holder) = holder() {
        static GUARDS: OnceLock<HostGuards> = OnceLock::new();
        GUARDS.set(holder.checkout_many(3)).unwrap();
        match holder.role.as_str() {
            "abort" => std::process::abort(),
            // What a panic comes to in a program that was built with `panic = "abort"`.
            "panic that aborts" => {
                std::panic::set_hook(Box::new(|_| std::process::abort()));
                panic!("as a test does");
            }
            "panic while panicking" => {
                struct Panics;
                impl Drop for Panics {
                    fn drop(&mut self) {
                        panic!("once more");
                    }
                }
                let _second = Panics;
                panic!("as a test does");
            }
            "stack overflow" => {
                fn deeper(depth: u64) -> u64 {
                    let depth = std::hint::black_box(depth);
                    if depth == 0 { 0 } else { std::hint::black_box(deeper(depth - 1)) + 1 }
                }
                deeper(u64::MAX);
            }
            _ => holder.wait_for_the_end(),
        }
        return;
    }
    let watcher = Watcher::new(name_of!(a_process_that_dies_leaves_nothing));
    for role in ["abort", "panic that aborts", "panic while panicking", "stack overflow"] {
        let ended = watcher.run(role);
        assert_eq!(ended.status.code(), None, "{role}: {ended:?}");
        watcher.all_is_settled();
    }
    for signal in [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::ABORT] {
        for group in [false, true] {
            let holder = watcher.start_ready("waits");
            assert_eq!(watcher.hosts().len(), 3);
            if group {
                holder.signal_group(signal)
            } else {
                holder.signal(signal)
            }
            let ended = holder.wait();
            assert_eq!(ended.status.code(), None, "{signal:?}: {ended:?}");
            watcher.all_is_settled();
        }
    }
}

/// Killed while the provider is making hosts: what was begun is found and released, whenever that was.
#[test]
fn a_process_that_dies_in_mid_checkout_leaves_nothing() {
    if let Some(holder) = holder() {
        holder.sign("ready");
        let request = request().count(5).arg("delay", "300ms");
        let _guards = current_thread().block_on(holder.broker().checkout_many(request)).unwrap();
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(a_process_that_dies_in_mid_checkout_leaves_nothing));
    let mut half_made = 0;
    for moment in [0, 5, 10, 20, 40, 80, 120, 160, 200, 250, 300, 350, 400, 600] {
        let holder = watcher.start_ready("checks out");
        std::thread::sleep(Duration::from_millis(moment));
        holder.kill();
        let pending = watcher.records().iter().filter(|record| record.is_half_made()).count();
        half_made += usize::from(pending > 0);
        watcher.all_is_settled();
    }
    assert!(half_made > 0, "no moment was one with hosts half made");
}

/// Killed while hosts are being released: the guardian finishes that.
#[test]
fn a_process_that_dies_in_mid_release_leaves_nothing() {
    if let Some(holder) = holder() {
        let request = request().count(5).arg("slow_release", "300ms");
        let guards = current_thread().block_on(holder.broker().checkout_many(request)).unwrap();
        holder.sign("ready");
        drop(guards);
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(a_process_that_dies_in_mid_release_leaves_nothing));
    for moment in [0, 5, 10, 20, 50, 100, 200, 280, 300, 320, 400] {
        let holder = watcher.start_ready("checks in");
        std::thread::sleep(Duration::from_millis(moment));
        holder.kill();
        watcher.all_is_settled();
    }
}

/// A release that fails at first is repeated until it works.
#[test]
fn a_release_that_fails_is_repeated() {
    if let Some(holder) = holder() {
        let request = request().arg("fail_release", "unreachable").arg("fail_release_times", "2");
        let _guard = holder.checkout(request);
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(a_release_that_fails_is_repeated));
    watcher.start_ready("holds").kill();
    watcher.all_is_settled();
    let log = watcher.log();
    assert_eq!(log.matches("could not be released yet").count(), 2, "{log}");
}

/// Somebody checks the hosts of a dead process in while its guardian does: each is released once, and nobody minds.
#[test]
fn a_guardian_shares_its_work() {
    if let Some(holder) = holder() {
        let request = request().count(20).arg("slow_release", "50ms");
        let _guards = current_thread().block_on(holder.broker().checkout_many(request)).unwrap();
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(a_guardian_shares_its_work));
    for _ in 0..3 {
        watcher.start_ready("holds").kill();
        let ran = watcher.env.broker(["checkin", "--all", "--yes"]);
        assert!(ran.code == Some(0) || ran.stderr.contains("being released"), "{ran}");
        watcher.all_is_settled();
    }
}

/// Many processes at once, each with a guardian of its own, all killed at the same moment.
#[test]
fn many_that_die_at_once_leave_nothing() {
    if let Some(holder) = holder() {
        let _guards = holder.checkout_many(3);
        holder.sign(&holder.role);
        loop {
            std::thread::park();
        }
    }
    let watcher = Watcher::new(name_of!(many_that_die_at_once_leave_nothing));
    let roles: Vec<String> = (0..10).map(|number| format!("holder {number}")).collect();
    let started: Vec<_> = roles.iter().map(|role| watcher.start(role)).collect();
    for role in &roles {
        watcher.await_sign(role);
    }
    assert_eq!((watcher.hosts().len(), watcher.guardians().len()), (30, 10));
    for holder in &started {
        holder.signal(Signal::KILL);
    }
    watcher.all_is_settled();
}

/// Two brokers of one process, with two directories, and one that is gone before the end.
#[test]
fn one_guardian_is_enough_for_a_process() {
    if let Some(holder) = holder() {
        let other = || Broker::builder().directory(holder.path("other")).build().unwrap();
        let runtime = current_thread();
        drop(runtime.block_on(other().checkout(request())).unwrap());
        let _one = holder.checkout(request());
        let _two = runtime.block_on(other().checkout_many(request().count(2))).unwrap();
        holder.wait_for_the_end();
    }
    let watcher = Watcher::new(name_of!(one_guardian_is_enough_for_a_process));
    let holder = watcher.start_ready("holds");
    assert_eq!((watcher.hosts().len(), watcher.guardians().len()), (3, 1));
    holder.kill();
    watcher.all_is_settled();
    until("the other directory", || broker_core::inventory::read(&watcher.path("other")).unwrap().records.is_empty());
}
