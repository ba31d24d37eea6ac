//! What the inventory knows of one host.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::Shared;
use super::details::{self, Details, Key, LazyDetails, Take, into};
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

impl Owner {
    /// User and machine, as in `jane@laptop`.
    pub fn address(&self) -> String {
        format!("{}@{}", self.user, self.machine)
    }
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
    /// The key that its SSH server showed at the first contact, `ssh-ed25519 AAAA…`: it is asked for ever after.
    pub ssh_host_key: Option<String>,
    /// The same of the hosts that the way to it leads through, by `address:port`, as far as no `known_hosts` file has them.
    pub ssh_jump_keys: BTreeMap<String, String>,
    /// The provider's name, such as `Container`.
    pub provider: String,
    /// The named instance of the provider, if it has any.
    pub instance: Option<String>,
    /// When the provider handed the host over.
    pub checked_out_at: Option<Timestamp>,
    /// When the lease ends, if it does.
    pub lease_until: Option<Timestamp>,
    /// What runs on the host before it is released, whoever releases it.
    pub teardown_command: Option<String>,
    /// Who holds it. Entries imported from elsewhere have no owner.
    pub owner: Option<Owner>,
    /// Whether a guard will release it.
    pub holding: Holding,
    /// Who shares it, if it is a shared host.
    pub shared: Option<Shared>,
    /// The place the host was made at.
    pub endpoint: Option<Endpoint>,
    /// Why the host is `failed`, or what the last attempt to release it ran into, or what else is wrong with it.
    pub error: Option<String>,
    /// Its arguments, labels and ports, and what its provider told of it.
    pub details: LazyDetails,
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
    "ssh_host_key",
    "ssh_jump_keys",
    "_broker_provider",
    "_broker_provider_instance",
    "_broker_args",
    "labels",
    "checked_out_at",
    "lease_until",
    "teardown_command",
    "owner",
    "holding",
    "shared",
    "endpoint",
    "handle",
    "error",
    "exposed_ports",
    "_imported",
];

/// The fact that names arguments that are secret, whatever they are called: those that the provider declares as such, and
/// those that it learned of.
pub const HIDDEN_ARGS: &str = "hidden_args";

/// The fact in which a record names those of its arguments that nobody asked for.
const ADDED_ARGS: &str = "added_args";

/// Whether secret arguments and facts are written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Their values show as `***`.
    Hidden,
    /// Their values show.
    Shown,
}

impl HostRecord {
    /// The record of a host that the journal does not know yet: nothing is said of it but this.
    pub fn new(id: HostId, provider: impl Into<String>, state: HostState) -> Self {
        Self {
            id,
            number: 0,
            rev: 0,
            state,
            at: Timestamp::now(),
            name: None,
            hostname: None,
            address: None,
            ssh_port: None,
            ssh_host_key: None,
            ssh_jump_keys: BTreeMap::new(),
            provider: provider.into(),
            instance: None,
            checked_out_at: None,
            lease_until: None,
            teardown_command: None,
            owner: None,
            holding: Holding::Kept,
            shared: None,
            endpoint: None,
            error: None,
            details: LazyDetails::default(),
        }
    }

    /// The record as one flat JSON object: what outputs print and filters look at.
    ///
    /// Fields without a value are left out, so that a filter can tell that they are missing.
    pub fn to_json(&self, secrets: Secrets) -> Map<String, Value> {
        struct Object(Map<String, Value>);

        impl Fields for Object {
            type Error = Infallible;

            fn put<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Infallible> {
                self.0.insert(key.to_owned(), json!(value));
                Ok(())
            }
        }

        let mut object = Object(Map::with_capacity(FIELDS.len()));
        let Ok(()) = self.put_fields(&self.details.glance(), secrets, &mut object);
        object.0
    }

