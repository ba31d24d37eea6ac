//! The command line as clap sees it: commands, options and help.

pub mod split;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use broker::provider::{ActionInfo, ArgumentScope, ProviderInfo};
use broker::settings::LogLevel;
use broker::{Choice, duration};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::error::CommandError;
use crate::terminal;
use split::Grammar;

/// The most hosts that one request asks for: more is a slip.
const MOST_HOSTS: u32 = 10_000;

/// How wide help gets, in characters. clap's own is as wide.
const WIDEST: usize = 100;

/// Checks hosts out, lets you use them, and checks them in again.
#[derive(Debug, Parser)]
#[command(
    name = "broker",
    disable_version_flag = true,
    args_override_self = true,
    subcommand_required = false,
    arg_required_else_help = true,
    after_help = "Examples:
  broker checkout --container-host ubi9 --count 2   two containers, with any engine on this machine
  broker inventory                                  what you hold
  broker exec 0 1 -- uname -r                       a command on each
  broker shell 0                                    a look around
  broker checkin --all                              give everything back

`broker COMMAND --help` says more. HOST is a number, id, name or hostname from `broker inventory`."
)]
pub(crate) struct Root {
    /// Print the version, and where Broker keeps its files
    #[arg(short = 'V', long)]
    pub(crate) version: bool,
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// How data is printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// Also write what the command did to this file, as JSON
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) output_file: Option<PathBuf>,
    /// How much is told on standard error: error, warning, info, debug, trace or silent
    #[arg(long, global = true, value_name = "LEVEL", value_parser = level)]
    pub(crate) log_level: Option<LogLevel>,
    /// Show passwords and tokens instead of ***
    #[arg(long, global = true)]
    pub(crate) show_secrets: bool,
    /// Answer every question with yes
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people, and for `cut` and `awk`.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Get hosts
    #[command(
        override_usage = "broker checkout [OPTIONS] [--KEY VALUE | KEY=VALUE]...",
        long_about = "Get hosts.

Prints a line a host: number, hostname and name, with tabs between. They stay yours until you check them in, or their \
lease ends. Hosts that could not be had are errors, and the exit status says so; those that could be had stay.

What to get is an action, such as `--container-host IMAGE`, or a nick from the settings that names one. Options that \
are not listed here are passed to the provider as arguments: `--key value`, `--key=value` and `key=value` mean the \
same. `key=@FILE` reads the value from a JSON or YAML file, and `key=@@TEXT` is the text `@TEXT`.",
        after_help = "Examples:
  broker checkout --container-host ubi9
  broker checkout --nick rhel9 --count 3 --lease 2h
  broker checkout --container-host ubi9 --environment LANG=C --arg memory=2g
  broker checkout --args-file request.yaml --all-or-nothing"
    )]
    Checkout(Checkout),
    /// Give hosts back
    #[command(
        long_about = "Give hosts back.

With --all it lists what it is about to release, and asks. Hosts that a living process holds, a test that is running \
say, are then left alone; --force takes them too.",
        after_help = "Examples:
  broker checkin 0 1
  broker checkin web.example.com
  broker checkin --all
  broker checkin --all --filter 'name<test' --yes"
    )]
    Checkin(Checkin),
    /// Get more hosts like those you have
    #[command(
        long_about = "Get more hosts like those you have.

They are made with the same arguments, labels and instance. Each lives for as long as the lease of the first one was \
from its checkout, if it had one; --lease says otherwise.",
        after_help = "Examples:
  broker duplicate 0
  broker duplicate 0 web.example.com --count 2 --lease 1h"
    )]
    Duplicate(Duplicate),
    /// Take hosts out of the inventory without giving them back
    #[command(
        long_about = "Take hosts out of the inventory without giving them back.

Their provider is not asked. Whatever exists there goes on existing, and nobody keeps track of it any more.",
        after_help = "Examples:
  broker forget 3
  broker forget --all --filter 'state == \"vanished\"'"
    )]
    Forget(Forget),
    /// Show the hosts you have
    #[command(
        long_about = "Show the hosts you have.

