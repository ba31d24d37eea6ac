//! A Broker directory that cannot be written.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use broker_tests::wait::until;

use crate::support::{Env, as_root, is_root, numbers, texts};

/// A small file system of its own, for as long as this lives.
struct Mount(PathBuf);

impl Mount {
    /// Mounts 1 MB at a directory.
    fn new(at: PathBuf) -> Self {
        let mine = format!("size=1m,mode=700,uid={}", user());
        run(as_root("mount").args(["-t", "tmpfs", "-o", &mine, "tmpfs"]).arg(&at));
        Self(at)
    }

    fn make_read_only(&self) {
        run(as_root("mount").args(["-o", "remount,ro"]).arg(&self.0));
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for size in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        // What is half used holds room for appended lines.
        let journal = self.0.join("inventory.jsonl");
        if let Ok(found) = fs::metadata(&journal) {
            assert!(found.len() < 1024 * 1024);
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a program that was left behind would keep it otherwise.
        drop(as_root("umount").arg("-l").arg(&self.0).status());
    }
}

fn user() -> u32 {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap())
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An environment whose Broker directory is a file system of 1 MB. The mount is to be dropped first.
fn small() -> (Mount, Env) {
    let env = Env::new();
    (Mount::new(env.broker_path("")), env)
}

/// Lengthens the journal to the end of its page, so that the next line needs new room.
fn pad(directory: &Path) {
    let path = directory.join("inventory.jsonl");
    let length = fs::metadata(&path).unwrap().len();
    let rest = 4096 - length % 4096;
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    // Empty lines are passed over.
    file.write_all(&vec![b'\n'; usize::try_from(rest).unwrap()]).unwrap();
}

#[test]
fn a_read_only_broker_directory_makes_nothing_and_can_be_looked_at() {
    let env = Env::new();
    let directory = env.broker_path("");
    let mount = is_root().then(|| Mount::new(directory.clone()));
    env.check_out("");
    match &mount {
        Some(mount) => mount.make_read_only(),
        None => fs::set_permissions(&directory, fs::Permissions::from_mode(0o500)).unwrap(),
    }
    let before = env.made();
    let outcome = env.broker("checkout --test-action t").exits(1).prints_nothing();
    outcome.says("broker").hints("BROKER_DIRECTORY");
    assert_eq!(env.made(), before);
    assert_eq!(numbers(&env.inventory()), [0]);
    env.broker("checkin 0");
    env.assert_nothing_lost();
    if mount.is_none() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_broker_directory_that_cannot_be_made_makes_nothing() {
    let env = Env::new();
    fs::write(env.root().join("file"), "in the way").unwrap();
    let call = env.call("checkout --test-action t").env("BROKER_DIRECTORY", env.root().join("file/broker"));
    call.run().exits(1).says("file/broker").hints("BROKER_DIRECTORY");
    assert_eq!(env.made(), [] as [&str; 0]);
}

#[test]
fn a_disk_that_is_full_before_a_checkout_makes_nothing() {
    let (mount, env) = small();
    mount.fill();
    let outcome = env.broker("checkout --test-action t --count 3").exits(1).prints_nothing();
    outcome.says("room").hints("BROKER_DIRECTORY");
    assert_eq!(env.made(), [] as [&str; 0]);
    mount.free();
    assert_eq!(env.inventory().len(), 0);
    assert_eq!(env.check_out("").len(), 1);
    drop(mount);
}

#[test]
fn a_disk_that_fills_up_with_hosts_there_makes_no_more_of_them() {
    let (mount, env) = small();
    env.check_out("--count 3");
    pad(&env.broker_path(""));
    mount.fill();
    env.broker("checkout --test-action t").exits(1).says("room");
    assert_eq!(env.made().len(), 3);
    assert_eq!(numbers(&env.inventory()), [0, 1, 2], "looking needs no room");
    mount.free();
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
    drop(mount);
}

#[test]
fn a_disk_that_fills_up_during_a_checkout_loses_nothing() {
    let (mount, env) = small();
    env.check_out("");
    let running = env.call("checkout --test-action t --count 3 --delay 3s").start();
    until("three are being made", || {
        texts(&env.inventory(), "state").iter().filter(|state| *state == "pending").count() == 3
    });
    // Nothing that is written from here on has room: the journal's last page is full.
    until("the provider has them", || env.made().len() == 4);
    pad(&env.broker_path(""));
    mount.fill();
    let outcome = running.finish();
    env.assert_nothing_lost();
    assert!(outcome.code() != Some(0) || env.inventory().iter().all(|host| host["state"] == "active"), "{outcome}");
    mount.free();
    env.assert_nothing_lost();
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
    drop(mount);
}

#[test]
fn a_full_disk_does_not_keep_hosts_from_being_released() {
    let (mount, env) = small();
    env.check_out("--count 3");
    pad(&env.broker_path(""));
    mount.fill();
    env.broker("checkin --all --yes");
    assert_eq!(env.made(), [] as [&str; 0]);
    mount.free();
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
    drop(mount);
}
