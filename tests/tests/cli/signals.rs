//! Signals at every step of a command, on a terminal and without.

use std::time::Duration;

use broker_tests::env::program;
use broker_tests::wait::until;

use crate::support::{Env, Running, texts};

/// The signals that ask to stop, and what the exit status says then.
const SIGNALS: [(&str, i32); 3] = [("INT", 130), ("TERM", 143), ("HUP", 129)];

/// A command on a host, and one whose output nobody reads: neither keeps a signal from being heard.
#[test]
fn a_command_on_a_host_is_cut_off() {
    let env = Env::new();
    env.check_out("");
    for (signal, code) in SIGNALS {
        let begun = env.work_path(signal);
        let running = env.call(&format!("exec 0 -- 'touch {}; sleep 600'", begun.display())).start();
        until("it runs", || begun.exists());
        running.signal(signal);
        running.finish().passes_on(code).within(Duration::from_secs(40));
    }
    let unread = format!(
        "mkfifo unread; sleep 60 <unread & reader=$!; '{}' exec 0 -- yes >unread & running=$!
         sleep 1; kill -TERM $running; wait $running; code=$?; kill $reader; exit $code",
        program().display()
    );
    env.script(&unread).run().passes_on(143).within(Duration::from_secs(40));
}

/// The status of `exec` is the command's, so what fails before there is one must not look like it.
#[test]
fn what_is_ours_has_a_status_of_its_own() {
    let env = Env::new();
    env.check_out("");
    env.broker("exec 0 --output-file none/out.json -- true").exits(255);
    env.write_settings("thread_limit: many\n");
    env.broker("exec 0 -- true").exits(255).says("thread_limit");
    env.broker("inventory").exits(8);
}

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

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Pipes,
    Terminal,
}

/// A command that runs, and its own process: on a terminal that is not the one that was started.
struct Command {
    running: Running,
    pid: String,
}

impl Command {
    fn start(env: &Env, place: Place, line: &str) -> Self {
        if place == Place::Pipes {
            let running = env.call(line).start();
            return Self { pid: running.pid().to_string(), running };
        }
        env.write("own", &format!("echo $$ >pid\nexec '{}' {line}\n", program().display()));
        let running = env.script("rm -f pid; exec script -qec 'sh own' /dev/null").start();
        let mut pid = String::new();
        until("it begins", || {
            pid = std::fs::read_to_string(env.work_path("pid")).unwrap_or_default().trim().to_owned();
            !pid.is_empty()
        });
        Self { running, pid }
    }

    /// Waits until a signal would be listened to (proc(5)).
    fn listens(&self, signal: &str) {
        let bit = match signal {
            "HUP" => 0,
            "INT" => 1,
            _ => 14,
        };
        until("it listens", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() >> bit & 1 == 1)
        });
    }

    /// Sends a signal, which one that has ended by now does not take.
    fn signal(&self, signal: &str) {
        let kill = std::process::Command::new("kill").args(["-s", signal, &self.pid]).output();
        assert!(kill.is_ok());
    }
}

/// Every signal in every place.
fn each(mut stop: impl FnMut(Place, &str, i32)) {
    for place in [Place::Pipes, Place::Terminal] {
        for (signal, code) in SIGNALS {
            stop(place, signal, code);
        }
    }
}

/// Stops a checkout at a step, which undoes it.
fn stop_a_checkout(step: Step, options: &str, hosts: usize) {
    each(|place, signal, code| {
        let mut env = Env::new();
        env.set("BROKER_stop_grace", "500ms");
        let command = Command::start(&env, place, &format!("checkout --test-action t {options}"));
        until("the step", || reached(&env, step, hosts));
        command.signal(signal);
        let outcome = command.running.finish().passes_on(code);
        assert!(place == Place::Terminal || outcome.out().is_empty(), "{outcome}");
        env.assert_nothing_left();
    });
}

#[test]
fn the_first_one_undoes_a_checkout_that_is_asked_for() {
    stop_a_checkout(Step::Pending, "--delay 1m", 1);
}

#[test]
fn the_first_one_undoes_a_checkout_of_several() {
    stop_a_checkout(Step::Pending, "--count 4 --delay 1m", 4);
}

