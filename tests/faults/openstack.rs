//! `kill -9` of a checkout or a checkin of a real server, at a named step or at any moment. What there is afterwards is
//! asked of the `openstack` command.

use std::collections::BTreeSet;
use std::time::Duration;

use broker_tests::openstack::kill::{CHECKIN, CHECKOUT, Step};
use broker_tests::openstack::{Tenant, Told, Wire, told_by_command};
use rustix::process::Signal;

use crate::world::{World, many};
use crate::{Dose, Report};

const ORDER: &str = "checkout --ostack-image tiny --ostack-wait active --ostack-floating-network public";

/// Moments are chosen within this time, which is longer than such a checkout or checkin takes.
const MOMENTS: u64 = 5000;

pub(crate) fn run(dose: Dose) -> Report {
    many(dose, 2, |run, mut choices| {
        let checkin = run % 2 == 1;
        let steps: &[Step] = if checkin { CHECKIN } else { CHECKOUT };
        let step = choices.bool().then(|| steps[choices.usize(..steps.len())]);
        let moment = Duration::from_millis(choices.u64(0..=MOMENTS));
        let what = if checkin { "checkin" } else { "checkout" };
        let at = step.map_or_else(|| format!("killed after {moment:?}"), |step| format!("killed when {}", step.name));
        let mut world = World::new(format!("run {run} on OpenStack: {what}, {at}"));
        let tenant = Tenant::take();
        let wire = Wire::start(&tenant.main.user);
        tenant.main.connect_outside();
        world.env.write_settings(&tenant.settings(&wire, ""));
        if checkin {
            world.broker(ORDER).expect(0);
        }
        let line = if checkin { "checkin --all --yes" } else { ORDER };
        let hit = match step {
            Some(step) if step.kill(&world.env, &wire, line) => format!("{what}, {}", step.name),
            Some(step) => {
                world.wrong(&format!("it never got to `{}`", step.name));
                format!("{what} that did not get there")
            }
            None => {
                let started = world.env.start(line.split_whitespace());
                std::thread::sleep(moment);
                started.signal(Signal::KILL);
                let killed = started.wait(Duration::from_secs(60)).code == Some(137);
                format!("{what} {}", if killed { "at any moment" } else { "that had ended" })
            }
        };
        nothing_lost(&mut world, &tenant);
        world.all_goes(|_| {
            let Told { hosts, ports } = told_by_command(&tenant, &tenant.main);
            hosts.len() + ports
        });
        tenant.clean();
        (world.faults, hit)
    })
}

/// Somebody may be at work on what a dead process has left: what goes in between is not lost.
fn nothing_lost(world: &mut World, tenant: &Tenant) {
    let look = || {
        let hosts = told_by_command(tenant, &tenant.main).hosts;
        hosts.iter().map(ToString::to_string).collect::<BTreeSet<_>>()
    };
    let existing = look();
    let shown = world.shown();
    let missing: BTreeSet<String> = existing.difference(&shown).cloned().collect();
    if !missing.is_empty() {
        let lost: Vec<String> = look().intersection(&missing).cloned().collect();
        if !lost.is_empty() {
            world.wrong(&format!("{} hosts exist and are not shown: {lost:?}", lost.len()));
        }
    }
}
