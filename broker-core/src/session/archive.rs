//! Trees as tar streams, for ways to a host that take and give these, piece by piece: no more than one piece of a file is held at a time.
//!
//! Written are GNU headers, with long names in entries of type `L` and `K`, as engines' own tar library reads them. Read
//! are those, PAX records (`path`, `linkpath`, `size`, `mtime`), and plain USTAR. Names are bytes throughout.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// The longest name or set of PAX records that is believed.
const MOST_EXTENSION: u64 = 1024 * 1024;

/// What an entry of an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of a file that came before.
    Link,
    /// A device, pipe or whatever else is no content.
    Other,
}

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, in bytes.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// What a link points to.
    pub target: Vec<u8>,
    /// The length of a file in bytes, 0 for all else.
    pub size: u64,
    /// The permission bits.
    pub mode: u32,
    /// The time of the last change, in seconds since 1970.
    pub modified: u64,
}

/// Whose files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ownership {
    /// The user's number.
    pub user: u64,
    /// The group's number.
    pub group: u64,
}

/// The header of an entry, with what long names need before it. The contents and [`padding`] come behind it.
pub fn header(entry: &Entry, owner: Ownership) -> Bytes {
    let mut out = Vec::with_capacity(BLOCK);
    long(&mut out, EntryType::GNULongName, &entry.path);
    long(&mut out, EntryType::GNULongLink, &entry.target);
    let mut header = Header::new_gnu();
    header.set_entry_type(match entry.kind {
        Kind::File | Kind::Other => EntryType::Regular,
        Kind::Directory => EntryType::Directory,
        Kind::Symlink => EntryType::Symlink,
        Kind::Link => EntryType::Link,
    });
    put(&mut header.as_old_mut().name, &entry.path);
    put(&mut header.as_old_mut().linkname, &entry.target);
    header.set_size(if entry.kind == Kind::File { entry.size } else { 0 });
    header.set_mode(entry.mode & 0o7777);
    header.set_mtime(entry.modified);
    header.set_uid(owner.user);
    header.set_gid(owner.group);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.into()
}

/// An entry that says the name of the next one, where that has no room for it.
fn long(out: &mut Vec<u8>, kind: EntryType, name: &[u8]) {
    if name.len() <= 100 {
        return;
    }
    let size = name.len() as u64 + 1;
    let mut header = Header::new_gnu();
    put(&mut header.as_old_mut().name, b"././@LongLink");
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(name);
    out.push(0);
    out.extend_from_slice(&padding(size));
}

fn put(field: &mut [u8; 100], bytes: &[u8]) {
    for (place, byte) in field.iter_mut().zip(bytes) {
        *place = *byte;
    }
}

/// What fills the last block of a file of this size.
pub fn padding(size: u64) -> Bytes {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    Bytes::from_static(ZEROS.get(over..).filter(|_| over > 0).unwrap_or_default())
}

/// The end of an archive.
pub fn end() -> Bytes {
    static ZEROS: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
    Bytes::from_static(&ZEROS)
}

