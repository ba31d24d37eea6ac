//! A TCP connection on its way: delayed without being held up otherwise, frozen or cut.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How much may be on its way in one direction: more than any window, so that the delay is all that is felt.
const ON_THE_WAY: usize = 64 << 20;

/// A port that leads to a server. It goes on for as long as the process lives.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Everything arrives, each way so much later.
    Delayed(Duration),
    /// Connections stay open, and nothing goes through them: the other side has lost its power or its cable.
    Frozen,
    /// Connections are cut, and new ones as soon as they are made.
    Cut,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    flow: Flow,
    server: SocketAddr,
    open: Vec<TcpStream>,
    made: usize,
}

/// What is on its way in one direction.
#[derive(Default)]
struct Queue {
    state: Mutex<Queued>,
    changed: Condvar,
}

#[derive(Default)]
struct Queued {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// Nothing will follow.
    ended: bool,
    /// Nobody takes anything any more.
    given_up: bool,
}

impl Wire {
    /// Leads to a server, without any delay.
    ///
    /// # Panics
    ///
    /// If there is no port to listen at.
    pub fn to(server: SocketAddr) -> Self {
        Self::delayed(server, Duration::ZERO)
    }

    /// Leads to a server, with a delay each way.
    ///
    /// # Panics
    ///
    /// If there is no port to listen at.
    pub fn delayed(server: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { flow: Flow::Delayed(delay), server, open: Vec::new(), made: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, stream) = (Arc::clone(&serving), stream.unwrap());
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections have been made.
    ///
    /// # Panics
    ///
    /// If a thread of the wire has panicked.
    pub fn made(&self) -> usize {
        self.shared.state.lock().unwrap().made
    }

    /// What becomes of connections from now on, those that are open among them.
    ///
    /// # Panics
    ///
    /// If a thread of the wire has panicked.
    pub fn set(&self, flow: Flow) {
        let mut state = self.shared.state.lock().unwrap();
        state.flow = flow;
        if flow == Flow::Cut {
            for stream in state.open.drain(..) {
                drop(stream.shutdown(Shutdown::Both));
            }
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Leads new connections to another server.
    ///
    /// # Panics
    ///
    /// If a thread of the wire has panicked.
    pub fn lead_to(&self, server: SocketAddr) {
        self.shared.state.lock().unwrap().server = server;
    }
}

impl Shared {
    fn serve(&self, client: TcpStream) {
        let server = {
            let mut state = self.state.lock().unwrap();
            state.made += 1;
            if state.flow == Flow::Cut {
                return;
            }
            state.open.push(client.try_clone().unwrap());
            state.server
        };
        if !self.wait_until_it_flows() {
            return;
        }
        let Ok(server) = TcpStream::connect(server) else { return drop(client.shutdown(Shutdown::Both)) };
        for stream in [&client, &server] {
            // What is small must not wait for what follows.
            stream.set_nodelay(true).unwrap();
        }
        {
            let mut state = self.state.lock().unwrap();
            if state.flow == Flow::Cut {
                return drop(client.shutdown(Shutdown::Both));
            }
            state.open.push(server.try_clone().unwrap());
        }
        let (there, back) = (Queue::default(), Queue::default());
        std::thread::scope(|scope| {
            scope.spawn(|| self.take(&client, &there));
            scope.spawn(|| self.give(&server, &there));
            scope.spawn(|| self.take(&server, &back));
            scope.spawn(|| self.give(&client, &back));
        });
    }

    /// Waits while everything is frozen. False where it is cut.
    fn wait_until_it_flows(&self) -> bool {
        let state = self.state.lock().unwrap();
        let state = self.changed.wait_while(state, |state| state.flow == Flow::Frozen).unwrap();
        state.flow != Flow::Cut
    }

    fn delay(&self) -> Duration {
        match self.state.lock().unwrap().flow {
            Flow::Delayed(delay) => delay,
            Flow::Frozen | Flow::Cut => Duration::ZERO,
        }
    }

    fn take(&self, mut from: &TcpStream, queue: &Queue) {
        let mut buffer = vec![0; 256 * 1024];
        while self.wait_until_it_flows() {
            let count = from.read(&mut buffer).unwrap_or(0);
            if count == 0 || !queue.push(Instant::now() + self.delay(), &buffer[..count]) {
                break;
            }
        }
        queue.end();
    }

    fn give(&self, mut to: &TcpStream, queue: &Queue) {
        while let Some((due, piece)) = queue.pop() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if !self.wait_until_it_flows() || to.write_all(&piece).is_err() {
                break;
            }
        }
        queue.give_up();
        drop(to.shutdown(Shutdown::Write));
    }
}

impl Queue {
    /// False where nobody takes anything any more.
    fn push(&self, due: Instant, piece: &[u8]) -> bool {
        let state = self.state.lock().unwrap();
        let mut state = self.changed.wait_while(state, |state| state.bytes > ON_THE_WAY && !state.given_up).unwrap();
        state.bytes += piece.len();
        state.pieces.push_back((due, piece.to_vec()));
        let wanted = !state.given_up;
        drop(state);
        self.changed.notify_all();
        wanted
    }

    fn pop(&self) -> Option<(Instant, Vec<u8>)> {
        let state = self.state.lock().unwrap();
        let mut state = self.changed.wait_while(state, |state| state.pieces.is_empty() && !state.ended).unwrap();
        let piece = state.pieces.pop_front()?;
        state.bytes -= piece.1.len();
        drop(state);
        self.changed.notify_all();
        Some(piece)
    }

    fn end(&self) {
        self.state.lock().unwrap().ended = true;
        self.changed.notify_all();
    }

    fn give_up(&self) {
        self.state.lock().unwrap().given_up = true;
        self.changed.notify_all();
    }
}
