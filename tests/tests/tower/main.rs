//! The provider of workflows, end to end: the real `broker` and the real library on an AWX that answers as recorded.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's own work ends the test")]

mod arguments;
mod execute;
mod failures;
mod library;
mod life;
mod login;
mod lost;
mod queries;
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
