//! Longer leases.

use std::sync::Arc;
use std::time::Duration;

use crate::args::Args;
use crate::broker::Broker;
use crate::context::Core;
use crate::engine;
use crate::error::{Error, Result};
use crate::inventory::{HostRecord, HostState};
use crate::provider::{Extension, Lease};
use crate::recovery;

impl Broker {
    /// Lets hosts live for at least so long from now; a lease that ends later stays. Every host has its own outcome, in the
    /// order of `records`: the new record.
    ///
    /// # Errors
    ///
    /// If the lease is longer than the settings allow, or the engine is gone.
    pub async fn extend(
        &self,
        records: Vec<HostRecord>,
        by: Duration,
    ) -> Result<Vec<(HostRecord, Result<HostRecord>)>> {
        self.extend_with(records, Some(by), Args::new()).await
    }

    /// As [`extend`](Self::extend), with arguments for the provider, and for a span of the provider's own where there is
    /// none.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn extend_with(
        &self,
        records: Vec<HostRecord>,
        by: Option<Duration>,
        args: Args,
    ) -> Result<Vec<(HostRecord, Result<HostRecord>)>> {
        if by.is_some() {
            self.lease(by, None)?;
        }
        let wanted = Arc::new(Extension { by: by.map(Lease), args });
        let extend = move |core: Arc<Core>, record| {
            let wanted = Arc::clone(&wanted);
            async move { extend_one(&core, record, &wanted).await }
        };
        self.each("extending leases", records, extend).await
    }
}

async fn extend_one(core: &Arc<Core>, record: HostRecord, wanted: &Extension) -> Result<HostRecord> {
    let record = recovery::recover(core, record).await?;
    let is_active = |record: &HostRecord| match record.state {
        HostState::Active => Ok(()),
        state => Err(Error::state(record, format!("is {state}, and only an active host can be extended"))),
    };
    is_active(&record)?;
    let provider = core.provider_of(&record).await?;
    let facts = engine::caught(provider.extend_as(&record, wanted)).await.map_err(|source| {
        let doing = format!("could not extend the lease of host {} (`{}`)", record.number, record.label());
        Error::Provider { doing, source }
    })?;
    core.change(record, |record| {
        is_active(record)?;
        if let Some(by) = wanted.by {
            record.lease_until = Some(by.extending(record.lease_until));
        }
        record.absorb(facts.clone());
        Ok(())
    })
    .await
}
