//! A host's life: checkout, inventory, extend, checkin.

use broker_tests::awx::{Paths, Template, Tls, World};
use serde_json::{Value, json};

use super::{Lab, read, world};

#[test]
fn a_host_is_checked_out_and_in() {
    let lab = Lab::new();
    let out = lab.env.root().join("out.json");
    let file = out.to_str().unwrap();
    let line = "checkout --workflow deploy-vm --deploy_flavor big --note hello";
    let ran = lab.broker(&format!("--output-file {file} {line}"));
    assert_eq!(ran.stdout, "0\trig-vm01.example.test\trig-vm01\n");
    assert!(ran.stderr.contains(&format!("{}/#/jobs/workflow/", lab.awx.url())), "{}", ran.stderr);
    let report = read(&out);
    assert_eq!((&report["provider"], &report["return_code"]), (&json!("AnsibleTower"), &json!(0)));
    // The keys that the Python tool has of its own for this provider.
    let base = lab.awx.url();
    let job = report["hosts"][0]["tower_job"].as_u64().unwrap();
    assert_eq!(report["auth_type"], json!("token"));
    assert_eq!(report["api_url"], json!(format!("{base}/api/v2/workflow_jobs/{job}/")));
    assert_eq!(report["ui_url"], json!(format!("{base}/#/jobs/workflow/{job}/output")));
    let host = &lab.inventory()[0];
    assert_eq!((&host["hostname"], &host["name"]), (&json!("rig-vm01.example.test"), &json!("rig-vm01")));
    assert_eq!((&host["state"], &host["os_distribution"]), (&json!("active"), &json!("RedHat")));
    assert_eq!(host["reported_devices"], json!({"nics": ["eth0", "lo"]}));
    assert_eq!(host["_broker_args"]["note"], json!("hello"));
    assert_eq!(lab.awx.machines(), ["rig-vm01"]);

    lab.broker("checkin --all");
    assert!(lab.awx.machines().is_empty());
    assert!(lab.inventory().is_empty());
}

/// The Python tool needs 17 requests beside its polls.
#[test]
fn a_checkout_takes_few_requests() {
    let lab = Lab::new();
    lab.broker("checkout --workflow deploy-vm");
    let targets: Vec<String> =
        lab.awx.requests().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    let polls = targets
        .iter()
        .filter(|target| target.starts_with("GET /api/v2/workflow_jobs/") && target.matches('/').count() == 5);
    let others = targets.len() - polls.count();
    assert!(others <= 12, "{others}: {targets:#?}");
}

#[test]
fn many_hosts_are_made_at_once_and_each_goes_once() {
    let lab = Lab::of(world(), "");
    lab.broker("checkout --workflow make --count 8");
    assert_eq!(lab.awx.machines().len(), 8);
    let names: std::collections::BTreeSet<String> =
        lab.inventory().iter().map(|host| host["name"].to_string()).collect();
    assert_eq!(names.len(), 8);
    lab.broker("checkin --all");
    assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty());
    assert_eq!(lab.launches(), 16);
}

#[test]
fn what_the_laboratory_ends_no_reaper_does() {
    let lab = Lab::of(world(), "expiry_facts: ended_at");
    lab.broker("checkout --workflow make");
    assert!(lab.inventory()[0].get("lease_until").is_none());
    let lab = Lab::of(world().playbook("make.yml", PAST), "");
    lab.broker("checkout --workflow make");
    assert_eq!(lab.inventory()[0]["lease_until"], json!("2001-09-09T01:46:40Z"));
    lab.broker("reap --yes");
    assert_eq!((lab.awx.machines().len(), lab.inventory().len()), (1, 1));
}

/// As `make.yml`, with an end that has passed.
const PAST: &str = "- name: Make\n  hosts: localhost\n  tasks:\n    - name: Make it\n      lab.machine: {name: old, state: present}\n    \
                    - name: Tell\n      ansible.builtin.set_stats:\n        data:\n          \
                    _broker_facts: {fqdn: old.example.test, name: old, shutdown_time: 1000000000}\n";

