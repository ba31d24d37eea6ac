//! Arguments from files: `--args-file PATH`, `key=@PATH`, and values that name a JSON or YAML file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::args::{ArgValue, Args, merge};
use crate::yaml::{Content, Node, YamlError, parse, parse_json};

/// Reads a file of arguments: a mapping, or a list of mappings that are laid on top of each other in their order.
///
/// A file called `.json` is JSON, any other YAML.
///
/// # Errors
///
/// If the file is missing, cannot be read, is empty, is malformed, or holds something else.
pub fn read(path: &Path) -> Result<Args, ArgsFileError> {
    let not_a_mapping = |kind: &'static str, line: Option<usize>| ArgsFileError::NotAMapping {
        path: path.to_owned(),
        kind,
        line: line.map_or_else(String::new, |line| format!(" in line {line}")),
    };
    let node = read_node(path)?;
    let place = node.place;
    let args = match node.content {
        Content::List(items) => {
            let mut args = Args::new();
            for item in items {
                let line = item.place.line;
                match item.into_value() {
                    ArgValue::Map(map) => merge(&mut args, map),
                    other => return Err(not_a_mapping(other.kind(), Some(line))),
                }
            }
            args
        }
        content => match (Node { content, place }).into_value() {
            ArgValue::Map(map) => map,
            other => return Err(not_a_mapping(other.kind(), None)),
        },
    };
    if args.is_empty() { Err(ArgsFileError::Empty { path: path.to_owned() }) } else { Ok(args) }
}

/// Reads a file that is the value of one argument: anything that JSON or YAML can hold.
///
/// # Errors
///
/// If the file is missing, cannot be read, is empty or is malformed.
pub fn read_value(path: &Path) -> Result<ArgValue, ArgsFileError> {
    read_node(path).map(Node::into_value)
}

/// What an argument's value stands for.
#[derive(Debug)]
pub enum Expansion {
    /// Itself.
    Text(String),
    /// What is in a file.
    File {
        /// The file.
        path: PathBuf,
        /// What is in it.
        value: ArgValue,
    },
    /// Itself, though it names a file: that cannot be read as JSON or YAML.
    Unread {
        /// The text.
        text: String,
        /// What is wrong with the file.
        error: ArgsFileError,
    },
}

/// Looks at the value of an argument. `@PATH` is what is in the file, and so is the name of a `.json`, `.yaml` or `.yml`
/// file that exists and is not empty. Paths start from the working directory. `@@TEXT` is the text `@TEXT`.
///
/// # Errors
///
/// If the value is `@PATH`, and the file is missing, cannot be read, is empty or is malformed.
pub fn expand_value(text: &str) -> Result<Expansion, ArgsFileError> {
    if let Some(text) = text.strip_prefix('@').filter(|rest| rest.starts_with('@')) {
        return Ok(Expansion::Text(text.to_owned()));
    }
    if let Some(path) = text.strip_prefix('@') {
        let path = PathBuf::from(path);
        return Ok(Expansion::File { value: read_value(&path)?, path });
    }
    let path = Path::new(text);
    let names_one = path.extension().is_some_and(|end| ["json", "yaml", "yml"].iter().any(|known| end == *known));
    if !names_one || !fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0) {
        return Ok(Expansion::Text(text.to_owned()));
    }
    Ok(match read_value(path) {
        Ok(value) => Expansion::File { path: path.to_owned(), value },
        Err(error) => Expansion::Unread { text: text.to_owned(), error },
    })
}

fn read_node(path: &Path) -> Result<Node, ArgsFileError> {
    let path_buf = || path.to_owned();
    let text = fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ArgsFileError::Missing { path: path_buf() },
        _ => ArgsFileError::Unreadable { path: path_buf(), source },
    })?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let node = if is_json { parse_json(&text) } else { parse(&text) };
    let node = node.map_err(|source| ArgsFileError::Malformed { path: path_buf(), source })?;
    node.ok_or_else(|| ArgsFileError::Empty { path: path_buf() })
}

