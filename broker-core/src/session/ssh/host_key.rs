//! Host keys: what a server shows to prove who it is, and what is believed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

use super::dial::place;
use super::known_hosts::KnownHosts;
use super::target::SshTarget;
use crate::session::{SessionError, SessionErrorKind};

/// A server's public key, in the form that goes over the wire (RFC 4253, 6.6): prints as in `known_hosts`,
/// `ssh-ed25519 AAAA…`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostKey {
    algorithm: String,
    blob: Vec<u8>,
}

/// A text that is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no public key such as `ssh-ed25519 AAAA…`")]
pub struct InvalidKey(String);

impl HostKey {
    /// A key from the bytes of the wire, which begin with the name of the algorithm.
    ///
    /// # Errors
    ///
    /// If they do not.
    pub fn from_blob(blob: impl Into<Vec<u8>>) -> Result<Self, InvalidKey> {
        let blob = blob.into();
        let name = blob.split_at_checked(4).and_then(|(length, rest)| {
            let length = u32::from_be_bytes(length.try_into().ok()?);
            std::str::from_utf8(rest.get(..usize::try_from(length).ok()?)?).ok()
        });
        match name.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())) {
            Some(name) => Ok(Self { algorithm: name.to_owned(), blob }),
            None => Err(InvalidKey(STANDARD.encode(&blob))),
        }
    }

    /// The name of its algorithm: `ssh-ed25519`.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The bytes of the wire.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The fingerprint as OpenSSH prints it: `SHA256:` and base64.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, STANDARD.encode(&self.blob))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.fingerprint())
    }
}

impl FromStr for HostKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidKey(text.to_owned());
        let (algorithm, rest) = text.trim().split_once(' ').ok_or_else(invalid)?;
        let base64 = rest.split_whitespace().next().ok_or_else(invalid)?;
        let key = STANDARD.decode(base64).ok().and_then(|blob| Self::from_blob(blob).ok()).ok_or_else(invalid)?;
        if key.algorithm == algorithm { Ok(key) } else { Err(invalid()) }
    }
}

/// Which host keys are believed.
#[derive(Debug, Clone)]
pub enum HostKeyPolicy {
    /// Any, at the first contact; whoever connects writes it down and asks for it ever after.
    AcceptNew,
    /// This one alone, seen at the first contact.
    Pinned(HostKey),
    /// Those that `known_hosts` files name for the host.
    Strict(KnownHosts),
    /// Any, always.
    Insecure,
}

impl HostKeyPolicy {
    /// The algorithms of the keys that would be believed, the first one first; none where any will do.
    pub(super) fn algorithms(&self, address: &str, port: u16) -> Vec<String> {
        match self {
            Self::AcceptNew | Self::Insecure => Vec::new(),
            Self::Pinned(key) => vec![key.algorithm.clone()],
            Self::Strict(known) => known.algorithms(address, port),
        }
    }

    /// Whether a key that a host has shown is believed.
    pub(super) fn check(&self, target: &SshTarget, shown: &HostKey) -> Result<(), SessionError> {
        let SshTarget { label, address, port, .. } = target;
        match self {
            Self::AcceptNew => Ok(()),
            Self::Pinned(pinned) if pinned == shown => Ok(()),
            Self::Pinned(pinned) => {
                let message = format!(
                    "`{label}` at `{}` is not the host that was seen before: its key is `{}` ({}), and was `{}` ({}); if \
                     it was set up anew, check the host in and out again, otherwise somebody else answers at its address",
                    place(target),
                    shown.fingerprint(),
                    shown.algorithm,
                    pinned.fingerprint(),
                    pinned.algorithm,
                );
                Err(SessionError::new(SessionErrorKind::HostKey, message))
            }
            Self::Strict(known) => known.check(address, *port, shown),
            Self::Insecure => {
                let (place, fingerprint) = (place(target), shown.fingerprint());
                tracing::warn!(
                    "the key of `{label}` at `{place}`, `{fingerprint}`, is not checked, as the settings want it: whoever \
                     answers there gets the password and all commands"
                );
                Ok(())
            }
        }
    }
}