#[test]
fn a_host_is_extended_by_its_laboratory() {
    let lab = Lab::new();
    lab.broker("checkout --workflow deploy-vm");
    for (options, told) in [("--lease 2h", "+7200"), ("--new-expire-time +3600", "+3600"), ("", "+172800")] {
        lab.broker(&format!("extend 0 {options}"));
        let told_last = told_by_last_job(&lab, "extend-vm");
        assert_eq!((&told_last["target_vm"], &told_last["new_expire_time"]), (&json!("rig-vm01"), &json!(told)));
        assert!(lab.inventory()[0].get("lease_until").is_some());
    }
    lab.broker("checkin 0");
    lab.fails("extend 0 --lease 2h", 13);
}

/// The Python tool has all of them share one host's arguments, fails over its own output file, and over labels.
#[test]
fn many_hosts_are_extended_each_for_itself() {
    let lab = Lab::of(world(), "");
    lab.broker("checkout --workflow make --count 4");
    let out = lab.env.root().join("out.json");
    let file = out.to_str().unwrap();
    lab.broker(&format!("--output-file {file} extend --all --new-expire-time +3600 --provider-labels team=rig --yes"));
    assert_eq!(read(&out)["return_code"], json!(0));
    let told: Vec<Value> = told_by_all_jobs(&lab, "extend-vm");
    let targets: std::collections::BTreeSet<&str> =
        told.iter().map(|told| told["target_vm"].as_str().unwrap()).collect();
    let hosts = lab.inventory();
    let names = hosts.iter().map(|host| host["name"].as_str().unwrap()).collect();
    assert_eq!((told.len(), targets), (4, names));
    assert!(told.iter().all(|told| told["provider_labels"] == json!({"team": "rig"})), "{told:?}");
}

/// The Python tool would remove the host, as it looks for hosts to remove after any workflow that fails.
#[test]
fn a_host_that_cannot_be_extended_is_left_alone() {
    let extend = Template::workflow("extend-vm").node("jt-deploy").node("jt-fail").on_success(0, 1);
    let lab = Lab::of(World::recorded().all_at_once().template(extend), "");
    lab.broker("checkout --workflow deploy-vm");
    let error = lab.fails("extend 0 --lease 2h", 7);
    assert!(error.contains("No hypervisor has capacity"), "{error}");
    assert_eq!(lab.awx.machines(), ["rig-vm01"]);
    assert_eq!(lab.inventory()[0]["state"], json!("active"));
    lab.broker("checkin 0");
}

/// The Python tool cannot record a host without a hostname.
#[test]
fn a_host_may_have_a_name_and_no_hostname() {
    let text = "- name: Make\n  hosts: localhost\n  tasks:\n    - name: Tell\n      ansible.builtin.set_stats:\n        data: \
                {_broker_facts: {name: rig-vm09, ip: 192.0.2.9}}\n";
    let lab = Lab::of(world().playbook("make.yml", text), "");
    lab.broker("checkout --workflow make");
    let host = &lab.inventory()[0];
    assert_eq!((&host["name"], &host["address"]), (&json!("rig-vm09"), &json!("192.0.2.9")));
    assert_eq!(host["state"], json!("active"));
}

#[test]
fn a_lease_is_the_extend_workflows_or_an_error() {
    let lab = Lab::new();
    lab.broker("checkout --workflow deploy-vm --lease 1h");
    assert_eq!(told_by_last_job(&lab, "extend-vm")["target_vm"], json!("rig-vm01"));
    let lab = Lab::of(World::recorded().without("extend-vm"), "");
    let error = lab.fails("checkout --workflow deploy-vm --lease 1h", 7);
    assert!(error.contains("there is no workflow `extend-vm`"), "{error}");
    assert_eq!(lab.launches(), 0);
}

#[test]
fn a_host_is_duplicated() {
    let lab = Lab::of(world(), "");
    lab.broker("checkout --workflow make --note hello");
    lab.broker("duplicate 0");
    assert_eq!(lab.awx.machines().len(), 2);
    assert_eq!(lab.inventory()[1]["_broker_args"]["note"], json!("hello"));
}

