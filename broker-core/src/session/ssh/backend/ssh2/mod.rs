//! libssh2, by the `ssh2` crate: one thread a connection.
//!
//! The thread owns everything of libssh2's, which never blocks: `handshake.rs` and `login.rs` connect and log in,
//! `thread.rs` then moves what there is to move on all channels in turn and sleeps in between. `opening.rs` opens
//! channels one after the other, `channel.rs` is one of them, by the calls of `handle.rs`; `socket.rs` is what the thread
//! waits for, and `ear.rs` tells whether the wait would miss something.

mod agent;
mod channel;
mod code;
mod ear;
mod handle;
mod handshake;
mod key_file;
mod login;
mod opening;
mod pulse;
mod socket;
#[cfg(test)]
mod tests;
mod thread;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use self::opening::Open;
use self::socket::Socket;
use super::super::connection::{Channel, Connection, Start, Takes};
use super::super::dial::{Dialler, Patience, Refused};
use super::super::host_key::HostKey;
use super::super::target::SshTarget;
use super::Contact;
use crate::session::{SessionError, SessionErrorKind};

/// Connects and logs in, again and again where the machine may be booting.
pub(super) async fn connect(target: &SshTarget) -> Result<Contact, SessionError> {
    let mut patience = Patience::new(target);
    let dialler = Dialler::new(target).await?;
    loop {
        let refused = match dialler.dial().await {
            Ok(socket) => match attempt(target, socket).await {
                Ok((connection, key)) => return Ok((Arc::new(connection), key, dialler.gates())),
                Err(refused) => refused,
            },
            Err(refused) => refused,
        };
        patience.after(refused).await?;
    }
}

/// Shakes hands and logs in over one socket.
async fn attempt(target: &SshTarget, socket: OwnedFd) -> Result<(ThreadConnection, HostKey), Refused> {
    let (reply, outcome) = oneshot::channel();
    let (requests, inbox) = mpsc::unbounded_channel();
    let broken = Arc::new(Mutex::new(None));
    let gave_up = Arc::new(AtomicBool::new(false));
    let local = |error: std::io::Error| {
        let message = format!("cannot start a thread for the connection to `{}`", target.label);
        Refused::Finally(SessionError::new(SessionErrorKind::Local, message).source(error))
    };
    let socket = Socket::new(socket).map_err(local)?;
    let thread = {
        let (target, broken, gave_up) = (target.clone(), Arc::clone(&broken), Arc::clone(&gave_up));
        move || thread::run(target, socket, reply, inbox, &broken, gave_up)
    };
    // The thread is not joined: it ends when nobody can ask it for anything any more.
    drop(std::thread::Builder::new().name("broker-ssh".to_owned()).spawn(thread).map_err(local)?);
    // An agent that asks its user may hold the thread up for longer than the thread itself would wait.
    let limit = target.limits.handshake.saturating_add(Duration::from_secs(1));
    let greeted = match tokio::time::timeout(limit, outcome).await {
        Ok(Ok(outcome)) => outcome?,
        Ok(Err(_)) => return Err(Refused::Finally(failed(&target.label))),
        Err(_) => {
            let message = format!("logging in to `{}` takes longer than {:?}", target.label, target.limits.handshake);
            return Err(Refused::Finally(SessionError::new(SessionErrorKind::Timeout, message)));
        }
    };
    let Greeted { key, mixes_up_commands } = greeted;
    Ok((ThreadConnection { requests, broken, label: target.label.clone(), mixes_up_commands, gave_up }, key))
}

fn failed(label: &str) -> SessionError {
    SessionError::new(SessionErrorKind::Failed, format!("the thread of the connection to `{label}` has failed"))
}

/// What a server is known by, once we are logged in.
struct Greeted {
    key: HostKey,
    mixes_up_commands: bool,
}

/// What can be asked of the thread.
enum Request {
    /// A channel.
    Open(Open),
    /// To close the connection, and to drop this when that is done.
    Close(oneshot::Sender<()>),
}

/// The way to the thread of a connection, which ends when this is dropped.
struct ThreadConnection {
    requests: mpsc::UnboundedSender<Request>,
    broken: Arc<Mutex<Option<String>>>,
    label: String,
    mixes_up_commands: bool,
    /// Whether a command was given up before it had ended.
    gave_up: Arc<AtomicBool>,
}

impl ThreadConnection {
    fn gone(&self) -> SessionError {
        thread::broken(&self.label, self.broken().as_deref().unwrap_or("its thread has failed"))
    }
}

#[async_trait]
impl Connection for ThreadConnection {
    async fn open(&self, start: Start) -> Result<Channel, SessionError> {
        let (reply, outcome) = oneshot::channel();
        let open = Open { start, reply };
        self.requests.send(Request::Open(open)).map_err(|_| self.gone())?;
        outcome.await.map_err(|_| self.gone())?
    }

    fn broken(&self) -> Option<String> {
        let reason = self.broken.lock().clone();
        reason.or_else(|| self.requests.is_closed().then(|| "its thread has failed".to_owned()))
    }

    fn takes(&self) -> Takes {
        match (self.mixes_up_commands, self.gave_up.load(Ordering::Relaxed)) {
            (false, _) => Takes::Many,
            (true, false) => Takes::One,
            (true, true) => Takes::None,
        }
    }

    async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.requests.send(Request::Close(reply)).is_ok() {
            // Nothing is ever said: it is dropped when the thread is at its end.
            let _closed = done.await;
        }
    }
}
