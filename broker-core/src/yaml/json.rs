//! JSON, with the numbers as they are spelled.

use std::fmt;

use indexmap::IndexMap;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Content, MAX_DEPTH, Node, Place, YamlError};

/// Reads a JSON document. A blank text is `None`.
///
/// # Errors
///
/// If the text is no JSON, gives a key twice, or goes too deep. The error points at the place.
pub fn parse_json(text: &str) -> Result<Option<Node>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(None);
    }
    let start = Place { line: 1, column: 1 };
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| explain(text, start, &error))?;
    Reader { text, offset: 0, place: start }.read(raw, 0).map(Some)
}

/// Goes through a text once, from front to back.
struct Reader<'a> {
    text: &'a str,
    offset: usize,
    place: Place,
}

impl<'a> Reader<'a> {
    fn read(&mut self, raw: &'a RawValue, depth: usize) -> Result<Node, YamlError> {
        let place = self.advance(raw);
        let explain = |error: serde_json::Error| explain(self.text, place, &error);
        if depth > MAX_DEPTH {
            let message = format!("lists and mappings are nested more than {MAX_DEPTH} deep");
            return Err(YamlError::new(self.text, place, &message));
        }
        let source = raw.get();
        let content = match source.as_bytes().first() {
            Some(b'{') => {
                let entries: Entries<'a> = serde_json::from_str(source).map_err(explain)?;
                let entries = entries.0.into_iter().map(|(key, raw)| Ok((key, self.read(raw, depth + 1)?)));
                Content::Map(entries.collect::<Result<_, _>>()?)
            }
            Some(b'[') => {
                let items: Vec<&'a RawValue> = serde_json::from_str(source).map_err(explain)?;
                Content::List(items.into_iter().map(|raw| self.read(raw, depth + 1)).collect::<Result<_, _>>()?)
            }
            Some(b'"') => Content::Text(serde_json::from_str(source).map_err(explain)?),
            _ => Content::Plain(source.to_owned()),
        };
        Ok(Node { content, place })
    }

    /// Where a value begins, which is a slice of the text and comes after all that were asked for before.
    fn advance(&mut self, raw: &RawValue) -> Place {
        let target = (raw.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        for c in self.text.get(self.offset..target).unwrap_or_default().chars() {
            self.place = match c {
                '\n' => Place { line: self.place.line + 1, column: 1 },
                _ => Place { column: self.place.column + 1, ..self.place },
            };
        }
        self.offset = self.offset.max(target);
        self.place
    }
}

/// An error of a part of the text that begins at `base`.
fn explain(text: &str, base: Place, error: &serde_json::Error) -> YamlError {
    let shown = error.to_string();
    let message = shown.rsplit_once(" at line ").map_or(shown.as_str(), |(message, _)| message);
    let line = base.line + error.line().saturating_sub(1);
    let column = if error.line() <= 1 { base.column + error.column().saturating_sub(1) } else { error.column() };
    YamlError::new(text, Place { line, column }, message)
}

/// The entries of an object, each key once.
struct Entries<'a>(IndexMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = IndexMap::new();
                while let Some((key, value)) = access.next_entry::<String, &'de RawValue>()? {
                    if entries.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("the key `{key}` is given twice")));
                    }
                    entries.insert(key, value);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
