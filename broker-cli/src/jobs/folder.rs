//! What there is of a job on disk.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Code, CommandError};

/// How many numbers are tried when others take the next one at the same moment.
const ATTEMPTS: u32 = 10_000;

/// What a job is, and which process it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The command, without arguments, which may be secret.
    pub(crate) command: String,
    pub(crate) started_at: Timestamp,
    /// Nothing until the process itself has said so.
    #[serde(default)]
    pub(crate) process: Option<Process>,
}

/// A process. Its number alone may be another's by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// When it was started, as the system counts: on Linux, ticks since the machine was.
    pub(crate) started: Option<u64>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) code: u8,
    pub(crate) ended_at: Timestamp,
}

/// What has become of a job.
#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    Running,
    Ended(End),
    /// It has no exit status and never will.
    Killed,
}

/// A job's folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) number: u64,
    path: PathBuf,
}

impl Folder {
    /// Makes a folder with the next number.
    pub(crate) fn make(directory: &Path) -> io::Result<Self> {
        let above = directory.join("jobs");
        DirBuilder::new().recursive(true).mode(0o700).create(&above)?;
        let mut number = numbers(&above)?.last().map_or(1, |last| last + 1);
        for _ in 0..ATTEMPTS {
            let path = above.join(number.to_string());
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { number, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("others take every number"))
    }

    /// A job's own folder, from the inside.
    pub(crate) fn of(directory: &Path, number: u64) -> Self {
        Self { number, path: directory.join("jobs").join(number.to_string()) }
    }

    /// What the command said, which is also the lock.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// What the command printed as data.
    pub(crate) fn printed(&self) -> PathBuf {
        self.path.join("printed")
    }

    /// What the command did, as `--output-file` has it.
    pub(crate) fn report(&self) -> PathBuf {
        self.path.join("report.json")
    }

    /// A file for the command to write to.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        debug_assert!(path.starts_with(&self.path));
        OpenOptions::new().create(true).append(true).mode(0o600).open(path)
    }

    pub(crate) fn write(&self, job: &Job) -> io::Result<()> {
        self.replace("job.json", job)
    }

    pub(crate) fn read(&self) -> io::Result<Job> {
        Ok(serde_json::from_slice(&fs::read(self.path.join("job.json"))?)?)
    }

    pub(crate) fn end(&self, end: End) -> io::Result<()> {
        self.replace("end.json", &end)
    }

    /// What has become of the job by now.
    pub(crate) fn state(&self) -> io::Result<State> {
        let ended = || match fs::read(self.path.join("end.json")) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        if let Some(end) = ended()? {
            return Ok(State::Ended(end));
        }
        match File::open(self.log())?.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Ok(State::Running),
            Err(TryLockError::Error(error)) => Err(error),
            // It may have ended between the two looks.
            Ok(()) => Ok(ended()?.map_or(State::Killed, State::Ended)),
        }
    }

    /// What the job has reported; nothing where it did not come to that.
    pub(crate) fn reported(&self) -> Value {
        fs::read(self.report()).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Removes it. Of the last one the empty folder stays, so that no number is given twice.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let above = self.path.parent().unwrap_or(&self.path);
        if numbers(above)?.last() != Some(&self.number) {
            return fs::remove_dir_all(&self.path);
        }
        for entry in fs::read_dir(&self.path)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    fn replace(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.persist(self.path.join(name))?;
        Ok(())
    }
}

/// The jobs there are, in their order.
pub(crate) fn all(directory: &Path) -> Result<Vec<(Folder, Job)>, CommandError> {
    let above = directory.join("jobs");
    let cannot = |error| CommandError::new(Code::Failed, format!("cannot read `{}`: {error}", above.display()));
    let folders = numbers(&above).map_err(cannot)?.into_iter().map(|number| Folder::of(directory, number));
    // One that is being made or removed has nothing to say yet, or any more.
    Ok(folders.filter_map(|folder| folder.read().ok().map(|job| (folder, job))).collect())
}

/// The job of a number.
pub(crate) fn find(directory: &Path, number: u64) -> Result<(Folder, Job), CommandError> {
    let folder = Folder::of(directory, number);
    match folder.read() {
        Ok(job) => Ok((folder, job)),
        Err(_) => Err(CommandError::new(Code::Named, format!("there is no job {number}"))
            .hint("`broker jobs list` shows those there are")),
    }
}

fn numbers(above: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(above) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_runs_as_long_as_its_log_is_locked() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::make(directory.path()).unwrap();
        assert!(all(directory.path()).unwrap().is_empty(), "it says nothing yet");
        folder.write(&Job { command: "checkout".into(), started_at: Timestamp::now(), process: None }).unwrap();
        let log = folder.create(&folder.log()).unwrap();
        log.lock().unwrap();
        assert!(matches!(folder.state().unwrap(), State::Running));
        drop(log);
        assert!(matches!(folder.state().unwrap(), State::Killed));
        folder.end(End { code: 7, ended_at: Timestamp::now() }).unwrap();
        assert!(matches!(folder.state().unwrap(), State::Ended(End { code: 7, .. })));
        let next = Folder::make(directory.path()).unwrap();
        assert_eq!((folder.number, next.number), (1, 2));
        assert_eq!(all(directory.path()).unwrap().len(), 1);
        assert_eq!(find(directory.path(), 3).unwrap_err().code, Code::Named);
    }
}
