//! [`Host`]: a record plus a session that opens when it is needed.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::context::Core;
use crate::engine::{self, STOP_ALL, Unfinished};
use crate::error::{Error, Result};
use crate::id::HostId;
use crate::inventory::HostRecord;
use crate::session::local::{self, TreeWriter};
use crate::session::{
    Command, EntryKind, ExitStatus, Input, Output as Piece, PtySize, RemotePath, Session, SessionError,
    SessionErrorKind, Signal, Streams, TreeEntry, TreeItem,
};

/// How many pieces of output, input or files may be on their way at once.
const PIECES: usize = 32;

/// How large a piece of a file is, in bytes.
const PIECE: usize = 256 * 1024;

/// How long a command that was cut off may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(100);

/// A host that is checked out. Cheap to clone; clones are the same host and share its session.
///
/// A host owns nothing: it can be kept after its guard is gone, and then its calls fail. What a dropped call was doing
/// on the host is ended.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    record: RwLock<HostRecord>,
    session: Mutex<Option<Arc<dyn Session>>>,
}

impl Host {
    pub(crate) fn new(core: Arc<Core>, record: HostRecord) -> Self {
        Self { inner: Arc::new(Inner { core, record: RwLock::new(record), session: Mutex::new(None) }) }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// What the inventory knows of the host, as of its last change by way of this value or one of its clones.
    pub fn record(&self) -> HostRecord {
        self.inner.record.read().clone()
    }

    pub(crate) fn set_record(&self, record: HostRecord) {
        *self.inner.record.write() = record;
    }

    /// The host's identity.
    pub fn id(&self) -> HostId {
        self.inner.record.read().id
    }

    /// The number that people call it by.
    pub fn number(&self) -> u64 {
        self.inner.record.read().number
    }

    /// What the machine calls itself.
    pub fn hostname(&self) -> Option<String> {
        self.inner.record.read().hostname.clone()
    }

    /// The provider's name for it.
    pub fn name(&self) -> Option<String> {
        self.inner.record.read().name.clone()
    }

    /// The host name or IP address by which it can be reached.
    pub fn address(&self) -> Option<String> {
        self.inner.record.read().address.clone()
    }

    /// A fact that the provider told, by its name.
    pub fn fact(&self, name: &str) -> Option<Value> {
        self.inner.record.read().facts.get(name).cloned()
    }

    /// The best word for the host in a message.
    pub fn label(&self) -> String {
        self.inner.record.read().label()
    }

    /// Where a TCP port of the host can be reached from here, as `address:port`.
    ///
    /// # Errors
    ///
    /// If the provider published ports, and not this one.
    pub fn port(&self, port: u16) -> Result<String> {
        let record = self.inner.record.read();
        if let Some(published) = record.ports.get(&format!("{port}/tcp")) {
            return Ok(published.clone());
        }
        match &record.address {
            Some(address) if record.ports.is_empty() => Ok(format!("{address}:{port}")),
            _ => Err(Error::state(&record, format!("does not publish port {port}"))),
        }
    }

    /// Runs a command and collects what it prints.
    ///
    /// A text is a line for the host's shell; [`Command::words`] makes an argument vector.
    ///
    /// # Errors
    ///
    /// If the command could not be run or did not end in time. A command that fails is no error until
    /// [`Output::check`] is asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the command on the host, with its children.
    pub async fn execute(&self, command: impl Into<Command>) -> Result<Output> {
        let command = command.into();
        let text = command.to_string();
        let mut running = self.start(command).await?;
        running.close_stdin();
        let mut stdout = Vec::new();
        let mut stderr = Vec::new();
        while let Some(piece) = running.next().await {
            match piece {
                Piece::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Piece::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            }
        }
        let status = running.wait().await?;
        Ok(Output { host: self.label(), command: text, status, stdout: stdout.into(), stderr: stderr.into() })
    }

    /// Starts a command, to be talked to while it runs.
    ///
    /// # Errors
    ///
    /// If no session could be opened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the [`Running`] that comes of it, ends the command on the host.
    pub async fn start(&self, command: impl Into<Command>) -> Result<Running> {
        let mut command = command.into();
        let (input, receiver) = mpsc::channel(PIECES);
        let (sender, output) = mpsc::channel(PIECES);
        let (reply, status) = oneshot::channel();
        let wanted = CancellationToken::new();
        let running = Running {
            host: self.clone(),
            input: Some(input),
            output,
            status,
            _end_on_drop: wanted.clone().drop_guard(),
        };
        let begun = Instant::now();
        let session = self.session_within(command.deadline).await?;
        let stdin = Bytes::from(std::mem::take(&mut command.stdin));
        if let Some(input) = running.input.as_ref().filter(|_| !stdin.is_empty()) {
            // The channel has room: nothing else has been sent yet.
            drop(input.try_send(Input::Data(stdin)));
        }
        engine::spawn(async move {
            let _unfinished = Unfinished::begin();
            let streams = Streams { input: Some(receiver), output: sender };
            let end = command.deadline.and_then(|limit| begun.checked_add(limit));
            let deadline = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            let outcome = tokio::select! {
                outcome = session.run(&command, streams) => Some(outcome),
                () = wanted.cancelled() => None,
                () = STOP_ALL.cancelled() => None,
                () = deadline => {
                    let limit = crate::duration::format(command.deadline.unwrap_or_default());
                    let message = format!("`{command}` did not end within {limit}, and was ended");
                    Some(Err(SessionError::new(SessionErrorKind::Timeout, message)))
                }
            };
            if !matches!(outcome, Some(Ok(_))) {
                // Whoever hears that it was ended must not find it running.
                drop(tokio::time::timeout(ENDING, session.settled()).await);
            }
            if let Some(outcome) = outcome {
                drop(reply.send(outcome));
            }
        })?;
        Ok(running)
    }

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
        let from = from.as_ref().to_owned();
        let to = into_directory(to.into(), from.file_name());
        self.on_session("putting files", move |session| async move {
            let (sender, items) = mpsc::channel(PIECES);
            let reading = tokio::task::spawn_blocking(move || {
                local::read_tree(&from, |item| match sender.blocking_send(item) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                })
            });
            let written = session.put(&to, items).await;
            // A reader that failed is why the writer failed, so its error is the one to tell.
            joined(reading.await)??;
            written
        })
        .await
    }

    /// Copies a file or a directory of the host to this machine, with modes, times and symbolic links.
    ///
    /// A target that ends in `/`, or is a directory, is what the source goes into.
    ///
    /// # Errors
    ///
    /// If anything could not be read there or written here. A file that came only in part is not left behind.
    pub async fn get(&self, from: impl Into<RemotePath>, to: impl Into<PathBuf>) -> Result<()> {
        let (from, mut to) = (from.into(), to.into());
        if (to.is_dir() || to.as_os_str().as_encoded_bytes().ends_with(b"/"))
            && let Some(name) = from.file_name()
        {
            to.push(name);
        }
        self.on_session("getting files", move |session| async move {
            let (sender, mut items) = mpsc::channel(PIECES);
            let writing = tokio::task::spawn_blocking(move || {
                let mut writer = TreeWriter::new(to);
                while let Some(item) = items.blocking_recv() {
                    writer.write(item)?;
                }
                Ok::<_, SessionError>(writer)
            });
            let read = session.get(&from, sender).await;
            let writer = joined(writing.await)??;
            read?;
            joined(tokio::task::spawn_blocking(move || writer.finish()).await)?
        })
        .await
    }

    /// Copies a file or a directory to another host, through this machine's memory and not its disk.
    ///
    /// # Errors
    ///
    /// If anything could not be read there or written on the other host.
    pub async fn copy_to(&self, from: impl Into<RemotePath>, other: &Self, to: impl Into<RemotePath>) -> Result<()> {
        let from = from.into();
        let to = into_directory(to.into(), from.file_name());
        let target = other.session().await?;
        self.on_session("copying files", move |session| async move {
            let (sender, items) = mpsc::channel(PIECES);
            let (read, written) = tokio::join!(session.get(&from, sender), target.put(&to, items));
            read.and(written)
        })
        .await
    }

    /// What the host itself has printed so far: a container's log, a machine's console.
    ///
    /// # Errors
    ///
    /// If the provider has none, or does not give it.
    pub async fn logs(&self) -> Result<String> {
        let mut pieces = self.follow_logs(None, false).await?;
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await {
            text.extend_from_slice(&piece?);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// What the host prints, as it comes: from the beginning or the last `tail` lines, and on with what follows.
    ///
    /// # Errors
    ///
    /// If the provider is not there.
    pub async fn follow_logs(&self, tail: Option<usize>, follow: bool) -> Result<Logs> {
        let (output, pieces) = mpsc::channel(PIECES);
        let (reply, outcome) = oneshot::channel();
        let record = self.record();
        let host = self.clone();
        let provider =
            engine::call("setting up a provider", async move { host.core().provider_of(&host.record()).await });
        let provider = provider.await??;
        let doing = format!("could not read the log of host {} (`{}`)", record.number, record.label());
        engine::spawn(async move {
            drop(reply.send(provider.logs(&record, LogRequest { tail, follow, output }).await));
        })?;
        Ok(Logs { pieces, outcome: Some(outcome), doing })
    }

    /// Waits until something accepts connections on a TCP port of the host.
    ///
    /// # Errors
    ///
    /// [`Error::Waited`] if nothing does within the limit.
    pub async fn wait_for_port(&self, port: u16, limit: Duration) -> Result<()> {
        let address = self.port(port)?;
        let what = format!("a connection to port {port} of host `{}`", self.label());
        engine::call_while_wanted("waiting for a port", async move {
            let connects = || async { tokio::net::TcpStream::connect(&address).await.is_ok() };
            until(what, limit, connects).await
        })
        .await?
    }

    /// Waits until a command succeeds on the host.
    ///
    /// # Errors
    ///
    /// [`Error::Waited`] if it never does within the limit.
    pub async fn wait_until(&self, command: impl Into<Command>, limit: Duration) -> Result<()> {
        let (host, command) = (self.clone(), command.into());
        let what = format!("success of `{command}` on host `{}`", self.label());
        engine::call_while_wanted("waiting for a command", async move {
            let succeeds = || async { host.execute(command.clone()).await.is_ok_and(|output| output.success()) };
            until(what, limit, succeeds).await
        })
        .await?
    }

    /// Lets the host live for at least so long from now. A lease that ends later stays.
    ///
    /// # Errors
    ///
    /// If the provider cannot, or the lease is longer than the settings allow.
    pub async fn extend(&self, by: Duration) -> Result<()> {
        let broker = crate::Broker { core: Arc::clone(self.core()) };
        for (_, outcome) in broker.extend(vec![self.record()], by).await? {
            self.set_record(outcome?);
        }
        Ok(())
    }

    /// Closes the session. The next use opens another.
    pub async fn close(&self) -> Result<()> {
        let host = self.clone();
        engine::call("closing a session", async move { host.close_session().await }).await
    }

    pub(crate) async fn close_session(&self) {
        if let Some(session) = self.inner.session.lock().await.take() {
            session.close().await;
        }
    }

    async fn session(&self) -> Result<Arc<dyn Session>> {
        self.session_within(None).await
    }

    /// The session, opened if there is none or the old one is known to be broken.
    async fn session_within(&self, limit: Option<Duration>) -> Result<Arc<dyn Session>> {
        let host = self.clone();
        let open = async move {
            let mut current = host.inner.session.lock().await;
            if let Some(session) = current.as_ref().filter(|session| !session.is_broken()) {
                return Ok(Arc::clone(session));
            }
            let record = host.record();
            let provider = host.core().provider_of(&record).await?;
            let session = provider.session(&record).await.map_err(|error| Error::session(&host, error))?;
            *current = Some(Arc::clone(&session));
            Ok(session)
        };
        let host = self.clone();
        let bounded = async move {
            match limit {
                None => open.await,
                Some(limit) => tokio::time::timeout(limit, open).await.unwrap_or_else(|_| {
                    let message = format!("no session was open within {}", crate::duration::format(limit));
                    Err(Error::session(&host, SessionError::new(SessionErrorKind::Timeout, message)))
                }),
            }
        };
        engine::call_while_wanted("opening a session", bounded).await?
    }

    async fn on_session<T, F>(
        &self,
        doing: &'static str,
        work: impl FnOnce(Arc<dyn Session>) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SessionError>> + Send + 'static,
    {
        let session = self.session().await?;
        let outcome = engine::call_while_wanted(doing, async move { work(session).await }).await?;
        outcome.map_err(|error| Error::session(self, error))
    }
}

/// Looks until something is so.
async fn until<F: Future<Output = bool>>(what: String, limit: Duration, is_so: impl Fn() -> F) -> Result<()> {
    let now = Instant::now();
    // A limit beyond the end of the clock is a year.
    let end = now.checked_add(limit).unwrap_or(now + Duration::from_secs(365 * 24 * 3600));
    loop {
        match tokio::time::timeout_at(end, is_so()).await {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() + POLL < end => tokio::time::sleep(POLL).await,
            _ => return Err(Error::Waited { what, limit }),
        }
    }
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

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.inner.record.read();
        f.debug_struct("Host").field("id", &record.id).field("host", &record.label()).finish_non_exhaustive()
    }
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    host: String,
    command: String,
    status: ExitStatus,
    stdout: Bytes,
    stderr: Bytes,
}

impl Output {
    /// How it ended.
    pub fn status(&self) -> &ExitStatus {
        &self.status
    }

    /// Whether its exit status is 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Its standard output, bytes that are no UTF-8 replaced.
    pub fn stdout(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Its standard error, bytes that are no UTF-8 replaced.
    pub fn stderr(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// Its standard output as it came.
    pub fn stdout_bytes(&self) -> &Bytes {
        &self.stdout
    }

    /// Its standard error as it came.
    pub fn stderr_bytes(&self) -> &Bytes {
        &self.stderr
    }

    /// Turns a status other than 0 into an error that holds the last lines printed.
    ///
    /// # Errors
    ///
    /// [`Error::Command`], if the command did not succeed.
    pub fn check(self) -> Result<Self> {
        if self.success() {
            return Ok(self);
        }
        let printed = if self.stderr.is_empty() { self.stdout() } else { self.stderr() };
        let lines: Vec<&str> = printed.lines().rev().filter(|line| !line.trim().is_empty()).take(10).collect();
        let tail: String = lines.iter().rev().map(|line| format!("\n  {line}")).collect();
        let Self { host, command, status, .. } = self;
        Err(Error::Command { host, command, status, tail })
    }
}

/// A command that runs. Dropping it ends the command.
#[must_use = "dropping it ends the command"]
pub struct Running {
    host: Host,
    input: Option<mpsc::Sender<Input>>,
    output: mpsc::Receiver<Piece>,
    status: oneshot::Receiver<Result<ExitStatus, SessionError>>,
    _end_on_drop: DropGuard,
}

impl Running {
    /// The next piece that the command prints; nothing once its outputs have ended.
    pub async fn next(&mut self) -> Option<Piece> {
        self.output.recv().await
    }

    /// Gives the command something to read. What it does not read any more is thrown away.
    pub async fn write(&self, bytes: impl Into<Bytes>) {
        self.send(Input::Data(bytes.into())).await;
    }

    /// Tells the command that the window of its terminal has another size.
    pub async fn resize(&self, size: PtySize) {
        self.send(Input::Resize(size)).await;
    }

    /// Sends a signal to the command and its children.
    pub async fn signal(&self, signal: Signal) {
        self.send(Input::Signal(signal)).await;
    }

    /// Ends what the command can read.
    pub fn close_stdin(&mut self) {
        self.input = None;
    }

    /// A handle for giving input from another task.
    pub fn input(&self) -> Option<mpsc::Sender<Input>> {
        self.input.clone()
    }

    async fn send(&self, input: Input) {
        if let Some(sender) = &self.input {
            // A command that has ended takes no more.
            drop(sender.send(input).await);
        }
    }

    /// Closes the command's input and waits for its end. Output that was not taken is thrown away.
    ///
    /// # Errors
    ///
    /// If the command could not be run, its end was not seen, or its deadline has passed.
    pub async fn wait(mut self) -> Result<ExitStatus> {
        self.input = None;
        self.output.close();
        while self.output.recv().await.is_some() {}
        match self.status.await {
            Ok(outcome) => outcome.map_err(|error| Error::session(&self.host, error)),
            Err(_) => Err(Error::Panicked("running a command")),
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A wish for what a host has printed.
#[derive(Debug)]
pub struct LogRequest {
    /// Only this many of the last lines.
    pub tail: Option<usize>,
    /// Whether to go on with what comes.
    pub follow: bool,
    /// Where the pieces go. Dropping the receiver ends the request.
    pub output: mpsc::Sender<Bytes>,
}

/// What a host prints, piece by piece.
#[derive(Debug)]
pub struct Logs {
    pieces: mpsc::Receiver<Bytes>,
    outcome: Option<oneshot::Receiver<Result<(), crate::provider::ProviderError>>>,
    doing: String,
}

impl Logs {
    /// The next piece, or the error that ended the log; nothing once it has ended.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        if let Some(piece) = self.pieces.recv().await {
            return Some(Ok(piece));
        }
        match self.outcome.take()?.await {
            Ok(Ok(())) => None,
            Ok(Err(source)) => Some(Err(Error::Provider { doing: self.doing.clone(), source })),
            Err(_) => Some(Err(Error::Panicked("reading a log"))),
        }
    }
}
