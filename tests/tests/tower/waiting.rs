//! Waiting: what is out of order passes, what takes too long ends.

use std::time::Duration;

use broker_tests::awx::{Awx, Fate, Pace, Rule, Template};
use serde_json::json;

use super::{Lab, world};

/// Any poll of any job.
const POLLS: &str = "/api/v2/workflow_jobs/*/";

#[test]
fn what_is_out_of_order_is_outlasted() {
    for rule in [
        Rule::page("GET", POLLS, 502),
        Rule::page("GET", POLLS, 404),
        Rule::page("GET", POLLS, 200),
        Rule::detail("GET", POLLS, 500, "A server error has occurred."),
        Rule::detail("GET", POLLS, 403, "You do not have permission to perform this action."),
        Rule::new("GET", POLLS, Fate::DropBefore),
        Rule::new("GET", POLLS, Fate::Cut),
        Rule::new("GET", POLLS, Fate::Truncate),
        Rule::page("GET", "/api/v2/*/workflow_nodes/", 503),
        Rule::page("GET", "/api/v2/jobs/*/", 503),
    ] {
        let lab = Lab::of(world(), "");
        lab.awx.spoil(rule.clone().times(3));
        let ran = lab.env.broker(["checkout", "--workflow", "make"]);
        assert_eq!(ran.code, Some(0), "{rule:?}: {}", ran.stderr);
        assert_eq!(lab.launches(), 1);
    }
}

#[test]
fn a_service_that_is_away_for_a_while_is_waited_for() {
    let lab = Lab::of(world(), "");
    let started = lab.env.start(["checkout", "--workflow", "slow", "--seconds", "100"]);
    broker_tests::wait::until("the workflow to run", || !lab.awx.unfinished().is_empty());
    lab.awx.refuse(Duration::from_secs(2));
    started.wait(broker_tests::wait::SOON).expect(0);
}

#[test]
fn patience_has_an_end_and_loses_nothing() {
    let lab = Lab::with("max_resilient_wait: 1s");
    lab.awx.spoil(Rule::page("GET", POLLS, 502));
    let error = lab.fails("checkout --workflow deploy-vm", 7);
    assert!(error.contains("could not see how workflow job"), "{error}");
    assert_eq!(lab.inventory()[0]["state"], json!("failed"));
    lab.awx.behave();
    lab.broker("checkin 0");
    assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty());
}

/// The Python tool's wait ends in an assertion, and the job runs on, known to nobody.
#[test]
fn a_job_that_takes_too_long_is_cancelled() {
    let lab = Lab::with("workflow_timeout: 1s");
    let error = lab.fails("checkout --workflow slow --seconds 3000", 7);
    assert!(error.contains("workflow `slow` was not done within 1s, and was cancelled"), "{error}");
    assert!(lab.awx.unfinished().is_empty() && lab.inventory().is_empty());
}

#[test]
fn a_job_that_takes_too_long_can_be_kept() {
    let lab = Lab::with("workflow_timeout: 1s\ntimeout_behavior: keep");
    let error = lab.fails("checkout --workflow slow --seconds 3000", 7);
    assert!(error.contains("was not done within 1s, and goes on: "), "{error}");
    assert_eq!(lab.inventory()[0]["state"], json!("failed"));
    assert!(!lab.awx.unfinished().is_empty());
    lab.broker("checkin 0");
    assert!(lab.awx.unfinished().is_empty() && lab.inventory().is_empty());
}

#[test]
fn the_limit_of_a_command_ends_the_job_too() {
    let lab = Lab::new();
    lab.fails("checkout --workflow slow --seconds 3000 --timeout 1s", 7);
    assert!(lab.awx.unfinished().is_empty() && lab.inventory().is_empty());
}

/// Of many who wait one looks for all, in one request. Each job is looked at by itself once, when it is over.
#[test]
fn many_who_wait_do_not_ask_more_often() {
    let lab = Lab::of(world().pace(Pace::fast().slower(20)), "");
    lab.broker("checkout --workflow make --count 20");
    assert_eq!(lab.awx.machines().len(), 20);
    let (single, together) = polls(&lab.awx);
    assert!(single <= 20 + 4 && (1..20).contains(&together), "{single} and {together}");
}

/// Where the service takes no such question each job is looked at by itself.
#[test]
fn many_who_cannot_be_asked_for_together_are_waited_for_all_the_same() {
    let lab = Lab::of(world().pace(Pace::fast().slower(10)), "");
    lab.awx.spoil(Rule::detail("GET", "/api/v2/workflow_jobs/", 400, "no"));
    lab.broker("checkout --workflow make --count 3");
    assert_eq!(lab.awx.machines().len(), 3);
}

