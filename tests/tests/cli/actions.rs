//! `execute` and `providers`.

use serde_json::json;

use crate::support::{Env, array};

#[test]
fn execute_prints_what_the_action_gives_back() {
    let env = Env::new();
    let log = env.broker("execute --test-action report --flavor large").ok();
    assert!(log.out().contains("large"), "{log}");
    let raw = env.broker("execute --test-action report --flavor large --output-format raw").ok();
    assert_eq!(raw.json()["flavor"], "large");
    assert_eq!(raw.out().lines().count(), 1, "{raw}");
    let yaml = env.broker("execute --test-action report --flavor large -o yaml").ok();
    assert!(yaml.out().lines().any(|line| line == "flavor: large"), "{yaml}");
    env.broker("execute --test-action report --output-format xml").exits(2).hints("yaml");
    env.assert_nothing_left();
}

#[test]
fn execute_that_fails_says_so_in_its_status() {
    let env = Env::new();
    for (how, code) in [("failed", 7), ("auth", 5), ("permission", 6), ("quota", 7), ("timeout", 7), ("bug", 1)] {
        env.broker(&format!("execute --test-action report --fail {how}")).exits(code).says(how);
    }
    env.broker("execute --test-action report --hang --timeout 300ms").exits(7);
    env.assert_nothing_left();
}

#[test]
fn execute_takes_a_nick() {
    let env = Env::new();
    env.write_settings("nicks:\n  nightly: {test_action: report, flavor: large}\n");
    env.broker("execute --nick nightly -o raw").ok().prints("large");
    let changed = env.broker("execute --nick nightly -o raw --flavor small").ok();
    assert_eq!(changed.json()["flavor"], "small");
}

#[test]
fn providers_are_shown_and_asked() {
    let env = Env::new();
    env.broker("providers").ok().prints("Container").prints("TestProvider");
    env.broker("providers TestProvider").ok().prints("test-action");
    env.broker("providers TestProvider --test-actions").ok().prints("--fail-every");
    let rows = array(env.broker("providers TestProvider --test-actions --output json").ok().json());
    assert!(rows.iter().any(|row| row["option"] == "--hang"), "{rows:?}");
    assert_eq!(rows[0], json!({"option": "--test-action NAME", "effect": rows[0]["effect"]}));
    env.broker("providers TestProvider --test-actoins").exits(2).hints("--test-actions");
}
