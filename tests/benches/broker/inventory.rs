//! What `broker inventory` costs as the inventory grows, against reading the file and parsing its lines.

use std::path::Path;

use broker::inventory::read;

use crate::measure::{child, cpu, here, in_turn};
use crate::report::{Bench, Target, Value};
use crate::{Result, fixtures, floor};

const OUTPUTS: [(&str, &[&str]); 2] = [("table", &["inventory"]), ("json", &["inventory", "--output", "json"])];

pub(crate) fn run(bench: &mut Bench) -> Result {
    for (hosts, rounds) in [(0, 20), (100, 20), (10_000, 20), (100_000, 5)] {
        let target = match hosts {
            10_000 => Target::AtMost(Value::Seconds(0.050)),
            _ => Target::None,
        };
        let cases = OUTPUTS.map(|(output, arguments)| (format!("inventory/{hosts}/{output}"), arguments));
        let wanted: Vec<_> = cases.into_iter().filter(|(case, _)| bench.wants(case)).collect();
        if wanted.is_empty() {
            continue;
        }
        let directory = fixtures::compact(hosts)?;
        for (case, arguments) in wanted {
            measure(bench, &case, directory.path(), arguments, rounds, target)?;
        }
    }
    let case = "inventory/10000-uncompacted";
    if bench.wants(case) {
        measure(bench, case, fixtures::fresh(10_000)?.path(), OUTPUTS[0].1, 20, Target::None)?;
    }
    let case = "inventory/10000/library";
    if bench.wants(case) {
        let directory = fixtures::compact(10_000)?;
        let mut load = || here(|| Ok(read(directory.path())?));
        let mut parse = || here(|| floor::parse_lines(&directory.path().join("inventory.jsonl")));
        let [ours, floor] = in_turn(bench.rounds(20), [&mut load, &mut parse])?;
        bench.row(&format!("{case}/cpu"), &cpu(&ours), &cpu(&floor), Target::None);
    }
    Ok(())
}

fn measure(
    bench: &mut Bench,
    case: &str,
    directory: &Path,
    arguments: &[&str],
    rounds: usize,
    target: Target,
) -> Result {
    let journal = directory.join("inventory.jsonl");
    // An inventory that never had a host is no file at all.
    let read = if journal.exists() { &*journal } else { Path::new("/dev/null") };
    let mut list = || child(bench.broker(directory).args(arguments));
    let mut parse = || child(&mut floor::parse(read)?);
    let [ours, floor] = in_turn(bench.rounds(rounds), [&mut list, &mut parse])?;
    bench.row(&format!("{case}/cpu"), &cpu(&ours), &cpu(&floor), target);
    Ok(())
}
