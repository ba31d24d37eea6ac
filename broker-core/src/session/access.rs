//! How a host is reached: by a session that its provider opened, or by SSH, which the core sees to.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Session;
use crate::secrets::Secret;

/// What a provider says when a session on one of its hosts is wanted.
#[non_exhaustive]
pub enum Access {
    /// A session of the provider's own, such as an engine's exec. It is open.
    Session(Arc<dyn Session>),
    /// The host is reached by SSH. The core connects, pins the host key and keeps the connection.
    Ssh(SshLogin),
}

/// What a provider knows about logging in to one of its hosts. What it leaves open comes from the host's facts, the
/// settings of the provider's instance and the `ssh` section, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshLogin {
    /// The host name or IP address; the record's where there is none.
    pub address: Option<String>,
    /// The port; the record's where there is none.
    pub port: Option<u16>,
    /// The user to log in as.
    pub user: Option<String>,
    /// A file with the private key to log in with, and with no other.
    pub key_file: Option<PathBuf>,
    /// The private key itself, in OpenSSH's form or PEM and not locked, to log in with and with no other: one that was made
    /// for the host.
    pub key: Option<Secret>,
    /// The password.
    pub password: Option<Secret>,
    /// Why nobody may be let in, where the provider knows of a reason: a fragment, added to the error of a host that lets
    /// nobody in.
    pub note: Option<String>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(_) => f.write_str("Session"),
            Self::Ssh(login) => f.debug_tuple("Ssh").field(login).finish(),
        }
    }
}

impl<S: Session + 'static> From<Arc<S>> for Access {
    fn from(session: Arc<S>) -> Self {
        Self::Session(session)
    }
}
