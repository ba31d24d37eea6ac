//! The file transfer protocol: requests on a channel, as many at once as one likes.
//!
//! Written here since no library has all of: names that are bytes, control over what is in flight, and no opinion on which
//! SSH library carries it.

pub(super) mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use self::wire::{Attributes, Kind, Name, Reply, Request};
use super::connection::{Channel, FromRemote, ToRemote};
use crate::session::{RemotePath, SessionError, SessionErrorKind};

/// The version that is spoken: the one that all servers have.
const VERSION: u32 = 3;

/// How much is read or written by one request where the server does not say how much it takes: what the draft demands.
const PIECE: u32 = 32 * 1024;

/// The most that is read or written by one request, whatever the server says.
const MOST_PIECE: u32 = 255 * 1024;

/// So much is told of what comes in the place of an answer, in bytes.
const ENOUGH: usize = 200;

/// The status codes that have a meaning of their own.
const END_OF_FILE: u32 = 1;
const NO_SUCH_FILE: u32 = 2;
const PERMISSION_DENIED: u32 = 3;
const NO_CONNECTION: u32 = 6;
const CONNECTION_LOST: u32 = 7;
const UNSUPPORTED: u32 = 8;

/// A file that is open at the server.
#[derive(Debug, Clone)]
pub(super) struct Handle(Bytes);

/// A client on one channel.
pub(super) struct Sftp {
    label: String,
    /// Without a bound, since a request that waits for room in a queue keeps its place there while nobody looks after it,
    /// and holds up those behind it. Whoever transfers files bounds how much is under way.
    requests: mpsc::UnboundedSender<Bytes>,
    next: AtomicU32,
    waiting: Arc<Waiting>,
    /// How much one request reads and writes.
    pub(super) read_piece: u32,
    pub(super) write_piece: u32,
    /// Whether a file can be renamed over another.
    replaces: bool,
    _carrying: AbortOnDropHandle<()>,
}

type Answer = Result<Reply, String>;

/// Those who wait for an answer, by number; or why none comes any more. And what came in the place of the first answer.
struct Waiting(Mutex<Result<HashMap<u32, oneshot::Sender<Answer>>, String>>, Mutex<Option<String>>);

impl Sftp {
    /// Agrees on the version with the server at the other end of a channel.
    pub(super) async fn new(channel: Channel, label: &str) -> Result<Self, SessionError> {
        let Channel { input, output, .. } = channel;
        let waiting = Arc::new(Waiting(Mutex::new(Ok(HashMap::new())), Mutex::default()));
        let (sender, version) = oneshot::channel();
        // The version's answer has no number; it is filed under its own.
        waiting.expect(VERSION, sender);
        let (requests, queue) = mpsc::unbounded_channel();
        let heard = Arc::clone(&waiting);
        let carrying = tokio::spawn(async move {
            tokio::join!(carry(queue, input), read(output, heard));
        });
        let mut client = Self {
            label: label.to_owned(),
            requests,
            next: AtomicU32::new(VERSION + 1),
            waiting,
            read_piece: PIECE,
            write_piece: PIECE,
            replaces: false,
            _carrying: AbortOnDropHandle::new(carrying),
        };
        client.send(Request::new(Kind::Init, VERSION))?;
        let doing = "could not begin the transfer of files";
        let version = client.answer(version, doing).await;
        if let Some(text) = client.waiting.1.lock().take() {
            let message = format!(
                "{doing} on host `{label}`: something prints `{text}` there before it can begin, such as what the login \
                 shell reads at its start; that must print nothing where there is no terminal"
            );
            return Err(SessionError::new(SessionErrorKind::Failed, message));
        }
        let (limits, replaces) = match version? {
            Reply::Version { extensions, .. } => {
                let has = |wanted: &str| extensions.iter().any(|(name, _)| name == wanted.as_bytes());
                (has("limits@openssh.com"), has("posix-rename@openssh.com"))
            }
            _ => return Err(client.nonsense(doing)),
        };
        client.replaces = replaces;
        if limits {
            client.ask_limits(doing).await?;
        }
        Ok(client)
    }

