//! Where the program is that becomes the guardian.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The environment variable that names the program, where the code does not. `off` is for none.
const VARIABLE: &str = "BROKER_GUARDIAN";

/// What the program is called where it is looked for.
const NAME: &str = "broker";

/// Which program a broker wants as its guardian.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The one that is found.
    #[default]
    Find,
    /// This one.
    At(PathBuf),
    /// None at all.
    Nobody,
}

/// What looking for a program came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Program {
    At(PathBuf),
    Unwanted,
    Missing,
}

impl Choice {
    pub(super) fn program(&self) -> Program {
        match self {
            Self::At(path) => Program::At(path.clone()),
            Self::Nobody => Program::Unwanted,
            Self::Find => {
                let own = std::env::current_exe().ok();
                let (given, path) = (std::env::var_os(VARIABLE), std::env::var_os("PATH"));
                find(given.as_deref(), own.as_deref(), path.as_deref())
            }
        }
    }
}

/// By the variable, else beside the own program, where a workspace that has it builds it, else on the `PATH`.
fn find(given: Option<&OsStr>, own: Option<&Path>, path: Option<&OsStr>) -> Program {
    if let Some(given) = given.filter(|given| !given.is_empty()) {
        return if given == "off" { Program::Unwanted } else { Program::At(given.into()) };
    }
    let beside = own.and_then(Path::parent);
    // Tests are in `target/debug/deps`, and examples in `target/debug/examples`.
    let above = beside.filter(|beside| beside.ends_with("deps") || beside.ends_with("examples")).and_then(Path::parent);
    let on_path: Vec<PathBuf> = path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    let places = beside.into_iter().chain(above).map(Path::to_owned).chain(on_path);
    // A relative place is somewhere else after the next change of directory.
    let programs = places.filter(|place| place.is_absolute()).map(|place| place.join(NAME));
    programs.into_iter().find(|program| is_executable(program)).map_or(Program::Missing, Program::At)
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_program_is_found_where_it_may_be() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str, mode| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let test = root.path().join("target/debug/deps/test-1234");
        let path =
            std::env::join_paths([Path::new("bin"), &root.path().join("none"), &root.path().join("bin")]).unwrap();
        let look = || find(None, Some(&test), Some(&path));
        assert_eq!(look(), Program::Missing);
        make("target/debug/broker", 0o644);
        assert_eq!(look(), Program::Missing, "what cannot be run is no program");
        let installed = make("bin/broker", 0o755);
        assert_eq!(look(), Program::At(installed));
        let built = make("target/debug/broker", 0o755);
        assert_eq!(look(), Program::At(built));
        assert_eq!(find(Some(OsStr::new("off")), Some(&test), Some(&path)), Program::Unwanted);
        assert_eq!(find(Some(OsStr::new("/opt/mine")), Some(&test), None), Program::At("/opt/mine".into()));
        assert_eq!(find(Some(OsStr::new("")), None, None), Program::Missing);
    }
}
