//! Networks: those that must exist, and those of groups, which come and go with their hosts.

use std::collections::HashMap;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters as query;
use broker_core::provider::{ErrorKind, ProviderError};
use serde::Deserialize;

use crate::engine::Engine;
use crate::engine::error::{answer, is_missing};
use crate::engine::model::tolerant;

/// The label that says which group a network is for: what bears it is ours to remove.
const GROUP: &str = "broker.group";

/// A network, as the engine lists it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    name: String,
    id: String,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
    #[serde(default)]
    created: Option<String>,
}

/// The networks of groups that this process has looked up: by the group's name, what containers join it by.
#[derive(Default)]
pub(crate) struct Groups {
    known: tokio::sync::Mutex<HashMap<String, String>>,
}

/// Whether the name is one of an engine's own modes, which are no networks that could be looked up.
pub(crate) fn is_mode(name: &str) -> bool {
    matches!(name, "default" | "bridge" | "host" | "none" | "private" | "slirp4netns" | "pasta") || name.contains(':')
}

/// Whether the name is a mode that goes with no network.
pub(crate) fn is_alone(name: &str) -> bool {
    is_mode(name) && !matches!(name, "default" | "bridge")
}

/// Whether these words say that a network does not exist, or that there are two of its name: either passes, while processes
/// make and remove the network of one group at the same moment.
pub(crate) fn says_changing(words: &str) -> bool {
    let says = |part: &str| words.contains(part);
    says("network") && (says("not found") || says("is ambiguous")) || says("unable to find network")
}

async fn list(engine: &Engine, filter: Option<(&str, &str)>) -> Result<Vec<Network>, ProviderError> {
    let filters = filter.map(|(key, value)| HashMap::from([(key.to_owned(), vec![value.to_owned()])]));
    let asking = engine.docker().list_networks(Some(query::ListNetworksOptions { filters }));
    let listed = match tokio::time::timeout(engine.timeout(), asking).await {
        Ok(answer) => tolerant(answer),
        Err(_) => Err(bollard::errors::Error::RequestTimeoutError),
    };
    listed.map_err(|error| engine.failed("could not list the networks", &error))
}

/// Makes sure that networks exist. Asks nothing where only the engine's own are named.
pub(crate) async fn check(engine: &Engine, names: &[&str]) -> Result<(), ProviderError> {
    if names.iter().all(|name| is_mode(name)) {
        return Ok(());
    }
    let networks = list(engine, None).await?;
    for name in names.iter().filter(|name| !is_mode(name)) {
        if !networks.iter().any(|network| network.name == *name || network.id.starts_with(name)) {
            let message = format!("there is no network `{name}` at `{}`", engine.uri());
            return Err(ProviderError::new(ErrorKind::NotFound, message));
        }
    }
    Ok(())
}

impl Groups {
    /// What containers join the group's network by. It is made where it is missing.
    pub(crate) async fn join(&self, engine: &Engine, group: &str) -> Result<String, ProviderError> {
        // The lock is held throughout, so that one process makes it once.
        let mut known = self.known.lock().await;
        if let Some(network) = known.get(group) {
            return Ok(network.clone());
        }
        let network = match find(engine, group).await? {
            Some(network) => network,
            None => make(engine, group).await?,
        };
        let podman = engine.about().await?.podman;
        // Docker lets two networks have one name, and Podman knows its own best by their names.
        let joined = if podman { network.name } else { network.id };
        known.insert(group.to_owned(), joined.clone());
        Ok(joined)
    }

    /// Forgets what a group's network is, which may have gone with another process's last host.
    pub(crate) async fn forget(&self, group: &str) {
        self.known.lock().await.remove(group);
    }

