//! Workflows of AWX, Ansible Tower and Automation Platform as a provider of hosts.
//!
//! A host is what a workflow says it has made: its artifacts hold `_broker_facts`. Another workflow releases it, a third one
//! lets it live longer. The service knows no hosts but those of its inventories, so that a host is found again by the job
//! that made it, which carries the host's id as the variable `_broker_id`; and one whose release workflow has run well with
//! that id is gone.
//!
//! The lease of a host is the laboratory's: facts such as `remove_time` say when it ends, and Broker ends none.

mod api;
mod arguments;
mod artifacts;
mod checkout;
mod client;
mod execute;
mod extend;
mod facts;
mod find;
mod known;
mod launch;
mod list;
mod query;
mod reason;
mod release;
mod run;
mod settings;
mod survey;
mod tree;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker_core::inventory::HostRecord;
use broker_core::provider::{
    ActionInfo, Endpoint, ErrorKind, Execution, Extension, Found, HostFacts, Order, Provider, ProviderError,
    ProviderFactory, ProviderInfo, Query, Scope, Table,
};

use crate::api::Ping;
use crate::api::job::{Job, JobId};
use crate::api::template::Kind;
use crate::client::{CallError, Client};
use crate::known::Known;
use crate::reason::Reasons;
use crate::settings::{Prefix, Settings};
use crate::wait::{Patience, Watch};

/// How late a launch may be carried out that was not answered.
const LATE: Duration = Duration::from_secs(5);

/// What a release may take beside its workflow and stopping another.
const BESIDE: Duration = Duration::from_secs(120);

/// Makes providers of workflows, one for each instance of the settings' section `AnsibleTower`.
pub fn factory() -> Arc<dyn ProviderFactory> {
    let info = ProviderInfo {
        name: "AnsibleTower",
        about: "Hosts made by workflows of AWX, Ansible Tower and Automation Platform",
        actions: vec![
            ActionInfo {
                name: arguments::WORKFLOW,
                value: "NAME",
                help: "Launch this workflow template",
                makes_host: true,
                executes: true,
            },
            ActionInfo {
                name: arguments::JOB_TEMPLATE,
                value: "NAME",
                help: "Launch this job template",
                makes_host: true,
                executes: true,
            },
        ],
        arguments: arguments::ARGUMENTS.to_vec(),
        queries: query::QUERIES.to_vec(),
        facts: facts::NAMES.to_vec(),
        hidden_args: Vec::new(),
        governs_leases: true,
    };
    broker_core::provider::factory(info, |settings| Ok(Arc::new(TowerProvider::new(Settings::read(settings)?)?)))
}

/// One configured instance: one user of one service. Logs in at the first use.
pub(crate) struct TowerProvider {
    settings: Settings,
    client: Client,
    known: Known,
    watch: Watch,
}

impl TowerProvider {
    fn new(settings: Settings) -> Result<Self, ProviderError> {
        let client = Client::new(&settings)?;
        Ok(Self { settings, client, known: Known::default(), watch: Watch::default() })
    }

    /// Where this instance makes hosts, as it is now.
    pub(crate) async fn place(&self) -> Result<Endpoint, ProviderError> {
        let doing = || format!("could not ask `{}` who it is", self.client.base());
        let prefix = self.client.prefix().await.map_err(|error| error.at(doing()))?;
        let ping: Ping = self.client.get("ping/").await.map_err(|error| error.at(doing()))?;
        tracing::debug!(version = ping.version, "the service answers.");
        Ok(Endpoint { uri: format!("{}{}", self.client.base(), prefix.path()), identity: ping.install_uuid })
    }

    /// Makes sure that what answers is the installation that a host was made at.
    pub(crate) async fn at_home(&self, host: &HostRecord) -> Result<(), ProviderError> {
        let Some(made_at) = &host.endpoint else { return Ok(()) };
        let place = self.place().await?;
        if place.identity == made_at.identity {
            return Ok(());
        }
        let message = format!(
            "host `{}` was made at installation `{}`, and `{}` is installation `{}` now",
            host.label(),
            made_at.identity,
            self.client.base(),
            place.identity
        );
        Err(ProviderError::new(ErrorKind::EndpointChanged, message))
    }

    /// A client for one who waits for a job.
    pub(crate) fn patient(&self) -> Client {
        self.client.patient(self.settings.max_resilient_wait)
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience { interval: self.settings.poll_interval, outage: self.settings.max_resilient_wait }
    }

    /// Tells programs of a job, under the Python tool's keys.
    pub(crate) async fn tell_of(&self, order: &Order, job: JobId) {
        order.tell("auth_type", if self.client.has_token().await { "token" } else { "password" });
        order.tell("api_url", self.api_link(job));
        order.tell("ui_url", self.link(job));
    }

    /// Tells programs why a job failed, under the Python tool's keys.
    pub(crate) fn tell_why(&self, order: &Order, id: JobId, job: &Job, reasons: &Reasons) {
        let key = match id.kind {
            Kind::Workflow => "Workflow Status",
            Kind::Job => "Job_template Status",
        };
        order.tell(key, job.status.api_word());
        order.tell("Reason(s)", reasons.to_json());
        order.tell("URL", self.link(id));
    }

    /// The prefix of the service. Nothing has been launched before it is known.
    fn known_prefix(&self) -> Prefix {
        self.client.known_prefix().unwrap_or(Prefix::Classic)
    }

    /// Where a job is in the API.
    pub(crate) fn api_link(&self, job: JobId) -> String {
        format!("{}{}{}", self.client.base(), self.known_prefix().path(), job.path())
    }

    /// The page of a job, for people.
    pub(crate) fn link(&self, job: JobId) -> String {
        let word = match job.kind {
            Kind::Workflow => "workflow",
            Kind::Job => "playbook",
        };
        format!("{}/{}/jobs/{word}/{}/output", self.client.base(), self.known_prefix().ui(), job.id)
    }
}

/// An error that says where a job stands.
pub(crate) fn about(error: CallError, job: JobId, doing: &str) -> ProviderError {
    error.at(format!("could not {doing} {job}"))
}

#[async_trait]
impl Provider for TowerProvider {
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

    async fn extend_as(&self, host: &HostRecord, wanted: &Extension) -> Result<HostFacts, ProviderError> {
        self.extend_host(host, wanted).await
    }

    async fn execute(&self, order: &Order) -> Result<Execution, ProviderError> {
        self.run_action(order).await
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<Found>, ProviderError> {
        self.list_hosts(scope).await
    }

    /// Those of an inventory carry the id only where a playbook has stored it as a fact.
    fn knows_hosts_by_name(&self) -> bool {
        true
    }

    async fn find(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        self.find_host(host).await
    }

    /// A launch that nobody waits for may still be carried out. Once its job is known nothing comes to be but by that.
    fn settle_time(&self, host: &HostRecord) -> Duration {
        if checkout::job_of(host.details.handle.as_ref()).is_some() { Duration::ZERO } else { LATE }
    }

    /// The release workflow has the time that any workflow has, and before it comes stopping the one that makes the
    /// host.
    fn release_limit(&self) -> Option<Duration> {
        Some(self.settings.workflow_timeout.saturating_add(run::STOPPING + BESIDE))
    }

    async fn query(&self, query: &Query) -> Result<Table, ProviderError> {
        self.answer(query).await
    }

    async fn close(&self) {
        self.client.close().await;
    }
}
