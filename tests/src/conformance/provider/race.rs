//! What must be true when several do the same at once.

use std::collections::BTreeSet;

use broker_core::{Error, Released};

use super::super::Case;
use super::{ProviderSubject, chain, check_in, records};

/// Two brokers that check the same host in at once: one releases it, the other sees that.
pub fn two_brokers_check_the_same_host_in<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let (one, other) = (case.broker(), case.broker());
        for _ in 0..case.subject.races() {
            let record = case.kept(&one, case.subject.request()).await.remove(0).record();
            let (first, second) = tokio::join!(one.checkin(vec![record.clone()]), other.checkin(vec![record]));
            let outcomes = [first, second].map(|outcomes| outcomes.unwrap().remove(0).1);
            let now = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Released::Now))).count();
            assert_eq!(now, 1, "{outcomes:?}");
            for outcome in &outcomes {
                match outcome {
                    Ok(_) => {}
                    Err(error @ Error::State { .. }) => assert!(chain(error).contains("is being released by")),
                    Err(error) => panic!("{}", chain(error)),
                }
            }
        }
    });
    case.nothing_is_left();
}

/// Three processes that check the same hosts in at once: every host is released by one of them.
pub fn two_processes_check_the_same_hosts_in<S: ProviderSubject>(case: &Case<S>) {
    let broker = case.broker();
    if let Some(role) = case.role() {
        let all = records(&case.block(broker.inventory()).unwrap());
        case.place.sign(role);
        crate::wait::until("the others", || case.place.has_sign("go"));
        let outcomes = case.block(broker.checkin(all)).unwrap();
        let now = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Ok(Released::Now)));
        let ids: Vec<String> = now.map(|(record, _)| record.id.to_string()).collect();
        std::fs::write(case.place.join(&format!("{role}.released")), ids.join("\n")).unwrap();
        for (record, outcome) in outcomes {
            match outcome {
                Ok(_) | Err(Error::State { .. }) => {}
                Err(error) => panic!("{record:?}: {}", chain(&error)),
            }
        }
        return;
    }
    let hosts = case.block(case.kept(&broker, case.subject.request().count(8)));
    let roles = ["one", "two", "three"];
    let children = roles.map(|role| case.place.start(role));
    for role in roles {
        case.place.await_sign(role);
    }
    case.place.sign("go");
    assert!(children.into_iter().all(|child| child.wait().success()));
    let mut released = Vec::new();
    for role in roles {
        let ids = std::fs::read_to_string(case.place.join(&format!("{role}.released"))).unwrap();
        released.extend(ids.lines().map(str::to_owned));
    }
    released.sort();
    let mut expected: Vec<String> = hosts.iter().map(|host| host.id().to_string()).collect();
    expected.sort();
    assert_eq!(released, expected, "every host is released once");
    case.nothing_is_left();
}

/// Four processes check out at once: everything is recorded, and no number is given twice.
pub fn four_processes_check_out_at_once<S: ProviderSubject>(case: &Case<S>) {
    let broker = case.broker();
    if let Some(role) = case.role() {
        case.place.sign(role);
        crate::wait::until("the others", || case.place.has_sign("go"));
        case.block(case.kept(&broker, case.subject.request().count(3)));
        return;
    }
    let roles = ["one", "two", "three", "four"];
    let children = roles.map(|role| case.place.start(role));
    for role in roles {
        case.place.await_sign(role);
    }
    case.place.sign("go");
    assert!(children.into_iter().all(|child| child.wait().success()));
    let all = records(&case.block(broker.inventory()).unwrap());
    assert_eq!(all.iter().map(|record| record.number).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    assert_eq!(all.iter().map(|record| record.id).collect::<BTreeSet<_>>(), case.hosts());
    case.block(check_in(&broker, all));
    case.nothing_is_left();
}
