//! The way of a host out: claimed in the journal, released by its provider, and only then gone.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::context::Core;
use crate::error::Error;
use crate::host::Host;
use crate::id::RunId;
use crate::inventory::{Holding, HostRecord, HostState, InventoryError, Liveness, Shared};
use crate::provider::{ErrorKind, Provider, ProviderError};

/// How long a provider may take to release one host, unless it says itself that it needs longer.
const LIMIT: Duration = Duration::from_secs(600);

/// How long undoing a checkout that was cut off may hold up its caller, unless a release takes longer.
const UNDO_LIMIT: Duration = Duration::from_secs(60);

/// How long a checkout that failed is held up by what it asked for and may still come to be.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long what was released may still be seen.
const GOING: Duration = Duration::from_secs(30);

/// How a release ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Released {
    /// The provider has released it.
    Now,
    /// Somebody else had released it before.
    Before,
}

/// On which terms a host is released.
pub(crate) struct Terms<W> {
    /// Whether the host, as it is at the moment of the claim, is wanted to go.
    pub(crate) wanted: W,
    /// Whether an owner of whom nobody can tell counts as dead. One that lives never does.
    pub(crate) unproven_is_dead: bool,
}

/// Releases one host.
///
/// # Errors
///
/// If somebody else is making or releasing it, or the provider could not release it: it is then in the inventory as
/// before, with the reason in `error`.
pub(crate) async fn release(core: &Arc<Core>, record: HostRecord) -> Result<Released, Error> {
    let whatever_it_is = Terms { wanted: |_: &HostRecord| true, unproven_is_dead: false };
    Ok(release_on(core, record, &whatever_it_is).await?.unwrap_or(Released::Before))
}

/// As [`release`], on certain terms. Returns nothing, and has done nothing, where the host turned out not to be wanted
/// to go.
pub(crate) async fn release_on<W: Fn(&HostRecord) -> bool>(
    core: &Arc<Core>,
    record: HostRecord,
    terms: &Terms<W>,
) -> Result<Option<Released>, Error> {
    let _unfinished = super::Unfinished::begin();
    let provider = core.provider_of(&record).await?;
    let (before, claimed) = match claim(core, record, terms).await? {
        Claim::Ours { before, claimed } => (before, *claimed),
        Claim::AlreadyGone => return Ok(Some(Released::Before)),
        Claim::NotWanted => return Ok(None),
    };
    core.tell(&claimed, crate::Step::Releasing);
    tear_down(core, &before, &claimed).await;
    let limit = at_least(LIMIT, provider.as_ref());
    let asked = tokio::time::timeout(limit, ask(core, provider.as_ref(), &before, &claimed)).await;
    let outcome = asked.unwrap_or_else(|_| {
        let limit = crate::duration::format(limit);
        Err(ProviderError::new(ErrorKind::Timeout, format!("the provider did not release it within {limit}")))
    });
    match outcome {
        Ok(()) => {
            core.tell(&claimed, crate::Step::Released);
            settle(core, HostRecord { state: HostState::Gone, error: None, ..claimed }).await;
            Ok(Some(Released::Now))
        }
        Err(error) => {
            let doing = format!("could not release host {} (`{}`)", claimed.number, claimed.label());
            // It goes back to whom it belonged; that somebody else has died over its release makes it no less there.
            let state = if before.state == HostState::Releasing { HostState::Failed } else { before.state };
            // A guard tries once. From here on the host is for people, so nobody must think that it is still guarded.
            let ours = before.owner.as_ref().map(|owner| owner.run) == claimed.owner.as_ref().map(|owner| owner.run);
            let holding = if ours { Holding::Kept } else { before.holding };
            let back = HostRecord { state, holding, error: Some(crate::error_chain(&error)), ..claimed };
            settle_as(core, back, |record| record.owner.clone_from(&before.owner)).await;
            Err(Error::Provider { doing, source: error })
        }
    }
}

