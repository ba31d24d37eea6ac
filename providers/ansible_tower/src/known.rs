//! What was looked up about templates and inventories, for as long as many hosts are made of the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use broker_core::provider::{ErrorKind, ProviderError};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::inventory;
use crate::api::job::{self, Job, Status};
use crate::api::template::{self, Kind, Needs, Survey, Template};
use crate::arguments;
use crate::client::{CallError, Client};
use crate::release::SOURCE_VM;

/// How long what was looked up is believed.
const FRESH: Duration = Duration::from_secs(60);

/// How much further back runs are read than is asked for.
const TOGETHER: SignedDuration = SignedDuration::from_mins(10);

/// A template with what a launch of it needs.
#[derive(Debug, Clone)]
pub(crate) struct Blueprint {
    pub(crate) kind: Kind,
    pub(crate) template: Template,
    pub(crate) needs: Needs,
    /// Where there is one, and we may read it.
    pub(crate) survey: Option<Survey>,
}

impl Blueprint {
    /// Whether a launch takes a variable, as far as we may know.
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.template.ask_variables_on_launch || self.survey.as_ref().is_some_and(|survey| survey.asks_for(name))
    }

    /// The variables whose values are nobody's business.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        self.survey.as_ref().map(|survey| survey.secrets()).unwrap_or_default()
    }
}

/// Things by what they are called, with when they were looked up.
type Looked<K, V> = Mutex<HashMap<K, (Instant, V)>>;

/// What was looked up.
#[derive(Default)]
pub(crate) struct Known {
    blueprints: Looked<(Kind, String), Arc<Blueprint>>,
    inventories: Looked<String, u64>,
    /// Of templates that release hosts.
    runs: Mutex<HashMap<u64, Runs>>,
}

/// The runs of a template as far as they were read.
#[derive(Default)]
struct Runs {
    /// Back to when.
    since: Option<Timestamp>,
    /// When it was looked last.
    looked: Option<Instant>,
    failed: Option<Failed>,
    all: BTreeMap<u64, Run>,
}

/// A look that came to nothing.
struct Failed {
    begun: Instant,
    kind: ErrorKind,
    message: String,
}

/// A run of a workflow that releases hosts.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) id: u64,
    pub(crate) status: Status,
    pub(crate) created: Option<Timestamp>,
    /// The id of the host, where it was told.
    pub(crate) host: Option<String>,
    pub(crate) machine: Option<String>,
}

impl Run {
    fn of(job: &Job) -> Self {
        let (host, machine) = (job.text_variable(arguments::ID), job.text_variable(SOURCE_VM));
        Self { id: job.id, status: job.status, created: job.created, host, machine }
    }
}

impl Known {
    /// A template by its name, looked up once for all who want it at the same time.
    pub(crate) async fn blueprint(
        &self,
        client: &Client,
        kind: Kind,
        name: &str,
    ) -> Result<Arc<Blueprint>, ProviderError> {
        let mut blueprints = self.blueprints.lock().await;
        let key = (kind, name.to_owned());
        if let Some((_, known)) = blueprints.get(&key).filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(Arc::clone(known));
        }
        let found = Arc::new(blueprint(client, kind, name).await?);
        blueprints.insert(key, (Instant::now(), Arc::clone(&found)));
        Ok(found)
    }

    /// The runs of a workflow template since then, newest first. One that is over is read once: it changes no more.
    pub(crate) async fn runs(
        &self,
        client: &Client,
        template: &Template,
        since: Option<Timestamp>,
    ) -> Result<Vec<Run>, ProviderError> {
        let came = Instant::now();
        let mut all = self.runs.lock().await;
        let known = all.entry(template.id).or_default();
        let is_recent =
            |created: Option<Timestamp>| since.is_none_or(|since| created.is_none_or(|created| created >= since));
        // Whoever looked since we came has looked for us, also in vain.
        if let Some(Failed { kind, message, .. }) = known.failed.as_ref().filter(|failed| failed.begun >= came) {
            return Err(ProviderError::new(*kind, message.clone()));
        }
        if known.looked.is_none_or(|looked| looked < came) || !known.reach(since) {
            let begun = Instant::now();
            known.look(client, template.id, since).await.map_err(|error| {
                let error = error.at(format!("could not look at the runs of workflow `{}`", template.name));
                known.failed = Some(Failed { begun, kind: error.kind(), message: error.to_string() });
                error
            })?;
        }
        Ok(known.all.values().rev().filter(|run| is_recent(run.created)).cloned().collect())
    }

    /// The id of the inventory of a name.
    pub(crate) async fn inventory(&self, client: &Client, name: &str) -> Result<u64, ProviderError> {
        let mut inventories = self.inventories.lock().await;
        if let Some((_, id)) = inventories.get(name).filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(*id);
        }
        let doing = || format!("could not look for inventory `{name}`");
        let found = inventory::named(client, name).await.map_err(|error| error.at(doing()))?;
        let id = match found.as_slice() {
            [only] => only.id,
            [] => {
                let message = format!("there is no inventory `{name}` that this user may see");
                return Err(ProviderError::new(ErrorKind::NotFound, message));
            }
            several => {
                let ids: Vec<String> = several.iter().map(|inventory| inventory.id.to_string()).collect();
                let message = format!(
                    "there are {} inventories `{name}`: argument `inventory` takes the number of one: {}",
                    several.len(),
                    ids.join(", ")
                );
                return Err(ProviderError::new(ErrorKind::Conflict, message));
            }
        };
        inventories.insert(name.to_owned(), (Instant::now(), id));
        Ok(id)
    }
}

