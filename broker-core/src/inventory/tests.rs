//! The journal as a whole: on disk, under several hands, and when things go wrong.

mod faults;
mod import;
mod journal;
mod store;

use std::fs;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use serde_json::{Value, json};

use super::*;
use crate::id::HostId;

/// Waits for a future without any runtime.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn draft() -> HostRecord {
    from_json(json!({
        "id": HostId::generate(), "number": 0, "rev": 0, "state": "pending", "at": "2026-01-01T00:00:00Z",
        "_broker_provider": "Test", "_broker_args": {"test_action": "hello", "version": "9.10"},
    }))
}

fn drafts(count: usize) -> Vec<HostRecord> {
    std::iter::repeat_with(draft).take(count).collect()
}

fn from_json(value: Value) -> HostRecord {
    serde_json::from_value(value).unwrap()
}

fn in_state(record: &HostRecord, state: HostState) -> HostRecord {
    HostRecord { state, ..record.clone() }
}

fn text(dir: &Path) -> String {
    fs::read_to_string(dir.join("inventory.jsonl")).unwrap()
}

fn numbers(snapshot: &Snapshot) -> Vec<u64> {
    snapshot.records.iter().map(|record| record.number).collect()
}
