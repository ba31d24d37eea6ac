//! Where to connect to, as whom, and what to believe: everything that is decided before the first packet.

use std::path::PathBuf;
use std::time::Duration;

use super::host_key::HostKeyPolicy;
use crate::secrets::Secret;
use crate::settings::SshBackend;

/// A host as SSH is to reach it. Nothing in it is a wish: every default has been filled in.
#[derive(Debug, Clone)]
pub struct SshTarget {
    /// What people call the host, for messages.
    pub label: String,
    /// The host name or IP address.
    pub address: String,
    /// The port of the SSH server.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// What to log in with, in this order.
    pub credentials: Vec<Credential>,
    /// Which host keys are believed.
    pub host_key: HostKeyPolicy,
    /// Which kinds of addresses are tried.
    pub families: Families,
    /// The host to go through.
    pub jump: Option<Box<Self>>,
    /// How long things may take.
    pub limits: SshLimits,
    /// The library that connects.
    pub backend: SshBackend,
}

/// Something to log in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A private key in a file: ed25519, ecdsa or RSA, in OpenSSH's form or PEM.
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What it is locked with.
        passphrase: Option<Secret>,
        /// Whether the key was asked for by name. One that was only found at its usual place is passed over in silence
        /// where it does not exist or is locked.
        named: bool,
    },
    /// A private key that was made for the host, in OpenSSH's form or PEM, and not locked.
    Key(Secret),
    /// Every identity of the agent at `SSH_AUTH_SOCK`, where there is one, within the server's limit of attempts.
    Agent,
    /// One identity of that agent, whose file is of no use without it: it is locked, or holds the public key alone.
    AgentKey {
        /// The file.
        path: PathBuf,
        /// The public key, in the form that goes over the wire (RFC 4253, 6.6).
        public: Vec<u8>,
    },
    /// A password; also the answer to the questions of `keyboard-interactive`, where the server asks for that.
    Password(Secret),
}

/// Which kinds of addresses to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Families {
    /// IPv4 addresses alone, unless the host has only IPv6 addresses or is given as one.
    #[default]
    Ipv4,
    /// IPv6 addresses alone.
    Ipv6,
    /// IPv6 addresses first, IPv4 where none of them answers.
    Ipv6First,
}

/// How long the steps of connecting may take, and how a quiet connection is looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshLimits {
    /// One address may take so long to accept.
    pub connect: Duration,
    /// Exchanging keys and logging in may take so long.
    pub handshake: Duration,
    /// So long after the beginning, a machine that refuses, does not answer or hangs up before it has said who it is
    /// is tried again: it may be booting.
    pub patience: Duration,
    /// After so long without a word from the server it is asked for one; three of these in vain are a dead connection.
    pub keepalive: Duration,
}

impl SshLimits {
    /// For how long the agent may think about which identities it has: it leaves most of the time for logging in with
    /// something else.
    pub(super) fn for_agent(&self) -> Duration {
        self.handshake / 3
    }
}

impl Default for SshLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            handshake: Duration::from_secs(30),
            patience: Duration::ZERO,
            keepalive: Duration::from_secs(30),
        }
    }
}
