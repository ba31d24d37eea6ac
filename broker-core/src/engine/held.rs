//! The hosts that guards of this process hold, and what becomes of them when the guard or the process ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::hooks::{Hook, run_apart};
use crate::context::Core;
use crate::host::Host;
use crate::id::HostId;
use crate::inventory::Holding;

/// How long guards that are dropped together may hold up the thread that drops them.
const DROP_LIMIT: Duration = Duration::from_secs(60);

/// A host that a guard holds.
pub(crate) struct Held {
    pub(crate) host: Host,
    pub(crate) keep_on_failure: Option<Duration>,
    /// The teardown that has not run yet.
    pub(crate) teardown: Mutex<Option<Teardown>>,
}

/// Makes the teardown hook of a host.
pub(crate) type Teardown = Box<dyn FnOnce() -> Hook + Send>;

/// Whoever takes an entry out of here is the one that releases the host.
static HELD: Mutex<Option<HashMap<HostId, Arc<Held>>>> = Mutex::new(None);

/// Guards dropped one after the other share one limit: it begins anew when none has been waiting for a while.
static WINDOW: Mutex<Option<(Instant, Instant)>> = Mutex::new(None);

static EXITING: AtomicBool = AtomicBool::new(false);

pub(crate) fn insert(held: Held) {
    HELD.lock().get_or_insert_default().insert(held.host.id(), Arc::new(held));
}

pub(crate) fn get(id: HostId) -> Option<Arc<Held>> {
    HELD.lock().as_ref().and_then(|held| held.get(&id).cloned())
}

pub(crate) fn take(id: HostId) -> Option<Arc<Held>> {
    HELD.lock().as_mut().and_then(|held| held.remove(&id))
}

/// Releases hosts whose guards are gone, and waits for that within the limit. Never panics.
pub(crate) fn release_dropped(dropped: Vec<Arc<Held>>) {
    if dropped.is_empty() {
        return;
    }
    let panicking = std::thread::panicking();
    let (done, waiting) = mpsc::channel::<()>();
    let mut sent = Vec::new();
    for held in dropped {
        let label = format!("{} ({})", held.host.number(), held.host.label());
        let done = done.clone();
        let work = async move {
            match held.keep_on_failure {
                Some(lease) if panicking => keep_for_a_look(&held, lease).await,
                _ => tear_down_and_release(&held).await,
            }
            drop(done);
        };
        if super::spawn(work).is_ok() {
            sent.push(label);
        }
    }
    drop(done);
    if !super::may_wait() {
        return;
    }
    let limit = window();
    // The channel closes when the last of them is done; nothing is ever sent.
    if let Err(mpsc::RecvTimeoutError::Timeout) = waiting.recv_timeout(limit) {
        tracing::warn!(
            hosts = sent.join(", "),
            "hosts are not released yet; `broker inventory` shows them, and `broker checkin` settles them"
        );
    }
    if let Some((_, last)) = WINDOW.lock().as_mut() {
        *last = Instant::now();
    }
}

fn window() -> Duration {
    let now = Instant::now();
    let mut window = WINDOW.lock();
    let (begun, _) = match *window {
        Some((begun, last)) if now.duration_since(last) < Duration::from_secs(1) => (begun, last),
        _ => (now, now),
    };
    *window = Some((begun, now));
    (begun + DROP_LIMIT).saturating_duration_since(now)
}

async fn tear_down_and_release(held: &Held) {
    let host = &held.host;
    let teardown = held.teardown.lock().take();
    if let Some(teardown) = teardown
        && let Err(error) = run_apart(teardown).await
    {
        tracing::warn!(host = host.label(), %error, "teardown failed; the host is checked in all the same");
    }
    host.close_session().await;
    if let Err(error) = super::release(host.core(), host.record()).await {
        let error = crate::error_chain(&error);
        tracing::warn!(host = host.label(), number = host.number(), error, "the host could not be checked in");
    }
}

#[expect(clippy::print_stderr, reason = "whoever asked for the host to stay has to learn how to get in")]
pub(crate) async fn keep_for_a_look(held: &Held, lease: Duration) {
    let host = &held.host;
    match keep(host.core(), host, Some(lease)).await {
        Ok(()) => {
            let number = host.number();
            eprintln!(
                "broker: the test failed, so host {number} ({}) stays for {}: get in with `broker shell {number}`, give it \
                 back with `broker checkin {number}`",
                host.label(),
                crate::duration::format(lease),
            );
        }
        Err(error) => {
            tracing::warn!(host = host.label(), error = crate::error_chain(&error), "the host could not be kept");
            tear_down_and_release(held).await;
        }
    }
}

/// Writes down that no guard holds the host any more.
pub(crate) async fn keep(core: &Arc<Core>, host: &Host, lease: Option<Duration>) -> Result<(), crate::Error> {
    let mut record = host.record();
    record.holding = Holding::Kept;
    if let Some(lease) = lease {
        record.lease_until = Some(crate::provider::Lease(lease).until());
    }
    let record = core.inventory().update(record).await?;
    host.set_record(record);
    Ok(())
}

/// Has what is still held released when the process ends by returning from `main` or by `exit`: guards in statics and
/// forgotten ones among them.
pub(crate) fn drain_at_exit() {
    if !EXITING.load(Ordering::Relaxed) {
        crate::sys::at_exit(drain);
    }
}

extern "C" fn drain() {
    EXITING.store(true, Ordering::Relaxed);
    if !super::is_own_process() {
        return;
    }
    let held = HELD.try_lock_for(Duration::from_secs(1)).and_then(|mut held| held.take()).unwrap_or_default();
    release_dropped(held.into_values().collect());
}
