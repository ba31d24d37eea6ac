//! What must be true of reaping: what nobody holds goes, and nothing else.

use std::time::Duration;

use broker_core::inventory::{Holding, HostState};
use broker_core::provider::Lease;
use broker_core::{Broker, Due, Host, HostId, Reapable, Reaped, Reaping, Reason, Whose};

use super::super::Case;
use super::{ProviderSubject, chain, entry};
use crate::wait;

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

/// What is due once every short lease is over.
async fn due(broker: &Broker, reaping: &Reaping) -> Due {
    tokio::time::sleep(20 * SHORT).await;
    broker.reapable(reaping).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// Why each of these hosts is due, in their order.
fn reasons(due: &[Reapable], hosts: &[&Host]) -> Vec<Option<Reason>> {
    let reason = |host: &&Host| due.iter().find(|due| due.record.id == host.id()).map(|due| due.reason);
    hosts.iter().map(reason).collect()
}

async fn reap(broker: &Broker, hosts: Vec<Reapable>) -> Vec<(HostId, Reaped)> {
    let outcomes = broker.reap(hosts).await.unwrap().into_iter();
    let outcome = |outcome: broker_core::Result<Reaped>| outcome.unwrap_or_else(|error| panic!("{}", chain(&error)));
    outcomes.map(|(host, reaped)| (host.record.id, outcome(reaped))).collect()
}

/// A kept host past its lease is released. One without a lease, or whose lease goes on, stays; so does that of a guard
/// whose process lives.
pub fn hosts_past_their_lease_are_reaped<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let past = case.kept(&broker, case.subject.request().lease(SHORT)).await.remove(0);
        let long = case.kept(&broker, case.subject.request().lease(LONG)).await.remove(0);
        let forever = case.kept(&broker, case.subject.request()).await.remove(0);
        let guard = broker.checkout(case.subject.request().lease(SHORT)).await.unwrap();
        let other = case.broker();
        let found = due(&other, &Reaping::default()).await;
        assert_eq!(
            reasons(&found.hosts, &[&past, &long, &forever, &guard]),
            [Some(Reason::Expired), None, None, None],
            "{found:#?}"
        );
        assert_eq!(found.in_use.iter().map(|record| record.id).collect::<Vec<_>>(), [guard.id()]);
        let elsewhere = Reaping {
            provider: Some(case.provider_name().to_owned()),
            instance: Some("other".to_owned()),
            ..Reaping::default()
        };
        assert!(due(&other, &elsewhere).await.hosts.is_empty());
        let nowhere = Reaping { instance: Some("nowhere".to_owned()), ..elsewhere };
        other.reapable(&nowhere).await.unwrap_err();
        assert_eq!(reap(&other, found.hosts).await, [(past.id(), Reaped::Released)]);
        case.exactly([&long, &forever, &guard]);
        guard.checkin().await.unwrap();
    });
    case.everything_can_be_checked_in();
}

/// What a dead process guarded is released; what it was to keep and did not finish is settled and stays.
pub fn what_dead_processes_left_is_reaped<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let hosts = case.kept(&broker, case.subject.request().count(6)).await;
        let [kept, guarded, half_kept, half_guarded, failed, going] = hosts.as_slice() else { unreachable!() };
        for (host, state, holding) in [
            (kept, HostState::Active, Holding::Kept),
            (guarded, HostState::Active, Holding::Guarded),
            (half_kept, HostState::Pending, Holding::Kept),
            (half_guarded, HostState::Pending, Holding::Guarded),
            (failed, HostState::Failed, Holding::Guarded),
            (going, HostState::Releasing, Holding::Kept),
        ] {
            case.owned_by_the_dead(&host.record(), state, holding).await;
        }
        let all: Vec<&Host> = hosts.iter().collect();
        let expired_only = Reaping { expired_only: true, ..Reaping::default() };
        assert!(due(&broker, &expired_only).await.hosts.is_empty());
        let found = due(&broker, &Reaping::default()).await.hosts;
        let left = Some(Reason::LeftBehind);
        assert_eq!(reasons(&found, &all), [None, left, left, left, left, left], "{found:#?}");
        for (id, reaped) in reap(&broker, found).await {
            match reaped {
                Reaped::Settled(record) => assert_eq!((id, record.state), (half_kept.id(), HostState::Active)),
                reaped => assert_eq!(reaped, Reaped::Released),
            }
        }
        case.exactly([kept, half_kept]);
        assert!(due(&broker, &Reaping::default()).await.hosts.is_empty());
    });
    case.everything_can_be_checked_in();
}

