//! Jobs and workflow jobs.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::links;
use crate::awx::clock::{seconds, shown, signed};
use crate::awx::events::{self, Event, scratch};
use crate::awx::playbook::{NO_LOG, Outcome};
use crate::awx::records::{Job, Play, Status};
use crate::awx::store::{ORGANIZATION, PROJECT, Store};
use crate::awx::template::What;
use crate::awx::vars::dumps;

/// Where a form is shown: what it has depends on that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::awx) enum View {
    /// In a list.
    List,
    /// Alone.
    Detail,
    /// As the answer to a launch.
    Launch,
}

/// The type of a job.
pub(in crate::awx) fn kind(job: &Job) -> &'static str {
    if job.is_workflow() { "workflow_job" } else { "job" }
}

/// The path of a job.
pub(in crate::awx) fn url(store: &Store, id: u64) -> String {
    format!("/api/v2/{}s/{id}/", kind(&store.jobs[&id]))
}

/// How long a job took, or has taken until now.
pub(super) fn elapsed(store: &Store, job: &Job) -> f64 {
    match (job.started, job.finished) {
        (Some(started), Some(finished)) => seconds(started, finished),
        (Some(started), None) => seconds(started, store.clock.now()),
        (None, _) => 0.0,
    }
}

/// A job or a workflow job.
pub(in crate::awx) fn form(store: &Store, id: u64, view: View) -> Value {
    let job = &store.jobs[&id];
    let template = &store.templates[&job.template].template;
    let mut form = Map::new();
    let mut add = |fields: Value| form.extend(fields.as_object().cloned().unwrap());
    add(json!({
        "id": id,
        "type": kind(job),
        "url": url(store, id),
        "related": related(store, id, job),
        "summary_fields": summary(store, job),
        "created": shown(job.created),
        "modified": shown(job.modified),
        "name": template.name,
        "description": template.description,
        "unified_job_template": job.template,
        "launch_type": if job.node.is_some() { "workflow" } else { "manual" },
        "status": job.status.shown(),
    }));
    let is_play = !job.is_workflow();
    if is_play {
        add(json!({"execution_environment": is_placed(job).then_some(1)}));
    }
    add(json!({
        "failed": job.status.has_failed(),
        "started": job.started.map(shown),
        "finished": job.finished.map(shown),
        "canceled_on": job.canceled_on.map(shown),
        "elapsed": if view == View::Launch { 0.0 } else { elapsed(store, job) },
    }));
    let name = if let What::Job { playbook, .. } = &template.what { playbook.as_str() } else { "" };
    if view != View::List {
        add(command(id, job, name));
    }
    add(json!({"job_explanation": job.explanation}));
    if is_play {
        let node = if job.status == Status::Pending || !was_taken(job) { "" } else { "rig" };
        add(json!({"execution_node": node, "controller_node": node}));
    }
    if view != View::List {
        add(json!({"result_traceback": job.traceback}));
    }
    if let Some(play) = job.play().filter(|_| view != View::List) {
        add(json!({"event_processing_finished": job.status.is_end() && play.events_are_in}));
    }
    let launcher = &store.users[&job.user].name;
    add(json!({
        "launched_by": {"id": job.user, "name": launcher, "type": "user", "url": format!("/api/v2/users/{}/", job.user)},
        "work_unit_id": job.play().filter(|play| play.has_begun).map(|_| scratch(id)),
    }));
    add(match job.play() {
        Some(play) => of_play(job, play, name, template.allow_simultaneous),
        None => of_workflow(store, job, template.allow_simultaneous),
    });
    if let (Some(play), View::Detail) = (job.play(), view) {
        add(counts(store, job, play));
    }
    if store.is_old {
        form.shift_remove("launched_by");
        if view == View::List {
            form.shift_remove("extra_vars");
        }
    }
    Value::Object(form)
}

/// Whether it is known in what the job runs.
fn is_placed(job: &Job) -> bool {
    job.play().is_some_and(|play| play.is_placed)
}

/// Whether a node was chosen to run the job: not for one that was canceled before.
fn was_taken(job: &Job) -> bool {
    job.status == Status::Waiting || job.started.is_some()
}

