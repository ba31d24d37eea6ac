//! What is wanted of a server: an order's arguments, checked and typed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use broker_core::provider::{ArgumentInfo, ArgumentScope, ErrorKind, Order, ProviderError};
use broker_core::{ArgValue, Args, duration};

use crate::settings::Settings;

/// The action that makes a host of an image.
pub(crate) const IMAGE: &str = "ostack_image";

/// The action that makes a host of a template in the settings.
pub(crate) const TEMPLATE: &str = "ostack_template";

const fn argument(name: &'static str, value: &'static str, help: &'static str) -> ArgumentInfo {
    ArgumentInfo { name, value: Some(value), help, on: ArgumentScope::Checkout }
}

/// All arguments that servers take, beside the actions' own.
pub(crate) const ARGUMENTS: &[ArgumentInfo] = &[
    argument("name", "NAME", "Name of the server; made up of the prefix and the id otherwise"),
    argument("ostack_flavor", "FLAVOR", "Flavor, by name or id"),
    argument(
        "ostack_network",
        "NETWORK[=IP]",
        "Networks, by name or id, each with a fixed address if one is wanted; several with commas",
    ),
    argument("ostack_port", "PORT", "Ports that exist, by id, before the networks; several with commas"),
    argument(
        "ostack_key_name",
        "NAME",
        "Key pair that lets you in; without it the host gets one of its own, which is removed with it",
    ),
    argument("ostack_security_groups", "NAMES", "Security groups; several with commas"),
    argument("ostack_availability_zone", "ZONE", "Availability zone"),
    argument("ostack_server_group", "GROUP", "Server group, by name or id"),
    argument("ostack_user_data", "TEXT", "User data: a script, or cloud-config"),
    argument("ostack_user_data_file", "FILE", "A file of this machine with the user data"),
    argument("ostack_config_drive", "BOOL", "Whether the server gets a config drive"),
    argument("ostack_volume_size", "GIB", "Boot from a new volume of this size, which goes with the server"),
    argument("ostack_metadata", "A=1,B=2", "Metadata; a mapping for values with commas"),
    argument("ostack_tags", "TAGS", "Tags; several with commas"),
    argument("ostack_floating_network", "NETWORK", "Take a floating address from this network; `none` for none"),
    argument("ostack_ip_version", "4|6", "Which kind of address the host is reached at (default: 4)"),
    argument("ostack_user", "USER", "User to log in as; the image's `os_admin_user` otherwise"),
    argument("ostack_wait", "ssh|active", "Ready when its SSH port answers (the default), or as soon as it is active"),
    argument("ostack_ssh_port", "PORT", "Port of its SSH server"),
    argument("ostack_ready_command", "LINE", "Ready only when this succeeds on the host, tried again and again"),
    argument("ostack_ready_timeout", "TIME", "How long that may take (setting: ready_timeout)"),
    argument("ostack_timeout", "TIME", "How long it may take to become active (setting: server_timeout)"),
    argument("ostack_ssh_timeout", "TIME", "How long its SSH port may take after that (setting: ssh_timeout)"),
];

/// Whether a template or a request may have this argument.
pub(crate) fn is_argument(name: &str) -> bool {
    name == IMAGE || ARGUMENTS.iter().any(|argument| argument.name == name)
}

/// What a server is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Plug {
    /// A network, by name or id, and an address in it.
    Network { network: String, address: Option<IpAddr> },
    /// A port that exists.
    Port(String),
}

/// When a host is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Ssh,
    Active,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Everything about one server that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) image: String,
    pub(crate) flavor: String,
    pub(crate) name: Option<String>,
    pub(crate) plugs: Vec<Plug>,
    pub(crate) key_name: Option<String>,
    pub(crate) security_groups: Vec<String>,
    pub(crate) zone: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) user_data: Option<Vec<u8>>,
    pub(crate) config_drive: Option<bool>,
    /// How large the volume is that it boots from, in GiB; the flavor's disk where there is none.
    pub(crate) volume: Option<u32>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tags: Vec<String>,
    pub(crate) floating: Option<String>,
    pub(crate) family: Family,
    pub(crate) user: Option<String>,
    pub(crate) wait: Wait,
    pub(crate) ssh_port: Option<u16>,
    pub(crate) timeout: Duration,
    pub(crate) ssh_timeout: Duration,
    pub(crate) ready_command: Option<String>,
    pub(crate) ready_timeout: Duration,
}

/// What is wrong with a value: a fragment.
struct Bad(String);

impl Bad {
    fn at(self, key: &str) -> ProviderError {
        ProviderError::new(ErrorKind::BadRequest, format!("argument `{key}`: {}", self.0))
    }
}

