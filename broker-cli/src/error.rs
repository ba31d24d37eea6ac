//! Errors as the command line reports them: an exit status, a message with its causes, and hints.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use broker::args_file::ArgsFileError;
use broker::inventory::InventoryError;
use broker::provider::{ErrorKind, ProviderError};
use broker::secrets::is_secret_name;
use broker::session::{SessionError, SessionErrorKind};
use broker::settings::SettingsError;
use broker::{CheckoutFailure, Error, FailureCause, RequestError};
use clap::error::{ContextKind, ContextValue};

use crate::args::split::SplitError;

/// How many letters a word may differ in from what it is taken for.
const FARTHEST_GUESS: usize = 2;

/// Providers that the Python tool has.
const PYTHON_PROVIDERS: [(&str, &[&str]); 5] = [
    ("AnsibleTower", &["workflow", "job_template", "tower_inventory"]),
    ("Beaker", &["job_xml", "job_id"]),
    ("Container", &["container_host", "container_app"]),
    ("Foreman", &["hostgroup"]),
    ("OpenStack", &["ostack_image", "ostack_template"]),
];

/// An exit status, by what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Anything else; hosts that failed in different ways.
    Failed,
    /// The form of the command line.
    Usage,
    /// Authentication.
    Auth,
    /// Permission.
    Permission,
    /// The provider: quota, timeout, conflict, not reachable, a failed job.
    Provider,
    /// The contents of the settings.
    Settings,
    /// Something the Python tool has and this one does not.
    NotHere,
    /// A host: a session or a command of ours on it failed.
    Host,
    /// A named thing does not exist, or a filter does not do.
    Named,
    /// It was cut off by Ctrl-C.
    Interrupted,
    /// It was cut off by SIGTERM.
    Terminated,
    /// The terminal is gone (SIGHUP).
    HungUp,
    /// What was waited for goes on.
    Late,
    /// Nobody reads our output any more.
    BrokenPipe,
    /// Broker itself failed, where every other status belongs to a command.
    Own,
}

impl Code {
    /// Whether a signal asked for it.
    pub(crate) fn is_cut(self) -> bool {
        matches!(self, Self::Interrupted | Self::Terminated | Self::HungUp)
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Auth => 5,
            Self::Permission => 6,
            Self::Provider => 7,
            Self::Settings => 8,
            Self::NotHere => 9,
            Self::Host => 10,
            Self::Named => 13,
            // As of timeout(1).
            Self::Late => 124,
            // As a shell tells of a command that a signal ended.
            Self::HungUp => 129,
            Self::Interrupted => 130,
            Self::BrokenPipe => 141,
            Self::Terminated => 143,
            Self::Own => 255,
        }
    }
}

/// One thing that went wrong.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) code: Code,
    pub(crate) error: Box<dyn StdError + Send + Sync>,
    /// Lines that show the place of a mistake.
    pub(crate) shown: Option<String>,
    pub(crate) hints: Vec<Hint>,
}

/// What a person can do about an error.
#[derive(Debug)]
pub(crate) enum Hint {
    /// This.
    Said(String),
    /// Give it more time, as far as the command has an option for that.
    MoreTime,
    /// Look at what providers take.
    Arguments,
}

impl Hint {
    /// In the words for a command.
    pub(crate) fn text(&self, command: &str) -> String {
        let text = match (self, command) {
            (Self::Said(text), _) => return text.clone(),
            (Self::MoreTime, "checkout" | "duplicate" | "execute" | "exec") => "`--timeout` gives it more time",
            (Self::MoreTime, "checkin" | "reap") => {
                "try again: what has taken effect by now counts; `broker inventory` shows what is left"
            }
            (Self::MoreTime, _) => "try again; the log file, which `broker --version` names, says what was waited for",
            (Self::Arguments, "checkout" | "execute" | "extend" | "providers") => {
                return format!("`broker {command} --help` lists what the providers take");
            }
            (Self::Arguments, _) => "`broker inventory --details` shows what the host was made with",
        };
        text.to_owned()
    }
}

impl<T: Into<String>> From<T> for Hint {
    fn from(text: T) -> Self {
        Self::Said(text.into())
    }
}

impl CommandError {
    pub(crate) fn new(code: Code, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { code, error: error.into(), shown: None, hints: Vec::new() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message.into())
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(Hint::Said(hint.into()));
        self
    }

