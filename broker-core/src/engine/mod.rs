//! The engine: one thread with a runtime of its own, on which every call of a provider and of a session runs.
//!
//! Callers send it work and wait for the answer, on whatever runtime they have, or on none. So a caller that is dropped
//! never drops a half-made host, no connection outlives the runtime it was made on, and blocking callers wait in the
//! same way as async ones.

pub(crate) mod closing;
pub(crate) mod held;
pub(crate) mod hooks;
mod release;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::release::Released;
pub(crate) use self::release::{PATIENCE, Terms, Undone, caught, release, release_on, settle, undo, undo_limit};
use crate::error::Error;

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Engine {
    jobs: mpsc::UnboundedSender<Job>,
    runtime: Handle,
    pid: u32,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();

/// Held while the engine starts, so that it starts once.
static STARTING: Mutex<()> = Mutex::new(());

/// Cancelled when the process ends: everything that can be stopped hangs on it.
pub(crate) static STOP_ALL: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

static ABANDONED: AtomicBool = AtomicBool::new(false);

/// Says that the end of this process is to wait for nothing. What is under way is left to the journal, where `broker
/// inventory` shows it and `broker checkin` settles it.
pub fn abandon() {
    ABANDONED.store(true, Ordering::Relaxed);
}

fn is_abandoned() -> bool {
    ABANDONED.load(Ordering::Relaxed)
}

thread_local! {
    /// Whether this thread is the engine's or a hook's, where nothing may wait for the engine.
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// Marks the current thread as one that must not wait for the engine.
pub(crate) fn mark_thread() {
    OURS.with(|ours| ours.set(true));
}

/// Whether the current thread may wait for the engine.
pub(crate) fn may_wait() -> bool {
    OURS.with(|ours| !ours.get())
}

fn engine() -> Result<&'static Engine, Error> {
    let engine = match ENGINE.get() {
        Some(engine) => engine,
        None => {
            let _starting = STARTING.lock();
            match ENGINE.get() {
                Some(engine) => engine,
                None => {
                    let engine = start().map_err(Error::Start)?;
                    ENGINE.get_or_init(|| engine)
                }
            }
        }
    };
    // The thread does not exist in the child of a fork.
    if engine.pid == std::process::id() { Ok(engine) } else { Err(Error::Closed) }
}

fn start() -> io::Result<Engine> {
    let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().thread_name("broker-files").build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("broker-engine".to_owned()).spawn(move || {
        mark_thread();
        runtime.block_on(async move {
            while let Some(job) = queue.recv().await {
                drop(tokio::spawn(job));
            }
        });
    })?;
    crate::sys::at_exit(held::drain);
    Ok(Engine { jobs, runtime: handle, pid: std::process::id() })
}

/// Work that the process should not end without. Lives as long as the work.
pub(crate) struct Unfinished(());

static UNFINISHED: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Unfinished {
    pub(crate) fn begin() -> Self {
        *UNFINISHED.0.lock() += 1;
        Self(())
    }

    fn wait(limit: Duration) {
        let end = Instant::now() + limit;
        let mut count = UNFINISHED.0.lock();
        while *count > 0 && !UNFINISHED.1.wait_until(&mut count, end).timed_out() {}
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        *UNFINISHED.0.lock() -= 1;
        UNFINISHED.1.notify_all();
    }
}

/// Runs work on the engine to its end, whether or not anybody waits for it.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
    engine()?.jobs.send(Box::pin(work)).map_err(|_| Error::Closed)
}

/// Runs work on the engine and waits for its result. The work goes on when the returned future is dropped; what it
/// returns is then dropped on the engine.
pub(crate) fn call<T: Send + 'static>(
    doing: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = Result<T, Error>> + Send {
    // In a box, so that whoever spawns a call of ours need not have all that is inside of it looked through.
    let work: BoxFuture<'static, T> = Box::pin(work);
    async move {
        let (reply, result) = oneshot::channel();
        spawn(async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            // A caller that is gone drops the result here: a guard in it releases its host.
            drop(reply.send(outcome));
        })?;
        match result.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_panic)) => Err(Error::Panicked(doing)),
            Err(_) => Err(Error::Closed),
        }
    }
}

/// As [`call`], for work that ends at the next await when the returned future is dropped.
pub(crate) async fn call_while_wanted<T: Send + 'static>(
    doing: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let wanted = CancellationToken::new();
    let _cancel_on_drop: DropGuard = wanted.clone().drop_guard();
    let result = call(doing, async move {
        tokio::select! {
            value = work => Some(value),
            () = wanted.cancelled() => None,
        }
    });
    result.await?.ok_or(Error::Closed)
}

/// Waits for a future on this thread, inside or outside any runtime.
///
/// Timers and sockets that the future uses, say in a hook of the caller's, are driven by the engine's runtime.
///
/// # Errors
///
/// [`Error::Blocking`] on a thread that the engine may be waiting for, [`Error::Closed`] where there is no engine.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, Error> {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    if !may_wait() {
        return Err(Error::Blocking);
    }
    let _runtime = engine()?.runtime.enter();
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return Ok(value),
            Poll::Pending => thread::park(),
        }
    }
}

/// Whether this is the process that the engine was started in, not the child of a fork.
pub(crate) fn is_own_process() -> bool {
    ENGINE.get().is_some_and(|engine| engine.pid == std::process::id())
}
