//! Hooks that do what they should not.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use broker::prelude::*;
use broker_core::{Error, HookError};
use broker_tests::conformance::current_thread;

use crate::support::{Holder, Watcher, holder, name_of, request};

/// Blocks its thread for good.
struct Blocks;

impl HostType for Blocks {
    fn new(_host: Host) -> Self {
        Self
    }

    async fn teardown(&self, _host: &Host) -> Result<(), HookError> {
        loop {
            std::thread::park();
        }
    }
}

/// Drops a guard of its own, which must not wait for the one that waits for the hook.
struct Nests(std::sync::Mutex<Option<broker::blocking::HostGuard>>);

impl HostType for Nests {
    fn new(host: Host) -> Self {
        drop(host);
        let broker = broker::blocking::Broker::from(crate::support::holder().unwrap().broker());
        Self(std::sync::Mutex::new(Some(broker.checkout(request()).unwrap())))
    }

    async fn teardown(&self, _host: &Host) -> Result<(), HookError> {
        drop(self.0.lock().unwrap().take());
        Ok(())
    }
}

/// Uses the blocking calls, and leaves word of how that went.
struct Waits(broker::blocking::Host);

impl HostType for Waits {
    fn new(host: Host) -> Self {
        Self(host.into())
    }

    async fn teardown(&self, _host: &Host) -> Result<(), HookError> {
        let refused = matches!(self.0.execute("true"), Err(Error::Blocking));
        crate::support::holder().unwrap().sign(if refused { "refused" } else { "worked" });
        Ok(())
    }
}

fn checkout<T: HostType>(holder: &Holder) -> HostGuard<T> {
    current_thread().block_on(holder.broker().checkout_as::<T>(request())).unwrap()
}

/// However a hook behaves, its host is released: when the guard is dropped, and when the process ends.
#[test]
fn no_hook_keeps_a_host() {
    static BLOCKS: OnceLock<HostGuard<Blocks>> = OnceLock::new();
    static NESTS: OnceLock<HostGuard<Nests>> = OnceLock::new();
    static WAITS: OnceLock<HostGuard<Waits>> = OnceLock::new();

    if let Some(holder) = holder() {
        match holder.role.as_str() {
            "blocks" => {
                let begun = Instant::now();
                drop(checkout::<Blocks>(&holder));
                let took = begun.elapsed();
                assert!(took > Duration::from_secs(29) && took < Duration::from_secs(50), "{took:?}");
            }
            "blocks at exit" => drop(BLOCKS.set(checkout(&holder))),
            "nests" => drop(checkout::<Nests>(&holder)),
            "nests at exit" => drop(NESTS.set(checkout(&holder))),
            "waits" => drop(checkout::<Waits>(&holder)),
            _ => drop(WAITS.set(checkout(&holder))),
        }
        return;
    }
    let watcher = Watcher::without_guardian(name_of!(no_hook_keeps_a_host));
    // Those that block take their thirty seconds at the same time.
    let roles = ["blocks", "blocks at exit", "nests", "nests at exit"];
    let started = roles.map(|role| watcher.start(role));
    started.into_iter().for_each(|holder| holder.wait().ok());
    for role in ["waits", "waits at exit"] {
        watcher.run(role).ok();
        watcher.await_sign("refused");
    }
    watcher.nothing_is_left();
}
