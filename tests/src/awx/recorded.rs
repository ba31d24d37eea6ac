//! The world that the exchanges were recorded in.

use std::collections::BTreeMap;

use serde_json::Value;

use super::clock::Pace;
use super::template::{Node, Template, What};
use super::world::{Paths, User, World};

/// The version that it said it was.
const VERSION: &str = "24.6.2.dev0";

/// Its objects, as data.
const RECORDED: &str = include_str!("../../labs/awx/world.json");

/// What was made in that world, in this order, and the ids it got. What is missing was deleted again.
const TEMPLATE_IDS: [(&str, u64); 30] = [
    ("jt-deploy", 9),
    ("jt-finalize", 10),
    ("jt-fail", 11),
    ("jt-sleep", 12),
    ("jt-remove", 13),
    ("jt-extend", 14),
    ("jt-lists", 15),
    ("jt-facts", 16),
    ("jt-broken", 17),
    ("jt-prompt", 18),
    ("jt-noprompt", 19),
    ("jt-noinventory", 20),
    ("jt-survey", 21),
    ("deploy-vm", 22),
    ("deploy-fail", 23),
    ("deploy-error", 24),
    ("remove-vm", 25),
    ("extend-vm", 26),
    ("list-templates", 27),
    ("list-flavors", 28),
    ("slow", 29),
    ("nested", 30),
    ("with-survey", 31),
    ("no-prompts", 32),
    ("no-inventory", 34),
    ("yaml-vars", 35),
    ("empty", 36),
    ("hidden-wf", 37),
    ("wide", 38),
    ("prompt-node", 39),
];

/// The ids of the inventories, which are none of the templates'.
const INVENTORY_IDS: [(&str, u64); 4] =
    [("lab-inventory", 2), ("lab-inventory-2", 3), ("rigger-hosts", 4), ("hidden-inventory", 5)];

/// The order in which the hosts were made; the first of them has the id 2.
const HOSTS: [&str; 4] = ["rig-a", "rig-b", "rig-c", "localhost"];

impl World {
    /// The world that the exchanges were recorded in: users `admin`, `rigger`, `viewer` and `nobody`, and everything in
    /// `tests/labs/awx/world.json`, with the ids that it had.
    pub fn recorded() -> Self {
        let read: Value = serde_json::from_str(RECORDED).unwrap();
        let user = |name: &str| User { name: name.to_owned(), is_superuser: name == "admin" };
        let mut world = Self {
            users: ["admin", "rigger", "viewer", "nobody"].map(user).into(),
            inventories: Vec::new(),
            hosts: Vec::new(),
            templates: Vec::new(),
            playbooks: BTreeMap::new(),
            pace: Pace::fast(),
            is_still: false,
            paths: Paths::Both,
            version: VERSION.to_owned(),
            identity: None,
            is_old: false,
        };
        for (name, id) in INVENTORY_IDS {
            let inventory = named(&read["inventories"], name);
            world = world.inventory(name, text(inventory, "description"), text(inventory, "variables"));
            let added = world.inventories.last_mut().unwrap();
            added.id = Some(id);
            if name == "hidden-inventory" {
                added.roles.clear();
            }
        }
        for host in HOSTS {
            let inventories = read["inventories"].as_array().unwrap();
            let has =
                |inventory: &&Value| inventory["hosts"].as_array().unwrap().iter().any(|found| found["name"] == *host);
            let inventory = inventories.iter().find(has).unwrap();
            let variables = text(named(&inventory["hosts"], host), "variables");
            world = world.host(text(inventory, "name"), host, variables, Value::Null);
        }
        for (name, id) in TEMPLATE_IDS {
            let mut template = recorded_template(&read, name);
            template.id = Some(id);
            world = world.template(template);
        }
        for (name, playbook) in read["playbooks"].as_object().unwrap() {
            world = world.playbook(name, playbook.as_str().unwrap());
        }
        world
    }
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("no `{name}`"))
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

fn recorded_template(read: &Value, name: &str) -> Template {
    let is_job = name.starts_with("jt-");
    let found = named(&read[if is_job { "job_templates" } else { "workflow_job_templates" }], name);
    let numbers = |node: &Value, key: &str| -> Vec<usize> {
        let list = node[key].as_array().into_iter().flatten();
        list.map(|number| usize::try_from(number.as_u64().unwrap()).unwrap()).collect()
    };
    let what = if is_job {
        let use_fact_cache = found["use_fact_cache"] == true;
        What::Job { playbook: text(found, "playbook").to_owned(), use_fact_cache, timeout: 0 }
    } else {
        let nodes = found["nodes"].as_array().unwrap().iter().map(|node| Node {
            runs: text(node, "runs").to_owned(),
            success: numbers(node, "success"),
            failure: numbers(node, "failure"),
            always: numbers(node, "always"),
        });
        What::Workflow(nodes.collect())
    };
    let mut template = Template::new(name, what);
    text(found, "description").clone_into(&mut template.description);
    text(found, "extra_vars").clone_into(&mut template.extra_vars);
    template.asks_variables = found["ask_variables_on_launch"] == true;
    template.asks_inventory = found["ask_inventory_on_launch"] == true;
    template.asks_labels = found["ask_labels_on_launch"] == true;
    template.survey = found.get("survey").filter(|_| found["survey_enabled"] == true).cloned();
    template.allow_simultaneous = found["allow_simultaneous"] == true;
    template.inventory = found["inventory"].as_str().map(str::to_owned);
    if matches!(name, "hidden-wf" | "prompt-node" | "wide") {
        template.roles.remove("viewer");
    }
    template
}
