//! The journal on disk: who may write when, and in which order, so that a death between any two steps loses nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::import::{self, Imported};
use super::journal::{self, Contents, Header};
use super::lock::Lock;
use super::{HostRecord, InventoryError, Snapshot};

pub(crate) const JOURNAL: &str = "inventory.jsonl";
pub(crate) const LOCK: &str = "inventory.lock";
pub(crate) const DAMAGED: &str = "inventory.damaged.jsonl";
/// A file that is replaced is written here first. What a killed process leaves is overwritten.
const NEXT: &str = "inventory.jsonl.new";

/// How many bytes are read at first from the end of a journal.
const TAIL: u64 = 16 * 1024;
/// How many bytes of a journal are read at once.
const PIECE: u64 = 256 * 1024;
/// How many bytes before the offset are compared to tell whether the file is still the one that was read.
const FINGERPRINT: usize = 256;

/// One handle's view of the journal of a directory.
pub(super) struct Store {
    dir: PathBuf,
    clock: Box<dyn Fn() -> Timestamp + Send>,
    known: Option<Known>,
    /// After a compaction that failed, the next one waits for this many lines.
    compact_from: u64,
}

/// What has been read, and from where to read on.
struct Known {
    /// Held open so that its inode is given to no other file.
    file: File,
    offset: u64,
    /// The last bytes before `offset`.
    fingerprint: Vec<u8>,
    contents: Contents,
}

/// What the file is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// How much of the journal somebody needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Enough to add to it.
    Tail,
    /// Every host.
    Whole,
}

impl Known {
    /// Reads a journal. `None` where not even its first line is complete.
    fn read(file: File, path: &Path, need: Need) -> Result<Option<Self>, InventoryError> {
        match need {
            Need::Whole => Self::read_whole(file, path, PIECE),
            Need::Tail => Self::read_tail(file, path),
        }
    }

    /// Reads it piece by piece from its end, so that its text is never in memory as a whole.
    fn read_whole(file: File, path: &Path, piece: u64) -> Result<Option<Self>, InventoryError> {
        let failed = |error| InventoryError::read(path, error);
        let Some((header, length, begin)) = read_header(&file, path)? else { return Ok(None) };
        let mut known = Self { file, offset: begin, fingerprint: Vec::new(), contents: Contents::new(header, true) };
        let mut newest = known.contents.newest();
        let mut last_bytes = None;
        let (mut end, mut reach) = (length, piece);
        while end > begin {
            let from = end.saturating_sub(reach).max(begin);
            let mut text = read_range(&known.file, from, end).map_err(failed)?;
            // The line that a piece begins in belongs to the piece before it.
            let skipped = if from == begin { Some(0) } else { journal::first_line_end(&text) };
            let Some(skipped) = skipped.filter(|skipped| from + (*skipped as u64) < end) else {
                reach *= 4;
                continue;
            };
            let stop = journal::complete(&text).len();
            newest.take(text.get(skipped..stop).unwrap_or_default());
            if last_bytes.is_none() {
                text.truncate(stop);
                last_bytes = Some((from, text));
            }
            (end, reach) = (from + skipped as u64, piece);
        }
        newest.finish();
        if let Some((from, text)) = last_bytes {
            known.offset = from;
            known.advance(&text);
        }
        Ok(Some(known))
    }

    /// Reads the first line and the last, however much there is in between.
    fn read_tail(file: File, path: &Path) -> Result<Option<Self>, InventoryError> {
        let failed = |error| InventoryError::read(path, error);
        let Some((header, length, begin)) = read_header(&file, path)? else { return Ok(None) };
        let mut known = Self { file, offset: begin, fingerprint: Vec::new(), contents: Contents::new(header, false) };
        let mut reach = TAIL;
        loop {
            let from = length.saturating_sub(reach).max(begin);
            let text = read_range(&known.file, from, length).map_err(failed)?;
            let lines = journal::complete(&text);
            if known.contents.absorb_tail(lines, from == begin) {
                known.offset = from;
                known.advance(lines);
                return Ok(Some(known));
            }
            reach *= 4;
        }
    }

    /// Reads what came since, if `file` is still the file that was read.
    fn read_on(&mut self, file: &File, path: &Path) -> Result<bool, InventoryError> {
        let failed = |error| InventoryError::read(path, error);
        let (old, new) = (self.file.metadata().map_err(failed)?, file.metadata().map_err(failed)?);
        if (old.dev(), old.ino()) != (new.dev(), new.ino()) || new.len() < self.offset {
            return Ok(false);
        }
        // A writer that fails cuts its lines off again, and others may have followed.
        let before = self.offset - self.fingerprint.len() as u64;
        if read_range(file, before, self.offset).map_err(failed)? != self.fingerprint {
            return Ok(false);
        }
        let text = read_range(file, self.offset, new.len()).map_err(failed)?;
        let lines = journal::complete(&text);
        self.contents.absorb(lines);
        self.advance(lines);
        Ok(true)
    }

