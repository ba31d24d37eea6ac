//! From the words of a command line to an exit status.

use std::borrow::Borrow;
use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::inventory::{HostRecord, Secrets};
use broker::provider::{ProviderFactory, ProviderInfo};
use broker::settings::{BrokerDirectory, LogLevel, Settings};
use broker::{Broker, Builder, Choice, Error, Host, Step};
use clap::FromArgMatches;
use dialoguer::Confirm;
use jiff::Timestamp;

use crate::args::split::{Argument, Sorted, split};
use crate::args::{self, Command, Format, Global, Root};
use crate::commands;
use crate::error::{Code, CommandError, Failure, of_clap};
use crate::guardian;
use crate::jobs;
use crate::leases;
use crate::log::{self, FILE_ONLY};
use crate::output::{self, Console};
use crate::output_file::{self, Report};
use crate::progress::Progress;
use crate::signals::{Cut, Signals};
use crate::terminal::Restored;

/// How long the end of what was cut off on hosts is waited for.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// What a command comes to: an exit status.
pub(crate) type Outcome = Result<u8, Failure>;

/// What every command has at hand.
pub(crate) struct App<'a> {
    pub(crate) broker: Broker,
    pub(crate) console: Arc<Console>,
    pub(crate) report: &'a Report,
    pub(crate) global: Global,
    call: Call,
    /// What asked us to stop, if anything has.
    stopped: Cell<Option<Cut>>,
}

/// How the command came to be run.
struct Call {
    words: Vec<OsString>,
    /// The job that runs it, if it is not a person's own terminal.
    job: Option<jobs::Running>,
}

/// Does what a command line says, and tells how it went.
pub(crate) fn run(providers: Vec<Arc<dyn ProviderFactory>>, words: Vec<OsString>) -> u8 {
    if guardian::is_meant(&words) {
        return guardian::run(providers);
    }
    if jobs::is_meant(&words) {
        return jobs::run(providers);
    }
    run_words(providers, words, None)
}

/// As [`run`], for words that are a command's. A job does what somebody has sent off.
pub(crate) fn run_words(
    providers: Vec<Arc<dyn ProviderFactory>>,
    words: Vec<OsString>,
    job: Option<jobs::Running>,
) -> u8 {
    let mut console = Arc::new(Console::new(LogLevel::Info, false));
    let parsed = parse(&providers, words.clone(), &console);
    let (output_file, status_is_anothers) = match &parsed {
        Ok(Parsed::Command { global, command, .. }) => (global.output_file.clone(), command.status_is_anothers()),
        Ok(Parsed::Version(global)) => (global.output_file.clone(), false),
        // What is refused is reported too.
        Ok(Parsed::Answered(_)) | Err(_) => (output_file::find(&words), false),
    };
    let of_command = |failure: Failure| if status_is_anothers { failure.with_code(Code::Own) } else { failure };
    let kept = job.as_ref().map(|job| job.folder.report());
    let name = match &parsed {
        Ok(Parsed::Command { command, .. }) => command.name(),
        _ => "",
    };
    let report = match Report::begin(output_file.into_iter().chain(kept), &own_files()) {
        Ok(report) => report,
        Err(error) => {
            let failure = of_command(error.into());
            console.failure(&failure, name);
            return failure.code().number();
        }
    };
    let outcome = parsed.and_then(|parsed| match parsed {
        Parsed::Answered(code) => Ok(code),
        Parsed::Version(global) => commands::version(&console, &global).map_err(Failure::from),
        Parsed::Command { global, command, arguments } => {
            let call = Call { words, job };
            let app = App::start(providers, global, &report, call, &mut console)?;
            commands::run(&app, *command, arguments).map_err(|failure| said_of(failure, app.stopped.get()))
        }
    });
    let outcome = outcome.map_err(of_command);
    let (code, message) = match outcome {
        Ok(code) => (code, None),
        Err(failure) => {
            console.failure(&failure, name);
            let lines: Vec<String> = failure.0.iter().map(CommandError::line).collect();
            for line in &lines {
                tracing::error!(target: FILE_ONLY, "{line}");
            }
            (failure.code().number(), Some(lines.join("\n")))
        }
    };
    match report.finish(code, message) {
        Ok(()) => code,
        Err(error) => {
            console.failure(&error.into(), name);
            if code == 0 { Code::Failed.number() } else { code }
        }
    }
}

