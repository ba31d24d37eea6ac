//! The fuzz targets: `tests/fuzz/src/bin/NAME.rs`, each with its seeds in `tests/fuzz/seeds/NAME`.
//!
//! They run under libFuzzer, which is linked in. The instrumentation is LLVM's own pass, so that no nightly toolchain
//! and no further tool is needed; what is given up is the address sanitizer, of little use where unsafe code is denied.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::shell::{self, Context, Result, Workspace, last_lines, quietly, say, which};
use crate::tally::Tally;

/// The last of LLVM's arguments leaves comparisons of text as calls, which libFuzzer sees and takes keywords from.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-max-loads-per-memcmp=0 \
    --cfg=fuzzing";

/// Runs the targets that the filter leaves, as many at once as there are cores. Returns how many passed, and the names
/// of those that failed.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>, seconds: u32) -> Result<(Tally, Vec<String>)> {
    let all = targets(workspace)?;
    let mut tally = Tally::default();
    let (chosen, left_out): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|name| filter.is_none_or(|text| name.contains(text)));
    tally.skipped += left_out.len() as u64;
    let mut failed = Vec::new();
    if chosen.is_empty() {
        return Ok((tally, failed));
    }
    let triple = host_triple()?;
    build(workspace, &triple)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for batch in chosen.chunks(cores) {
        say(format!("fuzzing {} for {seconds}s", batch.join(", ")));
        let mut running = Vec::new();
        for name in batch {
            running.push(Running::start(workspace, &triple, name, seconds)?);
        }
        for target in running {
            match target.finish() {
                Ok(said) => {
                    say(said);
                    tally += Tally::PASSED;
                }
                Err((name, said)) => {
                    say(said);
                    tally += Tally::FAILED;
                    failed.push(name);
                }
            }
        }
    }
    Ok((tally, failed))
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join("tests/fuzz/src/bin");
    let cannot = || format!("cannot read `{}`", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).context(cannot)? {
        let path = entry.context(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn host_triple() -> Result<String> {
    let printed = quietly(Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV"))?;
    let host = printed.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "`rustc -vV` does not name the host".into())
}

fn build(workspace: &Workspace, triple: &str) -> Result {
    if which("c++").is_none() {
        shell::install(&["g++"])?;
    }
    let mut cargo = workspace.cargo();
    cargo
        .args(["build", "--release", "--bins", "--manifest-path", "tests/fuzz/Cargo.toml"])
        // Said even where it is the host, so that build scripts and procedural macros are left as they are.
        .args(["--target", triple])
        .arg("--target-dir")
        .arg(workspace.target.join("fuzz"))
        .env("RUSTFLAGS", INSTRUMENTATION)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    shell::run(&mut cargo)
}

struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    found: PathBuf,
}

impl Running {
    fn start(workspace: &Workspace, triple: &str, name: &str, seconds: u32) -> Result<Self> {
        let corpus = workspace.target.join("fuzz-corpus").join(name);
        let found = workspace.target.join("fuzz-found").join(name);
        for folder in [&corpus, &found] {
            fs::create_dir_all(folder).context(|| format!("cannot create `{}`", folder.display()))?;
        }
        let log = found.join("log");
        let output = File::create(&log).context(|| format!("cannot create `{}`", log.display()))?;
        let copy = output.try_clone().context(|| format!("cannot use `{}`", log.display()))?;
        let program = workspace.target.join("fuzz").join(triple).join("release").join(name);
        let mut command = Command::new(&program);
        command
            .arg(format!("-max_total_time={seconds}"))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-use_value_profile=1", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", found.display()))
            // What is found goes to the first folder; the seeds are only read.
            .arg(&corpus)
            .args(Some(workspace.root.join("tests/fuzz/seeds").join(name)).filter(|seeds| seeds.is_dir()));
        let child = command
            // A trace is longer than the part of the log that is shown; the input found gives it again.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(copy)
            .spawn()
            .context(|| format!("cannot run `{}`", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log, found })
    }

    /// A line about how it went; an error has the name as well.
    fn finish(mut self) -> std::result::Result<String, (String, String)> {
        let status = self.child.wait();
        let printed = fs::read(&self.log).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        match status {
            Ok(status) if status.success() => {
                let runs = printed.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
                Ok(format!("fuzz target {}: {} runs, nothing found", self.name, runs.unwrap_or("?").trim()))
            }
            _ => {
                let said = format!(
                    "fuzz target {} FAILED; the input is in `{}`, the end of its log:\n{}",
                    self.name,
                    self.found.display(),
                    last_lines(&printed, 40)
                );
                Err((self.name, said))
            }
        }
    }
}
