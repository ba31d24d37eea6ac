//! [`Inventory`]: the handle that everybody uses, and the thread that does the writing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SendError, Sender};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::import::Imported;
use super::store::{Store, Transaction};
use super::{HostRecord, InventoryError, Snapshot};

/// How many changes may share one write.
const LARGEST_BATCH: usize = 1024;

/// The inventory of one Broker directory.
///
/// A cheap handle: clones share one thread, which starts at the first use, does all reading, locking and writing, and
/// ends with the last clone. Changes that wait at the same time share one write and one sync. The methods work on any
/// runtime.
///
/// # Cancel safety
///
/// Dropping a future that has been polled does not undo what it asked for: it may be done, and nobody hears of it.
#[derive(Debug, Clone)]
pub struct Inventory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    queue: Mutex<Option<Sender<Request>>>,
}

type Reply<T> = oneshot::Sender<T>;

enum Request {
    Load(Reply<Result<Snapshot, InventoryError>>),
    Import(Reply<Result<Imported, InventoryError>>),
    Write(Change),
}

type Added = Result<Vec<HostRecord>, InventoryError>;
type Updated = Result<HostRecord, InventoryError>;

enum Change {
    Add(Vec<HostRecord>, Reply<Added>),
    AddShared(Box<HostRecord>, Reply<Updated>),
    Update(Vec<HostRecord>, Reply<Vec<Updated>>),
}

impl Inventory {
    /// A handle for a Broker directory. Reads and writes nothing yet.
    pub fn open(dir: &Path) -> Self {
        Self { shared: Arc::new(Shared { dir: dir.to_owned(), queue: Mutex::new(None) }) }
    }

    /// Writes down new hosts, before anybody is asked to make them: all or none. Returns them with their `number`, `rev`
    /// and `at` filled in.
    ///
    /// # Errors
    ///
    /// [`InventoryError::Duplicate`] if an id stands twice in `drafts`, or is known to this handle. Else, if the journal
    /// cannot be written; it is then as it was.
    pub async fn add(&self, drafts: Vec<HostRecord>) -> Result<Vec<HostRecord>, InventoryError> {
        self.ask(|reply| Request::Write(Change::Add(drafts, reply))).await?
    }

    /// As [`add`](Self::add), for a shared host, if there is none of the same name yet.
    ///
    /// # Errors
    ///
    /// [`InventoryError::Conflict`] with the one that there is. Else as there.
    pub async fn add_shared(&self, draft: HostRecord) -> Result<HostRecord, InventoryError> {
        self.ask(|reply| Request::Write(Change::AddShared(Box::new(draft), reply))).await?
    }

    /// Writes down a change of a host. `record` is what it is to be, with the `rev` it had when it was read. Returns it
    /// with its new `rev` and `at`.
    ///
    /// # Errors
    ///
    /// [`InventoryError::Conflict`] if somebody changed it in between, with the record as it is;
    /// [`InventoryError::Missing`] if it is gone. Else, if the journal cannot be written; it is then as it was.
    pub async fn update(&self, record: HostRecord) -> Result<HostRecord, InventoryError> {
        self.update_many(vec![record]).await.pop().unwrap_or(Err(InventoryError::Stopped))
    }

    /// Like [`update`](Self::update) for several hosts, with one write: a result for each, in the order of `records`.
    pub async fn update_many(&self, records: Vec<HostRecord>) -> Vec<Result<HostRecord, InventoryError>> {
        let count = records.len();
        match self.ask(|reply| Request::Write(Change::Update(records, reply))).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); count],
        }
    }

    /// All hosts. The first call reads the whole journal, later ones what came since.
    ///
    /// # Errors
    ///
    /// As of [`read`].
    pub async fn load(&self) -> Result<Snapshot, InventoryError> {
        self.ask(Request::Load).await?
    }

    /// Adds those entries of the Python tool's `inventory.yaml` that the inventory does not have yet. It never changes or
    /// removes a host; a repeat adds nothing.
    ///
    /// # Errors
    ///
    /// If there is no such file, it cannot be understood, or the journal cannot be written. Nothing has changed then.
    pub async fn import(&self) -> Result<Imported, InventoryError> {
        self.ask(Request::Import).await?
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, InventoryError> {
        let (reply, answer) = oneshot::channel();
        self.shared.send(request(reply))?;
        answer.await.map_err(|_| InventoryError::Stopped)
    }
}

