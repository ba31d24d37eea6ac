//! The terminal that we run in.

use std::io::{self, IsTerminal};

use broker::session::PtySize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Hands every key to the command on the host, until it is dropped.
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Begins, if standard input is a terminal.
    pub(crate) fn begin() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// The size of the terminal, where there is one.
pub(crate) fn size() -> Option<PtySize> {
    let found = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (found.ws_col > 0 && found.ws_row > 0).then_some(PtySize { columns: found.ws_col, rows: found.ws_row })
}
