//! The way of a host out: claimed in the journal, released by its provider, and only then gone.

use std::sync::Arc;
use std::time::Duration;

use crate::context::Core;
use crate::error::Error;
use crate::inventory::{HostRecord, HostState, InventoryError};
use crate::provider::{ErrorKind, Provider, ProviderError};

/// How long a provider may take to release one host.
const LIMIT: Duration = Duration::from_secs(600);

/// How a release ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Released {
    /// The provider has released it.
    Now,
    /// Somebody else had released it before.
    Before,
}

/// Releases one host.
///
/// # Errors
///
/// If somebody else is making or releasing it, or the provider could not release it: it is then in the inventory as
/// before, with the reason in `error`.
pub(crate) async fn release(core: &Arc<Core>, record: HostRecord) -> Result<Released, Error> {
    let provider = core.provider_of(&record).await?;
    let (before, claimed) = match claim(core, record).await? {
        Claim::Ours { before, claimed } => (before, *claimed),
        Claim::AlreadyGone => return Ok(Released::Before),
    };
    core.tell(&claimed, crate::Step::Releasing);
    let outcome = tokio::time::timeout(LIMIT, ask(provider.as_ref(), &claimed)).await.unwrap_or_else(|_| {
        let limit = crate::duration::format(LIMIT);
        Err(ProviderError::new(ErrorKind::Timeout, format!("the provider did not release it within {limit}")))
    });
    match outcome {
        Ok(()) => {
            core.tell(&claimed, crate::Step::Released);
            settle(core, HostRecord { state: HostState::Gone, error: None, ..claimed }).await;
            Ok(Released::Now)
        }
        Err(error) => {
            // It goes back to whom it belonged; that somebody else has died over its release makes it no less there.
            let state = if before.state == HostState::Releasing { HostState::Failed } else { before.state };
            let message = Some(crate::error_chain(&error));
            let doing = format!("could not release host {} (`{}`)", claimed.number, claimed.label());
            settle(core, HostRecord { state, error: message, owner: before.owner.clone(), ..claimed }).await;
            Err(Error::Provider { doing, source: error })
        }
    }
}

/// Releases what a checkout may have left behind, after its provider was cut off or failed.
///
/// # Errors
///
/// What the provider says; the record is as it was.
pub(crate) async fn undo(provider: &dyn Provider, record: &HostRecord) -> Result<(), ProviderError> {
    match tokio::time::timeout(LIMIT, ask_until_gone(provider, record)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ProviderError::new(ErrorKind::Timeout, "the provider did not undo it in time")),
    }
}

async fn ask(provider: &dyn Provider, record: &HostRecord) -> Result<(), ProviderError> {
    // Of a host that was handed over, the facts say what it is. Of any other, only its id does.
    if record.checked_out_at.is_some() {
        provider.release(record).await
    } else {
        ask_until_gone(provider, record).await
    }
}

async fn ask_until_gone(provider: &dyn Provider, record: &HostRecord) -> Result<(), ProviderError> {
    // A request that was cut off may take effect after it has been looked for, so one look is not enough.
    for attempt in 0..3 {
        for found in provider.find(record).await? {
            let mut whole = record.clone();
            whole.absorb(found.facts);
            provider.release(&whole).await?;
        }
        if attempt > 0 && provider.find(record).await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(ProviderError::new(ErrorKind::Failed, "what was made for the host is still there after its release"))
}

enum Claim {
    Ours { before: Box<HostRecord>, claimed: Box<HostRecord> },
    AlreadyGone,
}

/// Writes `releasing`, so that no two processes release the same host.
async fn claim(core: &Arc<Core>, mut record: HostRecord) -> Result<Claim, Error> {
    loop {
        match record.state {
            HostState::Gone => return Ok(Claim::AlreadyGone),
            HostState::Pending if core.is_owner_busy(&record) => {
                return Err(Error::state(&record, format!("is still being made by {}", owner(&record))));
            }
            HostState::Releasing if core.is_owner_busy(&record) => {
                return Err(Error::state(&record, format!("is being released by {}", owner(&record))));
            }
            _ => {}
        }
        let me = core.owner()?;
        let wanted = HostRecord { state: HostState::Releasing, owner: Some(me), ..record.clone() };
        match core.inventory().update(wanted.clone()).await {
            Ok(claimed) => return Ok(Claim::Ours { before: Box::new(record), claimed: Box::new(claimed) }),
            Err(InventoryError::Conflict { current }) => record = *current,
            Err(InventoryError::Missing { .. }) => return Ok(Claim::AlreadyGone),
            // The host has to go all the same. What the journal says of it now is settled by whoever looks next.
            Err(InventoryError::NoSpace { .. }) => {
                tracing::warn!(host = wanted.label(), "there is no room to write down that the host is being released");
                return Ok(Claim::Ours { before: Box::new(record), claimed: Box::new(wanted) });
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn owner(record: &HostRecord) -> String {
    record.owner.as_ref().map_or_else(
        || "another process".to_owned(),
        |owner| format!("process {} of {} on {}", owner.pid, owner.user, owner.machine),
    )
}

/// Writes down how it ended. The host is what it is, whether or not the journal can be written.
async fn settle(core: &Arc<Core>, record: HostRecord) {
    let label = record.label();
    if let Err(error) = core.inventory().update(record).await {
        let error = crate::error_chain(&error);
        tracing::warn!(
            host = label,
            error,
            "the journal could not be written; the next `broker checkin` settles the entry"
        );
    }
}
