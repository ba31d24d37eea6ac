//! `broker cp`

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use broker::inventory::{HostRecord, select};
use broker::session::{Command, RemotePath};
use broker::{Broker, Error, Host};
use serde_json::json;

use crate::app::{App, Outcome};
use crate::args::Cp;
use crate::error::{Code, CommandError, Failure};
use crate::progress::Copying;

/// A path on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// On this machine.
    Here(PathBuf),
    /// On a host.
    There { host: String, path: RemotePath },
}

impl Place {
    /// `HOST:PATH` where a colon comes before any slash, else a path here.
    fn parse(word: &OsStr) -> Result<Self, CommandError> {
        let bytes = word.as_bytes();
        let colon = bytes.iter().position(|byte| *byte == b':');
        let slash = bytes.iter().position(|byte| *byte == b'/');
        let Some(colon) = colon.filter(|colon| *colon > 0 && slash.is_none_or(|slash| *colon < slash)) else {
            if word.is_empty() {
                return Err(CommandError::usage("an empty path leads nowhere"));
            }
            return Ok(Self::Here(word.into()));
        };
        let (host, path) = (&bytes[..colon], &bytes[colon + 1..]);
        let Ok(host) = str::from_utf8(host) else {
            let shown = word.to_string_lossy();
            return Err(CommandError::usage(format!("the host in `{shown}` is not UTF-8"))
                .hint(format!("a path here with a colon in it is written `./{shown}`")));
        };
        if path.is_empty() {
            return Err(CommandError::usage(format!("`{host}:` has no path behind the colon"))
                .hint(format!("write `{host}:/root/`, say; a path here with a colon in it is written `./{host}:`")));
        }
        Ok(Self::There { host: host.to_owned(), path: RemotePath::from_bytes(path.to_vec()) })
    }
}

/// A path whose host is found.
enum Found {
    Here(PathBuf),
    There(Host, RemotePath),
}

pub(super) fn run(app: &App<'_>, options: &Cp) -> Outcome {
    let places: Vec<Place> = options.paths.iter().map(|word| Place::parse(word)).collect::<Result<_, _>>()?;
    let Some((target, sources)) = places.split_last() else { return Ok(0) };
    let is_here = |place: &Place| matches!(place, Place::Here(_));
    if is_here(target) && sources.iter().any(is_here) {
        let error = CommandError::usage("source and target are both on this machine");
        return Err(error.hint("a path on a host is written `HOST:PATH`, such as `0:/root/`").into());
    }
    let records = app.choose(&broker::Choice { all: true, ..broker::Choice::default() })?;
    let target = find(&app.broker, &records, target)?;
    let sources: Vec<Found> =
        sources.iter().map(|place| find(&app.broker, &records, place)).collect::<Result<_, _>>()?;
    let copied = sources.len();
    let on = |place: &Found| match place {
        Found::Here(_) => None,
        Found::There(host, _) => Some(host.clone()),
    };
    let hosts: Vec<Host> = sources.iter().chain([&target]).filter_map(on).collect();
    app.drop_on_signal(&hosts, async {
        let target = into_directory(target, copied > 1).await?;
        let mut failures = Vec::new();
        for source in sources {
            failures.extend(copy(app, source, &target).await.err().map(CommandError::from));
        }
        if failures.is_empty() { Ok(()) } else { Err(Failure(failures)) }
    })?;
    app.report.put("output", json!({"copied": copied}));
    Ok(0)
}

fn find(broker: &Broker, records: &[Arc<HostRecord>], place: &Place) -> Result<Found, Failure> {
    match place {
        Place::Here(path) => Ok(Found::Here(path.clone())),
        Place::There { host, path } => {
            let found = select(records, std::slice::from_ref(host)).map_err(|error| {
                let error = CommandError::from(Error::from(error));
                error.hint(format!("a path here with a colon in it is written `./{host}:{path}`"))
            })?;
            // One word selects one host, or none and an error.
            let record = found.into_iter().next().ok_or(Error::Closed)?;
            Ok(Found::There(broker.host(HostRecord::clone(record)), path.clone()))
        }
    }
}

