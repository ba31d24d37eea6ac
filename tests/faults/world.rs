//! One environment with its own inventory and hosts, and what can be asked about both.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use broker_tests::env::{Ran, TestEnv};
use serde_json::Value;

use crate::{Dose, Report};

/// How often a checkin of everything is repeated: what a provider was still making may have to be waited for.
const CHECKINS: u32 = 5;

/// An environment, and what was found to be wrong in it.
pub(crate) struct World {
    pub(crate) env: TestEnv,
    story: String,
    pub(crate) faults: Vec<String>,
}

impl World {
    pub(crate) fn new(story: String) -> Self {
        Self { env: TestEnv::new(), story, faults: Vec::new() }
    }

    /// Adds to what has happened, for the report.
    pub(crate) fn tell(&mut self, what: &str) {
        write!(self.story, "; {what}").unwrap();
    }

    pub(crate) fn wrong(&mut self, what: &str) {
        self.faults.push(format!("{what} ({})", self.story));
    }

    pub(crate) fn broker(&self, line: &str) -> Ran {
        self.env.broker(line.split_whitespace())
    }

    /// The ids of the hosts that TestProvider has.
    pub(crate) fn existing(&self) -> BTreeSet<String> {
        let Ok(entries) = std::fs::read_dir(self.env.hosts_directory()) else { return BTreeSet::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter(|name| !name.starts_with('.'))
            .filter_map(|name| Some(name.strip_suffix(".json")?.to_owned()))
            .collect()
    }

    /// The ids that the inventory shows: the next command after whatever has happened.
    pub(crate) fn shown(&mut self) -> BTreeSet<String> {
        let ran = self.broker("inventory --output json");
        if ran.code != Some(0) {
            self.wrong(&format!("the inventory cannot be read: {ran}"));
            return BTreeSet::new();
        }
        let ids = |record: &Value| record["id"].as_str().map(str::to_owned);
        ran.json().as_array().into_iter().flatten().filter_map(ids).collect()
    }

    /// Everything that exists must be shown, and so must what `kept` names.
    pub(crate) fn nothing_lost(&mut self, existing: &BTreeSet<String>, kept: &BTreeSet<String>) {
        let shown = self.shown();
        let lost: Vec<&String> = existing.difference(&shown).collect();
        if !lost.is_empty() {
            self.wrong(&format!("{} hosts exist and are not shown: {lost:?}", lost.len()));
        }
        let gone: Vec<&String> = kept.difference(&shown).collect();
        if !gone.is_empty() {
            self.wrong(&format!("{} entries are lost: {gone:?}", gone.len()));
        }
    }

    /// Checks everything in; nothing may be left, in the inventory or, as `left` counts it, at the provider.
    pub(crate) fn all_goes(&mut self, left: impl Fn(&Self) -> usize) {
        let mut last = String::new();
        for attempt in 0..CHECKINS {
            let ran = self.broker("checkin --all --yes");
            last = ran.to_string();
            if ran.code == Some(0) && self.shown().is_empty() && left(self) == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(200) * attempt);
        }
        let (left, shown) = (left(self), self.shown().len());
        self.wrong(&format!("{left} hosts and {shown} entries are left after a checkin of everything: {last}"));
    }
}

/// Does `count` runs with `workers` at once. `one` is given the number of the run, and returns what was wrong and the name
/// of what it has hit, which is counted.
pub(crate) fn many(
    dose: Dose,
    workers: u32,
    one: impl Fn(u32, fastrand::Rng) -> (Vec<String>, String) + Sync,
) -> Report {
    let (next, results) = (AtomicU32::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= dose.count {
                        return;
                    }
                    let outcome = one(run, dose.choices(run));
                    results.lock().unwrap().push(outcome);
                }
            });
        }
    });
    let mut report = Report::default();
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for (faults, hit) in results.into_inner().unwrap() {
        report.faults.extend(faults);
        *counts.entry(hit).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(hit, count)| format!("{hit} {count}")).collect();
    report.figures.push(format!("{} runs: {}", dose.count, counts.join(", ")));
    report
}
