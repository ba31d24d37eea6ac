//! A channel of libssh2's. It is called directly, since `ssh2` does not tell whether the server has said how a command
//! ended, nor takes a command line that is no UTF-8.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulong};
use std::ptr::{self, NonNull};

use libssh2_sys::{self as libssh2, LIBSSH2_CHANNEL, LIBSSH2_SESSION};
use ssh2::{Error, Session};

use crate::session::{ExitStatus, PtyRequest, PtySize};

/// The mode that ends a list of them (RFC 4254, section 8).
const END_OF_MODES: u8 = 0;

#[expect(unsafe_code, reason = "`libssh2-sys` does not have it")]
unsafe extern "C" {
    /// 1 once the server has said with which status the command exited.
    fn libssh2_channel_has_exit_status(channel: *mut LIBSSH2_CHANNEL) -> c_int;
}

/// One channel, which is freed with its last user. Used on the thread of its session alone.
pub(super) struct Handle {
    channel: NonNull<LIBSSH2_CHANNEL>,
    session: Session,
}

impl Handle {
    /// A channel for a command or a subsystem. The server may send `window` bytes that nobody takes, in packets of
    /// `packet` bytes at the most.
    pub(super) fn open(session: &Session, window: u32, packet: u32) -> Result<Self, Error> {
        let kind = "session";
        #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
        Self::made(session, |raw| {
            let (name, length) = (kind.as_ptr().cast(), length(kind.as_bytes()));
            // SAFETY: the session is alive and locked, and what is pointed to outlives the call.
            unsafe { libssh2::libssh2_channel_open_ex(raw, name, length, window, packet, ptr::null(), 0) }
        })
    }

    /// A TCP connection that the server makes.
    pub(super) fn open_tcp(session: &Session, host: &CStr, port: u16) -> Result<Self, Error> {
        let from = c"127.0.0.1";
        #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
        Self::made(session, |raw| {
            // SAFETY: as above.
            unsafe { libssh2::libssh2_channel_direct_tcpip_ex(raw, host.as_ptr(), port.into(), from.as_ptr(), 22) }
        })
    }

    fn made(session: &Session, call: impl FnOnce(*mut LIBSSH2_SESSION) -> *mut LIBSSH2_CHANNEL) -> Result<Self, Error> {
        let channel = NonNull::new(call(&raw mut *session.raw()));
        match channel {
            Some(channel) => Ok(Self { channel, session: session.clone() }),
            None => Err(Error::last_session_error(session).unwrap_or_else(Error::unknown)),
        }
    }

    /// Calls libssh2 while nobody else uses the session. What it returns is a number of something, or a code.
    fn call<N: TryInto<usize> + TryInto<c_int> + Copy>(
        &self,
        call: impl FnOnce(*mut LIBSSH2_CHANNEL) -> N,
    ) -> Result<usize, Error> {
        let locked = self.session.raw();
        let outcome = call(self.channel.as_ptr());
        drop(locked);
        outcome
            .try_into()
            .map_err(|_| Error::from_session_error(&self.session, outcome.try_into().unwrap_or(c_int::MIN)))
    }

    /// Asks for a terminal.
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    pub(super) fn request_terminal(&mut self, pty: &PtyRequest) -> Result<(), Error> {
        let mut modes = Vec::new();
        for (opcode, value) in &pty.modes {
            modes.push(*opcode);
            modes.extend(value.to_be_bytes());
        }
        modes.push(END_OF_MODES);
        let (term, term_length) = (pty.term.as_ptr().cast(), length(pty.term.as_bytes()));
        let (modes, modes_length) = (modes.as_ptr().cast::<c_char>(), length(&modes));
        let (columns, rows) = (pty.size.columns.into(), pty.size.rows.into());
        // SAFETY: the channel lives as long as this does, and what is pointed to outlives the call.
        self.call(|raw| unsafe {
            libssh2::libssh2_channel_request_pty_ex(raw, term, term_length, modes, modes_length, columns, rows, 0, 0)
        })
        .map(drop)
    }

    /// Says that the terminal has another size.
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    pub(super) fn resize(&mut self, size: PtySize) -> Result<(), Error> {
        let (columns, rows) = (size.columns.into(), size.rows.into());
        // SAFETY: as above.
        self.call(|raw| unsafe { libssh2::libssh2_channel_request_pty_size_ex(raw, columns, rows, 0, 0) }).map(drop)
    }

    /// Begins a command by its line.
    pub(super) fn exec(&mut self, line: &[u8]) -> Result<(), Error> {
        self.start("exec", line)
    }

    /// Begins a subsystem by its name.
    pub(super) fn subsystem(&mut self, name: &str) -> Result<(), Error> {
        self.start("subsystem", name.as_bytes())
    }

    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    fn start(&mut self, request: &str, message: &[u8]) -> Result<(), Error> {
        let (what, what_length) = (request.as_ptr().cast(), length(request.as_bytes()));
        let (text, text_length) = (message.as_ptr().cast(), length(message));
        // SAFETY: as above.
        self.call(|raw| unsafe { libssh2::libssh2_channel_process_startup(raw, what, what_length, text, text_length) })
            .map(drop)
    }

