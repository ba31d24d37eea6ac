//! [`Broker`]: checks hosts out and in.
//!
//! Read a checkout from [`Broker::checkout_many`] down: a request becomes orders, the journal is written, the provider
//! is asked, the journal is written again, and a guard owns the host.

use std::future::Future;
use std::hash::Hash;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use indexmap::IndexMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::builder::Builder;
use crate::context::{Core, Instance, Progress, Step};
use crate::engine::{self, Released, Terms, Undone, Unfinished};
use crate::error::{CheckoutError, CheckoutFailure, Error, FailureCause, Result};
use crate::guard::{HostGuard, HostGuards, HostType};
use crate::guardian::{Guarding, Watching};
use crate::host::Host;
use crate::id::{GuardId, HostId};
use crate::inventory::{Details, HIDDEN_ARGS, Holding, HostRecord, HostState, Liveness, Owner, Snapshot};
use crate::provider::{
    Endpoint, ErrorKind, HostFacts, Lease, Order, OrderLink, Provider, ProviderError, ProviderInfo, no_session,
};
use crate::request::{HostRequest, RequestError, ResolvedRequest, Wanted};
use crate::session::{Session, SessionError, SessionErrorKind};
use crate::settings::{BrokerDirectory, ProviderSettings, Settings};
use crate::shared;

/// The lease of a host that a guard holds, where neither the request nor the settings say otherwise.
pub(crate) const GUARD_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// The argument in a record that says what asked for the host.
pub(crate) const ORIGIN_ARGUMENT: &str = "_broker_origin";

/// Checks hosts out and in. Cheap to clone; clones are the same broker.
///
/// All methods can be called on any runtime, or on none: the work is done on Broker's own engine. Dropping the future
/// of a method never loses a host: a checkout that nobody waits for any more is undone, a checkin goes on.
#[derive(Clone)]
pub struct Broker {
    pub(crate) core: Arc<Core>,
}

impl Broker {
    /// Starts a broker without any provider.
    pub fn bare() -> Builder {
        Builder::default()
    }

    /// Checks one host out and hands it over as a guard.
    ///
    /// # Errors
    ///
    /// If the request does not do or asks for more than one host, or the host could not be made.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the checkout and undoes what was made.
    pub async fn checkout(&self, request: HostRequest) -> Result<HostGuard> {
        let batch = self.plan::<HostGuard>(request).await?;
        if batch.resolved.count != 1 {
            return Err(RequestError::NotOne(batch.resolved.count).into());
        }
        let (mut guards, failures) = split(self.make(batch, self.core.stop.child_token()).await?);
        match guards.pop() {
            Some(guard) => self.as_its_type(guard).await,
            None => Err(CheckoutError::new(HostGuards::default(), failures).into()),
        }
    }

    /// Checks out as many hosts as the request asks for, at once.
    ///
    /// # Errors
    ///
    /// If any of them could not be made. [`CheckoutError`] holds the guards of the others.
    ///
    /// # Cancel safety
    ///
    /// As for [`checkout`](Self::checkout).
    pub async fn checkout_many(&self, request: HostRequest) -> Result<HostGuards> {
        let batch = self.plan::<HostGuard>(request).await?;
        let (hosts, failures) = split(self.make(batch, self.core.stop.child_token()).await?);
        let guards = self.as_their_types(hosts).await?;
        if failures.is_empty() { Ok(guards) } else { Err(CheckoutError::new(guards, failures).into()) }
    }

