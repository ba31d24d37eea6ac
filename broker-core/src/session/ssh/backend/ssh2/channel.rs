//! One open channel, and what moves on it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio_util::sync::PollSender;

use super::code::{Meaning, is_again, meaning};
use super::handle::Handle;
use super::socket::Socket;
use crate::session::ssh::connection::{Channel, FromRemote, ToRemote};
use crate::session::{PtySize, SessionError};

/// So many messages wait on either side of a channel until somebody takes them.
const QUEUE: usize = 8;

/// So many packets a channel sends before it is another's turn.
const BURST: usize = 8;

/// How long what was said before a channel was dropped may take to be sent, where the server takes nothing.
const FLUSH: Duration = Duration::from_secs(5);

/// The streams of the two outputs.
pub(super) const STDOUT: i32 = 0;
const STDERR: i32 = 1;

/// The connection is of no more use, for this reason; none where it is not known yet.
#[derive(Debug)]
pub(super) struct Broken(pub(super) Option<String>);

impl From<ssh2::Error> for Broken {
    fn from(error: ssh2::Error) -> Self {
        match meaning(&error) {
            Meaning::HungUp => Self(None),
            _ => Self(Some(error.message().to_owned())),
        }
    }
}

/// What a channel was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A command or a subsystem, of which the server has only so many at once.
    Session,
    /// A TCP connection.
    Tcp,
}

/// What comes of a turn of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing moved.
    Idle,
    /// Something moved, and there may be more.
    Moved,
    /// The channel is closed on both sides.
    Over,
}

/// One channel.
pub(super) struct Pump {
    channel: Handle,
    kind: Kind,
    input: Input,
    output: Output,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nobody wants its output. What was said is still sent, for that long.
    Leaving(Instant),
    /// The server is told to close it, or has.
    Closing,
}

/// What goes to the server.
struct Input {
    queue: mpsc::Receiver<ToRemote>,
    sizes: mpsc::Receiver<PtySize>,
    /// The size that is being sent.
    size: Option<PtySize>,
    /// What is being sent.
    front: Option<ToRemote>,
    /// Whether libssh2 has begun with the front, and must be called with it until it is done.
    begun: bool,
    /// Whether there is no more to come.
    over: bool,
}

/// What goes to whoever opened the channel.
struct Output {
    queue: PollSender<FromRemote>,
    /// Until nobody wants it any more.
    unwanted: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The place for the last message.
    last: Option<OwnedPermit<FromRemote>>,
}

impl Pump {
    /// A channel, and the other ends of its queues.
    pub(super) fn new(channel: Handle, kind: Kind) -> (Self, Channel) {
        let (input, from_caller) = mpsc::channel(QUEUE);
        let (sizes, sizes_from_caller) = mpsc::channel(QUEUE);
        let (to_caller, output) = mpsc::channel(QUEUE + 1);
        let last = to_caller.clone().try_reserve_owned().ok();
        let watched = to_caller.clone();
        let unwanted = Box::pin(async move { watched.closed().await });
        let pump = Self {
            channel,
            kind,
            input: Input {
                queue: from_caller,
                sizes: sizes_from_caller,
                size: None,
                front: None,
                begun: false,
                over: false,
            },
            output: Output { queue: PollSender::new(to_caller), unwanted, last },
            state: State::Open,
        };
        (pump, Channel { input, output, sizes })
    }

