//! What is told of a host: by the artifacts of its workflow, or by an inventory of the service's.

use std::time::Duration;

use broker_core::Args;
use broker_core::provider::{HostFacts, Lease};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::arguments;

/// What a workflow tells of its host.
pub(crate) const FACTS: &str = "_broker_facts";
/// The arguments that a workflow says its host was made with.
pub(crate) const ARGS: &str = "_broker_args";
/// The name of a machine that was made, whatever became of its workflow.
pub(crate) const VM_NAME: &str = "vm_name";

/// The inventory of the service's that the host is in.
pub(crate) const TOWER_INVENTORY: &str = "tower_inventory";
/// The number of the job that made the host, and its page.
pub(crate) const JOB: &str = "tower_job";
pub(crate) const JOB_URL: &str = "tower_job_url";
/// As which of its versions the service's inventory had a host when it was listed last.
pub(crate) const VERSION: &str = "tower_version";
/// The type of host, by which a program chooses a type of its own.
pub(crate) const HOST_TYPE: &str = "host_type";
/// Says that the workflow that made the host has failed.
pub(crate) const DEPLOY_FAILED: &str = "deploy_failed";
/// What the workflow says that the host was made with, where that is not what it was told: its release workflow is told
/// it.
pub(crate) const MADE_WITH: &str = "tower_args";

/// Facts that are there more often than not. Workflows tell what they like.
pub(crate) const NAMES: &[&str] = &[
    TOWER_INVENTORY,
    JOB,
    JOB_URL,
    VERSION,
    HOST_TYPE,
    DEPLOY_FAILED,
    MADE_WITH,
    "fqdn",
    "ip",
    "os_distribution",
    "os_distribution_version",
    "reported_devices",
    "deploy_network_type",
    "remove_time",
    "shutdown_time",
    "expire_time",
];

/// The host that artifacts tell of, if they do.
///
/// Where there is no `_broker_facts` the artifacts themselves are looked at, as older templates have it.
pub(crate) fn of_artifacts(artifacts: &Map<String, Value>, expiry: &[String]) -> Option<HostFacts> {
    let facts = match artifacts.get(FACTS) {
        Some(Value::Object(facts)) => facts.clone(),
        _ => {
            artifacts.iter().filter(|(key, _)| *key != ARGS).map(|(key, value)| (key.clone(), value.clone())).collect()
        }
    };
    let told = of_facts(facts, expiry);
    (told.hostname.is_some() || told.name.is_some()).then_some(told)
}

/// What facts come to.
pub(crate) fn of_facts(mut facts: Map<String, Value>, expiry: &[String]) -> HostFacts {
    for value in facts.values_mut() {
        // The Python tool takes the first of a list where a text is wanted; here only what is wanted as a text is looked at.
        if let Value::Array(items) = value
            && items.len() == 1
            && items.first().is_some_and(Value::is_string)
        {
            *value = items.remove(0);
        }
    }
    facts.retain(|_, value| !value.is_null() && *value != json!(""));
    let hostname = facts.iter().find(|(key, _)| key.ends_with("fqdn")).and_then(|(_, value)| text(value));
    let name = [NAME, VM_PROVISIONED, VM_NAME].iter().find_map(|key| text(facts.get(*key)?));
    let host_type = facts.iter().find(|(key, _)| key.ends_with(HOST_TYPE)).and_then(|(_, value)| text(value));
    if let Some(host_type) = host_type {
        facts.insert(HOST_TYPE.to_owned(), json!(host_type));
    }
    let lease_until = lease_until(&facts, expiry);
    facts.shift_remove(NAME);
    facts.shift_remove("hostname");
    // What it calls itself need not lead to it.
    let ip = facts.get("ip").and_then(text);
    HostFacts { name, address: ip, hostname, lease_until, facts, ..HostFacts::default() }
}

const NAME: &str = "name";
const VM_PROVISIONED: &str = "vm_provisioned";

/// A text, or the first of a list.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Array(items) => items.first().and_then(text),
        _ => None,
    }
}

/// The names of machines in artifacts: those that were made, and the one that is told of.
pub(crate) fn vm_names(artifacts: &Map<String, Value>) -> Vec<String> {
    let mut names: Vec<String> = match artifacts.get(VM_NAME) {
        Some(Value::Array(items)) => items.iter().filter_map(text).collect(),
        Some(value) => text(value).into_iter().collect(),
        None => Vec::new(),
    };
    names.extend(told_of(artifacts).and_then(|told| told.name));
    names
}

