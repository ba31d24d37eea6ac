//! Docker and Podman as a provider of hosts.
//!
//! A host is a container. The engine is found where `docker` and `podman` themselves find it, and is asked for two things
//! a checkout (create, start), one look to tell what came of it, and one removal a checkin. Every container carries its
//! host's id as the label `broker.id` from its creation, so that it can be found again whatever happened in between; a
//! container that could not be started, or that did not become ready, is removed before the error is returned.
//!
//! Ports are published on 127.0.0.1 unless an address is given; at an engine on another machine, where that would be of
//! no use, on all of its addresses.
//!
//! Sessions need no SSH: they use the engine's exec and its archives.

mod app;
mod builder;
mod checkout;
mod credentials;
mod engine;
mod image;
mod network;
mod query;
mod release;
mod request;
mod session;
mod settings;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters::LogsOptions;
use broker_core::LogRequest;
use broker_core::inventory::HostRecord;
use broker_core::provider::{
    ActionInfo, Endpoint, ErrorKind, Execution, Found, HostFacts, Lease, Order, Provider, ProviderError,
    ProviderFactory, ProviderInfo, Query, Scope, Table,
};
use broker_core::session::{Access, SessionError, SessionErrorKind};
use parking_lot::Mutex;

pub use crate::builder::{ContainerRequest, PullPolicy};
use crate::engine::Engine;
use crate::engine::address::Address;
use crate::engine::discover::{self, Tried};
use crate::engine::error::is_missing;
use crate::image::Images;
use crate::network::Groups;
pub use crate::request::Wait;
use crate::request::{CONTAINER_APP, CONTAINER_HOST, Pull, Spec};
use crate::session::{ContainerSession, Target};
use crate::settings::Settings;

/// How late a container may come to be, whatever the settings say: a release waits for it, and has ten minutes in all.
const MOST_LATE: Duration = Duration::from_secs(5 * 60);

/// Makes providers of containers, one for each instance of the settings' section `Container`.
pub fn factory() -> Arc<dyn ProviderFactory> {
    let info = ProviderInfo {
        name: "Container",
        about: "Containers of Docker and Podman",
        actions: vec![
            ActionInfo {
                name: CONTAINER_HOST,
                value: "IMAGE",
                help: "Run a container of this image as a host",
                makes_host: true,
                executes: false,
            },
            ActionInfo {
                name: CONTAINER_APP,
                value: "IMAGE",
                help: "Run a container of this image to its end, and print what it prints",
                makes_host: false,
                executes: true,
            },
        ],
        arguments: request::ARGUMENTS.to_vec(),
        hidden_args: vec!["files"],
        queries: query::QUERIES.to_vec(),
        facts: checkout::facts::FACTS.to_vec(),
        ..ProviderInfo::default()
    };
    broker_core::provider::factory(info, |settings| {
        let settings = Settings::read(settings)?;
        Ok(Arc::new(ContainerProvider::new(settings)))
    })
}

/// One configured instance. Finds its engine at the first use, and stays with it.
pub(crate) struct ContainerProvider {
    settings: Settings,
    engine: tokio::sync::OnceCell<Arc<Engine>>,
    /// Engines of records, by their URI.
    engines: Mutex<HashMap<String, Arc<Engine>>>,
    images: Images,
    groups: Groups,
}

