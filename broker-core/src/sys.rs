//! The few calls of the system that need `unsafe`.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

/// Has a function called when the process ends by `exit` or by returning from `main`.
#[expect(unsafe_code, reason = "the standard library has no such call")]
pub(crate) fn at_exit(function: extern "C" fn()) {
    // SAFETY: `atexit` only stores the pointer of a function that lives as long as the program. If the table is full the
    // function is not called, and hosts that are still held then are left to their leases.
    let _full = unsafe { libc::atexit(function) };
}

/// Has a program started in a process session of its own, with nothing open but its three streams: what is sent to this
/// process's group or terminal does not reach it, and it holds nothing open that others wait for the end of.
///
/// For programs that are to go on when the one that starts them is gone.
#[expect(
    unsafe_code,
    reason = "the standard library starts programs in sessions of their own on nightly compilers alone"
)]
pub fn in_own_session(command: &mut Command) {
    // SAFETY: between fork and exec only calls are made that may be made there.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() == -1 {
                return Err(io::Error::last_os_error());
            }
            // Older kernels do not know the call, and then it holds open what was made without care.
            #[cfg(target_os = "linux")]
            let _older = libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
}

/// Descriptors that a child of a fork does not get; -1 where there is none.
static UNINHERITED: [AtomicI32; 256] = [const { AtomicI32::new(NONE) }; 256];

const NONE: i32 = -1;

/// Keeps a descriptor from children that are forked and run no program. To be dropped before the descriptor is.
#[derive(Debug)]
pub(crate) struct Uninherited(Option<&'static AtomicI32>);

/// Keeps a descriptor from children that are forked: there it leads nowhere. So the end of this process ends the lock or
/// the pipe that it stands for, whoever it has forked. That holds for the first 256 that live at once.
#[expect(unsafe_code, reason = "the standard library has no such call")]
pub(crate) fn uninherited(descriptor: BorrowedFd<'_>) -> Uninherited {
    static ONCE: Once = Once::new();

    ONCE.call_once(|| {
        // SAFETY: the function lives as long as the program, and makes only calls that may be made in the child of a fork.
        // If there is no memory for the entry, children keep the descriptors.
        let _none = unsafe { libc::pthread_atfork(None, None, Some(forget_uninherited)) };
    });
    let descriptor = descriptor.as_raw_fd();
    let take = |slot: &&AtomicI32| slot.compare_exchange(NONE, descriptor, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    Uninherited(UNINHERITED.iter().find(take))
}

impl Drop for Uninherited {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.store(NONE, Ordering::Release);
        }
    }
}

/// Runs in the child of a fork. What owns the descriptors there goes on owning valid ones.
#[expect(unsafe_code, reason = "the standard library has no such calls")]
extern "C" fn forget_uninherited() {
    // SAFETY: these are calls that may be made in the child of a fork, and every descriptor stays open for its owner.
    unsafe {
        let nowhere = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if nowhere == -1 {
            return;
        }
        for slot in &UNINHERITED {
            let descriptor = slot.load(Ordering::Acquire);
            if descriptor != NONE && libc::dup2(nowhere, descriptor) != -1 {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
        libc::close(nowhere);
    }
}

/// The name of this machine.
#[expect(unsafe_code, reason = "the standard library has no such call")]
pub(crate) fn machine_name() -> String {
    let mut buffer = [0_u8; 256];
    // SAFETY: the buffer is valid for its length, less one byte that stays zero so that the name ends.
    let result = unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len() - 1) };
    match CStr::from_bytes_until_nul(&buffer) {
        Ok(name) if result == 0 => name.to_string_lossy().into_owned(),
        _ => "localhost".to_owned(),
    }
}

/// The login name of this process's user, or their number.
#[expect(unsafe_code, reason = "the standard library has no such call")]
pub(crate) fn user_name() -> String {
    for variable in ["USER", "LOGNAME"] {
        if let Ok(name) = std::env::var(variable)
            && !name.is_empty()
        {
            return name;
        }
    }
    // SAFETY: `geteuid` has no preconditions.
    let uid = unsafe { libc::geteuid() };
    if uid == 0 { "root".to_owned() } else { format!("uid{uid}") }
}

/// This user on this machine: `jane@laptop`.
pub(crate) fn own_address() -> String {
    format!("{}@{}", user_name(), machine_name())
}

/// Whether a file system is, or may be, shared with other machines, where a lock that can be taken proves nothing. Where
/// that cannot be told, it may be.
///
/// The numbers are those of statfs(2). FUSE is among them, since behind it may be anything: sshfs, or the home of the
/// machine that a virtual machine runs on.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library has no such call")]
pub(crate) fn is_network_filesystem(path: &Path) -> bool {
    const SHARED: [u32; 13] = [
        0x0000_6969, // NFS
        0x0000_517B, // SMB
        0xFF53_4D42, // CIFS
        0xFE53_4D42, // SMB2
        0x0102_1997, // 9P
        0x6573_5546, // FUSE and virtiofs
        0x00C3_6400, // Ceph
        0x0BD0_0BD0, // Lustre
        0x4750_4653, // GPFS
        0x5346_414F, // AFS
        0x6B41_4653, // kAFS
        0x7375_7245, // Coda
        0x786F_4256, // the shared folders of VirtualBox
    ];
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return true };
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends with a NUL, and the structure is large enough for what the call writes.
    let result = unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) };
    if result != 0 {
        return true;
    }
    // SAFETY: the call succeeded, so that it has filled in the structure.
    let kind = unsafe { found.assume_init() }.f_type;
    // The type of the field differs between C libraries, and may be signed; the numbers have 32 bits.
    SHARED.contains(&(kind as u32))
}

/// Other systems have no such numbers, so nothing is proven.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_network_filesystem(_path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_may_be_shared() {
        assert!(is_network_filesystem(Path::new("/nonexistent/file")));
        assert!(is_network_filesystem(Path::new("a\0b")));
    }

    #[test]
    fn proc_is_not_shared() {
        assert_eq!(is_network_filesystem(Path::new("/proc")), !cfg!(target_os = "linux"));
    }
}
