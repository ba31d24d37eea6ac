//! The hosts that guards of this process hold, and what becomes of them when the guard or the process ends.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use parking_lot::Mutex;

use super::hooks::{Hook, run_apart};
use crate::host::Host;
use crate::id::GuardId;
use crate::inventory::Holding;

/// How long guards that are dropped together may hold up the thread that drops them.
const DROP_LIMIT: Duration = Duration::from_secs(60);

/// Drops that are further apart than this are not together.
const TOGETHER: Duration = Duration::from_secs(1);

/// How long closing a session may hold up the release of its host.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A host that a guard holds.
pub(crate) struct Held {
    pub(crate) guard: GuardId,
    pub(crate) host: Host,
    /// How long a shared host stays when nobody uses it any more.
    pub(crate) idle: Option<Duration>,
    pub(crate) keep_on_failure: Option<Duration>,
    /// The teardown that has not run yet.
    pub(crate) teardown: Mutex<Option<Teardown>>,
}

/// Makes the teardown hook of a host.
pub(crate) type Teardown = Box<dyn FnOnce() -> Hook + Send>;

/// Whoever takes an entry out of here is the one that releases the host.
static HELD: Mutex<Option<HashMap<GuardId, Arc<Held>>>> = Mutex::new(None);

thread_local! {
    /// When this thread last waited in vain in a drop, and for how long in drops that belong together. A drop that ends in
    /// time begins anew.
    static WAITED: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

pub(crate) fn insert(held: Held) {
    HELD.lock().get_or_insert_default().insert(held.guard, Arc::new(held));
}

pub(crate) fn get(id: GuardId) -> Option<Arc<Held>> {
    HELD.lock().as_ref().and_then(|held| held.get(&id).cloned())
}

pub(crate) fn take(id: GuardId) -> Option<Arc<Held>> {
    HELD.lock().as_mut().and_then(|held| held.remove(&id))
}

/// Releases hosts whose guards are gone, and waits for that within the limit. Never panics.
#[expect(clippy::print_stderr, reason = "whoever asked for a host to stay has to learn how to get in")]
pub(crate) fn release_dropped(dropped: Vec<Arc<Held>>) {
    if dropped.is_empty() {
        return;
    }
    let panicking = std::thread::panicking();
    let (messages, waiting) = mpsc::channel::<String>();
    let mut sent = Vec::new();
    for held in dropped {
        let label = format!("{} ({})", held.host.number(), held.host.label());
        let messages = messages.clone();
        let work = async move {
            match held.keep_on_failure {
                Some(lease) if panicking => {
                    if let Some(message) = keep_for_a_look(&held, lease).await {
                        // The thread that dropped the guard may not wait any more.
                        drop(messages.send(message));
                    }
                }
                _ => tear_down_and_release(&held).await,
            }
        };
        if super::spawn(work).is_ok() {
            sent.push(label);
        }
    }
    drop(messages);
    if !super::may_wait() {
        return;
    }
    let begun = Instant::now();
    let left = left_to_wait(begun);
    // The channel closes when the last of them is done.
    let in_vain = loop {
        match waiting.recv_timeout((begun + left).saturating_duration_since(Instant::now())) {
            Ok(message) => eprintln!("{message}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break false,
            Err(mpsc::RecvTimeoutError::Timeout) => break true,
        }
    };
    if in_vain {
        let hosts = sent.join(", ");
        // On the engine, since this thread may be past the end of its thread-locals.
        drop(super::spawn(async move {
            tracing::warn!(hosts, "hosts are not released yet; `broker checkin` settles what `broker inventory` shows");
        }));
    }
    let spent = (DROP_LIMIT - left) + begun.elapsed();
    // A thread that is ending has no more drops to count.
    let _ending = WAITED.try_with(|waited| waited.set(in_vain.then(|| (Instant::now(), spent))));
}

/// What is left of the limit for drops that belong together.
fn left_to_wait(now: Instant) -> Duration {
    match WAITED.try_with(Cell::get) {
        Ok(Some((last, spent))) if now.duration_since(last) < TOGETHER => DROP_LIMIT.saturating_sub(spent),
        _ => DROP_LIMIT,
    }
}

async fn tear_down_and_release(held: &Held) {
    let host = &held.host;
    let teardown = held.teardown.lock().take();
    if let Some(teardown) = teardown
        && let Err(error) = run_apart(teardown).await
    {
        tracing::warn!(host = host.label(), %error, "teardown failed; the host is checked in all the same");
    }
    if let Err(error) = release(held).await {
        let error = crate::error_chain(&error);
        tracing::warn!(host = host.label(), number = host.number(), error, "the host could not be checked in");
    }
}

/// Closes the session and releases the host. A session that does not close holds up nothing for long.
pub(crate) async fn release(held: &Held) -> Result<(), crate::Error> {
    close(&held.host).await;
    let (core, record) = (held.host.core(), held.host.record());
    match record.shared {
        Some(_) => crate::shared::leave(core, &record, held.guard, held.idle).await,
        None => super::release(core, record).await.map(drop),
    }
}

pub(crate) async fn close(host: &Host) {
    let close = AssertUnwindSafe(host.close_session()).catch_unwind();
    if !matches!(tokio::time::timeout(CLOSE_LIMIT, close).await, Ok(Ok(()))) {
        tracing::warn!(host = host.label(), "the session could not be closed");
    }
}

/// Lets the host stay, and returns the words that say how to get in.
pub(crate) async fn keep_for_a_look(held: &Held, lease: Duration) -> Option<String> {
    let host = &held.host;
    match keep(host, held.guard, Some(lease)).await {
        Ok(()) => {
            let (number, label, lease) = (host.number(), host.label(), crate::duration::format(lease));
            Some(format!(
                "broker: the test failed, so host {number} ({label}) stays for {lease}: get in with `broker shell {number}`, \
                 give it back with `broker checkin {number}`"
            ))
        }
        Err(error) => {
            tracing::warn!(host = host.label(), error = crate::error_chain(&error), "the host could not be kept");
            tear_down_and_release(held).await;
            None
        }
    }
}

/// Writes down that no guard holds the host any more.
pub(crate) async fn keep(host: &Host, guard: GuardId, lease: Option<Duration>) -> Result<(), crate::Error> {
    let _unfinished = super::Unfinished::begin();
    let kept = host.core().change(host.record(), |record| {
        record.holding = Holding::Kept;
        if let Some(shared) = &mut record.shared {
            shared.members.retain(|member| member.guard != guard);
        }
        if let Some(lease) = lease {
            record.lease_until = Some(crate::provider::Lease(lease).until());
        }
        Ok(())
    });
    host.set_record(kept.await?);
    Ok(())
}

/// Has everything settled when the process ends by returning from `main` or by `exit`: what guards still hold, those in
/// statics and forgotten ones among them, and what the engine has not finished.
pub(crate) extern "C" fn drain() {
    // A panic must not cross into C; nor is there anybody left to tell.
    drop(std::panic::catch_unwind(|| {
        if !super::is_own_process() || super::is_abandoned() {
            return;
        }
        super::STOP_ALL.cancel();
        let held = HELD.try_lock_for(Duration::from_secs(1)).and_then(|mut held| held.take()).unwrap_or_default();
        let begun = Instant::now();
        release_dropped(held.into_values().collect());
        if super::may_wait() {
            super::Unfinished::wait(DROP_LIMIT.saturating_sub(begun.elapsed()));
            // Whoever was asked something above has been asked now.
            super::closing::close_all();
            super::Unfinished::wait(DROP_LIMIT.saturating_sub(begun.elapsed()));
        }
    }));
}
