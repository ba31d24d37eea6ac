//! Files to containers and back.

use std::time::Duration;

use broker_core::session::{EntryKind, RemotePath, SessionErrorKind, TreeEntry, TreeItem};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{DEBIAN, Lab, TINY, directory, file, get, put, symlink};

on_both_engines!(
    one_file_there_and_back,
    a_tree_keeps_everything,
    missing_parents_are_made,
    what_exists_is_replaced_and_directories_are_merged,
    links_at_the_top,
    hard_links_become_copies,
    odd_names,
    what_does_not_work,
    files_belong_to_the_user,
    stopped_containers_can_be_read,
    places_that_exist_only_while_it_runs,
    a_large_file_in_little_memory,
    a_tree_that_breaks_off,
    a_reader_that_goes_away,
    relative_paths,
);

async fn one_file_there_and_back(lab: Lab) {
    for image in [TINY, DEBIAN] {
        let host = lab.host(image, json!({})).await;
        let session = lab.session(&host).await;
        for size in [0, 1, 511, 512, 513, 1_000_000] {
            let contents: Vec<u8> = (0..size).map(|place: u32| (place % 251) as u8).collect();
            put(&*session, "/tmp/a file", file(b"", 0o751, &contents)).await.unwrap();
            let tree = get(&*session, "/tmp/a file").await.unwrap();
            assert_eq!(tree.len(), 1);
            assert_eq!(tree[b"".as_slice()], ("file 751".to_owned(), contents), "{size} bytes");
        }
        assert_eq!(lab.line(&host, "stat -c %Y '/tmp/a file'").await, "1000000000\n");
        lab.provider.release(&host).await.unwrap();
    }
}

async fn a_tree_keeps_everything(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    let items = [
        directory(b"", 0o750),
        file(b"one", 0o600, b"1"),
        directory(b"sub", 0o700),
        file(b"sub/tool", 0o4755, b"#!/bin/sh\necho ran\n"),
        symlink(b"sub/link", "../one"),
        symlink(b"dangling", "/no/where"),
        directory(b"empty", 0o1777),
    ];
    put(&*session, "/srv/tree", items.concat()).await.unwrap();
    let tree = get(&*session, "/srv/tree").await.unwrap();
    let shown: Vec<(String, String)> =
        tree.iter().map(|(path, (what, _))| (String::from_utf8_lossy(path).into_owned(), what.clone())).collect();
    let wanted = [
        ("", "dir 750"),
        ("dangling", "link /no/where"),
        ("empty", "dir 1777"),
        ("one", "file 600"),
        ("sub", "dir 700"),
        ("sub/link", "link ../one"),
        ("sub/tool", "file 4755"),
    ];
    assert_eq!(shown, wanted.map(|(path, what)| (path.to_owned(), what.to_owned())));
    assert_eq!(tree[b"one".as_slice()].1, b"1");
    assert_eq!(lab.line(&host, "/srv/tree/sub/tool; cat /srv/tree/sub/link").await, "ran\n1");
    lab.provider.release(&host).await.unwrap();
}

async fn missing_parents_are_made(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    put(&*session, "/opt/a/b/c/file", file(b"", 0o644, b"x")).await.unwrap();
    assert_eq!(lab.line(&host, "stat -c %a /opt/a /opt/a/b /opt/a/b/c; cat /opt/a/b/c/file").await, "755\n755\n755\nx");
    put(&*session, "/opt/d/e", [directory(b"", 0o711), file(b"f", 0o644, b"y")].concat()).await.unwrap();
    assert_eq!(lab.line(&host, "stat -c %a /opt/d /opt/d/e; cat /opt/d/e/f").await, "755\n711\ny");
    // Through a link to a directory.
    lab.line(&host, "mkdir /opt/real; ln -s real /opt/link").await;
    put(&*session, "/opt/link/new/file", file(b"", 0o644, b"z")).await.unwrap();
    assert_eq!(lab.line(&host, "cat /opt/real/new/file").await, "z");
    lab.provider.release(&host).await.unwrap();
}

async fn what_exists_is_replaced_and_directories_are_merged(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    lab.line(&host, "mkdir -p /w/d/sub; echo old >/w/d/f; echo kept >/w/d/kept; chmod 1777 /w/d; ln -s d /w/link")
        .await;
    put(&*session, "/w/d/f", file(b"", 0o644, b"new")).await.unwrap();
    let items = [directory(b"", 0o700), file(b"g", 0o644, b"g"), directory(b"sub", 0o755), file(b"sub/h", 0o644, b"h")];
    for to in ["/w/d", "/w/d/", "/w/link"] {
        put(&*session, to, items.concat()).await.unwrap();
    }
    assert_eq!(
        lab.line(&host, "cd /w/d; cat f g sub/h kept; stat -c %a .; readlink ../link").await,
        "newghkept\n1777\nd\n"
    );
    lab.line(&host, "ln -s f /w/d/to-f").await;
    put(&*session, "/w/d/to-f", file(b"", 0o644, b"own")).await.unwrap();
    assert_eq!(lab.line(&host, "cd /w/d; cat f to-f").await, "newown");
    lab.provider.release(&host).await.unwrap();
}