    /// The same error as the cause of another one.
    pub(crate) fn while_doing(self, message: String) -> Self {
        Self { error: Box::new(Caused { message, source: self.error }), ..self }
    }

    /// The whole chain in one line, for the log and the output file.
    pub(crate) fn line(&self) -> String {
        broker::error_chain(self.error.as_ref())
    }
}

/// An error with a cause.
#[derive(Debug)]
struct Caused {
    message: String,
    source: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for Caused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Caused {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

/// Everything that went wrong, one for each host that failed. Never empty.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Vec<CommandError>);

impl Failure {
    /// The status that all agree on. What failed only because something else had is not asked.
    pub(crate) fn code(&self) -> Code {
        let codes = || self.0.iter().map(|error| error.code);
        let mut own = codes().filter(|code| !code.is_cut() && *code != Code::BrokenPipe);
        match own.next() {
            None => codes().next().unwrap_or(Code::Failed),
            Some(first) if own.all(|code| code == first) => first,
            Some(_) => Code::Failed,
        }
    }

    pub(crate) fn hint(mut self, hint: &str) -> Self {
        if let Some(last) = self.0.last_mut() {
            last.hints.push(hint.into());
        }
        self
    }

    /// The same with another status, for commands whose statuses belong to what they run.
    pub(crate) fn with_code(mut self, code: Code) -> Self {
        for error in &mut self.0 {
            if !error.code.is_cut() && !matches!(error.code, Code::Usage | Code::BrokenPipe) {
                error.code = code;
            }
        }
        self
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Self(vec![error])
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Checkout(error) => Self(error.into_made().1.into_iter().map(CommandError::from).collect()),
            error => CommandError::from(error).into(),
        }
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        let shown = match &error {
            Error::Filter(error) => Some(error.render()),
            _ => None,
        };
        let (code, hints) = (code_of(&error), hints_of(&error));
        Self { shown, hints, ..Self::new(code, error) }
    }
}

impl From<InventoryError> for Failure {
    fn from(error: InventoryError) -> Self {
        Error::from(error).into()
    }
}

impl From<CheckoutFailure> for CommandError {
    fn from(failure: CheckoutFailure) -> Self {
        let code = code_of_cause(&failure.source);
        let mut hints = match failure.source.as_ref() {
            FailureCause::Provider(error) => hints_of_provider(error),
            FailureCause::Inventory(error) => said(hints_of_inventory(error)),
            _ => Vec::new(),
        };
        if failure.is_kept {
            hints.push(format!("`broker checkin {}` releases what may be there", failure.number).into());
        }
        Self { hints, ..Self::new(code, failure) }
    }
}

impl From<ArgsFileError> for CommandError {
    fn from(error: ArgsFileError) -> Self {
        Self::new(Code::Usage, error)
    }
}

/// The exit status for an error of the library.
fn code_of(error: &Error) -> Code {
    match error {
        Error::Request(error) => match error {
            RequestError::NoAction { .. } => Code::Named,
            RequestError::Provider { name, .. } if is_pythons(name) => Code::NotHere,
            RequestError::Provider { .. } => Code::Named,
            RequestError::Actions(_)
            | RequestError::Count(_)
            | RequestError::NotOne(_)
            | RequestError::Argument { .. }
            | RequestError::Value { .. }
            | RequestError::Lease { .. } => Code::Usage,
            _ => Code::Failed,
        },
        Error::Settings(error) => match error {
            SettingsError::NoHome | SettingsError::Directory { .. } => Code::Failed,
            SettingsError::Read { source, .. } if source.kind() == io::ErrorKind::NotADirectory => Code::Failed,
            SettingsError::UnknownInstance { .. } | SettingsError::UnknownNick { .. } => Code::Named,
            SettingsError::Read { .. }
            | SettingsError::Malformed { .. }
            | SettingsError::NotAMapping { .. }
            | SettingsError::Setting(_)
            | SettingsError::Twice { .. }
            | SettingsError::Environment { .. }
            | SettingsError::Secret { .. }
            | SettingsError::AmbiguousInstance { .. }
            | SettingsError::Merge(_) => Code::Settings,
            _ => Code::Failed,
        },
        Error::Inventory(_) => Code::Failed,
        Error::Filter(_) | Error::Select(_) => Code::Named,
        Error::Provider { source, .. } => code_of_provider(source.kind()),
        Error::Checkout(error) => {
            let codes: Vec<Code> = error.failures().iter().map(|failure| code_of_cause(&failure.source)).collect();
            codes.first().filter(|first| codes.iter().all(|code| code == *first)).copied().unwrap_or(Code::Failed)
        }
        Error::Session { .. } | Error::Command { .. } | Error::Hook { .. } | Error::Waited { .. } => Code::Host,
        Error::State { .. } | Error::Unproven { .. } | Error::Blocking | Error::Closed | Error::Panicked(_) => {
            Code::Failed
        }
        _ => Code::Failed,
    }
}

fn code_of_cause(cause: &FailureCause) -> Code {
    match cause {
        FailureCause::Provider(error) => code_of_provider(error.kind()),
        FailureCause::Inventory(_) => Code::Failed,
        // It failed as others had.
        FailureCause::Batch => Code::Interrupted,
        _ => Code::Failed,
    }
}

fn code_of_provider(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Auth => Code::Auth,
        ErrorKind::Permission => Code::Permission,
        ErrorKind::NotFound
        | ErrorKind::Quota
        | ErrorKind::Conflict
        | ErrorKind::Timeout
        | ErrorKind::Unreachable
        | ErrorKind::BadRequest
        | ErrorKind::Failed
        | ErrorKind::EndpointChanged
        | ErrorKind::Unsupported => Code::Provider,
        ErrorKind::Cancelled => Code::Interrupted,
        ErrorKind::Settings => Code::Settings,
        ErrorKind::Bug => Code::Failed,
        _ => Code::Failed,
    }
}

