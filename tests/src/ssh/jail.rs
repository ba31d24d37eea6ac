//! Users, passwords and homes of a server's own, where this is root: the server sees other files in the place of
//! `/etc/passwd` and its like, and is the first of its own process numbers, so that nothing outlives it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::bound_to_this_process;

/// The password of every user in a jail.
pub const PASSWORD: &str = "pass word's \"$x\"";

/// [`PASSWORD`] as `/etc/shadow` has it, by `openssl passwd -6 -salt lab`.
const HASH: &str = "$6$lab$ijNnscE7kKK3vubxdSC8bPNDe1QeR3nntZbIyNjmZawoPmw3N1fRFB9fpjpctSHX22zdHNGpygJv5nBjmznGQ.";

/// A user beside root.
pub const TESTER: &str = "tester";
const TESTER_ID: u32 = 4321;

/// Runs before the server: puts the jail's files in their places.
const ENTER: &str = r#"
set -e
jail=$1
shift
for file in "$jail"/etc/*; do
    mount --bind "$file" "/etc/${file##*/}"
done
mount --bind "$jail/pam" /etc/pam.d/sshd
exec "$@"
"#;

/// Whether this is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The name of the user that this process runs as.
///
/// # Panics
///
/// If `id` does not tell.
pub fn own_user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A directory with the files that a server is to see.
#[derive(Debug)]
pub struct Jail {
    directory: PathBuf,
}

impl Jail {
    /// Makes the files. `shell` is everybody's login shell.
    ///
    /// # Panics
    ///
    /// If there is no room, or this is not root.
    pub fn make(directory: PathBuf, shell: &str) -> Self {
        assert!(is_root(), "only root can give a server users of its own: run this test as root");
        let jail = Self { directory };
        let homes = ["root", TESTER].map(|user| jail.home(user));
        for place in [&jail.directory, &jail.directory.join("etc"), &homes[0], &homes[1]] {
            fs::create_dir_all(place).unwrap();
            fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
        }
        chown(&homes[1], Some(TESTER_ID), Some(TESTER_ID)).unwrap();
        let [root_home, home] = homes.map(|home| home.display().to_string());
        let own = |name: &str, lines: &[String]| {
            let system = fs::read_to_string(Path::new("/etc").join(name)).unwrap();
            let others = system.lines().filter(|line| !line.starts_with("root:") && !line.starts_with("tester:"));
            let lines: Vec<&str> = lines.iter().map(String::as_str).chain(others).collect();
            fs::write(jail.directory.join("etc").join(name), lines.join("\n") + "\n").unwrap();
        };
        own(
            "passwd",
            &[
                format!("root:x:0:0:root:{root_home}:{shell}"),
                format!("{TESTER}:x:{TESTER_ID}:{TESTER_ID}::{home}:{shell}"),
            ],
        );
        own("group", &["root:x:0:".to_owned(), format!("{TESTER}:x:{TESTER_ID}:")]);
        own("shadow", &["root", TESTER].map(|user| format!("{user}:{HASH}:20000:0:99999:7:::")));
        let shadow = jail.directory.join("etc/shadow");
        fs::set_permissions(shadow, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(
            jail.directory.join("pam"),
            "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_permit.so\n\
             password required pam_unix.so\n",
        )
        .unwrap();
        jail
    }

    /// The home of a user.
    pub fn home(&self, user: &str) -> PathBuf {
        self.directory.join("home").join(user)
    }

    /// A file below a user's home, and the directories above it.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, user: &str, name: &str, text: &str) {
        let path = self.home(user).join(name);
        let owner = if user == "root" { 0 } else { TESTER_ID };
        let parent = path.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        fs::write(&path, text).unwrap();
        for (path, mode) in [(parent, 0o700), (&path, 0o600)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            chown(path, Some(owner), Some(owner)).unwrap();
        }
    }

    /// Has everybody's password expire: it is to be changed at the next login.
    ///
    /// # Panics
    ///
    /// If that cannot be written down.
    pub fn expire_passwords(&self) {
        let path = self.directory.join("etc/shadow");
        let text = fs::read_to_string(&path).unwrap();
        // The day of the last change: none yet, see shadow(5). A running server sees this file, so it stays the same one.
        fs::write(path, text.replace(":20000:0:", ":0:0:")).unwrap();
    }

    /// A program inside of the jail, which ends with this process.
    pub fn command(&self, program: &str) -> Command {
        let mut command = bound_to_this_process("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
        command.args(["sh", "-c", ENTER, "enter"]).arg(&self.directory).arg(program);
        command
    }
}
