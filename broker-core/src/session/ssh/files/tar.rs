//! Trees by the host's own `tar`, for servers without `sftp`.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::super::connection::{Channel, FromRemote, Start, ToRemote};
use super::super::line::scripted;
use super::incoming::Incoming;
use super::{Place, parent};
use crate::id::HostId;
use crate::session::archive::{self, Entry, Kind, Ownership, Reader, below, normal};
use crate::session::{EntryKind, ExitStatus, RemotePath, SessionError, SessionErrorKind, TreeEntry, TreeItem};

/// Sees to it that `$1`, which is in directory `$2`, can be written: as the directory that `$3` says, or as a file. Exits
/// with 10 where the directory is there already.
const MAKE_ROOM: &str = r#"if [ "$3" = directory ]; then
    [ -d "$1" ] && exit 10
    [ -e "$1" ] || [ -L "$1" ] && exit 11
    mkdir -p -- "$2" && mkdir -- "$1"
else
    [ -d "$1" ] && ! [ -L "$1" ] && exit 12
    mkdir -p -- "$2"
fi"#;

/// Unpacks what there is in directory `$1`.
const UNPACK: &str = r#"cd -- "$1" && exec tar -xpf -"#;

/// Unpacks `$2` in directory `$1`, and moves it to its place `$3` when it is whole.
const UNPACK_BESIDE: &str = r#"cd -- "$1" || exit 1
trap 'rm -f -- "$2"' EXIT
trap 'exit 1' HUP INT TERM PIPE
tar -xpf - || exit 1
mv -f -T -- "$2" "$3" 2>/dev/null && exit
[ -L "$3" ] && rm -f -- "$3"
[ ! -d "$3" ] && mv -f -- "$2" "$3""#;

/// Packs `$2` of directory `$1`.
const PACK: &str = r#"cd -- "$1" 2>/dev/null || exit 44
[ -e "$2" ] || [ -L "$2" ] || exit 44
exec tar -cf - "$2""#;

/// What the owner of a directory needs to write in it.
const OWN: u32 = 0o700;

/// The most that is kept of what a command says on its standard error.
const MOST_WORDS: usize = 4096;

pub(super) async fn put(place: &Place, to: &RemotePath, items: mpsc::Receiver<TreeItem>) -> Result<(), SessionError> {
    let doing = format!("could not write `{to}`");
    let (root, mut incoming) = Incoming::begin(items, to, &place.label).await?;
    let directory = root.kind == EntryKind::Directory;
    let above = parent(to);
    let what = RemotePath::from(if directory { "directory" } else { "file" });
    let mut room = Running::start(place, MAKE_ROOM, &[to, &above, &what]).await?;
    let status = room.end().await?;
    let there = match (status.code(), directory) {
        (0, _) => false,
        (10, true) => true,
        (11, true) => return Err(place.refused(&doing, "it exists, and is no directory")),
        (12, false) => return Err(place.refused(&doing, "it is a directory")),
        _ => return Err(room.failed(place, &doing)),
    };
    let beside = RemotePath::from(format!(".broker-{}", HostId::generate()));
    let mut running = if directory {
        Running::start(place, UNPACK, &[to]).await?
    } else {
        let name = to.file_name().map(RemotePath::from).unwrap_or_else(|| to.clone());
        Running::start(place, UNPACK_BESIDE, &[&above, &beside, &name]).await?
    };
    let prefix = if directory { RemotePath::from(".") } else { beside };
    let sender = running.input.clone();
    let packing = async {
        let mut next = Some(root);
        let (mut directories, mut links) = (Vec::new(), false);
        while let Some(entry) = next {
            // A directory that is there already keeps its own mode and time.
            let skipped = there && entry.path.as_bytes().is_empty();
            let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
            if !skipped {
                let mut entry = packed(&prefix, entry);
                if entry.kind == Kind::Directory {
                    directories.push(entry.clone());
                    entry.mode |= OWN;
                }
                links |= entry.kind == Kind::Symlink;
                give(&sender, archive::header(&entry, Ownership::default())).await;
            }
            while let Some(piece) = incoming.data().await? {
                give(&sender, piece).await;
            }
            give(&sender, archive::padding(size)).await;
            next = incoming.entry().await?;
        }
        finish(&sender, &directories).await;
        Ok::<_, SessionError>(if links { directories } else { Vec::new() })
    };
    let (packed, status) = tokio::join!(
        async {
            let packed = packing.await;
            if packed.is_err() {
                // Half an archive is none: what was unpacked beside its place is removed there.
                drop(sender.send(ToRemote::Eof).await);
            }
            packed
        },
        running.end(),
    );
    let directories = packed?;
    if !status?.success() {
        return Err(running.failed(place, &doing));
    }
    if directories.is_empty() {
        return Ok(());
    }
    // BusyBox makes links last of all, which changes the times of the directories that they are in.
    let mut again = Running::start(place, UNPACK, &[to]).await?;
    finish(&again.input.clone(), &directories).await;
    if again.end().await?.success() { Ok(()) } else { Err(again.failed(place, &doing)) }
}

