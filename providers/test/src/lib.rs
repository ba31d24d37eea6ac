//! A provider that needs no service, and is slow, fails or hangs when it is told to: for trying Broker out, and for
//! tests of everything that must hold when providers misbehave.
//!
//! Its hosts are files in a directory: `BROKER_TEST_PROVIDER_DIR`, or the setting `directory`, which goes first. One
//! file is one host, from before the checkout returns until its release. Without a directory the hosts are nowhere:
//! checking one out makes nothing, and nothing is found or listed.
//!
//! Commands on a host run on this machine, in a directory of the host's own; with the argument `test_ssh` they run where
//! an SSH server answers. What they append to the file that
//! `BROKER_TEST_CONSOLE` names is the host's log.

mod directory;
mod options;
mod process;
mod session;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use broker_core::inventory::{HostRecord, Secrets, args_to_json};
use broker_core::provider::{
    ActionInfo, Endpoint, ErrorKind, Execution, Found, HostFacts, Identity, Lease, Order, Provider, ProviderError,
    ProviderFactory, ProviderInfo, Query, QueryInfo, Scope, Table, factory as make_factory,
};
use broker_core::session::{Access, SessionError, SessionErrorKind, SshLogin};
use broker_core::settings::ProviderSettings;
use broker_core::{Args, HostId, LogRequest};
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::directory::{Directory, Disk, HostFile};
use crate::options::{Course, Fault, Moment, ReleaseCourse};
use crate::session::DirectorySession;

/// The environment variable that names the directory of hosts. Read when the provider is built.
pub const DIRECTORY_VARIABLE: &str = "BROKER_TEST_PROVIDER_DIR";

/// How often the log of a host is looked at for more.
const LOG_PERIOD: Duration = Duration::from_millis(100);