fn at_least(limit: Duration, provider: &dyn Provider) -> Duration {
    provider.release_limit().map_or(limit, |own| own.max(limit))
}

/// How long undoing a checkout may take.
pub(crate) fn undo_limit(provider: &dyn Provider) -> Duration {
    at_least(UNDO_LIMIT, provider)
}

/// Runs the teardown command of a host that was in use. One that was cut off in an earlier release runs again.
async fn tear_down(core: &Arc<Core>, before: &HostRecord, claimed: &HostRecord) {
    let was_in_use =
        matches!(before.state, HostState::Active | HostState::Releasing) && before.checked_out_at.is_some();
    let Some(line) = claimed.teardown_command.as_deref().filter(|_| was_in_use) else { return };
    let host = Host::new(Arc::clone(core), claimed.clone());
    let run = AssertUnwindSafe(async { host.execute(line).await?.check() }).catch_unwind();
    let failure = match tokio::time::timeout(super::hooks::LIMIT, run).await {
        Ok(Ok(Ok(_))) => None,
        Ok(Ok(Err(error))) => Some(crate::error_chain(&error)),
        Ok(Err(panic)) => Some(format!("it panicked: {}", super::hooks::panic_message(panic.as_ref()))),
        Err(_) => Some(format!("it took longer than {}", crate::duration::format(super::hooks::LIMIT))),
    };
    if let Some(error) = failure {
        tracing::warn!(host = claimed.label(), error, "the teardown command failed; the host is released all the same");
    }
    super::held::close(&host).await;
}

/// Runs one call of a provider. A panic in it is an error of that call.
pub(crate) async fn caught<T>(call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|panic| {
        let message = super::hooks::panic_message(panic.as_ref());
        Err(ProviderError::new(ErrorKind::Bug, format!("the provider panicked: {message}")).leaving_something())
    })
}

async fn ask(
    core: &Core,
    provider: &dyn Provider,
    before: &HostRecord,
    claimed: &HostRecord,
) -> Result<(), ProviderError> {
    // A host that was handed over, or that came from elsewhere, is what its facts say. Of one that a Broker began and
    // did not finish only the id is certain, and what its maker had asked for last may still be on its way.
    if !before.is_half_made() {
        return caught(provider.release(claimed)).await;
    }
    let age = Timestamp::now().duration_since(before.at);
    let age = Duration::try_from(age).unwrap_or_default();
    let left = provider.settle_time(before).saturating_sub(age);
    if left > PATIENCE {
        let left = crate::duration::format(Duration::from_secs(left.as_secs()));
        core.tell(claimed, crate::Step::Doing(format!("waiting up to {left} for what may still come to be of it")));
    }
    undo(provider, claimed, age, Duration::MAX).await.map(drop)
}

/// What there was of what a checkout may have left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undone {
    /// It is released.
    Released,
    /// There was nothing, and nothing comes to be any more.
    Nothing,
    /// There was nothing so far. It may still come to be, for so long.
    Awaited(Duration),
}

