//! One command on each of several connections, for servers that mix up commands on one.
//!
//! When a command ends, dropbear (seen with 2022.83) takes every channel on which none has been started yet for one whose
//! command has ended too. What is started there later may lose its output, or the whole connection ends with a failed
//! assertion. So no channel may be opened there beside a command, nor after one that was given up before it had ended:
//! the next command gets a connection of its own.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};

use super::connection::{Channel, Connection, Start, Takes};
use super::{SshTarget, backend};
use crate::session::{SessionError, SessionErrorKind};

/// So many commands there can be at once: as many as OpenSSH allows on a connection, unless it is told otherwise.
const MOST: usize = 10;

/// So many connections without a command are kept for the next ones, besides the first.
const IDLE: usize = 1;

/// Whether the server with this identification (RFC 4253, 4.2) mixes up commands.
pub(super) fn mixes_up_commands(identification: &[u8]) -> bool {
    identification.windows(b"dropbear".len()).any(|window| window == b"dropbear")
}

/// Several connections to one host.
pub(super) struct OneEach {
    pool: Arc<Pool>,
}

struct Pool {
    /// The connection that all else hangs on: when it breaks, the host is taken for lost.
    first: Arc<dyn Connection>,
    target: Arc<SshTarget>,
    idle: Mutex<Vec<Arc<dyn Connection>>>,
    room: Arc<Semaphore>,
    /// One after the other logs in: dropbear hangs up on the sixth that has not.
    login: AsyncMutex<()>,
}

/// A connection while it has a command.
struct Held {
    pool: Arc<Pool>,
    connection: Arc<dyn Connection>,
    /// Whether it is known what became of the channel. One that nobody waited for any more may have a command.
    is_settled: bool,
    _room: OwnedSemaphorePermit,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_settled || self.connection.takes() == Takes::None {
            return;
        }
        let mut idle = self.pool.idle.lock();
        let is_first = Arc::ptr_eq(&self.connection, &self.pool.first);
        if is_first || idle.len() <= IDLE {
            idle.push(Arc::clone(&self.connection));
        }
    }
}

impl OneEach {
    /// Over a first connection, and more to the same target.
    pub(super) fn new(first: Arc<dyn Connection>, target: Arc<SshTarget>) -> Self {
        let idle = Mutex::new(vec![Arc::clone(&first)]);
        let room = Arc::new(Semaphore::new(MOST));
        Self { pool: Arc::new(Pool { first, target, idle, room, login: AsyncMutex::default() }) }
    }

    /// A connection without a command.
    async fn hold(&self) -> Result<Held, SessionError> {
        let room = Arc::clone(&self.pool.room).acquire_owned().await.map_err(|error| {
            SessionError::new(SessionErrorKind::Failed, "nobody gives connections any more").source(error)
        })?;
        let connection = match self.idle() {
            Some(connection) => connection,
            None => {
                let _one_by_one = self.pool.login.lock().await;
                match self.idle() {
                    Some(connection) => connection,
                    None => backend::connect(&self.pool.target).await?.0,
                }
            }
        };
        Ok(Held { pool: Arc::clone(&self.pool), connection, is_settled: false, _room: room })
    }

    fn idle(&self) -> Option<Arc<dyn Connection>> {
        let mut idle = self.pool.idle.lock();
        idle.retain(|connection| connection.broken().is_none());
        idle.pop()
    }
}

#[async_trait]
impl Connection for OneEach {
    async fn open(&self, start: Start) -> Result<Channel, SessionError> {
        if let Start::Tcp { .. } = start {
            return self.pool.first.open(start).await;
        }
        let mut held = self.hold().await?;
        let opened = held.connection.open(start).await;
        held.is_settled = true;
        let channel = opened?;
        let input = channel.input.clone();
        drop(tokio::spawn(async move {
            input.closed().await;
            drop(held);
        }));
        Ok(channel)
    }

    fn broken(&self) -> Option<String> {
        self.pool.first.broken()
    }

    fn takes(&self) -> Takes {
        Takes::Many
    }

    async fn close(&self) {
        let others = std::mem::take(&mut *self.pool.idle.lock());
        for connection in others {
            connection.close().await;
        }
        self.pool.first.close().await;
    }
}
