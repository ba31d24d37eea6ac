//! The life of a job: pending, waiting, running, an end, and its events a little later.
//!
//! Nothing runs beside the requests. Whatever is due by the world's clock happens, in its order, before a request is
//! answered, so that a world can be stopped and moved on step by step.

use jiff::Timestamp;

use super::clock::signed;
use super::events;
use super::playbook::{Change, Outcome};
use super::records::{Job, Machine, Part, Play, Status};
use super::store::Store;
use super::template::What;
use super::vars::Vars;

/// What AWX says of a job that a timeout ended.
const TIMEOUT: &str = "Job terminated due to timeout";

/// What it says where the worker that ran the job was told to shut down.
const SHUTDOWN: &str = "The running ansible process received a shutdown signal.";

/// What it keeps where it broke itself, since the project's folder is gone.
const TRACEBACK: &str = include_str!("../../labs/awx/traceback.txt");

/// What a new job is made of.
pub(super) struct Order {
    pub(super) template: u64,
    pub(super) user: u64,
    pub(super) vars: Vars,
    pub(super) secrets: Vec<String>,
    pub(super) inventory: Option<u64>,
    pub(super) labels: Vec<u64>,
    pub(super) node: Option<u64>,
}

impl Store {
    /// Lets everything happen that is due.
    pub(super) fn settle(&mut self) {
        let now = self.clock.now();
        while let Some((at, job)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
            self.agenda.remove(&(at, job));
            self.step(job, at);
        }
    }

    /// Something happens with a job at a time.
    pub(super) fn plan(&mut self, job: u64, at: Timestamp) {
        self.agenda.insert((at, job));
    }

    /// A new job, which is pending.
    pub(super) fn add_job(&mut self, order: Order, at: Timestamp) -> u64 {
        let id = super::store::next(&self.jobs);
        let template = &self.templates[&order.template].template;
        let (timeout, is_workflow) = match &template.what {
            // One that is a slice is not cut again.
            What::Job { timeout, .. } => (*timeout, template.slices > 1 && order.node.is_none()),
            What::Workflow(_) => (0, true),
        };
        let part = if is_workflow {
            Part::Workflow { nodes: self.add_nodes(id, order.template, at) }
        } else {
            Part::Play(Box::new(Play { timeout, ..Play::default() }))
        };
        let job = Job {
            template: order.template,
            user: order.user,
            status: Status::Pending,
            vars: order.vars,
            secrets: order.secrets,
            inventory: order.inventory,
            labels: order.labels,
            created: at,
            modified: at,
            started: None,
            finished: None,
            canceled_on: None,
            explanation: String::new(),
            traceback: String::new(),
            node: order.node,
            is_stopping: false,
            part,
        };
        self.jobs.insert(id, job);
        self.plan(id, at + signed(self.pace.queue));
        id
    }

    fn step(&mut self, id: u64, at: Timestamp) {
        let job = &self.jobs[&id];
        if job.is_stopping && !job.status.is_end() && !job.is_workflow() {
            return self.interrupt(id, at, Status::Canceled);
        }
        match job.status {
            Status::Pending if job.is_stopping => self.end(id, at, Status::Canceled),
            Status::Pending if self.is_blocked(id) => drop(self.parked.insert(id)),
            Status::Pending if job.is_workflow() => self.start_workflow(id, at),
            Status::Pending => {
                let job = self.job(id);
                job.status = Status::Waiting;
                job.modified = at;
                self.plan(id, at + signed(self.pace.queue / 2));
            }
            Status::Waiting if !self.play(id).is_placed => {
                self.job(id).play_mut().unwrap().is_placed = true;
                self.plan(id, at + signed(self.pace.queue / 2));
            }
            Status::Waiting => self.start_play(id, at),
            Status::Running if job.is_workflow() => self.move_workflow(id, at),
            Status::Running => self.move_play(id, at),
            _ => {
                if let Some(play) = self.job(id).play_mut() {
                    play.events_are_in = true;
                }
            }
        }
    }

    pub(super) fn job(&mut self, id: u64) -> &mut Job {
        self.jobs.get_mut(&id).unwrap()
    }

