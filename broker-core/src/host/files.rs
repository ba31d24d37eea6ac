//! Files to and from a host, and between hosts.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::{Host, PIECES};
use crate::error::{Error, Result};
use crate::session::local::{self, TreeWriter};
use crate::session::{EntryKind, RemotePath, SessionError, SessionErrorKind, TreeEntry, TreeItem};

/// How large a piece of a file is, in bytes.
const PIECE: usize = 256 * 1024;

impl Host {
    /// Writes a file, whole. Missing directories are made; a file that is there is replaced.
    ///
    /// # Errors
    ///
    /// If it could not be written.
    pub async fn write(&self, to: impl Into<RemotePath>, contents: impl Into<Bytes>) -> Result<()> {
        self.write_with_mode(to, contents, 0o644).await
    }

    /// As [`write`](Self::write), with the permission bits of the file.
    ///
    /// # Errors
    ///
    /// If it could not be written.
    pub async fn write_with_mode(
        &self,
        to: impl Into<RemotePath>,
        contents: impl Into<Bytes>,
        mode: u32,
    ) -> Result<()> {
        let (to, contents) = (to.into(), contents.into());
        self.on_session("writing a file", move |session| async move {
            let (sender, items) = mpsc::channel(PIECES);
            let now = jiff::Timestamp::now().as_second().max(0).unsigned_abs();
            let kind = EntryKind::File { size: contents.len() as u64 };
            let entry = TreeEntry { path: RemotePath::from(""), kind, mode, modified: now };
            let send = async move {
                let mut rest = contents;
                let mut open = sender.send(TreeItem::Entry(entry)).await.is_ok();
                while open && !rest.is_empty() {
                    let piece = rest.split_to(rest.len().min(PIECE));
                    open = sender.send(TreeItem::Data(piece)).await.is_ok();
                }
            };
            tokio::join!(session.put(&to, items), send).0
        })
        .await
    }

    /// Reads a file, whole.
    ///
    /// # Errors
    ///
    /// If it is not there, cannot be read, or is no file.
    pub async fn read(&self, from: impl Into<RemotePath>) -> Result<Bytes> {
        let from = from.into();
        self.on_session("reading a file", move |session| async move {
            let (sender, mut items) = mpsc::channel(PIECES);
            let collect = async {
                let mut contents = Vec::new();
                let mut no_file = false;
                while let Some(item) = items.recv().await {
                    match item {
                        TreeItem::Entry(entry) if !matches!(entry.kind, EntryKind::File { .. }) => {
                            no_file = true;
                            break;
                        }
                        TreeItem::Entry(_) => {}
                        TreeItem::Data(bytes) => contents.extend_from_slice(&bytes),
                    }
                }
                drop(items);
                if no_file { None } else { Some(Bytes::from(contents)) }
            };
            let (outcome, contents) = tokio::join!(session.get(&from, sender), collect);
            outcome?;
            contents.ok_or_else(|| SessionError::new(SessionErrorKind::Failed, format!("`{from}` is no file")))
        })
        .await
    }

    /// Copies a file or a directory of this machine to the host, with modes, times and symbolic links.
    ///
    /// A target that ends in `/` is the directory that the source goes into.
    ///
    /// # Errors
    ///
    /// If anything could not be read here or written there.
    pub async fn put(&self, from: impl AsRef<Path>, to: impl Into<RemotePath>) -> Result<()> {
        self.transfer().put(from, to).await
    }

    /// Copies a file or a directory of the host to this machine, with modes, times and symbolic links.
    ///
    /// A target that ends in `/`, or is a directory, is what the source goes into.
    ///
    /// # Errors
    ///
    /// If anything could not be read there or written here. A file that came only in part is not left behind.
    pub async fn get(&self, from: impl Into<RemotePath>, to: impl Into<PathBuf>) -> Result<()> {
        self.transfer().get(from, to).await
    }

    /// Copies a file or a directory to another host, through this machine's memory and not its disk. To another place on
    /// the same host it goes through a temporary folder here: an engine that sends a tree of a container does nothing
    /// else with that until it is done.
    ///
    /// # Errors
    ///
    /// If anything could not be read there or written on the other host.
    pub async fn copy_to(&self, from: impl Into<RemotePath>, other: &Self, to: impl Into<RemotePath>) -> Result<()> {
        self.transfer().copy_to(from, other, to).await
    }

    /// A transfer that tells how far it has come.
    ///
    /// ```no_run
    /// # async fn example(host: broker_core::Host) -> broker_core::Result<()> {
    /// host.transfer().on_progress(|so_far| println!("{} bytes", so_far.bytes)).put("image.raw", "/srv/").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn transfer(&self) -> Transfer<'_> {
        Transfer { host: self, tell: None }
    }
}

/// How far a transfer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Transferred {
    /// How many bytes of files were read at the source. What is on its way, a few megabytes at the most, is among them.
    pub bytes: u64,
    /// How many files were begun.
    pub files: u64,
    /// How many bytes there are in all, where that is known before: of what comes from this machine, and of one file.
    pub total: Option<u64>,
}

/// Files on their way to or from a host; from [`Host::transfer`].
#[must_use = "nothing moves before one of its methods is awaited"]
pub struct Transfer<'a> {
    host: &'a Host,
    tell: Option<Box<dyn FnMut(Transferred) + Send + 'a>>,
}

impl<'a> Transfer<'a> {
    /// Calls `tell` now and then, and at the end of a transfer that went well. It runs on the caller, and holds up
    /// nothing: what it is too slow for is left out.
    pub fn on_progress(self, tell: impl FnMut(Transferred) + Send + 'a) -> Self {
        Self { tell: Some(Box::new(tell)), ..self }
    }

