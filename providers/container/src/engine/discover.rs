//! Finding the engine: which places are tried, in which order, and what is said when none of them answers.
//!
//! What somebody named is the only place tried: a setting, an environment variable, a Docker context. Only where nothing
//! is named are the well-known sockets tried in turn, Podman's before Docker's, unless the setting `runtime` says
//! `docker`.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use broker_core::provider::{ErrorKind, ProviderError};
use serde::Deserialize;

use super::address::{Address, AddressError};
use crate::settings::{Runtime, Settings};

/// What discovery looks at beside the settings: the environment, as a parameter so that tests can make their own.
pub(crate) struct Surroundings<'a> {
    pub(crate) variable: &'a (dyn Fn(&str) -> Option<String> + Sync),
    pub(crate) user: Option<u32>,
}

impl Surroundings<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }

    /// Where Docker's client keeps its configuration.
    pub(crate) fn docker_config(&self) -> Option<PathBuf> {
        self.get("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(self.home()?.join(".docker")))
    }

    pub(crate) fn runtime_dir(&self) -> Option<PathBuf> {
        self.get("XDG_RUNTIME_DIR").map(PathBuf::from)
    }
}

/// The process's own environment.
pub(crate) fn here() -> Surroundings<'static> {
    let user = std::fs::metadata("/proc/self").ok().map(|entry| entry.uid());
    Surroundings { variable: &|name| std::env::var(name).ok(), user }
}

/// A place to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: Result<Address, AddressError>,
    /// The text as it was written, for messages.
    pub(crate) text: String,
    /// What named it; nothing for well-known places.
    pub(crate) named_by: Option<String>,
    /// The kind of engine that listens there, if that is known.
    pub(crate) runtime: Option<Runtime>,
}

impl Place {
    fn named(text: &str, by: &str) -> Self {
        Self { address: Address::parse(text), text: text.to_owned(), named_by: Some(by.to_owned()), runtime: None }
    }

    fn well_known(path: PathBuf, runtime: Runtime) -> Option<Self> {
        let path = path.into_os_string().into_string().ok()?;
        let text = format!("unix://{path}");
        Some(Self { address: Ok(Address::Unix(path)), text, named_by: None, runtime: Some(runtime) })
    }
}

/// All places to try, in order. Never empty.
pub(crate) fn places(settings: &Settings, around: &Surroundings<'_>) -> Vec<Place> {
    if let Some(host) = &settings.host {
        return if host == "localhost" {
            well_known(settings.runtime, settings.runtime, around)
        } else {
            vec![named_by_settings(settings, host)]
        };
    }
    let mut variables = ["DOCKER_HOST", "CONTAINER_HOST"];
    if settings.runtime == Some(Runtime::Podman) {
        variables.reverse();
    }
    for name in variables {
        if let Some(value) = around.get(name) {
            let mut place = Place::named(&value, &format!("`{name}`"));
            let encrypted = name == "DOCKER_HOST" && around.get("DOCKER_TLS_VERIFY").is_some();
            if encrypted && matches!(place.address, Ok(Address::Tcp { .. })) {
                place.address = Err(AddressError::Tls);
            }
            return vec![place];
        }
    }
    if settings.runtime != Some(Runtime::Podman)
        && let Some(place) = context(around)
    {
        return vec![place];
    }
    well_known(None, settings.runtime, around)
}

fn named_by_settings(settings: &Settings, host: &str) -> Place {
    let by = "setting `Container.host`";
    if host.starts_with('/') || host.contains("://") {
        return Place::named(host, by);
    }
    // The Python tool's way: a bare name, and the port beside it; port 22 means SSH.
    let port = settings.host_port.unwrap_or(super::address::DEFAULT_PORT);
    let address = if port == 22 { Err(AddressError::Ssh) } else { Address::tcp(host, port) };
    Place { address, text: format!("{host}:{port}"), named_by: Some(by.to_owned()), runtime: None }
}