    /// The same, to be written to a serializer: thousands of records cost half as much that way.
    pub fn shown(&self, secrets: Secrets) -> Shown<'_> {
        Shown { record: self, secrets }
    }

    /// All fields that have a value, in the order in which they are printed. The details are this record's own.
    pub(super) fn put_fields<F: Fields>(
        &self,
        details: &Details,
        secrets: Secrets,
        to: &mut F,
    ) -> Result<(), F::Error> {
        fn some<F: Fields, T: Serialize>(to: &mut F, key: &str, value: Option<&T>) -> Result<(), F::Error> {
            value.map_or(Ok(()), |value| to.put(key, value))
        }
        to.put("id", &self.id)?;
        to.put("number", &self.number)?;
        to.put("state", &self.state)?;
        some(to, "hostname", self.hostname.as_ref())?;
        some(to, "name", self.name.as_ref())?;
        some(to, "address", self.address.as_ref())?;
        some(to, "ssh_port", self.ssh_port.as_ref())?;
        some(to, "ssh_host_key", self.ssh_host_key.as_ref())?;
        some(to, "ssh_jump_keys", Some(&self.ssh_jump_keys).filter(|keys| !keys.is_empty()))?;
        to.put("_broker_provider", &self.provider)?;
        some(to, "_broker_provider_instance", self.instance.as_ref())?;
        match secrets {
            Secrets::Hidden => {
                to.put("_broker_args", &args_without(&details.args, names(&details.facts, HIDDEN_ARGS)))?;
            }
            Secrets::Shown => to.put("_broker_args", &details.args)?,
        }
        some(to, "labels", Some(&details.labels).filter(|labels| !labels.is_empty()))?;
        some(to, "checked_out_at", self.checked_out_at.as_ref())?;
        some(to, "lease_until", self.lease_until.as_ref())?;
        some(to, "teardown_command", self.teardown_command.as_ref())?;
        some(to, "owner", self.owner.as_ref())?;
        to.put("holding", &self.holding)?;
        some(to, "shared", self.shared.as_ref())?;
        some(to, "endpoint", self.endpoint.as_ref())?;
        let handle = details.handle.as_ref().filter(|handle| !handle.is_null());
        some(to, "handle", handle.map(|handle| fact("handle", handle, secrets)).as_ref())?;
        some(to, "error", self.error.as_ref())?;
        some(to, "exposed_ports", Some(&details.ports).filter(|ports| !ports.is_empty()))?;
        to.put("rev", &self.rev)?;
        to.put("at", &self.at)?;
        let mut clashing = BTreeMap::new();
        for (key, value) in &details.facts {
            let value = fact(key, value, secrets);
            if FIELDS.contains(&key.as_str()) {
                clashing.insert(key, value);
            } else {
                to.put(key, &value)?;
            }
        }
        some(to, "_imported", Some(&clashing).filter(|clashing| !clashing.is_empty()))
    }

    /// Reads what [`to_json`](Self::to_json) wrote with [`Secrets::Shown`].
    ///
    /// # Errors
    ///
    /// If a field of Broker's own is missing or of the wrong shape; the message names it.
    pub fn from_json(map: Map<String, Value>) -> Result<Self, serde_json::Error> {
        Self::deserialize(Value::Object(map))
    }

    /// Takes over what the provider told.
    pub fn absorb(&mut self, facts: HostFacts) {
        let HostFacts { name, hostname, address, ssh_port, ports, lease_until, args, facts } = facts;
        self.name = name.or(self.name.take());
        self.hostname = hostname.or(self.hostname.take());
        self.address = address.or(self.address.take());
        self.ssh_port = ssh_port.or(self.ssh_port);
        self.lease_until = lease_until.or(self.lease_until);
        let details = &mut *self.details;
        if !ports.is_empty() {
            details.ports = ports;
        }
        // A provider may tell more than once, and what is hidden stays so.
        let hidden = names(&facts, HIDDEN_ARGS).map(|name| json!(name)).collect();
        let added = args.keys().filter(|name| !details.args.contains_key(*name)).map(|name| json!(name)).collect();
        for (list, more) in [(HIDDEN_ARGS, hidden), (ADDED_ARGS, added)] {
            add_names(&mut details.facts, list, more);
        }
        details.facts.extend(facts.into_iter().filter(|(name, _)| name != HIDDEN_ARGS));
        details.args.extend(args);
    }

    /// Whether somebody asked for this argument, and not the service alone.
    pub fn was_asked_for(&self, argument: &str) -> bool {
        !names(&self.details.facts, ADDED_ARGS).any(|name| name == argument)
    }

    /// Whether the host was begun and never handed over: of what exists of it, only the id is certain.
    pub fn is_half_made(&self) -> bool {
        self.owner.is_some() && self.checked_out_at.is_none()
    }

    /// How long the host may live in all, from its checkout to the end of its lease, in whole seconds.
    pub fn lease(&self) -> Option<Duration> {
        let span = self.lease_until?.duration_since(self.checked_out_at?);
        let span = span.round(jiff::Unit::Second).ok()?;
        Duration::try_from(span).ok().filter(|span| !span.is_zero())
    }

    /// Whether the lease has ended. A clock that is behind the record itself is wrong, and ends nothing.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.lease_until.is_some_and(|until| until < now) && self.at <= now
    }

    /// The best word for the host in a message: its hostname, else its name, else its id.
    pub fn label(&self) -> String {
        self.hostname.clone().or_else(|| self.name.clone()).unwrap_or_else(|| self.id.to_string())
    }
}

