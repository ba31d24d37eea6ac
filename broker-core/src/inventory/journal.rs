//! The format of `inventory.jsonl`, and what its lines add up to. No input and output here.
//!
//! The first line is the [`Header`]. Each further line is the whole record of one host, with two numbers that spare a
//! checkout the rest of the file: `high`, the highest number given so far, and `live`, how many hosts there are after
//! this line. The last line of an id wins. A line counts once its newline is there, so that every prefix of the file is
//! a journal.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::details;
use super::record::{Fields, Line};
use super::{HostRecord, HostState, InventoryError, Secrets};
use crate::id::HostId;

const VERSION: u64 = 1;

/// Compaction is not worth it below this many dead lines.
const FEWEST_DEAD: u64 = 64;

/// Numbers start over when the inventory has been empty for this long.
const FORGET_NUMBERS_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// What every journal begins with, however little of its first line is there.
const BEGINNING: &[u8] = b"{\"broker_inventory\":1";

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    broker_inventory: u64,
    /// The highest number given before the lines that follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    high: Option<u64>,
    /// When the last line before the lines that follow was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    /// The Python tool's inventory as it was when it was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) imported: Option<Stamp>,
}

/// Tells one state of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) bytes: u64,
    /// The time of the last change, as `seconds.nanoseconds`.
    pub(super) modified: String,
}

impl Header {
    pub(super) fn new(imported: Option<Stamp>) -> Self {
        Self { broker_inventory: VERSION, high: None, at: None, imported }
    }

    /// Reads the first line, without its newline.
    pub(super) fn parse(path: &Path, line: &[u8]) -> Result<Self, InventoryError> {
        let not_an_inventory = || InventoryError::NotAnInventory { path: path.to_owned() };
        let map: Map<String, Value> = serde_json::from_slice(line).map_err(|_| not_an_inventory())?;
        let version = map.get("broker_inventory").ok_or_else(not_an_inventory)?;
        if version.as_u64() != Some(VERSION) {
            let found = version.to_string();
            return Err(InventoryError::Version { path: path.to_owned(), found, known: VERSION });
        }
        Self::deserialize(Value::Object(map)).map_err(|_| not_an_inventory())
    }

    fn line(&self) -> String {
        let mut line = format!("{{\"broker_inventory\":{}", self.broker_inventory);
        for (key, value) in [("high", json!(self.high)), ("at", json!(self.at)), ("imported", json!(self.imported))] {
            if !value.is_null() {
                line.push_str(&format!(",\"{key}\":{value}"));
            }
        }
        line.push_str("}\n");
        line
    }
}

/// Reads the first line of a text, and tells how long it is with its newline. `None` for what an unfinished first line
/// leaves: that is as good as no file.
pub(super) fn split_header(path: &Path, text: &[u8]) -> Result<Option<(Header, usize)>, InventoryError> {
    match first_line_end(text) {
        Some(end) => Ok(Some((Header::parse(path, text.get(..end - 1).unwrap_or_default())?, end))),
        None if text.starts_with(BEGINNING) || BEGINNING.starts_with(text) => Ok(None),
        None => Err(InventoryError::NotAnInventory { path: path.to_owned() }),
    }
}

/// A line that cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Damaged {
    /// Counts from 1, the header being the first.
    line: u64,
    text: Vec<u8>,
}

/// What the lines of a journal, or its last lines, add up to.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) header: Header,
    /// Whether all lines have been read, and not just the last ones.
    pub(super) whole: bool,
    /// The last line of each host that was read; `None` where it says that the host is gone.
    records: HashMap<HostId, Option<Arc<HostRecord>>>,
    high: Option<u64>,
    live: u64,
    last_at: Option<Timestamp>,
    /// How many lines were read, the header not counted.
    lines: u64,
    damaged: Vec<Damaged>,
}

/// A line that can be read: the record, `high` and `live`.
fn parse_line(text: &[u8]) -> Option<(HostRecord, u64, u64)> {
    let Line { record, high, live } = Line::parse(std::str::from_utf8(text).ok()?).ok()?;
    Some((record, high?, live?))
}

