//! The fault runs: `tests/faults`, and the tests that a test runner kills.

use std::process::Command;

use crate::openstack::Lab;
use crate::shell::{FEATURES, Result, Workspace, run, say};

/// What is run, how often, and from which seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dose {
    /// All of them, if none is named.
    pub(crate) name: Option<String>,
    pub(crate) count: u32,
    pub(crate) seed: u64,
}

/// The run that is made of tests, by their runner.
const RUNNERS: &str = "nextest";

/// The run that needs the OpenStack lab.
const LAB: &str = "openstack";

/// Does the runs in view of the user.
pub(crate) fn in_view(workspace: &Workspace, dose: &Dose) -> Result {
    let runners = dose.name.as_deref().is_none_or(|name| name == RUNNERS);
    let others = dose.name.as_deref() != Some(RUNNERS);
    let needs_lab = dose.name.as_deref().is_none_or(|name| name == LAB);
    let mut lab = if needs_lab { Some(Lab::begin(workspace)?) } else { None };
    let programs = if others { programs(workspace, dose, lab.as_mut()) } else { Ok(()) };
    drop(lab);
    let tests = if runners { run(&mut tests(workspace, dose.count)) } else { Ok(()) };
    programs.and(tests)
}

fn programs(workspace: &Workspace, dose: &Dose, lab: Option<&mut Lab>) -> Result {
    let mut program = program(workspace, dose)?;
    if let Some(lab) = lab {
        lab.wait()?;
        program.arg("--with-openstack");
    }
    run(&mut program)
}

/// The command that does the runs of the fault program, which is built before.
pub(crate) fn program(workspace: &Workspace, dose: &Dose) -> Result<Command> {
    say("building `broker` and the fault runs");
    run(workspace.cargo().args(["build", "--workspace", "--bins"]).args(FEATURES))?;
    let built = workspace.target.join("debug");
    let mut program = Command::new(built.join("faults"));
    program.args(["--count", &dose.count.to_string(), "--seed", &dose.seed.to_string()]);
    if let Some(name) = &dose.name {
        program.args(["--run", name]);
    }
    program.env("BROKER_BIN", built.join("broker"));
    Ok(program)
}

fn tests(workspace: &Workspace, count: u32) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--workspace", "--test", "guards"]).args(FEATURES);
    cargo.args(["--", "--nocapture", "--test-threads=1"]).arg("runners::nextest_ends_tests_that_hold_containers");
    cargo.env("BROKER_TESTS_COUNT", count.to_string());
    cargo
}
