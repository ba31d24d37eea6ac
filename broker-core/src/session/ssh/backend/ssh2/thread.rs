//! The thread of a connection: one turn after the other, and sleep while there is nothing to do.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Instant;

use parking_lot::Mutex;
use ssh2::{DisconnectCode, Session};
use tokio::sync::{mpsc, oneshot};

use super::channel::{Broken, Pump, Turn};
use super::ear;
use super::handshake::{Beginning, GOODBYE, interest};
use super::login::log_in;
use super::opening::Openings;
use super::pulse::{Due, Pulse};
use super::socket::{Interest, Ready, Socket};
use super::{Greeted, Request};
use crate::session::ssh::dial::Refused;
use crate::session::ssh::one_each::mixes_up_commands;
use crate::session::ssh::target::SshTarget;
use crate::session::{SessionError, SessionErrorKind};

/// So much of one output is moved in one turn at the most.
const PIECE: usize = 256 * 1024;

/// The error for a connection that broke.
pub(super) fn broken(label: &str, reason: &str) -> SessionError {
    SessionError::new(SessionErrorKind::Unreachable, format!("the connection to `{label}` broke: {reason}"))
}

/// Begins a connection, says how that went, and serves it until it ends.
pub(super) fn run(
    target: SshTarget,
    mut socket: Socket,
    mut reply: oneshot::Sender<Result<Greeted, Refused>>,
    inbox: mpsc::UnboundedReceiver<Request>,
    reason: &Arc<Mutex<Option<String>>>,
    gave_up: Arc<AtomicBool>,
) {
    let mut session = match Session::new() {
        Ok(session) => session,
        Err(error) => {
            let error = SessionError::new(SessionErrorKind::Failed, "libssh2 does not start").source(error);
            drop(reply.send(Err(Refused::Finally(error))));
            return;
        }
    };
    ear::listen(&session);
    let mut beginning = Beginning::new(&target, &mut socket, &mut reply);
    let outcome = beginning.shake_hands(&mut session).and_then(|key| {
        log_in(&mut beginning, &session)?;
        Ok(Greeted { key, mixes_up_commands: session.banner_bytes().is_some_and(mixes_up_commands) })
    });
    let begun = outcome.is_ok();
    let pulse = Pulse::new(target.limits.keepalive, Instant::now());
    let one_by_one = outcome.as_ref().is_ok_and(|greeted| greeted.mixes_up_commands);
    let openings = Openings::new(target.label.clone(), one_by_one);
    let mut thread =
        Thread { label: target.label, socket, session, inbox, openings, pumps: Vec::new(), pulse, gave_up };
    // Who has gone away in the meantime has also dropped the way to the inbox.
    let wanted = reply.send(outcome).is_ok();
    let end = if begun && wanted { thread.serve() } else { End::Closed(None) };
    thread.end(end, reason);
}

struct Thread {
    label: String,
    socket: Socket,
    session: Session,
    inbox: mpsc::UnboundedReceiver<Request>,
    openings: Openings,
    pumps: Vec<Pump>,
    pulse: Pulse,
    /// Whether a command was given up before it had ended.
    gave_up: Arc<AtomicBool>,
}

/// How a connection ends.
enum End {
    /// As somebody wants it, who may wait for it.
    Closed(#[expect(dead_code, reason = "who waits is told by its being dropped")] Option<oneshot::Sender<()>>),
    /// For this reason.
    Broke(String),
}

impl Thread {
    /// Serves the connection until its end.
    fn serve(&mut self) -> End {
        let waker = self.socket.waker();
        let cx = &mut Context::from_waker(&waker);
        let mut buffer = vec![0_u8; PIECE];
        loop {
            match self.requests(cx) {
                Poll::Ready(closed) => {
                    self.flush(cx, &mut buffer);
                    return End::Closed(closed);
                }
                Poll::Pending => {}
            }
            let outcome = self.turn(cx, &mut buffer).and_then(|moved| self.rest(moved));
            if let Err(broken) = outcome {
                return End::Broke(self.reason(broken));
            }
        }
    }

