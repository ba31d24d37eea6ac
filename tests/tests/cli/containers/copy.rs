//! `broker cp`, with containers at the other end.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Lab, on_each_engine};
use crate::support::Env;

on_each_engine!(
    trees_go_both_ways_with_bytes_modes_and_links,
    files_go_where_they_are_told,
    what_cannot_be_copied_is_named,
    hosts_copy_to_each_other,
    a_large_file_goes_both_ways_in_constant_memory;
    docker: a_path_with_a_colon_can_be_here,
);

/// A tree with what trees have in them.
fn plant(at: &Path) {
    fs::create_dir_all(at.join("sub/deeper")).unwrap();
    fs::create_dir(at.join("empty")).unwrap();
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for (name, mode, bytes) in [
        ("plain", 0o644, b"text\n".as_slice()),
        ("program", 0o755, b"#!/bin/sh\necho ran\n"),
        ("private", 0o600, b"mine"),
        ("read-only", 0o444, b"fixed"),
        ("nothing", 0o640, b""),
        ("sub/binary", 0o644, &every_byte),
        ("sub/deeper/naïve näme with spaces", 0o644, b"x"),
        ("sub/deeper/new\nline", 0o644, b"y"),
        (&format!("sub/{}", "l".repeat(200)), 0o644, b"long"),
    ] {
        fs::write(at.join(name), bytes).unwrap();
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(at.join("empty"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("plain", at.join("link")).unwrap();
    symlink("../plain", at.join("sub/up")).unwrap();
    symlink("/nowhere/at all", at.join("dangling")).unwrap();
    symlink("sub", at.join("to-directory")).unwrap();
}

/// Everything in a tree: path, mode, and contents or target.
fn listing(at: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    fn walk(at: &Path, base: &Path, found: &mut Vec<(PathBuf, u32, Vec<u8>)>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let contents = if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if metadata.is_file() {
                fs::read(&path).unwrap()
            } else {
                walk(&path, base, found);
                Vec::new()
            };
            found.push((path.strip_prefix(base).unwrap().to_owned(), metadata.mode(), contents));
        }
    }
    let mut found = Vec::new();
    walk(at, at, &mut found);
    found.sort();
    found
}

fn trees_go_both_ways_with_bytes_modes_and_links(lab: Lab) {
    lab.check_out("tiny", "");
    let tree = lab.env.work_path("tree");
    plant(&tree);
    lab.env.broker("cp tree 0:/tmp/there").ok().prints_nothing();
    assert_eq!(lab.env.broker("exec 0 -- /tmp/there/program").ok().out(), "ran\n");
    lab.env.broker("cp 0:/tmp/there back").ok();
    let (sent, returned) = (listing(&tree), listing(&lab.env.work_path("back")));
    assert_eq!(sent.len(), returned.len());
    for (sent, returned) in sent.iter().zip(&returned) {
        assert!(sent == returned, "{:?} {:o} came back as {:?} {:o}", sent.0, sent.1, returned.0, returned.1);
    }
    // Times are kept, to the second.
    let time = |path: &str| fs::metadata(lab.env.work_path(path)).unwrap().mtime();
    assert_eq!(time("tree/plain"), time("back/plain"));
}

fn files_go_where_they_are_told(lab: Lab) {
    lab.check_out("tiny", "");
    for name in ["a", "b"] {
        lab.env.write(name, name);
    }
    fs::create_dir(lab.env.work_path("dir")).unwrap();
    lab.env.write("dir/x", "x");
    let there = |line: &str| lab.env.broker(&format!("exec 0 -- '{line}'")).ok().out().to_owned();
    there("mkdir -p \"/tmp/with space\"");
    for line in [
        "cp a 0:/tmp/renamed",
        "cp a 0:/tmp/",
        "cp b 0:/tmp",
        "cp a b '0:/tmp/with space'",
        // What is missing on the way is made.
        "cp a b 0:/tmp/new/deep/",
        // Over what is there.
        "cp b 0:/tmp/new/deep/a",
        // A directory into one that is there lands below it.
        "cp dir 0:/tmp",
    ] {
        lab.env.broker(line).ok();
    }
    let read = there("cd /tmp; cat renamed a b \"with space/a\" \"with space/b\" new/deep/a new/deep/b dir/x");
    assert_eq!(read, "aababbbx");

    fs::create_dir(lab.env.work_path("into")).unwrap();
    lab.env.broker("cp 0:/tmp/a 0:/tmp/b into").ok();
    lab.env.broker("cp 0:/tmp/b renamed").ok();
    let here = |name: &str| fs::read_to_string(lab.env.work_path(name)).unwrap();
    assert_eq!((here("into/a"), here("into/b"), here("renamed")), ("a".into(), "b".into(), "b".into()));
    lab.env.broker("cp 0:/tmp/dir into").ok();
    assert_eq!(here("into/dir/x"), "x");
}

fn a_path_with_a_colon_can_be_here(lab: Lab) {
    lab.check_out("tiny", "");
    lab.env.write("0:x", "here");
    lab.env.broker("cp ./0:x 0:/tmp/y").ok();
    assert_eq!(lab.env.broker("exec 0 -- cat /tmp/y").ok().out(), "here");
    lab.env.broker("exec 0 -- 'echo there > /tmp/z'").ok();
    lab.env.broker("cp 0:/tmp/z ./0:z").ok();
    assert_eq!(fs::read_to_string(lab.env.work_path("0:z")).unwrap(), "there\n");
}

fn what_cannot_be_copied_is_named(lab: Lab) {
    lab.check_out("tiny", "");
    lab.env.write("a", "a");
    lab.env.broker("cp none 0:/tmp/x").exits(10).says("none");
    lab.env.broker("cp 0:/tmp/none x").exits(10).says("/tmp/none");
    assert!(!lab.env.work_path("x").exists());
    lab.env.broker("cp a 0:/proc/none/x").exits(10).says("/proc/none");
    lab.env.write("file", "in the way");
    lab.env.broker("cp 0:/etc file/deep/x").exits(10).says("file/deep");
    lab.env.broker("cp a a 0:/etc/hostname").exits(10).says("/etc/hostname");
    lab.env.broker("cp a nobody:/tmp/x").exits(13).says("`nobody`");
    lab.env.broker("cp a b").exits(2).hints("HOST:PATH");
    lab.env.broker("cp a 0:").exits(2);
}

fn hosts_copy_to_each_other(lab: Lab) {
    lab.check_out("tiny", "--count 2");
    plant(&lab.env.work_path("tree"));
    lab.env.broker("cp tree 0:/tmp/tree").ok();
    lab.env.broker("cp 0:/tmp/tree 1:/tmp/copied").ok();
    lab.env.broker("cp 1:/tmp/copied back").ok();
    assert!(listing(&lab.env.work_path("tree")) == listing(&lab.env.work_path("back")));
}

/// In MiB: 1 GiB where all is to be tested.
fn large() -> usize {
    if std::env::var_os("BROKER_TESTS_FULL").is_some() { 1024 } else { 256 }
}

/// Bytes that nothing can make shorter.
fn write_noise(env: &Env, name: &str, mebibytes: usize) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(env.work_path(name)).unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..mebibytes {
        let mut block = Vec::with_capacity(1 << 20);
        while block.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).unwrap();
    }
    file.flush().unwrap();
}

fn a_large_file_goes_both_ways_in_constant_memory(lab: Lab) {
    /// In MiB, for a program that was built without optimization.
    const MOST_MEMORY: u64 = 96;
    lab.check_out("tiny", "");
    write_noise(&lab.env, "large", large());
    for line in ["cp large 0:/large", "cp 0:/large back"] {
        let outcome = lab.env.call(line).deadline(Duration::from_secs(600)).run().ok();
        let peak = outcome.peak_memory >> 20;
        assert!(0 < peak && peak < MOST_MEMORY, "{peak} MiB: {outcome}");
    }
    let same = Command::new("cmp").args(["large", "back"]).current_dir(lab.env.work_path("")).status().unwrap();
    assert!(same.success(), "it came back changed");
}
