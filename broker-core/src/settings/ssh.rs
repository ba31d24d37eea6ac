//! How hosts are reached over SSH: section `ssh`, and what stands under that name in a provider's section.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::layers::Tree;
use super::lookup::is_lookup;
use super::value::Setting;
use super::{SettingError, SettingsError};
use crate::args::ArgValue;
use crate::secrets::Secret;

/// What somebody says about reaching hosts over SSH. What nobody says has a default where hosts are connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshSettings {
    /// The SSH library.
    pub backend: Option<SshBackend>,
    /// The user to log in as.
    pub host_username: Option<String>,
    /// The password. An empty one says that there is none.
    pub host_password: Option<Secret>,
    /// The port of the SSH server.
    pub host_ssh_port: Option<u16>,
    /// The private key to log in with, and with no other.
    pub host_ssh_key_filename: Option<PathBuf>,
    /// What the private key is locked with.
    pub host_ssh_key_passphrase: Option<Secret>,
    /// How long connecting may take.
    pub host_connection_timeout: Option<Duration>,
    /// Whether to connect over IPv6.
    pub host_ipv6: Option<bool>,
    /// Whether IPv4 will do where IPv6 does not work.
    pub host_ipv4_fallback: Option<bool>,
    /// Which host keys are believed.
    pub host_key_policy: Option<HostKeyRule>,
    /// The files that are asked under [`HostKeyRule::Strict`].
    pub known_hosts: Option<Vec<PathBuf>>,
    /// The hosts to go through, one after the other. None of them says to go straight.
    pub jump_host: Option<Vec<JumpHost>>,
    /// Whether the agent is asked for identities.
    pub agent: Option<bool>,
    /// How long after its checkout a machine may take to boot.
    pub boot_patience: Option<Duration>,
    /// After how long a silent server is asked for a word.
    pub keepalive: Option<Duration>,
    /// Whether `~/.ssh/config` has a say.
    pub config: Option<ClientConfigFile>,
}

/// The names of the Python tool for its host's attributes, and of the settings that they stand in for.
const FACTS: &[(&str, &str)] = &[
    ("username", "host_username"),
    ("password", "host_password"),
    ("port", "host_ssh_port"),
    ("key_filename", "host_ssh_key_filename"),
    ("connection_timeout", "host_connection_timeout"),
    ("ipv6", "host_ipv6"),
    ("ipv4_fallback", "host_ipv4_fallback"),
];

impl SshSettings {
    /// Reads a section, in which secrets are in their places.
    pub(super) fn read(section: &Tree, path: &str) -> Result<Self, SettingError> {
        Reader { section, path, named: |key| key }.read()
    }

    /// What the facts of a host say about reaching it, under the names that they have in the Python tool.
    ///
    /// # Errors
    ///
    /// If a fact has the name of one of those, and not its shape.
    pub fn of_facts(facts: &Map<String, Value>, host: &str) -> Result<Self, SettingError> {
        let origin = format!("a fact of host `{host}`");
        let entry = |(name, key): &(&str, &str)| {
            let value = ArgValue::from_json(facts.get(*name)?.clone());
            Some(((*key).to_owned(), Tree::from_value(value, &origin)))
        };
        let entries: IndexMap<String, Tree> = FACTS.iter().filter_map(entry).collect();
        let section = Tree::Map { entries, origin: origin.clone() };
        let named = |key| FACTS.iter().find(|(_, setting)| *setting == key).map_or(key, |(name, _)| *name);
        Reader { section: &section, path: "", named }.read()
    }

    /// Fills in what is not said here with what `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            backend: self.backend.or(other.backend),
            host_username: self.host_username.or(other.host_username),
            host_password: self.host_password.or(other.host_password),
            host_ssh_port: self.host_ssh_port.or(other.host_ssh_port),
            host_ssh_key_filename: self.host_ssh_key_filename.or(other.host_ssh_key_filename),
            host_ssh_key_passphrase: self.host_ssh_key_passphrase.or(other.host_ssh_key_passphrase),
            host_connection_timeout: self.host_connection_timeout.or(other.host_connection_timeout),
            host_ipv6: self.host_ipv6.or(other.host_ipv6),
            host_ipv4_fallback: self.host_ipv4_fallback.or(other.host_ipv4_fallback),
            host_key_policy: self.host_key_policy.or(other.host_key_policy),
            known_hosts: self.known_hosts.or(other.known_hosts),
            jump_host: self.jump_host.or(other.jump_host),
            agent: self.agent.or(other.agent),
            boot_patience: self.boot_patience.or(other.boot_patience),
            keepalive: self.keepalive.or(other.keepalive),
            config: self.config.or(other.config),
        }
    }
}

struct Reader<'a, N> {
    section: &'a Tree,
    path: &'a str,
    /// What a setting is called where its value comes from, for messages.
    named: N,
}