    /// Checks out several requests at once, under names of the caller's: all of them or none.
    ///
    /// # Errors
    ///
    /// If a name is given twice, or any host could not be made; the others are released before this returns.
    ///
    /// # Cancel safety
    ///
    /// As for [`checkout`](Self::checkout).
    pub async fn checkout_all<K: Hash + Eq>(
        &self,
        requests: impl IntoIterator<Item = (K, HostRequest)>,
    ) -> Result<IndexMap<K, HostGuards>> {
        let mut batches = IndexMap::new();
        for (name, request) in requests {
            let batch = self.plan::<HostGuard>(request).await?;
            if batches.insert(name, batch).is_some() {
                return Err(RequestError::SameName.into());
            }
        }
        let cancel = self.core.stop.child_token();
        let making = batches.into_iter().map(async |(name, batch)| {
            let outcome = self.make(batch, cancel.child_token()).await.map(split);
            if !matches!(&outcome, Ok((_, failures)) if failures.is_empty()) {
                cancel.cancel();
            }
            (name, outcome)
        });
        let mut all = IndexMap::new();
        let mut failures = Vec::new();
        let mut broken = None;
        for (name, outcome) in join_all(making).await {
            match outcome {
                Ok((guards, failed)) => {
                    all.insert(name, HostGuards::from(guards));
                    failures.extend(failed);
                }
                // What was cancelled for the sake of another says nothing of what was wrong.
                Err(error) if broken.as_ref().is_none_or(was_cancelled) => broken = Some(error),
                Err(_) => {}
            }
        }
        if broken.is_none() && failures.is_empty() {
            let typing = all.into_iter().map(async |(name, guards)| (name, self.as_their_types(guards).await));
            all = IndexMap::new();
            for (name, typed) in join_all(typing).await {
                match typed {
                    Ok(guards) => {
                        all.insert(name, guards);
                    }
                    Err(error) => broken = broken.or(Some(error)),
                }
            }
            if broken.is_none() {
                return Ok(all);
            }
        }
        for released in join_all(all.into_values().map(HostGuards::checkin)).await {
            if let Err(error) = released {
                tracing::warn!(error = crate::error_chain(&error), "a host of the batch could not be checked in");
            }
        }
        // Those that were cancelled for the sake of another say nothing new.
        failures.sort_by_key(CheckoutFailure::is_cancelled);
        Err(broken.unwrap_or_else(|| CheckoutError::new(HostGuards::default(), failures).into()))
    }

    /// Sets a host up as the type that its provider says it is, where there is one. One whose setup fails is torn down and
    /// released.
    async fn as_its_type(&self, mut guard: HostGuard) -> Result<HostGuard> {
        let name = guard.fact("host_type");
        let name = name.as_ref().and_then(Value::as_str);
        let Some(make) = name.and_then(|name| self.core.host_types.get(name)) else { return Ok(guard) };
        let setup = guard.become_special(make(Host::clone(&guard)));
        match setup.await {
            Ok(()) => Ok(guard),
            Err(source) => {
                let host = guard.label();
                if let Err(second) = guard.checkin().await {
                    tracing::warn!(error = crate::error_chain(&second), "checkin after a failed setup");
                }
                Err(Error::Hook { hook: "setup", host, source })
            }
        }
    }

    /// As [`as_its_type`](Self::as_its_type), for several hosts: all of them, or none is left.
    async fn as_their_types(&self, hosts: impl IntoIterator<Item = HostGuard>) -> Result<HostGuards> {
        let mut guards = HostGuards::default();
        let mut broken = None;
        for typed in join_all(hosts.into_iter().map(|guard| self.as_its_type(guard))).await {
            match typed {
                Ok(guard) => guards.push(guard),
                Err(error) => broken = broken.or(Some(error)),
            }
        }
        // The others go with their guards.
        broken.map_or(Ok(guards), Err)
    }

    /// Checks one host out as a type of the caller's, and runs its [`setup`](HostType::setup). Of a host that its provider
    /// says to be of another type that one's setup has run before, and its teardown runs after the caller's.
    ///
    /// # Errors
    ///
    /// As for [`checkout`](Self::checkout). A host whose setup fails is torn down and released.
    pub async fn checkout_as<T: HostType>(&self, request: HostRequest) -> Result<HostGuard<T>> {
        let guard = self.checkout(request).await?.into_type::<T>();
        match guard.typed().setup(&guard).await {
            Ok(()) => Ok(guard),
            Err(source) => {
                let host = guard.label();
                let error = Error::Hook { hook: "setup", host, source };
                if let Err(second) = guard.checkin().await {
                    tracing::warn!(error = crate::error_chain(&second), "checkin after a failed setup");
                }
                Err(error)
            }
        }
    }

    /// Checks one host out for the time of `body`, and checks it in afterwards, whether `body` returns or panics.
    ///
    /// # Errors
    ///
    /// If the host could not be checked out, or not be checked in.
    ///
    /// # Panics
    ///
    /// If `body` does, after the host was checked in.
    pub async fn with_host<R>(&self, request: HostRequest, body: impl AsyncFnOnce(&Host) -> R) -> Result<R> {
        let guard = self.checkout(request).await?;
        let outcome = AssertUnwindSafe(body(&guard)).catch_unwind().await;
        match outcome {
            Ok(value) => guard.checkin().await.map(|()| value),
            Err(panic) => {
                match guard.end_after_panic().await {
                    Ok(Some(message)) => tell_a_person(&message),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(error = crate::error_chain(&error), "checkin after a panic"),
                }
                resume_unwind(panic)
            }
        }
    }

