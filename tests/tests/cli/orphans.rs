//! `broker inventory --orphans`: what is there and not held, and what is held and not there.

use std::fs;

use serde_json::json;

use crate::support::{Env, array, texts};

#[test]
fn both_sides_are_shown_and_nothing_is_changed() {
    let env = Env::new();
    env.broker("inventory --orphans TestProvider").ok().prints_nothing().says("agree");
    env.check_out("--hostname lost.example.com --name lost --lease 1h");
    fs::remove_file(env.broker_path("inventory.jsonl")).unwrap();
    env.check_out("--hostname held.example.com");
    env.check_out("--hostname away.example.com");
    let id = texts(&env.inventory(), "id").remove(1);
    fs::remove_file(env.root().join("hosts").join(format!("{id}.json"))).unwrap();
    let journal = env.journal();

    let table = env.broker("inventory --orphans TestProvider").ok().says("1 there and not held, 1 held and not there");
    let lines: Vec<&str> = table.out().lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].starts_with("not held") && lines[1].contains("lost.example.com"), "{table}");
    assert!(lines[2].starts_with("not there") && lines[2].contains("away.example.com"), "{table}");
    assert!(!table.out().contains("held.example.com"), "{table}");

    let found = env.broker("inventory --orphans TestProvider --output json").ok().json();
    let (not_held, not_there) = (array(found["not_held"].clone()), array(found["not_there"].clone()));
    assert_eq!((not_held.len(), not_there.len()), (1, 1));
    assert_eq!(not_held[0]["name"], "lost");
    assert_eq!(not_held[0]["action"], "test_action");
    for field in ["id", "owner", "origin", "lease_until", "age_seconds"] {
        assert!(!not_held[0][field].is_null(), "no {field}: {not_held:?}");
    }
    assert_eq!((&not_there[0]["state"], &not_there[0]["number"]), (&json!("active"), &json!(1)));
    assert_eq!(env.journal(), journal);
    // A narrowed look says nothing about what is outside of it.
    let narrow = env.broker("inventory --orphans TestProvider:held --output json").ok().json();
    assert_eq!(narrow["not_held"], json!([]));

    env.broker("inventory --sync TestProvider").ok();
    env.broker("checkin --all --yes").ok();
    env.broker("inventory --orphans TestProvider").ok().says("agree");
    env.assert_nothing_left();
}

#[test]
fn a_provider_that_is_not_there_is_an_error() {
    let env = Env::new();
    env.broker("inventory --orphans Nowhere").exits(13);
    env.broker("inventory --orphans TestProvider::nowhere").exits(13);
    env.broker("inventory --orphans TestProvider --filter name=x").exits(2);
    fs::remove_dir_all(env.root().join("hosts")).unwrap();
    fs::write(env.root().join("hosts"), "").unwrap();
    let outcome = env.broker("inventory --orphans TestProvider").prints_nothing();
    assert_eq!(outcome.code(), Some(7), "{outcome}");
}