    /// Whether another job of a template that allows one at a time comes first.
    fn is_blocked(&self, id: u64) -> bool {
        let template = self.jobs[&id].template;
        if self.templates[&template].template.allow_simultaneous {
            return false;
        }
        self.jobs.iter().any(|(other, job)| {
            let comes_first = !matches!(job.status, Status::Pending) || *other < id;
            *other != id && job.template == template && !job.status.is_end() && comes_first
        })
    }

    fn start_play(&mut self, id: u64, at: Timestamp) {
        let delay = if self.project_is_gone { self.pace.queue } else { self.pace.run / 2 };
        let job = self.job(id);
        job.status = Status::Running;
        job.started = Some(at);
        self.plan(id, at + signed(delay));
    }

    /// Ansible begins, goes on to the next change to the world, or ends.
    fn move_play(&mut self, id: u64, at: Timestamp) {
        if self.project_is_gone && !self.play(id).has_begun {
            self.job(id).traceback = TRACEBACK.to_owned();
            return self.end(id, at, Status::Error);
        }
        if !self.play(id).has_begun {
            self.begin(id);
        }
        let started = self.jobs[&id].started.unwrap_or(at);
        let play = self.play(id);
        let limit = (play.timeout > 0).then(|| started + signed(self.pace.second * play.timeout));
        if limit.is_some_and(|limit| limit <= at) {
            self.job(id).explanation = TIMEOUT.to_owned();
            return self.interrupt(id, at, Status::Failed);
        }
        let pace = self.pace;
        let when = |slept: f64| started + signed(pace.run / 2 + pace.second.mul_f64(slept));
        while let Some((slept, change)) = self.play(id).outcome.changes.get(self.play(id).acted).cloned() {
            if when(slept) > at {
                return self.plan(id, limit.map_or(when(slept), |limit| limit.min(when(slept))));
            }
            self.change(id, change);
            self.job(id).play_mut().unwrap().acted += 1;
        }
        let play = self.play(id);
        let end = when(play.outcome.slept) + signed(pace.run / 2);
        if end > at {
            return self.plan(id, limit.map_or(end, |limit| limit.min(end)));
        }
        let status = if play.outcome.has_failed() { Status::Failed } else { Status::Successful };
        let artifacts = play.outcome.artifacts.clone();
        self.job(id).play_mut().unwrap().artifacts = artifacts;
        self.keep_facts(id, at);
        self.end(id, at, status);
    }

    fn play(&self, id: u64) -> &Play {
        self.jobs[&id].play().unwrap()
    }

    /// What the playbook will do is known from here on.
    fn begin(&mut self, id: u64) {
        let job = &self.jobs[&id];
        let What::Job { playbook: name, .. } = &self.templates[&job.template].template.what else { return };
        let playbook = &self.playbooks[name];
        let all = job.inventory.map(|inventory| self.hosts_of(inventory)).unwrap_or_default();
        let hosts: Vec<u64> = match playbook.hosts.as_str() {
            "all" => all,
            one => all.into_iter().filter(|host| self.hosts[host].name == one).collect(),
        };
        // A playbook for localhost runs without a host of that name in the inventory as well.
        let names: Vec<String> = match playbook.hosts.as_str() {
            "all" => hosts.iter().map(|host| self.hosts[host].name.clone()).collect(),
            one => vec![one.to_owned()],
        };
        let mut vars = job.vars.clone();
        vars.insert("awx_job_id".to_owned(), id.into());
        let alive =
            |name: &str| self.machines.iter().any(|machine| machine.name == name && machine.removed_by.is_none());
        let path = format!("/var/lib/awx/awx_{id}_{}/project/{name}", events::scratch(id));
        let outcome = playbook.run(&vars, &names, &path, alive);
        let pace = self.pace;
        let begun = job.started.unwrap_or(job.created) + signed(pace.run / 2);
        let mut events = events::of(&outcome, playbook, name, &path);
        events::number(&mut events, &mut self.made.events);
        for event in &mut events {
            event.created = begun + signed(pace.second.mul_f64(event.after));
        }
        let hosts = hosts.into_iter().map(|host| {
            self.made.summaries += 1;
            (host, self.made.summaries)
        });
        let hosts = hosts.collect();
        let play = self.job(id).play_mut().unwrap();
        play.has_begun = true;
        play.outcome = outcome;
        play.events = events;
        play.hosts = hosts;
    }

