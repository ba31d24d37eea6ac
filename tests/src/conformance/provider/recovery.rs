//! What must be true of hosts whose owner died while it made or released them: whoever needs one settles it.

use std::collections::BTreeSet;

use broker_core::inventory::{Holding, HostRecord, HostState};
use broker_core::{Broker, Error, Host, Orphans};

use super::super::Case;
use super::{At, ProviderSubject, Weather, chain, check_in, entry, kinds, records};

/// A host that exists, and of which the inventory says that a process died while it made it.
async fn half_made<S: ProviderSubject>(case: &Case<S>, broker: &Broker, holding: Holding) -> (HostRecord, Host) {
    let made = case.kept(broker, case.subject.request()).await.remove(0).record();
    let left = case.owned_by_the_dead(&made, HostState::Pending, holding).await;
    (made, case.broker().host(left))
}

/// As [`half_made`], for one that does not exist.
async fn never_made<S: ProviderSubject>(case: &Case<S>, broker: &Broker) -> Host {
    let (made, host) = half_made(case, broker, Holding::Kept).await;
    case.subject.remove(At::Main, made.id);
    host
}

/// Using such a host makes it what it would have been, and nobody guards it any more.
pub fn what_a_dead_process_made_can_be_used<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        for holding in [Holding::Kept, Holding::Guarded] {
            let (made, host) = half_made(case, &broker, holding).await;
            assert_eq!(host.execute("echo works").await.unwrap().stdout(), "works\n");
            let after = entry(&broker, made.id).await;
            assert_eq!((after.state, after.holding), (HostState::Active, Holding::Kept), "{after:#?}");
            assert_eq!((&after.hostname, &after.address), (&made.hostname, &made.address));
            assert!(after.error.as_ref().is_some_and(|error| error.contains("cut off")), "{after:#?}");
            assert_eq!(host.record(), after);
        }
        if case.subject.abilities().extend {
            let (made, host) = half_made(case, &broker, Holding::Kept).await;
            host.extend(std::time::Duration::from_secs(7200)).await.unwrap();
            assert!(entry(&broker, made.id).await.lease_until.is_some());
        }
    });
    case.everything_can_be_checked_in();
}

/// What turns out not to exist is an error, and the entry is gone.
pub fn what_a_dead_process_did_not_make_is_not_there<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let host = never_made(case, &broker).await;
        let error = host.execute("true").await.unwrap_err();
        assert!(matches!(error, Error::State { .. }), "{}", chain(&error));
        assert_eq!(records(&broker.inventory().await.unwrap()), []);
    });
    case.nothing_is_left();
}

/// All that a dead process can leave behind can be checked in, by name as with all the rest.
pub fn what_a_dead_process_left_can_be_checked_in<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        for state in [HostState::Pending, HostState::Active, HostState::Releasing, HostState::Failed] {
            for holding in [Holding::Kept, Holding::Guarded] {
                let made = case.kept(&broker, case.subject.request()).await.remove(0).record();
                let left = case.owned_by_the_dead(&made, state, holding).await;
                assert!(!broker.is_held(&left), "{left:#?}");
                check_in(&case.broker(), vec![left]).await;
                case.exactly([]);
            }
        }
        let gone = never_made(case, &broker).await;
        check_in(&broker, vec![gone.record()]).await;
    });
    case.nothing_is_left();
}

/// Several who need the same host at once all get it, and it is written down once.
pub fn recoveries_at_once_do_no_harm<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        for _ in 0..case.subject.races() {
            let (made, host) = half_made(case, &broker, Holding::Kept).await;
            let hosts: Vec<Host> = (0..4).map(|_| case.broker().host(host.record())).collect();
            let uses = hosts.iter().map(|host| host.execute("true"));
            for outcome in futures_util::future::join_all(uses).await {
                assert!(outcome.unwrap().success());
            }
            let after = entry(&broker, made.id).await;
            // The key of a host that is reached by SSH is written down, once too.
            let pinned = u64::from(after.ssh_host_key.is_some());
            assert_eq!((after.state, after.rev), (HostState::Active, host.record().rev + 1 + pinned), "{after:#?}");

            let (_, host) = half_made(case, &broker, Holding::Kept).await;
            // One wants to use it, and one wants it gone: it goes, whoever comes first.
            let user = case.broker().host(host.record());
            let (used, released) = tokio::join!(user.execute("true"), broker.checkin(vec![host.record()]));
            drop(used);
            released.unwrap().remove(0).1.unwrap();
            assert_eq!(case.hosts(), BTreeSet::from([made.id]));
            check_in(&broker, vec![entry(&broker, made.id).await]).await;
        }
    });
    case.nothing_is_left();
}