fn related(store: &Store, id: u64, job: &Job) -> Map<String, Value> {
    let own = url(store, id);
    let template = super::templates::url(store, job.template);
    let user = format!("/api/v2/users/{}/", job.user);
    let by_hand = job.node.is_none();
    let source = job.node.map(|node| format!("/api/v2/workflow_jobs/{}/", store.nodes[&node].workflow_job));
    let mut related = Map::new();
    let mut add = |key: &str, value: String| drop(related.insert(key.to_owned(), value.into()));
    add("created_by", user.clone());
    if job.is_workflow() {
        if by_hand {
            add("modified_by", user);
        }
        add("unified_job_template", template.clone());
        if let Some(source) = source {
            add("source_workflow_job", source);
        }
        add("workflow_job_template", template);
        related.extend(links(
            &own,
            &["notifications", "workflow_nodes", "labels", "activity_stream", "relaunch", "cancel"],
        ));
        return related;
    }
    // A job that a node has taken was last touched by the system.
    if by_hand && job.status == Status::Pending {
        add("modified_by", user);
    }
    add("labels", format!("{own}labels/"));
    if let Some(inventory) = job.inventory {
        add("inventory", format!("/api/v2/inventories/{inventory}/"));
    }
    add("project", format!("/api/v2/projects/{PROJECT}/"));
    add("organization", format!("/api/v2/organizations/{ORGANIZATION}/"));
    add("credentials", format!("{own}credentials/"));
    add("unified_job_template", template.clone());
    add("stdout", format!("{own}stdout/"));
    if let Some(source) = source {
        add("source_workflow_job", source);
    }
    if is_placed(job) {
        add("execution_environment", "/api/v2/execution_environments/1/".to_owned());
    }
    for name in ["job_events", "job_host_summaries", "activity_stream", "notifications", "create_schedule"] {
        add(name, format!("{own}{name}/"));
    }
    add("job_template", template);
    related.extend(links(&own, &["cancel", "relaunch"]));
    related
}

fn summary(store: &Store, job: &Job) -> Map<String, Value> {
    let template = &store.templates[&job.template].template;
    let mut summary = Map::new();
    let mut add = |key: &str, value: Value| drop(summary.insert(key.to_owned(), value));
    add("organization", super::organization());
    if let Some(inventory) = job.inventory {
        add("inventory", super::inventory(store, inventory));
    }
    let about = json!({"id": job.template, "name": template.name, "description": template.description});
    let mut unified = about.clone();
    unified["unified_job_type"] = kind(job).into();
    if job.is_workflow() {
        add("workflow_job_template", about);
        add("unified_job_template", unified);
    } else {
        if is_placed(job) {
            add("execution_environment", super::things::environment());
        }
        add("project", super::things::project());
        add("job_template", about);
        add("unified_job_template", unified);
        if was_taken(job) {
            add("instance_group", json!({"id": 2, "name": "default", "is_container_group": false}));
        }
    }
    add("created_by", super::user(store, job.user));
    if job.node.is_none() && (job.is_workflow() || job.status == Status::Pending) {
        add("modified_by", super::user(store, job.user));
    }
    add("user_capabilities", json!({"delete": false, "start": true}));
    let mut labels: Vec<_> = job.labels.iter().map(|id| (&store.labels[id].name, id)).collect();
    labels.sort();
    let labels: Vec<Value> = labels.into_iter().map(|(name, id)| json!({"id": id, "name": name})).collect();
    let labels = json!({"count": labels.len(), "results": labels});
    if job.is_workflow() {
        add_source(store, job, &mut add);
        add("labels", labels);
    } else {
        add("labels", labels);
        add_source(store, job, &mut add);
        add("credentials", json!([]));
    }
    summary
}

fn add_source(store: &Store, job: &Job, add: &mut impl FnMut(&str, Value)) {
    let Some(node) = job.node else { return };
    let source = store.nodes[&node].workflow_job;
    let mut ancestor = source;
    while let Some(node) = store.jobs[&ancestor].node {
        ancestor = store.nodes[&node].workflow_job;
    }
    let name = |id: u64| store.templates[&store.jobs[&id].template].template.name.clone();
    let found = &store.jobs[&source];
    add(
        "source_workflow_job",
        json!({
            "id": source, "name": name(source),
            "description": store.templates[&found.template].template.description,
            "status": found.status.shown(), "failed": found.status.has_failed(), "elapsed": elapsed(store, found),
        }),
    );
    let url = url(store, ancestor);
    add("ancestor_job", json!({"id": ancestor, "name": name(ancestor), "type": "workflow_job", "url": url}));
}