/// The provider's factory, under the name `TestProvider`.
///
/// Settings: `directory` (where the hosts are), `foo` and `config_value` (set as facts on every host). None is needed.
pub fn factory() -> Arc<dyn ProviderFactory> {
    let info = ProviderInfo {
        name: "TestProvider",
        about: "hosts that exist for tests alone, and go wrong when told to",
        actions: vec![ActionInfo {
            name: "test_action",
            value: "NAME",
            help: "Makes a host for tests, or does nothing at all, under any name",
            makes_host: true,
            executes: true,
        }],
        arguments: options::arguments(),
        queries: vec![QueryInfo { name: "test_actions", value: None, help: "The ways in which a test action can go" }],
        facts: vec!["os_distribution", "os_distribution_version", "reported_devices", "foo", "config_value"],
        ..ProviderInfo::default()
    };
    make_factory(info, |settings| {
        let configured = settings.text("directory")?.map(PathBuf::from);
        let inherited = || std::env::var_os(DIRECTORY_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        Ok(Arc::new(TestProvider::new(settings, configured.or_else(inherited))?))
    })
}

/// One instance of the provider.
#[derive(Debug)]
struct TestProvider {
    directory: Option<Directory>,
    labels: BTreeMap<String, String>,
    facts: Map<String, Value>,
    /// Checkouts and executions that were asked for with `fail_every`.
    counted: AtomicU64,
    /// How often the releases of hosts that are no files have failed.
    failed_releases: Mutex<HashMap<HostId, u32>>,
}

impl TestProvider {
    fn new(settings: &ProviderSettings, directory: Option<PathBuf>) -> Result<Self, ProviderError> {
        let mut facts = Map::from_iter([
            ("os_distribution".to_owned(), json!("FakeOS")),
            ("os_distribution_version".to_owned(), json!("1.0")),
            ("reported_devices".to_owned(), json!({"nics": ["lo", "eth0"]})),
        ]);
        for key in ["foo", "config_value"] {
            if let Some(value) = settings.text(key)? {
                facts.insert(key.to_owned(), json!(value));
            }
        }
        Ok(Self {
            directory: directory.map(Directory::new),
            labels: settings.labels.clone(),
            facts,
            counted: AtomicU64::new(0),
            failed_releases: Mutex::default(),
        })
    }

    /// The fault that strikes this time, if one does.
    fn fault(&self, course: &Course) -> Option<Fault> {
        let strikes = course.every.is_none_or(|every| (self.counted.fetch_add(1, Ordering::Relaxed) + 1) % every == 0);
        course.fault.filter(|_| strikes)
    }

    fn host_file(&self, order: &Order) -> Result<HostFile, ProviderError> {
        let hostname = options::text(&order.args, "hostname")?;
        let mut labels = self.labels.clone();
        labels.extend(order.labels.clone());
        labels.extend(order.identity_labels());
        Ok(HostFile {
            id: order.id,
            name: options::text(&order.args, "name")?.map(str::to_owned),
            hostname: hostname.map_or_else(|| format!("test-{}.host.example.com", order.id.short()), str::to_owned),
            made_at: Timestamp::now(),
            lease_until: order.lease_until,
            labels,
            args: order.args.clone(),
            facts: self.facts.clone(),
            failed_releases: 0,
            ready: false,
        })
    }

    /// Notes that the host can be used from now on.
    fn finish(&self, host: &HostFile) -> Result<(), ProviderError> {
        if let Some(directory) = self.directory.as_ref().filter(|_| !host.ready) {
            directory.update(host.id, |host| host.ready = true)?;
        }
        Ok(())
    }

    /// What is known of a host at the place that its record names.
    fn look_up(&self, host: &HostRecord) -> Result<Option<HostFile>, ProviderError> {
        self.same_endpoint(host)?;
        self.directory.as_ref().map_or(Ok(None), |directory| directory.read(host.id))
    }

    fn same_endpoint(&self, host: &HostRecord) -> Result<(), ProviderError> {
        let Some(made_at) = &host.endpoint else { return Ok(()) };
        let now = match &self.directory {
            Some(directory) => directory.identity()?,
            None => Some(nowhere().identity),
        };
        if now.as_deref() == Some(&made_at.identity) {
            return Ok(());
        }
        let here = match &self.directory {
            Some(directory) => format!("`{}`", directory.path().display()),
            None => "no directory".to_owned(),
        };
        let message = format!("host `{}` was made at `{}`, and the provider has {here} now", host.label(), made_at.uri);
        Err(ProviderError::new(ErrorKind::EndpointChanged, message))
    }

    fn disk(&self, id: HostId) -> Disk {
        self.directory.as_ref().map_or_else(|| Disk::temporary(id), |directory| directory.disk(id))
    }

    /// The fault of a release, if it strikes once more.
    fn release_fault(&self, host: &HostRecord, course: &ReleaseCourse) -> Result<Option<Fault>, ProviderError> {
        let Some(fault) = course.fault else { return Ok(None) };
        let struck = match &self.directory {
            Some(directory) => {
                let host =
                    directory.update(host.id, |host| host.failed_releases = host.failed_releases.saturating_add(1))?;
                host.map_or(u32::MAX, |host| host.failed_releases)
            }
            None => {
                let mut failed = self.failed_releases.lock();
                let struck = failed.entry(host.id).or_default();
                *struck = struck.saturating_add(1);
                *struck
            }
        };
        Ok(Some(fault).filter(|_| course.times.is_none_or(|times| struck <= times.get())))
    }
}

#[async_trait]
impl Provider for TestProvider {
    async fn endpoint(&self) -> Result<Endpoint, ProviderError> {
        self.directory.as_ref().map_or_else(|| Ok(nowhere()), Directory::endpoint)
    }

    async fn checkout(&self, order: &Order) -> Result<HostFacts, ProviderError> {
        let course = Course::read(&order.args)?;
        // Said now, not when the host is to go.
        ReleaseCourse::read(&order.args)?;
        options::ssh(&order.args)?;
        let fault = self.fault(&course);
        let host = HostFile { ready: course.delay.is_zero() && fault.is_none(), ..self.host_file(order)? };
        let what = format!("checking out `{}`", order.target());

        order.progress("making the host");
        wait(order, course.delay / 2).await?;
        if let Some(fault) = fault.filter(|fault| fault.moment() == Moment::Before) {
            return Err(fault.strike(&what).await);
        }
        if let Some(directory) = &self.directory {
            directory.endpoint()?;
            let made = directory.write(&host)?;
            let told = async {
                directory.disk(order.id).print(&format!("{} made for {}", host.made_at, order.origin))?;
                order.made(json!({"file": made})).await
            };
            if let Err(error) = told.await {
                return Err(undo(directory, order.id, error));
            }
        }
        order.progress("waiting for the host");
        let rest = wait(order, course.delay.saturating_sub(course.delay / 2)).await;
        let error = match (rest, fault) {
            (Ok(()), None) => match self.finish(&host) {
                Ok(()) => return Ok(host.facts()),
                Err(error) => error,
            },
            (Err(cancelled), _) => cancelled,
            (Ok(()), Some(fault)) => {
                let error = fault.strike(&what).await;
                if fault.moment() == Moment::After {
                    return Err(error.leaving_something());
                }
                error
            }
        };
        Err(match &self.directory {
            Some(directory) => undo(directory, order.id, error),
            None => error,
        })
    }

    async fn release(&self, host: &HostRecord) -> Result<(), ProviderError> {
        self.same_endpoint(host)?;
        let args = match &self.directory {
            Some(directory) => match directory.read(host.id) {
                Ok(Some(file)) => file.args,
                // Gone already; or not to be read, which is no reason to keep it.
                Ok(None) | Err(_) => Args::new(),
            },
            None => host.details.args.clone(),
        };
        let course = ReleaseCourse::read(&args)?;
        pause(course.delay).await;
        if let Some(fault) = self.release_fault(host, &course)? {
            return Err(fault.strike(&format!("releasing `{}`", host.label())).await);
        }
        match &self.directory {
            Some(directory) => directory.remove(host.id),
            None => Disk::temporary(host.id).remove(),
        }
    }

    async fn extend(&self, host: &HostRecord, by: Lease) -> Result<HostFacts, ProviderError> {
        self.same_endpoint(host)?;
        let Some(directory) = &self.directory else {
            return Ok(HostFacts { lease_until: Some(by.extending(host.lease_until)), ..HostFacts::default() });
        };
        let changed = directory.update(host.id, |file| file.lease_until = Some(by.extending(file.lease_until)))?;
        let file = changed.ok_or_else(|| {
            let message = format!("host `{}` does not exist at `{}`", host.label(), directory.path().display());
            ProviderError::new(ErrorKind::NotFound, message)
        })?;
        if let Some(until) = file.lease_until {
            directory.disk(host.id).print(&format!("{} lease extended to {until}", Timestamp::now()))?;
        }
        Ok(HostFacts { lease_until: file.lease_until, ..HostFacts::default() })
    }

    /// A host's file is written in one go, so nothing comes to be after a call was cut off.
    fn settle_time(&self, _host: &HostRecord) -> Duration {
        Duration::ZERO
    }

    async fn execute(&self, order: &Order) -> Result<Execution, ProviderError> {
        let course = Course::read(&order.args)?;
        let fault = self.fault(&course);
        order.progress("running the action");
        wait(order, course.delay).await?;
        let output = args_to_json(&order.args, Secrets::Hidden);
        let Some(fault) = fault else { return Ok(Execution { failure: None, output }) };
        let error = fault.strike(&format!("executing `{}`", order.target())).await;
        if error.kind() == ErrorKind::Failed {
            return Ok(Execution { failure: Some(error.to_string()), output });
        }
        Err(error)
    }

    /// All hosts in the directory; with an argument, those whose hostname or name begins with it.
    async fn list(&self, scope: &Scope) -> Result<Vec<Found>, ProviderError> {
        let Some(directory) = self.directory.clone() else { return Ok(Vec::new()) };
        let hosts = tokio::task::spawn_blocking(move || directory.all())
            .await
            .map_err(|error| ProviderError::new(ErrorKind::Bug, "listing the hosts broke off").source(error))??;
        let prefix = scope.argument.as_deref().unwrap_or_default();
        let wanted = |host: &HostFile| {
            host.hostname.starts_with(prefix) || host.name.as_ref().is_some_and(|name| name.starts_with(prefix))
        };
        Ok(hosts.into_iter().filter(wanted).map(found).collect())
    }

    async fn find(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        Ok(self.look_up(host)?.map(found).into_iter().collect())
    }

    async fn query(&self, query: &Query) -> Result<Table, ProviderError> {
        if query.name != "test_actions" {
            let message = format!("`{}` is nothing that can be asked", query.name);
            return Err(ProviderError::new(ErrorKind::Unsupported, message));
        }
        let row = |name: &str, about: &str| vec![name.to_owned(), about.to_owned()];
        let arguments = options::arguments();
        let mut rows = vec![row("--test-action NAME", "Works at once, under any name")];
        rows.extend(arguments.iter().map(|argument| {
            let option = argument.name.replace('_', "-");
            row(format!("--{option} {}", argument.value.unwrap_or_default()).trim_end(), argument.help)
        }));
        Ok(Table { columns: vec!["option".to_owned(), "effect".to_owned()], rows })
    }

    async fn access(&self, host: &HostRecord) -> Result<Access, SessionError> {
        self.same_endpoint(host)
            .map_err(|error| SessionError::new(SessionErrorKind::Unreachable, error.to_string()))?;
        let ssh = options::ssh(&host.details.args)
            .map_err(|error| SessionError::new(SessionErrorKind::Failed, error.to_string()))?;
        if ssh.is_some() {
            return Ok(Access::Ssh(SshLogin::default()));
        }
        let file = self.directory.as_ref().map(|directory| directory.host_path(host.id));
        Ok(Access::Session(Arc::new(DirectorySession::open(self.disk(host.id), file)?)))
    }

    async fn logs(&self, host: &HostRecord, request: LogRequest) -> Result<(), ProviderError> {
        self.same_endpoint(host)?;
        let console = self.disk(host.id).console;
        let broken = |error: std::io::Error| {
            ProviderError::new(ErrorKind::Failed, format!("cannot read `{}`", console.display())).source(error)
        };
        let mut seen = 0;
        let mut tail = request.tail;
        loop {
            match tokio::fs::File::open(&console).await {
                Ok(mut file) => {
                    file.seek(std::io::SeekFrom::Start(seen)).await.map_err(broken)?;
                    let mut text = Vec::new();
                    seen += file.read_to_end(&mut text).await.map_err(broken)? as u64;
                    let wanted = tail.take().map_or(0, |lines| start_of_last(&text, lines));
                    let text = text.split_off(wanted);
                    if !text.is_empty() && request.output.send(Bytes::from(text)).await.is_err() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(broken(error)),
            }
            let gone = self.directory.as_ref().is_some_and(|directory| !directory.host_path(host.id).exists());
            if !request.follow || gone {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(LOG_PERIOD) => {}
                () = request.output.closed() => return Ok(()),
            }
        }
    }
}

/// The endpoint of hosts that are no files.
fn nowhere() -> Endpoint {
    Endpoint { uri: "test:".to_owned(), identity: "test".to_owned() }
}

fn found(host: HostFile) -> Found {
    Found {
        broker_id: Some(host.id),
        facts: host.facts(),
        identity: Identity::of_labels(|name| host.labels.get(name).map(String::as_str)),
        age: Timestamp::now().duration_since(host.made_at).try_into().ok(),
        flaw: (!host.ready).then(|| "it was never ready".to_owned()),
        args: host.args,
        ..Found::default()
    }
}

/// Takes back what a checkout made that came to nothing.
fn undo(directory: &Directory, id: HostId, error: ProviderError) -> ProviderError {
    match directory.remove(id) {
        Ok(()) => error,
        Err(_) => error.leaving_something(),
    }
}

/// Waits, unless nobody wants the order any more.
async fn wait(order: &Order, time: Duration) -> Result<(), ProviderError> {
    tokio::select! {
        biased;
        () = order.cancelled() => Err(ProviderError::new(ErrorKind::Cancelled, "nobody wants it any more")),
        () = pause(time) => Ok(()),
    }
}

/// Does nothing for some time. The timer's shortest wait is a millisecond, also where there is nothing to wait for.
async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Where the last so many lines of a text begin.
fn start_of_last(text: &[u8], lines: usize) -> usize {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let Some(nth) = lines.checked_sub(1) else { return text.len() };
    let newlines = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    newlines.map(|(at, _)| at + 1).nth(nth).unwrap_or(0)
}

#[cfg(test)]
mod tests;
