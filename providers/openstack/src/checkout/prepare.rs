//! Looking at a batch before anything is made: whether what it names is there and fits together, and whether there is
//! room for it.

use broker_core::provider::{ErrorKind, Order, ProviderError};

use super::cancelled;
use crate::OpenStackProvider;
use crate::api::compute;
use crate::client::Client;
use crate::request::Spec;
use crate::resolve::Resolved;

impl OpenStackProvider {
    /// Looks at a whole batch: what it names, whether that fits together, and whether there is room for it.
    pub(crate) async fn look_at(&self, orders: &[Order]) -> Result<(), ProviderError> {
        let place = self.place().await?;
        let client = self.client.expecting(Some(&place));
        let (mut servers, mut cores, mut ram) = (0, 0, 0);
        let mut seen: Vec<Spec> = Vec::new();
        for order in orders {
            let spec = Spec::read(order, &self.settings)?;
            let is_new = !seen.contains(&spec);
            let asking = self.known.resolve(&client, &spec, is_new && seen.is_empty());
            let resolved = tokio::select! {
                resolved = asking => resolved?,
                () = order.cancelled() => return Err(cancelled(&spec.image)),
            };
            if is_new {
                fits(&resolved)?;
                if let Some(key) = &spec.key_name {
                    has_keypair(&client, key).await?;
                }
                seen.push(spec);
            }
            servers += 1;
            cores += resolved.flavor.vcpus;
            ram += resolved.flavor.ram;
        }
        let limits = match compute::limits(&client).await {
            Ok(limits) => limits,
            // Not everybody may look at them. Then the cloud says it when a server is made.
            Err(error) if matches!(error.status(), Some(403 | 404)) => return Ok(()),
            Err(error) => return Err(error.at("could not look at the quota")),
        };
        let project = client.token().await?.project.name.clone();
        for (what, wanted, used, most) in [
            ("servers", servers, limits.total_instances_used, limits.max_total_instances),
            ("cores", cores, limits.total_cores_used, limits.max_total_cores),
            ("MiB of memory", ram, limits.total_ram_used, limits.max_total_ram),
        ] {
            if most >= 0 && used + wanted > most {
                let message = format!(
                    "the quota of project `{project}` does not do: {wanted} {what} are wanted, and {used} of {most} are used"
                );
                return Err(ProviderError::new(ErrorKind::Quota, message));
            }
        }
        Ok(())
    }
}

/// Whether a server of the flavor can hold the image.
fn fits(resolved: &Resolved) -> Result<(), ProviderError> {
    const GIB: i64 = 1 << 30;
    let Resolved { image, flavor, networks, .. } = resolved;
    let bad = |kind, message| Err(ProviderError::new(kind, message));
    if !image.status.is_empty() && image.status != "active" {
        let message = format!("image `{}` is `{}`, and cannot be used", image.name, image.status);
        return bad(ErrorKind::Conflict, message);
    }
    if image.min_ram > flavor.ram {
        let message = format!(
            "image `{}` needs {} MiB of memory, and flavor `{}` has {}",
            image.name, image.min_ram, flavor.name, flavor.ram
        );
        return bad(ErrorKind::BadRequest, message);
    }
    let taken = image.virtual_size.or(image.size).unwrap_or_default();
    let needed = image.min_disk.max(taken / GIB + i64::from(taken % GIB > 0));
    // A flavor without a disk takes as much as the image needs.
    if flavor.disk > 0 && needed > flavor.disk {
        let message = format!(
            "image `{}` needs a disk of {needed} GiB, and flavor `{}` has one of {} GiB",
            image.name, flavor.name, flavor.disk
        );
        return bad(ErrorKind::BadRequest, message);
    }
    match networks.iter().find(|network| network.subnets.is_empty()) {
        Some(network) => {
            let message = format!("network `{}` has no subnet, so that a server would have no address", network.name);
            bad(ErrorKind::BadRequest, message)
        }
        None => Ok(()),
    }
}

async fn has_keypair(client: &Client, name: &str) -> Result<(), ProviderError> {
    match compute::keypair(client, name).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_missing() => {
            Err(ProviderError::new(ErrorKind::NotFound, format!("there is no key pair `{name}`")))
        }
        Err(error) => Err(error.at(format!("could not look for key pair `{name}`"))),
    }
}
