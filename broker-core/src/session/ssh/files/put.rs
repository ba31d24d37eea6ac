//! Writing a tree by `sftp`: each file beside its place, and moved there when it is whole.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::super::sftp::wire::{CREATE, DIRECTORY, EXCLUSIVE, KIND, WRITE};
use super::super::sftp::{Handle, Sftp};
use super::incoming::Incoming;
use super::{FILES_UNDER_WAY, PERMISSIONS, Place, SMALL, UNDER_WAY, parent};
use crate::id::HostId;
use crate::session::{EntryKind, RemotePath, SessionError, SessionErrorKind, TreeEntry, TreeItem};

/// The ways of a server to say that it does not do something.
const REFUSALS: [SessionErrorKind; 3] =
    [SessionErrorKind::Unsupported, SessionErrorKind::Permission, SessionErrorKind::Failed];

/// How long clearing away may take.
const CLEARING: Duration = Duration::from_secs(30);

pub(super) async fn put(
    place: &Arc<Place>,
    sftp: &Arc<Sftp>,
    to: &RemotePath,
    items: mpsc::Receiver<TreeItem>,
) -> Result<(), SessionError> {
    let (root, incoming) = Incoming::begin(items, to, &place.label).await?;
    let leftovers = Leftovers { place: Arc::clone(place), sftp: Arc::clone(sftp), paths: Arc::default() };
    let mut tree = Tree { sftp, label: &place.label, to, leftovers: &leftovers, directories: Vec::new() };
    tree.write(root, incoming).await
}

struct Tree<'a> {
    sftp: &'a Arc<Sftp>,
    label: &'a str,
    to: &'a RemotePath,
    leftovers: &'a Leftovers,
    /// Directories that were made or found, whose modes and times come last: what is written into them changes them.
    directories: Vec<(RemotePath, u32, u32)>,
}

type Job<'a> = BoxFuture<'a, Result<u64, SessionError>>;

impl<'a> Tree<'a> {
    async fn write(&mut self, root: TreeEntry, mut incoming: Incoming<'_>) -> Result<(), SessionError> {
        self.make_room(&root).await?;
        let mut jobs: FuturesUnordered<Job<'a>> = FuturesUnordered::new();
        let mut held = 0;
        let mut next = Some(root);
        while let Some(entry) = next {
            let path =
                if entry.path.as_bytes().is_empty() { self.to.clone() } else { self.to.join(entry.path.as_path()) };
            let file = File {
                sftp: Arc::clone(self.sftp),
                paths: Arc::clone(&self.leftovers.paths),
                tracker: self.leftovers.place.tracker.clone(),
                doing: format!("could not write `{path}`"),
                mode: entry.mode & PERMISSIONS,
                modified: u32::try_from(entry.modified).unwrap_or(u32::MAX),
                path,
            };
            match entry.kind {
                // The root was seen to already.
                EntryKind::Directory if entry.path.as_bytes().is_empty() => {}
                EntryKind::Directory => self.directory(&file).await?,
                EntryKind::Symlink { target } => jobs.push(Box::pin(file.link(target))),
                EntryKind::File { size } if size <= SMALL => {
                    let mut pieces = Vec::new();
                    while let Some(piece) = incoming.data().await? {
                        pieces.push(piece);
                    }
                    held += size;
                    jobs.push(Box::pin(file.small(pieces, size)));
                }
                EntryKind::File { .. } => file.large(&mut incoming).await?,
            }
            while jobs.len() >= FILES_UNDER_WAY || held > UNDER_WAY as u64 {
                held -= jobs.next().await.transpose()?.unwrap_or(held);
            }
            next = loop {
                tokio::select! {
                    biased;
                    Some(done) = jobs.next(), if !jobs.is_empty() => held -= done?,
                    entry = incoming.entry() => break entry?,
                }
            };
        }
        while let Some(done) = jobs.next().await {
            done?;
        }
        // What lies deepest comes first: a directory may become one that nobody can go through.
        try_join_all(self.directories.iter().rev().map(async |(path, mode, modified)| {
            self.sftp.set(path, *mode, *modified, &format!("could not set the mode of `{path}`")).await
        }))
        .await
        .map(drop)
    }

