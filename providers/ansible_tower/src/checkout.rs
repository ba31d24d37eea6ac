//! Making a host: a workflow is launched and waited for, and its artifacts tell of the host.

use std::collections::HashSet;
use std::sync::Arc;

use broker_core::inventory::{HIDDEN_ARGS, args_without};
use broker_core::provider::{ErrorKind, HostFacts, Lease, Order, ProviderError};
use broker_core::{ArgValue, Args};
use serde_json::{Map, Value, json};

use crate::api::job::{Job, JobId, Status};
use crate::api::template::Kind;
use crate::arguments::Wanted;
use crate::artifacts::{self, Left, Strategy};
use crate::facts;
use crate::launch::{NotLaunched, Prepared};
use crate::release::Release;
use crate::run::Ended;
use crate::settings::Dangling;
use crate::tree::Ran;
use crate::{TowerProvider, about};

/// What the journal knows a job by.
pub(crate) const HANDLE_JOB: &str = "job";
pub(crate) const HANDLE_KIND: &str = "type";
const HANDLE_URL: &str = "url";
const HANDLE_CANDIDATES: &str = "perhaps";

impl TowerProvider {
    /// Looks at a whole batch before any of it is launched.
    pub(crate) async fn look_at(&self, orders: &[Order]) -> Result<(), ProviderError> {
        let mut seen: HashSet<String> = HashSet::new();
        for order in orders {
            let wanted = Wanted::of(order)?;
            // What differs from order to order is what the template is not asked about.
            if !seen.insert(format!("{:?}{:?}{:?}", wanted.kind, wanted.given, wanted.inventory)) {
                continue;
            }
            let look = async {
                let secrets = self.secrets_of(&wanted).await?;
                if !secrets.is_empty() {
                    order.tell("arguments", args_without(&order.args, secrets.iter().map(String::as_str)));
                }
                let prepared = self.prepared(&wanted).await?;
                if !prepared.left_out.is_empty() {
                    let (label, what) = (prepared.label(), prepared.left_out.join("`, `"));
                    tracing::warn!("{label} does not take `{what}` on launch: it is left out");
                }
                match order.lease_until {
                    Some(_) => self.can_extend().await,
                    None => Ok(()),
                }
            };
            tokio::select! {
                looked = look => looked?,
                () = order.cancelled() => return Err(cancelled(&wanted.name)),
            }
        }
        Ok(())
    }

    pub(crate) async fn check_out(&self, order: &Order) -> Result<HostFacts, ProviderError> {
        let wanted = Wanted::of(order)?;
        let prepared = self.prepared(&wanted).await?;
        if order.is_cancelled() {
            return Err(cancelled(&wanted.name));
        }
        let secrets = self.secrets_of(&wanted).await?;
        let hidden = (!secrets.is_empty()).then(|| (HIDDEN_ARGS.to_owned(), json!(secrets)));
        if let Some(hidden) = &hidden {
            order.known(HostFacts { facts: Map::from_iter([hidden.clone()]), ..HostFacts::default() }).await?;
        }
        // Not cut short by a cancellation: an answer that nobody waits for is a job that nobody knows.
        let id = self.begin(order, &prepared).await?;
        let label = prepared.label();
        let job = match self.ended(id, &label, Some(order)).await? {
            Ended::Over(job) => job,
            Ended::GoesOn(error) => return Err(error),
            Ended::Stopped(error, job) => return Err(self.give_up(order, id, &job, error).await),
        };
        let ran = self.ran(id, &job).await.map_err(ProviderError::leaving_something)?;
        if job.status != Status::Successful {
            return Err(self.failed_to_make(order, id, &label, &job, &ran).await);
        }
        let strategy = wanted.strategy.unwrap_or(Strategy::Last);
        let left = artifacts::of_all(&self.patient(), &ran).await;
        let left = left.map_err(|error| about(error, id, "read the artifacts of").leaving_something())?;
        let secrets = prepared.blueprint.secrets();
        let Some(mut told) = self.told(id, &left, strategy, (&order.args, &secrets)) else {
            return Err(match ran.iter().any(Ran::has_failed) {
                true => self.failed_to_make(order, id, &label, &job, &ran).await,
                false => self.told_nothing(order, id, &label, &ran, &left).await,
            });
        };
        told.facts.extend(hidden);
        if let Some(until) = order.lease_until {
            told = self.leased(order, &job, told, until).await?;
        }
        Ok(told)
    }

