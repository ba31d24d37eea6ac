//! What a server has before anybody asks it: users, inventories, templates, playbooks. The recorded world, and a builder.

use std::collections::BTreeMap;

use serde_json::Value;

use super::clock::Pace;
use super::playbook::Playbook;

/// The world that the exchanges were recorded in.
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

/// What a user may do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See it.
    Read,
    /// Use it: launch a template, name an inventory at a launch.
    Use,
}

/// Below which paths the API is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paths {
    /// `/api/v2/` alone: AWX and Tower.
    Classic,
    /// `/api/v2/`, and the same at `/api/controller/v2/`: AWX with its optional prefix, as it was recorded.
    Both,
    /// `/api/controller/v2/` alone, behind the gateway of Automation Platform 2.5 and later.
    Controller,
}

/// A world to start a server with.
#[derive(Debug, Clone)]
pub struct World {
    pub(super) users: Vec<User>,
    pub(super) inventories: Vec<Inventory>,
    pub(super) hosts: Vec<Host>,
    pub(super) templates: Vec<Template>,
    pub(super) playbooks: BTreeMap<String, Playbook>,
    pub(super) pace: Pace,
    pub(super) is_still: bool,
    pub(super) paths: Paths,
}

/// Somebody who may log in. The password is the name and `-password`.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) is_superuser: bool,
}

/// An inventory.
#[derive(Debug, Clone)]
pub(super) struct Inventory {
    pub(super) id: Option<u64>,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) variables: String,
    pub(super) roles: BTreeMap<String, Role>,
}

/// A host of an inventory.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) inventory: String,
    pub(super) name: String,
    pub(super) variables: String,
    pub(super) facts: Value,
}

/// A job template or a workflow template, before it is in a world.
#[derive(Debug, Clone)]
#[must_use]
pub struct Template {
    pub(super) id: Option<u64>,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) extra_vars: String,
    pub(super) asks_variables: bool,
    pub(super) asks_inventory: bool,
    pub(super) asks_labels: bool,
    pub(super) survey: Option<Value>,
    pub(super) allow_simultaneous: bool,
    pub(super) inventory: Option<String>,
    pub(super) roles: BTreeMap<String, Role>,
    pub(super) what: What,
}

/// What a template starts.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// A playbook.
    Job { playbook: String, use_fact_cache: bool, timeout: u32 },
    /// Other templates, in the order of a graph.
    Workflow(Vec<Node>),
}

/// A node of a workflow. The lists say which nodes follow.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) runs: String,
    pub(super) success: Vec<usize>,
    pub(super) failure: Vec<usize>,
    pub(super) always: Vec<usize>,
}

impl Template {
    fn new(name: &str, what: What) -> Self {
        let everybody = [("rigger", Role::Use), ("viewer", Role::Read)];
        Self {
            id: None,
            name: name.to_owned(),
            description: String::new(),
            extra_vars: String::new(),
            asks_variables: true,
            asks_inventory: matches!(what, What::Workflow(_)),
            asks_labels: matches!(what, What::Workflow(_)),
            survey: None,
            allow_simultaneous: true,
            inventory: Some("lab-inventory".to_owned()),
            roles: everybody.map(|(user, role)| (user.to_owned(), role)).into(),
            what,
        }
    }

    /// A job template of a playbook, which [`World::playbook`] adds. It takes variables and runs as often at once as
    /// anybody likes, on `lab-inventory`; `rigger` may launch it, and `viewer` may see it.
    pub fn job(name: &str, playbook: &str) -> Self {
        Self::new(name, What::Job { playbook: playbook.to_owned(), use_fact_cache: false, timeout: 0 })
    }

    /// A workflow template without nodes, otherwise as [`job`](Self::job); it takes an inventory and labels as well.
    pub fn workflow(name: &str) -> Self {
        Self::new(name, What::Workflow(Vec::new()))
    }

    /// A node that runs a template. Nodes count from 0, in the order they are added.
    pub fn node(mut self, runs: &str) -> Self {
        self.nodes().push(Node { runs: runs.to_owned(), ..Node::default() });
        self
    }

    /// What follows the node `after`, when it succeeded.
    pub fn on_success(mut self, after: usize, node: usize) -> Self {
        self.nodes()[after].success.push(node);
        self
    }

    /// What follows the node `after`, when it failed.
    pub fn on_failure(mut self, after: usize, node: usize) -> Self {
        self.nodes()[after].failure.push(node);
        self
    }

    /// What follows the node `after`, however it ended.
    pub fn always(mut self, after: usize, node: usize) -> Self {
        self.nodes()[after].always.push(node);
        self
    }

