//! The provider of workflows, end to end: the real `broker` and the real library on an AWX that answers as recorded.
//!
//! # Answers to a launch
//!
//! | what is the matter | seen before | in the service's own words |
//! | --- | --- | --- |
//! | a variable of the survey is missing, none of the choices, too short, no number | `arguments::surveys_are_checked_first…` | `refusals::what_the_service_refuses…` |
//! | a job template has no inventory, a workflow has none | `refusals::an_inventory_is_needed…` | the same |
//! | variables that are neither JSON nor YAML, or a list | `refusals::odd_values…`: they are one object, always | |
//! | no such inventory, a name for a number | `arguments::what_a_template_does_not_take…`, `refusals::an_inventory_is_a_number…` | `refusals::what_the_service_refuses…` |
//! | an inventory that this user may not use | | `refusals::what_the_service_refuses…` |
//! | no such label, labels that are no list | `arguments::labels_are_made_once…`: they are numbers of labels, always | `refusals::what_the_service_refuses…` |
//! | a body that is none, another type of content, no slash at the end | `refusals::every_request_has_the_form…` | |
//! | no right to launch | `refusals::rights_decide…`, `login::what_is_not_allowed…` | `refusals::what_the_service_refuses…` |
//! | nobody is logged in | `login::bad_credentials…` | `refusals::a_token_that_is_revoked…` |
//! | no such template | `arguments::what_a_template_does_not_take…` | `refusals::what_the_service_refuses…` |
//! | a job template drops what it does not ask for, a workflow refuses it | `arguments::what_a_template_does_not_take…` | |
//! | it may not run twice at once | | `refusals::what_may_not_run_twice…` |
//!
//! # Ends of a job
//!
//! | how | shown by, in `failures` |
//! | --- | --- |
//! | a task failed | `a_failed_task_is_the_reason…` |
//! | a module or the syntax is wrong: no event says why | `a_broken_playbook…` |
//! | the template's own timeout; the worker was shut down | `what_the_service_says_of_a_job…` |
//! | the service broke, over a job or a workflow's job | `a_service_that_breaks…` |
//! | somebody cancelled it | `a_job_that_somebody_cancels…` |
//! | a node failed and nothing follows on that | `a_workflow_whose_jobs_have_no_reason…` |
//! | it is over before it can be cancelled | `waiting::a_job_that_ends_before…` |
//!
//! # What goes wrong with the Python tool
//!
//! | what | the better way |
//! | --- | --- |
//! | it reads the first page of nodes, 25 of them; the first page of hosts | `life::the_only_job…`, `life::nodes_are_read…`, `sync::hosts_on_all_pages…` |
//! | it fails over a last job that does not tell of the host, over an empty workflow, over a host without a hostname | `life::the_host_of_a_workflow_in…`, `life::a_workflow_that_makes_nothing…`, `life::a_workflow_that_does_not_say…`, `life::a_host_may_have…` |
//! | it fails over its own output file | `life::many_hosts_are_extended…`, `execute::a_job_that_fails…` |
//! | `execute`, queries and extensions that fail end with 0 | `execute::a_job_that_fails…`, `queries::what_workflows_list…`, `life::a_host_that_cannot_be_extended…` |
//! | it fails over variables in YAML | `queries::variables_in_yaml…` |
//! | its console eats `[localhost]` | `failures::what_a_task_says…` |
//! | a wait that is too long ends in an assertion, and the job runs on | `waiting::a_job_that_takes_too_long…` |
//! | bad credentials are no error of their own; settings are in its log | `login::bad_credentials…`, `login::a_password_makes_one_token…` |
//! | a sync fails without `inventory_fields` | all of `sync`, which has none |
//! | a sync removes the hosts of other instances | `conformance_tower`: `other_instances_are_left_alone` |
//! | one failure of many forgets all; a failing release keeps all | `conformance_tower`: `of_a_mixed_batch…`, `one_that_fails_to_go…` |
//! | a process that is killed has recorded nothing | `lost` |
//! | any workflow that fails has hosts removed | `execute::what_an_execution_names…`, `life::a_host_that_cannot_be_extended…` |
//! | extensions at once share one host's arguments, go to the wrong instance, and fail over labels | `life::many_hosts_are_extended…`, `login::instances_have…` |
//! | an unknown instance is the default one | `login::instances_have…` |
//! | `results_limit` does nothing | `queries::results_are_limited…` |
//! | a token for each host, and a login for each host that is released | `login::a_password_makes_one_token…`, `login::a_token_that_a_killed…` |
//! | certificates are not looked at | `life::certificates_are_looked_at` |
//! | two requests for each host of a sync, a poll for each job | `sync::hosts_on_all_pages…`, `sync::hosts_that_have_not_changed…`, `waiting::many_who_wait…` |
//! | it hands over what a workflow made and removed again, and forgets what the failing job itself made | `failures::a_workflow_that_cleans_up…`, `failures::what_a_job_made…` |
//!
//! What it survives is survived here as well: a service that is stopped for some seconds (`waiting::a_service_that_is_away…`).

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's own work ends the test")]

