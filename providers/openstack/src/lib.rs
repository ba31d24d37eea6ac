//! OpenStack as a provider of hosts.
//!
//! A host is a server of Nova's, with what it needs: a key pair of its own unless one is named, a floating address where
//! one is wanted. The server carries the host's id as metadata and as a tag from its creation, the key pair in its name, the
//! floating address in its description, so that all of it can be found again whatever happened in between. A server that
//! does not become ready is removed with the rest before the error is returned.
//!
//! Hosts are reached by SSH, with the key that was made for them.

mod api;
mod checkout;
mod client;
mod cloud;
mod console;
mod query;
mod release;
mod request;
mod resolve;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker_core::LogRequest;
use broker_core::inventory::HostRecord;
use broker_core::provider::{
    ActionInfo, Endpoint, ErrorKind, Found, HostFacts, Lease, Order, Provider, ProviderError, ProviderFactory,
    ProviderInfo, Query, Scope, Table,
};
use broker_core::secrets::Secret;
use broker_core::session::{Access, SessionError, SshLogin};
use broker_core::settings::ProviderSettings;
use serde_json::{Value, json};

use crate::api::compute;
use crate::client::{Client, Session};
use crate::cloud::files::Surroundings;
use crate::release::Images;
use crate::resolve::Known;
use crate::settings::Settings;

/// Makes providers of servers, one for each instance of the settings' section `OpenStack`.
pub fn factory() -> Arc<dyn ProviderFactory> {
    let action = |name, value, help| ActionInfo { name, value, help, makes_host: true, executes: false };
    let info = ProviderInfo {
        name: "OpenStack",
        about: "Servers of OpenStack clouds",
        actions: vec![
            action(request::IMAGE, "IMAGE", "Make a server of this image, by name or id"),
            action(request::TEMPLATE, "NAME", "Make a server as this template of the settings says"),
        ],
        arguments: request::ARGUMENTS.to_vec(),
        queries: query::QUERIES.to_vec(),
        facts: checkout::facts::FACTS.to_vec(),
        ..ProviderInfo::default()
    };
    Arc::new(Factory(info))
}

struct Factory(ProviderInfo);

impl ProviderFactory for Factory {
    fn info(&self) -> &ProviderInfo {
        &self.0
    }

    fn build(&self, settings: &ProviderSettings) -> Result<Arc<dyn Provider>, ProviderError> {
        let settings = Settings::read(settings, &Surroundings::here())?;
        Ok(Arc::new(OpenStackProvider::new(settings)?))
    }

    /// What `clouds.yaml` says may be read from the working directory, which a guardian may not find there any more.
    fn whole(&self, settings: ProviderSettings) -> Result<ProviderSettings, ProviderError> {
        cloud::resolved(&settings, &Surroundings::here())
    }
}

/// One configured instance: a project in a region of a cloud. Logs in at the first use.
pub(crate) struct OpenStackProvider {
    settings: Settings,
    client: Client,
    known: Known,
    images: Images,
}

impl OpenStackProvider {
    fn new(settings: Settings) -> Result<Self, ProviderError> {
        let session = Session::new(settings.cloud.clone(), settings.timeout)?;
        let client = Client::new(Arc::new(session));
        Ok(Self { settings, client, known: Known::default(), images: Images::default() })
    }

    /// Where this instance makes hosts, as it is now.
    pub(crate) async fn place(&self) -> Result<Endpoint, ProviderError> {
        let token = self.client.token().await?;
        Ok(Endpoint { uri: self.settings.cloud.auth_url.clone(), identity: token.identity() })
    }
}

#[async_trait]
impl Provider for OpenStackProvider {
    async fn endpoint(&self) -> Result<Endpoint, ProviderError> {
        self.place().await
    }

    async fn prepare(&self, orders: &[Order]) -> Result<(), ProviderError> {
        self.look_at(orders).await
    }

    async fn checkout(&self, order: &Order) -> Result<HostFacts, ProviderError> {
        self.check_out(order).await
    }

    async fn release(&self, host: &HostRecord) -> Result<(), ProviderError> {
        self.release_host(host).await
    }

    /// The lease is the inventory's; the server's metadata says the same, for people who look there.
    async fn extend(&self, host: &HostRecord, by: Lease) -> Result<HostFacts, ProviderError> {
        let until = by.extending(host.lease_until);
        let client = self.client_of(host);
        let id = match release::server_of(host) {
            Some(id) => Some(id.to_owned()),
            None => self.servers_of(&client, host.id).await?.into_iter().next().map(|server| server.id),
        };
        let missing = || {
            let message = format!("there is no server of host `{}` any more", host.label());
            ProviderError::new(ErrorKind::NotFound, message)
        };
        let id = id.ok_or_else(missing)?;
        match compute::set_metadata(&client, &id, &json!({ "broker.lease_until": until.to_string() })).await {
            Ok(()) => Ok(HostFacts { lease_until: Some(until), ..HostFacts::default() }),
            Err(error) if error.is_missing() => Err(missing()),
            Err(error) => Err(error.at(format!("could not write the lease of server `{}`", host.label()))),
        }
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<Found>, ProviderError> {
        self.list_hosts(scope).await
    }

    async fn find(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        self.find_host(host).await
    }

    /// A loaded cloud works for a while at a request that nobody waits for.
    fn settle_time(&self, _host: &HostRecord) -> Duration {
        Duration::from_secs(10)
    }

    async fn query(&self, query: &Query) -> Result<Table, ProviderError> {
        self.answer(query).await
    }

    async fn access(&self, host: &HostRecord) -> Result<Access, SessionError> {
        let key =
            host.details.handle.as_ref().and_then(|handle| handle.get(checkout::HANDLE_KEY)).and_then(Value::as_str);
        let key_name = host.details.facts.get(checkout::facts::KEY_NAME).and_then(Value::as_str);
        // Whoever has another way in, through the image or the user data, comes in all the same.
        let is_elsewhere = key.is_none() && key_name == Some(&*checkout::keypair_name(host.id));
        let note = is_elsewhere.then(|| {
            "the key that was made for it is in the inventory that it was checked out into, and in no other".to_owned()
        });
        Ok(Access::Ssh(SshLogin { key: key.map(Secret::new), note, ..SshLogin::default() }))
    }

    async fn logs(&self, host: &HostRecord, request: LogRequest) -> Result<(), ProviderError> {
        self.print_console(host, request).await
    }
}
