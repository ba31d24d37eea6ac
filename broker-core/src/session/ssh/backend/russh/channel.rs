//! One channel: the request that starts it, and the task that carries its pieces.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use russh::client::Msg;
use russh::{Channel as Inner, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty};
use tokio::sync::mpsc;

use super::super::super::connection::{FromRemote, Start, ToRemote};
use super::{Place, Shared};
use crate::session::{ExitStatus, PtySize, SessionError, SessionErrorKind};

/// How many pieces may be on their way at once, in each direction.
pub(super) const PIECES: usize = 64;

/// How many bytes are kept for somebody who does not take them before the connection is held up.
const KEPT: usize = 16 * 1024 * 1024;

/// The extended data that is the standard error (RFC 4254, 5.2).
const STDERR: u32 = 1;

/// Why a channel that is open was not put to use.
pub(super) enum NotStarted {
    Refused,
    Lost(russh::Error),
}

impl From<russh::Error> for NotStarted {
    fn from(error: russh::Error) -> Self {
        Self::Lost(error)
    }
}

/// Says what the channel is for, and waits for the server's consent.
pub(super) async fn start(inner: &mut Inner<Msg>, start: &Start) -> Result<(), NotStarted> {
    match start {
        Start::Tcp { .. } => return Ok(()),
        Start::Subsystem(name) => inner.request_subsystem(true, *name).await?,
        Start::Exec { line, pty } => {
            if let Some(pty) = pty {
                let modes: Vec<(Pty, u32)> =
                    pty.modes.iter().filter_map(|(code, value)| Some((Pty::from_u8(*code)?, *value))).collect();
                let (columns, rows) = (u32::from(pty.size.columns), u32::from(pty.size.rows));
                inner.request_pty(true, &pty.term, columns, rows, 0, 0, &modes).await?;
                consent(inner).await?;
            }
            inner.exec(true, line.clone()).await?;
        }
    }
    consent(inner).await
}

async fn consent(inner: &mut Inner<Msg>) -> Result<(), NotStarted> {
    loop {
        match inner.wait().await {
            Some(ChannelMsg::Success) => return Ok(()),
            Some(ChannelMsg::Failure | ChannelMsg::Close | ChannelMsg::Eof) => return Err(NotStarted::Refused),
            Some(_) => {}
            None => return Err(NotStarted::Lost(russh::Error::Disconnect)),
        }
    }
}

/// Carries the pieces of one channel until both sides are done with it.
pub(super) struct Pump {
    pub(super) inner: Inner<Msg>,
    pub(super) given: mpsc::Receiver<ToRemote>,
    pub(super) resized: mpsc::Receiver<PtySize>,
    pub(super) output: mpsc::Sender<FromRemote>,
    pub(super) place: Place,
    pub(super) shared: Arc<Shared>,
    pub(super) label: String,
}

impl Pump {
    pub(super) async fn run(self) {
        let Self { inner, given, resized, output, place, shared, label } = self;
        let (mut reading, writing) = inner.split();
        let feeding = std::pin::pin!(async {
            let (fed, _never) = tokio::join!(feed(&writing, given), resize(&writing, resized));
            fed
        });
        let whole = tokio::select! {
            whole = carry(&mut reading, &output) => whole,
            never = feeding => match never {},
        };
        if whole == Carried::Unwanted {
            // Before anybody sees that the input is dropped.
            shared.gave_up.store(true, Ordering::Relaxed);
        }
        drop(writing.close().await);
        if whole == Carried::Lost {
            let why = shared.ended.lock().clone().unwrap_or_else(|| "it was closed".to_owned());
            let message = format!("the connection to `{label}` broke: {why}");
            let error = SessionError::new(SessionErrorKind::Unreachable, message);
            drop(output.send(FromRemote::Broken(error)).await);
        }
        drop((output, place));
    }
}

#[derive(PartialEq, Eq)]
enum Carried {
    /// The server has closed the channel.
    Closed,
    /// Nobody wants its output any more.
    Unwanted,
    Lost,
}

/// Hands over what comes. Somebody who does not take it holds the others up only beyond [`KEPT`]: the library gives the
/// server room for more as soon as it has read something, whoever took it.
async fn carry(reading: &mut ChannelReadHalf, output: &mpsc::Sender<FromRemote>) -> Carried {
    let mut kept: VecDeque<FromRemote> = VecDeque::new();
    let mut bytes = 0;
    let mut end = None;
    let mut status = None;
    loop {
        if end.is_some() && kept.is_empty() {
            break;
        }
        tokio::select! {
            message = reading.wait(), if end.is_none() && bytes < KEPT => match message {
                Some(ChannelMsg::Data { data }) => {
                    bytes += data.len();
                    kept.push_back(FromRemote::Stdout(data));
                }
                Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => {
                    bytes += data.len();
                    kept.push_back(FromRemote::Stderr(data));
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    status = Some(ExitStatus::Code(i32::try_from(exit_status).unwrap_or(255)));
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    status = Some(ExitStatus::Signal(name(&signal_name)));
                }
                Some(ChannelMsg::Close) => end = Some(Carried::Closed),
                Some(_) => {}
                // The library ends a channel that was closed like one whose connection is gone.
                None => end = Some(if status.is_some() { Carried::Closed } else { Carried::Lost }),
            },
            room = output.reserve(), if !kept.is_empty() => match (room, kept.pop_front()) {
                (Ok(room), Some(piece)) => {
                    if let FromRemote::Stdout(data) | FromRemote::Stderr(data) = &piece {
                        bytes -= data.len();
                    }
                    room.send(piece);
                }
                _ => return Carried::Unwanted,
            },
            () = output.closed() => return Carried::Unwanted,
        }
    }
    if let Some(status) = status {
        drop(output.send(FromRemote::Ended(status)).await);
    }
    end.unwrap_or(Carried::Lost)
}

/// Hands the server what is given. Never completes, so that what comes decides.
async fn feed(writing: &ChannelWriteHalf<Msg>, mut given: mpsc::Receiver<ToRemote>) -> Infallible {
    while let Some(what) = given.recv().await {
        let sent = match what {
            ToRemote::Data(bytes) => writing.data_bytes(bytes).await,
            ToRemote::Eof => writing.eof().await,
        };
        if sent.is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// Tells the server of the sizes of the terminal. Never completes either.
async fn resize(writing: &ChannelWriteHalf<Msg>, mut sizes: mpsc::Receiver<PtySize>) -> Infallible {
    while let Some(size) = sizes.recv().await {
        if writing.window_change(u32::from(size.columns), u32::from(size.rows), 0, 0).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

fn name(signal: &russh::Sig) -> String {
    match signal {
        russh::Sig::Custom(name) => name.clone(),
        other => format!("{other:?}"),
    }
}
