//! The host key in the record: written down at the first contact, asked for ever after.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::id::HostId;
use crate::inventory::{HostRecord, Inventory, InventoryError};
use crate::session::ssh::HostKey;
use crate::session::{SessionError, SessionErrorKind};

/// Writes down the key that a host has shown at the first contact, and returns the record with it.
///
/// Where another process was faster its key counts. A journal that cannot be written is no reason to turn back: the key
/// then holds for this process.
///
/// # Errors
///
/// If another process has seen another key, or the host is gone.
pub(super) async fn pin(inventory: &Inventory, mut record: HostRecord, shown: &HostKey) -> Result<HostRecord> {
    let own = shown.to_string();
    loop {
        match &record.ssh_host_key {
            Some(theirs) if *theirs == own => return Ok(record),
            Some(theirs) => {
                let theirs = theirs.parse().map_or_else(|_| theirs.clone(), |key: HostKey| key.fingerprint());
                let message = format!(
                    "another process has seen the key `{theirs}` of it, and this one has seen `{}`: two machines answer \
                     at its address",
                    shown.fingerprint()
                );
                let source = SessionError::new(SessionErrorKind::HostKey, message);
                return Err(Error::Session { host: record.label(), source });
            }
            None => record.ssh_host_key = Some(own.clone()),
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

/// Says, once a host, that nobody knows who answers.
pub(super) fn warn_of_insecurity(record: &HostRecord, address: &str) {
    static WARNED: Mutex<Option<HashSet<HostId>>> = Mutex::new(None);
    if WARNED.lock().get_or_insert_default().insert(record.id) {
        let host = record.label();
        tracing::warn!(
            "the key of host `{host}` is not checked, as the settings want it: whoever answers at {address} gets the \
             password and all commands"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{HostState, Secrets};

    fn key(seed: u8) -> HostKey {
        let mut blob = vec![0, 0, 0, 11];
        blob.extend(b"ssh-ed25519");
        blob.extend([0, 0, 0, 1, seed]);
        HostKey::from_blob(blob).unwrap()
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
        let pinned = pin(&inventory, record, &key(1)).await.unwrap();
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
        let first = pin(&one, record.clone(), &key(1)).await.unwrap();
        // The same key: theirs is taken over, with all that has changed.
        assert_eq!(pin(&two, record.clone(), &key(1)).await.unwrap(), first);
        let error = pin(&two, record, &key(2)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Session { source, .. } if source.kind() == SessionErrorKind::HostKey),
            "{error:?}"
        );
        assert!(crate::error_chain(&error).contains(&key(1).fingerprint()), "{}", crate::error_chain(&error));
    }

    #[tokio::test]
    async fn other_changes_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = Inventory::open(dir.path());
        let record = added(&inventory).await;
        let renamed = HostRecord { name: Some("new".to_owned()), ..record.clone() };
        inventory.update(renamed).await.unwrap();
        let pinned = pin(&inventory, record, &key(1)).await.unwrap();
        assert_eq!((pinned.name.as_deref(), pinned.rev), (Some("new"), 3));
    }

    #[tokio::test]
    async fn a_host_that_is_gone_gets_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = Inventory::open(dir.path());
        let record = added(&inventory).await;
        inventory.update(HostRecord { state: HostState::Gone, ..record.clone() }).await.unwrap();
        let error = pin(&inventory, record, &key(1)).await.unwrap_err();
        assert!(matches!(error, Error::Inventory(InventoryError::Missing { .. })), "{error:?}");
    }
}