/// Gives directories their modes and times, now that all is in them, and ends the archive: BusyBox does at once what an
/// entry says.
async fn finish(to: &mpsc::Sender<ToRemote>, directories: &[Entry]) {
    for directory in directories.iter().rev() {
        give(to, archive::header(directory, Ownership::default())).await;
    }
    give(to, archive::end()).await;
    drop(to.send(ToRemote::Eof).await);
}

/// A command that takes no more has ended, and says itself why.
async fn give(to: &mpsc::Sender<ToRemote>, piece: Bytes) {
    if !piece.is_empty() {
        drop(to.send(ToRemote::Data(piece)).await);
    }
}

fn packed(prefix: &RemotePath, entry: TreeEntry) -> Entry {
    let (kind, target, size) = match entry.kind {
        EntryKind::File { size } => (Kind::File, Vec::new(), size),
        EntryKind::Directory => (Kind::Directory, Vec::new(), 0),
        EntryKind::Symlink { target } => (Kind::Symlink, target.as_bytes().to_vec(), 0),
    };
    let path = if entry.path.as_bytes().is_empty() { prefix.clone() } else { prefix.join(entry.path.as_path()) };
    Entry { path: path.as_bytes().to_vec(), kind, target, size, mode: entry.mode, modified: entry.modified }
}

pub(super) async fn get(place: &Place, from: &RemotePath, items: mpsc::Sender<TreeItem>) -> Result<(), SessionError> {
    // Names of files that were packed before, under another name.
    for (path, target) in unpack(place, from, &[], &items).await? {
        let target = if target.is_empty() { from.clone() } else { from.join(RemotePath::from_bytes(target).as_path()) };
        unpack(place, &target, &path, &items).await?;
    }
    Ok(())
}

