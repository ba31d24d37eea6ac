//! What the parts of one [`Broker`](crate::Broker) share: settings, providers, the inventory, and who we are.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::id::HostId;
use crate::inventory::{HostRecord, Inventory, Liveness, Owner, RunLock};
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
            stop: CancellationToken::new(),
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
        let core = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || {
            let made = core.make_instance(&wanted.0, wanted.1.as_deref())?;
            // Two callers may have been here at once; all go on with the same one.
            Ok(core.instances.lock().entry(wanted).or_insert(made).clone())
        });
        made.await.map_err(|_| Error::Panicked("setting up a provider"))?
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
    pub(crate) fn owner(&self) -> Result<Owner> {
        let mut run = self.run.lock();
        if let Some((_, owner)) = run.as_ref() {
            return Ok(owner.clone());
        }
        let lock = RunLock::acquire(self.directory.path())?;
        let owner = Owner {
            run: lock.id(),
            user: crate::sys::user_name(),
            machine: crate::sys::machine_name(),
            pid: std::process::id(),
        };
        *run = Some((lock, owner.clone()));
        Ok(owner)
    }

    /// Whether the owner of a record may still be at work on it: this process, or another one that is not dead.
    pub(crate) fn is_owner_busy(&self, record: &HostRecord) -> bool {
        match &record.owner {
            Some(owner) => crate::inventory::liveness(self.directory.path(), owner.run) != Liveness::Dead,
            None => false,
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
