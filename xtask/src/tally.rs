//! How many tests passed, failed and were skipped, read from what the test runners print.

use std::fmt;
use std::ops::AddAssign;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Ignored tests, and those that the filter left out.
    pub(crate) skipped: u64,
}

impl Tally {
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// What one line says, where it is the summary of `cargo nextest run`, `cargo test` or a doctest run.
pub(crate) fn of_line(line: &str) -> Option<Tally> {
    let line = without_colours(line);
    // What nextest shows of the output of a failed attempt is indented, and is no summary.
    if let Some(rest) = line.strip_prefix("test result: ") {
        return libtest(rest.trim_end());
    }
    nextest(line.trim().strip_prefix("Summary [")?)
}

/// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`
fn libtest(rest: &str) -> Option<Tally> {
    let (_, counts) = rest.split_once(". ")?;
    let mut tally = Tally::default();
    for part in counts.split("; ") {
        let Some((number, what)) = counted(part) else { continue };
        match what {
            "passed" => tally.passed += number,
            "failed" => tally.failed += number,
            "ignored" | "filtered out" => tally.skipped += number,
            _ => {}
        }
    }
    Some(tally)
}

/// `   1.2s] 5/10 tests run: 3 passed (1 slow, 1 leaky), 1 failed, 1 timed out, 2 skipped`, `5/` only if some did not run
fn nextest(rest: &str) -> Option<Tally> {
    let (_, counts) = rest.split_once("] ")?;
    let (run, counts) = counts.split_once(" run: ")?;
    let mut tally = Tally::default();
    for part in outside_brackets(counts).split(',') {
        let Some((number, what)) = counted(part.trim()) else { continue };
        match what {
            "passed" => tally.passed += number,
            "skipped" => tally.skipped += number,
            // "failed", "exec failed", "timed out", and whatever ways to end a later version tells apart.
            _ => tally.failed += number,
        }
    }
    if let Some((ran, all)) = run.split(' ').next()?.split_once('/') {
        // An interrupted test has not passed, and neither has one that never began.
        tally.failed += all.parse::<u64>().ok()?.saturating_sub(ran.parse().ok()?);
    }
    Some(tally)
}

fn counted(part: &str) -> Option<(u64, &str)> {
    let (number, what) = part.split_once(' ')?;
    Some((number.parse().ok()?, what.trim()))
}

fn outside_brackets(text: &str) -> String {
    let mut depth = 0_usize;
    text.chars()
        .filter(|c| {
            match c {
                '(' => depth += 1,
                ')' => {
                    depth = depth.saturating_sub(1);
                    return false;
                }
                _ => {}
            }
            depth == 0
        })
        .collect()
}

/// The line without terminal control sequences (`ESC [ … letter`).
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            rest.by_ref().skip(1).find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Option<Tally> {
        Some(Tally { passed, failed, skipped })
    }

    #[test]
    fn libtest_summaries() {
        let ok = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s";
        assert_eq!(of_line(ok), tally(3, 0, 3));
        let failed =
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(of_line(failed), tally(1, 2, 0));
        let coloured =
            "test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(of_line(coloured), tally(1, 0, 0));
    }

    #[test]
    fn nextest_summaries() {
        assert_eq!(of_line("     Summary [   0.033s] 3 tests run: 3 passed, 0 skipped"), tally(3, 0, 0));
        assert_eq!(of_line("     Summary [   0.033s] 1 test run: 0 passed, 1 failed, 4 skipped"), tally(0, 1, 4));
        assert_eq!(
            of_line(
                "Summary [  10.3s] 6 tests run: 3 passed (1 slow, 1 leaky), 1 failed, 1 exec failed, 1 timed out, 2 skipped"
            ),
            tally(3, 3, 2)
        );
        assert_eq!(of_line("Summary [ 1m 10.3s] 5/10 tests run: 4 passed, 1 failed, 2 skipped"), tally(4, 6, 2));
        let coloured = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.005s] \u{1b}[1m2\u{1b}[0m tests run: \u{1b}[1m2\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m1\u{1b}[0m \u{1b}[33;1mskipped\u{1b}[0m";
        assert_eq!(of_line(coloured), tally(2, 0, 1));
    }

    #[test]
    fn other_lines_say_nothing() {
        for line in ["", "test a::b ... ok", "running 3 tests", "Summary of it all", "test result: ", "Summary [] x"] {
            assert_eq!(of_line(line), None, "{line}");
        }
    }

    #[test]
    fn the_last_line_of_the_gate() {
        let mut sum = Tally::PASSED;
        sum += Tally::FAILED;
        sum += Tally { passed: 10, failed: 0, skipped: 2 };
        assert_eq!(sum.to_string(), "11 passed, 1 failed, 2 skipped");
    }
}
