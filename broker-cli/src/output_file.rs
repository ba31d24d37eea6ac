//! `--output-file`: what a command did, as JSON, with the Python tool's keys. `action` is the argument that names the
//! action, such as `container_host`: the Python tool has a method of its code there, which nobody else has.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use crate::error::{Code, CommandError};

const OPTIONS: [&[u8]; 2] = [b"--output-file", b"--output_file"];

/// What goes to the file, if there is to be one.
#[derive(Debug, Default)]
pub(crate) struct Report {
    targets: Vec<Target>,
    entries: RefCell<Map<String, Value>>,
}

#[derive(Debug)]
enum Target {
    /// Replaced at the end, so that nobody reads half of it.
    File(PathBuf),
    /// A pipe or a device: written as it is.
    Other(PathBuf),
}

impl Target {
    fn begin(path: PathBuf) -> Result<Self, CommandError> {
        let path = fs::canonicalize(&path).unwrap_or(path);
        match fs::metadata(&path) {
            Ok(found) if !found.is_file() && !found.is_dir() => Ok(Self::Other(path)),
            _ => {
                File::create(&path).map_err(|error| cannot_write(&path, error))?;
                Ok(Self::File(path))
            }
        }
    }

    fn write(&self, text: &[u8]) -> Result<(), CommandError> {
        let (Self::File(path) | Self::Other(path)) = self;
        match self {
            Self::File(path) => replace(path, text),
            Self::Other(path) => fs::write(path, text),
        }
        .map_err(|error| cannot_write(path, error))
    }
}

impl Report {
    /// The files are emptied at once: what they hold then can only come from this command, and that they can be written
    /// is known before anything is done.
    ///
    /// Files that Broker itself needs are refused; these are `own`.
    pub(crate) fn begin(paths: impl Iterator<Item = PathBuf>, own: &[PathBuf]) -> Result<Self, CommandError> {
        let begin = |path: PathBuf| match own.iter().find(|own| are_same(own, &path)) {
            Some(_) => Err(CommandError::usage(format!("`{}` is a file of Broker's own", path.display()))
                .hint("`--output-file` empties the file that it names, so name another one")),
            None => Target::begin(path),
        };
        let targets = paths.filter(|path| path != Path::new("")).map(begin).collect::<Result<_, _>>()?;
        Ok(Self { targets, ..Self::default() })
    }

    /// Whether there is a file at all.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.targets.is_empty()
    }

    pub(crate) fn put(&self, key: &str, value: impl Into<Value>) {
        self.entries.borrow_mut().insert(key.to_owned(), value.into());
    }

    /// As [`put`](Self::put), for what takes time to put together.
    pub(crate) fn put_with(&self, key: &str, value: impl FnOnce() -> Value) {
        if self.is_wanted() {
            self.put(key, value());
        }
    }

    /// Writes the file.
    pub(crate) fn finish(self, code: u8, error: Option<String>) -> Result<(), CommandError> {
        if self.targets.is_empty() {
            return Ok(());
        }
        self.put("return_code", code);
        if let Some(error) = error {
            self.put("error_message", error);
        }
        let text = pretty(Value::Object(self.entries.into_inner()));
        // Each is tried, whatever comes of the others.
        self.targets.iter().map(|target| target.write(&text)).fold(Ok(()), Result::and)
    }
}

/// Whether two paths lead to one file, or would if it were there.
fn are_same(one: &Path, other: &Path) -> bool {
    let is_one_file = |one: &fs::Metadata, other: &fs::Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => is_one_file(&one, &other),
        _ => {
            let place = |path: &Path| Some((fs::canonicalize(path.parent()?).ok()?, path.file_name()?.to_owned()));
            let [one, other] = [one, other].map(|path| std::path::absolute(path).ok().and_then(|path| place(&path)));
            one.is_some() && one == other
        }
    }
}

fn cannot_write(path: &Path, error: io::Error) -> CommandError {
    CommandError::new(Code::Failed, format!("cannot write `{}`: {error}", path.display()))
        .hint("`--output-file` names a file in a directory that exists, where you may write and there is room")
}

/// The file that a command line names which is refused, so that there is nothing better to ask than its words.
pub(crate) fn find(words: &[OsString]) -> Option<PathBuf> {
    let mut words = words.iter().take_while(|word| *word != "--");
    let mut found = None;
    while let Some(word) = words.next() {
        let mut halves = word.as_bytes().splitn(2, |byte| *byte == b'=');
        if halves.next().is_some_and(|name| OPTIONS.contains(&name)) {
            found = halves.next().map(|path| OsString::from_vec(path.to_vec())).or_else(|| words.next().cloned());
        }
    }
    found.map(PathBuf::from)
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text)?;
    // The user's mask has decided on these when the file was made.
    file.as_file().set_permissions(fs::metadata(path)?.permissions())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Four spaces a level, keys in their order in the alphabet.
fn pretty(mut value: Value) -> Vec<u8> {
    value.sort_all_objects();
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    // A value writes to memory without fail.
    drop(value.serialize(&mut serializer));
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_option_is_found_in_any_command_line() {
        for (line, expected) in [
            ("checkout --output-file a.json --cuont 3", Some("a.json")),
            ("--output-file=a.json checkout", Some("a.json")),
            ("--output_file=a=b checkout", Some("a=b")),
            ("--output-file a --output-file b x", Some("b")),
            ("exec 0 -- ls --output-file a", None),
            ("checkout --output-file", None),
            ("checkout --output-files=x", None),
            ("checkout", None),
        ] {
            assert_eq!(find(&words(line)), expected.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn what_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.json");
        fs::write(&path, "old").unwrap();
        let report = Report::begin([path.clone()].into_iter(), &[]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        report.put("provider", "Container");
        report.put("hosts", vec![Value::from("b")]);
        report.finish(7, Some("no engine".to_owned())).unwrap();
        let expected = "{\n    \"error_message\": \"no engine\",\n    \"hosts\": [\n        \"b\"\n    ],\n    \
                        \"provider\": \"Container\",\n    \"return_code\": 7\n}\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        let nowhere = directory.path().join("none/out.json");
        assert!(Report::begin([nowhere].into_iter(), &[]).is_err());
        assert!(Report::begin([directory.path().to_owned()].into_iter(), &[]).is_err());
    }
}
