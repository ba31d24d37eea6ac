//! Making a host: a key pair, a server, a floating address, each with the host's id from its first moment; or nothing.
//!
//! What was made so far is kept in [`Made`], and whatever goes wrong removes it. A request that makes something and gets
//! no answer is not sent again: what it may have made is looked for by the id that it carries.

mod body;
pub(crate) mod facts;
pub(crate) mod key;
mod prepare;
pub(crate) mod reach;
pub(crate) mod ready;

use std::time::Duration;

use broker_core::HostId;
use broker_core::provider::{ErrorKind, HostFacts, ID_LABEL, Order, ProviderError};
use serde_json::{Value, json};

use self::key::OwnKey;
use self::reach::Reach;
use crate::OpenStackProvider;
use crate::api::compute::{self, Server};
use crate::api::network::{self, Network, Port};
use crate::client::{CallError, Client, kind_of_words};
use crate::release::Parts;
use crate::request::{Spec, Wait};
use crate::resolve::Resolved;

/// What the journal knows a server's id by while it is being made.
pub(crate) const HANDLE_SERVER: &str = "server";

/// What the journal has the private key under. The name says that it is a secret.
pub(crate) const HANDLE_KEY: &str = "ssh_private_key";

/// What the journal has the ids of the ports under that the user has brought along.
pub(crate) const HANDLE_PORTS: &str = "ports";

/// How often what may have been made is looked for, and with what pauses between.
const LOOKS: u32 = 8;

/// How long to wait before a server that found no room is asked for once more.
const SECOND_TRY: Duration = Duration::from_secs(2);

/// The key pair of a host's own.
pub(crate) fn keypair_name(id: HostId) -> String {
    format!("broker-{id}")
}

/// What tells a host's resources from all others: a server's tag, a floating address's description.
pub(crate) fn mark(id: HostId) -> String {
    format!("{ID_LABEL}={id}")
}

/// A host in the making.
struct Making<'a> {
    provider: &'a OpenStackProvider,
    client: Client,
    order: &'a Order,
    spec: &'a Spec,
    resolved: &'a Resolved,
    name: String,
}

/// What was made so far.
#[derive(Debug, Default)]
struct Made {
    server: Option<String>,
    /// Whether a server or a floating address may have been made that was not found.
    perhaps: bool,
    /// Whether it is in `ERROR` because no machine had room for it.
    had_no_room: bool,
}

impl OpenStackProvider {
    pub(crate) async fn check_out(&self, order: &Order) -> Result<HostFacts, ProviderError> {
        let spec = Spec::read(order, &self.settings)?;
        let place = self.place().await?;
        let client = self.client.expecting(Some(&place));
        let resolved = self.known.resolve(&client, &spec, false).await?;
        let prefix = self.settings.name_prefix.clone().unwrap_or_else(|| order.owner.user.clone());
        let name = spec.name.clone().unwrap_or_else(|| format!("{prefix}-{}", order.id.short()));
        let making = Making { provider: self, client, order, spec: &spec, resolved: &resolved, name };
        making.run().await
    }
}

fn cancelled(name: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Cancelled, format!("server `{name}` is not wanted any more"))
}

