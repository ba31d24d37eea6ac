//! What it costs to apply a filter to 10,000 records, against looking one field up in each.

use std::hint::black_box;

use broker::filter::Filter;
use broker::inventory::{FIELDS, Secrets, read};

use crate::measure::{cpu, here, in_turn};
use crate::report::{Bench, Target};
use crate::{Result, fixtures};

const FILTERS: [(&str, &str); 3] = [
    ("filter/compact", "hostname<example,_broker_args.ports{22"),
    ("filter/expression", "state in [\"active\", \"failed\"] && age(checked_out_at) < 2h || has(lease_until)"),
    ("filter/pattern", "name =~ \"^jane-[0-9a-f]+7$\""),
];

pub(crate) fn run(bench: &mut Bench) -> Result {
    let wanted: Vec<_> = FILTERS.into_iter().filter(|(case, _)| bench.wants(case)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let records = read(fixtures::compact(10_000)?.path())?.records;
    let views: Vec<_> = records.iter().map(|record| record.to_json(Secrets::Shown)).collect();
    let known = FIELDS.iter().copied().chain(["image", "status", "cpus"]);
    let now = records.first().map(|record| record.at).unwrap_or_default();
    for (case, text) in wanted {
        let mut select = || here(|| Ok(black_box(Filter::parse(text)?.select(&views, known.clone(), now)?)));
        let mut look_up = || here(|| Ok(black_box(views.iter().filter(|view| view.contains_key("hostname")).count())));
        let [ours, floor] = in_turn(bench.rounds(30), [&mut select, &mut look_up])?;
        bench.row(&format!("{case}/cpu"), &cpu(&ours), &cpu(&floor), Target::None);
    }
    Ok(())
}