async fn links_at_the_top(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    put(&*session, "/tmp/link", symlink(b"", "../etc/passwd")).await.unwrap();
    assert_eq!(lab.line(&host, "readlink /tmp/link").await, "../etc/passwd\n");
    lab.line(&host, "ln -s nowhere /tmp/dangling; ln -s /etc /tmp/to-dir").await;
    for (path, target) in [("/tmp/link", "../etc/passwd"), ("/tmp/dangling", "nowhere"), ("/tmp/to-dir", "/etc")] {
        let tree = get(&*session, path).await.unwrap();
        assert_eq!(tree[b"".as_slice()].0, format!("link {target}"), "{path}");
        assert_eq!(tree.len(), 1);
    }
    lab.provider.release(&host).await.unwrap();
}

async fn hard_links_become_copies(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    lab.line(&host, "mkdir -p /w/sub; echo same >/w/a; chmod 640 /w/a; ln /w/a /w/sub/b; ln /w/a /w/c; mkfifo /w/pipe")
        .await;
    let tree = get(&*session, "/w").await.unwrap();
    for path in ["a", "sub/b", "c"] {
        assert_eq!(tree[path.as_bytes()], ("file 640".to_owned(), b"same\n".to_vec()), "{path}");
    }
    assert!(!tree.contains_key(b"pipe".as_slice()), "a pipe has no contents");
    lab.provider.release(&host).await.unwrap();
}

async fn odd_names(lab: Lab) {
    let host = lab.host(DEBIAN, json!({})).await;
    let session = lab.session(&host).await;
    let long = [&[b'n'; 120][..], b"/", &[b'm'; 120]].concat();
    let long_directory = vec![b'n'; 120];
    let names: [&[u8]; 6] = [b"with space", b"quo'te\"s", b"new\nline", b"caf\xc3\xa9", b"not-utf8-\xff\xfe", &long];
    let mut items = directory(b"", 0o755);
    items.extend(directory(&long_directory, 0o755));
    for name in names {
        items.extend(file(name, 0o644, name));
    }
    items.extend(symlink(b"far", &format!("/{}", "t".repeat(200))));
    put(&*session, "/tmp/odd", items).await.unwrap();
    let tree = get(&*session, "/tmp/odd").await.unwrap();
    for name in names {
        assert_eq!(tree[name].1, name, "{:?}", String::from_utf8_lossy(name));
    }
    assert_eq!(tree[b"far".as_slice()].0, format!("link /{}", "t".repeat(200)));
    assert_eq!(tree.len(), names.len() + 3);
    // A name of any bytes can be written to, and is said to be out of reach for reading by itself.
    let odd = RemotePath::from_bytes(b"/tmp/odd/\xffx".to_vec());
    put(&*session, odd.clone(), file(b"", 0o644, b"odd")).await.unwrap();
    assert_eq!(lab.line(&host, "cat /tmp/odd/$(printf '\\377x')").await, "odd");
    let error = get(&*session, odd).await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::Unsupported, "{error}");
    lab.provider.release(&host).await.unwrap();
}

async fn what_does_not_work(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let name = host.name.clone().unwrap();
    let session = lab.session(&host).await;
    for path in ["/no/such", "/etc/passwd/x", "/etc/no-such-file"] {
        let error = get(&*session, path).await.unwrap_err();
        assert_eq!(error.kind(), SessionErrorKind::NotFound, "{path}: {error}");
        assert!(error.to_string().starts_with(&format!("could not read `{path}` in container `{name}`: ")), "{error}");
    }
    for (to, items, part) in [
        ("/etc", file(b"", 0o644, b"x"), "it is a directory"),
        ("/", file(b"", 0o644, b"x"), "it is a directory"),
        ("/etc/passwd", directory(b"", 0o755), "it exists, and is no directory"),
        ("/etc/passwd/x/y", file(b"", 0o644, b"x"), "`/etc/passwd` is no directory"),
        ("/tmp/x", vec![], "nothing was given"),
        ("/tmp/x", file(b"below", 0o644, b"x"), "nothing was given"),
    ] {
        let error = put(&*session, to, items).await.unwrap_err();
        assert!(error.to_string().contains(part), "{to}: {error}");
        assert!(error.to_string().contains(to) && error.to_string().contains(&name), "{error}");
    }
    assert!(lab.line(&host, "cat /etc/passwd").await.contains("root"));
    lab.provider.release(&host).await.unwrap();
    let error = get(&*session, "/etc/passwd").await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::NotRunning, "{error}");
    let error = put(&*session, "/tmp/x", file(b"", 0o644, b"x")).await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::NotRunning, "{error}");
}

