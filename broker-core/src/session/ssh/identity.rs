//! Keys that only the agent can sign with, found by what is in their files.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What every private key in OpenSSH's form begins with.
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// The public key, in the form that goes over the wire, of a file that is of no use by itself: it holds a public key, or
/// a private one that is locked where there is no passphrase. Nothing for any other file.
pub(super) fn for_agent(path: &Path, has_passphrase: bool) -> Option<Vec<u8>> {
    let text = fs::read_to_string(path).ok()?;
    if let Some(public) = public(&text) {
        return Some(public);
    }
    if has_passphrase {
        return None;
    }
    if text.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
        return of_locked(&text);
    }
    // The older form does not tell the public key of what is locked.
    let is_locked = text.contains("ENCRYPTED");
    is_locked.then(|| fs::read_to_string(beside(path)).ok()).flatten().as_deref().and_then(public)
}

/// The file of the public key that belongs to a private one.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// The public key in a text such as `ssh-ed25519 AAAA… comment`.
fn public(text: &str) -> Option<Vec<u8>> {
    let mut words = text.split_whitespace();
    let name = words
        .next()
        .filter(|name| name.starts_with("ssh-") || name.starts_with("ecdsa-") || name.starts_with("sk-"))?;
    let blob = STANDARD.decode(words.next()?).ok()?;
    let (own, _) = string(&blob)?;
    (own == name.as_bytes()).then_some(blob)
}

/// The public key of a locked one in OpenSSH's form, where it is not locked too.
fn of_locked(text: &str) -> Option<Vec<u8>> {
    let base64: String =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("-----")).collect();
    let bytes = STANDARD.decode(base64).ok()?;
    let (cipher, rest) = string(bytes.strip_prefix(MAGIC)?)?;
    let (_kdf, rest) = string(rest)?;
    let (_options, rest) = string(rest)?;
    let (_count, rest) = rest.split_at_checked(4)?;
    let (public, _) = string(rest)?;
    (cipher != b"none").then(|| public.to_vec())
}

/// A string of the wire (RFC 4251, section 5), and what is behind it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_needs_the_agent() {
        let scratch = tempfile::tempdir().unwrap();
        for (name, kind, passphrase, form) in [
            ("plain", "ed25519", "", "RFC4716"),
            ("locked", "ed25519", "secret", "RFC4716"),
            ("locked-rsa", "rsa", "secret", "RFC4716"),
            ("locked-pem", "rsa", "secret", "PEM"),
        ] {
            let path = scratch.path().join(name);
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-C", "a comment", "-t", kind, "-N", passphrase, "-f"]).arg(&path);
            if form == "PEM" {
                command.args(["-m", "PEM"]);
            }
            assert!(command.status().unwrap().success());
            let public = fs::read_to_string(beside(&path)).unwrap();
            let blob = STANDARD.decode(public.split(' ').nth(1).unwrap()).unwrap();
            assert_eq!(for_agent(&beside(&path), true).as_ref(), Some(&blob), "{name}");
            let expected = Some(&blob).filter(|_| !passphrase.is_empty());
            assert_eq!(for_agent(&path, false).as_ref(), expected, "{name}");
            assert_eq!(for_agent(&path, true), None, "{name}");
        }
        let rubbish = scratch.path().join("rubbish");
        for text in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl",
        ] {
            fs::write(&rubbish, text).unwrap();
            assert_eq!(for_agent(&rubbish, false), None, "{text}");
        }
        assert_eq!(for_agent(&scratch.path().join("missing"), false), None);
    }
}
