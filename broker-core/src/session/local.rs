//! Trees of files on this machine, as streams of [`TreeItem`]s: [`read_tree`] makes one, [`TreeWriter`] takes one.
//!
//! Everything here blocks, and belongs on a thread that may. Contents pass through in pieces, so that the memory used
//! does not depend on the size of files; what grows is a list of the directories that were made.
//!
//! A stream that is written here may come from a host that nobody should trust. Whatever it says, nothing outside the
//! target is touched: paths that are absolute or have `..` are refused, and so is everything below something that is
//! not a directory of the same stream, symbolic links above all.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use indexmap::IndexMap;
use uuid::Uuid;

use super::error::{SessionError, SessionErrorKind};
use super::tree::{EntryKind, RemotePath, TreeEntry, TreeItem};

/// How many bytes of a file make one item.
const PIECE: u64 = 256 * 1024;

/// Reads a file, a symbolic link or a directory with all that is in it, and hands it to `send` item by item.
///
/// A directory comes before what is in it, and its entries in the order of their names. Symbolic links are told of and
/// not followed. Sockets, pipes and devices inside a directory are left out with a warning in the log. When `send`
/// returns [`ControlFlow::Break`] the reading stops, which is no error.
///
/// # Errors
///
/// [`SessionErrorKind::Local`] with the [`io::Error`] as source, if anything cannot be read, if `path` itself is a
/// socket, pipe or device, or if a file gets shorter while it is read.
pub fn read_tree(path: &Path, mut send: impl FnMut(TreeItem) -> ControlFlow<()>) -> Result<(), SessionError> {
    let mut directories: Vec<(PathBuf, std::vec::IntoIter<OsString>)> = Vec::new();
    let mut next = Some(PathBuf::new());
    loop {
        if let Some(below) = next.take() {
            match read_entry(path, &below, &mut send)? {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(Some(names)) => directories.push((below, names.into_iter())),
                ControlFlow::Continue(None) => {}
            }
        }
        let Some((directory, names)) = directories.last_mut() else { return Ok(()) };
        match names.next() {
            Some(name) => next = Some(directory.join(name)),
            None => drop(directories.pop()),
        }
    }
}

/// Sends one entry, with its contents if it is a file, and returns the names in it if it is a directory.
fn read_entry(
    root: &Path,
    below: &Path,
    send: &mut impl FnMut(TreeItem) -> ControlFlow<()>,
) -> Result<ControlFlow<(), Option<Vec<OsString>>>, SessionError> {
    let path = at(root, below);
    let metadata = fs::symlink_metadata(&path).map_err(cannot("read", &path))?;
    let kind = metadata.file_type();
    let entry = |kind, metadata: &Metadata| {
        TreeItem::Entry(TreeEntry {
            path: RemotePath::from(below.as_os_str()),
            kind,
            mode: metadata.mode() & 0o7777,
            modified: u64::try_from(metadata.mtime()).unwrap_or(0),
        })
    };
    if kind.is_dir() {
        let list = || -> io::Result<Vec<OsString>> {
            fs::read_dir(&path)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
        };
        let mut names = list().map_err(cannot("read", &path))?;
        names.sort_unstable();
        return Ok(send(entry(EntryKind::Directory, &metadata)).map_continue(|()| Some(names)));
    }
    if kind.is_symlink() {
        let target = fs::read_link(&path).map_err(cannot("read", &path))?;
        let target = RemotePath::from(target.as_os_str());
        return Ok(send(entry(EntryKind::Symlink { target }, &metadata)).map_continue(|()| None));
    }
    if !kind.is_file() {
        if below.as_os_str().is_empty() {
            return Err(special(&path));
        }
        tracing::warn!("left out `{}`, which is no file, directory or symbolic link", path.display());
        return Ok(ControlFlow::Continue(None));
    }
    // What was a file a moment ago may be a link or a pipe by now: neither may be followed or waited for.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path)
        .map_err(cannot("read", &path))?;
    let metadata = file.metadata().map_err(cannot("read", &path))?;
    if !metadata.is_file() {
        return Err(special(&path));
    }
    let mut left = metadata.len();
    if send(entry(EntryKind::File { size: left }, &metadata)).is_break() {
        return Ok(ControlFlow::Break(()));
    }
    while left > 0 {
        let wanted = left.min(PIECE);
        let mut piece = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        let got = Read::by_ref(&mut file).take(wanted).read_to_end(&mut piece).map_err(cannot("read", &path))? as u64;
        if got < wanted {
            let shrunk = io::Error::new(io::ErrorKind::UnexpectedEof, "the file got shorter while it was read");
            return Err(cannot("read", &path)(shrunk));
        }
        left -= got;
        if send(TreeItem::Data(Bytes::from(piece))).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(None))
}

