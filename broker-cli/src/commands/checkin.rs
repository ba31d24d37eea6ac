//! `broker checkin`

use broker::Released;
use broker::inventory::{HostRecord, HostState};

use super::{conclude, hosts, labels, nothing_chosen, these};
use crate::app::{App, Outcome};
use crate::args::Checkin;

pub(super) fn run(app: &App<'_>, options: &Checkin) -> Outcome {
    let choice = options.selection.choice()?;
    let mut records = app.choose(&choice)?;
    if choice.all && !options.force {
        let held: Vec<HostRecord> = records.extract_if(.., |record| app.broker.is_held(record)).collect();
        if !held.is_empty() {
            let (count, labels) = (hosts(held.len()), labels(&held));
            app.console.note(&format!("left alone, because a living process holds them: {count}, {labels}"));
            app.console.note("`--force` releases these too");
        }
    }
    if records.is_empty() {
        return nothing_chosen(app, "check in");
    }
    if choice.all {
        app.confirm(&format!("Release {}?", these(records.len())), &records)?;
    }
    if options.background
        && let Some(outcome) = app.send_off(&format!("checkin of {}", hosts(records.len())), &records)
    {
        return outcome;
    }
    let outcomes = app.settle(records.len(), async {
        let broker = &app.broker;
        Ok(if options.force { broker.checkin_by_force(records).await } else { broker.checkin(records).await }?)
    })?;
    conclude(app, "release", outcomes, |record, released| {
        if released == Released::Before {
            app.console.note(&format!("{} was released before", super::label(record)));
        }
        HostRecord { state: HostState::Gone, ..record.clone() }
    })
}
