//! `broker exec`, and what it shares with `broker shell`: a command on a host with our input and output.

use std::io::{self, Read as _};

use broker::inventory::HostRecord;
use broker::session::{Command, ExitStatus, Input, Output, PtyRequest};
use broker::{Host, Running};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{nothing_chosen, selected};
use crate::app::{App, GRACE, Outcome};
use crate::args::{Exec, Format};
use crate::error::{Code, CommandError, Failure};
use crate::output;
use crate::terminal::{self, RawMode};

/// How much of our input is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// A line of one of many hosts that is longer than this, in bytes, is broken.
const LONGEST_LINE: usize = 1024 * 1024;

pub(super) fn run(app: &App<'_>, options: Exec) -> Outcome {
    let records = selected(app, &options.selection)?;
    if records.is_empty() {
        return nothing_chosen(app, "run a command on");
    }
    app.warn_of_leases(&records);
    if (options.interactive || options.tty) && records.len() > 1 {
        let error = CommandError::usage(format!("`-i` and `-t` are for one host, and {} are chosen", records.len()));
        return Err(error.into());
    }
    let mut command = command(options.command);
    command.deadline = options.timeout;
    let format = app.global.output;
    if format != Format::Table && !options.tty {
        return on_many(app, records, &command, options.interactive, Style::Collected(format));
    }
    match <[HostRecord; 1]>::try_from(records) {
        Ok([record]) => {
            let terminal = options.tty.then(pty);
            let mut kept = (app.report.is_wanted() && !options.tty).then(Kept::default);
            let command = Command { pty: terminal, ..command };
            let outcome = attached(app, record.clone(), command, options.interactive, &mut kept);
            if let Some(kept) = &kept {
                app.report.put("output", vec![described(&record, &outcome, Some(kept))]);
            }
            outcome
        }
        Err(records) => on_many(app, records, &command, false, Style::Prefixed),
    }
}

/// One word is a line for the shell, several are a program and its arguments.
fn command(words: Vec<String>) -> Command {
    match <[String; 1]>::try_from(words) {
        Ok([line]) => Command::shell(line),
        Err(words) => Command::words(words),
    }
}

/// A terminal like ours.
pub(super) fn pty() -> PtyRequest {
    let term = std::env::var("TERM").ok().filter(|term| !term.is_empty());
    let term = term.unwrap_or_else(|| PtyRequest::default().term);
    PtyRequest { term, size: terminal::size().unwrap_or_default(), modes: terminal::modes() }
}

/// Runs a command on one host, with our own outputs, and our input where that is wanted.
pub(super) fn attached(
    app: &App<'_>,
    record: HostRecord,
    command: Command,
    interactive: bool,
    kept: &mut Option<Kept>,
) -> Outcome {
    let host = app.broker.host(record);
    let asked = command.pty.as_ref().map(|pty| pty.size);
    let terminal = asked.is_some();
    let run = async {
        // Listened for from before the start, which takes its time.
        let resized = signal(SignalKind::window_change());
        let mut resized = resized.map_err(|error| CommandError::new(Code::Failed, error))?;
        let mut running = host.start(command).await?;
        // Until it is connected, Ctrl-C is ours. What cuts this off drops it, and the terminal is as before.
        let raw = if terminal && interactive { RawMode::begin() } else { Ok(None) };
        let _raw =
            raw.map_err(|error| CommandError::new(Code::Failed, format!("cannot set up the terminal: {error}")))?;
        give_input(&mut running, interactive, terminal);
        let mut is_silent = true;
        loop {
            tokio::select! {
                piece = running.next() => {
                    let Some(piece) = piece else { break };
                    if let Some(kept) = kept {
                        kept.take(&piece);
                    }
                    pass_on(piece).await?;
                    // Before a command runs, the size of its terminal may not be for changing.
                    let size = terminal::size().filter(|_| terminal && is_silent);
                    if let Some(size) = size.filter(|size| asked != Some(*size)) {
                        running.resize(size).await;
                    }
                    is_silent = false;
                }
                Some(()) = resized.recv(), if terminal => {
                    if let Some(size) = terminal::size() {
                        running.resize(size).await;
                    }
                }
            }
        }
        Ok(running.wait().await?)
    };
    let status = app.drop_on_signal(std::slice::from_ref(&host), run)?;
    Ok(exit_code(&status))
}