    fn change(&mut self, job: u64, change: Change) {
        match change {
            Change::Make(name) => {
                let is_there = self.machines.iter().any(|machine| machine.name == name && machine.removed_by.is_none());
                if !is_there {
                    self.machines.push(Machine { name, made_by: job, removed_by: None });
                }
            }
            Change::Remove(name) => {
                let found =
                    self.machines.iter_mut().find(|machine| machine.name == name && machine.removed_by.is_none());
                if let Some(machine) = found {
                    machine.removed_by = Some(job);
                }
            }
            Change::Add { inventory, name, variables, facts } => {
                let inventory = self.inventory_named(&inventory);
                self.add_host(inventory, &name, &variables, facts);
            }
            Change::Drop { inventory, name } => {
                let inventory = self.inventory_named(&inventory);
                self.drop_host(inventory, &name);
            }
        }
    }

    /// What `set_fact` left goes to the hosts, where the template says so; and they know their last job.
    fn keep_facts(&mut self, id: u64, at: Timestamp) {
        let job = &self.jobs[&id];
        let caches = matches!(self.templates[&job.template].template.what, What::Job { use_fact_cache: true, .. });
        let Some(play) = job.play() else { return };
        let facts = play.outcome.facts.clone();
        let failures = play.outcome.has_failed();
        for (host, summary) in play.hosts.clone() {
            self.note_run(host, (id, summary), failures);
            let Some(host) = self.hosts.get_mut(&host) else { continue };
            if let Some(facts) = facts.get(&host.name).filter(|_| caches) {
                host.facts.extend(facts.clone());
                host.facts_modified = Some(at);
            }
        }
    }

    /// A job ends: who waited for it goes on.
    pub(super) fn end(&mut self, id: u64, at: Timestamp, status: Status) {
        let pace = self.pace;
        let job = self.job(id);
        job.status = status;
        job.finished = Some(at);
        let node = job.node;
        if let Some(play) = job.play_mut() {
            // What AWX has to say itself is in no event.
            play.events_are_in = play.events.is_empty();
        }
        self.plan(id, at + signed(pace.events));
        for parked in std::mem::take(&mut self.parked) {
            self.plan(parked, at);
        }
        if let Some(node) = node {
            let workflow = self.nodes[&node].workflow_job;
            self.plan(workflow, at + signed(pace.queue));
        }
    }

    /// A job is ended from outside: it never gets to its later events.
    fn interrupt(&mut self, id: u64, at: Timestamp, status: Status) {
        if let Some(play) = self.job(id).play_mut() {
            play.events.retain(|event| event.created <= at && !event.is_last());
            play.outcome = Outcome::default();
        }
        self.end(id, at, status);
    }

    /// Tells a job to stop, and with a workflow job all that it started.
    pub(super) fn cancel(&mut self, id: u64) {
        let now = self.clock.now();
        let delay = signed(self.pace.cancel);
        let job = self.job(id);
        if job.is_stopping || job.status.is_end() {
            return;
        }
        job.is_stopping = true;
        job.canceled_on = Some(now);
        let is_pending = job.status == Status::Pending;
        let nodes = match &job.part {
            Part::Workflow { nodes } => nodes.clone(),
            Part::Play(_) => Vec::new(),
        };
        // What else was planned for it must not come first.
        self.agenda.retain(|(_, other)| *other != id);
        self.parked.remove(&id);
        self.plan(id, if is_pending { now } else { now + delay });
        for node in nodes {
            if let Some(job) = self.nodes[&node].job {
                self.cancel(job);
            }
        }
    }

    /// The worker is told to shut down: every playbook that runs ends as failed.
    pub(super) fn kill_worker(&mut self) {
        let now = self.clock.now();
        let is_running = |job: &Job| job.status == Status::Running && !job.is_workflow();
        let running: Vec<u64> = self.jobs.iter().filter(|(_, job)| is_running(job)).map(|(id, _)| *id).collect();
        for id in running {
            self.agenda.retain(|(_, other)| *other != id);
            self.job(id).explanation = SHUTDOWN.to_owned();
            self.interrupt(id, now, Status::Failed);
        }
    }
}
