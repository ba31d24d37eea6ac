//! A host's own `setup` and `teardown`, where they do not run on the caller.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use crate::error::HookError;

/// How long a hook may take where nobody waits for it by name.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A hook that is ready to run.
pub(crate) type Hook = Pin<Box<dyn Future<Output = Result<(), HookError>> + Send>>;

/// Runs a hook on a thread and a runtime of its own, so that one that blocks or panics holds up nobody else.
pub(crate) async fn run_apart(hook: impl FnOnce() -> Hook + Send + 'static) -> Result<(), HookError> {
    let (reply, result) = oneshot::channel();
    let body = move || {
        super::mark_thread();
        let outcome = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(HookError::from)
            .and_then(|runtime| runtime.block_on(bounded(hook)));
        drop(reply.send(outcome));
    };
    std::thread::Builder::new().name("broker-hook".to_owned()).spawn(body)?;
    // A hook that blocks its thread never sees its own limit.
    match tokio::time::timeout(LIMIT + Duration::from_secs(1), result).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err("it panicked".into()),
        Err(_) => Err(too_long()),
    }
}

async fn bounded(hook: impl FnOnce() -> Hook) -> Result<(), HookError> {
    let caught = AssertUnwindSafe(async { hook().await }).catch_unwind();
    match tokio::time::timeout(LIMIT, caught).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(format!("it panicked: {}", panic_message(panic.as_ref())).into()),
        Err(_) => Err(too_long()),
    }
}

fn too_long() -> HookError {
    format!("it took longer than {}", crate::duration::format(LIMIT)).into()
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
