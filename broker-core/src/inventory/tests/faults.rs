//! Full disks, read-only directories, processes that die: for real, with real processes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;
use crate::inventory::lock::Lock;

/// A process that does not outlive the test.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn lines(&mut self) -> impl Iterator<Item = String> + Send + use<> {
        BufReader::new(self.0.stdout.take().unwrap()).lines().map_while(Result::ok)
    }

    fn wait_for_line(&mut self, start: &str) -> String {
        self.lines().find(|line| line.starts_with(start)).unwrap()
    }

    fn succeeds(mut self) {
        let output: Vec<String> = self.lines().collect();
        assert!(self.0.wait().unwrap().success(), "{output:#?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.kill();
        }
    }
}

/// Runs [`child`] in a process of its own. `shell` comes before the command, such as `ulimit -f 8;`.
fn spawn(role: &str, dir: &Path, shell: &str) -> Process {
    let child = Command::new("sh")
        .arg("-c")
        .arg(format!("{shell} exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inventory::tests::faults::child", "--nocapture", "--test-threads=1"])
        .env("BROKER_TEST_CHILD", role)
        .env("BROKER_TEST_CHILD_DIR", dir)
        .stdout(Stdio::piped())
        .spawn();
    Process(child.unwrap())
}

/// What the children of the other tests do; as a test of its own it does nothing.
#[test]
fn child() {
    let (Ok(role), Ok(dir)) = (std::env::var("BROKER_TEST_CHILD"), std::env::var("BROKER_TEST_CHILD_DIR")) else {
        return;
    };
    let dir = Path::new(&dir);
    let inventory = Inventory::open(dir);
    match role.as_str() {
        "checkouts" => {
            for _ in 0..5 {
                let record = wait(inventory.add(drafts(1))).unwrap().remove(0);
                wait(inventory.update(in_state(&record, HostState::Active))).unwrap();
            }
        }
        "endless" => {
            let mut kept = Vec::new();
            loop {
                for record in wait(inventory.add(drafts(2))).unwrap() {
                    println!("\nack {} {} pending", record.id, record.number);
                    let record = wait(inventory.update(in_state(&record, HostState::Active))).unwrap();
                    println!("\nack {} {} active", record.id, record.number);
                    kept.push(record);
                }
                if kept.len() > 20 {
                    for record in kept.split_off(2) {
                        wait(inventory.update(in_state(&record, HostState::Gone))).unwrap();
                        println!("\nack {} {} gone", record.id, record.number);
                    }
                    wait(inventory.load()).unwrap();
                }
            }
        }
        "lock" => {
            let _lock = Lock::acquire(&dir.join("inventory.lock")).unwrap();
            println!("\nlocked");
            std::thread::sleep(Duration::from_secs(600));
        }
        "run" => {
            let run = RunLock::acquire(dir).unwrap();
            println!("\nrun {}", run.id());
            std::thread::sleep(Duration::from_secs(600));
        }
        "fill" => fill(&inventory, dir),
        other => panic!("no role {other}"),
    }
}

#[test]
fn forty_checkouts_at_once_are_all_recorded() {
    let dir = tempfile::tempdir().unwrap();
    wait(Inventory::open(dir.path()).add(drafts(300))).unwrap();
    let children: Vec<Process> = (0..40).map(|_| spawn("checkouts", dir.path(), "")).collect();
    children.into_iter().for_each(Process::succeeds);
    let snapshot = read(dir.path()).unwrap();
    assert_eq!(numbers(&snapshot), (0..500).collect::<Vec<_>>());
    assert!(snapshot.records[300..].iter().all(|record| record.state == HostState::Active));
    assert_eq!(snapshot.warnings, [""; 0]);
}

