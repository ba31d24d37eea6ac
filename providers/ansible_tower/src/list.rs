//! The hosts of the service's inventories, for a sync.
//!
//! A page of 200 hosts is one request. Facts have to be asked for host by host, so that this is done only for hosts that
//! have any, for none that is as it was when it was listed last, and for many at once.

use std::collections::HashMap;

use broker_core::inventory::HostRecord;
use broker_core::provider::{Found, HostFacts, Identity, ProviderError, Scope};
use broker_core::{ArgValue, Args};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Map, Value, json};

use crate::TowerProvider;
use crate::api::inventory::{self, Host, Inventory};
use crate::arguments::{self, ID};
use crate::client::{CallError, Client};
use crate::facts;
use crate::release::SOURCE_VM;

/// How many hosts' facts are asked for at once.
const FACTS_AT_ONCE: usize = 16;

/// How many inventories' hosts are asked for at once.
const INVENTORIES_AT_ONCE: usize = 4;

/// The argument that means all inventories.
const ALL: &str = "@ll";

impl TowerProvider {
    /// The hosts of the inventories whose names contain the user's: the one of the argument, of the settings, or ourselves.
    pub(crate) async fn list_hosts(&self, scope: &Scope) -> Result<Vec<Found>, ProviderError> {
        let doing = |error: CallError| error.at("could not list the hosts of the service's inventories");
        let argument = scope.argument.as_deref().filter(|argument| !argument.is_empty());
        let user = match argument {
            Some(ALL) => None,
            Some(user) => Some(user.to_owned()),
            None if scope.everyone => None,
            None => match &self.settings.user {
                Some(user) => Some(user.clone()),
                None => Some(self.me().await.map_err(doing)?.username),
            },
        };
        let inventories = inventory::all(&self.client).await.map_err(doing)?;
        let is_meant = |inventory: &Inventory| user.as_ref().is_none_or(|user| inventory.name.contains(user.as_str()));
        // How many hosts one has the service counts later than it takes them in.
        let meant = inventories.into_iter().filter(is_meant);
        let asked = meant.map(|inventory| {
            let client = self.client.clone();
            async move { inventory::hosts(&client, inventory.id).await }
        });
        let hosts: Vec<Vec<Host>> =
            stream::iter(asked).buffered(INVENTORIES_AT_ONCE).try_collect().await.map_err(doing)?;
        let mut hosts: Vec<Host> = hosts.into_iter().flatten().collect();
        // One host can be listed by more than one page while hosts come and go.
        hosts.sort_by_key(|host| host.id);
        hosts.dedup_by_key(|host| host.id);
        let seen =
            scope.known.iter().filter_map(|record| Some((record.details.facts.get(facts::VERSION)?.as_str()?, record)));
        let seen: HashMap<&str, _> = seen.collect();
        let asked = hosts.into_iter().map(|host| {
            let (client, expiry) = (self.client.clone(), self.settings.expiry_facts.clone());
            let known = version_of(&host, &expiry).and_then(|version| seen.get(version.as_str()).copied());
            async move {
                match known {
                    Some(record) => Ok(unchanged(&client, &host, record)),
                    None => of_host(&client, &host, &expiry).await,
                }
            }
        });
        stream::iter(asked).buffered(FACTS_AT_ONCE).try_collect().await.map_err(doing)
    }

    /// What there is to tell of a listed host.
    pub(crate) async fn described(&self, host: &Host) -> Result<Found, CallError> {
        of_host(&self.client, host, &self.settings.expiry_facts).await
    }
}

/// What tells one version of a host that has facts from another, as we read it.
fn version_of(host: &Host, expiry: &[String]) -> Option<String> {
    let facts = host.ansible_facts_modified.as_deref()?;
    Some(format!("{} {} {facts} {}", host.id, host.modified, expiry.join(",")))
}

/// A host of which everything is in its record already, but for what others decide.
fn unchanged(client: &Client, host: &Host, record: &HostRecord) -> Found {
    let mut found = Found { broker_id: Some(record.id), age: client.age(host.created), ..Found::default() };
    found.facts.name = Some(host.name.clone());
    if let Some(inventory) = &host.summary_fields.inventory {
        found.facts.facts.insert(facts::TOWER_INVENTORY.to_owned(), json!(inventory.name));
    }
    found
}

async fn of_host(client: &Client, host: &Host, expiry: &[String]) -> Result<Found, CallError> {
    let known = match host.ansible_facts_modified {
        Some(_) => inventory::facts(client, host.id).await?,
        None => Map::new(),
    };
    let mut found = described(host, known, expiry);
    found.age = client.age(host.created);
    Ok(found)
}

