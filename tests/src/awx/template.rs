//! Job templates and workflow templates, as tests describe them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::world::Role;

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
    pub(super) slices: usize,
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
    pub(super) fn new(name: &str, what: What) -> Self {
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
            slices: 1,
            inventory: Some("lab-inventory".to_owned()),
            roles: everybody.map(|(user, role)| (user.to_owned(), role)).into(),
            what,
        }
    }

    /// A job template of a playbook, which [`World::playbook`](super::World::playbook) adds. It takes variables and runs as often at once as
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

    /// Its jobs are cut into so many, so that a launch of it makes a workflow job. For job templates.
    ///
    /// # Panics
    ///
    /// If it is a workflow.
    pub fn slices(mut self, slices: usize) -> Self {
        assert!(matches!(self.what, What::Job { .. }), "`{}` is no job template", self.name);
        self.slices = slices;
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
