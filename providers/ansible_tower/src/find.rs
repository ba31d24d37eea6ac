//! Finding a host again: by the job that made it, and by whether its release workflow has run.

use broker_core::inventory::HostRecord;
use broker_core::provider::{ErrorKind, Found, HostFacts, Identity, ProviderError};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::TowerProvider;
use crate::api::inventory;
use crate::api::job::{Job, JobId, Status};
use crate::api::template::{self, Kind, Template};
use crate::arguments::{self, ID};
use crate::artifacts::{self, Strategy};
use crate::checkout::candidates_of;
use crate::client::CallError;
use crate::facts;
use crate::known;
use crate::release::cannot_tell;
use crate::tree::Ran;

impl TowerProvider {
    /// What there is of a host.
    pub(crate) async fn find_host(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        self.at_home(host).await?;
        if let Some(links) = candidates_of(host.handle.as_ref()) {
            return Err(cannot_tell(&links));
        }
        let was_handed_over = host.checked_out_at.is_some() && !host.facts.contains_key(facts::DEPLOY_FAILED);
        match &host.name {
            Some(name) if was_handed_over => self.still_there(host, name).await,
            _ => self.begun(host).await,
        }
    }

    /// A host that was handed over once, or that was listed.
    async fn still_there(&self, host: &HostRecord, name: &str) -> Result<Vec<Found>, ProviderError> {
        if host.owner.is_some() && self.is_released(host, std::slice::from_ref(&name.to_owned())).await? {
            return Ok(Vec::new());
        }
        let doing = |error: CallError| error.at(format!("could not look for host `{name}`"));
        let listed = inventory::hosts_named(&self.client, name).await.map_err(doing)?;
        let inventory = host.facts.get(facts::TOWER_INVENTORY).and_then(Value::as_str);
        let is_in = |listed: &&inventory::Host| {
            let of = listed.summary_fields.inventory.as_ref().map(|inventory| inventory.name.as_str());
            inventory.is_none() || of == inventory
        };
        if let Some(listed) = listed.iter().find(is_in) {
            let mut found = self.described(listed).await.map_err(doing)?;
            found.broker_id = Some(host.id);
            return Ok(vec![found]);
        }
        // One that was in an inventory and is in it no more has gone; others never come to be in one.
        match inventory.is_some() || host.owner.is_none() {
            true => Ok(Vec::new()),
            false => {
                let jobs = self.jobs_of(host).await?;
                let found = jobs.first().map_or_else(Found::default, |(id, job)| self.carrying(*id, job));
                Ok(vec![Found { broker_id: Some(host.id), ..found }])
            }
        }
    }

    /// A host whose making was cut off, or failed.
    async fn begun(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        let jobs = self.jobs_of(host).await?;
        if jobs.is_empty() && host.handle.is_none() {
            return self.perhaps_begun(host).await;
        }
        let mut all = Vec::new();
        for (id, job) in jobs {
            let found = Found { broker_id: Some(host.id), ..self.carrying(id, &job) };
            if !job.status.is_over() {
                let flaw = Some(format!("its {id} is {} ({})", job.status.word(), self.link(id)));
                all.push(Found { flaw, unfinished: true, ..found });
                continue;
            }
            all.extend(self.over(host, id, &job, found).await?);
        }
        Ok(all)
    }