impl<N: Fn(&'static str) -> &'static str> Reader<'_, N> {
    fn read(&self) -> Result<SshSettings, SettingError> {
        let text = |setting: &Setting| setting.text().map(str::to_owned);
        let path = |setting: &Setting| setting.text().map(PathBuf::from);
        let secret = |setting: &Setting| setting.text().map(Secret::new);
        Ok(SshSettings {
            backend: self.one("backend", spelled("`ssh2` or `russh`"))?,
            host_username: self.one("host_username", text)?,
            host_password: self.one("host_password", secret)?,
            host_ssh_port: self.one("host_ssh_port", Setting::number)?,
            host_ssh_key_filename: self.one("host_ssh_key_filename", path)?.filter(|path| !path.as_os_str().is_empty()),
            host_ssh_key_passphrase: self.one("host_ssh_key_passphrase", secret)?,
            host_connection_timeout: self.one("host_connection_timeout", above_zero(Setting::seconds))?,
            host_ipv6: self.one("host_ipv6", Setting::boolean)?,
            host_ipv4_fallback: self.one("host_ipv4_fallback", Setting::boolean)?,
            host_key_policy: self.one("host_key_policy", spelled("`accept_new`, `strict` or `insecure`"))?,
            known_hosts: self.one("known_hosts", |setting| {
                setting.list().map(|files| files.into_iter().map(PathBuf::from).collect())
            })?,
            jump_host: self.one("jump_host", jump_hosts)?,
            agent: self.one("agent", Setting::boolean)?,
            boot_patience: self.one("boot_patience", Setting::seconds)?,
            keepalive: self.one("keepalive", above_zero(Setting::seconds))?,
            config: self.one("config", |setting| match setting.boolean() {
                Ok(true) => Ok(ClientConfigFile::Users),
                Ok(false) => Ok(ClientConfigFile::None),
                Err(_) => path(setting)
                    .map(ClientConfigFile::At)
                    .map_err(|_| setting.error("`true`, `false` or the path of a file")),
            })?,
        })
    }

    fn one<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Setting) -> Result<T, SettingError>,
    ) -> Result<Option<T>, SettingError> {
        let Some(tree) = self.section.get(key).filter(|tree| !tree.is_null()) else { return Ok(None) };
        read(&Setting::new(self.path, (self.named)(key), tree.to_value(), tree.origin())).map(Some)
    }
}

/// Reads a word.
fn spelled<T: FromStr>(wanted: &str) -> impl Fn(&Setting) -> Result<T, SettingError> {
    move |setting| {
        let word = setting.text().ok().and_then(|text| text.trim().parse().ok());
        word.ok_or_else(|| setting.error(wanted))
    }
}

fn above_zero(
    read: impl Fn(&Setting) -> Result<Duration, SettingError>,
) -> impl Fn(&Setting) -> Result<Duration, SettingError> {
    move |setting| match read(setting)? {
        Duration::ZERO => Err(setting.error("longer than nothing")),
        time => Ok(time),
    }
}

fn jump_hosts(setting: &Setting) -> Result<Vec<JumpHost>, SettingError> {
    let words = setting.list()?;
    if let [only] = words.as_slice()
        && only.eq_ignore_ascii_case("none")
    {
        return Ok(Vec::new());
    }
    let hosts: Result<_, _> = words.iter().map(|word| word.parse()).collect();
    hosts.map_err(|_: InvalidJumpHost| setting.error("`none`, or hosts such as `jane@bastion.example.com:2222`"))
}

/// Which SSH library is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SshBackend {
    /// libssh2, by the `ssh2` crate.
    #[default]
    Ssh2,
    /// The `russh` crate, where the program was built with it.
    Russh,
}

impl FromStr for SshBackend {
    type Err = ();

    /// The Python tool's names for its libraries mean whatever is used here.
    fn from_str(word: &str) -> Result<Self, ()> {
        match word.to_ascii_lowercase().as_str() {
            "ssh2" | "hussh" | "paramiko" | "ssh2-python" | "ssh2-python312" | "ansible-pylibssh" => Ok(Self::Ssh2),
            "russh" => Ok(Self::Russh),
            _ => Err(()),
        }
    }
}

/// Which host keys are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostKeyRule {
    /// The one that is seen first is written down, and asked for ever after.
    #[default]
    AcceptNew,
    /// Those that `known_hosts` files have.
    Strict,
    /// All of them.
    Insecure,
}

impl FromStr for HostKeyRule {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word.to_ascii_lowercase().replace('-', "_").as_str() {
            "accept_new" => Ok(Self::AcceptNew),
            "strict" => Ok(Self::Strict),
            "insecure" => Ok(Self::Insecure),
            _ => Err(()),
        }
    }
}

/// What of OpenSSH's own configuration is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClientConfigFile {
    /// `~/.ssh/config`, if there is one.
    #[default]
    Users,
    /// This file, which must be there.
    At(PathBuf),
    /// None.
    None,
}

/// A host to go through: `USER@HOST:PORT`, of which only the host must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JumpHost {
    /// The user to log in as.
    pub user: Option<String>,
    /// The host name or IP address, or its name in `~/.ssh/config`.
    pub host: String,
    /// The port of its SSH server.
    pub port: Option<u16>,
}

/// A text that names no host to go through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host such as `jane@bastion.example.com:2222`")]
pub struct InvalidJumpHost(String);

impl FromStr for JumpHost {
    type Err = InvalidJumpHost;