    /// The arguments among those given that answer questions for secrets.
    async fn secrets_of(&self, wanted: &Wanted) -> Result<Vec<String>, ProviderError> {
        let blueprint = self.known.blueprint(&self.client, wanted.kind, &wanted.name).await?;
        Ok(blueprint.secrets().into_iter().filter(|name| wanted.given.contains_key(*name)).map(str::to_owned).collect())
    }

    /// Launches, and has the job written down.
    async fn begin(&self, order: &Order, prepared: &Prepared) -> Result<JobId, ProviderError> {
        let label = prepared.label();
        order.progress(format!("launching {label}"));
        let kind = prepared.blueprint.kind;
        let job = match self.launch(prepared).await {
            Ok(job) => job,
            Err(NotLaunched { error, candidates }) if candidates.is_empty() => return Err(error),
            Err(NotLaunched { error, candidates }) => {
                let links: Vec<String> = candidates.iter().map(|job| self.link(job.launched_as(kind))).collect();
                order.made(json!({ HANDLE_CANDIDATES: links })).await?;
                return Err(error);
            }
        };
        let id = job.launched_as(kind);
        let link = self.link(id);
        self.tell_of(order, id).await;
        order.made(json!({HANDLE_KIND: id.kind.job_type(), HANDLE_JOB: id.id, HANDLE_URL: link})).await?;
        if !job.ignored_fields.is_empty() {
            let ignored: Vec<&String> = job.ignored_fields.keys().collect();
            tracing::warn!("{label} has dropped what it was told of {ignored:?}");
        }
        tracing::info!("{label} runs as {id}: {link}");
        Ok(id)
    }

    /// A job that failed, or that went on after something in it had failed and tells of no host: why, and what became
    /// of what it made.
    async fn failed_to_make(&self, order: &Order, id: JobId, label: &str, job: &Job, ran: &[Ran]) -> ProviderError {
        let reasons = match self.reasons(id, job, ran).await {
            Ok(reasons) => reasons,
            Err(error) => return error.leaving_something(),
        };
        self.tell_why(order, id, job, &reasons);
        let error = self.failed(label, id, job, &reasons);
        if reasons.say_that_it_is_gone() {
            return error;
        }
        self.dangling(order, id, job, ran, error).await
    }

    /// The host that a job's artifacts tell of. `given` are the arguments it was launched with, and `secrets` the
    /// variables that are shown to nobody.
    pub(crate) fn told(
        &self,
        id: JobId,
        left: &[Left],
        strategy: Strategy,
        (given, secrets): (&Args, &[&str]),
    ) -> Option<HostFacts> {
        let count = artifacts::that_count(left);
        let tells = || count.iter().any(|left| facts::told_of(&left.artifacts).is_some());
        // Where something has failed only a host that is handed over in the agreed way is one for sure.
        if count.len() < left.len() && !tells() {
            return None;
        }
        let chosen = |speaks_of: &[&str]| match strategy {
            Strategy::Last => artifacts::chosen(count.iter().copied(), strategy, speaks_of),
            Strategy::Merge => artifacts::chosen(left, strategy, speaks_of),
        };
        let expiry = &self.settings.expiry_facts;
        let told = facts::of_artifacts(&chosen(&[facts::FACTS]), expiry);
        // Where nobody tells of a host in the agreed way, the last one that names a machine does.
        let mut told = told.or_else(|| facts::of_artifacts(&chosen(&[facts::VM_NAME, "fqdn"]), expiry))?;
        if told.name.is_none()
            && let [only] = names_in(left).as_slice()
            && told.hostname.as_ref() != Some(only)
        {
            told.name = Some(only.clone());
        }
        let made_with = facts::made_with(&chosen(&[facts::ARGS]), given, secrets);
        if !made_with.is_empty() {
            let args = made_with.iter().map(|(name, value)| (name.clone(), ArgValue::from_json(value.clone())));
            told.args = args.collect();
            told.facts.insert(facts::MADE_WITH.to_owned(), Value::Object(made_with));
        }
        told.facts.insert(facts::JOB.to_owned(), json!(id.id));
        told.facts.insert(facts::JOB_URL.to_owned(), json!(self.link(id)));
        Some(told)
    }