    async fn ask_limits(&mut self, doing: &str) -> Result<(), SessionError> {
        let request = |id| Request::new(Kind::Extended, id).text(b"limits@openssh.com");
        if let Reply::Extended(mut limits) = self.ask(request, doing).await? {
            // The longest packet, read, write, and how many files may be open: 64 bits each.
            let mut next = || {
                u64::from(wire::number(&mut limits).ok()?)
                    .checked_shl(32)?
                    .checked_add(u64::from(wire::number(&mut limits).ok()?))
            };
            let (_packet, read, write) = (next(), next(), next());
            let piece = |limit: Option<u64>| match limit.and_then(|limit| u32::try_from(limit).ok()) {
                None | Some(0) => PIECE,
                Some(limit) => limit.min(MOST_PIECE),
            };
            (self.read_piece, self.write_piece) = (piece(read), piece(write));
        }
        Ok(())
    }

    /// Whether the server has ended the conversation.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.0.lock().is_err()
    }

    fn send(&self, request: Request) -> Result<(), SessionError> {
        self.requests.send(request.finish()).map_err(|_| {
            let message = format!("the connection to host `{}` broke during a transfer of files", self.label);
            SessionError::new(SessionErrorKind::Unreachable, message)
        })
    }

    /// Sends a request, and returns its answer. A future that is dropped leaves the answer to be thrown away.
    async fn ask(&self, request: impl FnOnce(u32) -> Request, doing: &str) -> Result<Reply, SessionError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.expect(id, sender);
        self.send(request(id))?;
        self.answer(receiver, doing).await
    }

    async fn answer(&self, receiver: oneshot::Receiver<Answer>, doing: &str) -> Result<Reply, SessionError> {
        let why = match receiver.await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(why)) => why,
            Err(_) => self.waiting.0.lock().as_ref().err().cloned().unwrap_or_default(),
        };
        let message = format!("{doing} on host `{}`: {why}", self.label);
        Err(SessionError::new(SessionErrorKind::Unreachable, message))
    }

    fn nonsense(&self, doing: &str) -> SessionError {
        let message = format!("{doing} on host `{}`: the server's answer fits no question", self.label);
        SessionError::new(SessionErrorKind::Failed, message)
    }

    /// The error that a status stands for.
    fn refused(&self, code: u32, message: &str, doing: &str) -> SessionError {
        let (kind, words) = match code {
            NO_SUCH_FILE => (SessionErrorKind::NotFound, "it does not exist"),
            PERMISSION_DENIED => (SessionErrorKind::Permission, "permission denied"),
            NO_CONNECTION | CONNECTION_LOST => (SessionErrorKind::Unreachable, message),
            UNSUPPORTED => (SessionErrorKind::Unsupported, "the server cannot do that"),
            // All that version 3 has for everything else, a full disk and a directory in the way alike.
            _ if message.is_empty() || message == "Failure" => {
                (SessionErrorKind::Failed, "the server says that it failed")
            }
            _ => (SessionErrorKind::Failed, message),
        };
        SessionError::new(kind, format!("{doing} on host `{}`: {words}", self.label))
    }

    /// A request that is answered by a status.
    async fn done(&self, request: impl FnOnce(u32) -> Request, doing: &str) -> Result<(), SessionError> {
        match self.ask(request, doing).await? {
            Reply::Status { code: 0, .. } => Ok(()),
            Reply::Status { code, message } => Err(self.refused(code, &message, doing)),
            _ => Err(self.nonsense(doing)),
        }
    }

    /// What a reply is, where it is what was asked for.
    fn expected<T>(&self, reply: Reply, doing: &str, take: impl FnOnce(Reply) -> Option<T>) -> Result<T, SessionError> {
        match reply {
            Reply::Status { code, message } if code != 0 => Err(self.refused(code, &message, doing)),
            other => take(other).ok_or_else(|| self.nonsense(doing)),
        }
    }

    pub(super) async fn open(&self, path: &RemotePath, flags: u32, doing: &str) -> Result<Handle, SessionError> {
        let mode = (flags & wire::CREATE != 0).then_some(0o600);
        let request = |id| Request::new(Kind::Open, id).text(path.as_bytes()).number(flags).attributes(mode, None);
        let reply = self.ask(request, doing).await?;
        self.expected(reply, doing, handle)
    }

    pub(super) async fn close(&self, file: &Handle, doing: &str) -> Result<(), SessionError> {
        self.done(|id| Request::new(Kind::Close, id).text(&file.0), doing).await
    }

    /// Reads up to `length` bytes; nothing at the end of the file.
    pub(super) async fn read(
        &self,
        file: &Handle,
        at: u64,
        length: u32,
        doing: &str,
    ) -> Result<Option<Bytes>, SessionError> {
        let reply = self.ask(|id| Request::new(Kind::Read, id).text(&file.0).long(at).number(length), doing).await?;
        match reply {
            Reply::Data(bytes) => Ok(Some(bytes)),
            Reply::Status { code: END_OF_FILE, .. } => Ok(None),
            other => self.expected(other, doing, |_| None),
        }
    }

    /// Writes at most [`write_piece`](Self::write_piece) bytes.
    pub(super) async fn write(&self, file: &Handle, at: u64, bytes: &[u8], doing: &str) -> Result<(), SessionError> {
        self.done(|id| Request::new(Kind::Write, id).text(&file.0).long(at).text(bytes), doing).await
    }

    pub(super) async fn lstat(&self, path: &RemotePath, doing: &str) -> Result<Attributes, SessionError> {
        let reply = self.ask(|id| Request::new(Kind::Lstat, id).text(path.as_bytes()), doing).await?;
        self.expected(reply, doing, attributes)
    }

    pub(super) async fn stat(&self, path: &RemotePath, doing: &str) -> Result<Attributes, SessionError> {
        let reply = self.ask(|id| Request::new(Kind::Stat, id).text(path.as_bytes()), doing).await?;
        self.expected(reply, doing, attributes)
    }

    pub(super) async fn set(
        &self,
        path: &RemotePath,
        mode: u32,
        modified: u32,
        doing: &str,
    ) -> Result<(), SessionError> {
        let request = |id| Request::new(Kind::Setstat, id).text(path.as_bytes());
        self.done(|id| request(id).attributes(Some(mode), Some(modified)), doing).await
    }

    pub(super) async fn set_open(
        &self,
        file: &Handle,
        mode: u32,
        modified: u32,
        doing: &str,
    ) -> Result<(), SessionError> {
        let request = |id| Request::new(Kind::Fsetstat, id).text(&file.0);
        self.done(|id| request(id).attributes(Some(mode), Some(modified)), doing).await
    }

    pub(super) async fn open_directory(&self, path: &RemotePath, doing: &str) -> Result<Handle, SessionError> {
        let reply = self.ask(|id| Request::new(Kind::Opendir, id).text(path.as_bytes()), doing).await?;
        self.expected(reply, doing, handle)
    }

    /// Some more names of a directory; nothing once there are no more.
    pub(super) async fn names(&self, directory: &Handle, doing: &str) -> Result<Option<Vec<Name>>, SessionError> {
        match self.ask(|id| Request::new(Kind::Readdir, id).text(&directory.0), doing).await? {
            Reply::Names(names) => Ok(Some(names)),
            Reply::Status { code: END_OF_FILE, .. } => Ok(None),
            other => self.expected(other, doing, |_| None),
        }
    }

    pub(super) async fn make_directory(&self, path: &RemotePath, mode: u32, doing: &str) -> Result<(), SessionError> {
        let request = |id| Request::new(Kind::Mkdir, id).text(path.as_bytes()).attributes(Some(mode), None);
        self.done(request, doing).await
    }

    pub(super) async fn remove(&self, path: &RemotePath, doing: &str) -> Result<(), SessionError> {
        self.done(|id| Request::new(Kind::Remove, id).text(path.as_bytes()), doing).await
    }

    pub(super) async fn read_link(&self, path: &RemotePath, doing: &str) -> Result<RemotePath, SessionError> {
        let reply = self.ask(|id| Request::new(Kind::Readlink, id).text(path.as_bytes()), doing).await?;
        let target = |reply| match reply {
            Reply::Names(names) => names.into_iter().next().map(|name| RemotePath::from_bytes(name.name.to_vec())),
            _ => None,
        };
        self.expected(reply, doing, target)
    }

    /// Makes a symbolic link. The arguments are sent as OpenSSH takes them, which is the other way round than the draft
    /// says (OpenSSH's `PROTOCOL`, 4.1); all servers of today follow it.
    pub(super) async fn link(&self, path: &RemotePath, target: &RemotePath, doing: &str) -> Result<(), SessionError> {
        let request = |id| Request::new(Kind::Symlink, id).text(target.as_bytes()).text(path.as_bytes());
        self.done(request, doing).await
    }

    /// Whether [`replace`](Self::replace) is one step, which cannot be seen half done.
    pub(super) fn replaces_at_once(&self) -> bool {
        self.replaces
    }

    /// Moves a file to a place, over what is there. Where the server cannot do that in one step, what is there is moved
    /// to `aside` and removed when the new file is in its place; else it is moved back.
    pub(super) async fn replace(
        &self,
        from: &RemotePath,
        to: &RemotePath,
        aside: &RemotePath,
        doing: &str,
    ) -> Result<(), SessionError> {
        if self.replaces {
            let request = |id| Request::new(Kind::Extended, id).text(b"posix-rename@openssh.com");
            return self.done(|id| request(id).text(from.as_bytes()).text(to.as_bytes()), doing).await;
        }
        // A rename of version 3 replaces nothing, and does not say why it was refused.
        let Err(error) = self.rename(from, to, doing).await else { return Ok(()) };
        let in_the_way = self.lstat(to, doing).await.ok().and_then(|there| there.mode);
        if in_the_way.is_none_or(|mode| mode & wire::KIND == wire::DIRECTORY)
            || self.rename(to, aside, doing).await.is_err()
        {
            return Err(error);
        }
        if let Err(error) = self.rename(from, to, doing).await {
            return Err(match self.rename(aside, to, doing).await {
                Ok(()) => error,
                Err(_) => {
                    let message = format!("what was there before is now `{aside}`, and could not be moved back");
                    SessionError::new(error.kind(), message).source(error)
                }
            });
        }
        if let Err(error) = self.remove(aside, doing).await {
            tracing::warn!(host = %self.label, %error, "what `{to}` was before is left as `{aside}`.");
        }
        Ok(())
    }

    async fn rename(&self, from: &RemotePath, to: &RemotePath, doing: &str) -> Result<(), SessionError> {
        self.done(|id| Request::new(Kind::Rename, id).text(from.as_bytes()).text(to.as_bytes()), doing).await
    }
}

