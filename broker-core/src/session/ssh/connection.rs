//! What an SSH library has to offer: channels on a connection. Everything else is built on this, once.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::session::{ExitStatus, PtyRequest, PtySize, SessionError};

/// One connection that is logged in.
///
/// Methods may be called many times at once, on the engine's runtime. Dropping the last handle closes the connection.
#[async_trait]
pub(super) trait Connection: Send + Sync {
    /// Opens a channel. Where the server has as many as it takes, waits until one of them is closed.
    ///
    /// Dropping the future gives the channel up, also where the server has already opened it.
    async fn open(&self, start: Start) -> Result<Channel, SessionError>;

    /// Why no further channel can be opened, if that is so.
    fn broken(&self) -> Option<String>;

    /// What may run on the connection.
    fn takes(&self) -> Takes;

    /// Says goodbye and closes the connection, with all channels.
    async fn close(&self);
}

/// How many commands and subsystems a connection is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// As many at once as the server allows.
    Many,
    /// One after the other: see `one_each.rs`. [`Connection::open`] waits for the end of the one before.
    One,
    /// No more: one was given up there, and ends nobody knows when.
    None,
}

/// What a channel is for.
#[derive(Debug, Clone)]
pub(super) enum Start {
    /// A command line for the user's login shell.
    Exec {
        /// The line, as bytes.
        line: Vec<u8>,
        /// A terminal for it.
        pty: Option<PtyRequest>,
    },
    /// A subsystem of the server, such as `sftp`.
    Subsystem(&'static str),
    /// A TCP connection that the server makes (`direct-tcpip`).
    Tcp {
        /// The host name or address, as the server sees it.
        host: String,
        /// The port.
        port: u16,
    },
}

/// An open channel. Dropping `output` closes it at the server; what was said before is still sent.
#[derive(Debug)]
pub(super) struct Channel {
    /// To the other side. Waits while the server's window is full. Dropping it says nothing: [`ToRemote::Eof`] does.
    pub(super) input: mpsc::Sender<ToRemote>,
    /// Sizes of its terminal, which do not wait for the server's window.
    pub(super) sizes: mpsc::Sender<PtySize>,
    /// From the other side: pieces, then at most one [`FromRemote::Ended`], then the end of the channel. What is not
    /// taken fills the window and holds only this channel up.
    pub(super) output: mpsc::Receiver<FromRemote>,
}

/// Something for the other side of a channel.
#[derive(Debug)]
pub(super) enum ToRemote {
    Data(Bytes),
    /// No data will follow.
    Eof,
}

/// Something from the other side of a channel.
#[derive(Debug)]
pub(super) enum FromRemote {
    Stdout(Bytes),
    Stderr(Bytes),
    /// How the command ended. Comes last, where the server says it at all.
    Ended(ExitStatus),
    /// The connection broke. Comes last.
    Broken(SessionError),
}
