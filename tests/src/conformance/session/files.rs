//! What must be true of files on their way.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use broker_core::session::{Command, SessionErrorKind};
use broker_core::{Host, error_chain};

use futures_util::future::join_all;

use super::super::Case;
use super::{SessionSubject, kind, noise, output};
use crate::wait;

/// Runs words on the host, without a shell in between, and returns what they print.
async fn run(host: &Host, words: &[&str]) -> String {
    let done = host.execute(Command::words(words.iter().copied())).await.and_then(broker_core::Output::check);
    done.unwrap_or_else(|error| panic!("{}", error_chain(&error))).stdout().into_owned()
}

/// Contents of every size come back byte by byte, by themselves and from file to file.
pub fn contents_come_back_as_they_were<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let counts = [0, 1, 512, 65_537, (1 << 20) + 1, 5_000_001];
        let there_and_back = counts.into_iter().map(async |count| {
            let bytes = noise(count as u64, count);
            let path = format!("{directory}/bytes-{count}");
            host.write(path.clone(), bytes.clone()).await.unwrap();
            assert_eq!(output(host, format!("wc -c < '{path}'")).await.trim(), count.to_string());
            assert!(host.read(path.clone()).await.unwrap() == bytes, "{count} bytes by write and read");

            let here = case.scratch(&format!("here-{count}"));
            fs::write(&here, &bytes).unwrap();
            host.put(&here, format!("{path}-put")).await.unwrap();
            output(host, format!("cmp '{path}' '{path}-put'")).await;
            let back = case.scratch(&format!("back-{count}"));
            host.get(format!("{path}-put"), &back).await.unwrap();
            assert!(fs::read(&back).unwrap() == bytes, "{count} bytes by put and get");
        });
        join_all(there_and_back).await;
        // What a command has written is what is read.
        output(host, format!("printf 'a\\000b\\377' > '{directory}/made-there'")).await;
        assert_eq!(&host.read(format!("{directory}/made-there")).await.unwrap()[..], b"a\0b\xff");
    });
}

/// The mode of a file that is written is the one that was asked for, whatever the umask.
pub fn modes_are_set<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let path = format!("{directory}/file");
        let mode = async || run(host, &["stat", "-c", "%a", &path]).await.trim().to_owned();
        host.write(path.clone(), "x").await.unwrap();
        assert_eq!(mode().await, "644");
        for (bits, shown) in
            [(0o600, "600"), (0o755, "755"), (0o4755, "4755"), (0o777, "777"), (0o400, "400"), (0, "0")]
        {
            host.write_with_mode(path.clone(), "x", bits).await.unwrap();
            assert_eq!(mode().await, shown);
        }
        let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        host.write(path.clone(), "x").await.unwrap();
        let written: u64 = run(host, &["stat", "-c", "%Y", &path]).await.trim().parse().unwrap();
        assert!(written.abs_diff(begun) < 60, "written at {written}, and it is {begun}");
    });
}

/// Files that are copied keep their modes and times, there and back.
pub fn modes_and_times_are_kept<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        for (mode, seconds) in [(0o600, 0), (0o755, 1_000_000_000), (0o4755, 1_700_000_001), (0o444, 4_000_000_000_u64)]
        {
            let here = case.scratch(&format!("here-{mode:o}"));
            fs::write(&here, "contents").unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::open(&here).unwrap().set_modified(time).unwrap();
            fs::set_permissions(&here, fs::Permissions::from_mode(mode)).unwrap();
            let there = format!("{directory}/there-{mode:o}");
            host.put(&here, there.clone()).await.unwrap();
            let shown = run(host, &["stat", "-c", "%a %Y", &there]).await;
            assert_eq!(shown.trim(), format!("{mode:o} {seconds}"));
            let back = case.scratch(&format!("back-{mode:o}"));
            host.get(there, &back).await.unwrap();
            let metadata = fs::metadata(&back).unwrap();
            assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (mode, i64::try_from(seconds).unwrap()));
        }
    });
}

