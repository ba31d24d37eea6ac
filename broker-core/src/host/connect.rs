//! The session of a host: opened at its first use, and again where it has broken.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::Host;
use crate::context::Instance;
use crate::engine;
use crate::error::{Error, Result};
use crate::inventory::{HostRecord, HostState};
use crate::recovery;
use crate::session::{Access, Session, SessionError, SessionErrorKind, SshLogin};

/// A session that is open.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) session: Arc<dyn Session>,
    /// Whether it leads to a machine by SSH, and not into something that a provider has on another one.
    pub(super) is_ssh: bool,
}

impl Host {
    /// Closes the session. The next use opens another.
    pub async fn close(&self) -> Result<()> {
        let host = self.clone();
        engine::call("closing a session", async move { host.close_session().await }).await
    }

    pub(crate) async fn close_session(&self) {
        if let Some(open) = self.inner.session.lock().await.take() {
            open.session.close().await;
        }
    }

    pub(super) async fn session(&self) -> Result<Arc<dyn Session>> {
        self.session_within(None).await
    }

    /// The session, opened within a limit if there is none or the old one is known to be broken.
    pub(super) async fn session_within(&self, limit: Option<Duration>) -> Result<Arc<dyn Session>> {
        self.open_within(limit).await.map(|open| open.session)
    }

    pub(super) async fn open_within(&self, limit: Option<Duration>) -> Result<Open> {
        let host = self.clone();
        let open = async move {
            let mut current = host.inner.session.lock().await;
            if let Some(open) = current.as_ref().filter(|open| !open.session.is_broken()) {
                return Ok(open.clone());
            }
            // What is broken is dropped before there is another: a server may count both.
            *current = None;
            // Boxed, since connecting takes a large future, and callers hold many of these at once.
            let open = Box::pin(host.open()).await?;
            *current = Some(open.clone());
            Ok(open)
        };
        let host = self.clone();
        let bounded = async move {
            match limit {
                None => open.await,
                Some(limit) => tokio::time::timeout(limit, open).await.unwrap_or_else(|_| {
                    let message = format!("no session was open within {}", crate::duration::format(limit));
                    Err(Error::session(&host, SessionError::new(SessionErrorKind::Timeout, message)))
                }),
            }
        };
        engine::call_while_wanted("opening a session", bounded).await?
    }

    async fn open(&self) -> Result<Open> {
        let mut record = self.record();
        if record.state == HostState::Pending {
            record = recovery::recover(self.core(), record).await?;
            self.set_record(record.clone());
        }
        let instance = self.core().instance(&record.provider, record.instance.as_deref()).await?;
        match instance.provider.access(&record).await.map_err(|error| Error::session(self, error))? {
            Access::Session(session) => Ok(Open { session, is_ssh: false }),
            Access::Ssh(login) => {
                let session = self.open_ssh(record, login, &instance).await?;
                Ok(Open { session, is_ssh: true })
            }
        }
    }

    #[cfg(not(feature = "ssh"))]
    async fn open_ssh(&self, _: HostRecord, _: SshLogin, _: &Instance) -> Result<Arc<dyn Session>> {
        let message = "it is reached by SSH, and this program was built without that";
        Err(Error::session(self, SessionError::new(SessionErrorKind::Unsupported, message)))
    }

    /// A session on a host that is not handed over yet. It is nobody's but the caller's, and nothing is written down.
    pub(crate) async fn open_unfinished(&self) -> Result<Arc<dyn Session>> {
        let record = self.record();
        let instance = self.core().instance(&record.provider, record.instance.as_deref()).await?;
        match instance.provider.access(&record).await.map_err(|error| Error::session(self, error))? {
            Access::Session(session) => Ok(session),
            #[cfg(feature = "ssh")]
            Access::Ssh(login) => Ok(self.connect_ssh(&record, login, &instance).await?.0.session),
            #[cfg(not(feature = "ssh"))]
            Access::Ssh(login) => self.open_ssh(record, login, &instance).await,
        }
    }

    /// Connects, and sees to it that the machine is the one that was seen before.
    #[cfg(feature = "ssh")]
    async fn open_ssh(&self, record: HostRecord, login: SshLogin, instance: &Instance) -> Result<Arc<dyn Session>> {
        let (connected, is_to_be_pinned) = self.connect_ssh(&record, login, instance).await?;
        let shown = super::pin::Shown {
            host: Some(&connected.host_key).filter(|_| is_to_be_pinned),
            gates: &connected.jump_keys,
        };
        if is_to_be_pinned || !shown.gates.is_empty() {
            match super::pin::pin(self.core().inventory(), record, shown).await {
                Ok(record) => self.set_record(record),
                Err(error) => {
                    connected.session.close().await;
                    return Err(error);
                }
            }
        }
        Ok(connected.session)
    }

    /// Connects, and says whether the key that the machine has shown is to be believed from now on.
    #[cfg(feature = "ssh")]
    async fn connect_ssh(
        &self,
        record: &HostRecord,
        login: SshLogin,
        instance: &Instance,
    ) -> Result<(crate::session::ssh::Connected, bool)> {
        use crate::session::ssh::{self, HostKeyPolicy};

        let settings = instance.ssh.as_ref().clone().or(self.core().ssh_settings().await?);
        let (sources, note) = (record.clone(), login.note.clone());
        let place = self.core().place();
        let resolved = tokio::task::spawn_blocking(move || {
            ssh::resolve::Sources { record: &sources, login, settings, place }.target()
        });
        let target = resolved.await.map_err(|_| Error::Panicked("reading how a host is reached"))?;
        let target = target.map_err(|error| Error::session(self, error))?;
        let noted = |error: SessionError| match note {
            Some(note) if error.kind() == SessionErrorKind::Auth => {
                SessionError::new(SessionErrorKind::Auth, note).source(error)
            }
            _ => error,
        };
        let connected = ssh::connect(&target).await.map_err(|error| Error::session(self, noted(error)))?;
        Ok((connected, matches!(target.host_key, HostKeyPolicy::AcceptNew)))
    }

    pub(super) async fn on_session<T, F>(
        &self,
        doing: &'static str,
        work: impl FnOnce(Arc<dyn Session>) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SessionError>> + Send + 'static,
    {
        let session = self.session().await?;
        let outcome = engine::call_while_wanted(doing, async move { Box::pin(work(session)).await }).await?;
        outcome.map_err(|error| Error::session(self, error))
    }
}
