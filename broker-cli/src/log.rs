//! The log: what the code says about itself, to standard error and to a file in the Broker directory.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use broker::settings::{BrokerDirectory, LogLevel, LoggingSettings};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::output::Console;

/// Events of this target are for the file: the console has them in a better form.
pub(crate) const FILE_ONLY: &str = "broker_cli::file";

/// A log file that has grown to this many bytes makes way for a new one.
const LARGEST: u64 = 10 * 1024 * 1024;

/// How many old log files are kept.
const OLD: u32 = 3;

/// How many lines wait for the Broker directory to appear.
const WAITING: usize = 1000;

/// Takes over everything that this process logs from here on.
pub(crate) fn install(console: Arc<Console>, directory: &BrokerDirectory, settings: &LoggingSettings) {
    let path = directory.log_file(settings);
    let mut json = path.clone().into_os_string();
    json.push(".json");
    let logger = Logger {
        console,
        file_level: settings.file_level,
        file: LogFile::new(directory.path(), path),
        json: settings.structured.then(|| LogFile::new(directory.path(), json.into())),
    };
    // In a process that runs several commands the first one's logger stays, and does as well.
    drop(tracing::subscriber::set_global_default(logger));
}

struct Logger {
    console: Arc<Console>,
    file_level: LogLevel,
    file: LogFile,
    json: Option<LogFile>,
}

impl Subscriber for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = level_of(metadata.level());
        // What other crates say in detail may hold anything, passwords included.
        let trusted = metadata.target().starts_with("broker") || level <= LogLevel::Warning;
        trusted && level <= self.console.level().max(self.file_level)
    }

    fn event(&self, event: &Event<'_>) {
        let level = level_of(event.metadata().level());
        let mut said = Said::default();
        event.record(&mut said);
        if event.metadata().target() != FILE_ONLY && level <= self.console.level() {
            match level {
                LogLevel::Info => self.console.note(&said.line()),
                LogLevel::Warning => self.console.warning(&said.line()),
                _ => self.console.detail(level, &said.line()),
            }
        }
        if level <= self.file_level {
            let (now, pid) = (Timestamp::now(), std::process::id());
            self.file.write(&format!("{now:.3} {level:7} [{pid}] {}", said.line().replace('\n', "\n    ")));
            if let Some(json) = &self.json {
                let mut entries = said.fields;
                entries.insert("message".to_owned(), said.message.into());
                entries.insert("time".to_owned(), now.to_string().into());
                entries.insert("level".to_owned(), level.as_str().into());
                entries.insert("pid".to_owned(), pid.into());
                json.write(&Value::Object(entries).to_string());
            }
        }
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

fn level_of(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warning,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// What one event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    /// `message: error (host=web, number=3)`
    fn line(&self) -> String {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut line = self.message.clone();
        if let Some(error) = self.fields.get("error") {
            let _ = write!(line, ": {}", text(error));
        }
        let others: Vec<String> = self
            .fields
            .iter()
            .filter(|(name, _)| *name != "error")
            .map(|(name, value)| format!("{name}={}", text(value)))
            .collect();
        if !others.is_empty() {
            let _ = write!(line, " ({})", others.join(", "));
        }
        line
    }

    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.fields.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.put(field, text);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, broker::error_chain(value));
    }
}

/// A log file that several processes write to, a line at a time.
struct LogFile {
    directory: PathBuf,
    path: PathBuf,
    state: Mutex<State>,
}

enum State {
    /// The Broker directory is not there, and the log does not make it. What was said so far.
    Waiting(Vec<String>),
    Open(File),
    /// There is no writing to it. That is no reason to stop the work.
    Broken,
}

impl LogFile {
    fn new(directory: &Path, path: PathBuf) -> Self {
        Self { directory: directory.to_owned(), path, state: Mutex::new(State::Waiting(Vec::new())) }
    }

    fn write(&self, line: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Waiting(lines) = &mut *state {
            lines.push(format!("{line}\n"));
            if !self.directory.is_dir() {
                lines.truncate(WAITING);
                return;
            }
            let text = std::mem::take(lines).concat();
            *state = match self.open().and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file)) {
                Ok(file) => State::Open(file),
                Err(_) => State::Broken,
            };
        } else if let State::Open(file) = &mut *state {
            // In one piece, so that lines of several processes do not mix.
            if file.write_all(format!("{line}\n").as_bytes()).is_err() {
                *state = State::Broken;
            }
        }
    }

    fn open(&self) -> io::Result<File> {
        if let Some(parent) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
        let file = open()?;
        if file.metadata()?.len() < LARGEST {
            return Ok(file);
        }
        // Whoever gets the lock turns the files over; another process goes on with the file that it has.
        if file.try_lock().is_ok() && fs::metadata(&self.path).is_ok_and(|found| found.len() >= LARGEST) {
            for number in (1..OLD).rev() {
                drop(fs::rename(self.old(number), self.old(number + 1)));
            }
            fs::rename(&self.path, self.old(1))?;
        }
        open()
    }

    fn old(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_waits_for_the_directory() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("broker");
        let file = LogFile::new(&directory, directory.join("logs/broker.log"));
        file.write("one");
        assert!(!directory.exists());
        fs::create_dir(&directory).unwrap();
        file.write("two");
        file.write("three");
        assert_eq!(fs::read_to_string(&file.path).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(directory.join("logs")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_large_file_makes_way() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("broker.log");
        for round in 0..6 {
            LogFile::new(base.path(), path.clone()).write(&format!("round {round}"));
            OpenOptions::new().append(true).open(&path).unwrap().set_len(LARGEST).unwrap();
        }
        let begins = |path: PathBuf| fs::read(path).unwrap()[..8].to_vec();
        assert_eq!(begins(path.clone()), b"round 5\n");
        assert_eq!(begins(base.path().join("broker.log.1")), b"round 4\n");
        assert_eq!(begins(base.path().join("broker.log.3")), b"round 2\n");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_file_that_cannot_be_written_stops_nothing() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("logs"), "a file in the way").unwrap();
        let file = LogFile::new(base.path(), base.path().join("logs/broker.log"));
        file.write("one");
        file.write("two");
    }
}
