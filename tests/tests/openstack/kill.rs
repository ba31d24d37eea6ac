//! `kill -9` at every step: what there is afterwards, by the `openstack` command, is what the inventory knows.

use std::collections::BTreeSet;
use std::time::Duration;

use broker_core::HostId;
use broker_tests::openstack::kill::{CHECKIN, CHECKOUT};
use broker_tests::openstack::{Told, told_by_command};
use broker_tests::wait;
use rustix::process::Signal;

use crate::Lab;

/// How often a server is looked at.
const PERIOD: Duration = Duration::from_millis(300);

const ORDER_ACTIVE: &str = "checkout --ostack-image tiny --ostack-wait active";

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
    assert_eq!(told_by_command(&lab.tenant, lab.project()), Told { hosts: BTreeSet::new(), ports: 0 });
    lab.nothing_is_left();
}

#[test]
fn a_checkout_killed_at_any_step_leaves_nothing_unknown() {
    let lab = lab();
    for step in CHECKOUT {
        assert!(step.kill(&lab.env, &lab.wire, ORDER), "it never got to `{}`", step.name);
        assert_eq!(lost(&lab, || lab.project().hosts()), BTreeSet::new(), "killed when {}", step.name);
    }
    assert_eq!(lost(&lab, || told_by_command(&lab.tenant, lab.project()).hosts), BTreeSet::new());
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

/// There is nothing to be asked for then, and nothing to be written.
#[test]
fn a_checkout_killed_while_it_waits_leaves_nothing_unknown() {
    let lab = Lab::new();
    for waiting in ["--ostack-ssh-port 9", "--ostack-ready-command false"] {
        let line = format!("checkout --ostack-image tiny {waiting}");
        let before = lab.project().servers().len();
        let mut broker = lab.env.start(line.split_whitespace());
        let active = || lab.project().servers().iter().filter(|server| server["status"] == "ACTIVE").count();
        wait::until_every(PERIOD, wait::SOON, "the server to be active", || active() > before);
        // The first look may be the one that sees it active. Whoever waits looks again.
        let looks = || lab.wire.asked("GET", "servers/*").len();
        let looked = looks();
        wait::until("it to wait", || looks() > looked + 1);
        assert!(!broker.has_ended());
        broker.signal(Signal::KILL);
        assert_eq!(broker.wait(wait::SOON).code, Some(137));
        assert_eq!(lost(&lab, || lab.project().hosts()), BTreeSet::new(), "killed with {waiting}");
    }
    let states = || lab.inventory().iter().map(|host| host["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(states(), ["pending", "pending"]);
    // Both run, though nobody knows whether they are as they were to be.
    lab.broker("exec 1 -- true");
    assert_eq!(states(), ["pending", "active"]);
    lab.broker("inventory --sync OpenStack");
    assert_eq!(states(), ["active", "active"]);
    everything_goes(&lab);
}

/// Its server is still being built then.
#[test]
fn a_server_that_is_being_built_goes_as_others_do() {
    let lab = Lab::new();
    let step = CHECKOUT.iter().find(|step| step.name == "the server is made").unwrap();
    assert!(step.kill(&lab.env, &lab.wire, ORDER_ACTIVE));
    assert_eq!(lab.project().servers()[0]["status"], "BUILD", "it was seen too late");
    lab.broker("checkin --all --yes");
    assert_eq!(told_by_command(&lab.tenant, lab.project()), Told { hosts: BTreeSet::new(), ports: 0 });
    lab.nothing_is_left();
}
