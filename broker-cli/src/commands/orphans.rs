//! `broker inventory --orphans`: what is there and not held, and what is held and not there.

use broker::Orphans;
use broker::inventory::HostRecord;
use broker::provider::{Found, Scope};
use serde_json::{Map, Value, json};

use crate::app::{App, Outcome};
use crate::args::SyncTarget;
use crate::output;

pub(super) fn run(app: &App<'_>, target: &SyncTarget) -> Outcome {
    let scope = Scope { argument: target.argument.clone(), ..Scope::default() };
    let orphans =
        app.settle(0, async { Ok(app.broker.orphans(&target.provider, target.instance.as_deref(), scope).await?) })?;
    let Orphans { not_held, not_there } = &orphans;
    let provider = &target.provider;
    match (not_held.len(), not_there.len()) {
        (0, 0) => app.console.note(&format!("{provider} and the inventory agree")),
        (there, held) => {
            app.console.note(&format!("{provider}: {there} there and not held, {held} held and not there"));
            if there > 0 {
                app.console.note(
                    "`broker inventory --sync PROVIDER` takes in what is not held, \
                     `broker reap --unknown` releases what is past its lease",
                );
            }
        }
    }
    let data = || {
        json!({
            "not_held": not_held.iter().map(described).collect::<Value>(),
            "not_there": output::records(not_there, app.secrets()),
        })
    };
    app.report.put_with("orphans", data);
    app.print(data, || table(not_held, not_there))?;
    Ok(0)
}

fn table(not_held: &[Found], not_there: &[HostRecord]) -> String {
    if not_held.is_empty() && not_there.is_empty() {
        return String::new();
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let there = |found: &Found| {
        vec![
            "not held".to_owned(),
            String::new(),
            found.facts.hostname.clone().or_else(|| found.facts.name.clone()).unwrap_or_default(),
            text(&found.facts.name),
            text(&found.identity.owner),
            text(&found.identity.action),
            // Seconds are enough for people.
            found.age.map(|age| output::span(age.as_secs())).unwrap_or_default(),
        ]
    };
    let held = |record: &HostRecord| {
        vec![
            "not there".to_owned(),
            record.number.to_string(),
            record.label(),
            text(&record.name),
            record.owner.as_ref().map(broker::inventory::Owner::address).unwrap_or_default(),
            String::new(),
            String::new(),
        ]
    };
    let rows: Vec<Vec<String>> = not_held.iter().map(there).chain(not_there.iter().map(held)).collect();
    output::table(&["what", "number", "hostname", "name", "owner", "action", "age"], &rows)
}

fn described(found: &Found) -> Value {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(key.to_owned(), value);
        }
    };
    put("id", found.broker_id.map(|id| id.to_string().into()));
    put("name", found.facts.name.clone().map(Value::from));
    put("hostname", found.facts.hostname.clone().map(Value::from));
    put("address", found.facts.address.clone().map(Value::from));
    put("owner", found.identity.owner.clone().map(Value::from));
    put("origin", found.identity.origin.clone().map(Value::from));
    put("action", found.identity.action.clone().map(Value::from));
    put("lease_until", found.identity.lease_until.map(|until| until.to_string().into()));
    put("age_seconds", found.age.map(|age| age.as_secs().into()));
    fields.extend(found.facts.facts.clone());
    Value::Object(fields)
}
