//! A provider whose hosts are SSH servers that are there already, and a broker that has it.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use broker_core::inventory::HostRecord;
use broker_core::provider::{
    ActionInfo, Endpoint, Execution, Found, HostFacts, Lease, Order, Provider, ProviderError, ProviderFactory,
    ProviderInfo, Scope, factory as make_factory,
};
use broker_core::session::{Access, SessionError, SshLogin};
use broker_core::settings::Settings;
use broker_core::{Args, Broker, HostGuard, HostRequest, block_on};
use tempfile::TempDir;

use super::server::Server;

/// The action of the provider. Its value is the host's name; the arguments are those of [`SshLogin`].
pub const HOST_ACTION: &str = "ssh_server";

struct Servers;

/// The provider's factory, under the name `Servers`.
pub fn factory() -> Arc<dyn ProviderFactory> {
    let info = ProviderInfo {
        name: "Servers",
        about: "SSH servers that are there already",
        actions: vec![ActionInfo {
            name: HOST_ACTION,
            value: "NAME",
            help: "Takes a server for a host",
            makes_host: true,
            executes: false,
        }],
        ..ProviderInfo::default()
    };
    make_factory(info, |_| Ok(Arc::new(Servers)))
}

fn text(args: &Args, name: &str) -> Option<String> {
    args.get(name).and_then(|value| value.as_str()).map(str::to_owned)
}

#[async_trait]
impl Provider for Servers {
    async fn endpoint(&self) -> Result<Endpoint, ProviderError> {
        Ok(Endpoint { uri: "servers:".to_owned(), identity: "servers".to_owned() })
    }

    async fn checkout(&self, order: &Order) -> Result<HostFacts, ProviderError> {
        let name = Some(order.target().to_owned());
        Ok(HostFacts { hostname: name.clone(), name, address: text(&order.args, "address"), ..HostFacts::default() })
    }

    async fn release(&self, _host: &HostRecord) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn extend(&self, _host: &HostRecord, _by: Lease) -> Result<HostFacts, ProviderError> {
        Ok(HostFacts::default())
    }

    async fn execute(&self, _order: &Order) -> Result<Execution, ProviderError> {
        Ok(Execution { failure: None, output: serde_json::Value::Null })
    }

    async fn list(&self, _scope: &Scope) -> Result<Vec<Found>, ProviderError> {
        Ok(Vec::new())
    }

    async fn find(&self, _host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        Ok(Vec::new())
    }

    async fn access(&self, host: &HostRecord) -> Result<Access, SessionError> {
        Ok(Access::Ssh(SshLogin {
            address: text(&host.details.args, "address"),
            port: text(&host.details.args, "port").map(|port| port.parse().unwrap()),
            user: text(&host.details.args, "user"),
            key_file: text(&host.details.args, "key_file").map(Into::into),
            password: text(&host.details.args, "password").map(broker_core::secrets::Secret::new),
            ..SshLogin::default()
        }))
    }
}

/// What a host is asked for with, at any address that leads to the server.
pub fn request(name: &str, server: &Server, at: SocketAddr) -> HostRequest {
    bare_request(name, at).arg("user", server.user()).arg("key_file", server.key().path().display().to_string())
}

/// The same where everything but the way there is up to the settings.
pub fn bare_request(name: &str, at: SocketAddr) -> HostRequest {
    HostRequest::action(HOST_ACTION, name).arg("address", at.ip().to_string()).arg("port", at.port().to_string())
}

/// A broker with a directory of its own, nothing of the caller's settings, and this provider.
pub struct Lab {
    broker: Broker,
    _directory: TempDir,
}

impl Lab {
    /// One that waits for no machine to boot, and asks neither the agent nor the client's settings of whoever runs this.
    ///
    /// # Panics
    ///
    /// If there is no room.
    pub fn new() -> Self {
        Self::with_settings(&format!(
            "ssh: {{backend: {}, boot_patience: 0, agent: false, config: false}}",
            super::backend()
        ))
    }

    /// With settings, as the settings file has them.
    ///
    /// # Panics
    ///
    /// If the settings do not do.
    pub fn with_settings(settings: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("broker-lab-").tempdir().unwrap();
        let settings = Settings::builder().yaml(settings).known_providers(["Servers"]).build().unwrap();
        let broker = Broker::bare().provider(factory()).settings(settings.settings);
        Self { broker: broker.directory(directory.path()).build().unwrap(), _directory: directory }
    }

    /// Checks a host out.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn host(&self, request: HostRequest) -> HostGuard {
        block_on(self.broker.checkout(request)).unwrap().unwrap()
    }

    /// The host that is a server, reached without a detour.
    ///
    /// # Panics
    ///
    /// If it cannot be checked out.
    pub fn server(&self, server: &Server) -> HostGuard {
        self.host(request("server", server, server.address()))
    }

    /// The broker itself.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}
