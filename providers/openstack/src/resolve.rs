//! From the names in a request to the things in a cloud. A name that several things have is an error that lists them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use broker_core::provider::{ErrorKind, ProviderError};
use parking_lot::Mutex;

use crate::api::compute::{self, Flavor};
use crate::api::image::{self, Image};
use crate::api::network::{self, Network};
use crate::client::{CallError, Client, encoded};
use crate::request::{Plug, Spec};

/// For how long what a name meant is believed: the hosts of a batch share it, the next batch asks again.
const FRESH: Duration = Duration::from_secs(60);

/// The things that a request names.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) image: Image,
    pub(crate) flavor: Flavor,
    pub(crate) networks: Vec<Network>,
    pub(crate) pool: Option<Network>,
    /// The server group's id.
    pub(crate) group: Option<String>,
}

/// What names were found to mean.
#[derive(Default)]
pub(crate) struct Known {
    resolved: Mutex<HashMap<Names, (Instant, Resolved)>>,
}

/// The part of a request that has to be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Names {
    image: String,
    flavor: String,
    networks: Vec<String>,
    /// Whether the network has to be found out, as nothing names any.
    any_network: bool,
    pool: Option<String>,
    group: Option<String>,
}

impl Names {
    pub(crate) fn of(spec: &Spec) -> Self {
        let network = |plug: &Plug| match plug {
            Plug::Network { network, .. } => Some(network.clone()),
            Plug::Port(_) => None,
        };
        Self {
            image: spec.image.clone(),
            flavor: spec.flavor.clone(),
            networks: spec.plugs.iter().filter_map(network).collect(),
            any_network: spec.plugs.is_empty(),
            pool: spec.floating.clone(),
            group: spec.group.clone(),
        }
    }
}

impl Known {
    /// What a request names. `anew` asks also where that is known.
    pub(crate) async fn resolve(&self, client: &Client, spec: &Spec, anew: bool) -> Result<Resolved, ProviderError> {
        let names = Names::of(spec);
        if !anew
            && let Some((at, resolved)) = self.resolved.lock().get(&names)
            && at.elapsed() < FRESH
        {
            return Ok(resolved.clone());
        }
        let networks = async {
            if names.any_network {
                return only_network(client).await.map(|only| vec![only]);
            }
            futures_util::future::try_join_all(names.networks.iter().map(|name| network(client, name))).await
        };
        let pool = async {
            match &names.pool {
                Some(name) => network(client, name).await.map(Some),
                None => Ok(None),
            }
        };
        let group = async {
            match &names.group {
                Some(name) => server_group(client, name).await.map(Some),
                None => Ok(None),
            }
        };
        let (image, flavor, networks, pool, group) =
            tokio::try_join!(image_named(client, &names.image), flavor(client, &names.flavor), networks, pool, group)?;
        if let Some(pool) = pool.as_ref().filter(|pool| !pool.external) {
            let message = format!("network `{}` is no external one: floating addresses come from those", pool.name);
            return Err(ProviderError::new(ErrorKind::BadRequest, message));
        }
        let resolved = Resolved { image, flavor, networks, pool, group };
        self.resolved.lock().insert(names, (Instant::now(), resolved.clone()));
        Ok(resolved)
    }
}

/// Whether a text is an id as the services make them, with or without dashes.
fn is_id(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_hexdigit).count();
    digits == 32 && text.chars().all(|character| character.is_ascii_hexdigit() || character == '-')
}

/// The only one of several, or an error that says what there is.
fn only<T>(kind: &str, name: &str, mut found: Vec<T>, describe: impl Fn(&T) -> String) -> Result<T, ProviderError> {
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            let candidates: Vec<String> = found.iter().chain([&last]).map(describe).collect();
            let message = format!("there are {} {kind}s `{name}`: {}", candidates.len(), candidates.join(", "));
            Err(ProviderError::new(ErrorKind::Conflict, message))
        }
        (None, _) => Err(ProviderError::new(ErrorKind::NotFound, format!("there is no {kind} `{name}`"))),
    }
}

/// Adds the names that look like the one that is not there.
fn or_similar(error: ProviderError, name: &str, names: impl Iterator<Item = String>) -> ProviderError {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let lower = name.to_lowercase();
    let is_near = |other: &String| {
        let other = other.to_lowercase();
        strsim::jaro_winkler(&lower, &other) > 0.85 || other.contains(&lower)
    };
    let mut near: Vec<String> = names.filter(is_near).map(|name| format!("`{name}`")).collect();
    near.sort();
    near.dedup();
    near.truncate(8);
    if near.is_empty() {
        return error;
    }
    ProviderError::new(ErrorKind::NotFound, format!("{error}; similar: {}", near.join(", ")))
}

/// The thing of an id, where the text is one and there is such a thing.
fn by_id<T>(looked: Result<T, CallError>, doing: &str) -> Result<Option<T>, ProviderError> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.at(doing)),
    }
}

