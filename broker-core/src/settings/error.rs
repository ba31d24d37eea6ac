//! What can be wrong with settings.

use std::io;
use std::path::PathBuf;

use super::SettingError;
use crate::yaml::YamlError;

/// What is wrong with the settings, or with what was asked of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// There is no place for a Broker directory.
    #[error("`BROKER_DIRECTORY` is not set, and there is no home directory")]
    NoHome,
    /// The Broker directory is missing, and cannot be made.
    #[error("cannot create the Broker directory `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The settings file is there, and cannot be read.
    #[error("cannot read settings file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The settings file is no YAML.
    #[error("{name} is malformed")]
    Malformed {
        /// What is malformed, in words.
        name: String,
        /// What is wrong, and where.
        source: YamlError,
    },
    /// The settings file is YAML, but no settings.
    #[error("{name} must hold a mapping, and holds a {kind}")]
    NotAMapping {
        /// What it is, in words.
        name: String,
        /// What it holds.
        kind: &'static str,
    },
    /// A value does not do.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A setting is given twice under two spellings.
    #[error("`{second}` ({second_origin}) is the same setting as `{first}` ({first_origin})")]
    Twice {
        /// The first spelling.
        first: String,
        /// Where that is given.
        first_origin: String,
        /// The second spelling.
        second: String,
        /// Where that is given.
        second_origin: String,
    },
    /// An environment variable is no setting, though its name is one's.
    #[error("environment variable `{name}` {problem}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A secret is not where the settings say.
    #[error("cannot look up `{path}` ({origin}): {problem}")]
    Secret {
        /// The setting, with dots.
        path: String,
        /// Where it is given.
        origin: String,
        /// What stands in the way. Never the secret.
        problem: String,
    },
    /// A provider has no such instance.
    #[error("provider `{provider}` has no instance `{instance}`; {}", instances(known))]
    UnknownInstance {
        /// The provider.
        provider: String,
        /// What was asked for.
        instance: String,
        /// The instances that it has.
        known: Vec<String>,
    },
    /// A provider has several instances, and nothing says which to take.
    #[error("provider `{provider}` has several instances and none with `default: true`; {}", instances(known))]
    AmbiguousInstance {
        /// The provider.
        provider: String,
        /// The instances that it has.
        known: Vec<String>,
    },
    /// There is no such nick.
    #[error("there is no nick `{nick}` ({}){}", nicks(known), did_you_mean(suggestion))]
    UnknownNick {
        /// What was asked for.
        nick: String,
        /// What may have been meant.
        suggestion: Option<String>,
        /// The nicks that there are.
        known: Vec<String>,
    },
    /// The layers could not be merged.
    #[error("cannot merge the settings")]
    Merge(#[source] Box<dyn std::error::Error + Send + Sync>),
}

pub(super) fn did_you_mean(suggestion: &Option<impl AsRef<str>>) -> String {
    suggestion.as_ref().map_or_else(String::new, |name| format!(", did you mean `{}`?", name.as_ref()))
}

fn instances(known: &[String]) -> String {
    if known.is_empty() { "the settings have none of it".to_owned() } else { format!("it has {}", listed(known)) }
}

fn nicks(known: &[String]) -> String {
    if known.is_empty() { "the settings have none".to_owned() } else { format!("the settings have {}", listed(known)) }
}

/// Some of the names.
fn listed(names: &[String]) -> String {
    const ENOUGH: usize = 10;
    let shown: Vec<String> = names.iter().take(ENOUGH).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(ENOUGH);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}
