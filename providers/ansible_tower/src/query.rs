//! What a service offers: workflows and job templates with what they take, and inventories.

use broker_core::provider::{ErrorKind, ProviderError, Query, QueryInfo, Table};
use broker_core::secrets::HIDDEN;
use serde_json::{Map, Value, json};

use crate::TowerProvider;
use crate::api::inventory;
use crate::api::job::{JobId, Status};
use crate::api::template::{self, Kind, Question, Template};
use crate::arguments::Wanted;
use crate::artifacts::{self, Strategy};
use crate::client::CallError;
use crate::known;
use crate::launch::NotLaunched;
use crate::run::Ended;

/// Workflows that laboratories have for these questions, with what they leave.
const TEMPLATES: (&str, &str) = ("list-templates", "list_templates");
const FLAVORS: (&str, &str) = ("list-flavors", "list_flavors");

pub(crate) const QUERIES: &[QueryInfo] = &[
    QueryInfo { name: "workflows", value: None, help: "Workflows that you may launch" },
    QueryInfo { name: "workflow", value: Some("NAME"), help: "What a workflow takes on launch" },
    QueryInfo { name: "job_templates", value: None, help: "Job templates that you may launch" },
    QueryInfo { name: "job_template", value: Some("NAME"), help: "What a job template takes on launch" },
    QueryInfo { name: "inventories", value: None, help: "Inventories that you may see" },
    QueryInfo { name: "inventory", value: Some("NAME"), help: "What an inventory is" },
    QueryInfo { name: "tower_inventory", value: Some("NAME"), help: "The same" },
    QueryInfo { name: "templates", value: None, help: "What workflow `list-templates` lists" },
    QueryInfo { name: "flavors", value: None, help: "What workflow `list-flavors` lists" },
];

impl TowerProvider {
    pub(crate) async fn answer(&self, query: &Query) -> Result<Table, ProviderError> {
        let name = query.value.as_deref().unwrap_or_default().trim();
        let doing = |error: CallError| error.at(format!("could not answer `{}`", query.name));
        let mut table = match query.name.as_str() {
            "workflows" => {
                templates(&template::all(&self.client, Kind::Workflow).await.map_err(doing)?, Kind::Workflow)
            }
            "job_templates" => templates(&template::all(&self.client, Kind::Job).await.map_err(doing)?, Kind::Job),
            "workflow" => return self.template(Kind::Workflow, name).await,
            "job_template" => return self.template(Kind::Job, name).await,
            "inventories" => {
                let all = inventory::all(&self.client).await.map_err(doing)?;
                let row = |one: &inventory::Inventory| {
                    vec![one.name.clone(), one.id.to_string(), one.total_hosts.to_string(), one.description.clone()]
                };
                table(&["inventory", "id", "hosts", "description"], all.iter().map(row).collect())
            }
            "inventory" | "tower_inventory" => return self.inventory(name).await,
            "templates" => self.listed_by(TEMPLATES).await?,
            "flavors" => self.listed_by(FLAVORS).await?,
            other => {
                let message = format!("AnsibleTower does not know the question `{other}`");
                return Err(ProviderError::new(ErrorKind::BadRequest, message));
            }
        };
        table.rows.truncate(query.limit.or(self.settings.results_limit).unwrap_or(usize::MAX));
        Ok(table)
    }

    async fn template(&self, kind: Kind, name: &str) -> Result<Table, ProviderError> {
        let template = known::only(&self.client, kind, name).await?;
        let survey = match template.survey_enabled {
            true => match template::survey(&self.client, kind, template.id).await {
                Ok(survey) => survey.spec,
                Err(error) if matches!(error.status(), Some(403 | 404)) => Vec::new(),
                Err(error) => return Err(error.at(format!("could not read the survey of {} `{name}`", kind.word()))),
            },
            false => Vec::new(),
        };
        Ok(details(kind, &template, &survey))
    }

