//! The names that settings can have, and the defaults.

use indexmap::IndexMap;

use super::SettingsError;
use super::error::did_you_mean;
use super::layers::Tree;
use super::value::Setting;
use crate::args::ArgValue;
use crate::names::closest;
use crate::secrets::is_secret_name;

/// Settings with their sections and defaults. Those at the top have no section; an empty default is none.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("", "less_colors", "false"),
    ("", "thread_limit", ""),
    ("", "inventory_list_vars", "hostname | name"),
    ("", "default_lease", ""),
    ("", "max_lease", ""),
    ("", "stop_grace", "10s"),
    ("logging", "console_level", "info"),
    ("logging", "file_level", "debug"),
    ("logging", "log_path", "logs/broker.log"),
    ("logging", "structured", "false"),
    // What nobody says about SSH is decided where a host is connected to.
    ("ssh", "backend", ""),
    ("ssh", "host_username", ""),
    ("ssh", "host_password", ""),
    ("ssh", "host_ssh_port", ""),
    ("ssh", "host_ssh_key_filename", ""),
    ("ssh", "host_ssh_key_passphrase", ""),
    ("ssh", "host_connection_timeout", ""),
    ("ssh", "host_ipv6", ""),
    ("ssh", "host_ipv4_fallback", ""),
    ("ssh", "host_key_policy", ""),
    ("ssh", "known_hosts", ""),
    ("ssh", "jump_host", ""),
    ("ssh", "agent", ""),
    ("ssh", "boot_patience", ""),
    ("ssh", "keepalive", ""),
    ("ssh", "config", ""),
];

/// Mappings at the top whose keys are people's own.
const MAPPINGS: &[&str] = &["inventory_fields", "nicks", "provider_labels"];

/// Settings of the Python tool that mean nothing here.
const IGNORED: &[&str] = &["_version", "SCENARIO_IMPORT", "debug", INVENTORY_FILE];

/// Where the Python tool of version 0.2 has its inventory. Here it is always in the Broker directory.
const INVENTORY_FILE: &str = "inventory_file";

/// Providers that settings may be about, whether or not the program has them.
const PROVIDERS: &[&str] = &["AnsibleTower", "Beaker", "Container", "Foreman", "OpenStack", "TestProvider"];

/// Names from before there was a section for SSH, and what they are called in it.
const OLD_SSH_NAMES: &[(&str, &str)] = &[
    ("host_username", "host_username"),
    ("host_password", "host_password"),
    ("host_ssh_port", "host_ssh_port"),
    ("host_ssh_key_filename", "host_ssh_key_filename"),
    ("host_connection_timeout", "host_connection_timeout"),
    ("host_ipv6", "host_ipv6"),
    ("host_ipv4_fallback", "host_ipv4_fallback"),
    ("ssh_backend", "backend"),
];

/// What a section of a provider can have beside the provider's own settings.
pub(super) const SECTION_KEYS: &[&str] = &["instances", "provider_labels", SSH];
/// What an instance can have beside the provider's own settings.
pub(super) const INSTANCE_KEYS: &[&str] = &["default", "override_envars", "provider_labels", SSH];
/// How hosts are reached: a section of its own, and one in every section of a provider and every instance.
pub(super) const SSH: &str = "ssh";

/// The names at the top. They are the same in any case, as they are to the Python tool.
pub(super) struct Names(Vec<String>);

impl Names {
    pub(super) fn new(known_providers: &[String]) -> Self {
        let settings = SETTINGS.iter().map(|(section, key, _)| if section.is_empty() { *key } else { *section });
        let others = settings.chain(MAPPINGS.iter().chain(IGNORED).chain(PROVIDERS).copied());
        let mut names = known_providers.to_vec();
        for name in others {
            if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                names.push(name.to_owned());
            }
        }
        Self(names)
    }

    /// The name as it is written here.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.iter().find(|known| known.eq_ignore_ascii_case(name))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// Whether a name at the top is a section of a provider, as far as one can tell.