mod arguments;
mod execute;
mod failures;
mod library;
mod life;
mod login;
mod lost;
mod queries;
mod refusals;
mod sync;
mod waiting;

use std::path::Path;

use broker_tests::awx::{Awx, Template, World};
use broker_tests::env::{Ran, TestEnv};
use serde_json::Value;

/// An AWX of one test's own, and a clean environment for the `broker` program, whose settings lead to it.
struct Lab {
    awx: Awx,
    env: TestEnv,
}

impl Lab {
    /// The recorded world, in which templates run as often at once as anybody likes.
    fn new() -> Self {
        Self::of(World::recorded().all_at_once(), "")
    }

    /// With further settings, each on a line of its own.
    fn with(more: &str) -> Self {
        Self::of(World::recorded().all_at_once(), more)
    }

    fn of(world: World, more: &str) -> Self {
        let lab = Self { awx: Awx::start(world), env: TestEnv::new() };
        let token = format!("token: {}\n", lab.awx.token_of("rigger"));
        lab.settings(&format!("{token}{more}"));
        lab
    }

    /// Writes settings anew, each on a line of its own; address, pauses and the inventory come by themselves.
    fn settings(&self, lines: &str) {
        let mut text = format!(
            "AnsibleTower:\n  base_url: {}\n  inventory: lab-inventory\n  workflow_poll_interval: 200ms\n",
            self.awx.url()
        );
        for line in lines.lines() {
            text += &format!("  {line}\n");
        }
        self.env.write_settings(&text);
    }

    /// Runs `broker` with a line of arguments, and fails unless it succeeds.
    fn broker(&self, line: &str) -> Ran {
        self.env.ok(line.split_whitespace())
    }

    /// As `broker`, and fails unless it ends with this code. Returns what it printed on standard error.
    fn fails(&self, line: &str, code: i32) -> String {
        let ran = self.env.broker(line.split_whitespace());
        ran.expect(code);
        ran.stderr
    }

    /// What the inventory has, in all detail.
    fn inventory(&self) -> Vec<Value> {
        self.broker("inventory --output json").json().as_array().unwrap().clone()
    }

    /// The launches so far: each template's id with the variables it was told.
    fn launches(&self) -> usize {
        let is_launch = |seen: &&broker_tests::awx::Seen| seen.method == "POST" && seen.target.ends_with("/launch/");
        self.awx.requests().iter().filter(is_launch).count()
    }
}

/// A JSON file's contents.
fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A world in which `make` makes a machine named after its host's id, or after `vm`, and `remove-vm` removes it and fails
/// where there is none.
fn world() -> World {
    World::recorded()
        .all_at_once()
        .playbook(
            "make.yml",
            "- name: Make\n  hosts: localhost\n  gather_facts: false\n  tasks:\n    - name: Make it\n      lab.machine:\n        \
             name: \"vm-{{ vm | default(_broker_id) }}\"\n        state: present\n    - name: Tell\n      \
             ansible.builtin.set_stats:\n        data:\n          vm_name: \"vm-{{ vm | default(_broker_id) }}\"\n          \
             _broker_args: \"{{ _broker_extra_vars }}\"\n          _broker_facts:\n            \
             fqdn: \"vm-{{ vm | default(_broker_id) }}.example.test\"\n            name: \"vm-{{ vm | default(_broker_id) }}\"\n            \
             remove_time: 4000000000\n",
        )
        .playbook(
            "unmake.yml",
            "- name: Unmake\n  hosts: localhost\n  gather_facts: false\n  tasks:\n    - name: Remove it\n      \
             lab.machine:\n        name: \"{{ source_vm }}\"\n        state: absent\n        strict: true\n",
        )
        .template(Template::job("jt-make", "make.yml"))
        .template(Template::job("jt-unmake", "unmake.yml"))
        .template(Template::workflow("make").node("jt-make"))
        .template(Template::workflow("remove-vm").node("jt-unmake"))
}

/// A client for what tests ask of the service themselves.
fn client() -> broker_http::Client {
    let tls = broker_http::Tls { verify: false, ca: None, client: None };
    broker_http::client(&tls, std::time::Duration::from_secs(10)).unwrap()
}
