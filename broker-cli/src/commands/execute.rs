//! `broker execute`

use broker::yaml::to_yaml;
use serde_json::Value;

use super::{request, resolve};
use crate::app::{App, Outcome};
use crate::args::split::Argument;
use crate::args::{Execute, ExecutionFormat};
use crate::error::{Code, CommandError};

pub(super) fn run(app: &App<'_>, options: Execute, arguments: Vec<Argument>) -> Outcome {
    let request = request(&options.wanted, arguments)?;
    let resolved = resolve(app, &request, broker::Wanted::Execution)?;
    let execution = app.settle(1, async { Ok(app.broker.execute(request).await?) })?;
    app.report.put("output", execution.output.clone());
    let text = text(&execution.output, options.output_format);
    app.print(|| execution.output, || text)?;
    match execution.failure {
        None => Ok(0),
        Some(failure) => {
            Err(CommandError::new(Code::Provider, format!("{} failed: {failure}", resolved.wanted)).into())
        }
    }
}

fn text(output: &Value, format: ExecutionFormat) -> String {
    let ended =
        |text: &str| if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    match (format, output) {
        (_, Value::Null) => String::new(),
        (ExecutionFormat::Yaml, value) => to_yaml(value),
        (_, Value::String(text)) => ended(text),
        (ExecutionFormat::Raw, value) => format!("{value}\n"),
        (ExecutionFormat::Log, value) => to_yaml(value),
    }
}
