//! What must be true of directories on their way.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::Case;
use super::{SessionSubject, noise, output};

/// What a tree on this machine has, by path: kind and mode, time of change of files and directories, contents or target.
fn looked_at(root: &Path) -> BTreeMap<PathBuf, (char, u32, i64, Vec<u8>)> {
    let mut seen = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        let path = root.join(&below);
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mode = metadata.mode() & 0o7777;
        let entry = if metadata.is_symlink() {
            ('l', 0, 0, fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
        } else if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| below.join(entry.unwrap().file_name())));
            ('d', mode, metadata.mtime(), Vec::new())
        } else {
            ('f', mode, metadata.mtime(), fs::read(&path).unwrap())
        };
        seen.insert(below, entry);
    }
    seen
}

/// Gives a file or a directory its mode, and a time that is no other's.
fn marked(path: &Path, mode: u32, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000 + seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A tree with all that a tree can have.
fn tree(root: &Path) {
    for directory in ["", "empty", "sub", "sub/deeper", "sub/deeper/still", "-dash", "with space"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    let files = [
        ("file", 0o644, 10),
        ("empty file", 0o600, 0),
        ("sub/script", 0o755, 3),
        ("sub/deeper/setuid", 0o4755, 100),
        ("sub/deeper/still/large", 0o640, 700_000),
        ("-dash/--force", 0o444, 5),
        ("with space/quote's \"x\"\n$y", 0o604, 7),
        (".hidden", 0o600, 1),
    ];
    for (at, (name, mode, size)) in files.into_iter().enumerate() {
        fs::write(root.join(name), noise(at as u64, size)).unwrap();
        marked(&root.join(name), mode, at as u64);
    }
    symlink("file", root.join("relative")).unwrap();
    symlink("../file", root.join("sub/up")).unwrap();
    symlink("/etc/hostname", root.join("absolute")).unwrap();
    symlink("nowhere at all", root.join("dangling")).unwrap();
    symlink("sub", root.join("to a directory")).unwrap();
    for (at, (name, mode)) in
        [("sub/deeper/still", 0o755), ("sub/deeper", 0o700), ("empty", 0o1777), ("sub", 0o2755), ("", 0o750)]
            .into_iter()
            .enumerate()
    {
        marked(&root.join(name), mode, 100 + at as u64);
    }
    for name in ["-dash", "with space"] {
        marked(&root.join(name), 0o755, 200);
    }
}

/// A tree with modes, times, links and odd names arrives as it is, and comes back the same.
pub fn a_tree_goes_and_comes_back<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let here = case.scratch("here");
        tree(&here);
        host.put(&here, format!("{directory}/tree")).await.unwrap();
        // Looked at there, without any transfer.
        let line =
            format!("cd '{directory}/tree' && stat -c '%a %Y %F' . sub empty file sub/deeper/setuid './-dash/--force'");
        let seen = output(host, line).await;
        let expected = [
            "750 1500000104 directory",
            "2755 1500000103 directory",
            "1777 1500000102 directory",
            "644 1500000000 regular file",
            "4755 1500000003 regular file",
            "444 1500000005 regular file",
        ];
        assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
        let line = format!(
            "cd '{directory}/tree' && readlink absolute dangling sub/up 'to a directory' || \
                            for l in absolute dangling sub/up 'to a directory'; do readlink \"$l\"; done"
        );
        let links = output(host, line).await;
        assert!(links.ends_with("/etc/hostname\nnowhere at all\n../file\nsub\n"), "{links}");

        let back = case.scratch("back");
        host.get(format!("{directory}/tree"), &back).await.unwrap();
        assert_eq!(looked_at(&back), looked_at(&here));
        // A second time on top of the first changes nothing but the times of directories that are written to.
        host.put(&here, format!("{directory}/tree")).await.unwrap();
        let again = case.scratch("again");
        host.get(format!("{directory}/tree"), &again).await.unwrap();
        let timeless = |root: &Path| {
            let mut seen = looked_at(root);
            seen.values_mut().filter(|entry| entry.0 == 'd').for_each(|entry| entry.2 = 0);
            seen
        };
        assert_eq!(timeless(&again), timeless(&here));
    });
}

/// Names are bytes.
pub fn names_that_are_no_text_survive<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let here = case.scratch("here");
        fs::create_dir(&here).unwrap();
        let names: [&[u8]; 5] = [b"latin-\xe9", b"\xff\xfe", b"\xc3\x28", b"\x80", b"half-\xf0\x9f"];
        // And names that are text, and may be taken for something else than a name.
        let odd = [
            " leading", "trailing ", "-dash", "--", "quote's", "double\"quote", "back\\slash", "new\nline", "tab\there", "$HOME",
            "`id`", "a;b", "a&b", "*", "?", "[x]", "~", "#", "!", "%s", "{a,b}", "é漢🦀", ".hidden", "...", "=", "a:b",
        ];
        let names: Vec<&[u8]> = names.into_iter().chain(odd.iter().map(|name| name.as_bytes())).collect();
        for name in &names {
            fs::write(here.join(OsStr::from_bytes(name)), name).unwrap();
        }
        symlink(OsStr::from_bytes(b"to-\xe9"), here.join(OsStr::from_bytes(b"link-\xe9"))).unwrap();
        host.put(&here, format!("{directory}/tree")).await.unwrap();
        let line = format!(
            "cd '{directory}/tree' && for f in * .h* ...; do printf '%s' \"$f\" | od -An -v -tx1 | tr -d ' \\n'; echo; done"
        );
        let mut seen: Vec<String> = output(host, line).await.lines().map(str::to_owned).collect();
        let hex = |name: &[u8]| name.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut expected: Vec<String> = names.iter().map(|name| hex(name)).chain([hex(b"link-\xe9")]).collect();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
        let back = case.scratch("back");
        host.get(format!("{directory}/tree"), &back).await.unwrap();
        assert_eq!(looked_at(&back), looked_at(&here));
    });
}

