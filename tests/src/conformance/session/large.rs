//! What must be true of what is large, and of much at once.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use super::super::Case;
use super::{SessionSubject, noise, output};

/// Set, it makes the large file a gibibyte.
const FULL_VARIABLE: &str = "BROKER_TESTS_FULL";

/// By how much the memory of this process may grow while a large file is on its way.
const GROWTH: u64 = 64 << 20;

/// How many bytes of memory this process has now.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Looks at the memory of this process all the time.
struct Watch {
    stop: Arc<AtomicBool>,
    looking: std::thread::JoinHandle<u64>,
}

impl Watch {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, before) = (Arc::clone(&stop), memory());
        let looking = std::thread::spawn(move || {
            let mut most = before;
            while !stopped.load(Ordering::Relaxed) {
                most = most.max(memory());
                std::thread::sleep(Duration::from_millis(5));
            }
            most - before
        });
        Self { stop, looking }
    }

    /// By how much it has grown at most.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.join().unwrap()
    }
}

/// A file with nothing in it but a few marks, which takes no room here.
fn sparse(path: &Path, size: u64) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for at in [0, size / 3, size / 2 + 1, size - 64] {
        file.write_all_at(&noise(at, 64), at).unwrap();
    }
}

fn same(one: &Path, other: &Path) -> bool {
    let (mut one, mut other) = (File::open(one).unwrap(), File::open(other).unwrap());
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = one.read(&mut left).unwrap();
        if other.read_exact(&mut right[..count]).is_err() || left[..count] != right[..count] {
            return false;
        }
        if count == 0 {
            return other.read(&mut right).unwrap() == 0;
        }
    }
}

/// A large file goes there and comes back whole, and this process stays small.
pub fn a_large_file_takes_little_memory<S: SessionSubject>(case: &Case<S>) {
    // In a process of its own: other tests in this one would be counted too.
    if case.role().is_none() {
        let (status, said) = case.place.run("large");
        assert!(status.success(), "{said}");
        return;
    }
    let size = if std::env::var_os(FULL_VARIABLE).is_some() { 1 << 30 } else { 256 << 20 };
    let (here, back) = (case.scratch("here"), case.scratch("back"));
    sparse(&here, size);
    case.on_host(async |host, directory| {
        output(host, "true").await;
        let watch = Watch::start();
        let there = format!("{directory}/large");
        host.put(&here, there.clone()).await.unwrap();
        assert_eq!(output(host, format!("wc -c < '{there}'")).await.trim(), size.to_string());
        host.get(there, &back).await.unwrap();
        let grown = watch.stop();
        assert!(grown < GROWTH, "{} MiB more memory for a file of {} MiB", grown >> 20, size >> 20);
        assert!(same(&here, &back), "it came back as another file");
    });
}

/// Files and commands at the same time on one session do not get in each other's way.
pub fn transfers_and_commands_at_the_same_time<S: SessionSubject>(case: &Case<S>) {
    case.on_host(async |host, directory| {
        let work = (0..8_u64).map(async |turn| {
            let bytes = noise(turn, 1_500_000);
            let path = format!("{directory}/{turn}");
            let here = case.scratch(&turn.to_string());
            std::fs::write(&here, &bytes).unwrap();
            let (put, said) =
                tokio::join!(host.put(&here, path.clone()), host.execute(format!("sleep 0.1; echo {turn}")));
            put.unwrap();
            assert_eq!(said.unwrap().stdout(), format!("{turn}\n"));
            let back = case.scratch(&format!("back-{turn}"));
            let (got, read, said) = tokio::join!(
                host.get(path.clone(), &back),
                host.read(path.clone()),
                host.execute(["md5sum", path.as_str()])
            );
            got.unwrap();
            assert!(said.unwrap().success());
            assert!(read.unwrap() == bytes && std::fs::read(&back).unwrap() == bytes, "file {turn}");
        });
        join_all(work).await;
    });
}
