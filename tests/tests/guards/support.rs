//! A test in two processes: one holds hosts and comes to its end, the other looks at what is left.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use broker::prelude::*;
use broker_core::inventory::HostRecord;
use broker_core::settings::Settings;
use broker_tests::conformance::current_thread;
use broker_tests::env::{TestEnv, program};
use broker_tests::wait::{until, until_within};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const ROLE: &str = "BROKER_GUARDS_ROLE";
const ROOT: &str = "BROKER_GUARDS_ROOT";

/// Longer than anything here takes on a machine that is busy with everything else.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The full name of a test.
macro_rules! name_of {
    ($test:ident) => {
        concat!(module_path!(), "::", stringify!($test))
    };
}

pub(crate) use name_of;

/// The process that holds hosts.
pub(crate) struct Holder {
    pub(crate) role: String,
    root: PathBuf,
}

/// This process, if a test has started it for a role of its own.
pub(crate) fn holder() -> Option<Holder> {
    let role = std::env::var(ROLE).ok()?;
    Some(Holder { role, root: std::env::var_os(ROOT).unwrap().into() })
}

/// A host of TestProvider.
pub(crate) fn request() -> HostRequest {
    HostRequest::action("test_action", "held")
}

impl Holder {
    pub(crate) fn broker(&self) -> Broker {
        Broker::new().unwrap()
    }

    pub(crate) fn checkout(&self, request: HostRequest) -> HostGuard {
        current_thread().block_on(self.broker().checkout(request)).unwrap()
    }

    pub(crate) fn checkout_many(&self, count: u32) -> HostGuards {
        current_thread().block_on(self.broker().checkout_many(request().count(count))).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Lets the test go on.
    pub(crate) fn sign(&self, name: &str) {
        fs::write(self.path(name), "").unwrap();
    }

    pub(crate) fn await_sign(&self, name: &str) {
        until(name, || self.path(name).exists());
    }

    /// Lets the test go on, and waits for what it does.
    pub(crate) fn wait_for_the_end(&self) -> ! {
        self.sign("ready");
        loop {
            std::thread::park();
        }
    }
}

/// The process that looks.
pub(crate) struct Watcher {
    pub(crate) env: TestEnv,
    test: String,
}

impl Watcher {
    /// For the test of this name. Its processes have a guardian.
    pub(crate) fn new(test: &str) -> Self {
        let test = test.split_once("::").map_or(test, |(_, name)| name).to_owned();
        let mut env = TestEnv::new();
        env.set("BROKER_GUARDIAN", program());
        env.set(ROOT, env.root().to_owned());
        Self { env, test }
    }

    /// As [`new`](Self::new), and its processes are on their own.
    pub(crate) fn without_guardian(test: &str) -> Self {
        let mut watcher = Self::new(test);
        watcher.env.set("BROKER_GUARDIAN", "off");
        watcher
    }

    /// The name of the test, as test runners have it.
    pub(crate) fn test(&self) -> &str {
        &self.test
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.env.root().join(name)
    }

    pub(crate) fn sign(&self, name: &str) {
        fs::write(self.path(name), "").unwrap();
    }

    pub(crate) fn await_sign(&self, name: &str) {
        until_within(LONG, name, || self.path(name).exists());
        fs::remove_file(self.path(name)).unwrap();
    }

    /// The holder's environment for another program.
    pub(crate) fn set_role(&mut self, role: &str) {
        self.env.set(ROLE, role);
    }

