//! Shared hosts: one host for many tests, each in a process of its own.
//!
//! The journal's record of the host says who uses it. Whoever asks for the host joins: adds itself to the record, or, if
//! there is none of that name, makes the host while the others wait. Whoever is done leaves, and the last one out
//! releases. Every step is a change of one record at a known revision, so that of two who do something at once one does
//! it, and the other looks again. A member whose process is dead counts as gone.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::broker::{Batch, Begun, Broker, Limit, ORIGIN_ARGUMENT, begin, make_one};
use crate::context::Core;
use crate::engine::{self, Terms, Unfinished};
use crate::error::{CheckoutError, Error, Result};
use crate::guard::{HostGuard, HostGuards};
use crate::host::Host;
use crate::id::GuardId;
use crate::inventory::{
    Holding, HostRecord, HostState, InventoryError, Liveness, Member, Secrets, Shared, args_to_json,
};
use crate::provider::Lease;
use crate::request::{HostRequest, RequestError};

/// How often somebody who waits for the host looks again.
const PERIOD: Duration = Duration::from_millis(100);

impl Broker {
    /// A host that tests in several processes share, under a name of theirs. The first that asks for it makes it, the
    /// others wait until it is there, and when the last guard goes it is released, or stays as long as the request's
    /// [`idle`](HostRequest::idle) says. A process that dies leaves by that.
    ///
    /// All must ask for the same thing. They find each other by the Broker directory.
    ///
    /// ```no_run
    /// # use broker_core::{Broker, HostRequest};
    /// # async fn test(broker: Broker) -> broker_core::Result<()> {
    /// let db = broker.shared("db", HostRequest::nick("postgres")).await?;
    /// println!("{}", db.port(5432)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`checkout`](Self::checkout); and if the host of that name is in use and was asked for differently.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait, or undoes the checkout, or leaves.
    pub async fn shared(&self, name: &str, request: HostRequest) -> Result<HostGuard> {
        let batch = self.plan::<HostGuard>(request).await?;
        if batch.resolved.count != 1 {
            return Err(RequestError::NotOne(batch.resolved.count).into());
        }
        let cancel = self.core.stop.child_token();
        let _cancel_on_drop = cancel.clone().drop_guard();
        let (core, name) = (Arc::clone(&self.core), name.to_owned());
        engine::call("joining a shared host", async move { join(core, name, batch, cancel).await }).await?
    }
}

async fn join(core: Arc<Core>, name: String, batch: Batch<HostGuard>, cancel: CancellationToken) -> Result<HostGuard> {
    let _unfinished = Unfinished::begin();
    let limit = Limit::new(batch.resolved.timeout);
    let waiting = |source| Error::Provider { doing: format!("could not join shared host `{name}`"), source };
    loop {
        let known = core.inventory().load().await?.records;
        let record = match known.into_iter().find(|record| is_of(record, &name)) {
            Some(record) => Arc::unwrap_or_clone(record),
            None => {
                let begun = begin(&core, &batch, &cancel, limit).await?;
                match make(&core, &name, &batch, limit, begun).await? {
                    Some(guard) => return Ok(guard),
                    // Somebody was faster.
                    None => continue,
                }
            }
        };
        match meet(&core, &name, &batch, record).await? {
            Met::Joined(guard) => return Ok(guard),
            Met::LookAgain => {}
            Met::Wait => {
                let pause = async {
                    tokio::time::sleep(PERIOD).await;
                    Ok(())
                };
                limit.bound(&cancel, pause).await.map_err(waiting)?;
            }
        }
    }
}

fn is_of(record: &HostRecord, name: &str) -> bool {
    record.shared.as_ref().is_some_and(|shared| shared.name == name)
}

