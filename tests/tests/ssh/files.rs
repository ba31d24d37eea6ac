//! Files where there is no room for them, or no right to write them.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use broker_core::session::{RemotePath, SessionErrorKind};
use broker_core::{HostGuard, HostRequest, error_chain};
use broker_tests::conformance::session::{kind, noise, output};
use broker_tests::engines::Engine;
use broker_tests::ssh::{ContainerHost, HOST_ACTION, Lab, Setup};
use broker_tests::wait;
use serde_json::json;

use crate::support::block;

/// A container with a small file system and one that is read-only, once with `sftp` and once without.
fn on_each(body: impl AsyncFn(&HostGuard)) {
    for engine in Engine::all() {
        for image in ["debian", "dropbear"] {
            let mounts = json!({"Tmpfs": {"/small": "size=1m", "/fixed": "ro,size=1m"}});
            let container = ContainerHost::start(&engine, image, "", &mounts);
            let lab = Lab::new();
            let request = HostRequest::action(HOST_ACTION, image)
                .arg("address", container.address().ip().to_string())
                .arg("port", container.address().port().to_string())
                .arg("user", "root")
                .arg("password", "toor");
            let host = lab.host(request);
            block(body(&host));
        }
    }
}

#[test]
fn a_full_target_is_an_error_and_keeps_what_it_has() {
    on_each(async |host| {
        let large = noise(7, 3_000_000);
        host.write("/small/file", "old").await.unwrap();
        for turn in 0..3 {
            let error = host.write("/small/file", large.clone()).await.unwrap_err();
            let text = error_chain(&error);
            assert!(text.contains("/small/file"), "{turn}: {text}");
            assert_eq!(host.read("/small/file").await.unwrap(), "old");
            assert_eq!(output(host, "ls -A /small").await, "file\n", "something was left");
        }
        // A tree of which a part fits.
        let directory = tempfile::tempdir().unwrap();
        for at in 0..10 {
            std::fs::write(directory.path().join(format!("file-{at}")), &large[..300_000]).unwrap();
        }
        host.put(directory.path(), "/small/tree").await.unwrap_err();
        output(host, "rm -r /small/tree").await;
        assert_eq!(host.read("/small/file").await.unwrap(), "old");
        host.write("/small/other", "fits").await.unwrap();
    });
}

#[test]
fn a_read_only_target_is_an_error() {
    on_each(async |host| {
        for path in ["/fixed/file", "/fixed/new/file"] {
            let error = host.write(path, "x").await.unwrap_err();
            assert!(error_chain(&error).contains("/fixed"), "{}", error_chain(&error));
            assert!(
                [SessionErrorKind::Permission, SessionErrorKind::Failed].contains(&kind(&error)),
                "{}",
                error_chain(&error)
            );
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "x").unwrap();
        host.put(directory.path(), "/fixed/tree").await.unwrap_err();
        assert_eq!(output(host, "ls -A /fixed").await, "");
        assert_eq!(output(host, "echo works").await, "works\n");
    });
}

#[test]
fn a_server_that_replaces_nothing_loses_nothing() {
    for (requests, can_rename) in [(&["posix-rename"][..], true), (&["posix-rename", "rename"][..], false)] {
        let server = Setup::openssh().sftp_without(requests).start();
        let lab = Lab::new();
        let host = lab.server(&server);
        let place = server.directory().join("place");
        std::fs::create_dir_all(place.join("tree/sub/full")).unwrap();
        let file = place.join("file");
        std::fs::write(&file, "old").unwrap();
        block(async {
            for contents in ["new", "newer"] {
                let outcome = host.write(file.display().to_string(), contents).await;
                let text = std::fs::read_to_string(&file).unwrap();
                if can_rename {
                    outcome.unwrap();
                    assert_eq!(text, contents);
                } else {
                    outcome.unwrap_err();
                    assert_eq!(text, "old");
                }
            }
            // A directory is not in the way: it is an error.
            let here = tempfile::tempdir().unwrap();
            std::fs::write(here.path().join("sub"), "a file").unwrap();
            host.put(here.path(), place.join("tree").display().to_string()).await.unwrap_err();
            assert!(place.join("tree/sub/full").is_dir());
            let hidden = || {
                let names = |path: &std::path::Path| std::fs::read_dir(path).unwrap().count();
                names(&place) == 2 && names(&place.join("tree")) == 1
            };
            wait::until_async("what was beside its place to be gone", async || hidden()).await;
        });
    }
}

#[test]
fn a_name_that_is_no_text_may_be_that_of_the_root() {
    for setup in [Setup::openssh(), Setup::openssh().without_sftp()] {
        let server = setup.start();
        let lab = Lab::new();
        let host = lab.server(&server);
        let here = tempfile::tempdir().unwrap();
        std::fs::write(here.path().join("file"), "in it").unwrap();
        let named =
            |name: &[u8]| RemotePath::from_bytes([server.directory().as_os_str().as_bytes(), b"/", name].concat());
        block(async {
            let file = named(b"caf\xe9 'x' \\ $HOME\n");
            host.write(file.clone(), "contents").await.unwrap();
            assert_eq!(std::fs::read(file.as_path()).unwrap(), b"contents");
            assert_eq!(host.read(file).await.unwrap(), "contents");
            let tree = named(b"tree-\xff");
            host.put(here.path(), tree.clone()).await.unwrap();
            assert_eq!(std::fs::read(tree.as_path().join("file")).unwrap(), b"in it");
            host.get(tree, here.path().join("back")).await.unwrap();
            assert_eq!(std::fs::read(here.path().join("back/file")).unwrap(), b"in it");
            let error = host.read(named(b"missing-\xff")).await.unwrap_err();
            assert_eq!(kind(&error), SessionErrorKind::NotFound, "{}", error_chain(&error));
        });
    }
}

#[test]
fn a_file_system_without_modes_can_be_written() {
    let server = Setup::openssh().sftp_without(&["fsetstat"]).start();
    let lab = Lab::new();
    let host = lab.server(&server);
    let file = server.directory().join("file");
    block(async {
        for contents in ["new".to_owned(), "large".repeat(100_000)] {
            host.write_with_mode(file.display().to_string(), contents.clone(), 0o644).await.unwrap();
            assert!(std::fs::read_to_string(&file).unwrap() == contents);
            // Nobody gets more than was asked for.
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    });
}

#[test]
fn a_login_shell_that_prints_is_told_of() {
    let server = Setup::openssh().jailed().start();
    server.jail().write("root", ".bashrc", "echo 'Welcome to the machine'\n");
    let lab = Lab::new();
    let host = lab.server(&server);
    block(async {
        let written = host.write("/tmp/never", "x").await.unwrap_err();
        let read = host.read("/etc/hostname").await.unwrap_err();
        for error in [written, read] {
            assert!(error_chain(&error).contains("`Welcome to the machine`"), "{}", error_chain(&error));
        }
    });
}
