//! The container engines: found, started where they are installed and not running, and given the host images.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::images;
use crate::shell::{self, Context, Result, Workspace, as_root, finished, is_root, quietly, say, start_service, which};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Docker,
    Podman,
}

impl Engine {
    /// Its command line client, with a deadline: an engine that hangs must not hang a test run without a word.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["600", self.program()]);
        command
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        })
    }
}

/// Sets up one engine: Docker where it is installed, else Podman where that is.
pub(crate) fn any(workspace: &Workspace) -> Result {
    let _lock = workspace.lock()?;
    if docker_is_installed() {
        return docker(workspace);
    }
    if which("podman").is_some() {
        return podman(workspace);
    }
    Err("no container engine is installed; install one, on Debian `apt-get install docker.io`".into())
}

/// Sets up Docker and Podman. Docker is expected to be there, Podman is installed where it is not.
pub(crate) fn both(workspace: &Workspace) -> Result {
    let _lock = workspace.lock()?;
    if !docker_is_installed() {
        return Err("Docker is not installed; on Debian `apt-get install docker.io`".into());
    }
    docker(workspace)?;
    podman(workspace)
}

fn docker_is_installed() -> bool {
    which("dockerd").is_some() || which("docker").is_some()
}

fn docker(workspace: &Workspace) -> Result {
    if which("docker").is_none() {
        return Err(
            "Docker's daemon is installed, its command line client is not; on Debian `apt-get install docker-cli`"
                .into(),
        );
    }
    if let Err(why) = docker_answers() {
        start_docker(workspace, &why)?;
    }
    images::build_missing(workspace, Engine::Docker)
}

/// The error is what Docker's client says.
fn docker_answers() -> Result {
    let output =
        finished(Command::new("timeout").args(["20", "docker", "version", "--format", "{{.Server.Version}}"]))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(if said.trim().is_empty() { "no answer within 20s".into() } else { said.trim().to_owned() })
}

/// How Docker's client words it. Shorter would also match its warning about a settings file that it may not read.
const NOT_ALLOWED: &str = "permission denied while trying to connect";

fn start_docker(workspace: &Workspace, why: &str) -> Result {
    if why.contains(NOT_ALLOWED) {
        return Err(format!(
            "Docker runs and this user may not use it: {why}\nhint: `sudo usermod -aG docker $USER`, then log in again"
        ));
    }
    if let Some(elsewhere) = std::env::var_os("DOCKER_HOST") {
        return Err(format!("Docker at DOCKER_HOST `{}` does not answer: {why}", elsewhere.display()));
    }
    let Some(daemon) = which("dockerd") else {
        return Err(format!("Docker does not answer, and there is no dockerd to start: {why}"));
    };
    say("Docker is installed and not running: starting it");
    if Path::new("/run/systemd/system").exists() {
        quietly(&mut as_root(&["systemctl", "start", "docker"])?)?;
        return docker_answers();
    }
    let daemon = daemon.to_string_lossy();
    let log = workspace.own("dockerd.log");
    start_service(as_root(&["setsid", &daemon, "-H", "unix:///var/run/docker.sock"])?, &log, || {
        docker_answers().is_ok()
    })
    .or_else(|error| match docker_answers() {
        // Started, but not for this user.
        Err(why) if why.contains(NOT_ALLOWED) => start_docker(workspace, &why),
        _ => Err(error),
    })
}

/// What Podman needs beside itself, which Debian's package only recommends.
const PODMAN_PACKAGES: [&str; 6] = ["podman", "runc", "netavark", "aardvark-dns", "iptables", "nftables"];
const ROOTLESS_PACKAGES: [&str; 3] = ["uidmap", "slirp4netns", "fuse-overlayfs"];