/// Releases what a checkout may have left behind, whose last request was made `since` ago. Looks until the provider has
/// had the time to carry that out, or until `patience` is at its end.
///
/// # Errors
///
/// What the provider says. Something may still be there then.
pub(crate) async fn undo(
    provider: &dyn Provider,
    record: &HostRecord,
    since: Duration,
    patience: Duration,
) -> Result<Undone, ProviderError> {
    let begun = Instant::now();
    let mut settle_time = provider.settle_time(record);
    let mut released = None;
    let mut pause = Duration::from_millis(20);
    loop {
        let found = caught(provider.find(record)).await?;
        let looked = begun.elapsed();
        let left = settle_time.saturating_sub(since.saturating_add(looked));
        if found.is_empty() && left.is_zero() {
            return Ok(if released.is_some() { Undone::Released } else { Undone::Nothing });
        }
        if found.is_empty() && looked >= patience {
            return Ok(Undone::Awaited(left));
        }
        for found in &found {
            let mut whole = record.clone();
            whole.absorb(found.facts.clone());
            // Of what is known there may be less to wait for.
            settle_time = provider.settle_time(&whole);
            caught(provider.release(&whole)).await?;
        }
        if !found.is_empty() && released.get_or_insert_with(Instant::now).elapsed() > GOING {
            let message =
                format!("what was made for it is still there {} after its release", crate::duration::format(GOING));
            return Err(ProviderError::new(ErrorKind::Failed, message));
        }
        if found.is_empty() || released.is_some_and(|at| at.elapsed() > pause) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

enum Claim {
    Ours { before: Box<HostRecord>, claimed: Box<HostRecord> },
    AlreadyGone,
    NotWanted,
}

/// Writes `releasing`, so that no two processes release the same host.
async fn claim<W: Fn(&HostRecord) -> bool>(
    core: &Arc<Core>,
    mut record: HostRecord,
    terms: &Terms<W>,
) -> Result<Claim, Error> {
    loop {
        if !(terms.wanted)(&record) {
            return Ok(Claim::NotWanted);
        }
        let why = match record.state {
            HostState::Gone => return Ok(Claim::AlreadyGone),
            HostState::Pending => Some("still being made"),
            HostState::Releasing => Some("being released"),
            _ => None,
        };
        let liveness = if why.is_some() { core.liveness_aside(&record).await } else { Liveness::Dead };
        let is_unproven = liveness == Liveness::Unknown;
        if let Some(why) = why
            && (liveness == Liveness::Alive || (is_unproven && !terms.unproven_is_dead))
        {
            // The caller may have read the record a while ago.
            match core.current(&record).await? {
                None => return Ok(Claim::AlreadyGone),
                Some(current) if current.rev != record.rev => {
                    record = current;
                    continue;
                }
                Some(_) if is_unproven => {
                    let (number, host, owner) = (record.number, record.label(), core.who(&record));
                    return Err(Error::Unproven { number, host, owner });
                }
                Some(_) => return Err(Error::state(&record, format!("is {why} by {}", core.who(&record)))),
            }
        }
        // The host has to go all the same where there is no room to say so. What the journal says of it then is settled
        // by whoever looks next.
        let me = match core.owner().await {
            Ok(owner) => Some(owner),
            Err(Error::Inventory(InventoryError::NoSpace { .. })) => record.owner.clone(),
            Err(error) => return Err(error),
        };
        // Whoever shared it has nothing more to say.
        let shared = record.shared.clone().map(|shared| Shared { members: Vec::new(), ..shared });
        let wanted = HostRecord { state: HostState::Releasing, owner: me, shared, ..record.clone() };
        let claimed = match core.inventory().update(wanted.clone()).await {
            Ok(claimed) => claimed,
            Err(InventoryError::Conflict { current }) => {
                record = *current;
                continue;
            }
            Err(InventoryError::Missing { .. }) => return Ok(Claim::AlreadyGone),
            Err(InventoryError::NoSpace { .. }) => {
                tracing::warn!(host = wanted.label(), "there is no room to write down that the host is being released");
                wanted
            }
            Err(error) => return Err(error.into()),
        };
        return Ok(Claim::Ours { before: Box::new(record), claimed: Box::new(claimed) });
    }
}

/// Writes down how something of ours ended, over whatever others have written of it in the meantime. The host is what it
/// is, whether or not the journal can be written.
pub(crate) async fn settle(core: &Arc<Core>, record: HostRecord) {
    settle_as(core, record, |_| {}).await;
}

async fn settle_as(core: &Arc<Core>, mut record: HostRecord, finish: impl Fn(&mut HostRecord)) {
    let run = |record: &HostRecord| -> Option<RunId> { Some(record.owner.as_ref()?.run) };
    let ours = run(&record);
    let label = record.label();
    loop {
        let mut wanted = record.clone();
        finish(&mut wanted);
        match core.inventory().update(wanted).await {
            Err(InventoryError::Conflict { current }) if run(&current) == ours => record.rev = current.rev,
            Ok(written) => {
                if written.state == HostState::Gone {
                    core.guarding.settled(written.id);
                }
                return;
            }
            Err(error) => {
                let error = crate::error_chain(&error);
                tracing::warn!(
                    host = label,
                    error,
                    "the journal could not be written; `broker checkin` settles the entry"
                );
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::id::HostId;
    use crate::provider::{Endpoint, Found, HostFacts, Order};

    /// Carries a request out so long after it was made, and has at the most one host.
    struct Late {
        asked: Instant,
        late: Duration,
        released: parking_lot::Mutex<bool>,
        release_limit: Option<Duration>,
    }

    impl Late {
        fn new(late: Duration) -> Self {
            Self { asked: Instant::now(), late, released: false.into(), release_limit: None }
        }
    }

    #[async_trait]
    impl Provider for Late {
        async fn endpoint(&self) -> Result<Endpoint, ProviderError> {
            Err(ProviderError::unsupported("places"))
        }

        async fn checkout(&self, _order: &Order) -> Result<HostFacts, ProviderError> {
            Err(ProviderError::unsupported("checkouts"))
        }

        async fn release(&self, _host: &HostRecord) -> Result<(), ProviderError> {
            *self.released.lock() = true;
            Ok(())
        }

        async fn find(&self, _host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
            let is_there = self.asked.elapsed() >= self.late && !*self.released.lock();
            let facts = HostFacts { name: Some("late".to_owned()), ..HostFacts::default() };
            Ok(is_there.then(|| Found { facts, ..Found::default() }).into_iter().collect())
        }

        /// Nothing more comes to be of a host that is known.
        fn settle_time(&self, host: &HostRecord) -> Duration {
            if host.name.is_some() { Duration::ZERO } else { Duration::from_secs(120) }
        }

        fn release_limit(&self) -> Option<Duration> {
            self.release_limit
        }
    }

    #[test]
    fn a_provider_may_need_longer_and_never_has_less() {
        let limits = |own: Option<u64>| {
            let slow = Late { release_limit: own.map(Duration::from_secs), ..Late::new(Duration::ZERO) };
            [at_least(LIMIT, &slow), undo_limit(&slow)].map(|limit| limit.as_secs())
        };
        assert_eq!(limits(None), [600, 60]);
        assert_eq!(limits(Some(1)), [600, 60]);
        assert_eq!(limits(Some(120)), [600, 120]);
        assert_eq!(limits(Some(3600)), [3600, 3600]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_late_is_waited_for_or_not_taken_for_gone() {
        let seconds = Duration::from_secs;
        for (late, since, patience, expected, at_least, at_most) in [
            (0, 0, PATIENCE, Undone::Released, 0, 1),
            (8, 0, PATIENCE, Undone::Released, 8, 10),
            (25, 0, PATIENCE, Undone::Awaited(seconds(110)), 10, 11),
            (25, 0, Duration::MAX, Undone::Released, 25, 27),
            (1000, 0, Duration::MAX, Undone::Nothing, 120, 121),
            (1000, 115, PATIENCE, Undone::Nothing, 5, 6),
            (1000, 300, PATIENCE, Undone::Nothing, 0, 1),
        ] {
            let provider = Late::new(seconds(late));
            let record = HostRecord::new(HostId::generate(), "Late", HostState::Pending);
            let undone = undo(&provider, &record, seconds(since), patience).await.unwrap();
            let case = format!("{late} s late, {since} s ago: {undone:?} after {:?}", provider.asked.elapsed());
            match (undone, expected) {
                (Undone::Awaited(left), Undone::Awaited(most)) => assert!(left <= most && !left.is_zero(), "{case}"),
                _ => assert_eq!(undone, expected, "{case}"),
            }
            assert!((at_least..=at_most).contains(&provider.asked.elapsed().as_secs()), "{case}");
        }
    }
}
