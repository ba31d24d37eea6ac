//! The beginning of a connection: the exchange of keys, and whom to believe.

use std::io;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use ssh2::{BlockDirections, Error, MethodType, Session};
use tokio::sync::oneshot;

use super::Greeted;
use super::code::{Meaning, is_again, meaning};
use super::socket::{Interest, Socket};
use crate::session::ssh::dial::{Refused, place};
use crate::session::ssh::host_key::HostKey;
use crate::session::ssh::target::SshTarget;
use crate::session::{SessionError, SessionErrorKind};

/// Steps of the beginning, which all end at one deadline, and when nobody waits for their outcome any longer.
pub(super) struct Beginning<'a> {
    pub(super) target: &'a SshTarget,
    pub(super) socket: &'a mut Socket,
    deadline: Option<Instant>,
    reply: &'a mut oneshot::Sender<Result<Greeted, Refused>>,
    waker: Waker,
}

/// Why a step has no outcome.
#[derive(Debug)]
pub(super) enum Stop {
    /// libssh2 says so.
    Failed(Error),
    /// The time is up.
    Late,
    /// Nobody waits for it.
    Unwanted,
    /// The socket cannot be waited for.
    Socket(io::Error),
}

impl<'a> Beginning<'a> {
    pub(super) fn new(
        target: &'a SshTarget,
        socket: &'a mut Socket,
        reply: &'a mut oneshot::Sender<Result<Greeted, Refused>>,
    ) -> Self {
        let waker = socket.waker();
        Self { target, socket, deadline: Instant::now().checked_add(target.limits.handshake), reply, waker }
    }

    /// Calls something of libssh2's until it has an outcome.
    pub(super) fn finish<T>(
        &mut self,
        session: &Session,
        mut call: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Stop> {
        loop {
            match call() {
                Ok(outcome) => return Ok(outcome),
                Err(error) if is_again(&error) => self.wait(session)?,
                Err(error) => return Err(Stop::Failed(error)),
            }
        }
    }

    fn wait(&mut self, session: &Session) -> Result<(), Stop> {
        if self.reply.poll_closed(&mut Context::from_waker(&self.waker)).is_ready() {
            return Err(Stop::Unwanted);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Stop::Late);
        }
        self.socket.wait(interest(session), self.deadline).map_err(Stop::Socket)?;
        Ok(())
    }

    /// Exchanges keys, and asks whether the host's is to be believed.
    pub(super) fn shake_hands(&mut self, session: &mut Session) -> Result<HostKey, Refused> {
        session.set_blocking(false);
        session.set_tcp_stream(self.socket.lend());
        prefer(session, self.target)?;
        let mut shaking = session.clone();
        if let Err(stop) = self.finish(session, || shaking.handshake()) {
            return Err(self.no_handshake(session, stop));
        }
        let key = session.host_key().and_then(|(blob, _)| HostKey::from_blob(blob).ok());
        let Some(key) = key else {
            let message = format!("`{}` has shown no host key that can be read", self.target.label);
            return Err(Refused::Finally(SessionError::new(SessionErrorKind::HostKey, message)));
        };
        self.target.host_key.check(self.target, &key).map_err(Refused::Finally)?;
        Ok(key)
    }

    fn no_handshake(&self, session: &Session, stop: Stop) -> Refused {
        let at = format!("`{}` at `{}`", self.target.label, place(self.target));
        let failed = |kind, message: String| SessionError::new(kind, message);
        let said = session.banner_bytes().map(String::from_utf8_lossy).filter(|said| !said.is_empty());
        // Whoever has not said that it is an SSH server may be a machine that boots, or what stands in front of one.
        let booting = !said.as_ref().is_some_and(|said| said.starts_with("SSH-"));
        let hint = match said {
            Some(said) if booting => format!(": it says `{}`", said.escape_debug()),
            _ => String::new(),
        };
        let refused = |error| if booting { Refused::Yet(error) } else { Refused::Finally(error) };
        let error = match stop {
            Stop::Failed(error) => error,
            Stop::Late if booting => {
                let limit = self.target.limits.handshake;
                let message = format!("{at} does not say within {limit:?} that it is an SSH server{hint}");
                return refused(failed(SessionErrorKind::Unreachable, message));
            }
            stop => return refused(stop.into_error(self.target)),
        };
        match meaning(&error) {
            Meaning::HungUp if booting => {
                let message = format!("{at} hangs up before it has said that it is an SSH server{hint}");
                refused(failed(SessionErrorKind::Unreachable, message))
            }
            Meaning::HungUp => {
                let message = format!("{at} hung up while keys were exchanged");
                refused(failed(SessionErrorKind::Unreachable, message))
            }
            Meaning::NoAlgorithm => {
                let message = format!(
                    "{at} and libssh2 have no algorithm in common: the server offers only such as libssh2 does not \
                     have, as servers do that know nothing newer than SHA-1"
                );
                Refused::Finally(failed(SessionErrorKind::Unsupported, message))
            }
            Meaning::BadExchange => {
                let message = format!("keys could not be exchanged with {at}");
                refused(failed(SessionErrorKind::Unreachable, message).source(error))
            }
            _ if booting => {
                let message = format!("{at} does not say that it is an SSH server{hint}");
                refused(failed(SessionErrorKind::Unreachable, message).source(error))
            }
            _ => refused(failed(SessionErrorKind::Failed, format!("no SSH connection to {at}")).source(error)),
        }
    }
}

