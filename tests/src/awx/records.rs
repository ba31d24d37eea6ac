//! The things that a server has, one record each.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::events::Event;
use super::playbook::Outcome;
use super::survey::ENCRYPTED;
use super::template::{Template, What};
use super::vars::Vars;
use super::world::Role;

pub(super) struct User {
    pub(super) name: String,
    pub(super) is_superuser: bool,
    pub(super) last_login: Option<Timestamp>,
}

pub(super) struct Token {
    pub(super) user: u64,
    pub(super) value: String,
    pub(super) description: String,
    pub(super) may_write: bool,
    pub(super) created: Timestamp,
}

/// A login by form.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) user: u64,
}

pub(super) struct Inventory {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) variables: String,
    pub(super) roles: BTreeMap<String, Role>,
    /// How many hosts it has, and on how many of these the last job failed.
    pub(super) hosts: usize,
    pub(super) failing: usize,
}

pub(super) struct Host {
    pub(super) inventory: u64,
    pub(super) name: String,
    pub(super) variables: String,
    pub(super) facts: Vars,
    pub(super) facts_modified: Option<Timestamp>,
    /// The last job on it and the number of that job's summary of it, and whether it failed there.
    pub(super) last: Option<(u64, u64)>,
    pub(super) is_failing: bool,
    pub(super) created: Timestamp,
}

/// A template in a world: names of others are ids here.
pub(super) struct Blueprint {
    pub(super) template: Template,
    pub(super) inventory: Option<u64>,
    /// What the nodes of a workflow run.
    pub(super) runs: Vec<u64>,
}

pub(super) struct Label {
    pub(super) name: String,
    pub(super) organization: u64,
    pub(super) user: u64,
    pub(super) created: Timestamp,
}

/// The states of jobs and of workflow jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    Waiting,
    Running,
    Successful,
    Failed,
    Error,
    Canceled,
}

/// A job or a workflow job.
pub(super) struct Job {
    pub(super) template: u64,
    pub(super) user: u64,
    pub(super) status: Status,
    pub(super) vars: Vars,
    /// Variables that are answers to questions for passwords: shown to nobody.
    pub(super) secrets: Vec<String>,
    pub(super) inventory: Option<u64>,
    pub(super) labels: Vec<u64>,
    pub(super) created: Timestamp,
    pub(super) modified: Timestamp,
    pub(super) started: Option<Timestamp>,
    pub(super) finished: Option<Timestamp>,
    pub(super) canceled_on: Option<Timestamp>,
    pub(super) explanation: String,
    pub(super) traceback: String,
    /// The node that started it.
    pub(super) node: Option<u64>,
    /// Whether it was told to stop.
    pub(super) is_stopping: bool,
    pub(super) part: Part,
}

/// What is of one kind of job alone.
pub(super) enum Part {
    Workflow { nodes: Vec<u64> },
    Play(Box<Play>),
}

/// A run of a playbook.
#[derive(Default)]
pub(super) struct Play {
    pub(super) timeout: u32,
    /// What will have come of it, from when it runs on.
    pub(super) outcome: Outcome,
    /// Whether it is known where it runs.
    pub(super) is_placed: bool,
    /// Whether Ansible itself runs, or ran.
    pub(super) has_begun: bool,
    /// How many of its effects on the world have happened.
    pub(super) acted: usize,
    pub(super) artifacts: Vars,
    pub(super) events: Vec<Event>,
    /// Whether all events are in the database.
    pub(super) events_are_in: bool,
    /// The hosts it ran on, with the number of the summary.
    pub(super) hosts: Vec<(u64, u64)>,
}

/// A node of a workflow job.
pub(super) struct Node {
    pub(super) workflow_job: u64,
    pub(super) template: u64,
    pub(super) job: Option<u64>,
    pub(super) do_not_run: bool,
    pub(super) success: Vec<u64>,
    pub(super) failure: Vec<u64>,
    pub(super) always: Vec<u64>,
    /// What came to it from the nodes before it.
    pub(super) ancestors: Vars,
    pub(super) identifier: String,
    pub(super) created: Timestamp,
    pub(super) modified: Timestamp,
}

/// A machine that a job made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The job that made it.
    pub made_by: u64,
    /// The job that removed it, once one did.
    pub removed_by: Option<u64>,
}

impl Status {
    /// As the API writes it.
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Successful => "successful",
            Self::Failed => "failed",
            Self::Error => "error",
            Self::Canceled => "canceled",
        }
    }

    /// Whether it is one of the last.
    pub(super) fn is_end(self) -> bool {
        !matches!(self, Self::Pending | Self::Waiting | Self::Running)
    }

    /// What `failed` says.
    pub(super) fn has_failed(self) -> bool {
        matches!(self, Self::Failed | Self::Error | Self::Canceled)
    }
}

impl Job {
    /// The play of a job that is one.
    pub(super) fn play(&self) -> Option<&Play> {
        match &self.part {
            Part::Play(play) => Some(play),
            Part::Workflow { .. } => None,
        }
    }

    pub(super) fn play_mut(&mut self) -> Option<&mut Play> {
        match &mut self.part {
            Part::Play(play) => Some(play),
            Part::Workflow { .. } => None,
        }
    }

    pub(super) fn is_workflow(&self) -> bool {
        matches!(self.part, Part::Workflow { .. })
    }

    /// The variables as anybody gets to see them.
    pub(super) fn shown_vars(&self) -> Vars {
        let shown = self.vars.iter().map(|(name, value)| {
            let is_secret = self.secrets.contains(name);
            (name.clone(), if is_secret { Value::from(ENCRYPTED) } else { value.clone() })
        });
        shown.collect()
    }
}

impl Blueprint {
    pub(super) fn is_workflow(&self) -> bool {
        matches!(self.template.what, What::Workflow(_))
    }
}