    /// Checks hosts out that no guard holds: they stay until they are checked in by name.
    ///
    /// Each host of the request has its own outcome, in no particular order.
    ///
    /// # Errors
    ///
    /// If nothing could be begun: the request does not do, the provider is not there, the journal cannot be written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels what is not made yet and undoes it; what is made stays, and is in the inventory.
    pub async fn checkout_kept(&self, request: HostRequest) -> Result<Vec<Result<Host, CheckoutFailure>>> {
        let batch = self.plan::<Host>(request).await?;
        self.make(batch, self.core.stop.child_token()).await
    }

    /// Turns a request into a batch: what is wanted, of whom, for how long. Asks no provider.
    pub(crate) async fn plan<H: Hold>(&self, request: HostRequest) -> Result<Batch<H>> {
        let resolved = request.resolve(&self.core.settings, &self.core.infos(), Wanted::Host)?;
        let instance = self.instance(&resolved.provider, resolved.instance.as_deref()).await?;
        let is_ours = !self.core.governs_leases(&resolved.provider);
        let lease = self.lease(resolved.lease, (H::HOLDING == Holding::Guarded && is_ours).then_some(GUARD_LEASE))?;
        if let Some(keep) = resolved.keep_on_failure {
            self.lease(Some(keep), None)?;
        }
        let origin = resolved.origin.clone().unwrap_or_else(default_origin);
        Ok(Batch::new(resolved, instance, lease, origin))
    }

    /// How long what was asked for may live: by the request, else by the settings, else `otherwise`; by `max_lease` at
    /// the most.
    pub(crate) fn lease(&self, wanted: Option<Duration>, otherwise: Option<Duration>) -> Result<Option<Duration>> {
        let settings = &self.core.settings;
        let limit = settings.max_lease();
        match (wanted, limit) {
            (Some(wanted), Some(limit)) if wanted > limit => Err(RequestError::Lease { wanted, limit }.into()),
            (Some(wanted), _) => Ok(Some(wanted)),
            (None, None) => Ok(settings.default_lease().or(otherwise)),
            (None, Some(limit)) => {
                Ok(Some(settings.default_lease().or(otherwise).map_or(limit, |lease| lease.min(limit))))
            }
        }
    }

    pub(crate) async fn instance(&self, provider: &str, instance: Option<&str>) -> Result<Instance> {
        let core = Arc::clone(&self.core);
        let (provider, instance) = (provider.to_owned(), instance.map(str::to_owned));
        engine::call("setting up a provider", async move { core.instance(&provider, instance.as_deref()).await })
            .await?
    }

    /// Makes a batch on the engine. If the caller goes away the orders are cancelled, and hosts that were made for
    /// guards are released as the guards are dropped.
    async fn make<H: Hold>(
        &self,
        batch: Batch<H>,
        cancel: CancellationToken,
    ) -> Result<Vec<Result<H, CheckoutFailure>>> {
        let _cancel_on_drop = cancel.clone().drop_guard();
        engine::call("checking out", make_batch(Arc::clone(&self.core), batch, cancel)).await?
    }

    /// Releases hosts, whoever holds them. Every host has its own outcome, in the order of `records`.
    ///
    /// # Errors
    ///
    /// If the engine is gone. What happened to each host is in its own outcome.
    ///
    /// # Cancel safety
    ///
    /// The checkin goes on when the future is dropped.
    pub async fn checkin(&self, records: Vec<HostRecord>) -> Result<Vec<(HostRecord, Result<Released>)>> {
        let release = |core: Arc<Core>, record| async move { engine::release(&core, record).await };
        self.each("checking in", records, release).await
    }

