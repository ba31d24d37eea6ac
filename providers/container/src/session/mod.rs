//! A session on a container: commands by the engine's exec, files by its archives.

pub(crate) mod exec;
pub(crate) mod files;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error as ApiError;
use broker_core::provider::ErrorKind;
use broker_core::session::{
    Command, ExitStatus, RemotePath, Session, SessionError, SessionErrorKind, Streams, TreeItem,
};
use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::Engine;
use crate::engine::error::{answer, provider_error};
use crate::engine::model::Container;
use broker_core::session::archive::Ownership;

/// How long closing waits for commands to end.
const CLOSE: Duration = Duration::from_secs(10);

/// A container, as commands and files on it need it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) engine: Arc<Engine>,
    /// The engine's id of the container.
    pub(crate) id: String,
    /// What people call the container.
    pub(crate) label: String,
}

impl Target {
    /// Whether these are the engine's words for a container that is there and does not run.
    fn says_not_running(&self, words: &str) -> bool {
        ["is not running", "container state improper", "on running containers", "is paused", "is restarting"]
            .iter()
            .any(|part| words.contains(part))
    }

    /// A refusal of the engine, with what was being done.
    pub(crate) fn failed(&self, doing: &str, error: &ApiError) -> SessionError {
        if let Some((status, words)) = answer(error) {
            if self.says_not_running(words) {
                let message = format!("{doing}: container `{}` is not running", self.label);
                return SessionError::new(SessionErrorKind::NotRunning, message);
            }
            let lower = words.to_lowercase();
            if status == 404 && (lower.contains("no such container") || lower.contains("no container with")) {
                let message = format!("{doing}: container `{}` does not exist any more", self.label);
                return SessionError::new(SessionErrorKind::NotRunning, message);
            }
        }
        let error = provider_error(&format!("{doing} in container `{}`", self.label), self.engine.uri(), error);
        let kind = match error.kind() {
            ErrorKind::NotFound => SessionErrorKind::NotFound,
            ErrorKind::Permission | ErrorKind::Auth => SessionErrorKind::Permission,
            ErrorKind::Timeout => SessionErrorKind::Timeout,
            ErrorKind::Unreachable => SessionErrorKind::Unreachable,
            _ => SessionErrorKind::Failed,
        };
        SessionError::new(kind, error.to_string())
    }
}

/// A session on one container. Holds no connection; each call makes its own.
pub(crate) struct ContainerSession {
    target: Target,
    podman: bool,
    /// Where relative paths begin.
    directory: String,
    /// The user that commands run as where they do not say.
    user: String,
    /// What the engine's archives do not reach: places that exist only while the container runs.
    hidden: Vec<String>,
    owner: OnceCell<Ownership>,
    /// Whether commands can move files.
    moves: OnceCell<bool>,
    running: TaskTracker,
    closing: CancellationToken,
}

impl ContainerSession {
    /// A session on a container that was just looked at.
    pub(crate) fn new(target: Target, podman: bool, container: &Container) -> Self {
        // Podman takes these for empty. Docker copies from and to the layers below all that is mounted at the start, and
        // says that all is well.
        let mut hidden = ["/dev", "/proc", "/sys"].map(str::to_owned).to_vec();
        if !podman {
            let mounts = container.mounts.iter().filter(|mount| mount.kind == "tmpfs").map(|mount| &mount.destination);
            hidden.extend(container.host_config.tmpfs.keys().chain(mounts).cloned());
        }
        let directory = if container.config.directory.is_empty() { "/" } else { &container.config.directory };
        Self {
            target,
            podman,
            directory: directory.to_owned(),
            user: container.config.user.clone(),
            hidden,
            owner: OnceCell::new(),
            moves: OnceCell::new(),
            running: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    /// Ends early when the session is closed.
    async fn until_closed<T>(&self, call: impl Future<Output = Result<T, SessionError>>) -> Result<T, SessionError> {
        // Held until the call is dropped, so that closing waits for what dropping it starts.
        let _running = self.running.token();
        let call = std::pin::pin!(call);
        tokio::select! {
            outcome = call => outcome,
            () = self.closing.cancelled() => {
                let message = format!("the session on container `{}` was closed", self.target.label);
                Err(SessionError::new(SessionErrorKind::NotRunning, message))
            }
        }
    }
}

#[async_trait]
impl Session for ContainerSession {
    async fn run(&self, command: &Command, streams: Streams) -> Result<ExitStatus, SessionError> {
        self.until_closed(exec::run(&self.target, command, streams, &self.running)).await
    }

    async fn put(&self, to: &RemotePath, items: mpsc::Receiver<TreeItem>) -> Result<(), SessionError> {
        self.until_closed(self.put_tree(to, items)).await
    }

    async fn get(&self, from: &RemotePath, items: mpsc::Sender<TreeItem>) -> Result<(), SessionError> {
        self.until_closed(self.get_tree(from, items)).await
    }

    async fn settled(&self) -> bool {
        self.running.close();
        self.running.wait().await;
        if !self.closing.is_cancelled() {
            self.running.reopen();
        }
        true
    }

    /// Waits, ten seconds at the most, until the commands of this session have ended: also those whose futures were
    /// dropped before.
    async fn close(&self) {
        self.closing.cancel();
        self.running.close();
        if tokio::time::timeout(CLOSE, self.running.wait()).await.is_err() {
            tracing::warn!(container = %self.target.label, "commands in a container have not ended in time.");
        }
    }
}