fn handle(reply: Reply) -> Option<Handle> {
    if let Reply::Handle(handle) = reply { Some(Handle(handle)) } else { None }
}

fn attributes(reply: Reply) -> Option<Attributes> {
    if let Reply::Attributes(attributes) = reply { Some(attributes) } else { None }
}

impl Waiting {
    fn expect(&self, id: u32, sender: oneshot::Sender<Answer>) {
        match &mut *self.0.lock() {
            Ok(waiting) => drop(waiting.insert(id, sender)),
            Err(why) => drop(sender.send(Err(why.clone()))),
        }
    }

    fn answer(&self, id: u32, reply: Reply) {
        if let Ok(waiting) = &mut *self.0.lock()
            && let Some(sender) = waiting.remove(&id)
        {
            // Nobody may be waiting any more.
            drop(sender.send(Ok(reply)));
        }
    }

    /// No answer comes any more.
    fn end(&self, why: &str) {
        let waiting = std::mem::replace(&mut *self.0.lock(), Err(why.to_owned()));
        for sender in waiting.into_iter().flat_map(HashMap::into_values) {
            drop(sender.send(Err(why.to_owned())));
        }
    }
}

/// Carries requests to the channel, until it ends.
async fn carry(mut queue: mpsc::UnboundedReceiver<Bytes>, input: mpsc::Sender<ToRemote>) {
    while let Some(request) = queue.recv().await {
        if input.send(ToRemote::Data(request)).await.is_err() {
            return;
        }
    }
}

