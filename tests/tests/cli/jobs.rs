//! Commands in the background.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use broker_tests::wait::until;
use serde_json::Value;

use crate::support::{Env, Outcome, texts};

/// Starts a job, and returns its number.
#[track_caller]
fn send_off(env: &Env, line: &str) -> u64 {
    started(&env.broker(line).ok())
}

#[track_caller]
fn started(outcome: &Outcome) -> u64 {
    outcome.out().trim().parse().unwrap_or_else(|_| panic!("no number of a job: {outcome}"))
}

fn jobs(env: &Env) -> Vec<Value> {
    crate::support::array(env.broker("jobs list --output json").ok().json())
}

fn state(env: &Env, job: u64) -> String {
    let jobs = jobs(env);
    let job = jobs.iter().find(|one| one["job"] == job).unwrap_or_else(|| panic!("no job {job}: {jobs:?}"));
    job["state"].as_str().unwrap().to_owned()
}

/// The process of a job, once it has said so.
fn process(env: &Env, job: u64) -> String {
    let path = env.broker_path(&format!("jobs/{job}/job.json"));
    let mut pid = String::new();
    until("the job says which process it is", || {
        let text: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        pid = text["process"]["pid"].to_string();
        pid != "null"
    });
    pid
}

#[test]
fn a_checkout_in_the_background_is_waited_for() {
    let env = Env::new();
    let job = send_off(&env, "checkout -b --test-action t --count 2 --delay 500ms --output-file own.json");
    assert_eq!(state(&env, job), "running");
    let outcome = env.broker(&format!("jobs wait {job} --output-file waited.json")).ok();
    assert_eq!(outcome.numbers(), [0, 1], "it prints what the command prints");
    assert_eq!(env.made().len(), 2);
    let read = |name| serde_json::from_slice::<Value>(&fs::read(env.work_path(name)).unwrap()).unwrap();
    assert_eq!(read("own.json"), read("waited.json"));
    assert_eq!(read("waited.json")["hosts"].as_array().unwrap().len(), 2);
    assert_eq!(state(&env, job), "done");
    env.broker(&format!("jobs log {job}")).ok().prints("host.example.com");
    // Again, and without a number: there is nothing to wait for.
    assert_eq!(env.broker(&format!("jobs wait {job}")).ok().numbers(), [0, 1]);
    env.broker("jobs wait").ok().says("no job runs").prints_nothing();
}

#[test]
fn every_command_that_takes_its_time_can_go_there() {
    let env = Env::new();
    env.check_out("--lease 1h");
    for line in ["extend 0 -b --lease 9h", "duplicate -b 0", "execute -b --test-action t", "checkin -b --all --yes"] {
        let job = send_off(&env, line);
        env.broker(&format!("jobs wait {job}")).ok();
        match line.split(' ').next().unwrap() {
            "duplicate" => assert_eq!(env.made().len(), 2),
            "checkin" => env.assert_nothing_left(),
            _ => {}
        }
    }
    assert_eq!(jobs(&env).len(), 4);
    env.broker("jobs prune").ok().says("4 jobs removed");
    assert!(jobs(&env).is_empty());
    assert_eq!(send_off(&env, "checkout -b --test-action t"), 5, "no number is given twice");
    env.broker("jobs wait 5").ok();
}

#[test]
fn what_fails_says_so_to_whoever_waits() {
    let env = Env::new();
    let job = send_off(&env, "checkout -b --test-action t --fail quota");
    env.broker(&format!("jobs wait {job}")).exits(7).says("quota");
    assert_eq!(state(&env, job), "failed");
    let good = send_off(&env, "checkout -b --test-action t");
    env.broker(&format!("jobs wait {good} {job}")).passes_on(7);
}

#[test]
fn what_is_wrong_is_said_before_anything_is_started() {
    let env = Env::new();
    env.broker("checkout -b").exits(13).prints_nothing();
    env.broker("checkout -b --count 0 --test-action t").exits(2).prints_nothing();
    env.broker("checkin -b 7").exits(13).prints_nothing();
    env.broker("jobs wait 7").exits(13).hints("jobs list");
    env.broker("jobs log 7").exits(13);
    env.broker("jobs cancel 7").exits(13);
    env.broker("jobs wait x").exits(2);
    assert!(jobs(&env).is_empty());
}

