//! Entries that go without a release.

use std::sync::Arc;

use crate::broker::{Broker, is_guarded};
use crate::context::Core;
use crate::error::{Error, Result};
use crate::inventory::{HostRecord, HostState};

impl Broker {
    /// Takes hosts out of the inventory without releasing them. Every host has its own outcome: one that the guard of a
    /// living process holds is refused, since nobody would release it any more.
    ///
    /// # Errors
    ///
    /// If the engine is gone.
    pub async fn forget(&self, records: Vec<HostRecord>) -> Result<Vec<(HostRecord, Result<()>)>> {
        let forget = |core: Arc<Core>, record| async move { forget_one(&core, record, false).await };
        self.each("forgetting hosts", records, forget).await
    }

    /// As [`forget`](Self::forget), also for hosts that a guard holds.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn forget_by_force(&self, records: Vec<HostRecord>) -> Result<Vec<(HostRecord, Result<()>)>> {
        let forget = |core: Arc<Core>, record| async move { forget_one(&core, record, true).await };
        self.each("forgetting hosts", records, forget).await
    }
}

async fn forget_one(core: &Arc<Core>, record: HostRecord, force: bool) -> Result<()> {
    if is_guarded(&record) && !force && core.is_owner_busy(&record).await {
        let who = core.who(&record);
        return Err(Error::state(&record, format!("is held by {who}, which would not release it any more")));
    }
    if record.state == HostState::Pending && core.is_owner_busy(&record).await {
        return Err(Error::state(
            &record,
            format!("is still being made by {}, and cannot be forgotten", core.who(&record)),
        ));
    }
    let forget = |record: &mut HostRecord| {
        record.state = HostState::Gone;
        Ok(())
    };
    core.change(record, forget).await.map(drop)
}