    fn advance(&mut self, lines: &[u8]) {
        self.offset += lines.len() as u64;
        let news = lines.get(lines.len().saturating_sub(FINGERPRINT)..).unwrap_or_default();
        self.fingerprint.extend_from_slice(news);
        let surplus = self.fingerprint.len().saturating_sub(FINGERPRINT);
        self.fingerprint.drain(..surplus);
    }
}

impl Store {
    pub(super) fn new(dir: &Path) -> Self {
        Self::with_clock(dir, Timestamp::now)
    }

    pub(super) fn with_clock(dir: &Path, clock: impl Fn() -> Timestamp + Send + 'static) -> Self {
        Self { dir: dir.to_owned(), clock: Box::new(clock), known: None, compact_from: 0 }
    }

    fn journal(&self) -> PathBuf {
        self.dir.join(JOURNAL)
    }

    /// All hosts. Takes no lock, and writes nothing, except where the Python tool's inventory is to be imported first.
    pub(super) fn load(&mut self) -> Result<Snapshot, InventoryError> {
        if self.refresh(Need::Whole, Access::Read)? {
            return Ok(self.snapshot());
        }
        if import::is_there(&self.dir) {
            self.begin()?.finish();
            self.refresh(Need::Whole, Access::Read)?;
            return Ok(self.snapshot());
        }
        Ok(Snapshot::default())
    }

    fn snapshot(&self) -> Snapshot {
        let Some(known) = &self.known else { return Snapshot::default() };
        let mut warnings = Vec::new();
        warnings.extend(known.contents.damage_report(&self.journal()));
        warnings.extend(import::report(&self.dir, known.contents.header.imported.as_ref()));
        Snapshot { records: known.contents.living(), warnings }
    }

    /// Brings `known` up to date. `false` where there is no journal.
    fn refresh(&mut self, need: Need, access: Access) -> Result<bool, InventoryError> {
        let path = self.journal();
        let file = match OpenOptions::new().read(true).write(access == Access::Write).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.known = None;
                return Ok(false);
            }
            Err(error) if access == Access::Write => return Err(InventoryError::write(&path, error)),
            Err(error) => return Err(InventoryError::read(&path, error)),
        };
        // Out of `self` while it changes, so that a failure leaves nothing half-read behind.
        if let Some(mut known) = self.known.take()
            && (known.contents.whole || need == Need::Tail)
            && known.read_on(&file, &path)?
        {
            known.file = file;
            self.known = Some(known);
            return Ok(true);
        }
        self.known = Known::read(file, &path, need)?;
        Ok(self.known.is_some())
    }

    /// Takes the lock and reads what came since. Makes the directory and the journal where there are none.
    pub(super) fn begin(&mut self) -> Result<Transaction<'_>, InventoryError> {
        let dir = &self.dir;
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| InventoryError::write(dir, error))?;
        let lock = dir.join(LOCK);
        let lock = Lock::acquire(&lock).map_err(|error| InventoryError::write(&lock, error))?;
        if !self.refresh(Need::Tail, Access::Write)? {
            self.create()?;
            self.refresh(Need::Tail, Access::Write)?;
        }
        let known = self.known.take().ok_or_else(|| InventoryError::NotAnInventory { path: self.journal() })?;
        let mut transaction = Transaction { store: self, known, lines: Vec::new(), _lock: lock };
        transaction.cut_torn_tail()?;
        Ok(transaction)
    }

    /// Begins a journal, with what the Python tool's inventory holds.
    fn create(&self) -> Result<(), InventoryError> {
        let now = (self.clock)();
        let Some(source) = import::read(&self.dir, now)? else {
            self.replace(JOURNAL, &Contents::new(Header::new(None), true).compact_text())?;
            return Ok(());
        };
        let mut contents = Contents::new(Header::new(Some(source.stamp.clone())), true);
        contents.add(source.drafts.clone(), now, &mut Vec::new())?;
        self.replace(JOURNAL, &contents.compact_text())?;
        self.keep_imported(&source);
        Ok(())
    }

    /// After the journal: a copy that is not of the import which the journal tells of counts for nothing.
    fn keep_imported(&self, source: &import::Source) {
        if let Err(error) = self.replace(import::COPY, source.copy().as_bytes()) {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot keep a copy of what was imported");
        }
    }

    /// Puts a file in the place of what is there: all or nothing, also when the machine goes down.
    fn replace(&self, name: &str, text: &[u8]) -> Result<File, InventoryError> {
        let (next, path) = (self.dir.join(NEXT), self.dir.join(name));
        let written =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&next).and_then(
                |mut file| {
                    file.write_all(text)?;
                    file.sync_all()?;
                    fs::rename(&next, &path)?;
                    Ok(file)
                },
            );
        let file = written.map_err(|error| {
            let _gone_or_overwritten_by_the_next = fs::remove_file(&next);
            InventoryError::write(&path, error)
        })?;
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| InventoryError::write(&self.dir, error))?;
        Ok(file)
    }

    /// Writes the journal anew without its dead lines. Damaged lines are kept elsewhere first.
    fn rewrite(&self, known: &mut Known) -> Result<(), InventoryError> {
        if known.contents.damaged().next().is_some() {
            self.keep_damaged(known.contents.damaged())?;
        }
        let text = known.contents.compact_text();
        known.file = self.replace(JOURNAL, &text)?;
        known.contents.forget_dead();
        (known.offset, known.fingerprint) = (0, Vec::new());
        known.advance(&text);
        Ok(())
    }

    /// Appends lines to the file of what could not be read, but for those that stand there already.
    fn keep_damaged<'a>(&self, lines: impl Iterator<Item = &'a [u8]>) -> Result<(), InventoryError> {
        let path = self.dir.join(DAMAGED);
        let mut options = OpenOptions::new();
        let kept = options
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .and_then(|file| Ok((read_range(&file, 0, u64::MAX)?, file)))
            .and_then(|(kept, mut file)| {
                let mut text = Vec::new();
                if !kept.is_empty() && !kept.ends_with(b"\n") {
                    text.push(b'\n');
                }
                for line in lines {
                    if !kept.split(|byte| *byte == b'\n').any(|kept| kept == line) {
                        text.extend_from_slice(line);
                        text.push(b'\n');
                    }
                }
                file.write_all(&text)?;
                file.sync_all()
            });
        kept.map_err(|error| InventoryError::write(&path, error))
    }
}

