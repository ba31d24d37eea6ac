//! Who shares a host.

use serde::{Deserialize, Serialize};

use super::Owner;
use crate::id::GuardId;

/// A host that several processes use at once, and who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// The name that they know it by.
    pub name: String,
    /// Those who use it. One whose process is dead counts as gone.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// One that uses a shared host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its guard. A process may have several.
    pub guard: GuardId,
    /// Its process.
    #[serde(flatten)]
    pub owner: Owner,
}