/// Any name that a file can have is only a name. (Those that not every way can ask for by themselves go as part of a tree.)
pub fn names_of_every_kind<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let long = "n".repeat(200);
        let names = [
            "with space",
            "--force",
            "quote's \"and\"",
            "back\\slash",
            "new\nline",
            "$(id) `id` $HOME",
            "what?",
            "[x]",
            "é漢🦀",
            &long,
        ];
        let there_and_back = names.iter().map(async |name| {
            let path = format!("{directory}/{name}");
            let named = |error| -> () { panic!("{name:?}: {}", error_chain(&error)) };
            host.write(path.clone(), (*name).to_owned()).await.unwrap_or_else(named);
            assert_eq!(run(host, &["cat", &path]).await, *name, "{name:?}");
            let here = case.scratch("here").join(name);
            fs::create_dir_all(here.parent().unwrap()).unwrap();
            host.get(path.clone(), &here).await.unwrap_or_else(named);
            assert_eq!(fs::read(&here).unwrap(), name.as_bytes(), "{name:?}");
            assert_eq!(host.read(path.clone()).await.unwrap(), *name, "{name:?}");
        });
        join_all(there_and_back).await;
        // By their bytes: no name was taken for something else.
        let line = format!("cd '{directory}' && find . -type f | tr '\\n' _ | wc -c");
        let expected: usize = names.iter().map(|name| "./\n".len() + name.len()).sum();
        assert_eq!(output(host, line).await.trim(), expected.to_string());
    });
}

/// Directories that are missing are made, on both sides.
pub fn missing_parents_are_made<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let deep = format!("{directory}/a/b c/d/file");
        host.write(deep.clone(), "deep").await.unwrap();
        assert_eq!(run(host, &["cat", &deep]).await, "deep");
        let here = case.scratch("here");
        fs::write(&here, "put").unwrap();
        host.put(&here, format!("{directory}/e/f/file")).await.unwrap();
        assert_eq!(run(host, &["cat", &format!("{directory}/e/f/file")]).await, "put");
        let back = case.scratch("x/y/back");
        host.get(deep, &back).await.unwrap();
        assert_eq!(fs::read(&back).unwrap(), b"deep");
    });
}

/// A target that ends in a slash is what the source goes into; so is a directory of this machine.
pub fn a_trailing_slash_is_a_directory<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let here = case.scratch("name");
        fs::write(&here, "x").unwrap();
        host.put(&here, format!("{directory}/new/")).await.unwrap();
        assert_eq!(run(host, &["cat", &format!("{directory}/new/name")]).await, "x");
        let to = case.scratch("directory");
        fs::create_dir(&to).unwrap();
        host.get(format!("{directory}/new/name"), &to).await.unwrap();
        assert_eq!(fs::read(to.join("name")).unwrap(), b"x");
        host.get(format!("{directory}/new/name"), case.scratch("made/")).await.unwrap();
        assert_eq!(fs::read(case.scratch("made/name")).unwrap(), b"x");
    });
}

/// Whoever reads a file while it is replaced sees the old one or the new one.
pub fn a_file_is_replaced_whole_or_not_at_all<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        const COUNT: usize = 3_000_000;
        let path = format!("{directory}/file");
        let contents = [vec![b'a'; COUNT], vec![b'b'; COUNT]];
        host.write(path.clone(), contents[0].clone()).await.unwrap();
        let sums: Vec<String> = {
            let line =
                |letter: char| format!("dd if=/dev/zero bs=1000 count=3000 2>/dev/null | tr '\\0' {letter} | md5sum");
            vec![output(host, line('a')).await, output(host, line('b')).await]
        };
        let watch = "until test -e stop; do md5sum < file || echo missing; done";
        let watching = async {
            let done = host.execute(Command::shell(watch).directory(directory)).await.unwrap().check().unwrap();
            done.stdout().into_owned()
        };
        let replacing = async {
            for turn in 1..9 {
                host.write(path.clone(), contents[turn % 2].clone()).await.unwrap();
            }
            host.write(format!("{directory}/stop"), "").await.unwrap();
        };
        let (seen, ()) = tokio::join!(watching, replacing);
        let seen: Vec<&str> = seen.lines().collect();
        assert!(!seen.is_empty());
        for line in &seen {
            assert!(sums.iter().any(|sum| sum.trim_end() == *line), "a mixture was seen: {line}, {sums:?}");
        }
        assert_eq!(output(host, format!("ls -A '{directory}'")).await, "file\nstop\n", "something else was left");
    });
}

