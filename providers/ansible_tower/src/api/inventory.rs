//! Inventories with their hosts, and labels.

use broker_core::Args;
use broker_http::encoded;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Named;
use super::template::variables;
use crate::client::{CallError, Client};

/// An inventory of the service's, which is not Broker's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Inventory {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) kind: String,
    pub(crate) variables: String,
    pub(crate) total_hosts: u64,
    pub(crate) organization: Option<u64>,
}

/// A host in an inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Host {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) created: Option<Timestamp>,
    /// When it was changed last, but for its facts.
    pub(crate) modified: String,
    /// As somebody has typed it: JSON, YAML or nothing.
    variables: String,
    /// When facts about it were stored, if ever.
    pub(crate) ansible_facts_modified: Option<String>,
    pub(crate) summary_fields: HostSummary,
}

/// What is told with a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct HostSummary {
    pub(crate) inventory: Option<Named>,
}

impl Host {
    /// The host's variables.
    pub(crate) fn variables(&self) -> Args {
        variables(&self.variables)
    }
}

/// A label.
#[derive(Debug, Clone, Deserialize)]
struct Label {
    id: u64,
    name: String,
    organization: u64,
}

/// The inventories of exactly this name that we may see.
pub(crate) async fn named(client: &Client, name: &str) -> Result<Vec<Inventory>, CallError> {
    client.all(&format!("inventories/?name={}", encoded(name))).await
}

/// All inventories that we may see.
pub(crate) async fn all(client: &Client) -> Result<Vec<Inventory>, CallError> {
    client.all("inventories/?order_by=name").await
}

/// The hosts of an inventory.
pub(crate) async fn hosts(client: &Client, inventory: u64) -> Result<Vec<Host>, CallError> {
    client.all(&format!("inventories/{inventory}/hosts/")).await
}

/// The hosts of exactly this name, in whatever inventory.
pub(crate) async fn hosts_named(client: &Client, name: &str) -> Result<Vec<Host>, CallError> {
    client.all(&format!("hosts/?name={}", encoded(name))).await
}

/// The facts that are stored about a host; none where we may not see them.
pub(crate) async fn facts(client: &Client, host: u64) -> Result<Map<String, Value>, CallError> {
    match client.get(&format!("hosts/{host}/ansible_facts/")).await {
        Err(error) if matches!(error.status(), Some(403 | 404)) => Ok(Map::new()),
        facts => facts,
    }
}

/// The id of a label, which is made if there is none.
pub(crate) async fn label(client: &Client, name: &str, organization: u64) -> Result<u64, CallError> {
    let made = client.post("labels/", &json!({"name": name, "organization": organization})).await;
    let error = match made {
        Ok(answer) => return answer.read::<Named>().map(|label| label.id),
        Err(error) => error,
    };
    // There is one already, or it may have been made without an answer.
    if error.status() != Some(400) && !error.may_be_done() {
        return Err(error);
    }
    let found: Vec<Label> = client.all(&format!("labels/?name={}", encoded(name))).await?;
    let ours = found.into_iter().find(|label| label.name == name && label.organization == organization);
    ours.map(|label| label.id).ok_or(error)
}
