//! Development tasks: `cargo xtask COMMAND`. Needs nothing but the standard library, so that it builds in seconds.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints")]

mod demo;
mod engines;
mod faults;
mod fuzz;
mod gate;
mod images;
mod openstack;
mod rootfs;
mod shell;
mod ssh;
mod tally;

use std::process::ExitCode;

use shell::{Result, Workspace};

const HELP: &str = "\
cargo xtask COMMAND

  setup [--podman] [--openstack] install the SSH servers and libraries, start the container engine, build the host
                                 images; --podman: Podman too; --openstack: what the OpenStack lab needs, too
  demo                           three hosts out, a command on each, all back in
  test [FILTER] [--fuzz-seconds N]
                                 install and start what is missing, then run every check; with FILTER only the tests
                                 and fuzz targets whose name contains it; N seconds a fuzz target (30)
  fuzz [NAME] [--seconds N]      only the fuzz targets, or one, N seconds each (30)
  faults [RUN] [--count N] [--seed S]
                                 `broker` and its users killed, cut off and crowded: kill, containers, journal, crowd,
                                 provider, openstack, nextest; N times each (50), a tenth of it with containers
  bench [NAME] [--quick]         the benchmarks, beside a floor measured in the same run; --quick: fewer rounds, less data
  help                           this page
";

/// What was asked for, with its arguments checked.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Help,
    Setup { podman: bool, openstack: bool },
    Demo,
    Test { filter: Option<String>, fuzz_seconds: u32 },
    Fuzz { name: Option<String>, seconds: u32 },
    Faults(faults::Dose),
    Bench { name: Option<String>, quick: bool },
}

fn main() -> ExitCode {
    let task = match parse(std::env::args().skip(1)) {
        Ok(task) => task,
        Err(message) => {
            eprintln!("error: {message}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(task) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match task {
        Task::Help => print!("{HELP}"),
        Task::Setup { podman, openstack } => {
            set_up(&workspace, podman)?;
            if openstack {
                openstack::install(&workspace)?;
            }
        }
        Task::Demo => demo::run(&workspace)?,
        Task::Test { filter, fuzz_seconds } => return gate::run(&workspace, filter.as_deref(), fuzz_seconds),
        Task::Fuzz { name, seconds } => return gate::fuzz_only(&workspace, name.as_deref(), seconds),
        Task::Faults(dose) => {
            set_up(&workspace, true)?;
            faults::in_view(&workspace, &dose)?;
        }
        Task::Bench { name, quick } => bench(&workspace, name.as_deref(), quick)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that a build and the tests need, but the OpenStack lab.
fn set_up(workspace: &Workspace, podman: bool) -> Result {
    ssh::library(workspace)?;
    ssh::programs(workspace)?;
    certificates(workspace)?;
    if podman { engines::both(workspace) } else { engines::any(workspace) }
}

/// What makes certificates for tests of encryption.
fn certificates(workspace: &Workspace) -> Result {
    let _lock = workspace.lock()?;
    if shell::which("openssl").is_some() { Ok(()) } else { shell::install(&["openssl"]) }
}

fn bench(workspace: &Workspace, name: Option<&str>, quick: bool) -> Result {
    set_up(workspace, false)?;
    let needs_lab = name.is_none_or(|name| name.contains("openstack"));
    let mut lab = if needs_lab { Some(openstack::Lab::begin(workspace)?) } else { None };
    shell::run(workspace.cargo().args(["build", "--release", "--bin", "broker", "--features", "broker-cli/russh"]))?;
    let quick = quick.then_some("--quick");
    if let Some(lab) = &mut lab {
        lab.wait()?;
    }
    shell::run(
        workspace
            .cargo()
            .args(["run", "--release", "-p", "broker-benches", "--features", "russh", "--"])
            .args(name)
            .args(quick),
    )
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Task> {
    let Some(command) = arguments.next() else { return Ok(Task::Help) };
    let mut name = None;
    let mut seconds = None;
    let mut podman = false;
    let mut openstack = false;
    let mut quick = false;
    let (mut count, mut seed) = (50, 1);
    while let Some(argument) = arguments.next() {
        match (command.as_str(), argument.as_str()) {
            ("setup", "--podman") => podman = true,
            ("setup", "--openstack") => openstack = true,
            ("bench", "--quick") => quick = true,
            ("test", "--fuzz-seconds") | ("fuzz", "--seconds") => {
                let value = arguments.next().ok_or_else(|| format!("`{argument}` needs a number of seconds"))?;
                // 0 means "for ever" to libFuzzer.
                let number = value.parse().ok().filter(|number| *number > 0);
                seconds = Some(number.ok_or_else(|| format!("`{argument} {value}`: not a whole number above 0"))?);
            }
            ("faults", "--count" | "--seed") => {
                let value = arguments.next().ok_or_else(|| format!("`{argument}` needs a number"))?;
                let wrong = || format!("`{argument} {value}`: not a whole number above 0");
                let number = value.parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
                if argument == "--count" { count = number } else { seed = u64::from(number) }
            }
            ("test" | "fuzz" | "faults" | "bench", text) if name.is_none() && !text.starts_with('-') => {
                name = Some(argument)
            }
            _ => return Err(format!("unexpected argument `{argument}` of `{command}`")),
        }
    }
    Ok(match command.as_str() {
        "setup" => Task::Setup { podman, openstack },
        "demo" => Task::Demo,
        "test" => Task::Test { filter: name, fuzz_seconds: seconds.unwrap_or(30) },
        "fuzz" => Task::Fuzz { name, seconds: seconds.unwrap_or(30) },
        "faults" => Task::Faults(faults::Dose { name, count, seed }),
        "bench" => Task::Bench { name, quick },
        "help" | "--help" | "-h" => Task::Help,
        _ => return Err(format!("unknown command `{command}`")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn commands_and_their_options() {
        assert_eq!(parsed(""), Ok(Task::Help));
        assert_eq!(parsed("setup --podman"), Ok(Task::Setup { podman: true, openstack: false }));
        assert_eq!(parsed("setup --openstack"), Ok(Task::Setup { podman: false, openstack: true }));
        assert_eq!(parsed("test"), Ok(Task::Test { filter: None, fuzz_seconds: 30 }));
        assert_eq!(
            parsed("test journal --fuzz-seconds 5"),
            Ok(Task::Test { filter: Some("journal".into()), fuzz_seconds: 5 })
        );
        assert_eq!(parsed("bench ssh --quick"), Ok(Task::Bench { name: Some("ssh".into()), quick: true }));
        let dose = |name: Option<&str>, count, seed| faults::Dose { name: name.map(str::to_owned), count, seed };
        assert_eq!(parsed("faults"), Ok(Task::Faults(dose(None, 50, 1))));
        assert_eq!(parsed("faults kill --count 1000 --seed 7"), Ok(Task::Faults(dose(Some("kill"), 1000, 7))));
        assert_eq!(parsed("fuzz --seconds 600"), Ok(Task::Fuzz { name: None, seconds: 600 }));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(parsed("tset"), Err("unknown command `tset`".into()));
        assert_eq!(parsed("demo now"), Err("unexpected argument `now` of `demo`".into()));
        assert_eq!(parsed("test a b"), Err("unexpected argument `b` of `test`".into()));
        assert_eq!(parsed("test --fuzz-seconds"), Err("`--fuzz-seconds` needs a number of seconds".into()));
        assert_eq!(parsed("faults --count -1"), Err("`--count -1`: not a whole number above 0".into()));
        assert_eq!(parsed("fuzz --seconds 0"), Err("`--seconds 0`: not a whole number above 0".into()));
    }
}
