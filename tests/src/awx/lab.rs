//! Templates beside the recorded ones, whose machines are there or not: what providers are tested with.

use serde_json::{Value, json};

use super::template::Template;
use super::world::World;

/// The playbooks of these templates.
const PLAYBOOKS: [(&str, &str); 5] = [
    ("lab/deploy.yml", include_str!("../../labs/awx/playbooks/deploy.yml")),
    ("lab/dies.yml", include_str!("../../labs/awx/playbooks/dies.yml")),
    ("lab/finalize.yml", include_str!("../../labs/awx/playbooks/finalize.yml")),
    ("lab/remove.yml", include_str!("../../labs/awx/playbooks/remove.yml")),
    ("lab/extend.yml", include_str!("../../labs/awx/playbooks/extend.yml")),
];

impl World {
    /// The recorded world, in which every template may run at any time, and more workflows. Each host that they make has
    /// a name of its own, `PREFIX-JOB`, and is listed in `rigger-hosts` with facts. (`deploy-vm` of the recorded ones
    /// makes the same machine every time.)
    ///
    /// | workflow | what it does |
    /// | --- | --- |
    /// | `deploy-host` | makes a host (`name_prefix`, `seconds`, `host_type`, `remove_time`, `shutdown_time`, `expire_time`) |
    /// | `deploy-host-fixed` | the same, without asking for variables |
    /// | `deploy-host-nested` | the same, one workflow deeper, and another job after it |
    /// | `deploy-then-fail` | makes a machine, and the next job fails |
    /// | `deploy-dies` | makes a machine, and the same job fails before it reports it |
    /// | `deploy-handled` | fails to make one, and the path for that succeeds: a success without a host |
    /// | `deploy-mute` | makes a machine, and hands over nothing |
    /// | `remove-host` | removes `source_vm`, whether it is there or not, unless `strict` |
    /// | `extend-host` | writes `new_expire_time` to the facts of `target_vm` |
    /// | `all-questions` | a survey with every type of question, one for a password among them |
    #[must_use]
    pub fn lab() -> Self {
        let mut world = Self::recorded().all_at_once();
        for (name, text) in PLAYBOOKS {
            world = world.playbook(name, text);
        }
        let jobs = [
            ("lab-deploy", "lab/deploy.yml"),
            ("lab-dies", "lab/dies.yml"),
            ("lab-finalize", "lab/finalize.yml"),
            ("lab-remove", "lab/remove.yml"),
            ("lab-extend", "lab/extend.yml"),
        ];
        for (name, playbook) in jobs {
            world = world.template(Template::job(name, playbook));
        }
        let deploy = |name: &str| Template::workflow(name).node("lab-deploy").node("lab-finalize").on_success(0, 1);
        world
            .template(deploy("deploy-host").extra_vars(r#"{"name_prefix": "rig"}"#))
            .template(deploy("deploy-host-fixed").extra_vars("name_prefix: fixed").without_variables())
            .template(Template::workflow("deploy-host-nested").node("deploy-host").node("jt-lists").on_success(0, 1))
            .template(Template::workflow("deploy-then-fail").node("lab-deploy").node("jt-fail").on_success(0, 1))
            .template(Template::workflow("deploy-dies").node("lab-dies"))
            .template(Template::workflow("deploy-handled").node("jt-fail").node("jt-lists").on_failure(0, 1))
            .template(Template::workflow("deploy-mute").node("lab-deploy").node("jt-lists").on_success(0, 1))
            .template(Template::workflow("remove-host").extra_vars(r#"{"source_vm": ""}"#).node("lab-remove"))
            .template(
                Template::workflow("extend-host").extra_vars("target_vm: ''\nnew_expire_time: ''").node("lab-extend"),
            )
            .template(Template::workflow("all-questions").survey(questions()).node("jt-lists"))
    }

    /// Adds hosts `NAME-0000`, `NAME-0001` … with variables and facts to an inventory.
    #[must_use]
    pub fn many_hosts(mut self, inventory: &str, name: &str, count: usize) -> Self {
        for number in 0..count {
            let name = format!("{name}-{number:04}");
            let fqdn = format!("{name}.example.test");
            let facts = json!({
                "ansible_fqdn": fqdn,
                "_broker_args": {"workflow": "deploy-host", "number": number},
                "_broker_facts": {"fqdn": fqdn, "name": name, "host_type": "host"},
            });
            self = self.host(inventory, &name, &json!({"fqdn": fqdn}).to_string(), facts);
        }
        self
    }
}

/// A question of every type.
fn questions() -> Value {
    let question = |variable: &str, kind: &str, more: Value| {
        let mut question = json!({
            "max": null, "min": null, "type": kind, "choices": "", "default": "", "required": false,
            "variable": variable, "new_question": true, "question_name": variable, "question_description": "",
        });
        question.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        question
    };
    json!([
        question("a_text", "text", json!({"required": true, "min": 2, "max": 8})),
        question("some_lines", "textarea", json!({"default": "one\ntwo"})),
        question("a_password", "password", json!({"min": 4, "max": 32, "default": "opensesame"})),
        question("a_number", "integer", json!({"min": 1, "max": 5, "default": 1})),
        question("a_measure", "float", json!({"min": 0.5, "max": 2.5, "default": 1.5})),
        question("one_of", "multiplechoice", json!({"choices": ["tiny", "big"], "default": "tiny"})),
        question("some_of", "multiselect", json!({"choices": "red\ngreen\nblue", "default": ["red"]})),
    ])
}