/// A target that is a directory is what the sources go into, and one that several sources go into has to be one. What
/// is missing on the way there is made.
async fn into_directory(target: Found, several: bool) -> Result<Found, Failure> {
    match target {
        Found::Here(path) => match several && path.exists() && !path.is_dir() {
            true => Err(no_directory(&format!("`{}`", path.display())).into()),
            // A slash at the end says that a directory is meant, which need not be there yet.
            false if several => Ok(Found::Here(path.join(""))),
            false => Ok(Found::Here(path)),
        },
        Found::There(host, path) => match look(&host, &path).await {
            Kind::Other if several => Err(no_directory(&format!("`{path}` on host `{}`", host.label())).into()),
            kind if several || kind == Kind::Directory => {
                let path = RemotePath::from_bytes([path.as_bytes(), b"/"].concat());
                Ok(Found::There(host, path))
            }
            _ => Ok(Found::There(host, path)),
        },
    }
}

fn no_directory(target: &str) -> CommandError {
    let error = CommandError::new(Code::Host, format!("{target} is no directory"));
    error.hint("several sources go into a directory")
}

/// What is at a path on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Other,
    /// There is nothing; or the host, without a shell, cannot tell.
    Unknown,
}

async fn look(host: &Host, path: &RemotePath) -> Kind {
    const LOOK: &str = "if [ -d \"$1\" ]; then exit 10; elif [ -e \"$1\" ]; then exit 11; fi";
    let command = match str::from_utf8(path.as_bytes()) {
        Ok(path) => Command::words(["/bin/sh", "-c", LOOK, "sh", path]),
        // Words are text.
        Err(_) => Command::shell(format!("{}; set -- \"$path\"; {LOOK}", path.set_in_shell("path"))),
    };
    let looked = host.execute(command).await;
    match looked.map(|output| output.status().code()) {
        Ok(10) => Kind::Directory,
        Ok(11) => Kind::Other,
        _ => Kind::Unknown,
    }
}

async fn copy(app: &App<'_>, source: Found, target: &Found) -> Result<(), Error> {
    let what = match &source {
        Found::Here(path) => path.display().to_string(),
        Found::There(host, path) => format!("{}:{path}", host.label()),
    };
    let copying = Copying::new(&app.console, what);
    let tell = |so_far| copying.tell(so_far);
    match (source, target) {
        (Found::Here(from), Found::There(host, to)) => host.transfer().on_progress(tell).put(from, to.clone()).await,
        (Found::There(host, from), Found::Here(to)) => host.transfer().on_progress(tell).get(from, to).await,
        (Found::There(host, from), Found::There(other, to)) => {
            host.transfer().on_progress(tell).copy_to(from, other, to.clone()).await
        }
        // Refused before anything was looked up.
        (Found::Here(_), Found::Here(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(word: &str) -> Result<Place, CommandError> {
        Place::parse(OsStr::new(word))
    }

    fn there(host: &str, path: &str) -> Place {
        Place::There { host: host.to_owned(), path: path.into() }
    }

    #[test]
    fn places() {
        for (word, expected) in [
            ("0:/etc/hosts", there("0", "/etc/hosts")),
            ("0:x", there("0", "x")),
            ("web.example.com:/a:b", there("web.example.com", "/a:b")),
            ("a:b:c", there("a", "b:c")),
            ("0:/", there("0", "/")),
            ("./0:x", Place::Here("./0:x".into())),
            ("/a:b", Place::Here("/a:b".into())),
            ("dir/0:x", Place::Here("dir/0:x".into())),
            (":x", Place::Here(":x".into())),
            ("plain", Place::Here("plain".into())),
            ("-", Place::Here("-".into())),
        ] {
            assert_eq!(parse(word).unwrap(), expected, "{word}");
        }
        for word in ["", "0:", "web:"] {
            assert!(parse(word).is_err(), "{word}");
        }
    }

    proptest! {
        #[test]
        fn a_path_with_a_slash_in_front_of_any_colon_is_here(word in "[^:/]{0,4}/[ -~]{0,8}") {
            prop_assert_eq!(parse(&word).unwrap(), Place::Here(word.into()));
        }

        #[test]
        fn what_is_put_together_comes_apart(host in "[a-z0-9.-]{1,8}", path in "\\PC{1,12}") {
            prop_assert_eq!(parse(&format!("{host}:{path}")).unwrap(), there(&host, &path));
        }
    }
}
