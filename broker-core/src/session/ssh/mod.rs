//! SSH: commands and files on a host by way of its SSH server.
//!
//! [`connect`] takes a [`SshTarget`], in which everything is decided, and returns a [`Session`]. Three layers:
//!
//! - `backend`: an SSH library (libssh2, by `ssh2`; with the feature `russh` also that). It connects, logs in and gives
//!   channels (`connection.rs`). What is beneath it, sockets and patience, is in `dial.rs`.
//! - `session.rs`: a [`Session`] on channels. `line.rs` makes a command line of a command, `files.rs` moves trees over
//!   `sftp`, or over `tar` where the server has no such subsystem. `one_each.rs` makes several connections look like one.
//! - `host_key.rs`, `known_hosts.rs`, `client_config.rs`: whom to believe, and what `~/.ssh/config` says. `identity.rs`
//!   knows keys by their files. `resolve.rs` makes a target of these, the settings and the record of a host.

mod backend;
pub mod client_config;
mod connection;
mod dial;
mod files;
mod host_key;
mod identity;
pub mod known_hosts;
mod line;
mod one_each;
mod pattern;
pub(crate) mod resolve;
mod session;
mod sftp;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::host_key::{HostKey, HostKeyPolicy, InvalidKey};
pub use self::known_hosts::KnownHosts;
pub use self::target::{Credential, Families, SshLimits, SshTarget};
use super::{Session, SessionError};

/// A host that was connected to.
#[non_exhaustive]
pub struct Connected {
    /// The session.
    pub session: Arc<dyn Session>,
    /// The key that the host has shown, and that the target's policy believed.
    pub host_key: HostKey,
    /// The keys that the hosts on the way have shown, by `address:port`, where any key would have been believed.
    pub jump_keys: BTreeMap<String, HostKey>,
}

/// Connects to a host, by way of its jump host where it has one, and logs in.
///
/// # Errors
///
/// [`SessionErrorKind::Unreachable`](super::SessionErrorKind::Unreachable) where no connection comes about,
/// [`SessionErrorKind::HostKey`](super::SessionErrorKind::HostKey) where the host's key is not believed,
/// [`SessionErrorKind::Auth`](super::SessionErrorKind::Auth) where it lets nobody in: with each method that was tried
/// and the answer to it.
///
/// # Cancel safety
///
/// Dropping the future gives the connection up.
pub async fn connect(target: &SshTarget) -> Result<Connected, SessionError> {
    session::connect(target).await
}
