//! What requests do, and the answers that are no lists of objects.

use serde_json::{Value, json};

use super::auth;
use super::call::Call;
use super::clock::shown;
use super::events::{self, Event};
use super::forms::jobs::{self, View};
use super::forms::parts;
use super::launch;
use super::lists::List;
use super::records::Label;
use super::reply::{HTML, Reply};
use super::resources::Kind;
use super::routes::{is_member, no_administration};
use super::store::{ORGANIZATION, Store, next, secret};
use super::world::Role;

pub(super) fn start(store: &mut Store, call: &Call, user: u64, template: u64) -> Result<Reply, Reply> {
    if store.role(user, &store.templates[&template].template.roles) < Some(Role::Use) {
        return Err(Reply::forbidden());
    }
    let (id, ignored) = launch::launch(store, template, user, &call.json()?)?;
    let key = jobs::kind(&store.jobs[&id]);
    let mut body = json!({key: id, "ignored_fields": ignored});
    body.as_object_mut().unwrap().extend(jobs::form(store, id, View::Launch).as_object().cloned().unwrap());
    Ok(Reply::json(201, body).with("Location", jobs::url(store, id)))
}

pub(super) fn cancel(store: &mut Store, call: &Call, user: u64, id: u64) -> Result<Reply, Reply> {
    let job = &store.jobs[&id];
    let can_cancel = !job.status.is_end();
    if call.is_safe() {
        return Ok(Reply::json(200, json!({"can_cancel": can_cancel})));
    }
    let is_superuser = store.users[&user].is_superuser;
    match can_cancel {
        true if is_superuser || job.user == user => {
            store.cancel(id);
            Ok(Reply::empty(202))
        }
        false if is_superuser => Err(Reply::not_allowed("POST")),
        _ => Err(Reply::forbidden()),
    }
}

pub(super) fn make_label(store: &mut Store, user: u64, body: &Value) -> Result<Reply, Reply> {
    let is_superuser = store.users[&user].is_superuser;
    let required = |field: &str| Reply::json(400, json!({field: ["This field is required."]}));
    let organization = body["organization"].as_u64();
    let is_ours = organization == Some(ORGANIZATION);
    let may_add = is_superuser || (is_ours && is_member(store, user));
    if !may_add {
        return Err(Reply::forbidden());
    }
    let name = body["name"].as_str().filter(|name| !name.is_empty()).ok_or_else(|| required("name"))?;
    let organization = organization.ok_or_else(|| required("organization"))?;
    if store.labels.values().any(|label| label.name == name && label.organization == organization) {
        let fault = "Label with this Name and Organization already exists.";
        return Err(Reply::json(400, json!({"__all__": [fault]})));
    }
    let id = next(&store.labels);
    let created = store.clock.now();
    store.labels.insert(id, Label { name: name.to_owned(), organization, user, created });
    let location = format!("/api/v2/labels/{id}/");
    Ok(Reply::json(201, Kind::Label.detail(store, id, user)).with("Location", location))
}

/// A new node of a workflow: only what is wrong with it is here.
pub(super) fn add_node(store: &Store, call: &Call, user: u64) -> Reply {
    let template = call.json().ok().and_then(|body| body["unified_job_template"].as_u64());
    let lacks = template.and_then(|id| store.templates.get(&id)).is_some_and(|found| found.inventory.is_none());
    if store.users[&user].is_superuser && lacks {
        let fault = "Job Template inventory is missing or undefined.";
        return Reply::json(400, json!({"resources_needed_to_start": [fault]}));
    }
    no_administration(store, user)
}

pub(super) fn job_events(store: &Store, id: u64) -> List<'_> {
    let job = &store.jobs[&id];
    let events = job.play().map_or(&[][..], |play| jobs::visible(store, job, play));
    let mut sorted: Vec<&Event> = events.iter().collect();
    // Not the order in which they happened: by the first line of their output, the newer id first.
    sorted.sort_by_key(|event| (event.start_line, std::cmp::Reverse(event.id)));
    let ids = sorted.into_iter().map(|event| event.id).collect();
    let find = move |id: u64| events.iter().find(|event| event.id == id);
    let row = move |id: u64| {
        find(id).map_or(Value::Null, |event| {
            json!({"id": event.id, "counter": event.counter, "event": event.kind, "failed": event.failed,
                "task": event.task, "start_line": event.start_line})
        })
    };
    let form = move |wanted: u64| find(wanted).map_or(Value::Null, |event| parts::event(store, id, event));
    List { model: "JobEvent", ids, row: Box::new(row), form: Box::new(form) }
}

/// The longest output that is shown otherwise than as a file.
const MOST_SHOWN: usize = 1 << 20;

