//! What the bookkeeping of one checkout costs, and that it does not grow with the inventory. The hosts are no-ops.

use std::fs::OpenOptions;
use std::path::Path;

use broker::block_on;
use broker::prelude::*;

use crate::measure::{child, cpu, here, in_turn, wall};
use crate::report::{Bench, Target};
use crate::{Result, fixtures, floor};

/// How many times the cost at 100 hosts a checkout at 100,000 may cost.
const TARGET: Target = Target::Times(2.0);

/// How many checkouts of a process make one sample: one alone is too short for the clock.
const CHECKOUTS: usize = 10;

pub(crate) fn run(bench: &mut Bench) -> Result {
    let (process, library) = (bench.wants("bookkeeping/process"), bench.wants("bookkeeping/library"));
    if !process && !library {
        return Ok(());
    }
    let [none, few, many] = [fixtures::compact(0)?, fixtures::compact(100)?, fixtures::compact(100_000)?];
    let [none, few, many] = [none.path(), few.path(), many.path()];
    if process {
        let checkout = |directory| child(bench.broker(directory).args(["checkout", "--test-action", "x"]));
        let rounds = bench.rounds(40);
        let [none, few, many] =
            in_turn(rounds, [&mut || checkout(none), &mut || checkout(few), &mut || checkout(many)])?;
        bench.row("bookkeeping/process/100:0/cpu", &cpu(&few), &cpu(&none), Target::None);
        bench.row("bookkeeping/process/100000:100/cpu", &cpu(&many), &cpu(&few), TARGET);
        bench.row("bookkeeping/process/100000:100/wall", &wall(&many), &wall(&few), TARGET);
    }
    if library {
        let rounds = bench.rounds(20);
        let line = std::fs::metadata(few.join("inventory.jsonl"))?.len() / 100;
        let bytes = usize::try_from(line)? * 2;
        let file = OpenOptions::new().append(true).create(true).open(none.join("floor"))?;
        let mut append = || here(|| (0..CHECKOUTS).try_for_each(|_| floor::append_synced(&file, bytes, 2)));
        let [few, many, floor] = in_turn(rounds, [&mut || checkouts(few), &mut || checkouts(many), &mut append])?;
        bench.row("bookkeeping/library/100:append/cpu", &cpu(&few), &cpu(&floor), Target::None);
        bench.row("bookkeeping/library/100:append/wall", &wall(&few), &wall(&floor), Target::None);
        bench.row("bookkeeping/library/100000:100/cpu", &cpu(&many), &cpu(&few), TARGET);
        bench.row("bookkeeping/library/100000:100/wall", &wall(&many), &wall(&few), TARGET);
    }
    Ok(())
}

/// Each with a broker of its own, so that each finds its way into the journal anew, as a process does.
fn checkouts(directory: &Path) -> Result<crate::measure::Usage> {
    here(|| {
        for _ in 0..CHECKOUTS {
            let broker = fixtures::broker(directory, |settings| settings)?;
            for host in block_on(broker.checkout_kept(HostRequest::action("test_action", "x")))?? {
                drop(host?);
            }
        }
        Ok(())
    })
}
