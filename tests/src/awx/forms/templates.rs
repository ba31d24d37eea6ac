//! Job templates and workflow templates.

use serde_json::{Map, Value, json};

use super::{insert_after, links};
use crate::awx::clock::shown;
use crate::awx::records::Job;
use crate::awx::store::{ORGANIZATION, PROJECT, Store};
use crate::awx::template::What;
use crate::awx::world::Role;

/// The path of a template.
pub(in crate::awx) fn url(store: &Store, id: u64) -> String {
    let kind = if store.templates[&id].is_workflow() { "workflow_job_templates" } else { "job_templates" };
    format!("/api/v2/{kind}/{id}/")
}

/// What a name in a path stands for the template, as the API offers it.
pub(in crate::awx) fn named(store: &Store, id: u64) -> String {
    format!("{}++Lab", super::encoded(&store.templates[&id].template.name))
}

/// A template as `user` sees it.
pub(in crate::awx) fn form(store: &Store, id: u64, user: u64) -> Value {
    if store.templates[&id].is_workflow() { workflow(store, id, user) } else { job(store, id, user) }
}

/// The jobs of a template that were launched, the newest first.
fn runs(store: &Store, id: u64) -> Vec<(u64, &Job)> {
    store.jobs.iter().rev().filter(|(_, job)| job.template == id).map(|(id, job)| (*id, job)).collect()
}

