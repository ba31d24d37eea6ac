//! Which processes that check hosts out are alive.
//!
//! Each holds a lock on `runs/<run-id>.lock` as long as it lives. The kernel drops the lock however the process ends, so
//! that a lock which can be taken proves the death; a process id proves nothing, since containers share a home.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::InventoryError;
use crate::id::RunId;
use crate::sys::{self, Uninherited};

/// Shows that this process lives, until it is dropped.
#[derive(Debug)]
pub struct RunLock {
    id: RunId,
    path: PathBuf,
    /// The process that the run is of. A child of a fork has a copy of this value, and owns nothing.
    pid: u32,
    /// A child of a fork that outlives this process must not make it seem alive.
    _uninherited: Uninherited,
    _file: File,
}

/// Whether a run's process is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It holds its lock.
    Alive,
    /// It has ended, and will never touch its hosts again.
    Dead,
    /// There is no telling: the directory is on a network file system, or cannot be looked at.
    Unknown,
}

fn runs(dir: &Path) -> PathBuf {
    dir.join("runs")
}

fn lock_path(dir: &Path, run: RunId) -> PathBuf {
    runs(dir).join(format!("{run}.lock"))
}

impl RunLock {
    /// Begins a new run in a Broker directory.
    ///
    /// # Errors
    ///
    /// If the lock cannot be made; then nobody could tell that this process lives.
    pub fn acquire(dir: &Path) -> Result<Self, InventoryError> {
        let runs = runs(dir);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&runs)
            .map_err(|error| InventoryError::write(&runs, error))?;
        loop {
            let id = RunId::generate();
            let path = lock_path(dir, id);
            match create(&path).and_then(lock) {
                Ok(Some(file)) => {
                    let _uninherited = sys::uninherited(file.as_fd());
                    return Ok(Self { id, path, pid: std::process::id(), _uninherited, _file: file });
                }
                Ok(None) => {}
                Err(error) => return Err(InventoryError::write(&path, error)),
            }
        }
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.id
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// `None` if somebody took the file for one that was left behind, in the moment before it was locked.
fn lock(file: File) -> io::Result<Option<File>> {
    file.lock()?;
    Ok((file.metadata()?.nlink() > 0).then_some(file))
}

impl Drop for RunLock {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            return;
        }
        // Removed while it is still locked: at no time is there a file that says dead, and then goes on.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove the lock of this run");
        }
    }
}

/// Whether the process of a run in a Broker directory is alive. The lock file of a dead one is removed.
pub fn liveness(dir: &Path, run: RunId) -> Liveness {
    if sys::is_network_filesystem(dir) {
        return Liveness::Unknown;
    }
    let path = lock_path(dir, run);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Liveness::Dead,
        Err(_) => return Liveness::Unknown,
    };
    // A shared lock, so that two who ask at once do not take each other for the owner. While it is held nobody can make
    // the file anew, so that what is removed is what was looked at.
    match file.try_lock_shared() {
        Ok(()) => {
            if let Err(error) = fs::remove_file(&path) {
                tracing::debug!(path = %path.display(), %error, "cannot remove the lock of a dead run");
            }
            Liveness::Dead
        }
        Err(TryLockError::WouldBlock) => Liveness::Alive,
        Err(TryLockError::Error(_)) => Liveness::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_run_is_alive_until_its_lock_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RunLock::acquire(dir.path()).unwrap();
        let run = lock.id();
        assert_eq!(liveness(dir.path(), run), Liveness::Alive);
        assert_eq!(liveness(dir.path(), run), Liveness::Alive);
        let path = lock_path(dir.path(), run);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(runs(dir.path())).unwrap().mode() & 0o777, 0o700);
        drop(lock);
        assert!(!path.exists());
        assert_eq!(liveness(dir.path(), run), Liveness::Dead);
    }

    #[test]
    fn what_a_dead_run_leaves_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RunLock::acquire(dir.path()).unwrap();
        let left = RunId::generate();
        let path = lock_path(dir.path(), left);
        fs::write(&path, "").unwrap();
        assert_eq!(liveness(dir.path(), left), Liveness::Dead);
        assert!(!path.exists());
        assert_eq!(liveness(dir.path(), lock.id()), Liveness::Alive);
    }

    #[test]
    fn a_run_that_was_taken_for_dead_as_it_began_begins_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunLock::acquire(dir.path()).unwrap();
        let run = RunId::generate();
        let file = create(&lock_path(dir.path(), run)).unwrap();
        assert_eq!(liveness(dir.path(), run), Liveness::Dead);
        assert!(lock(file).unwrap().is_none());
        assert_eq!(liveness(dir.path(), first.id()), Liveness::Alive);
    }

    #[test]
    fn nobody_who_asks_makes_a_beginning_run_dead() {
        let dir = tempfile::tempdir().unwrap();
        let asking = AtomicBool::new(true);
        let lost = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while asking.load(Ordering::Relaxed) {
                        for entry in fs::read_dir(runs(dir.path())).into_iter().flatten().flatten() {
                            let name = entry.file_name().into_string().unwrap();
                            let _alive_or_not = liveness(dir.path(), name.trim_end_matches(".lock").parse().unwrap());
                        }
                    }
                });
            }
            let begin = || RunLock::acquire(dir.path()).unwrap();
            let lost =
                (0..300).map(|_| begin()).filter(|lock| liveness(dir.path(), lock.id()) != Liveness::Alive).count();
            asking.store(false, Ordering::Relaxed);
            lost
        });
        assert_eq!(lost, 0);
    }
}
