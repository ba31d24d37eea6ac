//! The commands, a file each.

mod checkin;
mod checkout;
mod cp;
mod duplicate;
mod exec;
mod execute;
mod extend;
mod forget;
mod inventory;
mod jobs;
mod orphans;
mod providers;
mod reap;
mod shell;
mod version;

use std::borrow::Borrow;
use std::sync::Arc;

use broker::args_file::{self, ArgsFileError};
use broker::inventory::{HostRecord, Secrets, args_to_json, args_without};
use broker::secrets::is_secret_name;
use broker::{ArgValue, Args, Error, HostRequest, RequestError, ResolvedRequest};
use serde_json::{Value, json};

use crate::app::{App, Outcome};
use crate::args::split::{Argument, Given};
use crate::args::{Command, Selection, Wanted};
use crate::error::{Code, CommandError, Failure, missing_provider};
use crate::log::FILE_ONLY;
use crate::output;

pub(crate) use version::version;

/// Runs one command.
pub(crate) fn run(app: &App<'_>, command: Command, arguments: Vec<Argument>) -> Outcome {
    match command {
        Command::Checkout(options) => checkout::run(app, options, arguments),
        Command::Checkin(options) => checkin::run(app, &options),
        Command::Duplicate(options) => duplicate::run(app, &options),
        Command::Forget(options) => forget::run(app, &options),
        Command::Inventory(options) => inventory::run(app, &options),
        Command::Extend(options) => extend::run(app, &options, arguments),
        Command::Execute(options) => execute::run(app, options, arguments),
        Command::Providers(options) => providers::run(app, &options, arguments),
        Command::Exec(options) => exec::run(app, options),
        Command::Cp(options) => cp::run(app, &options),
        Command::Reap(options) => reap::run(app, &options),
        Command::Jobs(options) => jobs::run(app, &options),
        Command::Shell(options) => shell::run(app, &options),
    }
}

/// The arguments for a provider: values that name files are read, and said so. The last of a key counts.
fn arguments(given: Vec<Argument>) -> Result<Args, CommandError> {
    let mut args = Args::new();
    for Argument { key, value } in given {
        let value = match value {
            Given::On => ArgValue::from(true),
            Given::Text(text) => {
                match args_file::expand_value(&text).map_err(|error| in_argument(&key, &text, error))? {
                    args_file::Expansion::Text(text) => ArgValue::from(text),
                    args_file::Expansion::File { value, .. } if is_secret_name(&key) => {
                        tracing::info!("argument `{key}` is read from a file");
                        value
                    }
                    args_file::Expansion::File { path, value } => {
                        tracing::info!("argument `{key}` is read from `{}`", path.display());
                        value
                    }
                    args_file::Expansion::Unread { text, .. } if is_secret_name(&key) => {
                        tracing::warn!("argument `{key}` is passed on as a text, though it names a file");
                        ArgValue::from(text)
                    }
                    args_file::Expansion::Unread { text, error } => {
                        let error = broker::error_chain(&error);
                        tracing::warn!(error, "argument `{key}` is passed on as the text `{text}`");
                        ArgValue::from(text)
                    }
                }
            }
        };
        if args.insert(key.clone(), value).is_some() {
            tracing::warn!("argument `{key}` is given more than once, and the last one counts");
        }
    }
    Ok(args)
}

fn in_argument(key: &str, text: &str, error: ArgsFileError) -> CommandError {
    let literally = "a text that begins with `@` is written with two of them";
    if !is_secret_name(key) {
        return CommandError::from(error).hint(format!("`{key}={text}` stands for what is in that file; {literally}"));
    }
    // What was meant may be the secret itself.
    let why = match error {
        ArgsFileError::Missing { .. } => "does not exist",
        ArgsFileError::Empty { .. } => "is empty",
        ArgsFileError::Malformed { .. } => "is malformed",
        _ => "cannot be read",
    };
    let error = CommandError::usage(format!("the file that argument `{key}` names {why}"));
    error.hint(format!("`{key}=@FILE` stands for what is in that file; {literally}"))
}

/// The request that a command line makes, without what only a checkout has.
fn request(wanted: &Wanted, given: Vec<Argument>) -> Result<HostRequest, CommandError> {
    let mut request = HostRequest::new();
    if let Some(path) = &wanted.args_file {
        let form = "it holds arguments as YAML or JSON, such as `container_host: ubi9`";
        request.args = args_file::read(path).map_err(|error| CommandError::from(error).hint(form))?;
    }
    broker::merge(&mut request.args, arguments(given)?);
    if let Some(labels) = &wanted.provider_labels {
        request.labels = broker::labels_of(&ArgValue::from(labels.as_str())).map_err(Error::from)?;
    }
    request.nick.clone_from(&wanted.nick);
    request.timeout = wanted.timeout;
    request.origin = Some(origin());
    Ok(request)
}

/// What asks for hosts, for people who look at the provider.
fn origin() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    user.map_or_else(|| "broker_cli".to_owned(), |user| format!("broker_cli:{user}"))
}

