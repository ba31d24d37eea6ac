//! Checkouts that work, and those that do not.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Env, numbers, texts};

#[test]
fn the_main_job() {
    let env = Env::new();
    let out = env.broker("checkout --test-action demo --name web --hostname web.example.com --count 1").ok();
    assert_eq!(out.out(), "0\tweb.example.com\tweb\n");
    let inventory = env.inventory();
    assert_eq!(inventory.len(), 1);
    let host = &inventory[0];
    for (field, expected) in [
        ("number", Value::from(0)),
        ("hostname", "web.example.com".into()),
        ("name", "web".into()),
        ("state", "active".into()),
        ("_broker_provider", "TestProvider".into()),
    ] {
        assert_eq!(host[field], expected, "{host}");
    }
    assert_eq!(host["_broker_args"]["test_action"], "demo");
    assert_eq!(texts(&inventory, "id"), env.made());
    env.broker("inventory").ok().prints("web.example.com");
    assert_eq!(env.broker("exec web -- 'echo $((40 + 2))'").ok().out(), "42\n");
    env.broker("checkin web.example.com").ok();
    env.assert_nothing_left();
}

#[test]
fn each_kind_of_failure_has_its_exit_status() {
    let env = Env::new();
    for (how, code) in [("auth", 5), ("permission", 6), ("quota", 7)] {
        env.broker(&format!("checkout --test-action t --fail {how}")).exits(code).prints_nothing().says(how);
        env.assert_nothing_left();
    }
}

#[test]
fn what_may_exist_after_a_failure_stays_in_the_inventory() {
    for (how, code) in [("timeout", 7), ("bug", 1)] {
        let env = Env::new();
        env.broker(&format!("checkout --test-action t --fail {how}")).exits(code).prints_nothing();
        let inventory = env.inventory();
        assert_eq!(texts(&inventory, "state"), ["failed"], "{how}");
        assert!(inventory[0]["error"].is_string(), "{inventory:?}");
        assert_eq!(texts(&inventory, "id"), env.made(), "{how}");
        env.broker("checkin --all --yes").ok();
        env.assert_nothing_left();
    }
}

