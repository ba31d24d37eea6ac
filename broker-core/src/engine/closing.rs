//! The end of providers: when their broker goes, or the process does.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use parking_lot::Mutex;

use super::Unfinished;
use crate::provider::Provider;

/// How long a provider may take to give back what it holds.
const LIMIT: Duration = Duration::from_secs(10);

/// All providers that there are, for the end of the process: brokers in statics are never dropped.
static PROVIDERS: Mutex<Vec<Weak<dyn Provider>>> = Mutex::new(Vec::new());

/// Has a provider closed when the process ends.
pub(crate) fn remember(provider: &Arc<dyn Provider>) {
    let mut providers = PROVIDERS.lock();
    providers.retain(|provider| provider.strong_count() > 0);
    providers.push(Arc::downgrade(provider));
}

/// Closes providers, on the engine. The process does not end before that is done.
pub(crate) fn close(providers: impl Iterator<Item = Arc<dyn Provider>>) {
    let mut all: Vec<Arc<dyn Provider>> = Vec::new();
    for provider in providers {
        // One provider can stand under two names.
        if !all.iter().any(|known| Arc::ptr_eq(known, &provider)) {
            all.push(provider);
        }
    }
    if all.is_empty() || !super::is_own_process() {
        return;
    }
    let unfinished = Unfinished::begin();
    let work = async move {
        let _unfinished = unfinished;
        let closing = all.iter().map(|provider| async move {
            let call = AssertUnwindSafe(provider.close()).catch_unwind();
            if !matches!(tokio::time::timeout(LIMIT, call).await, Ok(Ok(()))) {
                tracing::warn!("a provider could not give back what it held");
            }
        });
        join_all(closing).await;
    };
    // An engine that is gone has nobody left to close anything with.
    drop(super::spawn(work));
}

/// Closes all providers that there still are.
pub(super) fn close_all() {
    let providers: Vec<Arc<dyn Provider>> =
        PROVIDERS.lock().drain(..).filter_map(|provider| provider.upgrade()).collect();
    close(providers.into_iter());
}
