//! Neutron: networks, ports, floating addresses, security groups.

use serde::Deserialize;
use serde_json::{Value, json};

use super::or_default;
use crate::client::{CallError, Client, Service, encoded};

/// A network.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Network {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) subnets: Vec<String>,
    #[serde(rename = "router:external", default, deserialize_with = "or_default")]
    pub(crate) external: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) shared: bool,
}

/// Where a server is plugged into a network.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Port {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) fixed_ips: Vec<FixedIp>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) device_id: String,
}

/// An address of a port.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FixedIp {
    pub(crate) ip_address: String,
}

/// An address of an outer network that leads to one of an inner one.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FloatingIp {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) description: String,
}

/// Which traffic is let in and out.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SecurityGroup {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) description: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) security_group_rules: Vec<Value>,
}

#[derive(Deserialize)]
struct OneFloatingIp {
    floatingip: FloatingIp,
}

#[derive(Deserialize)]
struct OneQuota {
    quota: serde_json::Map<String, Value>,
}

/// The networks that a query leaves: `name=…`, `id=…` or nothing.
pub(crate) async fn networks(client: &Client, query: &str) -> Result<Vec<Network>, CallError> {
    Ok(client.all(Service::Network, &listed("/networks", query), "networks").await?.0)
}

pub(crate) async fn ports(client: &Client, query: &str) -> Result<Vec<Port>, CallError> {
    Ok(client.all(Service::Network, &listed("/ports", query), "ports").await?.0)
}

pub(crate) async fn delete_port(client: &Client, id: &str) -> Result<(), CallError> {
    client.delete(Service::Network, &format!("/ports/{}", encoded(id))).await
}

pub(crate) async fn security_groups(client: &Client) -> Result<Vec<SecurityGroup>, CallError> {
    Ok(client.all(Service::Network, "/security-groups", "security_groups").await?.0)
}

/// The floating addresses with exactly this description.
pub(crate) async fn floating_ips(client: &Client, description: &str) -> Result<Vec<FloatingIp>, CallError> {
    let path = listed("/floatingips", &format!("description={}", encoded(description)));
    let (found, _): (Vec<FloatingIp>, _) = client.all(Service::Network, &path, "floatingips").await?;
    // A service that does not understand the filter would give everything.
    Ok(found.into_iter().filter(|ip| ip.description == description).collect())
}

/// Takes an address from a pool for a port.
pub(crate) async fn create_floating_ip(
    client: &Client,
    pool: &str,
    port: &str,
    fixed: &str,
    description: &str,
) -> Result<FloatingIp, CallError> {
    let body = json!({"floatingip": {
        "floating_network_id": pool, "port_id": port, "fixed_ip_address": fixed, "description": description,
    }});
    let made: OneFloatingIp = client.post(Service::Network, "/floatingips", &body).await?.read()?;
    Ok(made.floatingip)
}

pub(crate) async fn delete_floating_ip(client: &Client, id: &str) -> Result<(), CallError> {
    client.delete(Service::Network, &format!("/floatingips/{}", encoded(id))).await
}

/// What a project may have: -1 is no limit.
pub(crate) async fn quota(client: &Client, project: &str) -> Result<serde_json::Map<String, Value>, CallError> {
    let one: OneQuota = client.get(Service::Network, &format!("/quotas/{}", encoded(project))).await?.read()?;
    Ok(one.quota)
}

fn listed(path: &str, query: &str) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}
