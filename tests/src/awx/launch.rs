//! What may be given at a launch, what becomes of it, and what is wrong with it.
//!
//! Job templates drop what they do not ask for and say so; workflow templates refuse it. The order of the checks is
//! AWX's: what the body is, the fields one by one, the survey and the prompts, and only then the rights on what is named.

use serde_json::{Map, Value, json};

use super::reply::Reply;
use super::run::Order;
use super::store::Store;
use super::survey::{self, ENCRYPTED};
use super::template::{Template, What};
use super::vars::{self, Vars, python_type};
use super::world::Role;

/// What a workflow template says to a field that it does not ask for.
const NOT_ASKED: &str = "Field is not configured to prompt on launch.";

/// Further fields that can be asked for, and are not in this world.
const NEVER_ASKED: [&str; 12] = [
    "limit",
    "scm_branch",
    "job_tags",
    "skip_tags",
    "job_type",
    "verbosity",
    "diff_mode",
    "execution_environment",
    "forks",
    "job_slice_count",
    "timeout",
    "instance_groups",
];

/// What a workflow template could ask for of these.
const OF_WORKFLOWS: [&str; 4] = ["limit", "scm_branch", "job_tags", "skip_tags"];

/// The variables of a job: the template's own, over them the defaults of its survey, over them what was given. Also
/// which of them are secrets.
pub(super) fn merged(template: &Template, mut given: Vars) -> (Vars, Vec<String>) {
    let mut merged = vars::lenient(&template.extra_vars);
    let mut secrets = Vec::new();
    for question in survey::questions(template.survey.as_ref()) {
        let name = survey::variable(question);
        if survey::is_secret(question) {
            secrets.push(name.to_owned());
            if given.get(name).is_some_and(|answer| answer == ENCRYPTED) {
                given.shift_remove(name);
            }
        }
        let default = &question["default"];
        let alone: Vars = [(name.to_owned(), default.clone())].into_iter().collect();
        if !default.is_null() && survey::faults(question, &alone).is_empty() {
            merged.insert(name.to_owned(), default.clone());
        }
    }
    merged.extend(given);
    secrets.retain(|name| merged.contains_key(name));
    (merged, secrets)
}

/// What was given at a launch, field by field.
struct Given {
    vars: Vars,
    inventory: Option<u64>,
    labels: Vec<u64>,
}

/// Launches a template for a user: the id of the job and what was ignored.
///
/// # Errors
///
/// AWX's answer, if it does not launch.
pub(super) fn launch(store: &mut Store, template: u64, user: u64, body: &Value) -> Result<(u64, Value), Reply> {
    let Some(body) = body.as_object() else {
        return Err(Reply::detail(400, "JSON parse error - not a JSON object"));
    };
    let given = read(store, body)?;
    let blueprint = &store.templates[&template];
    let (accepted, ignored) = accept(&blueprint.template, blueprint.inventory, blueprint.is_workflow(), given, body)?;
    let uses = |inventory: u64| store.role(user, &store.inventories[&inventory].roles) >= Some(Role::Use);
    let differs = accepted.inventory != blueprint.inventory;
    if accepted.inventory.is_some_and(|inventory| differs && !uses(inventory)) {
        return Err(Reply::forbidden());
    }
    let (vars, secrets) = merged(&blueprint.template, accepted.vars);
    let labels = accepted.labels;
    let inventory = accepted.inventory.or(blueprint.inventory);
    let now = store.clock.now();
    let id = store.add_job(Order { template, user, vars, secrets, inventory, labels, node: None }, now);
    Ok((id, ignored))
}

/// Reads the fields, each by its type.
fn read(store: &Store, body: &Map<String, Value>) -> Result<Given, Reply> {
    let mut faults = Map::new();
    let mut given = Given { vars: Vars::new(), inventory: None, labels: Vec::new() };
    match body.get("extra_vars") {
        None | Some(Value::Null) => {}
        Some(Value::Object(vars)) => given.vars.clone_from(vars),
        Some(other) => {
            let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            match vars::parse(&text) {
                Ok(vars) => given.vars = vars,
                Err(fault) => drop(faults.insert("extra_vars".to_owned(), json!([fault]))),
            }
        }
    }
    if let Some(value) = body.get("inventory").filter(|value| !value.is_null()) {
        match key(value, |id| store.inventories.contains_key(&id)) {
            Ok(id) => given.inventory = Some(id),
            Err(fault) => drop(faults.insert("inventory".to_owned(), json!([fault]))),
        }
    }
    match body.get("labels") {
        None => {}
        Some(Value::Array(labels)) => {
            for label in labels {
                match key(label, |id| store.labels.contains_key(&id)) {
                    Ok(id) => given.labels.push(id),
                    Err(fault) => drop(faults.insert("labels".to_owned(), json!([fault]))),
                }
            }
        }
        Some(other) => {
            let fault = format!("Expected a list of items but got type \"{}\".", python_type(other));
            faults.insert("labels".to_owned(), json!([fault]));
        }
    }
    if faults.is_empty() { Ok(given) } else { Err(Reply::json(400, Value::Object(faults))) }
}

/// A reference to another object: a number, or a text of one.
fn key(value: &Value, exists: impl Fn(u64) -> bool) -> Result<u64, String> {
    let id = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    let wrong = || format!("Incorrect type. Expected pk value, received {}.", python_type(value));
    let id = id.ok_or_else(wrong)?;
    if exists(id) { Ok(id) } else { Err(format!("Invalid pk \"{id}\" - object does not exist.")) }
}