    /// As [`Host::put`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn put(self, from: impl AsRef<Path>, to: impl Into<RemotePath>) -> Result<()> {
        let from = from.as_ref().to_owned();
        let to = into_directory(to.into(), from.file_name());
        let (mut meter, so_far) = Meter::new();
        let is_watched = self.tell.is_some();
        let moving = self.host.on_session("putting files", move |session| async move {
            let (sender, items) = mpsc::channel(PIECES);
            let reading = tokio::task::spawn_blocking(move || {
                if is_watched {
                    meter.expect(size_of(&from));
                }
                local::read_tree(&from, |item| {
                    meter.count(&item);
                    match sender.blocking_send(item) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    }
                })
            });
            let written = session.put(&to, items).await;
            // A reader that failed is why the writer failed, so its error is the one to tell.
            joined(reading.await)??;
            written
        });
        watch(moving, so_far, self.tell).await
    }

    /// As [`Host::get`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn get(self, from: impl Into<RemotePath>, to: impl Into<PathBuf>) -> Result<()> {
        let (from, mut to) = (from.into(), to.into());
        if (to.is_dir() || to.as_os_str().as_encoded_bytes().ends_with(b"/"))
            && let Some(name) = from.file_name()
        {
            to.push(name);
        }
        let (mut meter, so_far) = Meter::new();
        let moving = self.host.on_session("getting files", move |session| async move {
            let (sender, mut items) = mpsc::channel(PIECES);
            let writing = tokio::task::spawn_blocking(move || {
                let mut writer = TreeWriter::new(to);
                while let Some(item) = items.blocking_recv() {
                    meter.count(&item);
                    writer.write(item)?;
                }
                Ok::<_, SessionError>(writer)
            });
            let read = session.get(&from, sender).await;
            let writer = joined(writing.await)??;
            read?;
            joined(tokio::task::spawn_blocking(move || writer.finish()).await)?
        });
        watch(moving, so_far, self.tell).await
    }

    /// As [`Host::copy_to`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn copy_to(self, from: impl Into<RemotePath>, other: &Host, to: impl Into<RemotePath>) -> Result<()> {
        let from = from.into();
        let to = into_directory(to.into(), from.file_name());
        if other.id() == self.host.id() {
            let folder = tempfile::tempdir().map_err(|error| {
                let message = "could not make a folder for what is copied";
                Error::session(self.host, SessionError::new(SessionErrorKind::Local, message).source(error))
            })?;
            let copy = folder.path().join("copy");
            self.host.get(from, &copy).await?;
            return self.put(copy, to).await;
        }
        let target = other.session().await?;
        let (mut meter, so_far) = Meter::new();
        let moving = self.host.on_session("copying files", move |session| async move {
            let (sender, mut read) = mpsc::channel::<TreeItem>(PIECES);
            let (write, items) = mpsc::channel(PIECES);
            let relay = async move {
                while let Some(item) = read.recv().await {
                    meter.count(&item);
                    if write.send(item).await.is_err() {
                        break;
                    }
                }
            };
            let (read, (), written) = tokio::join!(session.get(&from, sender), relay, target.put(&to, items));
            read.and(written)
        });
        watch(moving, so_far, self.tell).await
    }
}

impl fmt::Debug for Transfer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").field("host", self.host).finish_non_exhaustive()
    }
}

/// Counts what goes by.
struct Meter(watch::Sender<Transferred>);

impl Meter {
    fn new() -> (Self, watch::Receiver<Transferred>) {
        let (sender, receiver) = watch::channel(Transferred::default());
        (Self(sender), receiver)
    }

    fn expect(&mut self, total: Option<u64>) {
        self.0.send_modify(|so_far| so_far.total = total);
    }

    fn count(&mut self, item: &TreeItem) {
        self.0.send_modify(|so_far| match item {
            TreeItem::Entry(TreeEntry { kind: EntryKind::File { size }, path, .. }) => {
                so_far.files += 1;
                if path.as_bytes().is_empty() {
                    so_far.total = Some(*size);
                }
            }
            TreeItem::Entry(_) => {}
            TreeItem::Data(bytes) => so_far.bytes += bytes.len() as u64,
        });
    }
}

/// Tells how far a transfer has come, for as long as it takes.
async fn watch(
    moving: impl Future<Output = Result<()>>,
    mut so_far: watch::Receiver<Transferred>,
    tell: Option<Box<dyn FnMut(Transferred) + Send + '_>>,
) -> Result<()> {
    let Some(mut tell) = tell else { return moving.await };
    let mut moving = std::pin::pin!(moving);
    let mut counting = true;
    loop {
        tokio::select! {
            biased;
            changed = so_far.changed(), if counting => match changed {
                Ok(()) => tell(*so_far.borrow_and_update()),
                // All is read; what is left is its way to the other side.
                Err(_) => counting = false,
            },
            outcome = &mut moving => {
                if outcome.is_ok() {
                    tell(*so_far.borrow());
                }
                return outcome;
            }
        }
    }
}

/// How many bytes the files of a tree have. What cannot be read is found by whoever reads it.
fn size_of(root: &Path) -> Option<u64> {
    let found = std::fs::symlink_metadata(root).ok()?;
    if !found.is_dir() {
        return Some(if found.is_file() { found.len() } else { 0 });
    }
    let entries = std::fs::read_dir(root).ok()?;
    Some(entries.flatten().filter_map(|entry| size_of(&entry.path())).sum())
}

fn into_directory(to: RemotePath, name: Option<&std::ffi::OsStr>) -> RemotePath {
    match name {
        Some(name) if to.is_directory_like() => to.join(name),
        _ => to,
    }
}

fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> Result<T, SessionError> {
    outcome.map_err(|error| SessionError::new(SessionErrorKind::Local, "the transfer was cut off").source(error))
}