/// The files that no output may replace, as far as they can be known before the settings are read.
fn own_files() -> Vec<PathBuf> {
    let directory = BrokerDirectory::from_environment(std::env::vars_os());
    directory.map(|directory| directory.kept_files().to_vec()).unwrap_or_default()
}

enum Parsed {
    /// Help was asked for, and given.
    Answered(u8),
    Version(Global),
    Command {
        global: Global,
        command: Box<Command>,
        arguments: Vec<Argument>,
    },
}

fn parse(providers: &[Arc<dyn ProviderFactory>], words: Vec<OsString>, console: &Console) -> Result<Parsed, Failure> {
    let infos: Vec<&ProviderInfo> = providers.iter().map(|factory| factory.info()).collect();
    let (mut command, grammar) = args::command(&infos);
    let asks_for_help = help_of(&command, &words);
    // Whoever asks for help need not have the rest right.
    let sorted = split(&grammar, words).or_else(|error| asks_for_help.ok_or_else(|| CommandError::from(error)))?;
    let name = sorted.command.unwrap_or_default();
    let words = [OsString::from("broker")].into_iter().chain(sorted.words);
    let root = command.try_get_matches_from_mut(words).and_then(|matches| Root::from_arg_matches(&matches));
    let root = match root {
        Ok(root) => root,
        Err(error) => return help(&error, console).unwrap_or_else(|| Err(refused(&error, &name))),
    };
    match root.command {
        _ if root.version => Ok(Parsed::Version(root.global)),
        Some(command) => {
            let command = Box::new(command);
            Ok(Parsed::Command { global: root.global, command, arguments: sorted.arguments })
        }
        None => {
            console.say(command.render_help().to_string().trim_end());
            Ok(Parsed::Answered(Code::Usage.number()))
        }
    }
}

/// The words that ask for a command's help, if these do.
fn help_of(command: &clap::Command, words: &[OsString]) -> Option<Sorted> {
    let words = || words.iter().take_while(|word| *word != "--");
    let name = words().find_map(|word| command.find_subcommand(word))?.get_name().to_owned();
    words().find(|word| *word == "--help" || *word == "-h")?;
    let words = vec![OsString::from(&name), "--help".into()];
    Some(Sorted { command: Some(name), words, arguments: Vec::new() })
}

/// Prints the help, if that is what clap has to say.
fn help(error: &clap::Error, console: &Console) -> Option<Result<Parsed, Failure>> {
    use clap::error::ErrorKind as Kind;

    let text = error.to_string();
    match error.kind() {
        Kind::DisplayHelp => Some(console.print(text.as_bytes()).map(|()| Parsed::Answered(0)).map_err(Failure::from)),
        Kind::DisplayHelpOnMissingArgumentOrSubcommand => {
            console.say(text.trim_end());
            Some(Ok(Parsed::Answered(Code::Usage.number())))
        }
        _ => None,
    }
}

fn refused(error: &clap::Error, command: &str) -> Failure {
    if command == "scenarios" {
        let error = CommandError::new(Code::NotHere, "there is no command `scenarios`");
        return error.hint("scenarios are the Python tool's; the `broker` crate does the same in a test").into();
    }
    if command == "config" {
        let error = CommandError::new(Code::NotHere, "there is no command `config`");
        return error.hint("the settings file is for any editor; `broker --version` shows where it is").into();
    }
    of_clap(error, command).into()
}

impl<'a> App<'a> {
    /// Reads the settings, and takes over the log. `console` becomes the one that the settings want.
    fn start(
        providers: Vec<Arc<dyn ProviderFactory>>,
        global: Global,
        report: &'a Report,
        call: Call,
        console: &mut Arc<Console>,
    ) -> Result<Self, Failure> {
        if let Some(level) = global.log_level {
            *console = Arc::new(Console::new(level, false));
        }
        let directory = BrokerDirectory::from_environment(std::env::vars_os()).map_err(Error::from)?;
        let known: Vec<&str> = providers.iter().map(|factory| factory.info().name).collect();
        let loaded = Settings::load(&directory, std::env::vars_os(), &known).map_err(Error::from)?;
        let settings = loaded.settings;
        let level = global.log_level.unwrap_or(settings.logging().console_level);
        *console = Arc::new(Console::new(level, settings.less_colors()));
        log::install(Arc::clone(console), &directory, settings.logging());
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let builder = providers.into_iter().fold(Broker::bare(), Builder::provider);
        let broker = builder.settings(settings).directory(directory.path()).build()?;
        Ok(Self { broker, console: Arc::clone(console), report, global, call, stopped: Cell::default() })
    }

