//! Where the services of a cloud are.

use broker_core::provider::{ErrorKind, ProviderError};
use serde::Deserialize;

use crate::cloud::{Cloud, with_version};

/// A service that is asked things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Compute,
    Network,
    Image,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Network => "network",
            Self::Image => "image",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Compute => "v2.1",
            Self::Network => "v2.0",
            Self::Image => "v2",
        }
    }
}

/// What Keystone says of a service.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Address>,
}

#[derive(Debug, Clone, Deserialize)]
struct Address {
    #[serde(default)]
    interface: String,
    region: Option<String>,
    region_id: Option<String>,
    #[serde(default)]
    url: String,
}

impl Address {
    fn region(&self) -> Option<&str> {
        self.region_id.as_deref().or(self.region.as_deref())
    }
}

/// The addresses of the services, as a project sees them.
#[derive(Debug, Clone)]
pub(super) struct Catalog {
    pub(super) region: Option<String>,
    compute: Result<String, String>,
    network: Result<String, String>,
    image: Result<String, String>,
}

impl Catalog {
    /// # Errors
    ///
    /// Where compute has several regions, and nobody says which is meant.
    pub(super) fn new(entries: &[Entry], cloud: &Cloud) -> Result<Self, ProviderError> {
        let region = match &cloud.region {
            Some(region) => Some(region.clone()),
            None => only_region(entries)?,
        };
        let place = |service| address(entries, cloud, region.as_deref(), service);
        let [compute, network, image] = [Service::Compute, Service::Network, Service::Image].map(place);
        Ok(Self { region, compute, network, image })
    }

    pub(super) fn address(&self, service: Service) -> Result<&str, ProviderError> {
        let address = match service {
            Service::Compute => &self.compute,
            Service::Network => &self.network,
            Service::Image => &self.image,
        };
        address.as_deref().map_err(|why| ProviderError::new(ErrorKind::Settings, why))
    }
}

fn only_region(entries: &[Entry]) -> Result<Option<String>, ProviderError> {
    let compute = entries.iter().filter(|entry| entry.kind == "compute");
    let mut regions: Vec<&str> = compute.flat_map(|entry| &entry.endpoints).filter_map(Address::region).collect();
    regions.sort_unstable();
    regions.dedup();
    match regions.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some((*only).to_owned())),
        several => {
            let message =
                format!("the cloud has several regions: `region_name` must be one of `{}`", several.join("`, `"));
            Err(ProviderError::new(ErrorKind::Settings, message))
        }
    }
}

/// Where a service is, or why nobody knows.
fn address(entries: &[Entry], cloud: &Cloud, region: Option<&str>, service: Service) -> Result<String, String> {
    let name = service.name();
    if let Some(address) = cloud.overrides.get(name) {
        return Ok(with_version(address, service.version()));
    }
    let all: Vec<&Address> =
        entries.iter().filter(|entry| entry.kind == name).flat_map(|entry| &entry.endpoints).collect();
    let here = |address: &&&Address| region.is_none() || address.region() == region;
    let there = all.iter().filter(here).find(|address| address.interface == cloud.interface);
    match there {
        Some(address) => Ok(with_version(&address.url, service.version())),
        None => {
            let has: Vec<String> =
                all.iter().map(|at| format!("{} in `{}`", at.interface, at.region().unwrap_or_default())).collect();
            let has = if has.is_empty() { "has none of it".to_owned() } else { format!("has {}", has.join(", ")) };
            Err(format!(
                "there is no {} address of service `{name}` in region `{}`: the catalog {has}",
                cloud.interface,
                region.unwrap_or_default()
            ))
        }
    }
}
