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
    fn secrets_do_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
    }
}
