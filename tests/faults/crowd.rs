//! Many processes on one inventory at once: what they report must add up.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use broker_tests::env::Ran;

use crate::world::World;
use crate::{Dose, Report};

/// How many processes there are at any time.
const PROCESSES: u32 = 50;

/// What all of them did together.
#[derive(Debug, Default)]
struct Sum {
    made: BTreeSet<u64>,
    released: BTreeSet<u64>,
    held: BTreeSet<u64>,
    calls: u32,
    faults: Vec<String>,
}

/// For as many seconds as `count` says, a minute at the most.
pub(crate) fn run(dose: Dose) -> Report {
    let limit = Duration::from_secs(u64::from(dose.count.min(60)));
    let mut world = World::new(format!("{PROCESSES} processes for {limit:?}"));
    let end = Instant::now() + limit;
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for process in 0..PROCESSES {
            let (world, sum) = (&world, &sum);
            let mut choices = dose.choices(process);
            scope.spawn(move || {
                let mut own = BTreeSet::new();
                while Instant::now() < end {
                    step(world, sum, &mut choices, &mut own);
                }
                sum.lock().unwrap().held.extend(own);
            });
        }
    });
    let Sum { made, released, held, calls, faults } = sum.into_inner().unwrap();
    world.faults.extend(faults);
    let numbers: BTreeSet<u64> = numbers(&world.broker("inventory --output json"));
    if numbers != held {
        let (lost, strange): (Vec<_>, Vec<_>) =
            (held.difference(&numbers).collect(), numbers.difference(&held).collect());
        world.wrong(&format!("the inventory does not add up: missing {lost:?}, unknown {strange:?}"));
    }
    let existing = world.existing();
    if existing.len() != held.len() {
        world.wrong(&format!("{} hosts exist, and {} are held", existing.len(), held.len()));
    }
    world.nothing_lost(&existing, &BTreeSet::new());
    world.all_goes(|world| world.existing().len());
    let figures = vec![format!(
        "{calls} commands, {} hosts out, {} in, {} held at the end",
        made.len(),
        released.len(),
        held.len()
    )];
    Report { figures, faults: world.faults }
}

/// One command, and what it says about itself.
fn step(world: &World, sum: &Mutex<Sum>, choices: &mut fastrand::Rng, own: &mut BTreeSet<u64>) {
    let wrong = |what: &str, ran: &Ran| sum.lock().unwrap().faults.push(format!("{what}: {ran}"));
    sum.lock().unwrap().calls += 1;
    let some: Vec<u64> = own.iter().copied().collect();
    match choices.u32(0..10) {
        0..4 => {
            let ran = world.broker(&format!("checkout --test-action t --count {} --output json", choices.u32(1..=3)));
            if ran.code != Some(0) {
                return wrong("a checkout failed", &ran);
            }
            let new = numbers(&ran);
            let mut sum = sum.lock().unwrap();
            for number in &new {
                if !sum.made.insert(*number) {
                    sum.faults.push(format!("number {number} was given out twice"));
                }
            }
            own.extend(new);
        }
        4..7 if !some.is_empty() => {
            let number = some[choices.usize(..some.len())];
            let ran = world.broker(&format!("checkin {number} --yes"));
            if ran.code != Some(0) {
                return wrong("a checkin failed", &ran);
            }
            own.remove(&number);
            sum.lock().unwrap().released.insert(number);
        }
        7 if !some.is_empty() => {
            let number = some[choices.usize(..some.len())];
            let ran = world.broker(&format!("extend {number} --lease 5h"));
            if ran.code != Some(0) {
                wrong("an extension failed", &ran);
            }
        }
        _ => {
            let ran = world.broker("inventory --output json");
            let shown = numbers(&ran);
            let missing: Vec<&u64> = own.iter().filter(|number| !shown.contains(number)).collect();
            if ran.code != Some(0) || !missing.is_empty() {
                wrong(&format!("the inventory lacks {missing:?}"), &ran);
            }
        }
    }
}

fn numbers(ran: &Ran) -> BTreeSet<u64> {
    let records = serde_json::from_str::<Vec<serde_json::Value>>(&ran.stdout).unwrap_or_default();
    records.iter().filter_map(|record| record["number"].as_u64()).collect()
}
