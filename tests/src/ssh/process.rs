//! Servers as child processes that end with this one.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};

use rustix::process::{Pid, Signal, kill_process};

/// A command that is killed when this process ends, also where that is by `kill -9`.
pub fn bound_to_this_process(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// A child process with all that it has started. Dropping it kills them.
#[derive(Debug)]
pub struct Process {
    child: Mutex<Child>,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts a command, with what it prints in a file.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = spawn(command);
        let pid = child.id();
        Self { child: Mutex::new(child), pid, log: log.to_owned() }
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it runs.
    ///
    /// # Panics
    ///
    /// If that cannot be told.
    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// The processes that it has started, and those that these have.
    pub fn descendants(&self) -> Vec<u32> {
        descendants(self.pid)
    }

    /// Kills it and its descendants at once, and waits for its end.
    ///
    /// # Panics
    ///
    /// If it cannot be waited for.
    pub fn kill(&self) {
        // The children first where they can be seen: they have no parent afterwards.
        let below = self.descendants();
        let mut child = self.child.lock().unwrap();
        // It may have ended by itself.
        drop(child.kill());
        kill_all(&below);
        child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.lock().is_ok_and(|mut child| matches!(child.try_wait(), Ok(None))) {
            self.kill();
        }
    }
}

/// Kills processes, of which some may have ended.
pub fn kill_all(pids: &[u32]) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        kill_process(pid, Signal::KILL).ok();
    }
}

/// The parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn descendants(of: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = children.remove(&of).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let more = children.remove(pid).unwrap_or_default();
        found.extend(more);
        next += 1;
    }
    found
}

/// Starts a child from a thread that lives as long as this process: the kernel takes the end of the thread that started
/// a child for the end of its parent.
fn spawn(command: Command) -> Child {
    type Job = (Command, mpsc::Sender<std::io::Result<Child>>);
    static JOBS: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let jobs = JOBS.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in jobs {
                drop(reply.send(command.spawn()));
            }
        });
        Mutex::new(sender)
    });
    let shown = format!("{command:?}");
    let (reply, outcome) = mpsc::channel();
    jobs.lock().unwrap().send((command, reply)).unwrap();
    outcome.recv().unwrap().unwrap_or_else(|error| panic!("cannot run {shown}: {error}"))
}
