//! Which request is for what: paths, methods, rights, and what each of them answers.

use serde_json::{Value, json};

use super::actions;
use super::auth::{self, Caller, Way};
use super::call::Call;
use super::forms::parts;
use super::forms::{templates, things};
use super::launch;
use super::lists::List;
use super::records::{Part, Status};
use super::reply::Reply;
use super::resources::Kind;
use super::store::Store;
use super::survey;
use super::vars;

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Version,
    Ping,
    Config,
    Me,
    List(Kind),
    Object(Kind, String),
    /// Something of an object: `launch`, `hosts` …
    Of(Kind, String, &'static str),
}

/// What there is below objects, and which methods it takes beside those that read.
const BELOW: [(Kind, &str, &str); 27] = [
    (Kind::WorkflowTemplate, "launch", "POST"),
    (Kind::WorkflowTemplate, "survey_spec", "POST, DELETE"),
    (Kind::WorkflowTemplate, "workflow_jobs", ""),
    (Kind::WorkflowTemplate, "workflow_nodes", "POST"),
    (Kind::WorkflowTemplate, "labels", "POST"),
    (Kind::JobTemplate, "launch", "POST"),
    (Kind::JobTemplate, "survey_spec", "POST, DELETE"),
    (Kind::JobTemplate, "jobs", ""),
    (Kind::JobTemplate, "labels", "POST"),
    (Kind::Inventory, "hosts", "POST"),
    (Kind::Inventory, "variable_data", "PUT, PATCH"),
    (Kind::Host, "variable_data", "PUT, PATCH"),
    (Kind::Host, "ansible_facts", ""),
    (Kind::Job, "cancel", "POST"),
    (Kind::Job, "stdout", ""),
    (Kind::Job, "job_events", ""),
    (Kind::Job, "job_host_summaries", ""),
    (Kind::Job, "labels", ""),
    (Kind::WorkflowJob, "cancel", "POST"),
    (Kind::WorkflowJob, "workflow_nodes", ""),
    (Kind::WorkflowJob, "labels", ""),
    (Kind::User, "personal_tokens", "POST"),
    (Kind::User, "tokens", "POST"),
    (Kind::Organization, "inventories", ""),
    (Kind::Organization, "workflow_job_templates", ""),
    (Kind::Organization, "job_templates", ""),
    (Kind::Organization, "labels", ""),
];

impl Route {
    /// What is at a path below the version.
    pub(super) fn at(below: &str) -> Option<Self> {
        let parts: Vec<&str> = below.split('/').filter(|part| !part.is_empty()).collect();
        match parts[..] {
            [] => Some(Self::Version),
            ["ping"] => Some(Self::Ping),
            ["config"] => Some(Self::Config),
            ["me"] => Some(Self::Me),
            [list] => Kind::at(list).map(Self::List),
            // What is unified is found under its own kind.
            ["unified_jobs" | "unified_job_templates", _] => None,
            [list, key] => Kind::at(list).map(|kind| Self::Object(kind, key.to_owned())),
            [list, key, below] => {
                let kind = Kind::at(list)?;
                let found = BELOW.iter().find(|(of, name, _)| *of == kind && *name == below)?;
                Some(Self::Of(kind, key.to_owned(), found.1))
            }
            _ => None,
        }
    }

    /// Which methods it takes.
    pub(super) fn allowed(&self) -> String {
        let more = match self {
            Self::Version | Self::Ping | Self::Me => "",
            Self::Config => "POST, DELETE",
            Self::List(kind) if kind.takes_new() => "POST",
            Self::List(_) => "",
            Self::Object(Kind::Job | Kind::WorkflowJob | Kind::UnifiedJob, _) => "DELETE",
            Self::Object(Kind::Node, _) => "",
            Self::Object(..) => "PUT, PATCH, DELETE",
            Self::Of(kind, _, below) => {
                BELOW.iter().find(|(of, name, _)| of == kind && name == below).map_or("", |(_, _, more)| *more)
            }
        };
        if more.is_empty() { "GET, HEAD, OPTIONS".to_owned() } else { format!("GET, {more}, HEAD, OPTIONS") }
    }

