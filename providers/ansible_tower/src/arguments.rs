//! What the arguments of an order mean.

use std::collections::BTreeMap;

use broker_core::provider::{ArgumentInfo, ArgumentScope, ErrorKind, Order, ProviderError};
use broker_core::{ArgValue, HostId};
use serde_json::{Map, Value, json};

use crate::api::template::Kind;
use crate::artifacts::Strategy;

pub(crate) const WORKFLOW: &str = "workflow";
pub(crate) const JOB_TEMPLATE: &str = "job_template";
pub(crate) const TOWER_INVENTORY: &str = "tower_inventory";
const INVENTORY_ID: &str = "inventory";
const ARTIFACTS: &str = "artifacts";
pub(crate) const NEW_EXPIRE_TIME: &str = "new_expire_time";

/// The variable by which a job is known to have been launched for a host.
pub(crate) const ID: &str = "_broker_id";
/// The variable by which any other launch is known.
const LAUNCH: &str = "_broker_launch";
const OWNER: &str = "_broker_owner";
const ORIGIN: &str = "_broker_origin";
const LEASE: &str = "_broker_lease_until";
const JENKINS: &str = "_jenkins_url";
pub(crate) const LABELS: &str = "provider_labels";
/// What the templates of the Python tool's users hand on as the arguments of a host.
const EXTRA: &str = "_broker_extra_vars";

pub(crate) const ARGUMENTS: &[ArgumentInfo] = &[
    ArgumentInfo {
        name: TOWER_INVENTORY,
        value: Some("NAME"),
        help: "Launch with this inventory of the service's",
        on: ArgumentScope::Both,
    },
    ArgumentInfo {
        name: ARTIFACTS,
        value: Some("last|merge"),
        help: "Take the artifacts of the last job that has any, or merge those of all",
        on: ArgumentScope::Both,
    },
    ArgumentInfo {
        name: NEW_EXPIRE_TIME,
        value: Some("TIME"),
        help: "What the extend workflow is told, as it stands: `+3600`",
        on: ArgumentScope::Extend,
    },
    ArgumentInfo {
        name: LABELS,
        value: Some("LABELS"),
        help: "Labels for the job of the extend workflow: `team=qe,mine`",
        on: ArgumentScope::Extend,
    },
];

/// Whether a variable is not of the host, but says what was launched and by whom.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with("_broker") || [WORKFLOW, JOB_TEMPLATE, JENKINS].contains(&name)
}

/// Arguments that say how to launch, and are no variables.
const OURS: &[&str] = &[TOWER_INVENTORY, INVENTORY_ID, ARTIFACTS];

/// What is wanted of the service.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    /// The name of the template.
    pub(crate) name: String,
    /// The variables that somebody has given.
    pub(crate) given: Map<String, Value>,
    /// The variables that go along where the template takes them.
    pub(crate) own: Map<String, Value>,
    pub(crate) inventory: Option<InventoryRef>,
    /// Whose name and value both count: `team=qe`.
    pub(crate) labels: Vec<String>,
    /// How artifacts are put together, where somebody says so.
    pub(crate) strategy: Option<Strategy>,
    /// The variable, with its value, by which this very launch is known.
    pub(crate) mark: (&'static str, String),
    /// Whether variables that the template does not take are left out, as nobody has asked for this very launch.
    pub(crate) lenient: bool,
    /// The variables without which such a launch makes no sense.
    pub(crate) essential: Vec<&'static str>,
}

/// An inventory of the service's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InventoryRef {
    Name(String),
    Id(u64),
}

