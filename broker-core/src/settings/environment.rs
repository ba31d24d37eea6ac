//! The environment as a layer of settings: `BROKER_Container__instances__remote__host=lab.example.com`.
//!
//! Two underscores stand between the names of a path. A name is matched with those that the schema and the file have,
//! without regard to case, so that `BROKER_CONTAINER__RUNTIME` sets `Container.runtime`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use indexmap::IndexMap;

use super::SettingsError;
use super::layers::Tree;
use super::schema::{self, INSTANCE_KEYS, Names, SECTION_KEYS, SSH};
use crate::args::ArgValue;
use crate::yaml;

const PREFIX: &str = "BROKER_";

/// Variables of Broker's own that are no settings, whatever sections there are.
const RESERVED: &[&str] = &[
    "BROKER_DIRECTORY",
    "BROKER_NON_INTERACTIVE",
    "BROKER_NO_GLOBAL_CONFIG",
    "BROKER_TEST_PROVIDER_DIR",
    "BROKER_GUARDIAN",
    "BROKER_JOB_ID",
];

/// The settings that the variables give, with the names that `file` and the schema have.
pub(super) fn layer(
    variables: &HashMap<OsString, OsString>,
    file: &Tree,
    names: &Names,
) -> Result<Tree, SettingsError> {
    let mut settings: Vec<(&str, Vec<&str>, &OsStr)> = variables
        .iter()
        .filter_map(|(name, value)| {
            let name = name.to_str()?;
            let path: Vec<&str> = name.strip_prefix(PREFIX)?.split("__").collect();
            let is_setting = match path.as_slice() {
                [one] => names.find(one).is_some(),
                many => many.iter().all(|segment| !segment.is_empty()),
            };
            (is_setting && !RESERVED.contains(&name)).then_some((name, path, value.as_os_str()))
        })
        .collect();
    settings.sort_unstable();

    let mut layer = Tree::empty();
    for (name, segments, value) in settings {
        let error = |problem: String| SettingsError::Environment { name: name.to_owned(), problem };
        let mut path = Vec::<String>::new();
        for segment in segments {
            let key = resolve(segment, &path, &[file, &layer], names).map_err(error)?;
            path.push(key);
        }
        let Some(text) = value.to_str() else { return Err(error("is not UTF-8".to_owned())) };
        let value = cast(text).map_err(error)?;
        check_parents(&path, file).map_err(error)?;
        insert(&mut layer, &path, value, name).map_err(error)?;
    }
    Ok(layer)
}

/// The key that a segment of a name means, below a path.
fn resolve(segment: &str, path: &[String], layers: &[&Tree], names: &Names) -> Result<String, String> {
    let here: Vec<&str> = path.iter().map(String::as_str).collect();
    let mut known: Vec<&str> = match here.as_slice() {
        [] => names.iter().collect(),
        [section] if !schema::is_section(section) => schema::keys_of(section).collect(),
        [section, SSH] | [section, "instances", _, SSH] if schema::is_section(section) => {
            schema::keys_of(SSH).collect()
        }
        [section] => {
            let instances = keys_at(layers, &[section, "instances"]);
            let theirs = instances.iter().flat_map(|instance| keys_at(layers, &[section, "instances", instance]));
            SECTION_KEYS.iter().copied().chain(theirs).collect()
        }
        [section, "instances", _] if schema::is_section(section) => {
            INSTANCE_KEYS.iter().copied().chain(keys_at(layers, &[section])).collect()
        }
        _ => Vec::new(),
    };
    known.extend(keys_at(layers, &here));
    if known.contains(&segment) {
        return Ok(segment.to_owned());
    }
    known.retain(|key| key.eq_ignore_ascii_case(segment));
    known.sort_unstable();
    known.dedup();
    match known.as_slice() {
        [] if schema::is_field(path) && !segment.contains(|c: char| c.is_ascii_lowercase()) => {
            Ok(segment.to_ascii_lowercase())
        }
        [] => Ok(segment.to_owned()),
        [one] => Ok((*one).to_owned()),
        [first, second, ..] => Err(format!("can mean `{first}` and `{second}`")),
    }
}

