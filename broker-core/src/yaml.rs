//! YAML and JSON texts, read without losing how their scalars were written.
//!
//! A [`Node`] keeps the spelling of every scalar, the order of every mapping, and the place of everything in the text, so
//! that `9.10` stays `9.10` and a message can say where a value came from. The YAML is 1.2 with anchors, aliases and the
//! merge key `<<` of 1.1. A key that is given twice is an error, as is more than one document.

mod emit;
mod error;
mod json;

use std::collections::HashMap;

use indexmap::IndexMap;
use indexmap::map::Entry;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::args::ArgValue;

pub use emit::to_yaml;
pub use error::YamlError;
pub use json::parse_json;

/// How deep lists and mappings may be nested.
const MAX_DEPTH: usize = 100;

/// How much aliases may add to a text, in bytes of memory, roughly.
const MAX_EXPANSION: usize = 16 << 20;

/// Where something stands in a text. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The value.
    pub content: Content,
    /// Where its key stands, if it is the value of a mapping's key; else where it begins.
    pub place: Place,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A scalar without quotes, as it is spelled: it may be meant as a number, a boolean or null.
    Plain(String),
    /// A text: in quotes, in a block, or tagged `!!str`.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in its order. Keys that are no texts are there as they are spelled.
    Map(IndexMap<String, Node>),
}

impl Node {
    /// The value without its places.
    pub fn into_value(self) -> ArgValue {
        match self.content {
            Content::Plain(text) => ArgValue::Plain(text),
            Content::Text(text) => ArgValue::Text(text),
            Content::List(items) => ArgValue::List(items.into_iter().map(Self::into_value).collect()),
            Content::Map(map) => ArgValue::Map(map.into_iter().map(|(key, node)| (key, node.into_value())).collect()),
        }
    }

    /// The size and the depth of what is below, for the limits.
    fn measure(&self) -> (usize, usize) {
        let (inner, depth) = match &self.content {
            Content::Plain(text) | Content::Text(text) => return (size_of::<Self>() + text.len(), 0),
            Content::List(items) => sum(items.iter().map(Self::measure)),
            Content::Map(map) => sum(map.iter().map(|(key, node)| {
                let (size, depth) = node.measure();
                (size + key.len(), depth)
            })),
        };
        (size_of::<Self>() + inner, depth + 1)
    }
}

fn sum(parts: impl Iterator<Item = (usize, usize)>) -> (usize, usize) {
    parts.fold((0, 0), |(size, depth), (more, deep)| (size + more, depth.max(deep)))
}

/// Reads one YAML document. A text without any, or with an empty one, is `None`.
///
/// # Errors
///
/// If the text is no YAML, holds more than one document, gives a key twice, uses a tag of an application's own, or goes
/// too deep. The error points at the place.
pub fn parse(text: &str) -> Result<Option<Node>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_control_characters(text)?;
    let mut reader = Reader { text, stack: Vec::new(), root: None, anchors: HashMap::new(), expanded: 0 };
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            YamlError::new(text, Place { line: mark.line(), column: mark.col() + 1 }, error.info())
        })?;
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                return Err(reader.error(place(span), "a second document begins here, and there may be only one"));
            }
        }
        reader.take(event, span)?;
    }
    Ok(reader.root.filter(|root| !matches!(&root.content, Content::Plain(text) if text.is_empty())))
}

/// The parser takes a NUL for the end of the text, and would cut it off silently.
fn refuse_control_characters(text: &str) -> Result<(), YamlError> {
    let forbidden = |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r');
    let Some((offset, character)) = text.char_indices().find(|(_, c)| forbidden(*c)) else { return Ok(()) };
    let message = format!("the control character U+{:04X} is not allowed", u32::from(character));
    Err(YamlError::new(text, error::locate(text, offset), &message))
}

fn place(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

/// What has been read so far.
struct Reader<'a> {
    text: &'a str,
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    expanded: usize,
}

/// A list or a mapping that is not complete yet.
struct Frame {
    place: Place,
    anchor: usize,
    kind: FrameKind,
}

enum FrameKind {
    List(Vec<Node>),
    Map(MapFrame),
}

#[derive(Default)]
struct MapFrame {
    entries: IndexMap<String, Node>,
    /// The key whose value comes next.
    key: Option<(Key, Place)>,
    merge: Option<(Place, Vec<IndexMap<String, Node>>)>,
}

enum Key {
    Named(String),
    Merge,
}

