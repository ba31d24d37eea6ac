//! How much libssh2 has read from the socket.
//!
//! Every call of libssh2's that reads takes in whatever has arrived, for all channels, and keeps what is not its own. What
//! comes between two looks at one channel is then in libssh2, where no wait for the socket sees it. So a turn after which
//! nothing has moved is only at its end if nothing was read during it either.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;

use ssh2::Session;

thread_local! {
    static READ: Cell<u64> = const { Cell::new(0) };
}

/// `LIBSSH2_CALLBACK_RECV` of libssh2.h.
const CALLBACK_RECV: c_int = 6;

#[expect(unsafe_code, reason = "`ssh2` has no such call")]
unsafe extern "C" {
    /// Has libssh2 call a function of ours in the place of another.
    fn libssh2_session_callback_set(session: *mut c_void, kind: c_int, callback: *mut c_void) -> *mut c_void;
}

/// Has what a session reads counted. A session may only be used on the thread that asks for the count.
#[expect(unsafe_code, reason = "`ssh2` has no such call")]
pub(super) fn listen(session: &Session) {
    let mut raw = session.raw();
    let callback: unsafe extern "C" fn(c_int, *mut c_void, usize, c_int, *mut *mut c_void) -> isize = receive;
    // SAFETY: the session lives while its guard does, and the function is what libssh2 takes for this kind.
    let _own = unsafe { libssh2_session_callback_set((&raw mut *raw).cast(), CALLBACK_RECV, callback as *mut c_void) };
}

/// How many bytes the sessions of this thread have read.
pub(super) fn heard() -> u64 {
    READ.get()
}

/// Reads as libssh2 does by itself, and counts.
///
/// # Safety
///
/// As for recv(2).
#[expect(unsafe_code, reason = "this is what libssh2 calls")]
unsafe extern "C" fn receive(
    socket: c_int,
    buffer: *mut c_void,
    length: usize,
    flags: c_int,
    _abstract: *mut *mut c_void,
) -> isize {
    #[cfg(test)]
    hesitate();
    // SAFETY: the caller promises it.
    let read = unsafe { libc::recv(socket, buffer, length, flags) };
    let Ok(bytes) = u64::try_from(read) else {
        let error = io::Error::last_os_error();
        let again = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
        let number = if again { libc::EAGAIN } else { error.raw_os_error().unwrap_or(libc::EIO) };
        return number.checked_neg().and_then(|number| isize::try_from(number).ok()).unwrap_or(-1);
    };
    READ.set(READ.get().wrapping_add(bytes));
    read
}

/// Tests widen what is narrow by this: the time between two reads, in which something may arrive.
#[cfg(test)]
pub(super) static HESITATION: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

#[cfg(test)]
fn hesitate() {
    let micros = HESITATION.load(std::sync::atomic::Ordering::Relaxed);
    if micros > 0 {
        std::thread::sleep(std::time::Duration::from_micros(micros));
    }
}
