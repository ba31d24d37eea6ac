//! What must be true when nobody wants a host any more.

use std::time::{Duration, Instant};

use broker_core::inventory::HostState;
use broker_core::provider::ErrorKind;
use broker_core::{Error, FailureCause, HostRequest};

use super::super::Case;
use super::{ProviderSubject, chain, check_in, kinds, records};
use crate::wait;

/// When a checkout is cancelled, from its beginning. Some of them take longer than any of this.
const DELAYS: [u64; 6] = [0, 15, 60, 150, 300, 700];

/// More than it takes to give up and undo, less than it takes to hang.
const WHILE: Duration = Duration::from_secs(30);

/// Quick ones and slow ones by turns.
fn three<S: ProviderSubject>(case: &Case<S>, turn: usize) -> HostRequest {
    if turn.is_multiple_of(2) { case.subject.request() } else { case.subject.slow() }.count(3)
}

/// A future that is dropped while it checks out: what is recorded as active exists, and nothing else does.
pub fn a_cancelled_checkout_keeps_what_is_recorded<S: ProviderSubject>(case: &Case<S>) {
    for (turn, delay) in DELAYS.into_iter().enumerate() {
        let broker = case.broker();
        let finished = case.block(async {
            let checkout = broker.checkout_kept(three(case, turn));
            tokio::time::timeout(Duration::from_millis(delay), checkout).await.is_ok()
        });
        let records = case.journal_and_provider_agree();
        let states: Vec<_> = records.iter().map(|record| record.state).collect();
        assert!(states.iter().all(|state| *state == HostState::Active), "cancelled after {delay} ms: {records:#?}");
        assert!(!finished || states.len() == 3, "it came back after {delay} ms: {records:#?}");
        // What was cancelled very early may be written down only now, to be undone at once.
        case.block(check_in(&broker, records));
        case.nothing_is_left_soon();
    }
}

/// With guards nothing stays of a checkout that nobody waited for.
pub fn a_cancelled_guarded_checkout_leaves_nothing<S: ProviderSubject>(case: &Case<S>) {
    for (turn, delay) in DELAYS.into_iter().enumerate() {
        let broker = case.broker();
        case.block(async {
            let checkout = broker.checkout_many(three(case, turn));
            drop(tokio::time::timeout(Duration::from_millis(delay), checkout).await);
        });
        case.nothing_is_left_soon();
    }
}

/// A broker that is told to stop undoes what is half made, says so, and makes nothing any more.
pub fn a_stopped_broker_leaves_nothing_half_made<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let begun = async {
            // What it stops is on its way then.
            wait::until_async("the orders", async || records(&broker.inventory().await.unwrap()).len() == 3).await;
            broker.stop();
        };
        let (outcomes, ()) = tokio::join!(broker.checkout_kept(case.subject.slow().count(3)), begun);
        for outcome in outcomes.unwrap() {
            let failure = outcome.unwrap_err();
            let FailureCause::Provider(error) = &*failure.source else { panic!("{failure:?}") };
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{}", chain(&failure));
        }
        let after = broker.checkout(case.subject.request()).await;
        assert_eq!(kinds(&after.unwrap_err()), [ErrorKind::Cancelled]);
    });
    case.nothing_is_left();
}

/// A request with a limit that is not kept is given up and undone, and the error says what the limit was.
pub fn a_checkout_that_takes_too_long_is_undone<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let limit = Duration::from_millis(400);
        let begun = Instant::now();
        let error = case.broker().checkout(case.subject.slow().timeout(limit)).await.unwrap_err();
        assert_eq!(kinds(&error), [ErrorKind::Timeout], "{}", chain(&error));
        assert!(chain(&error).contains("400ms"), "{}", chain(&error));
        assert!(begun.elapsed() < WHILE, "{:?}", begun.elapsed());
    });
    case.nothing_is_left();
    case.block(async {
        let request = case.subject.slow().timeout(Duration::from_millis(400)).count(2);
        // Where already the preparation took too long, that is one error for all of them.
        match case.broker().checkout_kept(request).await {
            Ok(outcomes) => assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}"),
            Err(error) => assert_eq!(kinds(&error), [ErrorKind::Timeout], "{}", chain(&error)),
        }
    });
    case.nothing_is_left();
}

/// A provider that never comes back, not even when told to stop, is cut off after the grace, and undone.
pub fn a_provider_that_hangs_is_undone<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let begun = Instant::now();
        let request = case.subject.stuck().timeout(Duration::from_secs(8)).count(2);
        let Error::Checkout(error) = case.broker().checkout_many(request).await.unwrap_err() else {
            panic!("not an error of single hosts");
        };
        assert_eq!(error.failures().len(), 2);
        for failure in error.failures() {
            assert!(!failure.is_kept, "{}", chain(failure));
        }
        assert!(begun.elapsed() < WHILE, "{:?}", begun.elapsed());
    });
    case.nothing_is_left();
}

/// A checkin that nobody waits for any more goes on.
pub fn a_cancelled_checkin_goes_on<S: ProviderSubject>(case: &Case<S>) {
    for delay in [0, 1, 10] {
        let broker = case.broker();
        case.block(async {
            case.kept(&broker, case.subject.request().count(3)).await;
            let all = records(&broker.inventory().await.unwrap());
            drop(tokio::time::timeout(Duration::from_millis(delay), broker.checkin(all)).await);
            let guard = broker.checkout(case.subject.request()).await.unwrap();
            drop(tokio::time::timeout(Duration::from_millis(delay), guard.checkin()).await);
        });
        case.nothing_is_left_soon();
    }
}