/// The time between the lock and its end. Changes are staged, then written together.
///
/// Dropped without [`finish`](Self::finish) it forgets what was staged and what was known.
pub(super) struct Transaction<'a> {
    store: &'a mut Store,
    known: Known,
    lines: Vec<u8>,
    _lock: Lock,
}

impl Transaction<'_> {
    /// What stands behind the last newline was never confirmed to anybody.
    fn cut_torn_tail(&mut self) -> Result<(), InventoryError> {
        let (path, offset) = (self.store.journal(), self.known.offset);
        let length = self.known.file.metadata().map_err(|error| InventoryError::read(&path, error))?.len();
        if length == offset {
            return Ok(());
        }
        let tail = read_range(&self.known.file, offset, length).map_err(|error| InventoryError::read(&path, error))?;
        tracing::warn!(path = %path.display(), bytes = tail.len(), kept_in = DAMAGED, "cutting off an unfinished line");
        self.store.keep_damaged(std::iter::once(tail.as_slice()))?;
        self.known.file.set_len(offset).map_err(|error| InventoryError::write(&path, error))
    }

    /// Stages new hosts: all of them or none.
    pub(super) fn add(&mut self, drafts: Vec<HostRecord>) -> Result<Vec<HostRecord>, InventoryError> {
        let now = (self.store.clock)();
        self.known.contents.add(drafts, now, &mut self.lines)
    }

    /// Reads the whole journal if one of these hosts has not been seen. Before anything is staged.
    pub(super) fn look_up<'a>(
        &mut self,
        mut records: impl Iterator<Item = &'a HostRecord>,
    ) -> Result<(), InventoryError> {
        if records.all(|record| self.known.contents.knows(record.id)) { Ok(()) } else { self.know_all() }
    }

    /// Stages a new shared host, unless there is one of the same name. After [`know_all`](Self::know_all).
    pub(super) fn add_shared(&mut self, draft: HostRecord) -> Result<HostRecord, InventoryError> {
        let now = (self.store.clock)();
        self.known.contents.add_shared(draft, now, &mut self.lines)
    }

    /// Reads the whole journal. Before anything is staged.
    pub(super) fn know_all(&mut self) -> Result<(), InventoryError> {
        debug_assert!(self.lines.is_empty(), "staged lines would be forgotten");
        let path = self.store.journal();
        let file = self.known.file.try_clone().map_err(|error| InventoryError::read(&path, error))?;
        if !self.known.contents.whole
            && let Some(known) = Known::read(file, &path, Need::Whole)?
        {
            self.known = known;
        }
        Ok(())
    }

    /// Stages a change of one host.
    pub(super) fn update(&mut self, record: HostRecord) -> Result<HostRecord, InventoryError> {
        let now = (self.store.clock)();
        self.known.contents.update(record, now, &mut self.lines)
    }

    /// Writes what was staged. After an error the file is as it was before, and the transaction is of no more use.
    pub(super) fn write(&mut self) -> Result<(), InventoryError> {
        let (file, from) = (&self.known.file, self.known.offset);
        if self.lines.is_empty() {
            return Ok(());
        }
        if let Err(error) = file.write_all_at(&self.lines, from).and_then(|()| file.sync_data()) {
            let path = self.store.journal();
            if let Err(error) = file.set_len(from).and_then(|()| file.sync_data()) {
                tracing::error!(path = %path.display(), %error, "cannot take back what was written in part");
            }
            return Err(InventoryError::write(&path, error));
        }
        let lines = std::mem::take(&mut self.lines);
        self.known.advance(&lines);
        Ok(())
    }

    /// Ends the transaction, after a compaction if one is due.
    pub(super) fn finish(self) {
        let Self { store, mut known, _lock: lock, .. } = self;
        let lines = known.contents.lines();
        if known.contents.wants_compaction() && lines >= store.compact_from {
            store.compact_from = 0;
            if let Err(error) = store.rewrite(&mut known) {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot compact the inventory");
                store.compact_from = lines * 2;
            }
        }
        store.known = Some(known);
        drop(lock);
    }

    /// Adds those entries of the Python tool's inventory that are not there yet, and ends the transaction.
    pub(super) fn import(mut self) -> Result<Imported, InventoryError> {
        self.know_all()?;
        let Self { store, mut known, _lock: lock, .. } = self;
        let now = (store.clock)();
        let Some(source) = import::read(&store.dir, now)? else {
            return Err(import::missing(&store.dir));
        };
        let before = import::imported_before(&store.dir, known.contents.header.imported.as_ref(), now);
        let new = import::new_ones(&known.contents.living(), before, source.drafts.clone());
        let added = known.contents.add(new, now, &mut Vec::new())?;
        known.contents.header.imported = Some(source.stamp.clone());
        // What is known of the new hosts is forgotten again: read back they are as everybody else sees them.
        store.rewrite(&mut known)?;
        store.keep_imported(&source);
        drop(lock);
        Ok(Imported { known: source.drafts.len() - added.len(), added })
    }
}