pub(crate) async fn image_named(client: &Client, name: &str) -> Result<Image, ProviderError> {
    let doing = format!("could not look for image `{name}`");
    if is_id(name)
        && let Some(found) = by_id(image::image(client, name).await, &doing)?
    {
        return Ok(found);
    }
    let mut found =
        image::images(client, &format!("name={}", encoded(name))).await.map_err(|error| error.at(&doing))?;
    found.retain(|image| image.name == name);
    // Images are replaced by others of their name: those that cannot be used do not stand in the way.
    if found.iter().any(|image| image.status == "active") {
        found.retain(|image| image.status == "active");
    }
    match only("image", name, found, |image| format!("`{}` ({}, of {})", image.id, image.status, image.created_at)) {
        Ok(image) => Ok(image),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let all = image::images(client, "").await.unwrap_or_default();
            Err(or_similar(error, name, all.into_iter().map(|image| image.name)))
        }
        Err(error) => Err(error),
    }
}

pub(crate) async fn flavor(client: &Client, name: &str) -> Result<Flavor, ProviderError> {
    let all =
        compute::flavors(client).await.map_err(|error| error.at(format!("could not look for flavor `{name}`")))?;
    if let Some(exact) = all.iter().find(|flavor| flavor.id == name) {
        return Ok(exact.clone());
    }
    let (found, others): (Vec<Flavor>, Vec<Flavor>) = all.into_iter().partition(|flavor| flavor.name == name);
    only("flavor", name, found, |flavor| format!("`{}`", flavor.id))
        .map_err(|error| or_similar(error, name, others.into_iter().map(|flavor| flavor.name)))
}

pub(crate) async fn network(client: &Client, name: &str) -> Result<Network, ProviderError> {
    let looked = async |query: String| {
        let doing = || format!("could not look for network `{name}`");
        network::networks(client, &query).await.map_err(|error| error.at(doing()))
    };
    if is_id(name)
        && let Some(found) = looked(format!("id={}", encoded(name))).await?.into_iter().find(|found| found.id == name)
    {
        return Ok(found);
    }
    let mut found = looked(format!("name={}", encoded(name))).await?;
    found.retain(|network| network.name == name);
    match only("network", name, found, |network| format!("`{}`", network.id)) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let all = looked(String::new()).await.unwrap_or_default();
            Err(or_similar(error, name, all.into_iter().map(|network| network.name)))
        }
        outcome => outcome,
    }
}

/// A server group's id.
async fn server_group(client: &Client, name: &str) -> Result<String, ProviderError> {
    let all = compute::server_groups(client).await;
    let all = all.map_err(|error| error.at(format!("could not look for server group `{name}`")))?;
    if let Some(exact) = all.iter().find(|group| group.id == name) {
        return Ok(exact.id.clone());
    }
    let (found, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|group| group.name == name);
    only("server group", name, found, |group| format!("`{}`", group.id))
        .map(|group| group.id)
        .map_err(|error| or_similar(error, name, others.into_iter().map(|group| group.name)))
}

/// The network that is meant where nobody names one: the only one there is for servers.
async fn only_network(client: &Client) -> Result<Network, ProviderError> {
    let all = network::networks(client, "").await;
    let mut inner = all.map_err(|error| error.at("could not look for a network"))?;
    inner.retain(|network| !network.external);
    match (inner.pop(), inner.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => {
            let names: Vec<String> = inner.iter().chain(&last).map(|network| format!("`{}`", network.name)).collect();
            let which = "`--ostack-network`, a template or setting `OpenStack.default_network` must say which";
            let message = match names.as_slice() {
                [] => "the cloud has no network for servers".to_owned(),
                names => format!("there are several networks, and {which}: {}", names.join(", ")),
            };
            Err(ProviderError::new(ErrorKind::BadRequest, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_name_is_meant_and_of_several_none() {
        let found = |ids: &[&'static str]| only("network", "net", ids.to_vec(), |id| format!("`{id}`"));
        assert_eq!(found(&["a"]).unwrap(), "a");
        let error = found(&["a", "b"]).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Conflict, "there are 2 networks `net`: `a`, `b`"));
        let error = found(&[]).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::NotFound, "there is no network `net`"));
    }

    #[test]
    fn names_that_are_near_are_shown() {
        let all = || ["m1.tiny", "m1.small", "huge", "rhel-9.4", "RHEL-9.5"].map(str::to_owned).into_iter();
        for (name, says) in [
            ("m1.tini", "there is no flavor `m1.tini`; similar: `m1.tiny`"),
            ("rhel-9", "there is no flavor `rhel-9`; similar: `RHEL-9.5`, `rhel-9.4`"),
            ("zzz", "there is no flavor `zzz`"),
        ] {
            let error = only("flavor", name, Vec::<u8>::new(), |_| String::new()).unwrap_err();
            assert_eq!(or_similar(error, name, all()).to_string(), says);
        }
    }

    #[test]
    fn ids_are_told_from_names() {
        for text in ["b5d46eec-1407-4f31-b0a2-193058cabd95", "fd1f57706966435c926b6e97f7101c6c"] {
            assert!(is_id(text), "{text}");
        }
        for text in ["", "tiny", "b5d46eec-1407-4f31-b0a2-193058cabd9", "g5d46eec-1407-4f31-b0a2-193058cabd95"] {
            assert!(!is_id(text), "{text}");
        }
    }
}
