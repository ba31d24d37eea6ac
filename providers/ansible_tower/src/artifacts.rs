//! The artifacts of the jobs of a workflow, and which of them count.

use broker_core::ArgValue;
use broker_core::provider::{ErrorKind, ProviderError};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Map, Value};

use crate::api::job::{Job, JobId, Status};
use crate::api::template::Kind;
use crate::client::{CallError, Client};
use crate::tree::Ran;

/// How many jobs are asked for at once.
const AT_ONCE: usize = 8;

/// How artifacts are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Those of the last job that has any.
    Last,
    /// Those of all, the later over the earlier.
    Merge,
}

impl Strategy {
    pub(crate) fn read(value: &ArgValue) -> Result<Self, ProviderError> {
        match value.as_str().map(str::trim) {
            Some("last") => Ok(Self::Last),
            Some("merge") => Ok(Self::Merge),
            _ => {
                let message = format!("argument `artifacts` is `{value}`, and must be `last` or `merge`");
                Err(ProviderError::new(ErrorKind::BadRequest, message))
            }
        }
    }
}

/// A job with its artifacts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Left {
    pub(crate) status: Status,
    pub(crate) artifacts: Map<String, Value>,
}

/// What single jobs left, in the order of their ids.
pub(crate) async fn of_all(client: &Client, ran: &[Ran]) -> Result<Vec<Left>, CallError> {
    let mut jobs: Vec<(JobId, Status)> =
        ran.iter().filter(|ran| ran.job.kind == Kind::Job).map(|ran| (ran.job, ran.status)).collect();
    jobs.sort_by_key(|(job, _)| job.id);
    let asked = jobs.into_iter().map(|(job, status)| {
        let client = client.clone();
        async move { Ok(Left { status, artifacts: settled(&client, job).await?.artifacts }) }
    });
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}

/// A job of which everything can be asked. The last of its events come a moment after its end.
pub(crate) async fn settled(client: &Client, job: JobId) -> Result<Job, CallError> {
    let mut pause = std::time::Duration::from_millis(100);
    for _ in 0..8 {
        let found = crate::api::job::job(client, job).await?;
        if found.event_processing_finished != Some(false) || !found.artifacts.is_empty() {
            return Ok(found);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(std::time::Duration::from_secs(2));
    }
    crate::api::job::job(client, job).await
}

/// The artifacts that count.
///
/// By [`Strategy::Last`] they are those of the last job, unless an earlier one has what is asked for and the last has not:
/// a job that only tidies up or reports says nothing of the host.
pub(crate) fn chosen(left: &[Left], strategy: Strategy, speaks_of: &[&str]) -> Map<String, Value> {
    match strategy {
        Strategy::Last => {
            let speaks = |left: &&Left| speaks_of.iter().any(|key| left.artifacts.contains_key(*key));
            let last = || left.iter().rev().find(|left| !left.artifacts.is_empty());
            left.iter().rev().find(speaks).or_else(last).map(|left| left.artifacts.clone()).unwrap_or_default()
        }
        Strategy::Merge => {
            let mut all = Map::new();
            for left in left {
                merge(&mut all, &left.artifacts);
            }
            all
        }
    }
}

fn merge(under: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            (_, value) => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn left(artifacts: Value) -> Left {
        Left { status: Status::Successful, artifacts: artifacts.as_object().cloned().unwrap() }
    }

    #[test]
    fn the_last_job_counts_or_all_of_them() {
        let all = [
            left(json!({"vm_name": "rig-vm01", "fqdn": "a", "data_out": {"vms": ["rig-vm01"]}})),
            left(json!({"_broker_facts": {"name": "rig-vm01"}, "data_out": {"more": 1}})),
        ];
        assert_eq!(Value::Object(chosen(&all, Strategy::Last, &[])), Value::Object(all[1].artifacts.clone()));
        let merged = chosen(&all, Strategy::Merge, &[]);
        assert_eq!(merged["data_out"], json!({"vms": ["rig-vm01"], "more": 1}));
        assert_eq!(merged["vm_name"], json!("rig-vm01"));
    }

    #[test]
    fn a_job_that_says_nothing_of_the_host_does_not_hide_it() {
        let all =
            [left(json!({"_broker_facts": {"name": "a"}})), left(json!({"data_out": {"list": []}})), left(json!({}))];
        assert!(chosen(&all, Strategy::Last, &["_broker_facts"]).contains_key("_broker_facts"));
        assert!(chosen(&all, Strategy::Last, &[]).contains_key("data_out"));
        assert!(chosen(&[], Strategy::Last, &["_broker_facts"]).is_empty());
    }
}