/// The output, in the form that the query or else the header asks for.
pub(super) fn stdout(store: &Store, call: &Call, id: u64) -> Reply {
    let job = &store.jobs[&id];
    let text = events::output(job.play().map_or(&[], |play| jobs::visible(store, job, play)));
    let asked = call.parameter("format").unwrap_or_else(|| match call.header("accept") {
        accept if accept.contains("application/json") => "json",
        accept if accept.contains("text/plain") => "txt",
        _ => "api",
    });
    let plain = "text/plain; charset=utf-8";
    let whole = if asked.starts_with("ansi") { text.clone() } else { events::plain(&text) };
    match asked {
        // Recorded was none so long: the sentence is AWX's, from its sources.
        "txt" | "ansi" if text.len() > MOST_SHOWN => {
            let sentence = format!(
                "Standard Output too large to display ({} bytes), only download supported for sizes over {MOST_SHOWN} bytes.",
                text.len()
            );
            Reply::text(200, plain, sentence)
        }
        "txt" | "ansi" if text.is_empty() => Reply::empty(200),
        "txt" | "ansi" => Reply::text(200, plain, whole),
        "txt_download" | "ansi_download" => {
            let name = format!("attachment; filename=\"job_{id}.txt\"");
            Reply::text(200, "text/plain", whole).with("Content-Disposition", name)
        }
        "json" => {
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let number = |name: &str| call.parameter(name).and_then(|text| text.parse::<usize>().ok());
            let start = number("start_line").unwrap_or(0).min(lines.len());
            let end = number("end_line").unwrap_or(lines.len()).clamp(start, lines.len());
            let range = json!({"start": start, "end": end, "absolute_end": lines.len()});
            Reply::json(200, json!({"range": range, "content": lines[start..end].concat()}))
        }
        form => {
            let title = if form == "html" { "Type" } else { "Job Stdout &middot; AWX REST API" };
            let body = whole.replace('&', "&amp;").replace('<', "&lt;");
            let page = format!(
                "<!DOCTYPE HTML>\n<html>\n  <head>\n    <title>{title}</title>\n  </head>\n  <body>\n<pre>{body}</pre>\n  </body>\n</html>\n"
            );
            let reply = Reply::text(200, HTML, page);
            if form == "html" { reply } else { reply.with("Set-Cookie", auth::csrf_cookie(&secret(32))) }
        }
    }
}

pub(super) fn ping(store: &Store) -> Reply {
    let node = json!({"node": "rig", "node_type": "hybrid", "uuid": "7835a9fc-408b-4eb1-964b-602bdceb58d9",
        "heartbeat": shown(store.clock.now()), "capacity": 220, "version": store.version});
    let group = |name: &str| json!({"name": name, "capacity": 220, "instances": ["rig"]});
    Reply::json(
        200,
        json!({
            "ha": false, "version": store.version, "active_node": "rig", "install_uuid": store.install_uuid,
            "instances": [node], "instance_groups": [group("controlplane"), group("default")],
        }),
    )
}

/// The names under which the API lists what it has, where these are not the paths themselves.
const NAMES: [(&str, &str); 3] = [
    ("inventory", "inventories"),
    ("constructed_inventory", "constructed_inventories"),
    ("service_index", "service-index"),
];

pub(super) fn version() -> Reply {
    let names = [
        "ping",
        "instances",
        "instance_groups",
        "receptor_addresses",
        "config",
        "settings",
        "me",
        "dashboard",
        "organizations",
        "users",
        "execution_environments",
        "projects",
        "project_updates",
        "teams",
        "credentials",
        "credential_types",
        "credential_input_sources",
        "applications",
        "tokens",
        "metrics",
        "inventory",
        "constructed_inventory",
        "inventory_sources",
        "inventory_updates",
        "groups",
        "hosts",
        "host_metrics",
        "host_metric_summary_monthly",
        "job_templates",
        "jobs",
        "ad_hoc_commands",
        "system_job_templates",
        "system_jobs",
        "schedules",
        "roles",
        "notification_templates",
        "notifications",
        "labels",
        "unified_job_templates",
        "unified_jobs",
        "activity_stream",
        "workflow_job_templates",
        "workflow_jobs",
        "workflow_approvals",
        "workflow_job_template_nodes",
        "workflow_job_nodes",
        "mesh_visualizer",
        "bulk",
        "analytics",
        "service_index",
        "role_definitions",
        "role_user_assignments",
        "role_team_assignments",
    ];
    let path = |name: &str| {
        NAMES.iter().find(|(key, _)| *key == name).map_or_else(|| name.to_owned(), |(_, path)| (*path).to_owned())
    };
    let entries = names.iter().map(|name| ((*name).to_owned(), format!("/api/v2/{}/", path(name)).into()));
    Reply::json(200, Value::Object(entries.collect()))
}
