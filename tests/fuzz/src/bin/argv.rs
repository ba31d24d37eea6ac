//! Any words are sorted or refused, and none is made up: what an argument says stands in the words that were given.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::LazyLock;

use broker_cli::Cli;
use broker_cli::split::{Given, Grammar, split};
use libfuzzer_sys::fuzz_target;

static GRAMMAR: LazyLock<Grammar> = LazyLock::new(|| Cli::new().grammar());

fuzz_target!(|text: &[u8]| {
    let words: Vec<OsString> =
        text.split(|byte| *byte == b'\n').map(|word| OsString::from_vec(word.to_vec())).collect();
    let Ok(sorted) = split(&GRAMMAR, words.iter().cloned()) else { return };
    assert!(sorted.words.len() + sorted.arguments.len() <= words.len());
    assert!(sorted.arguments.iter().all(|argument| !argument.key.is_empty()));
    for argument in &sorted.arguments {
        if let Given::Text(value) = &argument.value {
            assert!(words.iter().any(|word| word.as_bytes().ends_with(value.as_bytes())), "{value}");
        }
    }
});
