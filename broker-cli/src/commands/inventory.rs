//! `broker inventory`

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use broker::inventory::{self, Holding, HostRecord, HostState};
use broker::provider::{ProviderInfo, Scope};
use broker::settings::{BrokerDirectory, FieldExpression};
use broker::yaml::to_yaml;
use broker::{Choice, Error, Synced};
use serde_json::{Map, Value, json};

use super::{hosts, labels, orphans};
use crate::app::{App, Outcome};
use crate::args::{Format, Inventory, SyncTarget};
use crate::error::CommandError;
use crate::output;
use crate::sort::sort;

pub(super) fn run(app: &App<'_>, options: &Inventory) -> Outcome {
    if let Some(target) = &options.orphans {
        return orphans::run(app, target);
    }
    if options.import {
        import(app)?;
    }
    if let Some(target) = &options.sync {
        sync(app, target)?;
    }
    let choice = Choice { all: true, filter: options.filter.clone(), ..Choice::default() };
    // The process is about to end, and taking thousands of hosts apart takes as long as reading them.
    let mut records = ManuallyDrop::new(app.choose(&choice)?);
    if let Some(field) = &options.sort {
        sort(&app.broker, &mut records, field)?;
    }
    let data = || output::records(&records, app.secrets());
    app.report.put_with("inventory", data);
    match (options.details, app.global.output) {
        (true, Format::Table) => app.console.print(by_number(app, &records).as_bytes())?,
        (false, Format::Table) if records.is_empty() => {
            let none = if options.filter.is_some() { "no host matches the filter" } else { "there are no hosts" };
            app.console.note(none);
        }
        (false, Format::Table) if options.list => app.console.print(list(app, &records).as_bytes())?,
        (false, Format::Table) => app.console.print(table(app, &records).as_bytes())?,
        (false, format) if options.list => app.console.print_value(format, &listed(app, &records))?,
        (_, Format::Json) => app.console.print_records(&records, app.secrets())?,
        (_, Format::Yaml) => app.console.print_value(Format::Yaml, &data())?,
    }
    app.warn_of_leases(&records);
    tell_what_was_left(app, &records);
    Ok(0)
}

/// Says which hosts nobody is at work on any more, although it looks like it.
fn tell_what_was_left(app: &App<'_>, records: &[Arc<HostRecord>]) {
    let mut dead = HashMap::new();
    let mut is_left = |record: &&Arc<HostRecord>| {
        let in_hand =
            record.holding == Holding::Guarded || matches!(record.state, HostState::Pending | HostState::Releasing);
        // Many hosts have the same owner.
        let Some(owner) = record.owner.as_ref().filter(|_| in_hand) else { return false };
        *dead.entry(owner.run).or_insert_with(|| !app.broker.is_held(record))
    };
    let left: Vec<&HostRecord> = records.iter().filter(&mut is_left).map(AsRef::as_ref).collect();
    if !left.is_empty() {
        let (count, labels) = (hosts(left.len()), labels(&left));
        app.console.note(&format!("left behind by a process that has ended: {count}, {labels}"));
        app.console.note("`broker reap` settles these");
    }
}

fn import(app: &App<'_>) -> Result<(), crate::error::Failure> {
    let file = BrokerDirectory::at(app.broker.directory().path()).python_inventory();
    if !file.exists() {
        let error = CommandError::usage(format!("there is no `{}` to import", file.display()));
        return Err(error.hint("copy the Python tool's `inventory.yaml` there, and import it again").into());
    }
    let imported = app.settle(0, async {
        let inventory = inventory::Inventory::open(app.broker.directory().path());
        Ok(inventory.import().await.map_err(Error::from)?)
    })?;
    let (added, known) = (hosts(imported.added.len()), imported.known);
    app.console.note(&format!("{added} imported, {known} known before"));
    Ok(())
}

fn sync(app: &App<'_>, target: &SyncTarget) -> Result<(), crate::error::Failure> {
    let scope = Scope { argument: target.argument.clone(), ..Scope::default() };
    let synced =
        app.settle(0, async { Ok(app.broker.sync(&target.provider, target.instance.as_deref(), scope).await?) })?;
    let Synced { added, updated, vanished, gone, unchanged } = synced;
    let known = format!("{} updated, {unchanged} as before", updated.len());
    app.console.note(&format!("{}: {} new, {known}, {} vanished", target.provider, added.len(), vanished.len()));
    if !vanished.is_empty() {
        app.console.note(&format!("vanished: {}", labels(&vanished)));
    }
    if !gone.is_empty() {
        app.console.note(&format!("begun by a process that has ended, and not there: {}", labels(&gone)));
    }
    Ok(())
}

/// Whole records below their numbers, which are numbers here and no texts, as in the Python tool's.
fn by_number(app: &App<'_>, records: &[Arc<HostRecord>]) -> String {
    if records.is_empty() {
        return to_yaml(&Value::Object(Map::new()));
    }
    let entries = records.iter().map(|record| {
        let mut fields = record.to_json(app.secrets());
        fields.shift_remove("number");
        let fields = to_yaml(&Value::Object(fields));
        let lines: String = fields.lines().map(|line| format!("  {line}\n")).collect();
        format!("{}:\n{lines}", record.number)
    });
    entries.collect()
}

fn table(app: &App<'_>, records: &[Arc<HostRecord>]) -> String {
    let fields = app.broker.settings().inventory_fields();
    if fields.is_empty() {
        return output::host_table(records);
    }
    let titles: Vec<&str> = ["number"].into_iter().chain(fields.keys().map(String::as_str)).collect();
    let expressions: Vec<&FieldExpression> = fields.values().collect();
    output::table(&titles, &rows(app, records, &expressions))
}

/// Number and name alone, without titles.
fn list(app: &App<'_>, records: &[Arc<HostRecord>]) -> String {
    let rows = rows(app, records, &[app.broker.settings().inventory_list_vars()]);
    output::columns(rows.iter().map(Vec::as_slice))
}

/// As [`list`], as data.
fn listed(app: &App<'_>, records: &[Arc<HostRecord>]) -> Value {
    let hosts = rows(app, records, &[app.broker.settings().inventory_list_vars()]);
    let hosts = records.iter().zip(hosts);
    hosts.map(|(record, row)| json!({"number": record.number, "host": row.last()})).collect()
}

fn rows(app: &App<'_>, records: &[Arc<HostRecord>], expressions: &[&FieldExpression]) -> Vec<Vec<String>> {
    let infos = app.broker.providers();
    let actions_of = |provider: &str| -> Vec<&str> {
        let info = infos.iter().find(|info: &&&ProviderInfo| info.name == provider);
        info.into_iter().flat_map(|info| &info.actions).map(|action| action.name).collect()
    };
    records
        .iter()
        .map(|record| {
            let fields = record.to_json(app.secrets());
            let actions = actions_of(&record.provider);
            let cells = expressions.iter().map(|expression| expression.evaluate(&fields, &actions));
            [record.number.to_string()].into_iter().chain(cells).collect()
        })
        .collect()
}
