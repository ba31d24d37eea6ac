//! Files that are put into a container before it starts.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use broker_core::{ArgValue, Args};

use super::Bad;

/// How much may be put in by contents that are part of the request: every change of the host writes them down once more.
const MOST_INLINE: usize = 64 * 1024;

/// One file for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PutFile {
    /// Where it goes: an absolute path of a file.
    pub(crate) to: String,
    /// Its permission bits; those of the source, or `0o644`, where there are none.
    pub(crate) mode: Option<u32>,
    pub(crate) contents: Contents,
}

/// Where a file's contents come from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Contents {
    Bytes(Vec<u8>),
    /// A file on this machine.
    File(PathBuf),
}

/// Without the contents, which may be secret.
impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File(path) => path.fmt(f),
        }
    }
}

/// Reads the argument `files`: a mapping of paths in the container to `{content: …}`, `{source: …}` or `{base64: …}`,
/// each with an optional `mode`.
pub(super) fn parse(value: &ArgValue) -> Result<Vec<PutFile>, Bad> {
    let map = value.as_map().ok_or_else(|| {
        Bad("it must be a mapping of paths in the container to `{content: …}`, `{source: …}` or `{base64: …}`"
            .to_owned())
    })?;
    let files = map.iter().map(|(to, what)| parse_one(to, what)).collect::<Result<Vec<_>, _>>()?;
    let sizes = files.iter().filter_map(|file| match &file.contents {
        Contents::Bytes(bytes) => Some((bytes.len(), &file.to)),
        Contents::File(_) => None,
    });
    let all: usize = sizes.clone().map(|(size, _)| size).sum();
    match sizes.max() {
        Some((_, largest)) if all > MOST_INLINE => Err(Bad(format!(
            "`{largest}`: contents in the request are written down with it, and have {} KiB in all at the most; give a file by \
             its path as `source` (`file_from`)",
            MOST_INLINE / 1024
        ))),
        _ => Ok(files),
    }
}

fn parse_one(to: &str, what: &ArgValue) -> Result<PutFile, Bad> {
    let bad = |text: String| Bad(format!("`{to}`: {text}"));
    if !to.starts_with('/') || to.ends_with('/') || to.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(bad("a file's path in the container must be absolute, without `.` or `..`".to_owned()));
    }
    let fields: &Args =
        what.as_map().ok_or_else(|| bad("it must be `{content: …}`, `{source: …}` or `{base64: …}`".to_owned()))?;
    let mut mode = None;
    let mut contents = None;
    for (key, field) in fields {
        let text = field.as_str().ok_or_else(|| bad(format!("`{key}` must be a text")))?;
        let found = match key.as_str() {
            "mode" => {
                mode = Some(parse_mode(text).ok_or_else(|| bad(format!("`{text}` is no mode; write it like `0644`")))?);
                continue;
            }
            "content" => Contents::Bytes(text.as_bytes().to_vec()),
            "base64" => {
                let packed: String = text.split_ascii_whitespace().collect();
                Contents::Bytes(BASE64_STANDARD.decode(packed).map_err(|error| bad(format!("no Base64: {error}")))?)
            }
            "source" => {
                let path = PathBuf::from(text);
                let entry = std::fs::metadata(&path).map_err(|error| bad(format!("source `{text}`: {error}")))?;
                if !entry.is_file() {
                    return Err(bad(format!("source `{text}` is not a regular file")));
                }
                Contents::File(path)
            }
            other => {
                return Err(bad(format!("`{other}` is unknown; use `content`, `source`, `base64` and `mode`")));
            }
        };
        if contents.replace(found).is_some() {
            return Err(bad("only one of `content`, `source` and `base64` can be given".to_owned()));
        }
    }
    let contents = contents.ok_or_else(|| bad("one of `content`, `source` and `base64` is needed".to_owned()))?;
    Ok(PutFile { to: to.to_owned(), mode, contents })
}

/// Reads `644`, `0644` or `0o644`.
fn parse_mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: serde_json::Value) -> Result<Vec<PutFile>, Bad> {
        super::parse(&ArgValue::from_json(json))
    }

    #[test]
    fn contents_of_three_kinds() {
        let files = parse(serde_json::json!({
            "/a": {"content": "x", "mode": "0600"},
            "/b": {"base64": "/wA=\n"},
            "/c": {"source": "Cargo.toml", "mode": "0o755"},
        }))
        .unwrap();
        assert_eq!((files[0].mode, &files[0].contents), (Some(0o600), &Contents::Bytes(b"x".to_vec())));
        assert_eq!((files[1].mode, &files[1].contents), (None, &Contents::Bytes(vec![0xff, 0])));
        assert_eq!((files[2].mode, &files[2].contents), (Some(0o755), &Contents::File("Cargo.toml".into())));
        assert_eq!(format!("{:?}", files[0].contents), "1 bytes");
    }

    #[test]
    fn contents_in_the_request_are_small() {
        let half = "x".repeat(MOST_INLINE / 2);
        let packed = BASE64_STANDARD.encode(&half);
        assert!(parse(serde_json::json!({"/a": {"content": half}, "/b": {"base64": packed}})).is_ok());
        let more = format!("{half}x");
        let error = parse(serde_json::json!({"/a": {"content": half}, "/b": {"content": more}})).unwrap_err().0;
        assert!(error.starts_with("`/b`: contents in the request") && error.contains("64 KiB"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large");
        std::fs::write(&large, vec![0; MOST_INLINE * 2]).unwrap();
        assert!(parse(serde_json::json!({"/a": {"source": large}})).is_ok());
    }

    #[test]
    fn what_is_no_file() {
        for (json, part) in [
            (serde_json::json!("x"), "must be a mapping"),
            (serde_json::json!({"a": {"content": ""}}), "`a`: a file's path in the container must be absolute"),
            (serde_json::json!({"/a/../b": {"content": ""}}), "without `.` or `..`"),
            (serde_json::json!({"/a": "text"}), "`/a`: it must be `{content"),
            (serde_json::json!({"/a": {}}), "one of `content`"),
            (serde_json::json!({"/a": {"content": "", "base64": ""}}), "only one of"),
            (serde_json::json!({"/a": {"content": "", "mode": "rw"}}), "`rw` is no mode"),
            (serde_json::json!({"/a": {"content": "", "mode": "99999"}}), "`99999` is no mode"),
            (serde_json::json!({"/a": {"base64": "?"}}), "no Base64"),
            (serde_json::json!({"/a": {"source": "/nowhere/x"}}), "source `/nowhere/x`: No such file"),
            (serde_json::json!({"/a": {"source": "/"}}), "source `/` is not a regular file"),
            (serde_json::json!({"/a": {"text": ""}}), "`text` is unknown"),
        ] {
            let error = parse(json.clone()).unwrap_err().0;
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