    fn command(&self, program: &Path, role: &str) -> Command {
        let mut command = self.env.command(program);
        command.args([&self.test, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, role);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts a holder, in a process group of its own.
    pub(crate) fn start(&self, role: &str) -> Started {
        self.start_program(&std::env::current_exe().unwrap(), role)
    }

    /// As [`start`](Self::start), by a copy of this program.
    pub(crate) fn start_program(&self, program: &Path, role: &str) -> Started {
        let said = self.path(&format!("said by {role}"));
        let mut command = self.command(program, role);
        command.stderr(fs::File::create(&said).unwrap()).process_group(0);
        Started { child: command.spawn().unwrap(), said }
    }

    /// Starts a holder, and waits until it holds what it is to hold.
    pub(crate) fn start_ready(&self, role: &str) -> Started {
        let mut started = self.start(role);
        self.await_ready(&mut started);
        started
    }

    pub(crate) fn await_ready(&self, started: &mut Started) {
        until_within(LONG, "the holder", || {
            assert!(started.child.try_wait().unwrap().is_none(), "it has ended: {}", started.said());
            self.path("ready").exists()
        });
        fs::remove_file(self.path("ready")).unwrap();
    }

    /// Runs a holder to its end.
    pub(crate) fn run(&self, role: &str) -> Ended {
        self.start(role).wait()
    }

    /// The ids of the hosts that exist.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.env.hosts_directory()) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter_map(|name| Some(name.strip_suffix(".json").filter(|id| !id.starts_with('.'))?.to_owned()))
            .collect()
    }

    pub(crate) fn records(&self) -> Vec<HostRecord> {
        let snapshot = broker_core::inventory::read(&self.env.directory()).unwrap();
        snapshot.records.iter().map(|record| HostRecord::clone(record)).collect()
    }

    /// The guardians of this test's processes that run.
    pub(crate) fn guardians(&self) -> Vec<Pid> {
        let own = format!("BROKER_DIRECTORY={}", self.env.directory().display());
        let is_own = |process: &Path| {
            let read = |name| fs::read(process.join(name)).unwrap_or_default();
            let words = read("cmdline");
            words.ends_with(b"\0guardian\0")
                && read("environ").split(|byte| *byte == 0).any(|entry| entry == own.as_bytes())
        };
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let own = processes.filter(|process| is_own(process));
        own.filter_map(|process| Pid::from_raw(process.file_name()?.to_str()?.parse().ok()?)).collect()
    }

    /// What the guardians have said about their work.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.env.directory().join("logs/broker.log")).unwrap_or_default()
    }

    /// No host exists and none is in the inventory, now.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        let (hosts, records) = (self.hosts(), self.records());
        assert!(hosts.is_empty() && records.is_empty(), "hosts: {hosts:?}, entries: {records:#?}");
    }

    /// In a while no host exists, none is in the inventory, and no guardian is left.
    #[track_caller]
    pub(crate) fn all_is_settled(&self) {
        let begun = Instant::now();
        while !self.hosts().is_empty() || !self.records().is_empty() || !self.guardians().is_empty() {
            if begun.elapsed() > LONG {
                self.nothing_is_left();
                panic!("guardians are left: {:?}\n{}", self.guardians(), self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        for guardian in self.guardians() {
            // It may have ended just now.
            kill_process(guardian, Signal::KILL).ok();
        }
    }
}

/// A holder that runs. Dropping it kills it.
pub(crate) struct Started {
    pub(crate) child: Child,
    said: PathBuf,
}

impl Started {
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn signal_group(&self, signal: Signal) {
        kill_process_group(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn kill(self) -> Ended {
        self.signal(Signal::KILL);
        self.wait()
    }

    #[track_caller]
    pub(crate) fn wait(mut self) -> Ended {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ended { status, said: self.said() };
            }
            assert!(begun.elapsed() < LONG * 2, "it does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How a holder ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn ok(&self) {
        assert!(self.status.success(), "{}: {}", self.status, self.said);
    }
}

/// A broker in the process of the test itself, on the directory of its holders.
pub(crate) fn broker_of(watcher: &Watcher) -> Broker {
    let mut settings = Settings::builder();
    settings = settings.set("TestProvider.directory", watcher.env.hosts_directory().to_str().unwrap());
    let settings = settings.build().unwrap().settings;
    Broker::builder().settings(settings).directory(watcher.env.directory()).without_guardian().build().unwrap()
}