    async fn inventory(&self, name: &str) -> Result<Table, ProviderError> {
        let found = inventory::named(&self.client, name).await;
        let found = found.map_err(|error| error.at(format!("could not look for inventory `{name}`")))?;
        let one = found.first().ok_or_else(|| {
            ProviderError::new(ErrorKind::NotFound, format!("there is no inventory `{name}` that this user may see"))
        })?;
        let mut rows = vec![
            property("inventory", &one.name),
            property("id", one.id),
            property("description", &one.description),
            property("hosts", one.total_hosts),
        ];
        let variables = template::variables(&one.variables);
        rows.extend(variables.iter().map(|(name, value)| variable(name, &value.to_json())));
        rows.retain(|row| row.get(1).is_some_and(|value| !value.is_empty()));
        Ok(table(&["property", "value"], rows))
    }

    /// Runs a workflow that lists something, and shows what it lists.
    async fn listed_by(&self, (workflow, key): (&str, &str)) -> Result<Table, ProviderError> {
        let given = Map::from_iter([("workflow".to_owned(), json!(workflow))]);
        let wanted = Wanted::workflow(workflow, given, broker_core::HostId::generate(), "broker providers");
        let prepared = self.prepared(&wanted.without_host()).await?;
        let label = prepared.label();
        let job = self.launch(&prepared).await.map_err(|NotLaunched { error, .. }| error)?;
        let id = JobId { kind: Kind::Workflow, id: job.id };
        let job = match self.ended(id, &label, None).await? {
            Ended::Over(job) => job,
            Ended::GoesOn(error) | Ended::Stopped(error, _) => return Err(error),
        };
        let ran = self.ran(id, &job).await?;
        if job.status != Status::Successful {
            let reasons = self.reasons(id, &job, &ran).await?;
            return Err(self.failed(&label, id, &job, &reasons));
        }
        let left = artifacts::of_all(&self.patient(), &ran).await;
        let left = left.map_err(|error| crate::about(error, id, "read the artifacts of"))?;
        let chosen = artifacts::chosen(&left, Strategy::Last, &["data_out"]);
        let listed = chosen.get("data_out").and_then(|data| data.get(key)).and_then(Value::as_array);
        let listed = listed.ok_or_else(|| {
            let message = format!("{label} ended well, and no `data_out.{key}` is among its artifacts");
            ProviderError::new(ErrorKind::Failed, message)
        })?;
        Ok(listing(key, listed))
    }
}

fn table(columns: &[&str], rows: Vec<Vec<String>>) -> Table {
    Table { columns: columns.iter().map(|column| (*column).to_owned()).collect(), rows }
}

