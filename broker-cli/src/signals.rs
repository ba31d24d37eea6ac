//! Ctrl-C, SIGTERM and SIGHUP.

use std::fs;
use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Code, CommandError, Failure};

/// The signals that ask us to stop, from the moment this is made. Those that whoever started us has us ignore, as
/// `nohup` does and shells do for what runs in the background, go on being ignored.
pub(crate) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

/// What asked us to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Interrupt,
    Terminate,
    /// The terminal is gone.
    HangUp,
}

impl Cut {
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Interrupt => Code::Interrupted,
            Self::Terminate => Code::Terminated,
            Self::HangUp => Code::HungUp,
        }
    }

    /// The failure of work that was dropped.
    pub(crate) fn failure(self) -> Failure {
        let by = match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
        };
        CommandError::new(self.code(), format!("cut off by {by}")).into()
    }
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, CommandError> {
        let ignored = ignored();
        let listen = |kind: SignalKind| {
            if is_in(ignored, kind) {
                return Ok(None);
            }
            let listening = signal(kind).map(Some);
            listening.map_err(|error| CommandError::new(Code::Failed, format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next of them. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Cut {
        tokio::select! {
            () = of(&mut self.interrupt) => Cut::Interrupt,
            () = of(&mut self.terminate) => Cut::Terminate,
            () = of(&mut self.hangup) => Cut::HangUp,
        }
    }
}

async fn of(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => pending().await,
    }
}

/// The signals that this process ignores, a bit each (proc(5)); none where the system does not say.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn is_in(mask: u64, kind: SignalKind) -> bool {
    let number = u32::try_from(kind.as_raw_value()).unwrap_or(0);
    number.checked_sub(1).and_then(|bit| mask.checked_shr(bit)).is_some_and(|rest| rest & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_bits_of_the_mask() {
        assert!(is_in(0b1, SignalKind::hangup()) && !is_in(0b1, SignalKind::interrupt()));
        assert!(is_in(0b10, SignalKind::interrupt()) && is_in(1 << 14, SignalKind::terminate()));
        assert!(!is_in(0, SignalKind::terminate()));
    }
}
