//! A [`Session`] on the channels of a connection.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::connection::{Channel, Connection, FromRemote, Start, Takes, ToRemote};
use super::dial::place;
use super::files::{CROWDED, Files};
use super::host_key::HostKeyPolicy;
use super::line::{self, Reports};
use super::one_each::OneEach;
use super::{Connected, SshTarget, backend};
use crate::session::{
    Command, ExitStatus, Input, Mark, Output, PtySize, RemotePath, Session, SessionError, SessionErrorKind, Signal,
    Streams, TreeItem,
};

/// The key that ends what is typed: Ctrl-D.
const END_OF_INPUT: u8 = 0x04;

/// The longest line that goes into a request, in bytes: dropbear takes 9,000, and libssh2 sends 34,000.
const LONGEST_LINE: usize = 8_000;

/// How often, and with what pause, a command that is to end is looked for: it may just be starting.
const END_ATTEMPTS: u32 = 20;
const END_PAUSE: Duration = Duration::from_millis(150);

/// How often one is looked for whose channel was given up before it was open: the server starts what it was asked to
/// start before it starts the first look.
const END_ATTEMPTS_BLIND: u32 = 5;

/// How long one look may take, and for how long of it a channel is waited for. Where the server has no more to give,
/// another connection is made.
const END_LIMIT: Duration = Duration::from_secs(10);
const END_CHANNEL_LIMIT: Duration = Duration::from_secs(1);

/// Connects, and makes a session of the connection.
pub(super) async fn connect(target: &SshTarget) -> Result<Connected, SessionError> {
    let (connection, host_key, jump_keys) = backend::connect(target).await?;
    let mut target = target.clone();
    // Further connections are to the machine that this one is to, by the same way.
    target.host_key = HostKeyPolicy::Pinned(host_key.clone());
    let mut jump = target.jump.as_deref_mut();
    while let Some(gate) = jump {
        if let Some(key) = jump_keys.get(&place(gate)) {
            gate.host_key = HostKeyPolicy::Pinned(key.clone());
        }
        jump = gate.jump.as_deref_mut();
    }
    target.limits.patience = Duration::ZERO;
    let target = Arc::new(target);
    let connection = if connection.takes() != Takes::Many {
        Arc::new(OneEach::new(connection, Arc::clone(&target))) as Arc<dyn Connection>
    } else {
        connection
    };
    let files = Files::new(Arc::clone(&connection), target.label.clone());
    let way = Way {
        connection,
        files: files.clone(),
        target,
        tracker: TaskTracker::new(),
        commands: TaskTracker::new(),
        closing: CancellationToken::new(),
        spare: Arc::default(),
        goes_on: Arc::default(),
    };
    Ok(Connected { session: Arc::new(SshSession { way }), host_key, jump_keys })
}

struct SshSession {
    way: Way,
}

/// What it takes to run commands.
#[derive(Clone)]
struct Way {
    connection: Arc<dyn Connection>,
    files: Files,
    target: Arc<SshTarget>,
    tracker: TaskTracker,
    /// The commands that run.
    commands: TaskTracker,
    /// Nobody wants anything of the host any more.
    closing: CancellationToken,
    spare: Arc<Mutex<Option<Weak<dyn Connection>>>>,
    /// Whether a command could not be ended since somebody last asked.
    goes_on: Arc<AtomicBool>,
}

#[async_trait]
impl Session for SshSession {
    async fn run(&self, command: &Command, streams: Streams) -> Result<ExitStatus, SessionError> {
        self.way.run(command, streams).await
    }

    async fn put(&self, to: &RemotePath, items: mpsc::Receiver<TreeItem>) -> Result<(), SessionError> {
        self.way.files.put(to, items).await
    }

    async fn get(&self, from: &RemotePath, items: mpsc::Sender<TreeItem>) -> Result<(), SessionError> {
        self.way.files.get(from, items).await
    }

    fn is_broken(&self) -> bool {
        self.way.connection.broken().is_some()
    }

    async fn settled(&self) -> bool {
        self.way.tracker.close();
        self.way.tracker.wait().await;
        self.way.files.settled().await;
        !self.way.goes_on.swap(false, Ordering::Relaxed)
    }

    async fn close(&self) {
        self.way.closing.cancel();
        // What runs on the host is ended over the connection, so that has to wait.
        self.way.commands.close();
        let ended = async {
            self.way.commands.wait().await;
            self.settled().await
        };
        drop(tokio::time::timeout(END_LIMIT, ended).await);
        self.way.connection.close().await;
    }
}