impl Wanted {
    /// What an order wants.
    pub(crate) fn of(order: &Order) -> Result<Self, ProviderError> {
        let name = order.target().trim();
        if name.is_empty() {
            let message = format!("`{}` is empty, and must be the name of a template", order.action);
            return Err(ProviderError::new(ErrorKind::BadRequest, message));
        }
        let (given, inventory) = split(order.args.iter().map(|(name, value)| (name.as_str(), value)))?;
        let strategy = order.args.get(ARTIFACTS).map(Strategy::read).transpose()?;
        let mut own = Map::new();
        own.insert(ORIGIN.to_owned(), json!(order.origin));
        own.insert(ID.to_owned(), json!(order.id.to_string()));
        own.insert(OWNER.to_owned(), json!(order.owner.address()));
        if let Some(until) = order.lease_until {
            own.insert(LEASE.to_owned(), json!(until.to_string()));
        }
        if let Some(url) = std::env::var("BUILD_URL").ok().filter(|url| !url.is_empty()) {
            own.insert(JENKINS.to_owned(), json!(url));
        }
        if !order.labels.is_empty() {
            own.insert(LABELS.to_owned(), json!(order.labels));
        }
        let labels = labels_of(&order.labels);
        let kind = Kind::of_action(&order.action);
        let mark = (ID, order.id.to_string());
        Ok(Self {
            kind,
            name: name.to_owned(),
            given,
            own,
            inventory,
            labels,
            strategy,
            mark,
            lenient: false,
            essential: vec![],
        })
    }

    /// As [`of`](Self::of), for an order that makes no host: nothing is ever released because of its id.
    pub(crate) fn of_execution(order: &Order) -> Result<Self, ProviderError> {
        let mut wanted = Self::of(order)?;
        wanted.own.shift_remove(ID);
        wanted.own.shift_remove(LEASE);
        wanted.mark = (LAUNCH, order.id.to_string());
        wanted.own.insert(LAUNCH.to_owned(), json!(wanted.mark.1));
        Ok(wanted)
    }

    /// A workflow that is launched for a host: to release it, or to extend its lease.
    pub(crate) fn workflow(name: &str, given: Map<String, Value>, host: HostId, origin: &str) -> Self {
        let mark = (LAUNCH, HostId::generate().to_string());
        let own = [(ORIGIN, origin.to_owned()), (ID, host.to_string()), (LAUNCH, mark.1.clone())];
        Self {
            kind: Kind::Workflow,
            name: name.to_owned(),
            given,
            own: own.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect(),
            inventory: None,
            labels: Vec::new(),
            strategy: None,
            mark,
            lenient: true,
            essential: Vec::new(),
        }
    }

    /// The same with labels.
    pub(crate) fn labelled(mut self, labels: &BTreeMap<String, String>) -> Self {
        if !labels.is_empty() {
            self.own.insert(LABELS.to_owned(), json!(labels));
            self.labels = labels_of(labels);
        }
        self
    }

    /// The same for no host: nothing is ever released because of its id.
    pub(crate) fn without_host(mut self) -> Self {
        self.own.shift_remove(ID);
        self
    }

    /// The variables of a launch, where the template has these variables of its own and may not be told these secrets
    /// twice.
    pub(crate) fn all_variables(&self, declared: &broker_core::Args, secrets: &[&str]) -> Map<String, Value> {
        let mut all = self.given.clone();
        all.extend(self.own.clone());
        let is_extra = |name: &String| {
            !declared.contains_key(name.as_str()) && !secrets.contains(&name.as_str()) && name != LAUNCH
        };
        let extra: Map<_, _> =
            all.iter().filter(|(name, _)| is_extra(name)).map(|(k, v)| (k.clone(), v.clone())).collect();
        all.insert(EXTRA.to_owned(), Value::Object(extra));
        all
    }
}

/// The variables among arguments, and the inventory that they name.
pub(crate) fn split<'a>(
    args: impl Iterator<Item = (&'a str, &'a ArgValue)>,
) -> Result<(Map<String, Value>, Option<InventoryRef>), ProviderError> {
    let mut given = Map::new();
    let mut inventory = None;
    for (name, value) in args {
        if !OURS.contains(&name) {
            given.insert(name.to_owned(), variable(value));
            continue;
        }
        let text = value.as_str().map(str::trim).ok_or_else(|| {
            ProviderError::new(
                ErrorKind::BadRequest,
                format!("argument `{name}` is a {}, and must be a text", value.kind()),
            )
        })?;
        match name {
            INVENTORY_ID => {
                let id = text.parse().map_err(|_| {
                    let message = format!(
                        "argument `inventory` is `{text}`, and must be a number: a name goes to `tower_inventory`"
                    );
                    ProviderError::new(ErrorKind::BadRequest, message)
                })?;
                inventory = Some(InventoryRef::Id(id));
            }
            TOWER_INVENTORY if !text.is_empty() && inventory.is_none() => {
                inventory = Some(InventoryRef::Name(text.to_owned()));
            }
            _ => {}
        }
    }
    Ok((given, inventory))
}

