//! What a cloud offers: images, flavors, networks, templates, key pairs, security groups, quota.

use broker_core::inventory::{Secrets, args_to_json};
use broker_core::provider::{ErrorKind, ProviderError, Query, QueryInfo, Table};
use serde_json::Value;

use crate::OpenStackProvider;
use crate::api::compute::{self, Flavor, Keypair};
use crate::api::image::{self, Image};
use crate::api::network::{self, Network, SecurityGroup};
use crate::client::{CallError, Client};
use crate::resolve;

pub(crate) const QUERIES: &[QueryInfo] = &[
    QueryInfo { name: "images", value: None, help: "Images that servers can be made of" },
    QueryInfo { name: "image", value: Some("IMAGE"), help: "What an image is, by name or id" },
    QueryInfo { name: "flavors", value: None, help: "Flavors: how large servers can be" },
    QueryInfo { name: "flavor", value: Some("FLAVOR"), help: "How large a flavor is, by name or id" },
    QueryInfo { name: "networks", value: None, help: "Networks that servers can be connected to" },
    QueryInfo { name: "network", value: Some("NETWORK"), help: "What a network is, by name or id" },
    QueryInfo { name: "templates", value: None, help: "Templates in the settings" },
    QueryInfo { name: "template", value: Some("NAME"), help: "What a template in the settings says" },
    QueryInfo { name: "keypairs", value: None, help: "Key pairs" },
    QueryInfo { name: "keypair", value: Some("NAME"), help: "What a key pair is" },
    QueryInfo { name: "security_groups", value: None, help: "Security groups" },
    QueryInfo { name: "security_group", value: Some("NAME"), help: "What a security group lets in and out" },
    QueryInfo { name: "quota", value: None, help: "What the project may have, and has" },
];

impl OpenStackProvider {
    pub(crate) async fn answer(&self, query: &Query) -> Result<Table, ProviderError> {
        let client = &self.client;
        let name = query.value.as_deref().unwrap_or_default();
        let doing = |error: CallError| error.at(format!("could not answer `{}`", query.name));
        let mut table = match query.name.as_str() {
            "images" => images(&image::images(client, "").await.map_err(doing)?),
            "flavors" => flavors(&compute::flavors(client).await.map_err(doing)?),
            "networks" => networks(&network::networks(client, "").await.map_err(doing)?),
            "keypairs" => keypairs(&compute::keypairs(client).await.map_err(doing)?),
            "security_groups" => groups(&network::security_groups(client).await.map_err(doing)?),
            "templates" => self.templates(),
            "image" => return resolve::image_named(client, name).await.map(|image| details_of_image(&image)),
            "flavor" => return resolve::flavor(client, name).await.map(|flavor| upright(&flavors(&[flavor]))),
            "network" => return resolve::network(client, name).await.map(|network| upright(&networks(&[network]))),
            "template" => return self.template(name),
            "keypair" => return keypair(client, name).await,
            "security_group" => return group(client, name).await,
            "quota" => return quota(client).await,
            other => {
                let message = format!("OpenStack does not know the question `{other}`");
                return Err(ProviderError::new(ErrorKind::BadRequest, message));
            }
        };
        table.rows.sort();
        table.rows.truncate(query.limit.or(self.settings.results_limit).unwrap_or(usize::MAX));
        Ok(table)
    }

    fn templates(&self) -> Table {
        let rows = self.settings.templates.iter().map(|(name, args)| {
            let text = |key: &str| args.get(key).map(ToString::to_string).unwrap_or_default();
            vec![name.clone(), text("ostack_image"), text("ostack_flavor"), text("ostack_network")]
        });
        table(&["template", "image", "flavor", "network"], rows.collect())
    }

    fn template(&self, name: &str) -> Result<Table, ProviderError> {
        let args = self.settings.templates.get(name);
        let args = args.ok_or_else(|| missing(&format!("template `{name}` in the settings")))?;
        let all = args_to_json(args, Secrets::Hidden);
        let rows = all.as_object().into_iter().flatten();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(table(&["property", "value"], rows.map(|(key, value)| vec![key.clone(), text(value)]).collect()))
    }
}

fn table(columns: &[&str], rows: Vec<Vec<String>>) -> Table {
    Table { columns: columns.iter().map(|column| (*column).to_owned()).collect(), rows }
}

fn missing(what: &str) -> ProviderError {
    ProviderError::new(ErrorKind::NotFound, format!("there is no {what}"))
}

/// A table of one row, turned so that each of its columns is a row.
fn upright(one: &Table) -> Table {
    let values = one.rows.first().cloned().unwrap_or_default();
    let rows = one.columns.iter().cloned().zip(values).map(|(column, value)| vec![column, value]);
    table(&["property", "value"], rows.collect())
}

fn images(images: &[Image]) -> Table {
    let row = |image: &Image| vec![image.name.clone(), image.id.clone(), image.status.clone(), size(image.size)];
    table(&["image", "id", "status", "size"], images.iter().map(row).collect())
}

fn details_of_image(image: &Image) -> Table {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![name.to_owned(), value]);
        }
    };
    row("image", image.name.clone());
    row("id", image.id.clone());
    row("status", image.status.clone());
    row("visibility", image.visibility.clone());
    row("size", size(image.size));
    row("size on a disk", size(image.virtual_size));
    row("disk at the least", if image.min_disk > 0 { format!("{} GiB", image.min_disk) } else { String::new() });
    row("memory at the least", if image.min_ram > 0 { format!("{} MiB", image.min_ram) } else { String::new() });
    row("created", image.created_at.clone());
    for property in ["os_distro", "os_version", "os_admin_user"] {
        row(property, image.property(property).unwrap_or_default().to_owned());
    }
    table(&["property", "value"], rows)
}