/// Passes our input on, or ends the command's.
fn give_input(running: &mut Running, interactive: bool, terminal: bool) {
    if let Some(input) = running.input().filter(|_| interactive) {
        // A thread of its own, because a read from a terminal cannot be cut off. It ends with the process.
        drop(std::thread::Builder::new().name("stdin".to_owned()).spawn(move || pump(&input)));
    }
    // What is left is for the size of the terminal.
    if !terminal {
        running.close_stdin();
    }
}

fn pump(input: &mpsc::Sender<Input>) {
    let mut piece = vec![0; PIECE];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut piece) {
            Ok(0) => return,
            Ok(length) if input.blocking_send(Input::Data(piece[..length].to_vec().into())).is_err() => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// How the output of many hosts is shown.
#[derive(Clone, Copy)]
enum Style {
    /// As it comes, each line with its host in front.
    Prefixed,
    /// At the end, as data.
    Collected(Format),
}

/// What came of one host.
struct Ran {
    record: HostRecord,
    outcome: Outcome,
    kept: Option<Kept>,
}

fn on_many(app: &App<'_>, records: Vec<HostRecord>, command: &Command, interactive: bool, style: Style) -> Outcome {
    let width = records.iter().map(|record| super::label(record).len()).max().unwrap_or_default();
    let hosts: Vec<Host> = records.into_iter().map(|record| app.broker.host(record)).collect();
    let is_kept = matches!(style, Style::Collected(_)) || app.report.is_wanted();
    let all = async {
        let ran = app.broker.on_each(hosts.iter().cloned(), |host| {
            let record = host.record();
            let shown = matches!(style, Style::Prefixed)
                .then(|| Lines { prefix: format!("{:width$} | ", super::label(&record)), ..Lines::default() });
            let mut sink = Sink { shown, kept: is_kept.then(Kept::default) };
            async move {
                let outcome = follow(&host, command.clone(), interactive, &mut sink).await;
                if outcome.is_err() {
                    // What still runs there ends with the session.
                    drop(tokio::time::timeout(GRACE, host.close()).await);
                }
                Ran { record, outcome, kept: sink.kept }
            }
        });
        Ok(ran.await.into_iter().map(|(_, ran)| ran).collect())
    };
    let mut ran: Vec<Ran> = app.drop_on_signal(&hosts, all)?;
    ran.sort_by_key(|ran| ran.record.number);
    if is_kept {
        let described = ran.iter().map(|ran| described(&ran.record, &ran.outcome, ran.kept.as_ref()));
        let results: Vec<Value> = described.collect();
        if let Style::Collected(format) = style {
            app.console.print_value(format, &Value::Array(results.clone()))?;
        }
        app.report.put("output", results);
    }
    let mut highest = 0;
    let mut failures = Vec::new();
    for one in ran {
        match one.outcome {
            Ok(status) => highest = highest.max(status),
            Err(failure) => failures.extend(failure.0),
        }
    }
    if failures.is_empty() { Ok(highest) } else { Err(Failure(failures)) }
}

/// Runs the command to its end, and returns its status as ours.
async fn follow(host: &Host, command: Command, interactive: bool, sink: &mut Sink) -> Outcome {
    let mut running = host.start(command).await?;
    give_input(&mut running, interactive, false);
    while let Some(piece) = running.next().await {
        sink.take(piece).await?;
    }
    sink.end().await?;
    Ok(exit_code(&running.wait().await?))
}

/// What came of a command on one host, as data.
fn described(record: &HostRecord, outcome: &Outcome, kept: Option<&Kept>) -> Value {
    let mut value = json!({"number": record.number, "host": record.label()});
    if let Some(kept) = kept {
        value["stdout"] = String::from_utf8_lossy(&kept.stdout).into();
        value["stderr"] = String::from_utf8_lossy(&kept.stderr).into();
    }
    match outcome {
        Ok(status) => value["status"] = (*status).into(),
        Err(failure) => {
            let errors: Vec<String> = failure.0.iter().map(CommandError::line).collect();
            value["error"] = errors.join("; ").into();
        }
    }
    value
}

/// Passes on what a command prints, aside: a reader of ours who does not read keeps no signal from being heard.
async fn pass_on(piece: Output) -> Result<(), CommandError> {
    let written = tokio::task::spawn_blocking(move || output::pass_on(&piece)).await;
    written.unwrap_or_else(|error| Err(CommandError::new(Code::Failed, error)))
}

/// Where the output of one of many hosts goes.
struct Sink {
    shown: Option<Lines>,
    kept: Option<Kept>,
}

impl Sink {
    async fn take(&mut self, piece: Output) -> Result<(), CommandError> {
        if let Some(kept) = &mut self.kept {
            kept.take(&piece);
        }
        match &mut self.shown {
            Some(lines) => pass_on(lines.whole(&piece)).await,
            None => Ok(()),
        }
    }

    /// A last line without an end gets one, so that the next host's begins on its own.
    async fn end(&mut self) -> Result<(), CommandError> {
        let Some(lines) = &mut self.shown else { return Ok(()) };
        let newline = || b"\n".to_vec().into();
        if !lines.stdout.is_empty() {
            pass_on(lines.whole(&Output::Stdout(newline()))).await?;
        }
        if !lines.stderr.is_empty() {
            pass_on(lines.whole(&Output::Stderr(newline()))).await?;
        }
        Ok(())
    }
}

/// All that a command has printed.
#[derive(Default)]
pub(super) struct Kept {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Kept {
    fn take(&mut self, piece: &Output) {
        match piece {
            Output::Stdout(bytes) => self.stdout.extend_from_slice(bytes),
            Output::Stderr(bytes) => self.stderr.extend_from_slice(bytes),
        }
    }
}

/// Lines with their host in front. What is not whole yet waits.
#[derive(Default)]
struct Lines {
    prefix: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    /// The lines that are whole now.
    fn whole(&mut self, piece: &Output) -> Output {
        match piece {
            Output::Stdout(bytes) => Output::Stdout(whole_lines(&self.prefix, &mut self.stdout, bytes).into()),
            Output::Stderr(bytes) => Output::Stderr(whole_lines(&self.prefix, &mut self.stderr, bytes).into()),
        }
    }
}

/// The lines that are whole with these bytes, each with the prefix. What is not whole yet stays in `rest`.
fn whole_lines(prefix: &str, rest: &mut Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes.len() + prefix.len());
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        rest.extend_from_slice(piece);
        let is_whole = rest.ends_with(b"\n");
        if is_whole || rest.len() > LONGEST_LINE {
            lines.extend_from_slice(prefix.as_bytes());
            lines.append(rest);
            if !is_whole {
                lines.push(b'\n');
            }
        }
    }
    lines
}