    /// A workflow that ended well and does not say what it made.
    async fn told_nothing(&self, order: &Order, id: JobId, label: &str, ran: &[Ran], left: &[Left]) -> ProviderError {
        let what = match (ran.is_empty(), left.iter().all(|left| left.artifacts.is_empty())) {
            (true, _) => "nothing ran in it",
            (false, true) if left.iter().any(|left| left.are_hidden) => {
                "its artifacts are shown to nobody, since a task with `no_log` has set them (`set_stats`)"
            }
            (false, true) => "none of its jobs has left artifacts (`set_stats`)",
            (false, false) => "none of its artifacts is `_broker_facts` or names a host",
        };
        let link = self.link(id);
        let message = format!("{label} ended well and tells of no host: {what} ({link})");
        let error = ProviderError::new(ErrorKind::Failed, message);
        if ran.is_empty() {
            return error;
        }
        order.progress("the workflow tells of no host");
        error.leaving_something()
    }

    /// Gives a job up that was stopped: what it made goes.
    async fn give_up(&self, order: &Order, id: JobId, job: &Arc<Job>, error: ProviderError) -> ProviderError {
        let ran = self.ran(id, job).await;
        if let Ok(ran) = &ran {
            self.warn_of_the_unknown(id, ran);
        }
        match ran {
            // A workflow may have come to its end just before.
            Ok(ran) if error.kind() == ErrorKind::Timeout => self.dangling(order, id, job, &ran, error).await,
            Ok(ran) => match self.made_by(id, &ran).await {
                Ok(names) if names.is_empty() => error,
                // Whoever cancelled waits no longer than it must: the engine releases it by its id.
                _ => error.leaving_something(),
            },
            Err(_) => error.leaving_something(),
        }
    }

    /// Deals with what a workflow that failed has made.
    async fn dangling(&self, order: &Order, id: JobId, job: &Job, ran: &[Ran], error: ProviderError) -> ProviderError {
        let names = match self.made_by(id, ran).await {
            Ok(names) if names.is_empty() => return error,
            Ok(names) => names,
            Err(looking) => {
                tracing::warn!(%looking, "what the workflow has made could not be looked at");
                return error.leaving_something();
            }
        };
        let shown = names.join("`, `");
        let known = HostFacts {
            name: names.first().cloned(),
            facts: Map::from_iter([(facts::DEPLOY_FAILED.to_owned(), Value::Bool(true))]),
            ..HostFacts::default()
        };
        if let Err(writing) = order.known(known).await {
            tracing::warn!(%writing, hosts = shown, "what the workflow has made could not be written down");
        }
        match self.settings.dangling {
            Dangling::Store => with(error, &format!("host `{shown}` that it had made is kept")).leaving_something(),
            Dangling::Prompt => with(error, &format!("host `{shown}` that it had made is there"))
                .leaving_something()
                .to_be_asked_about(),
            Dangling::Checkin => {
                order.progress(format!("checking in host `{shown}` that the workflow had made"));
                let release = Release::of_order(order).after(job);
                for name in &names {
                    if let Err(releasing) = self.run_release(&release, name).await {
                        let mut message =
                            format!("{error}; and host `{name}` that it had made could not be checked in");
                        if job.status == Status::Successful {
                            message += " (where the workflow has removed it itself, `broker forget` ends its entry)";
                        }
                        return ProviderError::new(error.kind(), message).source(releasing).leaving_something();
                    }
                }
                with(error, &format!("host `{shown}` that it had made is checked in"))
            }
        }
    }

