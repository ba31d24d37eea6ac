//! Many processes on one inventory.

use std::collections::BTreeSet;
use std::time::Duration;

use broker_tests::wait::until;

use crate::support::{Env, Outcome, Running, numbers, texts};

/// Starts all calls before the first is waited for.
fn all_at_once<'a>(env: &Env, lines: impl IntoIterator<Item = &'a str>) -> Vec<Outcome> {
    let running: Vec<Running> = lines.into_iter().map(|line| env.call(line).start()).collect();
    running.into_iter().map(Running::finish).collect()
}

#[test]
fn forty_checkouts_at_once_are_all_recorded() {
    let env = Env::new();
    assert_eq!(env.check_out("--count 300").len(), 300);
    let outcomes = all_at_once(&env, ["checkout --test-action t --delay 20ms"; 40]);
    let printed: BTreeSet<u64> = outcomes.into_iter().flat_map(|outcome| outcome.ok().numbers()).collect();
    assert_eq!(printed, (300..340).collect::<BTreeSet<u64>>());
    let inventory = env.inventory();
    assert_eq!(numbers(&inventory), (0..340).collect::<Vec<u64>>());
    assert!(inventory.iter().all(|host| host["state"] == "active"));
    let ids: BTreeSet<String> = texts(&inventory, "id").into_iter().collect();
    assert_eq!(ids, env.made().into_iter().collect());
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn five_checkouts_of_five_at_once_make_25() {
    let env = Env::new();
    let outcomes = all_at_once(&env, ["checkout --test-action t --count 5 --delay 50ms"; 5]);
    let printed: BTreeSet<u64> = outcomes.into_iter().flat_map(|outcome| outcome.ok().numbers()).collect();
    assert_eq!(printed, (0..25).collect::<BTreeSet<u64>>());
    assert_eq!(numbers(&env.inventory()), (0..25).collect::<Vec<u64>>());
    assert_eq!(env.made().len(), 25);
}

#[test]
fn checkins_at_once_lose_and_resurrect_nothing() {
    let env = Env::new();
    env.check_out("--count 40 --slow-release 100ms");
    let range = |from: u64, to: u64| (from..to).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
    let (first, second) = (format!("checkin {}", range(0, 25)), format!("checkin {}", range(15, 40)));
    let all = "checkin --all --yes";
    for outcome in all_at_once(&env, [first.as_str(), &second, all, &first, all, &second]) {
        // A host that another one has released meanwhile is no host any more, or is not ours to release.
        assert!(matches!(outcome.code(), Some(0 | 1 | 13)), "{outcome}");
    }
    env.assert_nothing_left();
    assert_eq!(env.check_out(""), [40]);
}

#[test]
fn checkouts_and_checkins_at_once_agree_on_what_there_is() {
    let env = Env::new();
    env.check_out("--count 10");
    let mut lines = vec!["checkout --test-action t --count 2 --delay 20ms --slow-release 20ms"; 6];
    lines.extend(["checkin --all --yes"; 4]);
    for outcome in all_at_once(&env, lines) {
        assert!(matches!(outcome.code(), Some(0 | 1)), "{outcome}");
    }
    let inventory = env.inventory();
    assert!(inventory.iter().all(|host| host["state"] == "active"), "{inventory:?}");
    let mut ids = texts(&inventory, "id");
    ids.sort();
    assert_eq!(ids, env.made());
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn one_host_that_cannot_be_released_does_not_hold_up_nine() {
    let env = Env::new();
    env.check_out("--count 5");
    let [stuck] = env.check_out("--slow-release 3s --fail-release quota --hostname stuck")[..] else {
        panic!("one host")
    };
    env.check_out("--count 4");
    let mut checkin = env.call("checkin --all --yes").start();
    until("nine are released", || env.made().len() == 1);
    assert!(checkin.is_running(), "the tenth takes three seconds");
    checkin.finish().exits(7).says("stuck").says("quota");
    let inventory = env.inventory();
    assert_eq!(numbers(&inventory), [stuck]);
    assert!(inventory[0]["error"].as_str().unwrap().contains("quota"), "{inventory:?}");
    assert_eq!(env.made(), texts(&inventory, "id"));
}

#[test]
fn a_number_is_never_given_twice() {
    let env = Env::new();
    assert_eq!(env.check_out("--count 2"), [0, 1]);
    env.broker("checkin 1").ok();
    assert_eq!(env.check_out(""), [2]);
    env.broker("checkin --all --yes").ok();
    assert_eq!(env.check_out(""), [3]);
}

#[test]
fn a_host_being_released_is_left_to_whoever_releases_it() {
    let env = Env::new();
    env.check_out("--slow-release 1500ms");
    let mut first = env.call("checkin 0").start();
    until("it is being released", || env.inventory().iter().any(|host| host["state"] == "releasing"));
    let second = env.broker("checkin 0");
    // It waits until the host is gone, or says who is at it.
    assert!(second.code() == Some(0) || second.stderr.contains("releas"), "{second}");
    assert!(second.code() == Some(0) || first.is_running(), "{second}");
    first.finish().ok().within(Duration::from_secs(20));
    env.assert_nothing_left();
}