    pub(crate) fn secrets(&self) -> Secrets {
        if self.global.show_secrets { Secrets::Shown } else { Secrets::Hidden }
    }

    /// The hosts that are meant. Reads the inventory, and starts nothing.
    pub(crate) fn choose(&self, choice: &Choice) -> Result<Vec<Arc<HostRecord>>, Failure> {
        let snapshot = broker::inventory::read(self.broker.directory().path())?;
        // A job does what was asked, and perhaps confirmed, when it was sent off.
        let sent = self.call.job.as_ref();
        let sent = sent.map(|job| Choice { hosts: job.hosts.clone(), all: false, filter: None });
        let choice = sent.as_ref().unwrap_or(choice);
        let chosen = self.broker.choose_from(snapshot, choice)?;
        for warning in &chosen.warnings {
            tracing::warn!("{warning}");
        }
        Ok(chosen.records)
    }

    /// Has a job do all that follows, to these hosts; nothing where this is that job.
    pub(crate) fn send_off(&self, command: &str, records: &[HostRecord]) -> Option<Outcome> {
        if self.call.job.is_some() {
            return None;
        }
        let hosts: Vec<String> = records.iter().map(|record| record.id.to_string()).collect();
        Some(self.sent_off(command, &hosts))
    }

    fn sent_off(&self, command: &str, hosts: &[String]) -> Outcome {
        let folder = jobs::start(self.broker.directory().path(), command, &self.call.words, hosts)?;
        let number = folder.number;
        self.console.note(&format!("job {number}: {command}; `broker jobs wait {number}` waits for it"));
        self.report.put("job", number);
        self.print(|| serde_json::json!({"job": number}), || format!("{number}\n"))?;
        Ok(0)
    }

    /// Warns of leases that end soon, and of those that have ended.
    pub(crate) fn warn_of_leases<R: Borrow<HostRecord>>(&self, records: &[R]) {
        if let Some(warning) = leases::warning(records, Timestamp::now()) {
            self.console.warning(&warning);
        }
    }

    /// Shows hosts and asks whether to go on, where somebody can answer.
    pub(crate) fn confirm(&self, question: &str, records: &[HostRecord]) -> Result<(), Failure> {
        self.confirm_table(question, || output::host_table(records))
    }

    /// As [`confirm`](Self::confirm), with a table of the command's own.
    pub(crate) fn confirm_table(&self, question: &str, table: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.global.yes || is_alone() {
            return Ok(());
        }
        if !io::stderr().is_terminal() {
            let error =
                CommandError::usage("standard error is not a terminal, so that nobody can be asked to confirm this");
            return Err(error.hint("`--yes` goes ahead without asking").into());
        }
        self.console.say(table().trim_end());
        match ask(question, false)? {
            true => Ok(()),
            false => Err(CommandError::new(Code::Failed, "not confirmed, so nothing was done")
                .hint("`y` confirms, and so does `--yes`")
                .into()),
        }
    }

    /// Asks whether something is wanted. Where nobody can answer it is not, unless every question is answered with yes.
    pub(crate) fn wants(&self, question: &str) -> Result<bool, Failure> {
        if self.global.yes || is_alone() || !io::stderr().is_terminal() {
            return Ok(self.global.yes);
        }
        ask(question, true)
    }