    /// Takes from one of the outputs: 0 is the standard output, 1 the standard error. Nothing at its end.
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    pub(super) fn read(&mut self, stream: c_int, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.is_at_end() {
            return Ok(0);
        }
        // SAFETY: as above; libssh2 writes no more than the length.
        self.call(|raw| unsafe {
            libssh2::libssh2_channel_read_ex(raw, stream, buffer.as_mut_ptr().cast(), buffer.len())
        })
    }

    /// Sends for the standard input, and says how many bytes of it have been taken.
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        // SAFETY: as above.
        self.call(|raw| unsafe { libssh2::libssh2_channel_write_ex(raw, 0, bytes.as_ptr().cast(), bytes.len()) })
    }

    /// Says that nothing more will be sent.
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    pub(super) fn send_eof(&mut self) -> Result<(), Error> {
        // SAFETY: as above.
        self.call(|raw| unsafe { libssh2::libssh2_channel_send_eof(raw) }).map(drop)
    }

    /// Whether the server takes any bytes at present.
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    pub(super) fn takes_bytes(&self) -> bool {
        // SAFETY: as above.
        self.call(|raw| unsafe { libssh2::libssh2_channel_window_write_ex(raw, ptr::null_mut()) })
            .is_ok_and(|window| window > 0)
    }

    /// Goes on with widening the window of the server, where that has begun.
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    pub(super) fn settle_window(&mut self) -> Result<(), Error> {
        let (nothing, unless_there_is_need): (c_ulong, _) = (0, 0);
        // SAFETY: as above; nobody wants to know the new size.
        self.call(|raw| unsafe {
            libssh2::libssh2_channel_receive_window_adjust2(raw, nothing, unless_there_is_need, ptr::null_mut())
        })
        .map(drop)
    }

    /// Whether the server sends nothing more, and all of it has been taken.
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    pub(super) fn is_at_end(&self) -> bool {
        // SAFETY: as above.
        self.call(|raw| unsafe { libssh2::libssh2_channel_eof(raw) }).is_ok_and(|at_end| at_end > 0)
    }

    /// Waits for the server to close the channel.
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    pub(super) fn wait_closed(&mut self) -> Result<(), Error> {
        // SAFETY: as above.
        self.call(|raw| unsafe { libssh2::libssh2_channel_wait_closed(raw) }).map(drop)
    }

    /// Closes the channel.
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    pub(super) fn close(&mut self) -> Result<(), Error> {
        // SAFETY: as above.
        self.call(|raw| unsafe { libssh2::libssh2_channel_close(raw) }).map(drop)
    }

    /// How the command ended, where the server has said it.
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    pub(super) fn end(&self) -> Option<ExitStatus> {
        if let Some(signal) = self.exit_signal() {
            return Some(ExitStatus::Signal(signal));
        }
        let _locked = self.session.raw();
        let raw = self.channel.as_ptr();
        // SAFETY: as above.
        let (is_said, status) =
            unsafe { (libssh2_channel_has_exit_status(raw), libssh2::libssh2_channel_get_exit_status(raw)) };
        (is_said > 0).then_some(ExitStatus::Code(status))
    }

    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    fn exit_signal(&self) -> Option<String> {
        let (mut name, mut length) = (ptr::null_mut::<c_char>(), 0);
        let (not, wanted) = (ptr::null_mut, ptr::null_mut);
        // SAFETY: as above; libssh2 leaves out what it gets no place for.
        let told = self.call(|raw| unsafe {
            libssh2::libssh2_channel_get_exit_signal(
                raw,
                &raw mut name,
                &raw mut length,
                not(),
                wanted(),
                not(),
                wanted(),
            )
        });
        if told.is_err() || name.is_null() {
            return None;
        }
        // SAFETY: libssh2 has given us that many bytes, which are ours to give back.
        unsafe {
            let text = String::from_utf8_lossy(std::slice::from_raw_parts(name.cast(), length)).into_owned();
            libssh2::libssh2_free(&raw mut *self.session.raw(), name.cast());
            Some(text)
        }
    }
}

impl Drop for Handle {
    #[expect(unsafe_code, reason = "`ssh2` keeps the channel to itself")]
    fn drop(&mut self) {
        // SAFETY: nobody uses the channel any more, and the session is alive. What libssh2 cannot free now, since it would
        // have to wait, it frees with the session.
        drop(self.call(|raw| unsafe { libssh2::libssh2_channel_free(raw) }));
    }
}

/// A length as libssh2 takes it. Nothing here is too long for that: see `unfit` in `opening.rs`.
fn length(bytes: &[u8]) -> c_uint {
    c_uint::try_from(bytes.len()).unwrap_or(c_uint::MAX)
}