/// A thousand files in a hundred directories.
pub fn a_thousand_files<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let here = case.scratch("here");
        for outer in 0..10 {
            for inner in 0..10 {
                let directory = here.join(format!("{outer}/{inner}"));
                fs::create_dir_all(&directory).unwrap();
                for file in 0..10 {
                    fs::write(directory.join(format!("file {file}")), format!("{outer}{inner}{file}")).unwrap();
                }
            }
        }
        host.put(&here, format!("{directory}/tree")).await.unwrap();
        let line = format!("cd '{directory}/tree' && find . -type f | wc -l && cat '9/9/file 9' '0/5/file 1'");
        let seen = output(host, line).await;
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["1000", "999051"]);
        let back = case.scratch("back");
        host.get(format!("{directory}/tree"), &back).await.unwrap();
        assert_eq!(looked_at(&back), looked_at(&here));
    });
}

/// What was in a directory before and is not in the tree stays; what is in both is the tree's. The directory that the
/// tree goes into stays what it is: it may be `/tmp`.
pub fn a_tree_is_merged_into_what_is_there<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let line = format!(
            "cd '{directory}' && mkdir -p tree/sub/own tree/kept && chmod 711 tree && echo old > tree/both && echo own > \
             tree/own && echo own > tree/sub/own/file"
        );
        output(host, line).await;
        let here = case.scratch("here");
        fs::create_dir_all(here.join("sub/new")).unwrap();
        fs::write(here.join("both"), "new").unwrap();
        fs::write(here.join("sub/file"), "new").unwrap();
        host.put(&here, format!("{directory}/tree")).await.unwrap();
        let seen = output(host, format!("cd '{directory}/tree' && cat both own sub/file sub/own/file && ls . sub && stat -c %a .")).await;
        let words: Vec<_> = seen.split_whitespace().collect();
        assert_eq!(words, ["newown", "newown", ".:", "both", "kept", "own", "sub", "sub:", "file", "new", "own", "711"]);
        // And the same on this side.
        let back = case.scratch("back");
        fs::create_dir_all(back.join("sub")).unwrap();
        fs::write(back.join("mine"), "mine").unwrap();
        fs::write(back.join("both"), "old").unwrap();
        host.get(format!("{directory}/tree"), back.parent().unwrap().join("back/")).await.unwrap();
        assert_eq!(fs::read(back.join("tree/both")).unwrap(), b"new");
        assert_eq!(fs::read(back.join("both")).unwrap(), b"old");
        fs::rename(back.join("tree"), case.scratch("tree")).unwrap();
        fs::write(case.scratch("tree/mine"), "mine").unwrap();
        host.get(format!("{directory}/tree"), case.scratch("")).await.unwrap();
        assert_eq!(fs::read(case.scratch("tree/mine")).unwrap(), b"mine");
        assert_eq!(fs::read(case.scratch("tree/sub/own/file")).unwrap(), b"own\n");
    });
}

/// A link that is copied by itself is a link, and so is one inside of a tree that leads out of it.
pub fn links_stay_links<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        for (name, target) in [("a", "file"), ("b", "/etc/hostname"), ("c", "nowhere"), ("d", "/"), ("e", "x y'\n$z")] {
            let here = case.scratch(name);
            symlink(target, &here).unwrap();
            let there = format!("{directory}/{name}");
            host.put(&here, there.clone()).await.unwrap();
            let shown = host
                .execute(broker_core::session::Command::words(["readlink", &there]))
                .await
                .unwrap()
                .check()
                .unwrap();
            assert_eq!(shown.stdout(), format!("{target}\n"), "{name}");
            let back = case.scratch(&format!("back-{name}"));
            host.get(there, &back).await.unwrap();
            assert_eq!(fs::read_link(&back).unwrap(), Path::new(target), "{name}");
        }
    });
}

/// A tree goes from one host to another, through this machine's memory.
pub fn a_tree_goes_from_host_to_host<S: SessionSubject>(case: &Case<S>) {
    let other = case.subject.host();
    let there = case.subject.directory(&other);
    case.on_host(async |host, directory| {
        let here = case.scratch("here");
        tree(&here);
        host.put(&here, format!("{directory}/tree")).await.unwrap();
        host.copy_to(format!("{directory}/tree"), &other, format!("{there}/copied")).await.unwrap();
        let back = case.scratch("back");
        other.get(format!("{there}/copied"), &back).await.unwrap();
        assert_eq!(looked_at(&back), looked_at(&here));
        // One file, into a directory.
        host.copy_to(format!("{directory}/tree/sub/script"), &other, format!("{there}/new/")).await.unwrap();
        assert_eq!(&other.read(format!("{there}/new/script")).await.unwrap()[..], &noise(2, 3)[..]);
        // What is not there is an error, and leaves nothing.
        host.copy_to(format!("{directory}/missing"), &other, format!("{there}/missing")).await.unwrap_err();
        assert!(!other.execute(format!("test -e '{there}/missing'")).await.unwrap().success());
        // To itself.
        host.copy_to(format!("{directory}/tree/file"), host, format!("{directory}/twin")).await.unwrap();
        assert_eq!(
            host.read(format!("{directory}/twin")).await.unwrap(),
            host.read(format!("{directory}/tree/file")).await.unwrap()
        );
    });
}
