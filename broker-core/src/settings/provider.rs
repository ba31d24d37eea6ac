//! The settings of one provider instance.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use indexmap::{IndexMap, IndexSet};

use super::general::labels_in;
use super::layers::{Tree, merge, to_args};
use super::schema::{INSTANCE_KEYS, SECTION_KEYS, SSH};
use super::value::Setting;
use super::{SettingError, SettingsError, SshSettings, ssh};
use crate::args::{ArgValue, Args};
use crate::inventory::{Secrets, args_to_json};
use crate::secrets::Secret;

/// The settings of one instance of a provider: its section, with the instance's values and the environment on top.
///
/// Values are read by the type that the reader wants: a text setting that spells `0123` stays that.
#[derive(Clone, Default)]
pub struct ProviderSettings {
    /// The provider's name, which is the name of the section.
    pub provider: String,
    /// The instance, where the section has any.
    pub instance: Option<String>,
    /// Labels for everything that this provider makes.
    pub labels: BTreeMap<String, String>,
    /// The values. Secrets are resolved.
    pub values: Args,
    /// Where the values were given, in words, for messages.
    pub origins: BTreeMap<String, String>,
}

impl ProviderSettings {
    fn value(&self, key: &str) -> Option<&ArgValue> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    fn setting(&self, key: &str, value: ArgValue) -> Setting {
        let origin = self.origins.get(key).map(String::as_str).unwrap_or_default();
        Setting::new(&self.provider, key, value, origin)
    }

    fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Setting) -> Result<T, SettingError>,
    ) -> Result<Option<T>, SettingError> {
        self.value(key).map(|value| read(&self.setting(key, value.clone()))).transpose()
    }

    /// A text.
    ///
    /// # Errors
    ///
    /// If it is a list or a mapping.
    pub fn text(&self, key: &str) -> Result<Option<&str>, SettingError> {
        self.value(key).map(|value| value.as_str().ok_or_else(|| self.error(key, "a text"))).transpose()
    }

    /// A secret text.
    ///
    /// # Errors
    ///
    /// If it is a list or a mapping.
    pub fn secret(&self, key: &str) -> Result<Option<Secret>, SettingError> {
        Ok(self.text(key)?.map(Secret::new))
    }

    /// A boolean.
    ///
    /// # Errors
    ///
    /// If it does not spell one.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, SettingError> {
        self.read(key, Setting::boolean)
    }

    /// A whole number.
    ///
    /// # Errors
    ///
    /// If it does not spell one, or one that does not fit.
    pub fn number<N: std::str::FromStr>(&self, key: &str) -> Result<Option<N>, SettingError> {
        self.read(key, Setting::number)
    }

    /// A span of time: `90s`, `2h`, or a bare number of seconds, as the Python tool's files have it.
    ///
    /// # Errors
    ///
    /// If it does not spell one.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>, SettingError> {
        self.read(key, Setting::seconds)
    }

    /// A list of texts; a single text is split at its commas, unless it spells a list in brackets.
    ///
    /// # Errors
    ///
    /// If it is a mapping, or an item is no text.
    pub fn list(&self, key: &str) -> Result<Vec<String>, SettingError> {
        Ok(self.read(key, Setting::list)?.unwrap_or_default())
    }

    /// How this provider's hosts are reached over SSH, as far as its section says so below `ssh`.
    ///
    /// # Errors
    ///
    /// If a value does not do.
    pub fn ssh(&self) -> Result<SshSettings, SettingError> {
        let Some(value) = self.value(SSH) else { return Ok(SshSettings::default()) };
        let origin = self.origins.get(SSH).map(String::as_str).unwrap_or_default();
        match Tree::from_value(value.clone(), origin) {
            section @ Tree::Map { .. } => SshSettings::read(&section, &format!("{}.{SSH}", self.provider)),
            Tree::Leaf { .. } => Err(self.error(SSH, "a mapping")),
        }
    }

    /// The error for a value that has the right type and still does not do. `wanted` follows on `must be`.
    pub fn error(&self, key: &str, wanted: &str) -> SettingError {
        let value = self.values.get(key).cloned().unwrap_or(ArgValue::Plain(String::new()));
        self.setting(key, value).error(wanted)
    }
}

impl fmt::Debug for ProviderSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderSettings")
            .field("provider", &self.provider)
            .field("instance", &self.instance)
            .field("labels", &self.labels)
            .field("values", &args_to_json(&self.values, Secrets::Hidden))
            .finish_non_exhaustive()
    }
}