fn podman(workspace: &Workspace) -> Result {
    let mut packages = PODMAN_PACKAGES.to_vec();
    if !is_root()? {
        packages.extend(ROOTLESS_PACKAGES);
    }
    let installed_now = which("podman").is_none();
    if installed_now {
        shell::install(&packages)?;
    }
    images::build_missing(workspace, Engine::Podman)?;
    if podman_runs_containers().is_err() {
        if !installed_now {
            shell::install(&packages)?;
        }
        if podman_runs_containers().is_err() {
            write_drop_in()?;
            podman_runs_containers().map_err(|error| format!("Podman cannot run a container here: {error}"))?;
        }
    }
    serve_podman(workspace)
}

/// A container with a published port, since a missing package of the network shows only there.
fn podman_runs_containers() -> Result {
    let image = images::reference("tiny");
    quietly(Command::new("timeout").args(["60", "podman", "run", "--rm", "--publish", "127.0.0.1::80", &image, "true"]))
        .map(drop)
}

/// Without the limits crun and runc try to raise what a machine without CAP_SYS_RESOURCE cannot raise; crun refuses
/// hosts that mix the two versions of control groups.
const DROP_IN: &str = "\
# Written by `cargo xtask` because Podman could not start a container without it. May be deleted.
[containers]
default_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]
[engine]
runtime = \"runc\"
";

fn write_drop_in() -> Result {
    let base = if is_root()? {
        PathBuf::from("/etc")
    } else if let Some(set) = std::env::var_os("XDG_CONFIG_HOME") {
        PathBuf::from(set)
    } else {
        std::env::home_dir().ok_or("no home directory for Podman's settings")?.join(".config")
    };
    let folder = base.join("containers/containers.conf.d");
    let file = folder.join("90-broker-tests.conf");
    say(format!("Podman cannot start containers as it is set up: writing `{}`", file.display()));
    fs::create_dir_all(&folder).context(|| format!("cannot create `{}`", folder.display()))?;
    fs::write(&file, DROP_IN).context(|| format!("cannot write `{}`", file.display()))
}

fn serve_podman(workspace: &Workspace) -> Result {
    let folder = if is_root()? {
        PathBuf::from("/run/podman")
    } else {
        let runtime =
            std::env::var_os("XDG_RUNTIME_DIR").ok_or("XDG_RUNTIME_DIR is not set: no place for Podman's socket")?;
        PathBuf::from(runtime).join("podman")
    };
    let socket = folder.join("podman.sock");
    if !answers(&socket) {
        say(format!("starting Podman's API service at `{}`", socket.display()));
        fs::create_dir_all(&folder).context(|| format!("cannot create `{}`", folder.display()))?;
        let mut command = Command::new("setsid");
        command.args(["podman", "system", "service", "--time=0"]).arg(format!("unix://{}", socket.display()));
        start_service(command, &workspace.own("podman.log"), || answers(&socket))?;
    }
    // The service reads its settings when it starts: one from before the drop-in still fails.
    let url = format!("unix://{}", socket.display());
    let image = images::reference("tiny");
    quietly(Command::new("timeout").args(["60", "podman", "--remote", "--url", &url, "run", "--rm", &image, "true"]))
        .map(drop)
        .map_err(|error| {
            format!("Podman's API service cannot run a container; end it, and it is started anew: {error}")
        })
}

/// Whether an engine's API answers at the socket.
fn answers(socket: &Path) -> bool {
    let ping = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ping().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_an_engine_that_says_ok_answers() {
        let folder = std::env::temp_dir().join(format!("xtask-engines-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("engine.sock");
        assert!(!answers(&socket), "nothing there");

        let listener = UnixListener::bind(&socket).unwrap();
        let engine = std::thread::spawn(move || {
            for reply in ["HTTP/1.0 200 OK\r\n\r\nOK", "HTTP/1.0 500 Internal Server Error\r\n\r\n", ""] {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 16]).unwrap();
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        assert!(answers(&socket));
        assert!(!answers(&socket), "an error");
        assert!(!answers(&socket), "an empty reply");
        engine.join().unwrap();
        assert!(!answers(&socket), "a socket that nobody listens at");
        fs::remove_dir_all(&folder).unwrap();
    }
}