impl Stop {
    /// The error for a host.
    pub(super) fn into_error(self, target: &SshTarget) -> SessionError {
        let SshTarget { label, .. } = target;
        match self {
            Self::Failed(error) if meaning(&error) == Meaning::HungUp => {
                SessionError::new(SessionErrorKind::Unreachable, format!("`{label}` hung up while we logged in"))
            }
            Self::Failed(error) => {
                SessionError::new(SessionErrorKind::Failed, format!("cannot log in to `{label}`")).source(error)
            }
            Self::Late => {
                let limit = target.limits.handshake;
                let message = format!("logging in to `{label}` takes longer than {limit:?}");
                SessionError::new(SessionErrorKind::Timeout, message)
            }
            Self::Unwanted => SessionError::new(SessionErrorKind::Failed, "nobody waits for the connection"),
            Self::Socket(error) => {
                let message = format!("cannot wait for the connection to `{label}`");
                SessionError::new(SessionErrorKind::Local, message).source(error)
            }
        }
    }
}

/// What libssh2 waits for. Its last attempt to read or write has left that behind.
pub(super) fn interest(session: &Session) -> Interest {
    match session.block_directions() {
        BlockDirections::Outbound => Interest { input: false, room: true },
        BlockDirections::Both => Interest { input: true, room: true },
        BlockDirections::Inbound | BlockDirections::None => Interest { input: true, room: false },
    }
}

/// What is preferred among the algorithms that libssh2 has, which are all offered.
fn prefer(session: &Session, target: &SshTarget) -> Result<(), Refused> {
    let ask = || -> Result<(), Error> {
        // Certificates change while keys stay, and nothing here could check one.
        let keys = session.supported_algs(MethodType::HostKey)?;
        let keys = keys.into_iter().filter(|name| !name.contains("-cert-v01@")).collect();
        session.method_pref(MethodType::HostKey, &first(&believed(target), keys))?;
        for direction in [MethodType::CryptCs, MethodType::CryptSc] {
            let ciphers = session.supported_algs(direction)?;
            let pref = CIPHERS.map(str::to_owned);
            session.method_pref(direction, &first(&pref, ciphers))?;
        }
        session.set_keepalive(true, 2);
        Ok(())
    };
    ask().map_err(|error| {
        let message = "libssh2 does not take its own algorithms";
        Refused::Finally(SessionError::new(SessionErrorKind::Failed, message).source(error))
    })
}

/// The fastest ciphers first, as libssh2 uses them.
const CIPHERS: [&str; 2] = ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com"];

/// A list of names that begins with the preferred ones among them.
fn first(preferred: &[String], mut names: Vec<&str>) -> String {
    names.sort_by_key(|name| preferred.iter().position(|other| other == name).unwrap_or(preferred.len()));
    names.join(",")
}

/// The algorithms of the keys that are believed, so that the server shows one of these.
fn believed(target: &SshTarget) -> Vec<String> {
    let algorithms = target.host_key.algorithms(&target.address, target.port);
    let signatures = |algorithm: String| match algorithm.as_str() {
        // The key is of one kind, its signatures are of three (RFC 8332).
        "ssh-rsa" => vec!["rsa-sha2-512".to_owned(), "rsa-sha2-256".to_owned(), algorithm],
        _ => vec![algorithm],
    };
    algorithms.into_iter().flat_map(signatures).collect()
}

/// The time within which a goodbye has to get through.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferred_names_come_first_and_others_keep_their_order() {
        let preferred = ["d".to_owned(), "x".to_owned(), "b".to_owned()];
        assert_eq!(first(&preferred, vec!["a", "b", "c", "d"]), "d,b,a,c");
    }
}
