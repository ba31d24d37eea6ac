//! What must be true when the provider fails, is not there, or is another one.

use std::time::Duration;

use broker_core::inventory::{Holding, HostRecord, HostState};
use broker_core::provider::ErrorKind;
use broker_core::{CheckoutFailure, Error, FailureCause, Host, HostRequest, Result};

use futures_util::future::join_all;

use super::super::Case;
use super::{At, Cut, Obstacle, ProviderSubject, Weather, chain, entry, kinds, records};
use crate::wait;

/// More requests than any checkout makes.
const MOST_REQUESTS: u32 = 200;

/// Where another place answers at the record's address, nothing is released and the record stays.
pub fn another_place_at_the_same_address_releases_nothing<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let host = case.kept(&broker, case.subject.request()).await.remove(0);
        case.subject.weather(Weather::Elsewhere);
        // A broker that was there before, and one that sees the other place alone.
        for broker in [&broker, &case.broker()] {
            let (_, outcome) = broker.checkin(vec![host.record()]).await.unwrap().remove(0);
            let error = outcome.unwrap_err();
            assert_eq!(kinds(&error), [ErrorKind::EndpointChanged], "{}", chain(&error));
            let message = chain(&error);
            assert!(message.contains(&host.label()), "the error does not name the host: {message}");
            let record = entry(broker, host.id()).await;
            assert_eq!(record.state, HostState::Active);
            assert!(record.error.is_some());
        }
        case.subject.weather(Weather::Fair);
        case.exactly([&host]);
    });
    case.everything_can_be_checked_in();
}

/// "Already gone" counts only at the place the host was made at.
pub fn what_is_gone_elsewhere_is_not_gone<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let host = case.kept(&broker, case.subject.request()).await.remove(0);
        case.subject.remove(At::Main, host.id());
        case.subject.weather(Weather::Elsewhere);
        let (_, outcome) = case.broker().checkin(vec![host.record()]).await.unwrap().remove(0);
        assert_eq!(kinds(&outcome.unwrap_err()), [ErrorKind::EndpointChanged]);
        assert_eq!(entry(&broker, host.id()).await.state, HostState::Active);
        case.subject.weather(Weather::Fair);
    });
    case.everything_can_be_checked_in();
}

/// A provider that cannot tell what exists says so. An empty answer would have a host forgotten.
pub fn nothing_is_found_where_nobody_can_tell<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let record = case.kept(&broker, case.subject.request()).await.remove(0).record();
        case.subject.weather(Weather::Elsewhere);
        let error = case.provider(At::Main).find(&record).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EndpointChanged, "{}", chain(&error));
        case.subject.weather(Weather::Unreachable);
        case.provider(At::Main).find(&record).await.unwrap_err();
        case.provider(At::Main).endpoint().await.unwrap_err();
        // So neither does a recovery of a broken checkout come to the conclusion that there is nothing.
        let broken = HostRecord { state: HostState::Failed, checked_out_at: None, ..record.clone() };
        let journal = broker_core::inventory::Inventory::open(broker.directory().path());
        let broken = journal.update(broken).await.unwrap();
        for weather in [Weather::Unreachable, Weather::Elsewhere] {
            case.subject.weather(weather);
            let (_, outcome) = case.broker().checkin(vec![broken.clone()]).await.unwrap().remove(0);
            outcome.unwrap_err();
            assert_eq!(entry(&broker, record.id).await.state, HostState::Failed, "{weather:?}");
        }
        case.subject.weather(Weather::Fair);
        assert_eq!(case.hosts().len(), 1);
    });
    case.everything_can_be_checked_in();
}

/// A host that cannot be released because nobody answers stays in the inventory, with the reason.
pub fn an_unreachable_provider_keeps_its_hosts<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let guard = broker.checkout(case.subject.request()).await.unwrap();
        let id = guard.id();
        case.subject.weather(Weather::Unreachable);
        let error = guard.checkin().await.unwrap_err();
        assert_eq!(kinds(&error).len(), 1, "{}", chain(&error));
        let record = entry(&broker, id).await;
        assert_eq!(record.state, HostState::Active);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(record.error.as_deref().is_some_and(|told| told.contains(&source)), "{record:#?}");
        // A drop does not panic, and the host stays too.
        case.subject.weather(Weather::Fair);
        let guard = broker.checkout(case.subject.request()).await.unwrap();
        case.subject.weather(Weather::Unreachable);
        drop(guard);
        case.subject.weather(Weather::Fair);
        assert_eq!(case.hosts().len(), 2);
    });
    assert_eq!(case.journal_and_provider_agree().len(), 2);
    case.everything_can_be_checked_in();
}

