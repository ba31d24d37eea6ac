//! Releasing hosts and finding them again: always in the project and region that they were made in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker_core::inventory::{HostRecord, HostState};
use broker_core::provider::{ErrorKind, Found, Identity, ProviderError, Scope};
use broker_core::{ArgValue, Args, HostId, duration};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use crate::OpenStackProvider;
use crate::api::compute::{self, Server};
use crate::api::image::{self, Image};
use crate::api::network;
use crate::checkout::reach::Reach;
use crate::checkout::ready::Outage;
use crate::checkout::{HANDLE_PORTS, HANDLE_SERVER, facts, keypair_name, mark};
use crate::client::{CallError, Client, encoded};
use crate::request::IMAGE;

/// The first pause before a look at a server that is going, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(700), Duration::from_secs(2));

/// What there may be of a host.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) servers: Vec<String>,
    /// Whether there is likely to be a floating address. It is looked for in any case once the servers are gone.
    pub(crate) may_have_floating: bool,
    pub(crate) may_have_keypair: bool,
    /// Whether the key pair is that of a checkout into another inventory, which may be another user's.
    pub(crate) keypair_may_be_anothers: bool,
    /// The ports that the user has brought along, by their ids; nothing where nobody knows that.
    pub(crate) brought: Option<Vec<String>>,
}

/// How far a server goes that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    Gone,
    /// The cloud keeps it for a while, with all that it has.
    Kept,
}

/// The id of a record's server, where the record knows it.
pub(crate) fn server_of(host: &HostRecord) -> Option<&str> {
    let noted = host.details.handle.as_ref().and_then(|handle| handle.get(HANDLE_SERVER));
    // The names that the Python tool has for it are all read.
    let told = [facts::SERVER, "server_id"].iter().find_map(|name| host.details.facts.get(*name));
    told.or(noted).and_then(Value::as_str).filter(|id| !id.is_empty())
}

