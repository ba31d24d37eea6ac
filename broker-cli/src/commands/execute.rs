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
    if options.background
        && let Some(outcome) = app.send_off(&format!("execute {} of {}", resolved.action, resolved.provider), &[])
    {
        return outcome;
    }
    let execution = app.settle(1, async { Ok(app.broker.execute(request).await?) })?;
    app.report.put("output", execution.output.clone());
    let text = text(&execution.output, options.output_format);
    app.print(|| execution.output, || text)?;
    match execution.failure {
        None => Ok(0),
        Some(failure) => {
            let error = CommandError::new(Code::Provider, format!("{} failed: {failure}", resolved.wanted));
            Err(error.hint("what it has given back is printed above, and goes to `--output-file`").into())
        }
    }
}

fn text(output: &Value, format: ExecutionFormat) -> String {
    match (format, output) {
        (ExecutionFormat::Yaml, value) => to_yaml(value),
        (_, Value::Null) => String::new(),
        (_, Value::String(text)) if text.is_empty() || text.ends_with('\n') => text.clone(),
        (_, Value::String(text)) => format!("{text}\n"),
        (ExecutionFormat::Raw, value) => format!("{value}\n"),
        (ExecutionFormat::Log, value) => to_yaml(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats() {
        for (output, log, raw, yaml) in [
            (json!("two\nlines"), "two\nlines\n", "two\nlines\n", "|-\n  two\n  lines\n"),
            (json!("ended\n"), "ended\n", "ended\n", "|\n  ended\n"),
            (json!({"a": 1}), "a: 1\n", "{\"a\":1}\n", "a: 1\n"),
            (json!(null), "", "", "null\n"),
        ] {
            assert_eq!(text(&output, ExecutionFormat::Log), log);
            assert_eq!(text(&output, ExecutionFormat::Raw), raw);
            assert_eq!(text(&output, ExecutionFormat::Yaml), yaml);
        }
    }
}
