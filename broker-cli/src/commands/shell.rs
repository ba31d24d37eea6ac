//! `broker shell`

use std::io::{self, IsTerminal};
use std::sync::Arc;

use broker::Choice;
use broker::session::Command;

use super::exec;
use crate::app::{App, Outcome};
use crate::args::Shell;

/// The user's own shell, else the best one there is.
const SHELL: &str =
    r#"shell=${SHELL:-}; [ -x "$shell" ] || shell=$(command -v bash || command -v sh); exec "$shell" "$@""#;

pub(super) fn run(app: &App<'_>, options: &Shell) -> Outcome {
    let choice = Choice { hosts: vec![options.host.clone()], ..Choice::default() };
    let mut records = app.choose(&choice)?;
    app.warn_of_leases(&records);
    let Some(record) = records.pop() else { return Ok(0) };
    // Without a terminal the shell reads its commands from our input, as `sh` does.
    let is_terminal = io::stdin().is_terminal();
    let how = if is_terminal { "-l" } else { "-s" };
    let mut command = Command::words(["/bin/sh", "-c", SHELL, "sh", how]);
    command.pty = is_terminal.then(exec::pty);
    exec::attached(app, Arc::unwrap_or_clone(record), command, true, &mut None)
}
