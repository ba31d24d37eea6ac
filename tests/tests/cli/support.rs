//! A clean environment for one test, and `broker` run in it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use broker_tests::engines::Engine;
use broker_tests::env::{TestEnv, program};
use serde_json::Value;

/// Longer than anything here takes on a machine that is busy with everything else.
const DEADLINE: Duration = Duration::from_secs(90);

/// A test's own environment. Commands run in its directory `work`.
pub(crate) struct Env(TestEnv);

impl Env {
    pub(crate) fn new() -> Self {
        let mut env = TestEnv::new();
        for name in ["broker", "hosts", "work", "tmp"] {
            fs::create_dir(env.root().join(name)).unwrap();
        }
        env.set("TMPDIR", env.root().join("tmp"));
        Self(env)
    }

    /// Sets a variable for all calls that follow.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.set(name, value);
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.0.unset(name);
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.root()
    }

    /// A user that nobody else has: `USER` of every call.
    pub(crate) fn user(&self) -> &str {
        self.0.user()
    }

    /// A path in the Broker directory.
    pub(crate) fn broker_path(&self, name: &str) -> PathBuf {
        self.root().join("broker").join(name)
    }

    /// A path in the working directory.
    pub(crate) fn work_path(&self, name: &str) -> PathBuf {
        self.root().join("work").join(name)
    }

    /// How many containers of this environment an engine has.
    pub(crate) fn containers(&self, engine: &Engine) -> usize {
        self.0.containers(engine)
    }

    /// Writes a file in the working directory.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.work_path(name), text).unwrap();
    }

    pub(crate) fn write_settings(&self, text: &str) {
        fs::write(self.broker_path("broker_settings.yaml"), text).unwrap();
    }

    pub(crate) fn journal(&self) -> Vec<u8> {
        fs::read(self.broker_path("inventory.jsonl")).unwrap_or_default()
    }

    /// Prepares a call of `broker`. White space separates words, but not between single quotes.
    pub(crate) fn call(&self, line: &str) -> Call {
        let mut command = self.0.command(program());
        command.args(words(line));
        self.prepare(line, command)
    }

    /// Prepares a script, in which `broker` is the program under test.
    pub(crate) fn script(&self, script: &str) -> Call {
        let mut command = self.0.command("sh");
        command.arg("-c").arg(format!("broker() {{ '{}' \"$@\"; }}\n{script}", program().display()));
        self.prepare(script, command)
    }

    fn prepare(&self, line: &str, mut command: Command) -> Call {
        command.current_dir(self.root().join("work"));
        Call { line: line.to_owned(), command, input: Vec::new(), deadline: DEADLINE, may_panic: false }
    }

    /// Runs `broker` to its end.
    pub(crate) fn broker(&self, line: &str) -> Outcome {
        self.call(line).run()
    }

    /// The whole records of the inventory.
    #[track_caller]
    pub(crate) fn inventory(&self) -> Vec<Value> {
        array(self.broker("inventory --output json").ok().json())
    }

    /// Checks hosts of TestProvider out, and returns their numbers.
    #[track_caller]
    pub(crate) fn check_out(&self, options: &str) -> Vec<u64> {
        self.broker(&format!("checkout --test-action t {options}")).ok().numbers()
    }

    /// The ids of TestProvider's hosts that exist, in order.
    pub(crate) fn made(&self) -> Vec<String> {
        let mut ids: Vec<String> = fs::read_dir(self.root().join("hosts"))
            .unwrap()
            .filter_map(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                name.strip_suffix(".json").filter(|id| !id.starts_with('.')).map(str::to_owned)
            })
            .collect();
        ids.sort();
        ids
    }

    /// Neither the provider nor the inventory has anything.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.inventory(), [] as [Value; 0]);
        assert_eq!(self.made(), [] as [&str; 0]);
    }

    /// Whatever exists at the provider is in the inventory.
    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self) {
        let known = texts(&self.inventory(), "id");
        for id in self.made() {
            assert!(known.contains(&id), "`{id}` exists and is not in the inventory: {known:?}");
        }
    }
}

/// The words of a line.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            space if space.is_whitespace() && !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    assert!(!quoted, "an open quote in: {line}");
    words.extend(word);
    words
}

/// A call of `broker` that has not begun.
pub(crate) struct Call {
    line: String,
    command: Command,
    input: Vec<u8>,
    deadline: Duration,
    may_panic: bool,
}

impl Call {
    pub(crate) fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.command.arg(word);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Lets a thread of it panic: a provider that was told to.
    pub(crate) fn may_panic(mut self) -> Self {
        self.may_panic = true;
        self
    }

