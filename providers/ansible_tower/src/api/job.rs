//! Jobs and workflow jobs, the nodes of workflow jobs, and the events of jobs.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::Named;
use super::template::Kind;
use crate::client::{CallError, Client};

/// How many jobs are asked for at once.
const AT_ONCE: usize = 8;

/// Which job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct JobId {
    pub(crate) kind: Kind,
    pub(crate) id: u64,
}

impl JobId {
    pub(crate) fn path(self) -> String {
        format!("{}/{}/", self.kind.jobs(), self.id)
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.job_word(), self.id)
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    #[default]
    New,
    Pending,
    Waiting,
    Running,
    Successful,
    Failed,
    Error,
    #[serde(rename = "canceled")]
    Cancelled,
    /// One that this program has never heard of.
    #[serde(other)]
    Unknown,
}

impl Status {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Successful | Self::Failed | Self::Error | Self::Cancelled)
    }

    /// Whether it is a bad end.
    pub(crate) fn has_failed(self) -> bool {
        matches!(self, Self::Failed | Self::Error | Self::Cancelled)
    }

    /// What the service itself calls it.
    pub(crate) fn api_word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Cancelled => "canceled",
            Self::Unknown => "unknown",
            other => other.word(),
        }
    }

    /// What people call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Successful => "successful",
            Self::Failed => "failed",
            Self::Error => "in error",
            Self::Cancelled => "cancelled",
            Self::Unknown => "in a state that is not known",
        }
    }
}

/// A job or workflow job.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Job {
    pub(crate) id: u64,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) created: Option<Timestamp>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) elapsed: f64,
    pub(crate) job_explanation: String,
    pub(crate) result_traceback: String,
    /// As JSON text. Old services leave it out of lists.
    pub(crate) extra_vars: Option<String>,
    /// Of a job, not of a workflow job.
    pub(crate) artifacts: Artifacts,
    /// Of a job, not of a workflow job: whether all of its events and its artifacts can be asked for.
    pub(crate) event_processing_finished: Option<bool>,
    pub(crate) launched_by: LaunchedBy,
    pub(crate) summary_fields: JobSummary,
    /// What a launch was told and did not take.
    pub(crate) ignored_fields: Map<String, Value>,
}

/// What has launched a job. Old services do not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct LaunchedBy {
    id: Option<u64>,
    /// `user`, `schedule`, `webhook` …
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// What is told with a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct JobSummary {
    created_by: Option<Named>,
}

/// What `set_stats` has left with a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Artifacts {
    pub(crate) all: Map<String, Value>,
    /// Whether there are some that the service shows to nobody, since a task with `no_log` has set them.
    pub(crate) are_hidden: bool,
}

impl<'de> Deserialize<'de> for Artifacts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(from)? {
            Value::Object(all) => Self { all, are_hidden: false },
            // What stands in their place then is a sentence.
            Value::String(text) => Self { all: Map::new(), are_hidden: !text.is_empty() },
            _ => Self::default(),
        })
    }
}

impl Job {
    /// What a launch has made of a template of a kind: a job template that is cut into slices becomes a workflow of
    /// them.
    pub(crate) fn launched_as(&self, kind: Kind) -> JobId {
        JobId { kind: Kind::of_type(&self.kind).unwrap_or(kind), id: self.id }
    }

    /// The user that has launched it, as far as that is told.
    pub(crate) fn launcher(&self) -> Option<u64> {
        let LaunchedBy { id, kind } = &self.launched_by;
        match kind.as_deref() {
            Some("user") => *id,
            // A schedule's number is nobody's.
            Some(_) => None,
            None => id.or(self.summary_fields.created_by.as_ref().map(|user| user.id)),
        }
    }

    /// Whether it was made at a time or later, as far as that is known.
    pub(crate) fn is_since(&self, since: Option<Timestamp>) -> bool {
        since.is_none_or(|since| self.created.is_none_or(|created| created >= since))
    }

    /// A variable that it was launched with.
    pub(crate) fn variable(&self, name: &str) -> Option<Value> {
        serde_json::from_str::<Map<String, Value>>(self.extra_vars.as_deref()?).ok()?.remove(name)
    }

