//! `kill -9` of a checkout or a checkin of real containers.

use std::collections::BTreeSet;
use std::time::Duration;

use broker_tests::engines::{Engine, image};
use rustix::process::Signal;

use crate::world::{World, many};
use crate::{Dose, Report};

/// How many containers a run is about.
const CONTAINERS: u32 = 3;

/// Moments are chosen within this time, which is longer than such a checkout or checkin takes.
const MOMENTS: u64 = 1500;

/// A tenth of the other runs: containers take their time.
pub(crate) fn run(dose: Dose) -> Report {
    let engines = Engine::answering();
    let mut report = Report::default();
    for engine in &engines {
        let share = dose.count.div_ceil(10).div_ceil(u32::try_from(engines.len()).unwrap());
        let one = on(engine, Dose { count: share, ..dose });
        report.figures.extend(one.figures.iter().map(|line| format!("{}: {line}", engine.name)));
        report.faults.extend(one.faults);
    }
    if engines.is_empty() {
        report.faults.push("no container engine answers: `cargo xtask setup --podman` starts them".to_owned());
    }
    report
}

fn on(engine: &Engine, dose: Dose) -> Report {
    many(dose, 2, |run, mut choices| {
        let checkin = run % 2 == 1;
        let moment = Duration::from_millis(choices.u64(0..=MOMENTS));
        let what = if checkin { "checkin" } else { "checkout" };
        let mut world = World::new(format!("run {run} on {}: {what}, killed after {moment:?}", engine.name));
        let uri = format!("unix://{}", engine.socket.display());
        world.env.set("DOCKER_HOST", uri);
        // For so long a creation may be carried out that nobody was there to hear of.
        world.env.write_settings("Container:\n  timeout: 20\n");
        let order = format!("checkout --container-host {} --count {CONTAINERS}", image("tiny"));
        if checkin {
            world.broker(&order).expect(0);
        }
        let line = if checkin { "checkin --all --yes" } else { &order };
        let started = world.env.start(line.split_whitespace());
        std::thread::sleep(moment);
        started.signal(Signal::KILL);
        let killed = started.wait(Duration::from_secs(60)).code == Some(137);
        // The engine may still be at work on what it was asked for: nothing is more there later than it is shown.
        std::thread::sleep(Duration::from_secs(2));
        let existing = ids(&world, engine);
        world.nothing_lost(&existing, &BTreeSet::new());
        world.all_goes(|world| world.env.containers(engine));
        (world.faults, if killed { format!("{what} killed") } else { format!("{what} that had ended") })
    })
}

/// The Broker ids of the containers that the engine has, by its own list.
fn ids(world: &World, engine: &Engine) -> BTreeSet<String> {
    let mine = format!("{}@", world.env.user());
    let all = engine.with_any("broker.owner").into_iter();
    all.filter(|container| container.labels["broker.owner"].starts_with(&mine))
        .filter_map(|container| container.labels.get("broker.id").cloned())
        .collect()
}