    /// Sees to it that the root can be written where it is to be.
    async fn make_room(&mut self, root: &TreeEntry) -> Result<(), SessionError> {
        let doing = format!("could not write `{}`", self.to);
        let refuse = |why: &str| {
            Err(SessionError::new(SessionErrorKind::Failed, format!("{doing} on host `{}`: {why}", self.label)))
        };
        let directory = root.kind == EntryKind::Directory;
        let there =
            if directory { self.sftp.stat(self.to, &doing).await } else { self.sftp.lstat(self.to, &doing).await };
        let is_directory = match there {
            Ok(there) => there.mode.is_some_and(|mode| mode & KIND == DIRECTORY),
            Err(error) if error.kind() == SessionErrorKind::NotFound => {
                self.make(&parent(self.to), &doing).await?;
                if directory {
                    self.sftp.make_directory(self.to, root.mode & 0o777 | 0o700, &doing).await?;
                    let modified = u32::try_from(root.modified).unwrap_or(u32::MAX);
                    self.directories.push((self.to.clone(), root.mode & PERMISSIONS, modified));
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match (directory, is_directory) {
            (true, false) => refuse("it exists, and is no directory"),
            (false, true) => refuse("it is a directory"),
            // A directory that is there already keeps its own mode and time.
            _ => Ok(()),
        }
    }

    /// Makes a directory and those above it, where they are missing.
    async fn make(&self, path: &RemotePath, doing: &str) -> Result<(), SessionError> {
        let mut missing = vec![path.clone()];
        while let Some(path) = missing.last().cloned() {
            match self.sftp.stat(&path, doing).await {
                Ok(there) if there.mode.is_some_and(|mode| mode & KIND == DIRECTORY) => break,
                Ok(_) => {
                    let message = format!("{doing} on host `{}`: `{path}` is no directory", self.label);
                    return Err(SessionError::new(SessionErrorKind::Failed, message));
                }
                Err(error) if error.kind() == SessionErrorKind::NotFound && path.parent().is_some() => {
                    missing.push(parent(&path));
                }
                Err(error) => return Err(error),
            }
        }
        // The last one is there.
        for path in missing.iter().rev().skip(1) {
            if let Err(error) = self.sftp.make_directory(path, 0o755, doing).await {
                // Somebody else may have made it.
                let there = self.sftp.stat(path, doing).await;
                there.ok().and_then(|there| there.mode).filter(|mode| mode & KIND == DIRECTORY).ok_or(error)?;
            }
        }
        Ok(())
    }

    async fn directory(&mut self, file: &File) -> Result<(), SessionError> {
        if let Err(error) = self.sftp.make_directory(&file.path, file.mode & 0o777 | 0o700, &file.doing).await {
            let there = self.sftp.stat(&file.path, &file.doing).await;
            if !there.is_ok_and(|there| there.mode.is_some_and(|mode| mode & KIND == DIRECTORY)) {
                return Err(error);
            }
        }
        self.directories.push((file.path.clone(), file.mode, file.modified));
        Ok(())
    }
}

/// A file or link on its way to its place.
struct File {
    sftp: Arc<Sftp>,
    paths: Arc<Mutex<HashSet<RemotePath>>>,
    tracker: TaskTracker,
    path: RemotePath,
    doing: String,
    mode: u32,
    modified: u32,
}

impl File {
    /// A name beside the place that nobody has.
    fn unused(&self) -> RemotePath {
        let name = format!(".broker-{}", HostId::generate());
        match parent(&self.path) {
            here if here.as_bytes() == b"." => RemotePath::from(name),
            above => above.join(name),
        }
    }

    /// A name beside the place, which is cleared away unless it is moved there.
    fn beside(&self) -> RemotePath {
        let beside = self.unused();
        self.paths.lock().insert(beside.clone());
        beside
    }

    async fn open(&self) -> Result<(RemotePath, Handle), SessionError> {
        let beside = self.beside();
        let handle = self.sftp.open(&beside, WRITE | CREATE | EXCLUSIVE, &self.doing).await?;
        Ok((beside, handle))
    }

    async fn take_place(&self, beside: &RemotePath) -> Result<(), SessionError> {
        let aside = self.unused();
        if self.sftp.replaces_at_once() {
            self.sftp.replace(beside, &self.path, &aside, &self.doing).await?;
        } else {
            // In a task of its own: what is dropped between the steps would leave neither file in the place.
            let (sftp, from, to) = (Arc::clone(&self.sftp), beside.clone(), self.path.clone());
            let doing = self.doing.clone();
            let replacing = async move { sftp.replace(&from, &to, &aside, &doing).await };
            self.tracker.spawn(replacing).await.unwrap_or_else(|_| {
                Err(SessionError::new(SessionErrorKind::Failed, format!("{}: the engine has ended", self.doing)))
            })?;
        }
        self.paths.lock().remove(beside);
        Ok(())
    }

    /// Sets the mode and the time. The file was made by us, so that a server which refuses that has it on a file system
    /// without modes, such as those of Windows. Until then nobody else may read it, which it stays then.
    async fn set(&self, handle: &Handle) -> Result<(), SessionError> {
        let doing = format!("could not set the mode of `{}`", self.path);
        match self.sftp.set_open(handle, self.mode, self.modified, &doing).await {
            Err(error) if REFUSALS.contains(&error.kind()) => {
                tracing::warn!("{error}");
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// The requests of a file whose contents are all there are sent without waiting for one another; servers take those
    /// on one file in their order.
    async fn small(self, pieces: Vec<Bytes>, size: u64) -> Result<u64, SessionError> {
        let (beside, handle) = self.open().await?;
        let mut at = 0;
        let mut writes = Vec::new();
        for piece in pieces.iter().flat_map(|piece| piece.chunks(self.sftp.write_piece as usize)) {
            writes.push(self.sftp.write(&handle, at, piece, &self.doing));
            at += piece.len() as u64;
        }
        let finish = async {
            let set = self.set(&handle);
            tokio::try_join!(set, self.sftp.close(&handle, &self.doing))
        };
        tokio::try_join!(try_join_all(writes), finish)?;
        self.take_place(&beside).await?;
        Ok(size)
    }

    async fn large(self, incoming: &mut Incoming<'_>) -> Result<(), SessionError> {
        let (beside, handle) = self.open().await?;
        let mut writes = FuturesUnordered::new();
        let (mut at, mut under_way) = (0, 0);
        while let Some(mut piece) = incoming.data().await? {
            while !piece.is_empty() {
                let part = piece.split_to(piece.len().min(self.sftp.write_piece as usize));
                let (begin, length) = (at, part.len());
                let (sftp, handle, doing) = (&self.sftp, &handle, &self.doing);
                writes.push(async move { sftp.write(handle, begin, &part, doing).await.map(|()| length) });
                at += length as u64;
                under_way += length;
                while under_way > UNDER_WAY {
                    under_way -= writes.next().await.transpose()?.unwrap_or(under_way);
                }
            }
        }
        while let Some(written) = writes.next().await {
            written?;
        }
        drop(writes);
        self.set(&handle).await?;
        self.sftp.close(&handle, &self.doing).await?;
        self.take_place(&beside).await
    }

    async fn link(self, target: RemotePath) -> Result<u64, SessionError> {
        let beside = self.beside();
        self.sftp.link(&beside, &target, &self.doing).await?;
        self.take_place(&beside).await?;
        Ok(0)
    }
}

/// Files that are not in their places yet. Dropped, they are removed from the host.
struct Leftovers {
    place: Arc<Place>,
    sftp: Arc<Sftp>,
    paths: Arc<Mutex<HashSet<RemotePath>>>,
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let paths = std::mem::take(&mut *self.paths.lock());
        // Without a runtime nothing can be done.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if paths.is_empty() || self.sftp.is_over() {
            return;
        }
        // On the same channel, so that it comes after what is still under way there.
        let sftp = Arc::clone(&self.sftp);
        let clearing = async move {
            for path in paths {
                drop(sftp.remove(&path, "could not clear away a part of a file").await);
            }
        };
        let clearing = self.place.tracker.track_future(tokio::time::timeout(CLEARING, clearing));
        drop(runtime.spawn(clearing));
    }
}
