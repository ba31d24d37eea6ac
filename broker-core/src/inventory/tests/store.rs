//! The journal on disk, under one and several hands.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::inventory::lock::Lock;
use crate::inventory::store::Store;

#[test]
fn a_host_lives_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("new").join("broker");
    assert_eq!(read(&dir).unwrap(), Snapshot::default());
    let inventory = Inventory::open(&dir);
    assert_eq!(wait(inventory.load()).unwrap(), Snapshot::default());
    assert!(!dir.exists(), "looking makes nothing");

    let pending = wait(inventory.add(drafts(2))).unwrap();
    assert_eq!([(0, 1), (1, 1)], [0, 1].map(|index| (pending[index].number, pending[index].rev)));
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
    for file in ["inventory.jsonl", "inventory.lock"] {
        assert_eq!(fs::metadata(dir.join(file)).unwrap().mode() & 0o777, 0o600, "{file}");
    }
    let active = wait(inventory.update(in_state(&pending[0], HostState::Active))).unwrap();
    assert_eq!((active.rev, active.state), (2, HostState::Active));
    assert!(active.at >= pending[0].at);
    let snapshot = wait(inventory.load()).unwrap();
    assert_eq!(snapshot.records, [Arc::new(active.clone()), Arc::new(pending[1].clone())]);
    assert_eq!(read(&dir).unwrap(), snapshot);

    wait(inventory.update(in_state(&active, HostState::Gone))).unwrap();
    assert_eq!(numbers(&read(&dir).unwrap()), [1]);
    let error = wait(inventory.update(active)).unwrap_err();
    assert!(matches!(error, InventoryError::Missing { id } if id == pending[0].id));
    assert_eq!(wait(inventory.add(drafts(1))).unwrap()[0].number, 2);
}

#[test]
fn who_comes_second_learns_what_the_first_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Inventory::open(dir.path()), Inventory::open(dir.path()));
    let record = wait(one.add(drafts(1))).unwrap().remove(0);
    let active = wait(other.update(in_state(&record, HostState::Active))).unwrap();
    let error = wait(one.update(in_state(&record, HostState::Failed))).unwrap_err();
    let InventoryError::Conflict { current } = &error else { panic!("{error}") };
    assert_eq!(**current, active);
    assert!(error.to_string().contains("is `active` now"), "{error}");
    // The same record twice in one call is a conflict too.
    let results = wait(one.update_many(vec![active.clone(), active.clone(), draft()]));
    assert!(matches!(
        results.as_slice(),
        [Ok(_), Err(InventoryError::Conflict { .. }), Err(InventoryError::Missing { .. })]
    ));
    assert_eq!(read(dir.path()).unwrap().records[0].rev, 3);
}

#[test]
fn an_id_is_added_once() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(dir.path());
    let twice = draft();
    let error = wait(inventory.add(vec![draft(), twice.clone(), twice.clone()])).unwrap_err();
    assert!(matches!(error, InventoryError::Duplicate { id } if id == twice.id));
    assert_eq!(read(dir.path()).unwrap(), Snapshot::default());
    wait(inventory.add(vec![twice.clone()])).unwrap();
    assert!(matches!(wait(inventory.add(vec![twice])), Err(InventoryError::Duplicate { .. })));
    assert_eq!(numbers(&read(dir.path()).unwrap()), [0]);
}

#[test]
fn of_a_shared_host_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let shared = |name: &str| {
        let shared = Shared { name: name.to_owned(), members: Vec::new() };
        HostRecord { shared: Some(shared), ..draft() }
    };
    let (one, other) = (Inventory::open(dir.path()), Inventory::open(dir.path()));
    // Many at once, of two handles, some of which share a write.
    let adding = [&one, &other].into_iter().flat_map(|inventory| (0..10).map(|_| inventory.add_shared(shared("db"))));
    let added = wait(futures_util::future::join_all(adding));
    let first: Vec<_> = added.iter().flatten().collect();
    assert_eq!(first.len(), 1);
    for error in added.iter().filter_map(|added| added.as_ref().err()) {
        assert!(matches!(error, InventoryError::Conflict { current } if **current == *first[0]), "{error}");
    }
    // Hosts that came before are looked at, by whoever has not read them.
    let fresh = Inventory::open(dir.path());
    assert!(wait(fresh.add_shared(shared("db"))).is_err());
    assert!(wait(fresh.add_shared(shared("web"))).is_ok());
    wait(one.update(in_state(first[0], HostState::Gone))).unwrap();
    assert!(wait(fresh.add_shared(shared("db"))).is_ok());
    assert_eq!(numbers(&read(dir.path()).unwrap()), [1, 2]);
}

