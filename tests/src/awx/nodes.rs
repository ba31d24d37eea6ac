//! Workflow jobs: which node comes next, what it is given, and how the whole ends.

use jiff::Timestamp;

use super::clock::signed;
use super::launch;
use super::records::{Job, Node, Part, Status};
use super::run::Order;
use super::store::{Store, next};
use super::template::{Node as Slice, What};
use super::vars::Vars;

/// What AWX says where a node failed and no path leads on from there.
const UNHANDLED: &str = "No error handling paths found, marking workflow as failed";

/// Whether and how a node is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Not,
    Ruled,
    Well,
    Badly,
}

impl Store {
    /// The nodes of a new workflow job, which are a copy of its template's.
    pub(super) fn add_nodes(&mut self, job: u64, template: u64, at: Timestamp) -> Vec<u64> {
        let blueprint = &self.templates[&template];
        let slices;
        let (nodes, runs) = match &blueprint.template.what {
            What::Workflow(nodes) => (nodes, blueprint.runs.clone()),
            What::Job { .. } => {
                let count = blueprint.template.slices;
                slices = vec![Slice::default(); count];
                (&slices, vec![template; count])
            }
        };
        let first = next(&self.nodes);
        let ids = |list: &[usize]| list.iter().map(|index| first + u64::try_from(*index).unwrap()).collect();
        let added: Vec<Node> = nodes
            .iter()
            .zip(&runs)
            .zip(0_u64..)
            .map(|((node, runs), index)| Node {
                workflow_job: job,
                template: *runs,
                job: None,
                do_not_run: false,
                success: ids(&node.success),
                failure: ids(&node.failure),
                always: ids(&node.always),
                ancestors: Vars::new(),
                identifier: identifier(template, index),
                created: at,
                modified: at,
            })
            .collect();
        let ids = (first..).take(added.len()).collect();
        self.nodes.extend((first..).zip(added));
        ids
    }

    pub(super) fn start_workflow(&mut self, id: u64, at: Timestamp) {
        let pace = self.pace;
        let job = self.job(id);
        job.started = Some(at);
        job.modified = at;
        job.status = Status::Running;
        self.plan(id, at + signed(pace.queue));
    }

    /// Rules out what cannot come any more, starts what comes next, and ends the workflow job when nothing does.
    pub(super) fn move_workflow(&mut self, id: u64, at: Timestamp) {
        let Part::Workflow { nodes } = &self.jobs[&id].part else { return };
        let nodes = nodes.clone();
        if self.jobs[&id].is_stopping {
            for node in nodes.iter().filter(|node| self.nodes[node].job.is_none()).copied().collect::<Vec<_>>() {
                self.node(node).do_not_run = true;
            }
            if nodes.iter().all(|node| self.done(*node) != Done::Not) {
                self.end(id, at, Status::Canceled);
            }
            return;
        }
        // Ids ascend along the list, but edges may lead back in it.
        while let Some(node) = nodes.iter().copied().find(|node| self.is_ruled_out(*node, &nodes)) {
            self.node(node).do_not_run = true;
        }
        for node in nodes.iter().copied().filter(|node| self.is_ready(*node, &nodes)).collect::<Vec<_>>() {
            self.start_node(node, &nodes, at);
        }
        if nodes.iter().any(|node| self.done(*node) == Done::Not) {
            return;
        }
        let leads_on = |node: &Node| !node.failure.is_empty() || !node.always.is_empty();
        let is_unhandled = |node: &&u64| self.done(**node) == Done::Badly && !leads_on(&self.nodes[*node]);
        if nodes.iter().find(is_unhandled).is_some() {
            self.job(id).explanation = UNHANDLED.to_owned();
            return self.end(id, at, Status::Failed);
        }
        self.end(id, at, Status::Successful);
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    fn done(&self, node: u64) -> Done {
        let node = &self.nodes[&node];
        let Some(job) = node.job else { return if node.do_not_run { Done::Ruled } else { Done::Not } };
        match self.jobs[&job].status {
            Status::Successful => Done::Well,
            status if status.has_failed() => Done::Badly,
            _ => Done::Not,
        }
    }

    fn parents(&self, node: u64, of: &[u64]) -> Vec<u64> {
        let leads_here = |other: &&u64| {
            let other = &self.nodes[*other];
            [&other.success, &other.failure, &other.always].iter().any(|list| list.contains(&node))
        };
        of.iter().filter(leads_here).copied().collect()
    }

    /// Whether a parent that has ended leads to the node.
    fn is_called_by(&self, node: u64, parent: u64) -> bool {
        let found = &self.nodes[&parent];
        match self.done(parent) {
            Done::Well => found.success.contains(&node) || found.always.contains(&node),
            Done::Badly => found.failure.contains(&node) || found.always.contains(&node),
            Done::Ruled | Done::Not => false,
        }
    }

    fn is_open(&self, node: u64) -> bool {
        self.nodes[&node].job.is_none() && !self.nodes[&node].do_not_run
    }

    fn is_ruled_out(&self, node: u64, all: &[u64]) -> bool {
        let parents = self.parents(node, all);
        let are_over = parents.iter().all(|parent| self.done(*parent) != Done::Not);
        self.is_open(node)
            && !parents.is_empty()
            && are_over
            && !parents.iter().any(|parent| self.is_called_by(node, *parent))
    }

    fn is_ready(&self, node: u64, all: &[u64]) -> bool {
        let parents = self.parents(node, all);
        let are_over = parents.iter().all(|parent| self.done(*parent) != Done::Not);
        let is_called = parents.is_empty() || parents.iter().any(|parent| self.is_called_by(node, *parent));
        self.is_open(node) && are_over && is_called
    }

    fn start_node(&mut self, id: u64, all: &[u64], at: Timestamp) {
        let mut ancestors = Vars::new();
        for parent in self.parents(id, all) {
            ancestors.extend(self.nodes[&parent].ancestors.clone());
            if let Some(job) = self.nodes[&parent].job {
                ancestors.extend(self.artifacts(&self.jobs[&job]));
            }
        }
        let node = &self.nodes[&id];
        let parent = &self.jobs[&node.workflow_job];
        let blueprint = &self.templates[&node.template];
        // The workflow's own variables win over what earlier nodes left.
        let mut given = ancestors.clone();
        given.extend(parent.vars.clone());
        let (vars, secrets) = launch::merged(&blueprint.template, given);
        let asked = parent.inventory.filter(|_| blueprint.template.asks_inventory);
        let order = Order {
            template: node.template,
            user: parent.user,
            vars,
            secrets: parent.secrets.iter().cloned().chain(secrets).collect(),
            inventory: asked.or(blueprint.inventory),
            labels: Vec::new(),
            node: Some(id),
        };
        let job = self.add_job(order, at);
        let node = self.node(id);
        node.job = Some(job);
        node.modified = at;
        node.ancestors = ancestors;
    }

    /// What later nodes get of a job: its artifacts, or those of all that a workflow job started.
    fn artifacts(&self, job: &Job) -> Vars {
        match &job.part {
            Part::Play(play) => play.artifacts.clone(),
            Part::Workflow { nodes } => {
                let mut jobs: Vec<&Job> =
                    nodes.iter().filter_map(|node| self.nodes[node].job).map(|job| &self.jobs[&job]).collect();
                jobs.sort_by_key(|job| job.finished);
                jobs.into_iter().flat_map(|job| self.artifacts(job)).collect()
            }
        }
    }
}

/// The same for every job of a template, as AWX has it.
fn identifier(template: u64, index: u64) -> String {
    format!("{:08x}-{template:04x}-4000-8000-{index:012x}", template * 0x1000 + index)
}
