//! Ends of a process that its own code can do something about: nothing is left when it is over.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use broker::prelude::*;
use broker_tests::conformance::current_thread;

use crate::support::{Watcher, holder, name_of, request};

/// Every role is a way to end with guards alive, and the exit status that comes of it.
#[test]
fn a_process_that_ends_by_itself_leaves_nothing() {
    #[expect(clippy::exit, reason = "that is what the case is about")]
    if let Some(holder) = holder() {
        static ONE: OnceLock<HostGuard> = OnceLock::new();
        static MANY: OnceLock<HostGuards> = OnceLock::new();
        thread_local! {
            static OF_THREAD: RefCell<Option<HostGuard>> = const { RefCell::new(None) };
        }
        match holder.role.as_str() {
            "static" => {
                ONE.set(holder.checkout(request())).unwrap();
                MANY.set(holder.checkout_many(2)).unwrap();
            }
            "forgotten" => std::mem::forget(holder.checkout_many(2)),
            "leaked" => drop(Box::leak(Box::new(holder.checkout(request()))).id()),
            "exit" => {
                let _guards = holder.checkout_many(2);
                std::process::exit(3);
            }
            "exit on another thread" => {
                let _guards = holder.checkout_many(2);
                std::thread::spawn(|| std::process::exit(3)).join().unwrap();
            }
            "panic" => {
                let _one = holder.checkout(request());
                let _two = holder.checkout_many(2);
                panic!("as a test does");
            }
            "panic on another thread" => {
                let guards = holder.checkout_many(2);
                let thread = std::thread::spawn(move || {
                    let _guards = guards;
                    panic!("as a test does");
                });
                assert!(thread.join().is_err());
            }
            "thread-local" => {
                OF_THREAD.set(Some(holder.checkout(request())));
                std::thread::scope(|scope| {
                    scope.spawn(|| OF_THREAD.set(Some(holder.checkout(request()))));
                });
            }
            // The process ends while another thread holds a guard, and will for ever.
            "detached thread" => {
                let guard = holder.checkout(request());
                drop(std::thread::spawn(move || {
                    let _guard = guard;
                    loop {
                        std::thread::park();
                    }
                }));
            }
            "detached task" => {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
                let guard = holder.checkout(request());
                drop(runtime.spawn(async move {
                    let _guard = guard;
                    std::future::pending::<()>().await;
                }));
                std::mem::forget(runtime);
            }
            // It is over while the provider is at work.
            "in mid-checkout" => {
                let broker = holder.broker();
                drop(std::thread::spawn(move || {
                    let request = request().count(3).arg("delay", "1s");
                    current_thread().block_on(broker.checkout_many(request))
                }));
                broker_tests::wait::until("a host that is being made", || {
                    let inventory = broker_core::inventory::read(holder.broker().directory().path());
                    inventory.is_ok_and(|inventory| inventory.records.len() == 3)
                });
            }
            other => panic!("there is no role `{other}`"),
        }
        return;
    }
    let mut watcher = Watcher::without_guardian(name_of!(a_process_that_ends_by_itself_leaves_nothing));
    watcher.env.set("BROKER_stop_grace", "2s");
    for (role, code) in [
        ("static", 0),
        ("forgotten", 0),
        ("leaked", 0),
        ("exit", 3),
        ("exit on another thread", 3),
        ("panic", 101),
        ("panic on another thread", 0),
        ("thread-local", 0),
        ("detached thread", 0),
        ("detached task", 0),
        ("in mid-checkout", 0),
    ] {
        let ended = watcher.run(role);
        assert_eq!(ended.status.code(), Some(code), "{role}: {}", ended.said);
        let left = (watcher.hosts(), watcher.records());
        assert!(left.0.is_empty() && left.1.is_empty(), "{role}: {left:?}\n{}", ended.said);
    }
}

/// A hundred guards that are dropped one after the other, at once, and at the end of the process.
#[test]
fn a_hundred_guards_go_at_once() {
    static LAST: OnceLock<HostGuards> = OnceLock::new();

    if let Some(holder) = holder() {
        let slow = || request().count(100).arg("slow_release", "300ms");
        let checkout = || current_thread().block_on(holder.broker().checkout_many(slow())).unwrap();
        let guards = checkout();
        let begun = Instant::now();
        drop(guards);
        let together = begun.elapsed();
        // One after the other they would take thirty seconds.
        assert!(together < Duration::from_secs(20), "{together:?}");
        let guards: Vec<HostGuard> = checkout().into_iter().collect();
        std::thread::scope(|scope| guards.into_iter().for_each(|guard| drop(scope.spawn(move || drop(guard)))));
        LAST.set(checkout()).unwrap();
        return;
    }
    let watcher = Watcher::without_guardian(name_of!(a_hundred_guards_go_at_once));
    watcher.run("many").ok();
    watcher.nothing_is_left();
}

/// A guard that is dropped while its runtime shuts down, and one that is dropped inside of the drop of another value
/// while a panic unwinds.
#[test]
fn guards_go_in_the_middle_of_other_ends() {
    struct Nested(Option<HostGuard>);

    impl Drop for Nested {
        fn drop(&mut self) {
            drop(self.0.take());
        }
    }

    if let Some(holder) = holder() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let guard = Nested(Some(holder.checkout(request())));
        drop(runtime.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        }));
        runtime.shutdown_timeout(Duration::from_secs(30));
        // A blocking task that outlives its runtime.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (guard, go) = (holder.checkout(request()), holder.path("go"));
        drop(runtime.spawn_blocking(move || {
            broker_tests::wait::until("the end of the runtime", || go.exists());
            drop(guard);
        }));
        runtime.shutdown_background();
        holder.sign("go");
        let _first = Nested(Some(holder.checkout(request())));
        let _second = Nested(Some(holder.checkout(request())));
        panic!("as a test does");
    }
    let watcher = Watcher::without_guardian(name_of!(guards_go_in_the_middle_of_other_ends));
    let ended = watcher.run("nested");
    assert_eq!(ended.status.code(), Some(101), "{}", ended.said);
    watcher.nothing_is_left();
}