    /// As [`variable`](Self::variable), where it is a text.
    pub(crate) fn text_variable(&self, name: &str) -> Option<String> {
        self.variable(name)?.as_str().map(str::to_owned)
    }
}

/// A node of a workflow job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) id: u64,
    /// Whose node it is.
    pub(crate) workflow_job: u64,
    /// Whether it is certain that it will not run.
    pub(crate) do_not_run: bool,
    pub(crate) summary_fields: NodeSummary,
}

/// What is told with a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct NodeSummary {
    /// What it runs or ran.
    pub(crate) job: Option<NodeJob>,
    pub(crate) unified_job_template: Option<Named>,
}

/// What a node runs or ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct NodeJob {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) status: Status,
    /// `job`, `workflow_job`, `workflow_approval`, `project_update` …
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// Something that happened in a job.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    pub(crate) event: String,
    pub(crate) counter: u64,
    pub(crate) failed: bool,
    pub(crate) task: String,
    pub(crate) play: String,
    pub(crate) host_name: String,
    pub(crate) event_data: EventData,
}

/// What is told with an event.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct EventData {
    pub(crate) res: Option<Value>,
    pub(crate) ignore_errors: Option<bool>,
}

pub(crate) async fn job(client: &Client, job: JobId) -> Result<Job, CallError> {
    client.get(&job.path()).await
}

/// The nodes of a workflow job, by their ids: all of them, over all pages.
pub(crate) async fn nodes(client: &Client, workflow_job: u64) -> Result<Vec<Node>, CallError> {
    client.all(&format!("workflow_jobs/{workflow_job}/workflow_nodes/")).await
}

/// The nodes of several workflow jobs.
pub(crate) async fn nodes_of(client: &Client, workflow_jobs: &[u64]) -> Result<Vec<Node>, CallError> {
    let ids: Vec<String> = workflow_jobs.iter().map(u64::to_string).collect();
    client.all(&format!("workflow_job_nodes/?workflow_job__in={}&order_by=id", ids.join(","))).await
}

/// The events of a job that say that something failed, in the order in which they happened.
pub(crate) async fn failed_events(client: &Client, job: u64) -> Result<Vec<Event>, CallError> {
    client.all(&format!("jobs/{job}/job_events/?failed=true&order_by=counter")).await
}

/// What a job has printed, without colours. As a file: in any other form the service shows no more than a megabyte.
pub(crate) async fn stdout(client: &Client, job: u64) -> Result<String, CallError> {
    client.text(&format!("jobs/{job}/stdout/?format=txt_download")).await
}

/// Has a job cancelled. One that is over is left as it is.
pub(crate) async fn cancel(client: &Client, job: JobId) -> Result<(), CallError> {
    match client.post(&format!("{}cancel/", job.path()), &Value::Object(Map::new())).await {
        // What is over is not cancelled: 405 to those who may do all, 403 to others.
        Err(error) if !matches!(error.status(), Some(405 | 403)) => Err(error),
        _ => Ok(()),
    }
}

/// The runs of a template, newest first, back to the first one that was made before `since`.
pub(crate) async fn runs(
    client: &Client,
    kind: Kind,
    template: u64,
    since: Option<Timestamp>,
) -> Result<Vec<Job>, CallError> {
    let is_recent = |job: &Job| job.is_since(since);
    let mut runs = runs_while(client, (kind, template), None, is_recent).await?;
    runs.retain(is_recent);
    Ok(runs)
}

