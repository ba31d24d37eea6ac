//! Releasing hosts and finding them again: always at the engine that they were made at.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker_core::HostId;
use broker_core::inventory::HostRecord;
use broker_core::provider::{ErrorKind, Found, ID_LABEL, Identity, ProviderError, Scope};
use broker_core::{ArgValue, Args};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::Value;

use crate::ContainerProvider;
use crate::checkout::facts;
use crate::engine::error::is_missing;
use crate::engine::model::{Container, Summary};
use crate::engine::{Engine, Removed};
use crate::request::CONTAINER_HOST;

/// How many containers are looked at at once.
const AT_ONCE: usize = 8;

/// The engine's id of a record's container, where the record knows it.
pub(crate) fn container_of(host: &HostRecord) -> Option<&str> {
    let noted = host.details.handle.as_ref().and_then(|handle| handle.get(facts::CONTAINER));
    let id = host.details.facts.get(facts::CONTAINER).or(noted).and_then(Value::as_str)?;
    // It goes into the path of a request.
    (!id.is_empty() && id.chars().all(|character| character.is_ascii_alphanumeric())).then_some(id)
}

fn group_of(host: &HostRecord) -> Option<&str> {
    let wished = || host.details.args.get(facts::GROUP).and_then(ArgValue::as_str);
    host.details.facts.get(facts::GROUP).and_then(Value::as_str).or_else(wished)
}

impl ContainerProvider {
    /// The engine that a record's host was made at. Records from elsewhere do not say: then the one that is found.
    pub(crate) async fn engine_of(&self, host: &HostRecord) -> Result<Arc<Engine>, ProviderError> {
        match &host.endpoint {
            Some(endpoint) => self.engine_at(&endpoint.uri),
            None => self.engine().await,
        }
    }

    pub(crate) async fn remove_host(&self, host: &HostRecord) -> Result<(), ProviderError> {
        let engine = self.engine_of(host).await?;
        let mut gone = Removed::Missing;
        let ids = match container_of(host) {
            Some(id) => vec![id.to_owned()],
            None => self.ids_of(&engine, host).await?,
        };
        for id in &ids {
            let removed = engine
                .remove(id)
                .await
                .map_err(|error| engine.failed(&format!("could not remove container `{}`", host.label()), &error))?;
            if removed == Removed::Gone {
                gone = Removed::Gone;
            }
        }
        if gone == Removed::Missing {
            same_place(&engine, host).await?;
        }
        if let Some(group) = group_of(host) {
            self.leave_quietly(&engine, group).await;
        }
        Ok(())
    }

    /// The containers of a record that does not know its own.
    async fn ids_of(&self, engine: &Engine, host: &HostRecord) -> Result<Vec<String>, ProviderError> {
        if host.endpoint.is_none() {
            return Ok(vec![only_of_that_name(engine, host).await?]);
        }
        Ok(labelled(engine, host.id).await?.into_iter().map(|summary| summary.id).collect())
    }

    /// What carries exactly the record's id, or is the record's own container.
    pub(crate) async fn find_host(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        let engine = self.engine_of(host).await?;
        let summaries = labelled(&engine, host.id).await?;
        if !summaries.is_empty() {
            return describe(&engine, summaries.into_iter().map(|summary| summary.id).collect(), None).await;
        }
        let found = match (container_of(host), &host.endpoint) {
            (Some(id), _) => describe(&engine, vec![id.to_owned()], None).await?,
            (None, None) => match only_of_that_name(&engine, host).await {
                Ok(id) => describe(&engine, vec![id], None).await?,
                Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error),
            },
            (None, Some(_)) => Vec::new(),
        };
        if found.is_empty() {
            same_place(&engine, host).await?;
        }
        Ok(found)
    }

    /// Broker's containers; with an argument those with a label `KEY=VALUE`, or whose names begin with it.
    pub(crate) async fn list_hosts(&self, scope: &Scope) -> Result<Vec<Found>, ProviderError> {
        let engine = self.engine().await?;
        // What another engine has says nothing of the place that this provider said it makes hosts at.
        let met = engine.endpoint().await?;
        let (identity, now) = engine.identity_and_time().await?;
        if identity != met.identity {
            let message = format!(
                "endpoint changed: `{}` was the engine `{}`, and the engine `{identity}` answers there now",
                met.uri, met.identity
            );
            return Err(ProviderError::new(ErrorKind::EndpointChanged, message));
        }
        let failed = |error| engine.failed("could not list the containers", &error);
        let argument = scope.argument.as_deref().filter(|argument| !argument.is_empty());
        let summaries: Vec<Summary> = match argument {
            Some(label) if label.contains('=') => engine.list(&[("label", label)]).await.map_err(failed)?,
            Some(prefix) => {
                let all = engine.list(&[]).await.map_err(failed)?;
                all.into_iter().filter(|summary| summary.name().starts_with(prefix)).collect()
            }
            None => {
                let mut ours = engine.list(&[("label", ID_LABEL)]).await.map_err(failed)?;
                // Others may use the same engine.
                ours.retain(|summary| scope.covers(identity_of(&summary.labels).owner.as_deref()));
                ours
            }
        };
        describe(&engine, summaries.into_iter().map(|summary| summary.id).collect(), now).await
    }
}

