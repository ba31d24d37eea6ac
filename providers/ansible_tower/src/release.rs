//! Releasing a host: by the release workflow, once for each host, whoever asks and however often.
//!
//! The workflow knows a host by its name, and names come again. So before it is launched its runs are looked at: one that
//! carried the host's id and went well has released it, and one that runs is waited for.

use broker_core::inventory::HostRecord;
use broker_core::provider::{ErrorKind, Order, ProviderError};
use broker_core::{Args, HostId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::TowerProvider;
use crate::api::job::{Job, JobId, Status};
use crate::api::template::Kind;
use crate::arguments::{self, InventoryRef, Wanted};
use crate::checkout::{candidates_of, job_of};
use crate::facts;
use crate::launch::{NotLaunched, runs_of};
use crate::run::Ended;

/// The variable that tells the release workflow which host is meant.
const SOURCE_VM: &str = "source_vm";

/// How far two readings of clocks may be apart.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// Whose host is released, and what its workflow is told beside the name.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) id: HostId,
    given: Map<String, Value>,
    inventory: Option<InventoryRef>,
    origin: String,
}

impl Release {
    pub(crate) fn of_order(order: &Order) -> Self {
        Self::of(order.id, &order.args, &order.origin)
    }

    pub(crate) fn of_host(host: &HostRecord) -> Self {
        let mut args = host.args.clone();
        if let Some(inventory) = host.facts.get(facts::TOWER_INVENTORY).and_then(Value::as_str) {
            args.entry(arguments::TOWER_INVENTORY.to_owned()).or_insert_with(|| inventory.into());
        }
        // The Python tool's records have the arguments one level deeper.
        if let Some(inner) = host.args.get(facts::ARGS).and_then(|inner| inner.as_map()) {
            args.extend(inner.clone());
        }
        let origin = host.args.get("_broker_origin").map(ToString::to_string).unwrap_or_default();
        Self::of(host.id, &args, &origin)
    }

    fn of(id: HostId, args: &Args, origin: &str) -> Self {
        let kept = |name: &str| {
            !name.starts_with("_broker")
                && ![arguments::WORKFLOW, arguments::JOB_TEMPLATE, "_jenkins_url"].contains(&name)
        };
        let args = args.iter().filter(|(name, _)| kept(name)).map(|(name, value)| (name.as_str(), value));
        // What was good enough to launch with is so here; an inventory that is a number of nothing is none.
        let (given, inventory) = arguments::split(args).unwrap_or_default();
        Self { id, given, inventory, origin: origin.to_owned() }
    }

    /// A workflow launched for this host, with these variables of its own.
    pub(crate) fn wanted(&self, workflow: &str, variables: &[(&str, Value)]) -> Wanted {
        let mut given = self.given.clone();
        given.insert(arguments::WORKFLOW.to_owned(), json!(workflow));
        given.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut wanted = Wanted::workflow(workflow, given, self.id, &self.origin);
        wanted.inventory.clone_from(&self.inventory);
        wanted
    }
}