impl Making<'_> {
    async fn run(&self) -> Result<HostFacts, ProviderError> {
        if self.order.is_cancelled() {
            return Err(cancelled(&self.name));
        }
        let mut is_last = false;
        loop {
            let mut made = Made::default();
            let error = match self.make(&mut made).await {
                Ok(facts) => return Ok(facts),
                Err(error) => error,
            };
            self.order.progress("taking back what was made");
            let again = made.had_no_room && !is_last;
            let error = self.undo(made, error).await;
            if !again || error.may_exist() || self.order.is_cancelled() {
                return Err(error);
            }
            // Nova says this too where its scheduler was overtaken by others, or did not hear from Placement in time.
            is_last = true;
            self.order.progress("there was no room: trying once more");
            tokio::select! {
                () = tokio::time::sleep(SECOND_TRY) => {}
                () = self.order.cancelled() => return Err(cancelled(&self.name)),
            }
        }
    }

    /// Removes what was made, and returns the error that made it necessary, with the removal's own where that failed too.
    async fn undo(&self, made: Made, error: ProviderError) -> ProviderError {
        let parts = Parts {
            servers: made.server.into_iter().collect(),
            may_have_floating: self.spec.floating.is_some(),
            may_have_keypair: self.spec.key_name.is_none(),
            keypair_may_be_anothers: false,
            brought: Some(self.spec.ports().map(str::to_owned).collect()),
        };
        match self.provider.remove(&self.client, self.order.id, &parts, &self.name).await {
            Ok(()) if made.perhaps => error.leaving_something(),
            Ok(()) => error,
            Err(removal) => {
                let message = format!("{error}; and what was made could not be taken back");
                ProviderError::new(error.kind(), message).source(removal).leaving_something()
            }
        }
    }

    async fn make(&self, made: &mut Made) -> Result<HostFacts, ProviderError> {
        let own_key = match &self.spec.key_name {
            Some(_) => None,
            None => Some(OwnKey::generate()?),
        };
        let mut handle = serde_json::Map::new();
        let ports: Vec<&str> = self.spec.ports().collect();
        if !ports.is_empty() {
            handle.insert(HANDLE_PORTS.to_owned(), json!(ports));
        }
        if let Some(key) = &own_key {
            handle.insert(HANDLE_KEY.to_owned(), json!(key.private.expose()));
        }
        if !handle.is_empty() {
            // In the journal before there is a server that nothing else opens, or that takes ports along.
            let created = async {
                match &own_key {
                    Some(key) => self.create_keypair(&key.public).await,
                    None => Ok(()),
                }
            };
            let (noted, created) = tokio::join!(self.order.made(Value::Object(handle.clone())), created);
            created.and(noted)?;
        }
        if self.order.is_cancelled() {
            return Err(cancelled(&self.name));
        }
        self.order.progress(format!("making server `{}`", self.name));
        let key_name = self.spec.key_name.clone().unwrap_or_else(|| keypair_name(self.order.id));
        // Not cut short by a cancellation: an answer that nobody waits for is a server that nobody knows.
        let id = self.create_server(&key_name, made).await?;
        made.server = Some(id.clone());
        handle.insert(HANDLE_SERVER.to_owned(), json!(id));
        // The journal and the cloud work at the same time.
        let (noted, finished) = tokio::join!(self.order.made(Value::Object(handle)), self.finish(&id, made));
        noted.and(finished)
    }

    /// From a server that is being built to a host that can be used.
    async fn finish(&self, id: &str, made: &mut Made) -> Result<HostFacts, ProviderError> {
        let mut server = self.while_wanted(self.until_active(id, &mut made.had_no_room)).await?;
        if let Some(pool) = &self.resolved.pool {
            self.order.progress("taking a floating address");
            let fixed = facts::fixed_ipv4(&server)?;
            let port = self.while_wanted(self.port_with(&server, fixed)).await?;
            // Not cut short either: an address that comes when nobody looks any more is paid for by nobody knows whom.
            self.take_floating(pool, &port, fixed, made).await?;
            server = self.while_wanted(self.until_it_shows(id)).await?;
        }
        self.while_wanted(self.until_ready(&server)).await
    }

    /// Does something for as long as the order is wanted.
    async fn while_wanted<T>(&self, work: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
        tokio::select! {
            outcome = work => outcome,
            () = self.order.cancelled() => Err(cancelled(&self.name)),
        }
    }

    /// From a server with all its addresses to a host that can be used.
    async fn until_ready(&self, server: &Server) -> Result<HostFacts, ProviderError> {
        if self.spec.wait == Wait::Ssh {
            self.until_ssh(server).await?;
        }
        let token = self.client.token().await?;
        let told = facts::of_server(server, Some(&self.resolved.image), &self.client, &token, &self.reach());
        if let Some(line) = &self.spec.ready_command {
            self.until_command(server, &told, line).await?;
        }
        Ok(told)
    }

    /// How the host is to be reached.
    fn reach(&self) -> Reach {
        let user = self.spec.user.as_deref().or_else(|| self.resolved.image.property("os_admin_user"));
        Reach { user: user.map(str::to_owned), family: self.spec.family, port: self.spec.ssh_port }
    }

    /// Nova knows a key pair by its name, so that one that is there already with this key is ours.
    async fn create_keypair(&self, public: &str) -> Result<(), ProviderError> {
        let name = keypair_name(self.order.id);
        let failed = |error: CallError| error.at(format!("could not make key pair `{name}`"));
        let first = match compute::create_keypair(&self.client, &name, public).await {
            Ok(()) => return Ok(()),
            Err(error) if error.may_be_done() => error,
            Err(error) => return Err(failed(error)),
        };
        tracing::debug!(error = ?first, name, "there was no answer: looking for the key pair.");
        match compute::keypair(&self.client, &name).await {
            Ok(found) if found.public_key.trim() == public => Ok(()),
            Ok(_) => Err(failed(first)),
            // One of a name is all there can be, so that asking once more makes no second one.
            Err(error) if error.is_missing() => match compute::create_keypair(&self.client, &name, public).await {
                Err(error) if error.status() != Some(409) => Err(failed(error).leaving_something()),
                _ => Ok(()),
            },
            Err(error) => Err(failed(error).leaving_something()),
        }
    }

    async fn create_server(&self, key_name: &str, made: &mut Made) -> Result<String, ProviderError> {
        let body = self.body(key_name);
        let error = match compute::create_server(&self.client, &body).await {
            Ok(id) => return Ok(id),
            Err(error) => error,
        };
        let may_be_done = error.may_be_done();
        let failed = error.at(format!(
            "could not make server `{}` of image `{}` and flavor `{}`",
            self.name, self.spec.image, self.spec.flavor
        ));
        if !may_be_done {
            return Err(failed);
        }
        tracing::debug!(error = %failed, name = self.name, "there was no answer: looking for the server.");
        made.perhaps = true;
        let found = self.looked_for(|| self.provider.servers_of(&self.client, self.order.id)).await;
        let server = found.ok_or(failed)?;
        made.perhaps = false;
        Ok(server.id)
    }

    /// Looks for what a request without an answer may have made. Nothing, where it does not show in time.
    async fn looked_for<T, E, L: Future<Output = Result<Vec<T>, E>>>(&self, look: impl Fn() -> L) -> Option<T> {
        let mut pause = Duration::from_millis(250);
        for _ in 0..LOOKS {
            match look().await.map(|found| found.into_iter().next()) {
                Ok(Some(found)) => return Some(found),
                Ok(None) if self.order.is_cancelled() => return None,
                Ok(None) => tokio::time::sleep(pause).await,
                Err(_) => return None,
            }
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        None
    }

    /// The port by which a server has an address.
    async fn port_with(&self, server: &Server, address: &str) -> Result<Port, ProviderError> {
        let doing = || format!("could not look for the port of server `{}`", self.name);
        let query = format!("device_id={}", server.id);
        let mut pause = Duration::from_millis(250);
        for _ in 0..LOOKS {
            let ports = self.patiently(doing, || network::ports(&self.client, &query)).await?;
            let mut with = ports.into_iter().filter(|port| port.fixed_ips.iter().any(|ip| ip.ip_address == address));
            if let Some(port) = with.next() {
                return Ok(port);
            }
            // A service that was started just now does not always list what the other one has told.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        let message = format!("{}: none of it has the address `{address}`", doing());
        Err(ProviderError::new(ErrorKind::Failed, message))
    }

    async fn take_floating(
        &self,
        pool: &Network,
        port: &Port,
        fixed: &str,
        made: &mut Made,
    ) -> Result<(), ProviderError> {
        let mark = mark(self.order.id);
        let error = match network::create_floating_ip(&self.client, &pool.id, &port.id, fixed, &mark).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let may_be_done = error.may_be_done();
        let failed = error
            .at(format!("could not take a floating address from network `{}` for server `{}`", pool.name, self.name));
        if !may_be_done {
            return Err(failed);
        }
        tracing::debug!(error = %failed, name = self.name, "there was no answer: looking for the floating address.");
        made.perhaps = true;
        self.looked_for(|| network::floating_ips(&self.client, &mark)).await.ok_or(failed)?;
        made.perhaps = false;
        Ok(())
    }

    /// What a server in `ERROR` says about itself.
    fn broken(&self, server: &Server) -> ProviderError {
        let why = server.fault.as_ref().map(|fault| fault.message.trim().trim_end_matches('.')).unwrap_or_default();
        let kind = kind_of_words(why).unwrap_or(ErrorKind::Failed);
        let why = if why.is_empty() { "it does not say why" } else { why };
        let message = if why.contains("No valid host") {
            format!(
                "no machine of the cloud has room for server `{}` of flavor `{}`: {why}",
                self.name, self.spec.flavor
            )
        } else {
            format!("server `{}` could not be built: {why}", self.name)
        };
        ProviderError::new(kind, message)
    }
}
