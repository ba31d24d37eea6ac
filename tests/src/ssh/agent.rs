//! An agent of a test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::keys::Key;
use super::process::{Process, bound_to_this_process};
use crate::wait;

/// OpenSSH's `ssh-agent`. Dropping it ends it.
#[derive(Debug)]
pub struct Agent {
    socket: PathBuf,
    _process: Process,
    _directory: tempfile::TempDir,
}

impl Agent {
    /// Starts one that holds these keys, in this order. None of them may have a passphrase.
    ///
    /// # Panics
    ///
    /// If it does not take them.
    pub fn start<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Self {
        // The path of a socket has to be short.
        let directory = tempfile::Builder::new().prefix("broker-agent-").tempdir_in("/tmp").unwrap();
        let socket = directory.path().join("agent.sock");
        let mut command = bound_to_this_process("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket);
        let process = Process::start(command, &directory.path().join("log"));
        wait::until("the agent's socket", || socket.exists());
        for key in keys {
            let output =
                Command::new("ssh-add").arg("-q").arg(key.path()).env("SSH_AUTH_SOCK", &socket).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Self { socket, _process: process, _directory: directory }
    }

    /// What `SSH_AUTH_SOCK` is to be.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}
