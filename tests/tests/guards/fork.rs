//! A child of a fork has copies of everything and owns nothing.

#![expect(unsafe_code, reason = "the standard library does not fork")]

use std::time::{Duration, Instant};

use broker_core::Error;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use crate::support::{LONG, Watcher, holder, name_of, request};

/// Runs something in the child of a fork, and returns how that ended.
fn fork(child: impl FnOnce()) -> WaitStatus {
    wait_for(start(child))
}

fn start(child: impl FnOnce()) -> Pid {
    // SAFETY: what the child does would be wrong in a process with many threads if one of them held a lock that the child
    // needs. That is what users do all the same, and what these tests are about.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            child();
            // SAFETY: ends the child without the test harness's own end.
            unsafe { libc::_exit(0) }
        }
        pid => Pid::from_raw(pid).unwrap(),
    }
}

fn wait_for(child: Pid) -> WaitStatus {
    waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap().1
}

#[track_caller]
fn ends_well_and_soon(child: impl FnOnce()) {
    let begun = Instant::now();
    let status = fork(child);
    assert!(status.exit_status() == Some(0), "{status:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

/// In the child a drop does nothing, a call is an error, and its end is its own.
#[test]
#[expect(clippy::exit, reason = "that is what the case is about")]
fn a_fork_owns_nothing() {
    if let Some(holder) = holder() {
        let broker = holder.broker();
        let guard = holder.checkout(request());
        let many = holder.checkout_many(2);
        let id = guard.id().to_string();
        let host = holder.path(&format!("hosts/{id}.json"));
        let (mut guard, mut many) = (Some(guard), Some(many));
        ends_well_and_soon(|| {
            drop(guard.take());
            drop(many.take());
        });
        // `exit` runs what was registered for the end of the process.
        ends_well_and_soon(|| std::process::exit(0));
        ends_well_and_soon(|| {
            let refused = |error: Error| assert!(matches!(error, Error::Closed), "{error:?}");
            let blocking = broker::blocking::Broker::from(broker.clone());
            refused(blocking.checkout(request()).map(drop).unwrap_err());
            refused(blocking.inventory().map(drop).unwrap_err());
            refused(broker::blocking::HostGuard::from(guard.take().unwrap()).checkin().unwrap_err());
        });
        assert!(host.exists(), "the child has released what its parent holds");
        guard.as_ref().unwrap();
        drop((guard, many));
        assert!(!host.exists());
        return;
    }
    for watcher in
        [Watcher::without_guardian(name_of!(a_fork_owns_nothing)), Watcher::new(name_of!(a_fork_owns_nothing))]
    {
        watcher.run("forks").ok();
        watcher.nothing_is_left();
        watcher.all_is_settled();
    }
}

/// A child that lives on does not make its dead parent seem alive.
#[test]
fn a_fork_that_lives_on_keeps_nothing() {
    if let Some(holder) = holder() {
        let _guards = holder.checkout_many(2);
        let child = start(|| std::thread::sleep(LONG * 2));
        std::fs::write(holder.path("child"), child.as_raw_nonzero().to_string()).unwrap();
        holder.wait_for_the_end();
    }
    for guarded in [true, false] {
        let name = name_of!(a_fork_that_lives_on_keeps_nothing);
        let watcher = if guarded { Watcher::new(name) } else { Watcher::without_guardian(name) };
        watcher.start_ready("forks").kill();
        let child = Pid::from_raw(std::fs::read_to_string(watcher.path("child")).unwrap().parse().unwrap()).unwrap();
        if guarded {
            watcher.all_is_settled();
        } else {
            let broker = crate::support::broker_of(&watcher);
            assert_eq!(watcher.records().len(), 2);
            assert!(watcher.records().iter().all(|record| !broker.is_held(record)), "the dead owner seems to live");
        }
        kill_process(child, Signal::KILL).unwrap();
    }
}

/// A process that becomes another program holds nothing any more.
#[test]
fn a_process_that_becomes_another_program_is_settled() {
    use std::os::unix::process::CommandExt;

    if let Some(holder) = holder() {
        let _guards = holder.checkout_many(2);
        holder.sign("ready");
        panic!("{}", std::process::Command::new("sleep").arg("1000").exec());
    }
    let watcher = Watcher::new(name_of!(a_process_that_becomes_another_program_is_settled));
    let started = watcher.start_ready("becomes");
    watcher.all_is_settled();
    started.kill();
}
