//! Workflows that fail: the reason, and what becomes of what they made.

use broker_tests::awx::{Awx, Fate, Rule, World};
use serde_json::json;

use super::Lab;

/// The newest failed child has the reason; the host that an earlier one made goes.
#[test]
fn a_failed_task_is_the_reason_and_its_host_is_checked_in() {
    let lab = Lab::new();
    let error = lab.fails("checkout --workflow deploy-fail", 7);
    assert!(error.contains("task `Refuse` of `jt-fail`: No hypervisor has capacity for flavor huge"), "{error}");
    assert!(error.contains("host `rig-vm01` that it had made is checked in"), "{error}");
    assert!(error.contains("/#/jobs/workflow/"), "{error}");
    assert!(lab.awx.machines().is_empty() && lab.awx.all_machines().len() == 1);
    assert!(lab.inventory().is_empty());
}

#[test]
fn a_host_that_was_made_can_be_stored() {
    for behavior in ["store", "prompt"] {
        let lab = Lab::with(&format!("dangling_behavior: {behavior}"));
        let error = lab.fails("checkout --workflow deploy-fail", 7);
        assert!(error.contains("`broker checkin 0`"), "{error}");
        let host = &lab.inventory()[0];
        assert_eq!((&host["state"], &host["name"]), (&json!("failed"), &json!("rig-vm01")));
        assert_eq!(host["deploy_failed"], json!(true));
        assert_eq!(lab.awx.machines(), ["rig-vm01"]);
        lab.broker("checkin 0");
        assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty());
    }
}

/// On a terminal somebody is asked what becomes of it, and the answer counts.
#[test]
fn whoever_asked_for_a_host_decides_about_it_on_a_terminal() {
    for (key, left) in [('y', 0), ('n', 1)] {
        let lab = Lab::with("dangling_behavior: prompt");
        let said = on_a_terminal(&lab, "checkout --workflow deploy-fail", "Check it in?", key);
        assert!(said.contains("The checkout failed and left `rig-vm01`."), "{said}");
        assert!(said.contains("No hypervisor has capacity"), "{said}");
        assert_eq!((lab.awx.machines().len(), lab.inventory().len()), (left, left), "{said}");
    }
}

/// Runs `broker` on a terminal to its end, presses a key when it asks, and returns what was to be seen.
fn on_a_terminal(lab: &Lab, line: &str, question: &str, key: char) -> String {
    let program = broker_tests::env::program();
    lab.env.write("own", format!("'{}' {line}; echo $? > code\n", program.display()));
    let keys = format!(
        "until grep -qs '{question}' shown; do sleep 0.1; done; printf {key}; until [ -s code ]; do sleep 0.1; done"
    );
    let line = format!("({keys}) | timeout 60 script -qfec 'sh own' shown > /dev/null");
    lab.env.command("sh").args(["-c", &line]).env("TERM", "xterm").status().unwrap();
    let read = |name: &str| std::fs::read_to_string(lab.env.root().join(name)).unwrap();
    assert_eq!(read("code").trim(), "7");
    read("shown")
}

#[test]
fn a_host_that_cannot_be_checked_in_stays_in_the_inventory() {
    let lab = Lab::of(World::recorded().all_at_once().without("remove-vm"), "");
    let error = lab.fails("checkout --workflow deploy-fail", 7);
    assert!(error.contains("could not be checked in") && error.contains("there is no workflow `remove-vm`"), "{error}");
    assert_eq!(lab.inventory()[0]["name"], json!("rig-vm01"));
    assert_eq!(lab.awx.machines(), ["rig-vm01"]);
}

/// No event says why, so the end of what was printed does.
#[test]
fn a_broken_playbook_is_told_by_what_it_printed() {
    let lab = Lab::new();
    let error = lab.fails("checkout --workflow deploy-error", 7);
    assert!(error.contains("ERROR! couldn't resolve module/action 'no_such_module_zz'"), "{error}");
    assert!(lab.awx.machines().is_empty());
}

#[test]
fn a_service_that_breaks_is_told_by_its_traceback() {
    let lab = Lab::new();
    lab.awx.lose_project(true);
    let error = lab.fails("checkout --job-template jt-deploy", 7);
    assert!(error.contains("job template `jt-deploy` failed: `jt-deploy`:"), "{error}");
    assert!(error.contains("Traceback") || error.contains("Error"), "{error}");
}

/// A workflow whose job broke down failed; the reason is the job's.
#[test]
fn a_service_that_breaks_over_a_job_of_a_workflow_is_told_by_the_jobs_traceback() {
    let lab = Lab::new();
    lab.awx.lose_project(true);
    let error = lab.fails("checkout --workflow deploy-vm", 7);
    assert!(error.contains("workflow `deploy-vm` failed: `jt-remove`: ") && error.contains("it ends with"), "{error}");
    assert!(lab.inventory().is_empty());
}

