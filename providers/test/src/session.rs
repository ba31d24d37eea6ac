//! Sessions on hosts that are directories of this machine.

use std::error::Error;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use async_trait::async_trait;
use broker_core::session::local::{TreeWriter, read_tree};
use broker_core::session::{
    Command, ExitStatus, RemotePath, Session, SessionError, SessionErrorKind, Streams, TreeItem,
};
use tokio::sync::{mpsc, watch};

use crate::directory::Disk;
use crate::process;

/// A session on one host: its commands are processes of this machine, its files are files below its directory.
///
/// Relative paths begin in the host's own directory; absolute ones are those of this machine.
#[derive(Debug)]
pub(crate) struct DirectorySession {
    disk: Disk,
    /// The host is there for as long as this file is; one that is no file anywhere is always there.
    host: Option<PathBuf>,
    closed: watch::Sender<bool>,
}

impl DirectorySession {
    pub(crate) fn open(disk: Disk, host: Option<PathBuf>) -> Result<Self, SessionError> {
        let session = Self { disk, host, closed: watch::Sender::new(false) };
        session.check()?;
        let home = session.disk.home.display();
        session.disk.make().map_err(|error| {
            on_host(SessionError::new(SessionErrorKind::Local, format!("cannot use `{home}`")).source(error))
        })?;
        Ok(session)
    }

    fn check(&self) -> Result<(), SessionError> {
        if *self.closed.borrow() {
            return Err(closed());
        }
        match &self.host {
            Some(host) if !host.exists() => {
                let message = format!("the host is gone: `{}` does not exist", host.display());
                Err(SessionError::new(SessionErrorKind::NotRunning, message))
            }
            _ => Ok(()),
        }
    }

    fn resolve(&self, path: &RemotePath) -> PathBuf {
        self.disk.home.join(path.as_path())
    }
}

#[async_trait]
impl Session for DirectorySession {
    async fn run(&self, command: &Command, streams: Streams) -> Result<ExitStatus, SessionError> {
        self.check()?;
        let directory = match &command.directory {
            Some(directory) => self.disk.home.join(directory),
            None => self.disk.home.clone(),
        };
        let mut closing = self.closed.subscribe();
        tokio::select! {
            status = process::run(command, &directory, &self.disk.console, streams) => status,
            _ = closing.wait_for(|closed| *closed) => Err(closed()),
        }
    }

    async fn put(&self, to: &RemotePath, mut items: mpsc::Receiver<TreeItem>) -> Result<(), SessionError> {
        self.check()?;
        let mut writer = TreeWriter::new(self.resolve(to));
        blocking(move || {
            while let Some(item) = items.blocking_recv() {
                writer.write(item)?;
            }
            writer.finish()
        })
        .await
    }

    async fn get(&self, from: &RemotePath, items: mpsc::Sender<TreeItem>) -> Result<(), SessionError> {
        self.check()?;
        let path = self.resolve(from);
        blocking(move || {
            read_tree(&path, |item| match items.blocking_send(item) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        })
        .await
    }

    fn is_broken(&self) -> bool {
        *self.closed.borrow()
    }

    async fn close(&self) {
        self.closed.send_replace(true);
    }
}

/// Runs something on a thread that may block. Its local errors are those of the host.
async fn blocking(work: impl FnOnce() -> Result<(), SessionError> + Send + 'static) -> Result<(), SessionError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(on_host),
        Err(error) => Err(SessionError::new(SessionErrorKind::Failed, "the files were left half-way").source(error)),
    }
}

fn on_host(error: SessionError) -> SessionError {
    if error.kind() != SessionErrorKind::Local {
        return error;
    }
    let cause = Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    error.with_kind(match cause {
        Some(io::ErrorKind::NotFound) => SessionErrorKind::NotFound,
        Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => SessionErrorKind::Permission,
        _ => SessionErrorKind::Failed,
    })
}

fn closed() -> SessionError {
    SessionError::new(SessionErrorKind::Unreachable, "the session was closed")
}
