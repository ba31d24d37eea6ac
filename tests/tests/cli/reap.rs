//! `broker reap`, and what is said of leases.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use broker_tests::wait::until;
use serde_json::{Value, json};

use crate::support::{Env, array, numbers, texts};

/// Waits until the leases of these hosts are over.
fn lease_is_over() {
    sleep(Duration::from_millis(50));
}

/// Changes the files of TestProvider's hosts.
fn change_hosts(env: &Env, change: impl Fn(&mut Value)) {
    for id in env.made() {
        let path = env.root().join("hosts").join(format!("{id}.json"));
        let mut host: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut host);
        fs::write(&path, host.to_string()).unwrap();
    }
}

/// Makes TestProvider's hosts this much older, by its own clock.
fn age_hosts(env: &Env, hours: i64, minutes: i64) {
    change_hosts(env, |host| {
        let made: jiff::Timestamp = host["made_at"].as_str().unwrap().parse().unwrap();
        let made = made - jiff::SignedDuration::from_mins(hours * 60 + minutes);
        host["made_at"] = made.to_string().into();
    });
}

#[test]
fn what_is_past_its_lease_goes_and_nothing_else() {
    let env = Env::new();
    env.check_out("--hostname past.example.com --lease 1ms");
    env.check_out("--hostname long.example.com --lease 1h");
    env.check_out("--hostname forever.example.com");
    lease_is_over();
    let dry = env.broker("reap --dry-run").ok();
    let shown = dry.out().to_owned();
    let titles: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(titles, ["NUMBER", "HOSTNAME", "PROVIDER", "INSTANCE", "OWNER", "LEASE", "WHY", "OUTCOME"], "{dry}");
    assert_eq!(shown.lines().count(), 2, "{dry}");
    assert!(shown.contains("past.example.com") && shown.contains("expired") && shown.contains("due"), "{dry}");
    assert_eq!(env.inventory().len(), 3, "a dry run changes nothing");

    let reaped = env.broker("reap --yes --output json").ok();
    let reaped = array(reaped.json());
    assert_eq!(numbers(&reaped), [0]);
    assert_eq!(reaped[0]["reaped"], json!({"reason": "expired", "outcome": "released"}));
    assert_eq!(texts(&env.inventory(), "hostname"), ["long.example.com", "forever.example.com"]);
    assert_eq!(env.made().len(), 2);
    env.broker("reap --yes").ok().prints_nothing().says("nothing to reap");
    env.broker("reap --yes --output json").ok().prints("[]");
}