    fn nodes(&mut self) -> &mut Vec<Node> {
        match &mut self.what {
            What::Workflow(nodes) => nodes,
            What::Job { .. } => panic!("`{}` is no workflow", self.name),
        }
    }

    /// The variables that it has of its own, as typed: JSON, YAML or nothing.
    pub fn extra_vars(mut self, text: &str) -> Self {
        text.clone_into(&mut self.extra_vars);
        self
    }

    /// It does not ask for variables at launch.
    pub fn without_variables(mut self) -> Self {
        self.asks_variables = false;
        self
    }

    /// It asks for an inventory at launch, or does not.
    pub fn asks_inventory(mut self, asks: bool) -> Self {
        self.asks_inventory = asks;
        self
    }

    /// It asks for labels at launch, or does not.
    pub fn asks_labels(mut self, asks: bool) -> Self {
        self.asks_labels = asks;
        self
    }

    /// It has a survey: the list of questions under `spec`, as the API has it.
    pub fn survey(mut self, spec: Value) -> Self {
        self.survey = Some(serde_json::json!({"name": "", "spec": spec, "description": ""}));
        self
    }

    /// It has this inventory, or none.
    pub fn inventory(mut self, name: Option<&str>) -> Self {
        self.inventory = name.map(str::to_owned);
        self
    }

    /// A second launch waits until the first has ended.
    pub fn one_at_a_time(mut self) -> Self {
        self.allow_simultaneous = false;
        self
    }

    /// After so many seconds its job is ended. For job templates.
    ///
    /// # Panics
    ///
    /// If it is a workflow.
    pub fn timeout(mut self, seconds: u32) -> Self {
        match &mut self.what {
            What::Job { timeout, .. } => *timeout = seconds,
            What::Workflow(_) => panic!("`{}` is no job template", self.name),
        }
        self
    }

    /// Facts that its playbook sets are kept with the hosts. For job templates.
    ///
    /// # Panics
    ///
    /// If it is a workflow.
    pub fn caches_facts(mut self) -> Self {
        match &mut self.what {
            What::Job { use_fact_cache, .. } => *use_fact_cache = true,
            What::Workflow(_) => panic!("`{}` is no job template", self.name),
        }
        self
    }

    /// What a user may do with it; nothing takes the right away.
    pub fn role(mut self, user: &str, role: Option<Role>) -> Self {
        self.roles.remove(user);
        self.roles.extend(role.map(|role| (user.to_owned(), role)));
        self
    }
}

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

    /// Adds an inventory that `rigger` may use and `viewer` may see.
    #[must_use]
    pub fn inventory(mut self, name: &str, description: &str, variables: &str) -> Self {
        self.inventories.push(Inventory {
            id: None,
            name: name.to_owned(),
            description: description.to_owned(),
            variables: variables.to_owned(),
            roles: [("rigger".to_owned(), Role::Use), ("viewer".to_owned(), Role::Read)].into(),
        });
        self
    }

    /// Adds a host to an inventory: its variables as typed, and its cached facts, an object or null.
    #[must_use]
    pub fn host(mut self, inventory: &str, name: &str, variables: &str, facts: Value) -> Self {
        self.hosts.push(Host {
            inventory: inventory.to_owned(),
            name: name.to_owned(),
            variables: variables.to_owned(),
            facts,
        });
        self
    }

    /// Adds a template, or puts it in the place of one of the same name.
    #[must_use]
    pub fn template(mut self, mut template: Template) -> Self {
        match self.templates.iter_mut().find(|other| other.name == template.name) {
            Some(other) => {
                template.id = template.id.or(other.id);
                *other = template;
            }
            None => self.templates.push(template),
        }
        self
    }

    /// Takes a template away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.templates.retain(|template| template.name != name);
        self
    }

    /// Adds a playbook; the module's documentation says what may be in one.
    #[must_use]
    pub fn playbook(mut self, name: &str, text: &str) -> Self {
        self.playbooks.insert(name.to_owned(), Playbook::parse(text));
        self
    }

    /// Adds a user, who may do nothing yet.
    #[must_use]
    pub fn user(mut self, name: &str) -> Self {
        self.users.push(User { name: name.to_owned(), is_superuser: false });
        self
    }

    /// Every template may run as often at once as anybody likes.
    #[must_use]
    pub fn all_at_once(mut self) -> Self {
        for template in &mut self.templates {
            template.allow_simultaneous = true;
        }
        self
    }

    /// How fast things happen.
    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Time stands still, and only [`Awx::advance`](super::Awx::advance) moves it.
    #[must_use]
    pub fn still(mut self) -> Self {
        self.is_still = true;
        self
    }

    /// Below which paths the API is.
    #[must_use]
    pub fn paths(mut self, paths: Paths) -> Self {
        self.paths = paths;
        self
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