/// Takes what the template asks for, and refuses or ignores the rest.
fn accept(
    template: &Template,
    own_inventory: Option<u64>,
    is_workflow: bool,
    given: Given,
    body: &Map<String, Value>,
) -> Result<(Given, Value), Reply> {
    let mut faults = Map::new();
    let mut ignored = Map::new();
    let Given { vars: mut left, inventory, labels } = given;
    let mut accepted = Given { vars: Vars::new(), inventory: None, labels: Vec::new() };
    let mut missing = Vec::new();
    for question in survey::questions(template.survey.as_ref()) {
        let found = survey::faults(question, &left);
        let answer = left.shift_remove_entry(survey::variable(question));
        if found.is_empty() {
            accepted.vars.extend(answer);
        }
        missing.extend(found);
    }
    if template.asks_variables {
        accepted.vars.append(&mut left);
    }
    let names = left.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    if !left.is_empty() {
        ignored.insert("extra_vars".to_owned(), Value::Object(left));
    }
    match inventory {
        Some(id) if template.asks_inventory || own_inventory == Some(id) => accepted.inventory = Some(id),
        Some(id) => drop(ignored.insert("inventory".to_owned(), id.into())),
        None => {}
    }
    let offered = |field: &&str| !is_workflow || OF_WORKFLOWS.contains(field);
    for field in NEVER_ASKED.into_iter().filter(offered) {
        if let Some(value) = body.get(field).filter(|value| !value.is_null()) {
            ignored.insert(field.to_owned(), value.clone());
        }
    }
    match template.asks_labels {
        true => accepted.labels = labels,
        false if !labels.is_empty() => drop(ignored.insert("labels".to_owned(), labels.into())),
        false => {}
    }
    if is_workflow {
        for field in ["labels", "inventory"].into_iter().chain(OF_WORKFLOWS) {
            if ignored.contains_key(field) {
                faults.insert(field.to_owned(), json!([NOT_ASKED]));
            }
        }
        if !names.is_empty() {
            let fault = format!(
                "Variables {names} are not allowed on launch. Check the Prompt on Launch setting on the Workflow Job \
                 Template to include Extra Variables."
            );
            faults.insert("extra_vars".to_owned(), json!([fault]));
        }
        ignored.clear();
    }
    if !missing.is_empty() {
        faults.insert("variables_needed_to_start".to_owned(), json!(missing));
    }
    if !is_workflow && accepted.inventory.or(own_inventory).is_none() {
        let fault = "Job Template inventory is missing or undefined.";
        faults.insert("resources_needed_to_start".to_owned(), json!([fault]));
    }
    if faults.is_empty() {
        Ok((accepted, Value::Object(ignored)))
    } else {
        Err(Reply::json(400, Value::Object(faults)))
    }
}

/// What a template says may and must be given.
pub(super) fn asked(store: &Store, id: u64) -> Value {
    let blueprint = &store.templates[&id];
    let template = &blueprint.template;
    let required = survey::questions(template.survey.as_ref()).filter(|question| question["required"] == true);
    let needed: Vec<&str> = required.map(survey::variable).collect();
    let about = json!({"name": template.name, "id": id, "description": template.description});
    let inventory = match blueprint.inventory {
        Some(id) => json!({"name": store.inventories[&id].name, "id": id}),
        None => json!({}),
    };
    if blueprint.is_workflow() {
        return json!({
            "ask_inventory_on_launch": template.asks_inventory,
            "ask_limit_on_launch": false,
            "ask_scm_branch_on_launch": false,
            "can_start_without_user_input": needed.is_empty(),
            "defaults": {
                "inventory": inventory, "limit": null, "scm_branch": null, "job_tags": null, "skip_tags": null,
                "extra_vars": template.extra_vars,
            },
            "survey_enabled": template.survey.is_some(),
            "variables_needed_to_start": needed,
            "node_templates_missing": [],
            "node_prompts_rejected": [],
            "workflow_job_template_data": about,
            "ask_variables_on_launch": template.asks_variables,
            "ask_labels_on_launch": template.asks_labels,
            "ask_skip_tags_on_launch": false,
            "ask_tags_on_launch": false,
        });
    }
    let timeout = if let What::Job { timeout, .. } = template.what { timeout } else { 0 };
    // A workflow that asks can start all the same; a job template that asks, it is said, cannot.
    let asks = template.asks_variables || template.asks_inventory || template.asks_labels;
    json!({
        "can_start_without_user_input": needed.is_empty() && blueprint.inventory.is_some() && !asks,
        "passwords_needed_to_start": [],
        "ask_scm_branch_on_launch": false,
        "ask_variables_on_launch": template.asks_variables,
        "ask_tags_on_launch": false,
        "ask_diff_mode_on_launch": false,
        "ask_skip_tags_on_launch": false,
        "ask_job_type_on_launch": false,
        "ask_limit_on_launch": false,
        "ask_verbosity_on_launch": false,
        "ask_inventory_on_launch": template.asks_inventory,
        "ask_credential_on_launch": false,
        "ask_execution_environment_on_launch": false,
        "ask_labels_on_launch": template.asks_labels,
        "ask_forks_on_launch": false,
        "ask_job_slice_count_on_launch": false,
        "ask_timeout_on_launch": false,
        "ask_instance_groups_on_launch": false,
        "survey_enabled": template.survey.is_some(),
        "variables_needed_to_start": needed,
        "credential_needed_to_start": false,
        "inventory_needed_to_start": blueprint.inventory.is_none(),
        "job_template_data": about,
        "defaults": {
            "inventory": inventory, "limit": "", "scm_branch": "", "job_tags": "", "skip_tags": "",
            "extra_vars": template.extra_vars, "diff_mode": false, "job_type": "run", "verbosity": 0,
            "execution_environment": {}, "forks": 0, "job_slice_count": 1, "timeout": timeout, "instance_groups": [],
        },
    })
}
