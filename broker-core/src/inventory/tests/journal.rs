//! The format, as text in memory.

use std::path::Path;

use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::inventory::journal::{Contents, Header};

const NAME: &str = "inventory.jsonl";

fn parse(text: &[u8]) -> Result<Snapshot, InventoryError> {
    parse_journal(Path::new(NAME), text)
}

/// A journal of three hosts, the first of which is gone, and what it adds up to after each line.
fn journal() -> (Vec<u8>, Vec<Snapshot>) {
    let mut contents = Contents::new(Header::new(None), true);
    let mut text = contents.compact_text();
    let mut snapshots = vec![Snapshot::default()];
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let mut records = Vec::new();
    let mut step = |change: &mut dyn FnMut(&mut Contents, &mut Vec<u8>)| {
        change(&mut contents, &mut text);
        snapshots.push(Snapshot { records: contents.living(), warnings: Vec::new() });
    };
    for _ in 0..3 {
        step(&mut |contents, text| records.extend(contents.add(drafts(1), now, text).unwrap()));
    }
    for (index, state) in [(1, HostState::Active), (0, HostState::Active), (0, HostState::Gone), (2, HostState::Failed)]
    {
        step(&mut |contents, text| {
            let record = &mut records[index];
            *record = contents.update(in_state(record, state), now, text).unwrap();
        });
    }
    (text, snapshots)
}

#[test]
fn every_prefix_is_a_journal() {
    let (text, snapshots) = journal();
    for end in 0..=text.len() {
        let lines = text[..end].iter().filter(|byte| **byte == b'\n').count();
        let expected = &snapshots[lines.saturating_sub(1)];
        assert_eq!(&parse(&text[..end]).unwrap(), expected, "cut at {end}");
    }
    assert_eq!(numbers(snapshots.last().unwrap()), [1, 2]);
}

#[test]
fn every_prefix_can_be_added_to() {
    let (text, snapshots) = journal();
    let dir = tempfile::tempdir().unwrap();
    for end in 0..=text.len() {
        let lines = text[..end].iter().filter(|byte| **byte == b'\n').count();
        let before = &snapshots[lines.saturating_sub(1)];
        fs::write(dir.path().join(NAME), &text[..end]).unwrap();
        let added = wait(Inventory::open(dir.path()).add(drafts(1))).unwrap();
        let number = (lines.saturating_sub(1)).min(3) as u64;
        assert_eq!(added[0].number, number, "cut at {end}");
        let mut expected = before.records.clone();
        expected.push(Arc::new(added[0].clone()));
        assert_eq!(read(dir.path()).unwrap().records, expected, "cut at {end}");
    }
}

#[test]
fn a_record_survives_with_all_its_fields() {
    let record = from_json(json!({
        "id": HostId::generate(), "number": 0, "rev": 0, "state": "active", "at": "2026-01-01T00:00:00Z",
        "name": "n", "hostname": "h", "address": "10.0.0.1", "ssh_port": 2222, "ssh_host_key": "ssh-ed25519 AAAA",
        "ssh_jump_keys": {"gate:22": "ssh-ed25519 BBBB"}, "_broker_provider": "Container",
        "_broker_provider_instance": "podman", "_broker_args": {"a": [1, "0123", {"b": true}], "password": "x"},
        "labels": {"team": "a\nb"}, "checked_out_at": "2026-01-01T00:00:00.5Z", "lease_until": "2026-01-02T00:00:00Z",
        "owner": {"run": crate::id::RunId::generate(), "user": "u", "machine": "m", "pid": 7}, "holding": "guarded",
        "endpoint": {"uri": "unix:///x", "identity": "i"}, "handle": {"job": 5}, "error": "e",
        "exposed_ports": {"22/tcp": "127.0.0.1:49153"}, "image": "i", "none": null,
        "_imported": {"high": 3, "live": "x", "id": 5, "_imported": {"y": 1}, "at": null},
    }));
    let mut contents = Contents::new(Header::new(None), true);
    let mut text = contents.compact_text();
    let added = contents.add(vec![record.clone()], record.at, &mut text).unwrap();
    assert_eq!(parse(&text).unwrap().records, [Arc::new(added[0].clone())]);
    assert_eq!(added[0], HostRecord { rev: 1, ..record.clone() });
    assert_eq!(record.details.facts["_imported"], json!({"y": 1}));
    assert_eq!(record.to_json(Secrets::Hidden)["_broker_args"]["password"], "***");
    let shown = record.to_json(Secrets::Shown);
    assert_eq!(HostRecord::from_json(shown.clone()).unwrap(), record);
    assert_eq!(serde_json::to_string(&record).unwrap(), serde_json::to_string(&shown).unwrap());
}

