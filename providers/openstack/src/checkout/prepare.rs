//! Looking at a batch before anything is made: whether what it names is there and fits together, and whether there is
//! room for it.

use broker_core::provider::{ErrorKind, Order, ProviderError};

use super::cancelled;
use crate::OpenStackProvider;
use crate::api::compute;
use crate::client::Client;
use crate::request::Spec;
use crate::resolve::{Names, Resolved};

impl OpenStackProvider {
    /// Looks at a whole batch: what it names, whether that fits together, and whether there is room for it.
    pub(crate) async fn look_at(&self, orders: &[Order]) -> Result<(), ProviderError> {
        let place = self.place().await?;
        let client = self.client.expecting(Some(&place));
        let mut specs = Vec::new();
        for order in orders {
            specs.push((order, Spec::read(order, &self.settings)?));
        }
        let (mut servers, mut cores, mut ram) = (0, 0, 0);
        for (order, spec, count) in kinds(&specs) {
            let looked = async {
                let resolved = self.known.resolve(&client, spec, true).await?;
                fits(&resolved, spec.volume)?;
                if let Some(key) = &spec.key_name {
                    has_keypair(&client, key).await?;
                }
                Ok::<_, ProviderError>(resolved.flavor)
            };
            let flavor = tokio::select! {
                flavor = looked => flavor?,
                () = order.cancelled() => return Err(cancelled(&spec.image)),
            };
            servers += count;
            cores += count * flavor.vcpus;
            ram += count * flavor.ram;
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

/// The servers that name different things, and how many there are of each. What else they differ in does not matter before
/// they are made.
fn kinds<'a>(specs: &'a [(&'a Order, Spec)]) -> Vec<(&'a Order, &'a Spec, i64)> {
    let mut kinds: Vec<(&Order, &Spec, i64)> = Vec::new();
    for (order, spec) in specs {
        let same =
            |kind: &&mut (&Order, &Spec, i64)| Names::of(kind.1) == Names::of(spec) && kind.1.key_name == spec.key_name;
        match kinds.iter_mut().find(same) {
            Some((.., count)) => *count += 1,
            None => kinds.push((order, spec, 1)),
        }
    }
    kinds
}

/// Whether a server of the flavor, or its volume of so many GiB, can hold the image.
fn fits(resolved: &Resolved, volume: Option<u32>) -> Result<(), ProviderError> {
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
    let (size, what) = match volume {
        Some(size) => (i64::from(size), "the volume".to_owned()),
        None => (flavor.disk, format!("flavor `{}`", flavor.name)),
    };
    // A flavor without a disk takes as much as the image needs.
    if size > 0 && needed > size {
        let message = format!("image `{}` needs a disk of {needed} GiB, and {what} has one of {size} GiB", image.name);
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

#[cfg(test)]
mod tests {
    use broker_core::settings::ProviderSettings;
    use broker_core::{ArgValue, Args};
    use serde_json::{Value, json};

    use super::*;
    use crate::cloud::files::Surroundings;
    use crate::request::IMAGE;
    use crate::settings::Settings;

    #[test]
    fn a_batch_is_looked_at_once() {
        let text = "{auth_url: 'http://k', username: u, password: p, default_flavor: f, default_network: n}";
        let values = broker_core::yaml::parse(text).unwrap().unwrap().into_value();
        let values = values.as_map().unwrap().clone();
        let settings = ProviderSettings { values, ..ProviderSettings::default() };
        let settings = Settings::read(&settings, &Surroundings::default()).unwrap();
        let order = |more: &[(&str, &str)]| {
            let mut args = Args::from([(IMAGE.to_owned(), ArgValue::from("tiny"))]);
            args.extend(more.iter().map(|(key, value)| ((*key).to_owned(), ArgValue::from(*value))));
            Order::for_test(IMAGE, args)
        };
        let orders = [
            order(&[]),
            order(&[("name", "other")]),
            order(&[("ostack_flavor", "large")]),
            order(&[]),
            order(&[("ostack_key_name", "k")]),
        ];
        let specs = orders.each_ref().map(|order| (order, Spec::read(order, &settings).unwrap()));
        assert_ne!(specs[0].1, specs[3].1, "each has the id of its own host");
        let kinds: Vec<_> = kinds(&specs)
            .into_iter()
            .map(|(_, spec, count)| (spec.flavor.as_str(), spec.key_name.as_deref(), count))
            .collect();
        assert_eq!(kinds, [("f", None, 3), ("large", None, 1), ("f", Some("k"), 1)]);
    }

    fn resolved(image: &Value, disk: i64) -> Resolved {
        let mut whole = json!({"id": "i", "name": "tiny", "status": "active"});
        whole.as_object_mut().unwrap().extend(image.as_object().unwrap().clone());
        let flavor = json!({"id": "f", "name": "nano", "vcpus": 1, "ram": 128, "disk": disk});
        let network = json!({"id": "n", "name": "net", "subnets": ["s"]});
        Resolved {
            image: serde_json::from_value(whole).unwrap(),
            flavor: serde_json::from_value(flavor).unwrap(),
            networks: vec![serde_json::from_value(network).unwrap()],
            pool: None,
            group: None,
        }
    }

    #[test]
    fn an_image_has_to_fit() {
        const GIB: i64 = 1 << 30;
        for (image, disk) in [
            (json!({}), 1),
            (json!({"size": GIB}), 1),
            (json!({"virtual_size": null, "size": 5}), 1),
            (json!({"virtual_size": 5 * GIB, "size": 5}), 5),
            // The image decides how large the disk is.
            (json!({"virtual_size": 5 * GIB}), 0),
            (json!({"min_ram": 128, "min_disk": 1}), 1),
        ] {
            fits(&resolved(&image, disk), None).unwrap();
        }
        for (image, says) in [
            (json!({"size": GIB + 1}), "image `tiny` needs a disk of 2 GiB, and flavor `nano` has one of 1 GiB"),
            (json!({"virtual_size": 5 * GIB, "size": 5}), "needs a disk of 5 GiB"),
            (json!({"virtual_size": 1, "min_disk": 3}), "needs a disk of 3 GiB"),
            (json!({"min_ram": 129}), "image `tiny` needs 129 MiB of memory, and flavor `nano` has 128"),
        ] {
            let error = fits(&resolved(&image, 1), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadRequest);
            assert!(error.to_string().contains(says), "{error}");
        }
        // A volume is what counts where there is one.
        fits(&resolved(&json!({"min_disk": 3}), 1), Some(3)).unwrap();
        let error = fits(&resolved(&json!({"min_disk": 3}), 5), Some(2)).unwrap_err();
        assert_eq!(error.to_string(), "image `tiny` needs a disk of 3 GiB, and the volume has one of 2 GiB");
        let error = fits(&resolved(&json!({"status": "queued"}), 1), None).unwrap_err();
        assert_eq!(error.to_string(), "image `tiny` is `queued`, and cannot be used");
    }
}