/// The first line of a journal, how long the journal is, and where its second line begins.
fn read_header(file: &File, path: &Path) -> Result<Option<(Header, u64, u64)>, InventoryError> {
    let failed = |error| InventoryError::read(path, error);
    let length = file.metadata().map_err(failed)?.len();
    let mut text = read_range(file, 0, TAIL).map_err(failed)?;
    if !text.contains(&b'\n') {
        text = read_range(file, 0, length).map_err(failed)?;
    }
    let header = journal::split_header(path, &text)?;
    Ok(header.map(|(header, begin)| (header, length, begin as u64)))
}

/// The bytes of a file from one offset up to another, or to its end.
fn read_range(mut file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len().min(to).saturating_sub(from);
    let mut text = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
    file.seek(SeekFrom::Start(from))?;
    file.take(length).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::HostId;

    #[test]
    fn pieces_of_any_size_add_up_to_the_whole() {
        let mut contents = Contents::new(Header::new(None), true);
        let mut text = contents.compact_text();
        let draft = |error: &str| -> HostRecord {
            let id = HostId::generate();
            let at = "2026-01-01T00:00:00Z";
            let fields = json!({"id": id, "number": 0, "rev": 0, "state": "active", "at": at, "error": error,
                "_broker_provider": "Test"});
            serde_json::from_value(fields).unwrap()
        };
        let now = Timestamp::now();
        let drafts = vec![draft("a"), draft(&"long ".repeat(1000)), draft("c")];
        let added = contents.add(drafts, now, &mut text).unwrap();
        text.extend_from_slice(b"damaged\n\n");
        let renamed = HostRecord { name: Some("renamed".to_owned()), ..added[0].clone() };
        contents.update(renamed, now, &mut text).unwrap();
        text.extend_from_slice(b"damaged as well\n");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(JOURNAL);
        for torn in ["", "{\"id\":", &"torn".repeat(100)] {
            let text = [text.as_slice(), torn.as_bytes()].concat();
            fs::write(&path, &text).unwrap();
            let (expected, end) = Contents::parse(&path, &text).unwrap().unwrap();
            for piece in [1, 2, 7, 64, 300, 5000, PIECE] {
                let known = Known::read_whole(File::open(&path).unwrap(), &path, piece).unwrap().unwrap();
                let (offset, contents) = (usize::try_from(known.offset).unwrap(), known.contents);
                assert_eq!(offset, end, "{piece}");
                assert!(text[..end].ends_with(&known.fingerprint) && !known.fingerprint.is_empty(), "{piece}");
                assert_eq!(format!("{:?}", contents.living()), format!("{:?}", expected.living()), "{piece}");
                assert_eq!(contents.damage_report(&path), expected.damage_report(&path), "{piece}");
                assert_eq!(contents.lines(), expected.lines(), "{piece}");
                assert!(contents.damaged().eq(expected.damaged()), "{piece}");
            }
        }
    }
}
