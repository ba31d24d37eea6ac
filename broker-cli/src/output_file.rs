//! `--output-file`: what a command did, as JSON, with the Python tool's keys.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use crate::error::{Code, CommandError};

const OPTION: &str = "--output-file";

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
    /// Looks for the option itself, since a command line that clap refuses is to be reported too. The file is emptied
    /// at once: what it holds then can only come from this command, and that it can be written is known before
    /// anything is done.
    ///
    /// A job keeps its report in `also`, so that who waits for it can have it.
    pub(crate) fn begin(words: &[OsString], also: Option<PathBuf>) -> Result<Self, CommandError> {
        let targets = find(words).into_iter().chain(also).map(Target::begin).collect::<Result<_, _>>()?;
        Ok(Self { targets, ..Self::default() })
    }

    pub(crate) fn put(&self, key: &str, value: impl Into<Value>) {
        self.entries.borrow_mut().insert(key.to_owned(), value.into());
    }

    /// As [`put`](Self::put), for what takes time to put together.
    pub(crate) fn put_with(&self, key: &str, value: impl FnOnce() -> Value) {
        if !self.targets.is_empty() {
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

fn cannot_write(path: &Path, error: io::Error) -> CommandError {
    CommandError::new(Code::Failed, format!("cannot write `{}`: {error}", path.display()))
}

fn find(words: &[OsString]) -> Option<PathBuf> {
    let mut words = words.iter().take_while(|word| *word != "--");
    let mut found = None;
    while let Some(word) = words.next() {
        if word == OPTION || word == "--output_file" {
            found = words.next().cloned();
        } else if let Some(path) =
            word.as_bytes().strip_prefix(OPTION.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
        {
            found = Some(OsString::from_vec(path.to_vec()));
        }
    }
    found.filter(|path| path != OsStr::new("")).map(PathBuf::from)
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
        let report = Report::begin(&[OPTION.into(), path.clone().into()], None).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        report.put("provider", "Container");
        report.put("hosts", vec![Value::from("b")]);
        report.finish(7, Some("no engine".to_owned())).unwrap();
        let expected = "{\n    \"error_message\": \"no engine\",\n    \"hosts\": [\n        \"b\"\n    ],\n    \
                        \"provider\": \"Container\",\n    \"return_code\": 7\n}\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        let nowhere = directory.path().join("none/out.json");
        assert!(Report::begin(&[OPTION.into(), nowhere.into()], None).is_err());
        assert!(Report::begin(&[OPTION.into(), directory.path().into()], None).is_err());
    }
}
