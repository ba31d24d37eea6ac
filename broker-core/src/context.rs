//! What the parts of one [`Broker`](crate::Broker) share: settings, providers, the inventory, and who we are.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::engine::STOP_ALL;
use crate::error::{Error, Result};
use crate::id::HostId;
use crate::inventory::{HostRecord, Inventory, InventoryError, Liveness, Owner, RunLock};
use crate::provider::{Provider, ProviderFactory, ProviderInfo};
use crate::request::{RequestError, find_provider};
use crate::settings::{BrokerDirectory, Settings};

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
    /// Labels that the settings put on everything it makes.
    pub(crate) labels: BTreeMap<String, String>,
}

pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) directory: BrokerDirectory,
    factories: Vec<Arc<dyn ProviderFactory>>,
    instances: Mutex<Instances>,
    inventory: Inventory,
    run: Mutex<Option<(RunLock, Owner)>>,
    steps: broadcast::Sender<Progress>,
    pub(crate) stop: CancellationToken,
}

impl Core {
    pub(crate) fn new(
        settings: Settings,
        directory: BrokerDirectory,
        factories: Vec<Arc<dyn ProviderFactory>>,
    ) -> Self {
        Self {
            inventory: Inventory::open(directory.path()),
            settings,
            directory,
            factories,
            instances: Mutex::default(),
            run: Mutex::default(),
            steps: broadcast::channel(STEPS).0,
            stop: STOP_ALL.child_token(),
        }
    }

    pub(crate) fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    pub(crate) fn infos(&self) -> Vec<&ProviderInfo> {
        self.factories.iter().map(|factory| factory.info()).collect()
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
        let settings = self.settings.provider(info.name, instance)?;
        let resolved = (info.name.to_owned(), settings.instance.clone());
        if let Some(known) = self.instances.lock().get(&resolved) {
            return Ok(known.clone());
        }
        let factory = self.factories.iter().find(|factory| factory.info().name == info.name);
        let factory = factory.ok_or_else(|| RequestError::Provider { name: name.to_owned(), known: Vec::new() })?;
        let provider = factory.build(&settings).map_err(|source| Error::Provider {
            doing: match &settings.instance {
                Some(instance) => format!("could not set up provider `{name}` with instance `{instance}`"),
                None => format!("could not set up provider `{name}`"),
            },
            source,
        })?;
        let made = Instance { provider, name: settings.instance, labels: settings.labels };
        Ok(self.instances.lock().entry(resolved).or_insert(made).clone())
    }

    /// The provider that made a host.
    pub(crate) async fn provider_of(self: &Arc<Self>, record: &HostRecord) -> Result<Arc<dyn Provider>> {
        Ok(self.instance(&record.provider, record.instance.as_deref()).await?.provider)
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

    /// Whether the owner of a record may still be at work on it: this process, or another one that is not dead.
    pub(crate) async fn is_owner_busy(self: &Arc<Self>, record: &HostRecord) -> bool {
        let record = record.clone();
        let looked = self.aside("looking for a process", move |core| core.is_alive(&record)).await;
        // What could not be found out may be so.
        looked.unwrap_or(true)
    }

    /// As [`is_owner_busy`](Self::is_owner_busy), for callers that may block.
    pub(crate) fn is_alive(&self, record: &HostRecord) -> bool {
        match &record.owner {
            Some(owner) => crate::inventory::liveness(self.directory.path(), owner.run) != Liveness::Dead,
            None => false,
        }
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

    /// How many hosts of one call are worked on at once.
    pub(crate) fn concurrency(&self) -> usize {
        self.settings.thread_limit().map_or(AT_ONCE, NonZeroUsize::get)
    }

    /// How long a provider that was told to stop may go on before it is cut off.
    pub(crate) fn stop_grace(&self) -> Duration {
        self.settings.stop_grace()
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
    /// It can be used.
    Ready,
    /// It could not be checked out.
    Failed,
    /// It is being released.
    Releasing,
    /// It is released.
    Released,
}
