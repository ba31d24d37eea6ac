//! `cargo xtask test`: every check, one after the other, each with a heading; a failed one does not end the run.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::openstack::Lab;
use crate::shell::{Context, FEATURES, Result, Workspace, line, quietly, run as run_in_view, say, which};
use crate::tally::{self, Tally};
use crate::{faults, fuzz, set_up};

/// Runs the gate. The last line printed is the tally.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>, fuzz_seconds: u32) -> Result<ExitCode> {
    let mut gate = Gate::default();
    let ready = gate.check("set-up", || set_up(workspace, true));
    // Its installation and its start mostly wait, and go on beside what compiles.
    let mut lab = (ready && wants_openstack(workspace, filter)).then(|| Lab::begin(workspace));
    if filter.is_none() {
        gate.check("format", || {
            run_in_view(workspace.cargo().args(["fmt", "--all", "--check"]))?;
            run_in_view(workspace.cargo().args(["fmt", "--check", "--manifest-path", "tests/fuzz/Cargo.toml"]))
        });
        gate.check("clippy", || {
            let warnings = ["--", "-D", "warnings"];
            run_in_view(
                workspace.cargo().args(["clippy", "--workspace", "--all-targets"]).args(FEATURES).args(warnings),
            )
        });
        gate.check("docs", || {
            let mut cargo = workspace.cargo();
            run_in_view(cargo.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
        });
    }
    // Also before a few tests: they run the programs that this builds.
    let built = gate.check("build", || {
        run_in_view(workspace.cargo().args(["build", "--workspace", "--bins", "--examples"]).args(FEATURES))
    });
    if ready && built {
        // Without it its tests are left out: one failure says it all.
        let has_lab = lab.as_mut().is_some_and(|lab| {
            gate.check("OpenStack", || lab.as_mut().map_err(|error| error.clone()).and_then(Lab::wait))
        });
        gate.tests("tests", || tests(workspace, filter, has_lab));
        drop(lab);
        gate.tests("doctests", || doctests(workspace, filter));
        if filter.is_none() {
            gate.tests("the SSH suite over russh", || over_russh(workspace));
            gate.tests("fault runs", || fault_runs(workspace));
        }
    } else {
        say("the tests are not run: they need the set-up and the build");
        drop(lab);
    }
    gate.tests("fuzz", || fuzz::run(workspace, filter, fuzz_seconds));
    Ok(gate.finish(filter))
}

/// Runs the fuzz targets alone.
pub(crate) fn fuzz_only(workspace: &Workspace, name: Option<&str>, seconds: u32) -> Result<ExitCode> {
    let mut gate = Gate::default();
    gate.tests("fuzz", || fuzz::run(workspace, name, seconds));
    Ok(gate.finish(name))
}

/// What has been run so far.
#[derive(Default)]
struct Gate {
    tally: Tally,
    /// Whether any test ran at all: a filter may leave none.
    tested: bool,
    failed: Vec<String>,
}

/// How many passed, and the names of those that failed where the runner has not said them last.
type Counted = (Tally, Vec<String>);

impl Gate {
    /// A step that passes or fails as one. Returns whether it passed.
    fn check(&mut self, name: &str, work: impl FnOnce() -> Result) -> bool {
        self.step(name, || work().map(|()| (Tally::PASSED, Vec::new()))).failed == 0
    }