/// An archive that is read as it comes.
pub struct Reader<S> {
    stream: S,
    buffer: BytesMut,
    /// How much of the present entry's contents is still to come, and of what fills its last block.
    left: u64,
    fill: u64,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Reader<S> {
    /// Reads the archive that a stream brings.
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new(), left: 0, fill: 0 }
    }

    /// Waits until something is in the buffer; whether there is.
    async fn some(&mut self) -> io::Result<bool> {
        while self.buffer.is_empty() {
            match self.stream.next().await {
                Some(piece) => self.buffer = piece?.into(),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            if !self.some().await? {
                return if filled == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let size = self.buffer.len().min(BLOCK - filled);
            if let Some(place) = block.get_mut(filled..filled + size) {
                self.buffer.copy_to_slice(place);
            }
            filled += size;
        }
        Ok(Some(block))
    }

    /// The next piece of the present entry's contents; nothing at their end.
    ///
    /// # Errors
    ///
    /// The stream's, and where it ends too early.
    pub async fn data(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        if !self.some().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.buffer.len());
        self.left -= size as u64;
        Ok(Some(self.buffer.split_to(size).freeze()))
    }

    async fn skip(&mut self) -> io::Result<()> {
        self.left += std::mem::take(&mut self.fill);
        while self.data().await?.is_some() {}
        Ok(())
    }

    /// The contents of an entry that belongs to the next one.
    async fn extension(&mut self) -> io::Result<Vec<u8>> {
        if self.left > MOST_EXTENSION {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the archive has a name of more than a megabyte"));
        }
        let mut all = Vec::new();
        while let Some(piece) = self.data().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// The next entry, past what is left of the present one; nothing at the end.
    ///
    /// # Errors
    ///
    /// The stream's, and where what it brings is no archive.
    pub async fn entry(&mut self) -> io::Result<Option<Entry>> {
        let mut long_path = None;
        let mut long_target = None;
        let mut long_size = None;
        let mut modified = None;
        loop {
            self.skip().await?;
            let Some(block) = self.block().await? else { return Ok(None) };
            if block.iter().all(|byte| *byte == 0) {
                // Whoever sends the archive may send more zeros, and waits until somebody takes them.
                while self.some().await? {
                    self.buffer.clear();
                }
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            check(header)?;
            self.left = header.entry_size()?;
            self.fill = self.left.next_multiple_of(BLOCK as u64) - self.left;
            match header.entry_type() {
                EntryType::GNULongName => long_path = Some(until_zero(self.extension().await?)),
                EntryType::GNULongLink => long_target = Some(until_zero(self.extension().await?)),
                EntryType::XHeader => {
                    for (key, value) in records(&self.extension().await?) {
                        match key.as_slice() {
                            b"path" => long_path = Some(value),
                            b"linkpath" => long_target = Some(value),
                            b"size" => long_size = number(&value),
                            b"mtime" => modified = number(&value),
                            _ => {}
                        }
                    }
                }
                EntryType::XGlobalHeader => {}
                kind => {
                    if let Some(size) = long_size {
                        self.left = size;
                        self.fill = size.next_multiple_of(BLOCK as u64) - size;
                    }
                    let kind = match kind {
                        EntryType::Regular | EntryType::Continuous => Kind::File,
                        EntryType::Directory => Kind::Directory,
                        EntryType::Symlink => Kind::Symlink,
                        EntryType::Link => Kind::Link,
                        _ => Kind::Other,
                    };
                    return Ok(Some(Entry {
                        path: long_path.unwrap_or_else(|| header.path_bytes().into_owned()),
                        kind,
                        target: long_target
                            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                            .unwrap_or_default(),
                        size: if kind == Kind::File { self.left } else { 0 },
                        mode: header.mode()? & 0o7777,
                        modified: modified.or_else(|| header.mtime().ok()).unwrap_or_default(),
                    }));
                }
            }
        }
    }
}

fn check(header: &Header) -> io::Result<()> {
    let field = 148..156;
    let sum: u32 = header
        .as_bytes()
        .iter()
        .enumerate()
        .map(|(place, byte)| if field.contains(&place) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    if header.cksum()? == sum {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the archive is damaged"))
    }
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// PAX records: `LENGTH KEY=VALUE\n`, the length counting all of it. Stops at the first that is damaged.
fn records(mut bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
        let length = bytes.get(..space).and_then(number).and_then(|length| usize::try_from(length).ok());
        let Some(record) = length.and_then(|length| bytes.get(space + 1..length)) else { break };
        let Some((b'\n', record)) = record.split_last() else { break };
        let Some(equals) = record.iter().position(|byte| *byte == b'=') else { break };
        let (key, value) = record.split_at(equals);
        found.push((key.to_vec(), value.get(1..).unwrap_or_default().to_vec()));
        bytes = length.and_then(|length| bytes.get(length..)).unwrap_or_default();
    }
    found
}

/// The whole part of a number that is not negative.
fn number(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.split('.').next()?.parse().ok()
}

/// A path in an archive without what its writers put around it: `./`, slashes at both ends.
#[must_use]
pub fn normal(path: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    parts.join(&b'/')
}

/// A path below a root; nothing for what is outside of it, which no honest archive has.
#[must_use]
pub fn below(root: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    if path.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return None;
    }
    if root.is_empty() || path == root {
        return Some(path.get(root.len()..).unwrap_or_default().to_vec());
    }
    path.strip_prefix(root)?.strip_prefix(b"/").map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[u8], kind: Kind, target: &[u8], size: u64) -> Entry {
        Entry { path: path.to_vec(), kind, target: target.to_vec(), size, mode: 0o640, modified: 1_000_000_000 }
    }

    /// Reads an archive that comes in pieces of a size.
    async fn read(bytes: Vec<u8>, piece: usize) -> io::Result<Vec<(Entry, Vec<u8>)>> {
        let pieces: Vec<io::Result<Bytes>> =
            bytes.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut reader = Reader::new(futures_util::stream::iter(pieces));
        let mut found = Vec::new();
        while let Some(entry) = reader.entry().await? {
            let mut contents = Vec::new();
            while let Some(piece) = reader.data().await? {
                contents.extend_from_slice(&piece);
            }
            found.push((entry, contents));
        }
        Ok(found)
    }

    fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (entry, contents) in entries {
            out.extend_from_slice(&header(entry, Ownership::default()));
            out.extend_from_slice(contents);
            out.extend_from_slice(&padding(contents.len() as u64));
        }
        out.extend_from_slice(&end());
        out
    }

    #[tokio::test]
    async fn what_is_written_is_read_in_pieces_of_any_size() {
        let long = [b"d/".as_slice(), &[b'x'; 300], b"\xff"].concat();
        let entries = vec![
            (entry(b"d", Kind::Directory, b"", 0), Vec::new()),
            (entry(b"d/a\xffb", Kind::File, b"", 3), b"abc".to_vec()),
            (entry(b"d/empty", Kind::File, b"", 0), Vec::new()),
            (entry(b"d/block", Kind::File, b"", 512), vec![7; 512]),
            (entry(&long, Kind::File, b"", 1000), vec![9; 1000]),
            (entry(b"d/l", Kind::Symlink, &long, 0), Vec::new()),
            (entry(b"d/h", Kind::Link, b"d/block", 0), Vec::new()),
        ];
        for piece in [1, 7, 511, 512, 513, 100_000] {
            assert_eq!(read(write(&entries), piece).await.unwrap(), entries, "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn the_tar_crate_reads_the_same() {
        let long = [b"d/".as_slice(), &[b'x'; 300]].concat();
        let bytes = write(&[(entry(&long, Kind::File, b"", 3), b"abc".to_vec())]);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let found = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(found.path_bytes().as_ref(), long);
        assert_eq!((found.size(), found.header().mtime().unwrap()), (3, 1_000_000_000));
    }

    #[tokio::test]
    async fn pax_records_win_over_the_header() {
        let record = |key: &str, value: &[u8]| {
            let rest = key.len() + value.len() + 3;
            let length = (1..4).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
            [format!("{} {key}=", length.unwrap()).as_bytes(), value, b"\n"].concat()
        };
        let pax = [record("path", b"p/\xfe"), record("mtime", b"12.75"), record("SCHILY.xattr.x", b"a\nb=c")].concat();
        let mut header_of_pax = Header::new_ustar();
        header_of_pax.set_entry_type(EntryType::XHeader);
        header_of_pax.set_size(pax.len() as u64);
        header_of_pax.set_cksum();
        let mut bytes = header_of_pax.as_bytes().to_vec();
        bytes.extend_from_slice(&pax);
        bytes.extend_from_slice(&padding(pax.len() as u64));
        bytes.extend(write(&[(entry(b"short", Kind::File, b"", 2), b"hi".to_vec())]));
        let found = read(bytes, 100).await.unwrap();
        assert_eq!(found[0].0.path, b"p/\xfe");
        assert_eq!((found[0].0.modified, found[0].1.as_slice()), (12, b"hi".as_slice()));
    }

    #[tokio::test]
    async fn damage_is_an_error() {
        let whole = write(&[(entry(b"a", Kind::File, b"", 1000), vec![1; 1000])]);
        for cut in [100, 512, 600, 1500] {
            let outcome = read(whole.get(..cut).unwrap().to_vec(), 64).await;
            assert!(outcome.is_err(), "cut at {cut}");
        }
        let mut flipped = whole.clone();
        flipped[0] ^= 1;
        assert!(read(flipped, 64).await.is_err());
        assert!(read(vec![b'x'; 2048], 64).await.is_err());
    }

    #[test]
    fn paths_in_archives() {
        for (path, wanted) in [("./a/b/", "a/b"), ("/", ""), ("/x", "x"), ("a//b", "a/b"), (".", "")] {
            assert_eq!(normal(path.as_bytes()), wanted.as_bytes(), "{path}");
        }
        for (root, path, wanted) in [
            ("d", "d", Some("")),
            ("d", "d/x/y", Some("x/y")),
            ("", "bin", Some("bin")),
            ("d", "dx", None),
            ("d", "d/../../x", None),
        ] {
            assert_eq!(below(root.as_bytes(), path.as_bytes()), wanted.map(|text| text.as_bytes().to_vec()), "{path}");
        }
    }
}