The settings can choose the columns, as `inventory_fields`. A filter is a term such as `name<test` (contains), \
`hostname=web` or `state!=active`, or an expression such as `state in [\"failed\", \"vanished\"] && \
age(checked_out_at) > 2h`.",
        after_help = "Examples:
  broker inventory
  broker inventory --filter 'hostname<test,_broker_provider=Container'
  broker inventory --details --filter 'number == 3'
  broker inventory --output json
  broker inventory --sort lease_until
  broker inventory --sync Container
  broker inventory --orphans Container"
    )]
    Inventory(Inventory),
    /// Let hosts live longer
    #[command(
        long_about = "Let hosts live longer.

A lease is extended to so long from now, and never shortened. Without --lease it is the settings' `default_lease`, or \
what the provider's own settings say.",
        after_help = "Examples:
  broker extend 0 --lease 2h
  broker extend --all --lease 1d"
    )]
    Extend(Extend),
    /// Run a provider's action that makes no host
    #[command(
        override_usage = "broker execute [OPTIONS] [--KEY VALUE | KEY=VALUE]...",
        long_about = "Run a provider's action that makes no host, and print what it gives back.

Options that are not listed here are passed to the provider as arguments, as in `broker checkout`.",
        after_help = "Examples:
  broker execute --container-app alpine --command 'echo hello'
  broker execute --nick nightly-report -o yaml"
    )]
    Execute(Execute),
    /// Show the providers, and ask them what they have
    #[command(
        override_usage = "broker providers [NAME [QUERY]] [OPTIONS]",
        after_help = "Examples:
  broker providers
  broker providers Container
  broker providers Container --container-hosts
  broker providers AnsibleTower --workflows --results-filter 'workflow{deploy'"
    )]
    Providers(Providers),
    /// Run a command on hosts
    #[command(
        override_usage = "broker exec [OPTIONS] HOST... -- COMMAND...",
        long_about = "Run a command on hosts, on all of them at once.

A command of one word is a line for the host's shell; several words are a program and its arguments, taken as they \
are. The exit status is the command's, of many hosts the highest, and 255 if Broker itself failed. With many hosts \
each line begins with its host.",
        after_help = "Examples:
  broker exec 0 -- uname -r
  broker exec 0 1 2 -- 'dmesg | tail -n 3'
  broker exec --all --timeout 1m -- systemctl is-system-running
  broker exec -i 0 -- 'cat > /tmp/notes' < notes
  broker exec -it 0 -- top"
    )]
    Exec(Exec),
    /// Copy files to, from and between hosts
    #[command(
        override_usage = "broker cp [OPTIONS] SOURCE... TARGET",
        long_about = "Copy files and directories to, from and between hosts, with modes, times and symbolic links.

HOST:PATH is a path on a host, anything else a path here. A path here with a colon in it is written `./a:b`. Several \
sources go into a directory.",
        after_help = "Examples:
  broker cp setup.sh 0:/root/
  broker cp 0:/var/log ./logs
  broker cp 0:/etc/hosts 1:/tmp/hosts
  broker cp a.txt b.txt 0:/tmp"
    )]
    Cp(Cp),
    /// Release what nobody holds any more: past its lease, or left behind by a process that ended
    #[command(
        long_about = "Release what nobody holds any more.

That is, of the inventory: hosts that are past their lease, and what a process that has ended left behind, such as the \
hosts of a test that was killed. A checkout that was meant to stay and was cut off is settled and not released. Hosts \
of a living process are left to it. With --unknown also what providers have with Broker's labels and no entry of the \
inventory speaks of, once it is past its lease and five minutes more, by the provider's own clock.

