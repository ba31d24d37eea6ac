//! `~/.ssh/config`: what it says about a host, as far as that concerns us.
//!
//! Read as ssh_config(5) says: sections apply where their `Host` patterns or `Match` criteria fit the name that the host
//! goes by, included files are read where they stand, and of every setting the first value counts. `Match` knows `all`,
//! `host`, `originalhost`, `user` and `localuser`; a section with any other criterion is passed over, and nothing is
//! ever run. Settings that concern us not are read over, whatever they hold. The system's own file is not read.

mod include;
mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::words::words;
use super::pattern;
use super::target::Families;
use crate::session::{SessionError, SessionErrorKind};
use crate::settings::{HostKeyRule, JumpHost};

/// So deep may files include each other.
const DEEPEST: usize = 16;

/// What the configuration says about a host. Texts are as they were written, with their tokens in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientConfig {
    /// `HostName`: what to connect to.
    pub host_name: Option<String>,
    /// `User`.
    pub user: Option<String>,
    /// `Port`.
    pub port: Option<u16>,
    /// `IdentityFile`, each time that it is given.
    pub identity_files: Vec<String>,
    /// `IdentitiesOnly`.
    pub identities_only: Option<bool>,
    /// `ProxyJump`; empty where it says `none`.
    pub jump: Option<Vec<String>>,
    /// `UserKnownHostsFile`; empty where it says `none`.
    pub known_hosts: Option<Vec<String>>,
    /// `HostKeyAlias`.
    pub host_key_alias: Option<String>,
    /// `StrictHostKeyChecking`: `yes` is strict, everything else accepts new keys, since nobody can be asked, and a host
    /// that is checked out anew is a new host here.
    pub host_key_rule: Option<HostKeyRule>,
    /// `ConnectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `AddressFamily`.
    pub families: Option<Families>,
}

/// Whom a configuration is asked about, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The name that the host goes by: what one would give to `ssh`.
    pub name: &'a str,
    /// The user to log in as there, where that is decided already.
    pub user: Option<&'a str>,
    /// The user of this process.
    pub local_user: &'a str,
    /// The home directory of this user.
    pub home: &'a Path,
}

impl ClientConfig {
    /// Reads what a file says about a host. A file that does not exist says nothing.
    ///
    /// # Errors
    ///
    /// [`SessionErrorKind::Local`], if it or a file that it includes cannot be read, or a setting that applies has a
    /// value that makes no sense; with the place.
    pub fn read(file: &Path, asked: Asked<'_>) -> Result<Self, SessionError> {
        let mut reader = Reader { asked, said: Self::default(), has_proxy: false };
        match std::fs::read(file) {
            Ok(text) => reader.text(file, &String::from_utf8_lossy(&text), true, 0)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(file, error)),
        }
        Ok(reader.said)
    }
}

fn unreadable(file: &Path, error: std::io::Error) -> SessionError {
    SessionError::new(SessionErrorKind::Local, format!("cannot read `{}`", file.display())).source(error)
}

struct Reader<'a> {
    asked: Asked<'a>,
    said: ClientConfig,
    /// Whether `ProxyCommand` came first, which then stands in the way of `ProxyJump`.
    has_proxy: bool,
}

