//! Everything a server has at a moment.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::clock::{Clock, Pace};
use super::playbook::Playbook;
use super::records::{Blueprint, Host, Inventory, Job, Label, Machine, Node, Session, Token, User};
use super::template::{Template, What};
use super::vars::Vars;
use super::world::{Paths, Role, World};

/// The one organization, `Lab`; `Default` is what a new AWX has.
pub(super) const ORGANIZATION: u64 = 2;

/// The one project.
pub(super) const PROJECT: u64 = 8;

/// When a world that stands still begins.
const STILL: &str = "2026-11-21T00:30:00Z";

/// The state of a server.
pub(super) struct Store {
    pub(super) clock: Clock,
    pub(super) pace: Pace,
    pub(super) paths: Paths,
    /// What tells this AWX from another.
    pub(super) install_uuid: String,
    pub(super) version: String,
    /// Whether it tells no more than an old one.
    pub(super) is_old: bool,
    /// When the world was made.
    pub(super) created: Timestamp,
    pub(super) users: BTreeMap<u64, User>,
    pub(super) tokens: BTreeMap<u64, Token>,
    pub(super) sessions: Vec<Session>,
    pub(super) inventories: BTreeMap<u64, Inventory>,
    pub(super) hosts: BTreeMap<u64, Host>,
    pub(super) templates: BTreeMap<u64, Blueprint>,
    pub(super) playbooks: BTreeMap<String, Playbook>,
    pub(super) labels: BTreeMap<u64, Label>,
    pub(super) jobs: BTreeMap<u64, Job>,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) machines: Vec<Machine>,
    /// Whether the folder of the project is gone, so that AWX itself fails at every job.
    pub(super) project_is_gone: bool,
    /// When something happens with which job.
    pub(super) agenda: BTreeSet<(Timestamp, u64)>,
    /// Jobs that wait for another of their template to end.
    pub(super) parked: BTreeSet<u64>,
    pub(super) made: Made,
}

/// How many there have been of what can be deleted again, or has no table of its own.
#[derive(Default)]
pub(super) struct Made {
    pub(super) tokens: u64,
    pub(super) hosts: u64,
    pub(super) events: u64,
    pub(super) summaries: u64,
}

fn random_identity() -> String {
    format!("76211e17-1dc4-4bf1-9199-{:012x}", fastrand::u64(..1 << 48))
}

/// Puts facts over others, key by key, also in mappings of mappings.
fn merge(facts: &mut Vars, over: Vars) {
    for (key, value) in over {
        match (facts.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => drop(facts.insert(key, value)),
        }
    }
}

/// The id after the last of a table.
pub(super) fn next<T>(table: &BTreeMap<u64, T>) -> u64 {
    table.last_key_value().map_or(1, |(last, _)| last + 1)
}

/// What an id looks like that nobody guesses.
pub(super) fn secret(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(length).collect()
}

impl Store {
    pub(super) fn new(world: World) -> Self {
        let clock =
            if world.is_still { Clock::Still(STILL.parse().unwrap()) } else { Clock::Real(jiff::SignedDuration::ZERO) };
        let now = clock.now();
        let users = world.users.into_iter().map(|user| User {
            name: user.name,
            is_superuser: user.is_superuser,
            last_login: None,
        });
        let mut store = Self {
            clock,
            pace: world.pace,
            paths: world.paths,
            version: world.version,
            is_old: world.is_old,
            install_uuid: world.identity.unwrap_or_else(random_identity),
            created: now,
            users: (1..).zip(users).collect(),
            tokens: BTreeMap::new(),
            sessions: Vec::new(),
            inventories: BTreeMap::new(),
            hosts: BTreeMap::new(),
            templates: BTreeMap::new(),
            playbooks: world.playbooks,
            labels: BTreeMap::new(),
            jobs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            machines: Vec::new(),
            project_is_gone: false,
            agenda: BTreeSet::new(),
            parked: BTreeSet::new(),
            made: Made { hosts: 1, ..Made::default() },
        };
        for added in world.inventories {
            let id = added.id.unwrap_or_else(|| next(&store.inventories).max(6));
            let inventory = Inventory {
                name: added.name,
                description: added.description,
                variables: added.variables,
                roles: added.roles,
                hosts: 0,
                failing: 0,
            };
            store.inventories.insert(id, inventory);
        }
        for host in world.hosts {
            let inventory = store.inventory_named(&host.inventory);
            let facts = host.facts.as_object().cloned().unwrap_or_default();
            store.add_host(inventory, &host.name, &host.variables, facts);
        }
        store.add_templates(world.templates);
        store
    }

