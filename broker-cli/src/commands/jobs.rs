//! `broker jobs`

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{App, Outcome};
use crate::args::{Jobs, JobsCommand};
use crate::error::{Code, CommandError, Failure};
use crate::jobs::{self, Folder, Job, State};
use crate::output;

/// How often a job is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long a job that was just started may take to say which process it is.
const START: Duration = Duration::from_secs(10);

/// What a shell tells of a command that SIGKILL has ended.
const KILLED: u8 = 137;

pub(super) fn run(app: &App<'_>, options: &Jobs) -> Outcome {
    match &options.command {
        JobsCommand::List => list(app),
        JobsCommand::Wait { jobs, timeout } => wait(app, jobs, *timeout),
        JobsCommand::Log { job, follow } => log(app, *job, *follow),
        JobsCommand::Cancel { jobs } => cancel(app, jobs),
        JobsCommand::Prune => prune(app),
    }
}

fn directory<'a>(app: &'a App<'_>) -> &'a Path {
    app.broker.directory().path()
}

fn unreadable(folder: &Folder) -> impl Fn(std::io::Error) -> CommandError + use<> {
    let number = folder.number;
    move |error| CommandError::new(Code::Failed, format!("cannot read what is known of job {number}: {error}"))
}

fn state_of(folder: &Folder) -> Result<State, CommandError> {
    folder.state().map_err(unreadable(folder))
}

fn list(app: &App<'_>) -> Outcome {
    let mut rows = Vec::new();
    let mut data = Vec::new();
    for (folder, job) in jobs::all(directory(app))? {
        let state = state_of(&folder)?;
        let ended = if let State::Ended(end) = state { Some(end) } else { None };
        data.push(json!({
            "job": folder.number, "state": word(state), "exit_code": code(state), "command": job.command,
            "started_at": job.started_at, "ended_at": ended.map(|end| end.ended_at),
        }));
        let said = match state {
            State::Ended(end) if end.code != 0 => format!("failed ({})", end.code),
            state => word(state).to_owned(),
        };
        let started = job.started_at.strftime("%Y-%m-%d %H:%M:%S").to_string();
        rows.push(vec![folder.number.to_string(), said, started, job.command]);
    }
    app.report.put("jobs", data.clone());
    app.print(|| Value::Array(data), || output::table(&["job", "state", "started (UTC)", "command"], &rows))?;
    Ok(0)
}

fn word(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Ended(end) if end.code == 0 => "done",
        State::Ended(_) => "failed",
        State::Killed => "killed",
    }
}

/// The exit status of a job that has ended in whichever way.
fn code(state: State) -> Option<u8> {
    match state {
        State::Running => None,
        State::Ended(end) => Some(end.code),
        State::Killed => Some(KILLED),
    }
}