impl Runs {
    fn reach(&self, since: Option<Timestamp>) -> bool {
        self.looked.is_some() && self.since.is_none_or(|reached| since.is_some_and(|since| since >= reached))
    }

    /// Reads what is new and, where that is wanted, what is older.
    async fn look(&mut self, client: &Client, template: u64, since: Option<Timestamp>) -> Result<(), CallError> {
        let of = (Kind::Workflow, template);
        // A little more, so that hosts which were made together need one look.
        let further = since.and_then(|since| since.checked_sub(TOGETHER).ok());
        let begun = Instant::now();
        if self.looked.is_none() {
            let read = job::runs_while(client, of, None, |job| job.is_since(further)).await?;
            self.all.extend(read.iter().map(|job| (job.id, Run::of(job))));
            (self.since, self.looked) = (further, Some(begun));
            return Ok(());
        }
        let open = self.all.values().find(|run| !run.status.is_over()).map(|run| run.id);
        let since_then = self.since;
        let is_new = |job: &Job| {
            let is_read = self.all.get(&job.id).is_some_and(|run| run.status.is_over());
            job.is_since(since_then) && (!is_read || open.is_some_and(|open| open < job.id))
        };
        let read = job::runs_while(client, of, None, is_new).await?;
        // What was not over and is not there any more the service has forgotten.
        self.all.retain(|_, run| run.status.is_over());
        self.all.extend(read.iter().map(|job| (job.id, Run::of(job))));
        if !self.reach(since) {
            let before = self.all.keys().next().copied();
            let read = job::runs_while(client, of, before, |job| job.is_since(further)).await?;
            self.all.extend(read.iter().map(|job| (job.id, Run::of(job))));
            self.since = further;
        }
        self.looked = Some(begun);
        Ok(())
    }
}

/// The one template of a name.
pub(crate) async fn only(client: &Client, kind: Kind, name: &str) -> Result<Template, ProviderError> {
    let word = kind.word();
    let found = template::named(client, kind, name).await;
    let mut found = found.map_err(|error| error.at(format!("could not look for {word} `{name}`")))?;
    // Names are unique within an organization. What may not be launched is not meant.
    if found.len() > 1 {
        let startable = found.iter().filter(|template| template.summary_fields.user_capabilities.start).count();
        if startable == 1 {
            found.retain(|template| template.summary_fields.user_capabilities.start);
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let message = format!("there is no {word} `{name}` that this user may see");
            Err(ProviderError::new(ErrorKind::NotFound, message))
        }
        _ => {
            let organizations = found.iter().filter_map(|template| template.summary_fields.organization.as_ref());
            let names: Vec<&str> = organizations.map(|organization| organization.name.as_str()).collect();
            let message = format!("more than one {word} is called `{name}`, in organizations `{}`", names.join("`, `"));
            Err(ProviderError::new(ErrorKind::Conflict, message))
        }
    }
}

async fn blueprint(client: &Client, kind: Kind, name: &str) -> Result<Blueprint, ProviderError> {
    let word = kind.word();
    let template = only(client, kind, name).await?;
    if !template.summary_fields.user_capabilities.start {
        let message = format!("this user may see {word} `{name}`, and may not launch it");
        return Err(ProviderError::new(ErrorKind::Permission, message));
    }
    let doing = || format!("could not find out what {word} `{name}` needs");
    let needs = template::needs(client, kind, template.id);
    let survey = async {
        if !template.survey_enabled {
            return Ok(None);
        }
        match template::survey(client, kind, template.id).await {
            // Then the service says what is wrong.
            Err(error) if matches!(error.status(), Some(403 | 404)) => Ok(None),
            survey => survey.map(Some),
        }
    };
    let (needs, survey) = tokio::join!(needs, survey);
    let needs = needs.map_err(|error| error.at(doing()))?;
    let survey = survey.map_err(|error| error.at(doing()))?;
    Ok(Blueprint { kind, template, needs, survey })
}
