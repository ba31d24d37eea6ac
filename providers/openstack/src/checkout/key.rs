//! A key pair of a host's own: made here, so that the private half is never sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker_core::provider::{ErrorKind, ProviderError};
use broker_core::secrets::Secret;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

const KIND: &[u8] = b"ssh-ed25519";

/// Both halves, as OpenSSH writes them.
pub(crate) struct OwnKey {
    pub(crate) private: Secret,
    pub(crate) public: String,
}

impl OwnKey {
    pub(crate) fn generate() -> Result<Self, ProviderError> {
        let failed = || ProviderError::new(ErrorKind::Bug, "no key pair could be made");
        let random = SystemRandom::new();
        let (mut seed, mut check) = ([0; 32], [0; 4]);
        random.fill(&mut seed).and_then(|()| random.fill(&mut check)).map_err(|_| failed())?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| failed())?;
        let public = pair.public_key().as_ref();
        Ok(Self {
            private: Secret::new(private_file(&seed, public, check)),
            public: format!("ssh-ed25519 {} broker", STANDARD.encode(public_blob(public))),
        })
    }
}

fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    // All of them are short.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(bytes);
}

fn public_blob(public: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    put(&mut blob, KIND);
    put(&mut blob, public);
    blob
}

/// OpenSSH's own format, not locked: see `PROTOCOL.key` in its sources.
fn private_file(seed: &[u8; 32], public: &[u8], check: [u8; 4]) -> String {
    let mut inner = [check, check].concat();
    put(&mut inner, KIND);
    put(&mut inner, public);
    put(&mut inner, &[seed, public].concat());
    put(&mut inner, b"broker");
    let padding = (1_u8..8).take((8 - inner.len() % 8) % 8);
    inner.extend(padding);

    let mut outer = b"openssh-key-v1\0".to_vec();
    put(&mut outer, b"none");
    put(&mut outer, b"none");
    put(&mut outer, b"");
    outer.extend_from_slice(&1_u32.to_be_bytes());
    put(&mut outer, &public_blob(public));
    put(&mut outer, &inner);
    let mut text = "-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned();
    let encoded = STANDARD.encode(outer);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(70));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text + "-----END OPENSSH PRIVATE KEY-----\n"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn openssh_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let key = OwnKey::generate().unwrap();
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        std::io::Write::write_all(&mut file, key.private.expose().as_bytes()).unwrap();
        let read = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), key.public);
        assert_ne!(OwnKey::generate().unwrap().public, key.public);
    }
}