/// Writes a stream of items as a tree of files.
///
/// The target becomes what the first item says it is. Its missing parents are made. Files and links that exist are
/// replaced, directories are merged: one that was there keeps its mode. A directory is never replaced by something
/// else, and neither is a socket, pipe or device. A target that is a symbolic link to a directory stands for that
/// directory where the stream brings one.
///
/// Each file is written beside its place and moved there when it is whole, with its mode and time, so that an
/// interrupted stream leaves no half of one. Directories have mode 0700 until [`finish`](Self::finish). Times of
/// symbolic links are not set; other times are set where the file system takes them.
#[derive(Debug)]
pub struct TreeWriter {
    root: PathBuf,
    begun: bool,
    /// The directories of the stream so far, below the root; those that were made here with what they will be given.
    /// Nothing in the stream can replace one of them, which is why looking a parent up here is enough.
    directories: IndexMap<PathBuf, Option<Attributes>>,
    file: Option<OpenFile>,
}

#[derive(Debug, Clone, Copy)]
struct Attributes {
    mode: u32,
    modified: u64,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    place: Placed,
    left: u64,
    attributes: Attributes,
}

impl TreeWriter {
    /// A writer for one tree. Touches nothing yet.
    pub fn new(to: PathBuf) -> Self {
        // Without a trailing slash, the place beside the target can be named.
        let to: PathBuf = to.components().collect();
        let root = if to.as_os_str().is_empty() { PathBuf::from(".") } else { to };
        Self { root, begun: false, directories: IndexMap::new(), file: None }
    }

    /// Writes the next item.
    ///
    /// # Errors
    ///
    /// [`SessionErrorKind::Local`] with the [`io::Error`] as source, if it could not be written;
    /// [`SessionErrorKind::Failed`] if the stream is not a tree, or leads out of the target. The tree cannot be
    /// continued after an error.
    pub fn write(&mut self, item: TreeItem) -> Result<(), SessionError> {
        match item {
            TreeItem::Entry(entry) => self.entry(&entry),
            TreeItem::Data(piece) if piece.is_empty() => Ok(()),
            TreeItem::Data(piece) => self.data(&piece),
        }
    }