/// Reads answers and hands them to those who wait for them, until the channel ends.
async fn read(mut output: mpsc::Receiver<FromRemote>, waiting: Arc<Waiting>) {
    let mut buffer = BytesMut::new();
    let mut words = String::new();
    let mut has_begun = false;
    while let Some(piece) = output.recv().await {
        match piece {
            FromRemote::Stdout(bytes) => buffer.extend_from_slice(&bytes),
            // What a server that cannot start has to say.
            FromRemote::Stderr(bytes) => {
                if words.len() < 1000 {
                    words.push_str(&String::from_utf8_lossy(&bytes));
                }
                continue;
            }
            FromRemote::Ended(_) => break,
            FromRemote::Broken(error) => return waiting.end(&error.to_string()),
        }
        loop {
            match wire::take(&mut buffer) {
                Ok(Some((id, reply))) => {
                    has_begun = true;
                    waiting.answer(id, reply);
                }
                Ok(None) => break,
                Err(nonsense) => {
                    if !has_begun {
                        let text = String::from_utf8_lossy(buffer.get(..buffer.len().min(ENOUGH)).unwrap_or_default());
                        let first = text.trim_start().lines().next().unwrap_or_default();
                        *waiting.1.lock() = Some(first.escape_debug().to_string());
                    }
                    return waiting.end(&nonsense.to_string());
                }
            }
        }
    }
    match words.trim() {
        "" => waiting.end("the server has ended the transfer"),
        words => waiting.end(&format!("the server has ended the transfer: {words}")),
    }
}
