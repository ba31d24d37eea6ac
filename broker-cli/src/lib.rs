//! The `broker` command line, as a library: for a `broker` of one's own, with providers of one's own.
//!
//! ```no_run
//! # fn my_provider() -> std::sync::Arc<dyn broker::provider::ProviderFactory> { unimplemented!() }
//! fn main() -> std::process::ExitCode {
//!     broker_cli::Cli::new().provider(my_provider()).run()
//! }
//! ```

mod app;
mod args;
mod commands;
mod error;
mod guardian;
mod jobs;
mod leases;
mod log;
mod output;
mod output_file;
mod progress;
mod signals;
mod sort;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use broker::provider::ProviderFactory;

pub use args::split;

/// A `broker` command line.
///
/// It has the providers that the `broker` crate was built with, and those that are added.
#[derive(Clone)]
#[must_use = "nothing happens before `run`"]
pub struct Cli {
    providers: Vec<Arc<dyn ProviderFactory>>,
}

impl Cli {
    /// The command line as it comes.
    pub fn new() -> Self {
        Self { providers: broker::providers() }
    }

    /// Adds a provider. It takes the place of one of the same name.
    pub fn provider(mut self, factory: Arc<dyn ProviderFactory>) -> Self {
        self.providers.retain(|known| known.info().name != factory.info().name);
        self.providers.push(factory);
        self
    }

    /// How the words of its command lines are sorted.
    pub fn grammar(&self) -> split::Grammar {
        let infos: Vec<_> = self.providers.iter().map(|factory| factory.info()).collect();
        args::command(&infos).1
    }

    /// Does what the arguments of this process say, and returns its exit status.
    #[must_use]
    pub fn run(self) -> ExitCode {
        self.run_with(std::env::args_os().skip(1))
    }

    /// Does what these words say; the name of the program is not among them.
    #[must_use]
    pub fn run_with(self, words: impl IntoIterator<Item = OsString>) -> ExitCode {
        ExitCode::from(app::run(self.providers, words.into_iter().collect()))
    }
}

impl Default for Cli {
    fn default() -> Self {
        Self::new()
    }
}