/// The jobs of these numbers; those that run, where none is named.
fn chosen(app: &App<'_>, numbers: &[u64]) -> Result<Vec<(Folder, Job)>, CommandError> {
    if !numbers.is_empty() {
        return numbers.iter().map(|number| jobs::find(directory(app), *number)).collect();
    }
    let mut running = jobs::all(directory(app))?;
    let mut failed = None;
    running.retain(|(folder, _)| match state_of(folder) {
        Ok(state) => matches!(state, State::Running),
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    failed.map_or(Ok(running), Err)
}

fn wait(app: &App<'_>, numbers: &[u64], timeout: Option<Duration>) -> Outcome {
    let jobs = chosen(app, numbers)?;
    if jobs.is_empty() {
        app.console.note("no job runs");
    }
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let (mut worst, mut reports, mut killed) = (0, Vec::new(), Vec::new());
    for (folder, _) in &jobs {
        let code = loop {
            let state = state_of(folder)?;
            match code(state) {
                Some(code) => break code,
                None if end.is_some_and(|end| Instant::now() >= end) => {
                    let message = format!("job {} still runs after {:?}", folder.number, timeout.unwrap_or_default());
                    let hint = format!("`broker jobs log -f {}` shows what it does", folder.number);
                    return Err(CommandError::new(Code::Late, message).hint(hint).into());
                }
                None => std::thread::sleep(LOOK),
            }
        };
        if matches!(state_of(folder)?, State::Killed) {
            let message = format!("job {} was killed before it came to its end", folder.number);
            killed.push(CommandError::new(Code::Failed, message).hint("`broker inventory` shows what there is of it"));
        }
        if code != 0 {
            app.console.print_error(&fs::read(folder.log()).unwrap_or_default())?;
        }
        app.console.print(&fs::read(folder.printed()).unwrap_or_default())?;
        worst = worst.max(code);
        reports.push((folder.number, code, folder.reported()));
    }
    match reports.as_slice() {
        [(_, _, Value::Object(report))] => report.iter().for_each(|(key, value)| app.report.put(key, value.clone())),
        many => app.report.put_with("jobs", || {
            let one =
                |(job, code, report): &(u64, u8, Value)| json!({"job": job, "return_code": code, "report": report});
            many.iter().map(one).collect()
        }),
    }
    if !killed.is_empty() {
        app.console.failure(&Failure(killed), "jobs");
    }
    Ok(worst)
}

fn log(app: &App<'_>, number: u64, follow: bool) -> Outcome {
    let (folder, _) = jobs::find(directory(app), number)?;
    let mut file = File::open(folder.log()).map_err(unreadable(&folder))?;
    let mut shown = 0;
    loop {
        // What was written before it ended is there when it has.
        let runs = matches!(state_of(&folder)?, State::Running);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(shown)).and_then(|_| file.read_to_end(&mut bytes)).map_err(unreadable(&folder))?;
        shown += bytes.len() as u64;
        app.console.print(&bytes)?;
        if !runs || !follow {
            break;
        }
        std::thread::sleep(LOOK);
    }
    app.console.print(&fs::read(folder.printed()).map_err(unreadable(&folder))?)?;
    Ok(0)
}

fn cancel(app: &App<'_>, numbers: &[u64]) -> Outcome {
    let mut failures = Vec::new();
    for (folder, _) in chosen(app, numbers)? {
        if let Err(error) = cancel_one(app, &folder) {
            failures.push(error);
        }
    }
    if failures.is_empty() { Ok(0) } else { Err(Failure(failures)) }
}

/// Asks a job to stop, and waits for what it has to settle.
fn cancel_one(app: &App<'_>, folder: &Folder) -> Result<(), CommandError> {
    let number = folder.number;
    let late = Instant::now() + START;
    let cannot =
        |error: std::io::Error| CommandError::new(Code::Failed, format!("cannot cancel job {number}: {error}"));
    while !jobs::cancel(folder).map_err(cannot)? {
        if !matches!(state_of(folder)?, State::Running) {
            return Err(CommandError::new(Code::Failed, format!("job {number} has ended"))
                .hint(format!("`broker jobs log {number}` shows what it did")));
        }
        if Instant::now() > late {
            return Err(CommandError::new(Code::Failed, format!("job {number} does not say which process it is")));
        }
        std::thread::sleep(LOOK);
    }
    app.console.note(&format!("job {number} is stopping, and settles what is under way"));
    loop {
        match code(state_of(folder)?) {
            Some(code) => {
                app.console.note(&format!("job {number} has ended with status {code}"));
                return Ok(());
            }
            None => std::thread::sleep(LOOK),
        }
    }
}

fn prune(app: &App<'_>) -> Outcome {
    let mut pruned = Vec::new();
    for (folder, _) in jobs::all(directory(app))? {
        if matches!(state_of(&folder)?, State::Running) {
            continue;
        }
        let number = folder.number;
        let cannot = |error| CommandError::new(Code::Failed, format!("cannot remove job {number}: {error}"));
        folder.remove().map_err(cannot)?;
        pruned.push(number);
    }
    let count = pruned.len();
    app.console.note(&format!("{count} {} removed", if count == 1 { "job" } else { "jobs" }));
    app.report.put("jobs", pruned.clone());
    app.print(|| json!(pruned), String::new)?;
    Ok(0)
}
