//! [`Host`]: a record plus a session that opens when it is needed.

mod connect;
mod files;
mod logs;
mod many;
mod os;
#[cfg(feature = "ssh")]
mod pin;
mod run;
mod tail;
mod wait;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::Mutex;

pub use self::files::{Transfer, Transferred};
pub use self::logs::{LogRequest, Logs};
pub use self::many::execute_on;
pub use self::os::OsRelease;
pub use self::run::{Output, Running};
pub use self::tail::Tail;
use crate::context::Core;
use crate::error::{Error, Result};
use crate::id::HostId;
use crate::inventory::HostRecord;
use crate::settings::split_port;

/// How many pieces of output, input or files may be on their way at once.
const PIECES: usize = 32;

/// A host that is checked out. Cheap to clone; clones are the same host and share its session.
///
/// A host owns nothing: it can be kept after its guard is gone, and then its calls fail. What a dropped call was doing
/// on the host is ended.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    record: RwLock<HostRecord>,
    session: Mutex<Option<connect::Open>>,
}

impl Host {
    pub(crate) fn new(core: Arc<Core>, record: HostRecord) -> Self {
        Self { inner: Arc::new(Inner { core, record: RwLock::new(record), session: Mutex::new(None) }) }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// What the inventory knows of the host, as of its last change by way of this value or one of its clones.
    pub fn record(&self) -> HostRecord {
        self.inner.record.read().clone()
    }

    pub(crate) fn set_record(&self, record: HostRecord) {
        *self.inner.record.write() = record;
    }

    /// The host's identity.
    pub fn id(&self) -> HostId {
        self.inner.record.read().id
    }

    /// The number that people call it by.
    pub fn number(&self) -> u64 {
        self.inner.record.read().number
    }

    /// What the machine calls itself.
    pub fn hostname(&self) -> Option<String> {
        self.inner.record.read().hostname.clone()
    }

    /// The provider's name for it.
    pub fn name(&self) -> Option<String> {
        self.inner.record.read().name.clone()
    }

    /// The host name or IP address by which it can be reached.
    pub fn address(&self) -> Option<String> {
        self.inner.record.read().address.clone()
    }

    /// A fact that the provider told, by its name.
    pub fn fact(&self, name: &str) -> Option<Value> {
        self.inner.record.read().details.facts.get(name).cloned()
    }

    /// The best word for the host in a message.
    pub fn label(&self) -> String {
        self.inner.record.read().label()
    }

    /// Where a TCP port of the host can be reached from here, as `address:port`.
    ///
    /// # Errors
    ///
    /// If the provider published ports, and not this one; or nobody knows where the host is.
    pub fn port(&self, port: u16) -> Result<String> {
        let record = self.inner.record.read();
        if let Some(published) = record.details.ports.get(&format!("{port}/tcp")) {
            return Ok(published.clone());
        }
        if !record.details.ports.is_empty() {
            return Err(Error::state(&record, format!("does not publish port {port}")));
        }
        // As SSH looks for it.
        let places = [&record.address, &record.hostname, &record.name];
        let place = places.into_iter().flatten().map(|place| place.trim()).find(|place| !place.is_empty());
        match place.map(|place| split_port(place).0) {
            Some(host) if host.contains(':') => Ok(format!("[{host}]:{port}")),
            Some(host) => Ok(format!("{host}:{port}")),
            None => Err(Error::state(&record, "has neither an address nor a name")),
        }
    }

    /// Lets the host live for at least so long from now. A lease that ends later stays.
    ///
    /// # Errors
    ///
    /// If the provider cannot, or the lease is longer than the settings allow.
    pub async fn extend(&self, by: Duration) -> Result<()> {
        let broker = crate::Broker { core: Arc::clone(self.core()) };
        for (_, outcome) in broker.extend(vec![self.record()], by).await? {
            self.set_record(outcome?);
        }
        Ok(())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.inner.record.read();
        f.debug_struct("Host").field("id", &record.id).field("host", &record.label()).finish_non_exhaustive()
    }
}