/// What both kinds have: links to the last jobs, summaries, and the fields on the last run.
struct Past {
    related: Vec<(&'static str, Value)>,
    summary: Vec<(&'static str, Value)>,
    fields: Map<String, Value>,
    recent: Value,
}

impl Past {
    fn of(store: &Store, id: u64) -> Self {
        let runs = runs(store, id);
        let current = runs.iter().rev().find(|(_, job)| !job.status.is_end());
        let last = runs.iter().filter(|(_, job)| job.finished.is_some()).max_by_key(|(_, job)| job.finished);
        let short = |id: u64, job: &Job| {
            json!({"id": id, "name": store.templates[&job.template].template.name,
                "description": store.templates[&job.template].template.description,
                "status": job.status.shown(), "failed": job.status.has_failed()})
        };
        let mut past = Self { related: Vec::new(), summary: Vec::new(), fields: Map::new(), recent: json!([]) };
        if let Some((id, _)) = current {
            past.related.push(("current_job", super::jobs::url(store, *id).into()));
        }
        if let Some((id, job)) = last {
            past.related.push(("last_job", super::jobs::url(store, *id).into()));
            let mut about = short(*id, job);
            let finished = job.finished.map(shown);
            insert_after(about.as_object_mut().unwrap(), "description", [("finished", finished.into())]);
            if let Some(at) = job.canceled_on {
                about["canceled_on"] = shown(at).into();
            }
            past.summary.push(("last_job", about));
            past.summary.push(("last_update", short(*id, job)));
        }
        if let Some((id, job)) = current {
            past.summary.push(("current_update", short(*id, job)));
            past.summary.push(("current_job", short(*id, job)));
        }
        let last_status = match last {
            Some((_, job)) if job.status.has_failed() => "failed",
            Some(_) => "successful",
            None => "never updated",
        };
        let status = current.map_or(last_status, |(_, job)| job.status.shown());
        let last_run = last.and_then(|(_, job)| job.finished).map(shown);
        past.fields.insert("last_job_run".to_owned(), last_run.into());
        past.fields.insert("last_job_failed".to_owned(), last.is_some_and(|(_, job)| job.status.has_failed()).into());
        past.fields.insert("next_job_run".to_owned(), Value::Null);
        past.fields.insert("status".to_owned(), status.into());
        let recent = runs.iter().take(10).map(|(id, job)| {
            json!({"id": id, "status": job.status.shown(), "finished": job.finished.map(shown),
                "canceled_on": job.canceled_on.map(shown), "type": super::jobs::kind(job)})
        });
        past.recent = recent.collect();
        past
    }
}

fn head(
    store: &Store,
    id: u64,
    kind: &str,
    related: Map<String, Value>,
    summary: Map<String, Value>,
) -> Map<String, Value> {
    let template = &store.templates[&id].template;
    let created = shown(store.created);
    let head = json!({
        "id": id,
        "type": kind,
        "url": url(store, id),
        "related": related,
        "summary_fields": summary,
        "created": created,
        "modified": created,
        "name": template.name,
        "description": template.description,
    });
    head.as_object().cloned().unwrap()
}

fn by_admin() -> [(String, Value); 2] {
    ["created_by", "modified_by"].map(|key| (key.to_owned(), "/api/v2/users/1/".into()))
}

fn capabilities(store: &Store, id: u64, user: u64) -> Value {
    let start = store.role(user, &store.templates[&id].template.roles) >= Some(Role::Use);
    let edit = store.users[&user].is_superuser;
    json!({"edit": edit, "delete": edit, "start": start, "schedule": start, "copy": edit})
}

fn summary(store: &Store, id: u64, user: u64, past: &Past, roles: Value, is_job: bool) -> Map<String, Value> {
    let blueprint = &store.templates[&id];
    let mut summary = Map::new();
    let mut add = |key: &str, value: Value| drop(summary.insert(key.to_owned(), value));
    add("organization", super::organization());
    if let Some(inventory) = blueprint.inventory {
        add("inventory", super::inventory(store, inventory));
    }
    if is_job {
        add("project", super::things::project());
    }
    for (key, value) in &past.summary {
        add(key, value.clone());
    }
    add("created_by", super::user(store, 1));
    add("modified_by", super::user(store, 1));
    add("object_roles", roles);
    add("user_capabilities", capabilities(store, id, user));
    add("labels", json!({"count": 0, "results": []}));
    if blueprint.template.survey.is_some() {
        add("survey", json!({"title": "", "description": ""}));
    }
    add("recent_jobs", past.recent.clone());
    if is_job {
        add("credentials", json!([]));
    }
    summary
}

fn job(store: &Store, id: u64, user: u64) -> Value {
    let blueprint = &store.templates[&id];
    let template = &blueprint.template;
    let What::Job { playbook, use_fact_cache, timeout } = &template.what else { return Value::Null };
    let past = Past::of(store, id);
    let own = [
        "labels",
        "credentials",
        "jobs",
        "schedules",
        "activity_stream",
        "launch",
        "webhook_key",
        "webhook_receiver",
        "notification_templates_started",
        "notification_templates_success",
        "notification_templates_error",
        "access_list",
        "survey_spec",
        "object_roles",
        "instance_groups",
        "slice_workflow_jobs",
        "copy",
    ];
    let mut related: Map<String, Value> = by_admin().into_iter().chain(links(&url(store, id), &own)).collect();
    related.insert("webhook_receiver".to_owned(), "".into());
    let inventory = blueprint.inventory.map(|id| ("inventory", format!("/api/v2/inventories/{id}/").into()));
    let project = ("project", format!("/api/v2/projects/{PROJECT}/").into());
    let organization = ("organization", format!("/api/v2/organizations/{ORGANIZATION}/").into());
    insert_after(&mut related, "labels", inventory.into_iter().chain([project, organization]));
    insert_after(&mut related, "credentials", past.related.clone());
    let roles = super::roles(
        id,
        &[
            ("admin_role", "Admin", "Can manage all aspects of the job template"),
            ("execute_role", "Execute", "May run the job template"),
            ("read_role", "Read", "May view settings for the job template"),
        ],
    );
    let mut form = head(store, id, "job_template", related, summary(store, id, user, &past, roles, true));
    let fields = json!({
        "job_type": "run", "inventory": blueprint.inventory, "project": PROJECT, "playbook": playbook, "scm_branch": "",
        "forks": 0, "limit": "", "verbosity": 0, "extra_vars": template.extra_vars, "job_tags": "",
        "force_handlers": false, "skip_tags": "", "start_at_task": "", "timeout": timeout,
        "use_fact_cache": use_fact_cache, "organization": ORGANIZATION,
    });
    form.extend(fields.as_object().cloned().unwrap());
    form.extend(past.fields);
    let fields = json!({
        "execution_environment": null, "host_config_key": "", "ask_scm_branch_on_launch": false,
        "ask_diff_mode_on_launch": false, "ask_variables_on_launch": template.asks_variables,
        "ask_limit_on_launch": false, "ask_tags_on_launch": false, "ask_skip_tags_on_launch": false,
        "ask_job_type_on_launch": false, "ask_verbosity_on_launch": false,
        "ask_inventory_on_launch": template.asks_inventory, "ask_credential_on_launch": false,
        "ask_execution_environment_on_launch": false, "ask_labels_on_launch": template.asks_labels,
        "ask_forks_on_launch": false, "ask_job_slice_count_on_launch": false, "ask_timeout_on_launch": false,
        "ask_instance_groups_on_launch": false, "survey_enabled": template.survey.is_some(), "become_enabled": false,
        "diff_mode": false, "allow_simultaneous": template.allow_simultaneous, "custom_virtualenv": null,
        "job_slice_count": 1, "webhook_service": "", "webhook_credential": null,
        "prevent_instance_group_fallback": false,
    });
    form.extend(fields.as_object().cloned().unwrap());
    Value::Object(form)
}

fn workflow(store: &Store, id: u64, user: u64) -> Value {
    let blueprint = &store.templates[&id];
    let template = &blueprint.template;
    let past = Past::of(store, id);
    let own = [
        "workflow_jobs",
        "schedules",
        "launch",
        "webhook_key",
        "webhook_receiver",
        "workflow_nodes",
        "labels",
        "activity_stream",
        "notification_templates_started",
        "notification_templates_success",
        "notification_templates_error",
        "notification_templates_approvals",
        "access_list",
        "object_roles",
        "survey_spec",
        "copy",
    ];
    let mut related: Map<String, Value> = by_admin().into_iter().chain(links(&url(store, id), &own)).collect();
    related.insert("webhook_receiver".to_owned(), "".into());
    related.insert("organization".to_owned(), format!("/api/v2/organizations/{ORGANIZATION}/").into());
    if let Some(inventory) = blueprint.inventory {
        related.insert("inventory".to_owned(), format!("/api/v2/inventories/{inventory}/").into());
    }
    insert_after(&mut related, "modified_by", past.related.clone());
    let roles = super::roles(
        id,
        &[
            ("admin_role", "Admin", "Can manage all aspects of the workflow job template"),
            ("execute_role", "Execute", "May run the workflow job template"),
            ("read_role", "Read", "May view settings for the workflow job template"),
            ("approval_role", "Approve", "Can approve or deny a workflow approval node"),
        ],
    );
    let mut form = head(store, id, "workflow_job_template", related, summary(store, id, user, &past, roles, false));
    form.extend(past.fields);
    let fields = json!({
        "extra_vars": template.extra_vars, "organization": ORGANIZATION, "survey_enabled": template.survey.is_some(),
        "allow_simultaneous": template.allow_simultaneous, "ask_variables_on_launch": template.asks_variables,
        "inventory": blueprint.inventory, "limit": null, "scm_branch": null,
        "ask_inventory_on_launch": template.asks_inventory, "ask_scm_branch_on_launch": false,
        "ask_limit_on_launch": false, "webhook_service": "", "webhook_credential": null,
        "ask_labels_on_launch": template.asks_labels, "ask_skip_tags_on_launch": false, "ask_tags_on_launch": false,
        "skip_tags": null, "job_tags": null,
    });
    form.extend(fields.as_object().cloned().unwrap());
    Value::Object(form)
}
