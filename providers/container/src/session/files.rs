//! Files in a container, by the engine's archives. Works on containers that have stopped, too.
//!
//! Protocol: `PUT`, `GET` and `HEAD` of `/containers/ID/archive`,
//! <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/PutContainerArchive>.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bollard::errors::Error as ApiError;
use bollard::query_parameters as query;
use broker_core::HostId;
use broker_core::session::archive::{self, Entry, Kind, Ownership, Reader, below, normal};
use broker_core::session::{EntryKind, RemotePath, SessionError, SessionErrorKind, TreeEntry, TreeItem};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::exec::collect;
use super::{ContainerSession, Target};
use crate::engine::error::{answer, is_missing};

/// How long the engine may take nothing, or give nothing, in the middle of an archive.
const STALL: Duration = Duration::from_secs(120);

/// After which pauses what was left of a file is removed.
const LEFTOVER_PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_secs(1)];

/// The bits of a file's mode as Go writes it.
const GO_DIRECTORY: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum There {
    Nothing,
    Directory,
    /// A symbolic link, and what it points to in the end.
    Symlink(String),
    /// A file, or something else that is neither.
    File,
}

fn error(kind: SessionErrorKind, message: String) -> SessionError {
    SessionError::new(kind, message)
}

impl ContainerSession {
    fn label(&self) -> &str {
        &self.target.label
    }