/// The names in a fact that is a list of such.
fn names<'a>(facts: &'a Map<String, Value>, list: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    facts.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn add_names(facts: &mut Map<String, Value>, list: &str, more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    let mut all = facts.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    for name in more {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    facts.insert(list.to_owned(), Value::Array(all));
}

/// Arguments as JSON, secret ones hidden by their names, at any depth, and so is what texts set such names to
/// (`A=1,PASSWORD=x`).
pub fn args_to_json(args: &Args, secrets: Secrets) -> Value {
    fn to_json(value: &ArgValue, secrets: Secrets) -> Value {
        match value {
            ArgValue::Map(map) => args_to_json(map, secrets),
            ArgValue::List(items) => Value::Array(items.iter().map(|item| to_json(item, secrets)).collect()),
            scalar => match scalar.to_json() {
                Value::String(text) if secrets == Secrets::Hidden => Value::String(secrets::masked(&text).into_owned()),
                value => value,
            },
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

/// As [`args_to_json`] with the secret ones hidden, and with these too, whatever they are called.
pub fn args_without<'a>(args: &Args, names: impl IntoIterator<Item = &'a str>) -> Value {
    let mut shown = args_to_json(args, Secrets::Hidden);
    for name in names {
        if let Some(value) = shown.get_mut(name) {
            *value = json!(secrets::HIDDEN);
        }
    }
    shown
}

fn fact<'a>(key: &str, value: &'a Value, secrets: Secrets) -> Cow<'a, Value> {
    match secrets {
        Secrets::Hidden if holds_secret(key, value) => Cow::Owned(hidden(key, value)),
        Secrets::Hidden | Secrets::Shown => Cow::Borrowed(value),
    }
}

/// Whether there is anything in a fact to hide.
fn holds_secret(key: &str, value: &Value) -> bool {
    !value.is_null() && secrets::is_secret_name(key)
        || match value {
            Value::Object(map) => map.iter().any(|(key, value)| holds_secret(key, value)),
            Value::Array(items) => items.iter().any(|item| holds_secret("", item)),
            _ => false,
        }
}

/// A fact without the secrets in it, by their names, at any depth.
fn hidden(key: &str, value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        _ if secrets::is_secret_name(key) => json!(secrets::HIDDEN),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), hidden(key, value))).collect(),
        Value::Array(items) => items.iter().map(|item| hidden("", item)).collect(),
        scalar => scalar.clone(),
    }
}

/// Where the fields of a record go.
pub(super) trait Fields {
    type Error;

    fn put<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Self::Error>;
}

/// A record as [`HostRecord::to_json`] gives it, to be written without making a value of it first.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    record: &'a HostRecord,
    secrets: Secrets,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Entries<M>(M);

        impl<M: SerializeMap> Fields for Entries<M> {
            type Error = M::Error;

            fn put<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), M::Error> {
                self.0.serialize_entry(key, value)
            }
        }

        let mut entries = Entries(serializer.serialize_map(None)?);
        self.record.put_fields(&self.record.details.glance(), self.secrets, &mut entries)?;
        entries.0.end()
    }
}