    /// Whether it answers everybody.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Version | Self::Ping)
    }
}

/// Whether a user belongs to the organization: all do but those without any role.
pub(super) fn is_member(store: &Store, user: u64) -> bool {
    let mut roles = store.inventories.values().map(|inventory| &inventory.roles);
    roles.any(|roles| store.role(user, roles).is_some())
}

/// Answers a request for something below the version.
pub(super) fn answer(store: &mut Store, call: &Call, route: &Route) -> Result<Reply, Reply> {
    if !(call.takes("application/json") || call.takes("text/html") || matches!(route, Route::Of(_, _, "stdout"))) {
        return Err(Reply::detail(406, "Could not satisfy the request Accept header."));
    }
    let caller = auth::caller(store, call);
    if route.is_open() && call.is_safe() {
        return Ok(if *route == Route::Ping { actions::ping(store) } else { actions::version() });
    }
    let caller = caller.ok_or_else(Reply::unauthorized)?;
    may_change(call, route, caller)?;
    if !route.allowed().split(", ").any(|method| method == call.method) {
        return Err(Reply::not_allowed(&call.method));
    }
    if call.method == "OPTIONS" {
        return Err(not_here());
    }
    let reply = carry_out(store, call, route, caller)?;
    let is_reader = caller.way == Way::Token { may_write: false };
    Ok(if is_reader { reply.without_capabilities() } else { reply })
}

fn carry_out(store: &mut Store, call: &Call, route: &Route, caller: Caller) -> Result<Reply, Reply> {
    let user = caller.user;
    match (route, call.is_safe()) {
        (Route::Version, _) => Ok(actions::version()),
        (Route::Ping, _) => Ok(actions::ping(store)),
        (Route::Config, true) => Ok(Reply::json(200, json!({"time_zone": "UTC", "version": store.version}))),
        (Route::Me, _) => {
            let form = things::user(store, user, user);
            Ok(Reply::json(200, json!({"count": 1, "next": null, "previous": null, "results": [form]})))
        }
        (Route::List(kind), true) => kind.list(store, user, |_| true).page(call),
        (Route::List(Kind::Token), false) => Ok(auth::make_token(store, caller, user, &call.json()?)),
        (Route::List(Kind::Label), false) => actions::make_label(store, user, &call.json()?),
        (Route::Object(kind, key), true) => {
            let id = kind.find(store, key, user)?;
            Ok(Reply::json(200, kind.detail(store, id, user)))
        }
        (Route::Object(Kind::Token, key), false) if call.method == "DELETE" => {
            let id = Kind::Token.find(store, key, user)?;
            store.tokens.remove(&id);
            Ok(Reply::empty(204))
        }
        (Route::Of(kind, key, below), _) => of_object(store, call, caller, (*kind, key, below)),
        (Route::Object(kind, key), false) => {
            kind.find(store, key, user)?;
            Err(no_administration(store, user))
        }
        _ => Err(no_administration(store, user)),
    }
}

/// A token to read with does not write, and a session writes only with what proves that its user meant it.
fn may_change(call: &Call, route: &Route, caller: Caller) -> Result<(), Reply> {
    if call.is_safe() {
        return Ok(());
    }
    match caller.way {
        Way::Token { may_write: false } => Err(Reply::forbidden()),
        Way::Session { has_csrf: false } => Err(match route {
            Route::Of(_, key, _) if key.parse::<u64>().is_err() => Reply::detail(404, "Not found."),
            _ => Reply::detail(403, "CSRF Failed: CSRF token missing."),
        }),
        _ => Ok(()),
    }
}

/// What administrators may do is not here; nobody else may.
pub(super) fn no_administration(store: &Store, user: u64) -> Reply {
    if store.users[&user].is_superuser { not_here() } else { Reply::forbidden() }
}

