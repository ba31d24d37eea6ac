//! Provider arguments: values that keep the spelling they were written in.

use std::fmt;

use indexmap::IndexMap;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Arguments by name, in the order they were given.
pub type Args = IndexMap<String, ArgValue>;

/// The value of one provider argument.
///
/// A scalar is kept as text. `9.10` stays `9.10` and `0123` stays `0123`, whether it came from the command line, a nick
/// or a file; each provider decides what a [`Plain`](ArgValue::Plain) scalar means to its API.
///
/// As JSON a text is a string. A plain scalar is a JSON number, boolean or null where JSON would print it in the same
/// spelling (`5`, `true`), and a string otherwise (`9.10`, `0123`, `1e3`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArgValue {
    /// Text: from the command line, or quoted in a file.
    Text(String),
    /// A scalar that stood in a file without quotes: it may be meant as a number, a boolean or null. Its source spelling.
    Plain(String),
    /// A sequence.
    List(Vec<Self>),
    /// A mapping, in its order.
    Map(Args),
}

impl ArgValue {
    /// The text of a scalar, however it was written; `None` for lists and maps.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Plain(text) => Some(text),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The entries of a map.
    pub fn as_map(&self) -> Option<&Args> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// Whether this is a plain null: an empty scalar, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Plain(text) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The boolean that the scalar spells: `true`, `yes`, `on`, `1` and their opposites, in any case.
    pub fn as_bool(&self) -> Option<bool> {
        let text = self.as_str()?;
        if ["true", "yes", "on", "1"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
            Some(true)
        } else if ["false", "no", "off", "0"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
            Some(false)
        } else {
            None
        }
    }

    /// What kind of value this is, for messages: `text`, `list` or `mapping`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Plain(_) => "text",
            Self::List(_) => "list",
            Self::Map(_) => "mapping",
        }
    }

    /// The value as JSON, by the rule in the type's description.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::String(text.clone()),
            Self::Plain(text) => plain_to_json(text),
            Self::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), value.to_json())).collect()),
        }
    }

    /// The value that a JSON value stands for: strings are text, other scalars plain.
    pub fn from_json(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from_json).collect()),
            Value::Object(map) => {
                Self::Map(map.into_iter().map(|(key, value)| (key, Self::from_json(value))).collect())
            }
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_)) => Self::Plain(scalar.to_string()),
        }
    }
}

fn plain_to_json(text: &str) -> Value {
    let scalar = match serde_json::from_str::<Value>(text) {
        Ok(scalar @ (Value::Null | Value::Bool(_) | Value::Number(_))) => scalar,
        _ => return Value::String(text.to_owned()),
    };
    let printed = scalar.to_string();
    if printed == text { scalar } else { Value::String(text.to_owned()) }
}

/// Lays `over` on top of `under`: maps are merged key by key, everything else is replaced, and a null leaves what was
/// there. This is how explicit arguments meet those of a nick.
pub fn merge(under: &mut Args, over: Args) {
    for (key, value) in over {
        if value.is_null() {
            continue;
        }
        match (under.get_mut(&key), value) {
            (Some(ArgValue::Map(below)), ArgValue::Map(above)) => merge(below, above),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

impl From<&str> for ArgValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for ArgValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for ArgValue {
    fn from(value: bool) -> Self {
        Self::Plain(value.to_string())
    }
}

impl From<u64> for ArgValue {
    fn from(value: u64) -> Self {
        Self::Plain(value.to_string())
    }
}

impl<T: Into<Self>> From<Vec<T>> for ArgValue {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl From<Args> for ArgValue {
    fn from(map: Args) -> Self {
        Self::Map(map)
    }
}

/// Scalars as their text, lists and maps as JSON.
impl fmt::Display for ArgValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Plain(text) => f.write_str(text),
            other => other.to_json().fmt(f),
        }
    }
}

impl Serialize for ArgValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Plain(text) => plain_to_json(text).serialize(serializer),
            Self::List(items) => items.serialize(serializer),
            Self::Map(map) => map.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ArgValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = ArgValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, number, boolean, null, list or mapping")
            }

            fn visit_str<E>(self, text: &str) -> Result<ArgValue, E> {
                Ok(ArgValue::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<ArgValue, E> {
                Ok(ArgValue::Text(text))
            }

            fn visit_bool<E>(self, value: bool) -> Result<ArgValue, E> {
                Ok(ArgValue::Plain(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<ArgValue, E> {
                Ok(ArgValue::Plain(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<ArgValue, E> {
                Ok(ArgValue::Plain(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<ArgValue, E> {
                Ok(ArgValue::Plain(Value::from(value).to_string()))
            }

            fn visit_unit<E>(self) -> Result<ArgValue, E> {
                Ok(ArgValue::Plain("null".to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ArgValue, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(ArgValue::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ArgValue, A::Error> {
                let mut map = Args::new();
                while let Some((key, value)) = entries.next_entry()? {
                    map.insert(key, value);
                }
                Ok(ArgValue::Map(map))
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_survives_json() {
        for text in ["9.10", "0123", "1e3", "5", "true", "null", "-7", "9.5", "0x10", "no", "", "~", "5 "] {
            let value = ArgValue::Plain(text.to_owned());
            let back: ArgValue = serde_json::from_str(&serde_json::to_string(&value).unwrap()).unwrap();
            assert_eq!(back.as_str(), Some(text));
        }
        assert_eq!(ArgValue::Plain("5".into()).to_json(), serde_json::json!(5));
        assert_eq!(ArgValue::Text("5".into()).to_json(), serde_json::json!("5"));
        assert_eq!(ArgValue::Plain("9.10".into()).to_json(), serde_json::json!("9.10"));
    }

    #[test]
    fn explicit_arguments_win_and_maps_merge() {
        let args = |json: Value| match ArgValue::from_json(json) {
            ArgValue::Map(map) => map,
            other => panic!("not a map: {other}"),
        };
        let mut under = args(serde_json::json!({"a": "1", "m": {"x": "1", "y": "2"}, "l": ["1", "2"], "k": "kept"}));
        merge(&mut under, args(serde_json::json!({"a": "2", "m": {"y": "3"}, "l": ["9"], "k": null})));
        assert_eq!(under, args(serde_json::json!({"a": "2", "m": {"x": "1", "y": "3"}, "l": ["9"], "k": "kept"})));
    }
}
