//! Opening channels, one after the other: libssh2 keeps what it knows of a channel to be in the session.

use std::collections::VecDeque;
use std::ffi::CString;
use std::task::Poll;
use std::time::{Duration, Instant};

use ssh2::Session;
use tokio::sync::oneshot;

use super::channel::{Broken, Kind, Pump, STDOUT, again};
use super::code::{Meaning, meaning};
use super::handle::Handle;
use crate::session::ssh::connection::{Channel, Start};
use crate::session::{SessionError, SessionErrorKind};

/// How much a server may send on a channel that nobody reads from. OpenSSH's client gives as much.
const WINDOW: u32 = 2 * 1024 * 1024;

/// The largest packet that a server may send, which is what every client takes (RFC 4253, 6.1).
const PACKET: u32 = 32 * 1024;

/// After so many refusals in a row, and twice the pause after each of them, a server is believed that takes nothing at
/// all.
const PATIENCE: u32 = 6;

/// libssh2 sends requests in one packet of its own size.
const LONGEST_LINE: usize = 34_000;

/// A channel that somebody waits for.
pub(super) struct Open {
    pub(super) start: Start,
    pub(super) reply: oneshot::Sender<Result<Channel, SessionError>>,
}

impl Open {
    fn kind(&self) -> Kind {
        match self.start {
            Start::Exec { .. } | Start::Subsystem(_) => Kind::Session,
            Start::Tcp { .. } => Kind::Tcp,
        }
    }

    fn answer(self, answer: Result<Channel, SessionError>) {
        // Whoever has gone away drops the channel, which closes it.
        drop(self.reply.send(answer));
    }
}

/// The channels to be.
pub(super) struct Openings {
    label: String,
    /// Whether there must be no channel for a command beside another: see `one_each.rs`.
    one_by_one: bool,
    queue: VecDeque<Open>,
    current: Option<Stage>,
    /// A channel for whoever comes next, without a command yet. libssh2 takes in what the server says only when it is
    /// asked about a channel, so that there always has to be one; and a command is sooner begun on it.
    spare: Option<Handle>,
    /// Whether the server lets us have one.
    may_spare: bool,
    /// So many commands there have been at once.
    most: usize,
    /// What is known of the server's limit, once it has refused a command.
    full: Option<Full>,
}

/// A server that has refused a command for want of room, as it seems.
struct Full {
    /// So many it takes at once: no more than there have been.
    limit: usize,
    /// So many refusals in a row. A server may need a moment to see that a channel has been closed.
    refusals: u32,
    /// When to try again, where there are fewer than the limit.
    again: Instant,
}

/// How far the channel is that is being opened.
enum Stage {
    Spare,
    Channel(Open),
    Terminal(Open, Handle),
    Command(Open, Handle),
}

impl Openings {
    pub(super) fn new(label: String, one_by_one: bool) -> Self {
        let queue = VecDeque::new();
        Self { label, one_by_one, queue, current: None, spare: None, may_spare: true, most: 0, full: None }
    }

    pub(super) fn push(&mut self, open: Open) {
        match unfit(&open.start) {
            Some(error) => open.answer(Err(error)),
            None => self.queue.push_back(open),
        }
    }

    /// Whether something here reads from the connection at every turn.
    pub(super) fn reads(&self) -> bool {
        self.current.is_some() || self.spare.is_some()
    }