impl Shared {
    fn send(&self, mut request: Request) -> Result<(), InventoryError> {
        let mut queue = self.queue.lock();
        if let Some(sender) = queue.as_ref() {
            match sender.send(request) {
                Ok(()) => return Ok(()),
                // The thread has panicked. Its callers were told; the next ones get a new thread.
                Err(SendError(unsent)) => request = unsent,
            }
        }
        let (sender, receiver) = mpsc::channel();
        let store = Store::new(&self.dir);
        std::thread::Builder::new()
            .name("broker-journal".to_owned())
            .spawn(move || serve(store, &receiver))
            .map_err(|error| InventoryError::write(&self.dir, error))?;
        sender.send(request).map_err(|_| InventoryError::Stopped)?;
        *queue = Some(sender);
        Ok(())
    }
}

/// Reads the inventory of a Broker directory on this thread, without a lock. A missing one is empty.
///
/// The one case in which it writes: where there is no inventory yet but one of the Python tool, that is imported.
///
/// # Errors
///
/// If the journal cannot be read, was written by another version, or is none; or the import fails.
pub fn read(dir: &Path) -> Result<Snapshot, InventoryError> {
    Store::new(dir).load()
}

fn serve(mut store: Store, requests: &Receiver<Request>) {
    // What is still queued when the last handle goes is done before this ends.
    while let Ok(first) = requests.recv() {
        let mut changes = Vec::new();
        let mut others = Vec::new();
        for request in std::iter::once(first).chain(requests.try_iter().take(LARGEST_BATCH - 1)) {
            match request {
                Request::Write(change) => changes.push(change),
                other => others.push(other),
            }
        }
        if !changes.is_empty() {
            write(&mut store, changes);
        }
        for request in others {
            // Nobody waiting any more is no error.
            match request {
                Request::Load(reply) => drop(reply.send(store.load())),
                Request::Import(reply) => drop(reply.send(store.begin().and_then(Transaction::import))),
                Request::Write(_) => {}
            }
        }
    }
}

/// Makes several changes with one write. Nobody hears of success before it is on the disk.
fn write(store: &mut Store, changes: Vec<Change>) {
    let mut transaction = match store.begin() {
        Ok(transaction) => transaction,
        Err(error) => return changes.into_iter().for_each(|change| change.refuse(&error)),
    };
    let updated = changes.iter().filter_map(|change| match change {
        Change::Update(records, _) => Some(records),
        Change::Add(..) | Change::AddShared(..) => None,
    });
    let looked = match changes.iter().any(|change| matches!(change, Change::AddShared(..))) {
        true => transaction.know_all(),
        false => transaction.look_up(updated.flatten()),
    };
    if let Err(error) = looked {
        return changes.into_iter().for_each(|change| change.refuse(&error));
    }
    let staged: Vec<Staged> = changes.into_iter().map(|change| change.stage(&mut transaction)).collect();
    let written = transaction.write();
    for staged in staged {
        staged.answer(written.as_ref().err());
    }
    if written.is_ok() {
        transaction.finish();
    }
}

/// A change that is staged: what to answer once it is written.
enum Staged {
    Add(Added, Reply<Added>),
    AddShared(Box<Updated>, Reply<Updated>),
    Update(Vec<Updated>, Reply<Vec<Updated>>),
}

impl Change {
    fn stage(self, transaction: &mut Transaction<'_>) -> Staged {
        match self {
            Self::Add(drafts, reply) => Staged::Add(transaction.add(drafts), reply),
            Self::AddShared(draft, reply) => Staged::AddShared(transaction.add_shared(*draft).into(), reply),
            Self::Update(records, reply) => {
                Staged::Update(records.into_iter().map(|record| transaction.update(record)).collect(), reply)
            }
        }
    }

    fn refuse(self, error: &InventoryError) {
        match self {
            Self::Add(_, reply) => drop(reply.send(Err(error.clone()))),
            Self::AddShared(_, reply) => drop(reply.send(Err(error.clone()))),
            Self::Update(records, reply) => drop(reply.send(vec![Err(error.clone()); records.len()])),
        }
    }
}

impl Staged {
    /// Whoever does not wait any more does not need to know.
    fn answer(self, failed: Option<&InventoryError>) {
        let of = |result: Updated| match failed {
            Some(error) if result.is_ok() => Err(error.clone()),
            _ => result,
        };
        match self {
            Self::Add(added, reply) => {
                let failed = failed.filter(|_| added.is_ok()).cloned();
                drop(reply.send(failed.map_or(added, Err)));
            }
            Self::AddShared(added, reply) => drop(reply.send(of(*added))),
            Self::Update(updated, reply) => drop(reply.send(updated.into_iter().map(of).collect())),
        }
    }
}
