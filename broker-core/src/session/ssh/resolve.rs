//! From the record of a host to an [`SshTarget`]: who has a say, and who has the last word.
//!
//! 1. the provider, where it says how one of its hosts is reached ([`SshLogin`]),
//! 2. the facts of the record, under the names of the Python tool: `username`, `password`, `port`, `key_filename`,
//!    `connection_timeout`, `ipv6`, `ipv4_fallback`,
//! 3. the settings of the provider and its instance, below `ssh`,
//! 4. section `ssh` of the settings,
//! 5. `~/.ssh/config`, asked about the address as `ssh ADDRESS` would ask it,
//! 6. the defaults in this file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::client_config::{Asked, ClientConfig, Tokens};
use super::dial::place_of;
use super::host_key::HostKeyPolicy;
use super::identity;
use super::known_hosts::KnownHosts;
use super::target::{Credential, Families, SshLimits, SshTarget};
use crate::inventory::HostRecord;
use crate::secrets::Secret;
use crate::session::{SessionError, SessionErrorKind, SshLogin};
use crate::settings::{ClientConfigFile, HostKeyRule, JumpHost, SshSettings, split_port};

const USER: &str = "root";
const PASSWORD: &str = "toor";
const PORT: u16 = 22;

/// How long after its checkout a machine may take to boot, where nobody says otherwise.
const BOOT_PATIENCE: Duration = Duration::from_secs(60);

/// The keys that are tried where none is named, below the home directory.
const USUAL_KEYS: &[&str] = &[".ssh/id_ed25519", ".ssh/id_ecdsa", ".ssh/id_rsa"];

/// The files that are asked about hosts where none is named, below the home directory, and for all users.
const USUAL_KNOWN_HOSTS: &[&str] = &[".ssh/known_hosts", ".ssh/known_hosts2"];
const GLOBAL_KNOWN_HOSTS: &[&str] = &["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

/// So many hosts may stand between here and a host.
const MOST_JUMPS: usize = 8;

/// What an SSH target is made of.
pub(crate) struct Sources<'a> {
    pub(crate) record: &'a HostRecord,
    /// What the provider says.
    pub(crate) login: SshLogin,
    /// What the settings say: the instance's before the general ones.
    pub(crate) settings: SshSettings,
    pub(crate) place: Place,
}

/// Where this process runs.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// What relative paths in the settings start from.
    pub(crate) directory: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) user: String,
}

impl Sources<'_> {
    /// Decides everything. Reads files, so it may block.
    ///
    /// # Errors
    ///
    /// If the host has no address, or a fact, a file or `~/.ssh/config` does not do.
    pub(crate) fn target(self) -> Result<SshTarget, SessionError> {
        let Self { record, login, settings, place } = self;
        let (address, port_in_address) = address(record, login.address.as_deref())?;
        let own_key = login.key;
        let facts = SshSettings::of_facts(&record.details.facts, &record.label()).map_err(|error| {
            SessionError::new(SessionErrorKind::Failed, "the inventory does not say how it is reached").source(error)
        })?;
        let said_by_provider = SshSettings {
            host_username: login.user,
            host_password: login.password,
            host_ssh_port: login.port.or(port_in_address).or(record.ssh_port),
            host_ssh_key_filename: login.key_file,
            ..SshSettings::default()
        };
        let gates = &record.ssh_jump_keys;
        let resolver = Resolver { settings: said_by_provider.or(facts).or(settings), place, gates };
        let mut target = resolver.host(&address, &record.label())?;
        if let Some(key) = own_key {
            // Nothing else was ever put on the host to let anybody in.
            target.credentials = vec![Credential::Key(key)];
        }
        target.limits.patience = patience(record.checked_out_at, resolver.settings.boot_patience);
        if let (HostKeyPolicy::AcceptNew, Some(pin)) = (&target.host_key, &record.ssh_host_key) {
            target.host_key = pinned(pin, "ssh_host_key")?;
        }
        Ok(target)
    }
}

