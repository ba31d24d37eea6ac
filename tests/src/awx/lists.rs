//! Lists: filters, order, search and pages.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::call::Call;
use super::reply::Reply;
use super::vars::python_str;

/// The most that a page has, whatever is asked for.
const MOST: usize = 200;

/// What a page has where nothing is asked for.
const USUAL: usize = 25;

/// How a filter begins of which one of several has to hold.
const OR: &str = "or__";

/// Parameters that are no filters.
const OTHERS: [&str; 6] = ["page", "page_size", "order_by", "search", "format", "not_exist"];

/// A list before it is filtered: cheap to go through, and made into full objects for one page alone.
pub(super) struct List<'a> {
    /// The model's name, for messages.
    pub(super) model: &'static str,
    /// The objects' ids.
    pub(super) ids: Vec<u64>,
    /// Those of an object's fields that are often filtered on.
    pub(super) row: Box<dyn Fn(u64) -> Value + 'a>,
    /// The full object.
    pub(super) form: Box<dyn Fn(u64) -> Value + 'a>,
}

impl List<'_> {
    /// The page that was asked for.
    ///
    /// # Errors
    ///
    /// AWX's answer to a field that there is none of, a value that is none, or a page that is none.
    pub(super) fn page(mut self, call: &Call) -> Result<Reply, Reply> {
        let filters = || call.query.iter().filter(|(name, _)| !OTHERS.contains(&name.as_str()));
        for (name, value) in filters().filter(|(name, _)| !name.starts_with(OR)) {
            self.ids = self.filtered(name, value)?;
        }
        // Of those with `or__` one is enough.
        let mut kept: Option<BTreeSet<u64>> = None;
        for (name, value) in filters().filter_map(|(name, value)| Some((name.strip_prefix(OR)?, value))) {
            kept.get_or_insert_default().extend(self.filtered(name, value)?);
        }
        if let Some(kept) = kept {
            self.ids.retain(|id| kept.contains(id));
        }
        if let Some(text) = call.parameter("search") {
            let row = &self.row;
            for word in text.split(',').map(|word| word.trim().to_lowercase()) {
                self.ids.retain(|id| {
                    let row = row(*id);
                    let has = |key: &str| row[key].as_str().is_some_and(|field| field.to_lowercase().contains(&word));
                    ["name", "description", "username", "event", "task"].into_iter().any(has)
                });
            }
        }
        if let Some(order) = call.parameter("order_by") {
            self.sort(order)?;
        }
        paginate(call, &self.ids, self.form)
    }

    /// The value of a field, also of another object's, as in `organization__name`.
    fn field(&self, id: u64, path: &[&str]) -> Option<Value> {
        if let [name] = path
            && let Some(value) = (self.row)(id).get(*name)
        {
            return Some(value.clone());
        }
        let full = (self.form)(id);
        if let [name] = path {
            let is_field = !matches!(*name, "url" | "related" | "summary_fields");
            return full.get(*name).filter(|_| is_field).cloned();
        }
        let mut value = &full["summary_fields"];
        for name in path {
            value = value.get(*name)?;
        }
        Some(value.clone())
    }

    fn sort(&mut self, order: &str) -> Result<(), Reply> {
        for name in order.split(',').rev() {
            let (name, is_descending) = name.strip_prefix('-').map_or((name, false), |name| (name, true));
            let path: Vec<&str> = name.split("__").collect();
            if !is_field(self.model, path[0]) {
                return Err(no_field(self.model, path[0]));
            }
            let value = |id: &u64| self.field(*id, &path).unwrap_or(Value::Null);
            let mut keyed: Vec<_> = self.ids.iter().map(|id| (value(id), *id)).collect();
            keyed.sort_by(|a, b| if is_descending { compare(&b.0, &a.0) } else { compare(&a.0, &b.0) });
            self.ids = keyed.into_iter().map(|(_, id)| id).collect();
        }
        Ok(())
    }

    fn filtered(&self, name: &str, value: &str) -> Result<Vec<u64>, Reply> {
        let (name, inverted) = match name.strip_prefix("not__") {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        let mut path: Vec<&str> = name.split("__").collect();
        let lookup = match path.last() {
            Some(last) if path.len() > 1 && LOOKUPS.contains(last) => path.pop().unwrap_or("exact"),
            _ => "exact",
        };
        if !is_field(self.model, path[0]) {
            return Err(no_field(self.model, path[0]));
        }
        let is_number = matches!(path.last(), Some(&("id" | "pk"))) || (path.len() == 1 && is_reference(path[0]));
        let compares = matches!(lookup, "exact" | "in" | "gt" | "gte" | "lt" | "lte");
        if is_number && compares {
            let parts = if lookup == "in" { value.split(',').collect() } else { vec![value] };
            if let Some(bad) = parts.iter().find(|part| part.trim().parse::<i64>().is_err()) {
                return Err(Reply::detail(400, &format!("[\"“{bad}” value must be an integer.\"]")));
            }
        }
        if path[0] == "pk" {
            path[0] = "id";
        }
        let keeps = |id: &u64| {
            let found = self.field(*id, &path).unwrap_or(Value::Null);
            holds(&found, lookup, value) != inverted
        };
        Ok(self.ids.iter().copied().filter(keeps).collect())
    }
}

