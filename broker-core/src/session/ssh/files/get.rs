//! Reading a tree by `sftp`, with the next files under way while one is handed over.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::sync::mpsc;

use super::super::sftp::wire::{Attributes, Name, READ};
use super::super::sftp::{Handle, Sftp};
use super::{FILES_UNDER_WAY, PERMISSIONS, SMALL, UNDER_WAY};
use crate::session::{EntryKind, RemotePath, SessionError, SessionErrorKind, TreeEntry, TreeItem};

/// How much is read of a file that says it is empty: those of `/proc` say so and are not.
const SAYS_EMPTY: u64 = 4 * 1024 * 1024;

/// How many pieces of a directory are asked for at once.
const NAMES_AT_ONCE: usize = 4;

pub(super) async fn get(
    sftp: &Arc<Sftp>,
    from: &RemotePath,
    items: mpsc::Sender<TreeItem>,
) -> Result<(), SessionError> {
    let mut walk = Walk { sftp, ready: FuturesOrdered::new(), held: 0, items };
    let doing = format!("could not read `{from}`");
    let root = Found { path: from.clone(), below: Vec::new(), attributes: sftp.lstat(from, &doing).await? };
    if root.kind().is_none() {
        let message = format!("{doing}: it is neither a file, nor a directory, nor a symbolic link");
        return Err(SessionError::new(SessionErrorKind::Unsupported, message));
    }
    match walk.all(root).await {
        Ok(()) | Err(Stop::NotWanted) => Ok(()),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Why a walk ends early.
enum Stop {
    /// Nobody takes what is read any more.
    NotWanted,
    Failed(SessionError),
}

impl From<SessionError> for Stop {
    fn from(error: SessionError) -> Self {
        Self::Failed(error)
    }
}

enum Kind {
    File,
    Directory,
    Symlink,
}

/// Something in the tree.
struct Found {
    path: RemotePath,
    /// Its path below the root.
    below: Vec<u8>,
    attributes: Attributes,
}

impl Found {
    /// Pipes, sockets and devices are nothing that could be taken along.
    fn kind(&self) -> Option<Kind> {
        match self.attributes.mode? & 0o170_000 {
            0o100_000 => Some(Kind::File),
            0o040_000 => Some(Kind::Directory),
            0o120_000 => Some(Kind::Symlink),
            _ => None,
        }
    }

    fn size(&self) -> u64 {
        self.attributes.size.unwrap_or_default()
    }

    fn entry(&self, kind: EntryKind) -> TreeItem {
        TreeItem::Entry(TreeEntry {
            path: RemotePath::from_bytes(self.below.clone()),
            kind,
            mode: self.attributes.mode.unwrap_or_default() & PERMISSIONS,
            modified: u64::from(self.attributes.modified.unwrap_or_default()),
        })
    }

    fn child(&self, name: Name) -> Self {
        let mut below = self.below.clone();
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend_from_slice(&name.name);
        let path = self.path.join(RemotePath::from_bytes(name.name.to_vec()).as_path());
        Self { path, below, attributes: name.attributes }
    }

    fn doing(&self) -> String {
        format!("could not read `{}`", self.path)
    }
}

type Ready<'a> = BoxFuture<'a, Result<(Vec<TreeItem>, u64), SessionError>>;

struct Walk<'a> {
    sftp: &'a Arc<Sftp>,
    /// What comes next, in its order; all of it is under way.
    ready: FuturesOrdered<Ready<'a>>,
    /// How many bytes these hold, or will.
    held: u64,
    items: mpsc::Sender<TreeItem>,
}

impl Walk<'_> {
    async fn all(&mut self, root: Found) -> Result<(), Stop> {
        let mut levels = vec![vec![root].into_iter()];
        while let Some(level) = levels.last_mut() {
            let Some(found) = level.next() else {
                levels.pop();
                continue;
            };
            match found.kind() {
                None => {}
                Some(Kind::Directory) => {
                    let entry = found.entry(EntryKind::Directory);
                    self.ready.push_back(Box::pin(async { Ok((vec![entry], 0)) }));
                    levels.push(children(self.sftp, &found).await?.into_iter());
                }
                Some(Kind::Symlink) => {
                    let sftp = self.sftp;
                    self.ready.push_back(Box::pin(async move {
                        let target = sftp.read_link(&found.path, &found.doing()).await?;
                        Ok((vec![found.entry(EntryKind::Symlink { target })], 0))
                    }));
                }
                Some(Kind::File) if found.size() <= SMALL => {
                    self.held += found.size();
                    self.ready.push_back(Box::pin(small(self.sftp, found)));
                }
                Some(Kind::File) => {
                    self.hand_over(0, 0).await?;
                    self.large(&found).await?;
                }
            }
            self.hand_over(FILES_UNDER_WAY, UNDER_WAY as u64).await?;
        }
        self.hand_over(0, 0).await
    }

    /// Hands over what is ready until no more than this is under way.
    async fn hand_over(&mut self, files: usize, bytes: u64) -> Result<(), Stop> {
        while self.ready.len() > files || self.held > bytes {
            let Some(done) = self.ready.next().await else { break };
            let (items, held) = done?;
            self.held -= held;
            for item in items {
                hand(&self.items, item).await?;
            }
        }
        Ok(())
    }

    async fn large(&mut self, found: &Found) -> Result<(), Stop> {
        let (doing, size) = (found.doing(), found.size());
        let file = self.sftp.open(&found.path, READ, &doing).await?;
        hand(&self.items, found.entry(EntryKind::File { size })).await?;
        let mut reads = FuturesOrdered::new();
        let (mut at, mut under_way) = (0, 0);
        loop {
            while at < size && under_way < UNDER_WAY {
                let length = u32::try_from(size - at).unwrap_or(u32::MAX).min(self.sftp.read_piece);
                reads.push_back(whole(self.sftp, &file, at, length, &doing));
                at += u64::from(length);
                under_way += length as usize;
            }
            let Some(pieces) = reads.next().await else { break };
            for piece in pieces? {
                under_way -= piece.len();
                hand(&self.items, TreeItem::Data(piece)).await?;
            }
        }
        drop(reads);
        self.sftp.close(&file, &doing).await?;
        Ok(())
    }
}