/// Whether the Python tool has a provider of this name.
fn is_pythons(name: &str) -> bool {
    PYTHON_PROVIDERS.iter().any(|(python, _)| *python == name)
}

/// The provider of the Python tool that takes one of these arguments, if it is not among those there are.
pub(crate) fn missing_provider<'a>(
    arguments: impl IntoIterator<Item = &'a str>,
    known: &[&str],
) -> Option<(&'static str, &'a str)> {
    arguments.into_iter().find_map(|argument| {
        let missing = PYTHON_PROVIDERS.iter().filter(|(name, _)| !known.contains(name));
        let (name, _) = missing.into_iter().find(|(_, actions)| actions.contains(&argument))?;
        Some((*name, argument))
    })
}

fn said(hints: Vec<String>) -> Vec<Hint> {
    hints.into_iter().map(Hint::Said).collect()
}

fn hints_of(error: &Error) -> Vec<Hint> {
    match error {
        Error::Provider { source, .. } => hints_of_provider(source),
        Error::Session { source, .. } => hints_of_session(source),
        other => said(words_about(other)),
    }
}

/// Hints that are the same in every command.
fn words_about(error: &Error) -> Vec<String> {
    match error {
        Error::Request(error) => hints_of_request(error),
        Error::Settings(error) => match error {
            SettingsError::NoHome => {
                vec!["set `BROKER_DIRECTORY` to a directory for settings and inventory".to_owned()]
            }
            SettingsError::Directory { .. } | SettingsError::Read { .. } => vec![other_directory()],
            SettingsError::UnknownNick { .. } => {
                vec![
                    "nicks are in section `nicks` of the settings file; `broker --version` shows where that is"
                        .to_owned(),
                ]
            }
            SettingsError::AmbiguousInstance { provider, .. } => vec![format!("choose one with `--{provider} NAME`")],
            SettingsError::UnknownInstance { provider, .. } => vec![format!(
                "instances are in section `{provider}` of the settings file; `broker --version` shows where that is"
            )],
            SettingsError::Environment { name, .. } => {
                vec![format!("variable `{name}` is read as a setting, because of its name")]
            }
            _ => vec!["`broker --version` shows where the settings file is".to_owned()],
        },
        Error::Filter(_) => vec!["`broker inventory --help` shows how filters are written".to_owned()],
        Error::Inventory(error) => hints_of_inventory(error),
        Error::Select(error) if error.ambiguous.is_empty() => {
            vec!["`broker inventory` shows the hosts there are".to_owned()]
        }
        Error::Select(_) => vec!["say which one by its number".to_owned()],
        Error::Unproven { number, .. } => {
            vec![format!("if you know that it does not, `broker checkin --force {number}` releases the host")]
        }
        _ => Vec::new(),
    }
}

