//! The lock that writers of one Broker directory take turns with.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys::{self, Uninherited};

/// How long somebody waits before saying for whom.
const PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// The lock on a file of its own; the file stays, and says who held it last. Ends with the value, or with the process.
pub(super) struct Lock {
    /// A child of a fork that outlives this process must not hold the lock.
    _uninherited: Uninherited,
    file: File,
}

/// A child that was forked in the meantime holds the file open too, and with it a lock that is not let go of by name.
impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "cannot unlock the inventory");
        }
    }
}

impl Lock {
    /// Waits for the lock as long as it takes. After a second a warning says who holds it.
    pub(super) fn acquire(path: &Path) -> io::Result<Self> {
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
            match wait(&file, path) {
                Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => continue,
                other => other?,
            }
            // Whoever deleted the file while we waited has left us a lock that nobody else will ever meet.
            match file.metadata() {
                Ok(found) if found.nlink() == 0 => continue,
                Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => continue,
                other => other?,
            };
            sign(&file);
            return Ok(Self { _uninherited: sys::uninherited(file.as_fd()), file });
        }
    }
}

fn wait(file: &File, path: &Path) -> io::Result<()> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut told = false;
    loop {
        // While nothing has been said yet the lock is polled; then the kernel's queue is as good.
        let tried = if told { file.lock().map_err(TryLockError::Error) } else { file.try_lock() };
        match tried {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= PATIENCE => {
                tracing::warn!(lock = %path.display(), holder = %holder(file), "waiting for another process");
                told = true;
            }
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Writes down who holds the lock, for those who wait. Nothing depends on it, so that a full disk does not matter.
fn sign(file: &File) {
    let text = format!("{} {}\n", std::process::id(), command());
    let signed = file
        .write_all_at(text.as_bytes(), 0)
        .and_then(|()| file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX)));
    if let Err(error) = signed {
        tracing::debug!(%error, "cannot write down who holds the lock");
    }
}

/// The program and its subcommand. Nothing else of the command line, since that may hold secrets.
fn command() -> String {
    let mut args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let program = args.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match args.next() {
        Some(word) if word.bytes().all(|byte| byte.is_ascii_lowercase()) => format!("{program} {word}"),
        _ => program,
    }
}

fn holder(mut file: &File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("process {}", text.trim()),
        _ => "unknown".to_owned(),
    }
}
