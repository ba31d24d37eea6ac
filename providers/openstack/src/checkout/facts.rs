//! What a server is, as Broker tells it.

use broker_core::provider::{ErrorKind, HostFacts, ProviderError};
use serde_json::{Map, Value, json};

use super::reach::Reach;
use crate::api::compute::{Address, Server};
use crate::api::image::Image;
use crate::client::{Client, Token};
use crate::request::Family;

/// The fact that holds the server's id, under the name that it has in the Python tool.
pub(crate) const SERVER: &str = "instance_id";

/// The fact that holds the name of the key pair.
pub(crate) const KEY_NAME: &str = "key_name";

/// The fact that holds the user to log in as, under the name by which it is looked for.
pub(crate) const USER: &str = "username";

/// The fact that holds the floating address.
pub(crate) const FLOATING: &str = "floating_ip";

/// All of them.
pub(crate) const FACTS: &[&str] = &[
    SERVER,
    "image",
    "image_id",
    "flavor",
    "project",
    "project_id",
    "user",
    "cloud",
    "region",
    "availability_zone",
    "addresses",
    FLOATING,
    KEY_NAME,
    USER,
    "os_distribution",
    "os_distribution_version",
];

/// What there is to tell of a server.
pub(crate) fn of_server(
    server: &Server,
    image: Option<&Image>,
    client: &Client,
    token: &Token,
    reach: &Reach,
) -> HostFacts {
    let mut facts = Map::new();
    let mut fact = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.insert(name.to_owned(), json!(value));
        }
    };
    fact(SERVER, Some(&server.id));
    fact("image", image.map(|image| image.name.as_str()));
    fact("image_id", server.image_id());
    fact("flavor", server.flavor());
    fact("project", Some(&token.project.name));
    fact("project_id", Some(&token.project.id));
    fact("user", Some(&token.user.name));
    fact("cloud", client.cloud().name.as_deref());
    fact("region", token.region());
    fact("availability_zone", Some(&server.zone));
    fact(KEY_NAME, server.key_name.as_deref());
    fact(FLOATING, floating(server));
    fact(USER, reach.user.as_deref());
    let property = |name: &str| image.and_then(|image| image.property(name)).filter(|text| *text != "none");
    fact("os_distribution", property("os_distro"));
    fact("os_distribution_version", property("os_version"));
    if !server.addresses.is_empty() {
        let of_network = |(network, all): (&String, &Vec<Address>)| {
            let all: Vec<Value> = all.iter().map(|address| json!(address.addr)).collect();
            (network.clone(), Value::Array(all))
        };
        facts.insert("addresses".to_owned(), Value::Object(server.addresses.iter().map(of_network).collect()));
    }
    HostFacts {
        name: Some(server.name.clone()).filter(|name| !name.is_empty()),
        hostname: Some(hostname(&server.name)).filter(|name| !name.is_empty()),
        address: address(server, reach.family).map(str::to_owned),
        ssh_port: reach.port.filter(|port| *port != 22),
        facts,
        ..HostFacts::default()
    }
}

fn all(server: &Server) -> impl Iterator<Item = &Address> {
    server.addresses.values().flatten()
}

fn floating(server: &Server) -> Option<&str> {
    all(server).find(|address| address.kind == "floating").map(|address| address.addr.as_str())
}

/// Where a server is reached: at the first address of the kind that is wanted, where a floating one comes first; else at
/// the floating one, which was taken because the others cannot be reached from everywhere; else at any.
pub(crate) fn address(server: &Server, family: Family) -> Option<&str> {
    let version = match family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    let floating = all(server).find(|address| address.kind == "floating");
    let wanted = floating.into_iter().chain(all(server)).find(|address| address.version == version);
    wanted.or(floating).or_else(|| all(server).next()).map(|address| address.addr.as_str())
}

/// The address of its own that a floating one is to lead to, which can only be of IPv4.
pub(crate) fn fixed_ipv4(server: &Server) -> Result<&str, ProviderError> {
    let fixed = all(server).find(|address| address.version == 4 && address.kind != "floating");
    fixed.map(|address| address.addr.as_str()).ok_or_else(|| {
        let message = format!("server `{}` has no IPv4 address that a floating one could lead to", server.name);
        ProviderError::new(ErrorKind::BadRequest, message)
    })
}

/// What a server of a name calls itself, by Nova's own rule.
pub(crate) fn hostname(name: &str) -> String {
    let lower = name.to_lowercase();
    let dashed = lower.chars().map(|character| match character {
        ' ' | '_' | '.' => '-',
        other => other,
    });
    let kept: String = dashed.filter(|character| character.is_ascii_alphanumeric() || *character == '-').collect();
    kept.trim_matches('-').chars().take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(addresses: Value) -> Server {
        serde_json::from_value(json!({"id": "x", "name": "one", "addresses": addresses})).unwrap()
    }

    #[test]
    fn addresses_are_chosen() {
        let of =
            |addr: &str, version: u8, kind: &str| json!({"addr": addr, "version": version, "OS-EXT-IPS:type": kind});
        let both = server(
            json!({"a": [of("fd00::1", 6, "fixed"), of("10.0.0.1", 4, "fixed")], "b": [of("10.1.0.1", 4, "fixed")]}),
        );
        assert_eq!(address(&both, Family::V4), Some("10.0.0.1"));
        assert_eq!(address(&both, Family::V6), Some("fd00::1"));
        let floating = server(json!({"a": [of("10.0.0.1", 4, "fixed"), of("172.24.5.9", 4, "floating")]}));
        assert_eq!(address(&floating, Family::V4), Some("172.24.5.9"));
        // There is none of the other kind, and the fixed one may be private.
        assert_eq!(address(&floating, Family::V6), Some("172.24.5.9"));
        assert_eq!(fixed_ipv4(&floating).unwrap(), "10.0.0.1");
        let all =
            json!({"a": [of("10.0.0.1", 4, "fixed"), of("172.24.5.9", 4, "floating"), of("fd00::1", 6, "fixed")]});
        let all = server(all);
        assert_eq!((address(&all, Family::V4), address(&all, Family::V6)), (Some("172.24.5.9"), Some("fd00::1")));
        let none = server(json!({}));
        assert_eq!((address(&none, Family::V4), fixed_ipv4(&none).is_err()), (None, true));
    }

    #[test]
    fn servers_call_themselves_by_their_name() {
        for (name, hostname_) in [("one", "one"), ("My Server_2", "my-server-2"), ("-x.y-", "x-y"), ("é!", "")] {
            assert_eq!(hostname(name), hostname_, "{name}");
        }
        assert_eq!(hostname(&"a".repeat(80)).len(), 63);
    }
}
