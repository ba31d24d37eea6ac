//! Running a container to its end: the action `container_app`.

use bollard::query_parameters as query;
use broker_core::provider::{ErrorKind, Execution, Order, ProviderError};
use futures_util::StreamExt;
use serde_json::Value;

use crate::ContainerProvider;
use crate::checkout::Made;
use crate::engine::model::Container;
use crate::request::Spec;

/// The most that is kept of what a container prints: its end.
const MOST_OUTPUT: usize = 16 * 1024 * 1024;

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
        let (output, container) = match ran {
            Ok(ran) => ran,
            Err(error) => return Err(self.undo(&made, error).await),
        };
        engine.remove(&made.target.id).await.map_err(|error| {
            let doing = format!("could not remove container `{}`", made.target.label);
            engine.failed(&doing, &error).leaving_something()
        })?;
        if let Some(group) = &made.group {
            self.leave_quietly(&engine, group).await;
        }
        let state = container.state;
        let failure = match state.exit_code {
            0 => None,
            code if state.out_of_memory => Some(format!("exit status {code}, out of memory")),
            code => Some(format!("exit status {code}")),
        };
        Ok(Execution { failure, output: Value::String(output) })
    }
}

/// Waits for a container to end. What it has printed, both outputs in their order, and how it ended.
async fn watch(made: &Made) -> Result<(String, Container), ProviderError> {
    let target = &made.target;
    let options = query::WaitContainerOptions { condition: "not-running".to_owned() };
    let mut waiting = std::pin::pin!(target.engine.patient.wait_container(&target.id, Some(options)));
    match waiting.next().await {
        // The library reports a status other than 0 as an error.
        Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. })) | None => {}
        Some(Err(error)) => {
            return Err(target.engine.failed(&format!("could not wait for container `{}`", target.label), &error));
        }
    }
    // Only now: Podman 4 may go on following the log of a container that has ended at once.
    let failed =
        |error| target.engine.failed(&format!("could not read what container `{}` prints", target.label), &error);
    let options = query::LogsOptions { stdout: true, stderr: true, tail: "all".to_owned(), ..Default::default() };
    let mut pieces = std::pin::pin!(target.engine.patient.logs(&target.id, Some(options)));
    let mut output = Vec::new();
    while let Some(piece) = pieces.next().await {
        output.extend_from_slice(&piece.map_err(failed)?.into_bytes());
        if output.len() > 2 * MOST_OUTPUT {
            output.drain(..output.len() - MOST_OUTPUT);
        }
    }
    let container = target.engine.inspect(&target.id).await.map_err(failed)?;
    let start = output.len().saturating_sub(MOST_OUTPUT);
    Ok((String::from_utf8_lossy(output.get(start..).unwrap_or_default()).into_owned(), container))
}