/// Where a host can be reached, and the port that the Python tool may have written behind that.
fn address(record: &HostRecord, said: Option<&str>) -> Result<(String, Option<u16>), SessionError> {
    let places = [said, record.address.as_deref(), record.hostname.as_deref(), record.name.as_deref()];
    let place = places.into_iter().flatten().map(str::trim).find(|place| !place.is_empty()).ok_or_else(|| {
        SessionError::new(SessionErrorKind::Unreachable, "the inventory has neither an address nor a name of it")
    })?;
    let (host, port) = split_port(place);
    match port.map(str::parse) {
        Some(Ok(port)) if port > 0 => Ok((host.to_owned(), Some(port))),
        None => Ok((host.to_owned(), None)),
        Some(_) => {
            let message = format!("`{place}` is no address: there is no port behind the colon");
            Err(SessionError::new(SessionErrorKind::Unreachable, message))
        }
    }
}

/// How much longer a machine may be booting.
fn patience(checked_out_at: Option<Timestamp>, limit: Option<Duration>) -> Duration {
    let limit = limit.unwrap_or(BOOT_PATIENCE);
    let Some(at) = checked_out_at else { return Duration::ZERO };
    let age = Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or_default();
    limit.saturating_sub(age)
}

/// The policy that a key in the record stands for.
fn pinned(pin: &str, field: &str) -> Result<HostKeyPolicy, SessionError> {
    pin.parse().map(HostKeyPolicy::Pinned).map_err(|error: super::InvalidKey| {
        let message = format!("field `{field}` in the inventory does not do");
        SessionError::new(SessionErrorKind::HostKey, message).source(error)
    })
}

struct Resolver<'a> {
    settings: SshSettings,
    place: Place,
    /// The keys that hosts on the way have shown at the first contact.
    gates: &'a BTreeMap<String, String>,
}

