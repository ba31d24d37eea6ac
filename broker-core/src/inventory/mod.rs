//! The records of all that this user holds.

mod record;

pub use record::{FIELDS, Holding, HostRecord, HostState, Owner, Secrets, args_to_json};