#[test]
fn secret_facts_are_hidden_wherever_they_are() {
    let mut json = draft().to_json(Secrets::Shown);
    let facts = json!({
        "username": "root", "password": "hunter2", "key_filename": "/k", "nothing_secret": null,
        "login": {"users": [{"name": "a", "api_token": {"value": "hunter2"}}], "port": 22},
        "_imported": {"error": "e", "rev": {"password": "hunter2"}},
        "handle": {"server": "x", "ssh_private_key": "hunter2"},
    });
    json.extend(facts.as_object().unwrap().clone());
    let record = HostRecord::from_json(json).unwrap();
    let hidden = record.to_json(Secrets::Hidden);
    assert!(!serde_json::to_string(&hidden).unwrap().contains("hunter2"), "{hidden:?}");
    assert_eq!((&hidden["username"], &hidden["password"]), (&json!("root"), &json!("***")));
    assert_eq!(hidden["login"], json!({"users": [{"name": "a", "api_token": "***"}], "port": 22}));
    assert!(hidden["nothing_secret"].is_null());
    assert_eq!(record.to_json(Secrets::Shown)["password"], "hunter2");
    assert_eq!(HostRecord::from_json(record.to_json(Secrets::Shown)).unwrap(), record);
}

#[test]
fn a_field_of_the_wrong_shape_is_named() {
    let mut json = draft().to_json(Secrets::Shown);
    json.insert("ssh_port".to_owned(), json!("many"));
    let error = HostRecord::from_json(json.clone()).unwrap_err().to_string();
    assert!(error.contains("field `ssh_port`"), "{error}");
    json.insert("ssh_port".to_owned(), json!(null));
    json.shift_remove("state");
    let error = HostRecord::from_json(json).unwrap_err().to_string();
    assert!(error.contains("`state`"), "{error}");
}

#[test]
fn garbage_between_the_lines_is_reported_and_left_out() {
    let (text, snapshots) = journal();
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    for position in 1..=lines.len() {
        for garbage in [&b"garbage\n"[..], b"{}\n", b"\xff\xfe\0\n", b"{\"id\":\"\n"] {
            let (before, after) = lines.split_at(position);
            let damaged = [before.concat(), garbage.to_vec(), after.concat()].concat();
            let snapshot = parse(&damaged).unwrap();
            assert_eq!(snapshot.records, snapshots.last().unwrap().records);
            let warning = format!(
                "line {} of `{NAME}` is damaged and left out; `broker inventory --sync PROVIDER` finds hosts that nothing else \
                 knows of",
                position + 1
            );
            assert_eq!(snapshot.warnings, [warning]);
        }
    }
}

#[test]
fn of_a_damaged_record_the_one_before_counts() {
    let (text, _) = journal();
    let text = String::from_utf8(text).unwrap().replace("\"failed\"", "\"fai");
    let snapshot = parse(text.as_bytes()).unwrap();
    assert_eq!(snapshot.records[1].state, HostState::Pending);
    assert_eq!(snapshot.warnings.len(), 1);
    // Damage in a line that counts no more does not matter.
    let all = text.replace("\"pending\"", "\"p");
    let snapshot = parse(all.as_bytes()).unwrap();
    assert_eq!(numbers(&snapshot), [1]);
    assert!(snapshot.warnings[0].starts_with("2 lines of"), "{:?}", snapshot.warnings);
}

#[test]
fn a_number_that_may_stand_in_a_damaged_line_is_not_given_again() {
    let (text, _) = journal();
    for whole in [true, false] {
        let mut contents = Contents::new(Header::new(None), whole);
        let damaged =
            [&text[text.iter().position(|byte| *byte == b'\n').unwrap() + 1..], b"garbage\ngarbage\n"].concat();
        if whole {
            contents.absorb(&damaged);
        } else {
            assert!(contents.absorb_tail(&damaged[300..], false));
        }
        let added = contents.add(drafts(1), Timestamp::now(), &mut Vec::new()).unwrap();
        assert_eq!(added[0].number, 5);
    }
}