#[test]
fn a_job_template_makes_hosts_too() {
    let lab = Lab::of(world(), "");
    let ran = lab.broker("checkout --job-template jt-make");
    assert!(ran.stderr.contains("/#/jobs/playbook/"), "{}", ran.stderr);
    assert_eq!(lab.awx.machines().len(), 1);
    lab.broker("checkin --all");
    assert!(lab.awx.machines().is_empty());
}

/// The Python tool reads the first page of nodes alone.
#[test]
fn the_only_job_may_be_on_the_second_page_of_nodes() {
    let lab = Lab::new();
    lab.broker("checkout --workflow wide");
    assert_eq!(lab.inventory()[0]["os_distribution"], json!("RedHat"));
}

/// More nodes than one page has at the most.
#[test]
fn nodes_are_read_over_all_pages() {
    let many = (0..205).fold(Template::workflow("many"), |many, _| many.node("jt-finalize"));
    let last = many.node("jt-make");
    let only_last = (0..205).fold(last, |many, node| many.on_failure(205, node));
    let lab = Lab::of(world().template(only_last), "");
    lab.broker("checkout --workflow many");
    let pages = lab.awx.requests().into_iter().filter(|seen| seen.target.contains("/workflow_nodes/?"));
    assert!(pages.filter(|seen| seen.target.contains("page=2")).count() >= 1);
    assert_eq!(lab.inventory()[0]["name"], json!(lab.awx.machines()[0]));
}

/// The Python tool takes the last job alone, which lists something here.
#[test]
fn the_host_of_a_workflow_in_a_workflow_is_found() {
    let lab = Lab::new();
    let ran = lab.broker("checkout --workflow nested");
    assert_eq!(ran.stdout, "0\trig-vm01.example.test\trig-vm01\n");
    lab.broker("checkin 0");
    assert!(lab.awx.machines().is_empty());
}

#[test]
fn a_workflow_that_tells_of_no_host_in_the_agreed_way_may_name_one() {
    let lab = Lab::of(World::recorded().template(Template::workflow("old").node("jt-deploy")), "");
    let ran = lab.broker("checkout --workflow old");
    assert_eq!(ran.stdout, "0\trig-vm01.example.test\trig-vm01\n");
}

/// The Python tool ends in an internal error, with nothing recorded.
#[test]
fn a_workflow_that_makes_nothing_is_an_error_and_leaves_nothing() {
    let lab = Lab::new();
    let error = lab.fails("checkout --workflow empty", 7);
    assert!(error.contains("workflow `empty` ended well and tells of no host: nothing ran in it"), "{error}");
    assert!(lab.inventory().is_empty());
}

#[test]
fn a_workflow_that_does_not_say_what_it_made_stays_in_the_inventory() {
    let lab = Lab::of(World::recorded().template(Template::workflow("mute").node("jt-lists")), "");
    let error = lab.fails("checkout --workflow mute", 7);
    assert!(error.contains("none of its artifacts is `_broker_facts`"), "{error}");
    assert_eq!(lab.inventory()[0]["state"], json!("failed"));
    let error = lab.fails("checkin 0", 7);
    assert!(error.contains("nothing says which host workflow job"), "{error}");
    lab.broker("forget 0");
    assert!(lab.inventory().is_empty());
}

#[test]
fn a_controller_behind_a_gateway_is_found() {
    for paths in [Paths::Controller, Paths::Classic] {
        let lab = Lab::of(World::recorded().paths(paths), "");
        let ran = lab.broker("checkout --workflow deploy-vm");
        let page = if paths == Paths::Controller { "/execution/jobs/workflow/" } else { "/#/jobs/workflow/" };
        assert!(ran.stderr.contains(page), "{}", ran.stderr);
        lab.broker("checkin --all");
    }
    let lab = Lab::of(World::recorded(), "aap_version: '2.5'");
    lab.broker("checkout --workflow deploy-vm");
    assert!(lab.awx.requests().iter().all(|seen| seen.target.starts_with("/api/controller/v2/")));
}

