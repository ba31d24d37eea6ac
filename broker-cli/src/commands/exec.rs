//! `broker exec`, and what it shares with `broker shell`: a command on a host with our input and output.

use std::io::{self, Read as _};
use std::sync::Arc;

use broker::inventory::HostRecord;
use broker::session::{Command, ExitStatus, Input, Output, PtyRequest};
use broker::{Host, Running};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::nothing_chosen;
use crate::app::{App, GRACE, Outcome};
use crate::args::{Exec, Format};
use crate::error::{Code, CommandError, Failure};
use crate::output::Console;
use crate::terminal::{self, RawMode};

/// How much of our input is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// A line of one of many hosts that is longer than this, in bytes, is broken.
const LONGEST_LINE: usize = 1024 * 1024;

pub(super) fn run(app: &App<'_>, options: Exec) -> Outcome {
    let records = app.choose(&options.selection.choice()?)?;
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
            attached(app, record, Command { pty: terminal, ..command }, options.interactive)
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
pub(super) fn attached(app: &App<'_>, record: HostRecord, command: Command, interactive: bool) -> Outcome {
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
                    match piece {
                        Some(Output::Stdout(bytes)) => app.console.print(&bytes)?,
                        Some(Output::Stderr(bytes)) => app.console.print_error(&bytes)?,
                        None => break,
                    }
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
    outcome: Result<ExitStatus, Failure>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn on_many(app: &App<'_>, records: Vec<HostRecord>, command: &Command, interactive: bool, style: Style) -> Outcome {
    let width = records.iter().map(|record| super::label(record).len()).max().unwrap_or_default();
    let hosts: Vec<Host> = records.into_iter().map(|record| app.broker.host(record)).collect();
    let all = async {
        let ran = app.broker.on_each(hosts.iter().cloned(), |host| {
            let record = host.record();
            let prefix = format!("{:width$} | ", super::label(&record));
            let mut sink = match style {
                Style::Prefixed => {
                    Sink::Lines { console: Arc::clone(&app.console), prefix, stdout: Vec::new(), stderr: Vec::new() }
                }
                Style::Collected(_) => Sink::Memory { stdout: Vec::new(), stderr: Vec::new() },
            };
            async move {
                let outcome = follow(&host, command.clone(), interactive, &mut sink).await;
                if outcome.is_err() {
                    // What still runs there ends with the session.
                    drop(tokio::time::timeout(GRACE, host.close()).await);
                }
                let (stdout, stderr) = sink.into_collected();
                Ran { record, outcome, stdout, stderr }
            }
        });
        Ok(ran.await.into_iter().map(|(_, ran)| ran).collect())
    };
    let mut ran: Vec<Ran> = app.drop_on_signal(&hosts, all)?;
    ran.sort_by_key(|ran| ran.record.number);
    let results: Vec<Value> = ran.iter().map(described).collect();
    if let Style::Collected(format) = style {
        app.console.print_value(format, &Value::Array(results.clone()))?;
    }
    app.report.put("output", results);
    let mut highest = 0;
    let mut failures = Vec::new();
    for one in ran {
        match one.outcome {
            Ok(status) => highest = highest.max(exit_code(&status)),
            Err(failure) => failures.extend(failure.0),
        }
    }
    if failures.is_empty() { Ok(highest) } else { Err(Failure(failures)) }
}

async fn follow(host: &Host, command: Command, interactive: bool, sink: &mut Sink) -> Result<ExitStatus, Failure> {
    let mut running = host.start(command).await?;
    give_input(&mut running, interactive, false);
    while let Some(piece) = running.next().await {
        sink.take(piece)?;
    }
    sink.end()?;
    Ok(running.wait().await?)
}

fn described(ran: &Ran) -> Value {
    let mut value = json!({
        "number": ran.record.number,
        "host": ran.record.label(),
        "stdout": String::from_utf8_lossy(&ran.stdout),
        "stderr": String::from_utf8_lossy(&ran.stderr),
    });
    match &ran.outcome {
        Ok(status) => value["status"] = exit_code(status).into(),
        Err(failure) => {
            let errors: Vec<String> = failure.0.iter().map(CommandError::line).collect();
            value["error"] = errors.join("; ").into();
        }
    }
    value
}

/// Where the output of one of many hosts goes.
enum Sink {
    Lines { console: Arc<Console>, prefix: String, stdout: Vec<u8>, stderr: Vec<u8> },
    Memory { stdout: Vec<u8>, stderr: Vec<u8> },
}

impl Sink {
    fn take(&mut self, piece: Output) -> Result<(), CommandError> {
        match self {
            Self::Memory { stdout, stderr } => match piece {
                Output::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Output::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            },
            Self::Lines { console, prefix, stdout, stderr } => match piece {
                Output::Stdout(bytes) => console.print(&whole_lines(prefix, stdout, &bytes))?,
                Output::Stderr(bytes) => console.print_error(&whole_lines(prefix, stderr, &bytes))?,
            },
        }
        Ok(())
    }

    /// A last line without an end gets one, so that the next host's begins on its own.
    fn end(&mut self) -> Result<(), CommandError> {
        if let Self::Lines { console, prefix, stdout, stderr } = self {
            if !stdout.is_empty() {
                console.print(&whole_lines(prefix, stdout, b"\n"))?;
            }
            if !stderr.is_empty() {
                console.print_error(&whole_lines(prefix, stderr, b"\n"))?;
            }
        }
        Ok(())
    }

    fn into_collected(self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Memory { stdout, stderr } => (stdout, stderr),
            Self::Lines { .. } => (Vec::new(), Vec::new()),
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
