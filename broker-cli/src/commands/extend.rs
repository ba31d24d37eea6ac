//! `broker extend`

use jiff::Timestamp;

use super::{arguments, conclude, governs_leases, hosts, in_turn, label, nothing_chosen, selected};
use crate::app::{App, Outcome};
use crate::args::Extend;
use crate::args::split::Argument;
use crate::error::CommandError;
use crate::output;

pub(super) fn run(app: &App<'_>, options: &Extend, given: Vec<Argument>) -> Outcome {
    let by = options.lease.or(app.broker.settings().default_lease());
    let mut args = arguments(given)?;
    if let Some(labels) = &options.provider_labels {
        args.insert("provider_labels".to_owned(), labels.as_str().into());
    }
    let records = selected(app, &options.selection)?;
    if by.is_none() && !records.iter().all(|record| governs_leases(app, record)) {
        let error = CommandError::usage("nothing says how long");
        return Err(error.hint("`--lease 2h` does, or `default_lease` in the settings").into());
    }
    if records.is_empty() {
        return nothing_chosen(app, "extend");
    }
    if options.background
        && let Some(outcome) = app.send_off(&format!("extend {}", hosts(records.len())), &records)
    {
        return outcome;
    }
    let outcomes = app.settle(records.len(), async {
        let mut outcomes = Vec::new();
        for records in in_turn(records, options.sequential) {
            outcomes.extend(app.broker.extend_with(records, by, args.clone()).await?);
        }
        Ok(outcomes)
    })?;
    conclude(app, "extend the lease of", outcomes, |_, record| {
        let lease = output::lease(record.lease_until, Timestamp::now());
        app.console.note(&format!("{}: the lease ends {lease}", label(&record)));
        record
    })
}
