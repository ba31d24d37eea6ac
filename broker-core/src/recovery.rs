//! What becomes of a host whose owner died while it was making or releasing it.
//!
//! The journal says that something may exist, and only the provider knows. So a command that needs such a host asks, and
//! writes down the answer. Nothing is released on the way: whoever wants that says so, by `checkin` or `reap`. Two who
//! recover the same host at once read the same answer, and the journal takes the first one's.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::context::Core;
use crate::engine;
use crate::error::{Error, Result};
use crate::inventory::{Holding, HostRecord, HostState, InventoryError};
use crate::provider::{Found, Provider};

/// How long to wait before looking again for what may still come to be.
const PAUSE: Duration = Duration::from_millis(200);

/// How long to wait before the next look at a host that its provider is still making.
const LONG_PAUSE: Duration = Duration::from_secs(2);

/// A host that somebody wants to use, settled first if its owner died before it was handed over. Any other is returned
/// as it was given.
///
/// # Errors
///
/// If the provider cannot tell, and then the entry stays as it was; or if nothing exists, and then it is gone.
pub(crate) async fn recover(core: &Arc<Core>, record: HostRecord) -> Result<HostRecord> {
    let record = settle(core, record).await?;
    match record.state {
        HostState::Gone => Err(Error::state(&record, "does not exist: its checkout was cut off, and nothing was left")),
        _ => Ok(record),
    }
}

/// As [`recover`]. That nothing exists is no error.
pub(crate) async fn settle(core: &Arc<Core>, mut record: HostRecord) -> Result<HostRecord> {
    while record.state == HostState::Pending {
        let provider = core.provider_of(&record).await?;
        if core.is_owner_busy(&record).await {
            // The caller may have read the record a while ago.
            match core.current(&record).await? {
                Some(current) if current.rev != record.rev => record = current,
                _ => break,
            }
            continue;
        }
        let found = engine::caught(provider.find(&record)).await.map_err(|source| Error::Provider {
            doing: format!("could not find out what was made for host {} (`{}`)", record.number, record.label()),
            source,
        })?;
        match settled(&record, &found, provider.as_ref()) {
            None => tokio::time::sleep(if is_unfinished(&found) { LONG_PAUSE } else { PAUSE }).await,
            Some(settled) => match core.inventory().update(settled).await {
                Ok(settled) => record = settled,
                Err(InventoryError::Conflict { current }) => record = *current,
                Err(InventoryError::Missing { .. }) => record.state = HostState::Gone,
                Err(error) => return Err(error.into()),
            },
        }
    }
    Ok(record)
}

/// Whether the provider has had the time to finish what the record's owner last asked it for.
pub(crate) fn is_settled(record: &HostRecord, provider: &dyn Provider) -> bool {
    let age = Timestamp::now().duration_since(record.at);
    Duration::try_from(age).is_ok_and(|age| age >= provider.settle_time(record))
}

/// What a host is to be, whose owner died while it was making or releasing it, by what the provider has of it. Nothing,
/// as long as something may still come to be.
pub(crate) fn settled(record: &HostRecord, found: &[Found], provider: &dyn Provider) -> Option<HostRecord> {
    let mut settled = record.clone();
    match found {
        [] if record.is_half_made() && !is_settled(record, provider) => return None,
        [] => settled.state = HostState::Gone,
        // What its provider is still at may yet be what was asked for.
        found if record.state == HostState::Pending && is_unfinished(found) => return None,
        found if record.state == HostState::Releasing => {
            absorb_only(&mut settled, found);
            settled.state = HostState::Failed;
            settled.error = Some("its release was cut off when its process ended".to_owned());
        }
        found => {
            absorb_only(&mut settled, found);
            let cut_off = "its checkout was cut off when its process ended";
            let flaw = match found {
                [only] => only.flaw.clone(),
                several => Some(format!("{} things were made for it", several.len())),
            };
            settled.error = Some(match &flaw {
                Some(flaw) => format!("{cut_off}: {flaw}"),
                None => format!("{cut_off}, so that it may not be complete"),
            });
            if flaw.is_some() {
                settled.state = HostState::Failed;
            } else {
                settled.state = HostState::Active;
                settled.checked_out_at = Some(Timestamp::now());
            }
        }
    }
    // Whoever would have released it is dead. It is for people now.
    settled.holding = Holding::Kept;
    Some(settled)
}

fn is_unfinished(found: &[Found]) -> bool {
    found.iter().any(|found| found.unfinished)
}

/// Takes over what is told of the one thing that was found. Of several none is the host.
fn absorb_only(record: &mut HostRecord, found: &[Found]) {
    if let [only] = found {
        record.absorb(only.facts.clone());
    }
}
