//! Any text is a Python tool's inventory or an error, and what is imported can be kept in a journal.

#![no_main]

use std::path::Path;

use broker_core::inventory::{HostRecord, Secrets, parse_python_inventory};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(hosts) = parse_python_inventory(Path::new("inventory.yaml"), text) else { return };
    for host in hosts {
        let written = host.to_json(Secrets::Shown);
        let back = HostRecord::from_json(written.clone());
        assert_eq!(back.ok().map(|back| back.to_json(Secrets::Shown)), Some(written));
    }
});