fn hints_of_request(error: &RequestError) -> Vec<String> {
    match error {
        RequestError::NoAction { command, other: Some(_), .. } => {
            let other = if *command == "checkout" { "execute" } else { "checkout" };
            vec![format!("`broker {other}` takes it")]
        }
        RequestError::NoAction { command, actions, .. } => {
            let options: Vec<String> = actions.iter().map(|action| option_of(action)).collect();
            vec![format!("name one of {}; `broker {command} --help` says more", options.join(", "))]
        }
        RequestError::Provider { name, known } => {
            let whose = if is_pythons(name) { "that one is the Python tool's; " } else { "" };
            vec![format!("{whose}the providers here are `{}`", known.join("`, `"))]
        }
        RequestError::Actions(_) => vec!["a request has one action".to_owned()],
        RequestError::Argument { .. } | RequestError::Value { .. } | RequestError::Count(_) => {
            vec![
                "an argument comes from the command line, from `--args-file` or from a nick in the settings".to_owned(),
            ]
        }
        RequestError::Lease { .. } => vec!["ask for less, or raise `max_lease` in the settings".to_owned()],
        _ => Vec::new(),
    }
}

/// `container_host (Container)` as one writes it.
fn option_of(action: &str) -> String {
    let name = action.split(' ').next().unwrap_or(action);
    format!("`--{}`", name.replace('_', "-"))
}

fn hints_of_inventory(error: &InventoryError) -> Vec<String> {
    match error {
        InventoryError::NoSpace { .. } => {
            vec!["make room there, or set `BROKER_DIRECTORY` to a directory on another file system".to_owned()]
        }
        InventoryError::Import { .. } => {
            vec![
                "the Python tool's inventory is `inventory.yaml` in the directory that `broker --version` names"
                    .to_owned(),
            ]
        }
        InventoryError::Permission { .. }
        | InventoryError::Io { .. }
        | InventoryError::Version { .. }
        | InventoryError::NotAnInventory { .. } => vec![other_directory()],
        InventoryError::Conflict { .. } => {
            vec!["somebody else is at work on it; `broker inventory` shows what has become of it".to_owned()]
        }
        _ => Vec::new(),
    }
}

fn other_directory() -> String {
    "`BROKER_DIRECTORY` can name another directory".to_owned()
}

/// What a person can do about an error of a provider. Its own words are the last cause; this follows from its kind.
fn hints_of_provider(error: &ProviderError) -> Vec<Hint> {
    let hint = match error.kind() {
        ErrorKind::Auth => "credentials are in the provider's section of the settings",
        ErrorKind::Permission => "your user needs access to that, or the settings name a user who has it",
        ErrorKind::NotFound => "`broker providers` shows how to ask a provider what it has",
        ErrorKind::Quota => "`broker inventory` shows what you hold, `broker checkin` gives it back",
        ErrorKind::Conflict => "free what is in the way, or ask for another name or port",
        _ if error.tells_what_helps() => return Vec::new(),
        ErrorKind::Timeout => return vec![Hint::MoreTime],
        ErrorKind::Unreachable => {
            "start the service, or say where it is in the provider's section of the settings file (`broker --version`)"
        }
        ErrorKind::BadRequest => return vec![Hint::Arguments],
        ErrorKind::Failed => "the last cause is the provider's own word; try again when that is put right",
        ErrorKind::EndpointChanged => {
            "it can be released only where it was made; `broker forget` takes it out of the inventory without"
        }
        ErrorKind::Unsupported => "`broker providers` shows what each provider can do",
        ErrorKind::Settings => "`broker --version` shows where the settings file is",
        ErrorKind::Bug => {
            "that is a mistake in the provider; a report of it needs the log file, which `broker --version` names"
        }
        _ => return Vec::new(),
    };
    vec![hint.into()]
}

fn hints_of_session(error: &SessionError) -> Vec<Hint> {
    let hint = match error.kind() {
        SessionErrorKind::Unreachable | SessionErrorKind::NotRunning => {
            "the host may be gone; `broker inventory --sync PROVIDER` finds out"
        }
        SessionErrorKind::Auth => {
            "user, key and password for hosts are in section `ssh` of the settings file, which `broker --version` names; \
             without a key there the agent and the keys in `~/.ssh` are tried"
        }
        SessionErrorKind::HostKey => {
            "after a checkin and a new checkout any key is new; `host_key_policy` in section `ssh` of the settings says which \
             keys are believed"
        }
        SessionErrorKind::Timeout => return vec![Hint::MoreTime],
        SessionErrorKind::NotFound | SessionErrorKind::Permission | SessionErrorKind::Failed => {
            "`broker shell` is for a look around on the host"
        }
        SessionErrorKind::Local => "that is a path on this machine, not on the host",
        _ => return Vec::new(),
    };
    vec![hint.into()]
}