    /// Reads what OpenSSH's `ProxyJump` takes, `ssh://USER@HOST:PORT` too.
    fn from_str(text: &str) -> Result<Self, InvalidJumpHost> {
        let invalid = || InvalidJumpHost(text.to_owned());
        let word = text.trim();
        let word = word.strip_prefix("ssh://").map_or(word, |rest| rest.trim_end_matches('/'));
        let (user, place) = match word.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, word),
        };
        let (host, port) = split_port(place);
        let port = port.map(|port| port.parse().map_err(|_| invalid())).transpose()?;
        let odd = |text: &str| text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control());
        let is_host = |host: &str| !odd(host) && !host.starts_with('-') && !host.contains(['/', ',', '[', ']']);
        if port == Some(0) || user.as_deref().is_some_and(odd) || !is_host(host) {
            return Err(invalid());
        }
        Ok(Self { user, host: host.to_owned(), port })
    }
}

impl fmt::Display for JumpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match (self.host.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
            (_, None) => f.write_str(&self.host),
            (false, Some(port)) => write!(f, "{}:{port}", self.host),
        }
    }
}

/// `HOST:PORT` and `[HOST]:PORT` come apart. An IPv6 address without brackets is a host.
pub(crate) fn split_port(place: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => (place, None),
        };
    }
    match place.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (place, None),
    }
}

/// The section, checked as far as that can be done without looking up secrets.
pub(super) fn check(section: &Tree, path: &str) -> Result<(), SettingsError> {
    let mut checked = section.clone();
    for (key, tree) in checked.entries_mut().into_iter().flatten() {
        if is_lookup(key, tree) {
            *tree = Tree::from_value(ArgValue::Text("to be looked up".to_owned()), "");
        }
    }
    SshSettings::read(&checked, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn jump(user: Option<&str>, host: &str, port: Option<u16>) -> JumpHost {
        JumpHost { user: user.map(str::to_owned), host: host.to_owned(), port }
    }

    #[test]
    fn hosts_to_go_through() {
        for (text, expected) in [
            ("bastion", jump(None, "bastion", None)),
            ("jane@bastion", jump(Some("jane"), "bastion", None)),
            ("jane@corp@bastion:2222", jump(Some("jane@corp"), "bastion", Some(2222))),
            ("[2001:db8::1]:22", jump(None, "2001:db8::1", Some(22))),
            ("2001:db8::1", jump(None, "2001:db8::1", None)),
            ("ssh://jane@bastion:2222/", jump(Some("jane"), "bastion", Some(2222))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "@", "jane@", "@host", "host:", "host:0", "host:port", "host:70000", "a b", "-oProxy", "a,b"] {
            assert!(text.parse::<JumpHost>().is_err(), "{text}");
        }
    }

    #[test]
    fn facts_are_settings_by_other_names() {
        let facts = json!({
            "username": "jane", "password": "p", "port": 2222, "key_filename": "/k", "connection_timeout": "5",
            "ipv6": true, "ipv4_fallback": "no", "other": {"port": 1}
        });
        let settings = SshSettings::of_facts(facts.as_object().unwrap(), "web").unwrap();
        let expected = SshSettings {
            host_username: Some("jane".to_owned()),
            host_password: Some(Secret::new("p")),
            host_ssh_port: Some(2222),
            host_ssh_key_filename: Some("/k".into()),
            host_connection_timeout: Some(Duration::from_secs(5)),
            host_ipv6: Some(true),
            host_ipv4_fallback: Some(false),
            ..SshSettings::default()
        };
        assert_eq!(settings, expected);
        let nothing = json!({"username": null, "key_filename": ""});
        assert_eq!(SshSettings::of_facts(nothing.as_object().unwrap(), "web").unwrap(), SshSettings::default());
        let error = |facts: Value| SshSettings::of_facts(facts.as_object().unwrap(), "web").unwrap_err().to_string();
        assert_eq!(
            error(json!({"port": "ssh"})),
            "setting `port` is `ssh` (a fact of host `web`), and must be a whole number"
        );
        assert_eq!(
            error(json!({"password": ["hunter2"]})),
            "setting `password` is `***` (a fact of host `web`), and must be a text"
        );
    }

    #[test]
    fn what_is_said_first_counts() {
        let over = SshSettings { host_ssh_port: Some(1), ..SshSettings::default() };
        let under = SshSettings { host_ssh_port: Some(2), agent: Some(false), ..SshSettings::default() };
        let both = over.or(under);
        assert_eq!((both.host_ssh_port, both.agent, both.host_ipv6), (Some(1), Some(false), None));
    }

    proptest! {
        #[test]
        fn a_host_to_go_through_reads_as_it_is_written(
            user in proptest::option::of("[a-z@.]{1,6}"),
            host in "[a-z][a-z0-9.-]{0,6}|[0-9a-f]{1,4}(:[0-9a-f]{1,4}){2,4}",
            port in proptest::option::of(1u16..),
        ) {
            let host = JumpHost { user, host, port };
            prop_assert_eq!(host.to_string().parse(), Ok(host));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,20}") {
            drop(text.parse::<JumpHost>());
        }
    }
}