async fn files_belong_to_the_user(lab: Lab) {
    let host = lab.host(DEBIAN, json!({"user": "daemon"})).await;
    let session = lab.session(&host).await;
    put(&*session, "/tmp/mine/file", file(b"", 0o600, b"readable")).await.unwrap();
    assert_eq!(
        lab.line(&host, "cat /tmp/mine/file; stat -c ' %U:%G' /tmp/mine /tmp/mine/file").await,
        "readable daemon:daemon\n daemon:daemon\n"
    );
    lab.provider.release(&host).await.unwrap();
}

async fn stopped_containers_can_be_read(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    lab.line(&host, "mkdir /w; echo core >/w/dump").await;
    let id = host.details.facts["container"].as_str().unwrap();
    lab.call("POST", &format!("/containers/{id}/kill"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(get(&*session, "/w/dump").await.unwrap()[b"".as_slice()].1, b"core\n");
    put(&*session, "/w/note", file(b"", 0o644, b"late")).await.unwrap();
    assert_eq!(get(&*session, "/w/note").await.unwrap()[b"".as_slice()].1, b"late");
    lab.provider.release(&host).await.unwrap();
}

async fn places_that_exist_only_while_it_runs(lab: Lab) {
    let host = lab.host(TINY, json!({"tmpfs": "/cache"})).await;
    let session = lab.session(&host).await;
    for (path, reached) in [("/cache/x", lab.podman), ("/dev/shm/x", false)] {
        let outcome = put(&*session, path, file(b"", 0o644, b"here")).await;
        if reached {
            outcome.unwrap();
            assert_eq!(lab.line(&host, &format!("cat {path}")).await, "here");
            assert_eq!(get(&*session, path).await.unwrap()[b"".as_slice()].1, b"here");
        } else {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), SessionErrorKind::Unsupported);
            assert!(error.to_string().contains("exists only while the container runs"), "{error}");
            assert!(get(&*session, path).await.is_err());
        }
    }
    put(&*session, "/cache-not/x", file(b"", 0o644, b"beside")).await.unwrap();
    lab.provider.release(&host).await.unwrap();
}

/// How much memory this process has had at the most, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

async fn a_large_file_in_little_memory(lab: Lab) {
    const SIZE: u64 = 600 << 20;
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    let before = peak();
    let (sender, receiver) = mpsc::channel(4);
    let giving = async move {
        let kind = EntryKind::File { size: SIZE };
        let entry = TreeEntry { path: RemotePath::from(""), kind, mode: 0o644, modified: 5 };
        sender.send(TreeItem::Entry(entry)).await.unwrap();
        let piece = Bytes::from(vec![7; 1 << 20]);
        for _ in 0..SIZE >> 20 {
            sender.send(TreeItem::Data(piece.clone())).await.unwrap();
        }
    };
    let to = RemotePath::from("/srv/large");
    let (put, ()) = tokio::join!(session.put(&to, receiver), giving);
    put.unwrap();
    let (sender, mut receiver) = mpsc::channel(4);
    let taking = async move {
        let mut size = 0;
        while let Some(item) = receiver.recv().await {
            if let TreeItem::Data(piece) = item {
                assert!(piece.iter().all(|byte| *byte == 7));
                size += piece.len() as u64;
            }
        }
        size
    };
    let (got, size) = tokio::join!(session.get(&to, sender), taking);
    got.unwrap();
    assert_eq!(size, SIZE);
    // Other tests of this process run beside this one.
    assert!(peak() - before < 150 << 20, "{} MiB more", (peak() - before) >> 20);
    lab.provider.release(&host).await.unwrap();
}

async fn a_tree_that_breaks_off(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    let mut items = file(b"", 0o644, &[1; 250_000]);
    items.pop();
    let error = put(&*session, "/tmp/part", items).await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::Local, "{error}");
    assert!(error.to_string().contains("a file ended 50000 bytes early"), "{error}");
    lab.provider.release(&host).await.unwrap();
}

async fn a_reader_that_goes_away(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    let (sender, mut receiver) = mpsc::channel(1);
    let from = RemotePath::from("/bin");
    let (got, ()) = tokio::join!(session.get(&from, sender), async move {
        assert!(receiver.recv().await.is_some());
    });
    got.unwrap();
    lab.provider.release(&host).await.unwrap();
}

async fn relative_paths(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let session = lab.session(&host).await;
    put(&*session, "some/where", file(b"", 0o644, b"x")).await.unwrap();
    put(&*session, "top", file(b"", 0o644, b"t")).await.unwrap();
    // The same place that commands start in.
    assert_eq!(lab.line(&host, "cat some/where top").await, "xt");
    assert_eq!(get(&*session, "some/where").await.unwrap()[b"".as_slice()].1, b"x");
    lab.provider.release(&host).await.unwrap();
}