impl TowerProvider {
    pub(crate) async fn release_host(&self, host: &HostRecord) -> Result<(), ProviderError> {
        self.at_home(host).await?;
        if let Some(links) = candidates_of(host.handle.as_ref()) {
            return Err(cannot_tell(&links));
        }
        let release = Release::of_host(host);
        let was_handed_over = host.checked_out_at.is_some() && !host.facts.contains_key(facts::DEPLOY_FAILED);
        if was_handed_over && let Some(name) = &host.name {
            return self.run_release(&release, name).await;
        }
        let jobs = self.jobs_of(host).await?;
        let mut names: Vec<String> = Vec::new();
        let mut told_nothing = None;
        for (id, mut job) in jobs {
            let runs = !job.status.is_over();
            if runs {
                self.stop(id).await?;
                job = self.job(id).await?.unwrap_or(job);
            }
            let ran = self.ran(id, &job).await?;
            if runs {
                self.warn_of_the_unknown(id, &ran);
            }
            let mut made = self.made_by(id, &ran).await?;
            if job.status == Status::Successful {
                let told = self.told_by(id, &ran).await?;
                made.extend(told.and_then(|told| told.name).filter(|name| !made.contains(name)));
                if made.is_empty() && !ran.is_empty() {
                    told_nothing = Some(id);
                }
            }
            names.extend(made.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
        }
        if names.is_empty() {
            names.extend(host.name.clone());
        }
        if let Some(id) = told_nothing.filter(|_| names.is_empty()) {
            let message = format!(
                "nothing says which host {id} has made, so that it cannot be released from here ({}); `broker forget` \
                 takes it out of the inventory",
                self.link(id)
            );
            return Err(ProviderError::new(ErrorKind::Failed, message));
        }
        for name in &names {
            self.run_release(&release, name).await?;
        }
        Ok(())
    }

    /// Has the release workflow release a machine, unless it has.
    pub(crate) async fn run_release(&self, release: &Release, name: &str) -> Result<(), ProviderError> {
        let workflow = &self.settings.release_workflow;
        let wanted = release.wanted(workflow, &[(SOURCE_VM, json!(name))]).labelled(&self.settings.labels);
        let prepared = self.prepared(&wanted).await?;
        let label = prepared.label();
        if prepared.left_out.iter().any(|left| left == SOURCE_VM) {
            let message =
                format!("{label} does not take `{SOURCE_VM}` on launch, so that it cannot be told what to release");
            return Err(ProviderError::new(ErrorKind::Settings, message));
        }
        let mut running = None;
        for job in self.releases_of(release.id).await? {
            if job.text_variable(SOURCE_VM).as_deref() != Some(name) {
                continue;
            }
            match job.status {
                Status::Successful => return Ok(()),
                status if !status.is_over() => running = Some(job.id),
                _ => {}
            }
        }
        let id = match running {
            Some(id) => id,
            None => self.launch(&prepared).await.map_err(|NotLaunched { error, .. }| error)?.id,
        };
        let id = JobId { kind: Kind::Workflow, id };
        tracing::debug!(host = name, job = id.id, "the release workflow runs.");
        match self.ended(id, &label, None).await? {
            Ended::Over(job) if job.status == Status::Successful => Ok(()),
            Ended::Over(job) => {
                let ran = self.ran(id, &job).await?;
                let reasons = self.reasons(id, &job, &ran).await?;
                Err(self.failed(&format!("{label} for host `{name}`"), id, &job, &reasons))
            }
            Ended::GoesOn(error) | Ended::Stopped(error, _) => Err(error),
        }
    }

    /// The runs of the release workflow that were for this host, newest first.
    pub(crate) async fn releases_of(&self, id: HostId) -> Result<Vec<Job>, ProviderError> {
        let workflow = &self.settings.release_workflow;
        let template = match self.known.blueprint(&self.client, Kind::Workflow, workflow).await {
            Ok(blueprint) => blueprint.template.id,
            // What cannot be launched has not been.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let runs =
            runs_of(&self.client, Kind::Workflow, template, (arguments::ID, &id.to_string()), self.since(id)).await;
        runs.map_err(|error| error.at(format!("could not look at the runs of workflow `{workflow}`")))
    }

    /// When an id was made, by the service's clock, and a little earlier.
    pub(crate) fn since(&self, id: HostId) -> Option<Timestamp> {
        let made = id.made_at()?;
        let ahead = self.client.service_now().map(|now| now.duration_since(Timestamp::now())).unwrap_or_default();
        made.checked_add(ahead).ok()?.checked_sub(SLACK).ok()
    }

    /// The jobs that were launched to make a host.
    pub(crate) async fn jobs_of(&self, host: &HostRecord) -> Result<Vec<(JobId, Job)>, ProviderError> {
        if let Some(id) = job_of(host.handle.as_ref()) {
            return Ok(self.job(id).await?.map(|job| (id, job)).into_iter().collect());
        }
        let Some((kind, template)) = self.template_of(host).await? else { return Ok(Vec::new()) };
        let id = host.id.to_string();
        let runs = runs_of(&self.client, kind, template.id, (arguments::ID, &id), self.since(host.id)).await;
        let runs = runs.map_err(|error| error.at(format!("could not look for the job of host `{}`", host.id)))?;
        Ok(runs.into_iter().map(|job| (JobId { kind, id: job.id }, job)).collect())
    }

    /// A job; nothing if the service has forgotten it.
    pub(crate) async fn job(&self, id: JobId) -> Result<Option<Job>, ProviderError> {
        match crate::api::job::job(&self.client, id).await {
            Ok(job) => Ok(Some(job)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(crate::about(error, id, "look at")),
        }
    }
}

/// The error for a host of which nobody can tell which job made it.
pub(crate) fn cannot_tell(links: &str) -> ProviderError {
    let message = format!(
        "nothing tells which job was launched for it, as the template takes no `{}`; it may be {links}; release what it \
         has made, and `broker forget` takes it out of the inventory",
        arguments::ID
    );
    ProviderError::new(ErrorKind::Conflict, message)
}