/// What was due, and is not when its turn comes, is left alone.
pub fn what_is_not_due_any_more_is_left_alone<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let host = case.kept(&broker, case.subject.request().lease(SHORT)).await.remove(0);
        let found = due(&broker, &Reaping::default()).await.hosts;
        assert_eq!(found.len(), 1);
        let journal = broker_core::inventory::Inventory::open(broker.directory().path());
        let mut longer = entry(&broker, host.id()).await;
        longer.lease_until = Some(Lease(LONG).until());
        journal.update(longer).await.unwrap();
        assert_eq!(reap(&case.broker(), found).await, [(host.id(), Reaped::NotDue)]);
        assert_eq!(entry(&broker, host.id()).await.state, HostState::Active);
        case.exactly([&host]);
    });
    case.everything_can_be_checked_in();
}

/// Two who reap at once release every host once between them.
pub fn two_reapers_release_a_host_once<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let (one, other) = (case.broker(), case.broker());
        case.kept(&one, case.subject.request().lease(SHORT).count(4)).await;
        let first = due(&one, &Reaping::default()).await.hosts;
        let second = due(&other, &Reaping::default()).await.hosts;
        assert_eq!((first.len(), second.len()), (4, 4));
        let (first, second) = tokio::join!(one.reap(first), other.reap(second));
        let released = [first, second].into_iter().flat_map(Result::unwrap);
        let released = released.filter(|(_, outcome)| matches!(outcome, Ok(Reaped::Released)));
        assert_eq!(released.count(), 4);
    });
    case.nothing_is_left();
}

/// What an inventory that is lost had is released by another one's owner, once its lease is over by the provider's clock.
pub fn what_no_inventory_has_is_reaped_after_its_lease<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let (broker, stranger) = (case.broker(), case.stranger());
        let past = case.kept(&stranger, case.subject.request().lease(SHORT)).await.remove(0);
        let long = case.kept(&stranger, case.subject.request().lease(LONG)).await.remove(0);
        let forever = case.kept(&stranger, case.subject.request()).await.remove(0);
        let held = case.kept(&broker, case.subject.request().lease(LONG)).await.remove(0);
        let all = [&past, &long, &forever, &held];
        let unknown = Reaping {
            unknown: true,
            provider: Some(case.provider_name().to_owned()),
            instance: Some("main".to_owned()),
            ..Reaping::default()
        };
        // Five minutes are not over yet.
        let found = due(&broker, &unknown).await;
        assert_eq!(reasons(&found.hosts, &all), [None; 4], "{found:#?}");
        assert!(found.failures.is_empty(), "{found:#?}");
        assert!(found.without_lease.iter().any(|found| found.broker_id == Some(forever.id())));
        assert!(!found.without_lease.iter().any(|found| found.broker_id == Some(held.id())));
        // Nor is anything due that is not looked for.
        assert_eq!(reasons(&due(&broker, &Reaping { unknown: false, ..unknown.clone() }).await.hosts, &all), [None; 4]);
        let now = Reaping { grace: Duration::ZERO, ..unknown };
        wait::until_async("the lease to be over at the provider", async || {
            reasons(&due(&broker, &now).await.hosts, &all)[0].is_some()
        })
        .await;
        let mut found = due(&broker, &now).await;
        assert_eq!(reasons(&found.hosts, &all), [Some(Reason::Unknown), None, None, None], "{found:#?}");
        // Others may be at work at the same place.
        found.hosts.retain(|host| host.record.id == past.id());
        assert_eq!(reap(&broker, found.hosts).await, [(past.id(), Reaped::Released)]);
        case.exactly([&long, &forever, &held]);
        // Nobody is left of those who had them, but for their hosts.
        stranger.checkin(vec![past.record(), long.record(), forever.record()]).await.unwrap();
    });
    case.everything_can_be_checked_in();
}

/// What somebody else checked out is not reaped unless that is said.
pub fn what_is_of_others_is_left_to_them<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let host = case.kept(&broker, case.subject.request().lease(SHORT)).await.remove(0);
        let journal = broker_core::inventory::Inventory::open(broker.directory().path());
        let mut of_another = entry(&broker, host.id()).await;
        of_another.owner = of_another.owner.map(|owner| broker_core::inventory::Owner {
            user: "ci".to_owned(),
            machine: "agent-7".to_owned(),
            ..owner
        });
        journal.update(of_another).await.unwrap();
        let whose = async |whose: Whose| due(&broker, &Reaping { whose, ..Reaping::default() }).await;
        let matching = |pattern: &str| Whose::Matching(pattern.to_owned());
        for (of, expected) in [
            (Whose::Mine, false),
            (matching("jane"), false),
            (matching("ci@agent-8"), false),
            (matching("ci@agent-*"), true),
            (matching("ci"), true),
            (Whose::Anyone, true),
        ] {
            let found = whose(of.clone()).await;
            assert_eq!(reasons(&found.hosts, &[&host]), [expected.then_some(Reason::Expired)], "{of:?}");
            assert_eq!(found.of_others.is_empty(), expected, "{of:?}");
        }
        let found = whose(matching("ci@agent-*")).await.hosts;
        assert_eq!(reap(&broker, found).await, [(host.id(), Reaped::Released)]);
    });
    case.nothing_is_left();
}
