//! What other commands do to hosts that a living test holds.

use broker_tests::conformance::current_thread;

use crate::support::{Watcher, holder, name_of, request};

#[test]
fn all_leaves_them_alone_unless_somebody_insists() {
    if let Some(holder) = holder() {
        let guard = holder.checkout(request());
        holder.sign("ready");
        holder.await_sign("enough");
        return current_thread().block_on(guard.checkin()).unwrap();
    }
    let watcher = Watcher::without_guardian(name_of!(all_leaves_them_alone_unless_somebody_insists));
    let broker = |line: &str| watcher.env.broker(line.split(' '));
    let holding = watcher.start_ready("holds");
    let guarded = watcher.records().remove(0).number;
    let left = || watcher.records().iter().map(|record| record.number).collect::<Vec<_>>();

    for line in ["checkin --all --yes", "forget --all --yes", "extend --all --lease 1h", "exec --all -- false"] {
        let ran = broker(line);
        assert!(ran.code == Some(0) && ran.stderr.contains("left alone") && ran.stderr.contains("--force"), "{ran}");
        assert_eq!(left(), [guarded], "{ran}");
    }
    let ran = broker("duplicate --all");
    assert!(ran.stderr.contains("left alone") && left() == [guarded], "{ran}");
    broker("exec --all --force -- false").expect(1);

    // Also by its name it is not forgotten while somebody would have to release it.
    let ran = broker(&format!("forget {guarded} --yes"));
    assert!(ran.code == Some(1) && ran.stderr.contains("is held by") && ran.stderr.contains("--force"), "{ran}");
    assert_eq!(left(), [guarded]);

    watcher.sign("enough");
    holding.wait().ok();
    watcher.nothing_is_left();
}

#[test]
fn somebody_who_insists_forgets_or_releases_them() {
    if let Some(holder) = holder() {
        let _guard = holder.checkout(request());
        holder.sign("ready");
        return holder.await_sign("enough");
    }
    let watcher = Watcher::without_guardian(name_of!(somebody_who_insists_forgets_or_releases_them));
    for (command, hosts) in [("forget", 1), ("checkin", 0)] {
        let holding = watcher.start_ready(command);
        watcher.env.ok([command, "--all", "--force", "--yes"]);
        assert_eq!((watcher.records().len(), watcher.hosts().len()), (0, hosts), "{command}");
        watcher.sign("enough");
        // For its guard somebody else has released it.
        holding.wait().ok();
        assert_eq!(watcher.hosts().len(), hosts, "{command}");
        std::fs::remove_dir_all(watcher.env.hosts_directory()).unwrap();
        std::fs::remove_file(watcher.path("enough")).unwrap();
    }
}
