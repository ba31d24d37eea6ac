//! All that is printed: data on standard output, everything else on standard error. Nothing else prints.

use std::borrow::{Borrow, Cow};
use std::fmt::Write as _;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write as _};

use broker::inventory::{HostRecord, Secrets};
use broker::provider::Table;
use broker::session::Output;
use broker::settings::LogLevel;
use broker::yaml::to_yaml;
use indexmap::IndexSet;
use indicatif::MultiProgress;
use jiff::Timestamp;
use serde::Serializer as _;
use serde_json::{Map, Value};

use crate::args::Format;
use crate::error::{Code, CommandError, Failure};

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[1;36m";

/// Where people look.
pub(crate) struct Console {
    level: LogLevel,
    colors: bool,
    /// Progress at the bottom of the screen, which has to step aside for lines.
    bars: MultiProgress,
}

impl Console {
    pub(crate) fn new(level: LogLevel, less_colors: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colors = !less_colors && !no_color && io::stderr().is_terminal();
        Self { level, colors, bars: MultiProgress::new() }
    }

    pub(crate) fn level(&self) -> LogLevel {
        self.level
    }

    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Says something that is no data.
    pub(crate) fn note(&self, text: &str) {
        if self.level >= LogLevel::Info {
            self.say(text);
        }
    }

    pub(crate) fn warning(&self, text: &str) {
        if self.level >= LogLevel::Warning {
            self.say(&format!("{} {text}", self.paint(YELLOW, "warning:")));
        }
    }

    pub(crate) fn detail(&self, level: LogLevel, text: &str) {
        if self.level >= level {
            self.say(&format!("{level}: {text}"));
        }
    }

    /// Every error with its causes, and then the hints for this command, each once.
    pub(crate) fn failure(&self, failure: &Failure, command: &str) {
        if self.level < LogLevel::Error {
            return;
        }
        let mut lines = Vec::new();
        let mut hints: IndexSet<String> = IndexSet::new();
        for error in failure.0.iter().filter(|error| error.code != Code::BrokenPipe) {
            lines.push(format!("{} {}", self.paint(RED, "error:"), described(error)));
            hints.extend(error.hints.iter().map(|hint| hint.text(command)));
        }
        for (at, hint) in hints.iter().enumerate() {
            lines.extend((at == 0).then(String::new));
            lines.push(format!("{} {hint}", self.paint(CYAN, "hint:")));
        }
        if !lines.is_empty() {
            self.say(&lines.join("\n"));
        }
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.colors { format!("{color}{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Text as it is, on standard error.
    pub(crate) fn say(&self, text: &str) {
        // There is nowhere to say that standard error cannot be written.
        self.bars.suspend(|| drop(writeln!(io::stderr().lock(), "{text}")));
    }

    /// Data, as it is, on standard output.
    pub(crate) fn print(&self, data: &[u8]) -> Result<(), CommandError> {
        self.bars.suspend(|| write_all(io::stdout().lock(), data))
    }

    /// Bytes for standard error, as they are: what a job has said.
    pub(crate) fn print_error(&self, data: &[u8]) -> Result<(), CommandError> {
        self.bars.suspend(|| write_all(io::stderr().lock(), data))
    }

    /// Whole records as JSON, an array, without all of its text in memory.
    pub(crate) fn print_records<R: Borrow<HostRecord>>(
        &self,
        records: &[R],
        secrets: Secrets,
    ) -> Result<(), CommandError> {
        self.bars.suspend(|| {
            let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
            let shown = records.iter().map(|record| record.borrow().shown(secrets));
            let written = serde_json::Serializer::pretty(&mut out).collect_seq(shown);
            written
                .map_err(io::Error::from)
                .and_then(|()| out.write_all(b"\n"))
                .and_then(|()| out.flush())
                .map_err(unwritten)
        })
    }

    pub(crate) fn print_value(&self, format: Format, value: &Value) -> Result<(), CommandError> {
        let text = match format {
            Format::Yaml => to_yaml(value),
            Format::Json | Format::Table => format!("{value:#}\n"),
        };
        self.print(text.as_bytes())
    }
}

/// What a command on a host prints, as it is, on our own outputs. Whoever reads them may take for ever, so this is for a
/// thread that can be left to itself; it holds nothing that anybody else needs.
pub(crate) fn pass_on(piece: &Output) -> Result<(), CommandError> {
    match piece {
        Output::Stdout(bytes) => write_all(io::stdout().lock(), bytes),
        Output::Stderr(bytes) => write_all(io::stderr().lock(), bytes),
    }
}

fn write_all(mut to: impl io::Write, data: &[u8]) -> Result<(), CommandError> {
    to.write_all(data).and_then(|()| to.flush()).map_err(unwritten)
}

fn unwritten(error: io::Error) -> CommandError {
    match error.kind() {
        ErrorKind::BrokenPipe => CommandError::new(Code::BrokenPipe, error),
        _ => CommandError::new(Code::Failed, format!("cannot write to standard output: {error}")),
    }
}

/// An error with the place of the mistake and its causes, a line each.
fn described(error: &CommandError) -> String {
    let mut text = indented(&error.error.to_string());
    for line in error.shown.iter().flat_map(|shown| shown.lines()) {
        text += &format!("\n  {line}");
    }
    let mut cause = error.error.source();
    while let Some(error) = cause {
        text += &format!("\n  caused by: {}", indented(&error.to_string()));
        cause = error.source();
    }
    text
}

/// Further lines of a message stand below the first.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

/// A table for people, and for `awk`: titles in capitals, two spaces between columns, a dash where there is nothing.
pub(crate) fn table<C: AsRef<str> + From<String>>(titles: &[&str], rows: &[impl AsRef<[C]>]) -> String {
    let titles: Vec<C> = titles.iter().map(|title| title.to_uppercase().into()).collect();
    columns(std::iter::once(titles.as_slice()).chain(rows.iter().map(AsRef::as_ref)))
}

/// Rows with their columns aligned.
pub(crate) fn columns<'a, C: AsRef<str> + 'a>(rows: impl Iterator<Item = &'a [C]> + Clone) -> String {
    let shown = |cell: &'a C| match cell.as_ref() {
        "" => "-",
        cell => cell,
    };
    let mut widths: Vec<usize> = Vec::new();
    for row in rows.clone() {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(width_of(shown(cell)));
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut gap = 0;
        for (cell, width) in row.iter().map(shown).zip(&widths) {
            text.extend(std::iter::repeat_n(' ', gap));
            match cell.contains(char::is_control) {
                true => text.extend(cell.chars().map(printable)),
                false => text.push_str(cell),
            }
            gap = width - width_of(cell) + 2;
        }
        text.push('\n');
    }
    text
}

/// How many places a text takes on a terminal, near enough: host names and the like have no wide signs.
fn width_of(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

/// Nothing from a provider may move the cursor.
fn printable(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

fn cell(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// Hosts as `broker inventory` shows them, where the settings say nothing else.
pub(crate) fn host_table<R: Borrow<HostRecord>>(records: &[R]) -> String {
    fn row(record: &HostRecord, now: Timestamp) -> [Cow<'_, str>; 6] {
        let called = record.hostname.as_deref().or(record.name.as_deref());
        [
            record.number.to_string().into(),
            called.unwrap_or_default().into(),
            record.provider.as_str().into(),
            record.instance.as_deref().unwrap_or_default().into(),
            record.state.as_str().into(),
            lease(record.lease_until, now).into(),
        ]
    }

    let now = Timestamp::now();
    let rows: Vec<_> = records.iter().map(|record| row(record.borrow(), now)).collect();
    table(&["number", "hostname", "provider", "instance", "state", "lease"], &rows)
}

/// What `broker checkout` prints: number, hostname and name, with tabs between.
pub(crate) fn host_lines(records: &[HostRecord]) -> String {
    let mut text = String::new();
    for record in records {
        let word = |word: &Option<String>| word.as_deref().map(cell).unwrap_or_default();
        let _ = writeln!(text, "{}\t{}\t{}", record.number, word(&record.hostname), word(&record.name));
    }
    text
}

/// Whole records, as an array.
pub(crate) fn records<R: Borrow<HostRecord>>(records: &[R], secrets: Secrets) -> Value {
    records.iter().map(|record| Value::Object(record.borrow().to_json(secrets))).collect()
}

/// A provider's answer, as a table, or as an array of objects.
pub(crate) fn answer(table: &Table) -> Value {
    let object = |row: &Vec<String>| -> Value {
        let entries = table.columns.iter().cloned().zip(row.iter().cloned().map(Value::String));
        Value::Object(entries.collect::<Map<_, _>>())
    };
    table.rows.iter().map(object).collect()
}

/// `in 2h`, `in 1h59m`, `expired 5m ago`; nothing where there is no lease.
pub(crate) fn lease(until: Option<Timestamp>, now: Timestamp) -> String {
    let Some(until) = until else { return String::new() };
    let seconds = until.as_second() - now.as_second();
    let span = span(seconds.unsigned_abs());
    if seconds > 0 { format!("in {span}") } else { format!("expired {span} ago") }
}

/// The two largest units of a span of time.
pub(crate) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let Some(at) = units.iter().position(|(length, _)| seconds >= *length) else { return "0s".to_owned() };
    let mut rest = seconds;
    let mut text = String::new();
    for (length, unit) in units.iter().skip(at).take(2) {
        if rest >= *length {
            let _ = write!(text, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = |seconds: i64| Some(Timestamp::from_second(1_000_000 + seconds).unwrap());
        for (until, expected) in [
            (None, ""),
            (at(7200), "in 2h"),
            (at(7199), "in 1h59m"),
            (at(45), "in 45s"),
            (at(90), "in 1m30s"),
            (at(86_400 * 3 + 7200), "in 3d2h"),
            (at(0), "expired 0s ago"),
            (at(-300), "expired 5m ago"),
        ] {
            assert_eq!(lease(until, now), expected);
        }
    }

    #[test]
    fn tables() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["0", "", "x"]), row(["10", "wéb", ""]), row(["2", "a\x1b[2J\n", "y"])];
        let expected = "\
NUMBER  HOST    S
0       -       x
10      wéb     -
2       a\u{fffd}[2J\u{fffd}  y
";
        assert_eq!(table(&["number", "host", "s"], &rows), expected);
        assert_eq!(table::<String>(&["a"], &[[]; 0]), "A\n");
    }

    #[test]
    fn errors_have_causes_and_places() {
        let source = io::Error::other("the disk\nis on fire");
        let error = broker::Error::Provider {
            doing: "could not release host 3".to_owned(),
            source: broker::provider::ProviderError::new(broker::provider::ErrorKind::Failed, "no answer")
                .source(source),
        };
        assert_eq!(
            described(&error.into()),
            "could not release host 3\n  caused by: no answer\n  caused by: the disk\n    is on fire"
        );
        let filter = broker::filter::Filter::parse("name == ").unwrap_err();
        let shown = described(&broker::Error::from(filter).into());
        assert_eq!(shown, "nothing after `==`\n  name == \n       ^^");
    }
}
