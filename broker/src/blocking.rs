//! The same without `async`: every call waits, on any thread, inside or outside a runtime.
//!
//! ```no_run
//! use broker::{HostRequest, blocking::Broker};
//!
//! # fn main() -> broker::Result<()> {
//! let host = Broker::new()?.checkout(HostRequest::nick("rhel9"))?;
//! assert!(host.execute("true")?.success());
//! # Ok(())
//! # } // the host is checked in here
//! ```
//!
//! The only threads that must not call it are Broker's own: a `teardown` hook that runs because a guard was dropped, and
//! the code of a provider. There it returns [`Error::Blocking`](crate::Error::Blocking).

use std::hash::Hash;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker_core::inventory::{HostRecord, Snapshot};
use broker_core::provider::{Execution, Query, Scope, Table};
use broker_core::session::{Command, ExitStatus, Output as Piece, PtySize, RemotePath, Signal};
use broker_core::{
    Args, Builder, CheckoutFailure, Choice, Chosen, Due, HostId, HostRequest, HostType, Orphans, OsRelease, Output,
    Reapable, Reaped, Reaping, Released, Result, Synced, Transferred, block_on,
};
use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::BrokerExt as _;

/// The blocking twin of [`Broker`](crate::Broker).
#[derive(Clone)]
pub struct Broker {
    inner: crate::Broker,
}

impl From<crate::Broker> for Broker {
    fn from(inner: crate::Broker) -> Self {
        Self { inner }
    }
}

impl Broker {
    /// A broker with the settings of the user, if there are any.
    ///
    /// # Errors
    ///
    /// If there is a settings file and it does not do.
    pub fn new() -> Result<Self> {
        crate::Broker::new().map(Self::from)
    }

    /// Starts a broker with the providers that this crate was built with. What is built is turned into this type by
    /// [`From`].
    pub fn builder() -> Builder {
        crate::Broker::builder()
    }

    /// The async twin.
    pub fn as_async(&self) -> &crate::Broker {
        &self.inner
    }

