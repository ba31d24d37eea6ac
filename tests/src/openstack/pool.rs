//! Tenants that one test after the other has: to make one is more work for the services than what most tests ask of them.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Lab, Place};

/// More than there are tests at once.
const MOST: u32 = 64;

/// What is kept of a tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The user's name.
    pub(super) user: String,
    /// Whether the projects are as they were made. They are not while a test has them, nor after one that was killed.
    pub(super) is_clean: bool,
    pub(super) main: Place,
    pub(super) other: Place,
}

/// Where one tenant is kept.
#[derive(Debug)]
pub(super) struct Slot {
    /// The number, which the tenant's addresses are made of.
    pub(super) number: u32,
    path: PathBuf,
    /// Nobody else has it for as long as this is locked. Only in the process that took it.
    _lock: Option<File>,
}

impl Slot {
    /// The first that nobody has.
    pub(super) fn take(lab: &Lab) -> Self {
        let directory = directory(&lab.directory);
        fs::create_dir_all(&directory).unwrap();
        for number in 0..MOST {
            let lock = directory.join(format!("{number}.lock"));
            let lock = OpenOptions::new().create(true).append(true).open(lock).unwrap();
            if lock.try_lock().is_ok() {
                return Self { number, path: path(lab, number), _lock: Some(lock) };
            }
        }
        panic!("all {MOST} tenants are in use");
    }

    /// One that another process has taken, which shares it with this one.
    pub(super) fn of(lab: &Lab, number: u32) -> Self {
        Self { number, path: path(lab, number), _lock: None }
    }

    pub(super) fn read(&self) -> Option<Saved> {
        read(&self.path)
    }

    pub(super) fn write(&self, saved: &Saved) {
        write(&self.path, saved);
    }

    /// What was here is not used again.
    pub(super) fn forget(&self) {
        drop(fs::remove_file(&self.path));
    }
}

/// Keeps other tests from making what all of them have. Dropping it lets the next one in.
pub(super) fn alone(lab: &Path) -> File {
    let directory = directory(lab);
    fs::create_dir_all(&directory).unwrap();
    let lock = OpenOptions::new().create(true).append(true).open(directory.join("all.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

/// What is kept between tests goes with the lab's own state.
pub(super) fn directory(lab: &Path) -> PathBuf {
    lab.join("tenants")
}

fn path(lab: &Lab, number: u32) -> PathBuf {
    directory(&lab.directory).join(format!("{number}.json"))
}

/// What a file holds, where it is there and whole.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Puts a file there that others see whole or not at all. It may hold tokens, so that only its owner can read it.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) {
    let directory = path.parent().unwrap();
    fs::create_dir_all(directory).unwrap();
    let mut file = tempfile::NamedTempFile::new_in(directory).unwrap();
    file.write_all(&serde_json::to_vec(value).unwrap()).unwrap();
    file.persist(path).unwrap();
}
