//! Signals in what the tests start.

use std::sync::Once;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Has what this process starts from now on not ignore the signals that stop a program, also where this process was
/// started to ignore them, as shells do for what runs in the background.
///
/// A signal that has a handler is back at its default in a program that is started. The handlers do nothing else, so that
/// this is only for programs that ignore the signals themselves; all others are left as they are.
///
/// # Panics
///
/// If the system takes no handler.
pub fn heard_by_children() {
    static ONCE: Once = Once::new();

    ONCE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        let runtime = Builder::new_current_thread().enable_io().build().unwrap();
        let _inside = runtime.enter();
        for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()] {
            if ignored >> (kind.as_raw_value() - 1) & 1 == 1 {
                // The handler stays when the listener goes.
                drop(signal(kind).unwrap());
            }
        }
    });
}