impl Spec {
    pub(crate) fn read(order: &Order, settings: &Settings) -> Result<Self, ProviderError> {
        let mut args = settings.defaults.clone();
        if order.action == TEMPLATE {
            let name = order.target();
            let template = settings.templates.get(name).ok_or_else(|| {
                let known: Vec<String> = settings.templates.keys().map(|name| format!("`{name}`")).collect();
                let known = if known.is_empty() {
                    "there are none".to_owned()
                } else {
                    format!("there is {}", known.join(", "))
                };
                ProviderError::new(
                    ErrorKind::NotFound,
                    format!("there is no template `{name}` in the settings: {known}"),
                )
            })?;
            args.extend(template.clone());
        }
        for (key, value) in order.args.iter().filter(|(key, value)| *key != TEMPLATE && !value.is_null()) {
            if !is_argument(key) {
                return Err(unknown(&order.action, key).at(key));
            }
            args.insert(key.clone(), value.clone());
        }
        let reader = Reader(&args);
        let missing = |key: &str, setting: &str| {
            let message =
                format!("there is no {key}: `--ostack-{key}`, a template or setting `OpenStack.{setting}` says which");
            ProviderError::new(ErrorKind::BadRequest, message)
        };
        let metadata = reader.read("ostack_metadata", pairs)?.unwrap_or_default();
        let mut plugs = reader.list("ostack_port")?.into_iter().map(Plug::Port).collect::<Vec<_>>();
        plugs.extend(reader.read("ostack_network", networks)?.unwrap_or_default());
        Ok(Self {
            image: reader.text(IMAGE)?.ok_or_else(|| missing("image", "default_image"))?,
            flavor: reader.text("ostack_flavor")?.ok_or_else(|| missing("flavor", "default_flavor"))?,
            name: reader.text("name")?,
            plugs,
            key_name: reader.text("ostack_key_name")?,
            security_groups: reader.list("ostack_security_groups")?,
            zone: reader.text("ostack_availability_zone")?,
            group: reader.text("ostack_server_group")?,
            user_data: user_data(&reader)?,
            config_drive: reader.read("ostack_config_drive", boolean)?,
            volume: reader.read("ostack_volume_size", gibibytes)?,
            metadata: metadata_of(order, settings, metadata)?,
            tags: reader.read("ostack_tags", tags)?.unwrap_or_default(),
            floating: reader.text("ostack_floating_network")?.filter(|pool| pool != "none"),
            family: reader.read("ostack_ip_version", family)?.unwrap_or(Family::V4),
            user: reader.text("ostack_user")?,
            wait: reader.read("ostack_wait", wait)?.unwrap_or(if settings.through_another {
                Wait::Active
            } else {
                Wait::Ssh
            }),
            ssh_port: reader.read("ostack_ssh_port", port)?.or(settings.ssh_port),
            timeout: reader.read("ostack_timeout", time)?.unwrap_or(settings.server_timeout),
            ready_command: reader.text("ostack_ready_command")?,
            ready_timeout: reader.read("ostack_ready_timeout", time)?.unwrap_or(settings.ready_timeout),
            ssh_timeout: reader.read("ostack_ssh_timeout", time)?.unwrap_or(settings.ssh_timeout),
        })
    }
}

impl Spec {
    /// The ports that the user has brought along, by their ids.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &str> {
        self.plugs.iter().filter_map(|plug| match plug {
            Plug::Port(port) => Some(port.as_str()),
            Plug::Network { .. } => None,
        })
    }
}

/// The identity of the host, its labels and what the user adds. Identity wins: by it the host is found again.
fn metadata_of(
    order: &Order,
    settings: &Settings,
    own: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ProviderError> {
    let mut metadata = settings.labels.clone();
    metadata.extend(order.labels.clone());
    metadata.extend(own);
    for (key, value) in &metadata {
        let is_good = |character: char| character.is_ascii_alphanumeric() || "-_:. ".contains(character);
        if key.is_empty() || key.len() > 255 || !key.chars().all(is_good) {
            let message =
                format!("label `{key}` cannot be metadata of a server: letters, digits and `-_:. ` make its name");
            return Err(ProviderError::new(ErrorKind::BadRequest, message));
        }
        if value.chars().count() > 255 {
            let message = format!("label `{key}` is longer than the 255 characters that metadata of a server may have");
            return Err(ProviderError::new(ErrorKind::BadRequest, message));
        }
    }
    // What asked for it may be as long as it likes.
    let identity = order.identity_labels().into_iter().map(|(key, value)| (key, value.chars().take(255).collect()));
    metadata.extend(identity);
    Ok(metadata)
}

fn user_data(reader: &Reader<'_>) -> Result<Option<Vec<u8>>, ProviderError> {
    const FILE: &str = "ostack_user_data_file";
    /// What Nova takes, before it is encoded.
    const MOST: usize = 65535 / 4 * 3;
    let text = reader.text("ostack_user_data")?;
    let data = match (text, reader.text(FILE)?) {
        (Some(_), Some(_)) => return Err(Bad("`ostack_user_data` is given too".to_owned()).at(FILE)),
        (Some(text), None) => Some(text.into_bytes()),
        (None, Some(file)) => {
            Some(std::fs::read(&file).map_err(|error| Bad(format!("cannot read `{file}`")).at(FILE).source(error))?)
        }
        (None, None) => None,
    };
    if data.as_ref().is_some_and(|data| data.len() > MOST) {
        return Err(Bad(format!("user data may have {MOST} bytes, and no more")).at("ostack_user_data"));
    }
    Ok(data)
}

fn unknown(action: &str, key: &str) -> Bad {
    let near = |name: &str| strsim::damerau_levenshtein(key, name) <= 2 || strsim::jaro_winkler(key, name) > 0.88;
    let similar: Vec<String> = ARGUMENTS
        .iter()
        .filter(|argument| near(argument.name))
        .map(|argument| format!("`{}`", argument.name))
        .collect();
    let similar = if similar.is_empty() { String::new() } else { format!("; similar: {}", similar.join(", ")) };
    Bad(format!("`{action}` does not take it{similar}"))
}

/// The arguments, by type.
struct Reader<'a>(&'a Args);