/// The ports that the user has brought along for a record's host; nothing where the record does not know that.
fn brought_for(host: &HostRecord) -> Option<Vec<String>> {
    // What was found somewhere does not tell with what it was asked for. Whoever asked noted something.
    let noted = host.details.handle.as_ref()?.get(HANDLE_PORTS).and_then(Value::as_array);
    Some(noted.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
}

impl OpenStackProvider {
    /// A client that insists on the place that a record's host was made at.
    pub(crate) fn client_of(&self, host: &HostRecord) -> Client {
        self.client.expecting(host.endpoint.as_ref())
    }

    pub(crate) async fn release_host(&self, host: &HostRecord) -> Result<(), ProviderError> {
        let client = self.client_of(host);
        let label = host.label();
        let known = server_of(host);
        let servers = match known {
            Some(id) => vec![id.to_owned()],
            None if host.endpoint.is_none() => vec![self.only_of_that_name(&client, host).await?.id],
            None => self.servers_of(&client, host.id).await?.into_iter().map(|server| server.id).collect(),
        };
        // A host that was handed over is known with all that it has.
        let is_whole = host.details.facts.contains_key(facts::SERVER);
        let own_keypair = keypair_name(host.id);
        let key_name = host.details.facts.get(facts::KEY_NAME).and_then(Value::as_str);
        let parts = Parts {
            servers,
            may_have_floating: !is_whole || host.details.facts.contains_key(facts::FLOATING),
            may_have_keypair: !is_whole || key_name == Some(own_keypair.as_str()),
            keypair_may_be_anothers: host.details.handle.is_none() && key_name == Some(own_keypair.as_str()),
            brought: brought_for(host),
        };
        self.remove(&client, host.id, &parts, &label).await.map_err(|error| named(error, &label))
    }

    /// Removes all that there may be of a host, and waits until it is gone. Whatever is gone already is no error.
    pub(crate) async fn remove(
        &self,
        client: &Client,
        id: HostId,
        parts: &Parts,
        label: &str,
    ) -> Result<(), ProviderError> {
        // Before the server: Neutron is known to trip over a port that goes while its floating address does.
        if parts.may_have_floating {
            self.give_floating_back(client, id, label).await?;
        }
        let (mut going, mut gone) = (Vec::new(), Vec::new());
        for server in &parts.servers {
            match compute::delete_server(client, server).await {
                Ok(()) => going.push(server),
                Err(error) if error.is_missing() => gone.push(server),
                Err(error) => return Err(error.at(format!("could not delete server `{label}`"))),
            }
        }
        for server in going {
            match self.until_gone(client, server, label).await? {
                Going::Gone => gone.push(server),
                // It needs its ports if somebody wants it back.
                Going::Kept => {}
            }
        }
        if let Some(brought) = &parts.brought {
            for server in gone {
                self.remove_ports(client, server, brought, label).await?;
            }
        }
        // It may have come after the first look, or not have been seen by whoever wrote the record.
        self.give_floating_back(client, id, label).await?;
        if parts.may_have_keypair {
            let name = keypair_name(id);
            match compute::delete_keypair(client, &name).await {
                Ok(()) => {}
                Err(error) if error.is_missing() && parts.keypair_may_be_anothers => {
                    tracing::warn!(
                        keypair = name,
                        host = label,
                        "this user has no such key pair: if another one has checked the host out, only they can remove it."
                    );
                }
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error.at(format!("could not remove key pair `{name}`"))),
            }
        }
        Ok(())
    }

    async fn give_floating_back(&self, client: &Client, id: HostId, label: &str) -> Result<(), ProviderError> {
        let doing = || format!("could not give the floating address of server `{label}` back");
        let found = match network::floating_ips(client, &mark(id)).await {
            Ok(found) => found,
            // A cloud without routers has none.
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) => return Err(error.at(doing())),
        };
        for floating in found {
            match network::delete_floating_ip(client, &floating.id).await {
                Err(error) if !error.is_missing() => return Err(error.at(doing())),
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until a server that was deleted is gone, as far as it goes.
    async fn until_gone(&self, client: &Client, id: &str, label: &str) -> Result<Going, ProviderError> {
        let end = Instant::now() + self.settings.server_timeout;
        let mut outage = Outage::default();
        let mut pause = PAUSES.0;
        let mut again = true;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(PAUSES.1);
            match compute::server(client, id).await {
                // A cloud may keep what was deleted for a while, in case somebody wants it back.
                Ok(server) if server.status == "SOFT_DELETED" => return Ok(Going::Kept),
                // One that is `DELETED` goes in a moment, and takes its ports along.
                Ok(server) => {
                    outage = Outage::default();
                    // A deletion that broke off in the middle leaves it like this; the next one mostly works.
                    if server.status == "ERROR" && server.task.is_none() && pause >= PAUSES.1 {
                        if !again {
                            let fault = server.fault.map(|fault| fault.message).unwrap_or_default();
                            let message = format!("server `{label}` could not be deleted: {fault}");
                            return Err(ProviderError::new(ErrorKind::Failed, message));
                        }
                        again = false;
                        pause = PAUSES.0;
                        match compute::delete_server(client, id).await {
                            Err(error) if !error.is_missing() => {
                                return Err(error.at(format!("could not delete server `{label}`")));
                            }
                            _ => {}
                        }
                    }
                }
                Err(error) if error.is_missing() => return Ok(Going::Gone),
                Err(error) => {
                    let doing = || format!("could not see whether server `{label}` is gone");
                    let _silent: Option<()> = outage.goes_on(error, self.settings.outage_timeout, doing)?;
                }
            }
            if Instant::now() >= end {
                let limit = duration::format(self.settings.server_timeout);
                let message = format!("server `{label}` was deleted, and is still there after {limit}");
                return Err(ProviderError::new(ErrorKind::Timeout, message));
            }
        }
    }

    /// Removes the ports that Nova made for a server and left: those that still name one that is gone. Ports that the
    /// user has brought along mostly name nobody then.
    async fn remove_ports(
        &self,
        client: &Client,
        server: &str,
        brought: &[String],
        label: &str,
    ) -> Result<(), ProviderError> {
        let doing = || format!("could not remove the ports of server `{label}`");
        let ports = network::ports(client, &format!("device_id={}", encoded(server))).await;
        let ports = ports.map_err(|error| error.at(doing()))?;
        for port in ports.iter().filter(|port| port.device_id == server && !brought.contains(&port.id)) {
            match network::delete_port(client, &port.id).await {
                Err(error) if !error.is_missing() => return Err(error.at(doing())),
                _ => {}
            }
        }
        Ok(())
    }

    /// The servers that carry exactly this id.
    pub(crate) async fn servers_of(&self, client: &Client, id: HostId) -> Result<Vec<Server>, ProviderError> {
        self.looked_for(client, id).await.map(|(found, _)| found)
    }

    async fn looked_for(&self, client: &Client, id: HostId) -> Result<(Vec<Server>, Option<Timestamp>), ProviderError> {
        let doing = || format!("could not look for host `{id}`");
        let query = |minor| match minor {
            compute::TAGS.. => format!("tags={}", encoded(&mark(id))),
            _ => String::new(),
        };
        let minor = client.minor();
        let mut listed = compute::servers(client, &query(minor), self.settings.page_size).await;
        if client.minor() < compute::TAGS && minor >= compute::TAGS {
            // Only now the cloud has said that it is too old for this: there are no tags, so it is all of them.
            listed = compute::servers(client, "", self.settings.page_size).await;
        }
        let (mut found, at) = listed.map_err(|error| error.at(doing()))?;
        // A tag can be put on anything; metadata is where the identity is.
        found.retain(|server| id_of(server) == Some(id) && !server.is_gone());
        Ok((found, at))
    }

    /// What carries exactly the record's id, or is the record's own server.
    pub(crate) async fn find_host(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        self.found_of(host).await.map_err(|error| named(error, &host.label()))
    }

    async fn found_of(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        let client = self.client_of(host);
        let (found, at) = self.looked_for(&client, host.id).await?;
        if !found.is_empty() {
            return self.described(&client, found, at).await;
        }
        if host.endpoint.is_none() {
            return match self.only_of_that_name(&client, host).await {
                Ok(server) => self.described(&client, vec![server], None).await,
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(error),
            };
        }
        if let Some(id) = server_of(host) {
            match compute::server(&client, id).await {
                Ok(server) if !server.is_gone() => return self.described(&client, vec![server], None).await,
                Ok(_) => {}
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error.at(format!("could not look for server `{id}`"))),
            }
        }
        // A host that was handed over is its server. Whatever else there is goes with its release.
        if matches!(host.state, HostState::Active | HostState::Vanished) {
            return Ok(Vec::new());
        }
        // What comes before a server, and may have stayed behind it.
        let name = keypair_name(host.id);
        let (keypair, floating) = tokio::join!(compute::keypair(&client, &name), network_of(&client, host.id));
        let failed = |error: CallError| error.at(format!("could not look for host `{}`", host.id));
        let keypair = match keypair {
            Ok(_) => true,
            Err(error) if error.is_missing() => false,
            Err(error) => return Err(failed(error)),
        };
        let left = match (keypair, floating.map_err(failed)?) {
            (true, true) => "its key pair and its floating address",
            (true, false) => "its key pair",
            (false, true) => "its floating address",
            (false, false) => return Ok(Vec::new()),
        };
        let flaw = Some(format!("there is no server, only {left}"));
        Ok(vec![Found { broker_id: Some(host.id), flaw, ..Found::default() }])
    }

    /// Broker's servers; with an argument those whose names begin with it, or that have this metadata: `KEY=VALUE`.
    pub(crate) async fn list_hosts(&self, scope: &Scope) -> Result<Vec<Found>, ProviderError> {
        let place = self.place().await?;
        let client = self.client.expecting(Some(&place));
        let listed = compute::servers(&client, "", self.settings.page_size).await;
        let (mut servers, at) = listed.map_err(|error| error.at("could not list the servers"))?;
        let argument = scope.argument.as_deref().filter(|argument| !argument.is_empty());
        servers.retain(|server| {
            if server.is_gone() {
                return false;
            }
            match argument.map(|argument| (argument, argument.split_once('='))) {
                Some((_, Some((key, value)))) => server.metadata.get(key).is_some_and(|found| found == value),
                Some((prefix, None)) => server.name.starts_with(prefix),
                None if id_of(server).is_none() => false,
                // Others may work in the same project.
                None => scope.covers(identity_of(server).owner.as_deref()),
            }
        });
        self.described(&client, servers, at).await
    }

    /// What there is to tell of servers. `at` is the time by the cloud's clock.
    async fn described(
        &self,
        client: &Client,
        servers: Vec<Server>,
        at: Option<Timestamp>,
    ) -> Result<Vec<Found>, ProviderError> {
        let token = client.token().await?;
        let mut found = Vec::new();
        for server in servers {
            let image = match server.image_id() {
                Some(id) => self.images.get(client, id).await,
                None => None,
            };
            let reach = Reach::of(&server, self.settings.family);
            let told = facts::of_server(&server, image.as_deref(), client, &token, &reach);
            let mut args = Args::new();
            let text = |text: &str| ArgValue::Text(text.to_owned());
            let image_name = image.as_ref().map(|image| image.name.as_str()).filter(|name| !name.is_empty());
            if let Some(image) = image_name.or(server.image_id()) {
                args.insert(IMAGE.to_owned(), text(image));
            }
            if let Some(flavor) = server.flavor() {
                args.insert("ostack_flavor".to_owned(), text(flavor));
            }
            found.push(Found {
                broker_id: id_of(&server),
                facts: told,
                args,
                identity: identity_of(&server),
                age: at.and_then(|now| age(server.created?, now)),
                flaw: flaw(&server),
                ..Found::default()
            });
        }
        Ok(found)
    }

    /// The one server of exactly the record's name and address, for records that know no more.
    async fn only_of_that_name(&self, client: &Client, host: &HostRecord) -> Result<Server, ProviderError> {
        let place = client.cloud().label();
        let missing = || {
            let name = host.name.as_deref().unwrap_or("without a name");
            let message = format!("there is no server `{name}` at {place}, and the entry does not tell more");
            ProviderError::new(ErrorKind::NotFound, message)
        };
        let name = host.name.as_deref().filter(|name| !name.is_empty()).ok_or_else(missing)?;
        // Nova takes a name for a pattern that may be anywhere in one.
        let listed = compute::servers(client, "", self.settings.page_size).await;
        let (servers, _) = listed.map_err(|error| error.at(format!("could not look for server `{name}`")))?;
        let addresses: Vec<&str> = [host.address.as_deref(), host.hostname.as_deref()].into_iter().flatten().collect();
        let has_address = |server: &Server| {
            let mut all = server.addresses.values().flatten();
            let is_one = |text: &&&str| text.parse::<std::net::IpAddr>().is_ok();
            // A name says nothing about which of several it is.
            addresses.iter().find(is_one).is_none_or(|wanted| all.any(|address| address.addr == **wanted))
        };
        let mut exact = servers.into_iter().filter(|server| server.name == name && !server.is_gone());
        let mut of_address = exact.by_ref().filter(has_address);
        let only = of_address.next().ok_or_else(missing)?;
        if let Some(other) = of_address.next() {
            let message = format!("there are several servers `{name}` at {place}: `{}`, `{}`", only.id, other.id);
            return Err(ProviderError::new(ErrorKind::Conflict, message));
        }
        Ok(only)
    }
}

