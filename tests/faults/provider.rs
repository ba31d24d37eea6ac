//! A provider that fails, hangs and answers late at every call: no host is lost, and every error names the host.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;

use crate::world::{World, many};
use crate::{Dose, Report};

const FAULTS: [&str; 12] = [
    "auth",
    "permission",
    "not_found",
    "quota",
    "conflict",
    "timeout",
    "unreachable",
    "bad_request",
    "failed",
    "bug",
    "panic",
    "hang",
];

/// A call of the provider that a fault can strike.
#[derive(Debug, Clone, Copy)]
enum Call {
    Checkout,
    SomeCheckouts,
    Release,
    ReleaseOnce,
}

const CALLS: [Call; 4] = [Call::Checkout, Call::SomeCheckouts, Call::Release, Call::ReleaseOnce];

/// Every fault at every call, over and over.
pub(crate) fn run(dose: Dose) -> Report {
    many(dose, 4, |run, mut choices| {
        let run = usize::try_from(run).unwrap();
        let fault = FAULTS[run % FAULTS.len()];
        let call = CALLS[run / FAULTS.len() % CALLS.len()];
        let hosts = choices.u32(1..=4);
        let delay = choices.u32(0..50);
        let mut world = World::new(format!("run {run}: {fault} at {call:?}, {hosts} hosts, {delay} ms late"));
        world.env.set("BROKER_stop_grace", "300ms");
        let late = format!("--count {hosts} --delay {delay}ms --hostname lab-{run}");
        match call {
            Call::Checkout => checkout(&mut world, fault, &late),
            Call::SomeCheckouts => checkout(&mut world, fault, &format!("{late} --fail-every 2")),
            Call::Release => release(&mut world, fault, &late, false),
            Call::ReleaseOnce => release(&mut world, fault, &format!("{late} --fail-release-times 1"), true),
        }
        (world.faults, format!("{call:?} {fault}"))
    })
}

fn checkout(world: &mut World, fault: &str, how: &str) {
    let fault =
        if fault == "hang" && !how.contains("fail-every") { "--hang".to_owned() } else { format!("--fail {fault}") };
    let line = format!("checkout --test-action t {fault} {how}");
    let started = world.env.start(line.split_whitespace());
    if line.contains("hang") {
        std::thread::sleep(Duration::from_millis(700));
        started.signal(Signal::INT);
    }
    let ran = started.wait(Duration::from_secs(60));
    let failed = ran.code != Some(0);
    if failed && ran.stderr.trim().is_empty() {
        world.wrong(&format!("a failure without a word: {ran}"));
    }
    if !failed && world.existing().is_empty() {
        world.wrong(&format!("a success without a host: {ran}"));
    }
    let existing = world.existing();
    world.nothing_lost(&existing, &BTreeSet::new());
    world.all_goes(|world| world.existing().len());
}

fn release(world: &mut World, fault: &str, how: &str, once: bool) {
    world.broker(&format!("checkout --test-action t --fail-release {fault} {how}")).expect(0);
    let kept = world.existing();
    let started = world.env.start("checkin --all --yes".split_whitespace());
    if fault == "hang" {
        std::thread::sleep(Duration::from_millis(700));
        started.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(700));
        started.signal(Signal::INT);
    }
    let ran = started.wait(Duration::from_secs(60));
    if ran.code == Some(0) && !world.existing().is_empty() {
        world.wrong(&format!("a checkin that failed says that it did not: {ran}"));
    }
    if ran.code != Some(0) && fault != "hang" && !ran.stderr.contains("lab-") {
        world.wrong(&format!("the error does not name the host: {ran}"));
    }
    let existing = world.existing();
    world.nothing_lost(&existing, &existing.intersection(&kept).cloned().collect());
    if once {
        world.all_goes(|world| world.existing().len());
    }
}