/// Finds out what a request comes to, for the output file and for an early word on what is wrong with it.
fn resolve(app: &App<'_>, request: &HostRequest, wanted: broker::Wanted) -> Result<ResolvedRequest, Failure> {
    let resolved = app.broker.resolve(request.clone(), wanted).map_err(|error| match &error {
        Error::Request(RequestError::NoAction { .. }) => of_python(app, request).unwrap_or_else(|| error.into()),
        _ => CommandError::from(error),
    })?;
    app.report.put("provider", resolved.provider.as_str());
    app.report.put("action", resolved.action.as_str());
    let args = match app.secrets() {
        Secrets::Hidden => args_without(&resolved.args, resolved.hidden_args.iter().copied()),
        Secrets::Shown => args_to_json(&resolved.args, Secrets::Shown),
    };
    app.report.put("arguments", args);
    let instance = resolved.instance.as_deref();
    tracing::info!(target: FILE_ONLY, instance, "{} times {}", resolved.count, resolved.wanted);
    Ok(resolved)
}

/// The error for an action that only the Python tool has.
fn of_python(app: &App<'_>, request: &HostRequest) -> Option<CommandError> {
    let known: Vec<&str> = app.broker.providers().iter().map(|info| info.name).collect();
    let nick = request.nick.as_ref().and_then(|nick| app.broker.settings().nick(nick).ok());
    let arguments = request.args.keys().chain(nick.into_iter().flat_map(Args::keys)).map(String::as_str);
    let (provider, argument) = missing_provider(arguments, &known)?;
    let message = format!("argument `{argument}` is for provider `{provider}`, which this Broker does not have");
    Some(CommandError::new(Code::NotHere, message).hint(format!("it has `{}`", known.join("`, `"))))
}

/// Whether the host's provider decides how long it lives.
fn governs_leases(app: &App<'_>, record: &HostRecord) -> bool {
    app.broker.providers().iter().any(|info| info.name == record.provider && info.governs_leases)
}

/// `3 (web.example.com)`
fn label(record: &HostRecord) -> String {
    let label = record.label();
    if label == record.id.to_string() { record.number.to_string() } else { format!("{} ({label})", record.number) }
}

/// Some hosts, in words.
pub(crate) fn labels<R: Borrow<HostRecord>>(records: &[R]) -> String {
    const ENOUGH: usize = 10;
    let shown: Vec<String> = records.iter().take(ENOUGH).map(|record| label(record.borrow())).collect();
    match records.len().saturating_sub(ENOUGH) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `1 host`, `2 hosts`
fn hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}

/// `this host`, `these 2 hosts`
fn these(count: usize) -> String {
    if count == 1 { "this host".to_owned() } else { format!("these {count} hosts") }
}

/// Tells what came of each host: the good ones as data, the others as errors. `verb` is what was to be done, as in
/// `could not release`.
fn conclude<T>(
    app: &App<'_>,
    verb: &str,
    outcomes: Vec<(HostRecord, broker::Result<T>)>,
    after: impl Fn(&HostRecord, T) -> HostRecord,
) -> Outcome {
    let mut good = Vec::new();
    let mut failures = Vec::new();
    for (record, outcome) in outcomes {
        match outcome {
            Ok(value) => good.push(after(&record, value)),
            Err(error) => failures.push(about(verb, &record, error)),
        }
    }
    let data = output::records(&good, app.secrets());
    app.report.put("hosts", data.clone());
    failures.extend(app.print(|| data, String::new).err());
    if failures.is_empty() { Ok(0) } else { Err(Failure(failures)) }
}

/// The error, with the host that it is about.
fn about(verb: &str, record: &HostRecord, error: Error) -> CommandError {
    if let Error::Provider { .. }
    | Error::State { .. }
    | Error::Unproven { .. }
    | Error::Session { .. }
    | Error::Hook { .. } = &error
    {
        return error.into();
    }
    let is_foreign = matches!(&error, Error::Request(RequestError::Provider { .. }));
    let error = CommandError::from(error).while_doing(format!("could not {verb} host {}", label(record)));
    match is_foreign {
        true => error.hint(format!("`broker forget {}` takes it out of the inventory", record.number)),
        false => error,
    }
}

/// The hosts that a selection means. Of all of them, those that a living process holds are left alone.
fn selected(app: &App<'_>, selection: &Selection) -> Result<Vec<HostRecord>, Failure> {
    let chosen = app.choose(&selection.choice()?)?;
    let mut records: Vec<HostRecord> = chosen.into_iter().map(Arc::unwrap_or_clone).collect();
    if selection.all && !selection.force {
        let held: Vec<HostRecord> = records.extract_if(.., |record| app.broker.is_held(record)).collect();
        if !held.is_empty() {
            let (count, labels) = (hosts(held.len()), labels(&held));
            app.console.note(&format!("left alone, because a living process holds them: {count}, {labels}"));
            app.console.note("`--force` takes these too");
        }
    }
    Ok(records)
}

/// Hosts by what is done at once: all of them, or one after the other.
fn in_turn(records: Vec<HostRecord>, sequential: bool) -> Vec<Vec<HostRecord>> {
    if sequential { records.into_iter().map(|record| vec![record]).collect() } else { vec![records] }
}

/// What a command that chose no host has to say.
fn nothing_chosen(app: &App<'_>, doing: &str) -> Outcome {
    app.console.note(&format!("there is no host to {doing}"));
    app.report.put("hosts", json!([]));
    app.print(|| Value::Array(Vec::new()), String::new)?;
    Ok(0)
}
