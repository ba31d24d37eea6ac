//! `broker checkout`

use std::sync::Arc;

use broker::{CheckoutFailure, Choice, FailureCause, Host};

use super::{hosts, request, resolve};
use crate::app::{App, Outcome};
use crate::args::Checkout;
use crate::args::split::Argument;
use crate::error::{CommandError, Failure};
use crate::output;

pub(super) fn run(app: &App<'_>, options: Checkout, arguments: Vec<Argument>) -> Outcome {
    let mut request = request(&options.wanted, arguments)?;
    request.count = options.count;
    request.lease = options.lease;
    request.all_or_nothing = options.all_or_nothing;
    let resolved = resolve(app, &request, broker::Wanted::Host)?;
    if options.background
        && let Some(outcome) =
            app.send_off(&format!("checkout of {} from {}", hosts(resolved.count as usize), resolved.provider), &[])
    {
        return outcome;
    }
    let outcomes = app.settle(resolved.count as usize, async { Ok(app.broker.checkout_kept(request).await?) })?;
    tell(app, outcomes)
}

/// Prints the hosts there are, and reports those that could not be had.
pub(super) fn tell(app: &App<'_>, outcomes: Vec<Result<Host, CheckoutFailure>>) -> Outcome {
    let mut records = Vec::new();
    let mut failures = Vec::new();
    let mut given_up = 0;
    let mut left = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(host) => records.push(host.record()),
            // The host that failed says why; these only went with it.
            Err(failure) if is_given_up(&failure) => given_up += 1,
            Err(failure) => {
                left.extend(asks(&failure).then_some(failure.number));
                failures.push(CommandError::from(failure));
            }
        }
    }
    if given_up > 0 {
        app.console.note(&format!("given up with the one that failed, and gone: {}", hosts(given_up)));
    }
    records.sort_by_key(|record| record.number);
    let data = output::records(&records, app.secrets());
    app.report.put("hosts", data.clone());
    failures.extend(app.print(|| data, || output::host_lines(&records)).err());
    for number in left {
        failures.extend(decide(app, number).err().into_iter().flat_map(|failure| failure.0));
    }
    if failures.is_empty() { Ok(0) } else { Err(Failure(failures)) }
}

/// Whether something was left, and the provider wants to know what becomes of it.
fn asks(failure: &CheckoutFailure) -> bool {
    failure.is_kept && matches!(failure.source.as_ref(), FailureCause::Provider(error) if error.asks())
}

/// Asks what becomes of what a failed checkout has left, and checks it in if that is wanted.
fn decide(app: &App<'_>, number: u64) -> Result<(), Failure> {
    let choice = Choice { hosts: vec![number.to_string()], ..Choice::default() };
    let records = app.broker.choose_from(broker::inventory::read(app.broker.directory().path())?, &choice)?.records;
    let label = records.first().map(|record| record.label()).unwrap_or_default();
    if !app.wants(&format!("The checkout failed and left `{label}`. Check it in?"))? {
        return Ok(());
    }
    let records = records.into_iter().map(Arc::unwrap_or_clone).collect();
    for (record, outcome) in app.settle(1, async { Ok(app.broker.checkin(records).await?) })? {
        outcome?;
        app.console.note(&format!("{} ({}): checked in", record.number, record.label()));
    }
    Ok(())
}

/// Whether the host is gone for no other reason than that it was all or nothing.
fn is_given_up(failure: &CheckoutFailure) -> bool {
    !failure.is_kept && matches!(*failure.source, FailureCause::Batch)
}