/// Where no job of a workflow has a reason, what the service says of the workflow counts.
#[test]
fn a_workflow_whose_jobs_have_no_reason_is_told_by_its_explanation() {
    let lab = Lab::new();
    let nothing = json!({"count": 0, "next": null, "previous": null, "results": []}).to_string();
    lab.awx.spoil(Rule::new("GET", "*/workflow_nodes/", Fate::Answer(200, "application/json".to_owned(), nothing)));
    let error = lab.fails("checkout --workflow deploy-fail", 7);
    assert!(error.contains("No error handling paths found, marking workflow as failed"), "{error}");
}

/// The Python tool's console takes `[localhost]` for an instruction, and leaves it out.
#[test]
fn what_a_task_says_is_shown_to_the_letter() {
    let text = "- name: Say\n  hosts: localhost\n  tasks:\n    - name: Refuse\n      ansible.builtin.fail: {msg: \"fatal: [localhost]: \
                [/x] is [red]\"}\n";
    let world =
        World::recorded().playbook("say.yml", text).template(broker_tests::awx::Template::job("jt-say", "say.yml"));
    let lab = Lab::of(world, "");
    for line in ["checkout --job-template jt-say", "execute --job-template jt-say"] {
        let error = lab.fails(line, 7);
        assert!(error.contains("task `Refuse` of `jt-say`: fatal: [localhost]: [/x] is [red]"), "{error}");
    }
}

/// As the Python tool's users read them.
#[test]
fn a_failure_is_in_the_output_file() {
    let lab = Lab::new();
    let out = lab.env.root().join("out.json");
    lab.fails(&format!("--output-file {} checkout --workflow deploy-fail", out.to_str().unwrap()), 7);
    let report = super::read(&out);
    assert_eq!((&report["Workflow Status"], &report["return_code"]), (&json!("failed"), &json!(7)));
    let reason = json!({"job": "jt-fail", "task": "Refuse", "reason": "No hypervisor has capacity for flavor huge"});
    assert_eq!(report["Reason(s)"], reason);
    assert_eq!(report["URL"], report["ui_url"]);
    lab.fails(&format!("--output-file {} execute --job-template jt-fail", out.to_str().unwrap()), 7);
    assert_eq!(super::read(&out)["Job_template Status"], json!("failed"));
}

#[test]
fn what_the_service_says_of_a_job_is_told() {
    let lab = Lab::new();
    lab.awx.set_timeout("jt-sleep", 1);
    let error = lab.fails("checkout --job-template jt-sleep --seconds 3000", 7);
    assert!(error.contains("Job terminated due to timeout"), "{error}");
    let lab = Lab::new();
    let started = lab.env.start(["checkout", "--job-template", "jt-sleep", "--seconds", "3000"]);
    wait_for_run(&lab.awx);
    lab.awx.kill_worker();
    let ran = started.wait(broker_tests::wait::SOON);
    ran.expect(7);
    assert!(ran.stderr.contains("received a shutdown signal"), "{}", ran.stderr);
}

#[test]
fn a_job_that_somebody_cancels_is_told_to_be_cancelled() {
    let lab = Lab::new();
    let started = lab.env.start(["checkout", "--workflow", "slow", "--seconds", "3000"]);
    wait_for_run(&lab.awx);
    let workflow = lab.awx.unfinished()[0];
    let url = format!("{}/api/v2/workflow_jobs/{workflow}/cancel/", lab.awx.url());
    let token = lab.awx.token_of("admin");
    let answer = broker_tests::conformance::current_thread()
        .block_on(async { super::client().post(url).bearer_auth(token).send().await.unwrap().status() });
    assert_eq!(answer.as_u16(), 202);
    let ran = started.wait(broker_tests::wait::SOON);
    ran.expect(7);
    assert!(ran.stderr.contains("workflow `slow` was cancelled: somebody cancelled it"), "{}", ran.stderr);
    assert!(lab.inventory().is_empty());
}

#[test]
fn all_reasons_are_told_where_that_is_wanted() {
    let world = World::recorded()
        .template(broker_tests::awx::Template::workflow("two").node("jt-fail").node("jt-broken").always(0, 1));
    let lab = Lab::of(world, "error_scope: all");
    let error = lab.fails("checkout --workflow two", 7);
    assert!(error.contains("`jt-broken`: ERROR!") && error.contains("No hypervisor has capacity"), "{error}");
}

/// Waits until a playbook runs.
fn wait_for_run(awx: &Awx) {
    broker_tests::wait::until("a playbook to run", || {
        awx.unfinished().iter().any(|job| awx.status_of(*job) == Some("running"))
            && awx.unfinished().iter().all(|job| awx.status_of(*job) == Some("running"))
    });
}