async fn network_of(client: &Client, id: HostId) -> Result<bool, CallError> {
    match network::floating_ips(client, &mark(id)).await {
        Ok(found) => Ok(!found.is_empty()),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Says of which host it is that its place has changed.
fn named(error: ProviderError, label: &str) -> ProviderError {
    match error.kind() {
        ErrorKind::EndpointChanged => ProviderError::new(ErrorKind::EndpointChanged, format!("`{label}`: {error}")),
        _ => error,
    }
}

fn id_of(server: &Server) -> Option<HostId> {
    server.metadata.get(broker_core::provider::ID_LABEL)?.parse().ok()
}

fn identity_of(server: &Server) -> Identity {
    Identity::of_labels(|name| server.metadata.get(name).map(String::as_str))
}

/// How long ago something was made. Nothing where that is yet to come: then the cloud's clock was set back.
fn age(made_at: Timestamp, now: Timestamp) -> Option<Duration> {
    now.duration_since(made_at).try_into().ok()
}

fn flaw(server: &Server) -> Option<String> {
    match server.status.as_str() {
        // Whoever reboots a server, or changes its size, uses it.
        "ACTIVE" | "REBOOT" | "HARD_REBOOT" | "PASSWORD" | "VERIFY_RESIZE" | "RESIZE" | "MIGRATING" => None,
        "BUILD" => Some("the server is still being built".to_owned()),
        "ERROR" => {
            let fault = server.fault.as_ref().map(|fault| format!(": {}", fault.message.trim())).unwrap_or_default();
            Some(format!("the server is broken{fault}"))
        }
        other => Some(format!("the server is `{other}`, and does not run")),
    }
}

/// Images by their id, which never means another one; nothing for those that are there no more. A hundred servers may
/// have been made of one that has been replaced since.
#[derive(Default)]
pub(crate) struct Images(Mutex<HashMap<String, Option<Arc<Image>>>>);

impl Images {
    /// An image; nothing where it is there no more, or cannot be looked at.
    async fn get(&self, client: &Client, id: &str) -> Option<Arc<Image>> {
        if let Some(known) = self.0.lock().get(id) {
            return known.clone();
        }
        let image = match image::image(client, id).await {
            Ok(image) => Some(Arc::new(image)),
            Err(error) if matches!(error.status(), Some(403 | 404)) => None,
            Err(_) => return None,
        };
        self.0.lock().insert(id.to_owned(), image.clone());
        image
    }
}
