//! Nova: servers, flavors, key pairs, limits.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::or_default;
use crate::client::{CallError, Client, Service, encoded};

/// The first minor version in which servers have tags from their creation, and can be looked for by them.
pub(crate) const TAGS: u32 = 52;

/// A server.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Server {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) created: Option<Timestamp>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) addresses: IndexMap<String, Vec<Address>>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) fault: Option<Fault>,
    #[serde(default)]
    image: Value,
    #[serde(default)]
    flavor: Value,
    #[serde(default)]
    pub(crate) key_name: Option<String>,
    #[serde(rename = "OS-EXT-AZ:availability_zone", default, deserialize_with = "or_default")]
    pub(crate) zone: String,
    #[serde(rename = "OS-EXT-STS:task_state", default)]
    pub(crate) task: Option<String>,
}

/// Why a server is in `ERROR`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Fault {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) message: String,
}

/// An address of a server.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Address {
    pub(crate) addr: String,
    pub(crate) version: u8,
    #[serde(rename = "OS-EXT-IPS:type", default, deserialize_with = "or_default")]
    pub(crate) kind: String,
}

impl Server {
    /// The image's id. A server that was booted from a volume has none.
    pub(crate) fn image_id(&self) -> Option<&str> {
        self.image.get("id").and_then(Value::as_str)
    }

    /// The flavor's name, or its id where an old version of the API says no more.
    pub(crate) fn flavor(&self) -> Option<&str> {
        let field = |name: &str| self.flavor.get(name).and_then(Value::as_str);
        field("original_name").or_else(|| field("id"))
    }

    /// Whether it is as good as gone.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.status.as_str(), "DELETED" | "SOFT_DELETED")
    }
}

/// How much of something a server gets.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Flavor {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) vcpus: i64,
    /// In MiB.
    pub(crate) ram: i64,
    /// In GiB; none where the image decides.
    pub(crate) disk: i64,
}

/// Servers that are kept together, or apart.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ServerGroup {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) name: String,
}

/// A key pair.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Keypair {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) public_key: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) fingerprint: String,
}

/// What a project may have, and has: -1 is no limit.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Limits {
    pub(crate) max_total_instances: i64,
    pub(crate) max_total_cores: i64,
    #[serde(rename = "maxTotalRAMSize")]
    pub(crate) max_total_ram: i64,
    pub(crate) total_instances_used: i64,
    pub(crate) total_cores_used: i64,
    #[serde(rename = "totalRAMUsed")]
    pub(crate) total_ram_used: i64,
}

#[derive(Deserialize)]
struct OneServer {
    server: Server,
}

#[derive(Deserialize)]
struct Made {
    server: MadeServer,
}

#[derive(Deserialize)]
struct MadeServer {
    id: String,
}

#[derive(Deserialize)]
struct WrappedKeypair {
    keypair: Keypair,
}

#[derive(Deserialize)]
struct OneLimits {
    limits: Absolute,
}

#[derive(Deserialize)]
struct Absolute {
    absolute: Limits,
}

#[derive(Deserialize)]
struct Console {
    output: String,
}

/// Has a server made, and returns its id.
pub(crate) async fn create_server(client: &Client, body: &Value) -> Result<String, CallError> {
    let made: Made = client.post(Service::Compute, "/servers", body).await?.read()?;
    Ok(made.server.id)
}

pub(crate) async fn server(client: &Client, id: &str) -> Result<Server, CallError> {
    let one: OneServer = client.get(Service::Compute, &format!("/servers/{}", encoded(id))).await?.read()?;
    Ok(one.server)
}

/// The servers that a query leaves, and the time by the cloud's clock. `query` has no question mark.
pub(crate) async fn servers(
    client: &Client,
    query: &str,
    page_size: Option<u32>,
) -> Result<(Vec<Server>, Option<Timestamp>), CallError> {
    let limit = page_size.map(|size| format!("limit={size}"));
    let query: Vec<&str> =
        [Some(query), limit.as_deref()].into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let path = match query.as_slice() {
        [] => "/servers/detail".to_owned(),
        parts => format!("/servers/detail?{}", parts.join("&")),
    };
    client.all(Service::Compute, &path, "servers").await
}

pub(crate) async fn delete_server(client: &Client, id: &str) -> Result<(), CallError> {
    client.delete(Service::Compute, &format!("/servers/{}", encoded(id))).await
}

/// Sets metadata, and leaves other entries alone.
pub(crate) async fn set_metadata(client: &Client, id: &str, entries: &Value) -> Result<(), CallError> {
    let path = format!("/servers/{}/metadata", encoded(id));
    client.post(Service::Compute, &path, &json!({ "metadata": entries })).await.map(drop)
}

/// The end of what a server has printed on its console, or all of it.
pub(crate) async fn console(client: &Client, id: &str, lines: Option<usize>) -> Result<String, CallError> {
    let asked = lines.map_or_else(|| json!({}), |lines| json!({ "length": lines }));
    let path = format!("/servers/{}/action", encoded(id));
    let console: Console =
        client.post(Service::Compute, &path, &json!({ "os-getConsoleOutput": asked })).await?.read()?;
    Ok(console.output)
}

pub(crate) async fn flavors(client: &Client) -> Result<Vec<Flavor>, CallError> {
    Ok(client.all(Service::Compute, "/flavors/detail", "flavors").await?.0)
}

pub(crate) async fn server_groups(client: &Client) -> Result<Vec<ServerGroup>, CallError> {
    Ok(client.all(Service::Compute, "/os-server-groups", "server_groups").await?.0)
}

pub(crate) async fn limits(client: &Client) -> Result<Limits, CallError> {
    let one: OneLimits = client.get(Service::Compute, "/limits").await?.read()?;
    Ok(one.limits.absolute)
}

pub(crate) async fn keypairs(client: &Client) -> Result<Vec<Keypair>, CallError> {
    let (wrapped, _): (Vec<WrappedKeypair>, _) = client.all(Service::Compute, "/os-keypairs", "keypairs").await?;
    Ok(wrapped.into_iter().map(|wrapped| wrapped.keypair).collect())
}

pub(crate) async fn keypair(client: &Client, name: &str) -> Result<Keypair, CallError> {
    let one: WrappedKeypair = client.get(Service::Compute, &format!("/os-keypairs/{}", encoded(name))).await?.read()?;
    Ok(one.keypair)
}

pub(crate) async fn create_keypair(client: &Client, name: &str, public_key: &str) -> Result<(), CallError> {
    let body = json!({"keypair": {"name": name, "public_key": public_key}});
    client.post(Service::Compute, "/os-keypairs", &body).await.map(drop)
}

pub(crate) async fn delete_keypair(client: &Client, name: &str) -> Result<(), CallError> {
    client.delete(Service::Compute, &format!("/os-keypairs/{}", encoded(name))).await
}