    /// Takes what is asked for, and says whether that is to close the connection.
    fn requests(&mut self, cx: &mut Context<'_>) -> Poll<Option<oneshot::Sender<()>>> {
        loop {
            match self.inbox.poll_recv(cx) {
                Poll::Ready(Some(Request::Open(open))) => self.openings.push(open),
                Poll::Ready(Some(Request::Close(reply))) => return Poll::Ready(Some(reply)),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Moves what can be moved, and says whether there may be more.
    fn turn(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Result<bool, Broken> {
        let heard = ear::heard();
        let mut moved = self.openings.turn(&self.session, &mut self.pumps)?;
        let mut index = 0;
        while let Some(pump) = self.pumps.get_mut(index) {
            match pump.turn(cx, &mut self.socket, buffer, &self.gave_up)? {
                Turn::Idle => index += 1,
                Turn::Moved => {
                    moved = true;
                    index += 1;
                }
                Turn::Over => {
                    moved = true;
                    drop(self.pumps.remove(index));
                }
            }
        }
        // It may be for one who was looked at before it came.
        Ok(moved || ear::heard() != heard)
    }

    /// Waits until there is something to do, or only looks whether there is.
    fn rest(&mut self, moved: bool) -> Result<(), Broken> {
        let reading = !self.pumps.is_empty() || self.openings.reads();
        if moved {
            self.pulse.heard(Instant::now());
        }
        // Before the wait, which then sees the answer before a turn can take it in.
        self.feel_pulse(reading)?;
        let Interest { input, room } = interest(&self.session);
        let deadlines = self.pumps.iter().filter_map(Pump::deadline);
        let deadlines = deadlines.chain(self.pulse.next()).chain(self.openings.deadline());
        let until = if moved { Some(Instant::now()) } else { deadlines.min() };
        let ready = self.wait(Interest { input: input && reading, room }, until)?;
        if ready.input {
            self.pulse.heard(Instant::now());
        }
        if ready.gone && !reading {
            return Err(Broken(None));
        }
        Ok(())
    }

    /// Asks the server for a word where it has long been quiet. Where nothing reads the answer, the system has to notice
    /// what is wrong.
    fn feel_pulse(&mut self, reading: bool) -> Result<(), Broken> {
        match self.pulse.due(Instant::now()) {
            Due::Nothing => {}
            _ if !reading => {
                self.pulse.heard(Instant::now());
                if self.socket.is_closed() {
                    return Err(Broken(None));
                }
            }
            // This too is a packet that must go out in one piece. Where there is no room nothing is missed: what fills it
            // has been waiting for an answer for longer.
            Due::Ask if self.socket.has_room() => {
                self.session.keepalive_send()?;
            }
            Due::Ask => {}
            Due::Dead(silence) => {
                return Err(Broken(Some(format!("not a word from it for {} seconds", silence.as_secs()))));
            }
        }
        Ok(())
    }

    fn wait(&mut self, interest: Interest, until: Option<Instant>) -> Result<Ready, Broken> {
        self.socket.wait(interest, until).map_err(|error| Broken(Some(error.to_string())))
    }

    /// Sends what was said on channels that nobody listens to any more, and has the server confirm that, for a moment: it
    /// drops what it has not passed on when the connection ends.
    fn flush(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) {
        let until = Instant::now() + GOODBYE;
        loop {
            let Ok(moved) = self.turn(cx, buffer) else { return };
            if !self.pumps.iter().any(Pump::is_leaving) || Instant::now() >= until {
                return;
            }
            let until = if moved { Instant::now() } else { until };
            if self.wait(interest(&self.session), Some(until)).is_err() {
                return;
            }
        }
    }

    fn reason(&self, Broken(reason): Broken) -> String {
        reason.unwrap_or_else(|| {
            let how = if self.socket.is_closed() { "the other side has closed it" } else { "the network gave it up" };
            how.to_owned()
        })
    }

    /// Tells everybody, and takes leave of libssh2 so that nothing of it is left behind.
    fn end(mut self, end: End, place: &Mutex<Option<String>>) {
        let (reason, error): (String, Box<dyn Fn() -> SessionError>) = match &end {
            End::Closed(_) => {
                let message = format!("the connection to `{}` has been closed", self.label);
                let error = move || SessionError::new(SessionErrorKind::Unreachable, message.clone());
                ("it has been closed".to_owned(), Box::new(error))
            }
            End::Broke(reason) => {
                let (label, said) = (self.label.clone(), reason.clone());
                (reason.clone(), Box::new(move || broken(&label, &said)))
            }
        };
        tracing::debug!("the connection to `{}` ends: {reason}", self.label);
        *place.lock() = Some(reason);
        self.inbox.close();
        while let Ok(request) = self.inbox.try_recv() {
            if let Request::Open(open) = request {
                self.openings.push(open);
            }
        }
        self.openings.fail(&error);
        for pump in &mut self.pumps {
            pump.broke(error());
        }
        if let End::Closed(_) = end
            && self.socket.has_room()
        {
            // It is only a courtesy.
            drop(self.session.disconnect(Some(DisconnectCode::ByApplication), "done", None));
        }
        if let Ok(far) = self.socket.replace() {
            self.pumps.iter_mut().for_each(Pump::give_up);
            drop(far);
        }
        // Channels first, then the session; then who waits for the end.
        drop((mem::take(&mut self.pumps), self.openings, self.session));
        drop(end);
    }
}
