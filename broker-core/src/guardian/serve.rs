//! The guardian itself: waits for its owner's end, and then settles the hosts that it was told of.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::message::{FromGuardian, Run, ToGuardian, VERSION, line};
use super::ward::{self, Next, Owner};
use crate::args::Args;
use crate::context::Core;
use crate::engine::{self, Released, Terms};
use crate::error::Error;
use crate::id::{HostId, RunId};
use crate::inventory::{HostRecord, Liveness, liveness};
use crate::provider::ProviderFactory;
use crate::settings::{BrokerDirectory, ProviderSettings, Settings};

/// How often a host that stays is looked at, once its owner is dead: somebody else may have checked it in.
const LOOK: Duration = Duration::from_secs(5);

/// The longest sleep. The clock that leases end by may be set while a guardian sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How soon a failed attempt is repeated at first, and at last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// How long the release of a host is tried once its owner is dead.
const GIVE_UP: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a process cannot be a guardian.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Nobody is there to be guarded.
    #[error("a guardian is started by a process that holds hosts, and reads from a pipe")]
    NoOwner(#[source] io::Error),
    /// What it was told makes no sense, or is of another version.
    #[error("{0}")]
    Refused(String),
    /// The engine could not be started.
    #[error(transparent)]
    Engine(#[from] Error),
}

/// Is the guardian of the process that started this one, until all hosts that it was told of are settled.
///
/// This is what `broker guardian` does; a program of one's own can do it with providers of its own. The other end is
/// [`Builder::guardian`](crate::Builder::guardian). `begin` is called once, with the Broker directory of the first hosts:
/// the place for a log.
///
/// # Errors
///
/// If this process was not started to be a guardian, or by another version.
pub fn serve(
    providers: Vec<Arc<dyn ProviderFactory>>,
    begin: impl FnOnce(&BrokerDirectory) + Send + 'static,
) -> Result<(), ServeError> {
    let owner = std::os::unix::process::parent_id();
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(ServeError::NoOwner)?;
    let work = engine::call("guarding hosts", async move {
        let input = pipe::Receiver::from_owned_fd(input).map_err(ServeError::NoOwner)?;
        let mut lines = read(input);
        greet(&mut lines, &providers).await?;
        let guardian = Guardian {
            providers,
            owner,
            owner_ended: None,
            runs: HashMap::new(),
            hosts: HashMap::new(),
            releases: JoinSet::new(),
        };
        guardian.guard(lines, begin).await
    });
    engine::block_on(work)??
}

type Lines = mpsc::Receiver<Vec<u8>>;

/// The lines of the pipe, until it is closed. One that was cut off came to nothing: what it announced was not begun.
fn read(input: pipe::Receiver) -> Lines {
    let (sender, lines) = mpsc::channel(64);
    drop(tokio::spawn(async move {
        let mut input = BufReader::new(input);
        loop {
            let mut line = Vec::new();
            match input.read_until(b'\n', &mut line).await {
                Ok(_) if line.ends_with(b"\n") && sender.send(line).await.is_ok() => {}
                _ => return,
            }
        }
    }));
    lines
}

async fn greet(lines: &mut Lines, providers: &[Arc<dyn ProviderFactory>]) -> Result<(), ServeError> {
    let first = lines.recv().await;
    let why = match first.as_deref().map(serde_json::from_slice) {
        // Its owner has ended before it said anything.
        None => return Ok(()),
        Some(Ok(ToGuardian::Hello { version })) if version == VERSION => {
            let providers = providers.iter().map(|factory| factory.info().name.to_owned()).collect();
            answer(&FromGuardian::Ready { providers });
            return Ok(());
        }
        Some(Ok(ToGuardian::Hello { version })) => {
            format!("it is of version {VERSION}, and the process to guard of {version}")
        }
        Some(_) => format!("it is of version {VERSION}, and does not understand what it is told"),
    };
    answer(&FromGuardian::Refused { why: why.clone() });
    Err(ServeError::Refused(why))
}

/// What it was is not said: it may hold a password.
fn not_understood() -> ServeError {
    let why = "it does not understand what it is told".to_owned();
    answer(&FromGuardian::Refused { why: why.clone() });
    ServeError::Refused(why)
}

fn answer(message: &FromGuardian) {
    let mut output = io::stdout().lock();
    // An owner that is gone does not need an answer.
    if let Err(error) = output.write_all(&line(message)).and_then(|()| output.flush()) {
        tracing::debug!(%error, "nobody hears the answer");
    }
}

struct Guardian {
    providers: Vec<Arc<dyn ProviderFactory>>,
    /// The process id of the owner, which is this process's parent while it lives.
    owner: u32,
    /// When the owner ended.
    owner_ended: Option<Instant>,
    runs: HashMap<RunId, Ward>,
    hosts: HashMap<HostId, Watched>,
    releases: JoinSet<(HostId, Outcome)>,
}

type Outcome = Result<Option<Released>, Error>;

/// What is known of a run of the owner's.
struct Ward {
    run: Run,
    ssh: Option<Args>,
    given: Vec<ProviderSettings>,
    has_ended: bool,
    /// Made when something has to be done.
    work: Option<Work>,
}

#[derive(Clone)]
struct Work {
    core: Arc<Core>,
    /// So many releases at once.
    permits: Arc<Semaphore>,
}

struct Watched {
    run: RunId,
    due: Due,
    /// How often it could not be released, and since when.
    failures: u32,
    failing_since: Option<Instant>,
}

/// When a host is to be looked at.
#[derive(Clone, Copy)]
enum Due {
    AtTheEnd,
    By(Timestamp),
    After(Instant),
    /// It is being released.
    Busy,
}

impl Due {
    fn now() -> Self {
        Self::After(Instant::now())
    }

    /// How long to sleep.
    fn rest(self) -> Option<Duration> {
        match self {
            Self::AtTheEnd | Self::Busy => None,
            Self::By(at) => {
                let rest = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
                // It is over after that moment, not in it.
                Some(rest.saturating_add(Duration::from_millis(1)).min(LONGEST_SLEEP))
            }
            Self::After(at) => Some(at.saturating_duration_since(Instant::now())),
        }
    }

    fn is_over(self) -> bool {
        match self {
            Self::AtTheEnd | Self::Busy => false,
            Self::By(at) => at < Timestamp::now(),
            Self::After(at) => at <= Instant::now(),
        }
    }
}

impl Guardian {
    async fn guard(mut self, mut lines: Lines, begin: impl FnOnce(&BrokerDirectory)) -> Result<(), ServeError> {
        let mut begin = Some(begin);
        while self.owner_ended.is_none() || !self.hosts.is_empty() {
            let sleep = self.hosts.values().filter_map(|host| host.due.rest()).min();
            tokio::select! {
                biased;
                line = lines.recv(), if self.owner_ended.is_none() => match line {
                    Some(line) => {
                        let message = serde_json::from_slice(&line).map_err(|_| not_understood())?;
                        if let ToGuardian::Run(run) = &message
                            && let Some(begin) = begin.take()
                        {
                            begin(&BrokerDirectory::at(&run.directory));
                        }
                        self.told(message);
                    }
                    None => self.owner_is_gone().await,
                },
                Some(done) = self.releases.join_next(), if !self.releases.is_empty() => {
                    if let Ok((host, outcome)) = done {
                        self.released(host, outcome);
                    }
                }
                () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() => self.look().await,
            }
        }
        tracing::debug!("nothing is left to guard");
        Ok(())
    }

    fn told(&mut self, message: ToGuardian) {
        match message {
            ToGuardian::Hello { .. } => {}
            ToGuardian::Run(run) => {
                let ward = Ward { run, ssh: None, given: Vec::new(), has_ended: false, work: None };
                self.runs.insert(ward.run.run, ward);
            }
            ToGuardian::Instance { run, settings } => {
                if let Some(ward) = self.runs.get_mut(&run) {
                    ward.given.push(settings.into());
                    ward.work = None;
                }
            }
            ToGuardian::Ssh { run, values } => {
                if let Some(ward) = self.runs.get_mut(&run) {
                    ward.ssh = Some(values.into());
                    ward.work = None;
                }
            }
            ToGuardian::Watch(watch) => {
                let due = watch.lease_until.map_or(Due::AtTheEnd, Due::By);
                let watched = |host| (host, Watched { run: watch.run, due, failures: 0, failing_since: None });
                self.hosts.extend(watch.hosts.into_iter().map(watched));
            }
            ToGuardian::Settled { host } => self.settled(host),
            ToGuardian::End { run } => {
                if let Some(ward) = self.runs.get_mut(&run) {
                    ward.has_ended = true;
                }
                self.tidy();
            }
        }
    }

    fn settled(&mut self, host: HostId) {
        self.hosts.remove(&host);
        self.tidy();
    }

    /// Lets go of runs of which nothing else is to come.
    fn tidy(&mut self) {
        let hosts = &self.hosts;
        self.runs.retain(|run, ward| !ward.has_ended || hosts.values().any(|host| host.run == *run));
    }

    /// The pipe is closed. The owner is dead when its lock can be taken as well; where locks prove nothing, when it is not
    /// this process's parent any more.
    async fn owner_is_gone(&mut self) {
        let runs: HashSet<RunId> = self.hosts.values().map(|host| host.run).collect();
        let mut pause = Duration::from_millis(2);
        for ward in runs.iter().filter_map(|run| self.runs.get(run)) {
            loop {
                let (directory, run) = (ward.run.directory.clone(), ward.run.run);
                let looked = tokio::task::spawn_blocking(move || liveness(&directory, run)).await;
                match looked.unwrap_or(Liveness::Unknown) {
                    Liveness::Dead => break,
                    Liveness::Unknown if std::os::unix::process::parent_id() != self.owner => break,
                    Liveness::Unknown | Liveness::Alive => {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(Duration::from_secs(1));
                    }
                }
            }
        }
        self.owner_ended = Some(Instant::now());
        for watched in self.hosts.values_mut().filter(|host| !matches!(host.due, Due::Busy)) {
            watched.due = Due::now();
        }
        if !self.hosts.is_empty() {
            tracing::info!(owner = self.owner, hosts = self.hosts.len(), "the owner has ended; settling what it held");
        }
    }

    /// Looks at the hosts for which it is time.
    async fn look(&mut self) {
        let due: HashSet<RunId> = self.hosts.values().filter(|host| host.due.is_over()).map(|host| host.run).collect();
        for run in due {
            self.look_at(run).await;
        }
        self.tidy();
        for ward in self.runs.values_mut().filter(|_| self.owner_ended.is_none()) {
            // Those that come later are few and far between.
            ward.work = None;
        }
    }

    async fn look_at(&mut self, run: RunId) {
        let due: Vec<HostId> =
            self.hosts.iter().filter(|(_, host)| host.run == run && host.due.is_over()).map(|(id, _)| *id).collect();
        let Some(ward) = self.runs.get_mut(&run) else {
            return self.hosts.retain(|_, host| host.run != run);
        };
        if !ward.run.directory.is_dir() {
            tracing::warn!(directory = %ward.run.directory.display(), "the Broker directory is gone, and with it what was known");
            return self.hosts.retain(|_, host| host.run != run);
        }
        let work = match ward.work(&self.providers) {
            Ok(work) => work,
            Err(error) => {
                tracing::error!(error = crate::error_chain(&error), "the settings do not do");
                return self.hosts.retain(|_, host| host.run != run);
            }
        };
        let snapshot = match work.core.inventory().load().await {
            Ok(snapshot) => snapshot,
            Err(error) => return due.into_iter().for_each(|host| self.failed(host, &error.clone().into())),
        };
        let records: HashMap<HostId, &Arc<HostRecord>> =
            snapshot.records.iter().map(|record| (record.id, record)).collect();
        let owner = Owner { run, is_dead: self.owner_ended.is_some() };
        for id in due {
            let next = records.get(&id).map_or(Next::Nothing, |record| next(&work.core, record, owner));
            match (next, records.get(&id), self.hosts.get_mut(&id)) {
                (Next::Release, Some(record), Some(watched)) => {
                    watched.due = Due::Busy;
                    let record = HostRecord::clone(record);
                    let release = release(work.clone(), record, owner).map(move |outcome| (id, outcome));
                    drop(self.releases.spawn(release));
                }
                (Next::WaitUntil(until), _, Some(watched)) => watched.wait(owner, Due::By(until)),
                (Next::Wait, Some(record), Some(watched)) if record.lease_until.is_some() => {
                    watched.wait(owner, Due::After(Instant::now() + LONGEST_SLEEP));
                }
                (Next::Wait, _, Some(watched)) => watched.wait(owner, Due::AtTheEnd),
                // Its owner may be about to write it down.
                (Next::Nothing, None, Some(watched)) if !owner.is_dead => watched.due = Due::AtTheEnd,
                _ => drop(self.hosts.remove(&id)),
            }
        }
    }

    fn released(&mut self, host: HostId, outcome: Outcome) {
        match outcome {
            Ok(Some(Released::Now)) => {
                tracing::info!(%host, "released what its owner had left");
                self.settled(host);
            }
            Ok(Some(Released::Before)) => self.settled(host),
            // It is not what it was a moment ago.
            Ok(None) => self.look_after(host, Duration::ZERO),
            Err(error) => self.failed(host, &error),
        }
    }

    fn look_after(&mut self, host: HostId, pause: Duration) {
        if let Some(watched) = self.hosts.get_mut(&host) {
            watched.due = Due::After(Instant::now() + pause);
        }
    }

    fn failed(&mut self, host: HostId, error: &Error) {
        let Some(watched) = self.hosts.get_mut(&host) else { return };
        if matches!(error, Error::State { .. }) {
            tracing::debug!(%host, "somebody else is at it");
            return self.look_after(host, LOOK);
        }
        let since = *watched.failing_since.get_or_insert_with(Instant::now);
        let is_for_good = match error {
            // There is no such provider, or its settings do not do.
            Error::Request(_) | Error::Settings(_) => true,
            _ => self.owner_ended.is_some() && since.elapsed() > GIVE_UP,
        };
        let chain = crate::error_chain(error);
        if is_for_good {
            tracing::error!(%host, error = chain, "the host is left to `broker checkin`");
            return self.settled(host);
        }
        tracing::warn!(%host, error = chain, "the host could not be released yet");
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(watched.failures)).min(LAST_PAUSE);
        watched.failures += 1;
        self.look_after(host, pause);
    }
}

