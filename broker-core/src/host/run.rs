//! Commands on a host: collected, or as they run.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Host, PIECES};
use crate::engine::{self, STOP_ALL, Unfinished};
use crate::error::{Error, Result};
use crate::session::{
    Command, ExitStatus, Input, Output as Piece, PtySize, SessionError, SessionErrorKind, Signal, Streams,
};

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
                () = STOP_ALL.cancelled(), if ends_with_process => None,
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
