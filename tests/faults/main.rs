//! The fault runs: `broker` ended, hindered and crowded at every step, many times, and a count of what was lost.
//!
//! `cargo xtask faults [RUN] --count N --seed S`. The same seed makes the same choices; what the machine makes of them is
//! its own affair, which is why there are many.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a run that meets a surprise is to end there, and what it counts is printed"
)]

mod containers;
mod crowd;
mod journal;
mod kill;
mod openstack;
mod provider;
mod world;

use std::process::ExitCode;
use std::time::Instant;

/// How much is done, and from which seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dose {
    pub(crate) count: u32,
    pub(crate) seed: u64,
}

impl Dose {
    /// The choices of one run among many.
    fn choices(self, run: u32) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(run)))
    }
}

/// What came of a run: figures to print, and what was wrong.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) figures: Vec<String>,
    pub(crate) faults: Vec<String>,
}

type Run = (&'static str, fn(Dose) -> Report);

const RUNS: [Run; 6] = [
    ("kill", kill::run),
    ("containers", containers::run),
    ("journal", journal::run),
    ("crowd", crowd::run),
    ("provider", provider::run),
    (LAB, openstack::run),
];

/// The run that needs the OpenStack lab. It is left out where it is not asked for by name, unless the lab is said to be up.
const LAB: &str = "openstack";

fn main() -> ExitCode {
    let (mut wanted, mut dose) = (None, Dose { count: 50, seed: 1 });
    let mut has_lab = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--with-openstack" {
            has_lab = true;
            continue;
        }
        match (word.as_str(), words.next()) {
            ("--count", Some(value)) => dose.count = value.parse().unwrap(),
            ("--seed", Some(value)) => dose.seed = value.parse().unwrap(),
            ("--run", Some(name)) => wanted = Some(name),
            (other, _) => {
                println!("error: unexpected argument `{other}`");
                return ExitCode::from(2);
            }
        }
    }
    let names = RUNS.map(|(name, _)| name).join(", ");
    if let Some(name) = wanted.as_deref().filter(|name| !RUNS.iter().any(|(run, _)| run == name)) {
        println!("error: there is no fault run `{name}`, only {names}");
        return ExitCode::from(2);
    }
    let (mut passed, mut failed) = (0, 0);
    let is_wanted = |name: &str| wanted.as_deref().map_or(has_lab || name != LAB, |wanted| wanted == name);
    for (name, run) in RUNS.iter().filter(|(name, _)| is_wanted(name)) {
        println!("fault run {name}: count {}, seed {}", dose.count, dose.seed);
        let begun = Instant::now();
        let Report { figures, faults } = run(dose);
        for line in &figures {
            println!("  {line}");
        }
        for fault in &faults {
            println!("  WRONG: {fault}");
        }
        println!("  {} wrong, {:.1} s", faults.len(), begun.elapsed().as_secs_f64());
        if faults.is_empty() { passed += 1 } else { failed += 1 }
    }
    // The form of cargo's own test runner, so that it is counted with the others.
    println!("test result: {}. {passed} passed; {failed} failed; 0 ignored", if failed == 0 { "ok" } else { "FAILED" });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