fn described(host: &Host, known: Map<String, Value>, expiry: &[String]) -> Found {
    let variables: Map<String, Value> =
        host.variables().into_iter().map(|(name, value)| (name, value.to_json())).collect();
    let object = |name: &str| known.get(name).and_then(Value::as_object);
    let text = |map: &Map<String, Value>, name: &str| map.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut told = object(facts::FACTS).cloned().unwrap_or_default();
    let metadata = || variables.get("openstack")?.get("metadata")?.get("fqdn")?.as_str().map(str::to_owned);
    let hostname = text(&variables, "fqdn").or_else(|| text(&known, "ansible_fqdn")).or_else(metadata);
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            told.entry(name.to_owned()).or_insert(value);
        }
    };
    add("ip", variables.get("ansible_host").cloned());
    add("os_distribution", known.get("ansible_distribution").cloned());
    add("os_distribution_version", known.get("ansible_distribution_version").cloned());
    add("reported_devices", known.get("ansible_interfaces").map(|nics| json!({ "nics": nics })));
    let inventory = host.summary_fields.inventory.as_ref().map(|inventory| json!(inventory.name));
    add(facts::TOWER_INVENTORY, inventory);
    let notes =
        version_of(host, expiry).map(|version| (facts::VERSION.to_owned(), version.into())).into_iter().collect();
    let facts = facts::of_facts(told, expiry);
    let made_with = object(facts::ARGS).cloned().unwrap_or_default();
    let broker_id = made_with.get(ID).and_then(Value::as_str).and_then(|id| id.parse().ok());
    let is_empty = |value: &Value| value.is_null() || *value == json!("") || *value == json!({}) || *value == json!([]);
    let own = |name: &str| made_with.get(name).and_then(Value::as_str).map(str::to_owned);
    let action = [arguments::WORKFLOW, arguments::JOB_TEMPLATE].into_iter().find(|name| made_with.contains_key(*name));
    let identity = Identity {
        owner: own("_broker_owner"),
        origin: own("_broker_origin"),
        action: action.filter(|_| broker_id.is_some()).map(str::to_owned),
        // When it ends is for the laboratory to say.
        lease_until: None,
    };
    // What somebody has given the workflow of a host of ours is not what that host is released by.
    let is_ours = |name: &str| {
        [ID, "_broker_owner", "_broker_lease_until"].contains(&name) || broker_id.is_some() && name == SOURCE_VM
    };
    let args = made_with.into_iter().filter(|(name, value)| !is_empty(value) && !is_ours(name));
    let args: Args = args.map(|(name, value)| (name, ArgValue::from_json(value))).collect();
    let facts = HostFacts {
        // The inventory's own name is the one by which the release workflow knows it.
        name: Some(host.name.clone()),
        hostname: hostname.or(facts.hostname),
        address: facts.facts.get("ip").and_then(Value::as_str).map(str::to_owned),
        ..facts
    };
    Found { broker_id, facts, args, identity, notes, ..Found::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: Value) -> Host {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn recorded_hosts_are_described() {
        let expiry = ["remove_time".to_owned()];
        let summary = json!({"inventory": {"id": 4, "name": "rigger-hosts"}});
        let a = host(
            json!({"id": 2, "name": "rig-a", "variables": "{\"ansible_host\":\"192.0.2.11\",\"fqdn\":\"rig-a.example.test\"}",
            "ansible_facts_modified": "2026-11-21T00:33:11Z", "summary_fields": summary}),
        );
        let known = json!({"_broker_args": {"empty": "", "workflow": "deploy-vm", "deploy_flavor": "tiny"},
            "ansible_fqdn": "rig-a.example.test", "_broker_facts": {"fqdn": "rig-a.example.test", "name": "rig-a", "host_type": "host", "remove_time": 1_795_219_200},
            "ansible_interfaces": ["lo", "eth0"], "ansible_distribution": "RedHat", "ansible_distribution_version": "9.4"});
        let found = described(&a, known.as_object().cloned().unwrap(), &expiry);
        assert_eq!(
            (found.facts.name.as_deref(), found.facts.hostname.as_deref()),
            (Some("rig-a"), Some("rig-a.example.test"))
        );
        assert_eq!(found.facts.address.as_deref(), Some("192.0.2.11"));
        assert_eq!(found.facts.lease_until.unwrap().to_string(), "2026-11-21T00:00:00Z");
        assert_eq!(found.args.keys().collect::<Vec<_>>(), ["workflow", "deploy_flavor"]);
        let facts = &found.facts.facts;
        assert_eq!(
            (&facts["tower_inventory"], &facts["os_distribution_version"]),
            (&json!("rigger-hosts"), &json!("9.4"))
        );
        assert_eq!(facts["reported_devices"], json!({"nics": ["lo", "eth0"]}));

        let b = host(json!({"id": 3, "name": "rig-b", "summary_fields": summary,
            "variables": "---\nansible_host: 192.0.2.12\nopenstack:\n  metadata:\n    fqdn: rig-b.example.test"}));
        let found = described(&b, Map::new(), &expiry);
        assert_eq!(found.facts.hostname.as_deref(), Some("rig-b.example.test"));
        let c = described(&host(json!({"id": 4, "name": "rig-c", "variables": ""})), Map::new(), &expiry);
        assert_eq!((c.facts.name.as_deref(), c.facts.hostname, c.broker_id), (Some("rig-c"), None, None));
    }

    #[test]
    fn a_host_whose_playbook_has_stored_its_id_is_known_by_it() {
        let id = broker_core::HostId::generate();
        let known = json!({"_broker_args": {"_broker_id": id.to_string()}});
        let one = host(json!({"id": 4, "name": "rig-c", "variables": ""}));
        assert_eq!(described(&one, known.as_object().cloned().unwrap(), &[]).broker_id, Some(id));
    }
}