/// The id of a line that begins as [`write_line`] has it. Much cheaper than to read the line.
fn id_of(text: &[u8]) -> Option<HostId> {
    let (id, rest) = text.strip_prefix(b"{\"id\":\"")?.split_at_checked(32)?;
    if !rest.starts_with(b"\",\"rev\":") || !rest.ends_with(b"}") {
        return None;
    }
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// Where the first line of a text ends, its newline included.
pub(super) fn first_line_end(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == b'\n').map(|newline| newline + 1)
}

/// The complete lines of a text.
pub(super) fn complete(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    text.get(..end).unwrap_or_default()
}

/// The lines of a text that ends with a newline or is empty.
fn lines(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while !text.is_empty() {
        let (whole, mut rest) = (text, text);
        // Several times as fast as to split at each newline. It cannot fail on a slice.
        let length = rest.skip_until(b'\n').unwrap_or(whole.len());
        lines.push(whole.get(..length.saturating_sub(1)).unwrap_or_default());
        text = rest;
    }
    lines
}

impl Contents {
    /// Reads a whole journal, and tells how many bytes its complete lines take. `None` without a complete first line.
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Option<(Self, usize)>, InventoryError> {
        let Some((header, begin)) = split_header(path, text)? else { return Ok(None) };
        let mut contents = Self::new(header, true);
        let text = complete(text);
        contents.absorb(text.get(begin..).unwrap_or_default());
        Ok(Some((contents, text.len())))
    }

    pub(super) fn new(header: Header, whole: bool) -> Self {
        let (high, last_at) = (header.high, header.at);
        let (records, damaged) = (HashMap::new(), Vec::new());
        Self { header, whole, records, high, live: 0, last_at, lines: 0, damaged }
    }

    /// Reads lines that follow those read so far. `text` holds complete lines.
    pub(super) fn absorb(&mut self, text: &[u8]) {
        let mut newest = self.newest();
        newest.take(text);
        newest.finish();
    }