fn no_field(model: &str, name: &str) -> Reply {
    Reply::detail(400, &format!("{model} has no field named '{name}'"))
}

fn paginate(call: &Call, ids: &[u64], form: impl Fn(u64) -> Value) -> Result<Reply, Reply> {
    let size = match call.parameter("page_size") {
        None => USUAL,
        // AWX fails over what is no number.
        Some(text) => match text.parse::<i64>().map_err(|_| Reply::server_error())? {
            ..=0 => USUAL,
            size => usize::try_from(size).unwrap_or(MOST).min(MOST),
        },
    };
    let pages = ids.len().div_ceil(size).max(1);
    let page = match call.parameter("page") {
        None | Some("") => 1,
        Some("last") => pages,
        Some(text) => text.parse().unwrap_or(0),
    };
    if page == 0 || page > pages {
        return Err(Reply::detail(404, "Invalid page."));
    }
    let results: Vec<Value> = ids.iter().skip((page - 1) * size).take(size).map(|id| form(*id)).collect();
    let link = |to: usize| {
        let mut query: Vec<(String, String)> = call.query.clone();
        query.retain(|(name, _)| name != "page");
        query.push(("page".to_owned(), to.to_string()));
        if let Some((_, value)) = query.iter_mut().find(|(name, _)| name == "page_size")
            && value.parse::<usize>().is_ok_and(|asked| asked > MOST)
        {
            *value = MOST.to_string();
        }
        query.sort();
        let encode = |text: &str| super::forms::encoded(text).replace("%20", "+");
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        format!("/api/v2/{}?{}", call.below.trim_start_matches('/'), query.join("&"))
    };
    let next = (page < pages).then(|| link(page + 1));
    let previous = (page > 1).then(|| link(page - 1));
    Ok(Reply::json(200, json!({"count": ids.len(), "next": next, "previous": previous, "results": results})))
}

/// How a field is compared.
const LOOKUPS: [&str; 14] = [
    "exact",
    "iexact",
    "contains",
    "icontains",
    "startswith",
    "istartswith",
    "endswith",
    "iendswith",
    "gt",
    "gte",
    "lt",
    "lte",
    "in",
    "isnull",
];

