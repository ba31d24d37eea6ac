//! Guards: values that own checked-out hosts.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use crate::engine::held::{self, Held, Teardown};
use crate::engine::hooks::Hook;
use crate::engine::{self};
use crate::error::{Error, HookError, Result};
use crate::host::Host;
use crate::id::GuardId;

/// A type of host with a `setup` and a `teardown` of its own.
///
/// ```
/// use broker_core::{Host, HookError, HostType};
///
/// struct WebServer {
///     host: Host,
/// }
///
/// impl HostType for WebServer {
///     fn new(host: Host) -> Self {
///         Self { host }
///     }
///
///     async fn setup(&self, host: &Host) -> Result<(), HookError> {
///         host.execute("httpd -p 8080").await?.check()?;
///         Ok(())
///     }
///
///     async fn teardown(&self, host: &Host) -> Result<(), HookError> {
///         host.execute("killall httpd").await?;
///         Ok(())
///     }
/// }
/// ```
pub trait HostType: Send + Sync + 'static {
    /// Wraps a host that was just checked out.
    fn new(host: Host) -> Self;

    /// Makes the host ready for use, right after its checkout. Runs on the caller.
    ///
    /// # Errors
    ///
    /// An error fails the checkout: the host is torn down and released.
    fn setup(&self, host: &Host) -> impl Future<Output = Result<(), HookError>> + Send {
        let _nothing_to_do = host;
        async { Ok(()) }
    }

    /// Runs before the host is released, however its test ends. Under [`HostGuard::checkin`] it runs on the caller;
    /// when a guard is dropped it runs on a thread of its own, for 30 seconds at the most, and may use only the host.
    ///
    /// # Errors
    ///
    /// An error is reported. The host is released all the same.
    fn teardown(&self, host: &Host) -> impl Future<Output = Result<(), HookError>> + Send {
        let _nothing_to_do = host;
        async { Ok(()) }
    }
}

/// A host without a type of its own.
impl HostType for () {
    fn new(_host: Host) -> Self {}
}

/// A host as the type that its provider says it is.
pub(crate) struct Special {
    value: Arc<dyn Any + Send + Sync>,
    setup: Hook,
    teardown: Teardown,
}

/// Makes a [`Special`] of a host.
pub(crate) type MakeSpecial = Arc<dyn Fn(Host) -> Special + Send + Sync>;

/// What makes hosts of a type.
pub(crate) fn special<T: HostType>() -> MakeSpecial {
    Arc::new(|host: Host| {
        let typed = Arc::new(T::new(host.clone()));
        let (setting_up, tearing_down) = (Arc::clone(&typed), Arc::clone(&typed));
        let (at_setup, at_teardown) = (host.clone(), host);
        Special {
            value: typed,
            setup: Box::pin(async move { setting_up.setup(&at_setup).await }),
            teardown: Box::new(move || Box::pin(async move { tearing_down.teardown(&at_teardown).await })),
        }
    })
}

/// One teardown, and then what was there before it, whatever came of the one.
fn both(first: Teardown, then: Option<Teardown>) -> Teardown {
    let Some(then) = then else { return first };
    Box::new(move || {
        Box::pin(async move {
            let torn_down = AssertUnwindSafe(async { first().await }).catch_unwind().await;
            let then = then().await;
            match torn_down {
                Ok(torn_down) => torn_down.and(then),
                Err(panic) => resume_unwind(panic),
            }
        })
    })
}

/// Owns a checked-out host. Dropping it tears the host down and checks it in, also when a test panics.
///
/// The drop waits until the host is released, for a minute at the most, and for no more than that however many guards
/// are dropped together. [`checkin`](Self::checkin) is the way to see errors.
#[must_use = "dropping a guard releases its host"]
pub struct HostGuard<T: HostType = ()> {
    id: GuardId,
    host: Host,
    typed: Arc<T>,
    /// The host as the type that its provider says it is, where the broker has one of that name.
    special: Option<Arc<dyn Any + Send + Sync>>,
    pid: u32,
}

impl HostGuard {
    pub(crate) fn new(host: Host, id: GuardId, keep_on_failure: Option<Duration>, idle: Option<Duration>) -> Self {
        held::insert(Held { guard: id, host: host.clone(), idle, keep_on_failure, teardown: None.into() });
        Self { id, host, typed: Arc::new(()), special: None, pid: std::process::id() }
    }

    /// The same host, under a type that brings its own teardown.
    pub(crate) fn into_type<T: HostType>(self) -> HostGuard<T> {
        let host = self.host.clone();
        let typed = Arc::new(T::new(host.clone()));
        let (id, pid) = (self.id, self.pid);
        if let Some(held) = held::get(id) {
            let (typed, host) = (Arc::clone(&typed), host.clone());
            let mut teardown = held.teardown.lock();
            *teardown =
                Some(both(Box::new(move || Box::pin(async move { typed.teardown(&host).await })), teardown.take()));
        }
        let special = self.special.clone();
        self.disarm();
        HostGuard { id, host, typed, special, pid }
    }

    /// Takes the host for a special one from here on: that one's teardown runs before its release. Returns its setup.
    pub(crate) fn become_special(&mut self, special: Special) -> Hook {
        let Special { value, setup, teardown } = special;
        if let Some(held) = held::get(self.id) {
            *held.teardown.lock() = Some(teardown);
        }
        self.special = Some(value);
        setup
    }

    /// Ends without releasing anything: another guard goes on with the host.
    fn disarm(mut self) {
        self.pid = 0;
    }
}

