//! Which hosts the words of a command line mean.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;

use super::HostRecord;
use crate::id::HostId;

/// How much a name has to resemble a word to be suggested.
const RESEMBLANCE: f64 = 0.8;
const MOST_SUGGESTIONS: usize = 3;

/// Words that mean no host, or more than one. Nothing was selected.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectError {
    /// Words that no host answers to.
    pub unknown: Vec<UnknownHost>,
    /// Words that several hosts answer to.
    pub ambiguous: Vec<AmbiguousHost>,
}

/// A word that no host answers to.
#[derive(Debug, Clone, PartialEq)]
pub struct UnknownHost {
    /// The word.
    pub word: String,
    /// Names and hostnames that resemble it, the nearest first.
    pub near: Vec<String>,
}

/// A word that several hosts answer to.
#[derive(Debug, Clone, PartialEq)]
pub struct AmbiguousHost {
    /// The word.
    pub word: String,
    /// The hosts, by number.
    pub candidates: Vec<HostRecord>,
}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for UnknownHost { word, near } in &self.unknown {
            write!(f, "{separator}no host `{word}` in the inventory")?;
            if !near.is_empty() {
                write!(f, " (did you mean `{}`?)", near.join("` or `"))?;
            }
            separator = "; ";
        }
        for AmbiguousHost { word, candidates } in &self.ambiguous {
            write!(f, "{separator}`{word}` could be any of")?;
            for (index, host) in candidates.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                write!(f, "{comma} {} (`{}`, {}", host.number, host.label(), host.provider)?;
                if let Some(instance) = &host.instance {
                    write!(f, " `{instance}`")?;
                }
                f.write_str(")")?;
            }
            separator = "; ";
        }
        Ok(())
    }
}

impl std::error::Error for SelectError {}

/// The hosts that words mean: a number, an id, a name or a hostname each, whichever of these matches first. They come in
/// the order of the words, each once.
///
/// # Errors
///
/// If any word means no host, or more than one of the same kind: then all such words, and no host.
pub fn select<'a, R>(records: &'a [R], words: &[String]) -> Result<Vec<&'a R>, SelectError>
where
    R: Borrow<HostRecord>,
{
    let mut selected: Vec<&R> = Vec::new();
    let mut bad = SelectError { unknown: Vec::new(), ambiguous: Vec::new() };
    let mut seen = HashSet::new();
    for word in words {
        match find(records, word).as_slice() {
            [] => bad.unknown.push(UnknownHost { word: word.clone(), near: near(records, word) }),
            [host] if seen.insert((*host).borrow().id) => selected.push(host),
            [_] => {}
            several => {
                let candidates = several.iter().map(|host| (*host).borrow().clone()).collect();
                bad.ambiguous.push(AmbiguousHost { word: word.clone(), candidates });
            }
        }
    }
    if bad.unknown.is_empty() && bad.ambiguous.is_empty() { Ok(selected) } else { Err(bad) }
}

/// All that match a word in the first way that any does.
fn find<'a, R: Borrow<HostRecord>>(records: &'a [R], word: &str) -> Vec<&'a R> {
    let number: Option<u64> = word.parse().ok().filter(|_| word.bytes().all(|byte| byte.is_ascii_digit()));
    let id: Option<HostId> = word.parse().ok();
    let ways: [&dyn Fn(&HostRecord) -> bool; 4] = [
        &|host| Some(host.number) == number,
        &|host| Some(host.id) == id,
        &|host| host.name.as_deref() == Some(word),
        &|host| host.hostname.as_deref() == Some(word),
    ];
    let matching =
        |way: &dyn Fn(&HostRecord) -> bool| records.iter().filter(|host| way((*host).borrow())).collect::<Vec<_>>();
    ways.into_iter().map(matching).find(|found| !found.is_empty()).unwrap_or_default()
}

fn near<R: Borrow<HostRecord>>(records: &[R], word: &str) -> Vec<String> {
    if word.is_empty() {
        return Vec::new();
    }
    let names = records
        .iter()
        .map(Borrow::borrow)
        .flat_map(|host: &HostRecord| [host.name.as_deref(), host.hostname.as_deref()])
        .flatten();
    let mut near: Vec<(f64, &str)> = names
        .map(|name| {
            let is_part = word.len() > 2 && name.contains(word);
            (if is_part { 1.0 } else { strsim::jaro_winkler(word, name) }, name)
        })
        .filter(|(likeness, _)| *likeness > RESEMBLANCE)
        .collect();
    near.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(other.1)));
    near.dedup_by(|one, other| one.1 == other.1);
    near.into_iter().take(MOST_SUGGESTIONS).map(|(_, name)| name.to_owned()).collect()
}
