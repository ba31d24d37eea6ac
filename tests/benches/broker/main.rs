//! What Broker costs, each figure beside a floor that is measured in the same run.
//!
//! `cargo xtask bench [NAME]` runs the cases whose names contain NAME. Ours and the floor take turns, so that whatever
//! else the machine does falls on both; a figure is the median of its rounds. On a shared machine only the ratios mean
//! something, so a miss is printed and fails nothing. `--quick` takes fewer rounds and less data.
//!
//! Needs `broker` beside it in the target directory: `cargo build --release --bin broker`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints a table, and on standard error what it does")]

mod bookkeeping;
mod checkin;
mod containers;
mod engine;
mod exec;
mod filters;
mod fixtures;
mod floor;
mod inventory;
mod measure;
mod openstack;
mod proxy;
mod report;
mod requests;
mod ssh;
mod startup;
mod tower;

use std::process::ExitCode;

use report::Bench;

/// Whatever keeps a figure from being measured ends the run; nobody tells one error from another.
pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const HELP: &str = "usage: cargo run --release -p broker-benches -- [NAME] [--quick]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == floor::MODE => floor::run(rest).map(|()| ExitCode::SUCCESS),
        Some((first, rest)) if first == ssh::memory::MODE => ssh::memory::child(rest).map(|()| ExitCode::SUCCESS),
        _ => run(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            eprintln!("  {cause}");
            source = cause.source();
        }
        ExitCode::FAILURE
    })
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut name = None;
    let mut quick = false;
    for argument in arguments {
        match argument.as_str() {
            "--quick" => quick = true,
            text if name.is_none() && !text.starts_with('-') => name = Some(text.to_owned()),
            text => return Err(format!("unexpected argument `{text}`\n\n{HELP}").into()),
        }
    }
    let mut bench = Bench::new(name, quick)?;
    startup::run(&mut bench)?;
    inventory::run(&mut bench)?;
    bookkeeping::run(&mut bench)?;
    checkin::run(&mut bench)?;
    filters::run(&mut bench)?;
    for engine in engine::all() {
        containers::run(&mut bench, &engine)?;
        exec::run(&mut bench, &engine)?;
        requests::run(&mut bench, &engine)?;
    }
    ssh::run(&mut bench)?;
    openstack::run(&mut bench)?;
    tower::run(&mut bench)?;
    bench.finish()
}
