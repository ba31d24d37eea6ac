//! What there are lists of: which objects a user sees, what they look like, and what stands for them in a path.

use serde_json::{Value, json};

use super::forms::jobs::{self, View};
use super::forms::{parts, templates, things};
use super::lists::List;
use super::reply::Reply;
use super::store::{ORGANIZATION, Store};

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    WorkflowTemplate,
    JobTemplate,
    UnifiedTemplate,
    Inventory,
    Host,
    Label,
    Job,
    WorkflowJob,
    UnifiedJob,
    Node,
    User,
    Token,
    Organization,
}

/// Every kind by what its list is called in a path.
const PATHS: [(&str, Kind); 13] = [
    ("workflow_job_templates", Kind::WorkflowTemplate),
    ("job_templates", Kind::JobTemplate),
    ("unified_job_templates", Kind::UnifiedTemplate),
    ("inventories", Kind::Inventory),
    ("hosts", Kind::Host),
    ("labels", Kind::Label),
    ("jobs", Kind::Job),
    ("workflow_jobs", Kind::WorkflowJob),
    ("unified_jobs", Kind::UnifiedJob),
    ("workflow_job_nodes", Kind::Node),
    ("users", Kind::User),
    ("tokens", Kind::Token),
    ("organizations", Kind::Organization),
];

impl Kind {
    pub(super) fn at(path: &str) -> Option<Self> {
        PATHS.iter().find(|(name, _)| *name == path).map(|(_, kind)| *kind)
    }