#[test]
fn a_provider_that_panics_is_cleaned_up_after() {
    let env = Env::new();
    env.call("checkout --test-action t --fail panic").may_panic().run().exits(1).prints_nothing();
    env.assert_nothing_lost();
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn partial_success_is_told_host_by_host() {
    let env = Env::new();
    let outcome = env.broker("checkout --test-action t --fail-every 2 --count 4").exits(7);
    assert_eq!(outcome.numbers().len(), 2, "{outcome}");
    let inventory = env.inventory();
    assert_eq!(texts(&inventory, "state"), ["active", "active"]);
    assert_eq!(numbers(&inventory), outcome.numbers());
    for number in (0..4).filter(|number| !outcome.numbers().contains(number)) {
        assert!(outcome.stderr.contains(&format!("{number}: failed")), "{outcome}");
    }
    assert!(outcome.errors() == 2 || outcome.stderr.contains("(2 times)"), "{outcome}");
    assert_eq!(texts(&inventory, "id"), env.made());
}

#[test]
fn hosts_that_fail_in_different_ways_exit_with_1() {
    let env = Env::new();
    env.check_out("--fail-release auth");
    env.check_out("--fail-release quota");
    env.check_out("");
    let outcome = env.broker("checkin --all --yes").exits(1);
    assert_eq!(outcome.errors(), 2, "{outcome}");
    assert_eq!(numbers(&env.inventory()), [0, 1]);
}

#[test]
fn all_or_nothing_leaves_nothing() {
    let env = Env::new();
    env.broker("checkout --test-action t --fail-every 4 --count 4 --all-or-nothing").exits(7).prints_nothing();
    env.assert_nothing_left();
    assert_eq!(env.check_out("--count 3 --all-or-nothing").len(), 3);
}

#[test]
fn a_checkout_that_hangs_is_undone_at_its_deadline() {
    let mut env = Env::new();
    env.set("BROKER_stop_grace", "500ms");
    let outcome = env.broker("checkout --test-action t --timeout 300ms --hang").exits(7).prints_nothing();
    outcome.within(Duration::from_secs(15)).says("300ms");
    env.assert_nothing_left();
}

#[test]
fn a_checkout_that_is_slow_is_undone_at_its_deadline() {
    let env = Env::new();
    env.broker("checkout --test-action t --timeout 300ms --delay 1m").exits(7).within(Duration::from_secs(15));
    env.assert_nothing_left();
}

#[test]
fn duplicates_are_made_like_the_first() {
    let env = Env::new();
    env.check_out("--flavor large --version 9.10");
    env.check_out("--flavor small");
    assert_eq!(env.broker("duplicate 0 --count 2").ok().numbers().len(), 2);
    assert_eq!(env.broker("duplicate 0 1").ok().numbers().len(), 2);
    let flavors: Vec<Value> = env.inventory().iter().map(|host| host["_broker_args"]["flavor"].clone()).collect();
    assert_eq!(flavors.iter().filter(|flavor| *flavor == "large").count(), 4, "{flavors:?}");
    assert_eq!(flavors.iter().filter(|flavor| *flavor == "small").count(), 2, "{flavors:?}");
    let versions: Vec<String> =
        env.inventory().iter().map(|host| host["_broker_args"]["version"].to_string()).collect();
    assert!(versions.iter().take(1).all(|version| version.contains("9.10")), "{versions:?}");
    env.broker("duplicate 99").exits(13);
    env.broker("duplicate 0 --count 0").exits(2);
    assert_eq!(env.inventory().len(), 6);
}

#[test]
fn a_nick_and_a_file_of_arguments_say_how_long_and_how_many() {
    let mut env = Env::new();
    env.write_settings(
        "nicks:\n  short: {test_action: t, lease: 1h}\n  slow: {test_action: t, timeout: 300ms, delay: 1m}\n",
    );
    env.write("request.yaml", "test_action: t\nlease: 2h\ncount: 3\nfail_every: 2\nall_or_nothing: true\n");
    let minutes = |host: &Value| {
        let time = |field: &str| host[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        time("lease_until").duration_since(time("checked_out_at")).as_secs().div_euclid(60) + 1
    };
    env.broker("checkout --nick short").ok();
    assert_eq!(minutes(&env.inventory()[0]), 60);
    assert_eq!(env.inventory()[0]["_broker_args"].get("lease"), None);
    env.broker("checkout --nick short --lease 5m").ok();
    assert_eq!(minutes(&env.inventory()[1]), 5);
    env.broker("checkout --nick slow").exits(7).says("300ms").within(Duration::from_secs(15));
    env.broker("checkout --args-file request.yaml").exits(7);
    assert_eq!(env.inventory().len(), 2, "all or nothing");
    env.broker("checkout --nick short --arg lease=soon").exits(2).says("argument `lease`").says("`soon`");

    // A duplicate lives as long as the first one, or as it is told.
    env.broker("duplicate 1").ok();
    assert_eq!(minutes(env.inventory().last().unwrap()), 5);
    env.broker("duplicate 0 --lease 7m").ok();
    assert_eq!(minutes(env.inventory().last().unwrap()), 7);
    env.set("BROKER_max_lease", "10m");
    env.broker("duplicate 0").ok();
    assert_eq!(minutes(env.inventory().last().unwrap()), 10);
}

#[test]
fn leases_are_recorded_and_extended_and_never_shortened() {
    let env = Env::new();
    env.check_out("--lease 1h");
    env.check_out("");
    let lease =
        |number: usize| env.inventory()[number].get("lease_until").map(|value| value.as_str().unwrap().to_owned());
    let first = lease(0).unwrap();
    assert_eq!(lease(1), None);
    env.broker("extend 0 1 --lease 2h").ok();
    let second = lease(0).unwrap();
    assert!(second > first, "{first} {second}");
    assert!(lease(1).is_some());
    env.broker("extend 0 --lease 5m").ok();
    assert_eq!(lease(0).unwrap(), second);
    env.broker("extend 0 --lease soon").exits(2).says("soon");
    env.broker("extend 7 --lease 2h").exits(13);
    env.broker("checkout --test-action t --lease 0s").exits(2);
    let table = env.broker("inventory").ok();
    assert!(table.out().to_lowercase().contains("lease"), "{table}");
}

#[test]
fn a_host_that_is_gone_at_the_provider_is_checked_in() {
    let env = Env::new();
    env.check_out("--count 3");
    let id = texts(&env.inventory(), "id")[1].clone();
    std::fs::remove_file(env.root().join("hosts").join(format!("{id}.json"))).unwrap();
    env.broker("checkin 0 1 2").ok();
    env.assert_nothing_left();
}

#[test]
fn a_host_made_elsewhere_is_not_taken_for_gone() {
    let env = Env::new();
    env.check_out("");
    let elsewhere = env.root().join("elsewhere");
    let refused = env.call("checkin 0").env("BROKER_TEST_PROVIDER_DIR", elsewhere).run();
    refused.exits(7).says("was made at");
    assert_eq!(numbers(&env.inventory()), [0]);
    env.broker("checkin 0").ok();
    env.assert_nothing_left();
}

#[test]
fn without_the_providers_directory_hosts_are_nowhere_and_work_all_the_same() {
    let mut env = Env::new();
    env.unset("BROKER_TEST_PROVIDER_DIR");
    assert_eq!(env.check_out("--count 2"), [0, 1]);
    env.broker("checkin 0 1").ok();
    env.assert_nothing_left();
}
