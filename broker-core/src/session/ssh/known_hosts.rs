//! `known_hosts` files, as sshd(8) describes them.

use std::io;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use super::host_key::HostKey;
use super::pattern;
use crate::session::{SessionError, SessionErrorKind};

/// What `known_hosts` files say.
///
/// Names, lists of names with wildcards and negations, hashed names, names with a port, and the marker `@revoked` are
/// understood. Certificate authorities are not: a key that only one of these could vouch for is not known.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    files: Vec<PathBuf>,
    lines: Vec<Line>,
    alias: Option<String>,
}

/// A line that says something.
#[derive(Debug, Clone)]
struct Line {
    /// Where it stands, as `FILE:LINE`.
    place: String,
    marker: Marker,
    hosts: Hosts,
    key: HostKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

#[derive(Debug, Clone)]
enum Hosts {
    /// Patterns with commas between them.
    Patterns(String),
    /// One name, as the HMAC of it.
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl KnownHosts {
    /// Reads files. One that does not exist says nothing, and lines that make no sense say nothing either.
    ///
    /// # Errors
    ///
    /// [`SessionErrorKind::Local`], if a file is there and cannot be read.
    pub fn read(files: &[PathBuf]) -> Result<Self, SessionError> {
        let mut known = Self { files: files.to_vec(), ..Self::default() };
        for file in files {
            match std::fs::read(file) {
                Ok(text) => known.add(&file.display().to_string(), &String::from_utf8_lossy(&text)),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => {
                    let message = format!("cannot read the known hosts in `{}`", file.display());
                    return Err(SessionError::new(SessionErrorKind::Local, message).source(error));
                }
            }
        }
        Ok(known)
    }

    /// Looks hosts up under this name, whatever their address and port: OpenSSH's `HostKeyAlias`.
    #[must_use]
    pub fn under(self, alias: Option<String>) -> Self {
        Self { alias, ..self }
    }

    /// The algorithms of the keys that the files hold for a host, in their order: what to ask the server for first.
    pub fn algorithms(&self, address: &str, port: u16) -> Vec<String> {
        let mut algorithms = Vec::<String>::new();
        for name in self.names(address, port) {
            for line in self.of(&name).filter(|line| line.marker == Marker::None) {
                if !algorithms.iter().any(|known| known == line.key.algorithm()) {
                    algorithms.push(line.key.algorithm().to_owned());
                }
            }
        }
        algorithms
    }

    /// Whether a key is one of the host's.
    ///
    /// # Errors
    ///
    /// [`SessionErrorKind::HostKey`] where the files do not know the host, know another key of it, or revoke this one.
    /// It says what to do about that.
    pub fn check(&self, address: &str, port: u16, key: &HostKey) -> Result<(), SessionError> {
        let names = self.names(address, port);
        let refused = |message: String| Err(SessionError::new(SessionErrorKind::HostKey, message));
        let shown = format!("`{}` ({})", key.fingerprint(), key.algorithm());
        let lines: Vec<&Line> = names.iter().flat_map(|name| self.of(name)).collect();
        if let Some(line) = lines.iter().find(|line| line.marker == Marker::Revoked && line.key == *key) {
            return refused(format!("the key {shown} that `{}` has shown is revoked by `{}`", names[0], line.place));
        }
        if lines.iter().any(|line| line.marker == Marker::None && line.key == *key) {
            return Ok(());
        }
        // What is known by the name without the port can only help: another server may well answer at another port.
        let mut own = self.of(&names[0]).filter(|line| line.marker == Marker::None);
        if let Some(line) = own.clone().find(|line| line.key.algorithm() == key.algorithm()).or_else(|| own.next()) {
            let file = line.place.rsplit_once(':').map_or(line.place.as_str(), |(file, _)| file);
            return refused(format!(
                "`{}` has shown the key {shown}, and `{}` has `{}` ({}): if it was set up anew, `ssh-keygen -R {} -f {}` \
                 takes the old key out; otherwise somebody else answers at its address",
                names[0],
                line.place,
                line.key.fingerprint(),
                line.key.algorithm(),
                quoted(&names[0]),
                quoted(file),
            ));
        }
        if let Some(line) = lines.iter().find(|line| line.marker == Marker::Authority) {
            tracing::warn!(host = names[0], "`{}` is a certificate authority's, which is not supported", line.place);
        }
        let (searched, file) = match self.files.as_slice() {
            [] => return refused(format!("`{}` has shown the key {shown}, and no known hosts are read", names[0])),
            files @ [first, ..] => {
                let names: Vec<String> = files.iter().map(|file| format!("`{}`", file.display())).collect();
                (names.join(" nor in "), first.display().to_string())
            }
        };
        let scan = if port == 22 { String::new() } else { format!("-p {port} ") };
        refused(format!(
            "`{}` is not in {searched}: it has shown the key {shown}; if that is right, `ssh-keyscan {scan}{} >> {}` \
             writes it down",
            names[0],
            quoted(address),
            quoted(&file),
        ))
    }

    /// Under which names a host can stand in the files. The first one is its own.
    fn names(&self, address: &str, port: u16) -> Vec<String> {
        match &self.alias {
            Some(alias) => vec![alias.to_lowercase()],
            None if port == 22 => vec![address.to_lowercase()],
            None => vec![format!("[{}]:{port}", address.to_lowercase()), address.to_lowercase()],
        }
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Line> + Clone {
        self.lines.iter().filter(move |line| line.hosts.has(name))
    }

    fn add(&mut self, file: &str, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("{file}:{}", number + 1);
            match parse(line) {
                Some((marker, hosts, key)) => self.lines.push(Line { place, marker, hosts, key }),
                None => tracing::debug!("`{place}` makes no sense as a known host, and is passed over"),
            }
        }
    }
}

impl Hosts {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::Patterns(patterns) => pattern::any_matches(patterns.split(','), name),
            Self::Hashed { salt, hash } => Hmac::<Sha1>::new_from_slice(salt).is_ok_and(|mut mac| {
                mac.update(name.as_bytes());
                mac.verify_slice(hash).is_ok()
            }),
        }
    }
}

