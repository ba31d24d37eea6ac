//! How a host is reached, written into its server's metadata: whoever finds the server again knows it too.

use crate::api::compute::Server;
use crate::request::Family;

/// The entries of the metadata.
const USER: &str = "broker.user";
const FAMILY: &str = "broker.ip_version";
const PORT: &str = "broker.ssh_port";

/// How a host is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The user to log in as; the settings decide where there is none.
    pub(crate) user: Option<String>,
    /// The family of addresses that is preferred.
    pub(crate) family: Family,
    /// The port of the SSH server, where it is not the usual one.
    pub(crate) port: Option<u16>,
}

impl Reach {
    /// As a server's metadata says. `family` is for servers that say nothing of it.
    pub(crate) fn of(server: &Server, family: Family) -> Self {
        let entry = |name: &str| server.metadata.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let family = match entry(FAMILY) {
            Some("4") => Family::V4,
            Some("6") => Family::V6,
            _ => family,
        };
        Self { user: entry(USER).map(str::to_owned), family, port: entry(PORT).and_then(|port| port.parse().ok()) }
    }

    /// The entries of a server's metadata.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = (String, String)> {
        let family = match self.family {
            Family::V4 => "4",
            Family::V6 => "6",
        };
        let entry = |name: &str, value: Option<String>| Some((name.to_owned(), value?));
        [
            entry(USER, self.user.clone()),
            entry(FAMILY, Some(family.to_owned())),
            entry(PORT, self.port.map(|port| port.to_string())),
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for reach in [
            Reach { user: Some("debian".to_owned()), family: Family::V6, port: Some(2222) },
            Reach { user: None, family: Family::V4, port: None },
        ] {
            let metadata: BTreeMap<_, _> = reach.metadata().collect();
            let server = serde_json::from_value(json!({"id": "x", "metadata": metadata})).unwrap();
            assert_eq!(Reach::of(&server, Family::V6), reach);
        }
        let silent = serde_json::from_value(json!({"id": "x", "metadata": {"broker.ssh_port": "many"}})).unwrap();
        assert_eq!(Reach::of(&silent, Family::V6), Reach { user: None, family: Family::V6, port: None });
    }
}