impl Reader<'_> {
    /// Reads a file, or nothing of it where the section that includes it does not apply.
    fn text(&mut self, file: &Path, text: &str, applies: bool, depth: usize) -> Result<(), SessionError> {
        let mut current = applies;
        for (number, line) in text.lines().enumerate() {
            let place = || format!("`{}:{}`", file.display(), number + 1);
            let Some(mut words) = words(line) else {
                tracing::warn!("{} has a quotation mark without its other half, and is passed over", place());
                continue;
            };
            if words.is_empty() {
                continue;
            }
            let keyword = words.remove(0).to_ascii_lowercase();
            match keyword.as_str() {
                "host" => {
                    current = applies && pattern::any_matches(words.iter().map(String::as_str), self.asked.name);
                }
                "match" => current = applies && self.fits(&words, &place),
                "include" if current => {
                    for word in &words {
                        self.include(word, &place, depth)?;
                    }
                }
                _ if current => {
                    let error = |wanted: &str| {
                        let value = words.join(" ");
                        let message = format!("`{keyword}` is `{value}` in {}, and must be {wanted}", place());
                        SessionError::new(SessionErrorKind::Local, message)
                    };
                    self.set(&keyword, &words, &place, error)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether all criteria of a `Match` are met.
    fn fits(&self, criteria: &[String], place: &dyn Fn() -> String) -> bool {
        let mut words = criteria.iter();
        let mut fits = !criteria.is_empty();
        while let Some(criterion) = words.next() {
            let (criterion, given) = match criterion.split_once('=') {
                Some((criterion, value)) => (criterion, Some(value)),
                None => (criterion.as_str(), None),
            };
            let (criterion, wanted) = match criterion.strip_prefix('!') {
                Some(criterion) => (criterion.to_ascii_lowercase(), false),
                None => (criterion.to_ascii_lowercase(), true),
            };
            if criterion == "all" {
                fits &= wanted;
                continue;
            }
            let text = match criterion.as_str() {
                "originalhost" => self.asked.name,
                "host" => self.said.host_name.as_deref().unwrap_or(self.asked.name),
                "user" => self.asked.user.or(self.said.user.as_deref()).unwrap_or(self.asked.local_user),
                "localuser" => self.asked.local_user,
                _ => {
                    tracing::debug!("`Match {criterion}` in {} is not known here, and does not match", place());
                    return false;
                }
            };
            let Some(patterns) = given.or_else(|| words.next().map(String::as_str)) else { return false };
            fits &= pattern::any_matches(patterns.split(','), text) == wanted;
        }
        fits
    }

    fn include(&mut self, word: &str, place: &dyn Fn() -> String, depth: usize) -> Result<(), SessionError> {
        if depth == DEEPEST {
            let message = format!("too many files include each other, the last one in {}", place());
            return Err(SessionError::new(SessionErrorKind::Local, message));
        }
        let path = match word.strip_prefix("~/") {
            Some(rest) => self.asked.home.join(rest),
            None => self.asked.home.join(".ssh").join(word),
        };
        for file in include::files(&path) {
            match std::fs::read(&file) {
                Ok(text) => self.text(&file, &String::from_utf8_lossy(&text), true, depth + 1)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&file, error)),
            }
        }
        Ok(())
    }

    /// Takes a value over, unless there is one.
    fn set(
        &mut self,
        keyword: &str,
        words: &[String],
        place: &dyn Fn() -> String,
        error: impl Fn(&str) -> SessionError,
    ) -> Result<(), SessionError> {
        let said = &mut self.said;
        let text = || words.first().filter(|word| !word.is_empty()).cloned().ok_or_else(|| error("a text"));
        let flag = || match text()?.to_ascii_lowercase().as_str() {
            "yes" | "true" => Ok(true),
            "no" | "false" => Ok(false),
            _ => Err(error("`yes` or `no`")),
        };
        match keyword {
            "hostname" => first(&mut said.host_name, || {
                let tokens = [('h', self.asked.name)];
                expand(&text()?, &tokens).map(Some).ok_or_else(|| error("a host name, with `%h` and `%%` at the most"))
            }),
            "user" => first(&mut said.user, || text().map(Some)),
            "port" => first(&mut said.port, || {
                let port = text()?.parse().ok().filter(|port| *port > 0);
                port.map(Some).ok_or_else(|| error("a port"))
            }),
            "identityfile" => {
                said.identity_files.push(text()?);
                Ok(())
            }
            "identitiesonly" => first(&mut said.identities_only, || flag().map(Some)),
            "proxycommand" => {
                if said.jump.is_none() && !text()?.eq_ignore_ascii_case("none") {
                    tracing::warn!("`ProxyCommand` in {} is not supported: `ProxyJump` is", place());
                    self.has_proxy = true;
                }
                Ok(())
            }
            "proxyjump" if self.has_proxy => Ok(()),
            "proxyjump" => first(&mut said.jump, || {
                let value = text()?;
                let hops: Vec<String> = match value.eq_ignore_ascii_case("none") {
                    true => Vec::new(),
                    false => value.split(',').map(str::to_owned).collect(),
                };
                let is_hop = |hop: &String| hop.contains('%') || hop.parse::<JumpHost>().is_ok();
                if hops.iter().all(is_hop) { Ok(Some(hops)) } else { Err(error("`none`, or `USER@HOST:PORT`")) }
            }),
            "userknownhostsfile" => first(&mut said.known_hosts, || {
                text()?;
                let files = words.iter().filter(|word| !word.eq_ignore_ascii_case("none"));
                Ok(Some(files.cloned().collect()))
            }),
            "hostkeyalias" => first(&mut said.host_key_alias, || text().map(Some)),
            "stricthostkeychecking" => first(&mut said.host_key_rule, || match text()?.to_ascii_lowercase().as_str() {
                "yes" | "true" => Ok(Some(HostKeyRule::Strict)),
                "ask" | "accept-new" | "no" | "off" | "false" => Ok(Some(HostKeyRule::AcceptNew)),
                _ => Err(error("`yes`, `no`, `ask`, `off` or `accept-new`")),
            }),
            "connecttimeout" => first(&mut said.connect_timeout, || {
                let value = text()?;
                let time = match value.parse() {
                    Ok(seconds) => Duration::from_secs(seconds),
                    Err(_) if value.eq_ignore_ascii_case("none") => Duration::ZERO,
                    Err(_) => crate::duration::parse(&value).map_err(|_| error("a number of seconds"))?,
                };
                // Nothing stands for what the system's own limit is; ours is shorter.
                Ok(Some(time).filter(|time| !time.is_zero()))
            }),
            "addressfamily" => first(&mut said.families, || match text()?.to_ascii_lowercase().as_str() {
                "any" => Ok(Some(Families::Ipv6First)),
                "inet" => Ok(Some(Families::Ipv4)),
                "inet6" => Ok(Some(Families::Ipv6)),
                _ => Err(error("`any`, `inet` or `inet6`")),
            }),
            _ => Ok(()),
        }
    }
}

fn first<T>(slot: &mut Option<T>, value: impl FnOnce() -> Result<Option<T>, SessionError>) -> Result<(), SessionError> {
    if slot.is_none() {
        *slot = value()?;
    }
    Ok(())
}

/// What stands for the tokens of a text.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    /// What is connected to: `%h`.
    pub host: &'a str,
    /// The name that the host goes by: `%n`.
    pub name: &'a str,
    /// The port: `%p`.
    pub port: u16,
    /// The user there: `%r`.
    pub user: &'a str,
    /// The user here: `%u`.
    pub local_user: &'a str,
    /// The home directory here: `%d`, and `~`.
    pub home: &'a Path,
}

impl Tokens<'_> {
    /// A text with its tokens replaced; `None` where it has one that is not known.
    pub fn expand(&self, text: &str) -> Option<String> {
        let (port, home) = (self.port.to_string(), self.home.to_string_lossy());
        let tokens =
            [('h', self.host), ('n', self.name), ('p', &port), ('r', self.user), ('u', self.local_user), ('d', &home)];
        expand(text, &tokens)
    }

    /// A path with its tokens replaced, and a leading `~`; `None` where it has one that is not known.
    pub fn path(&self, text: &str) -> Option<PathBuf> {
        let path = self.expand(text)?;
        match path.strip_prefix('~') {
            Some("") => Some(self.home.to_owned()),
            Some(rest) => rest.strip_prefix('/').map(|rest| self.home.join(rest)),
            None => Some(path.into()),
        }
    }
}

fn expand(text: &str, tokens: &[(char, &str)]) -> Option<String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            expanded.push(c);
            continue;
        }
        match rest.next()? {
            '%' => expanded.push('%'),
            token => expanded.push_str(tokens.iter().find(|(known, _)| *known == token)?.1),
        }
    }
    Some(expanded)
}

#[cfg(test)]
mod tests;
