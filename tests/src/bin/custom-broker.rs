//! A `broker` of one's own, with a provider that the usual one does not have.

use std::process::ExitCode;

fn main() -> ExitCode {
    broker_cli::Cli::new().provider(broker_tests::lab::factory()).run()
}
