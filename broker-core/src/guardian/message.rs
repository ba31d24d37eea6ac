//! What owner and guardian tell each other: JSON, a line a message.
//!
//! The messages of the owner hold passwords, so they go through the pipe alone and print nowhere.

use std::path::PathBuf;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::args::{ArgValue, Args};
use crate::id::{HostId, RunId};
use crate::settings::ProviderSettings;

/// Both ends must be of one version: what a record means may differ in another.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the owner says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToGuardian {
    /// The first message.
    Hello {
        /// The owner's version.
        version: String,
    },
    /// A broker that is going to hold hosts.
    Run(Run),
    /// The settings of a provider that a run has hosts of.
    Instance { run: RunId, settings: Instance },
    /// How hosts of a run are reached by SSH, where a command is to run on one.
    Ssh { run: RunId, values: Values },
    /// Hosts that are about to be made.
    Watch(Watch),
    /// A host that is gone.
    Settled { host: HostId },
    /// Nothing else is to come of a run.
    End { run: RunId },
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) run: RunId,
    /// The Broker directory.
    pub(super) directory: PathBuf,
    pub(super) thread_limit: Option<usize>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Watch {
    pub(super) run: RunId,
    pub(super) hosts: Vec<HostId>,
    /// When the first of their leases can end.
    pub(super) lease_until: Option<Timestamp>,
}

/// What the guardian says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromGuardian {
    /// It watches, from the first message on.
    Ready {
        /// The providers that it has.
        providers: Vec<String>,
    },
    /// It does not, and ends.
    Refused {
        /// Why, as a fragment: `it is of version 0.2.0`.
        why: String,
    },
}

/// [`ProviderSettings`], every value with its spelling.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Instance {
    provider: String,
    instance: Option<String>,
    labels: std::collections::BTreeMap<String, String>,
    values: Values,
    origins: std::collections::BTreeMap<String, String>,
}

impl From<&ProviderSettings> for Instance {
    fn from(settings: &ProviderSettings) -> Self {
        let ProviderSettings { provider, instance, labels, values, origins } = settings.clone();
        Self { provider, instance, labels, values: (&values).into(), origins }
    }
}

impl From<Instance> for ProviderSettings {
    fn from(instance: Instance) -> Self {
        let Instance { provider, instance, labels, values, origins } = instance;
        Self { provider, instance, labels, values: values.into(), origins }
    }
}

/// Arguments as they are in memory. Their own JSON is for people, and does not tell `"9.10"` from `9.10`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Values(IndexMap<String, Value>);

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value {
    Text(String),
    Plain(String),
    List(Vec<Self>),
    Map(Values),
}

impl From<&Args> for Values {
    fn from(args: &Args) -> Self {
        Self(args.iter().map(|(name, value)| (name.clone(), value.into())).collect())
    }
}

impl From<Values> for Args {
    fn from(values: Values) -> Self {
        values.0.into_iter().map(|(name, value)| (name, value.into())).collect()
    }
}

impl From<&ArgValue> for Value {
    fn from(value: &ArgValue) -> Self {
        match value {
            ArgValue::Text(text) => Self::Text(text.clone()),
            ArgValue::Plain(text) => Self::Plain(text.clone()),
            ArgValue::List(items) => Self::List(items.iter().map(Self::from).collect()),
            ArgValue::Map(map) => Self::Map(map.into()),
        }
    }
}

impl From<Value> for ArgValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text),
            Value::Plain(text) => Self::Plain(text),
            Value::List(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Map(map) => Self::Map(map.into()),
        }
    }
}

/// A message as its line.
pub(super) fn line(message: &impl Serialize) -> Vec<u8> {
    // Nothing in a message can fail to be JSON; if it did, the other end would say so.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_arrive_as_they_were() {
        let values = Args::from([
            ("version".to_owned(), ArgValue::Plain("9.10".to_owned())),
            ("quoted".to_owned(), ArgValue::Text("9.10".to_owned())),
            ("nothing".to_owned(), ArgValue::Plain("~".to_owned())),
            ("list".to_owned(), ArgValue::List(vec![ArgValue::Plain("0123".to_owned()), ArgValue::from("x\ny")])),
            ("map".to_owned(), ArgValue::Map(Args::from([("password".to_owned(), "p".into())]))),
        ]);
        let sent = ProviderSettings {
            provider: "Container".to_owned(),
            instance: Some("podman".to_owned()),
            labels: [("team".to_owned(), "qe".to_owned())].into(),
            values,
            origins: [("version".to_owned(), "`settings.yaml:3`".to_owned())].into(),
        };
        let line = line(&ToGuardian::Instance { run: RunId::generate(), settings: (&sent).into() });
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let Ok(ToGuardian::Instance { settings, .. }) = serde_json::from_slice(&line) else {
            panic!("another message")
        };
        let arrived = ProviderSettings::from(settings);
        assert_eq!((arrived.provider, arrived.instance), (sent.provider, sent.instance));
        assert_eq!((arrived.values, arrived.labels, arrived.origins), (sent.values, sent.labels, sent.origins));
    }
}