impl From<SplitError> for CommandError {
    fn from(error: SplitError) -> Self {
        let mut hints = Vec::new();
        match &error {
            SplitError::NearMiss { given, meant } => {
                let key = given.replace('-', "_");
                hints.push(format!("did you mean `--{meant}`? `--arg {key}=VALUE` passes it to the provider as it is"));
            }
            SplitError::NoValue { name, next: Some(next) } if next.len() > 2 => {
                let next = if is_secret_name(name) { "VALUE" } else { next };
                hints.push(format!("a value that begins with a dash is written `--{name}={next}`"));
            }
            SplitError::NoValue { name, .. } => hints.push(format!("write `--{name}=VALUE`, say `--{name}=true`")),
            SplitError::SwitchValue { name } => {
                hints.push(format!("write `--{name}`, or `{}=false` for its opposite", name.replace('-', "_")));
            }
            SplitError::AfterSwitch { name, word } => {
                let key = name.replace('-', "_");
                hints.push(format!(
                    "write `--{name}` alone, or `{key}={word}` where the provider takes an argument of that name"
                ));
            }
            SplitError::Bare { word } => {
                hints.push(format!("an argument for the provider is written `--key {word}` or `key={word}`"));
            }
            SplitError::NoKey { .. } => hints.push("an argument for the provider has a name: `key=value`".to_owned()),
            SplitError::NotText { .. } => {
                hints.push("a value of other bytes can be in a file: `key=@FILE`".to_owned());
            }
        }
        Self { hints: said(hints), ..Self::new(Code::Usage, error) }
    }
}

/// What clap refuses, in our words.
pub(crate) fn of_clap(error: &clap::Error, command: &str) -> CommandError {
    use clap::error::ErrorKind as Kind;

    let all = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        Some(ContextValue::StyledStr(text)) => vec![text.to_string()],
        Some(ContextValue::Number(number)) => vec![number.to_string()],
        _ => Vec::new(),
    };
    let one = |kind| all(kind).into_iter().next().unwrap_or_default();
    let option = bare(&one(ContextKind::InvalidArg));
    let value = one(ContextKind::InvalidValue);
    let message = match error.kind() {
        Kind::UnknownArgument if option.starts_with('-') => format!("there is no option `{option}`"),
        Kind::UnknownArgument => format!("`{option}` is one word too many"),
        Kind::InvalidSubcommand => format!("there is no command `{}`", one(ContextKind::InvalidSubcommand)),
        Kind::InvalidValue if value.is_empty() => format!("`{option}` needs a value"),
        Kind::InvalidValue | Kind::ValueValidation => {
            let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            format!("`{value}` does not do for `{option}`{why}")
        }
        Kind::ArgumentConflict => match all(ContextKind::PriorArg).as_slice() {
            [] => format!("`{option}` does not go with the others"),
            [other, ..] => format!("`{option}` does not go with `{}`", bare(other)),
        },
        Kind::MissingRequiredArgument => format!("`{option}` is missing"),
        Kind::TooFewValues | Kind::WrongNumberOfValues => format!("`{option}` needs more values"),
        Kind::TooManyValues => format!("`{option}` takes no value, and `{value}` is one"),
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    let mut result = CommandError::usage(message);
    let valid = all(ContextKind::ValidValue);
    let suggested = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg].into_iter().flat_map(all);
    // clap guesses far: `--all` for `--fail-release`.
    let given = if error.kind() == Kind::InvalidSubcommand { one(ContextKind::InvalidSubcommand) } else { option };
    let is_near = |text: &String| strsim::osa_distance(text, &given) <= FARTHEST_GUESS;
    let suggested: Vec<String> = suggested.map(|text| bare(&text)).filter(is_near).collect();
    if !valid.is_empty() {
        return result.hint(format!("it takes `{}`", valid.join("`, `")));
    }
    if !suggested.is_empty() {
        result = result.hint(format!("did you mean `{}`?", suggested.join("` or `")));
    }
    if command == "exec" && matches!(error.kind(), Kind::UnknownArgument | Kind::MissingRequiredArgument) {
        return result.hint("the command comes after `--`: `broker exec 0 -- uname -r`");
    }
    let help = if command.is_empty() || error.kind() == Kind::InvalidSubcommand {
        "broker --help".to_owned()
    } else {
        format!("broker {command} --help")
    };
    result.hint(format!("`{help}` shows what there is"))
}

