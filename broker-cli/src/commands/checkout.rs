//! `broker checkout`

use broker::{CheckoutFailure, Host};

use super::{request, resolve};
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
    let outcomes = app.settle(resolved.count as usize, async { Ok(app.broker.checkout_kept(request).await?) })?;
    tell(app, outcomes)
}

/// Prints the hosts there are, and reports those that could not be had.
pub(super) fn tell(app: &App<'_>, outcomes: Vec<Result<Host, CheckoutFailure>>) -> Outcome {
    let mut records = Vec::new();
    let mut failures = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(host) => records.push(host.record()),
            Err(failure) => failures.push(CommandError::from(failure)),
        }
    }
    records.sort_by_key(|record| record.number);
    let data = output::records(&records, app.secrets());
    app.report.put("hosts", data.clone());
    app.print(|| data, || output::host_lines(&records))?;
    if failures.is_empty() { Ok(0) } else { Err(Failure(failures)) }
}
