//! Launching: everything that can be told beforehand is told before, and a launch whose answer was lost is looked for and
//! not repeated.

use std::sync::Arc;
use std::time::Duration;

use broker_core::provider::{ErrorKind, ProviderError};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::TowerProvider;
use crate::api::User;
use crate::api::inventory;
use crate::api::job::{self, Job};
use crate::api::template::Kind;
use crate::arguments::{ID, InventoryRef, Wanted};
use crate::client::{CallError, Client, Page, Strange};
use crate::known::Blueprint;

/// How often a launch without an answer is looked for, and with what pauses between.
const LOOKS: u32 = 8;

/// How long the service may be out of order meanwhile.
const LOOKING: Duration = Duration::from_secs(30);

/// How far two readings of clocks may be apart.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// What is ready to be launched.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) blueprint: Arc<Blueprint>,
    /// What the service is told.
    body: Map<String, Value>,
    /// Names of labels that are yet to be looked up or made.
    labels: Vec<String>,
    /// The variable, with its value, by which the job is known, where the template takes it.
    mark: Option<(&'static str, String)>,
    /// What the template does not take, and is left out.
    pub(crate) left_out: Vec<String>,
}

impl Prepared {
    /// The template in words: ``workflow `deploy-vm` ``.
    pub(crate) fn label(&self) -> String {
        format!("{} `{}`", self.blueprint.kind.word(), self.blueprint.template.name)
    }
}

/// A launch that came to nothing.
pub(crate) struct NotLaunched {
    pub(crate) error: ProviderError,
    /// Jobs that may be it. Nothing tells which.
    pub(crate) candidates: Vec<Job>,
}

impl From<ProviderError> for NotLaunched {
    fn from(error: ProviderError) -> Self {
        Self { error, candidates: Vec::new() }
    }
}

impl TowerProvider {
    /// Looks at what is wanted, as far as that can be done without launching anything.
    pub(crate) async fn prepared(&self, wanted: &Wanted) -> Result<Prepared, ProviderError> {
        let blueprint = self.known.blueprint(&self.client, wanted.kind, &wanted.name).await?;
        let inventory = match (&wanted.inventory, &self.settings.inventory) {
            (Some(InventoryRef::Id(id)), _) => Some(*id),
            (Some(InventoryRef::Name(name)), _) => Some(self.known.inventory(&self.client, name).await?),
            // One that is for everything, where the template asks for one.
            (None, Some(name)) if blueprint.template.ask_inventory_on_launch => {
                Some(self.known.inventory(&self.client, name).await?)
            }
            (None, _) => None,
        };
        prepare(&blueprint, wanted, inventory)
    }

    /// Launches. A job whose answer was lost is found by the mark of its launch, where the template takes it.
    pub(crate) async fn launch(&self, prepared: &Prepared) -> Result<Job, NotLaunched> {
        let label = prepared.label();
        let mut body = prepared.body.clone();
        if !prepared.labels.is_empty() {
            body.insert("labels".to_owned(), json!(self.labels(prepared).await?));
        }
        let body = Value::Object(body);
        let Blueprint { kind, template, .. } = &*prepared.blueprint;
        let path = format!("{}/{}/launch/", kind.templates(), template.id);
        let asked = self.client.service_now().unwrap_or_else(Timestamp::now);
        let mut attempts = 0;
        let error = loop {
            match self.client.post(&path, &body).await.and_then(|answer| answer.read::<Job>()) {
                Ok(job) if job.id > 0 => return Ok(job),
                Ok(_) => break None,
                // What was never sent launches nothing, however often.
                Err(CallError::NoAnswer(none)) if none.unsent && !none.distrusted && attempts < 3 => {
                    attempts += 1;
                    tokio::time::sleep(Duration::from_millis(250) * 2_u32.pow(attempts)).await;
                }
                Err(error) => break Some(error),
            }
        };
        let may_be_done = error.as_ref().is_none_or(CallError::may_be_done);
        let doing = format!("could not launch {label}");
        let error = match error {
            Some(error) => error.at(&doing),
            None => ProviderError::new(ErrorKind::Bug, format!("{doing}: the answer names no job")),
        };
        if !may_be_done {
            return Err(error.into());
        }
        tracing::debug!(%error, "the launch was not answered: looking for it.");
        match &prepared.mark {
            Some((name, value)) => self.look_for_launch(prepared, (name, value), asked, error).await,
            None => Err(self.show_candidates(prepared, asked, error).await),
        }
    }