/// An argument as clap shows it, without its brackets: `--count <N>` is `--count`, `[HOST]...` is `HOST`.
fn bare(argument: &str) -> String {
    let name = argument.split(' ').next().unwrap_or(argument);
    name.trim_end_matches("...").trim_matches(['<', '>', '[', ']']).to_owned()
}

#[cfg(test)]
mod tests {
    use broker::filter::Filter;

    use super::*;

    fn provider(kind: ErrorKind) -> Error {
        Error::Provider { doing: "could not".to_owned(), source: ProviderError::new(kind, "no") }
    }

    #[test]
    fn exit_codes() {
        let session = |kind| Error::Session { host: "h".to_owned(), source: SessionError::new(kind, "no") };
        let unknown = |name: &str| RequestError::Provider { name: name.to_owned(), known: Vec::new() };
        let table: Vec<(Error, u8)> = vec![
            (provider(ErrorKind::Auth), 5),
            (provider(ErrorKind::Permission), 6),
            (provider(ErrorKind::NotFound), 7),
            (provider(ErrorKind::Quota), 7),
            (provider(ErrorKind::Conflict), 7),
            (provider(ErrorKind::Timeout), 7),
            (provider(ErrorKind::Unreachable), 7),
            (provider(ErrorKind::BadRequest), 7),
            (provider(ErrorKind::Failed), 7),
            (provider(ErrorKind::EndpointChanged), 7),
            (provider(ErrorKind::Unsupported), 7),
            (provider(ErrorKind::Settings), 8),
            (provider(ErrorKind::Bug), 1),
            (provider(ErrorKind::Cancelled), 130),
            (RequestError::Count("0".to_owned()).into(), 2),
            (RequestError::Actions(vec!["a".to_owned(), "b".to_owned()]).into(), 2),
            (unknown("Nobody").into(), 13),
            (unknown("Foreman").into(), 9),
            (unknown("Beaker").into(), 9),
            (RequestError::NoAction { command: "checkout", nick: None, actions: Vec::new(), other: None }.into(), 13),
            (SettingsError::UnknownNick { nick: "x".to_owned(), suggestion: None, known: Vec::new() }.into(), 13),
            (
                SettingsError::UnknownInstance {
                    provider: "P".to_owned(),
                    instance: "x".to_owned(),
                    known: Vec::new(),
                }
                .into(),
                13,
            ),
            (SettingsError::Environment { name: "X".to_owned(), problem: "no".to_owned() }.into(), 8),
            (SettingsError::NoHome.into(), 1),
            (Filter::parse("name ==").unwrap_err().into(), 13),
            (InventoryError::Stopped.into(), 1),
            (session(SessionErrorKind::NotRunning), 10),
            (session(SessionErrorKind::NotFound), 10),
            (Error::State { number: 0, host: "h".to_owned(), why: "is odd".to_owned() }, 1),
            (Error::Closed, 1),
        ];
        for (error, code) in table {
            assert_eq!(CommandError::from(error).code.number(), code);
        }
    }

    #[test]
    fn failures_that_agree_keep_their_code() {
        let failure = |codes: &[Code]| Failure(codes.iter().map(|code| CommandError::new(*code, "no")).collect());
        assert_eq!(failure(&[Code::Provider, Code::Provider]).code(), Code::Provider);
        assert_eq!(failure(&[Code::Provider, Code::Auth]).code(), Code::Failed);
        // Those that were cancelled because another one failed have no say.
        assert_eq!(failure(&[Code::Interrupted, Code::Auth, Code::Interrupted]).code(), Code::Auth);
        assert_eq!(failure(&[Code::Interrupted, Code::Interrupted]).code(), Code::Interrupted);
    }

    #[test]
    fn arguments_of_providers_that_are_not_here() {
        let known = ["Container", "TestProvider"];
        assert_eq!(missing_provider(["x", "hostgroup"], &known), Some(("Foreman", "hostgroup")));
        assert_eq!(missing_provider(["workflow"], &known), Some(("AnsibleTower", "workflow")));
        assert_eq!(missing_provider(["workflow"], &["AnsibleTower"]), None);
        assert_eq!(missing_provider(["container_host"], &known), None);
    }
}