/// What has been confirmed survives `kill -9` at any moment, and what is left can be worked with.
#[test]
fn the_killed_lose_nothing_that_was_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut confirmed: HashMap<HostId, (u64, String)> = HashMap::new();
    for round in 0..12 {
        let mut children: Vec<Process> = (0..3).map(|_| spawn("endless", dir.path(), "")).collect();
        let outputs: Vec<_> = children.iter_mut().map(Process::lines).collect();
        let readers: Vec<_> =
            outputs.into_iter().map(|lines| std::thread::spawn(move || lines.collect::<Vec<_>>())).collect();
        for child in &mut children {
            std::thread::sleep(Duration::from_millis(30 + 17 * round));
            child.kill();
        }
        for reader in readers {
            for line in reader.join().unwrap() {
                let words: Vec<&str> = line.split(' ').collect();
                // The last line may have been cut off.
                if let ["ack", id, number, state @ ("pending" | "active" | "gone")] = words[..] {
                    confirmed.insert(id.parse().unwrap(), (number.parse().unwrap(), state.to_owned()));
                }
            }
        }
        let snapshot = read(dir.path()).unwrap();
        assert_eq!(snapshot.warnings, [""; 0]);
        let found: HashMap<_, _> = snapshot.records.iter().map(|record| (record.id, record)).collect();
        for (id, (number, state)) in &confirmed {
            match found.get(id) {
                // The next change may have been written and not confirmed any more.
                Some(record) => {
                    assert_eq!(record.number, *number);
                    let further: &[&str] = if state == "pending" { &["pending", "active"] } else { &["active"] };
                    assert!(further.contains(&record.state.as_str()), "{state} became {}", record.state);
                }
                None => assert!(state != "pending", "a host that was {state} is lost"),
            }
        }
        let lost = confirmed.iter().filter(|(id, (_, state))| state == "active" && !found.contains_key(id)).count();
        assert!(lost <= 3 * (round as usize + 1), "at most one unconfirmed release a process, not {lost}");
        let mut numbers = numbers(&snapshot);
        numbers.dedup();
        assert_eq!(numbers.len(), snapshot.records.len());
    }
    assert!(confirmed.len() > 50, "{}", confirmed.len());
}

#[test]
fn a_lock_whose_holder_was_killed_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn("lock", dir.path(), "");
    child.wait_for_line("locked");
    let inventory = Inventory::open(dir.path());
    std::thread::scope(|scope| {
        let added = scope.spawn(|| wait(inventory.add(drafts(1))));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!added.is_finished());
        child.kill();
        assert_eq!(added.join().unwrap().unwrap()[0].number, 0);
    });
}

#[test]
fn a_lock_file_that_is_deleted_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inventory.lock");
    let first = Lock::acquire(&path).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Lock::acquire(&path).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        fs::remove_file(&path).unwrap();
        drop(first);
        let second = waiting.join().unwrap();
        assert!(fs::File::open(&path).unwrap().try_lock().is_err(), "the lock is on the file that is there");
        drop(second);
    });
}

/// Collects what `tracing` is told.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);

        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{}={value:?} ", field.name());
            }
        }

        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

#[test]
fn who_waits_says_for_whom() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn("lock", dir.path(), "");
    child.wait_for_line("locked");
    let pid = child.0.id();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1300));
        child.kill();
    });
    let log = Log::default();
    let begun = Instant::now();
    let _lock =
        tracing::subscriber::with_default(log.clone(), || Lock::acquire(&dir.path().join("inventory.lock")).unwrap());
    assert!(begun.elapsed() > Duration::from_secs(1));
    killer.join().unwrap();
    let log = log.0.lock().unwrap();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].contains(&format!("holder=process {pid} ")), "{log:?}");
}

#[test]
fn the_run_of_a_killed_process_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn("run", dir.path(), "");
    let run = child.wait_for_line("run ")[4..].parse().unwrap();
    assert_eq!(liveness(dir.path(), run), Liveness::Alive);
    child.kill();
    assert_eq!(liveness(dir.path(), run), Liveness::Dead);
    assert_eq!(fs::read_dir(dir.path().join("runs")).unwrap().count(), 0);
}

/// Adds hosts until there is no room, and checks that what did not fit has left no trace.
fn fill(inventory: &Inventory, dir: &Path) {
    let mut added = 0;
    let error = loop {
        let before = fs::read(dir.join("inventory.jsonl")).unwrap_or_default();
        match wait(inventory.add(drafts(7))) {
            Ok(records) => added += records.len(),
            Err(error) => {
                assert_eq!(fs::read(dir.join("inventory.jsonl")).unwrap(), before);
                break error;
            }
        }
        assert!(added < 100_000, "there is room without end");
    };
    assert!(error.is_no_space(), "{error:?}");
    assert!(error.to_string().starts_with("no room left to write `/"), "{error}");
    // What is there can be read, and this handle and others go on as soon as there is room for what they want.
    let snapshot = read(dir).unwrap();
    assert_eq!((snapshot.records.len(), snapshot.warnings.len()), (added, 0));
    assert_eq!(wait(inventory.load()).unwrap(), snapshot);
    let many = snapshot.records.iter().map(|record| in_state(record, HostState::Active)).collect();
    for result in wait(inventory.update_many(many)) {
        assert!(result.unwrap_err().is_no_space());
    }
    assert_eq!(read(dir).unwrap(), snapshot);
}

