//! The `broker` command.

use std::process::ExitCode;

use broker_cli::Cli;

fn main() -> ExitCode {
    Cli::new().run()
}