impl<T: HostType> HostGuard<T> {
    /// The host as the type that it was checked out as.
    pub fn typed(&self) -> &T {
        &self.typed
    }

    /// The host as the type that its provider says it is: one that [`Builder::host_type`](crate::Builder::host_type) has
    /// named, and whose setup has run. Nothing for every other host.
    pub fn special<S: HostType>(&self) -> Option<&S> {
        self.special.as_ref()?.downcast_ref()
    }

    /// Tears the host down and checks it in, and says what went wrong.
    ///
    /// # Errors
    ///
    /// If the teardown failed, or the host could not be released; it is then still in the inventory.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the host is checked in all the same, and a teardown that has begun is not begun again.
    pub async fn checkin(self) -> Result<()> {
        if self.is_foreign() {
            return Err(Error::Closed);
        }
        let torn_down = match held::get(self.id).and_then(|held| held.teardown.lock().take()) {
            Some(teardown) => teardown().await,
            None => Ok(()),
        };
        self.release().await?;
        torn_down.map_err(|source| Error::Hook { hook: "teardown", host: self.host.label(), source })
    }

    async fn release(&self) -> Result<()> {
        // Whoever takes the entry releases the host; from there on it is the engine's, not this future's.
        let Some(held) = held::take(self.id) else { return Ok(()) };
        engine::call("checking in", async move { held::release(&held).await }).await?
    }

    /// Checks the host in after its user panicked, or keeps it where that was asked for; then returns what to tell.
    pub(crate) async fn end_after_panic(self) -> Result<Option<String>> {
        if self.is_foreign() {
            return Err(Error::Closed);
        }
        match held::get(self.id).and_then(|held| held.keep_on_failure) {
            Some(lease) => {
                let Some(held) = held::take(self.id) else { return Ok(None) };
                engine::call("keeping a host", async move { held::keep_for_a_look(&held, lease).await }).await
            }
            None => self.checkin().await.map(|()| None),
        }
    }

    /// Lets the host stay: it is in the inventory until it is checked in by name.
    ///
    /// # Errors
    ///
    /// If that could not be written down. The host is then checked in.
    pub async fn keep(self) -> Result<Host> {
        if self.is_foreign() {
            return Err(Error::Closed);
        }
        let (host, id) = (self.host.clone(), self.id);
        let kept = engine::call("keeping a host", async move { held::keep(&host, id, None).await });
        kept.await??;
        drop(held::take(self.id));
        Ok(self.host.clone())
    }

    /// Whether this is a copy of the guard in the child of a fork, which owns nothing.
    fn is_foreign(&self) -> bool {
        self.pid != std::process::id()
    }
}

impl<T: HostType> Drop for HostGuard<T> {
    fn drop(&mut self) {
        if !self.is_foreign() {
            held::release_dropped(held::take(self.id).into_iter().collect());
        }
    }
}

impl<T: HostType> Deref for HostGuard<T> {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl<T: HostType> fmt::Debug for HostGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostGuard").field(&self.host).finish()
    }
}

/// Guards of several hosts. Dropping it checks all of them in at once.
#[derive(Debug, Default)]
#[must_use = "dropping guards releases their hosts"]
pub struct HostGuards(Vec<HostGuard>);

impl HostGuards {
    /// Checks all the hosts in at once.
    ///
    /// # Errors
    ///
    /// The first of the errors; the others are logged. Every host was tried.
    pub async fn checkin(mut self) -> Result<()> {
        let outcomes = join_all(std::mem::take(&mut self.0).into_iter().map(HostGuard::checkin)).await;
        let mut first = Ok(());
        for error in outcomes.into_iter().filter_map(Result::err) {
            if first.is_ok() {
                first = Err(error);
            } else {
                tracing::warn!(error = crate::error_chain(&error), "another host could not be checked in");
            }
        }
        first
    }

    /// Lets all the hosts stay.
    ///
    /// # Errors
    ///
    /// If that could not be written down for one of them. That one and those after it are then checked in; those before
    /// it stay, and are in the inventory.
    pub async fn keep(mut self) -> Result<Vec<Host>> {
        let mut hosts = Vec::new();
        for guard in std::mem::take(&mut self.0) {
            hosts.push(guard.keep().await?);
        }
        Ok(hosts)
    }

    /// Takes the last guard out.
    pub fn pop(&mut self) -> Option<HostGuard> {
        self.0.pop()
    }
}

impl Drop for HostGuards {
    fn drop(&mut self) {
        let own = self.0.iter().filter(|guard| !guard.is_foreign());
        held::release_dropped(own.filter_map(|guard| held::take(guard.id)).collect());
    }
}

impl Deref for HostGuards {
    type Target = Vec<HostGuard>;

    fn deref(&self) -> &Vec<HostGuard> {
        &self.0
    }
}

impl DerefMut for HostGuards {
    fn deref_mut(&mut self) -> &mut Vec<HostGuard> {
        &mut self.0
    }
}

impl From<Vec<HostGuard>> for HostGuards {
    fn from(guards: Vec<HostGuard>) -> Self {
        Self(guards)
    }
}

impl IntoIterator for HostGuards {
    type Item = HostGuard;
    type IntoIter = std::vec::IntoIter<HostGuard>;

    fn into_iter(mut self) -> Self::IntoIter {
        std::mem::take(&mut self.0).into_iter()
    }
}

impl<'a> IntoIterator for &'a HostGuards {
    type Item = &'a HostGuard;
    type IntoIter = std::slice::Iter<'a, HostGuard>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