#[test]
fn who_shares_a_host_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(dir.path());
    let owner =
        Owner { run: crate::id::RunId::generate(), user: "jane".to_owned(), machine: "laptop".to_owned(), pid: 7 };
    let member = Member { guard: crate::id::GuardId::generate(), owner };
    let shared = Shared { name: "db".to_owned(), members: vec![member.clone(), member] };
    let added = wait(inventory.add(vec![HostRecord { shared: Some(shared.clone()), ..draft() }])).unwrap();
    let read = read(dir.path()).unwrap();
    assert_eq!(read.records, [Arc::new(added[0].clone())]);
    assert_eq!(read.records[0].shared, Some(shared));
}

#[test]
fn what_was_asked_for_is_done_though_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(dir.path());
    let lock = Lock::acquire(&dir.path().join("inventory.lock")).unwrap();
    {
        let mut future = pin!(inventory.add(drafts(3)));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(inventory);
    assert_eq!(read(dir.path()).unwrap(), Snapshot::default());
    drop(lock);
    let begun = std::time::Instant::now();
    while numbers(&read(dir.path()).unwrap()) != [0, 1, 2] {
        assert!(begun.elapsed().as_secs() < 10);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn changes_that_wait_together_are_all_answered() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(dir.path());
    let first = wait(inventory.add(drafts(1))).unwrap().remove(0);
    let lock = Lock::acquire(&dir.path().join("inventory.lock")).unwrap();
    let twice = draft();
    let adds: Vec<_> =
        [drafts(2), vec![twice.clone()], vec![twice], drafts(1)].map(|drafts| inventory.add(drafts)).into();
    let adds = futures_util::future::join_all(adds);
    let updates = [HostState::Active, HostState::Failed].map(|state| inventory.update(in_state(&first, state)));
    let all = futures_util::future::join3(adds, futures_util::future::join_all(updates), inventory.load());
    let release = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(lock);
    });
    let (added, updated, loaded) = wait(all);
    release.join().unwrap();
    let mut numbers: Vec<_> = added.iter().flatten().flatten().map(|record| record.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert!(matches!(added[2], Err(InventoryError::Duplicate { .. })));
    assert!(matches!(updated.as_slice(), [Ok(_), Err(InventoryError::Conflict { .. })]));
    assert!(!loaded.unwrap().records.is_empty());
    let snapshot = read(dir.path()).unwrap();
    assert_eq!(super::numbers(&snapshot), [0, 1, 2, 3, 4]);
    assert_eq!(snapshot.records[0].state, HostState::Active);
}

#[test]
fn the_last_handle_ends_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(dir.path());
    wait(inventory.add(drafts(1))).unwrap();
    // While it lives the thread holds the journal open.
    let journal = dir.path().join("inventory.jsonl").canonicalize().unwrap();
    let is_open = || {
        let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
        files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|target| target == journal))
    };
    assert!(is_open());
    let clone = inventory.clone();
    drop(inventory);
    wait(clone.load()).unwrap();
    drop(clone);
    let begun = std::time::Instant::now();
    while is_open() {
        assert!(begun.elapsed().as_secs() < 10, "the thread goes on");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn an_unfinished_line_is_cut_off_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    wait(Inventory::open(dir.path()).add(drafts(1))).unwrap();
    let whole = text(dir.path());
    fs::write(dir.path().join("inventory.jsonl"), format!("{whole}{{\"id\":\"unfini")).unwrap();
    assert_eq!(numbers(&read(dir.path()).unwrap()), [0]);
    wait(Inventory::open(dir.path()).add(drafts(1))).unwrap();
    assert!(text(dir.path()).starts_with(&whole));
    assert_eq!(numbers(&read(dir.path()).unwrap()), [0, 1]);
    let kept = || fs::read_to_string(dir.path().join("inventory.damaged.jsonl")).unwrap();
    assert_eq!(kept(), "{\"id\":\"unfini\n");
    // Killed between keeping and cutting, the next one does both again.
    let whole = text(dir.path());
    fs::write(dir.path().join("inventory.jsonl"), format!("{whole}{{\"id\":\"unfini")).unwrap();
    wait(Inventory::open(dir.path()).add(drafts(1))).unwrap();
    assert_eq!(kept(), "{\"id\":\"unfini\n");
}