It touches only what you checked out on this machine, unless --owner or --any-owner says more. It lists what it is \
about to release, and asks.",
        after_help = "Examples:
  broker reap --dry-run
  broker reap --yes
  broker reap --unknown --provider Container
  broker reap --unknown --owner 'ci@agent-*' --yes"
    )]
    Reap(Reap),
    /// Look after what runs in the background
    #[command(
        long_about = "Look after what runs in the background: what `--background` of other commands has started.

A job is a process of its own. It goes on when its terminal is closed; on systems that end what a user has started when \
they log out, `loginctl enable-linger` lets it go on after that too.",
        after_help = "Examples:
  broker checkout -b --container-host ubi9
  broker jobs list
  broker jobs log -f 1
  broker jobs wait 1 --timeout 10m"
    )]
    Jobs(Jobs),
    /// Open a shell on a host
    #[command(
        long_about = "Open a shell on a host: the user's own ($SHELL there), else bash, else sh. The exit status is the shell's.",
        after_help = "Examples:
  broker shell 0
  broker shell web.example.com"
    )]
    Shell(Shell),
}

impl Command {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Checkout(_) => "checkout",
            Self::Checkin(_) => "checkin",
            Self::Duplicate(_) => "duplicate",
            Self::Forget(_) => "forget",
            Self::Inventory(_) => "inventory",
            Self::Extend(_) => "extend",
            Self::Execute(_) => "execute",
            Self::Providers(_) => "providers",
            Self::Exec(_) => "exec",
            Self::Cp(_) => "cp",
            Self::Reap(_) => "reap",
            Self::Jobs(_) => "jobs",
            Self::Shell(_) => "shell",
        }
    }

    /// Whether the exit status belongs to what runs on the host, so that a failure of ours must not look like one of it.
    pub(crate) fn status_is_anothers(&self) -> bool {
        matches!(self, Self::Exec(_) | Self::Shell(_))
    }
}

/// Which hosts of the inventory are meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct Selection {
    /// Numbers, ids, names or hostnames
    #[arg(value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// All hosts in the inventory
    #[arg(long, conflicts_with = "hosts")]
    pub(crate) all: bool,
    /// Of these, only the hosts that a filter selects
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// Also the hosts that a living process holds, which `--all` leaves alone, and those of an owner that may live (on a
    /// network file system)
    #[arg(long)]
    pub(crate) force: bool,
}

impl Selection {
    /// The choice, if it chooses anything.
    pub(crate) fn choice(&self) -> Result<Choice, CommandError> {
        let Self { hosts, all, filter, .. } = self;
        match filter {
            _ if *all || !hosts.is_empty() => Ok(Choice { hosts: hosts.clone(), all: *all, filter: filter.clone() }),
            Some(_) => Err(CommandError::usage("`--filter` narrows a choice of hosts, and none is made")
                .hint("add `--all` to choose among all hosts, or name hosts")),
            None => Err(CommandError::usage("no hosts are named")
                .hint("name hosts as `broker inventory` shows them, or choose them `--all`")),
        }
    }
}

/// What is wanted of a provider. Its arguments are sorted out before clap sees the words.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// A request from the settings, by its name; what is given here as well wins
    #[arg(short, long, value_name = "NAME")]
    pub(crate) nick: Option<String>,
    /// Arguments from a JSON or YAML file, `count`, `lease` and `timeout` among them; what is given here as well wins
    #[arg(long, value_name = "PATH")]
    pub(crate) args_file: Option<PathBuf>,
    /// An argument for the provider, whatever its name is
    #[arg(long = split::ARG, value_name = "KEY=VALUE")]
    _arg: Vec<String>,
    /// Labels for what is made: `team=qe,nightly`
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(crate) provider_labels: Option<String>,
    /// How long it may take, for each: `90s`, `10m`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Checkout {
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// How many hosts
    #[arg(short, long, value_name = "N", value_parser = count)]
    pub(crate) count: Option<u32>,
    /// How long the hosts may live: `2h`, `1d`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) lease: Option<Duration>,
    /// If one host cannot be had, give the others back
    #[arg(long)]
    pub(crate) all_or_nothing: bool,
    /// Do it in the background, and print the number of the job (see `broker jobs`)
    #[arg(short, long)]
    pub(crate) background: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Checkin {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// One host after the other, and not all at once
    #[arg(long)]
    pub(crate) sequential: bool,
    /// Do it in the background, and print the number of the job (see `broker jobs`)
    #[arg(short, long)]
    pub(crate) background: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Duplicate {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// How many of each
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = count)]
    pub(crate) count: u32,
    /// How long the new hosts may live, where not as long as the first ones: `2h`, `1d`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) lease: Option<Duration>,
    /// How long it may take, for each: `90s`, `10m`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) timeout: Option<Duration>,
    /// Do it in the background, and print the number of the job (see `broker jobs`)
    #[arg(short, long)]
    pub(crate) background: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Debug, Args)]