    /// Removes the group's network if no host is left in it. A network that somebody else made stays.
    pub(crate) async fn leave(&self, engine: &Engine, group: &str) -> Result<(), ProviderError> {
        let mut known = self.known.lock().await;
        known.remove(group);
        let podman = engine.about().await?.podman;
        for network in named(engine, group).await?.iter().filter(|network| is_ours(network, group)) {
            // Podman sees that a network is in use by its name alone; Docker's names may stand for several.
            let removing = engine.docker().remove_network(if podman { &network.name } else { &network.id });
            let removed = match tokio::time::timeout(engine.timeout(), removing).await {
                Ok(answer) => answer,
                Err(_) => Err(bollard::errors::Error::RequestTimeoutError),
            };
            match removed {
                Ok(()) => {}
                Err(error) if is_missing(&error) || answer(&error).is_some_and(|(_, words)| says_in_use(words)) => {}
                Err(error) => {
                    return Err(engine.failed(&format!("could not remove the network of group `{group}`"), &error));
                }
            }
        }
        Ok(())
    }
}

/// Whether these words say that a network has containers in it.
fn says_in_use(words: &str) -> bool {
    words.contains("has active endpoints")
        || words.contains("has associated containers")
        || words.contains("being used")
}

/// All networks of exactly this name.
async fn named(engine: &Engine, group: &str) -> Result<Vec<Network>, ProviderError> {
    let mut networks = list(engine, Some(("name", group))).await?;
    networks.retain(|network| network.name == group);
    Ok(networks)
}

/// The network of a group. Of several that were made at the same moment all processes choose the same, and remove the
/// others, which Docker would not tell from it by their name; Podman's networks have names of their own.
async fn find(engine: &Engine, group: &str) -> Result<Option<Network>, ProviderError> {
    let mut networks = named(engine, group).await?;
    networks.sort_by(|one, other| (&one.created, &one.id).cmp(&(&other.created, &other.id)));
    let mut networks = networks.into_iter();
    let chosen = networks.next();
    for other in networks.filter(|network| is_ours(network, group)) {
        if let Err(error) = engine.docker().remove_network(&other.id).await {
            tracing::debug!(group, %error, "could not remove a network that is one too many.");
        }
    }
    Ok(chosen)
}

async fn make(engine: &Engine, group: &str) -> Result<Network, ProviderError> {
    let wanted = NetworkCreateRequest {
        name: group.to_owned(),
        labels: Some(HashMap::from([(GROUP.to_owned(), group.to_owned())])),
        ..Default::default()
    };
    let made = match tokio::time::timeout(engine.timeout(), engine.docker().create_network(wanted)).await {
        Ok(answer) => answer,
        Err(_) => Err(bollard::errors::Error::RequestTimeoutError),
    };
    let doing = format!("could not make the network of group `{group}`");
    match made {
        Ok(_) => {}
        // Another process was faster.
        Err(error) if answer(&error).is_some_and(|(_, words)| words.contains("already")) => {}
        Err(error) => return Err(engine.failed(&doing, &error)),
    }
    let chosen = find(engine, group).await?;
    chosen.ok_or_else(|| ProviderError::new(ErrorKind::Failed, format!("{doing}: it is not there")))
}

fn is_ours(network: &Network, group: &str) -> bool {
    network.labels.as_ref().and_then(|labels| labels.get(GROUP)).is_some_and(|label| label == group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_not_looked_up() {
        for name in ["host", "none", "bridge", "container:abc", "slirp4netns:mtu=1"] {
            assert!(is_mode(name), "{name}");
        }
        assert!(!is_mode("lab"));
        assert!(is_alone("host") && is_alone("container:abc") && !is_alone("bridge") && !is_alone("lab"));
    }

    #[test]
    fn words_for_a_network_with_containers() {
        assert!(says_in_use("error while removing network: network g id 01 has active endpoints"));
        assert!(says_in_use(
            "\"g\" has associated containers with it. Use -f to forcibly delete: network is being used"
        ));
        assert!(!says_in_use("network g not found"));
    }

    #[test]
    fn words_for_a_network_that_comes_or_goes() {
        assert!(says_changing("network 0123 not found"));
        assert!(says_changing("container create: unable to find network with name or ID x: network not found"));
        assert!(says_changing(
            "failed to set up container networking: network g is ambiguous (2 matches found on name)"
        ));
        assert!(!says_changing("No such container: network"));
    }
}
