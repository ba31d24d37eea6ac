//! Any bytes are a journal or an error. What is read can be written again, and reads back as the same.

#![no_main]

use std::path::Path;

use broker_core::inventory::{HostRecord, Secrets, parse_journal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(snapshot) = parse_journal(Path::new("inventory.jsonl"), bytes) else { return };
    for record in &snapshot.records {
        let back = HostRecord::from_json(record.to_json(Secrets::Shown));
        assert_eq!(back.ok().as_ref(), Some(&**record));
    }
    let numbers: Vec<u64> = snapshot.records.iter().map(|record| record.number).collect();
    assert!(numbers.is_sorted());
});