/// Where nobody answers nothing is begun, and nothing is written down.
pub fn an_unreachable_provider_gets_no_orders<S: ProviderSubject>(case: &Case<S>) {
    case.subject.weather(Weather::Unreachable);
    case.block(async {
        let error = case.broker().checkout(case.subject.request()).await.unwrap_err();
        assert_eq!(kinds(&error).len(), 1, "{}", chain(&error));
    });
    case.subject.weather(Weather::Fair);
    case.nothing_is_left();
}

/// The failures of a checkout without a guard, host by host or of the whole call.
async fn fails(case: &Case<impl ProviderSubject>, request: HostRequest) -> (Vec<ErrorKind>, String) {
    match case.broker().checkout_kept(request).await {
        Err(error) => (kinds(&error), chain(&error)),
        Ok(outcomes) => {
            let mut kinds = Vec::new();
            let mut text = String::new();
            for outcome in outcomes {
                let failure = outcome.expect_err("a host was made all the same");
                text.push_str(&chain(&failure));
                match &*failure.source {
                    FailureCause::Provider(error) => kinds.push(error.kind()),
                    other => panic!("{other:?}"),
                }
            }
            (kinds, text)
        }
    }
}

/// Each failure is told as what it is. Nothing is left, or an entry that can be checked in.
pub fn each_failure_leaves_nothing_or_an_entry<S: ProviderSubject>(case: &Case<S>) {
    let failures = case.subject.failures();
    assert!(!failures.is_empty());
    for failure in failures {
        let name = failure.name;
        let (kinds, text) = case.block(fails(case, failure.request.clone()));
        assert!(kinds.len() == 1 && failure.kinds.contains(&kinds[0]), "{name}: {kinds:?}, {text}");
        assert!(text.contains(&failure.says), "{name}: `{}` is not in: {text}", failure.says);
        let records = case.journal_and_provider_agree();
        if failure.stays {
            let states: Vec<_> = records.iter().map(|record| record.state).collect();
            assert_eq!(states, [HostState::Failed], "{name}");
            assert!(records[0].error.is_some(), "{name}");
            case.everything_can_be_checked_in();
        } else {
            case.nothing_is_left();
        }
    }
}

/// Where a guard would have held the host, nobody is there to look at what a failure left: it is undone.
pub fn a_guarded_failure_leaves_nothing<S: ProviderSubject>(case: &Case<S>) {
    let broker = case.broker();
    let checkouts = case.subject.failures().into_iter().map(async |failure| {
        let name = failure.name;
        let Err(error) = broker.checkout(failure.request).await else { panic!("{name}: a host was made all the same") };
        let kinds = kinds(&error);
        assert!(kinds.len() == 1 && failure.kinds.contains(&kinds[0]), "{name}: {kinds:?}, {}", chain(&error));
    });
    case.block(join_all(checkouts));
    case.nothing_is_left();
}

/// The good hosts of a batch are handed over, the bad ones are named one by one.
pub fn of_a_mixed_batch_the_good_ones_are_handed_over<S: ProviderSubject>(case: &Case<S>) {
    let request = case.subject.mixed();
    let count = request.count.unwrap() as usize;
    case.block(async {
        let broker = case.broker();
        let Error::Checkout(error) = broker.checkout_many(request.clone()).await.unwrap_err() else {
            panic!("not an error of single hosts");
        };
        let (made, failed) = (error.made().len(), error.failures().len());
        assert!(made > 0 && failed > 0 && made + failed == count, "{made} + {failed} of {count}");
        let named = |failure: &CheckoutFailure| failure.to_string().contains(&format!("host {} ", failure.number));
        assert!(error.failures().iter().all(named), "{error:?}");
        assert!(error.made().iter().all(|guard| error.failures().iter().all(|failure| failure.id != guard.id())));
        let (guards, _) = error.into_made();
        case.exactly(guards.iter().map(|guard| &**guard));
        for guard in &guards {
            assert!(guard.execute("true").await.unwrap().success());
        }
        drop(guards);
    });
    case.nothing_is_left();
    case.block(async {
        // Dropping the error releases the good ones.
        let error = case.broker().checkout_many(request.clone()).await.unwrap_err();
        assert!(!case.hosts().is_empty());
        drop(error);
    });
    case.nothing_is_left();
    case.block(async {
        let outcomes = case.broker().checkout_kept(request).await.unwrap();
        let good: Vec<&Host> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert!(!good.is_empty() && good.len() < count && outcomes.len() == count);
        case.exactly(good);
    });
    case.everything_can_be_checked_in();
}