/// A transfer that nobody waits for any more leaves what was there, or the whole new file, and nothing beside it.
pub fn a_transfer_that_was_dropped_leaves_the_old_file<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        const COUNT: usize = 24_000_000;
        let path = format!("{directory}/file");
        host.write(path.clone(), "old").await.unwrap();
        let here = case.scratch("here");
        fs::write(&here, vec![b'n'; COUNT]).unwrap();
        for delay in [0, 2, 10, 30, 60, 120] {
            drop(tokio::time::timeout(Duration::from_millis(delay), host.put(&here, path.clone())).await);
            let settled = async || {
                let listed = output(host, format!("ls -A '{directory}'; wc -c < '{path}'")).await;
                let (names, size) = listed.split_once('\n').unwrap();
                assert!(!names.is_empty());
                names == "file" && (size.trim() == "3" || size.trim() == COUNT.to_string())
            };
            wait::until_async("the transfer to come to nothing or to its end", settled).await;
        }
        // The same on this side.
        let back = case.scratch("back/file");
        host.put(&here, path.clone()).await.unwrap();
        for delay in [0, 2, 10, 30, 60] {
            drop(tokio::time::timeout(Duration::from_millis(delay), host.get(path.clone(), &back)).await);
            wait::until("the transfer to come to nothing or to its end", || {
                let names = fs::read_dir(case.scratch("back")).into_iter().flatten();
                let sizes: Vec<_> =
                    names.map(|entry| entry.unwrap().metadata().map_or(0, |entry| entry.len())).collect();
                sizes.is_empty() || sizes == [COUNT as u64]
            });
        }
    });
}

/// Where a link is in the place of the target it is replaced, and what it points to is not touched.
pub fn a_link_is_replaced_and_not_followed<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        output(host, format!("cd '{directory}'; echo victim > victim; ln -s victim link; ln -s nowhere dangling"))
            .await;
        for name in ["link", "dangling"] {
            host.write(format!("{directory}/{name}"), "new").await.unwrap();
            let line = format!("cd '{directory}'; test ! -L {name} && cat {name}");
            assert_eq!(output(host, line).await, "new", "{name}");
        }
        assert_eq!(output(host, format!("cd '{directory}'; cat victim; ls")).await, "victim\ndangling\nlink\nvictim\n");
    });
}

/// What is not there: an error that names it, and not an empty file.
pub fn what_is_not_there_cannot_be_read<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        for path in ["not-there", "not-there/either", "not there 'at \"all"] {
            let path = format!("{directory}/{path}");
            let error = host.read(path.clone()).await.unwrap_err();
            assert_eq!(kind(&error), SessionErrorKind::NotFound, "{path}: {}", error_chain(&error));
            assert!(error_chain(&error).contains(&path), "{path}: {}", error_chain(&error));
            let back = case.scratch("back");
            let error = host.get(path.clone(), &back).await.unwrap_err();
            assert_eq!(kind(&error), SessionErrorKind::NotFound, "{path}: {}", error_chain(&error));
            assert!(!back.exists());
        }
        output(host, format!("ln -s nowhere '{directory}/dangling'")).await;
        host.read(format!("{directory}/dangling")).await.unwrap_err();
    });
}

