//! Signals at every step of a command, on a terminal and without.

use std::time::Duration;

use broker_tests::env::program;
use broker_tests::wait::until;

use crate::support::{Env, texts};

/// The signals that ask to stop, and what the exit status says then.
const SIGNALS: [(&str, i32); 3] = [("INT", 130), ("TERM", 143), ("HUP", 129)];

/// A moment that can be seen from outside.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The records are written, and the provider is being asked.
    Pending,
    /// The provider has made the hosts.
    Made,
    /// Hosts are being released.
    Releasing,
    /// Nothing has happened yet that could be seen.
    Begun,
}

fn reached(env: &Env, step: Step, hosts: usize) -> bool {
    let states = || texts(&env.inventory(), "state");
    match step {
        Step::Begun => true,
        Step::Pending => states().iter().filter(|state| *state == "pending").count() == hosts,
        Step::Made => env.made().len() == hosts,
        Step::Releasing => states().iter().any(|state| state == "releasing"),
    }
}

/// What every end has in common: nothing is lost, and everything can be given back.
#[track_caller]
fn settled(env: &Env) {
    env.assert_nothing_lost();
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn the_first_one_stops_a_checkout_and_undoes_it() {
    for (signal, code) in SIGNALS {
        // Being asked for, or made and not yet told of: the provider takes its time.
        for (step, options) in [(Step::Pending, "--delay 1m"), (Step::Pending, "--count 4 --delay 1m")] {
            let env = Env::new();
            let hosts = if options.contains("count") { 4 } else { 1 };
            let running = env.call(&format!("checkout --test-action t {options}")).start();
            until("the step", || reached(&env, step, hosts));
            running.signal(signal);
            running.finish().exits(code).prints_nothing();
            env.assert_nothing_left();
        }
    }
}

#[test]
fn the_second_one_leaves_at_once_and_loses_nothing() {
    for (signal, code) in SIGNALS {
        let mut env = Env::new();
        env.set("BROKER_stop_grace", "1m");
        let running = env.call("checkout --test-action t --count 2 --hang").start();
        until("the step", || reached(&env, Step::Made, 2));
        std::thread::sleep(Duration::from_millis(300));
        running.signal(signal);
        std::thread::sleep(Duration::from_millis(500));
        running.signal(signal);
        running.finish().passes_on(code);
        settled(&env);
    }
}

#[test]
fn one_at_any_moment_of_a_start_loses_nothing() {
    for (signal, _) in SIGNALS {
        for moment in [0, 2, 5, 10, 20, 40] {
            let env = Env::new();
            let running = env.call("checkout --test-action t --count 3 --delay 20ms").start();
            until("it is there", || reached(&env, Step::Begun, 0));
            std::thread::sleep(Duration::from_millis(moment));
            running.signal(signal);
            running.finish();
            settled(&env);
        }
    }
}

#[test]
fn a_checkin_that_is_told_to_stop_settles_what_it_has_begun() {
    for (signal, _) in SIGNALS {
        for again in [false, true] {
            let env = Env::new();
            env.check_out("--count 3 --slow-release 1s");
            let running = env.call("checkin --all --yes").start();
            until("the step", || reached(&env, Step::Releasing, 3));
            running.signal(signal);
            if again {
                running.signal(signal);
            }
            running.finish();
            settled(&env);
        }
    }
}

#[test]
fn an_execution_that_is_told_to_stop_ends() {
    for (signal, code) in SIGNALS {
        let env = Env::new();
        let running = env.call("execute --test-action t --delay 1m").start();
        std::thread::sleep(Duration::from_millis(700));
        running.signal(signal);
        let outcome = running.finish();
        // One that was not listened to yet ends it all the same.
        assert!(outcome.code() == Some(code) || outcome.is_killed(), "{outcome}");
        env.assert_nothing_left();
    }
}

#[test]
fn what_is_ignored_stays_ignored() {
    let env = Env::new();
    let line = "trap '' HUP INT; broker checkout --test-action t --delay 1s & job=$!; sleep 0.5; \
                kill -HUP $job; kill -INT $job; wait $job";
    // A function of a shell is a process of its own, so that the program itself is asked for.
    let line = line.replace("broker", &format!("'{}'", program().display()));
    assert_eq!(env.script(&line).run().ok().numbers(), [0]);
    assert_eq!(env.made().len(), 1);
}

/// `broker LINE` on a terminal, whose keys are what a script prints.
fn typed(env: &Env, line: &str, keys: &str) -> crate::support::Outcome {
    env.write("own", &format!("exec '{}' {line}\n", program().display()));
    env.script(&format!("({keys}) | script -qec 'sh own' /dev/null")).run()
}

#[test]
fn control_c_on_a_terminal_undoes_a_checkout() {
    let env = Env::new();
    let made = env.root().join("hosts").display().to_string();
    let wait = format!("until ls '{made}' | grep -q json; do sleep 0.1; done; sleep 0.5");
    let keys = format!("{wait}; printf '\\003'; sleep 3");
    let outcome = typed(&env, "checkout --test-action t --count 2 --hang", &keys);
    assert!(outcome.out().contains("stopping"), "{outcome}");
    env.assert_nothing_left();
}

#[test]
fn a_terminal_that_is_closed_undoes_a_checkout() {
    let env = Env::new();
    env.write("own", &format!("exec '{}' checkout --test-action t --count 2 --delay 1m\n", program().display()));
    let running = env.script("exec script -qec 'sh own' /dev/null").start();
    until("hosts are being made", || reached(&env, Step::Pending, 2));
    // The terminal ends with its program.
    running.signal("KILL");
    running.finish();
    until("the checkout is undone", || env.inventory().is_empty());
    env.assert_nothing_left();
}

#[test]
fn what_stands_in_line_is_not_begun_any_more() {
    for (signal, code) in SIGNALS {
        let mut env = Env::new();
        env.check_out("--count 4 --slow-release 1s");
        env.set("BROKER_thread_limit", "1");
        let running = env.call("checkin --all --yes").start();
        until("the first is being released", || reached(&env, Step::Releasing, 1));
        running.signal(signal);
        running.finish().exits(code).says("was not begun");
        assert!(env.made().len() >= 2, "{:?}", env.made());
        settled(&env);
    }
}
