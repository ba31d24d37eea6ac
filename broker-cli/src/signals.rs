//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Code, CommandError, Failure};

/// The two signals that ask us to stop, from the moment this is made.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// What asked us to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Interrupt,
    Terminate,
}

impl Cut {
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Interrupt => Code::Interrupted,
            Self::Terminate => Code::Terminated,
        }
    }

    /// The failure of work that was dropped.
    pub(crate) fn failure(self) -> Failure {
        let by = match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
        };
        CommandError::new(self.code(), format!("cut off by {by}")).into()
    }
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, CommandError> {
        let listen = |kind| {
            signal(kind).map_err(|error| CommandError::new(Code::Failed, format!("cannot listen for signals: {error}")))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The next of them. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Cut {
        tokio::select! {
            _ = self.interrupt.recv() => Cut::Interrupt,
            _ = self.terminate.recv() => Cut::Terminate,
        }
    }
}