#[test]
fn waiting_has_a_limit() {
    let env = Env::new();
    let job = send_off(&env, "checkout -b --test-action t --delay 1m");
    env.broker(&format!("jobs wait {job} --timeout 200ms")).exits(124).says("still runs").hints("jobs log -f");
    assert_eq!(state(&env, job), "running");
    env.broker(&format!("jobs cancel {job}")).ok();
    env.assert_nothing_left();
    assert_eq!(state(&env, job), "failed");
    env.broker(&format!("jobs wait {job}")).passes_on(143);
    env.broker(&format!("jobs cancel {job}")).exits(1).says("has ended");
    env.broker("jobs wait --timeout 1s").ok();
}

#[test]
fn a_job_that_is_killed_is_shown_and_its_hosts_are_settled() {
    let env = Env::new();
    let job = send_off(&env, "checkout -b --test-action t --count 3 --delay 1m");
    until("hosts are being made", || texts(&env.inventory(), "state").len() == 3);
    let pid = process(&env, job);
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    until("it is seen", || state(&env, job) == "killed");
    env.broker(&format!("jobs wait {job}")).passes_on(137).says("was killed");
    env.broker(&format!("jobs cancel {job}")).exits(1).says("has ended");
    env.assert_nothing_lost();
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn a_log_is_followed_to_its_end() {
    let env = Env::new();
    let job = send_off(&env, "checkout -b --test-action t --delay 1s");
    let outcome = env.broker(&format!("jobs log -f {job}")).ok();
    assert!(outcome.out().contains("ready after") && outcome.out().contains("host.example.com"), "{outcome}");
    assert_eq!(state(&env, job), "done");
}

#[test]
fn a_job_survives_its_terminal() {
    let env = Env::new();
    let number = env.work_path("number");
    // `script` gives it a terminal of its own, which is hung up when it ends.
    let line = format!("broker checkout -b --test-action t --delay 1s >{}; sleep 0.2", number.display());
    let own = format!("broker() {{ '{}' \"$@\"; }}\n{line}\n", broker_tests::env::program().display());
    env.write("own", &own);
    env.script("script -qec 'sh own' /dev/null </dev/null").run().ok();
    let job: u64 = fs::read_to_string(&number).unwrap().trim().parse().unwrap();
    assert_eq!(env.broker(&format!("jobs wait {job}")).ok().numbers(), [0]);
    env.assert_nothing_lost();
}

#[test]
fn secrets_of_a_request_are_in_no_list_and_no_file() {
    let env = Env::new();
    let job = send_off(&env, "checkout -b --test-action t --delay 1s --password hunter2");
    let pid = process(&env, job);
    let command = fs::read(Path::new("/proc").join(&pid).join("cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&command).contains("hunter2"));
    env.broker(&format!("jobs wait {job}"));
    for entry in fs::read_dir(env.broker_path(&format!("jobs/{job}"))).unwrap() {
        let path = entry.unwrap().path();
        assert!(!fs::read_to_string(&path).unwrap().contains("hunter2"), "{}", path.display());
    }
}

#[test]
fn two_hundred_jobs_keep_the_inventory_right() {
    let env = Env::new();
    let mut sent: Vec<u64> = std::thread::scope(|scope| {
        let sending: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..25).map(|_| send_off(&env, "checkout -b --test-action t")).collect::<Vec<_>>()))
            .collect();
        sending.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    sent.sort_unstable();
    assert_eq!(sent, (1..=200).collect::<Vec<u64>>(), "every number once");
    env.call("jobs wait").deadline(Duration::from_secs(170)).run().ok();
    until("all have ended", || jobs(&env).iter().all(|job| job["state"] == "done"));
    assert_eq!(env.inventory().len(), 200);
    assert_eq!(env.made().len(), 200);
    env.assert_nothing_lost();
    sleep(Duration::from_millis(10));
    let job = send_off(&env, "checkin -b --all --yes");
    env.broker(&format!("jobs wait {job}")).ok();
    env.assert_nothing_left();
}