fn flavors(flavors: &[Flavor]) -> Table {
    let row = |flavor: &Flavor| {
        let numbers = [flavor.vcpus, flavor.ram, flavor.disk].map(|number| number.to_string());
        [vec![flavor.name.clone(), flavor.id.clone()], numbers.to_vec()].concat()
    };
    table(&["flavor", "id", "cores", "MiB of memory", "GiB of disk"], flavors.iter().map(row).collect())
}

fn networks(networks: &[Network]) -> Table {
    let word = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let row = |network: &Network| {
        let subnets = network.subnets.len().to_string();
        vec![network.name.clone(), network.id.clone(), subnets, word(network.external), word(network.shared)]
    };
    table(&["network", "id", "subnets", "external", "shared"], networks.iter().map(row).collect())
}

fn keypairs(keypairs: &[Keypair]) -> Table {
    let row = |keypair: &Keypair| vec![keypair.name.clone(), keypair.fingerprint.clone()];
    table(&["keypair", "fingerprint"], keypairs.iter().map(row).collect())
}

async fn keypair(client: &Client, name: &str) -> Result<Table, ProviderError> {
    match compute::keypair(client, name).await {
        Ok(keypair) => {
            let rows =
                [("keypair", keypair.name), ("fingerprint", keypair.fingerprint), ("public key", keypair.public_key)];
            let rows = rows.into_iter().map(|(property, value)| vec![property.to_owned(), value]);
            Ok(table(&["property", "value"], rows.collect()))
        }
        Err(error) if error.is_missing() => Err(missing(&format!("key pair `{name}`"))),
        Err(error) => Err(error.at(format!("could not look for key pair `{name}`"))),
    }
}

fn groups(groups: &[SecurityGroup]) -> Table {
    let row = |group: &SecurityGroup| {
        let rules = group.security_group_rules.len().to_string();
        vec![group.name.clone(), group.id.clone(), rules, group.description.clone()]
    };
    table(&["security group", "id", "rules", "description"], groups.iter().map(row).collect())
}

async fn group(client: &Client, name: &str) -> Result<Table, ProviderError> {
    let all = network::security_groups(client).await;
    let all = all.map_err(|error| error.at(format!("could not look for security group `{name}`")))?;
    let found: Vec<&SecurityGroup> = all.iter().filter(|group| group.name == name || group.id == name).collect();
    let group = match found.as_slice() {
        [] => return Err(missing(&format!("security group `{name}`"))),
        [one] => *one,
        several => {
            let ids: Vec<String> = several.iter().map(|group| format!("`{}`", group.id)).collect();
            let message = format!("there are {} security groups `{name}`: {}", ids.len(), ids.join(", "));
            return Err(ProviderError::new(ErrorKind::Conflict, message));
        }
    };
    let row = |rule: &Value| {
        let text = |name: &str| match rule.get(name) {
            None | Some(Value::Null) => "any".to_owned(),
            Some(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        };
        let (from, to) = (text("port_range_min"), text("port_range_max"));
        let ports = if from == to { from } else { format!("{from}-{to}") };
        vec![text("direction"), text("ethertype"), text("protocol"), ports, text("remote_ip_prefix")]
    };
    let mut rows: Vec<Vec<String>> = group.security_group_rules.iter().map(row).collect();
    rows.sort();
    Ok(table(&["direction", "kind", "protocol", "ports", "remote"], rows))
}

async fn quota(client: &Client) -> Result<Table, ProviderError> {
    let doing = |error: CallError| error.at("could not look at the quota");
    let limits = compute::limits(client).await.map_err(doing)?;
    let most = |number: i64| if number < 0 { "no limit".to_owned() } else { number.to_string() };
    let mut rows = vec![
        ("servers", limits.total_instances_used, limits.max_total_instances),
        ("cores", limits.total_cores_used, limits.max_total_cores),
        ("MiB of memory", limits.total_ram_used, limits.max_total_ram),
    ]
    .into_iter()
    .map(|(what, used, limit)| vec![what.to_owned(), used.to_string(), most(limit)])
    .collect::<Vec<_>>();
    let project = client.token().await?.project.id.clone();
    match network::quota(client, &project).await {
        Ok(quota) => {
            for (what, key) in [
                ("floating addresses", "floatingip"),
                ("ports", "port"),
                ("networks", "network"),
                ("security groups", "security_group"),
            ] {
                if let Some(limit) = quota.get(key).and_then(Value::as_i64) {
                    rows.push(vec![what.to_owned(), String::new(), most(limit)]);
                }
            }
        }
        // Not everybody may look at that one.
        Err(error) if matches!(error.status(), Some(403 | 404)) => {}
        Err(error) => return Err(doing(error)),
    }
    Ok(table(&["what", "used", "limit"], rows))
}

/// Bytes, for people.
fn size(bytes: Option<i64>) -> String {
    const UNITS: [(i64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let Some(bytes) = bytes else { return String::new() };
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (262_144, "256.0 KiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(size(Some(bytes)), text);
        }
        assert_eq!(size(None), "");
    }

    #[test]
    fn one_row_is_turned() {
        let turned = upright(&table(&["a", "b"], vec![vec!["1".into(), "2".into()]]));
        assert_eq!(turned.rows, [["a", "1"], ["b", "2"]]);
    }
}