fn property(name: &str, value: impl std::fmt::Display) -> Vec<String> {
    vec![name.to_owned(), value.to_string()]
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn variable(name: &str, value: &Value) -> Vec<String> {
    let value = if broker_core::secrets::is_secret_name(name) { HIDDEN.to_owned() } else { shown(value) };
    property(&format!("variable {name}"), value)
}

/// Those that may be launched.
fn templates(all: &[Template], kind: Kind) -> Table {
    let startable = all.iter().filter(|template| template.summary_fields.user_capabilities.start);
    let row = |template: &Template| vec![template.name.clone(), template.description.clone()];
    // Without a space, so that a filter can name it.
    table(&[kind.action(), "description"], startable.map(row).collect())
}

fn details(kind: Kind, template: &Template, survey: &[Question]) -> Table {
    let mut rows = vec![property(kind.word(), &template.name), property("description", &template.description)];
    let inventory = template.summary_fields.inventory.as_ref();
    rows.push(property("inventory", inventory.map(|inventory| inventory.name.as_str()).unwrap_or_default()));
    let asks = [
        (template.ask_variables_on_launch, "any variable"),
        (template.survey_enabled && !template.ask_variables_on_launch, "variables of its survey"),
        (template.ask_inventory_on_launch, "inventory"),
        (template.ask_labels_on_launch, "labels"),
    ];
    let asks: Vec<&str> = asks.into_iter().filter(|(asks, _)| *asks).map(|(_, word)| word).collect();
    rows.push(property("takes on launch", if asks.is_empty() { "nothing".to_owned() } else { asks.join(", ") }));
    if !template.summary_fields.user_capabilities.start {
        rows.push(property("you may launch it", "no"));
    }
    rows.extend(template.variables().iter().map(|(name, value)| variable(name, &value.to_json())));
    rows.extend(
        survey.iter().map(|question| property(&format!("survey {}", question.variable), question_of(question))),
    );
    rows.retain(|row| row.get(1).is_some_and(|value| !value.is_empty()));
    table(&["property", "value"], rows)
}

/// A question in a few words.
fn question_of(question: &Question) -> String {
    let mut parts = vec![question.question_name.clone()];
    let choices = question.choices();
    parts.push(match choices.is_empty() {
        true => question.kind.clone(),
        false => format!("{} of {}", if question.kind == "multiselect" { "any" } else { "one" }, choices.join(", ")),
    });
    let bound = |value: &Value| value.as_f64().map(|number| number.to_string());
    if choices.is_empty() {
        match (bound(&question.min), bound(&question.max)) {
            (Some(min), Some(max)) => parts.push(format!("{min} to {max}")),
            (Some(min), None) => parts.push(format!("from {min}")),
            (None, Some(max)) => parts.push(format!("up to {max}")),
            (None, None) => {}
        }
    }
    if question.has_default() {
        let default = if question.is_secret() { HIDDEN.to_owned() } else { shown(&question.default) };
        parts.push(format!("default {default}"));
    } else if question.required {
        parts.push("required".to_owned());
    }
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

/// A list as a table: of objects with a column a key, of anything else with one. What is there twice is shown once.
fn listing(key: &str, items: &[Value]) -> Table {
    let mut columns: Vec<&str> = Vec::new();
    for name in items.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for item in items {
        let row = match columns.is_empty() {
            true => vec![shown(item)],
            false => columns.iter().map(|column| item.get(*column).map(shown).unwrap_or_default()).collect(),
        };
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let single = key.strip_prefix("list_").and_then(|name| name.strip_suffix('s')).unwrap_or(key);
    if columns.is_empty() { table(&[single], rows) } else { table(&columns, rows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_lists_are_shown() {
        let templates =
            listing("list_templates", json!(["rhel-8.10", "rhel-9.4", "rhel-10.0", "rhel-9.4"]).as_array().unwrap());
        assert_eq!(templates.columns, ["template"]);
        assert_eq!(templates.rows, [["rhel-8.10"], ["rhel-9.4"], ["rhel-10.0"]]);
        let flavors = json!([{"name": "tiny", "cpus": 1, "memory": 1024}, {"name": "big", "cpus": 8, "memory": 16384}]);
        let flavors = listing("list_flavors", flavors.as_array().unwrap());
        assert_eq!(flavors.columns, ["name", "cpus", "memory"]);
        assert_eq!(flavors.rows[1], ["big", "8", "16384"]);
    }

    #[test]
    fn a_template_says_what_it_takes_and_hides_secrets() {
        let template: Template = serde_json::from_value(json!({
            "id": 31, "name": "with-survey", "extra_vars": "---\nsizes: [1, 2]\nroot_password: toor\n", "survey_enabled": true,
            "ask_variables_on_launch": true, "ask_inventory_on_launch": true,
            "summary_fields": {"inventory": {"id": 2, "name": "lab-inventory"}, "user_capabilities": {"start": true}}
        }))
        .unwrap();
        let survey: Vec<Question> = serde_json::from_value(json!([
            {"type": "multiplechoice", "choices": ["tiny", "big"], "required": true, "variable": "deploy_flavor", "question_name": "Flavor", "default": ""},
            {"type": "integer", "min": 1, "max": 5, "default": 1, "variable": "cpus", "question_name": "Count"},
            {"type": "password", "default": "hunter2", "variable": "pin", "question_name": "Pin"}
        ]))
        .unwrap();
        let table = details(Kind::Workflow, &template, &survey);
        let value = |name: &str| table.rows.iter().find(|row| row[0] == name).map(|row| row[1].clone()).unwrap();
        assert_eq!(value("takes on launch"), "any variable, inventory");
        assert_eq!((value("variable sizes"), value("variable root_password")), ("[1,2]".to_owned(), "***".to_owned()));
        assert_eq!(value("survey deploy_flavor"), "Flavor; one of tiny, big; required");
        assert_eq!(value("survey cpus"), "Count; integer; 1 to 5; default 1");
        assert_eq!(value("survey pin"), "Pin; password; default ***");
        assert_eq!(value("inventory"), "lab-inventory");
    }
}
