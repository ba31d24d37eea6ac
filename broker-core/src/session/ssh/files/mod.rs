//! Trees of files over a connection: by `sftp`, or by `tar` where the server has no such subsystem.

mod get;
mod incoming;
mod put;
mod tar;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, Start};
use super::sftp::Sftp;
use crate::session::{RemotePath, SessionError, SessionErrorKind, TreeItem};

/// How many clients are kept for the next transfer. Each of them is one of the channels that the server allows.
const IDLE: usize = 1;

/// How long a channel is waited for before somebody else's client will do as well, or an idle one is given up for a command.
pub(super) const CROWDED: Duration = Duration::from_millis(200);

/// How many bytes of one transfer are under way at once: enough for a gigabit at 30 ms there and back.
const UNDER_WAY: usize = 4 * 1024 * 1024;

/// How many small files of one transfer are under way at once.
const FILES_UNDER_WAY: usize = 64;

/// Up to which size, in bytes, a file is small: held in memory as a whole, and transferred beside others.
const SMALL: u64 = 256 * 1024;

/// The bits of a mode that people set.
const PERMISSIONS: u32 = 0o7777;

/// What moves files over one connection. Remembers whether the server has `sftp`. Cheap to clone.
#[derive(Clone)]
pub(super) struct Files {
    place: Arc<Place>,
}

struct Place {
    connection: Arc<dyn Connection>,
    label: String,
    idle: Mutex<Vec<Arc<Sftp>>>,
    /// The one that was made last, where it is still in use.
    latest: Mutex<Weak<Sftp>>,
    no_sftp: AtomicBool,
    tracker: TaskTracker,
}

impl Files {
    pub(super) fn new(connection: Arc<dyn Connection>, label: String) -> Self {
        let place = Place {
            connection,
            label,
            idle: Mutex::default(),
            latest: Mutex::default(),
            no_sftp: AtomicBool::new(false),
            tracker: TaskTracker::new(),
        };
        Self { place: Arc::new(place) }
    }

    /// As [`Session::put`](crate::session::Session::put).
    pub(super) async fn put(&self, to: &RemotePath, items: mpsc::Receiver<TreeItem>) -> Result<(), SessionError> {
        let to = checked(to)?;
        match self.place.sftp().await? {
            Some(sftp) => {
                put::put(&self.place, &sftp, &to, items).await?;
                self.place.keep(sftp);
                Ok(())
            }
            None => tar::put(&self.place, &to, items).await,
        }
    }

    /// As [`Session::get`](crate::session::Session::get).
    pub(super) async fn get(&self, from: &RemotePath, items: mpsc::Sender<TreeItem>) -> Result<(), SessionError> {
        let from = checked(from)?;
        match self.place.sftp().await? {
            Some(sftp) => {
                get::get(&sftp, &from, items).await?;
                self.place.keep(sftp);
                Ok(())
            }
            None => tar::get(&self.place, &from, items).await,
        }
    }

    /// Gives up the channels that are kept for the next transfer.
    pub(super) fn make_room(&self) {
        self.place.idle.lock().clear();
    }

    /// Waits until what dropped transfers have left behind is cleared away.
    pub(super) async fn settled(&self) {
        self.place.tracker.close();
        self.place.tracker.wait().await;
    }
}

impl Place {
    /// A client; nothing where the server has none for us.
    async fn sftp(&self) -> Result<Option<Arc<Sftp>>, SessionError> {
        if self.no_sftp.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let idle = self.idle.lock().pop();
        if let Some(sftp) = idle.filter(|sftp| !sftp.is_over()) {
            return Ok(Some(sftp));
        }
        let begin = async {
            let channel = self.connection.open(Start::Subsystem("sftp")).await?;
            Sftp::new(channel, &self.label).await
        };
        let begun = tokio::select! {
            begun = begin => begun,
            // The server may have no channel left until that client's transfer ends, which may be waiting for this one.
            shared = self.shared() => return Ok(Some(shared)),
        };
        match begun {
            Ok(sftp) => {
                let sftp = Arc::new(sftp);
                *self.latest.lock() = Arc::downgrade(&sftp);
                Ok(Some(sftp))
            }
            // Refused, or there is no program behind it. What garbles its answers garbles those of `tar` too.
            Err(error)
                if self.connection.broken().is_none()
                    && !matches!(error.kind(), SessionErrorKind::Timeout | SessionErrorKind::Failed) =>
            {
                tracing::debug!(host = %self.label, %error, "no sftp here, so that tar has to do.");
                self.no_sftp.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A client that is in use, after a while. There may never be one.
    async fn shared(&self) -> Arc<Sftp> {
        loop {
            tokio::time::sleep(CROWDED).await;
            if let Some(sftp) = self.latest.lock().upgrade().filter(|sftp| !sftp.is_over()) {
                return sftp;
            }
        }
    }

    /// Keeps a client on which nothing is under way any more.
    fn keep(&self, sftp: Arc<Sftp>) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE && !sftp.is_over() {
            idle.push(sftp);
        }
    }
}

/// A path without the slashes at its end, where it can be one at all.
fn checked(path: &RemotePath) -> Result<RemotePath, SessionError> {
    let bytes = path.as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(SessionError::new(SessionErrorKind::NotFound, format!("`{path}` is no path")));
    }
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
    Ok(RemotePath::from_bytes(bytes.get(..end).unwrap_or_default().to_vec()))
}

/// The directory that a path is in: `.` for a name alone.
fn parent(path: &RemotePath) -> RemotePath {
    match path.parent() {
        Some(parent) if !parent.as_bytes().is_empty() => parent,
        _ => RemotePath::from("."),
    }
}