    /// A channel that is only to be closed.
    pub(super) fn closing(channel: Handle, kind: Kind) -> Self {
        let (mut pump, unused) = Self::new(channel, kind);
        drop(unused);
        pump.input.over = true;
        pump.state = State::Closing;
        pump
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the channel is on its way out, with something still to be sent or to be confirmed by the server.
    pub(super) fn is_leaving(&self) -> bool {
        self.state != State::Open
    }

    /// When the channel has to be looked at again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Leaving(until) => Some(until),
            State::Open | State::Closing => None,
        }
    }

    /// Moves what can be moved. Reads from the connection in every case, for all channels. Says in `gave_up`, before
    /// anybody else can see it, that nobody wants a command any more that has not ended.
    pub(super) fn turn(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        buffer: &mut [u8],
        gave_up: &AtomicBool,
    ) -> Result<Turn, Broken> {
        let mut moved = false;
        if self.state == State::Open && self.output.unwanted.as_mut().poll(cx).is_ready() {
            self.state = State::Leaving(Instant::now() + FLUSH);
            if self.kind == Kind::Session {
                gave_up.store(true, Ordering::Relaxed);
            }
        }
        if self.state != State::Closing {
            moved |= self.read(cx, buffer)?;
            moved |= self.write(cx, socket)?;
            if self.has_left() {
                self.close();
            } else if self.is_closed()? {
                self.end();
            }
        }
        if self.state == State::Closing {
            return self.finish(socket, moved);
        }
        Ok(if moved { Turn::Moved } else { Turn::Idle })
    }

    /// Takes both outputs, as far as there is room for them.
    fn read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Result<bool, Broken> {
        let mut moved = false;
        for (id, made) in [(STDOUT, FromRemote::Stdout as fn(Bytes) -> FromRemote), (STDERR, FromRemote::Stderr)] {
            let wanted = self.state == State::Open;
            let room = !wanted || matches!(self.output.queue.poll_reserve(cx), Poll::Ready(Ok(())));
            // A read of nothing is not idle: libssh2 goes on with what it has begun, and takes in what has arrived for
            // the other channels.
            let room = if room { &mut *buffer } else { &mut [] };
            match again(self.channel.read(id, room))? {
                Poll::Ready(0) | Poll::Pending => {}
                Poll::Ready(read) => {
                    moved = true;
                    if wanted {
                        // Nobody can have taken the place since it was reserved.
                        drop(self.output.queue.send_item(made(Bytes::copy_from_slice(&buffer[..read]))));
                    }
                }
            }
        }
        Ok(moved)
    }

    /// Sends what there is to send, as far as the server takes it.
    fn write(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Result<bool, Broken> {
        let mut moved = false;
        while let Some(size) = self.input.next_size(cx) {
            if call(self.channel.resize(size))?.is_pending() {
                // Nothing else gets through before.
                return Ok(moved);
            }
            self.input.size = None;
            moved = true;
        }
        for _ in 0..BURST {
            let begun = self.input.begun;
            let Some(front) = self.input.next(cx) else { break };
            let sent = match front {
                ToRemote::Data(data) if data.is_empty() => Poll::Ready(0),
                // libssh2 would forget that it waits for the socket.
                ToRemote::Data(_) if !begun && !self.channel.takes_bytes() => break,
                ToRemote::Data(data) => again(self.channel.write(data))?,
                ToRemote::Eof if !socket.has_room() => break,
                ToRemote::Eof => call(self.channel.send_eof())?.map(|()| 0),
            };
            match sent {
                Poll::Pending => {
                    self.input.begun = true;
                    break;
                }
                Poll::Ready(sent) => {
                    self.input.sent(sent);
                    moved = true;
                }
            }
        }
        Ok(moved)
    }

    /// Whether nobody wants the output, and all that was said has been sent, or will not be.
    fn has_left(&self) -> bool {
        let State::Leaving(until) = self.state else { return false };
        let Input { queue, front, begun, .. } = &self.input;
        (front.is_none() && queue.is_empty()) || (!begun && Instant::now() >= until)
    }

    /// Whether the server has closed the channel, and all that came out of it has been taken.
    fn is_closed(&mut self) -> Result<bool, Broken> {
        Ok(!self.input.begun && self.channel.is_at_end() && call(self.channel.wait_closed())?.is_ready())
    }

    /// Says how the command ended, as far as the server did: one that is cut off has no status, and was no success.
    fn end(&mut self) {
        if self.kind == Kind::Session
            && let Some(status) = self.channel.end()
            && let Some(last) = self.output.last.take()
        {
            drop(last.send(FromRemote::Ended(status)));
        }
        self.close();
    }

    /// Lets go of whoever opened the channel, and begins to close it.
    fn close(&mut self) {
        self.state = State::Closing;
        self.input.stop();
        self.output.stop();
    }

    /// Goes on with closing.
    fn finish(&mut self, socket: &mut Socket, moved: bool) -> Result<Turn, Broken> {
        // A window that is being widened must be brought to its end: nothing else gets through before. Reading, which
        // has begun with that, is no way to do it where there is nothing left to read.
        let settled = call(self.channel.settle_window())?.is_ready();
        // The first of the two packets of a close must go out in one piece.
        if settled && socket.has_room() {
            if call(self.channel.close())?.is_ready() {
                return Ok(Turn::Over);
            }
        } else {
            again(self.channel.read(STDOUT, &mut []))?.is_ready();
        }
        Ok(if moved { Turn::Moved } else { Turn::Idle })
    }

    /// Says that the connection broke.
    pub(super) fn broke(&mut self, error: SessionError) {
        if let Some(last) = self.output.last.take() {
            drop(last.send(FromRemote::Broken(error)));
        }
        self.output.stop();
    }

    /// Has libssh2 go on with what it has begun to send, whether that gets through or not.
    pub(super) fn give_up(&mut self) {
        if let (true, Some(ToRemote::Data(data))) = (self.input.begun, &self.input.front) {
            drop(self.channel.write(data));
        }
    }
}