    async fn look_for_launch(
        &self,
        prepared: &Prepared,
        mark: (&str, &str),
        asked: Timestamp,
        error: ProviderError,
    ) -> Result<Job, NotLaunched> {
        let Blueprint { kind, template, .. } = &*prepared.blueprint;
        let client = self.client.patient(self.settings.max_resilient_wait.min(LOOKING));
        let mut pause = Duration::from_millis(250);
        for _ in 0..LOOKS {
            match runs_of(&client, *kind, template.id, mark, asked.checked_sub(SLACK).ok()).await {
                Ok(mut found) if !found.is_empty() => return Ok(found.remove(0)),
                Ok(_) => {}
                Err(_) => break,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        // It may be on its way still.
        Err(error.leaving_something().into())
    }

    async fn show_candidates(&self, prepared: &Prepared, asked: Timestamp, error: ProviderError) -> NotLaunched {
        let Blueprint { kind, template, .. } = &*prepared.blueprint;
        let since = asked.checked_sub(SignedDuration::from_secs(2)).ok();
        let found = self.candidates(*kind, template.id, since).await;
        let (what, candidates) = match found {
            Ok(found) if found.is_empty() => ("no job of it is there".to_owned(), found),
            Ok(found) => (format!("nothing tells whether it is one of these: {}", self.listed(*kind, &found)), found),
            Err(_) => ("its jobs cannot be looked at".to_owned(), Vec::new()),
        };
        let message = format!("{error}; the template takes no `{ID}`, and {what}");
        NotLaunched { error: ProviderError::new(error.kind(), message).leaving_something(), candidates }
    }

    /// The runs of a template since then that we have launched.
    pub(crate) async fn candidates(
        &self,
        kind: Kind,
        template: u64,
        since: Option<Timestamp>,
    ) -> Result<Vec<Job>, CallError> {
        let me = self.me().await?;
        let client = self.client.patient(self.settings.max_resilient_wait.min(LOOKING));
        let mut found = job::runs(&client, kind, template, since).await?;
        // Of what nobody can tell who has launched it this user may be it.
        found.retain(|job| job.launcher().is_none_or(|launcher| launcher == me.id));
        Ok(found)
    }

    /// Jobs with their links, for people.
    pub(crate) fn listed(&self, kind: Kind, jobs: &[Job]) -> String {
        let one = |job: &Job| {
            let id = job.launched_as(kind);
            let at = job.created.map(|at| format!(", launched at {at:.0}")).unwrap_or_default();
            format!("{id} ({}{at})", self.link(id))
        };
        jobs.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// The user that we are.
    pub(crate) async fn me(&self) -> Result<User, CallError> {
        let page: Page<User> = self.client.get("me/").await?;
        page.results.into_iter().next().ok_or_else(|| {
            let place = self.client.base().to_owned();
            CallError::Strange(Strange { place, why: "does not say who this user is".to_owned(), is_whole: true })
        })
    }

    async fn labels(&self, prepared: &Prepared) -> Result<Vec<u64>, ProviderError> {
        let label = prepared.label();
        let Some(organization) = &prepared.blueprint.template.summary_fields.organization else {
            tracing::warn!("{label} belongs to no organization: its jobs get no labels");
            return Ok(Vec::new());
        };
        let mut ids = Vec::new();
        for name in &prepared.labels {
            let id = inventory::label(&self.client, name, organization.id).await;
            ids.push(id.map_err(|error| error.at(format!("could not make label `{name}` for {label}")))?);
        }
        Ok(ids)
    }
}

/// The runs of a template that were launched with exactly this variable, newest first.
pub(crate) async fn runs_of(
    client: &Client,
    kind: Kind,
    template: u64,
    (name, value): (&str, &str),
    since: Option<Timestamp>,
) -> Result<Vec<Job>, CallError> {
    let mut runs = job::runs(client, kind, template, since).await?;
    runs.retain(|job| job.text_variable(name).as_deref() == Some(value));
    Ok(runs)
}

/// What the service is told; or what it would refuse or, worse, drop without a word.
fn prepare(blueprint: &Arc<Blueprint>, wanted: &Wanted, inventory: Option<u64>) -> Result<Prepared, ProviderError> {
    let Blueprint { kind, template, needs, survey } = &**blueprint;
    let label = format!("{} `{}`", kind.word(), template.name);
    let bad = |message: String| ProviderError::new(ErrorKind::BadRequest, message);
    let action = kind.action();
    // What a survey asks for that we may not read the service knows: what somebody has given is told it, and no more.
    // For a launch of our own that is what it cannot be without.
    let is_unread = template.survey_enabled && survey.is_none();
    let is_due = |name: &str| match wanted.lenient {
        true => {
            let mut due = wanted.essential.iter().copied();
            due.any(|due| due == name) || needs.variables_needed_to_start.iter().any(|needed| needed == name)
        }
        false => name != action,
    };
    let takes = |name: &str| blueprint.takes(name) || is_unread && wanted.given.contains_key(name) && is_due(name);

    let strange: Vec<&str> =
        wanted.given.keys().map(String::as_str).filter(|name| *name != action && !takes(name)).collect();
    let mut left_out = Vec::new();
    if wanted.lenient {
        left_out.extend(strange.iter().map(|name| (*name).to_owned()));
    } else if !strange.is_empty() {
        let takes = match survey.as_ref().map(|survey| &survey.spec) {
            Some(spec) if !spec.is_empty() => {
                let names: Vec<&str> = spec.iter().map(|question| question.variable.as_str()).collect();
                format!("its survey asks for `{}` and nothing else", names.join("`, `"))
            }
            _ => "it does not prompt for variables".to_owned(),
        };
        return Err(bad(format!("{label} does not take `{}` on launch: {takes}", strange.join("`, `"))));
    }

    let mut variables = wanted.all_variables(&template.variables(), &blueprint.secrets());
    variables.retain(|name, _| takes(name));
    match survey {
        Some(survey) => {
            let wrong = survey.check(&mut variables);
            if !wrong.is_empty() {
                return Err(bad(format!("the survey of {label} is not answered: {}", wrong.join("; "))));
            }
        }
        None => {
            let needed = needs.variables_needed_to_start.iter().map(String::as_str);
            let missing: Vec<&str> = needed.filter(|name| !variables.contains_key(*name)).collect();
            if !missing.is_empty() {
                return Err(bad(format!("{label} needs `{}`", missing.join("`, `"))));
            }
        }
    }
    if !needs.passwords_needed_to_start.is_empty() || needs.credential_needed_to_start {
        let message = format!("{label} asks for a credential or a password on launch, which cannot be given here");
        return Err(bad(message));
    }
    if !needs.node_templates_missing.is_empty() && !wanted.lenient {
        return Err(bad(format!("{label} cannot run: the template of one of its nodes does not exist any more")));
    }

    let mut body = Map::new();
    let mark = Some(wanted.mark.clone()).filter(|(name, _)| variables.contains_key(*name));
    if !variables.is_empty() {
        // As text: that is what all versions take.
        body.insert("extra_vars".to_owned(), json!(Value::Object(variables).to_string()));
    }
    match inventory {
        Some(id) if template.ask_inventory_on_launch => {
            body.insert("inventory".to_owned(), json!(id));
        }
        Some(id) if template.inventory != Some(id) && !wanted.lenient => {
            let own = template.summary_fields.inventory.as_ref();
            let own = own.map(|own| format!("; its own is `{}`", own.name)).unwrap_or_default();
            return Err(bad(format!("{label} does not take an inventory on launch{own}")));
        }
        None if *kind == Kind::Job && (needs.inventory_needed_to_start || template.inventory.is_none()) => {
            let message =
                format!("{label} has no inventory: `--tower-inventory NAME` or setting `inventory` names one");
            return Err(bad(message));
        }
        _ => {}
    }
    let labels = match template.ask_labels_on_launch {
        true => wanted.labels.clone(),
        false => {
            left_out.extend(wanted.labels.iter().map(|name| format!("label {name}")));
            Vec::new()
        }
    };
    Ok(Prepared { blueprint: Arc::clone(blueprint), body, labels, mark, left_out })
}

#[cfg(test)]
mod tests;
