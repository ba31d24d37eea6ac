//! What ran in a workflow job: all of its nodes, over all pages, and those of the workflows in it.

use std::collections::HashSet;

use crate::api::job::{self, Job, JobId, Node, Status};
use crate::api::template::Kind;
use crate::client::{CallError, Client};

/// Something that ran or runs for a workflow: a leaf of its tree, or anything else in it that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Its number, which is nothing else's: what began later has a higher one.
    pub(crate) id: u64,
    pub(crate) what: What,
    pub(crate) name: String,
    pub(crate) status: Status,
}

/// What it is that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A job, whose events and artifacts can be asked for.
    Job,
    /// A workflow in the workflow, which its own leaves stand for unless it failed.
    Workflow,
    /// An approval, an update of a project: nothing that has a word to say of a host.
    Other,
}

impl Ran {
    /// Whether it ended badly.
    pub(crate) fn has_failed(&self) -> bool {
        self.status.has_failed()
    }

    /// Its job, where it is one that can be looked at.
    pub(crate) fn job(&self) -> Option<JobId> {
        let kind = match self.what {
            What::Job => Kind::Job,
            What::Workflow => Kind::Workflow,
            What::Other => return None,
        };
        Some(JobId { kind, id: self.id })
    }
}

/// What ran for a job: single jobs, and whatever else failed. A job without nodes is all of it.
pub(crate) async fn of(client: &Client, root: JobId, job: &Job) -> Result<Vec<Ran>, CallError> {
    if root.kind == Kind::Job {
        return Ok(vec![Ran { id: root.id, what: What::Job, name: job.name.clone(), status: job.status }]);
    }
    let mut all = Vec::new();
    let mut seen = HashSet::from([root.id]);
    let mut workflows = vec![root.id];
    while let Some(workflow) = workflows.pop() {
        for ran in job::nodes(client, workflow).await?.iter().filter_map(ran) {
            // A workflow can be a node of itself.
            if ran.what == What::Workflow && seen.insert(ran.id) {
                workflows.push(ran.id);
            }
            if ran.what == What::Job || ran.has_failed() {
                all.push(ran);
            }
        }
    }
    all.sort_by_key(|ran| ran.id);
    all.dedup_by_key(|ran| ran.id);
    Ok(all)
}

/// What a node ran.
fn ran(node: &Node) -> Option<Ran> {
    let ran = node.summary_fields.job.as_ref()?;
    let what = match Kind::of_type(&ran.kind) {
        Some(Kind::Job) => What::Job,
        Some(Kind::Workflow) => What::Workflow,
        None => What::Other,
    };
    Some(Ran { id: ran.id, what, name: ran.name.clone(), status: ran.status })
}

/// How far a workflow is, in a few words.
pub(crate) fn progress(nodes: &[Node]) -> Option<String> {
    let jobs = || nodes.iter().filter_map(|node| node.summary_fields.job.as_ref());
    let running: Vec<&str> = jobs().filter(|job| job.status == Status::Running).map(|job| job.name.as_str()).collect();
    let waiting = jobs().find(|job| matches!(job.status, Status::Pending | Status::Waiting));
    let done = jobs().filter(|job| job.status.is_over()).count();
    // What is ruled out does not count.
    let all = nodes.iter().filter(|node| !node.do_not_run || node.summary_fields.job.is_some()).count();
    let what = match (running.as_slice(), waiting) {
        ([], None) => return None,
        ([], Some(job)) => format!("`{}` is {}", job.name, job.status.word()),
        ([name], _) => format!("running `{name}`"),
        (several, _) => format!("running `{}`", several.join("`, `")),
    };
    Some(format!("{what}, {done} of {all} done"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nodes(text: serde_json::Value) -> Vec<Node> {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn progress_is_what_runs_and_how_much_is_done() {
        let job = |id: u64, name: &str, status: &str| json!({"id": id, "summary_fields": {"job": {"id": id, "name": name, "status": status, "type": "job"}}});
        let to_come = json!({"id": 9, "do_not_run": false, "summary_fields": {}});
        let ruled_out = json!({"id": 10, "do_not_run": true, "summary_fields": {}});
        let all =
            nodes(json!([job(1, "jt-deploy", "successful"), job(2, "jt-finalize", "running"), to_come, ruled_out]));
        assert_eq!(progress(&all).as_deref(), Some("running `jt-finalize`, 1 of 3 done"));
        let waiting = nodes(json!([job(1, "jt-deploy", "pending"), to_come]));
        assert_eq!(progress(&waiting).as_deref(), Some("`jt-deploy` is pending, 0 of 2 done"));
        assert_eq!(progress(&nodes(json!([to_come]))), None);
    }

    #[test]
    fn an_approval_is_nothing_to_look_at() {
        let approval = nodes(
            json!([{"id": 1, "summary_fields": {"job": {"id": 5, "name": "ok?", "status": "failed", "type": "workflow_approval"}}}]),
        );
        let ran = ran(&approval[0]).unwrap();
        assert_eq!((ran.what, ran.job(), ran.has_failed()), (What::Other, None, true));
    }
}