impl ContainerProvider {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            engine: tokio::sync::OnceCell::new(),
            engines: Mutex::default(),
            images: Images::default(),
            groups: Groups::default(),
        }
    }

    /// The engine to make things at.
    pub(crate) async fn engine(&self) -> Result<Arc<Engine>, ProviderError> {
        self.engine.get_or_try_init(|| self.discover()).await.cloned()
    }

    async fn discover(&self) -> Result<Arc<Engine>, ProviderError> {
        let mut tried = Vec::new();
        for place in discover::places(&self.settings, &discover::here()) {
            let address = match &place.address {
                Ok(address) => address,
                Err(why) => {
                    tried.push(Tried::unusable(&place, why));
                    continue;
                }
            };
            if let Err(error) = address.connect().await {
                tracing::debug!(%address, %error, "no container engine here.");
                tried.push(Tried::unreachable(&place, &error));
                continue;
            }
            let asked = async {
                let engine = self.engine_at(&address.to_string())?;
                engine.about().await?;
                Ok(engine)
            };
            match asked.await {
                Ok(engine) => return Ok(engine),
                Err(error) => tried.push(Tried::no_engine(&place, &error)),
            }
        }
        Err(discover::none_found(&tried))
    }

    /// The engine at a resolved URI, as records have it. Asks nothing.
    pub(crate) fn engine_at(&self, uri: &str) -> Result<Arc<Engine>, ProviderError> {
        let mut engines = self.engines.lock();
        if let Some(engine) = engines.get(uri) {
            return Ok(Arc::clone(engine));
        }
        let address = Address::parse(uri)
            .map_err(|why| ProviderError::new(ErrorKind::BadRequest, format!("endpoint `{uri}`: {why}")))?;
        let engine = Arc::new(Engine::new(address, self.settings.timeout)?);
        engines.insert(uri.to_owned(), Arc::clone(&engine));
        Ok(engine)
    }

    /// A record's container, at its engine: by the id that is noted, else by the label.
    async fn target(&self, host: &HostRecord) -> Result<Target, ProviderError> {
        let engine = self.engine_of(host).await?;
        let id = match release::container_of(host) {
            Some(id) => id.to_owned(),
            None => {
                let found = self.find_host(host).await?.into_iter().next();
                let id = found.as_ref().and_then(|found| found.facts.facts.get(checkout::facts::CONTAINER)?.as_str());
                id.map(str::to_owned).ok_or_else(|| {
                    let message = format!("there is no container of host `{}` at `{}`", host.label(), engine.uri());
                    ProviderError::new(ErrorKind::NotFound, message)
                })?
            }
        };
        let label = host.name.clone().unwrap_or_else(|| host.label());
        Ok(Target { engine, id, label })
    }
}

#[async_trait]
impl Provider for ContainerProvider {
    async fn endpoint(&self) -> Result<Endpoint, ProviderError> {
        self.engine().await?.endpoint().await
    }

    async fn prepare(&self, orders: &[Order]) -> Result<(), ProviderError> {
        let specs = orders
            .iter()
            .map(|order| Spec::read(order, &self.settings))
            .collect::<Result<Vec<Spec>, ProviderError>>()?;
        let mut names: Vec<&String> = specs.iter().filter_map(|spec| spec.name.as_ref()).collect();
        names.sort_unstable();
        if let Some((name, _)) = names.iter().zip(names.iter().skip(1)).find(|(one, next)| one == next) {
            let message = format!("argument `name`: `{name}` is wanted for more than one container");
            return Err(ProviderError::new(ErrorKind::Conflict, message));
        }
        let engine = self.engine().await?;
        let mut networks: Vec<&str> = specs.iter().flat_map(|spec| &spec.networks).map(String::as_str).collect();
        networks.sort_unstable();
        networks.dedup();
        network::check(&engine, &networks).await?;
        let mut pulled: Vec<(&str, Option<&str>)> = Vec::new();
        for (spec, order) in specs.iter().zip(orders) {
            let wish = (spec.image.as_str(), spec.platform.as_deref());
            let always = spec.pull == Pull::Always && !pulled.contains(&wish);
            let progress = |text| order.progress(text);
            let resolving = self.images.resolve(&engine, spec, always, &progress);
            tokio::select! {
                resolved = resolving => resolved?,
                () = order.cancelled() => {
                    let message = format!("image `{}` is not wanted any more", spec.image);
                    return Err(ProviderError::new(ErrorKind::Cancelled, message));
                }
            };
            pulled.push(wish);
        }
        Ok(())
    }

    async fn checkout(&self, order: &Order) -> Result<HostFacts, ProviderError> {
        self.check_out(order).await
    }

