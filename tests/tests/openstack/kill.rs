//! `kill -9` at every step: what there is afterwards, by the `openstack` command, is what the inventory knows.

use std::collections::BTreeSet;

use broker_core::HostId;
use broker_tests::openstack::hosts_by_command;
use broker_tests::openstack::kill::{CHECKIN, CHECKOUT};
use broker_tests::wait;

use crate::Lab;

const ORDER: &str = "checkout --ostack-image tiny --ostack-wait active --ostack-floating-network public";

/// A lab whose project has a way to the outer network.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.project().connect_outside();
    lab
}

/// The ids that the inventory shows.
fn shown(lab: &Lab) -> BTreeSet<HostId> {
    lab.inventory().iter().map(|host| host["id"].as_str().unwrap().parse().unwrap()).collect()
}

/// The hosts that exist and are not shown. Somebody may be at work on some of them: what has gone in between is not lost.
fn lost(lab: &Lab, look: impl Fn() -> BTreeSet<HostId>) -> BTreeSet<HostId> {
    let there = look();
    let shown = shown(lab);
    let missing: BTreeSet<HostId> = there.difference(&shown).copied().collect();
    if missing.is_empty() { missing } else { look().intersection(&missing).copied().collect() }
}

#[track_caller]
fn everything_goes(lab: &Lab) {
    wait::until("everything to be checked in", || {
        let ran = lab.env.broker(["checkin", "--all", "--yes"]);
        ran.code == Some(0) && lab.inventory().is_empty()
    });
    assert_eq!(hosts_by_command(&lab.tenant, lab.project()), BTreeSet::new());
    lab.nothing_is_left();
}

#[test]
fn a_checkout_killed_at_any_step_leaves_nothing_unknown() {
    let lab = lab();
    for step in CHECKOUT {
        assert!(step.kill(&lab.env, &lab.wire, ORDER), "it never got to `{}`", step.name);
        assert_eq!(lost(&lab, || lab.project().hosts()), BTreeSet::new(), "killed when {}", step.name);
    }
    assert_eq!(lost(&lab, || hosts_by_command(&lab.tenant, lab.project())), BTreeSet::new());
    everything_goes(&lab);
}

/// One host, whose checkin is killed at one step after the other.
#[test]
fn a_checkin_killed_at_any_step_leaves_nothing_unknown() {
    let lab = lab();
    lab.broker(ORDER);
    for step in CHECKIN {
        assert!(step.kill(&lab.env, &lab.wire, "checkin --all --yes"), "it never got to `{}`", step.name);
        assert_eq!(lost(&lab, || lab.project().hosts()), BTreeSet::new(), "killed when {}", step.name);
    }
    everything_goes(&lab);
}
