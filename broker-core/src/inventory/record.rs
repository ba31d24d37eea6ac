//! What the inventory knows of one host.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::args::{ArgValue, Args};
use crate::id::{HostId, RunId};
use crate::provider::{Endpoint, HostFacts};
use crate::secrets;

/// How far a host has come. The order of a life is `pending`, `active`, `releasing`, `gone`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HostState {
    /// Written before the provider is asked. The host may or may not exist.
    Pending,
    /// The provider has made the host, and it is held.
    Active,
    /// Claimed by a release that has begun. The host may or may not exist.
    Releasing,
    /// The provider's error left something that may exist.
    Failed,
    /// The provider no longer has the host.
    Vanished,
    /// Released, and confirmed by the provider. The entry is no longer part of the inventory.
    Gone,
}

impl HostState {
    /// The word for the state, as in the journal and in filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Releasing => "releasing",
            Self::Failed => "failed",
            Self::Vanished => "vanished",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who holds a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The run of the process that checked the host out. Whether that process lives is told by the run's lock, not by `pid`.
    pub run: RunId,
    /// The user's login name.
    pub user: String,
    /// The name of the machine that the process runs on.
    pub machine: String,
    /// The process id, for people to look at.
    pub pid: u32,
}

/// Whether somebody will release the host without being told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holding {
    /// A guard in the owner's process releases it.
    Guarded,
    /// It stays until it is checked in by name, or its lease ends.
    Kept,
}

/// One host in the inventory: a line of the journal.
///
/// As JSON it is one flat object: the fields that Broker owns, and the provider's facts beside them. A fact whose name
/// is one of Broker's own goes below `_imported`.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRecord {
    /// The host's identity.
    pub id: HostId,
    /// The number people call it by.
    pub number: u64,
    /// Counts the changes of this record, from 1.
    pub rev: u64,
    /// How far the host has come.
    pub state: HostState,
    /// When this state of the record was written.
    pub at: Timestamp,
    /// The provider's name for the host, such as a container's or server's name.
    pub name: Option<String>,
    /// What the machine calls itself.
    pub hostname: Option<String>,
    /// The host name or IP address by which it can be reached.
    pub address: Option<String>,
    /// The port of its SSH server at `address`, where that is known to be other than 22.
    pub ssh_port: Option<u16>,
    /// The provider's name, such as `Container`.
    pub provider: String,
    /// The named instance of the provider, if it has any.
    pub instance: Option<String>,
    /// The action and the arguments that the host was made with.
    pub args: Args,
    /// Labels, as the user and the settings gave them.
    pub labels: BTreeMap<String, String>,
    /// When the provider handed the host over.
    pub checked_out_at: Option<Timestamp>,
    /// When the lease ends, if it does.
    pub lease_until: Option<Timestamp>,
    /// Who holds it. Entries imported from elsewhere have no owner.
    pub owner: Option<Owner>,
    /// Whether a guard will release it.
    pub holding: Holding,
    /// The place the host was made at.
    pub endpoint: Option<Endpoint>,
    /// What the provider learned while it was making the host, such as a job's or a server's id.
    pub handle: Option<Value>,
    /// Why the host is `failed`, or what the last attempt to release it ran into.
    pub error: Option<String>,
    /// Where the host's ports can be reached: `22/tcp` to `127.0.0.1:49153`.
    pub ports: BTreeMap<String, String>,
    /// What the provider told of the host, in its own words.
    pub facts: Map<String, Value>,
}

/// Broker's own field names, at the top level of a record.
pub const FIELDS: &[&str] = &[
    "id",
    "number",
    "rev",
    "state",
    "at",
    "high",
    "live",
    "name",
    "hostname",
    "address",
    "ssh_port",
    "_broker_provider",
    "_broker_provider_instance",
    "_broker_args",
    "labels",
    "checked_out_at",
    "lease_until",
    "owner",
    "holding",
    "endpoint",
    "handle",
    "error",
    "exposed_ports",
    "_imported",
];

/// Whether secret arguments are written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Their values show as `***`.
    Hidden,
    /// Their values show.
    Shown,
}

