//! `broker forget`

use broker::inventory::{HostRecord, HostState};

use super::{conclude, label, nothing_chosen, selected, these};
use crate::app::{App, Outcome};
use crate::args::Forget;

pub(super) fn run(app: &App<'_>, options: &Forget) -> Outcome {
    let records = selected(app, &options.selection)?;
    if records.is_empty() {
        return nothing_chosen(app, "forget");
    }
    app.confirm(&format!("Forget {}, without a release?", these(records.len())), &records)?;
    let is_forced = options.selection.force;
    let is_held = !is_forced && records.iter().any(|record| app.broker.is_held(record));
    let outcomes = app.settle(records.len(), async {
        let broker = &app.broker;
        Ok(if is_forced { broker.forget_by_force(records).await } else { broker.forget(records).await }?)
    })?;
    let concluded = conclude(app, "forget", outcomes, |record, ()| {
        app.console.note(&format!("{}: forgotten", label(record)));
        HostRecord { state: HostState::Gone, ..record.clone() }
    });
    concluded.map_err(|failure| if is_held { failure.hint("`--force` forgets what is held, too") } else { failure })
}