/// The runs of a template, newest first, of those before a number or of all, up to a page with one that is not wanted.
pub(crate) async fn runs_while(
    client: &Client,
    (kind, template): (Kind, u64),
    before: Option<u64>,
    wanted: impl Fn(&Job) -> bool,
) -> Result<Vec<Job>, CallError> {
    let before = before.map(|id| format!("&id__lt={id}")).unwrap_or_default();
    let path = format!("{}/{template}/{}/?order_by=-id{before}", kind.templates(), kind.jobs());
    let runs = client.while_wanted(&path, 50, wanted).await?;
    let whole = runs.into_iter().map(|run| async move {
        match run.extra_vars {
            Some(_) => Ok(run),
            None => job(client, run.launched_as(kind)).await,
        }
    });
    stream::iter(whole).buffered(AT_ONCE).try_collect().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_launch_is_read() {
        let text = r#"{"workflow_job": 2, "ignored_fields": {}, "id": 2, "type": "workflow_job", "url": "/api/v2/workflow_jobs/2/",
            "created": "2026-11-21T00:30:00.692897Z", "name": "deploy-vm", "status": "pending", "failed": false, "started": null,
            "finished": null, "elapsed": 0.0, "job_explanation": "", "result_traceback": "",
            "launched_by": {"id": 2, "name": "rigger", "type": "user", "url": "/api/v2/users/2/"},
            "extra_vars": "{\"deploy_flavor\": \"big\", \"_broker_id\": \"x\", \"n\": 1}"}"#;
        let job: Job = serde_json::from_str(text).unwrap();
        assert_eq!((job.id, job.status, job.status.is_over()), (2, Status::Pending, false));
        assert_eq!(job.text_variable("_broker_id").as_deref(), Some("x"));
        assert_eq!((job.variable("n"), job.text_variable("n")), (Some(1.into()), None));
        assert_eq!((job.launcher(), job.launched_as(Kind::Job).kind), (Some(2), Kind::Workflow));
        assert_eq!(Job::default().launched_as(Kind::Job).kind, Kind::Job);
    }

    #[test]
    fn who_has_launched_a_job_is_told_in_more_ways_than_one() {
        let launcher = |text: &str| serde_json::from_str::<Job>(text).unwrap().launcher();
        assert_eq!(launcher(r#"{"summary_fields": {"created_by": {"id": 7, "username": "jane"}}}"#), Some(7));
        assert_eq!(launcher(r#"{"launched_by": {}, "summary_fields": {"created_by": {"id": 7}}}"#), Some(7));
        let schedule = r#"{"launched_by": {"id": 7, "type": "schedule"}, "summary_fields": {"created_by": {"id": 7}}}"#;
        assert_eq!((launcher(schedule), launcher("{}")), (None, None));
    }

    #[test]
    fn artifacts_that_are_hidden_are_none_to_work_with() {
        let artifacts = |text: &str| serde_json::from_str::<Job>(text).unwrap().artifacts;
        let hidden = artifacts(r#"{"id": 1, "artifacts": "$hidden due to Ansible no_log flag$"}"#);
        assert!(hidden.are_hidden && hidden.all.is_empty());
        assert!(!artifacts(r#"{"artifacts": {"vm_name": "a"}}"#).are_hidden);
        for nothing in [r#"{"artifacts": {}}"#, r#"{"artifacts": null}"#, r#"{"artifacts": ""}"#, "{}"] {
            assert_eq!(artifacts(nothing), Artifacts::default(), "{nothing}");
        }
    }

    #[test]
    fn a_state_that_is_new_to_us_is_not_the_end() {
        let job: Job = serde_json::from_str(r#"{"id": 1, "status": "hibernating"}"#).unwrap();
        assert_eq!((job.status, job.status.is_over()), (Status::Unknown, false));
    }

    #[test]
    fn nodes_that_did_not_run_have_no_job() {
        let text = r#"[{"id": 1, "job": 3, "do_not_run": false, "summary_fields": {"job": {"id": 3, "name": "jt-deploy",
            "status": "successful", "failed": false, "elapsed": 3.4, "type": "job"}}},
            {"id": 159, "job": null, "do_not_run": true, "summary_fields": {"unified_job_template": {"id": 10, "name": "x"}}}]"#;
        let nodes: Vec<Node> = serde_json::from_str(text).unwrap();
        assert_eq!(nodes[0].summary_fields.job.as_ref().map(|job| job.id), Some(3));
        assert!(nodes[1].summary_fields.job.is_none() && nodes[1].do_not_run);
    }
}
