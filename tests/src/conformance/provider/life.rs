//! What must be true of a host as long as all goes well.

use std::collections::BTreeSet;
use std::time::Duration;

use broker_core::inventory::{Holding, HostRecord, HostState};
use broker_core::provider::ErrorKind;
use broker_core::{Host, Released};
use jiff::Timestamp;

use super::super::Case;
use super::{At, ProviderSubject, chain, check_in, entry, kinds, records};
use crate::wait;

/// The main job: a host is there between checkout and checkin, in the inventory and at the provider, and can be used.
pub fn a_host_is_checked_out_used_and_released<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let guard = broker.checkout(case.subject.request()).await.unwrap();
        case.exactly([&*guard]);
        let record = entry(&broker, guard.id()).await;
        assert_eq!((record.state, record.holding), (HostState::Active, Holding::Guarded));
        assert_eq!(record.provider, case.provider_name());
        assert_eq!(record.instance.as_deref(), Some(At::Main.name()));
        assert!(record.checked_out_at.is_some() && record.endpoint.is_some() && record.error.is_none());
        assert!(record.lease_until.is_some(), "a guarded host has a lease");
        assert_eq!(record, guard.record(), "what the guard tells is what is written down");
        assert!(guard.hostname().is_some_and(|name| !name.is_empty()));
        let output = guard.execute("echo works; echo here >&2").await.unwrap().check().unwrap();
        assert_eq!((&*output.stdout(), &*output.stderr()), ("works\n", "here\n"));
        guard.checkin().await.unwrap();
    });
    case.nothing_is_left();
}

/// What is at the provider says whose it is, and is found by its exact id alone.
pub fn a_host_carries_its_identity<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let request = case.subject.request().label("team", "a b").origin("the identity case").lease(HOUR);
        let hosts = case.kept(&broker, request.count(2)).await;
        let provider = case.provider(At::Main);
        for host in &hosts {
            let labels = case.subject.labels(At::Main, host.id());
            let label = |name: &str| labels.get(name).map_or("nothing", String::as_str);
            assert_eq!(label("broker.id"), host.id().to_string());
            assert_eq!(label("broker.origin"), "the identity case");
            assert_eq!(label("team"), "a b");
            let owner = host.record().owner.unwrap();
            assert_eq!(label("broker.owner"), format!("{}@{}", owner.user, owner.machine));
            // The order knows when the lease would end if the host were there at once; it begins when the host is there.
            let said: Timestamp = label("broker.lease_until").parse().unwrap();
            let until = host.record().lease_until.unwrap();
            assert!(said <= until && said > until - HOUR, "{said}, and the record has {until}");

            let found = provider.find(&host.record()).await.unwrap();
            assert_eq!(found.iter().map(|found| found.broker_id).collect::<Vec<_>>(), [Some(host.id())]);
            assert_eq!(found[0].facts.hostname, host.hostname());
        }
        // An id that resembles: all but the last digit.
        let mut near = bare(&hosts[0], HostState::Pending);
        let mut text = near.id.to_string();
        text.replace_range(31.., if text.ends_with('0') { "1" } else { "0" });
        near.id = text.parse().unwrap();
        assert_eq!(provider.find(&near).await.unwrap().len(), 0, "another id must not be found");
        assert_eq!(provider.endpoint().await.unwrap(), hosts[0].record().endpoint.unwrap());
        assert_ne!(case.provider(At::Other).endpoint().await.unwrap(), hosts[0].record().endpoint.unwrap());
        check_in(&broker, hosts.iter().map(Host::record).collect()).await;
    });
    case.nothing_is_left();
}

/// The record of a host before its provider has told anything of it.
fn bare(host: &Host, state: HostState) -> HostRecord {
    let mut record = host.record();
    (record.name, record.hostname, record.address, record.checked_out_at) = (None, None, None, None);
    (record.details.handle, record.error, record.state) = (None, None, state);
    record.details.ports.clear();
    record.details.facts.clear();
    record
}

/// An hour.
const HOUR: Duration = Duration::from_secs(3600);

/// Releasing is idempotent: for the provider, and for whoever asks the broker twice.
pub fn a_second_release_does_no_harm<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let hosts = case.kept(&broker, case.subject.request().count(2)).await;
        let [first, second] = [&hosts[0], &hosts[1]];
        let provider = case.provider(At::Main);
        for _ in 0..2 {
            provider.release(&first.record()).await.unwrap();
            case.exactly([second]);
        }
        assert_eq!(provider.find(&first.record()).await.unwrap().len(), 0);
        assert_eq!(check_in(&broker, vec![first.record()]).await, [Released::Now]);
        assert_eq!(check_in(&broker, vec![first.record()]).await, [Released::Before]);
        assert_eq!(check_in(&case.broker(), vec![first.record()]).await, [Released::Before]);
        case.exactly([second]);
        check_in(&broker, vec![second.record()]).await;
    });
    case.nothing_is_left();
}

/// A host that somebody removed is no error to release, at the place it was made at.
pub fn a_host_that_has_vanished_can_be_released<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let hosts = case.kept(&broker, case.subject.request().count(2)).await;
        case.subject.remove(At::Main, hosts[0].id());
        case.exactly([&hosts[1]]);
        check_in(&broker, vec![hosts[0].record()]).await;
        case.exactly([&hosts[1]]);
        let guard = broker.checkout(case.subject.request()).await.unwrap();
        case.subject.remove(At::Main, guard.id());
        guard.checkin().await.unwrap();
        check_in(&broker, vec![hosts[1].record()]).await;
    });
    case.nothing_is_left();
}

