//! Taking over the inventory of the Python tool, versions 0.2.6 to 0.8: a YAML list of mappings, one a host.
//!
//! Its file is read and never written. Scalars keep their spelling, and every key stays: as a field of ours where it
//! means the same, else as a fact.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Map;

use super::journal::Stamp;
use super::{Details, HostRecord, HostState, InventoryError, Secrets, args_to_json};
use crate::args::{ArgValue, Args};
use crate::id::HostId;
use crate::yaml;

pub(crate) const FILE: &str = "inventory.yaml";
/// The file as it was when it was imported last. It goes on listing hosts that have been checked in since: the copy tells
/// them from new ones.
pub(crate) const COPY: &str = "inventory.imported.yaml";
/// What the Python tool creates while it reads or writes its inventory. One that was killed leaves it behind for good.
const FOREIGN_LOCK: &str = "inventory.yaml.lock";
const FOREIGN_LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The provider of entries that name none.
const UNKNOWN: &str = "Unknown";

/// What an import came to.
#[derive(Debug, Clone, Default)]
pub struct Imported {
    /// The hosts that are new to the inventory.
    pub added: Vec<HostRecord>,
    /// How many entries were there before.
    pub known: usize,
}

pub(super) fn is_there(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

pub(super) fn missing(dir: &Path) -> InventoryError {
    InventoryError::read(&dir.join(FILE), io::ErrorKind::NotFound.into())
}

/// What there is to say about a file that is not what was imported.
pub(super) fn report(dir: &Path, imported: Option<&Stamp>) -> Option<String> {
    let path = dir.join(FILE);
    let stamp = stamp(&path).ok()?;
    if imported == Some(&stamp) {
        return None;
    }
    let what = if imported.is_some() { "has changed since it was imported" } else { "was not imported" };
    Some(format!("`{}` {what}: `broker inventory --import` adds what is new in it", path.display()))
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let found = fs::metadata(path)?;
    Ok(Stamp { bytes: found.len(), modified: format!("{}.{:09}", found.mtime(), found.mtime_nsec()) })
}

/// The Python tool's inventory.
pub(super) struct Source {
    /// Its entries, as hosts without numbers.
    pub(super) drafts: Vec<HostRecord>,
    pub(super) stamp: Stamp,
    text: String,
}

impl Source {
    /// What goes into the [`COPY`].
    pub(super) fn copy(&self) -> String {
        format!("{}\n{}", copied(&self.stamp), self.text)
    }
}

/// The first line of a copy.
fn copied(stamp: &Stamp) -> String {
    format!("# {FILE} as it was imported: {} bytes, changed {}", stamp.bytes, stamp.modified)
}

/// The entries that were imported last. None where that cannot be told.
pub(super) fn imported_before(dir: &Path, stamp: Option<&Stamp>, now: Timestamp) -> Vec<HostRecord> {
    let path = dir.join(COPY);
    let Some(stamp) = stamp else { return Vec::new() };
    let Ok(text) = fs::read_to_string(&path) else { return Vec::new() };
    let is_of_that_import = text.lines().next() == Some(&copied(stamp));
    if is_of_that_import { parse(&path, &text, now).unwrap_or_default() } else { Vec::new() }
}

/// The Python tool's inventory. `None` without one.
pub(super) fn read(dir: &Path, now: Timestamp) -> Result<Option<Source>, InventoryError> {
    let path = dir.join(FILE);
    match read_quiet(&path, &dir.join(FOREIGN_LOCK)) {
        Ok((text, stamp)) => Ok(Some(Source { drafts: parse(&path, &text, now)?, stamp, text })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(InventoryError::Import { path, reason: "it is not UTF-8 text".to_owned() })
        }
        Err(error) => Err(InventoryError::read(&path, error)),
    }
}

/// Reads the file at a moment when the Python tool, which deletes it and then writes it in place, does not.
fn read_quiet(path: &Path, lock: &Path) -> io::Result<(String, Stamp)> {
    const PAUSE: Duration = Duration::from_millis(50);
    let mut patience = FOREIGN_LOCK_PATIENCE;
    loop {
        let busy = lock.exists() && !patience.is_zero();
        let read = stamp(path).and_then(|stamp| Ok((fs::read_to_string(path)?, stamp)));
        if !busy {
            let (text, before) = read?;
            if stamp(path)? == before {
                return Ok((text, before));
            }
            if patience.is_zero() {
                return Err(io::Error::other("it changes all the time"));
            }
        }
        std::thread::sleep(PAUSE);
        patience = patience.saturating_sub(PAUSE);
    }
}

/// Reads the text of a Python tool's inventory; `path` is for messages. The hosts are `active` since `now`, are held by
/// nobody, and have no numbers yet.
///
/// # Errors
///
/// [`InventoryError::Import`] with the place, if the text is not YAML or not a list of mappings.
pub(super) fn parse(path: &Path, text: &str, now: Timestamp) -> Result<Vec<HostRecord>, InventoryError> {
    let failed = |reason: String| InventoryError::Import { path: path.to_owned(), reason };
    let value = yaml::parse(text).map_err(|error| {
        let place = error.place();
        failed(format!("line {}, column {}: {}", place.line, place.column, error.message()))
    })?;
    let list = match value.map(yaml::Node::into_value) {
        None => Vec::new(),
        Some(nothing) if nothing.is_null() => Vec::new(),
        Some(ArgValue::List(list)) => list,
        Some(other) => return Err(failed(format!("it holds a {}, not a list of hosts", other.kind()))),
    };
    list.into_iter()
        .enumerate()
        .map(|(index, entry)| match entry {
            ArgValue::Map(entry) => Ok(to_record(entry, now)),
            other => Err(failed(format!("entry {} of the list is a {}, not a mapping", index + 1, other.kind()))),
        })
        .collect()
}

fn to_record(mut entry: Args, now: Timestamp) -> HostRecord {
    entry.retain(|_, value| !value.is_null());
    let mut text = |key: &str| match entry.get(key)?.as_str()? {
        "" => None,
        text => {
            let text = text.to_owned();
            entry.shift_remove(key);
            Some(text)
        }
    };
    let (name, hostname) = (text("name"), text("hostname"));
    let (provider, instance) = (text("_broker_provider"), text("_broker_provider_instance"));
    let address = text("address");
    let address = address.or_else(|| Some(entry.get("ip")?.as_str()?.to_owned()).filter(|ip| !ip.is_empty()));
    let args = match entry.shift_remove("_broker_args") {
        Some(ArgValue::Map(mut args)) => {
            args.retain(|_, value| !value.is_null());
            args
        }
        Some(other) => {
            entry.insert("_broker_args".to_owned(), other);
            Args::new()
        }
        None => Args::new(),
    };
    let facts = entry.iter().map(|(key, value)| (key.clone(), value.to_json())).collect::<Map<_, _>>();
    HostRecord {
        rev: 1,
        at: now,
        name,
        hostname,
        address,
        instance,
        details: Details { args, facts, ..Details::default() }.into(),
        ..HostRecord::new(HostId::generate(), provider.unwrap_or_else(|| UNKNOWN.to_owned()), HostState::Active)
    }
}

/// Those of `drafts` that are neither `present` nor were imported `before`. Each host that is present, and each entry that
/// was imported, answers for one draft, so that two entries which look alike stay two.
pub(super) fn new_ones(
    present: &[Arc<HostRecord>],
    mut before: Vec<HostRecord>,
    drafts: Vec<HostRecord>,
) -> Vec<HostRecord> {
    let mut present: VecDeque<&HostRecord> = present.iter().map(AsRef::as_ref).collect();
    let mut is_new = |draft: &HostRecord| {
        let held = present.iter().position(|host| are_the_same(host, draft)).map(|index| present.remove(index));
        let known = before.iter().position(|entry| are_equal(entry, draft)).map(|index| before.swap_remove(index));
        held.is_none() && known.is_none()
    };
    drafts.into_iter().filter(|draft| is_new(draft)).collect()
}

/// Whether two entries say the same. A host of the same name that was checked out anew says something else.
fn are_equal(one: &HostRecord, other: &HostRecord) -> bool {
    fn words(record: &HostRecord) -> [Option<&String>; 5] {
        let HostRecord { name, hostname, address, provider, instance, .. } = record;
        [name.as_ref(), hostname.as_ref(), address.as_ref(), Some(provider), instance.as_ref()]
    }
    words(one) == words(other) && one.details == other.details
}

/// Whether two records mean the same host: at the same place, by name and hostname as far as both have them. Hosts
/// without either are the same if everything else about them is.
fn are_the_same(one: &HostRecord, other: &HostRecord) -> bool {
    fn agree(one: Option<&String>, other: Option<&String>) -> Option<bool> {
        Some(one? == other?)
    }
    let name = agree(one.name.as_ref(), other.name.as_ref());
    let hostname = agree(one.hostname.as_ref(), other.hostname.as_ref());
    let words = match (name, hostname) {
        (None, None) => {
            let nameless = |record: &HostRecord| record.name.is_none() && record.hostname.is_none();
            let args = |record: &HostRecord| args_to_json(&record.details.args, Secrets::Shown);
            nameless(one) && nameless(other) && one.details.facts == other.details.facts && args(one) == args(other)
        }
        (name, hostname) => name != Some(false) && hostname != Some(false),
    };
    one.provider == other.provider && agree(one.instance.as_ref(), other.instance.as_ref()) != Some(false) && words
}