/// All or nothing: when one host cannot be had, none is left.
pub fn all_or_nothing_leaves_nothing<S: ProviderSubject>(case: &Case<S>) {
    let request = case.subject.mixed().all_or_nothing();
    case.block(async {
        let outcomes = case.broker().checkout_kept(request.clone()).await.unwrap();
        assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
        let caused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        let own = caused.filter(|failure| matches!(&*failure.source, FailureCause::Provider(_))).count();
        assert!(own > 0, "nobody says what was wrong: {outcomes:?}");
    });
    case.nothing_is_left();
    case.block(async {
        let Error::Checkout(error) = case.broker().checkout_many(request).await.unwrap_err() else {
            panic!("not an error of single hosts");
        };
        assert!(error.made().is_empty(), "{error:?}");
    });
    case.nothing_is_left();
}

/// Requests under names: all of them, or none is left.
pub fn a_named_batch_is_all_or_nothing<S: ProviderSubject>(case: &Case<S>) {
    let good = || case.subject.request();
    let bad = case.subject.failures().remove(0);
    case.block(async {
        let broker = case.broker();
        let all = broker.checkout_all([("one", good()), ("two", good().count(2))]).await.unwrap();
        assert_eq!(
            all.iter().map(|(name, guards)| (*name, guards.len())).collect::<Vec<_>>(),
            [("one", 1), ("two", 2)]
        );
        case.exactly(all.values().flat_map(|guards| guards.iter()).map(|guard| &**guard));
        drop(all);
        case.exactly([]);
        let error = broker.checkout_all([("good", good().count(2)), ("bad", bad.request)]).await.unwrap_err();
        let text = chain(&error);
        assert!(text.contains(&bad.says), "`{}` is not in: {text}", bad.says);
        case.exactly([]);
        // A request that does not do is seen before anything is made.
        broker.checkout_all([("good", good()), ("bad", HostRequest::new())]).await.unwrap_err();
    });
    case.nothing_is_left();
}

/// Of ten hosts one cannot be released: it stays, with its error, and nine are gone.
pub fn one_that_fails_to_go_does_not_hold_up_nine<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let nine = case.kept(&broker, case.subject.request().count(9)).await;
        let one = case.kept(&broker, case.subject.stubborn(Obstacle::Fails)).await.remove(0);
        case.subject.obstruct(Obstacle::Fails);
        let mut all: Vec<_> = nine.iter().map(Host::record).collect();
        all.insert(0, one.record());
        let outcomes = broker.checkin(all).await.unwrap();
        let bad: Vec<_> =
            outcomes.iter().filter(|(_, outcome)| outcome.is_err()).map(|(record, _)| record.id).collect();
        assert_eq!(bad, [one.id()]);
        assert_eq!(outcomes[0].0.id, one.id(), "outcomes are in the order of the records");
        let left = records(&broker.inventory().await.unwrap());
        assert_eq!(
            left.iter().map(|record| (record.id, record.state)).collect::<Vec<_>>(),
            [(one.id(), HostState::Active)]
        );
        assert!(left[0].error.is_some());
        case.subject.mend();
    });
    case.everything_can_be_checked_in();
}

/// Of ten hosts one hangs when it is released: nine are gone while it does.
pub fn one_that_hangs_does_not_hold_up_nine<S: ProviderSubject>(case: &Case<S>) {
    let broker = case.broker();
    if case.role().is_some() {
        let all = records(&case.block(broker.inventory()).unwrap());
        let outcomes = case.block(broker.checkin(all));
        panic!("the tenth did not hang: {outcomes:?}");
    }
    let id = case.block(async {
        let one = case.kept(&broker, case.subject.stubborn(Obstacle::Hangs)).await.remove(0);
        case.kept(&broker, case.subject.request().count(9)).await;
        one.id()
    });
    case.subject.obstruct(Obstacle::Hangs);
    let child = case.place.start("checkin");
    case.block(async {
        let nine_are_gone = async || {
            let left = records(&broker.inventory().await.unwrap());
            left.iter().map(|record| (record.id, record.state)).eq([(id, HostState::Releasing)])
        };
        wait::until_async("nine to be gone while the tenth hangs", nine_are_gone).await;
        // Somebody else who wants it out hears that somebody is at it.
        let (_, outcome) = broker.checkin(vec![entry(&broker, id).await]).await.unwrap().remove(0);
        let text = chain(&outcome.unwrap_err());
        assert!(text.contains("is being released by"), "{text}");
    });
    // Whoever hangs is given up; the host is not.
    child.kill();
    case.subject.mend();
    case.everything_can_be_checked_in();
}

/// Cuts the wire at every request of a checkout in turn: before it arrives, before its answer does, and before it arrives
/// all the same.
pub fn a_wire_cut_at_any_request_of_a_checkout<S: ProviderSubject>(case: &Case<S>) {
    cut_at_any_request(case, Holding::Kept, async |case| {
        let outcome = case.broker().checkout_kept(case.subject.request()).await;
        let made = matches!(&outcome, Ok(hosts) if hosts.iter().all(Result::is_ok));
        (made.then_some(()), format!("{outcome:?}"))
    });
}