async fn hand(items: &mpsc::Sender<TreeItem>, item: TreeItem) -> Result<(), Stop> {
    items.send(item).await.map_err(|_| Stop::NotWanted)
}

/// A file that is held in memory as a whole.
async fn small(sftp: &Sftp, found: Found) -> Result<(Vec<TreeItem>, u64), SessionError> {
    let doing = found.doing();
    let size = found.size();
    let file = sftp.open(&found.path, READ, &doing).await?;
    let mut contents = Vec::new();
    if size == 0 {
        let mut read = 0;
        while read < SAYS_EMPTY {
            let Some(piece) = sftp.read(&file, read, sftp.read_piece, &doing).await? else { break };
            read += piece.len() as u64;
            contents.push(piece);
        }
        sftp.close(&file, &doing).await?;
        let mut items = vec![found.entry(EntryKind::File { size: read })];
        items.extend(contents.into_iter().map(TreeItem::Data));
        return Ok((items, 0));
    }
    let mut reads = FuturesOrdered::new();
    let mut at = 0;
    while at < size {
        let length = u32::try_from(size - at).unwrap_or(u32::MAX).min(sftp.read_piece);
        reads.push_back(whole(sftp, &file, at, length, &doing));
        at += u64::from(length);
    }
    while let Some(pieces) = reads.next().await {
        contents.extend(pieces?);
    }
    drop(reads);
    sftp.close(&file, &doing).await?;
    let mut items = vec![found.entry(EntryKind::File { size })];
    items.extend(contents.into_iter().map(TreeItem::Data));
    Ok((items, size))
}

/// Exactly this part of a file: a server may give less than it is asked for.
async fn whole(sftp: &Sftp, file: &Handle, at: u64, length: u32, doing: &str) -> Result<Vec<Bytes>, SessionError> {
    let mut pieces = Vec::new();
    let mut read = 0;
    while read < length {
        match sftp.read(file, at + u64::from(read), length - read, doing).await? {
            Some(piece) if !piece.is_empty() && piece.len() <= (length - read) as usize => {
                read += u32::try_from(piece.len()).unwrap_or(length);
                pieces.push(piece);
            }
            _ => {
                let message = format!("{doing}: it became shorter while it was read");
                return Err(SessionError::new(SessionErrorKind::Failed, message));
            }
        }
    }
    Ok(pieces)
}

/// What is in a directory, by name.
async fn children(sftp: &Sftp, directory: &Found) -> Result<Vec<Found>, SessionError> {
    let doing = directory.doing();
    let handle = sftp.open_directory(&directory.path, &doing).await?;
    let mut names = Vec::new();
    let mut asked = FuturesOrdered::new();
    let mut more = true;
    while more || !asked.is_empty() {
        while more && asked.len() < NAMES_AT_ONCE {
            asked.push_back(sftp.names(&handle, &doing));
        }
        match asked.next().await.transpose()?.flatten() {
            Some(some) => names.extend(some),
            None => more = false,
        }
    }
    drop(asked);
    sftp.close(&handle, &doing).await?;
    names.retain(|name| !matches!(name.name.as_ref(), b"." | b".."));
    names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let bad = |name: &Name| name.name.is_empty() || name.name.contains(&b'/');
    if let Some(name) = names.iter().find(|name| bad(name)) {
        let message = format!("{doing}: the server names a file `{}` in it", String::from_utf8_lossy(&name.name));
        return Err(SessionError::new(SessionErrorKind::Failed, message));
    }
    Ok(names.into_iter().map(|name| directory.child(name)).collect())
}