impl HostRecord {
    /// The record as one flat JSON object: what outputs print and filters look at.
    ///
    /// Fields without a value are left out, so that a filter can tell that they are missing.
    pub fn to_json(&self, secrets: Secrets) -> Map<String, Value> {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            if !value.is_null() {
                map.insert(key.to_owned(), value);
            }
        };
        put("id", json!(self.id));
        put("number", json!(self.number));
        put("state", json!(self.state));
        put("hostname", json!(self.hostname));
        put("name", json!(self.name));
        put("address", json!(self.address));
        put("ssh_port", json!(self.ssh_port));
        put("_broker_provider", json!(self.provider));
        put("_broker_provider_instance", json!(self.instance));
        put("_broker_args", args_to_json(&self.args, secrets));
        if !self.labels.is_empty() {
            put("labels", json!(self.labels));
        }
        put("checked_out_at", json!(self.checked_out_at));
        put("lease_until", json!(self.lease_until));
        put("owner", json!(self.owner));
        put("holding", json!(self.holding));
        put("endpoint", json!(self.endpoint));
        put("handle", json!(self.handle));
        put("error", json!(self.error));
        if !self.ports.is_empty() {
            put("exposed_ports", json!(self.ports));
        }
        put("rev", json!(self.rev));
        put("at", json!(self.at));
        let mut clashing = Map::new();
        for (key, value) in &self.facts {
            if FIELDS.contains(&key.as_str()) {
                clashing.insert(key.clone(), value.clone());
            } else {
                map.insert(key.clone(), value.clone());
            }
        }
        if !clashing.is_empty() {
            map.insert("_imported".to_owned(), Value::Object(clashing));
        }
        map
    }

    /// Reads what [`to_json`](Self::to_json) wrote with [`Secrets::Shown`].
    ///
    /// # Errors
    ///
    /// If a field of Broker's own is missing or of the wrong shape; the message names it.
    pub fn from_json(mut map: Map<String, Value>) -> Result<Self, serde_json::Error> {
        let record = Self {
            id: required(&mut map, "id")?,
            number: required(&mut map, "number")?,
            rev: required(&mut map, "rev")?,
            state: required(&mut map, "state")?,
            at: required(&mut map, "at")?,
            name: optional(&mut map, "name")?,
            hostname: optional(&mut map, "hostname")?,
            address: optional(&mut map, "address")?,
            ssh_port: optional(&mut map, "ssh_port")?,
            provider: required(&mut map, "_broker_provider")?,
            instance: optional(&mut map, "_broker_provider_instance")?,
            args: optional(&mut map, "_broker_args")?.unwrap_or_default(),
            labels: optional(&mut map, "labels")?.unwrap_or_default(),
            checked_out_at: optional(&mut map, "checked_out_at")?,
            lease_until: optional(&mut map, "lease_until")?,
            owner: optional(&mut map, "owner")?,
            holding: optional(&mut map, "holding")?.unwrap_or(Holding::Kept),
            endpoint: optional(&mut map, "endpoint")?,
            handle: optional(&mut map, "handle")?,
            error: optional(&mut map, "error")?,
            ports: optional(&mut map, "exposed_ports")?.unwrap_or_default(),
            facts: Map::new(),
        };
        let clashing: Map<String, Value> = optional(&mut map, "_imported")?.unwrap_or_default();
        map.remove("high");
        map.remove("live");
        map.extend(clashing);
        Ok(Self { facts: map, ..record })
    }

    /// Takes over what the provider told.
    pub fn absorb(&mut self, facts: HostFacts) {
        let HostFacts { name, hostname, address, ssh_port, ports, lease_until, facts } = facts;
        self.name = name.or(self.name.take());
        self.hostname = hostname.or(self.hostname.take());
        self.address = address.or(self.address.take());
        self.ssh_port = ssh_port.or(self.ssh_port);
        if !ports.is_empty() {
            self.ports = ports;
        }
        self.lease_until = lease_until.or(self.lease_until);
        self.facts.extend(facts);
    }

    /// The best word for the host in a message: its hostname, else its name, else its id.
    pub fn label(&self) -> String {
        self.hostname.clone().or_else(|| self.name.clone()).unwrap_or_else(|| self.id.to_string())
    }
}

/// Arguments as JSON, secret ones hidden by their names, at any depth.
pub fn args_to_json(args: &Args, secrets: Secrets) -> Value {
    fn to_json(value: &ArgValue, secrets: Secrets) -> Value {
        match value {
            ArgValue::Map(map) => args_to_json(map, secrets),
            ArgValue::List(items) => Value::Array(items.iter().map(|item| to_json(item, secrets)).collect()),
            scalar => scalar.to_json(),
        }
    }
    Value::Object(
        args.iter()
            .map(|(key, item)| {
                let hidden = secrets == Secrets::Hidden && secrets::is_secret_name(key);
                (key.clone(), if hidden { json!(secrets::HIDDEN) } else { to_json(item, secrets) })
            })
            .collect(),
    )
}

fn required<T: for<'de> Deserialize<'de>>(
    map: &mut Map<String, Value>,
    key: &'static str,
) -> Result<T, serde_json::Error> {
    optional(map, key)?.ok_or_else(|| serde_json::Error::missing_field(key))
}

fn optional<T: for<'de> Deserialize<'de>>(
    map: &mut Map<String, Value>,
    key: &'static str,
) -> Result<Option<T>, serde_json::Error> {
    match map.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(value)
            .map(Some)
            .map_err(|error| serde_json::Error::custom(format_args!("field `{key}`: {error}"))),
    }
}

impl Serialize for HostRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json(Secrets::Shown).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HostRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(Map::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