/// As for a checkout of a kept host: what is left of one for a guard is released, or has an entry.
pub fn a_wire_cut_at_any_request_of_a_guarded_checkout<S: ProviderSubject>(case: &Case<S>) {
    cut_at_any_request(case, Holding::Guarded, async |case| {
        let outcome = case.broker().checkout(case.subject.request()).await;
        let said = format!("{outcome:?}");
        (outcome.ok(), said)
    });
}

/// Cuts the wire at every request of something that checks a host out, and returns what holds the host and what it said.
fn cut_at_any_request<S: ProviderSubject, T>(
    case: &Case<S>,
    holding: Holding,
    check_out: impl AsyncFn(&Case<S>) -> (Option<T>, String),
) {
    for cut in case.subject.cuts(holding) {
        let mut went_well = false;
        for request in 1..MOST_REQUESTS {
            case.subject.cut(cut(request));
            let (held, said) = case.block(check_out(case));
            let was_cut = !case.subject.has_yet_to_cut();
            case.subject.weather(Weather::Fair);
            // What comes late has come by then.
            if matches!(cut(request), Cut::Late(_)) && was_cut {
                std::thread::sleep(Duration::from_secs(2));
            }
            let records = case.journal_and_provider_agree();
            let active = records.iter().any(|record| record.state == HostState::Active);
            assert_eq!(active, held.is_some(), "what was said and what is written down differ: {said}, {records:#?}");
            let made = held.is_some();
            drop(held);
            case.everything_can_be_checked_in();
            if !was_cut {
                assert!(made, "no request was cut, and it failed: {said}");
                went_well = true;
                break;
            }
        }
        assert!(went_well, "a checkout has more than {MOST_REQUESTS} requests");
    }
}

/// Cuts the wire at every request of an action that makes no host: nothing is left of it.
pub fn a_wire_cut_at_any_request_of_an_execution<S: ProviderSubject>(case: &Case<S>) {
    let Some((request, _)) = case.subject.abilities().execute else { return };
    for cut in [Cut::After, Cut::Late] {
        for at in 1..MOST_REQUESTS {
            case.subject.cut(cut(at));
            let outcome = case.block(case.broker().execute(request.clone()));
            let was_cut = !case.subject.has_yet_to_cut();
            case.subject.weather(Weather::Fair);
            if was_cut && matches!(cut(at), Cut::Late(_)) {
                // What comes late has come by then.
                std::thread::sleep(Duration::from_secs(2));
            }
            case.nothing_is_left();
            if !was_cut {
                outcome.unwrap();
                break;
            }
        }
    }
}

/// Cuts the wire at every request of a checkin in turn.
pub fn a_wire_cut_at_any_request_of_a_checkin<S: ProviderSubject>(case: &Case<S>) {
    for cut in [Cut::After, Cut::Before] {
        let mut went_well = false;
        for request in 1..MOST_REQUESTS {
            let record = case.block(case.kept(&case.broker(), case.subject.request())).remove(0).record();
            let broker = case.broker();
            case.subject.cut(cut(request));
            let (_, outcome) = case.block(broker.checkin(vec![record])).unwrap().remove(0);
            let was_cut = !case.subject.has_yet_to_cut();
            case.subject.weather(Weather::Fair);
            let known = !case.block(broker.inventory()).unwrap().records.is_empty();
            assert_eq!(known, outcome.is_err(), "{outcome:?}");
            assert!(known || case.hosts().is_empty(), "it exists, and nothing knows of it");
            // Of a host that is gone although its release failed the entry stays, until it is checked in again.
            case.everything_can_be_checked_in();
            if !was_cut {
                outcome.unwrap();
                went_well = true;
                break;
            }
        }
        assert!(went_well, "a checkin has more than {MOST_REQUESTS} requests");
    }
}

/// The service goes for good in the middle of a checkout, so that nothing can be undone: the entry says so, and can be
/// checked in when the service is back.
pub fn a_service_that_goes_in_mid_checkout<S: ProviderSubject>(case: &Case<S>) {
    let mut entries = 0;
    for request in 1..MOST_REQUESTS {
        case.subject.cut(Cut::ForGoodAfter(request));
        let outcome = case.block(case.broker().checkout(case.subject.request()));
        let was_cut = !case.subject.has_yet_to_cut();
        case.subject.weather(Weather::Fair);
        if !was_cut {
            drop(outcome.unwrap());
            case.nothing_is_left();
            assert!(entries > 0, "no request left an entry behind that could not be undone");
            return;
        }
        if outcome.is_ok() {
            drop(outcome);
        }
        let records = case.journal_and_provider_agree();
        entries += records.len();
        case.everything_can_be_checked_in();
    }
    panic!("a checkout has more than {MOST_REQUESTS} requests");
}
