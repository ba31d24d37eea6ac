//! What a `broker` that was killed left behind, and how the next one settles it.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use broker_tests::wait::until;

use crate::support::{Env, texts};

/// A checkout of one host, killed when it is in the journal and, if that is wanted, made.
fn killed_checkout(env: &Env, is_made: bool) {
    let before = env.inventory().len();
    let running = env.call("checkout --test-action t --hostname half.example.com --delay 8s").start();
    until("it is in the journal", || env.inventory().len() > before);
    if is_made {
        // It is made when half of the delay is over.
        until("it is made", || !env.made().is_empty());
    }
    running.signal("KILL");
    assert!(running.finish().is_killed());
}

/// The run of the first host's owner.
fn owner(env: &Env) -> String {
    env.inventory()[0]["owner"]["run"].as_str().unwrap().to_owned()
}

#[test]
fn a_host_that_was_half_made_is_settled_by_whoever_uses_it() {
    let env = Env::new();
    killed_checkout(&env, true);
    let inventory = env.broker("inventory").ok();
    inventory.says("left behind by a process that has ended: 1 host, 0").says("broker reap");
    env.broker("exec 0 -- 'echo works'").ok().prints("works");
    let host = &env.inventory()[0];
    // It was never ready, and says so.
    assert_eq!((&host["state"], &host["hostname"]), (&"failed".into(), &"half.example.com".into()), "{host}");
    assert!(host["error"].as_str().unwrap().contains("cut off"), "{host}");
    env.broker("extend 0 --lease 1h").exits(1).says("failed");
    env.broker("checkin 0").ok();
    env.assert_nothing_left();
}

#[test]
fn a_host_that_was_never_made_is_gone_once_somebody_needs_it() {
    let env = Env::new();
    killed_checkout(&env, false);
    assert!(env.made().is_empty());
    // Nobody who does not need it settles it.
    assert_eq!(texts(&env.inventory(), "state"), ["pending"]);
    env.broker("extend 0 --lease 1h").exits(1).says("does not exist");
    env.assert_nothing_left();
}

#[test]
fn no_command_waits_for_a_host_that_it_does_not_need() {
    let env = Env::new();
    killed_checkout(&env, false);
    let other = env.check_out("")[0];
    env.broker(&format!("exec {other} -- true")).ok();
    env.broker(&format!("checkin {other}")).ok();
    assert_eq!(texts(&env.inventory(), "state"), ["pending"]);
    env.broker("checkin 0").ok();
    env.assert_nothing_left();
}

#[test]
fn checkin_of_all_takes_whatever_the_dead_left() {
    let env = Env::new();
    env.check_out("--name active");
    env.broker("checkout --test-action t --name failed --fail timeout").exits(7);
    env.check_out("--name going --slow-release 20s");
    let running = env.call("checkin going").start();
    until("it is being released", || texts(&env.inventory(), "state").contains(&"releasing".to_owned()));
    running.signal("KILL");
    running.finish();
    for id in env.made() {
        // It is quick to go from now on.
        let path = env.root().join("hosts").join(format!("{id}.json"));
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("20s", "1ms")).unwrap();
    }
    let running = env.call("checkout --test-action t --name pending --delay 20s").start();
    until("it is in the journal", || env.inventory().len() == 4);
    running.signal("KILL");
    running.finish();
    assert_eq!(texts(&env.inventory(), "state"), ["active", "failed", "releasing", "pending"]);
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn two_who_settle_the_same_hosts_do_no_harm() {
    let env = Env::new();
    killed_checkout(&env, true);
    let all: Vec<_> = (0..4).map(|_| env.call("exec 0 -- true").start()).collect();
    for running in all {
        running.finish().ok();
    }
    let all: Vec<_> = (0..4).map(|_| env.call("reap --yes").start()).collect();
    for running in all {
        running.finish().ok();
    }
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn an_owner_of_whom_nobody_can_tell_keeps_its_hosts_until_somebody_insists() {
    let env = Env::new();
    killed_checkout(&env, true);
    let run = owner(&env);
    let lock = env.broker_path("runs").join(format!("{run}.lock"));
    drop(fs::remove_file(&lock));
    // What cannot be opened proves nothing.
    symlink(&lock, &lock).unwrap();
    env.broker("checkin 0").exits(1).says("nobody can tell").hints("--force");
    env.broker("checkin --all --yes").ok().says("left alone");
    env.broker("reap --yes").ok().says("nothing to reap");
    env.broker("inventory --sync TestProvider").ok();
    assert_eq!(texts(&env.inventory(), "state"), ["pending"]);
    env.broker("checkin 0 --force").ok();
    env.assert_nothing_left();
}

#[test]
fn a_provider_that_is_not_there_changes_nothing() {
    let env = Env::new();
    killed_checkout(&env, true);
    let (hosts, away) = (env.root().join("hosts"), env.root().join("away"));
    fs::rename(&hosts, &away).unwrap();
    fs::write(&hosts, "").unwrap();
    for line in ["exec 0 -- true", "checkin 0", "reap --yes", "inventory --sync TestProvider", "extend 0 --lease 1h"] {
        let outcome = env.broker(line);
        assert_ne!(outcome.code(), Some(0), "{outcome}");
        let host = &env.broker("inventory --output json").ok().json()[0];
        assert_eq!(host["state"], "pending", "after {line}: {host}");
    }
    fs::remove_file(&hosts).unwrap();
    fs::rename(&away, &hosts).unwrap();
    env.broker("checkin 0").ok().within(Duration::from_secs(60));
    env.assert_nothing_left();
}