    /// See [`Broker::checkout`](crate::Broker::checkout).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn checkout(&self, request: HostRequest) -> Result<HostGuard> {
        block_on(self.inner.checkout(request))?.map(HostGuard::from)
    }

    /// See [`Broker::shared`](crate::Broker::shared).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn shared(&self, name: &str, request: HostRequest) -> Result<HostGuard> {
        block_on(self.inner.shared(name, request))?.map(HostGuard::from)
    }

    /// See [`Broker::checkout_many`](crate::Broker::checkout_many).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn checkout_many(&self, request: HostRequest) -> Result<HostGuards> {
        block_on(self.inner.checkout_many(request))?.map(HostGuards::from)
    }

    /// See [`Broker::checkout_all`](crate::Broker::checkout_all).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn checkout_all<K: Hash + Eq>(
        &self,
        requests: impl IntoIterator<Item = (K, HostRequest)>,
    ) -> Result<IndexMap<K, HostGuards>> {
        let all = block_on(self.inner.checkout_all(requests))??;
        Ok(all.into_iter().map(|(name, guards)| (name, guards.into())).collect())
    }

    /// See [`Broker::checkout_as`](crate::Broker::checkout_as).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn checkout_as<T: HostType>(&self, request: HostRequest) -> Result<HostGuard<T>> {
        block_on(self.inner.checkout_as::<T>(request))?.map(HostGuard::from)
    }

    /// See [`Broker::checkout_kept`](crate::Broker::checkout_kept).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn checkout_kept(&self, request: HostRequest) -> Result<Vec<Result<Host, CheckoutFailure>>> {
        let outcomes = block_on(self.inner.checkout_kept(request))??;
        Ok(outcomes.into_iter().map(|outcome| outcome.map(Host::from)).collect())
    }

    /// See [`Broker::with_host`](crate::Broker::with_host).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// If `body` does, after the host was checked in.
    pub fn with_host<R>(&self, request: HostRequest, body: impl FnOnce(&Host) -> R) -> Result<R> {
        block_on(self.inner.with_host(request, async |host: &crate::Host| body(&Host::from(host.clone()))))?
    }

    /// See [`Broker::checkin`](crate::Broker::checkin).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn checkin(&self, records: Vec<HostRecord>) -> Result<Vec<(HostRecord, Result<Released>)>> {
        block_on(self.inner.checkin(records))?
    }

    /// See [`Broker::checkin_by_force`](crate::Broker::checkin_by_force).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn checkin_by_force(&self, records: Vec<HostRecord>) -> Result<Vec<(HostRecord, Result<Released>)>> {
        block_on(self.inner.checkin_by_force(records))?
    }

    /// See [`Broker::extend`](crate::Broker::extend).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn extend(&self, records: Vec<HostRecord>, by: Duration) -> Result<Vec<(HostRecord, Result<HostRecord>)>> {
        block_on(self.inner.extend(records, by))?
    }

    /// See [`Broker::extend_with`](crate::Broker::extend_with).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn extend_with(
        &self,
        records: Vec<HostRecord>,
        by: Option<Duration>,
        args: Args,
    ) -> Result<Vec<(HostRecord, Result<HostRecord>)>> {
        block_on(self.inner.extend_with(records, by, args))?
    }

    /// See [`Broker::forget_by_force`](crate::Broker::forget_by_force).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn forget_by_force(&self, records: Vec<HostRecord>) -> Result<Vec<(HostRecord, Result<()>)>> {
        block_on(self.inner.forget_by_force(records))?
    }

    /// See [`Broker::host`](crate::Broker::host).
    pub fn host(&self, record: HostRecord) -> Host {
        self.inner.host(record).into()
    }

    /// See [`Broker::forget`](crate::Broker::forget).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn forget(&self, records: Vec<HostRecord>) -> Result<Vec<(HostRecord, Result<()>)>> {
        block_on(self.inner.forget(records))?
    }

    /// See [`Broker::execute`](crate::Broker::execute).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn execute(&self, request: HostRequest) -> Result<Execution> {
        block_on(self.inner.execute(request))?
    }

    /// See [`Broker::query`](crate::Broker::query).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn query(&self, provider: &str, instance: Option<&str>, query: Query) -> Result<Table> {
        block_on(self.inner.query(provider, instance, query))?
    }

    /// See [`Broker::sync`](crate::Broker::sync).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn sync(&self, provider: &str, instance: Option<&str>, scope: Scope) -> Result<Synced> {
        block_on(self.inner.sync(provider, instance, scope))?
    }

    /// See [`Broker::orphans`](crate::Broker::orphans).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn orphans(&self, provider: &str, instance: Option<&str>, scope: Scope) -> Result<Orphans> {
        block_on(self.inner.orphans(provider, instance, scope))?
    }

    /// See [`Broker::reapable`](crate::Broker::reapable).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reapable(&self, reaping: &Reaping) -> Result<Due> {
        block_on(self.inner.reapable(reaping))?
    }

    /// See [`Broker::reap`](crate::Broker::reap).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reap(&self, hosts: Vec<Reapable>) -> Result<Vec<(Reapable, Result<Reaped>)>> {
        block_on(self.inner.reap(hosts))?
    }

    /// See [`Broker::inventory`](crate::Broker::inventory).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn inventory(&self) -> Result<Snapshot> {
        block_on(self.inner.inventory())?
    }

    /// See [`Broker::from_inventory`](crate::Broker::from_inventory).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_inventory(&self, filter: Option<&str>) -> Result<Vec<Host>> {
        Ok(block_on(self.inner.from_inventory(filter))??.into_iter().map(Host::from).collect())
    }

    /// See [`Broker::find`](crate::Broker::find).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn find(&self, word: &str) -> Result<Host> {
        block_on(self.inner.find(word))?.map(Host::from)
    }

    /// See [`Broker::on_each`](crate::Broker::on_each). `work` runs on a thread for each host.
    ///
    /// ```no_run
    /// # fn example(broker: broker::blocking::Broker) -> broker::Result<()> {
    /// let hosts = broker.from_inventory(Some("name{web"))?;
    /// for (host, release) in broker.on_each(hosts, |host| host.os_release())? {
    ///     println!("{}: {}", host.label(), release?.pretty_name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no waiting for the engine here. What happened on each host is in its own outcome.
    ///
    /// # Panics
    ///
    /// If `work` does, when it has come to its end on the other hosts.
    pub fn on_each<T: Send>(
        &self,
        hosts: impl IntoIterator<Item = Host>,
        work: impl Fn(&Host) -> T + Sync,
    ) -> Result<Vec<(Host, T)>> {
        let work = &work;
        let done = std::thread::scope(|scope| {
            let hosts = hosts.into_iter().map(|host| host.inner);
            block_on(self.inner.on_each(hosts, |host| {
                let (tell, told) = oneshot::channel();
                scope.spawn(move || tell.send(work(&host.into())).ok());
                // Nothing is told of work that panicked: the scope does so itself.
                async { told.await.ok() }
            }))
        });
        let told = done?.into_iter().filter_map(|(host, outcome)| Some((host, outcome?)));
        Ok(own_hosts(told.collect()))
    }

    /// See [`Broker::execute_on`](crate::Broker::execute_on).
    ///
    /// # Errors
    ///
    /// If there is no waiting for the engine here. What happened on each host is in its own outcome.
    pub fn execute_on(
        &self,
        hosts: impl IntoIterator<Item = Host>,
        command: impl Into<Command>,
    ) -> Result<Vec<(Host, Result<Output>)>> {
        let hosts = hosts.into_iter().map(|host| host.inner);
        Ok(own_hosts(block_on(self.inner.execute_on(hosts, command))?))
    }

    /// See [`Broker::choose`](crate::Broker::choose).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn choose(&self, choice: &Choice) -> Result<Chosen> {
        block_on(self.inner.choose(choice))?
    }
}

