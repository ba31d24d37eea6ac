//! Runs of templates that are waited for to their end.

use std::sync::Arc;
use std::time::Duration;

use broker_core::duration;
use broker_core::provider::{ErrorKind, Order, ProviderError};
use tokio::time::Instant;

use crate::api::job::{self, Job, JobId, Status};
use crate::api::template::Kind;
use crate::reason::{self, Reasons};
use crate::settings::AtDeadline;
use crate::tree::{self, Ran};
use crate::{TowerProvider, about};

/// How long a job that was told to stop may take to do so. Seconds have been seen.
pub(crate) const STOPPING: Duration = Duration::from_secs(120);

/// How long the nodes of a workflow are not looked at again, so that a workflow of seconds costs no more.
const NODES: Duration = Duration::from_secs(3);

/// How a wait ended.
pub(crate) enum Ended {
    /// The job is over, whatever came of it.
    Over(Arc<Job>),
    /// It took too long, and goes on.
    GoesOn(ProviderError),
    /// It took too long or was not wanted any more, and has been cancelled.
    Stopped(ProviderError, Arc<Job>),
}

impl TowerProvider {
    /// Waits for a job. With an order its progress is told, and it is cancelled when the order is.
    ///
    /// # Errors
    ///
    /// If nobody can tell what becomes of the job. It may go on.
    pub(crate) async fn ended(&self, id: JobId, label: &str, order: Option<&Order>) -> Result<Ended, ProviderError> {
        let deadline = Instant::now() + self.settings.workflow_timeout;
        let mut waiter = self.watch.begin(id);
        let mut told = Told { last: String::new(), nodes: Instant::now() };
        let cancelled = async {
            match order {
                Some(order) => order.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(cancelled);
        let error = loop {
            let look = waiter.next(&self.client, self.patience());
            tokio::select! {
                biased;
                () = &mut cancelled => {
                    let message = format!("{label} is not wanted any more");
                    break ProviderError::new(ErrorKind::Cancelled, message);
                }
                job = look => {
                    let job = job.map_err(ProviderError::leaving_something)?;
                    if job.status.is_over() {
                        return Ok(Ended::Over(job));
                    }
                    if let Some(order) = order {
                        self.tell(order, id, &job, &mut told).await;
                    }
                }
                () = tokio::time::sleep_until(deadline) => {
                    let limit = duration::format(self.settings.workflow_timeout);
                    let error = format!("{label} was not done within {limit}");
                    if self.settings.at_deadline == AtDeadline::Keep {
                        let message = format!("{error}, and goes on: {}", self.link(id));
                        return Ok(Ended::GoesOn(ProviderError::new(ErrorKind::Timeout, message).leaving_something()));
                    }
                    break ProviderError::new(ErrorKind::Timeout, format!("{error}, and was cancelled: {}", self.link(id)));
                }
            }
        };
        drop(waiter);
        match self.stop(id).await {
            Ok(job) => Ok(Ended::Stopped(error, job)),
            Err(stopping) => {
                let message = format!("{error}; and {id} could not be stopped: {}", self.link(id));
                Err(ProviderError::new(error.kind(), message).source(stopping).leaving_something())
            }
        }
    }

    /// Cancels a job, and waits until it is over.
    pub(crate) async fn stop(&self, id: JobId) -> Result<Arc<Job>, ProviderError> {
        let client = self.patient();
        let deadline = Instant::now() + STOPPING;
        let doing = "cancel";
        let mut asked = 0;
        let mut pause = Duration::from_millis(250);
        loop {
            // Again from time to time: a job that was about to start has been seen to start all the same.
            if asked % 8 == 0 {
                match job::cancel(&client, id).await {
                    Err(error) if error.is_missing() => return Ok(Arc::new(gone(id))),
                    Err(error) if !error.may_pass() => return Err(about(error, id, doing)),
                    _ => {}
                }
            }
            asked += 1;
            match self.client.get_once::<Job>(&id.path()).await {
                Ok(job) if job.status.is_over() => return Ok(Arc::new(job)),
                Err(error) if error.is_missing() => return Ok(Arc::new(gone(id))),
                Err(error) if !error.may_pass() && !error.may_be_glitch() => return Err(about(error, id, doing)),
                _ => {}
            }
            if Instant::now() >= deadline {
                let limit = duration::format(STOPPING);
                return Err(ProviderError::new(ErrorKind::Timeout, format!("{id} did not stop within {limit}")));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(2));
        }
    }

    async fn tell(&self, order: &Order, id: JobId, job: &Job, told: &mut Told) {
        let mut words = format!("{} is {}", id, job.status.word());
        if id.kind == Kind::Workflow && job.status == Status::Running {
            if told.nodes.elapsed() < NODES.min(self.settings.poll_interval) {
                return;
            }
            told.nodes = Instant::now();
            match self.watch.nodes(&self.client, id.id, NODES.min(self.settings.poll_interval)).await {
                Ok(None) => return,
                Ok(Some(nodes)) => {
                    words = tree::progress(&nodes).map(|progress| format!("{id}: {progress}")).unwrap_or(words);
                }
                Err(error) => {
                    tracing::debug!(?error, "the nodes cannot be looked at just now.");
                    return;
                }
            }
        }
        if words != told.last {
            order.progress(words.clone());
            told.last = words;
        }
    }

    /// What ran for a job.
    pub(crate) async fn ran(&self, id: JobId, job: &Job) -> Result<Vec<Ran>, ProviderError> {
        tree::of(&self.patient(), id, job).await.map_err(|error| about(error, id, "look at what ran for"))
    }

    /// Why a job failed.
    pub(crate) async fn reasons(&self, id: JobId, job: &Job, ran: &[Ran]) -> Result<Reasons, ProviderError> {
        let found = reason::of(&self.patient(), job, id, ran, self.settings.error_scope).await;
        found.map_err(|error| about(error, id, "find out why it failed:"))
    }

    /// The error for a job that is over and was not successful.
    pub(crate) fn failed(&self, label: &str, id: JobId, job: &Job, reasons: &Reasons) -> ProviderError {
        let word = match job.status {
            Status::Cancelled => "was cancelled",
            // By a path of its own for that.
            Status::Successful => "went on after a failure and tells of no host",
            _ => "failed",
        };
        let message = format!("{label} {word}: {reasons} ({})", self.link(id));
        let error = ProviderError::new(ErrorKind::Failed, message);
        match reasons.tail() {
            Some(tail) => error.source(tail),
            None => error,
        }
    }
}

/// What was told last.
struct Told {
    last: String,
    nodes: Instant,
}

/// A job that the service has forgotten.
fn gone(id: JobId) -> Job {
    Job { id: id.id, status: Status::Cancelled, ..Job::default() }
}
