//! How a server on loopback is to be.

use std::net::{IpAddr, Ipv4Addr};

use super::jail;
use super::keys::Kind;
use super::openssh::SFTP_SERVER;
use super::server::Server;

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(super) program: Program,
    pub(super) options: Vec<String>,
    pub(super) host_keys: Vec<Kind>,
    pub(super) listens_at: IpAddr,
    pub(super) sftp: Option<String>,
    pub(super) jailed: bool,
    pub(super) shell: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    OpenSsh,
    Dropbear,
}

impl Setup {
    /// OpenSSH's `sshd`, with an ed25519 and an ECDSA host key, for the user of this process. It lets in by key alone, and
    /// has `sftp`.
    pub fn openssh() -> Self {
        Self {
            program: Program::OpenSsh,
            options: Vec::new(),
            host_keys: vec![Kind::Ed25519, Kind::Ecdsa],
            listens_at: Ipv4Addr::LOCALHOST.into(),
            sftp: Some(SFTP_SERVER.to_owned()),
            jailed: false,
            shell: "/bin/bash".to_owned(),
        }
    }

    /// dropbear, in a jail: it takes keys from the user's home alone. It has `sftp` where OpenSSH's server for that is
    /// installed.
    pub fn dropbear() -> Self {
        Self { program: Program::Dropbear, jailed: true, host_keys: vec![Kind::Ed25519], ..Self::openssh() }
    }

    /// Adds a line of `sshd_config`, which goes before those that are there anyway; or an option of dropbear's.
    #[must_use]
    pub fn option(mut self, line: impl Into<String>) -> Self {
        self.options.push(line.into());
        self
    }

    /// Has these host keys.
    #[must_use]
    pub fn host_keys(mut self, kinds: &[Kind]) -> Self {
        self.host_keys = kinds.to_vec();
        self
    }

    /// Has no subsystem `sftp`.
    #[must_use]
    pub fn without_sftp(mut self) -> Self {
        self.sftp = None;
        self
    }

    /// Has an `sftp` that knows nothing of these requests and extensions, by the names that `sftp-server -Q requests` has
    /// for them.
    #[must_use]
    pub fn sftp_without(mut self, requests: &[&str]) -> Self {
        self.sftp = Some(format!("{SFTP_SERVER} -P {}", requests.join(",")));
        self
    }

    /// Listens at this address of this machine, and at no other.
    #[must_use]
    pub fn listens_at(mut self, address: impl Into<IpAddr>) -> Self {
        self.listens_at = address.into();
        self
    }

    /// Has users, passwords and homes of its own: see [`jail`](super::jail). Needs root.
    #[must_use]
    pub fn jailed(mut self) -> Self {
        self.jailed = true;
        self
    }

    /// As [`jailed`](Self::jailed) where this is root; else for the user of this process, with what is in their home.
    #[must_use]
    pub fn jailed_where_possible(self) -> Self {
        if jail::is_root() { self.jailed() } else { self }
    }

    /// The login shell of the users in its jail.
    #[must_use]
    pub fn shell(mut self, shell: &str) -> Self {
        self.shell = shell.to_owned();
        self.jailed()
    }

    /// Starts it, and returns when it answers.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn start(self) -> Server {
        let server = self.prepare();
        server.start();
        server
    }

    /// Makes everything but the server itself, for one that starts later.
    ///
    /// # Panics
    ///
    /// If there is no room.
    pub fn prepare(self) -> Server {
        Server::prepared(self)
    }
}
