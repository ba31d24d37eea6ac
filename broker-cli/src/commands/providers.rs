//! `broker providers`

use broker::ArgValue;
use broker::filter::Filter;
use broker::provider::{ArgumentScope, ProviderInfo, Query};
use broker::{Args, Error, RequestError};
use serde_json::{Value, json};

use super::arguments;
use crate::app::{App, Outcome};
use crate::args::Providers;
use crate::args::split::Argument;
use crate::error::{CommandError, Failure};
use crate::output;

pub(super) fn run(app: &App<'_>, options: &Providers, given: Vec<Argument>) -> Outcome {
    let infos = app.broker.providers();
    let Some(name) = &options.name else {
        app.print(|| infos.iter().map(|info| described(info)).collect(), || overview(&infos))?;
        return Ok(0);
    };
    let Some(info) = infos.iter().find(|info| info.name == name) else {
        let known = infos.iter().map(|info| info.name.to_owned()).collect();
        return Err(Error::from(RequestError::Provider { name: name.clone(), known }).into());
    };
    let mut args = arguments(given)?;
    let instance = args.shift_remove(info.name).map(|value| value.to_string());
    match question(info, &mut args)? {
        None => app.print(|| described(info), || details(info))?,
        Some((name, value)) => {
            let filter = options.results_filter.as_deref().map(Filter::parse).transpose().map_err(Error::from)?;
            let query = Query { name, value, args, filter, limit: options.results_limit };
            let query = app.broker.query(info.name, instance.as_deref(), query);
            let answer = app.drop_on_signal(&[], async { Ok(query.await?) })?;
            let columns: Vec<&str> = answer.columns.iter().map(String::as_str).collect();
            let value = output::answer(&answer);
            app.report.put("output", value.clone());
            app.print(|| value, || output::table(&columns, &answer.rows))?;
        }
    }
    Ok(0)
}

/// The one query among the arguments, with its value, if there is one.
fn question(info: &ProviderInfo, args: &mut Args) -> Result<Option<(String, Option<String>)>, Failure> {
    let queries: Vec<&str> = info.queries.iter().map(|query| query.name).collect();
    let asked: Vec<&str> = queries.iter().copied().filter(|query| args.contains_key(*query)).collect();
    let option = |name: &&str| format!("`--{}`", name.replace('_', "-"));
    match asked.as_slice() {
        [] if args.is_empty() => Ok(None),
        [] => {
            let known: Vec<String> = queries.iter().map(option).collect();
            let error = CommandError::usage(format!("nothing says what to ask provider `{}`", info.name));
            Err(error.hint(format!("it answers {}", known.join(", "))).into())
        }
        [name] => {
            let takes_value = info.queries.iter().any(|query| query.name == *name && query.value.is_some());
            let value = args.shift_remove(*name).filter(|_| takes_value).map(|value: ArgValue| value.to_string());
            Ok(Some(((*name).to_owned(), value)))
        }
        several => {
            let several: Vec<String> = several.iter().map(option).collect();
            Err(CommandError::usage(format!("{} are two questions; ask one at a time", several.join(" and "))).into())
        }
    }
}

fn overview(infos: &[&ProviderInfo]) -> String {
    let rows: Vec<Vec<String>> = infos
        .iter()
        .map(|info| {
            let actions: Vec<String> = info.actions.iter().map(|action| dashed(action.name)).collect();
            vec![info.name.to_owned(), actions.join(" "), info.about.to_owned()]
        })
        .collect();
    output::table(&["provider", "actions", "about"], &rows)
}

/// Everything that a provider takes, as rows of what and where.
fn details(info: &ProviderInfo) -> String {
    let spelled = |name: &str, value: Option<&str>| match value {
        Some(value) => format!("{} {value}", dashed(name)),
        None => dashed(name),
    };
    let mut rows = Vec::new();
    let mut row = |option: String, on: &str, help: &str| rows.push(vec![option, on.to_owned(), help.to_owned()]);
    for action in &info.actions {
        let on = match (action.makes_host, action.executes) {
            (true, true) => "checkout, execute",
            (true, false) => "checkout",
            _ => "execute",
        };
        row(spelled(action.name, Some(action.value)), on, action.help);
    }
    for argument in &info.arguments {
        let on = match argument.on {
            ArgumentScope::Checkout => "checkout",
            ArgumentScope::Execute => "execute",
            ArgumentScope::Extend => "extend",
            _ => "checkout, execute",
        };
        row(spelled(argument.name, argument.value), on, argument.help);
    }
    for query in &info.queries {
        row(spelled(query.name, query.value), "providers", query.help);
    }
    output::table(&["option", "command", "meaning"], &rows)
}

fn described(info: &ProviderInfo) -> Value {
    json!({
        "name": info.name,
        "about": info.about,
        "actions": info.actions.iter().map(|action| json!({
            "name": action.name, "help": action.help, "makes_host": action.makes_host, "executes": action.executes,
        })).collect::<Vec<_>>(),
        "arguments": info.arguments.iter().map(|argument| json!({
            "name": argument.name, "help": argument.help, "takes_value": argument.value.is_some(),
        })).collect::<Vec<_>>(),
        "queries": info.queries.iter().map(|query| json!({
            "name": query.name, "help": query.help, "takes_value": query.value.is_some(),
        })).collect::<Vec<_>>(),
        "facts": info.facts,
    })
}

fn dashed(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}
