//! The table, and which cases are wanted.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::Result;
use crate::measure::median;

/// A figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    Seconds(f64),
    Bytes(f64),
    Count(f64),
}

impl Value {
    fn number(self) -> f64 {
        match self {
            Self::Seconds(number) | Self::Bytes(number) | Self::Count(number) => number,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::Seconds(time) if time < 1e-3 => format!("{:.0} µs", time * 1e6),
            Self::Seconds(time) if time < 0.1 => format!("{:.2} ms", time * 1e3),
            Self::Seconds(time) if time < 1.0 => format!("{:.0} ms", time * 1e3),
            Self::Seconds(time) => format!("{time:.2} s"),
            Self::Bytes(bytes) if bytes < f64::from(1 << 20) => format!("{:.1} KiB", bytes / 1024.0),
            Self::Bytes(bytes) => format!("{:.1} MiB", bytes / f64::from(1 << 20)),
            Self::Count(count) => format!("{count:.1}"),
        };
        f.pad(&text)
    }
}

/// What came of the rounds of one thing, in their order.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    /// What the numbers count.
    pub(crate) of: fn(f64) -> Value,
    pub(crate) numbers: Vec<f64>,
}

impl Samples {
    /// Something that does not change from one round to the next.
    pub(crate) fn count(count: f64) -> Self {
        Self { of: Value::Count, numbers: vec![count] }
    }

    fn median(&self) -> Value {
        (self.of)(median(self.numbers.iter().copied()))
    }
}

/// What a figure is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Shown for comparison alone.
    None,
    AtMost(Value),
    /// So many times the floor.
    Times(f64),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("-"),
            Self::AtMost(value) => f.pad(&format!("≤ {value}").replace(".00 ", " ").replace(".0 ", " ")),
            Self::Times(times) => f.pad(&format!("≤ {times}×")),
        }
    }
}

/// One run: which cases it takes, and what came of them.
pub(crate) struct Bench {
    name: Option<String>,
    quick: bool,
    broker: PathBuf,
    cases: Vec<String>,
    taken: usize,
    met: usize,
    over: Vec<String>,
    left_out: Vec<String>,
}

impl Bench {
    pub(crate) fn new(name: Option<String>, quick: bool) -> Result<Self> {
        if std::env::var_os("BROKER_TEST_PROVIDER_DIR").is_some() {
            return Err(
                "BROKER_TEST_PROVIDER_DIR is set, so that the hosts of TestProvider would be files: unset it".into()
            );
        }
        let own = std::env::current_exe()?;
        let broker = own.with_file_name("broker");
        if !broker.is_file() {
            let missing = broker.display();
            return Err(format!("there is no `{missing}`: run `cargo build --release --bin broker` first").into());
        }
        println!(
            "{:<34} {:>10} {:>10} {:>7}  {:<11} ",
            "median of rounds that take turns", "ours", "floor", "ratio", "target"
        );
        let (cases, over, left_out) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { name, quick, broker, cases, taken: 0, met: 0, over, left_out })
    }

    /// Whether a case is to be measured.
    pub(crate) fn wants(&mut self, case: &str) -> bool {
        let wanted = self.name.as_ref().is_none_or(|name| case.contains(name.as_str()));
        if wanted {
            self.taken += 1;
            eprintln!("... {case}");
        }
        self.cases.push(case.to_owned());
        wanted
    }

    /// How many rounds to take.
    pub(crate) fn rounds(&self, rounds: usize) -> usize {
        if self.quick { rounds.min(3) } else { rounds }
    }

    /// How much of something to take: all of it, or what is quick.
    pub(crate) fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The `broker` binary with a directory of its own and nothing of the caller's settings.
    pub(crate) fn broker(&self, directory: &Path) -> Command {
        let mut command = Command::new(&self.broker);
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("BROKER_") || ["DOCKER_HOST", "CONTAINER_HOST"].contains(&&*name_text) {
                command.env_remove(&name);
            }
        }
        command.env("HOME", directory).env("BROKER_DIRECTORY", directory).env("BROKER_NON_INTERACTIVE", "1");
        command
    }

    /// Prints a figure. The ratio is the median of those of the rounds, which what the machine does from one round to
    /// the next does not touch.
    pub(crate) fn row(&mut self, name: &str, ours: &Samples, floor: &Samples, target: Target) {
        let ratio = median(ours.numbers.iter().zip(&floor.numbers).map(|(ours, floor)| ours / floor));
        let (ours, floor) = (ours.median(), floor.median());
        let met = match target {
            Target::None => None,
            Target::AtMost(limit) => Some(ours.number() <= limit.number()),
            Target::Times(limit) => Some(ratio <= limit),
        };
        let verdict = match met {
            None => "",
            Some(true) => {
                self.met += 1;
                "ok"
            }
            Some(false) => {
                self.over.push(name.to_owned());
                "over"
            }
        };
        println!("{name:<34} {ours:>10} {floor:>10} {ratio:>7.2}  {target:<11} {verdict}");
    }

    /// Prints something that explains the rows above.
    pub(crate) fn note(&self, text: &str) {
        println!("    {text}");
    }

    pub(crate) fn leave_out(&mut self, what: &str, why: &str) {
        let text = format!("{what}: {why}");
        if !self.left_out.contains(&text) {
            self.left_out.push(text);
        }
    }

    /// Prints what it all came to.
    pub(crate) fn finish(self) -> Result<ExitCode> {
        if let Some(name) = self.name.filter(|_| self.taken == 0) {
            return Err(format!("no case has `{name}` in its name; there are\n  {}", self.cases.join("\n  ")).into());
        }
        println!("\n{} targets met, {} missed", self.met, self.over.len());
        for name in self.over {
            println!("  over: {name}");
        }
        for what in self.left_out {
            println!("  left out: {what}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
