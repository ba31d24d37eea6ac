//! Running workflows and job templates for what they do.

use serde_json::json;

use super::{Lab, read};

#[test]
fn a_workflow_is_run_and_gives_back_what_it_was() {
    let lab = Lab::new();
    let done = lab.broker("execute --workflow deploy-vm --output json").json();
    assert_eq!((&done["status"], &done["name"]), (&json!("successful"), &json!("deploy-vm")));
    assert!(done["ui_url"].as_str().unwrap().contains("/#/jobs/workflow/"), "{done}");
    assert!(lab.inventory().is_empty());
}

#[test]
fn artifacts_are_the_last_jobs_or_those_of_all() {
    let lab = Lab::new();
    let last = lab.broker("execute --workflow deploy-vm --artifacts last --output json").json();
    assert!(last.get("vm_name").is_none() && last["_broker_facts"]["name"] == json!("rig-vm01"), "{last}");
    let all = lab.broker("execute --workflow deploy-vm --artifacts merge --output json").json();
    assert_eq!((&all["vm_name"], &all["_broker_facts"]["name"]), (&json!("rig-vm01"), &json!("rig-vm01")));
    let job = lab.broker("execute --job-template jt-deploy --artifacts last --output json").json();
    assert_eq!(job["data_out"], json!({"vms": ["rig-vm01"]}));
    let nested = lab.broker("execute --workflow nested --artifacts last --output json").json();
    assert_eq!(nested["data_out"]["list_templates"][0], json!("rhel-8.10"));
}

/// The Python tool prints the error and exits with 0, or fails over its own output file.
#[test]
fn a_job_that_fails_is_a_failure_and_says_why() {
    let lab = Lab::new();
    let out = lab.env.root().join("out.json");
    let error = lab.fails(&format!("--output-file {} execute --job-template jt-fail", out.to_str().unwrap()), 7);
    assert!(error.contains("task `Refuse` of `jt-fail`: No hypervisor has capacity for flavor tiny"), "{error}");
    let report = read(&out);
    assert_eq!((&report["return_code"], &report["output"]["status"]), (&json!(7), &json!("failed")));
    lab.fails("execute --job-template jt-fail", 7);
    assert_eq!(report["output"]["reasons"][0]["task"], json!("Refuse"));
}

/// The Python tool's dangling hosts are looked for after any workflow, so that this one would be removed.
#[test]
fn what_an_execution_names_is_left_alone() {
    let lab = Lab::new();
    lab.broker("checkout --workflow deploy-vm");
    lab.fails("execute --workflow deploy-fail", 7);
    assert_eq!(lab.awx.machines(), ["rig-vm01"]);
    assert_eq!(lab.inventory().len(), 1);
}
