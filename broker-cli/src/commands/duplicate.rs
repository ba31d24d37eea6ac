//! `broker duplicate`

use std::time::Duration;

use broker::HostRequest;
use broker::inventory::HostRecord;
use tokio::task::JoinSet;

use super::{checkout, governs_leases, hosts, nothing_chosen, origin, selected};
use crate::app::{App, Outcome};
use crate::args::Duplicate;
use crate::error::{Code, CommandError, Failure};

pub(super) fn run(app: &App<'_>, options: &Duplicate) -> Outcome {
    let records = selected(app, &options.selection)?;
    if records.is_empty() {
        return nothing_chosen(app, "duplicate");
    }
    let requests: Vec<HostRequest> = records
        .iter()
        .map(|record| {
            let mut request = HostRequest::like(record).count(options.count).origin(origin());
            request.lease = options.lease.or_else(|| lease(app, record));
            request.timeout = options.timeout;
            request
        })
        .collect();
    // All of them can be made, or none is.
    for request in &requests {
        app.broker.resolve(request.clone(), broker::Wanted::Host)?;
    }
    if options.background
        && let Some(outcome) = app.send_off(&format!("duplicate {}", hosts(records.len())), &records)
    {
        return outcome;
    }
    let (outcomes, refused) = app.settle(requests.len() * options.count as usize, async {
        let mut running = JoinSet::new();
        for request in requests {
            let broker = app.broker.clone();
            running.spawn(async move { broker.checkout_kept(request).await });
        }
        let (mut outcomes, mut refused) = (Vec::new(), Vec::new());
        while let Some(batch) = running.join_next().await {
            match batch {
                Ok(Ok(batch)) => outcomes.extend(batch),
                Ok(Err(error)) => refused.extend(Failure::from(error).0),
                Err(error) => refused.push(CommandError::new(Code::Failed, error)),
            }
        }
        Ok((outcomes, refused))
    })?;
    match (checkout::tell(app, outcomes), refused.is_empty()) {
        (outcome, true) => outcome,
        (Ok(_), false) => Err(Failure(refused)),
        (Err(failure), false) => Err(Failure(failure.0.into_iter().chain(refused).collect())),
    }
}

/// The lease of a host, for another like it: none where its provider decides on that, and never more than is allowed by
/// now.
fn lease(app: &App<'_>, record: &HostRecord) -> Option<Duration> {
    let lease = record.lease().filter(|_| !governs_leases(app, record))?;
    Some(app.broker.settings().max_lease().map_or(lease, |limit| lease.min(limit)))
}