impl Reader<'_> {
    fn error(&self, place: Place, message: &str) -> YamlError {
        YamlError::new(self.text, place, message)
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let place = place(span);
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                let text = value.into_owned();
                let content = match self.tag(tag.as_deref(), place)? {
                    Some("str") => Content::Text(text),
                    Some(_) => Content::Plain(text),
                    None if style == ScalarStyle::Plain => Content::Plain(text),
                    None => Content::Text(text),
                };
                self.complete(Node { content, place }, anchor)
            }
            Event::SequenceStart(anchor, tag) => self.open(FrameKind::List(Vec::new()), anchor, tag.as_deref(), place),
            Event::MappingStart(anchor, tag) => {
                self.open(FrameKind::Map(MapFrame::default()), anchor, tag.as_deref(), place)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.stack.pop() else { return Ok(()) };
                let content = match frame.kind {
                    FrameKind::List(items) => Content::List(items),
                    FrameKind::Map(map) => Content::Map(map.finish()),
                };
                self.complete(Node { content, place: frame.place }, frame.anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(self.error(place, "an alias may not stand inside of what it names"));
                };
                let (size, depth) = node.measure();
                if self.stack.len() + depth > MAX_DEPTH {
                    return Err(self.too_deep(place));
                }
                let content = node.content.clone();
                self.expand(size, place)?;
                self.complete(Node { content, place }, 0)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn open(&mut self, kind: FrameKind, anchor: usize, tag: Option<&Tag>, place: Place) -> Result<(), YamlError> {
        let _checked = self.tag(tag, place)?;
        if self.stack.len() == MAX_DEPTH {
            return Err(self.too_deep(place));
        }
        self.stack.push(Frame { place, anchor, kind });
        Ok(())
    }

    fn too_deep(&self, place: Place) -> YamlError {
        self.error(place, &format!("lists and mappings are nested more than {MAX_DEPTH} deep"))
    }

    /// The name of a tag of YAML's own, such as `str`.
    fn tag<'t>(&self, tag: Option<&'t Tag>, place: Place) -> Result<Option<&'t str>, YamlError> {
        const KNOWN: &[&str] = &["str", "int", "float", "bool", "null", "timestamp", "seq", "map", "set", "omap"];
        const PREFIX: &str = "tag:yaml.org,2002:";
        let Some(tag) = tag else { return Ok(None) };
        // The tag `!` alone says that it is what it looks like, but no number or the like.
        if tag.suffix == "!" && tag.handle.is_empty() || tag.handle == "!" && tag.suffix.is_empty() {
            return Ok(Some("str"));
        }
        let name = match tag.handle.as_str() {
            PREFIX => Some(tag.suffix.as_str()),
            "" => tag.suffix.strip_prefix(PREFIX),
            _ => None,
        };
        match name {
            Some(name) if KNOWN.contains(&name) => Ok(Some(name)),
            Some(name) => Err(self.error(place, &format!("the tag `!!{name}` is not supported"))),
            None => Err(self.error(place, &format!("the tag `{}{}` is not supported", tag.handle, tag.suffix))),
        }
    }

    fn expand(&mut self, size: usize, place: Place) -> Result<(), YamlError> {
        self.expanded = self.expanded.saturating_add(size);
        if self.expanded > MAX_EXPANSION {
            return Err(self.error(place, "anchors and aliases make the document too large"));
        }
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        if anchor != 0 {
            self.expand(node.measure().0, node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|frame| &mut frame.kind) {
            None => {
                self.root = Some(node);
                Ok(())
            }
            Some(FrameKind::List(items)) => {
                items.push(node);
                Ok(())
            }
            Some(FrameKind::Map(map)) => {
                map.take(node).map_err(|(place, message)| YamlError::new(self.text, place, &message))
            }
        }
    }
}

impl MapFrame {
    fn take(&mut self, node: Node) -> Result<(), (Place, String)> {
        let Some((key, key_place)) = self.key.take() else {
            let key = match node.content {
                Content::Plain(text) if text == "<<" => Key::Merge,
                Content::Plain(text) | Content::Text(text) => Key::Named(text),
                Content::List(_) => return Err((node.place, "a list cannot be a key".to_owned())),
                Content::Map(_) => return Err((node.place, "a mapping cannot be a key".to_owned())),
            };
            self.key = Some((key, node.place));
            return Ok(());
        };
        match key {
            Key::Named(name) => match self.entries.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(Node { place: key_place, ..node });
                    Ok(())
                }
                Entry::Occupied(entry) => Err(twice(entry.key(), entry.get().place, key_place)),
            },
            Key::Merge => {
                if let Some((first, _)) = &self.merge {
                    return Err(twice("<<", *first, key_place));
                }
                let items = match node.content {
                    Content::List(items) => items,
                    content => vec![Node { content, ..node }],
                };
                let maps = items.into_iter().map(|item| match item.content {
                    Content::Map(map) => Ok(map),
                    _ => Err((item.place, "`<<` takes a mapping or a list of mappings".to_owned())),
                });
                self.merge = Some((key_place, maps.collect::<Result<_, _>>()?));
                Ok(())
            }
        }
    }

    /// The mapping's own entries win over merged ones, and of those the first.
    fn finish(self) -> IndexMap<String, Node> {
        let Some((_, maps)) = self.merge else { return self.entries };
        let mut all = IndexMap::new();
        for (key, node) in maps.into_iter().flatten() {
            all.entry(key).or_insert(node);
        }
        all.extend(self.entries);
        all
    }
}

fn twice(key: &str, first: Place, second: Place) -> (Place, String) {
    (second, format!("the key `{key}` is given twice, first in line {}", first.line))
}

#[cfg(test)]
mod tests;