/// Makes the host, unless there is one by now.
async fn make(
    core: &Arc<Core>,
    name: &str,
    batch: &Batch<HostGuard>,
    limit: Limit,
    begun: Begun,
) -> Result<Option<HostGuard>> {
    let Begun { mut orders, mut drafts, owner } = begun;
    let (Some(order), Some(mut draft)) = (orders.pop(), drafts.pop()) else { return Ok(None) };
    let guard = GuardId::generate();
    draft.shared = Some(Shared { name: name.to_owned(), members: vec![Member { guard, owner }] });
    let record = match core.inventory().add_shared(draft).await {
        Ok(record) => record,
        Err(InventoryError::Conflict { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match make_one(core, batch, limit, order, record, guard).await {
        Ok(guard) => Ok(Some(guard)),
        Err(failure) => Err(CheckoutError::new(HostGuards::default(), vec![failure]).into()),
    }
}

enum Met {
    Joined(HostGuard),
    /// Somebody else is at work on the host.
    Wait,
    /// Something has changed.
    LookAgain,
}

/// Joins a host that is there, waits for one that comes or goes, and clears away what is of no use to anybody.
async fn meet(core: &Arc<Core>, name: &str, batch: &Batch<HostGuard>, record: HostRecord) -> Result<Met> {
    let members = living(core, &record).await;
    let cleared = match record.state {
        HostState::Gone => return Ok(Met::LookAgain),
        HostState::Active if is_same_wish(batch, &record) => return enter(core, batch, record, members).await,
        HostState::Active if !members.is_empty() => {
            let (name, made_of) = (name.to_owned(), made_of(&record));
            return Err(RequestError::SharedDiffers { name, made_of }.into());
        }
        HostState::Pending | HostState::Releasing if core.is_owner_busy(&record).await => return Ok(Met::Wait),
        // What does not exist is of no use to its members either.
        HostState::Failed | HostState::Vanished => release_unless_used(core, record, |_| true).await,
        HostState::Active | HostState::Pending | HostState::Releasing => {
            release_unless_used(core, record, |_| false).await
        }
    };
    match cleared {
        Ok(_) => Ok(Met::LookAgain),
        // Somebody else is at it.
        Err(Error::State { .. }) => Ok(Met::Wait),
        Err(error) => Err(error),
    }
}

fn made_of(record: &HostRecord) -> String {
    let args = record.details.args.iter().filter(|(key, _)| !key.starts_with('_'));
    let first = args.map(|(key, value)| format!("{key}={value}")).next().unwrap_or_default();
    format!("{} {first}", record.provider)
}

fn is_same_wish(batch: &Batch<HostGuard>, record: &HostRecord) -> bool {
    let mut args = record.details.args.clone();
    args.shift_remove(ORIGIN_ARGUMENT);
    // As they are written down: so those of another process are spelt.
    let [one, other] = [&args, &batch.resolved.args].map(|args| args_to_json(args, Secrets::Shown));
    record.provider == batch.resolved.provider && record.instance == batch.resolved.instance && one == other
}

/// The members whose processes are not dead.
async fn living(core: &Arc<Core>, record: &HostRecord) -> Vec<Member> {
    let mut living = Vec::new();
    for member in members(record) {
        if core.liveness_of(&member.owner).await != Liveness::Dead {
            living.push(member.clone());
        }
    }
    living
}

async fn enter(
    core: &Arc<Core>,
    batch: &Batch<HostGuard>,
    record: HostRecord,
    mut members: Vec<Member>,
) -> Result<Met> {
    let guard = GuardId::generate();
    let me = core.owner().await?;
    members.push(Member { guard, owner: me.clone() });
    let mut joined = record.clone();
    // Whoever is in the house is the owner: a leaver's or a dead one's name says nothing.
    if members.len() == 1 {
        joined.owner = Some(me);
    }
    // One that stays for a look after a failure stays for that; else whoever comes last decides how long.
    if record.holding == Holding::Guarded || members.len() == 1 {
        joined.holding = Holding::Guarded;
        joined.lease_until = batch.lease.map(|lease| Lease(lease).extending(record.lease_until));
    }
    set_members(&mut joined, members);
    match core.inventory().update(joined).await {
        Ok(record) => {
            let host = Host::new(Arc::clone(core), record);
            Ok(Met::Joined(HostGuard::new(host, guard, batch.resolved.keep_on_failure, batch.resolved.idle)))
        }
        Err(InventoryError::Conflict { .. } | InventoryError::Missing { .. }) => Ok(Met::LookAgain),
        Err(error) => Err(error.into()),
    }
}

fn set_members(record: &mut HostRecord, members: Vec<Member>) {
    if let Some(shared) = &mut record.shared {
        shared.members = members;
    }
}

/// Releases a shared host, unless somebody uses it who does not count. Returns whether it is gone.
async fn release_unless_used(
    core: &Arc<Core>,
    record: HostRecord,
    does_not_count: impl Fn(GuardId) -> bool,
) -> Result<bool> {
    let state = record.state;
    let living: Vec<GuardId> = living(core, &record).await.into_iter().map(|member| member.guard).collect();
    let all: Vec<GuardId> = members(&record).map(|member| member.guard).collect();
    let is_unused = |record: &HostRecord| {
        let is_dead = |guard| all.contains(&guard) && !living.contains(&guard);
        record.state == state && members(record).all(|member| does_not_count(member.guard) || is_dead(member.guard))
    };
    let terms = Terms { wanted: is_unused, unproven_is_dead: false };
    Ok(engine::release_on(core, record, &terms).await?.is_some())
}

fn members(record: &HostRecord) -> impl Iterator<Item = &Member> {
    record.shared.iter().flat_map(|shared| &shared.members)
}

/// Leaves a shared host. The last one out releases it, or lets it stay for as long as `idle`.
///
/// # Errors
///
/// If it could not be released, or the journal not be written.
pub(crate) async fn leave(core: &Arc<Core>, record: &HostRecord, guard: GuardId, idle: Option<Duration>) -> Result<()> {
    loop {
        let Some(current) = core.current(record).await? else { return Ok(()) };
        // Whoever takes a host away from its members takes them out of its record.
        if !members(&current).any(|member| member.guard == guard) {
            return Ok(());
        }
        let mut others = living(core, &current).await;
        others.retain(|member| member.guard != guard);
        let is_last = others.is_empty() && current.holding == Holding::Guarded;
        if is_last && (idle.is_none() || current.state != HostState::Active) {
            if release_unless_used(core, current, |member| member == guard).await? {
                return Ok(());
            }
            continue;
        }
        let mut left = current;
        match (others.first(), idle) {
            (Some(other), _) => left.owner = Some(other.owner.clone()),
            (None, Some(idle)) if is_last => {
                left.holding = Holding::Kept;
                left.lease_until = Some(Lease(idle).until());
            }
            (None, _) => {}
        }
        set_members(&mut left, others);
        match core.inventory().update(left).await {
            Err(InventoryError::Conflict { .. }) => {}
            Ok(_) | Err(InventoryError::Missing { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether anybody is written down as using a host that is shared.
pub(crate) fn is_used(record: &HostRecord) -> bool {
    members(record).next().is_some()
}