/// `[MARKER] HOSTS ALGORITHM KEY [COMMENT]`
fn parse(line: &str) -> Option<(Marker, Hosts, HostKey)> {
    let word = |line: &str| {
        let (word, rest) = line.split_once([' ', '\t'])?;
        Some((word.to_owned(), rest.trim_start().to_owned()))
    };
    let (first, rest) = word(line)?;
    let (marker, (hosts, key)) = match first.as_str() {
        "@revoked" => (Marker::Revoked, word(&rest)?),
        "@cert-authority" => (Marker::Authority, word(&rest)?),
        marker if marker.starts_with('@') => return None,
        _ => (Marker::None, (first, rest)),
    };
    let hosts = match hosts.strip_prefix("|1|") {
        Some(hashed) => {
            let (salt, hash) = hashed.split_once('|')?;
            Hosts::Hashed { salt: STANDARD.decode(salt).ok()?, hash: STANDARD.decode(hash).ok()? }
        }
        None if hosts.starts_with('|') => return None,
        None => Hosts::Patterns(hosts.to_lowercase()),
    };
    Some((marker, hosts, key.replace('\t', " ").parse().ok()?))
}

/// A word for a shell, for people to copy.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A key whose last byte is `seed`.
    fn key(algorithm: &str, seed: u8) -> HostKey {
        let mut blob = Vec::new();
        blob.extend(u32::try_from(algorithm.len()).unwrap().to_be_bytes());
        blob.extend(algorithm.as_bytes());
        blob.extend([0, 0, 0, 1, seed]);
        HostKey::from_blob(blob).unwrap()
    }

    fn ed(seed: u8) -> HostKey {
        key("ssh-ed25519", seed)
    }

    fn known(text: &str) -> KnownHosts {
        let mut known = KnownHosts { files: vec!["kh".into()], ..KnownHosts::default() };
        known.add("kh", text);
        known
    }

    fn error(known: &KnownHosts, address: &str, port: u16, key: &HostKey) -> String {
        let error = known.check(address, port, key).unwrap_err();
        assert_eq!(error.kind(), SessionErrorKind::HostKey);
        error.to_string()
    }

    #[test]
    fn names_lists_wildcards_and_ports() {
        let text = format!(
            "# a comment\n\nweb.example.com,10.0.0.7 {0}\n*.lab,!bad.lab {1} jane@laptop\n[gate]:2222\t{2}\n::1 {0}\n",
            ed(1),
            ed(2),
            ed(3)
        );
        let known = known(&text);
        for (address, port, seed) in [
            ("web.example.com", 22, 1),
            ("WEB.example.com", 22, 1),
            ("10.0.0.7", 22, 1),
            ("a.lab", 22, 2),
            ("gate", 2222, 3),
            ("::1", 22, 1),
            // As OpenSSH does, where only the name without the port is known.
            ("web.example.com", 2222, 1),
        ] {
            known.check(address, port, &ed(seed)).unwrap();
            assert_eq!(known.algorithms(address, port), ["ssh-ed25519"], "{address}");
        }
        for (address, port) in [("bad.lab", 22), ("gate", 22), ("gate", 2223), ("lab", 22), ("other", 22)] {
            assert!(error(&known, address, port, &ed(2)).contains("is not in `kh`"), "{address}");
            assert!(known.algorithms(address, port).is_empty());
        }
    }

    #[test]
    fn hashed_names() {
        // Made with `ssh-keygen -H`.
        let hashed = "|1|mXAOQrzHeDseEhVOaJU4PDhtIUc=|eEow67iJ9rrM4pgfJvktIqDh35Q=";
        let known = known(&format!("{hashed} {}\n", ed(1)));
        known.check("192.168.1.61", 22, &ed(1)).unwrap();
        assert!(known.check("192.168.1.62", 22, &ed(1)).is_err());
    }

    #[test]
    fn what_is_not_right_is_said_with_its_remedy() {
        let text =
            format!("web {0}\nweb {1}\n[gate]:2222 {0}\n@revoked * {2}\nweb {2}\n", ed(1), key("ssh-rsa", 1), ed(9));
        let known = known(&text);
        assert_eq!(known.algorithms("web", 22), ["ssh-ed25519", "ssh-rsa"]);
        let new = ed(7);
        assert_eq!(
            error(&known, "web", 22, &new),
            format!(
                "`web` has shown the key `{}` (ssh-ed25519), and `kh:1` has `{}` (ssh-ed25519): if it was set up anew, \
                 `ssh-keygen -R web -f kh` takes the old key out; otherwise somebody else answers at its address",
                new.fingerprint(),
                ed(1).fingerprint()
            )
        );
        assert!(error(&known, "gate", 2222, &new).contains("`ssh-keygen -R '[gate]:2222' -f kh`"));
        assert!(error(&known, "web", 22, &key("ssh-rsa", 2)).contains("`kh:2`"));
        // A key of a kind that the files do not have is not the host's either.
        assert!(error(&known, "web", 22, &key("ecdsa-sha2-nistp256", 1)).contains("`kh:1`"));
        assert!(error(&known, "web", 22, &ed(9)).ends_with("is revoked by `kh:4`"));
        assert_eq!(
            error(&known, "new", 2222, &new),
            format!(
                "`[new]:2222` is not in `kh`: it has shown the key `{}` (ssh-ed25519); if that is right, `ssh-keyscan -p \
                 2222 new >> kh` writes it down",
                new.fingerprint()
            )
        );
        assert!(error(&KnownHosts::default(), "new", 22, &new).contains("no known hosts are read"));
        // Another server at another port of a known machine is not a changed key.
        assert!(error(&known, "web", 2222, &new).contains("is not in `kh`"));
    }

    #[test]
    fn an_alias_takes_the_place_of_address_and_port() {
        let known = known(&format!("lab {}\n", ed(1))).under(Some("Lab".to_owned()));
        known.check("10.0.0.1", 2222, &ed(1)).unwrap();
        assert_eq!(known.algorithms("10.0.0.1", 2222), ["ssh-ed25519"]);
    }

    #[test]
    fn authorities_and_damaged_lines_vouch_for_nothing() {
        let text = format!(
            "@cert-authority *.lab {0}\n@other x {0}\nx\nx ssh-ed25519\nx ssh-ed25519 !!!\nx ssh-rsa {1}\n|1|a x {0}\n|2|a|b x {0}\n",
            ed(1),
            ed(1).to_string().split_once(' ').unwrap().1
        );
        let known = known(&text);
        assert_eq!(known.lines.len(), 1);
        assert!(error(&known, "a.lab", 22, &ed(1)).contains("is not in"));
        assert!(known.algorithms("a.lab", 22).is_empty());
    }

    #[test]
    fn files_are_read_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: Vec<u8>| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let one = file("one", [b"\xff\xfe broken\n".as_slice(), format!("web {}", ed(1)).as_bytes()].concat());
        let two = file("two", format!("web {}\n", ed(2)).into_bytes());
        let known = KnownHosts::read(&[one.clone(), dir.path().join("missing"), two]).unwrap();
        known.check("web", 22, &ed(1)).unwrap();
        known.check("web", 22, &ed(2)).unwrap();
        assert!(error(&known, "web", 22, &ed(3)).contains(&format!("`{}:2`", one.display())));
        let failed = KnownHosts::read(&[dir.path().to_owned()]).unwrap_err();
        assert_eq!(failed.kind(), SessionErrorKind::Local);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "([|@!*?,\\[\\]a-z0-9:=# \t\n-]|\\PC){0,80}", name in "\\PC{0,8}", port: u16) {
            let known = known(&text);
            drop(known.check(&name, port, &ed(1)));
            prop_assert!(known.algorithms(&name, port).len() <= known.lines.len());
        }

        #[test]
        fn what_is_written_down_is_known(name in "[a-z0-9][a-z0-9.-]{0,10}", port: u16, seed: u8) {
            let host = if port == 22 { name.clone() } else { format!("[{name}]:{port}") };
            let known = known(&format!("{host} {}\n", ed(seed)));
            prop_assert!(known.check(&name, port, &ed(seed)).is_ok());
            prop_assert!(known.check(&name, port, &ed(seed.wrapping_add(1))).is_err());
        }
    }
}
