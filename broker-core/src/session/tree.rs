//! Files on their way: a tree as a stream of entries and pieces of their contents.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use bytes::Bytes;

/// A path on a host: bytes, as the host's file system has them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RemotePath(OsString);

impl RemotePath {
    /// A path from bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(OsString::from_vec(bytes))
    }

    /// The path's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The path in the form of this machine's paths, for taking it apart.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The last part of the path.
    pub fn file_name(&self) -> Option<&OsStr> {
        self.as_path().file_name()
    }

    /// The directory that the path is in.
    pub fn parent(&self) -> Option<Self> {
        self.as_path().parent().map(|path| Self(path.as_os_str().to_owned()))
    }

    /// The path with something below it.
    #[must_use]
    pub fn join(&self, below: impl AsRef<Path>) -> Self {
        Self(self.as_path().join(below).into_os_string())
    }

    /// The beginning of a line for a POSIX shell, which sets a variable to the path, whatever bytes that has.
    ///
    /// ```
    /// use broker_core::session::{Command, RemotePath};
    ///
    /// let path = RemotePath::from_bytes(b"caf\xe9\n".to_vec());
    /// let command = Command::shell(format!(r#"{}; wc -c "$path""#, path.set_in_shell("path")));
    /// # let done = std::process::Command::new("sh").args(&command.argv()[1..2])
    /// #     .arg(command.argv()[2].replace("wc -c", "printf %s")).output().unwrap();
    /// # assert_eq!(done.stdout, b"caf\xe9\n");
    /// ```
    pub fn set_in_shell(&self, variable: &str) -> String {
        let octal = self.as_bytes().iter().fold(String::new(), |text, byte| format!("{text}\\{byte:03o}"));
        // The dot keeps newlines at the end.
        format!("{variable}=$(printf '{octal}.'); {variable}=${{{variable}%.}}")
    }

    /// Whether it ends in a slash, which says that a directory is meant.
    pub fn is_directory_like(&self) -> bool {
        self.as_bytes().ends_with(b"/")
    }
}

impl From<&str> for RemotePath {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for RemotePath {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&OsStr> for RemotePath {
    fn from(text: &OsStr) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_path().display().fmt(f)
    }
}

impl fmt::Debug for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One piece of a tree on its way.
///
/// The first item is the entry of the root, whose path is empty. A directory comes before what is in it. After the
/// entry of a file come exactly `size` bytes of [`Data`](TreeItem::Data).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeItem {
    /// A file, directory or link begins.
    Entry(TreeEntry),
    /// A piece of the file that began last.
    Data(Bytes),
}

/// A file, directory or symbolic link in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Where it is below the root of the tree; empty for the root itself. Bytes; never absolute, never with `..`.
    pub path: RemotePath,
    /// What it is.
    pub kind: EntryKind,
    /// The permission bits, `0o7777` at the most.
    pub mode: u32,
    /// The time of the last change, in seconds since 1970 in UTC.
    pub modified: u64,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A file of this many bytes.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it points to, as it is written in the link.
        target: RemotePath,
    },
}