impl Reader<'_> {
    fn read<T>(&self, key: &str, read: impl FnOnce(&ArgValue) -> Result<T, Bad>) -> Result<Option<T>, ProviderError> {
        let value = self.0.get(key).filter(|value| !value.is_null() && value.as_str() != Some(""));
        value.map(|value| read(value).map_err(|bad| bad.at(key))).transpose()
    }

    fn text(&self, key: &str) -> Result<Option<String>, ProviderError> {
        self.read(key, |value| one(value).map(str::to_owned))
    }

    fn list(&self, key: &str) -> Result<Vec<String>, ProviderError> {
        Ok(self.read(key, items)?.unwrap_or_default())
    }
}

fn one(value: &ArgValue) -> Result<&str, Bad> {
    value.as_str().ok_or_else(|| Bad(format!("it must be a text, and is a {}", value.kind())))
}

/// The items of a list; a text is parted at its commas.
fn items(value: &ArgValue) -> Result<Vec<String>, Bad> {
    let own = |text: &str| text.trim().to_owned();
    let items: Vec<String> = match value {
        ArgValue::List(list) => list.iter().map(|item| one(item).map(own)).collect::<Result<_, _>>()?,
        other => one(other)?.split(',').map(own).collect(),
    };
    if items.iter().any(String::is_empty) {
        return Err(Bad("an item is empty".to_owned()));
    }
    Ok(items)
}

fn networks(value: &ArgValue) -> Result<Vec<Plug>, Bad> {
    let plug = |item: String| {
        let Some((network, address)) = item.split_once('=') else {
            return Ok(Plug::Network { network: item, address: None });
        };
        let address = address.trim().parse().map_err(|_| Bad(format!("`{}` is no IP address", address.trim())))?;
        Ok(Plug::Network { network: network.trim().to_owned(), address: Some(address) })
    };
    items(value)?.into_iter().map(plug).collect()
}

fn pairs(value: &ArgValue) -> Result<BTreeMap<String, String>, Bad> {
    if let ArgValue::Map(map) = value {
        return map.iter().map(|(key, value)| Ok((key.clone(), one(value)?.to_owned()))).collect();
    }
    let pair = |item: String| {
        // The item itself may be a secret.
        let (key, value) = item.split_once('=').ok_or_else(|| Bad("an item has no `=`".to_owned()))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    items(value)?.into_iter().map(pair).collect()
}

fn tags(value: &ArgValue) -> Result<Vec<String>, Bad> {
    let tags = items(value)?;
    match tags.iter().find(|tag| tag.chars().count() > 60 || tag.contains('/')) {
        Some(tag) => Err(Bad(format!("`{tag}` must be shorter than 61 letters, and without `/`"))),
        None => Ok(tags),
    }
}

fn boolean(value: &ArgValue) -> Result<bool, Bad> {
    value.as_bool().ok_or_else(|| Bad(format!("`{value}` must be `true` or `false`")))
}

fn time(value: &ArgValue) -> Result<Duration, Bad> {
    let text = one(value)?;
    duration::parse(text).map_err(|error| Bad(error.to_string()))
}

fn port(value: &ArgValue) -> Result<u16, Bad> {
    let text = one(value)?;
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| Bad(format!("`{text}` is no port")))
}

fn gibibytes(value: &ArgValue) -> Result<u32, Bad> {
    let text = one(value)?;
    let size = text.parse().ok().filter(|size| *size > 0);
    size.ok_or_else(|| Bad(format!("`{text}` must be a whole number of GiB")))
}

fn family(value: &ArgValue) -> Result<Family, Bad> {
    match one(value)? {
        "4" => Ok(Family::V4),
        "6" => Ok(Family::V6),
        other => Err(Bad(format!("`{other}` must be `4` or `6`"))),
    }
}

fn wait(value: &ArgValue) -> Result<Wait, Bad> {
    match one(value)? {
        "ssh" => Ok(Wait::Ssh),
        "active" => Ok(Wait::Active),
        other => Err(Bad(format!("`{other}` must be `ssh` or `active`"))),
    }
}

#[cfg(test)]
mod tests;
