//! `broker forget`

use broker::inventory::{HostRecord, HostState};

use super::{conclude, label, nothing_chosen, these};
use crate::app::{App, Outcome};
use crate::args::Forget;

pub(super) fn run(app: &App<'_>, options: &Forget) -> Outcome {
    let records = app.choose(&options.selection.choice()?)?;
    if records.is_empty() {
        return nothing_chosen(app, "forget");
    }
    app.confirm(&format!("Forget {}, without a release?", these(records.len())), &records)?;
    let outcomes = app.settle(records.len(), async { Ok(app.broker.forget(records).await?) })?;
    conclude(app, "forget", outcomes, |record, ()| {
        app.console.note(&format!("{}: forgotten", label(record)));
        HostRecord { state: HostState::Gone, ..record.clone() }
    })
}