#[test]
fn certificates_are_looked_at() {
    let tls = Tls::new();
    let awx = broker_tests::awx::Awx::start_tls(World::recorded(), &tls);
    let lab = Lab { awx, env: broker_tests::env::TestEnv::new() };
    let token = format!("token: {}\n", lab.awx.token_of("rigger"));
    lab.settings(&token);
    let error = lab.fails("checkout --workflow deploy-vm", 8);
    let host = lab.awx.url().trim_start_matches("https://");
    assert!(error.contains(&format!("certificate of `{host}`")) && error.contains("`verify: PATH`"), "{error}");
    for verify in [tls.authority(), "false".to_owned()] {
        lab.settings(&format!("{token}verify: {verify}"));
        lab.broker("checkout --workflow deploy-vm");
        lab.broker("checkin --all");
    }
}

/// What the last run of a template was told.
pub(super) fn told_by_last_job(lab: &Lab, template: &str) -> Value {
    told_by_all_jobs(lab, template).remove(0)
}

/// What all runs of a template were told, the last one first.
fn told_by_all_jobs(lab: &Lab, template: &str) -> Vec<Value> {
    let token = lab.awx.token_of("admin");
    let client = super::client();
    let runtime = broker_tests::conformance::current_thread();
    runtime.block_on(async {
        let url = format!("{}/api/v2/workflow_jobs/?order_by=-id&page_size=50", lab.awx.url());
        let text = client.get(url).bearer_auth(token).send().await.unwrap().text().await.unwrap();
        let page: Value = serde_json::from_str(&text).unwrap();
        let jobs = page["results"].as_array().unwrap().iter().filter(|job| job["name"] == template);
        jobs.map(|job| serde_json::from_str(job["extra_vars"].as_str().unwrap()).unwrap()).collect()
    })
}

#[test]
fn a_host_that_somebody_else_released_is_gone() {
    let lab = Lab::of(world(), "");
    lab.broker("checkout --workflow make --count 2");
    let id = lab.inventory()[0]["id"].as_str().unwrap().to_owned();
    let name = lab.inventory()[0]["name"].as_str().unwrap().to_owned();
    lab.broker(&format!("execute --workflow remove-vm --source_vm {name} --arg _broker_id={id}"));
    // The release workflow would fail now: it is not launched, as a run of it has released the host.
    lab.broker("checkin 0");
    lab.broker("checkin 1");
    assert!(lab.awx.machines().is_empty());
    assert_eq!(lab.launches(), 4);
}

/// A host whose workflow tells these stats, which are YAML in one line.
fn telling(stats: &str) -> World {
    world().playbook(
        "make.yml",
        &format!(
            "- name: Make\n  hosts: localhost\n  tasks:\n    - name: Make it\n      lab.machine: {{name: \"{{{{ machine | \
             default('vm.example.test') }}}}\", state: present}}\n    - name: Tell\n      ansible.builtin.set_stats: {{data: {{{stats}}}}}\n"
        ),
    )
}

/// What a workflow adds to its arguments its release workflow needs, as with the Python tool.
#[test]
fn what_a_workflow_adds_to_its_arguments_reaches_the_release() {
    let lab = Lab::of(
        telling(
            "_broker_facts: {name: vm, fqdn: vm.example.test}, _broker_args: {workflow: make, note: hello, region: eu, source_vm: vm.example.test}",
        ),
        "",
    );
    lab.broker("checkout --workflow make --note hello");
    let host = &lab.inventory()[0];
    assert_eq!(host["tower_args"], json!({"region": "eu", "source_vm": "vm.example.test"}));
    // As they do with the Python tool, people look for hosts by these arguments.
    let args = json!({"workflow": "make", "note": "hello", "region": "eu", "source_vm": "vm.example.test"});
    for (name, value) in args.as_object().unwrap() {
        assert_eq!(&host["_broker_args"][name], value, "{name}");
        let filter = format!("_broker_args.{name}={}", value.as_str().unwrap());
        assert!(lab.broker(&format!("inventory --list --filter {filter}")).stdout.contains("vm"), "{filter}");
    }
    lab.broker("extend 0 --new-expire-time +60");
    assert_eq!(told_by_last_job(&lab, "extend-vm")["target_vm"], json!("vm"));
    lab.broker("checkin 0");
    let told = told_by_last_job(&lab, "remove-vm");
    assert_eq!((&told["source_vm"], &told["region"]), (&json!("vm.example.test"), &json!("eu")));
    assert_eq!((&told["note"], &told["workflow"]), (&json!("hello"), &json!("remove-vm")));
    assert!(lab.awx.machines().is_empty());
}