    /// When to go on although nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waiting = self.current.is_none() && !self.queue.is_empty();
        self.full.as_ref().filter(|_| waiting).map(|full| full.again).filter(|again| *again > Instant::now())
    }

    /// Tells all who wait of an error.
    pub(super) fn fail(&mut self, error: impl Fn() -> SessionError) {
        let current = match self.current.take() {
            Some(Stage::Channel(open) | Stage::Terminal(open, _) | Stage::Command(open, _)) => Some(open),
            Some(Stage::Spare) | None => None,
        };
        for open in current.into_iter().chain(self.queue.drain(..)) {
            open.answer(Err(error()));
        }
    }

    /// Goes on with opening, and says whether that led to anything.
    pub(super) fn turn(&mut self, session: &Session, pumps: &mut Vec<Pump>) -> Result<bool, Broken> {
        self.look_at_spare(pumps)?;
        let Some(stage) = self.current.take().or_else(|| self.next(pumps)) else { return Ok(false) };
        match stage {
            Stage::Spare => self.open_spare(session),
            Stage::Channel(open) => self.open(session, open, pumps),
            Stage::Terminal(open, channel) => self.terminal(open, channel, pumps),
            Stage::Command(open, channel) => self.command(open, channel, pumps),
        }
    }

    /// Reads from the connection where no channel does that, and gives up a spare one that the server has closed.
    fn look_at_spare(&mut self, pumps: &mut Vec<Pump>) -> Result<(), Broken> {
        let Some(spare) = &mut self.spare else { return Ok(()) };
        again(spare.read(STDOUT, &mut []))?.is_ready();
        if spare.is_at_end()
            && let Some(spare) = self.spare.take()
        {
            self.may_spare = false;
            pumps.push(Pump::closing(spare, Kind::Session));
        }
        Ok(())
    }

    /// What to open next.
    fn next(&mut self, pumps: &[Pump]) -> Option<Stage> {
        self.queue.retain(|open| !open.reply.is_closed());
        let fits = |full: &Full| sessions(pumps) < full.limit && Instant::now() >= full.again;
        let alone = !self.one_by_one || sessions(pumps) == 0;
        let room = alone && (self.spare.is_some() || self.full.as_ref().is_none_or(fits));
        let next = self.queue.iter().position(|open| room || open.kind() == Kind::Tcp);
        match next.and_then(|index| self.queue.remove(index)) {
            Some(open) if open.kind() == Kind::Session => Some(match self.spare.take() {
                Some(spare) => Stage::Terminal(open, spare),
                None => Stage::Channel(open),
            }),
            Some(open) => Some(Stage::Channel(open)),
            None => (pumps.is_empty() && self.spare.is_none() && self.may_spare).then_some(Stage::Spare),
        }
    }

    fn open_spare(&mut self, session: &Session) -> Result<bool, Broken> {
        match answered(open_session(session))? {
            Poll::Pending => self.current = Some(Stage::Spare),
            Poll::Ready(Ok(channel)) => {
                self.most = self.most.max(1);
                self.spare = Some(channel);
            }
            Poll::Ready(Err(_)) => self.may_spare = false,
        }
        Ok(self.current.is_none())
    }

    fn open(&mut self, session: &Session, open: Open, pumps: &mut Vec<Pump>) -> Result<bool, Broken> {
        let outcome = match &open.start {
            // A host name that cannot be one is refused before it comes here.
            Start::Tcp { host, port } => {
                Handle::open_tcp(session, &CString::new(host.as_str()).unwrap_or_default(), *port)
            }
            Start::Exec { .. } | Start::Subsystem(_) => open_session(session),
        };
        let Some((open, outcome)) = self.settle(open, answered(outcome), Stage::Channel)? else { return Ok(false) };
        match outcome {
            Ok(channel) if open.kind() == Kind::Session => {
                self.most = self.most.max(sessions(pumps) + 1);
                if let Some(full) = &mut self.full {
                    full.refusals = 0;
                }
                // Whoever has gone away in the meantime must not find the command running.
                match open.reply.is_closed() {
                    true => self.spare = Some(channel),
                    false => self.current = Some(Stage::Terminal(open, channel)),
                }
            }
            Ok(channel) => hand_over(open, channel, pumps),
            Err(error) if open.kind() == Kind::Session && meaning(&error) == Meaning::Refused && self.waits(pumps) => {
                self.queue.push_front(open);
            }
            Err(error) => {
                let error = self.refused(&open.start, error);
                open.answer(Err(error));
            }
        }
        Ok(true)
    }

    /// Whether to wait for room after a refusal. There is no point in that where the server has never taken a command,
    /// and soon none where there is nothing left that could make room.
    fn waits(&mut self, pumps: &[Pump]) -> bool {
        let refusals = self.full.as_ref().map_or(0, |full| full.refusals) + 1;
        let waits = self.most > 0 && (sessions(pumps) > 0 || refusals <= PATIENCE);
        if waits {
            let limit = self.most;
            tracing::debug!("the server of `{}` takes {limit} commands at once", self.label);
            let pause = Duration::from_millis(10) * (1 << refusals.min(PATIENCE));
            self.full = Some(Full { limit, refusals, again: Instant::now() + pause });
        } else {
            self.full = None;
        }
        waits
    }

    fn terminal(&mut self, open: Open, mut channel: Handle, pumps: &mut Vec<Pump>) -> Result<bool, Broken> {
        let Start::Exec { pty: Some(pty), .. } = &open.start else {
            self.current = Some(Stage::Command(open, channel));
            return Ok(true);
        };
        let outcome = answered(channel.request_terminal(pty));
        let settled = self.settle((open, channel), outcome, |(open, channel)| Stage::Terminal(open, channel))?;
        let Some(((open, channel), outcome)) = settled else { return Ok(false) };
        match outcome {
            // Nobody else wants a terminal like this one.
            Ok(()) if open.reply.is_closed() => pumps.push(Pump::closing(channel, Kind::Session)),
            Ok(()) => self.current = Some(Stage::Command(open, channel)),
            Err(error) => {
                pumps.push(Pump::closing(channel, Kind::Session));
                let message = format!("`{}` gives no terminal", self.label);
                open.answer(Err(SessionError::new(SessionErrorKind::Unsupported, message).source(error)));
            }
        }
        Ok(true)
    }

    fn command(&mut self, open: Open, mut channel: Handle, pumps: &mut Vec<Pump>) -> Result<bool, Broken> {
        let outcome = match &open.start {
            Start::Exec { line, .. } => channel.exec(line),
            Start::Subsystem(name) => channel.subsystem(name),
            Start::Tcp { .. } => Ok(()),
        };
        let outcome = answered(outcome);
        let settled = self.settle((open, channel), outcome, |(open, channel)| Stage::Command(open, channel))?;
        let Some(((open, channel), outcome)) = settled else { return Ok(false) };
        match outcome {
            Ok(()) => hand_over(open, channel, pumps),
            Err(error) => {
                pumps.push(Pump::closing(channel, open.kind()));
                let error = self.refused(&open.start, error);
                open.answer(Err(error));
            }
        }
        Ok(true)
    }

    /// Keeps whoever waits while there is no outcome, and where the connection broke, to be told so.
    fn settle<H, T>(
        &mut self,
        held: H,
        outcome: Result<Poll<T>, Broken>,
        stage: impl FnOnce(H) -> Stage,
    ) -> Result<Option<(H, T)>, Broken> {
        match outcome {
            Ok(Poll::Ready(outcome)) => Ok(Some((held, outcome))),
            unsettled => {
                self.current = Some(stage(held));
                unsettled.map(|_| None)
            }
        }
    }

    /// What to tell somebody who does not get a channel.
    fn refused(&self, start: &Start, error: ssh2::Error) -> SessionError {
        let label = &self.label;
        let (kind, message) = match start {
            _ if meaning(&error) == Meaning::Late => {
                (SessionErrorKind::Timeout, format!("`{label}` does not answer the request for a channel"))
            }
            Start::Exec { .. } => (SessionErrorKind::Unsupported, format!("`{label}` runs no commands for us")),
            Start::Subsystem(name) => {
                (SessionErrorKind::Unsupported, format!("the SSH server of `{label}` has no subsystem `{name}`"))
            }
            Start::Tcp { host, port } if error.message().contains("prohibited") => (
                SessionErrorKind::Permission,
                format!("the SSH server of `{label}` may not forward connections to `{host}:{port}`"),
            ),
            Start::Tcp { host, port } => {
                (SessionErrorKind::Unreachable, format!("`{label}` cannot connect to `{host}:{port}`"))
            }
        };
        SessionError::new(kind, message).source(error)
    }
}

