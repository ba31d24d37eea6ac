//! A tree that is given to be written, and whether it keeps its word.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::session::{EntryKind, RemotePath, SessionError, SessionErrorKind, TreeEntry, TreeItem};

/// Reads a tree item by item. Every file has exactly the length it says, and every path stays within the tree.
pub(super) struct Incoming<'a> {
    items: mpsc::Receiver<TreeItem>,
    to: &'a RemotePath,
    label: &'a str,
    /// How much of the present file is still to come.
    left: u64,
}

impl<'a> Incoming<'a> {
    /// Begins with the root of the tree, whose path is empty.
    pub(super) async fn begin(
        items: mpsc::Receiver<TreeItem>,
        to: &'a RemotePath,
        label: &'a str,
    ) -> Result<(TreeEntry, Self), SessionError> {
        let mut incoming = Self { items, to, label, left: 0 };
        match incoming.entry().await? {
            Some(root) if root.path.as_bytes().is_empty() => Ok((root, incoming)),
            _ => Err(incoming.broken("nothing was given")),
        }
    }

    fn broken(&self, why: &str) -> SessionError {
        let message = format!("could not write `{}` on host `{}`: {why}", self.to, self.label);
        SessionError::new(SessionErrorKind::Local, message)
    }

    /// The next entry. All of the file before it must have been taken.
    pub(super) async fn entry(&mut self) -> Result<Option<TreeEntry>, SessionError> {
        match self.items.recv().await {
            _ if self.left > 0 => Err(self.broken(&format!("a file ended {} bytes early", self.left))),
            None => Ok(None),
            Some(TreeItem::Data(_)) => Err(self.broken("a file is longer than it said")),
            Some(TreeItem::Entry(entry)) => {
                let path = entry.path.as_bytes();
                if path.starts_with(b"/") || path.split(|byte| *byte == b'/').any(|part| part == b"..") {
                    return Err(self.broken(&format!("`{}` leads out of the tree", entry.path)));
                }
                if let EntryKind::File { size } = entry.kind {
                    self.left = size;
                }
                Ok(Some(entry))
            }
        }
    }

    /// The next piece of the present file; nothing at its end.
    pub(super) async fn data(&mut self) -> Result<Option<Bytes>, SessionError> {
        if self.left == 0 {
            return Ok(None);
        }
        match self.items.recv().await {
            Some(TreeItem::Data(piece)) if piece.len() as u64 <= self.left => {
                self.left -= piece.len() as u64;
                Ok(Some(piece))
            }
            Some(TreeItem::Data(_)) => Err(self.broken("a file is longer than it said")),
            Some(TreeItem::Entry(_)) | None => Err(self.broken(&format!("a file ended {} bytes early", self.left))),
        }
    }
}