#[test]
fn damaged_lines_are_kept_at_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(dir.path());
    let mut record = wait(inventory.add(drafts(1))).unwrap().remove(0);
    let damaged = text(dir.path()) + "garbage\nmore of it\n";
    fs::write(dir.path().join("inventory.jsonl"), damaged).unwrap();
    fs::write(dir.path().join("inventory.jsonl.new"), "left by one that was killed").unwrap();
    assert_eq!(wait(inventory.load()).unwrap().warnings.len(), 1);
    for _ in 0..70 {
        record = wait(inventory.update(record)).unwrap();
    }
    assert_eq!(wait(inventory.load()).unwrap(), Snapshot { records: vec![Arc::new(record)], warnings: Vec::new() });
    assert!(text(dir.path()).lines().count() < 20);
    assert!(!dir.path().join("inventory.jsonl.new").exists());
    let kept = fs::read_to_string(dir.path().join("inventory.damaged.jsonl")).unwrap();
    assert_eq!(kept, "garbage\nmore of it\n");
    assert_eq!(wait(inventory.add(drafts(1))).unwrap()[0].number, 3, "two numbers may stand in the damaged lines");
}

#[test]
fn others_notice_a_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Inventory::open(dir.path()), Inventory::open(dir.path()));
    let mut record = wait(one.add(drafts(2))).unwrap().remove(0);
    assert_eq!(wait(other.load()).unwrap().records.len(), 2);
    let inode = || fs::metadata(dir.path().join("inventory.jsonl")).unwrap().ino();
    let before = inode();
    wait(one.load()).unwrap();
    for _ in 0..70 {
        record = wait(one.update(record)).unwrap();
    }
    assert_ne!(inode(), before);
    assert_eq!(wait(other.load()).unwrap(), read(dir.path()).unwrap());
    let error = wait(other.update(HostRecord { rev: 1, ..record.clone() })).unwrap_err();
    assert!(matches!(error, InventoryError::Conflict { current } if *current == record));
    assert_eq!(wait(other.add(drafts(1))).unwrap()[0].number, 2);
}

#[test]
fn lines_that_were_taken_back_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (one, reader) = (Inventory::open(dir.path()), Inventory::open(dir.path()));
    wait(one.add(drafts(1))).unwrap();
    let before = text(dir.path());
    wait(one.add(drafts(1))).unwrap();
    assert_eq!(numbers(&wait(reader.load()).unwrap()), [0, 1]);
    // As if the second line had been seen before its write failed, and another one, as long, had taken its place.
    let phantom = text(dir.path());
    fs::write(dir.path().join("inventory.jsonl"), before).unwrap();
    wait(Inventory::open(dir.path()).add(drafts(1))).unwrap();
    assert_ne!(text(dir.path()), phantom);
    assert_eq!(wait(reader.load()).unwrap(), read(dir.path()).unwrap());
}

#[test]
fn a_checkout_reads_the_end_alone() {
    let dir = tempfile::tempdir().unwrap();
    wait(Inventory::open(dir.path()).add(drafts(1000))).unwrap();
    // What stands in the middle is of no interest to it, so it does not notice that it is gone.
    let path = dir.path().join("inventory.jsonl");
    let mut blank = fs::read(&path).unwrap();
    let end = blank.len() - 40_000;
    blank[1000..end].fill(0);
    fs::write(&path, &blank).unwrap();
    let inventory = Inventory::open(dir.path());
    let record = wait(inventory.add(drafts(1))).unwrap().remove(0);
    assert_eq!(record.number, 1000);
    let record = wait(inventory.update(in_state(&record, HostState::Active))).unwrap();
    wait(inventory.update(in_state(&record, HostState::Gone))).unwrap();
    assert_eq!(&fs::read(&path).unwrap()[..blank.len()], blank, "and compacts nothing");
    // Even when nothing at the end can be read for a long way.
    let garbage = [blank.as_slice(), "garbage\n".repeat(10_000).as_bytes()].concat();
    fs::write(&path, garbage).unwrap();
    assert_eq!(wait(Inventory::open(dir.path()).add(drafts(1))).unwrap()[0].number, 11_000);
}

#[test]
fn a_deleted_journal_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(dir.path());
    let record = wait(inventory.add(drafts(1))).unwrap().remove(0);
    fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(wait(inventory.load()).unwrap(), Snapshot::default());
    assert!(matches!(wait(inventory.update(record)), Err(InventoryError::Missing { .. })));
    assert_eq!(wait(inventory.add(drafts(1))).unwrap()[0].number, 0);
}