/// A record of a checkout that was cut off has no facts: the id says what is meant, to the provider and to the broker.
pub fn a_host_is_released_by_its_id_alone<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let hosts = case.kept(&broker, case.subject.request().count(3)).await;
        case.provider(At::Main).release(&bare(&hosts[0], HostState::Pending)).await.unwrap();
        case.exactly([&hosts[1], &hosts[2]]);

        let journal = broker_core::inventory::Inventory::open(broker.directory().path());
        let failed = journal.update(bare(&hosts[1], HostState::Failed)).await.unwrap();
        check_in(&broker, vec![failed]).await;
        case.exactly([&hosts[2]]);
        check_in(&broker, vec![hosts[0].record(), hosts[2].record()]).await;
    });
    case.nothing_is_left();
}

/// A lease ends later, or the error says that this provider cannot do that.
pub fn leases_are_extended_or_it_is_said_that_they_cannot_be<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let hosts = case.kept(&broker, case.subject.request().lease(HOUR)).await;
        let before = hosts[0].record();
        let (_, outcome) = broker.extend(vec![before.clone()], 3 * HOUR).await.unwrap().remove(0);
        let after = entry(&broker, before.id).await;
        if case.subject.abilities().extend {
            let extended = outcome.unwrap_or_else(|error| panic!("{}", chain(&error)));
            assert_eq!(extended, after);
            let gained = after.lease_until.unwrap().duration_since(before.lease_until.unwrap()).as_secs();
            assert!((7000..=7400).contains(&gained), "two hours more, and it is {gained} s");
            // Extending never takes anything away.
            let (_, outcome) = broker.extend(vec![after.clone()], HOUR).await.unwrap().remove(0);
            assert_eq!(outcome.unwrap().lease_until, after.lease_until);
            // What is gone cannot be extended.
            check_in(&broker, vec![after.clone()]).await;
            let (_, outcome) = broker.extend(vec![after], HOUR).await.unwrap().remove(0);
            outcome.unwrap_err();
        } else {
            assert_eq!(kinds(&outcome.unwrap_err()), [ErrorKind::Unsupported]);
            assert_eq!(after, before);
            check_in(&broker, vec![after]).await;
        }
    });
    case.nothing_is_left();
}

/// An action that makes no host runs and leaves nothing, or the error says that this provider has none.
pub fn an_action_is_executed_or_it_is_said_that_it_cannot_be<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        match case.subject.abilities().execute {
            Some((request, word)) => {
                let done = broker.execute(request).await.unwrap();
                assert_eq!(done.failure, None, "{done:?}");
                assert!(done.output.to_string().contains(word), "{done:?}");
            }
            None => drop(broker.execute(case.subject.request()).await.unwrap_err()),
        }
    });
    case.nothing_is_left();
}

/// What a host prints can be read and followed, or the error says that this provider does not tell.
pub fn the_console_can_be_read_or_it_is_said_that_it_cannot_be<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let host = broker.checkout(case.subject.request()).await.unwrap();
        match case.subject.abilities().log {
            Some(command) => {
                let mut following = host.follow_logs(None, true).await.unwrap();
                host.execute(command).await.unwrap().check().unwrap();
                wait::until_async("the line in the log", async || host.logs().await.unwrap().contains("hello")).await;
                let mut followed = Vec::new();
                while !String::from_utf8_lossy(&followed).contains("hello") {
                    let next = tokio::time::timeout(wait::SOON, following.next()).await.unwrap();
                    followed.extend_from_slice(&next.expect("the log ended").unwrap());
                }
                host.execute(command).await.unwrap().check().unwrap();
                let last = async || {
                    let mut last = host.follow_logs(Some(1), false).await.unwrap();
                    let mut text = Vec::new();
                    while let Some(piece) = last.next().await {
                        text.extend_from_slice(&piece.unwrap());
                    }
                    String::from_utf8(text).unwrap()
                };
                wait::until_async("one last line", async || last().await.trim_end() == "hello").await;
                // Dropped while it is followed: nothing hangs.
                drop(following);
            }
            None => assert_eq!(kinds(&host.logs().await.unwrap_err()), [ErrorKind::Unsupported]),
        }
        host.checkin().await.unwrap();
    });
    case.nothing_is_left();
}

/// Ten hosts at once: each one is another, has a number of its own, and can be used.
pub fn ten_at_once<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let guards = case.broker().checkout_many(case.subject.request().count(10)).await.unwrap();
        case.exactly(guards.iter().map(|guard| &**guard));
        assert_eq!(guards.iter().map(|guard| guard.number()).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        let names: BTreeSet<_> = guards.iter().map(|guard| guard.hostname()).collect();
        assert_eq!(names.len(), 10, "{names:?}");
        let outputs = guards.iter().map(|guard| guard.execute("echo works"));
        for output in futures_util::future::join_all(outputs).await {
            assert_eq!(output.unwrap().stdout(), "works\n");
        }
        guards.checkin().await.unwrap();
    });
    case.nothing_is_left();
}

/// Twenty hosts at once, each of which can be used. Then twenty releases at once, of two calls, and none of them is lost.
pub fn twenty_come_and_go_at_once<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let hosts = case.kept(&broker, case.subject.request().count(20)).await;
        case.exactly(&hosts);
        let outputs = hosts.iter().map(|host| host.execute("echo works"));
        for output in futures_util::future::join_all(outputs).await {
            assert_eq!(output.unwrap().stdout(), "works\n");
        }
        let all = records(&broker.inventory().await.unwrap());
        let (first, second) = all.split_at(10);
        let (first, second) = tokio::join!(check_in(&broker, first.to_vec()), check_in(&broker, second.to_vec()));
        assert_eq!([first, second].concat(), [Released::Now; 20]);
    });
    case.nothing_is_left();
}