    /// As [`checkin`](Self::checkin), also for hosts that are half made or half released by a process of which nobody can
    /// tell whether it lives: on a network file system that is so of every process.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn checkin_by_force(&self, records: Vec<HostRecord>) -> Result<Vec<(HostRecord, Result<Released>)>> {
        let release = |core: Arc<Core>, record| async move {
            let terms = Terms { wanted: |_: &HostRecord| true, unproven_is_dead: true };
            Ok(engine::release_on(&core, record, &terms).await?.unwrap_or(Released::Before))
        };
        self.each("checking in", records, release).await
    }

    /// Does something with every host at once. One that hangs holds up nobody but itself, and the order is that of the
    /// records all the same.
    pub(crate) async fn each<T: Send + 'static, F>(
        &self,
        doing: &'static str,
        records: Vec<HostRecord>,
        work: impl Fn(Arc<Core>, HostRecord) -> F + Send + Sync + 'static,
    ) -> Result<Vec<(HostRecord, Result<T>)>>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let core = Arc::clone(&self.core);
        let all = async move {
            let concurrency = core.concurrency();
            let running = records.into_iter().enumerate().map(|(at, record)| {
                let begin = work(Arc::clone(&core), record.clone());
                let halt = &core.halt;
                async move {
                    let outcome = if halt.is_cancelled() { Err(not_begun(doing, &record)) } else { begin.await };
                    (at, (record, outcome))
                }
            });
            let mut done: Vec<_> = stream::iter(running).buffer_unordered(concurrency).collect().await;
            done.sort_by_key(|(at, _)| *at);
            done.into_iter().map(|(_, outcome)| outcome).collect()
        };
        engine::call(doing, all).await
    }

    /// What a request comes to, with its nick resolved and the defaults filled in. Asks nobody.
    ///
    /// # Errors
    ///
    /// If there is no such nick, provider or action, or more than one action, or the count makes no sense.
    pub fn resolve(&self, request: HostRequest, wanted: Wanted) -> Result<ResolvedRequest> {
        request.resolve(&self.core.settings, &self.core.infos(), wanted)
    }

    /// Everything in the inventory.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub async fn inventory(&self) -> Result<Snapshot> {
        let core = Arc::clone(&self.core);
        Ok(engine::call("reading the inventory", async move { core.inventory().load().await }).await??)
    }

    /// The host of a record.
    pub fn host(&self, record: HostRecord) -> Host {
        Host::new(Arc::clone(&self.core), record)
    }

    /// Whether a living process holds the host in a guard or is making or releasing it.
    pub fn is_held(&self, record: &HostRecord) -> bool {
        let busy = is_guarded(record) || matches!(record.state, HostState::Pending | HostState::Releasing);
        busy && self.core.liveness(record) != Liveness::Dead
    }

    /// What hosts do from now on. A reader that is too slow misses the oldest steps.
    pub fn steps(&self) -> broadcast::Receiver<Progress> {
        self.core.watch()
    }

    /// Cancels every checkout and execution that is under way: what is not made is not made, what is half made is
    /// undone. Their calls return as soon as that is settled. Further checkouts of this broker are cancelled too.
    pub fn stop(&self) {
        self.core.stop.cancel();
    }

    /// As [`stop`](Self::stop), and begins nothing more with hosts that there are: checkins and extensions that stand in
    /// line end with an error of kind [`Cancelled`](ErrorKind::Cancelled). Those that have begun come to their end.
    pub fn halt(&self) {
        self.core.halt.cancel();
        self.stop();
    }

    /// The settings in use.
    pub fn settings(&self) -> &Settings {
        &self.core.settings
    }

    /// The directory in use.
    pub fn directory(&self) -> &BrokerDirectory {
        &self.core.directory
    }

    /// The providers that there are.
    pub fn providers(&self) -> Vec<&ProviderInfo> {
        self.core.infos()
    }
}

/// Who has a host once it is made: a guard of the caller's, or nobody until it is checked in by name.
pub(crate) trait Hold: Sized + Send + 'static {
    const HOLDING: Holding;

    fn hold(host: Host, guard: GuardId, wanted: &ResolvedRequest) -> Self;

    fn record(&self) -> HostRecord;

    fn release(self) -> impl Future<Output = Result<()>> + Send;
}

impl Hold for HostGuard {
    const HOLDING: Holding = Holding::Guarded;

    fn hold(host: Host, guard: GuardId, wanted: &ResolvedRequest) -> Self {
        Self::new(host, guard, wanted.keep_on_failure, wanted.idle)
    }

    fn record(&self) -> HostRecord {
        Host::record(self)
    }

    async fn release(self) -> Result<()> {
        self.checkin().await
    }
}

impl Hold for Host {
    const HOLDING: Holding = Holding::Kept;

    fn hold(host: Host, _guard: GuardId, _wanted: &ResolvedRequest) -> Self {
        host
    }

    fn record(&self) -> HostRecord {
        Self::record(self)
    }

    async fn release(self) -> Result<()> {
        engine::release(self.core(), Self::record(&self)).await.map(drop)
    }
}

/// Hosts that are wanted together, for the same kind of holder.
pub(crate) struct Batch<H> {
    pub(crate) resolved: ResolvedRequest,
    pub(crate) provider: Arc<dyn Provider>,
    settings: Arc<ProviderSettings>,
    pub(crate) lease: Option<Duration>,
    origin: String,
    holder: PhantomData<fn() -> H>,
}

impl<H: Hold> Batch<H> {
    pub(crate) fn new(
        mut resolved: ResolvedRequest,
        instance: Instance,
        lease: Option<Duration>,
        origin: String,
    ) -> Self {
        resolved.instance = instance.name;
        // The settings have the last word on labels, so that an administrator's cannot be undone by a request.
        resolved.labels.extend(instance.settings.labels.clone());
        let Instance { provider, settings, .. } = instance;
        Self { resolved, provider, settings, lease, origin, holder: PhantomData }
    }
}