/// The host that artifacts tell of in the agreed way.
pub(crate) fn told_of(artifacts: &Map<String, Value>) -> Option<HostFacts> {
    artifacts.get(FACTS).filter(|facts| facts.is_object())?;
    of_artifacts(artifacts, &[])
}

/// What the release workflow knows a host by.
pub(crate) fn machine(told: &HostFacts) -> Option<String> {
    told.name.clone().or_else(|| told.hostname.clone())
}

/// What a workflow says that its host was made with, where that is not what it was `given`, and without `secrets`.
pub(crate) fn made_with(artifacts: &Map<String, Value>, given: &Args, secrets: &[&str]) -> Map<String, Value> {
    let Some(told) = artifacts.get(ARGS).and_then(Value::as_object) else { return Map::new() };
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let is_new = |name: &str, value: &Value| {
        if value.is_null() || plain(value).is_empty() || secrets.contains(&name) {
            return false;
        }
        given
            .get(name)
            .is_none_or(|given| plain(&given.to_json()) != plain(value) && !broker_core::secrets::is_secret_name(name))
    };
    // Labels go their own way.
    let is_another = |name: &str| !arguments::is_ours(name) && name != arguments::LABELS;
    let told = told.iter().filter(|(name, value)| is_another(name) && is_new(name, value));
    told.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// When a host ends, by the first of the facts that says so.
pub(crate) fn lease_until(facts: &Map<String, Value>, expiry: &[String]) -> Option<Timestamp> {
    expiry.iter().find_map(|name| moment(facts.get(name)?))
}

/// A moment, in whatever form: seconds since 1970, a span from now, or a date, which is UTC where it does not say.
pub(crate) fn moment(value: &Value) -> Option<Timestamp> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    if let Ok(seconds) = text.trim_start_matches('+').parse::<f64>() {
        return of_seconds(seconds);
    }
    text.parse::<Timestamp>().ok().or_else(|| {
        let date = text.parse::<jiff::civil::DateTime>().ok()?;
        date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}

/// Numbers from 2001 on are moments, in seconds or milliseconds; smaller ones are spans.
fn of_seconds(seconds: f64) -> Option<Timestamp> {
    const FROM_2001: f64 = 978_307_200.0;
    if !seconds.is_finite() || seconds <= 0.0 {
        return None;
    }
    if seconds < FROM_2001 {
        return Some(Lease(Duration::from_secs_f64(seconds)).until());
    }
    let seconds = if seconds > FROM_2001 * 1000.0 { seconds / 1000.0 } else { seconds };
    #[expect(clippy::cast_possible_truncation, reason = "parts of a second do not matter, and the rest fits")]
    Timestamp::from_second(seconds as i64).ok()
}

#[cfg(test)]
mod tests {
    use broker_core::ArgValue;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn expiry() -> Vec<String> {
        ["remove_time", "shutdown_time", "expire_time"].map(str::to_owned).to_vec()
    }

    #[test]
    fn recorded_artifacts_tell_of_a_host() {
        let artifacts = map(json!({
            "fqdn": "other.example.test",
            "_broker_args": {"note": "hello", "workflow": "deploy-vm"},
            "_broker_facts": {"fqdn": "rig-vm01.example.test", "name": "rig-vm01", "host_type": "host", "os_distribution": "RedHat",
                "os_distribution_version": "9.4", "reported_devices": {"nics": ["eth0", "lo"]}}
        }));
        let told = of_artifacts(&artifacts, &expiry()).unwrap();
        assert_eq!((told.hostname.as_deref(), told.name.as_deref()), (Some("rig-vm01.example.test"), Some("rig-vm01")));
        assert_eq!(told.facts["host_type"], json!("host"));
        assert_eq!(told.facts["reported_devices"], json!({"nics": ["eth0", "lo"]}));
        assert_eq!((told.lease_until, told.address), (None, None));
    }

    #[test]
    fn other_names_for_the_same_are_read() {
        let facts = map(
            json!({"_broker_facts": {"provisioned_fqdn": ["a.example.test"], "vm_provisioned": "a", "my_host_type": ["sat"], "empty": "", "none": null}}),
        );
        let told = of_artifacts(&facts, &expiry()).unwrap();
        assert_eq!((told.hostname.as_deref(), told.name.as_deref()), (Some("a.example.test"), Some("a")));
        assert_eq!(told.facts["host_type"], json!("sat"));
        assert!(!told.facts.contains_key("empty") && !told.facts.contains_key("none"));
        let flat = map(json!({"vm_name": "rig-vm01", "fqdn": "rig-vm01.example.test", "_broker_args": {"a": 1}}));
        let told = of_artifacts(&flat, &expiry()).unwrap();
        assert_eq!(told.name.as_deref(), Some("rig-vm01"));
        assert!(!told.facts.contains_key("_broker_args"));
        let ip = of_artifacts(&map(json!({"_broker_facts": {"ip": "192.0.2.1", "name": "x"}})), &expiry()).unwrap();
        assert_eq!(ip.address.as_deref(), Some("192.0.2.1"));
        for nothing in [json!({}), json!({"data_out": {"list": [1]}}), json!({"_broker_facts": {}})] {
            assert_eq!(of_artifacts(&map(nothing), &expiry()), None);
        }
    }

    #[test]
    fn machines_are_named_by_texts_and_lists() {
        assert_eq!(vm_names(&map(json!({"vm_name": "a"}))), ["a"]);
        assert_eq!(vm_names(&map(json!({"vm_name": ["a", "b"]}))), ["a", "b"]);
        assert!(vm_names(&map(json!({"vm_name": "", "name": "x"}))).is_empty());
        // What is handed over was made as well.
        assert_eq!(vm_names(&map(json!({"_broker_facts": {"name": "a", "fqdn": "a.test"}}))), ["a"]);
        assert_eq!(vm_names(&map(json!({"vm_name": "a", "_broker_facts": {"fqdn": "a.test"}}))), ["a"]);
    }

    #[test]
    fn what_a_workflow_adds_to_its_arguments_is_kept() {
        let given = |value: Value| match ArgValue::from_json(value) {
            ArgValue::Map(given) => given,
            other => panic!("{other:?}"),
        };
        let given = given(json!({"workflow": "deploy", "memory": "8", "version": "latest", "pin": "1234"}));
        let told = json!({"_broker_args": {"workflow": "deploy", "memory": 8, "version": "9.4", "pin": "4321", "template": "rhel",
            "_broker_id": "x", "provider_labels": {"a": "b"}, "nothing": "", "source_vm": "vm-1"}});
        let new = made_with(&map(told), &given, &["pin"]);
        assert_eq!(Value::Object(new), json!({"version": "9.4", "template": "rhel", "source_vm": "vm-1"}));
        assert!(made_with(&map(json!({"_broker_args": "none"})), &given, &[]).is_empty());
    }

    #[test]
    fn ends_are_read_in_every_form() {
        let at = |value: Value| moment(&value).unwrap().to_string();
        assert_eq!(at(json!(1_795_219_200)), "2026-11-21T00:00:00Z");
        assert_eq!(at(json!("1795219200.5")), "2026-11-21T00:00:00Z");
        assert_eq!(at(json!(1_795_219_200_000_u64)), "2026-11-21T00:00:00Z");
        assert_eq!(at(json!("2026-11-21T00:00:00Z")), "2026-11-21T00:00:00Z");
        assert_eq!(at(json!("2026-11-21T02:00:00+02:00")), "2026-11-21T00:00:00Z");
        assert_eq!(at(json!("2026-11-21 00:00:00")), "2026-11-21T00:00:00Z");
        let left = moment(&json!("+3600")).unwrap().duration_since(Timestamp::now()).as_secs();
        assert!((3590..=3600).contains(&left), "{left}");
        for nothing in [json!("soon"), json!(null), json!(-5), json!(0), json!([1]), json!("")] {
            assert_eq!(moment(&nothing), None, "{nothing}");
        }
        let facts = map(json!({"expire_time": 1_795_219_201, "remove_time": "never", "shutdown_time": 1_795_219_200}));
        assert_eq!(lease_until(&facts, &expiry()).unwrap().as_second(), 1_795_219_200);
        assert_eq!(lease_until(&facts, &["expire_time".to_owned()]).unwrap().as_second(), 1_795_219_201);
    }
}
