//! What it costs to check 1,000 hosts in whose provider does nothing, against writing as much to a file.

use std::fs;

use broker::block_on;
use broker::prelude::*;

use crate::measure::{child, cpu, in_turn, wall};
use crate::report::{Bench, Target, Value};
use crate::{Result, fixtures, floor};

const HOSTS: u32 = 1000;

/// How many hosts of one call are worked on at once where the settings say nothing: so many share a write.
const AT_ONCE: u32 = 256;

pub(crate) fn run(bench: &mut Bench) -> Result {
    if !bench.wants("checkin/1000") {
        return Ok(());
    }
    let original = fixtures::directory()?;
    let broker = fixtures::broker(original.path(), |settings| settings)?;
    let request = HostRequest::action("test_action", "x").count(HOSTS);
    for host in block_on(broker.checkout_kept(request))?? {
        drop(host?);
    }
    let journal = original.path().join("inventory.jsonl");
    // Half of the lines are of hosts that were wanted, half of hosts that were there: so will be those of the way out.
    let bytes = fs::metadata(&journal)?.len();
    let writes = u64::from(HOSTS.div_ceil(AT_ONCE) * 2);

    let scratch = fixtures::directory()?;
    let mut check_in = || {
        let directory = fixtures::directory()?;
        fs::copy(&journal, directory.path().join("inventory.jsonl"))?;
        let usage = child(bench.broker(directory.path()).args(["checkin", "--all", "--yes"]))?;
        let left = broker::inventory::read(directory.path())?.records.len();
        if left > 0 {
            return Err(format!("`broker checkin --all` left {left} hosts in the inventory").into());
        }
        Ok(usage)
    };
    let mut append = || child(&mut floor::append(&scratch.path().join("floor"), bytes, writes)?);
    let [ours, floor] = in_turn(bench.rounds(10), [&mut check_in, &mut append])?;
    bench.row("checkin/1000/cpu", &cpu(&ours), &cpu(&floor), Target::AtMost(Value::Seconds(1.0)));
    bench.row("checkin/1000/wall", &wall(&ours), &wall(&floor), Target::None);
    Ok(())
}