/// What somebody has given under that name is another machine.
#[test]
fn the_machine_that_a_host_is_made_of_is_not_released() {
    let lab =
        Lab::of(telling("_broker_facts: {name: vm.example.test}, _broker_args: \"{{ _broker_extra_vars }}\""), "");
    lab.broker("checkout --workflow make --source_vm golden");
    assert!(lab.inventory()[0].get("tower_args").is_none());
    lab.broker("checkin 0");
    assert_eq!(told_by_last_job(&lab, "remove-vm")["source_vm"], json!("vm.example.test"));
}

#[test]
fn a_host_may_have_a_hostname_and_no_name() {
    let lab = Lab::of(telling("_broker_facts: {fqdn: vm.example.test}"), "");
    lab.broker("checkout --workflow make");
    lab.broker("extend 0 --new-expire-time +60");
    assert_eq!(told_by_last_job(&lab, "extend-vm")["target_vm"], json!("vm.example.test"));
    lab.broker("checkin 0");
    assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty());
    // Also where its making is undone.
    let lab = Lab::of(telling("_broker_facts: {fqdn: vm.example.test}"), "extend_workflow: wide");
    lab.awx.spoil(broker_tests::awx::Rule::detail("POST", &lab.awx.launch_path("wide"), 400, "no").times(1));
    lab.fails("checkout --workflow make --lease 1h", 7);
    assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty());
}

/// A job template whose jobs are cut into slices is launched as a workflow of them.
#[test]
fn a_job_template_may_run_in_slices() {
    let lab = Lab::of(world().template(Template::job("jt-make", "make.yml").slices(2)), "");
    let ran = lab.broker("checkout --job-template jt-make");
    assert!(ran.stderr.contains("/#/jobs/workflow/"), "{}", ran.stderr);
    assert_eq!(lab.inventory()[0]["name"], json!(lab.awx.machines()[0]));
    lab.broker("checkin --all");
    assert!(lab.awx.machines().is_empty());
    let ran = lab.broker("execute --job-template jt-make --output json").json();
    assert_eq!((&ran["type"], &ran["status"]), (&json!("workflow_job"), &json!("successful")));
}

/// A release workflow that takes nothing but the name carries no id by which a run of it could be known.
#[test]
fn a_host_is_released_once_by_a_workflow_that_takes_the_name_alone() {
    let question = json!([{"variable": "source_vm", "type": "text", "required": true, "question_name": "Name", "default": "",
        "min": null, "max": null, "choices": ""}]);
    let release = Template::workflow("remove-vm").survey(question).without_variables().node("jt-unmake");
    let lab = Lab::of(world().template(release.clone()), "");
    lab.broker("checkout --workflow make --vm same");
    lab.broker("checkin 0");
    assert_eq!(lab.launches(), 2);
    // A new host of an old name is another one.
    lab.broker("checkout --workflow make --vm same");
    lab.broker("checkin --all");
    assert_eq!((lab.launches(), lab.awx.machines().len()), (4, 0));
    // One whose making is cut off is looked for until it is gone.
    let late = Template::workflow("late").node("jt-make").node("jt-sleep").on_success(0, 1);
    let lab = Lab::of(world().template(release).template(late), "");
    lab.fails("checkout --workflow late --seconds 3000 --timeout 2s", 7);
    assert!(lab.awx.machines().is_empty() && lab.inventory().is_empty());
    assert_eq!(lab.launches(), 2);
}

/// Runs of the release workflow are read once for all who want to know of theirs.
#[test]
fn many_releases_look_at_the_runs_of_their_workflow_together() {
    let lab = Lab::of(world(), "");
    lab.broker("checkout --workflow make --count 12");
    lab.awx.forget_requests();
    lab.broker("checkin --all");
    let looks = lab.awx.requests().iter().filter(|seen| seen.target.contains("/workflow_jobs/?order_by=-id")).count();
    assert!((1..=6).contains(&looks), "{looks}");
    assert!(lab.awx.machines().is_empty());
}
