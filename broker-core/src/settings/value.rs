//! Reading one value by the type that it should have.

use std::str::FromStr;
use std::time::Duration;

use crate::args::ArgValue;
use crate::provider::{ErrorKind, ProviderError};
use crate::secrets::{HIDDEN, is_secret_name};
use crate::yaml;

/// One value, and what a message must say about it.
pub(super) struct Setting {
    path: String,
    is_secret: bool,
    value: ArgValue,
    origin: String,
}

impl Setting {
    /// `section` is the path of the section that `key` stands in; at the top it is empty.
    pub(super) fn new(section: &str, key: &str, value: ArgValue, origin: &str) -> Self {
        let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        Self { path, is_secret: is_secret_name(key), value, origin: origin.to_owned() }
    }

    pub(super) fn error(&self, wanted: &str) -> SettingError {
        let shown = match &self.value {
            _ if self.is_secret => format!("`{HIDDEN}`"),
            value if value.is_null() => "empty".to_owned(),
            ArgValue::List(_) => "a list".to_owned(),
            ArgValue::Map(_) => "a mapping".to_owned(),
            ArgValue::Text(text) | ArgValue::Plain(text) => format!("`{}`", shorten(text)),
        };
        SettingError { path: self.path.clone(), shown, origin: self.origin.clone(), wanted: wanted.to_owned() }
    }

    pub(super) fn text(&self) -> Result<&str, SettingError> {
        self.value.as_str().filter(|_| !self.value.is_null()).ok_or_else(|| self.error("a text"))
    }

    pub(super) fn boolean(&self) -> Result<bool, SettingError> {
        self.value.as_bool().ok_or_else(|| self.error("`true` or `false`"))
    }

    pub(super) fn number<N: FromStr>(&self) -> Result<N, SettingError> {
        let number = self.value.as_str().and_then(|text| text.trim().parse().ok());
        number.ok_or_else(|| self.error("a whole number"))
    }

    /// A span of time with a unit.
    pub(super) fn duration(&self) -> Result<Duration, SettingError> {
        let text = self.value.as_str().map(str::trim).unwrap_or_default();
        crate::duration::parse(text).map_err(|_| self.error("a time such as `90s` or `2h`"))
    }

    /// A span of time, where the Python tool has a number of seconds.
    pub(super) fn seconds(&self) -> Result<Duration, SettingError> {
        let text = self.value.as_str().map(str::trim).unwrap_or_default();
        let seconds = text.parse().ok().map(Duration::from_secs);
        seconds
            .or_else(|| crate::duration::parse(text).ok())
            .ok_or_else(|| self.error("a time such as `90s` or `2h`, or a number of seconds"))
    }

    /// A list of texts. A single text is split at its commas, unless it spells a list in brackets.
    pub(super) fn list(&self) -> Result<Vec<String>, SettingError> {
        let spelled;
        let items = match &self.value {
            ArgValue::Text(text) | ArgValue::Plain(text) => match yaml_list(text) {
                Some(items) => {
                    spelled = items;
                    &spelled
                }
                None => {
                    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                    return Ok(items.map(str::to_owned).collect());
                }
            },
            ArgValue::List(items) => items,
            ArgValue::Map(_) => return Err(self.error("a list")),
        };
        let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        texts.ok_or_else(|| self.error("a list of texts"))
    }
}

/// As much of a text as a message of one line has room for.
fn shorten(text: &str) -> String {
    const ENOUGH: usize = 58;
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let short: String = text.chars().take(ENOUGH).map(printable).collect();
    if text.chars().nth(ENOUGH).is_some() { format!("{short}…") } else { short }
}

/// The list that a text such as `[a, b]` spells, as values from the environment may.
fn yaml_list(text: &str) -> Option<Vec<ArgValue>> {
    if !text.trim_start().starts_with('[') {
        return None;
    }
    match yaml::parse(text).ok()??.into_value() {
        ArgValue::List(items) => Some(items),
        _ => None,
    }
}

/// A setting whose value does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting `{path}` is {shown}{}, and must be {wanted}", in_parentheses(origin))]
pub struct SettingError {
    /// Where it is in the settings, with dots.
    pub path: String,
    /// Its value in backticks, hidden where it is a secret; or what it is, where that is no text.
    pub shown: String,
    /// Where it is given: a file and a line, or a variable.
    pub origin: String,
    /// What it must be.
    pub wanted: String,
}

fn in_parentheses(origin: &str) -> String {
    if origin.is_empty() { String::new() } else { format!(" ({origin})") }
}

impl From<SettingError> for ProviderError {
    fn from(error: SettingError) -> Self {
        Self::new(ErrorKind::Settings, error.to_string())
    }
}