#[test]
fn a_file_size_limit_is_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    spawn("fill", dir.path(), "trap '' XFSZ; ulimit -f 64;").succeeds();
    let records = read(dir.path()).unwrap().records;
    assert!(records.len() > 10);
    // Without the limit there is room again.
    assert_eq!(wait(Inventory::open(dir.path()).add(drafts(1))).unwrap()[0].number, records.len() as u64);
}

/// A file system of 1 MiB. `None` without the right to mount one, which is said.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("left out: no right to mount a file system of 1 MiB");
        None
    }

    /// Waits for those who have files open.
    fn remount_read_only(&self) {
        let begun = Instant::now();
        let remount = || Command::new("mount").args(["-o", "remount,ro"]).arg(self.0.path()).output().unwrap();
        while !remount().status.success() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _busy = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_changes_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.0.path();
    let inventory = Inventory::open(dir);
    fill(&inventory, dir);
    // One page less of something else, and it goes on.
    fs::write(dir.join("other"), "").unwrap();
    let record = in_state(&read(dir).unwrap().records[0], HostState::Releasing);
    let mut last = wait(inventory.update(record.clone()));
    if last.is_err() {
        let records = read(dir).unwrap().records.len();
        let path = dir.join("inventory.jsonl");
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 8192]).unwrap();
        assert!(read(dir).unwrap().records.len() < records);
        last = wait(inventory.update(record));
    }
    assert_eq!(last.unwrap().state, HostState::Releasing);
}

#[test]
fn a_disk_that_is_full_from_the_beginning_gets_no_inventory() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.0.path();
    fs::write(dir.join("inventory.yaml"), "- name: a\n").unwrap();
    let mut size = 1 << 20;
    while size > 0 {
        let file = fs::OpenOptions::new().append(true).create(true).open(dir.join("ballast")).unwrap();
        if std::io::Write::write_all(&mut &file, &vec![0; size]).is_err() {
            size /= 2;
        }
    }
    let error = read(dir).unwrap_err();
    assert!(error.is_no_space(), "{error:?}");
    let error = wait(Inventory::open(dir).add(drafts(1))).unwrap_err();
    assert!(error.is_no_space(), "{error:?}");
    assert!(!dir.join("inventory.jsonl").exists());
    assert!(!dir.join("inventory.jsonl.new").exists());
    fs::remove_file(dir.join("ballast")).unwrap();
    assert_eq!(wait(Inventory::open(dir).add(drafts(1))).unwrap()[0].number, 1);
}

#[test]
fn a_read_only_directory_can_be_read() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.0.path();
    let record = wait(Inventory::open(dir).add(drafts(1))).unwrap().remove(0);
    let before = text(dir);
    disk.remount_read_only();
    let error = wait(Inventory::open(dir).update(record)).unwrap_err();
    assert!(matches!(error, InventoryError::Permission { action: "write", .. }), "{error:?}");
    assert!(matches!(wait(Inventory::open(dir).add(drafts(1))), Err(InventoryError::Permission { .. })));
    let error = RunLock::acquire(dir).unwrap_err();
    assert!(matches!(error, InventoryError::Permission { action: "write", .. }), "{error:?}");
    assert_eq!(numbers(&read(dir).unwrap()), [0]);
    assert_eq!(numbers(&wait(Inventory::open(dir).load()).unwrap()), [0]);
    assert_eq!(text(dir), before);
}

#[test]
fn what_is_no_directory_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = wait(Inventory::open(file.path()).add(drafts(1))).unwrap_err();
    assert!(matches!(error, InventoryError::Io { .. }), "{error:?}");
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("inventory.jsonl")).unwrap();
    assert!(matches!(read(dir.path()), Err(InventoryError::Io { action: "read", .. })));
    assert!(matches!(wait(Inventory::open(dir.path()).add(drafts(1))), Err(InventoryError::Io { .. })));
}
