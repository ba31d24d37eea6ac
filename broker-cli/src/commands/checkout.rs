//! `broker checkout`

use broker::{CheckoutFailure, FailureCause, Host};

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
    for outcome in outcomes {
        match outcome {
            Ok(host) => records.push(host.record()),
            // The host that failed says why; these only went with it.
            Err(failure) if is_given_up(&failure) => given_up += 1,
            Err(failure) => failures.push(CommandError::from(failure)),
        }
    }
    if given_up > 0 {
        app.console.note(&format!("given up with the one that failed, and gone: {}", hosts(given_up)));
    }
    records.sort_by_key(|record| record.number);
    let data = output::records(&records, app.secrets());
    app.report.put("hosts", data.clone());
    app.print(|| data, || output::host_lines(&records))?;
    if failures.is_empty() { Ok(0) } else { Err(Failure(failures)) }
}

/// Whether the host is gone for no other reason than that it was all or nothing.
fn is_given_up(failure: &CheckoutFailure) -> bool {
    failure.kept_as.is_none() && matches!(*failure.source, FailureCause::Batch)
}
