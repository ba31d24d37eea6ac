//! What goes wrong on a host.

use std::error::Error as StdError;

/// What kind of trouble a session ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionErrorKind {
    /// The host does not answer, or the connection broke.
    Unreachable,
    /// The host is not the one it should be: its key is not the one that is believed.
    HostKey,
    /// The host does not let us in.
    Auth,
    /// It took too long, and was ended.
    Timeout,
    /// A file, directory, program or user that does not exist.
    NotFound,
    /// Not allowed on the host.
    Permission,
    /// The host is not in a state for it, such as a container that has stopped.
    NotRunning,
    /// This way to the host cannot do that.
    Unsupported,
    /// A file on this machine could not be read or written.
    Local,
    /// Everything else.
    Failed,
}

/// An error of a session. What a command itself reports is no error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SessionError {
    kind: SessionErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl SessionError {
    /// An error of a kind. The message is a fragment in lower case that names the thing.
    pub fn new(kind: SessionErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the error underneath. Its text must not be in the message too.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error as another kind: what is local to the host, seen from here.
    #[must_use]
    pub fn with_kind(mut self, kind: SessionErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> SessionErrorKind {
        self.kind
    }
}
