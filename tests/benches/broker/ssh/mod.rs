//! Hosts over SSH, against OpenSSH's own clients at the same server: commands and files over connections that are open.

mod commands;
pub(crate) mod memory;
mod transfers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use broker_tests::ssh::process::bound_to_this_process;
use broker_tests::ssh::{Server, Setup};

use crate::Result;
use crate::report::Bench;

pub(crate) fn run(bench: &mut Bench) -> Result {
    let programs = ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/sftp", "/usr/bin/scp"];
    if let Some(missing) = programs.iter().find(|program| !Path::new(program).is_file()) {
        bench.leave_out("ssh", &format!("there is no `{missing}`; run `cargo xtask setup`"));
        return Ok(());
    }
    commands::run(bench)?;
    transfers::run(bench)?;
    memory::run(bench)
}

/// A server that takes as many commands at once as anybody likes, with nothing in its user's home.
fn server() -> Server {
    Setup::openssh().jailed_where_possible().option("MaxSessions 100").option("LogLevel ERROR").start()
}

/// A connection of OpenSSH's client that others go over (`ControlMaster`). Ends with the value.
struct Master {
    socket: PathBuf,
    child: Child,
    client: Command,
}

impl Master {
    fn open(server: &Server, at: SocketAddr, number: usize) -> Result<Self> {
        let socket = server.directory().join(format!("master-{number}-{}", at.port()));
        let client = server.client_at("ssh", at);
        let mut command = bound_to_this_process("ssh");
        command.args(client.get_args()).args(["-M", "-N", "-S"]).arg(&socket).arg("lab");
        let child = command.stdin(Stdio::null()).spawn()?;
        let mut master = Self { socket, child, client };
        let end = Instant::now() + Duration::from_secs(30);
        while !master.socket.exists() {
            if Instant::now() > end || master.child.try_wait()?.is_some() {
                return Err("`ssh -M` opens no connection".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(master)
    }

    /// `ssh`, `sftp` or `scp` over this connection; the arguments follow.
    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.client.get_args()).arg("-o").arg(format!("ControlPath={}", self.socket.display()));
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        // It may have ended with its server.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
        // What is left of it would be taken for the next one of its number.
        let _removed = std::fs::remove_file(&self.socket);
    }
}

/// Runs a client to its end, and returns what it printed on both outputs.
fn finished(command: &mut Command) -> Result<(Vec<u8>, Vec<u8>)> {
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{command:?}` ended with {}: {said}", output.status).into());
    }
    Ok((output.stdout, output.stderr))
}
