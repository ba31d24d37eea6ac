//! `cargo xtask demo`: the main job on a real engine, in a Broker directory of its own, leaving nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::engines;
use crate::images;
use crate::shell::{self, Context, Result, Workspace, say};
use crate::ssh;

pub(crate) fn run(workspace: &Workspace) -> Result {
    ssh::library(workspace)?;
    engines::any(workspace)?;
    say("building broker");
    shell::run(workspace.cargo().args(["build", "--release", "--bin", "broker"]))?;

    let broker = workspace.target.join("release/broker");
    let directory = std::env::temp_dir().join(format!("broker-demo-{}", std::process::id()));
    fs::create_dir(&directory).context(|| format!("cannot create `{}`", directory.display()))?;
    let sweeper = Sweeper::start(&broker, &directory)?;
    let shown = show(&broker, &directory);
    let swept = sweeper.sweep();
    shown.and(swept)
}

fn show(broker: &Path, directory: &Path) -> Result {
    let image = images::reference("debian");
    let steps: [&[&str]; 5] = [
        &["checkout", "--container-host", &image, "--count", "3"],
        &["inventory"],
        &["exec", "0", "1", "2", "--", "hostname"],
        &["checkin", "--all", "--yes"],
        &["inventory"],
    ];
    for words in steps {
        println!("\n$ broker {}", words.join(" "));
        shell::run(Command::new(broker).args(words).env("BROKER_DIRECTORY", directory))
            .map_err(|_| format!("the demo stopped at `broker {}`", words.join(" ")))?;
    }
    println!();
    Ok(())
}

/// Releases what the demo holds and removes its directory, however the demo ends: a child in a process session of its
/// own, which begins when the pipe from the demo closes. Ctrl-C and `kill -9` close it too.
struct Sweeper {
    child: Child,
    directory: PathBuf,
}

/// A host may still be in the making when the demo is cut off, so more than one look is taken. Hosts that cannot be
/// released keep their records.
const SWEEP: &str = r#"
cat >/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    if [ "$("$1" inventory --output json 2>/dev/null | tr -d '[:space:]')" = '[]' ]; then
        rm -rf "$BROKER_DIRECTORY"
        exit 0
    fi
    "$1" checkin --all --yes >/dev/null 2>&1
    sleep 1
done
exit 1
"#;

impl Sweeper {
    fn start(broker: &Path, directory: &Path) -> Result<Self> {
        let child = Command::new("setsid")
            .args(["sh", "-c", SWEEP, "sweeper"])
            .arg(broker)
            .env("BROKER_DIRECTORY", directory)
            .stdin(Stdio::piped())
            .spawn()
            .context(|| "cannot run `setsid`".into())?;
        Ok(Self { child, directory: directory.to_owned() })
    }

    fn sweep(mut self) -> Result {
        // Waiting closes the pipe first.
        let status = self.child.wait().context(|| "cannot wait for the clean-up".into())?;
        if status.success() {
            return Ok(());
        }
        let directory = self.directory.display();
        Err(format!("hosts of the demo are left; `BROKER_DIRECTORY={directory} broker inventory` shows them"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A `broker` whose inventory is one host until it is checked in.
    const STAND_IN: &str = r#"#!/bin/sh
case $1 in
    inventory) if [ -e "$BROKER_DIRECTORY/host" ]; then echo '[{"number": 0}]'; else echo '[]'; fi ;;
    checkin) rm "$BROKER_DIRECTORY/host"; echo "$*" >>"$BROKER_DIRECTORY/../released" ;;
esac
"#;

    fn sweep_one_host(name: &str, end: impl FnOnce(Sweeper)) {
        let base = std::env::temp_dir().join(format!("xtask-demo-{name}-{}", std::process::id()));
        let directory = base.join("directory");
        fs::create_dir_all(&directory).unwrap();
        let broker = base.join("broker");
        fs::write(&broker, STAND_IN).unwrap();
        fs::set_permissions(&broker, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.join("host"), "").unwrap();

        end(Sweeper::start(&broker, &directory).unwrap());

        assert!(!directory.exists());
        assert_eq!(fs::read_to_string(base.join("released")).unwrap(), "checkin --all --yes\n");
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_host_that_the_demo_left_is_released() {
        sweep_one_host("ended", |sweeper| sweeper.sweep().unwrap());
    }

    #[test]
    fn the_sweeper_begins_when_the_demo_is_killed() {
        sweep_one_host("killed", |mut sweeper| {
            // What the kernel does with the pipe of a dead process.
            drop(sweeper.child.stdin.take());
            assert!(sweeper.child.wait().unwrap().success());
        });
    }
}