/// The command that ran; nothing before it did.
fn command(id: u64, job: &Job, playbook: &str) -> Value {
    if !job.play().is_some_and(|play| play.has_begun) {
        return json!({"job_args": "", "job_cwd": "", "job_env": {}});
    }
    let folder = format!("/var/lib/awx/awx_{id}_{}", scratch(id));
    let (inventory, vars) = (format!("{folder}/inventory/hosts"), format!("@{folder}/env/extravars"));
    let arguments = json!(["ansible-playbook", "-u", "root", "-i", inventory, "-e", vars, playbook]);
    let collections = "/runner/requirements_collections:~/.ansible/collections:/usr/share/ansible/collections";
    let plugins = "/opt/ansible/lib/python3.11/site-packages/ansible_runner/display_callback/callback";
    let env = json!({
        "PWD": "/var/lib/awx", "HOME": "/var/lib/awx", "LANG": "C.UTF-8",
        "PATH": "/opt/ansible/bin:/usr/sbin:/usr/bin:/sbin:/bin", "JOB_ID": id.to_string(),
        "AWX_HOST": "https://platformhost", "INVENTORY_ID": job.inventory.map(|id| id.to_string()),
        "MAX_EVENT_RES": "700000", "PROJECT_REVISION": "",
        "ANSIBLE_ROLES_PATH": "/runner/requirements_roles:~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles",
        "RUNNER_OMIT_EVENTS": "False", "ANSIBLE_FORCE_COLOR": "True", "AWX_PRIVATE_DATA_DIR": folder,
        "AWX_ISOLATED_DATA_DIR": format!("{folder}/artifacts/{id}"), "ANSIBLE_STDOUT_CALLBACK": "awx_display",
        "ANSIBLE_CALLBACK_PLUGINS": plugins, "ANSIBLE_COLLECTIONS_PATH": collections,
        "ANSIBLE_COLLECTIONS_PATHS": collections, "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_LOCALHOST_WARNING": "False", "RUNNER_ONLY_FAILED_EVENTS": "False",
        "ANSIBLE_RETRY_FILES_ENABLED": "False", "ANSIBLE_SSH_CONTROL_PATH_DIR": "/runner/cp",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True", "ANSIBLE_PARAMIKO_RECORD_HOST_KEYS": "False",
    });
    json!({"job_args": dumps(&arguments), "job_cwd": format!("{folder}/project"), "job_env": env})
}

fn of_play(job: &Job, play: &Play, playbook: &str, allow_simultaneous: bool) -> Value {
    json!({
        "job_type": "run", "inventory": job.inventory, "project": PROJECT, "playbook": playbook, "scm_branch": "",
        "forks": 0, "limit": "", "verbosity": 0, "extra_vars": dumps(&job.shown_vars()), "job_tags": "",
        "force_handlers": false, "skip_tags": "", "start_at_task": "", "timeout": play.timeout,
        "use_fact_cache": !play.outcome.facts.is_empty(), "organization": ORGANIZATION, "job_template": job.template,
        "passwords_needed_to_start": [], "allow_simultaneous": allow_simultaneous, "artifacts": shown_artifacts(play),
        "scm_revision": "", "instance_group": was_taken(job).then_some(2), "diff_mode": false, "job_slice_number": 0,
        "job_slice_count": 1, "webhook_service": "", "webhook_credential": null, "webhook_guid": "",
    })
}

/// What a job left; a sentence in its place where a task that must not be shown has set it.
fn shown_artifacts(play: &Play) -> Value {
    match play.artifacts.get(NO_LOG) {
        Some(Value::Bool(true)) => "$hidden due to Ansible no_log flag$".into(),
        _ => Value::Object(play.artifacts.clone()),
    }
}

fn of_workflow(store: &Store, job: &Job, allow_simultaneous: bool) -> Value {
    let is_sliced = !store.templates[&job.template].is_workflow();
    json!({
        "workflow_job_template": (!is_sliced).then_some(job.template), "extra_vars": dumps(&job.shown_vars()),
        "allow_simultaneous": allow_simultaneous, "job_template": is_sliced.then_some(job.template), "is_sliced_job": is_sliced,
        "inventory": job.inventory, "limit": null, "scm_branch": null, "webhook_service": "",
        "webhook_credential": null, "webhook_guid": "", "skip_tags": null, "job_tags": null,
    })
}

/// What is counted from the events that are in the database.
fn counts(store: &Store, job: &Job, play: &Play) -> Value {
    let seen = visible(store, job, play);
    let count = |kind: &str| seen.iter().filter(|event| event.kind == kind).count();
    let mut hosts = Map::new();
    if seen.iter().any(|event| event.is_last()) {
        for host in names(&play.outcome) {
            let [_, failed, _] = events::counted(&play.outcome, &host);
            let key = if failed > 0 { "failures" } else { "ok" };
            let so_far = hosts.get(key).and_then(Value::as_u64).unwrap_or(0);
            hosts.insert(key.to_owned(), (so_far + 1).into());
        }
    }
    json!({
        "host_status_counts": if hosts.is_empty() { Value::Null } else { Value::Object(hosts) },
        "playbook_counts": {"play_count": count("playbook_on_play_start"), "task_count": count("playbook_on_task_start")},
        "custom_virtualenv": null,
    })
}

/// The hosts that a playbook ran on.
fn names(outcome: &Outcome) -> Vec<String> {
    let mut names: Vec<String> =
        outcome.steps.iter().flat_map(|step| &step.results).map(|(host, _, _)| host.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// The events that are in the database by now: not the last of those that happened lately.
pub(in crate::awx) fn visible<'a>(store: &Store, job: &Job, play: &'a Play) -> &'a [Event] {
    if job.status.is_end() && play.events_are_in {
        return &play.events;
    }
    let now = store.clock.now();
    let by = |time: Timestamp| play.events.iter().take_while(|event| event.created <= time).count();
    let is_old = by(now - signed(store.pace.run));
    &play.events[..is_old.max(by(now).div_ceil(2))]
}
