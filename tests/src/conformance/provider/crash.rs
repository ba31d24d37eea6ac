//! What must be true after a process was killed: the next one can settle everything.

use std::time::Duration;

use broker_core::inventory::HostState;

use super::super::Case;
use super::{ProviderSubject, chain, check_in, records};

/// When a process is killed, from the moment in which it begins.
const DELAYS: [u64; 6] = [0, 20, 60, 150, 350, 900];

/// A process is killed while it checks three hosts out: what is active exists, and the rest can be settled by its id.
pub fn a_process_killed_while_it_checks_out<S: ProviderSubject>(case: &Case<S>) {
    if let Some(role) = case.role() {
        let broker = case.broker();
        case.place.sign("begun");
        let request = if role == "quick" { case.subject.request() } else { case.subject.slow() };
        case.block(case.kept(&broker, request.count(3)));
        // Whoever is fast enough waits to be killed all the same.
        loop {
            std::thread::park();
        }
    }
    for (turn, delay) in DELAYS.into_iter().enumerate() {
        let child = case.place.start(if turn.is_multiple_of(2) { "quick" } else { "slow" });
        case.place.await_sign("begun");
        std::thread::sleep(Duration::from_millis(delay));
        child.kill();

        let broker = case.broker();
        let all = records(&case.block(broker.inventory()).unwrap());
        let exist = case.hosts();
        for id in &exist {
            assert!(
                all.iter().any(|record| record.id == *id),
                "killed after {delay} ms: nothing knows of {id}: {all:#?}"
            );
        }
        for record in all.iter().filter(|record| record.state == HostState::Active) {
            assert!(exist.contains(&record.id), "killed after {delay} ms: active and not there: {record:#?}");
        }
        // What is not active yet is settled, what is active is left alone by that.
        let (active, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|record| record.state == HostState::Active);
        case.block(check_in(&broker, rest));
        let left: std::collections::BTreeSet<_> = active.iter().map(|record| record.id).collect();
        assert_eq!(case.hosts(), left, "killed after {delay} ms");
        case.everything_can_be_checked_in();
    }
}

/// A process is killed while it checks three hosts in: the next one finishes what it began.
pub fn a_process_killed_while_it_checks_in<S: ProviderSubject>(case: &Case<S>) {
    let broker = case.broker();
    if case.role().is_some() {
        let all = records(&case.block(broker.inventory()).unwrap());
        case.place.sign("begun");
        for (_, outcome) in case.block(broker.checkin(all)).unwrap() {
            outcome.unwrap_or_else(|error| panic!("{}", chain(&error)));
        }
        loop {
            std::thread::park();
        }
    }
    for delay in [0, 5, 20, 60, 150] {
        case.block(case.kept(&broker, case.subject.request().count(3)));
        let child = case.place.start("checkin");
        case.place.await_sign("begun");
        std::thread::sleep(Duration::from_millis(delay));
        child.kill();
        let known: Vec<_> = case.block(broker.inventory()).unwrap().records.iter().map(|record| record.id).collect();
        for id in case.hosts() {
            assert!(known.contains(&id), "killed after {delay} ms: {id} exists, and nothing knows of it");
        }
        case.everything_can_be_checked_in();
    }
}
