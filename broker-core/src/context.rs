//! What the parts of one [`Broker`](crate::Broker) share: settings, providers, the inventory, and who we are.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast};
use tokio_util::sync::CancellationToken;

use crate::engine::STOP_ALL;
use crate::error::{Error, Result};
use crate::guard::MakeSpecial;
use crate::guardian::{self, Guarding};
use crate::id::HostId;
use crate::inventory::{HostRecord, Inventory, InventoryError, Liveness, Owner, RunLock};
use crate::provider::{Provider, ProviderFactory, ProviderInfo};
use crate::request::{RequestError, find_provider};
#[cfg(feature = "ssh")]
use crate::session::ssh::resolve::Place;
#[cfg(feature = "ssh")]
use crate::settings::SshSettings;
use crate::settings::{BrokerDirectory, ProviderSettings, Settings};

/// How many hosts of one call are worked on at once, where the settings have no `thread_limit`.
const AT_ONCE: usize = 256;

/// How many steps may wait for a slow reader of [`Broker::steps`](crate::Broker::steps) before the oldest are dropped.
const STEPS: usize = 1024;

/// By the name of the provider and of the instance.
type Instances = HashMap<(String, Option<String>), Instance>;

/// One instance of a provider, ready to be asked.
#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) name: Option<String>,
    /// What its settings say about reaching its hosts by SSH.
    #[cfg(feature = "ssh")]
    pub(crate) ssh: Arc<SshSettings>,
    /// What it was made of.
    pub(crate) settings: Arc<ProviderSettings>,
}

pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) directory: BrokerDirectory,
    factories: Vec<Arc<dyn ProviderFactory>>,
    instances: Mutex<Instances>,
    inventory: Inventory,
    run: Mutex<Option<(RunLock, Owner)>>,
    #[cfg(feature = "ssh")]
    ssh: tokio::sync::OnceCell<SshSettings>,
    /// What came ready, and is not to be looked up in the settings.
    given: Vec<ProviderSettings>,
    pub(crate) guarding: Guarding,
    steps: broadcast::Sender<Progress>,
    pub(crate) stop: CancellationToken,
    /// What makes hosts of the types that providers name.
    pub(crate) host_types: HashMap<String, MakeSpecial>,
    /// Once it is cancelled nothing begins any more with hosts that there are.
    pub(crate) halt: CancellationToken,
    /// How many hosts can still be made at once, whoever wants them.
    turns: Semaphore,
}

impl Core {
    pub(crate) fn new(
        settings: Settings,
        directory: BrokerDirectory,
        factories: Vec<Arc<dyn ProviderFactory>>,
        guardian: guardian::Choice,
    ) -> Self {
        Self {
            inventory: Inventory::open(directory.path()),
            turns: Semaphore::new(at_once(&settings).min(Semaphore::MAX_PERMITS)),
            settings,
            directory,
            factories,
            instances: Mutex::default(),
            run: Mutex::default(),
            #[cfg(feature = "ssh")]
            ssh: tokio::sync::OnceCell::new(),
            given: Vec::new(),
            guarding: Guarding::new(guardian),
            steps: broadcast::channel(STEPS).0,
            stop: STOP_ALL.child_token(),
            halt: CancellationToken::new(),
            host_types: HashMap::new(),
        }
    }

    /// What a guardian works with: the settings of providers are those that it was told.
    pub(crate) fn of_guardian(
        settings: Settings,
        directory: BrokerDirectory,
        factories: Vec<Arc<dyn ProviderFactory>>,
        given: Vec<ProviderSettings>,
    ) -> Self {
        let mut core = Self::new(settings, directory, factories, guardian::Choice::Nobody);
        core.given = given;
        core
    }

    pub(crate) fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    pub(crate) fn infos(&self) -> Vec<&ProviderInfo> {
        self.factories.iter().map(|factory| factory.info()).collect()
    }

    /// Whether a provider ends its hosts itself, so that nobody here does by a lease.
    pub(crate) fn governs_leases(&self, provider: &str) -> bool {
        self.infos().into_iter().any(|info| info.name == provider && info.governs_leases)
    }

