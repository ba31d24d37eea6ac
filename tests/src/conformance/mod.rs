//! What every provider and every way to a host must do alike, each case a test.
//!
//! A suite is a macro that makes a test of every case for one subject: a type that knows how to bring about what a case
//! needs, such as a host that takes long to make, or a provider that does not answer.
//!
//! A case may run parts of itself in other processes: the test program is started anew for the same test, with a role.

pub mod provider;
pub mod session;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

const ROLE: &str = "BROKER_TESTS_ROLE";
const PLACE: &str = "BROKER_TESTS_PLACE";

/// Where a case runs: a directory, which all processes of the case share.
#[derive(Debug, Clone)]
pub struct Place {
    directory: PathBuf,
    test: String,
    role: Option<String>,
}

impl Place {
    /// The directory. It is removed after the case.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whether this is another process than the one that began the case.
    pub fn is_child(&self) -> bool {
        self.role.is_some()
    }

    /// A word that no other case has: for labels.
    pub fn word(&self) -> String {
        self.directory.file_name().unwrap().to_string_lossy().to_ascii_lowercase()
    }

    /// This program for the same case in another role.
    pub fn command(&self, role: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&self.test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(PLACE, &self.directory).stdin(Stdio::null());
        command
    }

    /// Starts the same case in another role. What it prints is thrown away.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(&self, role: &str) -> Running {
        Running(self.command(role).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Runs the same case in another role to its end, and returns how it ended and what it printed on standard error.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn run(&self, role: &str) -> (std::process::ExitStatus, String) {
        let child = self.command(role).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Leaves a sign that [`await_sign`](Self::await_sign) sees, in whatever process.
    ///
    /// # Panics
    ///
    /// If it cannot be left.
    pub fn sign(&self, name: &str) {
        std::fs::write(self.join(&format!("{name}.sign")), "").unwrap();
    }

    /// Whether a sign was left.
    pub fn has_sign(&self, name: &str) -> bool {
        self.join(&format!("{name}.sign")).exists()
    }

    /// Waits for a sign, and takes it away.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub fn await_sign(&self, name: &str) {
        crate::wait::until(&format!("sign `{name}`"), || self.has_sign(name));
        std::fs::remove_file(self.join(&format!("{name}.sign"))).unwrap();
    }
}

/// Another process of a case. Dropping it kills it.
pub struct Running(Child);

impl Running {
    /// Ends it as nothing can be prepared for.
    ///
    /// # Panics
    ///
    /// If it cannot be waited for.
    pub fn kill(mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        self.0.wait().unwrap();
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If it cannot be waited for.
    pub fn wait(mut self) -> std::process::ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a suite is about.
pub trait Subject: Send + Sync + Sized + 'static {
    /// How long a case may take.
    const LIMIT: Duration = Duration::from_secs(180);

    /// Makes it ready, in the process that begins a case and in every other one of that case.
    fn open(place: &Place) -> Self;

    /// Removes whatever the case has left, also where it failed. Called once, when no process of the case is left.
    fn clean(&self);
}

/// What a case is given.
pub struct Case<S> {
    /// What it is about.
    pub subject: S,
    /// Where it runs.
    pub place: Place,
}

impl<S> Case<S> {
    /// Which part of the case this process has; `None` in the one that begins it.
    pub fn role(&self) -> Option<&str> {
        self.place.role.as_deref()
    }

    /// Runs a future to its end on a runtime of its own.
    ///
    /// # Panics
    ///
    /// If the future does.
    pub fn block<F: Future>(&self, future: F) -> F::Output {
        current_thread().block_on(future)
    }
}

/// A runtime with one thread.
///
/// # Panics
///
/// If it cannot be made.
pub fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs one case. `test` is the test's full name, as the test runner takes it.
///
/// # Panics
///
/// If the case does, or does not end in time.
pub fn run<S: Subject>(test: &str, case: fn(&Case<S>)) {
    // The first part of a module's path is the program.
    let test = test.split_once("::").map_or(test, |(_, name)| name).to_owned();
    if let Some(role) = std::env::var_os(ROLE) {
        let place =
            Place { directory: std::env::var_os(PLACE).unwrap().into(), test, role: Some(role.into_string().unwrap()) };
        return case(&Case { subject: S::open(&place), place });
    }
    let directory = tempfile::Builder::new().prefix("broker-case-").tempdir().unwrap();
    let place = Place { directory: directory.path().to_owned(), test, role: None };
    let case_of = Arc::new(Case { subject: S::open(&place), place });
    let (done, ended) = mpsc::channel();
    let given = Arc::clone(&case_of);
    std::thread::spawn(move || done.send(catch_unwind(AssertUnwindSafe(|| case(&given)))));
    let outcome = ended.recv_timeout(S::LIMIT);
    case_of.subject.clean();
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => panic!("the case did not end within {:?}", S::LIMIT),
    }
}