async fn make_batch<H: Hold>(
    core: Arc<Core>,
    batch: Batch<H>,
    cancel: CancellationToken,
) -> Result<Vec<Result<H, CheckoutFailure>>> {
    let _unfinished = Unfinished::begin();
    let limit = Limit::new(batch.resolved.timeout);
    let Begun { orders, drafts, .. } = begin(&core, &batch, &cancel, limit).await?;
    let watching = match H::HOLDING {
        Holding::Guarded => Some(watch(&core, &batch, &orders).await),
        Holding::Kept => None,
    };
    // From here on something may exist, so from here on the journal knows of it.
    let ids: Vec<HostId> = orders.iter().map(|order| order.id).collect();
    let added = core.inventory().add(drafts).await;
    let records = added.inspect_err(|_| ids.into_iter().for_each(|id| core.guarding.settled(id)))?;
    let all_or_nothing = batch.resolved.all_or_nothing;
    let making = orders.into_iter().zip(records);
    let making = making.map(|(order, record)| make_one(&core, &batch, limit, order, record, GuardId::generate()));
    let mut outcomes: Vec<_> = making
        .collect::<FuturesUnordered<_>>()
        .inspect(|outcome| {
            if all_or_nothing && outcome.is_err() {
                cancel.cancel();
            }
        })
        .collect()
        .await;
    if all_or_nothing && outcomes.iter().any(Result::is_err) {
        let wanted = &batch.resolved.wanted;
        outcomes = join_all(outcomes.into_iter().map(|outcome| take_back(&core, wanted, outcome))).await;
    }
    if let Some(watching) = watching {
        watching.confirmed().await;
    }
    Ok(outcomes)
}

/// What the journal and the provider are to be told of a batch.
pub(crate) struct Begun {
    pub(crate) orders: Vec<Order>,
    pub(crate) drafts: Vec<HostRecord>,
    pub(crate) owner: Owner,
}

/// Finds out where the hosts of a batch will be made, and whether they can be. Makes nothing.
pub(crate) async fn begin<H: Hold>(
    core: &Arc<Core>,
    batch: &Batch<H>,
    cancel: &CancellationToken,
    limit: Limit,
) -> Result<Begun> {
    let wrap = |source| Error::Provider { doing: format!("could not check out {}", batch.resolved.wanted), source };
    let endpoint = limit.bound(cancel, engine::caught(batch.provider.endpoint())).await.map_err(wrap)?;
    let owner = core.owner().await?;
    let orders: Vec<Order> = (0..batch.resolved.count).map(|_| order(core, batch, &owner, cancel)).collect();
    limit.bound(cancel, engine::caught(batch.provider.prepare(&orders))).await.map_err(wrap)?;
    let drafts = orders.iter().map(|order| draft(order, batch, &endpoint, &owner)).collect();
    Ok(Begun { orders, drafts, owner })
}

/// Has the guardian told of hosts before they exist.
pub(crate) async fn watch<H: Hold>(core: &Arc<Core>, batch: &Batch<H>, orders: &[Order]) -> Watching {
    let hosts = orders.iter().map(|order| order.id).collect();
    let lease_until = batch.lease.map(|lease| Lease(lease).until());
    let has_teardown = batch.resolved.teardown_command.is_some();
    Guarding::watch(core, &batch.settings, hosts, lease_until, has_teardown).await
}

/// How long a host may take, with the preparation of its batch and without what it stands in line for others.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    begun: Instant,
    limit: Option<Duration>,
}

impl Limit {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { begun: Instant::now(), limit }
    }

    fn not_counting(self, waited: Duration) -> Self {
        Self { begun: self.begun + waited, ..self }
    }

    /// Waits until the time is over, and returns the error that says so.
    async fn over(self) -> ProviderError {
        // A limit beyond the end of the clock is none.
        match self.limit.and_then(|limit| Some((limit, self.begun.checked_add(limit)?))) {
            Some((limit, end)) => {
                tokio::time::sleep_until(end).await;
                let limit = crate::duration::format(limit);
                ProviderError::new(ErrorKind::Timeout, format!("it was not done within {limit}"))
            }
            None => std::future::pending().await,
        }
    }

    /// Makes a call for as long as there is time, and somebody wants its result.
    pub(crate) async fn bound<T>(
        self,
        cancel: &CancellationToken,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(cancelled()),
            error = self.over() => Err(error),
            outcome = call => outcome,
        }
    }
}

