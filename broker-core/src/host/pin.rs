//! The host key in the record: written down at the first contact, asked for ever after.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::inventory::{HostRecord, Inventory, InventoryError};
use crate::session::ssh::HostKey;
use crate::session::{SessionError, SessionErrorKind};

/// What was shown at the first contact.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    /// The host's key, where it is to be pinned.
    pub(super) host: Option<&'a HostKey>,
    /// The keys of the hosts on the way, by their places.
    pub(super) gates: &'a BTreeMap<String, HostKey>,
}

/// Writes down the keys that were shown at the first contact, and returns the record with them.
///
/// Where another process was faster its keys count. A journal that cannot be written is no reason to turn back: the keys
/// then hold for this process.
///
/// # Errors
///
/// If another process has seen another key, or the host is gone.
pub(super) async fn pin(inventory: &Inventory, mut record: HostRecord, shown: Shown<'_>) -> Result<HostRecord> {
    loop {
        let mut is_new = false;
        if let Some(key) = shown.host {
            let slot = record.ssh_host_key.get_or_insert_with(|| {
                is_new = true;
                key.to_string()
            });
            compare(slot, key).map_err(|source| Error::Session { host: record.label(), source })?;
        }
        for (place, key) in shown.gates {
            let slot = record.ssh_jump_keys.entry(place.clone()).or_insert_with(|| {
                is_new = true;
                key.to_string()
            });
            compare(slot, key).map_err(|source| Error::Session { host: format!("jump host {place}"), source })?;
        }
        if !is_new {
            return Ok(record);
        }
        match inventory.update(record.clone()).await {
            Ok(written) => return Ok(written),
            Err(InventoryError::Conflict { current }) => record = *current,
            Err(error @ InventoryError::Missing { .. }) => return Err(error.into()),
            Err(error) => {
                let error = crate::error_chain(&error);
                tracing::warn!(host = record.label(), error, "the key of the host could not be written down");
                return Ok(record);
            }
        }
    }
}

/// Whether the key that is written down is the one that was shown.
fn compare(written: &str, shown: &HostKey) -> std::result::Result<(), SessionError> {
    if written == shown.to_string() {
        return Ok(());
    }
    let theirs = written.parse().map_or_else(|_| written.to_owned(), |key: HostKey| key.fingerprint());
    let message = format!(
        "another process has seen the key `{theirs}` of it, and this one has seen `{}`: two machines answer at its address",
        shown.fingerprint()
    );
    Err(SessionError::new(SessionErrorKind::HostKey, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::HostId;
    use crate::inventory::{HostState, Secrets};

    fn key(seed: u8) -> HostKey {
        let mut blob = vec![0, 0, 0, 11];
        blob.extend(b"ssh-ed25519");
        blob.extend([0, 0, 0, 1, seed]);
        HostKey::from_blob(blob).unwrap()
    }

    async fn pin_key(inventory: &Inventory, record: HostRecord, key: &HostKey) -> Result<HostRecord> {
        pin(inventory, record, Shown { host: Some(key), gates: &BTreeMap::new() }).await
    }

    async fn added(inventory: &Inventory) -> HostRecord {
        let json = serde_json::json!({
            "id": HostId::generate(), "number": 0, "rev": 1, "state": "active", "at": "2026-01-01T00:00:00Z",
            "_broker_provider": "TestProvider", "hostname": "web"
        });
        let draft = HostRecord::from_json(json.as_object().unwrap().clone()).unwrap();
        inventory.add(vec![draft]).await.unwrap().remove(0)
    }

    #[tokio::test]
    async fn the_first_key_is_in_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = Inventory::open(dir.path());
        let record = added(&inventory).await;
        let pinned = pin_key(&inventory, record, &key(1)).await.unwrap();
        assert_eq!(pinned.ssh_host_key.as_deref(), Some(key(1).to_string().as_str()));
        let read = crate::inventory::read(dir.path()).unwrap().records;
        assert_eq!(*read[0], pinned);
        assert_eq!(read[0].to_json(Secrets::Hidden)["ssh_host_key"], key(1).to_string());
    }

    #[tokio::test]
    async fn who_comes_second_compares() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Inventory::open(dir.path()), Inventory::open(dir.path()));
        let record = added(&one).await;
        let first = pin_key(&one, record.clone(), &key(1)).await.unwrap();
        // The same key: theirs is taken over, with all that has changed.
        assert_eq!(pin_key(&two, record.clone(), &key(1)).await.unwrap(), first);
        let error = pin_key(&two, record, &key(2)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Session { source, .. } if source.kind() == SessionErrorKind::HostKey),
            "{error:?}"
        );
        assert!(crate::error_chain(&error).contains(&key(1).fingerprint()), "{}", crate::error_chain(&error));
    }

    #[tokio::test]
    async fn hosts_on_the_way_have_keys_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = Inventory::open(dir.path());
        let record = added(&inventory).await;
        let one = BTreeMap::from([("gate:22".to_owned(), key(1))]);
        let first = pin(&inventory, record.clone(), Shown { host: None, gates: &one }).await.unwrap();
        assert_eq!((first.ssh_host_key.as_deref(), &first.ssh_jump_keys["gate:22"]), (None, &key(1).to_string()));
        let other = BTreeMap::from([("other:22".to_owned(), key(2)), ("gate:22".to_owned(), key(1))]);
        let both = pin(&inventory, record.clone(), Shown { host: Some(&key(3)), gates: &other }).await.unwrap();
        assert_eq!((both.ssh_jump_keys.len(), both.ssh_host_key), (2, Some(key(3).to_string())));
        let wrong = BTreeMap::from([("gate:22".to_owned(), key(2))]);
        let error = pin(&inventory, record, Shown { host: None, gates: &wrong }).await.unwrap_err();
        assert!(crate::error_chain(&error).contains("gate:22"), "{}", crate::error_chain(&error));
    }

    #[tokio::test]
    async fn other_changes_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = Inventory::open(dir.path());
        let record = added(&inventory).await;
        let renamed = HostRecord { name: Some("new".to_owned()), ..record.clone() };
        inventory.update(renamed).await.unwrap();
        let pinned = pin_key(&inventory, record, &key(1)).await.unwrap();
        assert_eq!((pinned.name.as_deref(), pinned.rev), (Some("new"), 3));
    }

    #[tokio::test]
    async fn a_host_that_is_gone_gets_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = Inventory::open(dir.path());
        let record = added(&inventory).await;
        inventory.update(HostRecord { state: HostState::Gone, ..record.clone() }).await.unwrap();
        let error = pin_key(&inventory, record, &key(1)).await.unwrap_err();
        assert!(matches!(error, Error::Inventory(InventoryError::Missing { .. })), "{error:?}");
    }
}
