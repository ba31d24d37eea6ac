//! Which values must never be shown.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer};

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// Whether an argument or setting of this name holds a secret.
///
/// `password`, `passwd`, `passphrase`, `pword`, `token`, `secret` and `credential` anywhere in the name count, and names that
/// end in `private_key`, `api_key` or `apikey`. Case and dashes do not matter. `token_url` and other names of places do not.
pub fn is_secret_name(name: &str) -> bool {
    let plain = !name.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'-');
    let name = if plain { Cow::Borrowed(name) } else { name.to_ascii_lowercase().replace('-', "_").into() };
    let secret = ["password", "passwd", "passphrase", "pword", "token", "secret", "credential"]
        .iter()
        .any(|word| name.contains(word))
        || ["private_key", "api_key", "apikey"].iter().any(|end| name.ends_with(end));
    secret && !["_url", "_file", "_path", "_name", "_id", "_ttl", "_filename"].iter().any(|end| name.ends_with(end))
}

/// A text without the secrets in it: of `A=1,DB_PASSWORD=x,B=2` what is after `DB_PASSWORD=`, up to a comma before the next
/// `NAME=`. Nothing else ends a secret, since it may have spaces and commas in it.
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(begin) = begin_of_secret(rest) {
        let (before, secret) = rest.split_at(begin);
        let end = secret.match_indices(',').map(|(at, _)| at).find(|at| begins_with_name(&secret[at + 1..]));
        shown.push_str(before);
        if !secret.is_empty() {
            shown.push_str(HIDDEN);
        }
        rest = end.map_or("", |end| &secret[end..]);
    }
    if shown.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(shown + rest) }
}

/// Where in a text the first value begins that belongs to the name of a secret.
fn begin_of_secret(text: &str) -> Option<usize> {
    let mut equals = text.match_indices('=').map(|(at, _)| at);
    equals.find(|at| is_secret_name(last_name(&text[..*at]))).map(|at| at + 1)
}

/// The name that a text ends with.
fn last_name(text: &str) -> &str {
    text.trim_end().rsplit(|character| !is_of_name(character)).next().unwrap_or_default()
}

/// Whether a text begins with `NAME=`.
fn begins_with_name(text: &str) -> bool {
    text.split_once('=')
        .map(|(name, _)| name.trim())
        .is_some_and(|name| !name.is_empty() && name.chars().all(is_of_name))
}

fn is_of_name(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '.')
}

/// A text that prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        for name in ["password", "HOST_PASSWORD", "api-token", "client_secret", "ssh_private_key", "my_api_key"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["key_name", "token_url", "hostname", "keyboard", "secret_name", "author"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn secrets_inside_texts() {
        for (text, expected) in [
            ("", ""),
            ("A=1,B=2", "A=1,B=2"),
            ("PASSWORD", "PASSWORD"),
            ("PASSWORD=", "PASSWORD="),
            ("POSTGRES_PASSWORD=hunter2", "POSTGRES_PASSWORD=***"),
            ("A=1,DB_PASSWORD=x y,B=2", "A=1,DB_PASSWORD=***,B=2"),
            ("A=1, DB_PASSWORD = x, B=2", "A=1, DB_PASSWORD =***, B=2"),
            ("TOKEN=a,b=c,SECRET=d", "TOKEN=***,b=c,SECRET=***"),
            ("TOKEN=a,rest of it", "TOKEN=***"),
            ("TOKEN==,=,é,=", "TOKEN=***"),
            ("é:TOKEN=a", "é:TOKEN=***"),
            ("mysql --user=me --password=x -e 'select 1'", "mysql --user=me --password=***"),
            ("https://example.com/?a=1&token=x", "https://example.com/?a=1&token=***"),
            ("TOKEN_URL=https://example.com,KEY_NAME=k", "TOKEN_URL=https://example.com,KEY_NAME=k"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
    }
}