fn cancelled() -> ProviderError {
    ProviderError::new(ErrorKind::Cancelled, "it was cancelled")
}

fn not_begun(doing: &str, record: &HostRecord) -> Error {
    let (number, host) = (record.number, record.label());
    Error::Provider {
        doing: format!("host {number} (`{host}`) is left as it is: {doing} was not begun"),
        source: cancelled(),
    }
}

/// Releases a host again because another one of its batch could not be had.
async fn take_back<H: Hold>(
    core: &Core,
    wanted: &str,
    outcome: Result<H, CheckoutFailure>,
) -> Result<H, CheckoutFailure> {
    let (record, released) = match outcome {
        Ok(held) => (held.record(), held.release().await),
        Err(failure) if failure.is_cancelled() && !core.stop.is_cancelled() => {
            return Err(CheckoutFailure { source: Box::new(FailureCause::Batch), ..failure });
        }
        Err(failure) => return Err(failure),
    };
    let (is_kept, done) = match released {
        Ok(()) => (false, "it was released again".to_owned()),
        Err(error) => (true, format!("releasing it again failed: {}", crate::error_chain(&error))),
    };
    let HostRecord { id, number, .. } = record;
    let source = Box::new(FailureCause::Batch);
    Err(CheckoutFailure { id, number, is_kept, done: Some(done), wanted: wanted.to_owned(), source })
}

pub(crate) fn order<H: Hold>(core: &Arc<Core>, batch: &Batch<H>, owner: &Owner, cancel: &CancellationToken) -> Order {
    Order {
        id: HostId::generate(),
        action: batch.resolved.action.clone(),
        args: batch.resolved.args.clone(),
        labels: batch.resolved.labels.clone(),
        lease_until: batch.lease.map(|lease| Lease(lease).until()),
        origin: batch.origin.clone(),
        owner: owner.clone(),
        link: Arc::new(Unrecorded { core: Arc::clone(core), wanted: batch.resolved.wanted.clone() }),
        cancel: cancel.child_token(),
    }
}

pub(crate) fn draft<H: Hold>(order: &Order, batch: &Batch<H>, endpoint: &Endpoint, owner: &Owner) -> HostRecord {
    let mut args = order.args.clone();
    args.insert(ORIGIN_ARGUMENT.to_owned(), order.origin.as_str().into());
    let hidden = &batch.resolved.hidden_args;
    let facts = (!hidden.is_empty()).then(|| (HIDDEN_ARGS.to_owned(), json!(hidden))).into_iter().collect();
    HostRecord {
        instance: batch.resolved.instance.clone(),
        details: Details { args, labels: order.labels.clone(), facts, ..Details::default() }.into(),
        lease_until: order.lease_until,
        teardown_command: batch.resolved.teardown_command.clone(),
        owner: Some(owner.clone()),
        holding: H::HOLDING,
        endpoint: Some(endpoint.clone()),
        ..HostRecord::new(order.id, &batch.resolved.provider, HostState::Pending)
    }
}

/// Makes one host that is in the journal as `pending`, for this guard, if for any.
pub(crate) async fn make_one<H: Hold>(
    core: &Arc<Core>,
    batch: &Batch<H>,
    limit: Limit,
    order: Order,
    record: HostRecord,
    guard: GuardId,
) -> Result<H, CheckoutFailure> {
    let queued = Instant::now();
    let turn = tokio::select! {
        biased;
        // Nobody was asked for it.
        () = order.cancelled() => return Err(give_up(core, batch, record, cancelled().into(), Leftover::None).await),
        turn = core.turn() => turn,
    };
    let limit = limit.not_counting(queued.elapsed());
    core.tell(&record, Step::Ordered);
    let recorded = Arc::new(Recorded { core: Arc::clone(core), record: Mutex::new(record) });
    let order = Order { link: Arc::clone(&recorded) as Arc<dyn OrderLink>, ..order };
    let asked = ask(core, &order, limit, batch.provider.checkout(&order)).await;
    drop(turn);
    let mut record = recorded.record.lock().clone();
    match asked {
        Ok(facts) => {
            // The lease begins when the host is there, however long that took.
            record.lease_until = batch.lease.map(|lease| Lease(lease).until());
            record.absorb(facts);
            record.state = HostState::Active;
            record.checked_out_at = Some(Timestamp::now());
            match core.inventory().update(record.clone()).await {
                Ok(record) => {
                    core.tell(&record, Step::Ready);
                    Ok(H::hold(Host::new(Arc::clone(core), record), guard, &batch.resolved))
                }
                // A host that cannot be written down cannot be handed over either.
                Err(error) => Err(give_up(core, batch, record, error.into(), Leftover::Made).await),
            }
        }
        Err(Asked::Failed(error)) => {
            let leftover = match (error.may_exist(), H::HOLDING) {
                (false, _) => Leftover::None,
                // Nobody is there to look at what a test has left behind.
                (true, Holding::Guarded) => Leftover::Look,
                (true, Holding::Kept) => Leftover::Keep,
            };
            Err(give_up(core, batch, record, error.into(), leftover).await)
        }
        Err(Asked::TooLate(error, facts)) => {
            record.absorb(facts);
            Err(give_up(core, batch, record, error.into(), Leftover::Made).await)
        }
        Err(Asked::CutOff(error)) => Err(give_up(core, batch, record, error.into(), Leftover::Look).await),
    }
}

