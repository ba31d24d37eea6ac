//! Running a container to its end: the action `container_app`.

use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::query_parameters as query;
use broker_core::provider::{ErrorKind, Execution, Order, ProviderError};
use futures_util::StreamExt;
use serde_json::Value;

use crate::ContainerProvider;
use crate::checkout::Made;
use crate::engine::model::State;
use crate::request::Spec;
use crate::session::Target;

/// The most that is kept of what a container prints: its end.
const MOST_OUTPUT: usize = 16 * 1024 * 1024;

/// When a container that runs although its end was awaited is waited for again.
const AGAIN: Duration = Duration::from_millis(200);

/// After which pauses the removal of a container that has ended is tried again.
const REMOVAL_PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

impl ContainerProvider {
    /// Makes a container, waits for it to end, and removes it in any case.
    pub(crate) async fn run_app(&self, order: &Order) -> Result<Execution, ProviderError> {
        let spec = Spec::read(order, &self.settings)?;
        let engine = self.engine().await?;
        let (made, _) = self.make_and_start(&engine, order, &spec).await?;
        order.progress("running");
        let ran = tokio::select! {
            ran = watch(&made) => ran,
            () = order.cancelled() => {
                let message = format!("container `{}` is not wanted any more", made.target.label);
                Err(ProviderError::new(ErrorKind::Cancelled, message))
            }
        };
        let execution = match ran {
            Ok(execution) => execution,
            Err(error) => return Err(self.undo(&made, error).await),
        };
        self.tidy_up(&made).await;
        Ok(execution)
    }

    /// Removes a container that has ended. What it came to is known, and is no worse for a removal that fails.
    async fn tidy_up(&self, made: &Made) {
        let Target { engine, id, label } = &made.target;
        let mut pauses = REMOVAL_PAUSES.into_iter();
        while let Err(error) = engine.remove(id).await {
            let Some(pause) = pauses.next() else {
                let error = engine.failed("it could not be removed", &error);
                tracing::warn!(container = label, %error, "a container that has ended stays; `broker reap --unknown` removes it");
                return;
            };
            tokio::time::sleep(pause).await;
        }
        if let Some(group) = &made.group {
            self.leave_quietly(engine, group).await;
        }
    }
}

/// Waits for a container to end. What it has printed, both outputs in their order, and how it ended.
async fn watch(made: &Made) -> Result<Execution, ProviderError> {
    let target = &made.target;
    let (code, state) = end_of(target).await?;
    // Only now: Podman 4 may go on following the log of a container that has ended at once.
    let failed =
        |error| target.engine.failed(&format!("could not read what container `{}` prints", target.label), &error);
    let options = query::LogsOptions { stdout: true, stderr: true, tail: "all".to_owned(), ..Default::default() };
    let mut pieces = std::pin::pin!(target.engine.patient.logs(&target.id, Some(options)));
    let mut output = Vec::new();
    while let Some(piece) = target.engine.piece(&mut pieces, target.engine.timeout()).await {
        output.extend_from_slice(&piece.map_err(failed)?.into_bytes());
        if output.len() > 2 * MOST_OUTPUT {
            output.drain(..output.len() - MOST_OUTPUT);
        }
    }
    let start = output.len().saturating_sub(MOST_OUTPUT);
    let output = String::from_utf8_lossy(output.get(start..).unwrap_or_default()).into_owned();
    let failure = match code {
        0 => None,
        code if state.out_of_memory => Some(format!("exit status {code}, out of memory")),
        code => Some(format!("exit status {code}")),
    };
    Ok(Execution { failure, output: Value::String(output) })
}

/// Waits until a container has ended: its exit status, and its state then.
async fn end_of(target: &Target) -> Result<(i64, State), ProviderError> {
    let failed = |error| target.engine.failed(&format!("could not wait for container `{}`", target.label), &error);
    loop {
        let options = query::WaitContainerOptions { condition: "not-running".to_owned() };
        let mut waiting = std::pin::pin!(target.engine.patient.wait_container(&target.id, Some(options)));
        let told = match waiting.next().await {
            Some(Ok(answer)) => Some(answer.status_code),
            // The library reports a status other than 0 as an error.
            Some(Err(ApiError::DockerContainerWaitError { error, code })) if error.is_empty() => Some(code),
            Some(Err(error)) => return Err(failed(error)),
            // An answer that ends without a word says nothing of the container.
            None => None,
        };
        let state = target.engine.inspect(&target.id).await.map_err(failed)?.state;
        if !state.running {
            return Ok((told.unwrap_or(state.exit_code), state));
        }
        tokio::time::sleep(AGAIN).await;
    }
}
