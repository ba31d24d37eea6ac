//! The OpenStack that the tests run against: `tests/labs/openstack`, brought up and taken down.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use crate::shell::{Context, Result, Workspace, as_root, is_root, last_lines, quietly, run, say};

/// What the lab's scripts listen to, and what the caller may have said of it.
const VARIABLES: &[&str] = &[
    "OPENSTACK_LAB_DIR",
    "OPENSTACK_LAB_VENV",
    "OPENSTACK_LAB_OFFSET",
    "OPENSTACK_LAB_INSTALL",
    "OPENSTACK_LAB_FRESH",
    "OPENSTACK_LAB_DEBUG",
    "PYTHON",
];

/// How much of the log is shown of a lab that does not come up.
const TAIL: usize = 60;

/// Installs what is missing, and leaves the lab down.
pub(crate) fn install(workspace: &Workspace) -> Result {
    let _lock = workspace.lock()?;
    run(&mut script(workspace, "up.sh", &["OPENSTACK_LAB_INSTALL=only"])?)
}

/// The lab, for as long as this is there. The script that brings it up takes it down as soon as the pipe between us
/// closes: when this is dropped, and also when this process is ended, by Ctrl-C or however.
pub(crate) struct Lab {
    holder: Child,
    says: BufReader<ChildStdout>,
    log: PathBuf,
    begun: Instant,
}

impl Lab {
    /// Begins to bring the lab up, and to install what is missing for it, out of view.
    pub(crate) fn begin(workspace: &Workspace) -> Result<Self> {
        let log = workspace.own("openstack.log");
        let file = File::create(&log).context(|| format!("cannot create `{}`", log.display()))?;
        let mut command = script(workspace, "hold.sh", &[])?;
        // In a process group of its own, so that the terminal's Ctrl-C leaves it the time to take the lab down.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let mut holder = command.spawn().context(|| "cannot run the lab's scripts".into())?;
        let says = BufReader::new(holder.stdout.take().ok_or("the lab's script has no output")?);
        Ok(Self { holder, says, log, begun: Instant::now() })
    }

    /// Waits until the lab is up.
    pub(crate) fn wait(&mut self) -> Result {
        let mut word = String::new();
        self.says.read_line(&mut word).context(|| "the lab's script cannot be heard".into())?;
        if word.trim() != "READY" {
            let printed = fs::read_to_string(&self.log).unwrap_or_default();
            return Err(format!("the lab did not come up: {}\n{}", self.log.display(), last_lines(&printed, TAIL)));
        }
        say(format!("the OpenStack lab came up within {:.1}s", self.begun.elapsed().as_secs_f64()));
        hand_over()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        match self.holder.wait() {
            Ok(status) if status.success() => {}
            // Why is in the log, and was said if it was the lab that did not come up.
            Ok(status) => say(format!("the OpenStack lab's script ended with {status}: see {}", self.log.display())),
            Err(error) => say(format!("the OpenStack lab's script cannot be waited for: {error}")),
        }
    }
}

/// The scripts run as root, and the tests as whoever runs them.
fn hand_over() -> Result {
    if is_root()? {
        return Ok(());
    }
    let user = quietly(Command::new("id").arg("-u"))?;
    for name in ["clouds.yaml", "keypair.pem", "keypair.pub", "tenants"] {
        let path = directory().join(name);
        run(&mut as_root(&["chown", "-R", user.trim(), &path.to_string_lossy()])?)?;
    }
    Ok(())
}

fn directory() -> PathBuf {
    std::env::var_os("OPENSTACK_LAB_DIR").map_or_else(|| "/tmp/openstack-lab".into(), PathBuf::from)
}

/// A script of the lab's, with servers that can be logged in to.
fn script(workspace: &Workspace, name: &str, more: &[&str]) -> Result<Command> {
    let given = VARIABLES.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    let mut words = vec!["env".to_owned(), "OPENSTACK_LAB_GUESTS=namespace".to_owned()];
    words.extend(given);
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words.push(workspace.root.join("tests/labs/openstack").join(name).to_string_lossy().into_owned());
    as_root(&words.iter().map(String::as_str).collect::<Vec<_>>())
}