/// Hands over a tree, its root under the name `root`. Returns what is only another name of something else in the tree, and
/// what it is a name of.
async fn unpack(
    place: &Place,
    from: &RemotePath,
    root: &[u8],
    items: &mpsc::Sender<TreeItem>,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, SessionError> {
    let doing = format!("could not read `{from}`");
    let (above, name) = match from.file_name() {
        // In front of a name that may begin with a dash.
        Some(name) => (parent(from), RemotePath::from("./").join(name)),
        None => (from.clone(), RemotePath::from(".")),
    };
    let top = normal(name.as_bytes());
    let mut running = Running::start(place, PACK, &[&above, &name]).await?;
    let mut links = Vec::new();
    let outcome = async {
        let mut archive = Reader::new(running.pieces());
        while let Some(entry) = archive.entry().await? {
            let Some(mut path) = below(&top, &normal(&entry.path)) else { continue };
            if !root.is_empty() {
                path = root.to_vec();
            }
            let kind = match entry.kind {
                Kind::File => EntryKind::File { size: entry.size },
                Kind::Directory => EntryKind::Directory,
                Kind::Symlink => EntryKind::Symlink { target: RemotePath::from_bytes(entry.target) },
                Kind::Link => {
                    links.extend(below(&top, &normal(&entry.target)).map(|target| (path, target)));
                    continue;
                }
                // Pipes and devices have no contents to take.
                Kind::Other => continue,
            };
            let path = RemotePath::from_bytes(path);
            let entry = TreeEntry { path, kind, mode: entry.mode, modified: entry.modified };
            if items.send(TreeItem::Entry(entry)).await.is_err() {
                return Ok(false);
            }
            while let Some(piece) = archive.data().await? {
                if items.send(TreeItem::Data(piece)).await.is_err() {
                    return Ok(false);
                }
            }
        }
        Ok::<_, io::Error>(true)
    }
    .await;
    match outcome {
        Ok(false) => return Ok(Vec::new()),
        Ok(true) => {}
        // Where the command has something to say, that is the reason.
        Err(error) => match running.end().await {
            Ok(status) if status.success() => {
                let message = format!("{doing} on host `{}`: the archive broke off", place.label);
                return Err(SessionError::new(SessionErrorKind::Failed, message).source(error));
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        },
    }
    match running.end().await?.code() {
        0 => Ok(links),
        44 => {
            let message = format!("{doing} on host `{}`: it does not exist", place.label);
            Err(SessionError::new(SessionErrorKind::NotFound, message))
        }
        _ => Err(running.failed(place, &doing)),
    }
}

impl Place {
    fn refused(&self, doing: &str, why: &str) -> SessionError {
        SessionError::new(SessionErrorKind::Failed, format!("{doing} on host `{}`: {why}", self.label))
    }
}

/// A command of ours on the host.
struct Running {
    label: String,
    input: mpsc::Sender<ToRemote>,
    output: Arc<tokio::sync::Mutex<mpsc::Receiver<FromRemote>>>,
    heard: Arc<Mutex<Heard>>,
}

/// What a command has said beside its output.
#[derive(Default)]
struct Heard {
    words: Vec<u8>,
    status: Option<ExitStatus>,
    broken: Option<SessionError>,
}

impl Running {
    async fn start(place: &Place, script: &str, paths: &[&RemotePath]) -> Result<Self, SessionError> {
        let line = scripted(script, paths);
        let Channel { input, output, .. } = place.connection.open(Start::Exec { line, pty: None }).await?;
        let output = Arc::new(tokio::sync::Mutex::new(output));
        Ok(Self { label: place.label.clone(), input, output, heard: Arc::default() })
    }

    /// What it prints, until its end.
    fn pieces(&self) -> impl Stream<Item = io::Result<Bytes>> + Unpin + use<> {
        let state = (Arc::clone(&self.output), Arc::clone(&self.heard));
        Box::pin(stream::unfold(state, |(output, heard)| async move {
            let piece = next(&output, &heard).await?;
            Some((Ok(piece), (output, heard)))
        }))
    }

    /// How it ended. What it still prints is thrown away.
    async fn end(&mut self) -> Result<ExitStatus, SessionError> {
        while next(&self.output, &self.heard).await.is_some() {}
        let mut heard = self.heard.lock();
        match (heard.broken.take(), heard.status.clone()) {
            (Some(error), _) => Err(error),
            (None, Some(status)) => Ok(status),
            (None, None) => {
                let message = format!("host `{}` did not say how a transfer of files ended", self.label);
                Err(SessionError::new(SessionErrorKind::Unreachable, message))
            }
        }
    }

    /// The error of a command that failed, in its own words.
    fn failed(&self, place: &Place, doing: &str) -> SessionError {
        let heard = self.heard.lock();
        let words = String::from_utf8_lossy(&heard.words);
        let words = words.trim();
        let kind = if words.contains("Permission denied") || words.contains("Read-only file system") {
            SessionErrorKind::Permission
        } else if words.contains("tar: not found") || words.contains("tar: command not found") {
            SessionErrorKind::Unsupported
        } else {
            SessionErrorKind::Failed
        };
        let line = words.lines().next().unwrap_or("`tar` failed");
        let message = format!("{doing} on host `{}`: {line}", place.label);
        SessionError::new(kind, message)
    }
}

/// The next piece of a command's standard output.
async fn next(output: &tokio::sync::Mutex<mpsc::Receiver<FromRemote>>, heard: &Mutex<Heard>) -> Option<Bytes> {
    let mut output = output.lock().await;
    while let Some(piece) = output.recv().await {
        let mut heard = heard.lock();
        match piece {
            FromRemote::Stdout(bytes) => return Some(bytes),
            FromRemote::Stderr(bytes) => {
                let room = MOST_WORDS.saturating_sub(heard.words.len());
                heard.words.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
            }
            FromRemote::Ended(status) => heard.status = Some(status),
            FromRemote::Broken(error) => heard.broken = Some(error),
        }
    }
    None
}