/// Merges what file, environment and program say of one provider. `resolve` puts secrets in their places.
pub(super) fn assemble(
    name: &str,
    requested: Option<&str>,
    layers: [&Tree; 3],
    resolve: impl FnOnce(Tree) -> Result<Tree, SettingsError>,
) -> Result<ProviderSettings, SettingsError> {
    let nothing = Tree::empty();
    let mut sections = [&nothing; 3];
    let mut all_instances = [&nothing; 3];
    for ((layer, section), instances) in layers.into_iter().zip(&mut sections).zip(&mut all_instances) {
        let key = key_of(layer, name);
        layer.map_at("", key)?;
        *section = layer.get(key).filter(|tree| !tree.is_null()).unwrap_or(&nothing);
        *instances = section.get("instances").unwrap_or(&nothing);
    }
    let merged = merge(&all_instances)?;
    let instance = choose(name, requested, merged.entries())?;

    let mut own = [&nothing; 3];
    let mut instance_wins = false;
    if let Some(instance) = instance {
        let path = format!("{name}.instances");
        merged.map_at(&path, instance)?;
        instance_wins = flag(&merged, &path, instance, "override_envars")?;
        for (own, instances) in own.iter_mut().zip(all_instances) {
            *own = instances.get(instance).filter(|tree| !tree.is_null()).unwrap_or(&nothing);
        }
    }
    let [file, environment, program] = sections;
    let [file_own, environment_own, program_own] = own;
    let (below, above) = if instance_wins { (environment, &nothing) } else { (&nothing, environment) };
    let mut values = merge(&[file, below, file_own, above, environment_own, program, program_own])?;
    let labels = labels_in(&values, name)?;
    let has_ssh = values.map_at(name, SSH)?.is_some();
    if let Some(ssh) = values.get(SSH).filter(|_| has_ssh) {
        ssh::check(ssh, &format!("{name}.{SSH}"))?;
    }
    if let Some(entries) = values.entries_mut() {
        let is_own = |key: &str| SECTION_KEYS.contains(&key) || INSTANCE_KEYS.contains(&key);
        entries.retain(|key, _| key == SSH || !is_own(key));
    }
    let values = resolve(values)?;
    let entries = values.entries().into_iter().flatten();
    Ok(ProviderSettings {
        provider: name.to_owned(),
        instance: instance.map(str::to_owned),
        labels,
        origins: entries.map(|(key, tree)| (key.clone(), tree.origin().to_owned())).collect(),
        values: values.entries().map(to_args).unwrap_or_default(),
    })
}

/// The instances that a provider has in any layer, and whether any layer has a section for it.
pub(super) fn instances(name: &str, layers: [&Tree; 3]) -> (Vec<String>, bool) {
    let sections: Vec<&Tree> =
        layers.into_iter().filter_map(|layer| layer.get(key_of(layer, name))).filter(|tree| !tree.is_null()).collect();
    let instances = sections.iter().filter_map(|section| section.get("instances")?.entries());
    let names: IndexSet<&String> = instances.flat_map(IndexMap::keys).collect();
    (names.into_iter().cloned().collect(), !sections.is_empty())
}

/// The key of a provider's section, which is the same in any case.
fn key_of<'a>(layer: &'a Tree, name: &'a str) -> &'a str {
    let mut keys = layer.entries().into_iter().flatten().map(|(key, _)| key.as_str());
    keys.find(|key| key.eq_ignore_ascii_case(name)).unwrap_or(name)
}

fn choose<'a>(
    provider: &str,
    requested: Option<&str>,
    instances: Option<&'a IndexMap<String, Tree>>,
) -> Result<Option<&'a str>, SettingsError> {
    let instances: IndexMap<&str, &Tree> =
        instances.into_iter().flatten().map(|(name, tree)| (name.as_str(), tree)).collect();
    let known = || instances.keys().map(|name| (*name).to_owned()).collect();
    if let Some(requested) = requested {
        let found = instances.get_key_value(requested).map(|(name, _)| *name);
        let unknown = || SettingsError::UnknownInstance {
            provider: provider.to_owned(),
            instance: requested.to_owned(),
            known: known(),
        };
        return found.ok_or_else(unknown).map(Some);
    }
    let path = format!("{provider}.instances");
    for (name, tree) in &instances {
        if tree.entries().is_some() && tree.read(&format!("{path}.{name}"), "default", Setting::boolean)? == Some(true)
        {
            return Ok(Some(name));
        }
    }
    match instances.len() {
        0 | 1 => Ok(instances.keys().next().copied()),
        _ => Err(SettingsError::AmbiguousInstance { provider: provider.to_owned(), known: known() }),
    }
}

fn flag(instances: &Tree, path: &str, instance: &str, key: &str) -> Result<bool, SettingError> {
    let Some(tree) = instances.get(instance) else { return Ok(false) };
    Ok(tree.read(&format!("{path}.{instance}"), key, Setting::boolean)?.unwrap_or(false))
}