pub(crate) struct Inventory {
    /// Everything that is known of each host, as YAML
    #[arg(long, conflicts_with = "list")]
    pub(crate) details: bool,
    /// Only the number and what names the host
    #[arg(long)]
    pub(crate) list: bool,
    /// Only the hosts that a filter selects
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// First ask a provider what is there: `Container`, `Container:prefix`, `Container::instance`
    #[arg(long, value_name = "PROVIDER[:ARG][::INSTANCE]", value_parser = SyncTarget::parse)]
    pub(crate) sync: Option<SyncTarget>,
    /// Show instead what a provider has and you do not hold, and what you hold and it does not have
    #[arg(long, value_name = "PROVIDER[:ARG][::INSTANCE]", value_parser = SyncTarget::parse,
        conflicts_with_all = ["details", "list", "filter", "sync", "import", "sort"])]
    pub(crate) orphans: Option<SyncTarget>,
    /// Order by a field, such as `lease_until`; a dash before it turns the order round
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub(crate) sort: Option<String>,
    /// First add what is new in the Python tool's inventory
    #[arg(long)]
    pub(crate) import: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Extend {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// How long the hosts may live from now: `2h`, `1d`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) lease: Option<Duration>,
    /// Labels for the provider, which not all of them take: `team=qe,nightly`
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(crate) provider_labels: Option<String>,
    /// One host after the other, and not all at once
    #[arg(long)]
    pub(crate) sequential: bool,
    /// Do it in the background, and print the number of the job (see `broker jobs`)
    #[arg(short, long)]
    pub(crate) background: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Execute {
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// How data that it gives back is printed: log (text, else YAML), raw (text, else JSON on one line) or yaml
    #[arg(short, long, value_enum, default_value_t = ExecutionFormat::Log, value_name = "FORMAT")]
    pub(crate) output_format: ExecutionFormat,
    /// Do it in the background, and print the number of the job (see `broker jobs`)
    #[arg(short, long)]
    pub(crate) background: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExecutionFormat {
    Log,
    Raw,
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct Providers {
    /// A provider
    pub(crate) name: Option<String>,
    /// Show only the rows that match, by their columns
    #[arg(long, value_name = "EXPR")]
    pub(crate) results_filter: Option<String>,
    /// Show at most so many rows of a list
    #[arg(long, value_name = "N")]
    pub(crate) results_limit: Option<usize>,
    /// An argument for the query, whatever its name is
    #[arg(long = split::ARG, value_name = "KEY=VALUE")]
    _arg: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Give the command what comes on standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// End the command when it takes longer: `30s`, `10m`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) timeout: Option<Duration>,
    /// What to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// Files and directories, and where they go: paths here, or HOST:PATH
    #[arg(required = true, num_args = 2.., value_names = ["SOURCE", "TARGET"])]
    pub(crate) paths: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Reap {
    /// Show what is due, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only what is past its lease, not what dead processes left behind
    #[arg(long)]
    pub(crate) expired: bool,
    /// Also ask providers for what the inventory does not have
    #[arg(long)]
    pub(crate) unknown: bool,
    /// Only hosts of this provider, or of one instance of it
    #[arg(long, value_name = "PROVIDER[::INSTANCE]", value_parser = SyncTarget::parse)]
    pub(crate) provider: Option<SyncTarget>,
    /// Whose hosts: `jane@laptop`, `ci@agent-*`, or `ci` on any machine
    #[arg(long, value_name = "PATTERN", conflicts_with = "any_owner")]
    pub(crate) owner: Option<String>,
    /// Everybody's hosts
    #[arg(long)]
    pub(crate) any_owner: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Jobs {
    #[command(subcommand)]
    pub(crate) command: JobsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Show the jobs there are
    List,
    /// Wait for jobs, print what they printed, and exit as they did: of several, with the highest status
    Wait {
        /// Numbers of jobs; all that run, if none is named
        #[arg(value_name = "JOB")]
        jobs: Vec<u64>,
        /// Wait no longer than that, and exit with 124: `90s`, `10m`
        #[arg(long, value_name = "TIME", value_parser = time)]
        timeout: Option<Duration>,
    },
    /// Show what a job has said
    Log {
        /// The number of a job
        #[arg(value_name = "JOB")]
        job: u64,
        /// Go on until the job ends
        #[arg(short, long)]
        follow: bool,
    },
    /// Ask jobs to stop, as Ctrl-C would, and wait until they have settled what is under way
    Cancel {
        /// Numbers of jobs
        #[arg(required = true, value_name = "JOB")]
        jobs: Vec<u64>,
    },
    /// Remove what is kept of jobs that have ended
    Prune,
}

#[derive(Debug, Args)]
pub(crate) struct Shell {
    /// A number, id, name or hostname
    pub(crate) host: String,
}

/// What a provider is asked, and which instance of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncTarget {
    pub(crate) provider: String,
    pub(crate) argument: Option<String>,
    pub(crate) instance: Option<String>,
}

impl SyncTarget {
    fn parse(text: &str) -> Result<Self, String> {
        let (rest, instance) = match text.rsplit_once("::") {
            Some((rest, instance)) => (rest, Some(instance)),
            None => (text, None),
        };
        let (provider, argument) = match rest.split_once(':') {
            Some((provider, argument)) => (provider, Some(argument)),
            None => (rest, None),
        };
        if provider.is_empty() || instance == Some("") || argument == Some("") {
            return Err(
                "must be `PROVIDER`, `PROVIDER:ARG`, `PROVIDER::INSTANCE` or `PROVIDER:ARG::INSTANCE`".to_owned()
            );
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(Self { provider: provider.to_owned(), argument: owned(argument), instance: owned(instance) })
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err("must be more than nothing".to_owned()),
        other => other.map_err(|error| error.to_string()),
    }
}

fn level(text: &str) -> Result<LogLevel, String> {
    text.parse()
}

fn count(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| (1..=MOST_HOSTS).contains(count));
    count.ok_or_else(|| format!("must be a whole number from 1 to {MOST_HOSTS}"))
}

/// The clap command, with what the providers take in its help, and the grammar that their arguments are sorted by.
pub(crate) fn command(providers: &[&ProviderInfo]) -> (clap::Command, Grammar) {
    let mut command = Root::command();
    for (name, sections) in [
        ("checkout", provider_help(providers, |action| action.makes_host, ArgumentScope::Checkout)),
        ("execute", provider_help(providers, |action| action.executes, ArgumentScope::Execute)),
        ("extend", argument_help(providers, ArgumentScope::Extend)),
        ("providers", query_help(providers)),
    ] {
        command = command.mut_subcommand(name, |command| {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            command.after_help(format!("{sections}{examples}"))
        });
    }
    command.build();

    let mut grammar = Grammar::of(&command);
    if let Some(below) = grammar.command_mut("providers") {
        below.open(providers.iter().map(|info| info.name.to_owned()));
    }
    for info in providers {
        for (name, takes, scope) in [
            ("checkout", (|action| action.makes_host) as fn(&ActionInfo) -> bool, ArgumentScope::Checkout),
            ("execute", |action| action.executes, ArgumentScope::Execute),
        ] {
            let Some(grammar) = grammar.command_mut(name) else { continue };
            grammar.declare(info.name, true);
            for action in info.actions.iter().filter(|action| takes(action)) {
                grammar.declare(action.name, true);
            }
            for argument in info.arguments.iter().filter(|argument| is_taken(argument.on, scope)) {
                grammar.declare(argument.name, argument.value.is_some());
            }
        }
        if let Some(grammar) = grammar.command_mut("extend") {
            for argument in info.arguments.iter().filter(|argument| argument.on == ArgumentScope::Extend) {
                grammar.declare(argument.name, argument.value.is_some());
            }
        }
        if let Some(grammar) = grammar.command_mut("providers").and_then(|below| below.command_mut(info.name)) {
            grammar.declare(info.name, true);
            for query in &info.queries {
                grammar.declare(query.name, query.value.is_some());
            }
        }
    }
    (command, grammar)
}

fn is_taken(on: ArgumentScope, scope: ArgumentScope) -> bool {
    on == scope || on == ArgumentScope::Both
}

fn provider_help(providers: &[&ProviderInfo], takes: fn(&ActionInfo) -> bool, scope: ArgumentScope) -> String {
    let mut text = String::new();
    for info in providers {
        let actions = info.actions.iter().filter(|action| takes(action));
        let mut options: Vec<_> = actions.map(|action| (action.name, Some(action.value), action.help)).collect();
        if options.is_empty() {
            continue;
        }
        let arguments = info.arguments.iter().filter(|argument| is_taken(argument.on, scope));
        options.extend(arguments.map(|argument| (argument.name, argument.value, argument.help)));
        options.push((info.name, Some("INSTANCE"), "The instance of the provider, where the settings have several"));
        section(&mut text, info, &options);
    }
    text
}

/// What providers take beside an action.
fn argument_help(providers: &[&ProviderInfo], scope: ArgumentScope) -> String {
    let mut text = String::new();
    for info in providers {
        let arguments = info.arguments.iter().filter(|argument| argument.on == scope);
        let options: Vec<_> = arguments.map(|argument| (argument.name, argument.value, argument.help)).collect();
        if !options.is_empty() {
            section(&mut text, info, &options);
        }
    }
    text
}

fn query_help(providers: &[&ProviderInfo]) -> String {
    let mut text = String::new();
    for info in providers {
        let mut options: Vec<_> = info.queries.iter().map(|query| (query.name, query.value, query.help)).collect();
        options.push((info.name, Some("INSTANCE"), "The instance of the provider, where the settings have several"));
        section(&mut text, info, &options);
    }
    text
}

fn section(text: &mut String, info: &ProviderInfo, options: &[(&str, Option<&str>, &str)]) {
    let spelled = |(name, value, _): &(&str, Option<&str>, &str)| {
        let value = value.map_or_else(String::new, |value| format!(" <{value}>"));
        format!("--{}{value}", name.replace('_', "-"))
    };
    let width = options.iter().map(|option| spelled(option).len()).max().unwrap_or_default();
    let room =
        terminal::size().map_or(WIDEST, |size| WIDEST.min(size.columns.into())).saturating_sub(width + 4).max(30);
    // Writing to a text does not fail.
    let _ = writeln!(text, "{} ({}):", info.name, info.about);
    for option in options {
        let mut lines = wrapped(option.2, room).into_iter();
        let _ = writeln!(text, "  {:width$}  {}", spelled(option), lines.next().unwrap_or_default());
        for line in lines {
            let _ = writeln!(text, "  {:width$}  {line}", "");
        }
    }
    text.push('\n');
}

/// A text in lines of so many characters, where its words allow.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_providers<T>(test: impl FnOnce(clap::Command, Grammar) -> T) -> T {
        let providers = broker::providers();
        let infos: Vec<&ProviderInfo> = providers.iter().map(|factory| factory.info()).collect();
        let (command, grammar) = command(&infos);
        test(command, grammar)
    }

    #[test]
    fn the_command_is_consistent() {
        with_providers(|command, _| command.debug_assert());
    }

    /// The words of a line, as a shell that knows single quotes alone sees them.
    fn words(line: &str) -> Vec<std::ffi::OsString> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.trim().chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                '<' if !quoted => break,
                c => words.last_mut().unwrap().push(c),
            }
        }
        words.into_iter().filter(|word| !word.is_empty()).map(Into::into).collect()
    }

    #[test]
    fn every_command_has_examples_and_every_example_works() {
        with_providers(|mut command, grammar| {
            let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
            let own = |name: &&String| *name != "help";
            for name in std::iter::once(None).chain(names.iter().filter(own).map(Some)) {
                let below = match name {
                    None => &mut command,
                    Some(name) => command.find_subcommand_mut(name).unwrap(),
                };
                let help = below.render_long_help().to_string();
                let (_, examples) =
                    help.split_once("Examples:\n").unwrap_or_else(|| panic!("{name:?} has no examples"));
                let examples = examples.lines().map(str::trim).filter(|line| line.starts_with("broker "));
                // In the list of all commands each example is explained.
                let examples: Vec<&str> = examples.map(|line| line.split("   ").next().unwrap()).collect();
                assert!(!examples.is_empty());
                for example in examples {
                    let sorted = split::split(&grammar, words(example).split_off(1))
                        .unwrap_or_else(|error| panic!("{example}: {error}"));
                    let words = std::iter::once("broker".into()).chain(sorted.words);
                    let parsed = command.clone().try_get_matches_from(words);
                    parsed.unwrap_or_else(|error| panic!("{example}: {error}"));
                }
            }
        });
    }

    #[test]
    fn help_groups_what_providers_take() {
        with_providers(|mut command, _| {
            for (name, expected) in [
                ("checkout", ["TestProvider (", "--test-action <NAME>", "--hang  ", "--TestProvider <INSTANCE>"]),
                ("execute", ["TestProvider (", "--test-action <NAME>", "--delay <TIME>", "--TestProvider <INSTANCE>"]),
                ("providers", ["TestProvider (", "--test-actions", "INSTANCE", "Examples:"]),
            ] {
                let help = command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
                for text in expected {
                    assert!(help.contains(text), "{name} lacks {text:?}:\n{help}");
                }
            }
        });
    }

    #[test]
    fn sync_targets() {
        let target = |provider: &str, argument: Option<&str>, instance: Option<&str>| SyncTarget {
            provider: provider.to_owned(),
            argument: argument.map(str::to_owned),
            instance: instance.map(str::to_owned),
        };
        for (text, expected) in [
            ("Container", target("Container", None, None)),
            ("Container:jane", target("Container", Some("jane"), None)),
            ("Container::remote", target("Container", None, Some("remote"))),
            ("Container:jane::remote", target("Container", Some("jane"), Some("remote"))),
            ("Container:label:x=y::remote", target("Container", Some("label:x=y"), Some("remote"))),
        ] {
            assert_eq!(SyncTarget::parse(text), Ok(expected), "{text}");
        }
        for text in ["", ":", "::", ":x", "::x", "Container:", "Container::", "Container:x::"] {
            assert!(SyncTarget::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_filter_alone_chooses_nothing() {
        let selection = |hosts: &[&str], all, filter: Option<&str>| Selection {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            all,
            filter: filter.map(str::to_owned),
            force: false,
        };
        assert!(selection(&[], false, None).choice().is_err());
        let error = selection(&[], false, Some("name<x")).choice().unwrap_err();
        assert!(error.hints.iter().any(|hint| hint.text("checkin").contains("`--all`")), "{error:?}");
        assert!(selection(&["0"], false, Some("name<x")).choice().is_ok());
        assert!(selection(&[], true, Some("name<x")).choice().unwrap().all);
    }
}
