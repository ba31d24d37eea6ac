//! SSH: the library that Broker is built with, and the servers and clients that its tests run against.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::shell::{self, Context, Result, Workspace, as_root, finished, quietly, say, which};

/// Installs what the build links against.
pub(crate) fn library(workspace: &Workspace) -> Result {
    let _lock = workspace.lock()?;
    let found = which("pkg-config").is_some()
        && finished(Command::new("pkg-config").args(["--exists", "openssl"]))?.status.success();
    if found { Ok(()) } else { shell::install(&["libssl-dev", "pkg-config"]) }
}

/// Installs the servers and clients.
pub(crate) fn programs(workspace: &Workspace) -> Result {
    let _lock = workspace.lock()?;
    let clients = [("ssh", "openssh-client"), ("dropbear", "dropbear-bin"), ("dropbearconvert", "dropbear-bin")];
    let mut missing: Vec<&str> =
        clients.into_iter().filter(|(program, _)| which(program).is_none()).map(|(_, package)| package).collect();
    missing.dedup();
    if !Path::new("/usr/lib/openssh/sftp-server").is_file() {
        missing.push("openssh-sftp-server");
    }
    if !missing.is_empty() {
        shell::install(&missing)?;
    }
    if which("sshd").is_none() { install_server() } else { Ok(()) }
}

/// Where Debian's maintainer scripts ask whether they may start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Debian's package would start a server that lets people in from outside, now and whenever the machine starts.
fn install_server() -> Result {
    let own_policy = !Path::new(POLICY).exists();
    if own_policy {
        write_as_root(POLICY, "#!/bin/sh\n# Written by `cargo xtask` while it installs openssh-server.\nexit 101\n")?;
        quietly(&mut as_root(&["chmod", "755", POLICY])?)?;
    }
    let installed = shell::install(&["openssh-server"]);
    if own_policy {
        quietly(&mut as_root(&["rm", "-f", POLICY])?)?;
    }
    installed?;
    quietly(&mut as_root(&["update-rc.d", "ssh", "disable"])?)?;
    say("openssh-server is installed for its program alone: the service `ssh` is not started, and disabled");
    Ok(())
}

fn write_as_root(path: &str, text: &str) -> Result {
    let mut command = as_root(&["tee", path])?;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().context(|| format!("cannot write `{path}`"))?;
    let mut stdin = child.stdin.take().ok_or("no way to write to `tee`")?;
    stdin.write_all(text.as_bytes()).context(|| format!("cannot write `{path}`"))?;
    drop(stdin);
    let status = child.wait().context(|| format!("cannot write `{path}`"))?;
    let written = status.success() && fs::read_to_string(path).is_ok_and(|there| there == text);
    if written { Ok(()) } else { Err(format!("cannot write `{path}` ({status})")) }
}