#[test]
fn what_a_killed_broker_left_is_settled_and_stays() {
    let env = Env::new();
    let running = env.call("checkout --test-action t --count 2 --delay 4s").start();
    until("both are made", || env.made().len() == 2);
    running.signal("KILL");
    running.finish();
    env.broker("reap --expired --yes").ok().says("nothing to reap");
    assert_eq!(texts(&env.inventory(), "state"), ["pending", "pending"]);
    let reaped = env.broker("reap --yes").ok();
    assert_eq!(reaped.out().matches("left-behind").count(), 2, "{reaped}");
    assert_eq!(reaped.out().matches("settled").count(), 2, "{reaped}");
    // They were never ready, and a person wanted them.
    assert_eq!(texts(&env.inventory(), "state"), ["failed", "failed"]);
    env.broker("reap --yes").ok().says("nothing to reap");
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn a_release_that_was_killed_is_finished() {
    let env = Env::new();
    env.check_out("--slow-release 20s");
    let running = env.call("checkin 0").start();
    until("it is being released", || texts(&env.inventory(), "state") == ["releasing"]);
    env.broker("reap --dry-run").ok().says("nothing to reap");
    running.signal("KILL");
    running.finish();
    change_hosts(&env, |host| host["args"] = json!({}));
    let reaped = env.broker("reap --yes").ok();
    assert!(reaped.out().contains("left-behind") && reaped.out().contains("released"), "{reaped}");
    env.assert_nothing_left();
}

#[test]
fn what_no_inventory_has_goes_after_its_lease_and_five_minutes() {
    let env = Env::new();
    env.check_out("--hostname leased.example.com --lease 1h");
    env.check_out("--hostname forever.example.com");
    fs::remove_dir_all(env.broker_path("")).unwrap();
    let unknown = || array(env.broker("reap --unknown --dry-run --output json").ok().json());
    env.broker("reap --yes").ok().says("nothing to reap");
    env.broker("reap --unknown --yes").ok().says("nothing to reap").says("without a lease");
    age_hosts(&env, 1, 4);
    assert_eq!(unknown(), [] as [Value; 0]);
    age_hosts(&env, 0, 2);
    let found = unknown();
    assert_eq!(texts(&found, "hostname"), ["leased.example.com"]);
    assert_eq!(found[0]["reaped"], json!({"reason": "unknown", "outcome": "due"}));
    let reaped = env.broker("reap --unknown --yes").ok();
    assert!(reaped.out().contains("unknown") && reaped.out().contains("released"), "{reaped}");
    assert_eq!((env.made().len(), env.inventory().len()), (1, 0));
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_old() {
    let env = Env::new();
    env.check_out("--lease 1h");
    fs::remove_dir_all(env.broker_path("")).unwrap();
    age_hosts(&env, -1000, 0);
    env.broker("reap --unknown --yes").ok();
    assert_eq!(env.made().len(), 1);
}

#[test]
fn what_others_have_is_left_to_them() {
    let mut env = Env::new();
    env.set("USER", "ci");
    env.check_out("--lease 1ms");
    fs::rename(env.broker_path("inventory.jsonl"), env.root().join("of-ci.jsonl")).unwrap();
    env.set("USER", "jane");
    age_hosts(&env, 1, 0);
    lease_is_over();
    let others = env.broker("reap --unknown --yes").ok().prints_nothing();
    others.says("left alone").says("ci@").says("--any-owner");
    env.broker("reap --unknown --owner jim --yes").ok().prints_nothing();
    env.broker("reap --unknown --owner ci@nowhere --yes").ok().prints_nothing();
    assert_eq!(env.made().len(), 1);
    env.broker("reap --unknown --owner 'c*@*' --dry-run").ok().prints("ci@");
    env.broker("reap --unknown --any-owner --yes").ok().prints("released");
    assert_eq!(env.made().len(), 0);

    // So it is with those of the same inventory.
    fs::rename(env.root().join("of-ci.jsonl"), env.broker_path("inventory.jsonl")).unwrap();
    env.broker("reap --yes").ok().prints_nothing().says("left alone");
    let gone = env.broker("reap --owner ci --yes").ok();
    assert!(gone.out().contains("ci@"), "{gone}");
    env.assert_nothing_left();
}

#[test]
fn what_cannot_be_released_is_an_error_and_stays() {
    let env = Env::new();
    env.check_out("--hostname good.example.com --lease 1ms");
    env.check_out("--hostname bad.example.com --lease 1ms --fail-release unreachable --fail-release-times 1");
    lease_is_over();
    let outcome = env.broker("reap --yes").exits(7).says("bad.example.com");
    assert_eq!(outcome.errors(), 1, "{outcome}");
    assert!(outcome.out().contains("good.example.com") && !outcome.out().contains("bad.example.com"), "{outcome}");
    assert_eq!(texts(&env.inventory(), "hostname"), ["bad.example.com"]);
    env.broker("reap --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn one_provider_or_instance_at_a_time() {
    let env = Env::new();
    let (east, west) = (env.root().join("east"), env.root().join("west"));
    env.write_settings(&format!(
        "TestProvider:\n  instances:\n    east: {{directory: {}}}\n    west: {{directory: {}}}\n",
        east.display(),
        west.display()
    ));
    env.broker("checkout --test-action t --TestProvider east --lease 1ms").ok();
    env.broker("checkout --test-action t --TestProvider west --lease 1ms").ok();
    lease_is_over();
    env.broker("reap --provider TestProvider::west --yes").ok();
    assert_eq!(texts(&env.inventory(), "_broker_provider_instance"), ["east"]);
    env.broker("reap --provider Container --yes").ok().prints_nothing();
    env.broker("reap --provider TestProvider::north --yes").exits(13).says("north");
    env.broker("reap --provider Tset --yes").exits(13).says("Tset");
    env.broker("reap --provider TestProvider:x --yes").exits(2);
    env.broker("reap --owner x --any-owner").exits(2);
    // One that does not answer is an error, and the other is asked all the same.
    fs::remove_dir_all(&west).unwrap();
    fs::write(&west, "").unwrap();
    fs::remove_file(env.broker_path("inventory.jsonl")).unwrap();
    let path = fs::read_dir(&east).unwrap().map(|entry| entry.unwrap().path());
    let path = path.into_iter().find(|path| path.extension().is_some_and(|end| end == "json")).unwrap();
    let mut host: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    host["made_at"] = "2020-01-01T00:00:00Z".into();
    fs::write(&path, host.to_string()).unwrap();
    let outcome = env.broker("reap --unknown --provider TestProvider --yes").says("west");
    assert_ne!(outcome.code(), Some(0), "{outcome}");
    assert!(outcome.out().contains("released"), "{outcome}");
    assert!(!path.exists());
}

#[test]
fn leases_show_in_a_column_in_order_and_in_warnings() {
    let env = Env::new();
    env.check_out("--hostname forever.example.com");
    let table = env.broker("inventory").ok();
    assert!(table.out().lines().nth(1).unwrap().ends_with('-') && !table.stderr.contains("lease"), "{table}");
    env.check_out("--hostname long.example.com --lease 5h");
    env.check_out("--hostname short.example.com --lease 3h");
    let quiet = env.broker("inventory").ok();
    assert!(quiet.out().contains("LEASE") && !quiet.stderr.contains("lease"), "{quiet}");
    let order = |line: &str| texts(&array(env.broker(line).ok().json()), "hostname");
    let [forever, long, short] = ["forever", "long", "short"].map(|name| format!("{name}.example.com"));
    assert_eq!(order("inventory --sort lease_until --output json"), [&*short, &long, &forever]);
    assert_eq!(order("inventory --sort=-lease_until --output json"), [&*long, &short, &forever]);
    assert_eq!(order("inventory --sort -hostname --output json"), [&*short, &long, &forever]);
    assert_eq!(order("inventory --sort number --output json"), [&*forever, &long, &short]);
    env.broker("inventory --sort lease_untli").exits(13).says("lease_until");
    env.broker("inventory --sort 'a b'").exits(2);

    env.check_out("--hostname past.example.com --lease 1ms");
    lease_is_over();
    for line in ["inventory", "exec 3 -- true"] {
        let warned = env.broker(line).ok();
        assert!(warned.stderr.contains("warning: the lease of 3 (past.example.com) expired"), "{warned}");
    }
    let quiet = env.broker("exec 1 -- true").ok();
    assert!(!quiet.stderr.contains("lease"), "{quiet}");
    // Nobody but `reap` acts on it.
    assert_eq!(env.made().len(), 4);
    env.broker("extend 3 --lease 1h").ok();
    env.broker("reap --yes").ok().says("nothing to reap");
}

#[test]
fn a_sync_leaves_extended_leases_alone() {
    let env = Env::new();
    env.check_out("--lease 1h");
    env.broker("extend 0 --lease 5h").ok();
    let lease = env.inventory()[0]["lease_until"].clone();
    env.broker("inventory --sync TestProvider").ok();
    assert_eq!(env.inventory()[0]["lease_until"], lease);
}