    /// Ends the tree: gives the directories their modes and times.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and if nothing was written or the last file is not whole.
    pub fn finish(mut self) -> Result<(), SessionError> {
        if let Some(file) = &self.file {
            return Err(cut_short(&file.place.to));
        }
        if !self.begun {
            return Err(broken(format!("nothing came for `{}`", self.root.display())));
        }
        // Those made last first, so that a parent's time stays and a parent that locks us out comes last.
        while let Some((below, attributes)) = self.directories.pop() {
            let Some(attributes) = attributes else { continue };
            let path = at(&self.root, &below);
            let directory = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY)
                .open(&path)
                .map_err(cannot("write", &path))?;
            give(&directory, attributes).map_err(cannot("write", &path))?;
        }
        Ok(())
    }

    fn data(&mut self, piece: &[u8]) -> Result<(), SessionError> {
        let Some(mut open) = self.file.take() else {
            return Err(broken(format!("contents came for `{}` where no file is open", self.root.display())));
        };
        let to = &open.place.to;
        open.left = open
            .left
            .checked_sub(piece.len() as u64)
            .ok_or_else(|| broken(format!("more came for `{}` than was announced", to.display())))?;
        open.file.write_all(piece).map_err(cannot("write", to))?;
        self.settle(open)
    }

    /// Puts a file that is whole in its place, and keeps another one open.
    fn settle(&mut self, open: OpenFile) -> Result<(), SessionError> {
        if open.left > 0 {
            self.file = Some(open);
            return Ok(());
        }
        give(&open.file, open.attributes).map_err(cannot("write", &open.place.to))?;
        open.place.take_place()
    }

    fn entry(&mut self, entry: &TreeEntry) -> Result<(), SessionError> {
        if let Some(file) = self.file.take() {
            return Err(cut_short(&file.place.to));
        }
        let below = inside(&entry.path)?;
        if !below.as_os_str().is_empty() {
            let parent = below.parent().unwrap_or(Path::new(""));
            if !self.directories.contains_key(parent) {
                return Err(broken(format!("`{}` is not in a directory of its tree", entry.path)));
            }
        } else if self.begun {
            return Err(broken(format!("the tree for `{}` has more than one root", self.root.display())));
        } else {
            if let Some(parent) = self.root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::create_dir_all(parent).map_err(cannot("make", parent))?;
            }
            self.begun = true;
        }

        let path = at(&self.root, &below);
        let there = match fs::symlink_metadata(&path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(cannot("write", &path)(error)),
        };
        let attributes = Attributes { mode: entry.mode & 0o7777, modified: entry.modified };
        match &entry.kind {
            EntryKind::Directory => {
                let made = self.directory(&below, &path, there.as_ref())?;
                self.directories.entry(below).or_insert(made.then_some(attributes));
                Ok(())
            }
            EntryKind::File { size } => {
                replaceable(&path, there.as_ref())?;
                let place = Placed::beside(path);
                let file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&place.temporary)
                    .map_err(cannot("write", &place.to))?;
                self.settle(OpenFile { file, place, left: *size, attributes })
            }
            EntryKind::Symlink { target } => {
                replaceable(&path, there.as_ref())?;
                let place = Placed::beside(path);
                symlink(target.as_path(), &place.temporary).map_err(cannot("write", &place.to))?;
                place.take_place()
            }
        }
    }

    /// Makes a directory, unless it is there. Returns whether it was made.
    fn directory(&self, below: &Path, path: &Path, there: Option<&Metadata>) -> Result<bool, SessionError> {
        if let Some(there) = there {
            let link_to_directory = || there.is_symlink() && fs::metadata(path).is_ok_and(|target| target.is_dir());
            if there.is_dir() || below.as_os_str().is_empty() && link_to_directory() {
                return Ok(false);
            }
            replaceable(path, Some(there))?;
            fs::remove_file(path).map_err(cannot("replace", path))?;
        }
        DirBuilder::new().mode(0o700).create(path).map_err(cannot("make", path))?;
        Ok(true)
    }
}

/// Something that is written beside its place, and goes away unless it gets there.
#[derive(Debug)]
struct Placed {
    temporary: PathBuf,
    to: PathBuf,
}

impl Placed {
    fn beside(to: PathBuf) -> Self {
        Self { temporary: to.with_file_name(format!(".broker-{}", Uuid::now_v7().simple())), to }
    }

    fn take_place(self) -> Result<(), SessionError> {
        fs::rename(&self.temporary, &self.to).map_err(cannot("write", &self.to))
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // Nothing is there after the move, nor where the file could not be made.
        fs::remove_file(&self.temporary).ok();
    }
}

/// The path of an entry, with nothing in it that leads out of the tree.
fn inside(path: &RemotePath) -> Result<PathBuf, SessionError> {
    path.as_path()
        .components()
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(broken(format!("`{path}` leads out of its tree"))),
        })
        .collect()
}

fn at(root: &Path, below: &Path) -> PathBuf {
    // Joining nothing would add a slash, and a slash follows a link.
    if below.as_os_str().is_empty() { root.to_owned() } else { root.join(below) }
}

fn replaceable(path: &Path, there: Option<&Metadata>) -> Result<(), SessionError> {
    let obstacle = match there {
        None => return Ok(()),
        // The link itself is replaced; but one that leads to a device, such as `/dev/stdout`, is the device's name.
        Some(there) if there.is_symlink() => match fs::metadata(path) {
            Ok(target) if !target.is_file() && !target.is_dir() => io::ErrorKind::InvalidInput,
            _ => return Ok(()),
        },
        Some(there) if there.is_file() => return Ok(()),
        Some(there) if there.is_dir() => io::ErrorKind::IsADirectory,
        Some(_) => io::ErrorKind::InvalidInput,
    };
    let why = match obstacle {
        io::ErrorKind::IsADirectory => "it is a directory",
        _ => "it is a socket, pipe or device",
    };
    Err(cannot("replace", path)(io::Error::new(obstacle, why)))
}