#[test]
fn files_of_others_are_refused() {
    for (text, expected) in [
        ("{\"broker_inventory\":2}\n", "has format 2 and this Broker knows format 1 alone"),
        ("{\"broker_inventory\":\"1\"}\n{}\n", "has format \"1\" and"),
        ("{\"other\":1}\n", "is not an inventory"),
        ("- name: x\n", "is not an inventory"),
        ("\n", "is not an inventory"),
        ("no newline", "is not an inventory"),
    ] {
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), text).unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains(expected));
        assert!(wait(Inventory::open(dir.path()).add(drafts(1))).unwrap_err().to_string().contains(expected));
        assert_eq!(super::text(dir.path()), text);
    }
}

#[test]
fn numbers_start_over_after_an_empty_day() {
    let begin = Timestamp::from_second(1_800_000_000).unwrap();
    let later = |hours: i64| begin.checked_add(hours.hours()).unwrap();
    for whole in [true, false] {
        for compacted in [true, false] {
            for (hours, expected) in [(24, 2), (25, 0)] {
                let mut contents = Contents::new(Header::new(None), true);
                let mut text = contents.compact_text();
                for record in contents.add(drafts(2), begin, &mut text).unwrap() {
                    contents.update(in_state(&record, HostState::Gone), begin, &mut text).unwrap();
                }
                if compacted {
                    text = contents.compact_text();
                }
                let (header, begin) = super::super::journal::split_header(Path::new(NAME), &text).unwrap().unwrap();
                let mut contents = Contents::new(header, whole);
                if whole {
                    contents.absorb(&text[begin..]);
                } else {
                    assert!(contents.absorb_tail(&text[begin..], true));
                }
                let added = contents.add(drafts(2), later(hours), &mut Vec::new()).unwrap();
                assert_eq!((added[0].number, added[1].number), (expected, expected + 1));
                // While anything is there they go on.
                assert_eq!(contents.add(drafts(1), later(1000), &mut Vec::new()).unwrap()[0].number, expected + 2);
            }
        }
    }
}

#[test]
fn compaction_loses_nothing() {
    let (text, snapshots) = journal();
    let (mut contents, _) = Contents::parse(Path::new(NAME), &text).unwrap().unwrap();
    let compact = contents.compact_text();
    assert_eq!(parse(&compact).unwrap(), *snapshots.last().unwrap());
    assert_eq!(compact.iter().filter(|byte| **byte == b'\n').count(), 3);
    contents.forget_dead();
    let (reread, _) = Contents::parse(Path::new(NAME), &compact).unwrap().unwrap();
    assert_eq!(format!("{:?}", contents.header), format!("{:?}", reread.header));
    assert_eq!(contents.lines(), reread.lines());
    let next = |mut contents: Contents| contents.add(drafts(1), Timestamp::now(), &mut Vec::new()).unwrap()[0].number;
    assert_eq!((next(contents), next(reread)), (3, 3));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _any = parse(&text);
        let _any = parse(&[b"{\"broker_inventory\":1}\n", text.as_slice()].concat());
    }

    #[test]
    fn no_damage_makes_the_reader_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut text, _) = journal();
        for (index, byte) in damage {
            let index = index.index(text.len());
            text[index] = byte;
        }
        text.truncate(cut.index(text.len()) + 1);
        if let Ok(Some((mut contents, end))) = Contents::parse(Path::new(NAME), &text) {
            prop_assert!(end <= text.len());
            let mut numbers: Vec<_> = contents.living().iter().map(|record| record.number).collect();
            numbers.sort_unstable();
            let added = contents.add(drafts(1), Timestamp::now(), &mut Vec::new()).unwrap();
            if added[0].number < u64::MAX {
                prop_assert!(!numbers.contains(&added[0].number));
            }
        }
        if let Some(begin) = text.iter().position(|byte| *byte == b'\n') {
            let mut tail = Contents::new(Header::new(None), false);
            let lines = super::super::journal::complete(&text[begin + 1..]);
            prop_assert!(tail.absorb_tail(lines, true));
        }
    }
}