/// Why a file gives no arguments.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsFileError {
    /// There is no such file.
    #[error("file `{}` does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is there, and cannot be read.
    #[error("cannot read file `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("file `{}` is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is neither JSON nor YAML.
    #[error("file `{}` is malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: YamlError,
    },
    /// It holds something else than arguments.
    #[error("file `{}` must hold a mapping of arguments, or a list of such, and holds a {kind}{line}", path.display())]
    NotAMapping {
        /// The file.
        path: PathBuf,
        /// What it holds.
        kind: &'static str,
        /// Where, unless it is the whole: ` in line 3`.
        line: String,
    },
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn put(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, text).unwrap();
            path
        }

        /// The error, with the directory cut out of it.
        fn error(&self, name: &str, text: &str) -> String {
            let error = read(&self.put(name, text)).unwrap_err();
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{source}").replace(&format!("{}/", self.0.path().display()), "")
        }
    }

    fn text(args: &Args) -> String {
        ArgValue::Map(args.clone()).to_string()
    }

    #[test]
    fn arguments_are_read() {
        let files = Files::new();
        let table = [
            ("a.yaml", "image: x\nversion: 9.10\n", r#"{"image":"x","version":"9.10"}"#),
            ("a.yml", "- {a: 1, m: {x: 1}}\n- {a: 2, m: {y: 2}}\n", r#"{"a":2,"m":{"x":1,"y":2}}"#),
            ("a.json", "{\"b\": [1.50, \"\\u00e9\"]}", r#"{"b":["1.50","é"]}"#),
            ("a.txt", "c: yes\n", r#"{"c":"yes"}"#),
            ("args", "{\"d\": null}", r#"{"d":null}"#),
        ];
        for (name, content, expected) in table {
            assert_eq!(text(&read(&files.put(name, content)).unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn each_kind_of_bad_file_has_its_error() {
        let files = Files::new();
        let wanted = "must hold a mapping of arguments, or a list of such, and holds a";
        for (name, content, expected) in [
            ("a.yaml", "", "file `a.yaml` is empty"),
            ("a.yaml", "# nothing\n---\n", "file `a.yaml` is empty"),
            ("a.json", " \n", "file `a.json` is empty"),
            ("a.yaml", "{}", "file `a.yaml` is empty"),
            ("a.json", "[]", "file `a.json` is empty"),
            ("a.yaml", "just text", &format!("file `a.yaml` {wanted} text")),
            ("a.json", "5", &format!("file `a.json` {wanted} text")),
            ("a.yaml", "- a: 1\n- b\n", &format!("file `a.yaml` {wanted} text in line 2")),
            (
                "a.yaml",
                "a: 1\na: 2\n",
                "file `a.yaml` is malformed: line 2, column 1: the key `a` is given twice, first in line 1\n2 | a: 2\n  | ^",
            ),
            ("a.json", "{\"a\": 1\n", "file `a.json` is malformed: line 1, column 8: EOF while parsing an object"),
        ] {
            let error = files.error(name, content);
            assert!(error.starts_with(expected), "{error}\n{expected}");
        }
        let missing = read(&files.0.path().join("none.yaml")).unwrap_err();
        assert!(matches!(missing, ArgsFileError::Missing { .. }) && missing.to_string().ends_with("does not exist"));
        assert!(matches!(read(files.0.path()), Err(ArgsFileError::Unreadable { .. })));
    }

    #[test]
    fn values_that_name_files() {
        let files = Files::new();
        let good = files.put("vars.yml", "[1, two]").display().to_string();
        let bad = files.put("bad.json", "{").display().to_string();
        let empty = files.put("empty.yaml", "").display().to_string();
        let other = files.put("notes.txt", "a: 1").display().to_string();
        let list = ArgValue::List(vec![ArgValue::Plain("1".into()), ArgValue::Plain("two".into())]);

        assert!(matches!(expand_value(&good).unwrap(), Expansion::File { value, .. } if value == list));
        assert!(matches!(expand_value(&format!("@{good}")).unwrap(), Expansion::File { value, .. } if value == list));
        assert!(matches!(expand_value(&format!("@{other}")).unwrap(), Expansion::File { .. }));
        assert!(matches!(expand_value(&bad).unwrap(), Expansion::Unread { text, .. } if text == bad));
        for text in [other.as_str(), empty.as_str(), "none.yaml", "plain", "", "yaml"] {
            assert!(matches!(expand_value(text).unwrap(), Expansion::Text(kept) if kept == text), "{text}");
        }
        for (text, meant) in [("@@", "@"), ("@@none.yaml", "@none.yaml"), ("@@@x", "@@x")] {
            assert!(matches!(expand_value(text).unwrap(), Expansion::Text(kept) if kept == meant), "{text}");
        }
        for text in [format!("@{bad}"), format!("@{empty}"), "@none.yaml".to_owned(), "@".to_owned()] {
            assert!(expand_value(&text).is_err(), "{text}");
        }
    }
}
