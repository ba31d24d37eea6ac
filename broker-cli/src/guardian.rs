//! `broker guardian`: what a process whose guards hold hosts starts beside itself. People have no use for it.

use std::ffi::OsString;
use std::sync::Arc;

use broker::guardian::{WORD, serve};
use broker::provider::ProviderFactory;
use broker::settings::{BrokerDirectory, LogLevel, Settings};

use crate::error::{Code, CommandError};
use crate::log;
use crate::output::Console;

/// Whether a command line is a guardian's.
pub(crate) fn is_meant(words: &[OsString]) -> bool {
    words == [WORD]
}

/// Guards the hosts of the process that started this one, until all are settled. What it does goes to the log file of the
/// Broker directory.
pub(crate) fn run(providers: Vec<Arc<dyn ProviderFactory>>) -> u8 {
    let known: Vec<&'static str> = providers.iter().map(|factory| factory.info().name).collect();
    let begin = move |directory: &BrokerDirectory| {
        let loaded = Settings::load(directory, std::env::vars_os(), &known);
        let settings = loaded.map(|loaded| loaded.settings).unwrap_or_default();
        let silent = Arc::new(Console::new(LogLevel::Silent, true));
        log::install(silent, directory, settings.logging());
    };
    match serve(providers, begin) {
        Ok(()) => 0,
        Err(error) => {
            let error = CommandError::new(Code::Failed, broker::error_chain(&error));
            Console::new(LogLevel::Info, false).failure(&error.into(), "");
            Code::Failed.number()
        }
    }
}