    fn add_templates(&mut self, mut templates: Vec<Template>) {
        let mut free = templates.iter().filter_map(|template| template.id).max().unwrap_or(PROJECT) + 1;
        for template in &mut templates {
            template.id.get_or_insert_with(|| {
                free += 1;
                free - 1
            });
        }
        let ids: BTreeMap<String, u64> =
            templates.iter().map(|template| (template.name.clone(), template.id.unwrap())).collect();
        for template in templates {
            let runs = match &template.what {
                What::Workflow(nodes) => {
                    let id = |runs: &String| *ids.get(runs).unwrap_or_else(|| panic!("no template `{runs}`"));
                    nodes.iter().map(|node| id(&node.runs)).collect()
                }
                What::Job { playbook, .. } => {
                    assert!(self.playbooks.contains_key(playbook), "no playbook `{playbook}`");
                    Vec::new()
                }
            };
            let inventory = template.inventory.as_deref().map(|name| self.inventory_named(name));
            self.templates.insert(template.id.unwrap(), Blueprint { template, inventory, runs });
        }
    }

    /// Adds a host; one of the same name gets the variables, if there are any, and the facts beside those it has.
    pub(super) fn add_host(&mut self, inventory: u64, name: &str, variables: &str, facts: Vars) {
        let now = self.clock.now();
        let same = self.hosts.values_mut().find(|host| host.inventory == inventory && host.name == name);
        if let Some(host) = same {
            if !variables.is_empty() {
                variables.clone_into(&mut host.variables);
            }
            if !facts.is_empty() {
                host.facts_modified = Some(now);
            }
            merge(&mut host.facts, facts);
            return;
        }
        let facts_modified = (!facts.is_empty()).then_some(now);
        self.inventory(inventory).hosts += 1;
        self.made.hosts += 1;
        let host = Host {
            inventory,
            name: name.to_owned(),
            variables: variables.to_owned(),
            facts,
            facts_modified,
            last: None,
            is_failing: false,
            created: now,
        };
        self.hosts.insert(self.made.hosts, host);
    }

    /// Takes a host out of an inventory.
    pub(super) fn drop_host(&mut self, inventory: u64, name: &str) {
        let found = self.hosts.iter().find(|(_, host)| host.inventory == inventory && host.name == name);
        let Some(id) = found.map(|(id, _)| *id) else { return };
        let was_failing = self.hosts.remove(&id).is_some_and(|host| host.is_failing);
        let inventory = self.inventory(inventory);
        inventory.hosts -= 1;
        inventory.failing -= usize::from(was_failing);
    }

    /// A host had a job, by its id and the number of its summary, that failed there or did not.
    pub(super) fn note_run(&mut self, host: u64, last: (u64, u64), has_failed: bool) {
        let Some(host) = self.hosts.get_mut(&host) else { return };
        let was_failing = std::mem::replace(&mut host.is_failing, has_failed);
        host.last = Some(last);
        let id = host.inventory;
        let inventory = self.inventory(id);
        inventory.failing = inventory.failing + usize::from(has_failed) - usize::from(was_failing);
    }

    fn inventory(&mut self, id: u64) -> &mut Inventory {
        self.inventories.get_mut(&id).unwrap()
    }

    pub(super) fn inventory_named(&self, name: &str) -> u64 {
        let found = self.inventories.iter().find(|(_, inventory)| inventory.name == name);
        *found.unwrap_or_else(|| panic!("no inventory `{name}`")).0
    }

    pub(super) fn template_named(&self, name: &str) -> u64 {
        let found = self.templates.iter().find(|(_, blueprint)| blueprint.template.name == name);
        *found.unwrap_or_else(|| panic!("no template `{name}`")).0
    }

    pub(super) fn user_named(&self, name: &str) -> Option<u64> {
        self.users.iter().find(|(_, user)| user.name == name).map(|(id, _)| *id)
    }

    /// The hosts of an inventory, by name.
    pub(super) fn hosts_of(&self, inventory: u64) -> Vec<u64> {
        let mut hosts: Vec<_> = self.hosts.iter().filter(|(_, host)| host.inventory == inventory).collect();
        hosts.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        hosts.into_iter().map(|(id, _)| *id).collect()
    }

    /// Makes a token, and returns its id.
    pub(super) fn add_token(&mut self, user: u64, description: &str, may_write: bool) -> u64 {
        self.made.tokens += 1;
        let token = Token {
            user,
            value: secret(30),
            description: description.to_owned(),
            may_write,
            created: self.clock.now(),
        };
        self.tokens.insert(self.made.tokens, token);
        self.made.tokens
    }

    /// What a user may do with an object of these roles; a superuser may use everything.
    pub(super) fn role(&self, user: u64, roles: &BTreeMap<String, Role>) -> Option<Role> {
        let user = &self.users[&user];
        if user.is_superuser { Some(Role::Use) } else { roles.get(&user.name).copied() }
    }

    /// Whether a user may see a job: one that the user launched, or one of a template that the user may see.
    pub(super) fn may_see_job(&self, user: u64, job: &Job) -> bool {
        job.user == user || self.role(user, &self.templates[&job.template].template.roles).is_some()
    }
}