    /// Begins to read lines that follow those read so far, the last ones first.
    pub(super) fn newest(&mut self) -> Newest<'_> {
        Newest {
            contents: self,
            seen: HashSet::new(),
            last: None,
            highest: None,
            lines: 0,
            damaged: Vec::new(),
            numbers_lost: 0,
        }
    }

    /// Reads as little as tells where the journal stands: the last line that can be read, and what follows it. `false`
    /// if there is none; then `text` has to reach further back, unless it begins right after the header.
    pub(super) fn absorb_tail(&mut self, text: &[u8], from_the_beginning: bool) -> bool {
        let mut start = text.len();
        for line in lines(text).into_iter().rev() {
            start = start.saturating_sub(line.len() + 1);
            if parse_line(line).is_some() {
                self.absorb(text.get(start..).unwrap_or_default());
                return true;
            }
        }
        if from_the_beginning {
            self.absorb(text);
        }
        from_the_beginning
    }

    /// Adds hosts: fills in their numbers, `rev` and `at`, and appends their lines to `out`. All or none.
    pub(super) fn add(
        &mut self,
        mut drafts: Vec<HostRecord>,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<Vec<HostRecord>, InventoryError> {
        let mut ids = HashSet::new();
        for draft in &drafts {
            if self.records.contains_key(&draft.id) || !ids.insert(draft.id) {
                return Err(InventoryError::Duplicate { id: draft.id });
            }
        }
        if self.live == 0
            && self.damaged.is_empty()
            && self.last_at.is_some_and(|at| now.duration_since(at) > FORGET_NUMBERS_AFTER)
        {
            self.high = None;
        }
        for draft in &mut drafts {
            draft.number = self.high.map_or(0, |high| high.saturating_add(1));
            draft.rev = 1;
            draft.at = now;
            self.high = Some(draft.number);
            self.push(draft, out);
        }
        Ok(drafts)
    }

    /// As [`add`](Self::add), for one shared host, unless there is one of the same name: that is the conflict then.
    /// All lines must have been read.
    pub(super) fn add_shared(
        &mut self,
        draft: HostRecord,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<HostRecord, InventoryError> {
        let name = |record: &HostRecord| record.shared.as_ref().map(|shared| shared.name.clone());
        let wanted = name(&draft);
        let current = self.records.values().flatten().find(|record| wanted.is_some() && name(record) == wanted);
        if let Some(current) = current {
            return Err(InventoryError::Conflict { current: Box::new(HostRecord::clone(current)) });
        }
        let id = draft.id;
        self.add(vec![draft], now, out)?.pop().ok_or(InventoryError::Missing { id })
    }

    /// Whether a line of this host has been read, or all lines have.
    pub(super) fn knows(&self, id: HostId) -> bool {
        self.whole || self.records.contains_key(&id)
    }

    /// Changes a host: fills in its next `rev` and `at`, and appends its line to `out`.
    pub(super) fn update(
        &mut self,
        mut record: HostRecord,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<HostRecord, InventoryError> {
        let Some(current) = self.records.get(&record.id).and_then(Option::as_ref) else {
            return Err(InventoryError::Missing { id: record.id });
        };
        if current.rev != record.rev {
            return Err(InventoryError::Conflict { current: Box::new(HostRecord::clone(current)) });
        }
        record.number = current.number;
        record.rev = current.rev.saturating_add(1);
        record.at = now;
        self.push(&record, out);
        Ok(record)
    }

    fn push(&mut self, record: &HostRecord, out: &mut Vec<u8>) {
        let now = (record.state != HostState::Gone).then(|| Arc::new(record.clone()));
        let is_there = now.is_some();
        let was_there = self.records.insert(record.id, now).flatten().is_some();
        self.live = (self.live + u64::from(is_there)).saturating_sub(u64::from(was_there));
        self.last_at = Some(record.at);
        self.lines += 1;
        write_line(record, self.high.unwrap_or(record.number), self.live, out);
    }

    /// Whether dead lines outnumber the living.
    pub(super) fn wants_compaction(&self) -> bool {
        let dead = self.lines.saturating_sub(self.live);
        self.whole && dead >= FEWEST_DEAD && dead > self.live
    }

    /// The whole journal without its dead lines, as text.
    pub(super) fn compact_text(&self) -> Vec<u8> {
        let header = Header { high: self.high, at: self.last_at, ..self.header.clone() };
        let mut text = header.line().into_bytes();
        for (index, record) in self.living().iter().enumerate() {
            write_line(record, self.high.unwrap_or(record.number), index as u64 + 1, &mut text);
        }
        text
    }

    /// What the journal adds up to once [`compact_text`](Self::compact_text) has taken its place.
    pub(super) fn forget_dead(&mut self) {
        (self.header.high, self.header.at) = (self.high, self.last_at);
        self.records.retain(|_, record| record.is_some());
        self.lines = self.live;
        self.damaged.clear();
    }

    /// How many lines were read, the header not counted.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// The hosts that are not gone, by number.
    pub(super) fn living(&self) -> Vec<Arc<HostRecord>> {
        let mut living: Vec<_> = self.records.values().flatten().cloned().collect();
        living.sort_unstable_by_key(|record| (record.number, record.id));
        living
    }

    /// The lines that cannot be read.
    pub(super) fn damaged(&self) -> impl Iterator<Item = &[u8]> {
        self.damaged.iter().map(|damaged| damaged.text.as_slice())
    }

    /// What there is to say about lines that cannot be read.
    pub(super) fn damage_report(&self, path: &Path) -> Option<String> {
        let (first, path) = (self.damaged.first()?.line, path.display());
        let what = match self.damaged.len() {
            1 => format!("line {first} of `{path}` is damaged and left out"),
            count => format!("{count} lines of `{path}` are damaged and left out, the first is line {first}"),
        };
        Some(format!("{what}; `broker inventory --sync PROVIDER` finds hosts that nothing else knows of"))
    }
}

/// Reads lines from the last one back to the first, so that only the newest line of each host has to be understood.
pub(super) struct Newest<'a> {
    contents: &'a mut Contents,
    seen: HashSet<HostId>,
    /// What the last line that can be read says: `high`, `live` and its time.
    last: Option<(u64, u64, Timestamp)>,
    /// The highest number of a host that is there.
    highest: Option<u64>,
    lines: u64,
    /// Their lines count from the end.
    damaged: Vec<Damaged>,
    /// How many lines that cannot be read come after the last one that can.
    numbers_lost: u64,
}

impl Newest<'_> {
    /// Reads the lines before those taken so far. `text` holds complete lines.
    pub(super) fn take(&mut self, text: &[u8]) {
        for line in lines(text).into_iter().rev() {
            self.lines += 1;
            if line.is_empty() || id_of(line).is_some_and(|id| self.seen.contains(&id)) {
                continue;
            }
            let Some((record, high, live)) = parse_line(line) else {
                self.numbers_lost += u64::from(self.last.is_none());
                self.damaged.push(Damaged { line: self.lines, text: line.to_vec() });
                continue;
            };
            if self.last.is_none() {
                self.last = Some((high, live, record.at));
            }
            if self.seen.insert(record.id) {
                self.add(record);
            }
        }
    }

    fn add(&mut self, record: HostRecord) {
        let id = record.id;
        let now = (record.state != HostState::Gone).then(|| Arc::new(record));
        self.highest = self.highest.max(now.as_ref().map(|record| record.number));
        let contents = &mut *self.contents;
        let is_there = now.is_some();
        let was_there = contents.records.insert(id, now).flatten().is_some();
        if contents.whole {
            contents.live = contents.live + u64::from(is_there) - u64::from(was_there);
        }
    }

    /// Adds what the lines say together to what was known before them.
    pub(super) fn finish(self) {
        let Self { contents, last, highest, lines, mut damaged, numbers_lost, .. } = self;
        if let Some((high, live, at)) = last {
            contents.high = Some(high);
            contents.last_at = Some(at);
            if !contents.whole {
                contents.live = live;
            }
        }
        // A line that cannot be read may have given a number away.
        if numbers_lost > 0 {
            contents.high = Some(contents.high.map_or(numbers_lost - 1, |high| high.saturating_add(numbers_lost)));
        }
        contents.high = contents.high.max(highest);
        damaged.reverse();
        // The header is the first line.
        let behind_last = contents.lines + lines + 2;
        damaged.iter_mut().for_each(|damaged| damaged.line = behind_last - damaged.line);
        contents.damaged.extend(damaged);
        contents.lines += lines;
    }
}

