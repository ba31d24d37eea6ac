//! Workflows that fail: the reason, and what becomes of what they made.

use std::time::Duration;

use broker_tests::awx::{Awx, Fate, Pace, Rule, Template, World};
use serde_json::json;

use super::{Lab, world};

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
    let world = World::recorded().playbook("say.yml", text).template(Template::job("jt-say", "say.yml"));
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
    let world = World::recorded().template(Template::workflow("two").node("jt-fail").node("jt-broken").always(0, 1));
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

/// A playbook of one task.
fn one_task(task: &str) -> String {
    format!("- name: One\n  hosts: localhost\n  tasks:\n    - name: Do it\n      {task}\n")
}

/// The service ends a workflow well whose failed job leads on to another: the machine may be gone, and is nobody's
/// host.
#[test]
fn a_workflow_that_cleans_up_after_a_failure_hands_nothing_over() {
    let gone = one_task("lab.machine: {name: \"{{ vm_name }}\", state: absent}");
    let lenient = one_task("lab.machine: {name: \"{{ source_vm }}\", state: absent}");
    for first in ["jt-make", "jt-deploy"] {
        let tidy = Template::workflow("tidy").node(first).node("jt-fail").node("jt-tidy");
        let world = world()
            .playbook("tidy.yml", &gone)
            .playbook("unmake.yml", &lenient)
            .template(Template::job("jt-tidy", "tidy.yml"))
            .template(tidy.on_success(0, 1).on_failure(1, 2));
        let lab = Lab::of(world, "");
        let out = lab.env.root().join("out.json");
        let error = lab.fails(&format!("--output-file {} checkout --workflow tidy", out.to_str().unwrap()), 7);
        let says =
            "workflow `tidy` went on after a failure and tells of no host: task `Refuse` of `jt-fail`: No hypervisor";
        assert!(error.contains(says), "{error}");
        assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty(), "{error}");
        assert_eq!(super::read(&out)["Reason(s)"]["task"], json!("Refuse"));
    }
}

/// Nothing was made, so that there is nothing to be checked in either.
#[test]
fn a_failure_that_a_workflow_goes_on_after_leaves_no_entry() {
    let handled = Template::workflow("handled").node("jt-fail").node("jt-lists").on_failure(0, 1);
    let lab = Lab::of(world().template(handled), "");
    let error = lab.fails("checkout --workflow handled", 7);
    assert!(error.contains("task `Refuse` of `jt-fail`"), "{error}");
    assert!(lab.inventory().is_empty());
}

#[test]
fn a_failure_that_is_expected_costs_no_host() {
    let tell =
        one_task("ansible.builtin.set_stats: {data: {_broker_facts: {fqdn: \"{{ fqdn }}\", name: \"{{ vm_name }}\"}}}");
    let before = Template::workflow("before").node("jt-fail").node("jt-make").always(0, 1);
    let between = Template::workflow("between").node("jt-deploy").node("jt-fail").node("jt-tell");
    let world = world()
        .playbook("tell.yml", &tell)
        .template(Template::job("jt-tell", "tell.yml"))
        .template(before)
        .template(between.on_success(0, 1).always(1, 2));
    let lab = Lab::of(world, "");
    for workflow in ["before", "between"] {
        lab.broker(&format!("checkout --workflow {workflow}"));
        assert_eq!((lab.awx.machines().len(), lab.inventory()[0]["state"].clone()), (1, json!("active")));
        lab.broker("checkin --all");
        assert!(lab.awx.machines().is_empty());
    }
}

/// A job keeps what it has told when a later task of it fails; what was handed over by then was made as well.
#[test]
fn what_a_job_made_before_it_failed_is_checked_in() {
    for told in ["vm_name: half", "_broker_facts: {name: half, fqdn: half.example.test}"] {
        let half = format!(
            "- name: Half\n  hosts: localhost\n  tasks:\n    - name: Make it\n      lab.machine: {{name: half, state: present}}\n    \
             - name: Tell\n      ansible.builtin.set_stats: {{data: {{{told}}}}}\n    - name: Refuse\n      \
             ansible.builtin.fail: {{msg: no room}}\n"
        );
        let world = world().playbook("half.yml", &half).template(Template::job("jt-half", "half.yml"));
        let lab = Lab::of(world.template(Template::workflow("half").node("jt-half")), "");
        for line in ["checkout --workflow half", "checkout --job-template jt-half"] {
            let error = lab.fails(line, 7);
            assert!(
                error.contains("no room") && error.contains("host `half` that it had made is checked in"),
                "{error}"
            );
            assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty(), "{error}");
        }
    }
}

/// The service shows a sentence where the artifacts are, which is no reason to ask for two hours.
#[test]
fn artifacts_that_are_hidden_are_told_to_be() {
    let text = one_task("no_log: true\n      ansible.builtin.set_stats: {data: {vm_name: secret-vm}}");
    let world = world().playbook("hide.yml", &text).template(Template::job("jt-hide", "hide.yml"));
    let lab = Lab::of(world.template(Template::workflow("hide").node("jt-hide")), "");
    let error = lab.fails("checkout --workflow hide", 7);
    assert!(error.contains("shown to nobody, since a task with `no_log` has set them"), "{error}");
    assert_eq!(lab.inventory()[0]["state"], json!("failed"));
}

#[test]
fn the_last_lines_of_a_task_that_fails_are_told() {
    let text = one_task("lab.command: {stdout: \"one\\ntwo\", stderr: disk is full, rc: 2}");
    let world = world().playbook("print.yml", &text).template(Template::job("jt-print", "print.yml"));
    let lab = Lab::of(world.template(Template::workflow("print").node("jt-print")), "");
    let error = lab.fails("checkout --workflow print", 7);
    assert!(error.contains("task `Do it` of `jt-print`: non-zero return code: disk is full"), "{error}");
    assert!(error.contains("it ends with") && error.contains("  two\n"), "{error}");
}

/// Of more than a megabyte the service shows nothing but a sentence, unless it is asked for as a file.
#[test]
fn the_end_of_a_long_output_is_told() {
    let text = format!(
        "- name: Long\n  hosts: localhost\n  tasks:\n    - name: Print\n      ansible.builtin.debug: {{msg: {}}}\n    - name: \
         Refuse\n      ansible.builtin.fail: {{msg: \"\"}}\n",
        "x".repeat(1 << 20)
    );
    let world = world().playbook("long.yml", &text).template(Template::job("jt-long", "long.yml"));
    let lab = Lab::of(world, "");
    let error = lab.fails("execute --job-template jt-long", 7);
    assert!(error.contains("fatal: [localhost]: FAILED!") && !error.contains("too large"), "{error}");
}

/// What a job has left is there before the last of its events are.
#[test]
fn the_reason_is_waited_for_where_there_are_artifacts_already() {
    let text = "- name: Half\n  hosts: localhost\n  tasks:\n    - name: Tell\n      ansible.builtin.set_stats: {data: {data_out: 1}}\n    \
                - name: Refuse\n      ansible.builtin.fail: {msg: no room}\n";
    let second = Duration::from_secs(1);
    let world = world().playbook("half.yml", text).template(Template::job("jt-half", "half.yml"));
    let lab = Lab::of(world.pace(Pace { run: second, events: second, ..Pace::fast() }), "");
    let error = lab.fails("checkout --job-template jt-half", 7);
    assert!(error.contains("task `Refuse` of `jt-half`: no room"), "{error}");
}