/// Why the provider did not hand over what was asked for.
pub(crate) enum Asked<T> {
    /// It says so itself, and has tidied up or says that it has not.
    Failed(ProviderError),
    /// It did, when nobody wanted it any more.
    TooLate(ProviderError, T),
    /// It was cut off or broke down, and what it had done by then is not known.
    CutOff(ProviderError),
}

/// Asks the provider, for as long as there is time and somebody wants the answer. Then it is told to stop, and cut off
/// if it does not.
pub(crate) async fn ask<T>(
    core: &Core,
    order: &Order,
    limit: Limit,
    call: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, Asked<T>> {
    let call = AssertUnwindSafe(call).catch_unwind().map(|outcome| match outcome {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(Asked::Failed(error)),
        Err(panic) => {
            let message = engine::hooks::panic_message(panic.as_ref());
            Err(Asked::CutOff(ProviderError::new(ErrorKind::Bug, format!("the provider panicked: {message}"))))
        }
    });
    tokio::pin!(call);
    let error = tokio::select! {
        outcome = &mut call => return outcome,
        () = order.cancelled() => cancelled(),
        error = limit.over() => error,
    };
    order.cancel.cancel();
    match tokio::time::timeout(core.stop_grace(), call).await {
        Ok(Ok(made)) => Err(Asked::TooLate(error, made)),
        Ok(Err(Asked::Failed(last))) if last.may_exist() => Err(Asked::CutOff(error)),
        Ok(Err(Asked::Failed(_))) => Err(Asked::Failed(error)),
        Ok(Err(_)) | Err(_) => Err(Asked::CutOff(error)),
    }
}

/// Whether a guard, or somebody who shares the host, will release it.
pub(crate) fn is_guarded(record: &HostRecord) -> bool {
    record.holding == Holding::Guarded || shared::is_used(record)
}

/// What to do about what a checkout that failed may have left behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leftover {
    /// There is nothing.
    None,
    /// The record says what it is: release that.
    Made,
    /// Look for it, and release it. It may still come to be.
    Look,
    /// Leave it for its user to look at and check in.
    Keep,
}

/// Ends a checkout that failed: nothing is left, or an entry that shows what may be.
async fn give_up<H: Hold>(
    core: &Arc<Core>,
    batch: &Batch<H>,
    record: HostRecord,
    cause: FailureCause,
    leftover: Leftover,
) -> CheckoutFailure {
    core.tell(&record, Step::Failed);
    let provider = batch.provider.as_ref();
    let undo = async {
        match leftover {
            Leftover::None | Leftover::Keep => Ok(Undone::Nothing),
            Leftover::Made => engine::caught(provider.release(&record)).await.map(|()| Undone::Released),
            Leftover::Look => engine::undo(provider, &record, Duration::ZERO, engine::PATIENCE).await,
        }
    };
    let undone = tokio::time::timeout(engine::undo_limit(provider), undo).await;
    let (is_kept, done) = match (leftover, undone) {
        (Leftover::None, _) => (false, None),
        (Leftover::Keep, _) => (true, None),
        (_, Ok(Ok(Undone::Released))) => (false, Some("what was made for it is released".to_owned())),
        (_, Ok(Ok(Undone::Nothing))) => (false, Some("nothing was left of it".to_owned())),
        // Whoever looks next, when its time has passed, knows.
        (_, Ok(Ok(Undone::Awaited(left)))) => (true, Some(awaited(left))),
        (_, Ok(Err(error))) => (true, Some(format!("undoing it failed: {}", crate::error_chain(&error)))),
        (_, Err(_)) => (true, Some("undoing it took too long".to_owned())),
    };
    let state = if is_kept { HostState::Failed } else { HostState::Gone };
    let error = match &done {
        Some(done) if is_kept => format!("{}; {done}", crate::error_chain(&cause)),
        _ => crate::error_chain(&cause),
    };
    let HostRecord { id, number, .. } = record;
    // `pending` with a dead owner is settled as `failed` would be, so nothing is lost if this cannot be written.
    engine::settle(core, HostRecord { state, error: Some(error), ..record }).await;
    let source = Box::new(cause);
    CheckoutFailure { id, number, is_kept, done, wanted: batch.resolved.wanted.clone(), source }
}

