//! What is told of a container.

use std::collections::BTreeMap;

use broker_core::provider::HostFacts;
use serde_json::{Map, Value};

use crate::engine::address::Address;
use crate::engine::model::{Binding, Container};

/// The container's id, by which everything later finds it.
pub(crate) const CONTAINER: &str = "container";

/// The group whose network goes with its last host.
pub(crate) const GROUP: &str = "network_group";

/// All facts of this provider's own.
pub(crate) const FACTS: &[&str] = &[CONTAINER, "image", "ip", "status", GROUP];

/// Where a port of a container can be reached: where it is published, else at the container's own address.
pub(crate) fn reach(engine: &Address, container: &Container, port: &str) -> Option<String> {
    let published = published(engine, container);
    let number = port.split('/').next()?;
    let own = || container.ip().filter(|_| engine.is_local()).map(|ip| join(&ip, number));
    published.get(port).cloned().or_else(own)
}

/// An address and a port in one text.
fn join(address: &str, port: &str) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// An address that a port is published at, as one that can be reached from here.
fn reachable(engine: &Address, address: &str) -> String {
    match address {
        "" | "0.0.0.0" | "::" => engine.reachable_host().to_owned(),
        other => other.to_owned(),
    }
}

/// The published ports: `22/tcp` to `127.0.0.1:49153`. Of several places the first of IPv4.
fn published(engine: &Address, container: &Container) -> BTreeMap<String, String> {
    let place = |bindings: &Vec<Binding>| {
        let bindings = || bindings.iter().filter(|binding| !matches!(binding.port.as_str(), "" | "0"));
        let binding = bindings().find(|binding| !binding.ip.contains(':')).or_else(|| bindings().next())?;
        Some(join(&reachable(engine, &binding.ip), &binding.port))
    };
    let ports = container.network.ports.iter();
    ports.filter_map(|(inside, places)| Some((inside.clone(), place(places.as_ref()?)?))).collect()
}

/// How to get to the host's SSH server, where its port is published; else the container's own address.
fn address(engine: &Address, ports: &BTreeMap<String, String>, ip: Option<&String>) -> (Option<String>, Option<u16>) {
    if let Some((address, port)) = ports.get("22/tcp").and_then(|place| place.rsplit_once(':')) {
        let address = address.trim_start_matches('[').trim_end_matches(']').to_owned();
        return (Some(address), port.parse().ok());
    }
    (ip.cloned().filter(|_| engine.is_local()), None)
}

fn own(id: &str, image: &str, ip: Option<String>, status: &str, group: Option<&str>) -> Map<String, Value> {
    let mut facts = Map::new();
    facts.insert(CONTAINER.to_owned(), id.into());
    facts.insert("image".to_owned(), image.into());
    facts.insert("status".to_owned(), status.into());
    facts.extend(ip.map(|ip| ("ip".to_owned(), ip.into())));
    facts.extend(group.map(|group| (GROUP.to_owned(), group.into())));
    facts
}

/// What is told of a container that was just made.
pub(crate) fn of_container(engine: &Address, container: &Container, image: &str, group: Option<&str>) -> HostFacts {
    let ports = published(engine, container);
    let ip = container.ip();
    let (address, ssh_port) = address(engine, &ports, ip.as_ref());
    HostFacts {
        name: Some(container.bare_name().to_owned()),
        hostname: Some(container.config.hostname.clone()).filter(|name| !name.is_empty()),
        address,
        ssh_port,
        ports,
        facts: own(&container.id, image, ip, &container.state.status, group),
        // Labels cannot change, and leases can: the inventory decides about those.
        ..HostFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(json: serde_json::Value) -> Container {
        serde_json::from_value(json).unwrap()
    }

    fn with_ports(ports: serde_json::Value) -> Container {
        container(serde_json::json!({
            "Id": "0123", "Name": "/web", "State": {"Status": "running"}, "Config": {"Hostname": "web"},
            "NetworkSettings": {"IPAddress": "172.17.0.2", "Ports": ports},
        }))
    }

    #[test]
    fn a_published_ssh_server_says_how_to_get_there() {
        let made =
            with_ports(serde_json::json!({"22/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}], "80/tcp": null}));
        let facts = of_container(&Address::Unix("/x".into()), &made, "img", Some("g1"));
        assert_eq!((facts.address.as_deref(), facts.ssh_port), (Some("127.0.0.1"), Some(49153)));
        assert_eq!(facts.ports, BTreeMap::from([("22/tcp".to_owned(), "127.0.0.1:49153".to_owned())]));
        assert_eq!((facts.name.as_deref(), facts.hostname.as_deref()), (Some("web"), Some("web")));
        for (fact, value) in
            [("container", "0123"), ("ip", "172.17.0.2"), ("network_group", "g1"), ("status", "running")]
        {
            assert_eq!(facts.facts[fact], value);
        }
        assert!(facts.facts.keys().all(|fact| FACTS.contains(&fact.as_str())));
    }

    #[test]
    fn without_ssh_the_containers_own_address_counts_and_never_this_machines() {
        let made = with_ports(serde_json::json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}));
        let facts = of_container(&Address::Unix("/x".into()), &made, "img", None);
        assert_eq!((facts.address.as_deref(), facts.ssh_port), (Some("172.17.0.2"), None));
        let remote = Address::parse("tcp://lab").unwrap();
        assert_eq!(of_container(&remote, &made, "img", None).address, None);
    }

    #[test]
    fn all_addresses_become_one_that_can_be_reached() {
        let made = with_ports(serde_json::json!({
            "80/tcp": [{"HostIp": "::", "HostPort": "2"}, {"HostIp": "0.0.0.0", "HostPort": "1"}],
            "81/tcp": [{"HostIp": "::1", "HostPort": "3"}],
            "82/tcp": [{"HostIp": "", "HostPort": ""}],
        }));
        let remote = Address::parse("tcp://lab").unwrap();
        let wanted = [("80/tcp".to_owned(), "lab:1".to_owned()), ("81/tcp".to_owned(), "[::1]:3".to_owned())];
        assert_eq!(published(&remote, &made), BTreeMap::from(wanted));
        assert_eq!(reach(&Address::Unix("/x".into()), &made, "82/tcp").as_deref(), Some("172.17.0.2:82"));
        assert_eq!(reach(&remote, &made, "82/tcp"), None);
    }
}