fn own_hosts<T>(outcomes: Vec<(crate::Host, T)>) -> Vec<(Host, T)> {
    outcomes.into_iter().map(|(host, outcome)| (host.into(), outcome)).collect()
}

/// The blocking twin of [`Host`](crate::Host).
#[derive(Debug, Clone)]
pub struct Host {
    inner: crate::Host,
}

impl From<crate::Host> for Host {
    fn from(inner: crate::Host) -> Self {
        Self { inner }
    }
}

impl Host {
    /// The async twin.
    pub fn as_async(&self) -> &crate::Host {
        &self.inner
    }

    /// See [`Host::record`](crate::Host::record).
    pub fn record(&self) -> HostRecord {
        self.inner.record()
    }

    /// See [`Host::id`](crate::Host::id).
    pub fn id(&self) -> HostId {
        self.inner.id()
    }

    /// See [`Host::number`](crate::Host::number).
    pub fn number(&self) -> u64 {
        self.inner.number()
    }

    /// See [`Host::hostname`](crate::Host::hostname).
    pub fn hostname(&self) -> Option<String> {
        self.inner.hostname()
    }

    /// See [`Host::name`](crate::Host::name).
    pub fn name(&self) -> Option<String> {
        self.inner.name()
    }

    /// See [`Host::address`](crate::Host::address).
    pub fn address(&self) -> Option<String> {
        self.inner.address()
    }

    /// See [`Host::fact`](crate::Host::fact).
    pub fn fact(&self, name: &str) -> Option<Value> {
        self.inner.fact(name)
    }

    /// See [`Host::label`](crate::Host::label).
    pub fn label(&self) -> String {
        self.inner.label()
    }

