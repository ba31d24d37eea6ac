//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// How long anything may take that is expected to happen soon, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
pub const PERIOD: Duration = Duration::from_millis(10);

/// Waits until something is so.
///
/// # Panics
///
/// If it is not within [`SOON`]. `what` says what was waited for.
pub fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_within(SOON, what, is_so);
}

/// Waits until something is so, for as long as `limit`.
///
/// # Panics
///
/// If it is not by then.
pub fn until_within(limit: Duration, what: &str, is_so: impl FnMut() -> bool) {
    until_every(PERIOD, limit, what, is_so);
}

/// Waits until something is so, for as long as `limit`, and looks at it once in every `period`: where a look is work for
/// what is waited for.
///
/// # Panics
///
/// If it is not by then.
pub fn until_every(period: Duration, limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        std::thread::sleep(period);
    }
}

/// Waits until something is so, without blocking the thread.
///
/// # Panics
///
/// If it is not within [`SOON`].
pub async fn until_async<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let end = Instant::now() + SOON;
    while !is_so().await {
        assert!(Instant::now() < end, "waited {SOON:?} in vain for {what}");
        tokio::time::sleep(PERIOD).await;
    }
}
