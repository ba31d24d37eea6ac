//! The settings that are no provider's.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use indexmap::IndexMap;

use super::layers::{Tree, to_args};
use super::value::Setting;
use super::{FieldExpression, SettingError, SettingsError, ssh};
use crate::args::{ArgValue, Args};

/// Everything but nicks, labels and what may hold secrets.
#[derive(Debug)]
pub(super) struct General {
    pub(super) less_colors: bool,
    pub(super) logging: LoggingSettings,
    pub(super) thread_limit: Option<NonZeroUsize>,
    pub(super) inventory_fields: IndexMap<String, FieldExpression>,
    pub(super) inventory_list_vars: FieldExpression,
    pub(super) default_lease: Option<Duration>,
    pub(super) max_lease: Option<Duration>,
    pub(super) stop_grace: Duration,
}

/// What is logged, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggingSettings {
    /// What is told on standard error.
    pub console_level: LogLevel,
    /// What goes to the log file.
    pub file_level: LogLevel,
    /// The log file, from the Broker directory. Without an extension it is a directory.
    pub log_path: PathBuf,
    /// Whether there is a log in JSON too.
    pub structured: bool,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Nothing.
    Silent,
    /// What failed.
    Error,
    /// And what may be wrong.
    Warning,
    /// And what happens.
    Info,
    /// And how.
    Debug,
    /// And every step.
    Trace,
}

impl LogLevel {
    /// All levels, from the least.
    pub const ALL: [Self; 6] = [Self::Silent, Self::Error, Self::Warning, Self::Info, Self::Debug, Self::Trace];

    /// The level's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = Self::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text));
        level.ok_or_else(|| format!("must be {LOG_LEVELS}"))
    }
}

const LOG_LEVELS: &str = "`error`, `warning`, `info`, `debug`, `trace` or `silent`";

impl General {
    pub(super) fn read(settings: &Tree) -> Result<Self, SettingsError> {
        let top = Section { settings, path: "" };
        let logging = section(settings, "logging")?;
        let logging = Section { settings: &logging, path: "logging" };
        let level = |setting: &Setting| {
            let level = setting.text().ok().and_then(|text| text.parse().ok());
            level.ok_or_else(|| setting.error(LOG_LEVELS))
        };
        let limit = |setting: &Setting| setting.number().map(NonZeroUsize::new);
        let expression = |setting: &Setting| setting.text().map(FieldExpression::parse);
        let general = Self {
            less_colors: top.required("less_colors", Setting::boolean)?,
            logging: LoggingSettings {
                console_level: logging.required("console_level", level)?,
                file_level: logging.required("file_level", level)?,
                log_path: logging.required("log_path", |setting| setting.text().map(PathBuf::from))?,
                structured: logging.required("structured", Setting::boolean)?,
            },
            thread_limit: top.optional("thread_limit", limit)?.flatten(),
            inventory_fields: inventory_fields(settings)?,
            inventory_list_vars: top.required("inventory_list_vars", expression)?,
            default_lease: top.optional("default_lease", Setting::duration)?,
            max_lease: top.optional("max_lease", Setting::duration)?,
            stop_grace: top.required("stop_grace", Setting::duration)?,
        };
        if general.max_lease.is_some_and(|most| general.default_lease > Some(most)) {
            top.optional("default_lease", |setting| Err::<(), _>(setting.error("no longer than `max_lease`")))?;
        }
        Ok(general)
    }
}

/// The section about SSH, checked as far as that can be done without looking up secrets.
pub(super) fn ssh_section(settings: &Tree) -> Result<Tree, SettingsError> {
    let section = section(settings, "ssh")?;
    ssh::check(&section, "ssh")?;
    Ok(section)
}

pub(super) fn nicks(settings: &Tree) -> Result<IndexMap<String, Args>, SettingsError> {
    let nicks = section(settings, "nicks")?;
    let names = nicks.entries().into_iter().flatten().map(|(name, _)| name);
    names.map(|name| Ok((name.clone(), nicks.map_at("nicks", name)?.map(to_args).unwrap_or_default()))).collect()
}

pub(super) fn labels(settings: &Tree) -> Result<BTreeMap<String, String>, SettingsError> {
    labels_in(settings, "")
}

/// The labels in the section that is called `path`.
pub(super) fn labels_in(settings: &Tree, path: &str) -> Result<BTreeMap<String, String>, SettingsError> {
    let labels = settings.map_at(path, "provider_labels")?;
    let path = if path.is_empty() { "provider_labels".to_owned() } else { format!("{path}.provider_labels") };
    let label = |(name, tree): (&String, &Tree)| {
        let value = tree.to_value();
        let setting = Setting::new(&path, name, value.clone(), tree.origin());
        // A label without a value is a label all the same.
        let text = if value.is_null() { "" } else { setting.text()? };
        Ok((name.clone(), text.to_owned()))
    };
    labels.into_iter().flatten().map(label).collect()
}

fn inventory_fields(settings: &Tree) -> Result<IndexMap<String, FieldExpression>, SettingsError> {
    let fields = section(settings, "inventory_fields")?;
    let section = Section { settings: &fields, path: "inventory_fields" };
    let titles = fields.entries().into_iter().flatten().map(|(title, _)| title);
    titles
        .map(|title| {
            let expression = section.required(title, |setting| setting.text().map(FieldExpression::parse))?;
            Ok((title.clone(), expression))
        })
        .collect()
}

/// A section at the top, which may be missing.
fn section(settings: &Tree, name: &str) -> Result<Tree, SettingError> {
    settings.map_at("", name)?;
    Ok(settings.get(name).filter(|tree| !tree.is_null()).cloned().unwrap_or_else(Tree::empty))
}

struct Section<'a> {
    settings: &'a Tree,
    path: &'a str,
}

impl Section<'_> {
    fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Setting) -> Result<T, SettingError>,
    ) -> Result<Option<T>, SettingError> {
        self.settings.read(self.path, key, read)
    }

    /// Reads what must be there, since it has a default.
    fn required<T>(&self, key: &str, read: impl Fn(&Setting) -> Result<T, SettingError>) -> Result<T, SettingError> {
        match self.optional(key, &read)? {
            Some(value) => Ok(value),
            None => {
                let origin = self.settings.get(key).map(Tree::origin).unwrap_or_default();
                read(&Setting::new(self.path, key, ArgValue::Plain(String::new()), origin))
            }
        }
    }
}
