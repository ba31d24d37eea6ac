//! Any text is YAML or an error with a place; what Broker writes reads back as the same.

#![no_main]

use broker_core::yaml;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(Some(node)) = yaml::parse(text) else { return };
    let value = node.into_value().to_json();
    let written = yaml::to_yaml(&value);
    let back = yaml::parse(&written).ok().flatten().map(|node| node.into_value().to_json());
    assert_eq!(back.as_ref(), Some(&value), "{written}");
});