    pub(crate) fn start(mut self) -> Running {
        let begun = Instant::now();
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        broker_tests::signals::heard_by_children();
        let mut child = self.command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command need not read what it is given.
        let input = self.input;
        std::thread::spawn(move || drop(stdin.write_all(&input)));
        let (stdout, stderr) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
        Running {
            line: self.line,
            child,
            stdout: Some(stdout),
            stderr: Some(stderr),
            begun,
            deadline: self.deadline,
            may_panic: self.may_panic,
        }
    }

    pub(crate) fn run(self) -> Outcome {
        self.start().finish()
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// A `broker` that runs.
pub(crate) struct Running {
    line: String,
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    begun: Instant,
    deadline: Duration,
    may_panic: bool,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The most memory that it has had so far, in bytes.
    fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    }

    /// Sends `INT`, `TERM` or `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(done.success(), "no process to send {name} to: {}", self.line);
    }

    #[track_caller]
    pub(crate) fn finish(mut self) -> Outcome {
        let mut late = false;
        let mut peak_memory = 0;
        let status = loop {
            peak_memory = self.peak_memory().unwrap_or(peak_memory);
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.begun.elapsed() > self.deadline && !late {
                late = true;
                self.child.kill().unwrap();
            }
            sleep(Duration::from_millis(5));
        };
        let outcome = Outcome {
            line: std::mem::take(&mut self.line),
            status,
            time: self.begun.elapsed(),
            peak_memory,
            stdout: self.stdout.take().unwrap().join().unwrap(),
            stderr: String::from_utf8_lossy(&self.stderr.take().unwrap().join().unwrap()).into_owned(),
        };
        assert!(!late, "took longer than {:?}: {outcome}", self.deadline);
        assert!(self.may_panic || !outcome.stderr.contains("panicked at"), "{outcome}");
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that was waited for is not there any more.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What became of a `broker`.
#[derive(Debug)]
pub(crate) struct Outcome {
    line: String,
    status: ExitStatus,
    pub(crate) time: Duration,
    /// In bytes; the most that was seen while it ran.
    pub(crate) peak_memory: u64,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |text: &str| match text.char_indices().nth(4000) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        };
        let (stdout, stderr) = (cut(&String::from_utf8_lossy(&self.stdout)), cut(&self.stderr));
        writeln!(f, "`broker {}` ended with {} after {:?}", self.line, self.status, self.time)?;
        write!(f, "--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

impl Outcome {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }

    /// It exits with this status; other than 0, with an error that says why.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self}");
        assert!(code == 0 || self.stderr.lines().any(|line| line.starts_with("error: ")), "no error line: {self}");
        self
    }

    /// It exits with the status of a command that it ran, whatever that is.
    #[track_caller]
    pub(crate) fn passes_on(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// Standard error contains this, in any case.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.to_lowercase().contains(&text.to_lowercase()), "no `{text}` on standard error: {self}");
        self
    }

    /// Standard error has a `hint:` with this in it.
    #[track_caller]
    pub(crate) fn hints(self, text: &str) -> Self {
        let hints = self.stderr.lines().filter(|line| line.starts_with("hint: "));
        assert!(hints.into_iter().any(|line| line.contains(text)), "no hint with `{text}`: {self}");
        self
    }

    /// Standard output contains this.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(self.out().contains(text), "no `{text}` on standard output: {self}");
        self
    }

    #[track_caller]
    pub(crate) fn prints_nothing(self) -> Self {
        assert!(self.stdout.is_empty(), "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn within(self, limit: Duration) -> Self {
        assert!(self.time < limit, "not within {limit:?}: {self}");
        self
    }

    pub(crate) fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub(crate) fn errors(&self) -> usize {
        self.stderr.lines().filter(|line| line.starts_with("error: ")).count()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("no JSON: {error}: {self}"),
        }
    }

    /// The numbers of the hosts that `checkout` prints.
    #[track_caller]
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let number = |line: &str| match line.split('\t').next().unwrap().parse() {
            Ok(number) => number,
            Err(_) => panic!("`{line}` begins with no number: {self}"),
        };
        self.out().lines().map(number).collect()
    }
}

#[track_caller]
pub(crate) fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("no array: {other}"),
    }
}

/// A field of every record that has it, as text.
pub(crate) fn texts(records: &[Value], field: &str) -> Vec<String> {
    records.iter().filter_map(|record| Some(record.get(field)?.as_str()?.to_owned())).collect()
}

/// The numbers of records, in their order.
pub(crate) fn numbers(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["number"].as_u64().unwrap()).collect()
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A command that needs root, for this user.
pub(crate) fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", program]);
    sudo
}