fn holds(found: &Value, lookup: &str, value: &str) -> bool {
    if lookup == "isnull" {
        return found.is_null() == matches!(value.to_lowercase().as_str(), "true" | "1");
    }
    if let Value::Bool(found) = found {
        return *found == matches!(value.to_lowercase().as_str(), "true" | "1");
    }
    if found.is_null() {
        return matches!(value, "null" | "None") && lookup == "exact";
    }
    let text = python_str(found);
    let folded = (text.to_lowercase(), value.to_lowercase());
    let order = || compare(found, &value.parse::<f64>().map_or(Value::from(value), Value::from));
    match lookup {
        "iexact" => folded.0 == folded.1,
        "contains" => text.contains(value),
        "icontains" => folded.0.contains(&folded.1),
        "startswith" => text.starts_with(value),
        "istartswith" => folded.0.starts_with(&folded.1),
        "endswith" => text.ends_with(value),
        "iendswith" => folded.0.ends_with(&folded.1),
        "in" => value.split(',').any(|part| part == text),
        "gt" => order() == Ordering::Greater,
        "gte" => order() != Ordering::Less,
        "lt" => order() == Ordering::Less,
        "lte" => order() != Ordering::Greater,
        _ => text == value,
    }
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => python_str(a).cmp(&python_str(b)),
    }
}

fn is_reference(name: &str) -> bool {
    matches!(
        name,
        "organization"
            | "inventory"
            | "project"
            | "user"
            | "job"
            | "job_template"
            | "workflow_job"
            | "created_by"
            | "modified_by"
            | "unified_job_template"
            | "workflow_job_template"
            | "host"
            | "last_job"
            | "counter"
    )
}

/// Whether a model has a field that can be filtered on.
fn is_field(model: &str, name: &str) -> bool {
    let common = ["id", "pk", "type", "created", "modified", "name", "description", "created_by", "modified_by"];
    let templates = [
        "extra_vars",
        "organization",
        "inventory",
        "survey_enabled",
        "allow_simultaneous",
        "ask_variables_on_launch",
        "ask_inventory_on_launch",
        "ask_labels_on_launch",
        "labels",
        "last_job_run",
        "last_job_failed",
        "status",
        "next_job_run",
        "playbook",
        "project",
        "limit",
        "job_type",
        "last_job",
        "current_job",
    ];
    let jobs = [
        "status",
        "failed",
        "started",
        "finished",
        "canceled_on",
        "elapsed",
        "launch_type",
        "extra_vars",
        "inventory",
        "labels",
        "unified_job_template",
        "job_template",
        "workflow_job_template",
        "job_explanation",
        "artifacts",
        "organization",
        "playbook",
        "project",
        "timeout",
        "execution_node",
        "allow_simultaneous",
        "limit",
        "result_traceback",
        "job_type",
        "work_unit_id",
    ];
    let own: &[&str] = match model {
        "JobTemplate" | "WorkflowJobTemplate" | "UnifiedJobTemplate" => &templates,
        "Job" | "WorkflowJob" | "UnifiedJob" => &jobs,
        "Inventory" => &[
            "organization",
            "kind",
            "variables",
            "total_hosts",
            "host_filter",
            "hosts",
            "has_active_failures",
            "labels",
        ],
        "Host" => &["inventory", "enabled", "instance_id", "variables", "last_job", "ansible_facts_modified", "groups"],
        "Label" => &["organization"],
        "Organization" | "Project" => &["status", "scm_type", "organization"],
        "User" => &["username", "first_name", "last_name", "email", "is_superuser", "last_login"],
        "OAuth2AccessToken" => &["user", "application", "scope", "expires", "token"],
        "JobEvent" => &[
            "event",
            "counter",
            "failed",
            "changed",
            "task",
            "play",
            "role",
            "host",
            "host_name",
            "playbook",
            "uuid",
            "parent_uuid",
            "event_level",
            "start_line",
            "end_line",
            "stdout",
            "job",
            "verbosity",
            "event_data",
        ],
        "WorkflowJobNode" => &["job", "workflow_job", "unified_job_template", "do_not_run", "identifier", "inventory"],
        "JobHostSummary" => &["host", "host_name", "failed", "job", "ok", "failures"],
        _ => &[],
    };
    own.contains(&name) || (common.contains(&name) && !(model == "User" && matches!(name, "name" | "description")))
}