    async fn release(&self, host: &HostRecord) -> Result<(), ProviderError> {
        self.remove_host(host).await
    }

    /// Labels of a container cannot change, so that the new lease is the inventory's alone.
    async fn extend(&self, host: &HostRecord, by: Lease) -> Result<HostFacts, ProviderError> {
        Ok(HostFacts { lease_until: Some(by.extending(host.lease_until)), ..HostFacts::default() })
    }

    async fn execute(&self, order: &Order) -> Result<Execution, ProviderError> {
        self.run_app(order).await
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<Found>, ProviderError> {
        self.list_hosts(scope).await
    }

    async fn find(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        self.find_host(host).await
    }

    /// A container that the engine has told of is the only one there will be. A creation that was not answered may be
    /// carried out for as long as an answer may take.
    fn settle_time(&self, host: &HostRecord) -> Duration {
        if release::container_of(host).is_some() { Duration::ZERO } else { self.settings.timeout.min(MOST_LATE) }
    }

    async fn query(&self, query: &Query) -> Result<Table, ProviderError> {
        self.answer(query).await
    }

    async fn access(&self, host: &HostRecord) -> Result<Access, SessionError> {
        let opening = |error: ProviderError| {
            let kind = match error.kind() {
                ErrorKind::Unreachable => SessionErrorKind::Unreachable,
                ErrorKind::Auth => SessionErrorKind::Auth,
                ErrorKind::Permission => SessionErrorKind::Permission,
                ErrorKind::Timeout => SessionErrorKind::Timeout,
                ErrorKind::NotFound => SessionErrorKind::NotRunning,
                _ => SessionErrorKind::Failed,
            };
            SessionError::new(kind, error.to_string())
        };
        let target = self.target(host).await.map_err(opening)?;
        let podman = target.engine.about().await.map_err(opening)?.podman;
        let container = target.engine.inspect(&target.id).await;
        let container = container.map_err(|error| target.failed("could not open a session", &error))?;
        Ok(Access::Session(Arc::new(ContainerSession::new(target, podman, &container))))
    }

    async fn logs(&self, host: &HostRecord, request: LogRequest) -> Result<(), ProviderError> {
        let target = self.target(host).await?;
        let options = LogsOptions {
            follow: request.follow,
            stdout: true,
            stderr: true,
            tail: request.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
            ..LogsOptions::default()
        };
        let mut pieces = std::pin::pin!(target.engine.patient.logs(&target.id, Some(options)));
        // What is not followed is there already, and comes at once.
        let silence = if request.follow { Duration::MAX } else { target.engine.timeout() };
        loop {
            let piece = tokio::select! {
                piece = target.engine.piece(&mut pieces, silence) => piece,
                () = request.output.closed() => return Ok(()),
            };
            match piece {
                None => return Ok(()),
                Some(Ok(piece)) => {
                    if request.output.send(piece.into_bytes()).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Err(error)) if is_missing(&error) => {
                    let message = format!("container `{}` does not exist any more", target.label);
                    return Err(ProviderError::new(ErrorKind::NotFound, message));
                }
                Some(Err(error)) => {
                    let doing = format!("could not read the log of container `{}`", target.label);
                    return Err(target.engine.failed(&doing, &error));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_core::HostId;
    use broker_core::inventory::HostState;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_creation_without_an_answer_is_waited_for_as_long_as_an_answer() {
        let settle_time = |timeout: u64, handle: Option<serde_json::Value>| {
            let settings = Settings { timeout: Duration::from_secs(timeout), ..Settings::default() };
            let mut record = HostRecord::new(HostId::generate(), "Container", HostState::Pending);
            record.details.handle = handle;
            ContainerProvider::new(settings).settle_time(&record).as_secs()
        };
        assert_eq!(settle_time(120, None), 120);
        assert_eq!(settle_time(3600, None), 300);
        assert_eq!(settle_time(120, Some(json!({"container": "0123abcd"}))), 0);
        // Another one was asked for since.
        assert_eq!(settle_time(120, Some(json!({}))), 120);
    }
}
