//! Background jobs: a command that runs itself again, in a session of its own.
//!
//! A job is a folder below `jobs` in the Broker directory (`folder.rs`): what it is, its log, what it printed, its report
//! and, at the end, its exit status. The log is locked by whoever writes to it, so that a job without a status runs if
//! and only if its log is locked. `process.rs` starts a job and is one.

mod folder;
mod process;

pub(crate) use self::folder::{Folder, Job, State, all, find};
pub(crate) use self::process::{Running, cancel, is_meant, run, start};