impl Way {
    /// Runs a command to its end. Dropping the future ends it.
    async fn run(&self, command: &Command, streams: Streams) -> Result<ExitStatus, SessionError> {
        let mark = Mark::new();
        let told = line::running(command, &mark)?.into_bytes();
        let mut line = line::for_any_shell(&told);
        let mut first = None;
        if line.len() > LONGEST_LINE && command.pty.is_none() {
            line = line::reading(told.len()).into_bytes();
            first = Some(told.into());
        }
        let Streams { input, control, output: sink } = streams;
        let mut running = Running {
            way: self.clone(),
            mark,
            user: command.user.clone(),
            output: None,
            ended: false,
            _counted: self.commands.token(),
        };
        let opened = self.open(Start::Exec { line, pty: command.pty.clone() }).await;
        let Channel { input: to_remote, output, sizes } = opened.inspect_err(|_| running.ended = true)?;
        let doing = Doing { way: self, command, mark: &running.mark, sizes };
        let feeding = async {
            let (fed, _never) = tokio::join!(feed(&doing, first, input, to_remote), doing.each(control));
            fed
        };
        let reports = Reports::new(&running.mark);
        let end = tokio::select! {
            end = forward(running.output.insert(output), &sink, reports, command.pty.is_some()) => end,
            never = feeding => match never {},
            // Not at its end: the guard sees to that.
            () = self.closing.cancelled() => {
                let message = format!("the session with host `{}` was closed while `{command}` ran", self.target.label);
                return Err(SessionError::new(SessionErrorKind::Unreachable, message));
            }
        };
        running.ended = true;
        match end {
            End::Status(status) => Ok(status),
            End::NotStarted(report) => Err(line::error(&report, command, &self.target.label)),
            End::Broken(error) => Err(error),
            End::Silent => {
                let label = &self.target.label;
                let message = match self.connection.broken() {
                    Some(why) => format!("the connection to host `{label}` broke while `{command}` ran: {why}"),
                    None => format!("host `{label}` did not say how `{command}` ended"),
                };
                Err(SessionError::new(SessionErrorKind::Unreachable, message))
            }
        }
    }

    /// Opens a channel. Where the server has none left, those that are only kept for the next transfer are given up.
    async fn open(&self, start: Start) -> Result<Channel, SessionError> {
        let mut opening = self.connection.open(start);
        if let Ok(opened) = tokio::time::timeout(CROWDED, &mut opening).await {
            return opened;
        }
        self.files.make_room();
        opening.await
    }

    /// Signals what carries the mark. Whether anything did; nothing where the host could not be asked.
    async fn signal(&self, mark: &Mark, signal: Signal, user: Option<&str>) -> Option<bool> {
        let start = Start::Exec { line: line::signalling(mark, signal, user), pty: None };
        let looking = async {
            let opened = tokio::time::timeout(END_CHANNEL_LIMIT, self.open(start.clone())).await;
            let (_spare, channel) = match opened {
                Ok(channel) => (None, channel),
                Err(_) => {
                    let spare = self.spare().await?;
                    let channel = spare.open(start).await;
                    (Some(spare), channel)
                }
            };
            let Channel { input: _kept_open, mut output, .. } = channel.ok()?;
            while let Some(piece) = output.recv().await {
                if let FromRemote::Ended(status) = piece {
                    return Some(!status.success());
                }
            }
            None
        };
        tokio::time::timeout(END_LIMIT, looking).await.ok().flatten()
    }

    /// Another connection to the host, for those who cannot wait for a channel. They share it while they need it.
    async fn spare(&self) -> Option<Arc<dyn Connection>> {
        let mut spare = self.spare.lock().await;
        if let Some(connection) =
            spare.as_ref().and_then(Weak::upgrade).filter(|connection| connection.broken().is_none())
        {
            return Some(connection);
        }
        let (connection, ..) = backend::connect(&self.target)
            .await
            .inspect_err(|error| tracing::debug!(%error, "could not make another connection."))
            .ok()?;
        *spare = Some(Arc::downgrade(&connection));
        Some(connection)
    }
}

/// How the output of a command came to its end.
enum End {
    Status(ExitStatus),
    /// It was not started, and this is the report why.
    NotStarted(String),
    Broken(SessionError),
    /// The channel was closed without a word.
    Silent,
}

/// Hands over what the command prints. Nobody may be listening any more; the command goes on all the same.
async fn forward(
    output: &mut mpsc::Receiver<FromRemote>,
    sink: &mpsc::Sender<Output>,
    mut reports: Reports,
    on_terminal: bool,
) -> End {
    // A terminal has but one output.
    let told = if on_terminal { Output::Stdout } else { Output::Stderr };
    let pass = async |bytes: Bytes, wrap: fn(Bytes) -> Output| {
        if !bytes.is_empty() {
            drop(sink.send(wrap(bytes)).await);
        }
    };
    let mut end = End::Silent;
    while let Some(piece) = output.recv().await {
        match piece {
            FromRemote::Stdout(bytes) if on_terminal => pass(reports.pass(bytes), told).await,
            FromRemote::Stdout(bytes) => pass(bytes, Output::Stdout).await,
            FromRemote::Stderr(bytes) => pass(reports.pass(bytes), told).await,
            FromRemote::Ended(status) => {
                end = End::Status(status);
                break;
            }
            FromRemote::Broken(error) => {
                end = End::Broken(error);
                break;
            }
        }
    }
    let report = match &end {
        End::Status(status) => reports.word(Some(status)),
        End::Broken(_) | End::Silent | End::NotStarted(_) => reports.word(None),
    };
    if let Some(report) = report {
        return End::NotStarted(report);
    }
    pass(reports.rest(), told).await;
    end
}