    /// See [`Host::port`](crate::Host::port).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn port(&self, port: u16) -> Result<String> {
        self.inner.port(port)
    }

    /// See [`Host::extend`](crate::Host::extend).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn extend(&self, by: Duration) -> Result<()> {
        block_on(self.inner.extend(by))?
    }

    /// See [`Host::start`](crate::Host::start).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start(&self, command: impl Into<Command>) -> Result<Running> {
        block_on(self.inner.start(command))?.map(|inner| Running { inner })
    }

    /// See [`Host::follow_logs`](crate::Host::follow_logs).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn follow_logs(&self, tail: Option<usize>, follow: bool) -> Result<Logs> {
        block_on(self.inner.follow_logs(tail, follow))?.map(|inner| Logs { inner })
    }

    /// See [`Host::execute`](crate::Host::execute).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn execute(&self, command: impl Into<Command>) -> Result<Output> {
        block_on(self.inner.execute(command))?
    }

    /// Runs a command that reads from a reader until its end, as it comes, and collects what it prints. The reader is read
    /// on a thread of its own, which ends after the read that is under way when the command ends.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), and if the reader fails: the command is ended then.
    pub fn execute_with_stdin(
        &self,
        command: impl Into<Command>,
        reader: impl std::io::Read + Send + 'static,
    ) -> Result<Output> {
        block_on(async {
            let mut running = self.inner.start(command).await?;
            running.feed_blocking(reader)?;
            running.output().await
        })?
    }

    /// Runs a command and hands over what it prints as it comes.
    ///
    /// # Errors
    ///
    /// If the command could not be run or did not end in time.
    pub fn stream(&self, command: impl Into<Command>, mut take: impl FnMut(Piece)) -> Result<ExitStatus> {
        block_on(async {
            let mut running = self.inner.start(command).await?;
            running.close_stdin();
            while let Some(piece) = running.next().await {
                take(piece);
            }
            running.wait().await
        })?
    }

    /// See [`Host::write`](crate::Host::write).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write(&self, to: impl Into<RemotePath>, contents: impl Into<Bytes>) -> Result<()> {
        block_on(self.inner.write(to, contents))?
    }

    /// See [`Host::write_with_mode`](crate::Host::write_with_mode).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write_with_mode(&self, to: impl Into<RemotePath>, contents: impl Into<Bytes>, mode: u32) -> Result<()> {
        block_on(self.inner.write_with_mode(to, contents, mode))?
    }

    /// See [`Host::read`](crate::Host::read).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read(&self, from: impl Into<RemotePath>) -> Result<Bytes> {
        block_on(self.inner.read(from))?
    }

    /// See [`Host::put`](crate::Host::put).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn put(&self, from: impl AsRef<Path>, to: impl Into<RemotePath>) -> Result<()> {
        block_on(self.inner.put(from, to))?
    }

    /// See [`Host::get`](crate::Host::get).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn get(&self, from: impl Into<RemotePath>, to: impl Into<PathBuf>) -> Result<()> {
        block_on(self.inner.get(from, to))?
    }

    /// See [`Host::copy_to`](crate::Host::copy_to).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn copy_to(&self, from: impl Into<RemotePath>, other: &Self, to: impl Into<RemotePath>) -> Result<()> {
        block_on(self.inner.copy_to(from, &other.inner, to))?
    }

    /// See [`Host::transfer`](crate::Host::transfer).
    pub fn transfer(&self) -> Transfer<'_> {
        Transfer { inner: self.inner.transfer() }
    }

    /// See [`Host::tail`](crate::Host::tail).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn tail(&self, path: impl Into<RemotePath>, lines: usize, follow: bool) -> Result<Tail> {
        block_on(self.inner.tail(path, lines, follow))?.map(|inner| Tail { inner })
    }

    /// See [`Host::os_release`](crate::Host::os_release).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn os_release(&self) -> Result<OsRelease> {
        block_on(self.inner.os_release())?
    }

    /// See [`Host::reboot_and_wait`](crate::Host::reboot_and_wait).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reboot_and_wait(&self, limit: Duration) -> Result<()> {
        block_on(self.inner.reboot_and_wait(limit))?
    }

    /// See [`Host::logs`](crate::Host::logs).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn logs(&self) -> Result<String> {
        block_on(self.inner.logs())?
    }

    /// See [`Host::wait_for_port`](crate::Host::wait_for_port).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn wait_for_port(&self, port: u16, limit: Duration) -> Result<()> {
        block_on(self.inner.wait_for_port(port, limit))?
    }

    /// See [`Host::wait_until`](crate::Host::wait_until).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn wait_until(&self, command: impl Into<Command>, limit: Duration) -> Result<()> {
        block_on(self.inner.wait_until(command, limit))?
    }

    /// See [`Host::close`](crate::Host::close).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn close(&self) -> Result<()> {
        block_on(self.inner.close())?
    }
}