    /// What a job that is over has left of a host.
    async fn over(
        &self,
        host: &HostRecord,
        id: JobId,
        job: &Job,
        found: Found,
    ) -> Result<Option<Found>, ProviderError> {
        let ran = self.ran(id, job).await?;
        let mut names = self.made_by(id, &ran).await?;
        let told = match job.status {
            Status::Successful => self.told_by(id, &ran).await?,
            _ => None,
        };
        names.extend(told.as_ref().and_then(|told| told.name.clone()).filter(|name| !names.contains(name)));
        if self.is_released(host, &names).await? {
            return Ok(None);
        }
        if let Some(facts) = told {
            return Ok(Some(Found { facts, ..found }));
        }
        match (job.status, names.first()) {
            (Status::Successful, None) if ran.is_empty() => Ok(None),
            (Status::Successful, None) => {
                let flaw = Some(format!("its {id} tells of no host ({})", self.link(id)));
                Ok(Some(Found { flaw, ..found }))
            }
            (_, None) => Ok(None),
            (status, Some(name)) => {
                let flaw = Some(format!("its {id} {}, and had made `{}`", ended(status), names.join("`, `")));
                let failed = Map::from_iter([(facts::DEPLOY_FAILED.to_owned(), Value::Bool(true))]);
                let facts = HostFacts { name: Some(name.clone()), facts: failed, ..HostFacts::default() };
                Ok(Some(Found { flaw, facts, ..found }))
            }
        }
    }

    /// A host of which no job carries the id. Where the template cannot be told it, its jobs say nothing of the host.
    async fn perhaps_begun(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        let Some((kind, template)) = self.template_of(host).await? else { return Ok(Vec::new()) };
        let doing = |error: CallError| error.at(format!("could not look for the job of host `{}`", host.id));
        let takes_it = template.ask_variables_on_launch || {
            template.survey_enabled
                && match template::survey(&self.client, kind, template.id).await {
                    Ok(survey) => survey.asks_for(ID),
                    Err(error) if matches!(error.status(), Some(403 | 404)) => false,
                    Err(error) => return Err(doing(error)),
                }
        };
        if takes_it {
            return Ok(Vec::new());
        }
        let candidates = self.candidates(kind, template.id, self.since(host.id)).await.map_err(doing)?;
        match candidates.is_empty() {
            true => Ok(Vec::new()),
            false => Err(cannot_tell(&self.listed(kind, &candidates))),
        }
    }

    /// The template that a host was to be made of, if there is one of that name.
    pub(crate) async fn template_of(&self, host: &HostRecord) -> Result<Option<(Kind, Template)>, ProviderError> {
        let action =
            [arguments::WORKFLOW, arguments::JOB_TEMPLATE].into_iter().find(|name| host.args.contains_key(*name));
        let Some(name) = action.and_then(|action| host.args.get(action)?.as_str()) else { return Ok(None) };
        let kind = action.map_or(Kind::Workflow, Kind::of_action);
        match known::only(&self.client, kind, name.trim()).await {
            Ok(template) => Ok(Some((kind, template))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The host that a job that went well tells of.
    pub(crate) async fn told_by(&self, id: JobId, ran: &[Ran]) -> Result<Option<HostFacts>, ProviderError> {
        let left = artifacts::of_all(&self.patient(), ran).await;
        let left = left.map_err(|error| crate::about(error, id, "read the artifacts of"))?;
        Ok(self.told(id, &left, Strategy::Last))
    }

    /// Whether the release workflow has run well for these machines of a host. What has no name cannot have been released.
    async fn is_released(&self, host: &HostRecord, names: &[String]) -> Result<bool, ProviderError> {
        if names.is_empty() {
            return Ok(false);
        }
        let releases = self.releases_of(host.id).await?;
        let went = |name: &String| {
            releases.iter().any(|job| {
                job.status == Status::Successful && job.text_variable("source_vm").as_deref() == Some(name.as_str())
            })
        };
        Ok(names.iter().all(went))
    }

    /// What a job says of whose it is.
    fn carrying(&self, id: JobId, job: &Job) -> Found {
        let text = |name: &str| job.text_variable(name);
        let identity = Identity {
            owner: text("_broker_owner"),
            origin: text("_broker_origin"),
            action: Some(id.kind.action().to_owned()),
            lease_until: text("_broker_lease_until").and_then(|until| until.parse::<Timestamp>().ok()),
        };
        let age = self.client.age(job.created);
        Found { identity, age, ..Found::default() }
    }
}

fn ended(status: Status) -> &'static str {
    match status {
        Status::Cancelled => "was cancelled",
        Status::Error => "broke down",
        _ => "failed",
    }
}