/// What to say of a host that is not there, and may yet be.
pub(crate) fn awaited(left: Duration) -> String {
    let seconds = Duration::from_secs(left.as_secs().saturating_add(1));
    format!("there is nothing of it so far, and it may still come to be for {}", crate::duration::format(seconds))
}

/// What an order of a host that is in the journal leads to.
struct Recorded {
    core: Arc<Core>,
    record: Mutex<HostRecord>,
}

#[async_trait]
impl OrderLink for Recorded {
    async fn made(&self, _id: HostId, handle: Value) -> Result<(), ProviderError> {
        let mut wanted = self.record.lock().clone();
        wanted.details.handle = Some(handle);
        let written = self.core.inventory().update(wanted).await.map_err(|source| {
            ProviderError::new(ErrorKind::Failed, "what was made so far could not be written down")
                .source(source)
                .leaving_something()
        })?;
        *self.record.lock() = written;
        Ok(())
    }

    async fn known(&self, _id: HostId, facts: HostFacts) -> Result<(), ProviderError> {
        let mut wanted = self.record.lock().clone();
        wanted.absorb(facts);
        let written = self.core.inventory().update(wanted).await.map_err(|source| {
            ProviderError::new(ErrorKind::Failed, "what is known of the host could not be written down").source(source)
        })?;
        *self.record.lock() = written;
        Ok(())
    }

    fn progress(&self, _id: HostId, message: String) {
        let record = self.record.lock().clone();
        self.core.tell(&record, Step::Doing(message));
    }

    fn told(&self, _id: HostId, key: &'static str, value: Value) {
        let record = self.record.lock().clone();
        self.core.tell(&record, Step::Told(key, value));
    }

    async fn session(&self, facts: HostFacts) -> Result<Arc<dyn Session>, SessionError> {
        let mut record = self.record.lock().clone();
        record.absorb(facts);
        // From now on a machine may be booting.
        record.checked_out_at = Some(Timestamp::now());
        let host = Host::new(Arc::clone(&self.core), record);
        host.open_unfinished().await.map_err(|error| match error {
            Error::Session { source, .. } => source,
            other => SessionError::new(SessionErrorKind::Failed, "no session could be opened").source(other),
        })
    }
}

/// What an order leads to that is not in the journal: an execution, or a batch that is being prepared.
struct Unrecorded {
    core: Arc<Core>,
    wanted: String,
}

#[async_trait]
impl OrderLink for Unrecorded {
    async fn made(&self, _id: HostId, _handle: Value) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn known(&self, _id: HostId, _facts: HostFacts) -> Result<(), ProviderError> {
        Ok(())
    }

    fn progress(&self, id: HostId, message: String) {
        self.core.announce(Progress { id, number: None, host: self.wanted.clone(), step: Step::Doing(message) });
    }

    fn told(&self, id: HostId, key: &'static str, value: Value) {
        let step = Step::Told(key, value);
        self.core.announce(Progress { id, number: None, host: self.wanted.clone(), step });
    }

    async fn session(&self, _facts: HostFacts) -> Result<Arc<dyn Session>, SessionError> {
        Err(no_session())
    }
}

#[expect(clippy::print_stderr, reason = "whoever asked for a host to stay has to learn how to get in")]
fn tell_a_person(message: &str) {
    eprintln!("{message}");
}

/// What asks for hosts where the request does not say: the thread, which is the test under `cargo test`, and the program.
pub(crate) fn default_origin() -> String {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy();
    match std::thread::current().name() {
        Some(name) if name != "main" => format!("{name}:{program}"),
        _ => program.into_owned(),
    }
}

/// Whether an error only says that nobody wanted it any more.
fn was_cancelled(error: &Error) -> bool {
    matches!(error, Error::Provider { source, .. } if source.kind() == ErrorKind::Cancelled)
}

fn split(outcomes: Vec<Result<HostGuard, CheckoutFailure>>) -> (Vec<HostGuard>, Vec<CheckoutFailure>) {
    let (mut guards, mut failures) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(guard) => guards.push(guard),
            Err(failure) => failures.push(failure),
        }
    }
    guards.sort_by_key(|guard| guard.number());
    (guards, failures)
}
