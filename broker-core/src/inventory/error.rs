//! What can go wrong with the inventory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::HostRecord;
use crate::id::HostId;

/// An error of the inventory.
///
/// It can be cloned, because one write serves many callers and its failure concerns them all.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// The record has changed since it was read. Nothing was written; look at what it is now and decide again.
    #[error("the record of host {} `{}` was changed by somebody else, and is `{}` now", .current.number, .current.label(), .current.state)]
    Conflict {
        /// The record as it is now.
        current: Box<HostRecord>,
    },
    /// The host is gone from the inventory, or never was in it.
    #[error("host `{id}` is not in the inventory any more")]
    Missing {
        /// The host.
        id: HostId,
    },
    /// A host of this id is there, or stands twice in the same call.
    #[error("host `{id}` is in the inventory already")]
    Duplicate {
        /// The host.
        id: HostId,
    },
    /// The disk, the quota or the file size limit is exhausted. The file is as it was.
    #[error("no room left to write `{}`", .path.display())]
    NoSpace {
        /// The file that could not be written.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The file or its directory may not be read or written by this user, or is on a read-only file system.
    #[error("no permission to {action} `{}`", .path.display())]
    Permission {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Any other failure of the file system.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The file was written by another version of Broker. It is left as it is.
    #[error(
        "`{}` has format {found} and this Broker knows format {known} alone: use the Broker that wrote it, \
         or another directory",
        .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that its first line names.
        found: String,
        /// The version that this Broker reads and writes.
        known: u64,
    },
    /// The file's first line is not that of an inventory. It is left as it is.
    #[error("`{}` is not an inventory: its first line names no format; move the file away to begin a new one", .path.display())]
    NotAnInventory {
        /// The file.
        path: PathBuf,
    },
    /// The Python tool's inventory cannot be taken over. Nothing of it was.
    #[error("cannot import `{}`: {reason}; correct it, or move it away to begin without it", .path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The thread that writes the inventory is gone: a mistake in Broker. Whether the change was written is not known.
    #[error("the thread that writes the inventory has ended early")]
    Stopped,
}

impl InventoryError {
    /// Whether there was no room to write. Nothing has changed then.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::from_io("read", path, source)
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::from_io("write", path, source)
    }

    fn from_io(action: &'static str, path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let (path, kind, source) = (path.to_owned(), source.kind(), Arc::new(source));
        match kind {
            StorageFull | QuotaExceeded | FileTooLarge => Self::NoSpace { path, source },
            PermissionDenied | ReadOnlyFilesystem => Self::Permission { action, path, source },
            _ => Self::Io { action, path, source },
        }
    }
}
