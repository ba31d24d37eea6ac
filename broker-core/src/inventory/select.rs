//! Which hosts the words of a command line mean.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;

use super::HostRecord;
use crate::id::HostId;

/// How much a name has to resemble a word to be suggested.
const RESEMBLANCE: f64 = 0.75;
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host(number: u64, name: Option<&str>, hostname: Option<&str>) -> HostRecord {
        let mut record: HostRecord = serde_json::from_value(json!({
            "id": HostId::generate(), "number": number, "rev": 1, "state": "active", "at": "2026-01-01T00:00:00Z",
            "_broker_provider": "Container", "_broker_provider_instance": "podman",
        }))
        .unwrap();
        (record.name, record.hostname) = (name.map(str::to_owned), hostname.map(str::to_owned));
        record
    }

    fn hosts() -> Vec<HostRecord> {
        vec![
            host(0, Some("web"), Some("web.example.com")),
            host(1, Some("db"), Some("same.example.com")),
            host(2, Some("12"), Some("same.example.com")),
            host(3, None, Some("web")),
            host(7, Some("0"), Some("db")),
            host(8, Some("twin"), None),
            host(9, Some("twin"), None),
            host(10, None, None),
        ]
    }

    fn select_numbers(words: &[&str]) -> Result<Vec<u64>, String> {
        let hosts = hosts();
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        match select(&hosts, &words) {
            Ok(selected) => Ok(selected.iter().map(|host| host.number).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_word_is_a_number_an_id_a_name_or_a_hostname_in_that_order() {
        assert_eq!(select_numbers(&["0", "12", "web", "db", "web.example.com"]), Ok(vec![0, 2, 1]));
        assert_eq!(select_numbers(&[]), Ok(vec![]));
        let hosts = hosts();
        for id in [hosts[7].id.to_string(), hosts[7].id.to_string().to_uppercase()] {
            assert_eq!(select(&hosts, &[id]).unwrap()[0].number, 10);
        }
    }

    #[test]
    fn the_same_host_is_selected_once() {
        assert_eq!(select_numbers(&["7", "web", "0", "7"]), Ok(vec![7, 0]));
    }

    #[test]
    fn one_bad_word_selects_nothing_and_all_are_listed() {
        assert_eq!(
            select_numbers(&["0", "wob", "same.example.com", "99", "twin"]),
            Err("no host `wob` in the inventory (did you mean `web`?); no host `99` in the inventory; \
                `same.example.com` could be any of 1 (`same.example.com`, Container `podman`), \
                2 (`same.example.com`, Container `podman`); \
                `twin` could be any of 8 (`twin`, Container `podman`), 9 (`twin`, Container `podman`)"
                .to_owned())
        );
        for word in ["", " ", "-1", "+1", "1.0", "example", "WEB"] {
            assert!(select_numbers(&[word]).unwrap_err().starts_with(&format!("no host `{word}`")), "{word}");
        }
        assert!(select_numbers(&["example"]).unwrap_err().contains("`same.example.com` or `web.example.com`"));
    }

    #[test]
    fn shared_records_are_selected_too() {
        let hosts: Vec<_> = hosts().into_iter().map(std::sync::Arc::new).collect();
        let selected = select(&hosts, &["web".to_owned()]).unwrap();
        assert!(std::sync::Arc::ptr_eq(selected[0], &hosts[0]));
    }
}