/// A status as ours can be. What does not fit is not success either.
fn exit_code(status: &ExitStatus) -> u8 {
    u8::try_from(status.code()).unwrap_or(Code::Own.number())
}

#[cfg(test)]
mod tests {
    use broker::session::Program;

    use super::*;

    #[test]
    fn one_word_is_a_line() {
        assert_eq!(command(vec!["a | b".to_owned()]).program, Program::Shell("a | b".to_owned()));
        let words = vec!["a".to_owned(), "$b".to_owned()];
        assert_eq!(command(words.clone()).program, Program::Words(words));
    }

    #[test]
    fn lines_are_whole() {
        let mut rest = Vec::new();
        let mut shown = Vec::new();
        for piece in ["one\ntw", "o", "\n\nthr", "ee"] {
            shown.extend(whole_lines("h | ", &mut rest, piece.as_bytes()));
        }
        assert_eq!(String::from_utf8(shown).unwrap(), "h | one\nh | two\nh | \n");
        assert_eq!(rest, b"three");
        assert_eq!(whole_lines("h | ", &mut rest, b"\n"), b"h | three\n");
        let long = vec![b'x'; LONGEST_LINE + 1];
        assert_eq!(whole_lines("", &mut rest, &long).len(), LONGEST_LINE + 2);
        assert!(rest.is_empty());
    }

    #[test]
    fn statuses() {
        for (status, code) in [
            (ExitStatus::Code(0), 0),
            (ExitStatus::Code(3), 3),
            (ExitStatus::Code(-1), 255),
            (ExitStatus::Code(256), 255),
            (ExitStatus::Signal("KILL".to_owned()), 137),
        ] {
            assert_eq!(exit_code(&status), code);
        }
    }
}