/// The blocking twin of [`Transfer`](crate::Transfer).
#[derive(Debug)]
#[must_use = "nothing moves before one of its methods is called"]
pub struct Transfer<'a> {
    inner: crate::Transfer<'a>,
}

impl<'a> Transfer<'a> {
    /// See [`Transfer::on_progress`](crate::Transfer::on_progress).
    pub fn on_progress(self, tell: impl FnMut(Transferred) + Send + 'a) -> Self {
        Self { inner: self.inner.on_progress(tell) }
    }

    /// See [`Host::put`](crate::Host::put).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn put(self, from: impl AsRef<Path>, to: impl Into<RemotePath>) -> Result<()> {
        block_on(self.inner.put(from, to))?
    }

    /// See [`Host::get`](crate::Host::get).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn get(self, from: impl Into<RemotePath>, to: impl Into<PathBuf>) -> Result<()> {
        block_on(self.inner.get(from, to))?
    }

    /// See [`Host::copy_to`](crate::Host::copy_to).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn copy_to(self, from: impl Into<RemotePath>, other: &Host, to: impl Into<RemotePath>) -> Result<()> {
        block_on(self.inner.copy_to(from, &other.inner, to))?
    }
}

/// The blocking twin of [`Running`](crate::Running): an iterator over what the command prints, which waits for the next
/// piece. Dropping it ends the command.
#[derive(Debug)]
#[must_use = "dropping it ends the command"]
pub struct Running {
    inner: crate::Running,
}

impl Running {
    /// See [`Running::write`](crate::Running::write).
    ///
    /// # Errors
    ///
    /// If there is no waiting for the engine here.
    pub fn write(&self, bytes: impl Into<Bytes>) -> Result<()> {
        block_on(self.inner.write(bytes))
    }

    /// See [`Running::resize`](crate::Running::resize).
    ///
    /// # Errors
    ///
    /// If there is no waiting for the engine here.
    pub fn resize(&self, size: PtySize) -> Result<()> {
        block_on(self.inner.resize(size))
    }

    /// See [`Running::signal`](crate::Running::signal).
    ///
    /// # Errors
    ///
    /// If there is no waiting for the engine here.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        block_on(self.inner.signal(signal))
    }

    /// See [`Running::close_stdin`](crate::Running::close_stdin).
    pub fn close_stdin(&mut self) {
        self.inner.close_stdin();
    }

    /// See [`Running::wait`](crate::Running::wait).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn wait(self) -> Result<ExitStatus> {
        block_on(self.inner.wait())?
    }
}

impl Iterator for Running {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        block_on(self.inner.next()).unwrap_or_default()
    }
}

/// The blocking twin of [`Logs`](crate::Logs): an iterator over pieces of the log, which waits for the next one. Dropping
/// it ends the reading.
#[derive(Debug)]
#[must_use = "dropping it ends the reading"]
pub struct Logs {
    inner: crate::Logs,
}

