//! What the engine is told about a container that it is to make.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{ContainerCreateBody, EndpointSettings, HostConfig, NetworkingConfig, PortBinding};
use broker_core::provider::Order;

use crate::engine::address::Address;
use crate::image::Resolved;
use crate::network;
use crate::request::{Inside, Spec};

/// Where a container is to be, beside what its spec says.
pub(crate) struct Placing<'a> {
    pub(crate) image: &'a Resolved,
    pub(crate) address: &'a Address,
    /// What the group's network is joined by.
    pub(crate) group: Option<&'a str>,
    /// Labels of the settings.
    pub(crate) labels: &'a BTreeMap<String, String>,
}

/// The name of an order's container: as it was wished, else the prefix and the end of the id, which differs between
/// hosts made in the same instant.
pub(crate) fn name(spec: &Spec, order: &Order, prefix: Option<&str>) -> String {
    if let Some(name) = &spec.name {
        return name.clone();
    }
    let fits = |character: &char| character.is_ascii_alphanumeric() || "_.-".contains(*character);
    let prefix: String = prefix.unwrap_or(&order.owner.user).chars().filter(fits).collect();
    let prefix = prefix.trim_start_matches(|character: char| !character.is_ascii_alphanumeric());
    format!("{}_{}", if prefix.is_empty() { "broker" } else { prefix }, order.id.short())
}

/// The networks to join, the group's first. The API takes one with the container itself; the others follow.
pub(crate) fn networks(spec: &Spec, group: Option<&str>) -> Vec<String> {
    group.map(str::to_owned).into_iter().chain(spec.networks.iter().cloned()).collect()
}

/// The container's place in a network: the others find it by its own name and by its hostname.
pub(crate) fn place_in_network(spec: &Spec, network: &str, group: Option<&str>) -> EndpointSettings {
    let aliases = spec.hostname.clone().filter(|_| group == Some(network));
    EndpointSettings { aliases: aliases.map(|alias| vec![alias]), ..Default::default() }
}

