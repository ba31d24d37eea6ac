//! Hosts as files in a directory.
//!
//! Everything here blocks for as long as a small file takes. The provider calls it without a thread between: a call
//! that is dropped would leave a thread behind that makes a host after everybody has looked for it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use broker_core::provider::{Endpoint, ErrorKind, HostFacts, ProviderError};
use broker_core::{Args, HostId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::options;

/// One host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostFile {
    pub(crate) id: HostId,
    pub(crate) name: Option<String>,
    pub(crate) hostname: String,
    pub(crate) made_at: Timestamp,
    pub(crate) lease_until: Option<Timestamp>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) args: Args,
    pub(crate) facts: serde_json::Map<String, serde_json::Value>,
    /// How often `fail_release` has struck.
    pub(crate) failed_releases: u32,
    /// Whether its checkout came to its end.
    pub(crate) ready: bool,
}

impl HostFile {
    pub(crate) fn facts(&self) -> HostFacts {
        // Seen to be right when the host was made.
        let ssh = options::ssh(&self.args).ok().flatten();
        HostFacts {
            name: self.name.clone(),
            hostname: Some(self.hostname.clone()),
            address: ssh.as_ref().map(|(address, _)| address.clone()),
            ssh_port: ssh.and_then(|(_, port)| port),
            lease_until: self.lease_until,
            facts: self.facts.clone(),
            ..HostFacts::default()
        }
    }
}

/// A directory of hosts, each in a file of its own, `ID.json`.
///
/// `ID.d` beside it is what a host has for a disk, and `ID.log` what it has printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn host_path(&self, id: HostId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    pub(crate) fn disk(&self, id: HostId) -> Disk {
        Disk::new(&self.0, &id.to_string())
    }

    /// The directory as an endpoint. It is made if it is missing, with an identity of its own.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, ProviderError> {
        let identity = self.0.join(".identity");
        let read = || -> io::Result<Endpoint> {
            private().recursive(true).create(&self.0)?;
            if !identity.exists() {
                // A link is made whole or not at all, and by one of many at once.
                let mine = self.0.join(format!(".identity.{}", HostId::generate()));
                fs::write(&mine, HostId::generate().to_string())?;
                let linked = fs::hard_link(&mine, &identity);
                fs::remove_file(&mine)?;
                linked.or_else(|error| tolerate(error, io::ErrorKind::AlreadyExists))?;
            }
            let identity = fs::read_to_string(&identity)?;
            let path = fs::canonicalize(&self.0)?;
            Ok(Endpoint { uri: format!("file://{}", path.display()), identity: identity.trim().to_owned() })
        };
        read().map_err(unusable(&self.0))
    }

    /// Who the directory is, without making it one.
    pub(crate) fn identity(&self) -> Result<Option<String>, ProviderError> {
        let identity = self.0.join(".identity");
        match fs::read_to_string(&identity) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(&identity)(error)),
        }
    }

    pub(crate) fn write(&self, host: &HostFile) -> Result<PathBuf, ProviderError> {
        let path = self.host_path(host.id);
        let temporary = self.0.join(format!(".{}.{}", host.id, HostId::generate()));
        let write = || -> io::Result<()> {
            // Arguments may hold a secret.
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(host)?)?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|error| {
            fs::remove_file(&temporary).ok();
            unusable(&path)(error)
        })?;
        Ok(path)
    }

    /// The host of this id, if there is one.
    pub(crate) fn read(&self, id: HostId) -> Result<Option<HostFile>, ProviderError> {
        self.read_path(&self.host_path(id))
    }

    fn read_path(&self, path: &Path) -> Result<Option<HostFile>, ProviderError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(path)(error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| unusable(path)(error.into()))
    }

    /// Changes a host, unless it is gone, and returns what it is now.
    pub(crate) fn update(
        &self,
        id: HostId,
        change: impl FnOnce(&mut HostFile),
    ) -> Result<Option<HostFile>, ProviderError> {
        // Under the lock, since a change that is written after a removal would bring the host back.
        let _lock = self.lock()?;
        let Some(mut host) = self.read(id)? else { return Ok(None) };
        change(&mut host);
        self.write(&host)?;
        Ok(Some(host))
    }

    /// Removes a host and what it had. That it is gone is no error.
    pub(crate) fn remove(&self, id: HostId) -> Result<(), ProviderError> {
        if !self.0.is_dir() {
            return Ok(());
        }
        let path = self.host_path(id);
        // The host is there for as long as its file is, so that what is interrupted can be repeated.
        self.disk(id).remove()?;
        let _lock = self.lock()?;
        fs::remove_file(&path).or_else(|error| tolerate(error, io::ErrorKind::NotFound)).map_err(unusable(&path))
    }

    fn lock(&self) -> Result<File, ProviderError> {
        let path = self.0.join(".lock");
        let lock = || -> io::Result<File> {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(unusable(&path))
    }

    /// All hosts, by the time they were made.
    pub(crate) fn all(&self) -> Result<Vec<HostFile>, ProviderError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unusable(&self.0)(error)),
        };
        let mut hosts = Vec::new();
        for entry in entries {
            let path = entry.map_err(unusable(&self.0))?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if path.extension() == Some(OsStr::new("json")) && !hidden {
                // One that went in the meantime is not there.
                hosts.extend(self.read_path(&path)?);
            }
        }
        hosts.sort_by_key(|host| host.id);
        Ok(hosts)
    }
}

/// What a host has on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    /// Where its commands run, and its relative paths begin.
    pub(crate) home: PathBuf,
    /// What it has printed.
    pub(crate) console: PathBuf,
}

impl Disk {
    fn new(place: &Path, name: &str) -> Self {
        Self { home: place.join(format!("{name}.d")), console: place.join(format!("{name}.log")) }
    }

    /// The disk of a host that is no file anywhere.
    pub(crate) fn temporary(id: HostId) -> Self {
        Self::new(&std::env::temp_dir(), &format!("broker-test-{id}"))
    }

    /// Makes sure that there is a directory, which is ours.
    pub(crate) fn make(&self) -> io::Result<()> {
        private().create(&self.home).or_else(|error| tolerate(error, io::ErrorKind::AlreadyExists))?;
        let metadata = fs::symlink_metadata(&self.home)?;
        let owner = std::os::unix::fs::MetadataExt::uid(&metadata);
        if !metadata.is_dir() || owner != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to somebody else"));
        }
        Ok(())
    }

    /// Adds a line to what the host has printed.
    pub(crate) fn print(&self, line: &str) -> Result<(), ProviderError> {
        let print = || -> io::Result<()> {
            let mut console = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.console)?;
            console.write_all(format!("{line}\n").as_bytes())
        };
        print().map_err(unusable(&self.console))
    }

    pub(crate) fn remove(&self) -> Result<(), ProviderError> {
        fs::remove_dir_all(&self.home)
            .or_else(|error| tolerate(error, io::ErrorKind::NotFound))
            .map_err(unusable(&self.home))?;
        fs::remove_file(&self.console)
            .or_else(|error| tolerate(error, io::ErrorKind::NotFound))
            .map_err(unusable(&self.console))
    }
}

fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

fn tolerate(error: io::Error, kind: io::ErrorKind) -> io::Result<()> {
    if error.kind() == kind { Ok(()) } else { Err(error) }
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> ProviderError + use<'_> {
    move |error| {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Permission,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Quota,
            _ => ErrorKind::Failed,
        };
        ProviderError::new(kind, format!("cannot use `{}`", path.display())).source(error)
    }
}