/// What a real AWX does and this one does not.
fn not_here() -> Reply {
    Reply::detail(501, "the AWX of the tests does not do this")
}

fn of_object(
    store: &mut Store,
    call: &Call,
    caller: Caller,
    (kind, key, below): (Kind, &str, &str),
) -> Result<Reply, Reply> {
    let user = caller.user;
    if matches!(below, "personal_tokens" | "tokens") {
        // Tokens of somebody else are refused in the same words, whoever that is.
        let of = store.users.keys().copied().find(|id| key.parse() == Ok(*id)).or_else(|| store.user_named(key));
        let of = of.ok_or_else(|| Reply::no("User"))?;
        if !call.is_safe() {
            return Ok(auth::make_token(store, caller, of, &call.json()?));
        }
        let tokens = |id: u64| store.tokens[&id].user == of;
        return Kind::Token.list(store, user, tokens).page(call);
    }
    let id = kind.find(store, key, user)?;
    match (below, call.is_safe()) {
        ("launch", true) => Ok(Reply::json(200, launch::asked(store, id))),
        ("launch", false) => actions::start(store, call, user, id),
        ("cancel", _) => actions::cancel(store, call, user, id),
        ("survey_spec", true) => {
            let survey = store.templates[&id].template.survey.as_ref().map_or_else(|| json!({}), survey::shown);
            Ok(Reply::json(200, survey))
        }
        ("workflow_jobs" | "jobs", true) => {
            let kind = if below == "jobs" { Kind::Job } else { Kind::WorkflowJob };
            kind.list(store, user, |job| store.jobs[&job].template == id).page(call)
        }
        ("workflow_nodes", true) => {
            let nodes = match store.jobs.get(&id).map(|job| &job.part) {
                Some(Part::Workflow { nodes }) if kind == Kind::WorkflowJob => nodes.clone(),
                _ => return Err(not_here()),
            };
            Kind::Node.list(store, user, |node| nodes.contains(&node)).page(call)
        }
        ("workflow_nodes", false) => Err(actions::add_node(store, call, user)),
        ("hosts", true) => Kind::Host.list(store, user, |host| store.hosts[&host].inventory == id).page(call),
        ("variable_data", true) => {
            let text = if kind == Kind::Host { &store.hosts[&id].variables } else { &store.inventories[&id].variables };
            Ok(Reply::json(200, Value::Object(vars::lenient(text))))
        }
        ("ansible_facts", true) => Ok(Reply::json(200, Value::Object(store.hosts[&id].facts.clone()))),
        ("labels", true) => {
            let labels = store.jobs.get(&id).filter(|_| matches!(kind, Kind::Job | Kind::WorkflowJob));
            let labels = labels.map(|job| job.labels.clone()).unwrap_or_default();
            Kind::Label.list(store, user, |label| labels.contains(&label)).page(call)
        }
        ("inventories" | "workflow_job_templates" | "job_templates", true) => {
            Kind::at(below).unwrap_or(kind).list(store, user, |_| true).page(call)
        }
        ("job_events", true) => actions::job_events(store, id).page(call),
        ("job_host_summaries", true) => {
            let all = parts::host_summaries(store, id);
            let ids = all.iter().filter_map(|summary| summary["id"].as_u64()).collect();
            let find = |id: u64| all.iter().find(|summary| summary["id"] == id).cloned().unwrap_or_default();
            List { model: "JobHostSummary", ids, row: Box::new(find), form: Box::new(find) }.page(call)
        }
        ("stdout", true) => Ok(actions::stdout(store, call, id)),
        _ => Err(no_administration(store, user)),
    }
}

/// The status that a job has, for tests that wait for one.
pub(super) fn status_of(store: &Store, job: u64) -> Option<Status> {
    store.jobs.get(&job).map(|job| job.status)
}

/// The path of a template's launch, for tests.
pub(super) fn launch_path(store: &Store, template: &str) -> String {
    format!("{}launch/", templates::url(store, store.template_named(template)))
}
