//! The SSH libraries.

mod questions;
#[cfg(feature = "russh")]
mod russh;
mod ssh2;

use std::sync::Arc;

use super::connection::Connection;
use super::dial::Gates;
use super::host_key::HostKey;
use super::target::SshTarget;
use crate::session::SessionError;
use crate::settings::SshBackend;

/// What came of the identities of an agent of which none will do.
fn agents_answer(refused: usize, all: usize) -> String {
    let identities = if all == 1 { "identity" } else { "identities" };
    if refused == all {
        format!("agent ({all} {identities} refused)")
    } else {
        format!(
            "agent ({refused} of {all} {identities} refused, the others not tried: the server allows no more attempts)"
        )
    }
}

/// A connection, the key that the host has shown, and those of the hosts on the way.
pub(super) type Contact = (Arc<dyn Connection>, HostKey, Gates);

/// Connects and logs in.
pub(super) async fn connect(target: &SshTarget) -> Result<Contact, SessionError> {
    match target.backend {
        SshBackend::Ssh2 => ssh2::connect(target).await,
        #[cfg(feature = "russh")]
        SshBackend::Russh => russh::connect(target).await,
        #[cfg(not(feature = "russh"))]
        SshBackend::Russh => {
            let message = "this program was built without the SSH library `russh`, which setting `ssh.backend` names";
            Err(SessionError::new(crate::session::SessionErrorKind::Unsupported, message))
        }
    }
}
