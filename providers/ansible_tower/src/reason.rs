//! Why a job failed, for a person: the task and what it said, what the service says of the job, or the end of what it
//! printed.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::api::job::{self, Event, Job, JobId, Status};
use crate::api::template::Kind;
use crate::artifacts::{self, Wanted};
use crate::client::{CallError, Client};
use crate::settings::ErrorScope;
use crate::tree::{Ran, What};

/// How many lines of what a job printed are told.
const LINES: usize = 12;

/// Why one job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    /// The job's name.
    pub(crate) job: String,
    /// The task that failed.
    pub(crate) task: Option<String>,
    /// What is the matter, in one line.
    pub(crate) text: String,
    /// The end of what it printed, or of what the service said.
    pub(crate) tail: Vec<String>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            Some(task) => write!(f, "task `{task}` of `{}`: {}", self.job, self.text),
            None => write!(f, "`{}`: {}", self.job, self.text),
        }
    }
}

impl Reason {
    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let mut told = Map::new();
        told.insert("job".to_owned(), json!(self.job));
        told.extend(self.task.as_ref().map(|task| ("task".to_owned(), json!(task))));
        told.insert("reason".to_owned(), json!(self.text));
        if !self.tail.is_empty() {
            told.insert("output".to_owned(), json!(self.tail));
        }
        Value::Object(told)
    }
}

/// The last lines of something, as a cause.
#[derive(Debug)]
pub(crate) struct Tail(Vec<String>);

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it ends with")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for Tail {}

/// All that there is to say of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reasons {
    pub(crate) all: Vec<Reason>,
    /// What is to be said where no job has a reason.
    pub(crate) otherwise: String,
}

impl Reasons {
    pub(crate) fn tail(&self) -> Option<Tail> {
        let tail = self.all.iter().find(|reason| !reason.tail.is_empty())?;
        Some(Tail(tail.tail.clone()))
    }

    /// For programs: the one reason, or a list of several; where there is none, what is to be said then.
    pub(crate) fn to_json(&self) -> Value {
        match self.all.as_slice() {
            [] => json!(self.otherwise),
            [only] => only.to_json(),
            several => several.iter().map(Reason::to_json).collect(),
        }
    }