impl Serialize for HostRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown(Secrets::Shown).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HostRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(deserializer.deserialize_map(LineVisitor(details::Read::default()))?.record)
    }
}

/// A record with the two numbers that only the journal has.
pub(super) struct Line {
    pub(super) record: HostRecord,
    pub(super) high: Option<u64>,
    pub(super) live: Option<u64>,
}

impl Line {
    /// Reads a line of the journal, without its newline.
    pub(super) fn parse(line: &str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let read = deserializer.deserialize_map(LineVisitor(details::Check::new(line)))?;
        deserializer.end()?;
        Ok(read)
    }
}

/// What it holds takes the details.
struct LineVisitor<T>(T);

impl<'de, T: Take<'de>> Visitor<'de> for LineVisitor<T> {
    type Value = Line;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the record of a host")
    }

    /// Reads a record straight from its text: an inventory has many, and everything in Broker begins with reading them.
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Line, A::Error> {
        let Self(mut details) = self;
        let (mut id, mut number, mut rev, mut state, mut at, mut provider) = (None, None, None, None, None, None);
        let (mut high, mut live) = (None, None);
        let (mut name, mut hostname, mut address, mut instance) = (None, None, None, None);
        let (mut ssh_port, mut ssh_host_key, mut ssh_jump_keys) = (None, None, None);
        let (mut checked_out_at, mut lease_until, mut teardown_command) = (None, None, None);
        let (mut owner, mut holding) = (None, None);
        let (mut shared, mut endpoint, mut error) = (None, None, None);
        while let Some(Key(key)) = entries.next_key()? {
            match &*key {
                "id" => into(&mut id, &key, &mut entries)?,
                "number" => into(&mut number, &key, &mut entries)?,
                "rev" => into(&mut rev, &key, &mut entries)?,
                "state" => into(&mut state, &key, &mut entries)?,
                "at" => into(&mut at, &key, &mut entries)?,
                "high" => into(&mut high, &key, &mut entries)?,
                "live" => into(&mut live, &key, &mut entries)?,
                "name" => into(&mut name, &key, &mut entries)?,
                "hostname" => into(&mut hostname, &key, &mut entries)?,
                "address" => into(&mut address, &key, &mut entries)?,
                "ssh_port" => into(&mut ssh_port, &key, &mut entries)?,
                "ssh_host_key" => into(&mut ssh_host_key, &key, &mut entries)?,
                "ssh_jump_keys" => into(&mut ssh_jump_keys, &key, &mut entries)?,
                "_broker_provider" => into(&mut provider, &key, &mut entries)?,
                "_broker_provider_instance" => into(&mut instance, &key, &mut entries)?,
                "checked_out_at" => into(&mut checked_out_at, &key, &mut entries)?,
                "lease_until" => into(&mut lease_until, &key, &mut entries)?,
                "teardown_command" => into(&mut teardown_command, &key, &mut entries)?,
                "owner" => into(&mut owner, &key, &mut entries)?,
                "holding" => into(&mut holding, &key, &mut entries)?,
                "shared" => into(&mut shared, &key, &mut entries)?,
                "endpoint" => into(&mut endpoint, &key, &mut entries)?,
                "error" => into(&mut error, &key, &mut entries)?,
                _ => details.take(key, &mut entries)?,
            }
        }
        let record = HostRecord {
            id: required(id, "id")?,
            number: required(number, "number")?,
            rev: required(rev, "rev")?,
            state: required(state, "state")?,
            at: required(at, "at")?,
            name,
            hostname,
            address,
            ssh_port,
            ssh_host_key,
            ssh_jump_keys: ssh_jump_keys.unwrap_or_default(),
            provider: required(provider, "_broker_provider")?,
            instance,
            checked_out_at,
            lease_until,
            teardown_command,
            owner,
            holding: holding.unwrap_or(Holding::Kept),
            shared,
            endpoint,
            error,
            details: details.finish(),
        };
        Ok(Line { record, high, live })
    }
}

fn required<T, E: serde::de::Error>(value: Option<T>, key: &'static str) -> Result<T, E> {
    value.ok_or_else(|| E::missing_field(key))
}