/// Where the provider does not answer nothing is known, and nothing is changed.
pub fn nobody_can_tell_where_the_provider_is_not_there<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let (made, host) = half_made(case, &broker, Holding::Kept).await;
        let before = entry(&broker, made.id).await;
        for weather in [Weather::Unreachable, Weather::Elsewhere] {
            case.subject.weather(weather);
            let fresh = case.broker();
            let error = fresh.host(host.record()).execute("true").await.unwrap_err();
            assert!(!kinds(&error).is_empty(), "{weather:?}: {}", chain(&error));
            for (_, outcome) in fresh.checkin(vec![host.record()]).await.unwrap() {
                outcome.unwrap_err();
            }
            let after = entry(&broker, made.id).await;
            assert_eq!((after.state, &after.owner), (before.state, &before.owner), "{weather:?}: {after:#?}");
        }
        case.subject.weather(Weather::Fair);
    });
    case.everything_can_be_checked_in();
}

/// A sync settles what dead processes left, and releases nothing.
pub fn a_sync_settles_what_dead_processes_left<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let made = half_made(case, &broker, Holding::Kept).await.0;
        let lost = never_made(case, &broker).await;
        let mut going = Vec::new();
        for _ in 0..2 {
            let host = case.kept(&broker, case.subject.request()).await.remove(0).record();
            case.owned_by_the_dead(&host, HostState::Releasing, Holding::Kept).await;
            going.push(host);
        }
        case.subject.remove(At::Main, going[1].id);
        let before = case.hosts();
        let sync = async || broker.sync(case.provider_name(), Some("main"), case.subject.scope()).await.unwrap();
        let mut synced = sync().await;
        let mut gone: BTreeSet<_> = synced.gone.iter().map(|record| record.id).collect();
        let updated: BTreeSet<_> = synced.updated.iter().map(|record| record.id).collect();
        assert_eq!(updated, BTreeSet::from([made.id, going[0].id]), "{synced:#?}");
        assert_eq!(entry(&broker, made.id).await.state, HostState::Active);
        assert_eq!(entry(&broker, going[0].id).await.state, HostState::Failed);
        // What may still come to be is waited for.
        while gone.len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            synced = sync().await;
            gone.extend(synced.gone.iter().map(|record| record.id));
        }
        assert_eq!(gone, BTreeSet::from([lost.id(), going[1].id]));
        let left: BTreeSet<_> = records(&broker.inventory().await.unwrap()).iter().map(|record| record.id).collect();
        assert_eq!(left, updated);
        assert_eq!(case.hosts(), before, "nothing was released");
        // What was once handed over, failed to go and is not there has vanished; what never was, is gone.
        case.subject.remove(At::Main, going[0].id);
        assert_eq!(sync().await.vanished.iter().map(|record| record.id).collect::<Vec<_>>(), [going[0].id]);
    });
    case.everything_can_be_checked_in();
}

/// What is there and not held, and what is held and not there, is shown; nothing is changed.
pub fn orphans_are_shown_and_left_alone<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let hosts = case.kept(&broker, case.subject.request().count(3)).await;
        let orphans = async |broker: &Broker| {
            let found = broker.orphans(case.provider_name(), Some("main"), case.subject.scope()).await;
            let Orphans { not_held, not_there } = found.unwrap_or_else(|error| panic!("{}", chain(&error)));
            let there: BTreeSet<_> = not_held.iter().map(|found| found.broker_id.unwrap()).collect();
            let owners: BTreeSet<_> = not_held.iter().map(|found| found.identity.owner.clone().unwrap()).collect();
            assert!(not_held.iter().all(|found| found.age.is_some() && found.flaw.is_none()), "{not_held:#?}");
            (there, not_there.iter().map(|record| record.id).collect::<Vec<_>>(), owners)
        };
        assert_eq!(orphans(&broker).await, (BTreeSet::new(), vec![], BTreeSet::new()));
        let stranger = case.stranger();
        let owner = hosts[0].record().owner.unwrap().address();
        let all: BTreeSet<_> = hosts.iter().map(Host::id).collect();
        assert_eq!(orphans(&stranger).await, (all, vec![], BTreeSet::from([owner])));
        case.subject.remove(At::Main, hosts[1].id());
        let before = records(&broker.inventory().await.unwrap());
        assert_eq!(orphans(&broker).await, (BTreeSet::new(), vec![hosts[1].id()], BTreeSet::new()));
        assert_eq!(records(&broker.inventory().await.unwrap()), before);
        assert_eq!(records(&stranger.inventory().await.unwrap()), []);
    });
    case.everything_can_be_checked_in();
}