    /// Runs work that has to be settled: the first Ctrl-C or SIGTERM stops what can be stopped, and its end is waited
    /// for; the second leaves at once.
    pub(crate) fn settle<T>(&self, hosts: usize, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let work = async {
            let mut signals = Signals::listen()?;
            let mut steps = self.broker.steps();
            let mut progress = Progress::new(&self.console, hosts);
            let mut clock = tokio::time::interval(progress.period());
            let mut work = std::pin::pin!(work);
            loop {
                tokio::select! {
                    biased;
                    cut = signals.next() => match self.stopped.get() {
                        None => {
                            self.console.note("stopping, and settling what is under way; once more leaves at once");
                            self.broker.halt();
                            self.stopped.set(Some(cut));
                        }
                        Some(_) => leave(cut),
                    },
                    Ok(step) = steps.recv() => self.take_in(&mut progress, step),
                    outcome = &mut work => {
                        while let Ok(step) = steps.try_recv() {
                            self.take_in(&mut progress, step);
                        }
                        return outcome;
                    }
                    _ = clock.tick() => progress.tick(),
                }
            }
        };
        runtime()?.block_on(work)
    }

    fn take_in(&self, progress: &mut Progress, told: broker::Progress) {
        match told.step {
            Step::Told(key, value) => self.report.put(key, value),
            _ => progress.step(told),
        }
    }

    /// Runs work on hosts that can be dropped at any time: that is what Ctrl-C and SIGTERM do. What still runs on the
    /// hosts when the work has failed or was dropped is ended.
    pub(crate) fn drop_on_signal<T>(
        &self,
        hosts: &[Host],
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let runtime = runtime()?;
        let outcome = runtime.block_on(async {
            let mut signals = Signals::listen()?;
            let outcome = tokio::select! {
                outcome = work => outcome,
                cut = signals.next() => Err(cut.failure()),
            };
            if outcome.is_err() {
                let close = async {
                    for host in hosts {
                        drop(host.close().await);
                    }
                };
                tokio::select! {
                    _ = tokio::time::timeout(GRACE, close) => {}
                    again = signals.next() => leave(again),
                }
            }
            outcome
        });
        // What nobody reads may still be being written.
        runtime.shutdown_background();
        outcome
    }

    /// Data, in the format that was asked for; `table` says how it looks to people.
    pub(crate) fn print(
        &self,
        value: impl FnOnce() -> serde_json::Value,
        table: impl FnOnce() -> String,
    ) -> Result<(), CommandError> {
        match self.global.output {
            Format::Table => self.console.print(table().as_bytes()),
            format => self.console.print_value(format, &value()),
        }
    }
}

/// Whether nobody is there to be asked.
fn is_alone() -> bool {
    std::env::var_os("BROKER_NON_INTERACTIVE").is_some() || !io::stdin().is_terminal()
}

/// Asks a question on the terminal. A signal is an answer too, and leaves the terminal as it was before.
fn ask(question: &str, default: bool) -> Result<bool, Failure> {
    let _restored_at_the_end = Restored::at_the_end();
    let question = question.to_owned();
    let runtime = runtime()?;
    let answer = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let asked =
            tokio::task::spawn_blocking(move || Confirm::new().with_prompt(question).default(default).interact());
        let answer = tokio::select! {
            biased;
            cut = signals.next() => return Err(cut.failure()),
            answer = asked => answer,
        };
        let answer = answer.map_err(|error| CommandError::new(Code::Failed, error))?;
        answer.map_err(|dialoguer::Error::IO(error)| match error.kind() {
            io::ErrorKind::Interrupted => Cut::Interrupt.failure(),
            _ => CommandError::new(Code::Failed, format!("cannot ask: {error}"))
                .hint("`--yes` goes ahead without asking")
                .into(),
        })
    });
    // Where a signal was the answer, a thread still waits for a key.
    runtime.shutdown_background();
    answer
}

fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| CommandError::new(Code::Failed, format!("cannot start: {error}")))
}

#[expect(
    clippy::exit,
    reason = "whoever asks a second time does not want to wait for anything; the journal knows the rest"
)]
fn leave(cut: Cut) -> ! {
    broker::abandon();
    std::process::exit(cut.code().number().into())
}

/// What was cancelled was cancelled by a signal, and the exit status says by which.
fn said_of(mut failure: Failure, stopped: Option<Cut>) -> Failure {
    if let Some(cut) = stopped {
        for error in failure.0.iter_mut().filter(|error| error.code == Code::Interrupted) {
            error.code = cut.code();
        }
    }
    failure
}