#[test]
fn the_first_one_undoes_what_is_made_and_not_yet_told_of() {
    stop_a_checkout(Step::Made, "--count 2 --hang", 2);
}

#[test]
fn the_second_one_leaves_a_checkout_at_once_and_loses_nothing() {
    each(|place, signal, code| {
        let mut env = Env::new();
        env.set("BROKER_stop_grace", "1m");
        let command = Command::start(&env, place, "checkout --test-action t --count 2 --hang");
        until("the step", || reached(&env, Step::Made, 2));
        std::thread::sleep(Duration::from_millis(300));
        command.signal(signal);
        std::thread::sleep(Duration::from_millis(500));
        command.signal(signal);
        command.running.finish().passes_on(code);
        settled(&env);
    });
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
    each(|place, signal, _| {
        for again in [false, true] {
            let env = Env::new();
            env.check_out("--count 3 --slow-release 1s");
            let command = Command::start(&env, place, "checkin --all --yes");
            until("the step", || reached(&env, Step::Releasing, 3));
            command.signal(signal);
            if again {
                command.signal(signal);
            }
            command.running.finish();
            settled(&env);
        }
    });
}

#[test]
fn an_execution_that_is_told_to_stop_ends() {
    each(|place, signal, code| {
        for again in [false, true] {
            let mut env = Env::new();
            env.set("BROKER_stop_grace", "1m");
            let line = format!("execute --test-action t {}", if again { "--hang" } else { "--delay 1m" });
            let command = Command::start(&env, place, &line);
            command.listens(signal);
            // It is listened to a moment before the provider is asked.
            std::thread::sleep(Duration::from_millis(200));
            command.signal(signal);
            if again {
                std::thread::sleep(Duration::from_millis(300));
                command.signal(signal);
            }
            command.running.finish().passes_on(code);
            env.assert_nothing_left();
        }
    });
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

/// What comes of a question: how the answer is typed, the exit status, and how many of two hosts are left.
#[test]
fn what_was_not_confirmed_is_not_done() {
    for (keys, code, left) in [("n", 1, 2), ("\\r", 1, 2), ("\\003", 130, 2), ("y", 0, 0)] {
        for line in ["checkin --all", "forget --all"] {
            let env = Env::new();
            env.check_out("--count 2");
            env.write("own", &format!("exec '{}' {line}\n", program().display()));
            let keys = format!("until grep -qiF '[y/n]' seen; do sleep 0.1; done; sleep 0.3; printf '{keys}'; sleep 1");
            let script = format!(">seen; ({keys}) | script -qefc 'sh own' seen");
            let outcome = env.script(&script).run().passes_on(code);
            assert_eq!(env.inventory().len(), left, "{outcome}");
            let (hidden, shown) = (outcome.out().rfind("\x1b[?25l"), outcome.out().rfind("\x1b[?25h"));
            assert!(hidden.is_some() && hidden < shown, "no cursor: {outcome}");
            env.broker("checkin --all").ok();
        }
    }
}

#[test]
fn a_signal_at_a_question_leaves_the_terminal_as_it_was() {
    let env = Env::new();
    env.check_out("");
    let own = format!(
        "echo $$ >pid; stty -g >before; '{}' checkin --all; echo $? >code; stty -g >after",
        program().display()
    );
    env.write("own", &own);
    let stop = "until grep -qiF '[y/n]' seen; do sleep 0.1; done; sleep 0.3; pkill -TERM -P $(cat pid); sleep 1";
    env.script(&format!(">seen; ({stop}) | script -qefc 'sh own' seen")).run().ok();
    let read = |name| std::fs::read_to_string(env.work_path(name)).unwrap();
    assert_eq!((read("code").trim(), read("before")), ("143", read("after")));
    assert_eq!(env.inventory().len(), 1);
}

#[test]
fn where_nobody_sees_the_question_nothing_is_done() {
    let env = Env::new();
    env.check_out("");
    for (line, code, left) in [("checkin --all 2>err", 2, 1), ("checkin --all --yes 2>err", 0, 0)] {
        let outcome = typed(&env, line, "sleep 2").passes_on(code);
        assert_eq!(env.inventory().len(), left, "{outcome}");
        let said = std::fs::read_to_string(env.work_path("err")).unwrap();
        assert!(code == 0 || said.contains("hint: `--yes`"), "{said}");
    }
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
