//! Finding a host again: by the job that made it, and by whether its release workflow has run.

use broker_core::inventory::{HIDDEN_ARGS, HostRecord};
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
use crate::reason::ended;
use crate::release::{Release, cannot_tell, machine_of, was_handed_over};
use crate::tree::Ran;

impl TowerProvider {
    /// What there is of a host.
    pub(crate) async fn find_host(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        self.at_home(host).await?;
        if let Some(links) = candidates_of(host.details.handle.as_ref()) {
            return Err(cannot_tell(&links));
        }
        match machine_of(host) {
            Some(machine) if was_handed_over(host) => self.still_there(host, &machine).await,
            _ => self.begun(host).await,
        }
    }

    /// A host that was handed over once, or that was listed.
    async fn still_there(&self, host: &HostRecord, machine: &str) -> Result<Vec<Found>, ProviderError> {
        if host.owner.is_some() && self.is_released(host, &[machine.to_owned()]).await? {
            return Ok(Vec::new());
        }
        let name = host.name.as_deref().unwrap_or(machine);
        let doing = |error: CallError| error.at(format!("could not look for host `{name}`"));
        let listed = inventory::hosts_named(&self.client, name).await.map_err(doing)?;
        let inventory = host.details.facts.get(facts::TOWER_INVENTORY).and_then(Value::as_str);
        let is_in = |listed: &&inventory::Host| {
            let of = listed.summary_fields.inventory.as_ref().map(|inventory| inventory.name.as_str());
            inventory.is_none() || of == inventory
        };
        if let Some(listed) = listed.iter().find(is_in) {
            let mut found = self.described(listed).await.map_err(doing)?;
            found.broker_id = Some(host.id);
            return Ok(vec![found]);
        }
        if let Some(inventory) = inventory
            && inventory::named(&self.client, inventory).await.map_err(doing)?.is_empty()
        {
            // An inventory that may not be seen looks like one that is not there.
            let number = host.number;
            tracing::warn!(
                "whether host `{name}` is there cannot be told, since this user sees no inventory `{inventory}` any more; \
                 `broker forget {number}` takes it out of ours"
            );
            return Ok(vec![Found { broker_id: Some(host.id), ..Found::default() }]);
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
        if jobs.is_empty() && host.details.handle.is_none() {
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
            Status::Successful => self.told_by(host, id, &ran).await?,
            _ => None,
        };
        names.extend(told.as_ref().and_then(facts::machine).filter(|name| !names.contains(name)));
        if self.is_released(host, &names).await? {
            return Ok(None);
        }
        if let Some(facts) = told {
            return Ok(Some(Found { facts, ..found }));
        }
        match (job.status, names.first()) {
            (Status::Successful, None) if ran.is_empty() || ran.iter().any(Ran::has_failed) => Ok(None),
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

    /// What a host was to be made of.
    fn wanted_by(host: &HostRecord) -> Option<(Kind, &str)> {
        let actions = [arguments::WORKFLOW, arguments::JOB_TEMPLATE];
        let action = actions.into_iter().find(|name| host.details.args.contains_key(*name))?;
        Some((Kind::of_action(action), host.details.args.get(action)?.as_str()?.trim()))
    }

    /// The template that a host was to be made of, if there is one of that name.
    pub(crate) async fn template_of(&self, host: &HostRecord) -> Result<Option<(Kind, Template)>, ProviderError> {
        let Some((kind, name)) = Self::wanted_by(host) else { return Ok(None) };
        match known::only(&self.client, kind, name).await {
            Ok(template) => Ok(Some((kind, template))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The host that a job that went well tells of.
    pub(crate) async fn told_by(
        &self,
        host: &HostRecord,
        id: JobId,
        ran: &[Ran],
    ) -> Result<Option<HostFacts>, ProviderError> {
        let left = artifacts::of_all(&self.patient(), ran).await;
        let left = left.map_err(|error| crate::about(error, id, "read the artifacts of"))?;
        let blueprint = match Self::wanted_by(host) {
            Some((kind, name)) => self.known.blueprint(&self.client, kind, name).await.ok(),
            None => None,
        };
        let given = host.details.facts.get(HIDDEN_ARGS).and_then(Value::as_array).into_iter().flatten();
        let mut secrets: Vec<&str> = given.filter_map(Value::as_str).collect();
        secrets.extend(blueprint.iter().flat_map(|blueprint| blueprint.secrets()));
        Ok(self.told(id, &left, Strategy::Last, (&host.details.args, &secrets)))
    }

    /// Whether the release workflow has run well for these machines of a host. What has no name cannot have been released.
    pub(crate) async fn is_released(&self, host: &HostRecord, names: &[String]) -> Result<bool, ProviderError> {
        let release = Release::of_host(host);
        for name in names {
            let runs = self.releases_of(&release, name).await?;
            if !runs.iter().any(|run| run.status == Status::Successful) {
                return Ok(false);
            }
        }
        Ok(!names.is_empty())
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
