//! Releasing a host: by the release workflow, once for each host, whoever asks and however often.
//!
//! The workflow knows a host by its name, and names come again. So before it is launched its runs are looked at: one that
//! carried the host's id and went well has released it, and one that runs is waited for.

use broker_core::inventory::HostRecord;
use broker_core::provider::{ErrorKind, Order, ProviderError};
use broker_core::{ArgValue, Args, HostId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::TowerProvider;
use crate::api::job::{self, Job, JobId, Status};
use crate::api::template::Kind;
use crate::arguments::{self, InventoryRef, Wanted};
use crate::checkout::{candidates_of, job_of};
use crate::facts;
use crate::known::Run;
use crate::launch::{NotLaunched, runs_of};
use crate::run::Ended;
use crate::tree::Ran;

/// The variable that tells the release workflow which host is meant.
pub(crate) const SOURCE_VM: &str = "source_vm";

/// How far two readings of clocks may be apart.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// Whose host is released, and what its workflow is told beside the name.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    id: HostId,
    given: Map<String, Value>,
    inventory: Option<InventoryRef>,
    origin: String,
    made: Made,
}

/// What tells when a host was there for sure, where runs of the release workflow carry no id.
#[derive(Debug, Clone, Copy)]
enum Made {
    /// When the job that made it ended.
    At(Option<Timestamp>),
    /// By this job.
    By(JobId),
    /// Elsewhere, before it had its id.
    Before,
}

impl Release {
    pub(crate) fn of_order(order: &Order) -> Self {
        Self::of(order.id, &order.args, &order.origin, Made::At(None))
    }

    /// The same, of a host that was there when this job was over.
    pub(crate) fn after(mut self, job: &Job) -> Self {
        self.made = Made::At(job.finished);
        self
    }

    /// The same, with what the host's workflow says that it was made with.
    pub(crate) fn made_with(mut self, facts: &Map<String, Value>) -> Self {
        let told = facts.get(facts::MADE_WITH).and_then(Value::as_object).into_iter().flatten();
        let told: Args = told.map(|(name, value)| (name.clone(), ArgValue::from_json(value.clone()))).collect();
        let told = arguments::split(told.iter().map(|(name, value)| (name.as_str(), value)));
        let (given, inventory) = told.unwrap_or_default();
        self.given.extend(given);
        self.inventory = inventory.or(self.inventory);
        self
    }

    pub(crate) fn of_host(host: &HostRecord) -> Self {
        let mut args = host.details.args.clone();
        if let Some(inventory) = host.details.facts.get(facts::TOWER_INVENTORY).and_then(Value::as_str) {
            args.entry(arguments::TOWER_INVENTORY.to_owned()).or_insert_with(|| inventory.into());
        }
        // The Python tool's records have the arguments one level deeper.
        if let Some(inner) = host.details.args.get(facts::ARGS).and_then(|inner| inner.as_map()) {
            args.extend(inner.clone());
        }
        let origin = host.details.args.get("_broker_origin").map(ToString::to_string).unwrap_or_default();
        let made = match job_of(host.details.handle.as_ref()) {
            Some(job) => Made::By(job),
            None if came_from_elsewhere(host) => Made::Before,
            None => Made::At(None),
        };
        Self::of(host.id, &args, &origin, made).made_with(&host.details.facts)
    }

    fn of(id: HostId, args: &Args, origin: &str, made: Made) -> Self {
        let args =
            args.iter().filter(|(name, _)| !arguments::is_ours(name)).map(|(name, value)| (name.as_str(), value));
        // What was good enough to launch with is so here; an inventory that is a number of nothing is none.
        let (given, inventory) = arguments::split(args).unwrap_or_default();
        Self { id, given, inventory, origin: origin.to_owned(), made }
    }

