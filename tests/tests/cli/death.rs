//! `broker` ended in the middle of its work.

use std::thread::sleep;
use std::time::Duration;

use broker_tests::wait::until;

use crate::support::{Env, texts};

#[test]
fn a_checkout_that_is_killed_at_any_moment_loses_nothing() {
    let mut caught = 0;
    for moment in [5, 20, 40, 60, 90, 120, 160, 200, 260, 320, 400] {
        let env = Env::new();
        let running = env.call("checkout --test-action t --count 5 --delay 300ms").start();
        sleep(Duration::from_millis(moment));
        running.signal("KILL");
        if running.finish().is_killed() && !env.made().is_empty() {
            caught += 1;
        }
        env.assert_nothing_lost();
        // What exists is shown to people, too.
        let shown = env.broker("inventory").ok();
        assert!(shown.out().lines().count() > env.made().len() || env.made().is_empty(), "{shown}");
        env.broker("checkin --all --yes").ok();
        env.assert_nothing_left();
        assert_eq!(env.check_out("").len(), 1, "the inventory works as before");
    }
    assert!(caught > 0, "no moment was one with hosts half made");
}

#[test]
fn a_checkin_that_is_killed_at_any_moment_can_be_repeated() {
    for moment in [5, 30, 60, 100, 150, 220, 300] {
        let env = Env::new();
        env.check_out("--count 5 --slow-release 200ms");
        let running = env.call("checkin --all --yes").start();
        sleep(Duration::from_millis(moment));
        running.signal("KILL");
        running.finish();
        env.assert_nothing_lost();
        env.broker("checkin --all --yes").ok();
        env.assert_nothing_left();
    }
}

#[test]
fn the_first_signal_undoes_what_is_half_made() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let env = Env::new();
        env.check_out("--hostname kept.example.com");
        let running = env.call("checkout --test-action t --count 3 --delay 1m").start();
        until("three are being made", || texts(&env.inventory(), "state").len() == 4);
        running.signal(signal);
        let outcome = running.finish().exits(code).prints_nothing().within(Duration::from_secs(30));
        assert!(outcome.errors() >= 1, "a line a host, or one for all: {outcome}");
        assert_eq!(texts(&env.inventory(), "hostname"), ["kept.example.com"], "{outcome}");
        assert_eq!(env.made().len(), 1);
    }
}

#[test]
fn what_does_not_stop_is_settled_within_its_grace() {
    let mut env = Env::new();
    env.set("BROKER_stop_grace", "500ms");
    let running = env.call("checkout --test-action t --count 2 --hang").start();
    until("both are made", || env.made().len() == 2);
    sleep(Duration::from_millis(300));
    running.signal("INT");
    running.finish().exits(130).within(Duration::from_secs(20));
    env.assert_nothing_left();
}

#[test]
fn the_second_signal_leaves_at_once_and_the_journal_knows_the_rest() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut env = Env::new();
        env.set("BROKER_stop_grace", "1m");
        let mut running = env.call("checkout --test-action t --count 2 --hang").start();
        until("both are made", || env.made().len() == 2);
        // They hang from a moment after that.
        sleep(Duration::from_millis(300));
        running.signal(signal);
        sleep(Duration::from_millis(500));
        assert!(running.is_running(), "it gives them time to end");
        running.signal(signal);
        running.finish().passes_on(code).within(Duration::from_secs(20));
        env.assert_nothing_lost();
        env.broker("checkin --all --yes").ok();
        env.assert_nothing_left();
    }
}

#[test]
fn a_checkin_that_is_told_to_stop_leaves_nothing_unknown() {
    let env = Env::new();
    env.check_out("--count 3 --slow-release 1s");
    let running = env.call("checkin --all --yes").start();
    until("they are being released", || texts(&env.inventory(), "state").iter().any(|state| state == "releasing"));
    running.signal("INT");
    running.finish();
    env.assert_nothing_lost();
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn a_command_on_a_host_ends_with_broker() {
    let env = Env::new();
    env.check_out("");
    let mark = env.root().join("alive");
    let script = format!("exec 0 -- 'echo $$ > {}; exec sleep 1000'", mark.display());
    let running = env.call(&script).start();
    until("the command runs", || std::fs::read_to_string(&mark).is_ok_and(|text| text.ends_with('\n')));
    let pid = std::fs::read_to_string(&mark).unwrap().trim().to_owned();
    running.signal("INT");
    running.finish().passes_on(130);
    until("the command has ended", || !std::path::Path::new("/proc").join(&pid).exists());
}