impl Watched {
    fn wait(&mut self, owner: Owner, due: Due) {
        // Others may give back what is kept, or give it more time.
        self.due = if owner.is_dead { Due::After(Instant::now() + LOOK) } else { due };
    }
}

impl Ward {
    fn work(&mut self, providers: &[Arc<dyn ProviderFactory>]) -> Result<Work, Error> {
        if let Some(work) = &self.work {
            return Ok(work.clone());
        }
        let mut settings = Settings::builder();
        if let Some(limit) = self.run.thread_limit {
            settings = settings.set("thread_limit", limit.to_string());
        }
        if let Some(ssh) = &self.ssh {
            settings = settings.section("ssh", ssh.clone());
        }
        let settings = settings.build()?.settings;
        let directory = BrokerDirectory::at(&self.run.directory);
        let core = Arc::new(Core::of_guardian(settings, directory, providers.to_vec(), self.given.clone()));
        let work = Work { permits: Arc::new(Semaphore::new(core.concurrency())), core };
        Ok(self.work.insert(work).clone())
    }
}

/// What is to be done about a host now. By its lease nothing, where its provider sees to that.
fn next(core: &Core, record: &HostRecord, owner: Owner) -> Next {
    if core.governs_leases(&record.provider) && record.lease_until.is_some() {
        let record = HostRecord { lease_until: None, ..record.clone() };
        return ward::next(&record, owner, Timestamp::now());
    }
    ward::next(record, owner, Timestamp::now())
}

/// Releases a host, if that is still what is to be done when its turn comes.
fn release(work: Work, record: HostRecord, owner: Owner) -> impl Future<Output = Outcome> {
    let is_its_own =
        move |record: &HostRecord| record.owner.as_ref().is_some_and(|of_record| of_record.run == owner.run);
    // The pipe proves the owner's death, and nobody else's.
    let unproven_is_dead = owner.is_dead && is_its_own(&record);
    let core = Arc::clone(&work.core);
    let wanted = move |record: &HostRecord| {
        (!unproven_is_dead || is_its_own(record)) && next(&core, record, owner) == Next::Release
    };
    let terms = Terms { wanted, unproven_is_dead };
    let release = async move {
        let _permit = work.permits.acquire().await;
        engine::release_on(&work.core, record, &terms).await
    };
    AssertUnwindSafe(release).catch_unwind().map(|outcome| outcome.unwrap_or(Err(Error::Panicked("releasing a host"))))
}
