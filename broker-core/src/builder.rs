//! [`Builder`]: what a [`Broker`] is made of.

use std::collections::HashMap;
use std::sync::Arc;

use crate::broker::Broker;
use crate::context::Core;
use crate::error::Result;
use crate::guard::{self, HostType, MakeSpecial};
use crate::guardian;
use crate::provider::ProviderFactory;
use crate::settings::{BrokerDirectory, Settings};

/// How to make a [`Broker`].
#[derive(Default)]
pub struct Builder {
    settings: Option<Settings>,
    directory: Option<BrokerDirectory>,
    factories: Vec<Arc<dyn ProviderFactory>>,
    guardian: guardian::Choice,
    host_types: HashMap<String, MakeSpecial>,
}

impl Builder {
    /// Has hosts that their provider calls this, in the fact `host_type`, set up and torn down as a type of the caller's
    /// when [`Broker::checkout`] or [`Broker::checkout_many`] hands them over.
    /// [`HostGuard::special`](crate::HostGuard::special) gives the value.
    #[must_use]
    pub fn host_type<T: HostType>(mut self, name: impl Into<String>) -> Self {
        self.host_types.insert(name.into(), guard::special::<T>());
        self
    }

    /// Adds a kind of provider. A later one takes the place of an earlier one of the same name.
    #[must_use]
    pub fn provider(mut self, factory: Arc<dyn ProviderFactory>) -> Self {
        self.factories.retain(|known| known.info().name != factory.info().name);
        self.factories.push(factory);
        self
    }

    /// Uses these settings instead of the file and the environment.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Uses this directory for the settings, the inventory and the logs.
    #[must_use]
    pub fn directory(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.directory = Some(BrokerDirectory::at(path));
        self
    }

    /// Uses this program as the guardian, which checks in what guards hold when this process is killed: a `broker`, or a
    /// program of one's own that calls [`guardian::serve`]. It needs the providers of the hosts.
    ///
    /// Without this it is what the environment variable `BROKER_GUARDIAN` names, else the `broker` beside this program or
    /// on the `PATH`.
    #[must_use]
    pub fn guardian(mut self, program: impl Into<std::path::PathBuf>) -> Self {
        let program = program.into();
        self.guardian = guardian::Choice::At(std::path::absolute(&program).unwrap_or(program));
        self
    }

    /// Starts no guardian. Hosts whose process is killed stay until `broker checkin`, or until their leases end.
    #[must_use]
    pub fn without_guardian(mut self) -> Self {
        self.guardian = guardian::Choice::Nobody;
        self
    }

    /// Makes the broker. Reads the settings, if there are any; connects to nothing and writes nothing.
    ///
    /// # Errors
    ///
    /// If there is a settings file and it does not do.
    pub fn build(self) -> Result<Broker> {
        let directory = match self.directory {
            Some(directory) => directory,
            None => BrokerDirectory::from_environment(std::env::vars_os())?,
        };
        let settings = match self.settings {
            Some(settings) => settings,
            None => {
                let known: Vec<&str> = self.factories.iter().map(|factory| factory.info().name).collect();
                let loaded = Settings::load(&directory, std::env::vars_os(), &known)?;
                for warning in &loaded.warnings {
                    tracing::warn!("{warning}");
                }
                loaded.settings
            }
        };
        let mut core = Core::new(settings, directory, self.factories, self.guardian);
        core.host_types = self.host_types;
        Ok(Broker { core: Arc::new(core) })
    }
}