    /// Whether a reason says that the workflow itself has given its host back.
    pub(crate) fn say_that_it_is_gone(&self) -> bool {
        self.all.iter().any(|reason| {
            let text = reason.text.to_lowercase();
            ["auto-checked", "automatically checked in", "auto checked in", "auto checkin", "auto-checkin"]
                .iter()
                .any(|word| text.contains(word))
        })
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.all.is_empty() {
            return f.write_str(&self.otherwise);
        }
        for (at, reason) in self.all.iter().enumerate() {
            write!(f, "{}{reason}", if at > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// Finds out why a job failed. `ran` is all that ran for it.
pub(crate) async fn of(
    client: &Client,
    job: &Job,
    id: JobId,
    ran: &[Ran],
    scope: ErrorScope,
) -> Result<Reasons, CallError> {
    let mut failed: Vec<&Ran> = ran.iter().filter(|ran| ran.has_failed()).collect();
    // The job that failed last has the reason. What was cancelled went with the whole, and what is no job has none.
    failed.sort_by_key(|ran| (ran.what != What::Job, ran.status == Status::Cancelled, std::cmp::Reverse(ran.id)));
    if failed.first().is_some_and(|ran| ran.what == What::Job) {
        failed.retain(|ran| ran.what != What::Workflow);
    }
    if scope == ErrorScope::Last {
        failed.truncate(1);
    }
    let mut all = Vec::new();
    for ran in failed {
        all.push(match ran.job().filter(|_| ran.what == What::Job) {
            Some(one) if one == id && job.event_processing_finished == Some(true) => of_one(client, job).await?,
            Some(one) => of_one(client, &artifacts::settled(client, one, Wanted::Events).await?).await?,
            None => {
                let (job, text) = (ran.name.clone(), format!("it {}", ended(ran.status)));
                Reason { job, task: None, text, tail: Vec::new() }
            }
        });
    }
    let otherwise = match (job.status, job.job_explanation.as_str(), id.kind) {
        (Status::Cancelled, _, _) => "somebody cancelled it".to_owned(),
        (_, "", _) => "nothing says why".to_owned(),
        (_, words, _) => words.trim_end_matches('.').to_owned(),
    };
    if job.status == Status::Cancelled && id.kind == Kind::Workflow {
        // What its jobs say of that is no news.
        all.retain(|reason| reason.text != CANCELLED);
    }
    Ok(Reasons { all, otherwise })
}

const CANCELLED: &str = "it was cancelled";

/// How a job ended that did not end well.
pub(crate) fn ended(status: Status) -> &'static str {
    match status {
        Status::Cancelled => "was cancelled",
        Status::Error => "broke down",
        _ => "failed",
    }
}

async fn of_one(client: &Client, job: &Job) -> Result<Reason, CallError> {
    let reason = |task: Option<String>, text: String, tail| Reason { job: job.name.clone(), task, text, tail };
    if job.status == Status::Cancelled {
        return Ok(reason(None, CANCELLED.to_owned(), Vec::new()));
    }
    if !job.result_traceback.trim().is_empty() {
        let lines = last_lines(&job.result_traceback);
        let text = lines.last().cloned().unwrap_or_default();
        return Ok(reason(None, text, lines));
    }
    let events = job::failed_events(client, job.id).await?;
    if let Some((task, text, tail)) = of_events(&events) {
        return Ok(reason(Some(task), text, tail));
    }
    if !job.job_explanation.trim().is_empty() {
        return Ok(reason(None, job.job_explanation.trim().trim_end_matches('.').to_owned(), Vec::new()));
    }
    let lines = match job::stdout(client, job.id).await {
        Ok(text) => last_lines(&text),
        // That nothing can be read is no reason of the job's.
        Err(error) => {
            tracing::debug!(?error, job = job.id, "what the job printed cannot be read.");
            Vec::new()
        }
    };
    let telling =
        |line: &&String| ["ERROR!", "fatal:", "[ERROR]"].iter().any(|word| line.trim_start().starts_with(word));
    let text = lines.iter().find(telling).or(lines.last()).cloned();
    Ok(reason(None, text.unwrap_or_else(|| "it failed, and has printed nothing".to_owned()), lines))
}

/// The task that failed, what it said, and the end of what it printed. What a play recovered from comes before what it did
/// not.
fn of_events(events: &[Event]) -> Option<(String, String, Vec<String>)> {
    let is_failure = |event: &&Event| {
        matches!(event.event.as_str(), "runner_on_failed" | "runner_on_unreachable" | "runner_on_async_failed")
            && event.event_data.ignore_errors != Some(true)
    };
    let mut failures: Vec<&Event> = events.iter().filter(is_failure).collect();
    failures.sort_by_key(|event| event.counter);
    failures.iter().rev().find_map(|event| {
        let result = event.event_data.res.as_ref()?;
        let message = message(result)?;
        let task = if event.task.is_empty() { event.play.clone() } else { event.task.clone() };
        Some((task, message, printed(result)))
    })
}

/// The last lines that a task printed, where that is more than one.
fn printed(result: &Value) -> Vec<String> {
    let text = |key: &str| result.get(key).and_then(Value::as_str).unwrap_or_default();
    let lines = last_lines(&format!("{}\n{}", text("stdout"), text("stderr")));
    if lines.len() > 1 { lines } else { Vec::new() }
}

fn message(result: &Value) -> Option<String> {
    let text = |key: &str| -> Option<String> {
        let text = match result.get(key)? {
            Value::String(text) => text.clone(),
            Value::Null => return None,
            other => other.to_string(),
        };
        Some(one_line(&text)).filter(|text| !text.is_empty())
    };
    let first = text("msg");
    // Of a loop its items tell more than the loop, and of a command what it printed more than its status.
    let items = result.get("results").and_then(Value::as_array).into_iter().flatten();
    let of_items: Vec<String> =
        items.filter(|item| item.get("failed") == Some(&Value::Bool(true))).filter_map(message).collect();
    if !of_items.is_empty() {
        return Some(of_items.join("; "));
    }
    if first.as_deref() == Some("non-zero return code") {
        let printed = text("stderr").or_else(|| text("stdout"));
        return printed.map(|printed| format!("non-zero return code: {printed}")).or(first);
    }
    first.or_else(|| text("stderr")).or_else(|| text("exception")).or_else(|| text("censored"))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(600).collect()
}

fn last_lines(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    // Where an error is announced, what follows on it counts, not what fills the end.
    let announced = lines.iter().rposition(|line| line.trim_start().starts_with("ERROR!"));
    let from = announced.unwrap_or(lines.len().saturating_sub(LINES));
    lines.get(from..).unwrap_or_default().iter().take(LINES).map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(list: Value) -> Vec<Event> {
        serde_json::from_value(list).unwrap()
    }

    #[test]
    fn the_task_that_failed_says_why() {
        let recorded = events(json!([
            {"event": "runner_on_failed", "counter": 12, "failed": true, "task": "Refuse", "play": "Provisioning",
             "event_data": {"host": "localhost", "res": {"changed": false, "msg": "No hypervisor has capacity for flavor huge"}}},
            {"event": "playbook_on_stats", "counter": 13, "failed": true, "task": "", "event_data": {"failures": {"localhost": 1}}}
        ]));
        let expected = ("Refuse".to_owned(), "No hypervisor has capacity for flavor huge".to_owned(), Vec::new());
        assert_eq!(of_events(&recorded), Some(expected));
        assert_eq!(of_events(&recorded[1..]), None);
    }

    #[test]
    fn the_end_of_what_a_task_printed_is_told() {
        let result = json!({"msg": "non-zero return code", "rc": 2, "stdout": "one\ntwo\n", "stderr": "three\n"});
        let failed = events(
            json!([{"event": "runner_on_failed", "counter": 3, "task": "Run it", "event_data": {"res": result}}]),
        );
        let (_, text, tail) = of_events(&failed).unwrap();
        assert_eq!(text, "non-zero return code: three");
        assert_eq!(tail, ["one", "two", "three"]);
        assert!(printed(&json!({"msg": "x", "stdout": "", "stderr": "one"})).is_empty());
    }

    #[test]
    fn what_was_ignored_or_recovered_from_is_not_the_reason() {
        let failed = |counter: u64, msg: &str, ignored: bool| json!({"event": "runner_on_failed", "counter": counter, "task": msg, "event_data": {"res": {"msg": msg}, "ignore_errors": ignored}});
        let all = events(json!([failed(9, "ignored", true), failed(7, "last", false), failed(3, "rescued", false)]));
        assert_eq!(of_events(&all).unwrap().1, "last");
    }

    #[test]
    fn results_of_every_shape_are_read() {
        for (result, text) in [
            (json!({"msg": "two\n lines"}), Some("two lines")),
            (json!({"msg": {"a": 1}}), Some("{\"a\":1}")),
            (
                json!({"msg": "non-zero return code", "rc": 2, "stderr": "no such file", "stdout": ""}),
                Some("non-zero return code: no such file"),
            ),
            (
                json!({"msg": "One or more items failed", "results": [{"failed": true, "msg": "a"}, {"failed": false, "msg": "b"}, {"failed": true, "msg": "c"}]}),
                Some("a; c"),
            ),
            (
                json!({"censored": "the output has been hidden due to the fact that 'no_log: true'"}),
                Some("the output has been hidden due to the fact that 'no_log: true'"),
            ),
            (json!({"changed": false}), None),
        ] {
            assert_eq!(message(&result).as_deref(), text);
        }
    }

    #[test]
    fn an_error_that_is_announced_comes_first() {
        let text = "[DEPRECATION WARNING]: x\nERROR! couldn't resolve module/action 'no_such_module_zz'.\n\nThe offending line\n  ^ here\n\n";
        assert_eq!(
            last_lines(text),
            ["ERROR! couldn't resolve module/action 'no_such_module_zz'.", "The offending line", "  ^ here"]
        );
        let long: String = (0..50).map(|n| format!("line {n}\n")).collect();
        assert_eq!(last_lines(&long).len(), LINES);
        assert_eq!(last_lines(&long).last().map(String::as_str), Some("line 49"));
    }

    #[test]
    fn a_workflow_may_say_that_it_has_given_the_host_back() {
        let of = |text: &str| Reasons {
            all: vec![Reason { job: "j".into(), task: None, text: text.into(), tail: Vec::new() }],
            otherwise: String::new(),
        };
        assert!(of("No capacity, host auto-checked in").say_that_it_is_gone());
        assert!(!of("No capacity").say_that_it_is_gone());
    }
}
