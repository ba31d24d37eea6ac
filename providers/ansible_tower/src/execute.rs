//! Running a template for what it does, not for a host.

use broker_core::provider::{Execution, Order, ProviderError};
use serde_json::{Value, json};

use crate::api::job::{Job, JobId, Status};
use crate::arguments::Wanted;
use crate::artifacts::{self, Left, Strategy};
use crate::launch::NotLaunched;
use crate::run::Ended;
use crate::{TowerProvider, about};

impl TowerProvider {
    pub(crate) async fn run_action(&self, order: &Order) -> Result<Execution, ProviderError> {
        let wanted = Wanted::of_execution(order)?;
        let prepared = self.prepared(&wanted).await?;
        let label = prepared.label();
        order.progress(format!("launching {label}"));
        let launched = self.launch(&prepared).await.map_err(|NotLaunched { error, .. }| error)?;
        let id = JobId { kind: wanted.kind, id: launched.id };
        tracing::info!("{label} runs as {id}: {}", self.link(id));
        let job = match self.ended(id, &label, Some(order)).await? {
            Ended::Over(job) => job,
            Ended::GoesOn(error) | Ended::Stopped(error, _) => return Err(error),
        };
        let ran = self.ran(id, &job).await?;
        if job.status == Status::Successful {
            let left = artifacts::of_all(&self.patient(), &ran).await;
            let left = left.map_err(|error| about(error, id, "read the artifacts of"))?;
            return Ok(Execution { failure: None, output: self.output(id, &job, &left, wanted.strategy) });
        }
        let reasons = self.reasons(id, &job, &ran).await?;
        let error = self.failed(&label, id, &job, &reasons);
        let mut output = self.output(id, &job, &[], None);
        if let Value::Object(output) = &mut output {
            let reason = |reason: &crate::reason::Reason| {
                let mut told = json!({"job": reason.job, "reason": reason.text});
                if let (Value::Object(told), Some(task)) = (&mut told, &reason.task) {
                    told.insert("task".to_owned(), json!(task));
                }
                if let (Value::Object(told), false) = (&mut told, reason.tail.is_empty()) {
                    told.insert("output".to_owned(), json!(reason.tail));
                }
                told
            };
            output.insert("reasons".to_owned(), reasons.all.iter().map(reason).collect());
        }
        Ok(Execution { failure: Some(broker_core::error_chain(&error)), output })
    }

    /// What a run came to: its artifacts, where somebody has said how they are put together; else what it was.
    fn output(&self, id: JobId, job: &Job, left: &[Left], strategy: Option<Strategy>) -> Value {
        if let Some(strategy) = strategy {
            return Value::Object(artifacts::chosen(left, strategy, &[]));
        }
        json!({
            "id": id.id,
            "type": id.kind.job_type(),
            "name": job.name,
            "status": job.status.word(),
            "started": job.started.map(|at| at.to_string()),
            "finished": job.finished.map(|at| at.to_string()),
            "elapsed": job.elapsed,
            "api_url": format!("{}{}{}", self.client.base(), self.client.known_prefix().map_or("/", |prefix| prefix.path()), id.path()),
            "ui_url": self.link(id),
            "artifacts": artifacts::chosen(left, Strategy::Last, &[]),
        })
    }
}