fn keys_at<'a>(layers: &[&'a Tree], path: &[&str]) -> Vec<&'a str> {
    let trees = layers.iter().filter_map(|tree| tree.at(path.iter().copied()));
    trees.filter_map(Tree::entries).flat_map(IndexMap::keys).map(String::as_str).collect()
}

/// A path cannot go through what is no mapping in the file.
fn check_parents(path: &[String], file: &Tree) -> Result<(), String> {
    for end in 1..path.len() {
        let parent = file.at(path[..end].iter().map(String::as_str));
        if let Some(Tree::Leaf { value, origin }) = parent
            && !value.is_null()
        {
            return Err(format!(
                "sets something below `{}`, which is a {} ({origin}) and must be a mapping",
                path[..end].join("."),
                value.kind()
            ));
        }
    }
    Ok(())
}

fn insert(layer: &mut Tree, path: &[String], value: ArgValue, name: &str) -> Result<(), String> {
    let origin = format!("environment variable `{name}`");
    let Some((last, parents)) = path.split_last() else { return Ok(()) };
    let mut tree = layer;
    for key in parents {
        let clash = format!("clashes with {}", tree.origin());
        let Some(entries) = tree.entries_mut() else { return Err(clash) };
        tree = entries
            .entry(key.clone())
            .or_insert_with(|| Tree::Map { entries: IndexMap::new(), origin: origin.clone() });
    }
    let clash = format!("clashes with {}", tree.origin());
    let Some(entries) = tree.entries_mut() else { return Err(clash) };
    if let Some(other) = entries.get(last) {
        return Err(format!("clashes with {}", other.origin()));
    }
    entries.insert(last.clone(), Tree::from_value(value, &origin));
    Ok(())
}

/// Reads a value: as it is, or as one of the casts of the Python tool says.
fn cast(text: &str) -> Result<ArgValue, String> {
    const OTHERS: &[&str] = &[
        "str",
        "float",
        "format",
        "jinja",
        "empty",
        "del",
        "reset",
        "merge",
        "merge_unique",
        "insert",
        "get",
        "read_file",
        "note",
        "comment",
        "marked",
    ];
    let marker = text.strip_prefix('@').map(|rest| rest.split_once(char::is_whitespace).unwrap_or((rest, "")));
    let Some((marker, rest)) = marker else {
        let plain = ArgValue::Plain(text.to_owned());
        // An empty value and the word `null` are texts here: there is `@none` for those who mean nothing.
        return Ok(if plain.is_null() { ArgValue::Text(text.to_owned()) } else { plain });
    };
    let rest = rest.trim();
    match marker {
        "json" => match yaml::parse_json(rest) {
            Ok(Some(node)) => Ok(node.into_value()),
            Ok(None) => Err("has `@json` and nothing behind it".to_owned()),
            Err(error) => Err(format!("has malformed JSON behind `@json`: {}", error.message())),
        },
        "int" if rest.parse::<i128>().is_ok() => Ok(ArgValue::Plain(rest.to_owned())),
        "int" => Err("has no whole number behind `@int`".to_owned()),
        "bool" => match ArgValue::Text(rest.to_owned()).as_bool() {
            Some(value) => Ok(value.into()),
            None => Err("has neither `true` nor `false` behind `@bool`".to_owned()),
        },
        "none" if rest.is_empty() => Ok(ArgValue::Plain("null".to_owned())),
        marker if OTHERS.contains(&marker) || marker == "none" => {
            Err(format!("has `@{marker}`, which is not supported; `@json`, `@int`, `@bool` and `@none` are"))
        }
        _ => Ok(ArgValue::Plain(text.to_owned())),
    }
}