/// What is done to a command that runs.
struct Doing<'a> {
    way: &'a Way,
    command: &'a Command,
    mark: &'a Mark,
    sizes: mpsc::Sender<PtySize>,
}

impl Doing<'_> {
    async fn one(&self, item: Input) {
        match item {
            Input::Resize(size) => drop(self.sizes.send(size).await),
            Input::Signal(signal) => {
                self.way.signal(self.mark, signal, self.command.user.as_deref()).await;
            }
            Input::Data(_) => {}
        }
    }

    /// Does what comes. Never completes, so that the output decides.
    async fn each(&self, control: Option<mpsc::Receiver<Input>>) -> Infallible {
        if let Some(mut control) = control {
            while let Some(item) = control.recv().await {
                self.one(item).await;
            }
        }
        std::future::pending().await
    }
}

/// Hands the command what it reads, and does to it what else is asked. Never completes, so that the output decides.
async fn feed(
    doing: &Doing<'_>,
    first: Option<Bytes>,
    input: Option<mpsc::Receiver<Input>>,
    to_remote: mpsc::Sender<ToRemote>,
) -> Infallible {
    let command = doing.command;
    // A command that has closed its standard input, or has ended, takes no more, which is its own affair.
    let send = async |what| drop(to_remote.send(what).await);
    if let Some(first) = first {
        send(ToRemote::Data(first)).await;
    }
    let mut line_begun = command.stdin.last().is_some_and(|last| *last != b'\n');
    if !command.stdin.is_empty() {
        send(ToRemote::Data(Bytes::copy_from_slice(&command.stdin))).await;
    }
    if let Some(mut input) = input {
        while let Some(item) = input.recv().await {
            match item {
                Input::Data(bytes) => {
                    line_begun = bytes.last().map_or(line_begun, |last| *last != b'\n');
                    send(ToRemote::Data(bytes)).await;
                }
                other => doing.one(other).await,
            }
        }
    }
    if command.pty.is_some() {
        // A terminal has no end but the key that says so: once to send off a line that was begun, once for the end.
        let keys: &[u8] = if line_begun { &[END_OF_INPUT; 2] } else { &[END_OF_INPUT] };
        send(ToRemote::Data(Bytes::from_static(keys))).await;
    } else {
        send(ToRemote::Eof).await;
    }
    std::future::pending().await
}

/// Ends a command that nobody waits for any more. Needs a runtime: where there is none, nothing can be done.
struct Running {
    way: Way,
    mark: Mark,
    user: Option<String>,
    /// Nothing until the channel is open.
    output: Option<mpsc::Receiver<FromRemote>>,
    ended: bool,
    _counted: TaskTrackerToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended || self.way.connection.broken().is_some() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (way, mark) = (self.way.clone(), self.mark.clone());
        let (user, output) = (self.user.take(), self.output.take());
        let tracker = way.tracker.clone();
        drop(runtime.spawn(tracker.track_future(async move { end(&way, &mark, user.as_deref(), output).await })));
    }
}

async fn end(way: &Way, mark: &Mark, user: Option<&str>, mut output: Option<mpsc::Receiver<FromRemote>>) {
    let attempts = if output.is_some() { END_ATTEMPTS } else { END_ATTEMPTS_BLIND };
    for _ in 0..attempts {
        let found = way.signal(mark, Signal::Kill, user).await;
        let gone = match &mut output {
            None => false,
            // Its output may be held open by a child that it left behind, and that has a life of its own.
            Some(output) => tokio::time::timeout(END_PAUSE, async {
                while let Some(piece) = output.recv().await {
                    if matches!(piece, FromRemote::Ended(_) | FromRemote::Broken(_)) {
                        return;
                    }
                }
            })
            .await
            .is_ok(),
        };
        if gone && found != Some(true) || way.connection.broken().is_some() {
            return;
        }
        if gone || output.is_none() {
            tokio::time::sleep(END_PAUSE).await;
        }
    }
    if output.is_some() {
        way.goes_on.store(true, Ordering::Relaxed);
        tracing::warn!(host = %way.target.label, "could not end a command on a host.");
    }
}
