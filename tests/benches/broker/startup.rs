//! What it costs to start `broker` where no provider is needed.

use std::fs;
use std::process::Command;

use crate::Result;
use crate::fixtures;
use crate::measure::{child, cpu, in_turn, peak};
use crate::report::{Bench, Target, Value};

/// A floor for starting: a Rust program that does nothing.
const EMPTY: &str = "fn main() {}";

pub(crate) fn run(bench: &mut Bench) -> Result {
    if !bench.wants("start-up") {
        return Ok(());
    }
    let directory = fixtures::directory()?;
    let (source, program) = (directory.path().join("empty.rs"), directory.path().join("empty"));
    fs::write(&source, EMPTY)?;
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    child(Command::new(compiler).args(["--edition", "2024", "-O", "-o"]).arg(&program).arg(&source))?;

    let mut start = || child(bench.broker(directory.path()).arg("--version"));
    let mut floor = || child(&mut Command::new(&program));
    let [ours, floor] = in_turn(bench.rounds(50), [&mut start, &mut floor])?;
    bench.row("start-up/cpu", &cpu(&ours), &cpu(&floor), Target::AtMost(Value::Seconds(0.010)));
    // Whatever this program has resident is a lower bound of what its children count, the floor's among them.
    bench.row("start-up/memory", &peak(&ours), &peak(&floor), Target::AtMost(Value::Bytes(f64::from(15 << 20))));
    Ok(())
}