impl Resolver<'_> {
    /// The target for the host itself.
    fn host(&self, address: &str, label: &str) -> Result<SshTarget, SessionError> {
        let settings = &self.settings;
        let said = self.client_config(address, settings.host_username.as_deref())?;
        let host = said.host_name.as_deref().unwrap_or(address);
        let port = settings.host_ssh_port.or(said.port).unwrap_or(PORT);
        let user = settings.host_username.as_deref().or(said.user.as_deref()).unwrap_or(USER);
        let tokens = self.tokens(host, address, port, user);
        let known = self.known_hosts(&said, &tokens)?;
        let host_key = match settings.host_key_policy.or(said.host_key_rule).unwrap_or_default() {
            HostKeyRule::AcceptNew => HostKeyPolicy::AcceptNew,
            HostKeyRule::Strict => HostKeyPolicy::Strict(known),
            HostKeyRule::Insecure => HostKeyPolicy::Insecure,
        };
        let jump = match &settings.jump_host {
            Some(hops) => self.through(hops, 0)?,
            None => self.through(&jumps(&said, &tokens)?, 0)?,
        };
        Ok(SshTarget {
            label: label.to_owned(),
            address: host.to_owned(),
            port,
            user: user.to_owned(),
            credentials: self.credentials(&said, &tokens),
            host_key,
            families: self.families(&said),
            jump,
            limits: self.limits(&said),
            backend: settings.backend.unwrap_or_default(),
        })
    }

    /// The last of several hosts to go through, with those before it.
    fn through(&self, hops: &[JumpHost], depth: usize) -> Result<Option<Box<SshTarget>>, SessionError> {
        let mut via = None;
        for hop in hops {
            via = Some(Box::new(self.jump(hop, via, depth + 1)?));
        }
        Ok(via)
    }

    /// A host to go through. Nobody has checked it out, so it is reached as `ssh` would reach it: as oneself, unless its
    /// name or `~/.ssh/config` says otherwise, and with keys. Passwords are for the hosts behind it. Its key has to be
    /// one of those in the `known_hosts` files, where they know the host at all, else the one in the record of the host
    /// behind it, once that has been reached this way; nothing is written to the files.
    fn jump(&self, hop: &JumpHost, via: Option<Box<SshTarget>>, depth: usize) -> Result<SshTarget, SessionError> {
        if depth > MOST_JUMPS {
            let message = format!("there are more than {MOST_JUMPS} hosts to go through, the last one is `{hop}`");
            return Err(SessionError::new(SessionErrorKind::Failed, message));
        }
        let settings = &self.settings;
        let said = self.client_config(&hop.host, hop.user.as_deref())?;
        let host = said.host_name.as_deref().unwrap_or(&hop.host);
        let port = hop.port.or(said.port).unwrap_or(PORT);
        let user = hop.user.as_deref().or(said.user.as_deref()).unwrap_or(&self.place.user);
        let tokens = self.tokens(host, &hop.host, port, user);
        let known = self.known_hosts(&said, &tokens)?;
        let is_known = !known.algorithms(host, port).is_empty();
        let host_key = match settings.host_key_policy.or(said.host_key_rule).unwrap_or_default() {
            HostKeyRule::Insecure => HostKeyPolicy::Insecure,
            HostKeyRule::AcceptNew if !is_known => match self.gates.get(&place_of(host, port)) {
                Some(pin) => pinned(pin, "ssh_jump_keys")?,
                None => HostKeyPolicy::AcceptNew,
            },
            HostKeyRule::AcceptNew | HostKeyRule::Strict => HostKeyPolicy::Strict(known),
        };
        let jump = match via {
            Some(via) => Some(via),
            None => self.through(&jumps(&said, &tokens)?, depth)?,
        };
        let mut credentials = self.credentials(&said, &tokens);
        credentials.retain(|credential| !matches!(credential, Credential::Password(_)));
        Ok(SshTarget {
            label: hop.host.clone(),
            address: host.to_owned(),
            port,
            user: user.to_owned(),
            credentials,
            host_key,
            families: self.families(&said),
            jump,
            limits: self.limits(&said),
            backend: settings.backend.unwrap_or_default(),
        })
    }

    fn client_config(&self, name: &str, user: Option<&str>) -> Result<ClientConfig, SessionError> {
        let asked = Asked { name, user, local_user: &self.place.user, home: &self.place.home };
        match self.settings.config.clone().unwrap_or_default() {
            ClientConfigFile::None => Ok(ClientConfig::default()),
            ClientConfigFile::Users => ClientConfig::read(&self.place.home.join(".ssh/config"), asked),
            ClientConfigFile::At(file) => {
                let file = self.path(&file);
                if !file.exists() {
                    let message = format!("`{}`, which setting `ssh.config` names, does not exist", file.display());
                    return Err(SessionError::new(SessionErrorKind::Local, message));
                }
                ClientConfig::read(&file, asked)
            }
        }
    }

    fn tokens<'a>(&'a self, host: &'a str, name: &'a str, port: u16, user: &'a str) -> Tokens<'a> {
        Tokens { host, name, port, user, local_user: &self.place.user, home: &self.place.home }
    }

    /// What to log in with.
    ///
    /// A key that is named is the only key that is offered, since a server counts every key that it refuses; the agent
    /// is asked for that one alone then, where its file is of no use without it. A password comes after it only if somebody
    /// has given one. Where no key is named it is the agent's identities, then the keys that `~/.ssh/config` names or the
    /// usual ones as far as they are there, then the password: the one that was given, or the Python tool's default, which
    /// comes last since most hosts do not have it. With `IdentitiesOnly` the agent too is asked for those that are named
    /// alone. An empty password says that there is none.
    fn credentials(&self, said: &ClientConfig, tokens: &Tokens<'_>) -> Vec<Credential> {
        let settings = &self.settings;
        let passphrase = || settings.host_ssh_key_passphrase.clone().filter(|text| !text.expose().is_empty());
        let key = |path: PathBuf, named| Credential::KeyFile { path, passphrase: passphrase(), named };
        let may_ask_agent = settings.agent.unwrap_or(true);
        let key_of_agent = |path: PathBuf| {
            let public = identity::for_agent(&path, passphrase().is_some()).filter(|_| may_ask_agent);
            match public {
                Some(public) => Credential::AgentKey { path, public },
                None => key(path, true),
            }
        };
        let mut credentials = Vec::new();
        let mut password = settings.host_password.clone();
        if let Some(named) = &settings.host_ssh_key_filename {
            credentials.push(key_of_agent(self.path(named)));
        } else {
            let has_own = !said.identity_files.is_empty();
            let only_own = has_own && said.identities_only == Some(true);
            if may_ask_agent && !only_own {
                credentials.push(Credential::Agent);
            }
            let own = said.identity_files.iter().filter_map(|text| {
                let path = tokens.path(text);
                if path.is_none() {
                    tracing::warn!("`IdentityFile {text}` is passed over: it has a token that is not known here");
                }
                path
            });
            let usual = USUAL_KEYS.iter().filter(|_| !has_own).map(|path| self.place.home.join(path));
            // One that is not there is no mistake, as with `ssh`; one that is there, and was named, has to do.
            if only_own {
                let there =
                    own.filter_map(|path| [identity::beside(&path), path].into_iter().rfind(|path| path.is_file()));
                credentials.extend(there.map(key_of_agent));
            } else {
                credentials.extend(own.chain(usual).filter(|path| path.is_file()).map(|path| key(path, has_own)));
            }
            password.get_or_insert_with(|| Secret::new(PASSWORD));
        }
        credentials.extend(password.filter(|text| !text.expose().is_empty()).map(Credential::Password));
        credentials
    }

    fn known_hosts(&self, said: &ClientConfig, tokens: &Tokens<'_>) -> Result<KnownHosts, SessionError> {
        Ok(KnownHosts::read(&self.known_hosts_files(said, tokens))?.under(said.host_key_alias.clone()))
    }

    /// Those that the settings name are all there are; `UserKnownHostsFile` stands for the user's own alone.
    fn known_hosts_files(&self, said: &ClientConfig, tokens: &Tokens<'_>) -> Vec<PathBuf> {
        let own: Vec<PathBuf> = match (&self.settings.known_hosts, &said.known_hosts) {
            (Some(files), _) => return files.iter().map(|file| self.path(file)).collect(),
            (None, Some(files)) => files.iter().filter_map(|file| tokens.path(file)).collect(),
            (None, None) => USUAL_KNOWN_HOSTS.iter().map(|file| self.place.home.join(file)).collect(),
        };
        own.into_iter().chain(GLOBAL_KNOWN_HOSTS.iter().map(PathBuf::from)).collect()
    }

    fn families(&self, said: &ClientConfig) -> Families {
        let settings = &self.settings;
        match (settings.host_ipv6, said.families) {
            (None, Some(families)) => families,
            (Some(true), _) if settings.host_ipv4_fallback == Some(false) => Families::Ipv6,
            (Some(true), _) => Families::Ipv6First,
            (Some(false) | None, _) => Families::Ipv4,
        }
    }

    fn limits(&self, said: &ClientConfig) -> SshLimits {
        let mut limits = SshLimits::default();
        if let Some(time) = self.settings.host_connection_timeout.or(said.connect_timeout) {
            (limits.connect, limits.handshake) = (time, time);
        }
        if let Some(time) = self.settings.keepalive {
            limits.keepalive = time;
        }
        limits
    }

    /// A path of the settings.
    fn path(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("~") {
            Ok(rest) => self.place.home.join(rest),
            Err(_) => self.place.directory.join(path),
        }
    }
}

/// The hosts that `ProxyJump` names. `Host *` with a `ProxyJump` means the jump host too, which cannot be reached through
/// itself.
fn jumps(said: &ClientConfig, tokens: &Tokens<'_>) -> Result<Vec<JumpHost>, SessionError> {
    let hops: Result<Vec<JumpHost>, _> = said
        .jump
        .iter()
        .flatten()
        .map(|hop| tokens.expand(hop).and_then(|text| text.parse().ok()).ok_or(hop))
        .collect();
    let hops = hops.map_err(|hop| {
        let message = format!("`ProxyJump {hop}` names no host for `{}`", tokens.name);
        SessionError::new(SessionErrorKind::Local, message)
    })?;
    let is_itself = |hop: &JumpHost| hop.host.eq_ignore_ascii_case(tokens.name);
    Ok(if hops.iter().any(is_itself) { Vec::new() } else { hops })
}

#[cfg(test)]
mod tests;
