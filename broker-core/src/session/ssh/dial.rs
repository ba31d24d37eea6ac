//! Sockets to hosts: all their addresses, within limits, with patience; or through another host.

mod address;
mod jump;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backend;
use super::connection::Connection;
use super::host_key::{HostKey, HostKeyPolicy};
use super::target::SshTarget;
use crate::session::{SessionError, SessionErrorKind};

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Refused {
    /// As by a machine that is booting: it may be there later.
    Yet(SessionError),
    /// Waiting will not help.
    Finally(SessionError),
}

impl Refused {
    /// What there is to say when nobody waits any longer.
    pub(super) fn into_error(self) -> SessionError {
        match self {
            Self::Yet(error) | Self::Finally(error) => error,
        }
    }
}

/// For how long, and how often, a connection is tried again.
pub(super) struct Patience<'a> {
    target: &'a SshTarget,
    until: Instant,
    pause: Duration,
}

impl<'a> Patience<'a> {
    /// The pauses between two attempts begin with this and double up to [`Self::LONGEST`].
    const SHORTEST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(2);

    /// Patience that begins now.
    pub(super) fn new(target: &'a SshTarget) -> Self {
        let now = Instant::now();
        // What no clock can tell is long enough.
        let until =
            now.checked_add(target.limits.patience).unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 60 * 60));
        Self { target, until, pause: Self::SHORTEST }
    }

    /// Waits before another attempt.
    ///
    /// # Errors
    ///
    /// The refusal, if that is final, or if there is no patience left.
    pub(super) async fn after(&mut self, refused: Refused) -> Result<(), SessionError> {
        let left = self.until.saturating_duration_since(Instant::now());
        match refused {
            Refused::Yet(error) if !left.is_zero() => {
                tracing::debug!("{error}; trying again for {} seconds", left.as_secs());
                tokio::time::sleep(self.pause.min(left)).await;
                self.pause = (self.pause * 2).min(Self::LONGEST);
                Ok(())
            }
            Refused::Yet(error) if !self.target.limits.patience.is_zero() => {
                let SshTarget { label, limits, .. } = self.target;
                let message = format!("waited {:?} in vain for `{label}` to boot", limits.patience);
                Err(SessionError::new(error.kind(), message).source(error))
            }
            refused => Err(refused.into_error()),
        }
    }
}

/// The way to a host: straight, or through another host that is logged in to.
pub(super) struct Dialler<'a> {
    target: &'a SshTarget,
    jump: Option<Arc<dyn Connection>>,
    gates: Gates,
}

/// The keys of hosts on the way, by their places, that were believed because it was the first contact.
pub(super) type Gates = BTreeMap<String, HostKey>;

impl<'a> Dialler<'a> {
    /// Connects to the target's jump host, if it has one.
    pub(super) async fn new(target: &'a SshTarget) -> Result<Self, SessionError> {
        let Some(via) = &target.jump else { return Ok(Self { target, jump: None, gates: Gates::new() }) };
        // The future holds itself, through the jump host's jump host.
        let (jump, key, mut gates) = Box::pin(backend::connect(via)).await?;
        if matches!(via.host_key, HostKeyPolicy::AcceptNew) {
            gates.insert(place(via), key);
        }
        Ok(Self { target, jump: Some(jump), gates })
    }

    /// The keys of the hosts on the way that were seen for the first time.
    pub(super) fn gates(&self) -> Gates {
        self.gates.clone()
    }

    /// Makes a socket to the host, which does not block.
    pub(super) async fn dial(&self) -> Result<OwnedFd, Refused> {
        match (&self.jump, &self.target.jump) {
            (Some(jump), Some(via)) => jump::dial(self.target, via, jump).await,
            _ => Ok(address::dial(self.target).await?.into()),
        }
    }
}

/// A host that cannot be reached.
fn unreachable(message: String) -> SessionError {
    SessionError::new(SessionErrorKind::Unreachable, message)
}

/// An address and a port, as one writes them.
pub(super) fn place(target: &SshTarget) -> String {
    place_of(&target.address, target.port)
}

/// The same of a host that is no target yet.
pub(super) fn place_of(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}
