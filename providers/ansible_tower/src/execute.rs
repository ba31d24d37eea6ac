//! Running a template for what it does, not for a host.

use broker_core::provider::{Execution, Order, ProviderError};
use serde_json::{Value, json};

use crate::api::job::{Job, JobId, Status};
use crate::arguments::Wanted;
use crate::artifacts::{self, Left, Strategy};
use crate::launch::NotLaunched;
use crate::reason::Reason;
use crate::run::Ended;
use crate::{TowerProvider, about};

impl TowerProvider {
    pub(crate) async fn run_action(&self, order: &Order) -> Result<Execution, ProviderError> {
        let wanted = Wanted::of_execution(order)?;
        let prepared = self.prepared(&wanted).await?;
        let label = prepared.label();
        order.progress(format!("launching {label}"));
        let launched = self.launch(&prepared).await.map_err(|NotLaunched { error, .. }| error)?;
        let id = launched.launched_as(wanted.kind);
        self.tell_of(order, id).await;
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
        self.tell_why(order, id, &job, &reasons);
        let error = self.failed(&label, id, &job, &reasons);
        let mut output = self.output(id, &job, &[], None);
        if let Value::Object(output) = &mut output {
            output.insert("reasons".to_owned(), reasons.all.iter().map(Reason::to_json).collect());
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
            "status": job.status.api_word(),
            "started": job.started.map(|at| at.to_string()),
            "finished": job.finished.map(|at| at.to_string()),
            "elapsed": job.elapsed,
            "api_url": self.api_link(id),
            "ui_url": self.link(id),
            "artifacts": artifacts::chosen(left, Strategy::Last, &[]),
        })
    }
}
