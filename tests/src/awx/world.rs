//! What a server has before anybody asks it: users, inventories, templates, playbooks.

use std::collections::BTreeMap;

use serde_json::Value;

use super::clock::Pace;
use super::playbook::Playbook;
use super::template::Template;

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
    pub(super) version: String,
    pub(super) identity: Option<String>,
    pub(super) is_old: bool,
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

impl World {
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

    /// Adds a playbook: YAML with one play, whose tasks have a `name` and may have a `when`. The modules are `debug`,
    /// `fail`, `set_fact`, `set_stats` (which may have `no_log`) and `command: sleep N`, and three that Ansible does
    /// not have: `lab.machine` (`name`, `state: present | absent`, `strict`) makes and removes a machine, `lab.host`
    /// (`name`, `inventory`, `state`, `variables`, `facts`) a host of an inventory, and `lab.command` (`stdout`,
    /// `stderr`, `rc`) is a command that prints something and ends. Any other module ends the playbook before its first
    /// task. A `vm_name` among the stats counts as a machine that was made, and `removed` as one that was removed.
    /// `awx_job_id` is the job's number.
    ///
    /// # Panics
    ///
    /// If the text is no such playbook.
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

    /// The version that it says it is; `24.6.2.dev0` if nothing is said.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// It tells no more of jobs than an old one may: not what has launched them, and in lists not with what variables.
    #[must_use]
    pub fn old(mut self) -> Self {
        self.is_old = true;
        self
    }

    /// The `install_uuid` that tells it from others; each server has its own if nothing is said.
    #[must_use]
    pub fn identity(mut self, uuid: &str) -> Self {
        self.identity = Some(uuid.to_owned());
        self
    }

    /// Below which paths the API is.
    #[must_use]
    pub fn paths(mut self, paths: Paths) -> Self {
        self.paths = paths;
        self
    }
}
