//! Launches whose answers are lost, and processes that die over them: nothing is launched twice, nothing is lost.

use std::time::Duration;

use broker_tests::awx::{Fate, Rule, Template};
use broker_tests::env::TestEnv;
use broker_tests::wait;
use rustix::process::Signal;
use serde_json::json;

use super::{Lab, world};

#[test]
fn a_launch_whose_answer_is_lost_is_found_and_not_repeated() {
    for fate in [Fate::DropAfter, Fate::Cut, Fate::Truncate] {
        let lab = Lab::of(world(), "");
        lab.awx.spoil(Rule::new("POST", "*/launch/", fate).times(1));
        lab.broker("checkout --workflow make");
        assert_eq!((lab.awx.all_machines().len(), lab.launches()), (1, 1));
        // So is the release.
        lab.awx.spoil(Rule::new("POST", "*/launch/", Fate::DropAfter).times(1));
        lab.broker("checkin 0");
        assert!(lab.awx.machines().is_empty());
        assert_eq!(lab.launches(), 2);
    }
}

#[test]
fn a_launch_that_never_was_leaves_nothing() {
    let lab = Lab::of(world(), "");
    lab.awx.spoil(Rule::page("POST", "*/launch/", 502).times(1));
    let error = lab.fails("checkout --workflow make", 7);
    assert!(error.contains("could not launch workflow `make`: HTTP status 502"), "{error}");
    // It may have been on its way for a while: the entry says so, and settles by itself.
    lab.broker("checkin --all");
    assert!(lab.inventory().is_empty() && lab.awx.all_machines().is_empty());
}

#[test]
fn where_nothing_tells_candidates_are_shown_and_none_is_adopted() {
    let lab = Lab::of(world().template(Template::workflow("mute").node("jt-deploy").without_variables()), "");
    lab.awx.spoil(Rule::new("POST", "*/launch/", Fate::DropAfter).times(1));
    let error = lab.fails("checkout --workflow mute", 7);
    assert!(error.contains("nothing tells whether it is one of these: workflow job"), "{error}");
    assert!(error.contains("/#/jobs/workflow/"), "{error}");
    assert_eq!(lab.launches(), 1);
    let error = lab.fails("checkin 0", 7);
    assert!(error.contains("nothing tells which job was launched for it"), "{error}");
    wait::until("the workflow to end", || lab.awx.unfinished().is_empty());
    assert_eq!(lab.awx.machines(), ["rig-vm01"]);
    lab.broker("forget 0");
}

/// Killed when the service has launched, and nobody has heard of it.
#[test]
fn a_process_killed_between_launch_and_record_loses_nothing() {
    let lab = Lab::of(world(), "");
    killed_over_its_launch(&lab, "make");
    wait::until("the workflow to end", || lab.awx.unfinished().is_empty());
    assert_eq!(lab.awx.machines().len(), 1);
    assert_eq!(lab.inventory()[0]["state"], json!("pending"));
    lab.broker("inventory --sync AnsibleTower:nobody");
    let host = &lab.inventory()[0];
    assert_eq!((&host["state"], &host["name"]), (&json!("active"), &json!(lab.awx.machines()[0])));
    lab.broker("checkin 0");
    assert!(lab.awx.machines().is_empty());

    killed_over_its_launch(&lab, "make");
    // Stopped in the middle, a job does not say what it had made.
    wait::until("the workflow to end", || lab.awx.unfinished().is_empty());
    lab.broker("checkin --all");
    assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty());
    assert_eq!(lab.awx.all_machines().len(), 2);
}

#[test]
fn where_nothing_tells_a_killed_process_leaves_an_entry() {
    let lab = Lab::of(world().template(Template::workflow("mute").node("jt-deploy").without_variables()), "");
    killed_over_its_launch(&lab, "mute");
    wait::until("the workflow to end", || lab.awx.unfinished().is_empty());
    let error = lab.fails("checkin 0", 7);
    assert!(error.contains("nothing tells which job was launched for it") && error.contains("workflow job"), "{error}");
    assert_eq!((lab.inventory().len(), lab.awx.machines().len()), (1, 1));
}

/// A record of a running workflow is no host yet, and none that was lost.
#[test]
fn a_workflow_that_outlives_its_process_is_waited_for() {
    let lab = Lab::of(world(), "");
    let started = lab.env.start(["checkout", "--workflow", "slow", "--seconds", "300"]);
    wait::until("the job to be written down", || written(&lab.env).contains("workflow_job"));
    started.signal(Signal::KILL);
    started.wait(wait::SOON);
    lab.broker("inventory --sync AnsibleTower:nobody");
    assert_eq!(lab.inventory()[0]["state"], json!("pending"));
    lab.broker("checkin 0");
    assert_eq!((lab.awx.unfinished(), lab.inventory()), (Vec::new(), Vec::new()));
}

#[test]
fn a_process_killed_over_a_release_releases_once() {
    let lab = Lab::of(world(), "");
    lab.broker("checkout --workflow make");
    lab.awx.spoil(Rule::new("GET", "/api/v2/workflow_jobs/*/", Fate::Delay(Duration::from_secs(20))));
    let launches = lab.launches();
    let started = lab.env.start(["checkin", "0"]);
    wait::until("the release to be launched", || lab.launches() > launches);
    started.signal(Signal::KILL);
    started.wait(wait::SOON);
    lab.awx.behave();
    lab.broker("checkin 0");
    assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty());
    assert_eq!(lab.launches(), launches + 1);
}

/// Starts a checkout, and kills it when its launch has been carried out and not been answered.
fn killed_over_its_launch(lab: &Lab, workflow: &str) {
    lab.awx.spoil(Rule::new("POST", "*/launch/", Fate::DropAfter).times(1));
    // Nor does it find the job.
    lab.awx.spoil(Rule::new("GET", "*/workflow_jobs/", Fate::Delay(Duration::from_secs(20))));
    let launches = lab.launches();
    let started = lab.env.start(["checkout", "--workflow", workflow]);
    wait::until("the launch", || lab.launches() > launches);
    started.signal(Signal::KILL);
    started.wait(wait::SOON);
    lab.awx.behave();
}

fn written(env: &TestEnv) -> String {
    std::fs::read_to_string(env.directory().join("inventory.jsonl")).unwrap_or_default()
}

/// One that tells less of its jobs.
#[test]
fn at_an_old_service_launches_are_found_and_candidates_shown() {
    let lab = Lab::of(world().old(), "");
    lab.awx.spoil(Rule::new("POST", "*/launch/", Fate::DropAfter).times(1));
    lab.broker("checkout --workflow make");
    assert_eq!((lab.awx.all_machines().len(), lab.launches()), (1, 1));
    lab.broker("checkin 0");
    assert!(lab.awx.machines().is_empty());

    let mute = Template::workflow("mute").node("jt-deploy").without_variables();
    let lab = Lab::of(world().old().template(mute), "");
    lab.awx.spoil(Rule::new("POST", "*/launch/", Fate::DropAfter).times(1));
    let error = lab.fails("checkout --workflow mute", 7);
    assert!(error.contains("nothing tells whether it is one of these: workflow job"), "{error}");
}