impl Input {
    /// The size that is to be sent next, where nothing else is half sent.
    fn next_size(&mut self, cx: &mut Context<'_>) -> Option<PtySize> {
        if self.size.is_none()
            && !self.begun
            && let Poll::Ready(size) = self.sizes.poll_recv(cx)
        {
            self.size = size;
        }
        self.size
    }

    /// What is to be sent next.
    fn next(&mut self, cx: &mut Context<'_>) -> Option<&ToRemote> {
        if self.front.is_none() && !self.over {
            match self.queue.poll_recv(cx) {
                Poll::Ready(Some(next)) => self.front = Some(next),
                Poll::Ready(None) => self.over = true,
                Poll::Pending => {}
            }
        }
        self.front.as_ref()
    }

    /// So many bytes of the front have been sent, or what else it is.
    fn sent(&mut self, bytes: usize) {
        self.begun = false;
        match &mut self.front {
            Some(ToRemote::Data(data)) if bytes < data.len() => data.advance(bytes),
            _ => self.front = None,
        }
    }

    fn stop(&mut self) {
        self.queue.close();
        while self.queue.try_recv().is_ok() {}
        self.front = None;
        self.over = true;
    }
}

impl Output {
    /// Drops all that keeps the queue open.
    fn stop(&mut self) {
        self.last = None;
        self.queue.abort_send();
        self.queue.close();
        self.unwanted = Box::pin(std::future::pending());
    }
}

/// The outcome of a call of libssh2's, if it has one by now.
fn call<T>(outcome: Result<T, ssh2::Error>) -> Result<Poll<T>, Broken> {
    match outcome {
        Ok(outcome) => Ok(Poll::Ready(outcome)),
        Err(error) if meaning(&error) == Meaning::Again => Ok(Poll::Pending),
        Err(error) => Err(error.into()),
    }
}

/// The same for reading and writing, where what else can be wrong is always the connection.
pub(super) fn again(outcome: Result<usize, ssh2::Error>) -> Result<Poll<usize>, Broken> {
    match outcome {
        Ok(bytes) => Ok(Poll::Ready(bytes)),
        Err(error) if is_again(&error) => Ok(Poll::Pending),
        Err(_) => Err(Broken(None)),
    }
}