    /// The provider of this name and instance, made at its first use. Runs on the engine; secrets in the settings may
    /// have to be asked for, which blocks, so that is done aside.
    pub(crate) async fn instance(self: &Arc<Self>, name: &str, instance: Option<&str>) -> Result<Instance> {
        let wanted = (name.to_owned(), instance.map(str::to_owned));
        if let Some(known) = self.instances.lock().get(&wanted) {
            return Ok(known.clone());
        }
        self.aside("setting up a provider", move |core| {
            let made = core.make_instance(&wanted.0, wanted.1.as_deref())?;
            // Two callers may have been here at once; all go on with the same one.
            Ok(core.instances.lock().entry(wanted).or_insert(made).clone())
        })
        .await?
    }

    fn make_instance(&self, name: &str, instance: Option<&str>) -> Result<Instance> {
        let info = find_provider(name, &self.infos())?;
        let is_meant = |given: &&ProviderSettings| given.provider == info.name && given.instance.as_deref() == instance;
        let settings = match self.given.iter().find(is_meant) {
            Some(given) => given.clone(),
            None => self.settings.provider(info.name, instance)?,
        };
        let resolved = (info.name.to_owned(), settings.instance.clone());
        if let Some(known) = self.instances.lock().get(&resolved) {
            return Ok(known.clone());
        }
        let factory = self.factories.iter().find(|factory| factory.info().name == info.name);
        let factory = factory.ok_or_else(|| RequestError::Provider { name: name.to_owned(), known: Vec::new() })?;
        let doing = match &settings.instance {
            Some(instance) => format!("could not set up provider `{name}` with instance `{instance}`"),
            None => format!("could not set up provider `{name}`"),
        };
        let built = factory.whole(settings).and_then(|settings| Ok((factory.build(&settings)?, settings)));
        let (provider, settings) = built.map_err(|source| Error::Provider { doing, source })?;
        let made = Instance {
            provider,
            #[cfg(feature = "ssh")]
            ssh: Arc::new(settings.ssh().map_err(crate::settings::SettingsError::from)?),
            name: settings.instance.clone(),
            settings: Arc::new(settings),
        };
        crate::engine::closing::remember(&made.provider);
        Ok(self.instances.lock().entry(resolved).or_insert(made).clone())
    }

    /// The provider that made a host.
    pub(crate) async fn provider_of(self: &Arc<Self>, record: &HostRecord) -> Result<Arc<dyn Provider>> {
        Ok(self.instance(&record.provider, record.instance.as_deref()).await?.provider)
    }

    /// Section `ssh` of the settings, with its secrets in their places. They are looked up once.
    #[cfg(feature = "ssh")]
    pub(crate) async fn ssh_settings(self: &Arc<Self>) -> Result<SshSettings> {
        let settings = self.ssh.get_or_try_init(async || {
            self.aside("looking up how hosts are reached", |core| Ok(core.settings.ssh()?)).await?
        });
        settings.await.cloned()
    }

    /// Where this process runs, as far as that decides how hosts are reached.
    #[cfg(feature = "ssh")]
    pub(crate) fn place(&self) -> Place {
        Place {
            directory: self.directory.path().to_owned(),
            // Without a home directory there is nothing to be found in it.
            home: std::env::home_dir().filter(|home| home.is_absolute()).unwrap_or_else(|| "/nonexistent".into()),
            user: crate::sys::user_name(),
        }
    }

    /// Who this process is. The first call takes the lock that shows that it lives.
    pub(crate) async fn owner(self: &Arc<Self>) -> Result<Owner> {
        if let Some((_, owner)) = self.run.lock().as_ref() {
            return Ok(owner.clone());
        }
        self.aside("taking the lock of this run", |core| {
            let mut run = core.run.lock();
            if let Some((_, owner)) = run.as_ref() {
                return Ok(owner.clone());
            }
            let lock = RunLock::acquire(core.directory.path())?;
            let owner = Owner {
                run: lock.id(),
                user: crate::sys::user_name(),
                machine: crate::sys::machine_name(),
                pid: std::process::id(),
            };
            *run = Some((lock, owner.clone()));
            Ok(owner)
        })
        .await?
    }

    /// Whether the owner of a record may still be at work on it: this process, or another one that is not dead. What
    /// could not be found out may be so.
    pub(crate) async fn is_owner_busy(self: &Arc<Self>, record: &HostRecord) -> bool {
        self.liveness_aside(record).await != Liveness::Dead
    }

    /// As [`liveness`](Self::liveness), without holding up anybody.
    pub(crate) async fn liveness_aside(self: &Arc<Self>, record: &HostRecord) -> Liveness {
        let record = record.clone();
        let looked = self.aside("looking for a process", move |core| core.liveness(&record)).await;
        looked.unwrap_or(Liveness::Unknown)
    }