    /// What the model is called in messages.
    pub(super) fn model(self) -> &'static str {
        match self {
            Self::WorkflowTemplate => "WorkflowJobTemplate",
            Self::JobTemplate => "JobTemplate",
            Self::UnifiedTemplate => "UnifiedJobTemplate",
            Self::Inventory => "Inventory",
            Self::Host => "Host",
            Self::Label => "Label",
            Self::Job => "Job",
            Self::WorkflowJob => "WorkflowJob",
            Self::UnifiedJob => "UnifiedJob",
            Self::Node => "WorkflowJobNode",
            Self::User => "User",
            Self::Token => "OAuth2AccessToken",
            Self::Organization => "Organization",
        }
    }

    /// Whether the list takes new ones.
    pub(super) fn takes_new(self) -> bool {
        !matches!(self, Self::Job | Self::WorkflowJob | Self::UnifiedJob | Self::UnifiedTemplate | Self::Node)
    }

    /// All ids that there are.
    fn ids(self, store: &Store) -> Vec<u64> {
        let templates = |keep: &dyn Fn(bool) -> bool| {
            let kept = store.templates.iter().filter(|(_, blueprint)| keep(blueprint.is_workflow()));
            kept.map(|(id, _)| *id).collect()
        };
        let jobs = |keep: &dyn Fn(bool) -> bool| {
            let kept = store.jobs.iter().filter(|(_, job)| keep(job.is_workflow()));
            kept.map(|(id, _)| *id).collect()
        };
        match self {
            Self::WorkflowTemplate => templates(&|is_workflow| is_workflow),
            Self::JobTemplate => templates(&|is_workflow| !is_workflow),
            Self::UnifiedTemplate => templates(&|_| true),
            Self::Job => jobs(&|is_workflow| !is_workflow),
            Self::WorkflowJob => jobs(&|is_workflow| is_workflow),
            Self::UnifiedJob => jobs(&|_| true),
            Self::Inventory => store.inventories.keys().copied().collect(),
            Self::Host => store.hosts.keys().copied().collect(),
            Self::Label => store.labels.keys().copied().collect(),
            Self::Node => store.nodes.keys().copied().collect(),
            Self::User => store.users.keys().copied().collect(),
            Self::Token => store.tokens.keys().copied().collect(),
            Self::Organization => vec![ORGANIZATION],
        }
    }

    /// Whether a user may see an object.
    pub(super) fn shows(self, store: &Store, id: u64, user: u64) -> bool {
        let is_superuser = store.users[&user].is_superuser;
        let inventory = |id: u64| store.role(user, &store.inventories[&id].roles).is_some();
        match self {
            Self::WorkflowTemplate | Self::JobTemplate | Self::UnifiedTemplate => {
                store.role(user, &store.templates[&id].template.roles).is_some()
            }
            Self::Job | Self::WorkflowJob | Self::UnifiedJob => store.may_see_job(user, &store.jobs[&id]),
            Self::Node => store.may_see_job(user, &store.jobs[&store.nodes[&id].workflow_job]),
            Self::Inventory => inventory(id),
            Self::Host => inventory(store.hosts[&id].inventory),
            Self::User => is_superuser || id == user,
            Self::Token => store.tokens[&id].user == user || is_superuser,
            Self::Label | Self::Organization => is_superuser || super::routes::is_member(store, user),
        }
    }

    /// Fields that lists are often filtered on, without the rest of the object.
    fn row(self, store: &Store, id: u64) -> Value {
        match self {
            Self::WorkflowTemplate | Self::JobTemplate | Self::UnifiedTemplate => {
                let template = &store.templates[&id].template;
                json!({"id": id, "name": template.name, "description": template.description})
            }
            Self::Job | Self::WorkflowJob | Self::UnifiedJob => {
                let job = &store.jobs[&id];
                let template = &store.templates[&job.template].template;
                json!({"id": id, "name": template.name, "description": template.description,
                    "status": job.status.shown(), "failed": job.status.has_failed(),
                    "unified_job_template": job.template})
            }
            Self::Inventory => {
                let inventory = &store.inventories[&id];
                json!({"id": id, "name": inventory.name, "description": inventory.description, "kind": ""})
            }
            Self::Host => {
                let host = &store.hosts[&id];
                json!({"id": id, "name": host.name, "description": "", "inventory": host.inventory, "enabled": true})
            }
            Self::Label => {
                json!({"id": id, "name": store.labels[&id].name, "organization": store.labels[&id].organization})
            }
            Self::User => json!({"id": id, "username": store.users[&id].name}),
            Self::Token => {
                json!({"id": id, "description": store.tokens[&id].description, "user": store.tokens[&id].user})
            }
            Self::Organization => json!({"id": id, "name": "Lab", "description": ""}),
            Self::Node => json!({"id": id, "workflow_job": store.nodes[&id].workflow_job}),
        }
    }

    /// An object as a list has it.
    fn form(self, store: &Store, id: u64, user: u64) -> Value {
        match self {
            Self::WorkflowTemplate | Self::JobTemplate | Self::UnifiedTemplate => templates::form(store, id, user),
            Self::Job | Self::WorkflowJob | Self::UnifiedJob => jobs::form(store, id, View::List),
            Self::Node => parts::node(store, id),
            Self::Inventory => things::inventory(store, id, user),
            Self::Host => things::host(store, id, user),
            Self::Label => things::label(store, id),
            Self::User => things::user(store, id, user),
            Self::Token => things::token(store, id, false),
            Self::Organization => things::organization(store),
        }
    }

    /// What stands for an object in a path beside its id.
    fn named(self, store: &Store, id: u64) -> Option<String> {
        Some(match self {
            Self::WorkflowTemplate | Self::JobTemplate => templates::named(store, id),
            Self::Inventory => things::inventory_named(store, id),
            Self::Host => things::host_named(store, id),
            Self::Label => things::label_named(store, id),
            Self::User => super::forms::encoded(&store.users[&id].name),
            Self::Organization => "Lab".to_owned(),
            _ => return None,
        })
    }

    /// An object as it is shown alone.
    pub(super) fn detail(self, store: &Store, id: u64, user: u64) -> Value {
        let mut form = match self {
            Self::Job | Self::WorkflowJob | Self::UnifiedJob => jobs::form(store, id, View::Detail),
            _ => self.form(store, id, user),
        };
        if let (Some(named), Some(related)) = (self.named(store, id), form["related"].as_object_mut()) {
            let path = PATHS.iter().find(|(_, kind)| *kind == self).map_or("", |(path, _)| *path);
            related.shift_insert(0, "named_url".to_owned(), format!("/api/v2/{path}/{named}/").into());
        }
        form
    }

    /// The id of what stands in a path.
    ///
    /// # Errors
    ///
    /// AWX's answer, if there is none, or none that the user may see.
    pub(super) fn find(self, store: &Store, key: &str, user: u64) -> Result<u64, Reply> {
        let ids = self.ids(store);
        let decoded = super::call::decoded(&key.replace('+', "%2B"));
        let id = match key.parse::<u64>() {
            Ok(id) => ids.contains(&id).then_some(id),
            Err(_) => {
                let is_it = |id: &u64| {
                    self.named(store, *id)
                        .is_some_and(|named| super::call::decoded(&named.replace('+', "%2B")) == decoded)
                };
                ids.iter().copied().find(is_it)
            }
        };
        let id = id.ok_or_else(|| Reply::no(self.model()))?;
        if self.shows(store, id, user) { Ok(id) } else { Err(Reply::forbidden()) }
    }

    /// The list that a user sees, of those that `keep`s.
    pub(super) fn list<'a>(self, store: &'a Store, user: u64, keep: impl Fn(u64) -> bool) -> List<'a> {
        let mut ids = self.ids(store);
        ids.retain(|id| keep(*id) && self.shows(store, *id, user));
        // Jobs, nodes and tokens come in the order they were made, all else by name.
        match self {
            Self::Job | Self::WorkflowJob | Self::UnifiedJob | Self::Node | Self::Token | Self::Organization => {}
            Self::WorkflowTemplate | Self::JobTemplate | Self::UnifiedTemplate => {
                ids.sort_by_key(|id| &store.templates[id].template.name);
            }
            Self::Inventory => ids.sort_by_key(|id| &store.inventories[id].name),
            Self::Host => ids.sort_by_key(|id| &store.hosts[id].name),
            Self::Label => ids.sort_by_key(|id| &store.labels[id].name),
            Self::User => ids.sort_by_key(|id| &store.users[id].name),
        }
        let row = Box::new(move |id| self.row(store, id));
        List { model: self.model(), ids, row, form: Box::new(move |id| self.form(store, id, user)) }
    }
}