    /// A step made of tests.
    fn tests(&mut self, name: &str, work: impl FnOnce() -> Result<Counted>) {
        let tally = self.step(name, work);
        self.tested |= tally.passed + tally.failed > 0;
    }

    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Counted>) -> Tally {
        println!("\n=== {name}");
        let started = Instant::now();
        let (tally, names) = work().unwrap_or_else(|error| {
            println!("{error}");
            (Tally::FAILED, Vec::new())
        });
        self.tally += tally;
        let outcome = if tally.failed == 0 { "ok" } else { "FAILED" };
        println!("--- {name}: {outcome}, {:.1}s", started.elapsed().as_secs_f64());
        if tally.failed > 0 {
            self.failed.push(if names.is_empty() { name.to_owned() } else { format!("{name} ({})", names.join(", ")) });
        }
        tally
    }

    fn finish(mut self, filter: Option<&str>) -> ExitCode {
        println!();
        if let Some(text) = filter.filter(|_| !self.tested && self.failed.is_empty()) {
            println!("no test matches `{text}`");
            self.tally += Tally::FAILED;
        }
        if !self.failed.is_empty() {
            println!("failed: {}", self.failed.join(", "));
        }
        println!("{}", self.tally);
        if self.tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Whether any test that is to run needs the OpenStack lab, as its program's name says.
fn wants_openstack(workspace: &Workspace, filter: Option<&str>) -> bool {
    // `cargo test` runs all there is.
    let Some(filter) = filter.filter(|_| which("cargo-nextest").is_some()) else { return true };
    if filter.contains("openstack") {
        return true;
    }
    match listed(workspace, &expression(workspace, filter)) {
        Ok(list) => list.lines().any(|line| line.contains("openstack ")),
        Err(_) => true,
    }
}

/// The tests that an expression of nextest's leaves, each on a line behind its program.
fn listed(workspace: &Workspace, expression: &str) -> Result<String> {
    let mut cargo = workspace.cargo();
    cargo.args(["nextest", "list", "--workspace", "--message-format", "oneline"]).args(FEATURES);
    quietly(cargo.args(["-E", expression]))
}

/// In nextest's language, the tests whose names contain a text, and those whose program's name does.
fn expression(workspace: &Workspace, filter: &str) -> String {
    let by_name = format!("test(~{})", escaped(filter));
    let or_program = format!("({by_name} or binary_id(~{}))", escaped(filter));
    // It is an error there to ask for a program when there is none of the name.
    if listed(workspace, &or_program).is_ok() { or_program } else { by_name }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if "\\/),".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Everything that is not a doctest. Without the OpenStack lab nothing that needs it.
fn tests(workspace: &Workspace, filter: Option<&str>, has_lab: bool) -> Result<Counted> {
    let mut cargo = workspace.cargo();
    if which("cargo-nextest").is_some() {
        cargo.args(["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests=pass"]).args(FEATURES);
        let wanted = filter.map(|filter| expression(workspace, filter));
        let without_lab = (!has_lab).then(|| "not (package(broker-tests) and binary(~openstack))".to_owned());
        let expressions: Vec<String> = wanted.into_iter().chain(without_lab).collect();
        if !expressions.is_empty() {
            cargo.args(["-E", &expressions.join(" and ")]);
        }
        if std::io::stderr().is_terminal() {
            cargo.arg("--color=always");
        }
        return counted(&mut cargo, Prints::ToStderr, std::io::stderr());
    }
    say("cargo-nextest is not installed: `cargo test` does the same, slower");
    cargo
        .args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"])
        .args(FEATURES)
        .args(filter);
    counted(&mut cargo, Prints::ToStdout, std::io::stdout())
}

fn doctests(workspace: &Workspace, filter: Option<&str>) -> Result<Counted> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast", "--doc"]).args(FEATURES).args(filter);
    counted(&mut cargo, Prints::ToStdout, std::io::stdout())
}

/// What goes over SSH once more, through the other library.
fn over_russh(workspace: &Workspace) -> Result<Counted> {
    let mut cargo = workspace.cargo();
    cargo.env("BROKER_TESTS_SSH_BACKEND", "russh");
    let programs = ["--workspace", "--test", "conformance_ssh", "--test", "ssh"];
    if which("cargo-nextest").is_some() {
        cargo.args(["nextest", "run", "--no-fail-fast"]).args(FEATURES).args(programs);
        return counted(&mut cargo, Prints::ToStderr, std::io::stderr());
    }
    cargo.args(["test", "--no-fail-fast"]).args(FEATURES).args(programs);
    counted(&mut cargo, Prints::ToStdout, std::io::stdout())
}

/// A small dose, always from the same seed. (The runs of test runners that kill are among the tests.)
fn fault_runs(workspace: &Workspace) -> Result<Counted> {
    let dose = faults::Dose { name: None, count: 50, seed: 1 };
    counted(&mut faults::program(workspace, &dose)?, Prints::ToStdout, std::io::stdout())
}

/// Where a test runner prints its summaries.
#[derive(Clone, Copy)]
enum Prints {
    ToStdout,
    ToStderr,
}

/// Runs a test runner and adds its summaries up. What it prints there goes on to `to`.
fn counted(command: &mut Command, prints: Prints, mut to: impl Write) -> Result<Counted> {
    let shown = line(command);
    let cannot = || format!("cannot run `{shown}`");
    match prints {
        Prints::ToStdout => command.stdout(Stdio::piped()),
        Prints::ToStderr => command.stderr(Stdio::piped()),
    };
    let mut child = command.spawn().context(cannot)?;
    let mut sum = None::<Tally>;
    if let Some(stdout) = child.stdout.take() {
        pass_on(stdout, &mut to, &mut sum).context(cannot)?;
    }
    if let Some(stderr) = child.stderr.take() {
        pass_on(stderr, &mut to, &mut sum).context(cannot)?;
    }
    let status = child.wait().context(cannot)?;
    let mut sum = match sum {
        Some(sum) => sum,
        // No test was left by the filter, or there are none of this kind.
        None if status.success() => Tally::default(),
        None => return Err(format!("`{shown}` failed ({status})")),
    };
    if !status.success() && sum.failed == 0 {
        sum += Tally::FAILED;
    }
    Ok((sum, Vec::new()))
}

fn pass_on(from: impl Read, to: &mut impl Write, sum: &mut Option<Tally>) -> std::io::Result<()> {
    let mut lines = BufReader::new(from);
    let mut bytes = Vec::new();
    // By bytes: what a failed test printed need not be text.
    while lines.read_until(b'\n', &mut bytes)? > 0 {
        to.write_all(&bytes)?;
        if let Some(tally) = tally::of_line(&String::from_utf8_lossy(&bytes)) {
            *sum.get_or_insert_default() += tally;
        }
        bytes.clear();
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, prints: Prints) -> Result<Tally> {
        counted(Command::new("sh").args(["-c", script]), prints, std::io::sink()).map(|(tally, _)| tally)
    }

    #[test]
    fn a_runner_that_fails_has_failed_whatever_it_counts() {
        let ok = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'";
        assert_eq!(shell(&format!("{ok}; {ok}"), Prints::ToStdout), Ok(Tally { passed: 4, failed: 0, skipped: 0 }));
        assert_eq!(shell(&format!("{ok}; exit 1"), Prints::ToStdout), Ok(Tally { passed: 2, failed: 1, skipped: 0 }));
        let one_failed = "echo 'Summary [ 0.1s] 3 tests run: 2 passed, 1 failed, 0 skipped' >&2; exit 100";
        assert_eq!(shell(one_failed, Prints::ToStderr), Ok(Tally { passed: 2, failed: 1, skipped: 0 }));
        assert!(shell("exit 101", Prints::ToStdout).is_err(), "does not compile");
    }

    #[test]
    fn a_filter_is_a_text_whatever_it_has_in_it() {
        for (filter, escaped_filter) in [("life::ten", "life::ten"), ("a(b)", r"a(b\)"), (r"a\b/c,", r"a\\b\/c\,")] {
            assert_eq!(escaped(filter), escaped_filter);
        }
    }

    #[test]
    fn output_that_is_no_text_is_passed_on_unchanged() {
        let printed = b"\xff\xfe\ntest result: ok. 1 passed; 0 failed\nno newline".as_slice();
        let mut shown = Vec::new();
        let mut sum = None;
        pass_on(printed, &mut shown, &mut sum).unwrap();
        assert_eq!(shown, printed);
        assert_eq!(sum, Some(Tally::PASSED));
    }

    #[test]
    fn a_failed_step_is_counted_and_the_next_one_runs() {
        let mut gate = Gate::default();
        assert!(!gate.check("format", || Err("one line is too long".into())));
        assert!(gate.check("clippy", || Ok(())));
        gate.tests("fuzz", || Ok((Tally::FAILED, vec!["journal".into()])));
        assert_eq!(gate.tally, Tally { passed: 1, failed: 2, skipped: 0 });
        assert_eq!(gate.failed, ["format", "fuzz (journal)"]);
        assert!(gate.tested);
    }
}