/// The order of the fields is part of what [`id_of`] rests on. The details come together, so that whoever reads the line
/// keeps no more of it than these; the time comes last, so that the last bytes of a journal differ from those of any
/// other.
fn write_line(record: &HostRecord, high: u64, live: u64, out: &mut Vec<u8>) {
    struct Text<'a> {
        out: &'a mut Vec<u8>,
        details: bool,
    }

    impl Text<'_> {
        fn write<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) {
            let before = self.out.len();
            self.out.push(if before == 0 || self.out.ends_with(b"\n") { b'{' } else { b',' });
            let written = serde_json::to_writer(&mut *self.out, key).and_then(|()| {
                self.out.push(b':');
                serde_json::to_writer(&mut *self.out, value)
            });
            // It cannot fail: the keys of all that is in a record are texts, and there is room in memory.
            if written.is_err() {
                self.out.truncate(before);
            }
        }
    }

    impl Fields for Text<'_> {
        type Error = Infallible;

        fn put<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Infallible> {
            if details::is_detail(key) == self.details && !["id", "rev", "at"].contains(&key) {
                self.write(key, value);
            }
            Ok(())
        }
    }

    let details = record.details.glance();
    let mut line = Text { out, details: false };
    line.write("id", &record.id);
    line.write("rev", &record.rev);
    line.write("high", &high);
    line.write("live", &live);
    let Ok(()) = record.put_fields(&details, Secrets::Shown, &mut line);
    line.details = true;
    let Ok(()) = record.put_fields(&details, Secrets::Shown, &mut line);
    line.write("at", &record.at);
    out.extend_from_slice(b"}\n");
}