fn well_known(only: Option<Runtime>, first: Option<Runtime>, around: &Surroundings<'_>) -> Vec<Place> {
    let mut podman = Vec::new();
    if let Some(dir) = around.runtime_dir() {
        podman.push(dir.join("podman/podman.sock"));
    }
    if let Some(user) = around.user {
        podman.push(PathBuf::from(format!("/run/user/{user}/podman/podman.sock")));
    }
    podman.push(PathBuf::from("/run/podman/podman.sock"));
    podman.dedup();
    let mut docker = vec![PathBuf::from("/var/run/docker.sock")];
    if let Some(home) = around.home() {
        docker.push(home.join(".docker/run/docker.sock"));
        docker.push(home.join(".docker/desktop/docker.sock"));
    }
    let podman = podman.into_iter().filter_map(|path| Place::well_known(path, Runtime::Podman));
    let docker = docker.into_iter().filter_map(|path| Place::well_known(path, Runtime::Docker));
    let mut all: Vec<Place> = match first {
        Some(Runtime::Docker) => docker.chain(podman).collect(),
        Some(Runtime::Podman) | None => podman.chain(docker).collect(),
    };
    if let Some(only) = only {
        all.retain(|place| place.runtime == Some(only));
    }
    all
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextMeta {
    name: String,
    #[serde(default)]
    endpoints: std::collections::HashMap<String, ContextEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextEndpoint {
    host: Option<String>,
}

/// The place of the Docker context in use, where it is another than the default one.
fn context(around: &Surroundings<'_>) -> Option<Place> {
    let config = around.docker_config()?;
    let (name, by) = match around.get("DOCKER_CONTEXT") {
        Some(name) => (name, "`DOCKER_CONTEXT`".to_owned()),
        None => {
            let text = std::fs::read_to_string(config.join("config.json")).ok()?;
            let name = serde_json::from_str::<DockerConfig>(&text).ok()?.current_context?;
            (name, "the current Docker context".to_owned())
        }
    };
    if name.is_empty() || name == "default" {
        return None;
    }
    let by = format!("{by}, `{name}`");
    // The folders are called by a hash of the name; the name itself is inside.
    let folders = std::fs::read_dir(config.join("contexts/meta")).ok();
    for folder in folders.into_iter().flatten().flatten() {
        let Ok(text) = std::fs::read_to_string(folder.path().join("meta.json")) else { continue };
        let Ok(meta) = serde_json::from_str::<ContextMeta>(&text) else { continue };
        if meta.name != name {
            continue;
        }
        let host = meta.endpoints.get("docker").and_then(|endpoint| endpoint.host.clone()).unwrap_or_default();
        let mut place = Place::named(&host, &by);
        let keys = config.join("contexts/tls").join(folder.file_name()).join("docker");
        if keys.exists() && matches!(place.address, Ok(Address::Tcp { .. })) {
            place.address = Err(AddressError::Tls);
        }
        return Some(place);
    }
    let text = format!("context {name}");
    Some(Place { address: Err(AddressError::NoContext), text, named_by: Some(by), runtime: None })
}

/// Why one place did not do.
#[derive(Debug)]
pub(crate) struct Tried {
    text: String,
    named_by: Option<String>,
    why: String,
    permission: bool,
}

impl Tried {
    pub(crate) fn unusable(place: &Place, why: &AddressError) -> Self {
        Self { text: place.text.clone(), named_by: place.named_by.clone(), why: why.to_string(), permission: false }
    }

    pub(crate) fn unreachable(place: &Place, error: &std::io::Error) -> Self {
        let (why, remedy) = match (error.kind(), place.runtime) {
            (std::io::ErrorKind::NotFound, Some(Runtime::Podman)) if place.text.starts_with("unix:///run/podman/") => {
                ("missing".to_owned(), "start it with `systemctl start podman.socket`")
            }
            (std::io::ErrorKind::NotFound, Some(Runtime::Podman)) => {
                ("missing".to_owned(), "start it with `systemctl --user start podman.socket`")
            }
            (std::io::ErrorKind::NotFound, _) => ("missing".to_owned(), ""),
            (std::io::ErrorKind::PermissionDenied, Some(Runtime::Docker)) => {
                ("permission denied".to_owned(), "join the group `docker`, or use rootless Podman")
            }
            (std::io::ErrorKind::PermissionDenied, _) => {
                ("permission denied".to_owned(), "ask for access to the socket, or use rootless Podman")
            }
            (std::io::ErrorKind::ConnectionRefused, Some(Runtime::Docker)) => {
                ("refused".to_owned(), "start it with `systemctl start docker`")
            }
            (std::io::ErrorKind::ConnectionRefused, _) => ("refused".to_owned(), "nothing listens there"),
            (std::io::ErrorKind::TimedOut, _) => ("no answer in time".to_owned(), ""),
            _ => (error.to_string(), ""),
        };
        let why = if remedy.is_empty() { why } else { format!("{why}; {remedy}") };
        let permission = error.kind() == std::io::ErrorKind::PermissionDenied;
        Self { text: place.text.clone(), named_by: place.named_by.clone(), why, permission }
    }

    pub(crate) fn no_engine(place: &Place, error: &ProviderError) -> Self {
        let why = format!("answers, but not as a container engine: {error}");
        Self { text: place.text.clone(), named_by: place.named_by.clone(), why, permission: false }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.text)?;
        if let Some(by) = &self.named_by {
            write!(f, " from {by}")?;
        }
        write!(f, " ({})", self.why)
    }
}

/// The error when no place does, with all of them and why.
pub(crate) fn none_found(tried: &[Tried]) -> ProviderError {
    let kind = if tried.iter().any(|one| one.permission) { ErrorKind::Permission } else { ErrorKind::Unreachable };
    let places: Vec<String> = tried.iter().map(Tried::to_string).collect();
    ProviderError::new(kind, format!("no container engine answers; tried {}", places.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(settings: &Settings, variables: &[(&str, &str)]) -> Vec<String> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        places(settings, &Surroundings { variable: &lookup, user: Some(1000) })
            .into_iter()
            .map(|place| match place.address {
                Ok(address) => address.to_string(),
                Err(error) => format!("{}: {error}", place.text),
            })
            .collect()
    }

    fn settings(host: Option<&str>, runtime: Option<Runtime>, host_port: Option<u16>) -> Settings {
        Settings { host: host.map(str::to_owned), runtime, host_port, ..Settings::default() }
    }

    const PODMAN: [&str; 3] = [
        "unix:///run/user/7/podman/podman.sock",
        "unix:///run/user/1000/podman/podman.sock",
        "unix:///run/podman/podman.sock",
    ];
    const DOCKER: [&str; 3] = [
        "unix:///var/run/docker.sock",
        "unix:///home/jane/.docker/run/docker.sock",
        "unix:///home/jane/.docker/desktop/docker.sock",
    ];
    const AROUND: [(&str, &str); 2] = [("XDG_RUNTIME_DIR", "/run/user/7"), ("HOME", "/home/jane")];

    #[test]
    fn well_known_sockets_in_order() {
        assert_eq!(texts(&settings(None, None, None), &AROUND), [PODMAN, DOCKER].concat());
        assert_eq!(texts(&settings(None, Some(Runtime::Docker), None), &AROUND), [DOCKER, PODMAN].concat());
        assert_eq!(texts(&settings(Some("localhost"), Some(Runtime::Docker), None), &AROUND), DOCKER);
        assert_eq!(texts(&settings(Some("localhost"), Some(Runtime::Podman), None), &AROUND), PODMAN);
        assert_eq!(texts(&settings(Some("localhost"), None, None), &AROUND), [PODMAN, DOCKER].concat());
    }

    #[test]
    fn what_is_named_is_the_only_place() {
        let docker = [("DOCKER_HOST", "tcp://a:1"), ("CONTAINER_HOST", "unix:///b")];
        assert_eq!(texts(&settings(None, None, None), &docker), ["tcp://a:1"]);
        assert_eq!(texts(&settings(None, Some(Runtime::Podman), None), &docker), ["unix:///b"]);
        assert_eq!(texts(&settings(Some("/x.sock"), None, None), &docker), ["unix:///x.sock"]);
        assert_eq!(texts(&settings(Some("lab"), None, Some(99)), &docker), ["tcp://lab:99"]);
        assert!(texts(&settings(Some("lab"), None, Some(22)), &[])[0].contains("SSH are not supported"));
        let tls = [("DOCKER_HOST", "tcp://a:1"), ("DOCKER_TLS_VERIFY", "1")];
        assert!(texts(&settings(None, None, None), &tls)[0].contains("TLS are not supported"));
        let ssh = [("DOCKER_HOST", "ssh://a")];
        assert!(texts(&settings(None, None, None), &ssh)[0].contains("ssh -L"));
    }

    #[test]
    fn docker_contexts() {
        let dir = tempfile::tempdir().unwrap();
        let meta = dir.path().join("contexts/meta/0123");
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(
            meta.join("meta.json"),
            r#"{"Name":"lab","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///lab.sock","SkipTLSVerify":false}}}"#,
        )
        .unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"currentContext":"lab","auths":{}}"#).unwrap();
        let config = ("DOCKER_CONFIG", dir.path().to_str().unwrap());
        assert_eq!(texts(&settings(None, None, None), &[config]), ["unix:///lab.sock"]);
        assert_eq!(texts(&settings(None, None, None), &[config, ("DOCKER_CONTEXT", "default")]).len(), 3);
        let unknown = texts(&settings(None, None, None), &[config, ("DOCKER_CONTEXT", "nope")]);
        assert!(unknown[0].starts_with("context nope"), "{unknown:?}");
    }

    #[test]
    fn the_error_names_every_place_and_the_remedy() {
        let place = |path: &str, runtime| Place::well_known(PathBuf::from(path), runtime).unwrap();
        let io = |kind: std::io::ErrorKind| std::io::Error::from(kind);
        let error = none_found(&[
            Tried::unreachable(&place("/run/podman/podman.sock", Runtime::Podman), &io(std::io::ErrorKind::NotFound)),
            Tried::unreachable(
                &place("/var/run/docker.sock", Runtime::Docker),
                &io(std::io::ErrorKind::PermissionDenied),
            ),
        ]);
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert_eq!(
            error.to_string(),
            "no container engine answers; tried `unix:///run/podman/podman.sock` (missing; start it with \
             `systemctl start podman.socket`), `unix:///var/run/docker.sock` (permission denied; join the group \
             `docker`, or use rootless Podman)"
        );
    }
}
