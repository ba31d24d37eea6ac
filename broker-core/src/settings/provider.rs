//! The settings of one provider instance.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::args::{ArgValue, Args};
use crate::provider::{ErrorKind, ProviderError};
use crate::secrets::Secret;

/// The settings of one instance of a provider: its section, with the instance's values and the environment on top.
///
/// Values are read by the type that the reader wants: a text setting that spells `0123` stays that.
#[derive(Debug, Clone, Default)]
pub struct ProviderSettings {
    /// The provider's name, which is the name of the section.
    pub provider: String,
    /// The instance, where the section has any.
    pub instance: Option<String>,
    /// Labels for everything that this provider makes.
    pub labels: BTreeMap<String, String>,
    /// The values. Secrets are resolved.
    pub values: Args,
}

impl ProviderSettings {
    fn value(&self, key: &str) -> Option<&ArgValue> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    fn error(&self, key: &str, wanted: &str, value: &ArgValue) -> SettingError {
        let shown =
            if crate::secrets::is_secret_name(key) { crate::secrets::HIDDEN.to_owned() } else { value.to_string() };
        SettingError { path: format!("{}.{key}", self.provider), shown, wanted: wanted.to_owned() }
    }

    /// A text.
    ///
    /// # Errors
    ///
    /// If it is a list or a mapping.
    pub fn text(&self, key: &str) -> Result<Option<&str>, SettingError> {
        self.value(key).map(|value| value.as_str().ok_or_else(|| self.error(key, "a text", value))).transpose()
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
        self.value(key)
            .map(|value| value.as_bool().ok_or_else(|| self.error(key, "`true` or `false`", value)))
            .transpose()
    }

    /// A whole number.
    ///
    /// # Errors
    ///
    /// If it does not spell one, or one that does not fit.
    pub fn number<N: std::str::FromStr>(&self, key: &str) -> Result<Option<N>, SettingError> {
        self.value(key)
            .map(|value| {
                let number = value.as_str().and_then(|text| text.trim().parse().ok());
                number.ok_or_else(|| self.error(key, "a whole number", value))
            })
            .transpose()
    }

    /// A span of time: `90s`, `2h`, or a bare number of seconds, as the Python tool's files have it.
    ///
    /// # Errors
    ///
    /// If it does not spell one.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>, SettingError> {
        self.value(key)
            .map(|value| {
                let text = value.as_str().map(str::trim).unwrap_or_default();
                let seconds = text.parse().ok().map(Duration::from_secs);
                seconds
                    .or_else(|| crate::duration::parse(text).ok())
                    .ok_or_else(|| self.error(key, "a time such as `90s` or `2h`, or a number of seconds", value))
            })
            .transpose()
    }

    /// A list of texts; a single text is split at its commas.
    ///
    /// # Errors
    ///
    /// If it is a mapping, or an item is no text.
    pub fn list(&self, key: &str) -> Result<Vec<String>, SettingError> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let items = match value {
            ArgValue::Text(text) | ArgValue::Plain(text) => {
                return Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect());
            }
            ArgValue::List(items) => items,
            ArgValue::Map(_) => return Err(self.error(key, "a list", value)),
        };
        let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        texts.ok_or_else(|| self.error(key, "a list of texts", value))
    }
}

/// A setting whose value does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting `{path}` is `{shown}`, and must be {wanted}")]
pub struct SettingError {
    /// Where it is in the settings, with dots.
    pub path: String,
    /// Its value, hidden where it is a secret.
    pub shown: String,
    /// What it must be.
    pub wanted: String,
}

impl From<SettingError> for ProviderError {
    fn from(error: SettingError) -> Self {
        Self::new(ErrorKind::Settings, error.to_string())
    }
}
