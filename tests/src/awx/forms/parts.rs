//! What belongs to jobs: the nodes of workflow jobs, events, and what a job did on each host.

use serde_json::{Map, Value, json};

use super::{insert_after, jobs, links, templates};
use crate::awx::clock::shown;
use crate::awx::events::{self, Event};
use crate::awx::store::Store;
use crate::awx::template::What;

/// A node of a workflow job.
pub(in crate::awx) fn node(store: &Store, id: u64) -> Value {
    let node = &store.nodes[&id];
    let workflow = &store.jobs[&node.workflow_job];
    let own = format!("/api/v2/workflow_job_nodes/{id}/");
    let lists = ["labels", "credentials", "instance_groups", "success_nodes", "failure_nodes", "always_nodes"];
    let mut related = links(&own, &lists);
    related.insert("unified_job_template".to_owned(), templates::url(store, node.template).into());
    let mut summary = Map::new();
    let about = |template: u64| &store.templates[&template].template;
    if let Some(id) = node.job {
        related.insert("job".to_owned(), jobs::url(store, id).into());
        let job = &store.jobs[&id];
        let mut short = json!({
            "id": id, "name": about(job.template).name, "description": about(job.template).description,
            "status": job.status.shown(), "failed": job.status.has_failed(),
            // The table that this comes from has it only once the job has ended.
            "elapsed": if job.status.is_end() { jobs::elapsed(store, job) } else { 0.0 }, "type": jobs::kind(job),
        });
        if let Some(at) = job.canceled_on {
            short["canceled_on"] = shown(at).into();
        }
        summary.insert("job".to_owned(), short);
    }
    related.insert("workflow_job".to_owned(), jobs::url(store, node.workflow_job).into());
    let parent = about(workflow.template);
    let parent = json!({"id": node.workflow_job, "name": parent.name, "description": parent.description});
    summary.insert("workflow_job".to_owned(), parent);
    let is_workflow = store.templates[&node.template].is_workflow();
    summary.insert(
        "unified_job_template".to_owned(),
        json!({
            "id": node.template, "name": about(node.template).name, "description": about(node.template).description,
            "unified_job_type": if is_workflow { "workflow_job" } else { "job" },
        }),
    );
    json!({
        "id": id, "type": "workflow_job_node", "url": own, "related": related, "summary_fields": summary,
        "created": shown(node.created), "modified": shown(node.modified), "extra_data": {}, "inventory": null,
        "scm_branch": null, "job_type": null, "job_tags": null, "skip_tags": null, "limit": null, "diff_mode": null,
        "verbosity": null, "execution_environment": null, "forks": null, "job_slice_count": null, "timeout": null,
        "job": node.job, "workflow_job": node.workflow_job, "unified_job_template": node.template,
        "success_nodes": node.success, "failure_nodes": node.failure, "always_nodes": node.always,
        "all_parents_must_converge": false, "do_not_run": node.do_not_run, "identifier": node.identifier,
    })
}

/// A job in the summary of what belongs to it.
fn short(store: &Store, id: u64) -> Value {
    let job = &store.jobs[&id];
    let template = &store.templates[&job.template].template;
    json!({
        "id": id, "name": template.name, "description": template.description, "status": job.status.shown(),
        "failed": job.status.has_failed(), "elapsed": jobs::elapsed(store, job), "type": jobs::kind(job),
        "job_template_id": job.template, "job_template_name": template.name,
    })
}

/// An event of a job.
pub(in crate::awx) fn event(store: &Store, job_id: u64, event: &Event) -> Value {
    let job = &store.jobs[&job_id];
    let playbook = match &store.templates[&job.template].template.what {
        What::Job { playbook, .. } if event.kind != "verbose" => playbook.as_str(),
        _ => "",
    };
    let own = format!("/api/v2/job_events/{}/", event.id);
    let mut related = json!({"job": jobs::url(store, job_id), "children": format!("{own}children/")});
    let mut summary = Map::new();
    let host = event.host.as_ref().and_then(|name| {
        let hosts = &job.play()?.hosts;
        hosts.iter().map(|(id, _)| *id).find(|id| store.hosts.get(id).is_some_and(|host| host.name == *name))
    });
    if let Some(id) = host {
        related["host"] = format!("/api/v2/hosts/{id}/").into();
        summary.insert("host".to_owned(), json!({"id": id, "name": event.host, "description": ""}));
    }
    summary.insert("job".to_owned(), short(store, job_id));
    summary.insert("role".to_owned(), json!({}));
    let created = shown(event.created);
    let mut data = event.data.clone();
    for key in ["start", "end"] {
        if data.get(key).is_some() {
            data[key] = created.replace('Z', "+00:00").into();
        }
    }
    json!({
        "id": event.id, "type": "job_event", "url": own, "related": related, "summary_fields": summary,
        "created": created, "modified": created, "job": job_id, "event": event.kind, "counter": event.counter,
        "event_display": event.display, "event_data": data, "event_level": event.level, "failed": event.failed,
        "changed": false, "uuid": event.uuid, "parent_uuid": event.parent, "host": host,
        "host_name": event.host.as_deref().unwrap_or_default(), "playbook": playbook, "play": event.play,
        "task": event.task, "role": "", "stdout": event.stdout, "start_line": event.start_line,
        "end_line": event.end_line, "verbosity": 0,
    })
}

/// What a job did on its hosts, once that is in the database.
pub(in crate::awx) fn host_summaries(store: &Store, id: u64) -> Vec<Value> {
    let job = &store.jobs[&id];
    let Some(play) = job.play().filter(|play| jobs::visible(store, job, play).iter().any(Event::is_last)) else {
        return Vec::new();
    };
    let summaries = play.hosts.iter().filter_map(|(host, number)| {
        let name = &store.hosts.get(host)?.name;
        let [ok, failures, skipped] = events::counted(&play.outcome, name);
        let at = shown(job.finished?);
        Some(json!({
            "id": number, "type": "job_host_summary", "url": format!("/api/v2/job_host_summaries/{number}/"),
            "related": {"job": jobs::url(store, id), "host": format!("/api/v2/hosts/{host}/")},
            "summary_fields": {"host": {"id": host, "name": name, "description": ""}, "job": short(store, id)},
            "created": at, "modified": at, "job": id, "host": host, "constructed_host": null, "host_name": name,
            "changed": 0, "dark": 0, "failures": failures, "ok": ok, "processed": 1, "skipped": skipped,
            "failed": failures > 0, "ignored": 0, "rescued": 0,
        }))
    });
    summaries.collect()
}

/// A job as the summary of a host has it: the last one on it.
pub(super) fn last_on_host(store: &Store, id: u64) -> (Value, Value) {
    let job = &store.jobs[&id];
    let mut about = short(store, id);
    let about_map = about.as_object_mut().unwrap();
    about_map.shift_remove("elapsed");
    about_map.shift_remove("type");
    insert_after(about_map, "description", [("finished", job.finished.map(shown).into())]);
    let recent = json!({
        "id": id, "name": store.templates[&job.template].template.name, "type": "job", "status": job.status.shown(),
        "finished": job.finished.map(shown),
    });
    (about, recent)
}