fn give(file: &File, attributes: Attributes) -> io::Result<()> {
    if let Some(modified) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(attributes.modified)) {
        file.set_times(FileTimes::new().set_modified(modified)).ok();
    }
    file.set_permissions(Permissions::from_mode(attributes.mode))
}

fn cannot<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> SessionError + use<'a> {
    move |error| SessionError::new(SessionErrorKind::Local, format!("cannot {what} `{}`", path.display())).source(error)
}

fn special(path: &Path) -> SessionError {
    cannot("read", path)(io::Error::new(io::ErrorKind::InvalidInput, "it is a socket, pipe or device"))
}

fn broken(message: String) -> SessionError {
    SessionError::new(SessionErrorKind::Failed, message)
}

fn cut_short(to: &Path) -> SessionError {
    broken(format!("the contents of `{}` ended too early", to.display()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn read(path: &Path) -> Vec<TreeItem> {
        let mut items = Vec::new();
        read_tree(path, |item| {
            items.push(item);
            ControlFlow::Continue(())
        })
        .unwrap();
        items
    }

    fn write(to: &Path, items: Vec<TreeItem>) -> Result<(), SessionError> {
        let mut writer = TreeWriter::new(to.to_owned());
        items.into_iter().try_for_each(|item| writer.write(item))?;
        writer.finish()
    }

    fn entry(path: &str, kind: EntryKind) -> TreeItem {
        TreeItem::Entry(TreeEntry { path: path.into(), kind, mode: 0o755, modified: 1_000_000_000 })
    }

    fn directory(path: &str) -> TreeItem {
        entry(path, EntryKind::Directory)
    }

    fn file(path: &str, size: u64) -> TreeItem {
        entry(path, EntryKind::File { size })
    }

    fn link(path: &str, target: &str) -> TreeItem {
        entry(path, EntryKind::Symlink { target: target.into() })
    }

    fn data(text: &str) -> TreeItem {
        TreeItem::Data(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn names(path: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_tree_of_a_thousand_files_comes_back_the_same() {
        let scratch = tempfile::tempdir().unwrap();
        let from = scratch.path().join("from");
        for number in 0..1000 {
            let parent = from.join(format!("d{}/e{}", number % 10, number % 7));
            fs::create_dir_all(&parent).unwrap();
            let file = parent.join(format!("file {number}"));
            fs::write(&file, vec![u8::try_from(number % 251).unwrap(); number * 3]).unwrap();
            fs::set_permissions(&file, Permissions::from_mode([0o600, 0o755, 0o444, 0o4711][number % 4])).unwrap();
        }
        for name in [&b"\xff\xfe not utf-8"[..], b"new\nline", b"-rf", b"`$(x)' \"", b" ", b"..."] {
            fs::write(from.join(OsStr::from_bytes(name)), name).unwrap();
        }
        fs::create_dir(from.join("empty")).unwrap();
        fs::create_dir(from.join("read-only")).unwrap();
        fs::write(from.join("read-only/inside"), "x").unwrap();
        fs::set_permissions(from.join("read-only"), Permissions::from_mode(0o555)).unwrap();
        fs::write(from.join("big"), vec![7; 3 * PIECE as usize + 1]).unwrap();
        fs::write(from.join("nothing"), "").unwrap();
        let old = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567));
        File::open(from.join("empty")).unwrap().set_times(old).unwrap();
        File::open(from.join("big")).unwrap().set_times(old).unwrap();

        let sent = read(&from);
        assert!(sent.iter().all(|item| !matches!(item, TreeItem::Data(piece) if piece.len() as u64 > PIECE)));
        assert_eq!(sent.iter().filter(|item| matches!(item, TreeItem::Entry(_))).count(), 1 + 1000 + 80 + 6 + 5);
        let to = scratch.path().join("missing/parents/to");
        write(&to, sent.clone()).unwrap();
        assert!(read(&to) == sent, "the copy is the same, modes and times included");
        // Only root may write into a directory that is there and read-only.
        let read_only = to.join("read-only");
        fs::set_permissions(&read_only, Permissions::from_mode(0o755)).unwrap();
        write(&to, sent.clone()).unwrap();
        fs::set_permissions(&read_only, Permissions::from_mode(0o555)).unwrap();
        let on_top = read(&to);
        assert_eq!(on_top.len(), sent.len());
        for pair in on_top.iter().zip(&sent) {
            match pair {
                (TreeItem::Entry(is), TreeItem::Entry(was)) if is.kind == EntryKind::Directory => {
                    assert_eq!((&is.path, &is.kind, is.mode), (&was.path, &was.kind, was.mode));
                }
                (is, was) => assert!(is == was),
            }
        }
    }

    #[test]
    fn links_are_kept_as_links() {
        let scratch = tempfile::tempdir().unwrap();
        let from = scratch.path().join("from");
        fs::create_dir(&from).unwrap();
        symlink("nowhere", from.join("dangling")).unwrap();
        symlink("/etc/passwd", from.join("absolute")).unwrap();
        symlink(".", from.join("loop")).unwrap();
        let to = scratch.path().join("to");
        write(&to, read(&from)).unwrap();
        assert_eq!(fs::read_link(to.join("dangling")).unwrap(), Path::new("nowhere"));
        assert_eq!(fs::read_link(to.join("absolute")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::read_link(to.join("loop")).unwrap(), Path::new("."));

        let single = read(&from.join("dangling"));
        write(&scratch.path().join("link"), single).unwrap();
        assert_eq!(fs::read_link(scratch.path().join("link")).unwrap(), Path::new("nowhere"));
    }

    #[test]
    fn one_file_replaces_a_file_or_a_link_and_not_a_directory() {
        let scratch = tempfile::tempdir().unwrap();
        let victim = scratch.path().join("victim");
        let to = scratch.path().join("to");
        fs::write(&victim, "victim").unwrap();
        let one = || vec![file("", 3), data("n"), data(""), data("ew")];
        symlink(&victim, &to).unwrap();
        write(&to, one()).unwrap();
        assert_eq!((fs::read(&to).unwrap(), fs::read(&victim).unwrap()), (b"new".to_vec(), b"victim".to_vec()));
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(fs::metadata(&to).unwrap().mtime(), 1_000_000_000);
        write(&victim, one()).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"new");

        let directory = scratch.path().join("directory");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("inside"), "x").unwrap();
        for items in [one(), vec![link("", "x")]] {
            let error = write(&directory, items).unwrap_err();
            assert_eq!(error.kind(), SessionErrorKind::Local);
            assert_eq!(error.to_string(), format!("cannot replace `{}`", directory.display()));
        }
        assert_eq!(names(scratch.path()), ["directory", "to", "victim"]);
        assert_eq!(names(&directory), ["inside"]);
    }

    #[test]
    fn a_directory_that_is_there_is_merged() {
        let scratch = tempfile::tempdir().unwrap();
        let to = scratch.path().join("to");
        fs::create_dir(&to).unwrap();
        fs::set_permissions(&to, Permissions::from_mode(0o1777)).unwrap();
        fs::write(to.join("old"), "old").unwrap();
        fs::write(to.join("becomes a directory"), "x").unwrap();
        let alias = scratch.path().join("alias");
        symlink(&to, &alias).unwrap();
        let items = vec![directory(""), file("new", 1), data("n"), directory("becomes a directory")];
        write(&alias, items).unwrap();
        assert_eq!(names(&to), ["becomes a directory", "new", "old"]);
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(fs::metadata(to.join("becomes a directory")).unwrap().mode() & 0o7777, 0o755);
        assert!(fs::symlink_metadata(&alias).unwrap().is_symlink());
    }

    #[test]
    fn a_hostile_stream_writes_nothing_outside() {
        let hostile: Vec<(&str, Vec<TreeItem>)> = vec![
            ("up", vec![directory(""), file("../escaped", 1), data("x")]),
            ("up inside", vec![directory(""), directory("a"), file("a/../../escaped", 1), data("x")]),
            ("dot", vec![directory(""), file("./escaped", 1), data("x")]),
            ("through a planted link", vec![directory(""), link("a", ".."), file("a/escaped", 1), data("x")]),
            ("a directory in a planted link", vec![directory(""), link("a", ".."), directory("a/escaped")]),
            ("a link in a planted link", vec![directory(""), link("a", ".."), link("a/escaped", "x")]),
            ("below a root that is a link", vec![link("", ".."), file("escaped", 1), data("x")]),
            ("below a file", vec![file("", 0), file("escaped", 1), data("x")]),
            ("a link for a directory", vec![directory(""), directory("a"), link("a", ".."), file("a/escaped", 0)]),
            ("without a root", vec![file("escaped", 1), data("x")]),
            ("two roots", vec![directory(""), link("", "..")]),
            ("no directory", vec![directory(""), file("a/b", 1), data("x")]),
            ("contents first", vec![data("x")]),
            ("contents for a directory", vec![directory(""), data("x")]),
            ("too much", vec![directory(""), file("a", 1), data("xy")]),
            ("too much, later", vec![directory(""), file("a", 1), data("x"), data("y")]),
            ("nul", vec![directory(""), file("a\0b", 1), data("x")]),
        ];
        for (what, items) in hostile {
            let scratch = tempfile::tempdir().unwrap();
            let to = scratch.path().join("to");
            write(&to, items).expect_err(what);
            assert!(names(scratch.path()).iter().all(|name| name == "to"), "{what}: {:?}", names(scratch.path()));
            if fs::symlink_metadata(&to).is_ok_and(|there| there.is_dir()) {
                assert!(names(&to).iter().all(|name| name == "a"), "{what}: {:?}", names(&to));
            }
        }
        let scratch = tempfile::tempdir().unwrap();
        let absolute = scratch.path().join("escaped");
        let items = vec![directory(""), file(absolute.to_str().unwrap(), 1), data("x")];
        write(&scratch.path().join("to"), items).unwrap_err();
        assert!(!absolute.exists());
    }

    #[test]
    fn a_link_that_was_there_is_not_written_through() {
        let scratch = tempfile::tempdir().unwrap();
        let outside = scratch.path().join("outside");
        let to = scratch.path().join("to");
        fs::create_dir(&outside).unwrap();
        fs::create_dir(&to).unwrap();
        symlink(&outside, to.join("a")).unwrap();
        write(&to, vec![directory(""), directory("a"), file("a/b", 1), data("x")]).unwrap();
        assert!(names(&outside).is_empty());
        assert!(fs::symlink_metadata(to.join("a")).unwrap().is_dir());
    }

    #[test]
    fn an_interrupted_stream_leaves_no_half_file() {
        let scratch = tempfile::tempdir().unwrap();
        let to = scratch.path().join("to");
        fs::write(&to, "old").unwrap();
        let error = write(&to, vec![file("", 5), data("new")]).unwrap_err();
        assert_eq!(error.to_string(), format!("the contents of `{}` ended too early", to.display()));
        let mut writer = TreeWriter::new(to.clone());
        writer.write(file("", 5)).unwrap();
        writer.write(data("new")).unwrap();
        drop(writer);
        assert_eq!(fs::read(&to).unwrap(), b"old");
        assert_eq!(names(scratch.path()), ["to"]);
        write(&to, Vec::new()).unwrap_err();
        assert_eq!(fs::read(&to).unwrap(), b"old");

        let tree = scratch.path().join("tree");
        let next = vec![directory(""), file("a", 5), data("new"), file("b", 0)];
        write(&tree, next).unwrap_err();
        assert!(names(&tree).is_empty());
    }

    #[test]
    fn sockets_are_left_out_and_devices_stay() {
        let scratch = tempfile::tempdir().unwrap();
        let from = scratch.path().join("from");
        fs::create_dir(&from).unwrap();
        let socket = UnixListener::bind(from.join("socket")).unwrap();
        fs::write(from.join("x"), "").unwrap();
        assert_eq!(read(&from).len(), 2);
        let error = read_tree(&from.join("socket"), |_| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.kind(), SessionErrorKind::Local);
        write(&from.join("socket"), vec![file("", 0)]).unwrap_err();
        let alias = from.join("alias");
        symlink("socket", &alias).unwrap();
        write(&alias, vec![file("", 0)]).unwrap_err();
        assert!(fs::symlink_metadata(&alias).unwrap().is_symlink());
        drop(socket);
    }

    #[test]
    fn reading_stops_when_nobody_wants_more() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("a"), vec![0; 2 * PIECE as usize]).unwrap();
        for enough in 1..4 {
            let mut seen = 0;
            read_tree(scratch.path(), |_| {
                seen += 1;
                if seen == enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
            assert_eq!(seen, enough);
        }
        let error = read_tree(&scratch.path().join("missing"), |_| ControlFlow::Continue(())).unwrap_err();
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
        assert_eq!((error.kind(), source.kind()), (SessionErrorKind::Local, io::ErrorKind::NotFound));
    }
}
