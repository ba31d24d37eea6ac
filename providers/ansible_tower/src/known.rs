//! What was looked up about templates and inventories, for as long as many hosts are made of the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker_core::provider::{ErrorKind, ProviderError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::inventory;
use crate::api::template::{self, Kind, Needs, Survey, Template};
use crate::client::Client;

/// How long what was looked up is believed.
const FRESH: Duration = Duration::from_secs(60);

/// A template with what a launch of it needs.
#[derive(Debug, Clone)]
pub(crate) struct Blueprint {
    pub(crate) kind: Kind,
    pub(crate) template: Template,
    pub(crate) needs: Needs,
    /// Where there is one, and we may read it.
    pub(crate) survey: Option<Survey>,
}

/// Things by what they are called, with when they were looked up.
type Looked<K, V> = Mutex<HashMap<K, (Instant, V)>>;

/// What was looked up.
#[derive(Default)]
pub(crate) struct Known {
    blueprints: Looked<(Kind, String), Arc<Blueprint>>,
    inventories: Looked<String, u64>,
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
