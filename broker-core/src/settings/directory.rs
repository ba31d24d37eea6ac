//! The Broker directory: where everything is kept.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{LoggingSettings, SettingsError};
use crate::inventory::{import, store};

/// The directory that holds settings, inventory, locks and logs: `$BROKER_DIRECTORY`, else `~/.broker`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerDirectory {
    path: PathBuf,
}

impl BrokerDirectory {
    /// The directory that the environment names. Makes nothing.
    ///
    /// # Errors
    ///
    /// If `BROKER_DIRECTORY` is not set, and there is no home directory either.
    pub fn from_environment<K: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, SettingsError> {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let given = variable(&variables, "BROKER_DIRECTORY");
        let path = match given {
            Some(path) => expand_home(Path::new(path), &variables),
            None => home(&variables).ok_or(SettingsError::NoHome)?.join(".broker"),
        };
        Ok(Self::at(path))
    }

    /// This directory.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { path: std::path::absolute(&path).unwrap_or(path) }
    }

    /// Its path, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory, for this user alone, if it is missing. To be called before the first write.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or something else is in its place.
    pub fn ensure(&self) -> Result<(), SettingsError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|source| SettingsError::Directory { path: self.path.clone(), source })
    }

    /// `broker_settings.yaml`.
    pub fn settings_file(&self) -> PathBuf {
        self.path.join("broker_settings.yaml")
    }

    /// `inventory.jsonl`, the journal.
    pub fn inventory_file(&self) -> PathBuf {
        self.path.join(store::JOURNAL)
    }

    /// `inventory.yaml`, the Python tool's inventory.
    pub fn python_inventory(&self) -> PathBuf {
        self.path.join(import::FILE)
    }

    /// All files in which Broker and the Python tool keep what cannot be made again: no output may replace them.
    pub fn kept_files(&self) -> [PathBuf; 6] {
        let [lock, damaged, copy] = [store::LOCK, store::DAMAGED, import::COPY].map(|name| self.path.join(name));
        [self.settings_file(), self.inventory_file(), self.python_inventory(), lock, damaged, copy]
    }

    /// The directory of the locks that show which runs live.
    pub fn runs(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// The log file. A path without an extension is a directory for it.
    pub fn log_file(&self, logging: &LoggingSettings) -> PathBuf {
        let path = self.path.join(&logging.log_path);
        if path.extension().is_none() { path.join("broker.log") } else { path }
    }
}

fn variable<'a>(variables: &'a HashMap<OsString, OsString>, name: &str) -> Option<&'a OsStr> {
    variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
}

fn home(variables: &HashMap<OsString, OsString>) -> Option<PathBuf> {
    variable(variables, "HOME")
        .map(PathBuf::from)
        .or_else(std::env::home_dir)
        .filter(|home| !home.as_os_str().is_empty())
}

/// Replaces a leading `~` by the home directory, where there is one.
pub(super) fn expand_home(path: &Path, variables: &HashMap<OsString, OsString>) -> PathBuf {
    match (path.strip_prefix("~"), home(variables)) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}
