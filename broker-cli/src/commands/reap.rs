//! `broker reap`

use broker::inventory::HostRecord;
use broker::provider::Found;
use broker::{Due, Reapable, Reaped, Reaping, Reason, Whose};
use jiff::Timestamp;
use serde_json::Value;

use super::{about, hosts, label, labels, these};
use crate::app::{App, Outcome};
use crate::args::{Reap, SyncTarget};
use crate::error::{CommandError, Failure};
use crate::output;

pub(super) fn run(app: &App<'_>, options: &Reap) -> Outcome {
    let reaping = reaping(options)?;
    let Due { hosts: due, of_others, in_use, without_lease, failures } =
        app.settle(0, async { Ok(app.broker.reapable(&reaping).await?) })?;
    tell_of_others(app, &of_others, &in_use, &without_lease);
    let mut failures: Vec<CommandError> = failures.into_iter().map(CommandError::from).collect();
    let mut done = Vec::new();
    if due.is_empty() {
        app.console.note("there is nothing to reap");
    } else if options.dry_run {
        done.extend(due.into_iter().map(|host| (host, "due")));
    } else {
        confirm(app, &due)?;
        let count = due.len();
        for (mut host, outcome) in app.settle(count, async { Ok(app.broker.reap(due).await?) })? {
            match outcome {
                Ok(Reaped::Released) => done.push((host, "released")),
                Ok(Reaped::Gone) => done.push((host, "gone")),
                Ok(Reaped::Settled(record)) => {
                    app.console.note(&format!("{} exists and stays, as `{}`", label(&record), record.state));
                    host.record = *record;
                    done.push((host, "settled"));
                }
                Ok(_) => app.console.note(&format!("{} is not due any more, and left alone", label(&host.record))),
                Err(error) => failures.push(about("reap", &host.record, error)),
            }
        }
    }
    let data = || done.iter().map(|(host, outcome)| described(app, host, outcome)).collect::<Value>();
    app.report.put_with("hosts", data);
    app.print(data, || if done.is_empty() { String::new() } else { table(&done) })?;
    if failures.is_empty() { Ok(0) } else { Err(Failure(failures)) }
}

fn reaping(options: &Reap) -> Result<Reaping, CommandError> {
    let (provider, instance) = match &options.provider {
        Some(SyncTarget { argument: Some(_), .. }) => {
            return Err(CommandError::usage("`--provider` is `PROVIDER` or `PROVIDER::INSTANCE`"));
        }
        Some(SyncTarget { provider, instance, .. }) => (Some(provider.clone()), instance.clone()),
        None => (None, None),
    };
    let whose = match &options.owner {
        _ if options.any_owner => Whose::Anyone,
        Some(pattern) => Whose::Matching(pattern.clone()),
        None => Whose::Mine,
    };
    Ok(Reaping {
        expired_only: options.expired,
        unknown: options.unknown,
        provider,
        instance,
        whose,
        ..Reaping::default()
    })
}

/// Says what was found and is not touched.
fn tell_of_others(app: &App<'_>, of_others: &[Reapable], in_use: &[HostRecord], without_lease: &[Found]) {
    if !of_others.is_empty() {
        let owners: std::collections::BTreeSet<&str> =
            of_others.iter().map(|host| host.owner.as_deref().unwrap_or("nobody known")).collect();
        let owners = owners.into_iter().collect::<Vec<_>>().join(", ");
        let count = hosts(of_others.len());
        app.console.note(&format!("left alone, because they are of others: {count} of {owners}"));
        app.console.note("`--owner PATTERN` or `--any-owner` reaps these too");
    }
    if !in_use.is_empty() {
        let (count, labels) = (hosts(in_use.len()), labels(in_use));
        app.console
            .note(&format!("past their lease, and left to the living process that holds them: {count}, {labels}"));
    }
    if !without_lease.is_empty() {
        let count = hosts(without_lease.len());
        app.console.note(&format!("not in the inventory, and without a lease to judge them by: {count}"));
        app.console.note("`broker inventory --orphans PROVIDER` shows them, `--sync PROVIDER` takes them in");
    }
}

fn confirm(app: &App<'_>, due: &[Reapable]) -> Result<(), Failure> {
    let table = || table(&due.iter().map(|host| (host.clone(), "due")).collect::<Vec<_>>());
    app.confirm_table(&format!("Reap {}?", these(due.len())), table)
}

fn table(reaped: &[(Reapable, &str)]) -> String {
    let now = Timestamp::now();
    let row = |(host, outcome): &(Reapable, &str)| {
        let record = &host.record;
        let is_known = host.reason != Reason::Unknown;
        vec![
            if is_known { record.number.to_string() } else { String::new() },
            record.hostname.clone().or_else(|| record.name.clone()).unwrap_or_else(|| record.id.to_string()),
            record.provider.clone(),
            record.instance.clone().unwrap_or_default(),
            host.owner.clone().unwrap_or_default(),
            output::lease(record.lease_until, now),
            word(host.reason).to_owned(),
            (*outcome).to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = reaped.iter().map(row).collect();
    output::table(&["number", "hostname", "provider", "instance", "owner", "lease", "why", "outcome"], &rows)
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::LeftBehind => "left-behind",
        Reason::Expired => "expired",
        _ => "unknown",
    }
}

/// The whole record, with why it was due and what came of it.
fn described(app: &App<'_>, host: &Reapable, outcome: &str) -> Value {
    let mut fields = host.record.to_json(app.secrets());
    if host.reason == Reason::Unknown {
        fields.shift_remove("number");
    }
    fields.insert("reaped".to_owned(), serde_json::json!({"reason": word(host.reason), "outcome": outcome}));
    if let Some(owner) = &host.owner {
        fields.entry("owner").or_insert_with(|| owner.as_str().into());
    }
    Value::Object(fields)
}
