//! What must be true of a sync: the inventory says afterwards what the provider says, and nothing else has changed.

use std::collections::BTreeSet;

use broker_core::inventory::{HostState, Inventory};
use broker_core::{Broker, Host, HostId, Synced};

use super::super::Case;
use super::{At, ProviderSubject, Weather, chain, check_in, entry, records};

async fn sync<S: ProviderSubject>(case: &Case<S>, broker: &Broker, at: At) -> Synced {
    let synced = broker.sync(case.provider_name(), Some(at.name()), case.subject.scope()).await;
    synced.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// How many were added, updated, marked as vanished, and left as they were.
fn counts(synced: &Synced) -> [usize; 4] {
    [synced.added.len(), synced.updated.len(), synced.vanished.len(), synced.unchanged]
}

fn ids<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> BTreeSet<HostId> {
    hosts.into_iter().map(Host::id).collect()
}

/// Hosts that another inventory has are taken in by the id that they carry, and can be used and checked in.
pub fn what_the_provider_has_is_taken_in<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let hosts = case.kept(&case.broker(), case.subject.request().count(2)).await;
        let stranger = case.stranger();
        let synced = sync(case, &stranger, At::Main).await;
        assert_eq!(counts(&synced), [2, 0, 0, 0], "{synced:#?}");
        assert_eq!(synced.added.iter().map(|record| record.id).collect::<BTreeSet<_>>(), ids(&hosts));
        for record in &synced.added {
            assert_eq!((record.state, record.instance.as_deref()), (HostState::Active, Some("main")));
            let host = hosts.iter().find(|host| host.id() == record.id).unwrap();
            assert_eq!((&record.hostname, &record.endpoint), (&host.hostname(), &host.record().endpoint));
            // What it was made of is known, as far as the provider can tell.
            let action = host.record().details.args.keys().next().cloned().unwrap();
            assert_eq!(record.details.args.get(&action), host.record().details.args.get(&action));
            assert_eq!(stranger.host(record.clone()).execute("echo works").await.unwrap().stdout(), "works\n");
        }
        assert_eq!(counts(&sync(case, &stranger, At::Main).await), [0, 0, 0, 2]);
        check_in(&stranger, synced.added).await;
        case.exactly([]);
    });
    case.everything_can_be_checked_in();
}

/// What the provider tells otherwise than the inventory is updated, and a host that is back is active again.
pub fn what_has_changed_is_updated<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let hosts = case.kept(&broker, case.subject.request().count(3)).await;
        let before = hosts[0].record();
        let journal = Inventory::open(broker.directory().path());
        let mut stale = before.clone();
        stale.hostname = Some("stale.example.com".to_owned());
        journal.update(stale).await.unwrap();
        let mut vanished = hosts[1].record();
        vanished.state = HostState::Vanished;
        journal.update(vanished).await.unwrap();

        let synced = sync(case, &broker, At::Main).await;
        assert_eq!(counts(&synced), [0, 2, 0, 1], "{synced:#?}");
        let updated: BTreeSet<_> = synced.updated.iter().map(|record| record.id).collect();
        assert_eq!(updated, ids(&hosts[..2]));
        let after = entry(&broker, before.id).await;
        assert_eq!((&after.hostname, after.state), (&before.hostname, HostState::Active));
        assert_eq!(
            (&after.details.args, after.number, &after.owner),
            (&before.details.args, before.number, &before.owner)
        );
        assert_eq!(entry(&broker, hosts[1].id()).await.state, HostState::Active);
    });
    case.everything_can_be_checked_in();
}

/// A host that the provider does not have any more is marked, and the mark can be checked in.
pub fn what_the_provider_has_no_more_is_marked<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let hosts = case.kept(&broker, case.subject.request().count(2)).await;
        case.subject.remove(At::Main, hosts[0].id());
        let synced = sync(case, &broker, At::Main).await;
        assert_eq!(counts(&synced), [0, 0, 1, 1], "{synced:#?}");
        assert_eq!(synced.vanished[0].id, hosts[0].id());
        assert_eq!(entry(&broker, hosts[0].id()).await.state, HostState::Vanished);
        assert_eq!(entry(&broker, hosts[1].id()).await.state, HostState::Active);
        // What is marked already is not marked again.
        assert_eq!(sync(case, &broker, At::Main).await.vanished.len(), 0);
    });
    case.everything_can_be_checked_in();
}

/// A sync of one instance says nothing about another one's hosts.
pub fn other_instances_are_left_alone<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let request = |at: At| case.subject.request().instance(at.name());
        let main = case.kept(&broker, request(At::Main)).await.remove(0);
        let other = case.kept(&broker, request(At::Other)).await.remove(0);
        assert_eq!([At::Main, At::Other].map(|at| case.subject.hosts(at)), [ids([&main]), ids([&other])]);
        case.subject.remove(At::Other, other.id());
        let before = entry(&broker, other.id()).await;
        let synced = sync(case, &broker, At::Main).await;
        assert_eq!(counts(&synced), [0, 0, 0, 1], "{synced:#?}");
        assert_eq!(entry(&broker, other.id()).await, before);
        // And the other way round.
        case.subject.remove(At::Main, main.id());
        let synced = sync(case, &broker, At::Other).await;
        assert_eq!(counts(&synced), [0, 0, 1, 0], "{synced:#?}");
        assert_eq!(entry(&broker, main.id()).await.state, HostState::Active);
    });
    case.everything_can_be_checked_in();
}

/// Two instances that lead to the same place: a host stays in the inventory once, under the one it was made with.
pub fn a_place_of_two_names_is_listed_once<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let hosts = case.kept(&broker, case.subject.request().count(2)).await;
        let before = records(&broker.inventory().await.unwrap());
        sync(case, &broker, At::Alias).await;
        let after = records(&broker.inventory().await.unwrap());
        assert_eq!(after.iter().map(|record| record.id).collect::<BTreeSet<_>>(), ids(&hosts));
        assert_eq!(after.len(), 2);
        let instances = |records: &[broker_core::inventory::HostRecord]| {
            records.iter().map(|record| record.instance.clone()).collect::<Vec<_>>()
        };
        assert_eq!(instances(&after), instances(&before));
    });
    case.everything_can_be_checked_in();
}

/// Where nobody answers, or somebody else does, a sync changes nothing of what is known.
pub fn what_cannot_be_listed_changes_nothing<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        case.kept(&broker, case.subject.request().count(2)).await;
        let before = records(&broker.inventory().await.unwrap());
        case.subject.weather(Weather::Unreachable);
        let name = case.provider_name();
        broker.sync(name, Some("main"), case.subject.scope()).await.unwrap_err();
        case.broker().sync(name, Some("main"), case.subject.scope()).await.unwrap_err();
        assert_eq!(records(&broker.inventory().await.unwrap()), before);
        // Another place has none of these hosts, which does not mean that they are gone.
        case.subject.weather(Weather::Elsewhere);
        for broker in [&broker, &case.broker()] {
            // An error is as good as an answer that changes nothing.
            drop(broker.sync(name, Some("main"), case.subject.scope()).await);
            assert_eq!(records(&broker.inventory().await.unwrap()), before);
        }
        case.subject.weather(Weather::Fair);
    });
    case.everything_can_be_checked_in();
}