pub(super) fn is_section(name: &str) -> bool {
    !MAPPINGS.contains(&name)
        && !IGNORED.contains(&name)
        && !SETTINGS.iter().any(|(section, key, _)| *section == name || section.is_empty() && *key == name)
}

/// The settings in a section of Broker's own.
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter(move |(own, _, _)| *own == section).map(|(_, key, _)| *key)
}

/// Whether a path ends at a name that Broker or a provider gave, not at one that people choose.
pub(super) fn is_field(path: &[String]) -> bool {
    match path {
        [section] => section == SSH || section == "logging" || is_section(section),
        [section, ssh] => ssh == SSH && is_section(section),
        [section, instances, _] => instances == "instances" && is_section(section),
        [section, instances, _, ssh] => ssh == SSH && instances == "instances" && is_section(section),
        _ => false,
    }
}

/// The lowest layer.
pub(super) fn defaults() -> Tree {
    let mut all = IndexMap::<String, Tree>::new();
    let leaf = |text: &str| Tree::Leaf { value: ArgValue::Plain(text.to_owned()), origin: "default".to_owned() };
    for (section, key, default) in SETTINGS.iter().filter(|(_, _, default)| !default.is_empty()) {
        let entries = match *section {
            "" => Some(&mut all),
            section => all.entry(section.to_owned()).or_insert_with(Tree::empty).entries_mut(),
        };
        if let Some(entries) = entries {
            entries.insert((*key).to_owned(), leaf(default));
        }
    }
    Tree::Map { entries: all, origin: String::new() }
}

/// Brings a layer into the one shape that everything else reads: names at the top as they are written here, settings
/// with older names in their places, instances as a mapping, nothing that says nothing.
pub(super) fn normalize(layer: Tree, names: &Names) -> Result<Tree, SettingsError> {
    let Tree::Map { entries, origin } = layer else { return Ok(layer) };
    let mut all = IndexMap::<String, (String, Tree)>::new();
    let mut old_ssh = IndexMap::new();
    for (key, tree) in entries {
        if tree.is_null() {
            continue;
        }
        if let Some((_, name)) = OLD_SSH_NAMES.iter().find(|(old, _)| old.eq_ignore_ascii_case(&key)) {
            old_ssh.insert((*name).to_owned(), tree);
            continue;
        }
        let name = names.find(&key).unwrap_or(&key).to_owned();
        if let Some((first, earlier)) = all.get(&name) {
            return Err(SettingsError::Twice {
                first: first.clone(),
                first_origin: earlier.origin().to_owned(),
                second: key,
                second_origin: tree.origin().to_owned(),
            });
        }
        all.insert(name, (key, tree));
    }
    let mut entries: IndexMap<String, Tree> = all.into_iter().map(|(name, (_, tree))| (name, tree)).collect();
    if !old_ssh.is_empty() || entries.contains_key("ssh") {
        let ssh = entries.entry("ssh".to_owned()).or_insert_with(Tree::empty);
        none_is_null(ssh);
        if let Some(ssh) = ssh.entries_mut() {
            // The Python tool's own migration wrote the port under this name.
            if let Some(port) = ssh.shift_remove("ssh_port") {
                ssh.entry("host_ssh_port".to_owned()).or_insert(port);
            }
            for (name, tree) in old_ssh {
                ssh.entry(name).or_insert(tree);
            }
            ssh.iter_mut().for_each(|(name, tree)| clear_placeholder(name, tree));
        }
    }
    for (section, key, _) in SETTINGS.iter().filter(|(section, _, default)| !section.is_empty() && !default.is_empty())
    {
        if let Some(section) = entries.get_mut(*section).and_then(Tree::entries_mut)
            && section.get(*key).is_some_and(Tree::is_null)
        {
            section.shift_remove(*key);
        }
    }
    for (name, tree) in entries.iter_mut().filter(|(name, _)| is_section(name)) {
        if let Some(instances) = tree.entries_mut().and_then(|section| section.get_mut("instances")) {
            normalize_instances(name, instances)?;
        }
        none_is_null(tree);
    }
    Ok(Tree::Map { entries, origin })
}

