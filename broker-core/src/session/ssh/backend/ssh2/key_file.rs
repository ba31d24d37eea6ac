//! Files with private keys, as far as they have to be understood before libssh2 gets them: it has one error for all that
//! can be wrong with them.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A private key as it is in its file.
pub(super) struct KeyFile {
    pub(super) text: String,
    /// Whether it takes a passphrase to use it.
    pub(super) locked: bool,
}

/// Why a file is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    Missing,
    /// For a reason that reads after the name of the file.
    Because(String),
}

/// Reads a file and looks at what is in it.
pub(super) fn read(path: &Path) -> Result<KeyFile, Unusable> {
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Missing,
        _ => Unusable::Because(format!("cannot be read: {error}")),
    })?;
    let because = |reason: &str| Unusable::Because(reason.to_owned());
    let text = String::from_utf8(bytes).map_err(|_| because("holds no private key"))?;
    let locked = is_locked(&text).map_err(because)?;
    Ok(KeyFile { text, locked })
}

fn is_locked(text: &str) -> Result<bool, &'static str> {
    let begin = text.lines().map(str::trim).find(|line| line.starts_with("-----BEGIN "));
    match begin {
        Some("-----BEGIN OPENSSH PRIVATE KEY-----") => is_locked_openssh(text).ok_or("holds a damaged private key"),
        Some("-----BEGIN ENCRYPTED PRIVATE KEY-----") => Ok(true),
        Some(begin) if begin.ends_with("PRIVATE KEY-----") => {
            Ok(text.lines().any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED")))
        }
        _ if text.starts_with("PuTTY-User-Key-File-") => {
            Err("is in PuTTY's format; `puttygen` turns it into OpenSSH's with `-O private-openssh`")
        }
        _ if text.starts_with("ssh-") || text.starts_with("ecdsa-") || text.starts_with("sk-") => {
            Err("holds a public key; the private one is wanted")
        }
        _ => Err("holds no private key"),
    }
}

/// OpenSSH's own format names the cipher right at its beginning, `none` where the key is not locked.
fn is_locked_openssh(text: &str) -> Option<bool> {
    let base64: String = text
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with("-----BEGIN "))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END "))
        .collect();
    let bytes = STANDARD.decode(base64).ok()?;
    let rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let (length, rest) = rest.split_at_checked(4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    Some(rest.get(..usize::try_from(length).ok()?)? != b"none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_files_are_told_apart() {
        let pem = |kind: &str, rest: &str| format!("-----BEGIN {kind}-----\n{rest}\n-----END {kind}-----\n");
        assert_eq!(is_locked(&pem("RSA PRIVATE KEY", "MIIE")), Ok(false));
        assert_eq!(is_locked(&pem("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nMIIE")), Ok(true));
        assert_eq!(is_locked(&pem("PRIVATE KEY", "MIIE")), Ok(false));
        assert_eq!(is_locked(&pem("ENCRYPTED PRIVATE KEY", "MIIE")), Ok(true));
        let openssh = |cipher: &[u8]| {
            let mut bytes = b"openssh-key-v1\0\0\0\0".to_vec();
            bytes.push(u8::try_from(cipher.len()).unwrap());
            bytes.extend(cipher);
            pem("OPENSSH PRIVATE KEY", &STANDARD.encode(bytes))
        };
        assert_eq!(is_locked(&openssh(b"none")), Ok(false));
        assert_eq!(is_locked(&openssh(b"aes256-ctr")), Ok(true));
        assert!(is_locked(&pem("OPENSSH PRIVATE KEY", "b3Bl")).unwrap_err().contains("damaged"));
        assert!(is_locked("PuTTY-User-Key-File-3: ssh-ed25519\n").unwrap_err().contains("puttygen"));
        assert!(is_locked("ssh-ed25519 AAAA me\n").unwrap_err().contains("public key"));
        assert!(is_locked(&pem("CERTIFICATE", "x")).is_err());
        assert!(is_locked("").is_err());
    }

    #[test]
    fn files_that_are_missing_are_told_from_others() {
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(read(&scratch.path().join("missing")).err(), Some(Unusable::Missing));
        assert!(matches!(read(scratch.path()).err(), Some(Unusable::Because(_))));
    }
}
