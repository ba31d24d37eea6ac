//! Keys for hosts and users, made by OpenSSH's `ssh-keygen`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a key is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on the curve nistp256.
    Ecdsa,
    /// RSA of 2048 bits.
    Rsa,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Ed25519, Self::Ecdsa, Self::Rsa];

    /// The name, as `ssh-keygen` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Ecdsa => "ecdsa",
            Self::Rsa => "rsa",
        }
    }
}

/// A pair of keys in files: the private one and, with `.pub` behind its name, the public one.
#[derive(Debug, Clone)]
pub struct Key {
    path: PathBuf,
}

impl Key {
    /// Makes a pair, locked with a passphrase unless that is empty.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn make(path: impl Into<PathBuf>, kind: Kind, passphrase: &str) -> Self {
        let path = path.into();
        keygen(&path, kind, passphrase, &[]);
        Self { path }
    }

    /// The same in the older form of private keys, PEM.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn make_pem(path: impl Into<PathBuf>, kind: Kind, passphrase: &str) -> Self {
        let path = path.into();
        keygen(&path, kind, passphrase, &["-m", "PEM"]);
        Self { path }
    }

    /// The pair in these files.
    pub(super) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file of the private key.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public key as `known_hosts` and `authorized_keys` have it: `ssh-ed25519 AAAA…`.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    pub fn public(&self) -> String {
        let mut path = self.path.clone().into_os_string();
        path.push(".pub");
        let text = std::fs::read_to_string(path).unwrap();
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// `SHA256:…`.
    ///
    /// # Panics
    ///
    /// If `ssh-keygen` does not tell.
    pub fn fingerprint(&self) -> String {
        let output = Command::new("ssh-keygen").args(["-l", "-E", "sha256", "-f"]).arg(&self.path).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        printed.split_whitespace().nth(1).expect("no fingerprint").to_owned()
    }
}

fn keygen(path: &Path, kind: Kind, passphrase: &str, more: &[&str]) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind.name(), "-N", passphrase, "-C", "test", "-f"]).arg(path).args(more);
    if kind == Kind::Rsa {
        command.args(["-b", "2048"]);
    }
    let output = command.output().expect("`ssh-keygen` cannot be run: the package openssh-client has it");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
