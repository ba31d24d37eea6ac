//! Layers of settings, and how the `config` crate merges them.

use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use indexmap::IndexMap;

use super::SettingsError;
use super::value::Setting;
use crate::args::{ArgValue, Args};
use crate::yaml::{Content, Node};

/// Everything goes below one key, since the crate takes keys at the top for paths: `a.b` would become `b` below `a`.
const ROOT: &str = "settings";

/// Settings that know where they were given.
#[derive(Clone)]
pub(super) enum Tree {
    /// A scalar or a list, which is replaced as a whole.
    Leaf { value: ArgValue, origin: String },
    /// A mapping, which is merged key by key.
    Map { entries: IndexMap<String, Self>, origin: String },
}

impl Tree {
    pub(super) fn empty() -> Self {
        Self::Map { entries: IndexMap::new(), origin: String::new() }
    }

    pub(super) fn from_value(value: ArgValue, origin: &str) -> Self {
        let origin = origin.to_owned();
        match value {
            ArgValue::Map(map) => {
                let entries = map.into_iter().map(|(key, value)| (key, Self::from_value(value, &origin))).collect();
                Self::Map { entries, origin }
            }
            value => Self::Leaf { value, origin },
        }
    }

    /// `origin` says in words where a line is.
    pub(super) fn from_node(node: Node, origin: &dyn Fn(usize) -> String) -> Self {
        let place = origin(node.place.line);
        match node.content {
            Content::Map(map) => {
                let entries = map.into_iter().map(|(key, node)| (key, Self::from_node(node, origin))).collect();
                Self::Map { entries, origin: place }
            }
            _ => Self::Leaf { value: node.into_value(), origin: place },
        }
    }

    pub(super) fn origin(&self) -> &str {
        match self {
            Self::Leaf { origin, .. } | Self::Map { origin, .. } => origin,
        }
    }

    pub(super) fn entries(&self) -> Option<&IndexMap<String, Self>> {
        match self {
            Self::Map { entries, .. } => Some(entries),
            Self::Leaf { .. } => None,
        }
    }

    pub(super) fn entries_mut(&mut self) -> Option<&mut IndexMap<String, Self>> {
        match self {
            Self::Map { entries, .. } => Some(entries),
            Self::Leaf { .. } => None,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries()?.get(key)
    }

    /// What stands at the end of a path, if anything does.
    pub(super) fn at<'k>(&self, path: impl IntoIterator<Item = &'k str>) -> Option<&Self> {
        path.into_iter().try_fold(self, |tree, key| tree.get(key))
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Leaf { value, .. } if value.is_null())
    }

    pub(super) fn to_value(&self) -> ArgValue {
        match self {
            Self::Leaf { value, .. } => value.clone(),
            Self::Map { entries, .. } => ArgValue::Map(to_args(entries)),
        }
    }

    /// Reads the value of `key` in this section, with `read`. What is missing or null is `None`.
    pub(super) fn read<T>(
        &self,
        section: &str,
        key: &str,
        read: impl FnOnce(&Setting) -> Result<T, super::SettingError>,
    ) -> Result<Option<T>, super::SettingError> {
        let Some(tree) = self.get(key).filter(|tree| !tree.is_null()) else { return Ok(None) };
        read(&Setting::new(section, key, tree.to_value(), tree.origin())).map(Some)
    }

    /// The mapping below `key` in this section. What is missing or null is `None`.
    pub(super) fn map_at(
        &self,
        section: &str,
        key: &str,
    ) -> Result<Option<&IndexMap<String, Self>>, super::SettingError> {
        match self.get(key) {
            Some(Self::Leaf { value, origin }) if !value.is_null() => {
                Err(Setting::new(section, key, value.clone(), origin).error("a mapping"))
            }
            tree => Ok(tree.and_then(Self::entries)),
        }
    }
}

pub(super) fn to_args(entries: &IndexMap<String, Tree>) -> Args {
    entries.iter().map(|(key, tree)| (key.clone(), tree.to_value())).collect()
}

/// Merges layers, the last of which wins.
pub(super) fn merge(layers: &[&Tree]) -> Result<Tree, SettingsError> {
    let failed = |error: ConfigError| SettingsError::Merge(Box::new(error));
    let sources = layers.iter().map(|tree| Layer(Value::from(Map::from([(ROOT.to_owned(), encode(tree))]))));
    let merged = sources.fold(Config::builder(), |builder, layer| builder.add_source(layer)).build().map_err(failed)?;
    let ValueKind::Table(mut top) = merged.cache.kind else { return Ok(Tree::empty()) };
    Ok(top.remove(ROOT).map_or_else(Tree::empty, |value| decode(value, layers)))
}

/// A layer as a source of the `config` crate.
#[derive(Clone)]
struct Layer(Value);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        match &self.0.kind {
            ValueKind::Table(table) => Ok(table.clone()),
            _ => Ok(Map::new()),
        }
    }
}

/// There are secrets in it.
impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Layer")
    }
}

/// The crate would read numbers and booleans, and spell them in its own way. So every scalar is a string to it, marked
/// with how it was written.
const PLAIN: char = 'p';
const TEXT: char = 't';

fn encode(tree: &Tree) -> Value {
    match tree {
        Tree::Map { entries, .. } => {
            entries.iter().map(|(key, tree)| (key.clone(), encode(tree))).collect::<Map<_, _>>().into()
        }
        Tree::Leaf { value, origin } => Value::new(Some(origin), encode_value(value)),
    }
}

fn encode_value(value: &ArgValue) -> ValueKind {
    match value {
        ArgValue::Plain(text) => format!("{PLAIN}{text}").into(),
        ArgValue::Text(text) => format!("{TEXT}{text}").into(),
        ArgValue::List(items) => items.iter().map(encode_value).collect::<Vec<_>>().into(),
        ArgValue::Map(map) => {
            map.iter().map(|(key, value)| (key.clone(), encode_value(value))).collect::<Map<_, _>>().into()
        }
    }
}

/// What the crate has merged, with the order of keys that it has lost: the order in which the layers have them.
fn decode(value: Value, layers: &[&Tree]) -> Tree {
    let origin = value.origin().unwrap_or_default().to_owned();
    match value.kind {
        ValueKind::Table(mut table) => {
            let maps: Vec<_> = layers.iter().filter_map(|tree| tree.entries()).collect();
            let mut entries = IndexMap::new();
            for key in maps.iter().flat_map(|map| map.keys()) {
                if let Some(value) = table.remove(key) {
                    let below: Vec<&Tree> = maps.iter().filter_map(|map| map.get(key)).collect();
                    entries.insert(key.clone(), decode(value, &below));
                }
            }
            let origin = layers.last().map(|tree| tree.origin().to_owned()).unwrap_or_default();
            Tree::Map { entries, origin }
        }
        ValueKind::String(text) => {
            let mut marked = text.chars();
            let value = match marked.next() {
                Some(TEXT) => ArgValue::Text(marked.as_str().to_owned()),
                _ => ArgValue::Plain(marked.as_str().to_owned()),
            };
            Tree::Leaf { value, origin }
        }
        // A list is the last layer's as a whole.
        _ => layers.last().map_or_else(Tree::empty, |tree| (*tree).clone()),
    }
}
