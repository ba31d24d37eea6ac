//! The files that an `Include` names.

use std::path::{Component, Path, PathBuf};

use super::super::pattern;

/// The files that a path with `*` and `?` in it describes, in the order of their names. What begins with a dot is only
/// found by a dot.
pub(super) fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in path.components() {
        let part = component.as_os_str().to_string_lossy();
        let is_pattern = matches!(component, Component::Normal(_)) && part.contains(['*', '?']);
        found = found
            .into_iter()
            .flat_map(|parent| if is_pattern { matching(&parent, &part) } else { vec![parent.join(component)] })
            .collect();
    }
    found.retain(|path| !path.is_dir());
    found
}

fn matching(directory: &Path, part: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            pattern::matches(part, &name) && (part.starts_with('.') || !name.starts_with('.'))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}