async fn labelled(engine: &Engine, id: HostId) -> Result<Vec<Summary>, ProviderError> {
    let label = format!("{ID_LABEL}={id}");
    let listed = engine.list(&[("label", &label)]).await;
    let listed = listed.map_err(|error| engine.failed(&format!("could not look for host `{id}`"), &error))?;
    // An engine that does not understand the filter would give everything.
    let exact = |summary: &Summary| summary.labels.get(ID_LABEL).is_some_and(|found| *found == id.to_string());
    Ok(listed.into_iter().filter(exact).collect())
}

/// The one container of exactly the record's name, for records that know no more: checked against the hostname too.
async fn only_of_that_name(engine: &Engine, host: &HostRecord) -> Result<String, ProviderError> {
    let missing = || {
        let name = host.name.as_deref().unwrap_or("without a name");
        let message = format!(
            "there is no container `{name}` at `{}`, and the entry does not tell where it was made",
            engine.uri()
        );
        ProviderError::new(ErrorKind::NotFound, message)
    };
    let name = host.name.as_deref().filter(|name| !name.is_empty()).ok_or_else(missing)?;
    let listed = engine.list(&[("name", name)]).await;
    let listed = listed.map_err(|error| engine.failed(&format!("could not look for container `{name}`"), &error))?;
    let mut exact = listed.into_iter().filter(|summary| summary.name() == name);
    let only = exact.next().ok_or_else(missing)?;
    if exact.next().is_some() {
        let message = format!("there is more than one container `{name}` at `{}`", engine.uri());
        return Err(ProviderError::new(ErrorKind::Conflict, message));
    }
    // The Python tool wrote `host:port` where an SSH server was published.
    let wanted = host.hostname.as_deref().filter(|hostname| !hostname.is_empty() && !hostname.contains(':'));
    if let Some(wanted) = wanted {
        let container = engine.inspect(&only.id).await;
        let container =
            container.map_err(|error| engine.failed(&format!("could not look at container `{name}`"), &error))?;
        if container.config.hostname != wanted && !container.id.starts_with(wanted) {
            let message = format!(
                "container `{name}` at `{}` calls itself `{}`, and the entry means `{wanted}`: it is another one",
                engine.uri(),
                container.config.hostname
            );
            return Err(ProviderError::new(ErrorKind::EndpointChanged, message));
        }
    }
    Ok(only.id)
}

/// What is missing is gone only where it was made: fails if another engine answers there now.
async fn same_place(engine: &Engine, host: &HostRecord) -> Result<(), ProviderError> {
    let Some(endpoint) = &host.endpoint else { return Ok(()) };
    let identity = engine.identity_now().await?;
    if identity == endpoint.identity {
        return Ok(());
    }
    let message = format!(
        "endpoint changed: `{}` was made at the engine `{}`, and at `{}` the engine `{identity}` answers now",
        host.label(),
        endpoint.identity,
        endpoint.uri
    );
    Err(ProviderError::new(ErrorKind::EndpointChanged, message))
}

/// What the engine tells of containers. Those that have gone meanwhile are left out. `now` is the engine's time.
async fn describe(engine: &Engine, ids: Vec<String>, now: Option<Timestamp>) -> Result<Vec<Found>, ProviderError> {
    let looking = futures_util::stream::iter(ids).map(|id| async move { engine.inspect(&id).await }).buffered(AT_ONCE);
    let mut looked = std::pin::pin!(looking);
    let mut found = Vec::new();
    while let Some(container) = looked.next().await {
        match container {
            Ok(container) => found.push(found_of(engine, &container, now)),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(engine.failed("could not look at a container", &error)),
        }
    }
    Ok(found)
}

fn found_of(engine: &Engine, container: &Container, now: Option<Timestamp>) -> Found {
    let image = &container.config.image;
    let labels = &container.config.labels;
    let identity = identity_of(labels);
    let action = identity.action.clone().unwrap_or_else(|| CONTAINER_HOST.to_owned());
    let state = &container.state;
    Found {
        broker_id: labels.get(ID_LABEL).and_then(|id| id.parse().ok()),
        facts: facts::of_container(&engine.address, container, image, None),
        args: Args::from([(action, ArgValue::from(image.as_str()))]),
        identity,
        age: now.and_then(|now| age(&container.created, now)),
        flaw: (!state.running).then(|| format!("the container is `{}`, and does not run", state.status)),
        ..Found::default()
    }
}

fn identity_of(labels: &HashMap<String, String>) -> Identity {
    Identity::of_labels(|name| labels.get(name).map(String::as_str))
}

/// How long ago something was made. Nothing where that is yet to come: then the engine's clock was set back.
fn age(made_at: &str, now: Timestamp) -> Option<Duration> {
    now.duration_since(made_at.parse().ok()?).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_yet_to_be_made_has_no_age() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        assert_eq!(age("2026-01-01T23:59:50.5Z", now), Some(Duration::from_millis(9500)));
        assert_eq!(age("2026-01-01T18:59:50-05:00", now), Some(Duration::from_secs(10)));
        assert_eq!(age("2026-01-02T00:00:01Z", now), None);
        assert_eq!(age("", now), None);
    }
}