    /// Tells of jobs that were stopped in the middle: what they had made by then they say to nobody.
    pub(crate) fn warn_of_the_unknown(&self, id: JobId, ran: &[Ran]) {
        for stopped in ran.iter().filter(|ran| ran.status == Status::Cancelled) {
            let Some(job) = stopped.job() else { continue };
            let (name, link) = (&stopped.name, self.link(job));
            tracing::warn!(
                "`{name}` of {id} was stopped in the middle: nobody can tell whether it had made anything ({link})"
            );
        }
    }

    /// The names of the machines that a job has made, as far as what ran for it says: what failed had perhaps said so
    /// before.
    pub(crate) async fn made_by(&self, id: JobId, ran: &[Ran]) -> Result<Vec<String>, ProviderError> {
        let left = artifacts::of_all(&self.patient(), ran).await;
        let left = left.map_err(|error| about(error, id, "read the artifacts of"))?;
        let names = names_in(&left);
        for hidden in left.iter().filter(|left| left.are_hidden && names.is_empty()) {
            let name = &hidden.ran.name;
            let link = hidden.ran.job().map(|job| self.link(job)).unwrap_or_default();
            tracing::warn!(
                "what `{name}` of {id} may have made is shown to nobody, since it says so with `no_log` ({link})"
            );
        }
        Ok(names)
    }

    /// Has a new host live for as long as was asked for.
    async fn leased(
        &self,
        order: &Order,
        job: &Job,
        told: HostFacts,
        until: jiff::Timestamp,
    ) -> Result<HostFacts, ProviderError> {
        let left = until.duration_since(jiff::Timestamp::now());
        let lease = Lease(left.try_into().unwrap_or_default());
        let host = facts::machine(&told).unwrap_or_default();
        order.progress("setting its lease");
        let time = crate::extend::relative(lease.0);
        let release = Release::of_order(order).after(job).made_with(&told.facts);
        match self.run_extend(&host, &time, &release, order.labels.clone()).await {
            Ok(new) => {
                let lease_until = new.lease_until.or(Some(until));
                let facts = told.facts.into_iter().chain(new.facts).collect();
                Ok(HostFacts { lease_until, facts, ..told })
            }
            Err(error) => {
                // What cannot have the lease that was asked for is not what was asked for.
                let kind = error.kind();
                let message = format!("host `{host}` was made, and its lease could not be set: {error}");
                match self.run_release(&release, &host).await {
                    Ok(()) => Err(ProviderError::new(kind, format!("{message}; it is checked in again"))),
                    Err(release) => Err(ProviderError::new(kind, message).source(release).leaving_something()),
                }
            }
        }
    }
}

/// The names of machines, each once, in the order in which they were made.
pub(crate) fn names_in(left: &[Left]) -> Vec<String> {
    let each_once = |all: &mut dyn Iterator<Item = String>| {
        let mut names: Vec<String> = Vec::new();
        for name in all {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    let names = each_once(&mut left.iter().flat_map(|left| facts::vm_names(&left.artifacts)));
    match names.is_empty() {
        // One that is told of without a name goes by its hostname.
        true => each_once(&mut left.iter().filter_map(|left| facts::told_of(&left.artifacts)?.hostname)),
        false => names,
    }
}

/// The same error with a word on what became of the rest.
fn with(error: ProviderError, done: &str) -> ProviderError {
    let (kind, message) = (error.kind(), format!("{error}; {done}"));
    match error.into_source() {
        Some(source) => ProviderError::new(kind, message).source(source),
        None => ProviderError::new(kind, message),
    }
}

fn cancelled(name: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Cancelled, format!("`{name}` is not wanted any more, and was not launched"))
}

/// The job that a record says made its host.
pub(crate) fn job_of(handle: Option<&Value>) -> Option<JobId> {
    let handle = handle?;
    let kind = Kind::of_type(handle.get(HANDLE_KIND)?.as_str()?)?;
    Some(JobId { kind, id: handle.get(HANDLE_JOB)?.as_u64()? })
}

/// Whether a record says that its launch was not answered and could not be told from others.
pub(crate) fn candidates_of(handle: Option<&Value>) -> Option<String> {
    let links = handle?.get(HANDLE_CANDIDATES)?.as_array()?;
    Some(links.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
}