/// A directory cannot be read as a file, nor be replaced by one.
pub fn a_directory_is_no_file<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        output(host, format!("mkdir '{directory}/sub'; echo inside > '{directory}/sub/file'")).await;
        let sub = format!("{directory}/sub");
        let error = host.read(sub.clone()).await.unwrap_err();
        assert!(error_chain(&error).contains(&sub), "{}", error_chain(&error));
        host.write(sub.clone(), "x").await.unwrap_err();
        let here = case.scratch("here");
        fs::write(&here, "x").unwrap();
        host.put(&here, sub.clone()).await.unwrap_err();
        assert_eq!(
            output(host, format!("cat '{sub}/file'; ls -A '{directory}' '{sub}'")).await.lines().next(),
            Some("inside")
        );
        assert_eq!(output(host, format!("ls -A '{directory}'")).await, "sub\n", "something was left");
        // A file is no directory either.
        let error = host.write(format!("{sub}/file/below"), "x").await.unwrap_err();
        assert!(
            error_chain(&error).contains("below") || error_chain(&error).contains("file"),
            "{}",
            error_chain(&error)
        );
        assert_eq!(run(host, &["cat", &format!("{sub}/file")]).await, "inside\n");
    });
}

/// Where nobody can write: an error, whatever the way.
pub fn what_cannot_be_written_is_an_error<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let read_only = case.subject.traits().read_only;
        assert!(!host.execute(format!("touch {read_only}/x")).await.unwrap().success(), "it can be written");
        let before = output(host, format!("ls -A {read_only}")).await;
        let path = format!("{read_only}/broker-file");
        let here = case.scratch("here");
        fs::write(&here, "x").unwrap();
        for error in
            [host.write(path.clone(), "x").await.unwrap_err(), host.put(&here, path.clone()).await.unwrap_err()]
        {
            assert!(error_chain(&error).contains(read_only), "{}", error_chain(&error));
        }
        assert_eq!(output(host, format!("ls -A {read_only}")).await, before);
        // The session is as good as before.
        host.write(format!("{directory}/file"), "x").await.unwrap();
    });
}

/// What is missing on this machine is said to be missing here, and nothing comes into being there.
pub fn what_is_not_here_cannot_be_put<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let missing = case.scratch("not-here");
        let error = host.put(&missing, format!("{directory}/file")).await.unwrap_err();
        assert_eq!(kind(&error), SessionErrorKind::Local, "{}", error_chain(&error));
        assert!(error_chain(&error).contains(missing.to_str().unwrap()), "{}", error_chain(&error));
        host.put(Path::new("/dev/zero"), format!("{directory}/file")).await.unwrap_err();
        assert_eq!(output(host, format!("ls -A '{directory}'")).await, "");
    });
}

/// What cannot be written here is an error of this machine, and half a file is not left.
pub fn a_failed_get_leaves_nothing<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        host.write(format!("{directory}/file"), noise(3, 2_000_000)).await.unwrap();
        let file = case.scratch("file");
        fs::write(&file, "old").unwrap();
        let error = host.get(format!("{directory}/file"), file.join("below")).await.unwrap_err();
        assert_eq!(kind(&error), SessionErrorKind::Local, "{}", error_chain(&error));
        assert_eq!(fs::read(&file).unwrap(), b"old");
        // A link that is in the place is replaced and not followed.
        let (victim, link) = (case.scratch("victim"), case.scratch("link"));
        fs::write(&victim, "victim").unwrap();
        symlink(&victim, &link).unwrap();
        host.get(format!("{directory}/file"), &link).await.unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"victim");
        assert_eq!(fs::symlink_metadata(&link).unwrap().len(), 2_000_000);
    });
}

/// Commands and files agree on where a relative path begins.
pub fn relative_paths_begin_in_one_place<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, _| {
        let name = format!("{}-relative", case.place.word());
        host.write(name.as_str(), "relative").await.unwrap();
        assert_eq!(run(host, &["cat", &name]).await, "relative");
        assert_eq!(host.read(name.as_str()).await.unwrap(), "relative");
        run(host, &["rm", &name]).await;
    });
}
