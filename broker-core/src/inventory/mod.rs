//! The records of all that this user holds.
//!
//! [`Inventory`] is how a running Broker reads and changes them, [`read`] how somebody who only looks does. Underneath
//! is a journal, `inventory.jsonl` in the Broker directory: every change appends the whole record, and is on the disk
//! before anybody hears that it was made. No death of a process or a machine, between any two steps, loses what was
//! confirmed or leaves a file that cannot be read.

mod details;
mod error;
mod handle;
pub(crate) mod import;
mod journal;
mod lock;
mod record;
mod runs;
mod select;
mod shared;
pub(crate) mod store;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

pub use details::{Details, LazyDetails};
pub use error::InventoryError;
pub use handle::{Inventory, read};
pub use import::Imported;
pub use record::{
    FIELDS, HIDDEN_ARGS, Holding, HostRecord, HostState, Owner, Secrets, Shown, args_to_json, args_without,
};
pub use runs::{Liveness, RunLock, liveness};
pub use select::{AmbiguousHost, SelectError, UnknownHost, select};
pub use shared::{Member, Shared};

/// The inventory at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The hosts that are not gone, by number.
    pub records: Vec<Arc<HostRecord>>,
    /// What the user should know about the inventory, a line each: damage, and changes that only the Python tool knows.
    pub warnings: Vec<String>,
}

/// The inventory that the text of a journal adds up to, wherever it comes from. `path` is for messages.
///
/// # Errors
///
/// If it was written by another version, or is no journal.
pub fn parse_journal(path: &Path, text: &[u8]) -> Result<Snapshot, InventoryError> {
    let Some((contents, _)) = journal::Contents::parse(path, text)? else { return Ok(Snapshot::default()) };
    Ok(Snapshot { records: contents.living(), warnings: contents.damage_report(path).into_iter().collect() })
}

/// The hosts that the text of a Python tool's `inventory.yaml` holds, in its order, without numbers. `path` is for
/// messages.
///
/// # Errors
///
/// [`InventoryError::Import`] with the place, if the text is not YAML or not a list of mappings.
pub fn parse_python_inventory(path: &Path, text: &str) -> Result<Vec<HostRecord>, InventoryError> {
    import::parse(path, text, Timestamp::now())
}