    /// Whether one process lives.
    pub(crate) async fn liveness_of(self: &Arc<Self>, owner: &Owner) -> Liveness {
        let run = owner.run;
        let looked =
            self.aside("looking for a process", move |core| crate::inventory::liveness(core.directory.path(), run));
        looked.await.unwrap_or(Liveness::Unknown)
    }

    /// Whether the owner of a record lives, or, of a host that is shared, any of those who use it. For callers that may
    /// block. What nobody owns has no living owner.
    pub(crate) fn liveness(&self, record: &HostRecord) -> Liveness {
        let lives = |owner: &Owner| crate::inventory::liveness(self.directory.path(), owner.run);
        let members = record.shared.iter().flat_map(|shared| &shared.members).map(|member| &member.owner);
        let mut all = Liveness::Dead;
        for owner in members.chain(&record.owner) {
            match lives(owner) {
                Liveness::Alive => return Liveness::Alive,
                Liveness::Unknown => all = Liveness::Unknown,
                Liveness::Dead => {}
            }
        }
        all
    }

    /// The owner of a record, in words.
    pub(crate) fn who(&self, record: &HostRecord) -> String {
        let own = self.run.lock().as_ref().map(|(_, owner)| owner.run);
        match &record.owner {
            Some(owner) if Some(owner.run) == own => "this process".to_owned(),
            Some(owner) => format!("process {} of {} on {}", owner.pid, owner.user, owner.machine),
            None => "another process".to_owned(),
        }
    }

    /// Does what blocks where it holds up nobody else.
    async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        doing: &'static str,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T> {
        let core = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&core)).await.map_err(|_| Error::Panicked(doing))
    }

    /// A record as it is now, or nothing if the host is gone.
    pub(crate) async fn current(&self, record: &HostRecord) -> Result<Option<HostRecord>> {
        let records = self.inventory.load().await?.records;
        Ok(records.into_iter().find(|current| current.id == record.id).map(Arc::unwrap_or_clone))
    }

    /// Changes a record, whatever others have changed of it in the meantime, unless it is gone or `change` refuses.
    pub(crate) async fn change(
        &self,
        mut record: HostRecord,
        change: impl Fn(&mut HostRecord) -> Result<()>,
    ) -> Result<HostRecord> {
        loop {
            change(&mut record)?;
            match self.inventory.update(record).await {
                Err(InventoryError::Conflict { current }) => record = *current,
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Tells whoever watches how far a host has come.
    pub(crate) fn tell(&self, record: &HostRecord, step: Step) {
        self.announce(Progress { id: record.id, number: Some(record.number), host: record.label(), step });
    }

    pub(crate) fn announce(&self, progress: Progress) {
        // Nobody watching is no error.
        let _nobody = self.steps.send(progress);
    }

    pub(crate) fn watch(&self) -> broadcast::Receiver<Progress> {
        self.steps.subscribe()
    }

    /// Waits until one more host may be made; the turn lasts until what this returns is dropped.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// How many hosts of one call are worked on at once.
    pub(crate) fn concurrency(&self) -> usize {
        at_once(&self.settings)
    }

    /// How long a provider that was told to stop may go on before it is cut off.
    pub(crate) fn stop_grace(&self) -> Duration {
        self.settings.stop_grace()
    }
}

fn at_once(settings: &Settings) -> usize {
    settings.thread_limit().map_or(AT_ONCE, NonZeroUsize::get)
}

impl Drop for Core {
    fn drop(&mut self) {
        let instances = std::mem::take(self.instances.get_mut());
        crate::engine::closing::close(instances.into_values().map(|instance| instance.provider));
    }
}

/// How far a host has come: from [`Broker::steps`](crate::Broker::steps).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which host.
    pub id: HostId,
    /// Its number, once it has one.
    pub number: Option<u64>,
    /// The best word for it; what is wanted, as long as nothing else is known.
    pub host: String,
    /// What happened.
    pub step: Step,
}

/// A step on a host's way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// It is in the journal, and the provider is being asked.
    Ordered,
    /// The provider says something about its work.
    Doing(String),
    /// The provider tells programs something about the order, under a key of its own: what `broker --output-file` has.
    Told(&'static str, Value),
    /// It can be used.
    Ready,
    /// It could not be checked out.
    Failed,
    /// It is being released.
    Releasing,
    /// It is released.
    Released,
}
