//! The objects of the API, as far as they are needed here.

pub(crate) mod inventory;
pub(crate) mod job;
pub(crate) mod template;

use serde::Deserialize;

/// Something that is known by a number and a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Named {
    pub(crate) id: u64,
    pub(crate) name: String,
}

/// What `ping/` says: which installation it is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ping {
    pub(crate) install_uuid: String,
    #[serde(default)]
    pub(crate) version: String,
}

/// A user.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) username: String,
}