#[test]
fn threads_with_handles_of_their_own_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let inventory = Inventory::open(dir.path());
                for _ in 0..20 {
                    let record = wait(inventory.add(drafts(1))).unwrap().remove(0);
                    let record = wait(inventory.update(in_state(&record, HostState::Active))).unwrap();
                    if record.number.is_multiple_of(2) {
                        wait(inventory.update(in_state(&record, HostState::Gone))).unwrap();
                    }
                    assert_eq!(wait(inventory.load()).unwrap().warnings, [""; 0]);
                }
            });
        }
    });
    assert_eq!(numbers(&read(dir.path()).unwrap()), (0..80).map(|half| 2 * half + 1).collect::<Vec<_>>());
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize),
    Update(prop::sample::Index, HostState),
    Stale(prop::sample::Index),
    Load,
    Reopen,
    Hours(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let state = prop_oneof![Just(HostState::Active), Just(HostState::Failed), Just(HostState::Gone)];
    prop_oneof![
        2 => (0..4_usize).prop_map(Step::Add),
        6 => (any::<prop::sample::Index>(), state).prop_map(|(index, state)| Step::Update(index, state)),
        1 => any::<prop::sample::Index>().prop_map(Step::Stale),
        2 => Just(Step::Load),
        1 => Just(Step::Reopen),
        1 => (0..30_i64).prop_map(Step::Hours),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Three handles in turn against a plain map.
    #[test]
    fn the_store_is_a_map(steps in proptest::collection::vec((0..3_usize, step()), 1..250)) {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(1_800_000_000));
        let open = || {
            let clock = Arc::clone(&clock);
            Store::with_clock(dir.path(), move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap())
        };
        let mut stores = [open(), open(), open()];
        let mut model: BTreeMap<HostId, HostRecord> = BTreeMap::new();
        let mut given: Option<(u64, i64)> = None;
        for (turn, step) in steps {
            let store = &mut stores[turn];
            let now = clock.load(Ordering::Relaxed);
            let pick = |index: &prop::sample::Index| {
                (!model.is_empty()).then(|| model.values().nth(index.index(model.len())).unwrap().clone())
            };
            match step {
                Step::Add(count) => {
                    let mut transaction = store.begin().unwrap();
                    let added = transaction.add(drafts(count)).unwrap();
                    transaction.write().unwrap();
                    transaction.finish();
                    for record in added {
                        let expected = match given {
                            Some((_, at)) if model.is_empty() && now - at > 24 * 3600 => 0,
                            Some((high, _)) => high + 1,
                            None => 0,
                        };
                        prop_assert_eq!(record.number, expected);
                        given = Some((record.number, now));
                        model.insert(record.id, record);
                    }
                }
                Step::Update(index, state) => {
                    let Some(record) = pick(&index) else { continue };
                    let mut transaction = store.begin().unwrap();
                    let wanted = in_state(&record, state);
                    transaction.look_up(std::iter::once(&wanted)).unwrap();
                    let updated = transaction.update(wanted).unwrap();
                    transaction.write().unwrap();
                    transaction.finish();
                    given = given.map(|(high, _)| (high, now));
                    if state == HostState::Gone {
                        model.remove(&updated.id);
                    } else {
                        model.insert(updated.id, updated);
                    }
                }
                Step::Stale(index) => {
                    let Some(record) = pick(&index) else { continue };
                    let mut transaction = store.begin().unwrap();
                    let stale = HostRecord { rev: record.rev - 1, ..record.clone() };
                    transaction.look_up([&stale].into_iter()).unwrap();
                    let error = transaction.update(stale).unwrap_err();
                    let InventoryError::Conflict { current } = error else { panic!("{error}") };
                    prop_assert_eq!(*current, record);
                    transaction.write().unwrap();
                    transaction.finish();
                }
                Step::Load => {
                    let mut expected: Vec<_> = model.values().cloned().map(Arc::new).collect();
                    expected.sort_by_key(|record| record.number);
                    prop_assert_eq!(&store.load().unwrap().records, &expected);
                    prop_assert_eq!(&read(dir.path()).unwrap().records, &expected);
                }
                Step::Reopen => *store = open(),
                Step::Hours(hours) => {
                    clock.fetch_add(hours * 3600, Ordering::Relaxed);
                }
            }
        }
        if dir.path().join("inventory.jsonl").exists() {
            let lines = text(dir.path()).lines().count();
            prop_assert!(lines <= 1 + 64.max(2 * model.len()) + 250, "{lines}");
        }
    }
}