/// A variable as the service is told it: a scalar keeps its spelling, a text that spells a list or an object is one.
fn variable(value: &ArgValue) -> Value {
    match value {
        ArgValue::Text(text) if text.trim_start().starts_with(['[', '{']) => {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        }
        value => value.to_json(),
    }
}

fn labels_of(labels: &BTreeMap<String, String>) -> Vec<String> {
    let label = |(name, value): (&String, &String)| match value.is_empty() {
        true => name.clone(),
        false => format!("{name}={value}"),
    };
    labels.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use broker_core::Args;

    use super::*;

    fn order(args: Value) -> Order {
        let ArgValue::Map(args) = ArgValue::from_json(args) else { panic!("no arguments") };
        Order::for_test("workflow", args)
    }

    #[test]
    fn scalars_keep_their_spelling_and_json_is_read() {
        let mut order = order(json!({"workflow": "deploy", "n": 5, "list": "[1, 2]", "bad": "{not json", "text": "5"}));
        order.args.insert("version".to_owned(), ArgValue::Plain("9.10".to_owned()));
        order.args.insert("float".to_owned(), ArgValue::Plain("9.4".to_owned()));
        let wanted = Wanted::of(&order).unwrap();
        let expected = json!({"workflow": "deploy", "n": 5, "list": [1, 2], "bad": "{not json", "text": "5", "version": "9.10", "float": 9.4});
        assert_eq!(Value::Object(wanted.given), expected);
    }

    #[test]
    fn what_says_how_to_launch_is_no_variable() {
        let wanted =
            Wanted::of(&order(json!({"workflow": "w", "tower_inventory": "lab", "artifacts": "merge"}))).unwrap();
        assert_eq!(wanted.given.keys().collect::<Vec<_>>(), ["workflow"]);
        assert_eq!(wanted.inventory, Some(InventoryRef::Name("lab".to_owned())));
        assert_eq!(wanted.strategy, Some(Strategy::Merge));
        let wanted = Wanted::of(&order(json!({"workflow": "w", "inventory": "3", "tower_inventory": "lab"}))).unwrap();
        assert_eq!(wanted.inventory, Some(InventoryRef::Id(3)));
    }

    #[test]
    fn extra_variables_are_those_that_the_template_does_not_have() {
        let mut order = order(json!({"workflow": "w", "deploy_flavor": "big", "note": "hello", "pw": "x"}));
        order.labels = [("team".to_owned(), "rig".to_owned()), ("owner".to_owned(), String::new())].into();
        let wanted = Wanted::of(&order).unwrap();
        let declared: Args = crate::api::template::variables("deploy_flavor: tiny");
        let all = wanted.all_variables(&declared, &["pw"]);
        let extra = all["_broker_extra_vars"].as_object().unwrap();
        let names: Vec<&String> = extra.keys().collect();
        assert_eq!(names, ["workflow", "note", "_broker_origin", "_broker_id", "_broker_owner", "provider_labels"]);
        assert_eq!(all["_broker_id"], json!(order.id.to_string()));
        assert_eq!(all["provider_labels"], json!({"owner": "", "team": "rig"}));
        assert_eq!((&all["pw"], &all["deploy_flavor"]), (&json!("x"), &json!("big")));
        assert_eq!(wanted.labels, ["owner", "team=rig"]);
    }

    #[test]
    fn what_does_not_do_is_named() {
        for (args, says) in [
            (json!({"workflow": " "}), "`workflow` is empty"),
            (json!({"workflow": "w", "inventory": "lab"}), "`tower_inventory`"),
            (json!({"workflow": "w", "tower_inventory": ["a"]}), "`tower_inventory` is a list"),
            (json!({"workflow": "w", "artifacts": "first"}), "`last` or `merge`"),
        ] {
            let error = Wanted::of(&order(args)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadRequest);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
