//! `broker extend`

use jiff::Timestamp;

use super::{conclude, hosts, label, nothing_chosen};
use crate::app::{App, Outcome};
use crate::args::Extend;
use crate::error::CommandError;
use crate::output;

pub(super) fn run(app: &App<'_>, options: &Extend) -> Outcome {
    let choice = options.selection.choice()?;
    let by = options.lease.or(app.broker.settings().default_lease()).ok_or_else(|| {
        CommandError::usage("nothing says how long").hint("`--lease 2h` does, or `default_lease` in the settings")
    })?;
    let records = app.choose(&choice)?;
    if records.is_empty() {
        return nothing_chosen(app, "extend");
    }
    if options.background
        && let Some(outcome) = app.send_off(&format!("extend {}", hosts(records.len())), &records)
    {
        return outcome;
    }
    let outcomes = app.settle(records.len(), async { Ok(app.broker.extend(records, by).await?) })?;
    conclude(app, "extend the lease of", outcomes, |_, record| {
        let lease = output::lease(record.lease_until, Timestamp::now());
        app.console.note(&format!("{}: the lease ends {lease}", label(&record)));
        record
    })
}
