//! The SSH libraries.

#[cfg(feature = "russh")]
mod russh;
mod ssh2;

use std::sync::Arc;

use super::connection::Connection;
use super::host_key::HostKey;
use super::target::SshTarget;
use crate::session::SessionError;
use crate::settings::SshBackend;

/// Connects and logs in; the key is the one that the host has shown.
pub(super) async fn connect(target: &SshTarget) -> Result<(Arc<dyn Connection>, HostKey), SessionError> {
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