/// How many channels there are that a server counts.
fn sessions(pumps: &[Pump]) -> usize {
    pumps.iter().filter(|pump| pump.kind() == Kind::Session).count()
}

fn open_session(session: &Session) -> Result<Handle, ssh2::Error> {
    Handle::open(session, WINDOW, PACKET)
}

/// A channel that is whole.
fn hand_over(open: Open, channel: Handle, pumps: &mut Vec<Pump>) {
    let (pump, channel) = Pump::new(channel, open.kind());
    pumps.push(pump);
    open.answer(Ok(channel));
}

/// The answer of the server to a request, once there is one. A no is no trouble of the connection's.
fn answered<T>(outcome: Result<T, ssh2::Error>) -> Result<Poll<Result<T, ssh2::Error>>, Broken> {
    match outcome {
        Ok(outcome) => Ok(Poll::Ready(Ok(outcome))),
        Err(error) => match meaning(&error) {
            Meaning::Again => Ok(Poll::Pending),
            Meaning::Refused | Meaning::Late => Ok(Poll::Ready(Err(error))),
            _ => Err(error.into()),
        },
    }
}

/// Why a channel can never come about, if it cannot.
fn unfit(start: &Start) -> Option<SessionError> {
    let message = match start {
        Start::Exec { line, .. } if line.contains(&0) => "a command cannot have a NUL character in it".to_owned(),
        Start::Exec { line, .. } if line.len() > LONGEST_LINE => {
            format!("the command is longer than the {LONGEST_LINE} bytes that libssh2 can send")
        }
        Start::Exec { pty: Some(pty), .. } if pty.term.contains('\0') => {
            "the kind of a terminal cannot have a NUL character in it".to_owned()
        }
        Start::Tcp { host, .. } if host.contains('\0') => "a host name cannot have a NUL character in it".to_owned(),
        Start::Exec { .. } | Start::Subsystem(_) | Start::Tcp { .. } => return None,
    };
    Some(SessionError::new(SessionErrorKind::Unsupported, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_said_at_once() {
        let exec = |line: Vec<u8>| unfit(&Start::Exec { line, pty: None }).map(|error| error.to_string());
        assert_eq!(exec(b"true".to_vec()), None);
        assert!(exec(b"a\0b".to_vec()).unwrap().contains("NUL"));
        assert!(exec(vec![b'x'; 40_000]).unwrap().contains("longer"));
        assert_eq!(exec(vec![0xff; 20_000]), None);
    }
}
