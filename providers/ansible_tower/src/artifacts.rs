//! The artifacts of the jobs of a workflow, and which of them count.

use broker_core::ArgValue;
use broker_core::provider::{ErrorKind, ProviderError};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::api::job::{Artifacts, Job, JobId, Status};
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

/// What ran, with its artifacts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Left {
    pub(crate) ran: Ran,
    pub(crate) artifacts: Map<String, Value>,
    /// Whether there are others that are shown to nobody.
    pub(crate) are_hidden: bool,
    /// When it ended, where that is told.
    finished: Option<Timestamp>,
}

impl Left {
    /// Whether it ended after another one. Of what nobody can tell when it ended the one that began later did.
    fn is_after(&self, other: &Self) -> bool {
        match (self.finished, other.finished) {
            (Some(one), Some(other)) if one != other => one > other,
            _ => self.ran.id > other.ran.id,
        }
    }
}

/// What everything that ran has left, in the order in which it began. What is not over has left nothing yet.
pub(crate) async fn of_all(client: &Client, ran: &[Ran]) -> Result<Vec<Left>, CallError> {
    let mut ran = ran.to_vec();
    ran.sort_by_key(|ran| ran.id);
    let asked = ran.into_iter().map(|ran| {
        let client = client.clone();
        async move {
            let job = match ran.job().filter(|job| job.kind == Kind::Job && ran.status.is_over()) {
                Some(job) => settled(&client, job, Wanted::Artifacts).await?,
                None => Job::default(),
            };
            let Artifacts { all: artifacts, are_hidden } = job.artifacts;
            Ok(Left { ran, artifacts, are_hidden, finished: job.finished })
        }
    });
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}

/// Those that count as told of a host: all of them, unless something failed. Then a workflow may have taken back what
/// it had made, so that only those count that went well after that.
pub(crate) fn that_count(left: &[Left]) -> Vec<&Left> {
    let failed: Vec<&Left> = left.iter().filter(|left| left.ran.has_failed()).collect();
    let counts = |one: &&Left| {
        failed.is_empty() || one.ran.status == Status::Successful && failed.iter().all(|failed| one.is_after(failed))
    };
    left.iter().filter(counts).collect()
}

/// What is to be asked of a job that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Artifacts,
    Events,
}

/// A job of which that can be asked. The last of its events come a moment after its end.
pub(crate) async fn settled(client: &Client, job: JobId, wanted: Wanted) -> Result<Job, CallError> {
    let mut pause = std::time::Duration::from_millis(100);
    for _ in 0..8 {
        let found = crate::api::job::job(client, job).await?;
        let is_told = wanted == Wanted::Artifacts && (!found.artifacts.all.is_empty() || found.artifacts.are_hidden);
        if found.event_processing_finished != Some(false) || is_told {
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
pub(crate) fn chosen<'a, I>(left: I, strategy: Strategy, speaks_of: &[&str]) -> Map<String, Value>
where
    I: IntoIterator<Item = &'a Left>,
{
    let left: Vec<&Left> = left.into_iter().collect();
    match strategy {
        Strategy::Last => {
            let speaks = |left: &&&Left| speaks_of.iter().any(|key| left.artifacts.contains_key(*key));
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
    use crate::tree::What;

    fn left(artifacts: Value) -> Left {
        ended(1, Status::Successful, None, artifacts)
    }

    fn ended(id: u64, status: Status, second: Option<i64>, artifacts: Value) -> Left {
        let ran = Ran { id, what: What::Job, name: String::new(), status };
        let finished = second.map(|second| Timestamp::from_second(second).unwrap());
        Left { ran, artifacts: artifacts.as_object().cloned().unwrap(), are_hidden: false, finished }
    }

    #[test]
    fn what_was_told_before_something_failed_does_not_count() {
        let ids = |all: &[Left]| that_count(all).iter().map(|left| left.ran.id).collect::<Vec<_>>();
        let made = |id, second| ended(id, Status::Successful, second, json!({"vm_name": "a"}));
        let failed = |id, second| ended(id, Status::Failed, second, json!({"vm_name": "b"}));
        assert_eq!(ids(&[made(1, Some(5)), made(2, Some(6))]), [1, 2]);
        assert_eq!(ids(&[made(1, Some(5)), failed(2, Some(6)), made(3, Some(7))]), [3]);
        // Beside what failed, and longer.
        assert_eq!(ids(&[made(1, Some(9)), failed(2, Some(6))]), [1]);
        assert!(
            ids(&[failed(1, Some(3)), made(2, Some(5)), ended(3, Status::Cancelled, Some(6), json!({}))]).is_empty()
        );
        // An approval does not say when it was denied.
        assert_eq!(ids(&[made(1, Some(5)), failed(2, None), made(3, Some(7))]), [3]);
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
        assert!(chosen(&[] as &[Left], Strategy::Last, &["_broker_facts"]).is_empty());
    }
}
