//! `broker checkin`

use broker::Released;
use broker::inventory::{HostRecord, HostState};

use super::{conclude, hosts, in_turn, nothing_chosen, selected, these};
use crate::app::{App, Outcome};
use crate::args::Checkin;

pub(super) fn run(app: &App<'_>, options: &Checkin) -> Outcome {
    let records = selected(app, &options.selection)?;
    if records.is_empty() {
        return nothing_chosen(app, "check in");
    }
    if options.selection.all {
        app.confirm(&format!("Release {}?", these(records.len())), &records)?;
    }
    if options.background
        && let Some(outcome) = app.send_off(&format!("checkin of {}", hosts(records.len())), &records)
    {
        return outcome;
    }
    let outcomes = app.settle(records.len(), async {
        let mut outcomes = Vec::new();
        for records in in_turn(records, options.sequential) {
            let broker = &app.broker;
            outcomes.extend(match options.selection.force {
                true => broker.checkin_by_force(records).await?,
                false => broker.checkin(records).await?,
            });
        }
        Ok(outcomes)
    })?;
    conclude(app, "release", outcomes, |record, released| {
        if released == Released::Before {
            app.console.note(&format!("{} was released before", super::label(record)));
        }
        HostRecord { state: HostState::Gone, ..record.clone() }
    })
}
