//! Any text is a filter or an error with a place in it; a filter prints as one that means the same, and selects each
//! record at the most once.

#![no_main]

use std::sync::LazyLock;

use broker_core::filter::Filter;
use broker_core::inventory::FIELDS;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

static HOSTS: LazyLock<Vec<Map<String, Value>>> = LazyLock::new(|| {
    let hosts = [
        json!({"id": "1", "number": 0, "state": "active", "name": "web-1", "hostname": "web-1.example.com",
               "_broker_args": {"container_host": "ubi9", "version": "9.10"}, "checked_out_at": "2026-01-01T00:00:00Z"}),
        json!({"id": "2", "number": 1, "state": "failed", "labels": {"team": "a.b"}, "disks": [{"size": 5}, {"size": 7}]}),
        json!({"id": "3", "number": 2, "name": null, "ports": [], "ok": true}),
    ];
    hosts.into_iter().filter_map(|host| if let Value::Object(map) = host { Some(map) } else { None }).collect()
});

fuzz_target!(|text: &str| {
    let filter = match Filter::parse(text) {
        Ok(filter) => filter,
        Err(error) => {
            assert!(error.text().get(error.span()).is_some());
            return drop(error.render());
        }
    };
    let shown = filter.to_string();
    assert_eq!(Filter::parse(&shown).as_ref(), Ok(&filter), "{shown}");
    if let Ok(selection) = filter.select(&HOSTS, FIELDS, Timestamp::UNIX_EPOCH) {
        let mut indices = selection.indices.clone();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), selection.indices.len());
        assert!(indices.iter().all(|index| *index < HOSTS.len()));
    }
});