pub(crate) fn body(spec: &Spec, order: &Order, placing: &Placing<'_>) -> ContainerCreateBody {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    let default = if placing.address.is_local() { "127.0.0.1" } else { "0.0.0.0" };
    let mut publish = |inside: &Inside, address: String, outside: String| {
        let binding = PortBinding { host_ip: Some(address), host_port: Some(outside) };
        bindings.entry(inside.to_string()).or_insert_with(|| Some(Vec::new())).get_or_insert_default().push(binding);
    };
    for port in &spec.ports {
        let address = port.address.map_or_else(|| default.to_owned(), |address| address.to_string());
        publish(&port.inside, address, port.outside.map(|port| port.to_string()).unwrap_or_default());
    }
    // Whoever has another's network, or none, has no ports to publish.
    if spec.auto_map_ports && !spec.networks.iter().any(|network| network::is_alone(network)) {
        let exposed = placing.image.exposed.iter().filter_map(|port| Inside::parse(port));
        for inside in exposed.filter(|inside| !spec.ports.iter().any(|port| port.inside == *inside)) {
            publish(&inside, default.to_owned(), String::new());
        }
    }
    let networks = networks(spec, placing.group);
    let first = networks.first();
    let mut labels: HashMap<String, String> =
        placing.labels.iter().chain(&order.labels).map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.extend(order.identity_labels());
    let some = |items: &[String]| (!items.is_empty()).then(|| items.to_vec());
    ContainerCreateBody {
        image: Some(placing.image.reference.clone()),
        hostname: spec.hostname.clone(),
        user: spec.user.clone(),
        cmd: spec.command.clone(),
        entrypoint: spec.entrypoint.clone(),
        env: some(&spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()),
        labels: Some(labels),
        exposed_ports: some(&bindings.keys().cloned().collect::<Vec<_>>()),
        volumes: some(&spec.anonymous_volumes),
        // Podman takes a mode for a network when it is named here too.
        networking_config: first.filter(|network| !network::is_mode(network)).map(|network| NetworkingConfig {
            endpoints_config: Some(HashMap::from([(network.clone(), place_in_network(spec, network, placing.group))])),
        }),
        host_config: Some(HostConfig {
            binds: some(&spec.binds),
            network_mode: first.cloned(),
            port_bindings: (!bindings.is_empty()).then_some(bindings),
            privileged: spec.privileged.then_some(true),
            cap_add: some(&spec.cap_add),
            cap_drop: some(&spec.cap_drop),
            tmpfs: (!spec.tmpfs.is_empty()).then(|| spec.tmpfs.iter().cloned().collect()),
            shm_size: spec.shm_size,
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use broker_core::{ArgValue, Args};

    use super::*;
    use crate::settings::Settings;

    fn order(json: serde_json::Value) -> Order {
        let mut args = Args::from([("container_host".to_owned(), ArgValue::from("img"))]);
        if let ArgValue::Map(map) = ArgValue::from_json(json) {
            args.extend(map);
        }
        Order::for_test("container_host", args)
    }

    fn sent(json: serde_json::Value, address: &str, group: Option<&str>) -> serde_json::Value {
        let order = order(json);
        let spec = Spec::read(&order, &Settings::default()).unwrap();
        let image = Resolved { reference: "localhost/img".into(), exposed: vec!["22/tcp".into(), "80/tcp".into()] };
        let address = Address::parse(address).unwrap();
        let labels = BTreeMap::from([("team".to_owned(), "qe".to_owned())]);
        let placing = Placing { image: &image, address: &address, group, labels: &labels };
        serde_json::to_value(body(&spec, &order, &placing)).unwrap()
    }

    #[test]
    fn ports_are_published_on_the_loopback_address_unless_asked_otherwise() {
        let body = sent(serde_json::json!({"ports": "22:2222, 0.0.0.0:8443:443"}), "/x.sock", None);
        let bindings = &body["HostConfig"]["PortBindings"];
        assert_eq!(bindings["22/tcp"], serde_json::json!([{"HostIp": "127.0.0.1", "HostPort": "2222"}]));
        assert_eq!(bindings["80/tcp"], serde_json::json!([{"HostIp": "127.0.0.1", "HostPort": ""}]));
        assert_eq!(bindings["443/tcp"], serde_json::json!([{"HostIp": "0.0.0.0", "HostPort": "8443"}]));
        assert_eq!(body["ExposedPorts"].as_object().unwrap().len(), 3);
        let none = sent(serde_json::json!({"auto_map_ports": false}), "/x.sock", None);
        assert!(none["HostConfig"].get("PortBindings").is_none() && none.get("ExposedPorts").is_none());
        let remote = sent(serde_json::json!({}), "tcp://lab", None);
        assert_eq!(remote["HostConfig"]["PortBindings"]["22/tcp"][0]["HostIp"], "0.0.0.0");
    }

    #[test]
    fn the_identity_wins_over_labels_of_the_user() {
        let mut order = order(serde_json::json!({}));
        order.labels.insert("broker.id".to_owned(), "forged".to_owned());
        order.labels.insert("purpose".to_owned(), "demo".to_owned());
        let spec = Spec::read(&order, &Settings::default()).unwrap();
        let image = Resolved { reference: "img".into(), exposed: Vec::new() };
        let address = Address::Unix("/x".into());
        let labels = BTreeMap::from([("purpose".to_owned(), "default".to_owned())]);
        let body = body(&spec, &order, &Placing { image: &image, address: &address, group: None, labels: &labels });
        let labels = body.labels.unwrap();
        assert_eq!(labels["broker.id"], order.id.to_string());
        assert_eq!(labels["purpose"], "demo");
    }

    #[test]
    fn a_group_comes_first_and_knows_the_hostname() {
        let body = sent(
            serde_json::json!({"network": "lab", "hostname": "db", "network_group": "g1"}),
            "/x.sock",
            Some("id0"),
        );
        assert_eq!(body["HostConfig"]["NetworkMode"], "id0");
        assert_eq!(body["NetworkingConfig"]["EndpointsConfig"]["id0"]["Aliases"], serde_json::json!(["db"]));
    }

    #[test]
    fn a_mode_is_told_once_and_publishes_nothing() {
        for mode in ["host", "none", "container:db"] {
            let body = sent(serde_json::json!({"network": mode}), "/x.sock", None);
            assert_eq!(body["HostConfig"]["NetworkMode"], mode);
            assert!(body.get("NetworkingConfig").is_none() && body["HostConfig"].get("PortBindings").is_none());
        }
        let body = sent(serde_json::json!({"network": "bridge"}), "/x.sock", None);
        assert!(body.get("NetworkingConfig").is_none() && body["HostConfig"].get("PortBindings").is_some());
    }

    #[test]
    fn names_are_made_of_what_engines_take() {
        let mut order = order(serde_json::json!({}));
        let spec = Spec::read(&order, &Settings::default()).unwrap();
        let short = order.id.short();
        assert_eq!(name(&spec, &order, Some("ci")), format!("ci_{short}"));
        order.owner.user = r"_DOM\jane doe".to_owned();
        assert_eq!(name(&spec, &order, None), format!("DOMjanedoe_{short}"));
        order.owner.user = "...".to_owned();
        assert_eq!(name(&spec, &order, None), format!("broker_{short}"));
    }
}
