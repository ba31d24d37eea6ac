//! Secrets that stand elsewhere: `{env: VARIABLE}`, `{file: PATH}`, `{command: [PROGRAM, ARGUMENT]}`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::SettingsError;
use super::directory::expand_home;
use super::layers::Tree;
use crate::args::ArgValue;
use crate::secrets::is_secret_name;

/// How long a command may take to print a secret.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// No secret is larger than this.
const SIZE_LIMIT: u64 = 64 * 1024;

/// Where secrets can be looked up.
pub(super) struct Secrets<'a> {
    pub(super) environment: &'a HashMap<OsString, OsString>,
    /// What relative paths start from.
    pub(super) directory: Option<&'a Path>,
}

impl Secrets<'_> {
    /// Puts secrets in the place of the mappings that say where they are: in fields with the name of a secret, at any
    /// depth. Such a mapping elsewhere is a mapping.
    pub(super) fn resolve_below(&self, path: &str, tree: Tree) -> Result<Tree, SettingsError> {
        let Tree::Map { entries, origin } = tree else { return Ok(tree) };
        let resolve = |(key, tree): (String, Tree)| {
            let path = format!("{path}.{key}");
            let tree = match place(&key, &tree) {
                Some((kind, value)) => {
                    let secret = self.look_up(kind, value).map_err(|problem| SettingsError::Secret {
                        path,
                        origin: tree.origin().to_owned(),
                        problem,
                    })?;
                    Tree::Leaf { value: ArgValue::Text(secret), origin: tree.origin().to_owned() }
                }
                None => self.resolve_below(&path, tree)?,
            };
            Ok((key, tree))
        };
        let entries = entries.into_iter().map(resolve).collect::<Result<_, SettingsError>>()?;
        Ok(Tree::Map { entries, origin })
    }

    fn look_up(&self, kind: Kind, value: &Tree) -> Result<String, String> {
        let Tree::Leaf { value, .. } = value else { return Err(kind.wanted()) };
        let text = value.as_str().filter(|text| !text.is_empty());
        let secret = match kind {
            Kind::Env => self.variable(text.ok_or_else(|| kind.wanted())?)?,
            Kind::File => self.file(text.ok_or_else(|| kind.wanted())?)?,
            Kind::Command => {
                let words = value.as_list().unwrap_or_default().iter().map(ArgValue::as_str);
                let words: Vec<&str> = words.collect::<Option<_>>().ok_or_else(|| kind.wanted())?;
                let (program, arguments) = words.split_first().ok_or_else(|| kind.wanted())?;
                run(program, arguments, COMMAND_LIMIT)?
            }
        };
        Ok(secret.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        let value = self.environment.get(OsStr::new(name)).filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| format!("environment variable `{name}` is not set"))?;
        value.to_str().map(str::to_owned).ok_or_else(|| format!("environment variable `{name}` is not UTF-8"))
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let path = expand_home(Path::new(path), self.environment);
        let path = self.directory.map_or_else(|| path.clone(), |directory| directory.join(&path));
        let mut bytes = Vec::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("file `{}`: {error}", path.display()))?;
        to_secret(bytes).map_err(|problem| format!("file `{}` {problem}", path.display()))
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Env,
    File,
    Command,
}

impl Kind {
    fn wanted(self) -> String {
        match self {
            Self::Env => "`env` must be the name of a variable".to_owned(),
            Self::File => "`file` must be a path".to_owned(),
            Self::Command => "`command` must be a list: a program and its arguments".to_owned(),
        }
    }
}

/// Where the secret is, if `key` names one and the mapping says so.
pub(super) fn is_lookup(key: &str, tree: &Tree) -> bool {
    place(key, tree).is_some()
}

fn place<'a>(key: &str, tree: &'a Tree) -> Option<(Kind, &'a Tree)> {
    let entries = tree.entries().filter(|entries| is_secret_name(key) && entries.len() == 1)?;
    let (kind, value) = entries.first()?;
    let kind = match kind.as_str() {
        "env" => Kind::Env,
        "file" => Kind::File,
        "command" => Kind::Command,
        _ => return None,
    };
    Some((kind, value))
}

fn to_secret(bytes: Vec<u8>) -> Result<String, &'static str> {
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err("is too large for a secret");
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    if text.trim().is_empty() { Err("is empty") } else { Ok(text) }
}

/// Runs a command without a shell, and returns what it prints. Its output is in no error, since that may be the secret.
fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<String, String> {
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("command `{program}`: {error}"))?;
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        // It ends with the pipe, which a grandchild may hold open for longer than anybody waits here. Where it cannot be
        // started there is no output, and the command is ended like one that takes too long.
        let _detached = thread::Builder::new().name("broker-secret".to_owned()).spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.take(SIZE_LIMIT + 1).read_to_end(&mut bytes);
            let _nobody_may_wait = sender.send(read.map(|_| bytes));
        });
    }
    let output = receiver.recv_timeout(limit);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if output.is_ok() && Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => break None,
        }
    };
    let (Ok(output), Some(status)) = (output, status) else {
        // Both fail only if it is gone already.
        let _gone = child.kill();
        let _gone = child.wait();
        return Err(format!("command `{program}` did not end within {} s", limit.as_secs()));
    };
    if !status.success() {
        return Err(format!("command `{program}` failed: {status}"));
    }
    let bytes = output.map_err(|error| format!("command `{program}`: {error}"))?;
    to_secret(bytes).map_err(|problem| format!("the output of command `{program}` {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_limited() {
        let start = Instant::now();
        let limit = Duration::from_millis(100);
        assert_eq!(run("sleep", &["60"], limit), Err("command `sleep` did not end within 0 s".to_owned()));
        // The pipe stays open in the grandchild.
        assert!(run("sh", &["-c", "echo x; sleep 2 &"], limit).is_err());
        // The pipe is closed, and the command goes on.
        assert!(run("sh", &["-c", "exec >&-; exec sleep 60"], limit).is_err());
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn commands_have_no_shell_and_keep_their_output_to_themselves() {
        let limit = Duration::from_secs(20);
        assert_eq!(run("printf", &["%s", "$HOME; a b"], limit), Ok("$HOME; a b".to_owned()));
        assert_eq!(
            run("sh", &["-c", "echo hunter2; exit 3"], limit),
            Err("command `sh` failed: exit status: 3".to_owned())
        );
        assert_eq!(run("true", &[], limit), Err("the output of command `true` is empty".to_owned()));
        assert!(run("yes", &[], limit).is_err());
        let error = run("/nonexistent/program", &[], limit).unwrap_err();
        assert!(error.starts_with("command `/nonexistent/program`: "), "{error}");
    }
}