    /// A workflow launched for this host, with these variables of its own.
    pub(crate) fn wanted(&self, workflow: &str, variables: &[(&'static str, Value)]) -> Wanted {
        let mut given = self.given.clone();
        given.insert(arguments::WORKFLOW.to_owned(), json!(workflow));
        given.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut wanted = Wanted::workflow(workflow, given, self.id, &self.origin);
        wanted.inventory.clone_from(&self.inventory);
        wanted.essential = variables.iter().map(|(name, _)| *name).collect();
        wanted
    }
}

/// Whether a host was handed over once, or came from elsewhere: then it is what its record says. (Whoever releases one
/// that was imported owns it by then.)
pub(crate) fn was_handed_over(host: &HostRecord) -> bool {
    let was_begun_here = host.is_half_made() && host.endpoint.is_some();
    !was_begun_here && !host.details.facts.contains_key(facts::DEPLOY_FAILED)
}

/// Whether a host was imported or listed, and not made by a job that we know.
fn came_from_elsewhere(host: &HostRecord) -> bool {
    let has_job = job_of(host.details.handle.as_ref()).is_some() || host.details.facts.contains_key(facts::JOB);
    was_handed_over(host) && !has_job
}

/// What the release workflow knows a host by: what its own workflow says to that, else its name. What somebody has
/// given the workflow that makes it is another machine's name.
pub(crate) fn machine_of(host: &HostRecord) -> Option<String> {
    let told = host.details.facts.get(facts::MADE_WITH).and_then(|told| told.get(SOURCE_VM)?.as_str());
    // Of a host that came from elsewhere the arguments are what its workflow has said.
    let came = || host.details.args.get(SOURCE_VM).filter(|_| came_from_elsewhere(host))?.as_str();
    let told = told.or_else(came).filter(|name| !name.is_empty());
    told.or(host.name.as_deref()).or(host.hostname.as_deref()).map(str::to_owned)
}

impl TowerProvider {
    pub(crate) async fn release_host(&self, host: &HostRecord) -> Result<(), ProviderError> {
        self.at_home(host).await?;
        if let Some(links) = candidates_of(host.details.handle.as_ref()) {
            return Err(cannot_tell(&links));
        }
        let release = Release::of_host(host);
        if was_handed_over(host)
            && let Some(name) = machine_of(host)
        {
            return self.run_release(&release, &name).await;
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
                let told = self.told_by(host, id, &ran).await?;
                made.extend(told.and_then(|told| facts::machine(&told)).filter(|name| !made.contains(name)));
                if made.is_empty() && !ran.is_empty() && !ran.iter().any(Ran::has_failed) {
                    told_nothing = Some(id);
                }
            }
            names.extend(made.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
        }
        if names.is_empty() {
            names.extend(machine_of(host));
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
        for run in self.releases_of(release, name).await? {
            match run.status {
                Status::Successful => return Ok(()),
                status if !status.is_over() => running = Some(run.id),
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

    /// The runs of the release workflow that were for this machine of a host, newest first.
    pub(crate) async fn releases_of(&self, release: &Release, name: &str) -> Result<Vec<Run>, ProviderError> {
        let workflow = &self.settings.release_workflow;
        let blueprint = match self.known.blueprint(&self.client, Kind::Workflow, workflow).await {
            Ok(blueprint) => blueprint,
            // What cannot be launched has not been.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let since = self.since(release.id);
        // One that carries no id was for whatever had the name at the time: this host, once it had it.
        let was_there = match (blueprint.takes(arguments::ID), release.made) {
            (true, _) => None,
            (false, Made::At(at)) => at,
            (false, Made::By(job)) => self.job(job).await?.and_then(|job| job.finished),
            (false, Made::Before) => since,
        };
        let mut runs = self.known.runs(&self.client, &blueprint.template, since).await?;
        let id = release.id.to_string();
        runs.retain(|run| {
            let is_for_it = match &run.host {
                Some(of) => *of == id,
                None => was_there.is_some_and(|there| run.created.is_some_and(|created| created >= there)),
            };
            is_for_it && run.machine.as_deref() == Some(name)
        });
        Ok(runs)
    }

    /// When an id was made, by the service's clock, and a little earlier.
    pub(crate) fn since(&self, id: HostId) -> Option<Timestamp> {
        let made = id.made_at()?;
        let ahead = self.client.service_now().map(|now| now.duration_since(Timestamp::now())).unwrap_or_default();
        made.checked_add(ahead).ok()?.checked_sub(SLACK).ok()
    }

    /// The jobs that were launched to make a host.
    pub(crate) async fn jobs_of(&self, host: &HostRecord) -> Result<Vec<(JobId, Job)>, ProviderError> {
        if let Some(id) = job_of(host.details.handle.as_ref()) {
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
        match job::job(&self.client, id).await {
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