/// Files that were written by hand for the Python tool say `None` for null, its own example among them.
fn none_is_null(tree: &mut Tree) {
    match tree {
        Tree::Leaf { value, .. } if *value == ArgValue::Plain("None".to_owned()) => {
            *value = ArgValue::Plain("null".to_owned());
        }
        Tree::Leaf { .. } => {}
        Tree::Map { entries, .. } => entries.values_mut().for_each(none_is_null),
    }
}

/// The examples that people's files began as have `"<port>"` where something is to be filled in. Whoever uses no SSH has
/// left it there. A secret may look like anything.
fn clear_placeholder(name: &str, tree: &mut Tree) {
    if let Tree::Leaf { value, .. } = tree
        && value.as_str().is_some_and(|text| text.starts_with('<') && text.ends_with('>'))
        && !is_secret_name(name)
    {
        *value = ArgValue::Plain("null".to_owned());
    }
}

/// Older files have a list of mappings with one name each.
fn normalize_instances(section: &str, instances: &mut Tree) -> Result<(), SettingsError> {
    let Tree::Leaf { value, origin } = &*instances else { return Ok(()) };
    let error = || Setting::new(section, "instances", value.clone(), origin).error("a mapping of names to settings");
    let items = match value {
        ArgValue::List(items) => items,
        value if value.is_null() => &Vec::new(),
        _ => return Err(error().into()),
    };
    let mut entries = IndexMap::new();
    for item in items {
        let (Some(map), origin) = (item.as_map(), origin) else { return Err(error().into()) };
        for (name, value) in map {
            if entries.insert(name.clone(), Tree::from_value(value.clone(), origin)).is_some() {
                return Err(error().into());
            }
        }
    }
    *instances = Tree::Map { entries, origin: origin.clone() };
    Ok(())
}

/// What to say about keys that mean nothing.
pub(super) fn warnings(merged: &Tree, names: &Names) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, tree) in merged.entries().into_iter().flatten() {
        if names.find(name).is_none() {
            warnings.push(warning(name, tree, closest(name, names.iter()).map(str::to_owned)));
            continue;
        }
        if name == INVENTORY_FILE {
            warnings.extend(elsewhere(tree));
        }
        if keys_of(name).next().is_some() {
            warnings.extend(warnings_in(tree, name, name));
        } else if is_section(name) {
            let instances = tree.get("instances").and_then(Tree::entries).into_iter().flatten();
            let instances = instances.map(|(instance, tree)| (format!("{name}.instances.{instance}"), tree));
            for (path, tree) in [(name.clone(), tree)].into_iter().chain(instances) {
                if let Some(ssh) = tree.get(SSH) {
                    warnings.extend(warnings_in(ssh, SSH, &format!("{path}.{SSH}")));
                }
            }
        }
    }
    warnings
}

/// What to say about an inventory that is somewhere else.
fn elsewhere(tree: &Tree) -> Option<String> {
    const NAME: &str = "inventory.yaml";
    let value = tree.to_value();
    let file = value.as_str().filter(|file| *file != NAME)?;
    let origin = tree.origin();
    Some(format!(
        "setting `{INVENTORY_FILE}` ({origin}) counts for nothing: to import `{file}`, copy it to `{NAME}` in the Broker directory \
         and run `broker inventory --import`"
    ))
}

/// What to say about the keys of what is a section of Broker's own, wherever it stands.
fn warnings_in(tree: &Tree, section: &str, path: &str) -> Vec<String> {
    let unknown = |key: &str| keys_of(section).all(|known| known != key);
    let keys = tree.entries().into_iter().flatten().filter(|(key, _)| unknown(key));
    keys.map(|(key, tree)| {
        let suggestion = closest(key, keys_of(section)).map(|known| format!("{path}.{known}"));
        warning(&format!("{path}.{key}"), tree, suggestion)
    })
    .collect()
}

fn warning(path: &str, tree: &Tree, suggestion: Option<String>) -> String {
    format!("unknown setting `{path}` ({}){}", tree.origin(), did_you_mean(&suggestion))
}
