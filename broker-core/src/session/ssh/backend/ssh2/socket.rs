//! The socket of a connection, and all that its thread waits for.

use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;

/// The socket, and a bell that rings when a future of the thread can go on.
pub(super) struct Socket {
    fd: OwnedFd,
    bell: Arc<Bell>,
    rings: UnixStream,
    /// Whether something waits for room in the socket that libssh2 does not know of.
    wants_room: bool,
}

struct Bell {
    rope: UnixStream,
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // Fails when the thread has ended, which then needs no waking, or when the bell is full of rings.
            let _rung = (&self.rope).write(&[1]);
        }
    }
}

/// Which side of the socket is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interest {
    pub(super) input: bool,
    pub(super) room: bool,
}

/// What the socket has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ready {
    /// Bytes, or its end.
    pub(super) input: bool,
    /// It broke, or the other side has closed it both ways.
    pub(super) gone: bool,
}

/// A file descriptor for libssh2, which only borrows it.
struct Lent(RawFd);

impl AsRawFd for Lent {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Socket {
    /// Takes a connected socket. It must not block.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let (rings, rope) = UnixStream::pair()?;
        rings.set_nonblocking(true)?;
        rope.set_nonblocking(true)?;
        let bell = Arc::new(Bell { rope, rung: AtomicBool::new(false) });
        Ok(Self { fd, bell, rings, wants_room: false })
    }

    /// What libssh2 is to read from and write to. It must not outlive the socket.
    pub(super) fn lend(&self) -> impl AsRawFd + use<> {
        Lent(self.fd.as_raw_fd())
    }

    /// What rings the bell.
    pub(super) fn waker(&self) -> Waker {
        Arc::clone(&self.bell).into()
    }

    /// Waits for the socket, the bell or a point in time.
    pub(super) fn wait(&mut self, interest: Interest, until: Option<Instant>) -> io::Result<Ready> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.input);
        flags.set(PollFlags::OUT, interest.room || mem::take(&mut self.wants_room));
        let mut fds = [PollFd::new(&self.fd, flags), PollFd::new(&self.rings, PollFlags::IN)];
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let (socket, rings) = (fds[0].revents(), fds[1].revents());
        if !rings.is_empty() {
            // A ring that comes after this is seen by the turn that follows.
            while matches!((&self.rings).read(&mut [0; 16]), Ok(16)) {}
            self.bell.rung.swap(false, Ordering::AcqRel);
        }
        Ok(Ready {
            input: socket.contains(PollFlags::IN),
            gone: socket.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
        })
    }

    /// Whether the socket takes a small packet whole. Where it does not, the next wait is for that too.
    ///
    /// libssh2 keeps some packets on the stack while it waits to send the rest of them, and goes astray when it is
    /// called again from elsewhere. They are only sent when they go out in one piece.
    pub(super) fn has_room(&mut self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        let now = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        let room = now.is_ok() && fds[0].revents().contains(PollFlags::OUT);
        self.wants_room |= !room;
        room
    }

    /// Whether the other side has closed the socket, as far as that can be seen before what it sent is read.
    pub(super) fn is_closed(&self) -> bool {
        let mut byte = [0_u8; 1];
        match rustix::net::recv(&self.fd, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, read)) => read == 0,
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => true,
        }
    }

    /// Closes the socket, and puts one in its place that takes what libssh2 has half sent. libssh2 can only be freed
    /// when it has; the other end is to be dropped before that.
    pub(super) fn replace(&mut self) -> io::Result<UnixStream> {
        let (near, far) = UnixStream::pair()?;
        near.set_nonblocking(true)?;
        rustix::io::dup2(&near, &mut self.fd)?;
        Ok(far)
    }
}
