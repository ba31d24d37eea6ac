//! A clean environment for the `broker` program: a home and a Broker directory of its own, and nothing of the user's.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::engines::Engine;
use crate::{signals, wait};

/// How long a command may take before it is killed and its test fails.
const DEADLINE: Duration = Duration::from_secs(120);

/// A directory for one test, and the environment in which its commands run. Dropping it removes every container that
/// its commands made, and the directory.
pub struct TestEnv {
    root: tempfile::TempDir,
    user: String,
    variables: BTreeMap<OsString, OsString>,
}

impl TestEnv {
    /// An empty home, no settings, no hosts. `USER` is one that nobody else has, so that what was made can be told from
    /// what other tests make.
    ///
    /// # Panics
    ///
    /// If there is no room for it.
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("broker-env-").tempdir().unwrap();
        let user = format!("test-{}", root.path().file_name().unwrap().to_string_lossy().to_ascii_lowercase());
        let home = root.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let mut env = Self { root, user: user.clone(), variables: BTreeMap::new() };
        env.set("PATH", std::env::var_os("PATH").unwrap_or_default());
        env.set("HOME", home);
        env.set("USER", user);
        env.set("BROKER_DIRECTORY", env.directory());
        env.set("BROKER_TEST_PROVIDER_DIR", env.hosts_directory());
        env
    }

    /// Sets a variable for the commands that follow.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> &mut Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Takes a variable away from the commands that follow.
    pub fn unset(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.variables.remove(name.as_ref());
        self
    }

    /// The directory that everything of this environment is in.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The home directory.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// The Broker directory. It is not there until something makes it.
    pub fn directory(&self) -> PathBuf {
        self.root.path().join("broker")
    }

    /// Where TestProvider keeps its hosts.
    pub fn hosts_directory(&self) -> PathBuf {
        self.root.path().join("hosts")
    }

    /// The user that the commands run as, as far as they can tell. Containers of theirs carry it in `broker.owner`.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Writes the settings file.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write_settings(&self, text: &str) {
        std::fs::create_dir_all(self.directory()).unwrap();
        std::fs::write(self.directory().join("broker_settings.yaml"), text).unwrap();
    }

    /// Writes a file below the environment's directory, and returns its path.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// How many hosts TestProvider has.
    pub fn test_hosts(&self) -> usize {
        let Ok(entries) = std::fs::read_dir(self.hosts_directory()) else { return 0 };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".json") && !name.starts_with('.')).count()
    }

    /// How many containers of this environment's commands an engine has.
    pub fn containers(&self, engine: &Engine) -> usize {
        self.own_containers(engine).len()
    }

    fn own_containers(&self, engine: &Engine) -> Vec<String> {
        let mine = format!("{}@", self.user);
        let all = engine.with_any("broker.owner").into_iter();
        all.filter(|container| container.labels["broker.owner"].starts_with(&mine)).map(|own| own.id).collect()
    }

    /// Runs `broker` with arguments to its end.
    ///
    /// # Panics
    ///
    /// If it cannot be run, or does not end in time; it is killed then, with its children.
    pub fn broker<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        self.run(arguments, b"")
    }

    /// As [`broker`](Self::broker), and fails the test unless the command succeeds.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn ok<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        let ran = self.broker(arguments);
        ran.expect(0);
        ran
    }

    /// As [`broker`](Self::broker), with something to read.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>, stdin: &[u8]) -> Ran {
        let mut started = self.start(arguments);
        let mut input = started.child.stdin.take().unwrap();
        let stdin = stdin.to_owned();
        // A command that does not read must not stop the test.
        std::thread::spawn(move || drop(input.write_all(&stdin)));
        started.wait(DEADLINE)
    }

    /// Starts `broker`, to be waited for later. Its input is a pipe, in a process group of its own.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Started {
        let mut command = self.command(program());
        command.args(arguments);
        Started::new(command)
    }

    /// A program in this environment, to be run as the test likes.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.variables).current_dir(self.root.path());
        command
    }
}

impl Default for TestEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        for engine in Engine::answering() {
            for container in self.own_containers(&engine) {
                engine.remove(&container);
            }
        }
    }
}

/// The `broker` program: `BROKER_BIN`, or the one that was built beside this test.
///
/// # Panics
///
/// If there is none.
pub fn program() -> PathBuf {
    if let Some(given) = std::env::var_os("BROKER_BIN") {
        return given.into();
    }
    let test = std::env::current_exe().unwrap();
    // target/debug/deps/NAME-HASH
    let built = test.parent().and_then(Path::parent).map(|target| target.join("broker"));
    match built.filter(|path| path.is_file()) {
        Some(path) => path,
        None => panic!(
            "there is no `broker` beside `{}`: `cargo build --bin broker` makes it, or BROKER_BIN says where it is",
            test.display()
        ),
    }
}

/// A command that has been started.
pub struct Started {
    child: Child,
    shown: String,
    output: Option<[std::thread::JoinHandle<Vec<u8>>; 2]>,
}

impl Started {
    fn new(mut command: Command) -> Self {
        signals::heard_by_children();
        let shown = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
        let output = [collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap())];
        Self { child, shown, output: Some(output) }
    }

    /// The command's process id, which is also that of its group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the command alone.
    pub fn signal(&self, signal: Signal) {
        // One that has ended takes no more.
        rustix::process::kill_process(Pid::from_child(&self.child), signal).ok();
    }

    /// Whether the command has ended by now.
    ///
    /// # Panics
    ///
    /// If the system does not say.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end, and kills the command and its children if that does not come.
    ///
    /// # Panics
    ///
    /// If it does not end within `limit`; the message has what it printed.
    pub fn wait(mut self, limit: Duration) -> Ran {
        let end = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() >= end => break None,
                None => std::thread::sleep(wait::PERIOD),
            }
        };
        if status.is_none() {
            self.kill();
        }
        let [stdout, stderr] = self.output.take().unwrap().map(|thread| thread.join().unwrap());
        let ran = Ran {
            shown: self.shown.clone(),
            code: status.and_then(|status| status.code().or(status.signal().map(|signal| 128 + signal))),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        };
        assert!(status.is_some(), "did not end within {limit:?} and was killed: {ran}");
        ran
    }

    fn kill(&mut self) {
        // It may have ended just now.
        kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
        drop(self.child.wait());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.kill();
        }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What a killed command printed is better than nothing.
        drop(from.read_to_end(&mut bytes));
        bytes
    })
}

/// How a command ended, and what it printed.
#[derive(Debug, Clone)]
pub struct Ran {
    shown: String,
    /// Its exit code; 128 and the signal's number where one ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// Fails the test unless the command ended with this code.
    ///
    /// # Panics
    ///
    /// If it did not.
    pub fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { shown, code, stdout, stderr } = self;
        write!(f, "{shown}\ncode: {code:?}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}
