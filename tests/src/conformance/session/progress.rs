//! What a transfer tells of itself.

use std::fs;
use std::os::unix::fs::symlink;

use broker_core::{Host, Transfer, Transferred};

use super::super::Case;
use super::{SessionSubject, noise};

/// What a transfer tells while it goes well, the last time at its end.
async fn told(host: &Host, go: impl AsyncFnOnce(Transfer<'_>) -> broker_core::Result<()>) -> Vec<Transferred> {
    let mut told = Vec::new();
    go(host.transfer().on_progress(|so_far| told.push(so_far))).await.unwrap();
    told
}

/// It came to so many bytes and files in the end, never went back, and said the same of the whole all the way.
#[track_caller]
fn came_to(told: &[Transferred], bytes: u64, files: u64, total: Option<u64>) {
    let last = told.last().expect("nothing was told");
    assert_eq!((last.bytes, last.files), (bytes, files), "{told:?}");
    assert!(told.is_sorted_by_key(|so_far| (so_far.bytes, so_far.files)), "{told:?}");
    assert!(told.iter().all(|so_far| so_far.total == total), "{told:?}");
}

/// Bytes and files are counted both ways and from host to host, and the whole is known where it can be.
pub fn a_transfer_tells_how_far_it_has_come<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        const SIZES: [usize; 3] = [0, 1000, 3_000_000];
        let (tree, all) = (case.scratch("tree"), SIZES.iter().sum::<usize>() as u64);
        fs::create_dir_all(tree.join("sub")).unwrap();
        for (at, size) in SIZES.into_iter().enumerate() {
            fs::write(tree.join(format!("sub/file-{at}")), noise(at as u64, size)).unwrap();
        }
        symlink("sub", tree.join("link")).unwrap();
        // A tree: what is here can be measured before, what is there cannot.
        let there = format!("{directory}/tree");
        came_to(&told(host, async |go| go.put(&tree, there.clone()).await).await, all, 3, Some(all));
        came_to(&told(host, async |go| go.get(there.clone(), case.scratch("back")).await).await, all, 3, None);
        let copy = format!("{directory}/copy");
        came_to(&told(host, async |go| go.copy_to(there.clone(), host, copy.clone()).await).await, all, 3, Some(all));
        // One file.
        for (at, size) in SIZES.into_iter().enumerate() {
            let (name, size) = (format!("sub/file-{at}"), size as u64);
            let file = format!("{directory}/file-{at}");
            let put = told(host, async |go| go.put(tree.join(&name), file.clone()).await).await;
            came_to(&put, size, 1, Some(size));
            let get = told(host, async |go| go.get(file.clone(), case.scratch(&format!("file-{at}"))).await).await;
            came_to(&get, size, 1, Some(size));
        }
        // What does not go well is no end.
        let mut last = None;
        let failing = host.transfer().on_progress(|so_far| last = Some(so_far));
        failing.put(&tree, format!("{directory}/file-1/below")).await.unwrap_err();
        assert!(last.is_none_or(|so_far: Transferred| so_far.bytes <= all), "{last:?}");
    });
}