impl Iterator for Logs {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        block_on(self.inner.next()).unwrap_or_else(|error| Some(Err(error)))
    }
}

/// The blocking twin of [`Tail`](crate::Tail): an iterator over lines, which waits for the next one. Dropping it ends the
/// reading.
#[derive(Debug)]
#[must_use = "dropping it ends the reading"]
pub struct Tail {
    inner: crate::Tail,
}

impl Iterator for Tail {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        block_on(self.inner.line()).unwrap_or_else(|error| Some(Err(error)))
    }
}

/// The blocking twin of [`HostGuard`](crate::HostGuard): dropping it releases its host.
#[derive(Debug)]
#[must_use = "dropping a guard releases its host"]
pub struct HostGuard<T: HostType = ()> {
    inner: crate::HostGuard<T>,
    host: Host,
}

impl<T: HostType> From<crate::HostGuard<T>> for HostGuard<T> {
    fn from(inner: crate::HostGuard<T>) -> Self {
        let host = Host::from(crate::Host::clone(&inner));
        Self { inner, host }
    }
}

impl<T: HostType> HostGuard<T> {
    /// See [`HostGuard::special`](crate::HostGuard::special).
    pub fn special<S: HostType>(&self) -> Option<&S> {
        self.inner.special()
    }

    /// See [`HostGuard::typed`](crate::HostGuard::typed).
    pub fn typed(&self) -> &T {
        self.inner.typed()
    }

    /// See [`HostGuard::checkin`](crate::HostGuard::checkin).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn checkin(self) -> Result<()> {
        block_on(self.inner.checkin())?
    }

    /// See [`HostGuard::keep`](crate::HostGuard::keep).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn keep(self) -> Result<Host> {
        block_on(self.inner.keep())?.map(Host::from)
    }
}

impl<T: HostType> Deref for HostGuard<T> {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

/// The blocking twin of [`HostGuards`](crate::HostGuards).
#[derive(Debug, Default)]
#[must_use = "dropping guards releases their hosts"]
pub struct HostGuards {
    guards: Vec<HostGuard>,
}

impl From<crate::HostGuards> for HostGuards {
    fn from(guards: crate::HostGuards) -> Self {
        Self { guards: guards.into_iter().map(HostGuard::from).collect() }
    }
}

impl HostGuards {
    fn take(&mut self) -> crate::HostGuards {
        std::mem::take(&mut self.guards).into_iter().map(|guard| guard.inner).collect::<Vec<_>>().into()
    }

    /// See [`HostGuards::execute`](crate::HostGuards::execute).
    ///
    /// # Errors
    ///
    /// If there is no waiting for the engine here. What happened on each host is in its own outcome.
    pub fn execute(&self, command: impl Into<Command>) -> Result<Vec<(Host, Result<Output>)>> {
        let hosts = self.guards.iter().map(|guard| crate::Host::clone(&guard.inner));
        Ok(own_hosts(block_on(broker_core::execute_on(hosts.collect(), command))?))
    }

    /// See [`HostGuards::checkin`](crate::HostGuards::checkin).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn checkin(mut self) -> Result<()> {
        let guards = self.take();
        block_on(guards.checkin())?
    }

    /// See [`HostGuards::keep`](crate::HostGuards::keep).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn keep(mut self) -> Result<Vec<Host>> {
        let guards = self.take();
        Ok(block_on(guards.keep())??.into_iter().map(Host::from).collect())
    }
}

/// Dropped together, so that they are released together.
impl Drop for HostGuards {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl Deref for HostGuards {
    type Target = Vec<HostGuard>;

    fn deref(&self) -> &Vec<HostGuard> {
        &self.guards
    }
}

impl DerefMut for HostGuards {
    fn deref_mut(&mut self) -> &mut Vec<HostGuard> {
        &mut self.guards
    }
}
