//! Templates of workflows and of jobs, what they ask for at a launch, and their surveys.

use broker_core::ArgValue;
use broker_http::encoded;
use serde::Deserialize;
use serde_json::Value;

use super::Named;
use crate::client::{CallError, Client};

/// What is launched: a workflow or a single job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Workflow,
    Job,
}

impl Kind {
    /// The kind of an action's name.
    pub(crate) fn of_action(action: &str) -> Self {
        if action == crate::arguments::JOB_TEMPLATE { Self::Job } else { Self::Workflow }
    }

    /// The action that launches it.
    pub(crate) fn action(self) -> &'static str {
        match self {
            Self::Workflow => crate::arguments::WORKFLOW,
            Self::Job => crate::arguments::JOB_TEMPLATE,
        }
    }

    /// The kind of a job, by what the service calls its type.
    pub(crate) fn of_type(kind: &str) -> Option<Self> {
        match kind {
            "workflow_job" => Some(Self::Workflow),
            "job" => Some(Self::Job),
            _ => None,
        }
    }

    /// What people call a template.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Job => "job template",
        }
    }

    /// What people call a run of it.
    pub(crate) fn job_word(self) -> &'static str {
        match self {
            Self::Workflow => "workflow job",
            Self::Job => "job",
        }
    }

    /// What the service calls the type of a run.
    pub(crate) fn job_type(self) -> &'static str {
        match self {
            Self::Workflow => "workflow_job",
            Self::Job => "job",
        }
    }

    pub(crate) fn templates(self) -> &'static str {
        match self {
            Self::Workflow => "workflow_job_templates",
            Self::Job => "job_templates",
        }
    }

    pub(crate) fn jobs(self) -> &'static str {
        match self {
            Self::Workflow => "workflow_jobs",
            Self::Job => "jobs",
        }
    }
}

/// A template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Template {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) description: String,
    /// The inventory that it is launched with where nothing else is said.
    pub(crate) inventory: Option<u64>,
    /// As somebody has typed it: JSON, YAML or nothing.
    pub(crate) extra_vars: String,
    pub(crate) survey_enabled: bool,
    pub(crate) allow_simultaneous: bool,
    pub(crate) ask_inventory_on_launch: bool,
    pub(crate) ask_variables_on_launch: bool,
    pub(crate) ask_labels_on_launch: bool,
    pub(crate) summary_fields: Summary,
}

/// What is told with a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Summary {
    pub(crate) organization: Option<Named>,
    pub(crate) inventory: Option<Named>,
    pub(crate) user_capabilities: Capabilities,
}

/// What we may do with a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    pub(crate) start: bool,
}

impl Template {
    /// The variables that the template itself sets, in the order in which they were typed.
    pub(crate) fn variables(&self) -> broker_core::Args {
        variables(&self.extra_vars)
    }
}

/// Variables as somebody has typed them. What makes no sense has none: the service has taken it.
pub(crate) fn variables(text: &str) -> broker_core::Args {
    match broker_core::yaml::parse(text) {
        Ok(Some(node)) => match node.into_value() {
            ArgValue::Map(map) => map,
            _ => broker_core::Args::new(),
        },
        _ => broker_core::Args::new(),
    }
}

/// What a launch of a template needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Needs {
    pub(crate) variables_needed_to_start: Vec<String>,
    pub(crate) passwords_needed_to_start: Vec<String>,
    pub(crate) credential_needed_to_start: bool,
    pub(crate) inventory_needed_to_start: bool,
    pub(crate) node_templates_missing: Vec<Value>,
    pub(crate) node_prompts_rejected: Vec<Value>,
}

/// A survey.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Survey {
    pub(crate) spec: Vec<Question>,
}

/// A question of a survey.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    pub(crate) variable: String,
    pub(crate) question_name: String,
    pub(crate) required: bool,
    /// `text`, `textarea`, `password`, `integer`, `float`, `multiplechoice` or `multiselect`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// A list, or a text with one in each line.
    pub(crate) choices: Value,
    pub(crate) default: Value,
    pub(crate) min: Value,
    pub(crate) max: Value,
}

impl Question {
    /// The answers that there are to choose from.
    pub(crate) fn choices(&self) -> Vec<String> {
        match &self.choices {
            Value::Array(items) => {
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
            }
            Value::String(text) => {
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the answer is nobody's business.
    pub(crate) fn is_secret(&self) -> bool {
        self.kind == "password" || broker_core::secrets::is_secret_name(&self.variable)
    }
}

/// The templates of exactly this name that we may see.
pub(crate) async fn named(client: &Client, kind: Kind, name: &str) -> Result<Vec<Template>, CallError> {
    client.all(&format!("{}/?name={}", kind.templates(), encoded(name))).await
}

/// All templates that we may see.
pub(crate) async fn all(client: &Client, kind: Kind) -> Result<Vec<Template>, CallError> {
    client.all(&format!("{}/?order_by=name", kind.templates())).await
}

/// What a launch needs.
pub(crate) async fn needs(client: &Client, kind: Kind, id: u64) -> Result<Needs, CallError> {
    client.get(&format!("{}/{id}/launch/", kind.templates())).await
}

/// The survey; one without questions where there is none.
pub(crate) async fn survey(client: &Client, kind: Kind, id: u64) -> Result<Survey, CallError> {
    client.get(&format!("{}/{id}/survey_spec/", kind.templates())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_they_were_typed() {
        let names =
            |text: &str| variables(text).into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        assert_eq!(names(r#"{"deploy_flavor":"tiny","name_prefix":"rig"}"#), ["deploy_flavor=tiny", "name_prefix=rig"]);
        assert_eq!(names("---\ndeploy_flavor: tiny\nsizes:\n  - 1\n  - 2"), ["deploy_flavor=tiny", "sizes=[1,2]"]);
        for nothing in ["", "---", "- a list", "a: ["] {
            assert!(names(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn a_recorded_survey_is_read() {
        let text = r#"{"name": "", "spec": [{"max": null, "min": null, "type": "multiplechoice", "choices": ["tiny", "big"],
            "default": "", "required": true, "variable": "deploy_flavor", "new_question": true, "question_name": "Flavor",
            "question_description": ""}, {"max": 5, "min": 1, "type": "integer", "choices": "", "default": 1,
            "required": false, "variable": "count", "new_question": true, "question_name": "Count"}], "description": ""}"#;
        let survey: Survey = serde_json::from_str(text).unwrap();
        assert_eq!(survey.spec[0].choices(), ["tiny", "big"]);
        assert!(survey.spec[1].choices().is_empty());
        let lines = Question { choices: Value::from("a\n b\n"), ..Question::default() };
        assert_eq!(lines.choices(), ["a", "b"]);
        assert_eq!(serde_json::from_str::<Survey>("{}").unwrap(), Survey::default());
    }
}
