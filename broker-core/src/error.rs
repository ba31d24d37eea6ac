//! What can go wrong, as the library reports it.

use std::fmt;
use std::time::Duration;

use crate::filter::FilterError;
use crate::guard::HostGuards;
use crate::host::Host;
use crate::id::HostId;
use crate::inventory::{InventoryError, SelectError};
use crate::provider::{ErrorKind, ProviderError};
use crate::request::RequestError;
use crate::session::SessionError;
use crate::settings::SettingsError;

/// A result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong.
///
/// Texts are fragments in lower case that name the thing; an error underneath is in [`source`](std::error::Error::source)
/// and never repeated in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request itself does not do: no action, an unknown nick or provider.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The settings do not do.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The inventory could not be read or written.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// A filter does not do.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A host that was named does not exist, or more than one does.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A provider could not do what was asked.
    #[error("{doing}")]
    Provider {
        /// What was being done, as a fragment: ``could not release host 3 (`web-1`)``.
        doing: String,
        /// What the provider says.
        source: ProviderError,
    },
    /// Some hosts, or all of them, could not be checked out.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// Something on a host did not work.
    #[error("host `{host}`")]
    Session {
        /// Which host.
        host: String,
        /// What happened.
        source: SessionError,
    },
    /// A command on a host ended with a status other than 0; from [`Output::check`](crate::Output::check).
    #[error("`{command}` on host `{host}` ended with {status}{tail}")]
    Command {
        /// Which host.
        host: String,
        /// The command.
        command: String,
        /// How it ended.
        status: crate::session::ExitStatus,
        /// The last lines that it printed, each on a line of its own, or nothing.
        tail: String,
    },
    /// A host's own `setup` or `teardown` failed.
    #[error("{hook} of host `{host}` failed")]
    Hook {
        /// Which hook.
        hook: &'static str,
        /// Which host.
        host: String,
        /// Why.
        source: HookError,
    },
    /// A host is not in a state for what was asked.
    #[error("host {number} (`{host}`) {why}")]
    State {
        /// The host's number.
        number: u64,
        /// Which host.
        host: String,
        /// Why not, as a fragment that follows the host.
        why: String,
    },
    /// A host is half made or half released, and its owner may still be at work on it: on a network file system nobody can
    /// tell whether another process lives.
    #[error("host {number} (`{host}`) belongs to {owner}, and nobody can tell whether that still lives")]
    Unproven {
        /// The host's number.
        number: u64,
        /// Which host.
        host: String,
        /// Its owner, in words.
        owner: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {}", crate::duration::format(*limit))]
    Waited {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// The call was made where nothing may wait for the engine: in a hook, or on one of its own threads.
    #[error("a blocking call cannot be made in a hook or in a provider")]
    Blocking,
    /// The engine is gone: the process is ending, or is the child of a fork.
    #[error("this process cannot reach its engine any more: it is ending, or it was forked")]
    Closed,
    /// The engine could not be started.
    #[error("could not start Broker's own thread")]
    Start(#[source] std::io::Error),
    /// Code that ran on the engine panicked, such as that of a provider. Whatever was in progress is in the inventory.
    #[error("a panic ended the work while it was {0}")]
    Panicked(&'static str),
}

/// An error of a hook: anything a test may return.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// One host that could not be checked out.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.message())]
pub struct CheckoutFailure {
    /// The host's id.
    pub id: HostId,
    /// The host's number in the inventory.
    pub number: u64,
    /// Whether its entry stays in the inventory, because something may exist.
    pub is_kept: bool,
    /// What was done about it, as a fragment, where something had begun: ``released what had been made``.
    pub done: Option<String>,
    /// What was wanted: `Container container_host=ubi9`.
    pub wanted: String,
    /// Why not.
    #[source]
    pub source: Box<FailureCause>,
}

impl CheckoutFailure {
    /// Whether nobody wanted the host any more.
    pub fn is_cancelled(&self) -> bool {
        matches!(&*self.source, FailureCause::Provider(error) if error.kind() == ErrorKind::Cancelled)
    }

    fn message(&self) -> String {
        let text = format!("could not check out host {} ({})", self.number, self.wanted);
        match (self.is_kept, &self.done) {
            (true, Some(done)) => format!("{text}; it stays in the inventory: {done}"),
            (true, None) => format!("{text}; what may exist stays in the inventory"),
            (false, Some(done)) => format!("{text}; {done}"),
            (false, None) => text,
        }
    }
}

/// Why a host could not be checked out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FailureCause {
    /// The provider says why.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The journal could not be written.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// Another host of the batch failed, and it was all or nothing.
    #[error("another host of the batch could not be checked out")]
    Batch,
}

/// Some hosts of a batch, or all of them, could not be checked out.
///
/// It holds the guards of those that were: dropping the error releases them, and [`into_made`](Self::into_made) takes
/// them out.
#[derive(Debug)]
pub struct CheckoutError {
    made: HostGuards,
    failures: Vec<CheckoutFailure>,
}

impl CheckoutError {
    pub(crate) fn new(made: HostGuards, failures: Vec<CheckoutFailure>) -> Self {
        Self { made, failures }
    }

    /// Which hosts failed, and why. Never empty.
    pub fn failures(&self) -> &[CheckoutFailure] {
        &self.failures
    }

    /// The hosts that were checked out.
    pub fn made(&self) -> &[crate::HostGuard] {
        &self.made
    }

    /// Takes over the hosts that were checked out, and the failures of the rest.
    pub fn into_made(self) -> (HostGuards, Vec<CheckoutFailure>) {
        (self.made, self.failures)
    }
}

impl fmt::Display for CheckoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.failures.as_slice(), self.made.len()) {
            ([only], 0) => only.fmt(f),
            (failures, made) => {
                write!(f, "could not check out {} of {} hosts", failures.len(), failures.len() + made)
            }
        }
    }
}

impl std::error::Error for CheckoutError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match (self.failures.as_slice(), self.made.len()) {
            ([only], 0) => only.source(),
            (failures, _) => failures.first().map(|failure| failure as _),
        }
    }
}

impl Error {
    pub(crate) fn session(host: &Host, source: SessionError) -> Self {
        Self::Session { host: host.label(), source }
    }

    pub(crate) fn state(record: &crate::inventory::HostRecord, why: impl Into<String>) -> Self {
        Self::State { number: record.number, host: record.label(), why: why.into() }
    }
}
