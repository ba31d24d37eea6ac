//! The OpenStack that the tests run against: `tests/labs/openstack`, brought up and taken down.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use crate::shell::{Result, Workspace, as_root, is_root, quietly, run, say};

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

/// Installs what is missing, and leaves the lab down.
pub(crate) fn install(workspace: &Workspace) -> Result {
    let _lock = workspace.lock()?;
    run(&mut script(workspace, "up.sh", &["OPENSTACK_LAB_INSTALL=only"])?)
}

/// A lab that was brought up, and is taken down when this is dropped.
pub(crate) struct Up<'a> {
    workspace: &'a Workspace,
    /// Whether it was us. What another terminal uses stays.
    ours: bool,
}

impl<'a> Up<'a> {
    /// Brings the lab up, and installs what is missing for it.
    pub(crate) fn bring(workspace: &'a Workspace) -> Result<Self> {
        let _lock = workspace.lock()?;
        let ours = !answers();
        // What is up already is looked at, and what of it has ended is started.
        let up = run(&mut script(workspace, "up.sh", &[])?);
        let lab = Self { workspace, ours };
        up?;
        lab.hand_over()?;
        Ok(lab)
    }

    /// The scripts run as root, and the tests as whoever runs them.
    fn hand_over(&self) -> Result {
        if is_root()? {
            return Ok(());
        }
        let user = quietly(Command::new("id").arg("-u"))?;
        for name in ["clouds.yaml", "keypair.pem", "keypair.pub"] {
            run(&mut as_root(&["chown", user.trim(), &directory().join(name).to_string_lossy()])?)?;
        }
        Ok(())
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        if !self.ours {
            say("the OpenStack lab was up before, and stays up");
            return;
        }
        let down = script(self.workspace, "down.sh", &[]).and_then(|mut command| run(&mut command));
        if let Err(error) = down {
            say(format!("the OpenStack lab could not be taken down: {error}"));
        }
    }
}

fn directory() -> PathBuf {
    std::env::var_os("OPENSTACK_LAB_DIR").map_or_else(|| "/tmp/openstack-lab".into(), PathBuf::from)
}

/// Whether Keystone is there.
fn answers() -> bool {
    let offset = std::env::var("OPENSTACK_LAB_OFFSET").ok().and_then(|offset| offset.parse().ok()).unwrap_or(10000_u16);
    TcpStream::connect(("127.0.0.1", offset.saturating_add(5000))).is_ok()
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
