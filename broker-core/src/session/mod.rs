//! The [`Session`] trait: commands and files on a host, by whatever way leads there.
//!
//! A session knows four things: to run a command, to take a tree of files, to give one, and to close. What people use
//! is on [`Host`](crate::Host), which builds collected output, deadlines, trees on disk, copies between hosts and waits
//! out of these.

mod access;
pub mod archive;
mod command;
mod error;
pub mod local;
mod mark;
#[cfg(feature = "ssh")]
pub mod ssh;
mod tree;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

pub use self::access::{Access, SshLogin};
pub use self::command::{Command, ExitStatus, Program, PtyRequest, PtySize, Signal};
pub use self::error::{SessionError, SessionErrorKind};
pub use self::mark::Mark;
pub use self::tree::{EntryKind, RemotePath, TreeEntry, TreeItem};

/// A connection to one host.
///
/// Methods run on the engine's runtime and may be called many times at once. Dropping the future of
/// [`run`](Self::run) ends the remote command, with all its children where the way to the host allows that.
#[async_trait]
pub trait Session: Send + Sync {
    /// Runs a command and returns how it ended, once all its output has been handed over.
    ///
    /// Output goes to `streams.output` as it comes; a receiver that is dropped throws further output away, and the
    /// command goes on. The end of `streams.input` closes the command's standard input.
    ///
    /// # Errors
    ///
    /// If the command could not be started or its end was not seen. A command that fails is no error.
    async fn run(&self, command: &Command, streams: Streams) -> Result<ExitStatus, SessionError>;

    /// Writes a tree of files. `to` becomes what the first item of the tree says it is: a file, a directory or a
    /// symbolic link. Missing parents are made; what exists is replaced, directories are merged.
    ///
    /// # Errors
    ///
    /// If anything could not be written, or `items` ends in the middle of a file.
    async fn put(&self, to: &RemotePath, items: mpsc::Receiver<TreeItem>) -> Result<(), SessionError>;

    /// Reads a file, a symbolic link or a directory with all that is in it, and sends it piece by piece.
    ///
    /// # Errors
    ///
    /// If `from` does not exist or cannot be read. Returns early, without an error, where the receiver is dropped.
    async fn get(&self, from: &RemotePath, items: mpsc::Sender<TreeItem>) -> Result<(), SessionError>;

    /// Whether the connection is known to be broken, so that the next use should open another.
    fn is_broken(&self) -> bool {
        false
    }

    /// Waits until what was running in calls of [`run`](Self::run) that were dropped has ended on the host. Says whether
    /// all of it has, as far as that is known.
    ///
    /// By default it returns at once: for sessions that have ended it by the time the call is dropped.
    async fn settled(&self) -> bool {
        true
    }

    /// Closes the connection. Commands that are running end.
    async fn close(&self);
}

/// The two ends of a running command, as channels.
#[derive(Debug)]
pub struct Streams {
    /// What the command reads, and what else is done to it once it has read what comes before. `None` is an empty
    /// standard input.
    pub input: Option<mpsc::Receiver<Input>>,
    /// What is done to it at once, however much of the input it has not read: signals, and sizes of its terminal.
    pub control: Option<mpsc::Receiver<Input>>,
    /// What the command prints.
    pub output: mpsc::Sender<Output>,
}

/// Something for a running command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// Bytes for its standard input.
    Data(Bytes),
    /// The window of its terminal has changed.
    Resize(PtySize),
    /// A signal for the command and its children.
    Signal(Signal),
}

/// Something that a running command printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// On its standard output, or its terminal.
    Stdout(Bytes),
    /// On its standard error.
    Stderr(Bytes),
}
