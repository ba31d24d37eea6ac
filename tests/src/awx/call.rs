//! A request, as far as it is understood before anybody looks at what it is for.

use std::collections::BTreeMap;

use serde_json::Value;

use super::reply::Reply;
use super::vars;

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: String,
    /// The path, without the query.
    pub(super) path: String,
    /// What of the path is below the version: `jobs/7/`. Empty for the version's root.
    pub(super) below: String,
    pub(super) query: Vec<(String, String)>,
    /// The headers, with their names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Call {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The last value of a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let mut cookies = self.header("cookie").split(';').filter_map(|cookie| cookie.trim().split_once('='));
        cookies.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Whether it only reads.
    pub(super) fn is_safe(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }

    /// The body as JSON; nothing is an empty object.
    ///
    /// # Errors
    ///
    /// AWX's answer to another type, to what is no JSON, and to JSON that is no object.
    pub(super) fn json(&self) -> Result<Value, Reply> {
        if self.body.is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        if !self.header("content-type").starts_with("application/json") {
            let detail = "You did not use correct Content-Type in your HTTP request. If you are using our REST API, the \
                          Content-Type must be application/json";
            return Err(Reply::detail(415, detail));
        }
        let text = String::from_utf8_lossy(&self.body);
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            let error = vars::json_error(&text, &error);
            Reply::detail(400, &format!("JSON parse error - {error}\nPossible cause: trailing comma."))
        })?;
        if value.is_object() { Ok(value) } else { Err(Reply::detail(400, "JSON parse error - not a JSON object")) }
    }

    /// Whether the client takes this kind of answer.
    pub(super) fn takes(&self, kind: &str) -> bool {
        let accept = self.header("accept");
        let group = kind.split('/').next().unwrap_or_default();
        accept.is_empty()
            || accept.split(',').any(|part| {
                let part = part.split(';').next().unwrap_or_default().trim();
                part == kind || part == "*/*" || part == format!("{group}/*")
            })
    }
}

/// Reads what is in a query or in a form.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decoded(key), decoded(value)))
        .collect()
}

/// A text without `%` and `+`.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
