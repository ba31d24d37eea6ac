//! Commands on a host: collected, or as they run.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Host, PIECES};
use crate::engine::{self, STOP_ALL, Unfinished};
use crate::error::{Error, Result};
use crate::session::{
    Command, ExitStatus, Input, Output as Piece, PtySize, SessionError, SessionErrorKind, Signal, Streams,
};

/// How much of a reader is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// How long a command that was cut off may take to end.
const ENDING: Duration = Duration::from_secs(10);

impl Host {
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
        let mut running = self.start(command).await?;
        running.close_stdin();
        running.output().await
    }

    /// Runs a command that reads from a reader until its end, as it comes, and collects what it prints.
    ///
    /// ```no_run
    /// # async fn example(host: broker_core::Host, dump: tokio::fs::File) -> broker_core::Result<()> {
    /// host.execute_with_stdin("psql app", dump).await?.check()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), and if the reader fails: the command is ended then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the command on the host, and drops the reader.
    pub async fn execute_with_stdin(
        &self,
        command: impl Into<Command>,
        reader: impl AsyncRead + Send + 'static,
    ) -> Result<Output> {
        let mut running = self.start(command).await?;
        running.feed(reader)?;
        running.output().await
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
        let (control, controls) = mpsc::channel(PIECES);
        let (sender, output) = mpsc::channel(PIECES);
        let (reply, status) = oneshot::channel();
        let wanted = CancellationToken::new();
        let running = Running {
            host: self.clone(),
            command: command.to_string(),
            feeding: None,
            wanted: wanted.clone(),
            input: Some(input),
            control,
            output,
            status,
            _end_on_drop: wanted.clone().drop_guard(),
        };
        let begun = Instant::now();
        // What a teardown does is part of how the process ends.
        let ends_with_process = engine::may_wait();
        let session = self.session_within(command.deadline).await?;
        let stdin = Bytes::from(std::mem::take(&mut command.stdin));
        if let Some(input) = running.input.as_ref().filter(|_| !stdin.is_empty()) {
            // The channel has room: nothing else has been sent yet.
            drop(input.try_send(Input::Data(stdin)));
        }
        engine::spawn(async move {
            let _unfinished = Unfinished::begin();
            let streams = Streams { input: Some(receiver), control: Some(controls), output: sender };
            let end = command.deadline.and_then(|limit| begun.checked_add(limit));
            let deadline = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            let mut late = false;
            let mut outcome = tokio::select! {
                outcome = session.run(&command, streams) => Some(outcome),
                () = wanted.cancelled() => None,
                () = STOP_ALL.cancelled(), if ends_with_process => None,
                () = deadline => {
                    late = true;
                    None
                }
            };
            if !matches!(outcome, Some(Ok(_))) {
                // Whoever hears that it was ended must not find it running.
                let is_ended = tokio::time::timeout(ENDING, session.settled()).await.unwrap_or(false);
                if late {
                    let limit = crate::duration::format(command.deadline.unwrap_or_default());
                    let end = if is_ended { "and was ended" } else { "and could not be ended: it may still run" };
                    let message = format!("`{command}` did not end within {limit}, {end}");
                    outcome = Some(Err(SessionError::new(SessionErrorKind::Timeout, message)));
                }
            }
            if let Some(outcome) = outcome {
                drop(reply.send(outcome));
            }
        })?;
        Ok(running)
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
    command: String,
    /// Tells of a reader that has failed.
    feeding: Option<oneshot::Receiver<io::Error>>,
    wanted: CancellationToken,
    input: Option<mpsc::Sender<Input>>,
    control: mpsc::Sender<Input>,
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
        if let Some(sender) = &self.input {
            // A command that has ended takes no more.
            drop(sender.send(Input::Data(bytes.into())).await);
        }
    }

    /// Tells the command that the window of its terminal has another size. Does not wait for it to read its input.
    pub async fn resize(&self, size: PtySize) {
        drop(self.control.send(Input::Resize(size)).await);
    }

    /// Sends a signal to the command and its children. Does not wait for it to read its input.
    pub async fn signal(&self, signal: Signal) {
        drop(self.control.send(Input::Signal(signal)).await);
    }

    /// Has the command read from a reader, as it comes, until its end. Nothing else can be written to it then.
    ///
    /// A reader that fails ends the command, and [`wait`](Self::wait) says why.
    ///
    /// # Errors
    ///
    /// If there is no runtime to read in.
    pub fn feed(&mut self, reader: impl AsyncRead + Send + 'static) -> Result<()> {
        self.feed_by(async move |input: mpsc::Sender<Input>| {
            let mut reader = std::pin::pin!(reader);
            loop {
                let mut buffer = BytesMut::with_capacity(PIECE);
                let read = tokio::select! {
                    read = reader.read_buf(&mut buffer) => read?,
                    // One that waits for a person, say, is not waited for.
                    () = input.closed() => return Ok(()),
                };
                if read == 0 || input.send(Input::Data(buffer.freeze())).await.is_err() {
                    return Ok(());
                }
            }
        })
    }

    /// The same with a reader that blocks, which gets a thread of its own. It ends with the reader, or after the read that
    /// is under way when the command ends.
    ///
    /// # Errors
    ///
    /// If there is no thread to be had.
    pub fn feed_blocking(&mut self, mut reader: impl io::Read + Send + 'static) -> Result<()> {
        let (sender, mut pieces) = mpsc::channel(1);
        let read = move || {
            let mut buffer = vec![0; PIECE];
            loop {
                let piece = match reader.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) => Ok(Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default())),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let is_last = piece.is_err();
                if sender.blocking_send(piece).is_err() || is_last {
                    return;
                }
            }
        };
        let started = std::thread::Builder::new().name("broker-stdin".to_owned()).spawn(read);
        drop(started.map_err(|error| Error::session(&self.host, self.unread(error)))?);
        self.feed_by(async move |input: mpsc::Sender<Input>| {
            loop {
                let piece = tokio::select! {
                    piece = pieces.recv() => piece,
                    () = input.closed() => return Ok(()),
                };
                let Some(piece) = piece else { return Ok(()) };
                if input.send(Input::Data(piece?)).await.is_err() {
                    return Ok(());
                }
            }
        })
    }

    fn feed_by<F>(&mut self, feed: impl FnOnce(mpsc::Sender<Input>) -> F + Send + 'static) -> Result<()>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let Some(input) = self.input.take() else { return Ok(()) };
        let (tell, told) = oneshot::channel();
        self.feeding = Some(told);
        let wanted = self.wanted.clone();
        engine::spawn(async move {
            if let Err(error) = feed(input).await {
                drop(tell.send(error));
                wanted.cancel();
            }
        })?;
        Ok(())
    }

    fn unread(&self, error: io::Error) -> SessionError {
        let message = format!("could not read what `{}` is given", self.command);
        SessionError::new(SessionErrorKind::Local, message).source(error)
    }

    /// Collects what the command prints from now on, until its end. What it reads is as [`feed`](Self::feed) says;
    /// otherwise its input is closed.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub async fn output(mut self) -> Result<Output> {
        self.input = None;
        let (host, command) = (self.host.label(), self.command.clone());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(piece) = self.next().await {
            match piece {
                Piece::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Piece::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            }
        }
        let status = self.wait().await?;
        Ok(Output { host, command, status, stdout: stdout.into(), stderr: stderr.into() })
    }

    /// Ends what the command can read.
    pub fn close_stdin(&mut self) {
        self.input = None;
    }

    /// A handle for giving input from another task.
    pub fn input(&self) -> Option<mpsc::Sender<Input>> {
        self.input.clone()
    }

    /// Closes the command's input and waits for its end. Output that was not taken is thrown away.
    ///
    /// # Errors
    ///
    /// If the command could not be run, its end was not seen, its deadline has passed, or the reader that it is fed from
    /// has failed.
    pub async fn wait(mut self) -> Result<ExitStatus> {
        self.input = None;
        self.output.close();
        while self.output.recv().await.is_some() {}
        let outcome = (&mut self.status).await;
        if let Some(error) = self.feeding.as_mut().and_then(|feeding| feeding.try_recv().ok()) {
            return Err(Error::session(&self.host, self.unread(error)));
        }
        match outcome {
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