/// How often single workflow jobs were looked at, and how often several at once.
fn polls(awx: &Awx) -> (usize, usize) {
    let is_poll = |target: &str| target.starts_with("/api/v2/workflow_jobs/") && target.matches('/').count() == 5;
    let gets = || awx.requests().into_iter().filter(|seen| seen.method == "GET");
    let together = gets().filter(|seen| seen.target.starts_with("/api/v2/workflow_jobs/?id__in=")).count();
    (gets().filter(|seen| is_poll(&seen.target)).count(), together)
}

/// The service says that it cannot be cancelled any more, in other words to its administrators than to others.
#[test]
fn a_job_that_ends_before_it_can_be_cancelled_leaves_no_host() {
    let late = Template::workflow("late").node("jt-make").node("jt-sleep").on_success(0, 1);
    for status in [403, 405] {
        let lab = Lab::of(world().template(late.clone()), "workflow_timeout: 1s");
        lab.awx.spoil(Rule::detail("POST", "*/cancel/", status, "It is over."));
        let error = lab.fails("checkout --workflow late --seconds 150", 7);
        assert!(error.contains("workflow `late` was not done within 1s"), "{error}");
        assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty(), "{error}");
        assert_eq!(lab.awx.all_machines().len(), 1);
    }
}

#[test]
fn what_runs_in_a_workflow_is_told_as_it_does() {
    let lab = Lab::new();
    let said = lab.broker("checkout --workflow slow --seconds 300").stderr;
    assert!(said.contains("running `jt-sleep`, 0 of 2 done"), "{said}");
}

/// How far all workflows are is one question too.
#[test]
fn many_who_show_how_far_they_are_ask_together() {
    let lab = Lab::of(world().pace(Pace::fast().slower(20)), "");
    let said = lab.broker("checkout --workflow slow --count 10 --seconds 20").stderr;
    assert!(said.contains("running `jt-sleep`, 0 of 2 done"), "{said}");
    let asked = |part: &str| lab.awx.requests().iter().filter(|seen| seen.target.contains(part)).count();
    // Each workflow's nodes are read once when it is over.
    assert!(asked("/workflow_nodes/?") <= 10 + 3, "{}", asked("/workflow_nodes/?"));
    let together = asked("/workflow_job_nodes/?workflow_job__in=");
    assert!((1..=40).contains(&together), "{together}");

    // Where the service takes no such question one is looked at each time.
    let lab = Lab::of(world().pace(Pace::fast().slower(20)), "");
    lab.awx.spoil(Rule::detail("GET", "/api/v2/workflow_job_nodes/", 400, "no"));
    let said = lab.broker("checkout --workflow slow --count 2 --seconds 20").stderr;
    assert!(said.contains("running `jt-sleep`, 0 of 2 done"), "{said}");
}

/// A checkout that is cut off waits for the release workflow for as long as one may take, not for a minute.
#[test]
fn what_is_undone_may_take_as_long_as_its_workflow() {
    let slow = "- name: Unmake\n  hosts: localhost\n  tasks:\n    - name: Take its time\n      ansible.builtin.command: sleep 6200\n    \
                - name: Remove it\n      lab.machine: {name: \"{{ source_vm }}\", state: absent, strict: true}\n";
    let late = Template::workflow("late").node("jt-make").node("jt-sleep").on_success(0, 1);
    let lab = Lab::of(world().playbook("unmake.yml", slow).template(late), "");
    let started = lab.env.start(["checkout", "--workflow", "late", "--seconds", "100000", "--timeout", "2s"]);
    let ran = started.wait(Duration::from_secs(150));
    ran.expect(7);
    assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty(), "{}", ran.stderr);
    assert_eq!(lab.launches(), 2);
}

/// One who asks for all and hears nothing has asked for all: nobody stands in line to hear the same.
#[test]
fn many_who_look_in_vain_wait_once() {
    let lab = Lab::of(world(), "timeout: 1s");
    lab.broker("checkout --workflow make --count 20");
    let delay = Fate::Delay(Duration::from_secs(60));
    lab.awx.spoil(Rule::new("GET", "/api/v2/workflow_job_templates/*/workflow_jobs/", delay));
    let begun = std::time::Instant::now();
    let error = lab.fails("checkin --all", 7);
    assert!(error.contains("could not look at the runs of workflow `remove-vm`: no answer"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    lab.awx.behave();
    lab.broker("checkin --all");
    assert!(lab.awx.machines().is_empty());
}