    /// A path in the way the engine wants it: absolute, without a slash at its end, valid UTF-8.
    fn absolute(&self, path: &[u8]) -> Result<String, SessionError> {
        let text = std::str::from_utf8(path).map_err(|_| {
            let shown = String::from_utf8_lossy(path);
            let message = format!("the engine takes no path that is not UTF-8, such as `{shown}`; name its directory");
            error(SessionErrorKind::Unsupported, message)
        })?;
        if text.is_empty() || text.contains('\0') {
            return Err(error(SessionErrorKind::NotFound, format!("`{text}` is no path")));
        }
        let joined = if text.starts_with('/') { text.to_owned() } else { format!("{}/{text}", self.directory) };
        let trimmed = joined.trim_end_matches('/');
        let absolute = if trimmed.is_empty() { "/" } else { trimmed };
        let inside = |hidden: &&String| {
            absolute.strip_prefix(hidden.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(hidden) = self.hidden.iter().find(inside) {
            return Err(error(
                SessionErrorKind::Unsupported,
                format!(
                    "`{absolute}` in container `{}` is below `{hidden}`, which exists only while the container runs, and \
                     which the engine's copying does not reach; use a command instead",
                    self.label()
                ),
            ));
        }
        Ok(absolute.to_owned())
    }

    /// A path as the engine takes it for itself: Podman takes it for a pattern.
    fn spelled(&self, path: &str) -> String {
        let special = |character: char| self.podman && matches!(character, '\\' | '?' | '[');
        path.chars().flat_map(|character| special(character).then_some('\\').into_iter().chain([character])).collect()
    }

    async fn look(&self, path: &str) -> Result<There, SessionError> {
        let options = query::ContainerArchiveInfoOptions { path: self.spelled(path) };
        let engine = &self.target.engine;
        match engine.docker().get_container_archive_info(&self.target.id, Some(options)).await {
            Ok(stat) if stat.file_mode & GO_DIRECTORY != 0 => Ok(There::Directory),
            Ok(stat) if stat.file_mode & GO_SYMLINK != 0 => Ok(There::Symlink(stat.link_target)),
            Ok(_) => Ok(There::File),
            Err(ApiError::Base64DecodeError { .. }) => self.look_by_command(path).await,
            // An answer to HEAD has no words in it. Docker says 500 where a file stands in the way.
            Err(refused) if is_missing(&refused) || matches!(answer(&refused), Some((500, _))) => {
                match engine.inspect(&self.target.id).await {
                    Ok(_) => Ok(There::Nothing),
                    Err(gone) => Err(self.target.failed(&format!("could not look at `{path}`"), &gone)),
                }
            }
            Err(refused) => Err(self.target.failed(&format!("could not look at `{path}`"), &refused)),
        }
    }

    /// What is at a path that is there: Podman tells in an alphabet that the library does not read.
    async fn look_by_command(&self, path: &str) -> Result<There, SessionError> {
        let script = "if [ -L \"$1\" ]; then readlink -f -- \"$1\"; elif [ -d \"$1\" ]; then exit 11; else exit 12; fi";
        let words = ["/bin/sh", "-c", script, "sh", path];
        let stalled =
            || error(SessionErrorKind::Timeout, format!("could not look at `{path}`: the shell does not answer"));
        let done =
            tokio::time::timeout(STALL, collect(&self.target, &words, Some("0"))).await.map_err(|_| stalled())??;
        Ok(match done.code {
            11 => There::Directory,
            12 => There::File,
            _ => There::Symlink(String::from_utf8_lossy(&done.stdout).trim_end_matches('\n').to_owned()),
        })
    }

    /// The same, at the end of a symbolic link.
    async fn look_through(&self, path: &str) -> Result<There, SessionError> {
        match self.look(path).await? {
            There::Symlink(target) if target.is_empty() || target == path => Ok(There::Nothing),
            There::Symlink(target) => self.look(&target).await,
            there => Ok(there),
        }
    }

    /// Whose new files are: the user's that commands run as.
    async fn owner(&self) -> Ownership {
        *self
            .owner
            .get_or_init(|| async {
                if matches!(self.user.as_str(), "" | "root" | "0" | "root:root" | "0:0") {
                    return Ownership::default();
                }
                let words = ["/bin/sh", "-c", "id -u && id -g"];
                let asked = tokio::time::timeout(STALL, collect(&self.target, &words, None)).await;
                let text = match asked {
                    Ok(Ok(done)) if done.code == 0 => String::from_utf8_lossy(&done.stdout).into_owned(),
                    // A stopped container, or one without a shell: perhaps the image itself has numbers.
                    _ => self.user.replace(':', " "),
                };
                let mut numbers = text.split_ascii_whitespace().map_while(|word| word.parse().ok());
                let user = numbers.next().unwrap_or_default();
                Ownership { user, group: numbers.next().unwrap_or_default() }
            })
            .await
    }

    pub(super) async fn put_tree(
        &self,
        to: &RemotePath,
        mut items: mpsc::Receiver<TreeItem>,
    ) -> Result<(), SessionError> {
        let absolute = self.absolute_parent(to)?;
        let label = self.label();
        let root = match items.recv().await {
            Some(TreeItem::Entry(entry)) if entry.path.as_bytes().is_empty() => entry,
            _ => {
                let message = format!("nothing was given to be written to `{to}` in container `{label}`");
                return Err(error(SessionErrorKind::Local, message));
            }
        };
        let directory = root.kind == EntryKind::Directory;
        let refuse = |what: &str| {
            let message = format!("could not write `{to}` in container `{label}`: {what}");
            Err(error(SessionErrorKind::Failed, message))
        };
        // What is there decides what must be made. The archive itself is always for `/`: Docker takes a relative link that
        // leads out of the directory that an archive is for as an attempt to break out.
        let there = match absolute.whole() {
            Some(path) if directory => self.look_through(&path).await?,
            Some(path) => self.look(&path).await?,
            None => There::Nothing,
        };
        let whole = absolute.whole();
        let (base, mut name, missing) = match there {
            There::Directory if directory => (absolute.whole().unwrap_or_default(), Vec::new(), Vec::new()),
            There::Directory => return refuse("it is a directory"),
            There::File | There::Symlink(_) if directory => return refuse("it exists, and is no directory"),
            There::File | There::Symlink(_) => (absolute.parent, absolute.name, Vec::new()),
            There::Nothing => {
                let mut base = absolute.parent;
                let mut missing = Vec::new();
                loop {
                    match self.look_through(&base).await? {
                        There::Directory => break,
                        There::Nothing if base != "/" => {
                            let (above, name) = base.rsplit_once('/').unwrap_or_default();
                            missing.push(name.to_owned());
                            base = if above.is_empty() { "/".to_owned() } else { above.to_owned() };
                        }
                        _ => return refuse(&format!("`{base}` is no directory")),
                    }
                }
                missing.reverse();
                (base, absolute.name, missing)
            }
        };
        // The engine writes in place. So that nobody sees half a file it is written beside its place and moved there.
        let mut beside = None;
        if let Some(whole) = whole.filter(|_| !directory)
            && self.can_move().await
        {
            name = format!(".broker-{}", HostId::generate()).into_bytes();
            let above = whole.rsplit_once('/').map_or("", |(above, _)| above);
            let from = format!("{above}/{}", String::from_utf8_lossy(&name));
            beside = Some((Leftover { target: self.target.clone(), path: from, tracker: self.running.clone() }, whole));
        }
        let mut place = base.trim_start_matches('/').as_bytes().to_vec();
        let mut queue = VecDeque::new();
        let owner = self.owner().await;
        for name in missing {
            descend(&mut place, name.as_bytes());
            queue.push_back(archive::header(&new_directory(place.clone()), owner));
        }
        descend(&mut place, &name);
        let pulse = Arc::new(Pulse::default());
        let mut feed = Feed { items, queue, prefix: place, owner, left: 0, ended: false, pulse: Arc::clone(&pulse) };
        // A directory that is there already keeps its own mode and time.
        if !name.is_empty() {
            feed.entry(root).map_err(|problem| error(SessionErrorKind::Local, problem))?;
        }
        self.upload(to, feed, &pulse).await?;
        match beside {
            Some((leftover, whole)) => self.take_place(to, leftover, &whole).await,
            None => Ok(()),
        }
    }

    /// Whether files can be moved: not in a container that has stopped, or has no shell.
    async fn can_move(&self) -> bool {
        let words = ["/bin/sh", "-c", "command -v mv"];
        let ask = || async { tokio::time::timeout(STALL, collect(&self.target, &words, Some("0"))).await };
        *self.moves.get_or_init(|| async { matches!(ask().await, Ok(Ok(done)) if done.code == 0) }).await
    }

    /// Moves a file that is whole to its place.
    async fn take_place(&self, to: &RemotePath, leftover: Leftover, whole: &str) -> Result<(), SessionError> {
        // A link to a directory stands for itself, which not every `mv` knows.
        let script = "mv -f -T -- \"$1\" \"$2\" 2>/dev/null && exit; [ -L \"$2\" ] && rm -f -- \"$2\"; \
                      [ ! -d \"$2\" ] && mv -f -- \"$1\" \"$2\"";
        let words = ["/bin/sh", "-c", script, "sh", &leftover.path, whole];
        let refuse = |kind, why: &str| {
            Err(error(kind, format!("could not write `{to}` in container `{}`: {why}", self.label())))
        };
        match tokio::time::timeout(STALL, collect(&self.target, &words, Some("0"))).await {
            Ok(Ok(done)) if done.code == 0 => {
                leftover.moved();
                Ok(())
            }
            Ok(Ok(_)) => refuse(SessionErrorKind::Failed, "it could not be moved to its place"),
            Ok(Err(error)) => Err(error),
            Err(_) => refuse(SessionErrorKind::Timeout, "the shell does not answer"),
        }
    }

    async fn upload(&self, to: &RemotePath, feed: Feed, pulse: &Pulse) -> Result<(), SessionError> {
        let options = query::UploadToContainerOptions {
            path: "/".to_owned(),
            no_overwrite_dir_non_dir: Some("1".to_owned()),
            ..Default::default()
        };
        let body = bollard::body_try_stream(feed.pieces());
        let sending = self.target.engine.patient.upload_to_container(&self.target.id, Some(options), body);
        let doing = format!("could not write `{to}`");
        let refused = tokio::select! {
            sent = sending => match sent {
                Ok(()) => return Ok(()),
                Err(refused) => self.target.failed(&doing, &refused),
            },
            () = pulse.stalled(STALL) => {
                let message = format!("{doing} in container `{}`: the engine takes no more", self.label());
                error(SessionErrorKind::Timeout, message)
            }
        };
        // Where the tree broke off, that is the cause of whatever the engine says.
        match pulse.problem.lock().take() {
            Some(problem) => Err(error(SessionErrorKind::Local, format!("{doing}: {problem}"))),
            None => Err(refused),
        }
    }

    pub(super) async fn get_tree(&self, from: &RemotePath, items: mpsc::Sender<TreeItem>) -> Result<(), SessionError> {
        let path = self.absolute(from.as_bytes())?;
        if self.podman && path.contains('*') {
            let message = format!("Podman takes no path with a `*` in it, such as `{path}`; name its directory");
            return Err(error(SessionErrorKind::Unsupported, message));
        }
        // Podman follows a link at the top, where Docker gives the link.
        if self.podman && matches!(self.look(&path).await?, There::Symlink(_) | There::Nothing) {
            let words = ["readlink", "-n", "--", &path];
            let asked = tokio::time::timeout(STALL, collect(&self.target, &words, Some("0"))).await;
            if let Ok(Ok(done)) = asked
                && done.code == 0
            {
                let target = RemotePath::from_bytes(done.stdout);
                let kind = EntryKind::Symlink { target };
                let entry = TreeEntry { path: RemotePath::from(""), kind, mode: 0o777, modified: 0 };
                drop(items.send(TreeItem::Entry(entry)).await);
                return Ok(());
            }
        }
        let mut links = Vec::new();
        let mut archive = Reader::new(self.download(&path));
        let mut root: Option<Vec<u8>> = None;
        let doing = format!("could not read `{from}`");
        while let Some(entry) = self.read(&doing, archive.entry().await)? {
            let full = normal(&entry.path);
            let root = root.get_or_insert_with(|| full.clone());
            let Some(below) = below(root, &full) else { continue };
            if entry.kind == Kind::Link {
                links.push((below, below_target(root, &entry.target), entry));
            } else if !self.hand_over(&doing, &mut archive, entry, below, &items).await? {
                return Ok(());
            }
        }
        if root.is_none() {
            let message = format!("{doing} in container `{}`: the engine sent nothing", self.label());
            return Err(error(SessionErrorKind::Failed, message));
        }
        // Other names of a file become files of their own.
        for (name, target, link) in links {
            let Some(target) = target.and_then(|target| String::from_utf8(target).ok()) else {
                let shown = String::from_utf8_lossy(&name);
                tracing::warn!(path = %shown, "left out a hard link whose other name cannot be asked for.");
                continue;
            };
            let path = if target.is_empty() { path.clone() } else { format!("{path}/{target}") };
            let mut archive = Reader::new(self.download(&path));
            if let Some(entry) = self.read(&doing, archive.entry().await)? {
                let entry = Entry { mode: link.mode, ..entry };
                if !self.hand_over(&doing, &mut archive, entry, name, &items).await? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Sends an entry on with its contents. Whether anybody still wants more.
    async fn hand_over<S: Stream<Item = io::Result<Bytes>> + Unpin>(
        &self,
        doing: &str,
        archive: &mut Reader<S>,
        entry: Entry,
        below: Vec<u8>,
        items: &mpsc::Sender<TreeItem>,
    ) -> Result<bool, SessionError> {
        let kind = match entry.kind {
            Kind::File => EntryKind::File { size: entry.size },
            Kind::Directory => EntryKind::Directory,
            Kind::Symlink => EntryKind::Symlink { target: RemotePath::from_bytes(entry.target) },
            Kind::Link | Kind::Other => {
                let shown = String::from_utf8_lossy(&below);
                tracing::warn!(path = %shown, "left out what is neither a file, a directory nor a link");
                return Ok(!items.is_closed());
            }
        };
        let path = RemotePath::from_bytes(below);
        let entry = TreeEntry { path, kind, mode: entry.mode, modified: entry.modified };
        if items.send(TreeItem::Entry(entry)).await.is_err() {
            return Ok(false);
        }
        while let Some(piece) = self.read(doing, archive.data().await)? {
            if items.send(TreeItem::Data(piece)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn download(&self, path: &str) -> impl Stream<Item = io::Result<Bytes>> + Unpin + use<> {
        let options = query::DownloadFromContainerOptions { path: self.spelled(path) };
        let pieces = self.target.engine.docker().download_from_container(&self.target.id, Some(options));
        let pieces = Box::pin(pieces.map_err(io::Error::other));
        Box::pin(stream::unfold(pieces, |mut pieces| async {
            let piece = match tokio::time::timeout(STALL, pieces.next()).await {
                Ok(piece) => piece?,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            Some((piece, pieces))
        }))
    }

    /// What the archive gave, with a refusal of the engine in plain words.
    fn read<T>(&self, doing: &str, outcome: io::Result<T>) -> Result<T, SessionError> {
        let failed = match outcome {
            Ok(value) => return Ok(value),
            Err(failed) => failed,
        };
        let label = self.label();
        let refusal = failed.get_ref().and_then(|inner| inner.downcast_ref::<bollard::errors::Error>());
        Err(match refusal {
            Some(refusal) => match answer(refusal) {
                Some((_, words)) if words.contains("Could not find the file") || words.starts_with("no such file") => {
                    error(SessionErrorKind::NotFound, format!("{doing} in container `{label}`: it does not exist"))
                }
                Some((500, words)) if words.contains("not a directory") => {
                    let message = format!("{doing} in container `{label}`: a part of the path is no directory");
                    error(SessionErrorKind::NotFound, message)
                }
                _ => self.target.failed(doing, refusal),
            },
            None if failed.kind() == io::ErrorKind::TimedOut => {
                error(SessionErrorKind::Timeout, format!("{doing} in container `{label}`: the engine sends no more"))
            }
            None => {
                let message = format!("{doing} in container `{label}`: the archive broke off");
                error(SessionErrorKind::Failed, message).source(failed)
            }
        })
    }

    /// The path to write to, taken apart; its last part may be any bytes.
    fn absolute_parent(&self, to: &RemotePath) -> Result<Destination, SessionError> {
        let bytes = to.as_bytes();
        let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let trimmed = bytes.get(..end).unwrap_or_default();
        let cut = trimmed.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = match cut {
            None => (".".as_bytes(), trimmed),
            Some(0) => ("/".as_bytes(), trimmed.get(1..).unwrap_or_default()),
            Some(cut) => (trimmed.get(..cut).unwrap_or_default(), trimmed.get(cut + 1..).unwrap_or_default()),
        };
        if matches!(name, b"" | b"." | b"..") {
            // Something that can only be a directory that exists.
            let whole = self.absolute(if bytes.is_empty() { b"." } else { bytes })?;
            return Ok(Destination { parent: whole, name: Vec::new() });
        }
        let parent = if cut.is_none() { self.absolute(self.directory.as_bytes())? } else { self.absolute(parent)? };
        let destination = Destination { parent, name: name.to_vec() };
        if let Some(whole) = destination.whole() {
            // Refused for the same reasons as its directory would be.
            self.absolute(whole.as_bytes())?;
        }
        Ok(destination)
    }
}

/// A file that is not in its place yet. Dropped, it is removed from the container.
struct Leftover {
    target: Target,
    path: String,
    tracker: TaskTracker,
}

impl Leftover {
    /// It is in its place.
    fn moved(mut self) {
        self.path.clear();
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if self.path.is_empty() {
            return;
        }
        // Without a runtime nothing can be done.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (target, path) = (self.target.clone(), std::mem::take(&mut self.path));
        let removing = async move {
            // The engine may still be at it.
            for pause in LEFTOVER_PAUSES {
                tokio::time::sleep(pause).await;
                let words = ["/bin/sh", "-c", "rm -f -- \"$1\"", "sh", &path];
                drop(tokio::time::timeout(STALL, collect(&target, &words, Some("0"))).await);
            }
        };
        drop(runtime.spawn(self.tracker.track_future(removing)));
    }
}

/// A path to write to.
struct Destination {
    /// The directory it is in.
    parent: String,
    /// Its own name; empty where the directory itself is meant.
    name: Vec<u8>,
}

impl Destination {
    /// The whole path, where the engine can be asked for it.
    fn whole(&self) -> Option<String> {
        if self.name.is_empty() {
            return Some(self.parent.clone());
        }
        let name = std::str::from_utf8(&self.name).ok()?;
        Some(if self.parent == "/" { format!("/{name}") } else { format!("{}/{name}", self.parent) })
    }
}

/// Goes on to a part of a path in an archive.
fn descend(place: &mut Vec<u8>, name: &[u8]) {
    if !place.is_empty() && !name.is_empty() {
        place.push(b'/');
    }
    place.extend_from_slice(name);
}

fn new_directory(path: Vec<u8>) -> Entry {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Entry { path, kind: Kind::Directory, target: Vec::new(), size: 0, mode: 0o755, modified: now }
}

fn below_target(root: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    below(root, &normal(target))
}

/// Signs of life of a body that the engine takes, and why it broke off.
#[derive(Default)]
pub(crate) struct Pulse {
    beats: AtomicU64,
    /// Whether it is we who have nothing to give.
    waiting: AtomicBool,
    problem: Mutex<Option<String>>,
}

impl Pulse {
    /// Another piece is on its way.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Completes when the engine has taken nothing for so long.
    pub(crate) async fn stalled(&self, limit: Duration) {
        loop {
            let before = self.beats.load(Ordering::Relaxed);
            tokio::time::sleep(limit).await;
            if before == self.beats.load(Ordering::Relaxed) && !self.waiting.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// A tree on its way into an archive.
struct Feed {
    items: mpsc::Receiver<TreeItem>,
    queue: VecDeque<Bytes>,
    /// Where the tree's root goes, without the slash at the front.
    prefix: Vec<u8>,
    owner: Ownership,
    /// How much of the present file is still to come.
    left: u64,
    ended: bool,
    pulse: Arc<Pulse>,
}

impl Feed {
    fn entry(&mut self, entry: TreeEntry) -> Result<(), String> {
        if self.left > 0 {
            return Err(format!("a file ended {} bytes early", self.left));
        }
        let path = entry.path.as_bytes();
        if path.starts_with(b"/") || path.split(|byte| *byte == b'/').any(|part| part == b"..") {
            return Err(format!("`{}` leads out of the tree", entry.path));
        }
        let mut full = self.prefix.clone();
        descend(&mut full, path);
        let (kind, target, size) = match entry.kind {
            EntryKind::File { size } => (Kind::File, Vec::new(), size),
            EntryKind::Directory => (Kind::Directory, Vec::new(), 0),
            EntryKind::Symlink { target } => (Kind::Symlink, target.as_bytes().to_vec(), 0),
        };
        self.left = size;
        let entry = Entry { path: full, kind, target, size, mode: entry.mode, modified: entry.modified };
        self.queue.push_back(archive::header(&entry, self.owner));
        self.pad(size);
        Ok(())
    }

    /// Fills the last block of a file of this size, once nothing of it is left.
    fn pad(&mut self, size: u64) {
        if self.left == 0 {
            self.queue.push_back(archive::padding(size));
        }
    }

    /// Takes the next item in; nothing more where the tree has ended.
    fn take(&mut self, item: Option<TreeItem>, size: &mut u64) -> Result<(), String> {
        match item {
            Some(TreeItem::Entry(entry)) => {
                if let EntryKind::File { size: new } = entry.kind {
                    *size = new;
                }
                self.entry(entry)
            }
            Some(TreeItem::Data(piece)) => {
                let length = piece.len() as u64;
                if length > self.left {
                    return Err("a file is longer than it said".to_owned());
                }
                self.left -= length;
                self.queue.push_back(piece);
                self.pad(*size);
                Ok(())
            }
            None if self.left > 0 => Err(format!("a file ended {} bytes early", self.left)),
            None => {
                self.ended = true;
                self.queue.push_back(archive::end());
                Ok(())
            }
        }
    }

    fn pieces(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        // The root's own size, where the root is a file.
        let size = self.left;
        stream::unfold((self, size, false), |(mut feed, mut size, broken)| async move {
            if broken {
                return None;
            }
            loop {
                feed.pulse.beats.fetch_add(1, Ordering::Relaxed);
                match feed.queue.pop_front() {
                    Some(piece) if piece.is_empty() => continue,
                    Some(piece) => return Some((Ok(piece), (feed, size, false))),
                    None if feed.ended => return None,
                    None => {}
                }
                feed.pulse.waiting.store(true, Ordering::Relaxed);
                let item = feed.items.recv().await;
                feed.pulse.waiting.store(false, Ordering::Relaxed);
                if let Err(problem) = feed.take(item, &mut size) {
                    *feed.pulse.problem.lock() = Some(problem.clone());
                    return Some((Err(io::Error::other(problem)), (feed, size, true)));
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fed(items: Vec<TreeItem>) -> Result<Vec<u8>, String> {
        let (sender, receiver) = mpsc::channel(100);
        for item in items {
            sender.send(item).await.unwrap();
        }
        drop(sender);
        let pulse = Arc::new(Pulse::default());
        let feed = Feed {
            items: receiver,
            queue: VecDeque::new(),
            prefix: b"p".to_vec(),
            owner: Ownership::default(),
            left: 0,
            ended: false,
            pulse: Arc::clone(&pulse),
        };
        let pieces: Vec<io::Result<Bytes>> = feed.pieces().collect().await;
        let problem = pulse.problem.lock().clone();
        let whole = pieces.into_iter().collect::<io::Result<Vec<Bytes>>>().map_err(|error| error.to_string());
        assert_eq!(whole.as_ref().err(), problem.as_ref());
        whole.map(|pieces| pieces.concat())
    }

    fn file(path: &str, size: u64) -> TreeItem {
        let kind = EntryKind::File { size };
        TreeItem::Entry(TreeEntry { path: path.into(), kind, mode: 0o600, modified: 5 })
    }

    #[tokio::test]
    async fn a_tree_becomes_an_archive() {
        let data = |text: &'static str| TreeItem::Data(Bytes::from_static(text.as_bytes()));
        let bytes =
            fed(vec![file("a", 6), data("abc"), data("def"), file("b", 0), file("c", 1), data("x")]).await.unwrap();
        assert_eq!(bytes.len() % 512, 0);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let found: Vec<(String, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (String::from_utf8(entry.path_bytes().to_vec()).unwrap(), entry.size()))
            .collect();
        assert_eq!(found, [("p/a".to_owned(), 6), ("p/b".to_owned(), 0), ("p/c".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn a_tree_that_breaks_its_word_breaks_the_archive() {
        let data = TreeItem::Data(Bytes::from_static(b"abc"));
        for (items, problem) in [
            (vec![file("a", 6), data.clone()], "a file ended 3 bytes early"),
            (vec![file("a", 6), data.clone(), file("b", 0)], "a file ended 3 bytes early"),
            (vec![file("a", 2), data.clone()], "a file is longer than it said"),
            (vec![data], "a file is longer than it said"),
            (vec![file("../x", 0)], "`../x` leads out of the tree"),
            (vec![file("/x", 0)], "`/x` leads out of the tree"),
        ] {
            assert_eq!(fed(items).await.unwrap_err(), problem);
        }
    }
}
