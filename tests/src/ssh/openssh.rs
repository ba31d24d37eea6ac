//! What OpenSSH's programs read.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where Debian has the program for the subsystem `sftp`.
pub const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";

/// Under which name the clients look for a server's keys, whatever its address.
pub(super) const ALIAS: &str = "lab-server";

/// `sshd_config`. Of several lines for one thing the first counts, so the options of a test come before ours.
pub(super) fn server_settings(
    options: &[String],
    listen: SocketAddr,
    host_keys: &[PathBuf],
    authorized_keys: &Path,
    sftp: Option<&str>,
    jailed: bool,
) -> String {
    let mut text = options.join("\n") + "\n";
    for key in host_keys {
        writeln!(text, "HostKey {}", key.display()).unwrap();
    }
    if let Some(command) = sftp {
        writeln!(text, "Subsystem sftp {command}").unwrap();
    }
    // What this user's shell reads when it starts is no part of the test, and may take seconds.
    if let Some(home) = authorized_keys.parent().filter(|_| !jailed) {
        writeln!(text, "SetEnv HOME={}", home.display()).unwrap();
    }
    let pam = if jailed { "yes" } else { "no" };
    write!(
        text,
        "ListenAddress {listen}\nAuthorizedKeysFile {}\nUsePAM {pam}\n\
         PidFile none\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         MaxStartups 1000\nPrintLastLog no\nUseDNS no\nLogLevel VERBOSE\n",
        authorized_keys.display()
    )
    .unwrap();
    text
}

/// `ssh_config`, in which the server is called `lab`.
pub(super) fn client_settings(server: SocketAddr, user: &str, key: &Path, known_hosts: &Path) -> String {
    format!(
        "Host lab\n HostName {}\n Port {}\n User {user}\n IdentityFile {}\n IdentitiesOnly yes\n \
         UserKnownHostsFile {}\n GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n HostKeyAlias {ALIAS}\n BatchMode yes\n \
         LogLevel ERROR\n",
        server.ip(),
        server.port(),
        key.display(),
        known_hosts.display()
    )
}
