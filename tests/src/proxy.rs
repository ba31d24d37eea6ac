//! A way to a service that can be made bad: what a provider talks through while a test spoils the connection.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A Unix socket that leads to another one.
///
/// It goes on for as long as the process lives.
pub struct Proxy {
    socket: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    way: Mutex<Way>,
    changed: Condvar,
}

/// What becomes of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Everything goes to the service at this socket, and back.
    To(PathBuf),
    /// Connections are taken, and nothing ever goes through them.
    Hanging,
    /// As `To`, but when so many pieces have gone to the service, counting from 1, the connection is cut before the
    /// answer comes. Later ones are fine.
    CutAfter(u32, PathBuf),
    /// As `CutAfter`, but the piece itself does not get through either.
    CutBefore(u32, PathBuf),
    /// As `CutBefore`, but the piece gets through a second after its sender was cut off.
    Late(u32, PathBuf),
    /// As `CutAfter`, and all later connections are cut as well.
    GoneAfter(u32, PathBuf),
    /// Connections are taken and cut at once.
    Cut,
}

/// What a connection does with a piece that is on its way to the service.
enum Piece {
    Pass,
    PassAndCut,
    CutAndPass,
    Cut,
}

/// How the way of a connection to the service ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The sender has said all that it had to say.
    Whole,
    Cut,
    /// The sender is cut off, and the service is still at what it was sent.
    Late,
}

/// How late a piece gets through, and how long the service may be at it then.
const LATE: Duration = Duration::from_secs(1);
const AT_IT: Duration = Duration::from_secs(20);

impl Proxy {
    /// Listens at `socket`, and leads to the service at `to`.
    ///
    /// # Panics
    ///
    /// If it cannot listen there.
    pub fn start(socket: &Path, to: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let shared = Arc::new(Shared { way: Mutex::new(Way::To(to.to_owned())), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, stream) = (Arc::clone(&serving), stream.unwrap());
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { socket: socket.to_owned(), shared }
    }

    /// What becomes of connections from now on, those that are open among them.
    pub fn lead(&self, way: Way) {
        // A removed socket is what a stopped service leaves behind.
        let hidden = self.hidden();
        if hidden.exists() {
            std::fs::rename(&hidden, &self.socket).unwrap();
        }
        *self.shared.way.lock().unwrap() = way;
        self.shared.changed.notify_all();
    }

    /// Takes the socket away, so that nobody can connect, and cuts what is connected.
    pub fn take_away(&self) {
        self.lead(Way::Cut);
        std::fs::rename(&self.socket, self.hidden()).unwrap();
    }

    /// Whether a cut that was asked for has not happened yet.
    pub fn has_yet_to_cut(&self) -> bool {
        matches!(
            *self.shared.way.lock().unwrap(),
            Way::CutAfter(1.., _) | Way::CutBefore(1.., _) | Way::Late(1.., _) | Way::GoneAfter(1.., _)
        )
    }

    fn hidden(&self) -> PathBuf {
        self.socket.with_extension("away")
    }
}

impl Shared {
    fn serve(&self, client: &UnixStream) {
        let Some(to) = self.destination() else { return };
        let Ok(service) = UnixStream::connect(to) else { return };
        std::thread::scope(|scope| {
            let answering = scope.spawn(|| {
                self.copy(&service, client, |shared| shared.on_the_way_back());
                // The client has to see the end even where its own side is still open.
                drop(client.shutdown(Shutdown::Write));
            });
            let end = self.copy(client, &service, Self::on_the_way_there);
            if end == End::Late {
                // A service may drop what it is at when nobody is there for the answer.
                drop(service.set_read_timeout(Some(AT_IT)));
                drop(answering.join());
            }
            // A client that has said all still waits for the answer.
            drop(service.shutdown(if end == End::Whole { Shutdown::Write } else { Shutdown::Both }));
            if end != End::Whole {
                drop(client.shutdown(Shutdown::Both));
            }
        });
    }

    fn copy(&self, mut from: &UnixStream, mut to: &UnixStream, look: impl Fn(&Self) -> Piece) -> End {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => return End::Whole,
                Ok(count) => count,
                Err(_) => return End::Cut,
            };
            let piece = look(self);
            if matches!(piece, Piece::CutAndPass) {
                drop(from.shutdown(Shutdown::Both));
                std::thread::sleep(LATE);
            }
            if matches!(piece, Piece::Cut) || to.write_all(&buffer[..count]).is_err() {
                return End::Cut;
            }
            match piece {
                Piece::Pass => {}
                Piece::CutAndPass => return End::Late,
                Piece::PassAndCut | Piece::Cut => return End::Cut,
            }
        }
    }

    fn destination(&self) -> Option<PathBuf> {
        let mut way = self.way.lock().unwrap();
        loop {
            match &*way {
                Way::To(to)
                | Way::CutAfter(_, to)
                | Way::CutBefore(_, to)
                | Way::Late(_, to)
                | Way::GoneAfter(1.., to) => return Some(to.clone()),
                Way::Cut | Way::GoneAfter(0, _) => return None,
                Way::Hanging => way = self.changed.wait(way).unwrap(),
            }
        }
    }

    fn on_the_way_there(&self) -> Piece {
        let mut way = self.way.lock().unwrap();
        loop {
            let (left, cut) = match &mut *way {
                Way::To(_) => return Piece::Pass,
                Way::Cut => return Piece::Cut,
                Way::Hanging => {
                    way = self.changed.wait(way).unwrap();
                    continue;
                }
                Way::GoneAfter(0, _) => return Piece::Cut,
                Way::CutAfter(left, _) | Way::GoneAfter(left, _) => (left, Piece::PassAndCut),
                Way::CutBefore(left, _) => (left, Piece::Cut),
                Way::Late(left, _) => (left, Piece::CutAndPass),
            };
            let now = *left == 1;
            *left = left.saturating_sub(1);
            return if now { cut } else { Piece::Pass };
        }
    }

    fn on_the_way_back(&self) -> Piece {
        let mut way = self.way.lock().unwrap();
        while *way == Way::Hanging {
            way = self.changed.wait(way).unwrap();
        }
        if matches!(*way, Way::Cut) { Piece::Cut } else { Piece::Pass }
    }
}
