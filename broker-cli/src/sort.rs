//! The order of `broker inventory --sort FIELD`.

use std::cmp::Ordering;
use std::sync::Arc;

use broker::Broker;
use broker::filter::Filter;
use broker::inventory::{HostRecord, Secrets};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::error::{CommandError, Failure};

/// Puts records in the order of a field; a dash before its name turns it round. Those without the field come last.
pub(crate) fn sort(broker: &Broker, records: &mut [Arc<HostRecord>], by: &str) -> Result<(), Failure> {
    let (field, turned) = match by.strip_prefix('-') {
        Some(field) => (field, true),
        None => (by, false),
    };
    let is_name = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    if !field.split('.').all(is_name) {
        let error = CommandError::usage(format!("`{by}` is no field to sort by"));
        return Err(error.hint("a field is a name such as `lease_until` or `labels.team`").into());
    }
    let views: Vec<Map<String, Value>> = records.iter().map(|record| record.to_json(Secrets::Hidden)).collect();
    // A filter knows which fields there are, and which of them was meant by one that is not.
    let known = Filter::parse(&format!("has({field})"))
        .and_then(|filter| filter.select(&views, broker.fields(), Timestamp::now()));
    // The place in that filter says nothing to somebody who wrote none.
    known.map_err(|error| CommandError { shown: None, ..CommandError::from(broker::Error::from(error)) })?;
    records.sort_by_cached_key(|record| {
        let view = record.to_json(Secrets::Hidden);
        Key { value: value_at(&view, field).map(Comparable::of), turned }
    });
    Ok(())
}

fn value_at(view: &Map<String, Value>, field: &str) -> Option<Value> {
    let mut parts = field.split('.');
    let mut value = view.get(parts.next()?)?;
    for part in parts {
        value = value.get(part)?;
    }
    Some(value.clone()).filter(|value| !value.is_null())
}

#[derive(PartialEq)]
struct Key {
    value: Option<Comparable>,
    turned: bool,
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.value, &other.value) {
            (Some(one), Some(other)) if self.turned => other.cmp(one),
            (Some(one), Some(other)) => one.cmp(other),
            (one, other) => other.is_some().cmp(&one.is_some()),
        }
    }
}

/// A value in an order: numbers, then times, then texts and whatever else, as text.
#[derive(PartialEq)]
enum Comparable {
    Number(f64),
    Time(Timestamp),
    Text(String),
}

impl Comparable {
    fn of(value: Value) -> Self {
        match value {
            Value::String(text) => text.parse().map_or(Self::Text(text), Self::Time),
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::MAX)),
            other => Self::Text(other.to_string()),
        }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let kind = |value: &Self| match value {
            Self::Number(_) => 0,
            Self::Time(_) => 1,
            Self::Text(_) => 2,
        };
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => one.total_cmp(other),
            (Self::Time(one), Self::Time(other)) => one.cmp(other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            _ => kind(self).cmp(&kind(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use broker::HostId;
    use broker::settings::Settings;
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_put_hosts_in_order() {
        let record = |number: u64, lease: Option<&str>, name: &str, size: Value| -> Arc<HostRecord> {
            let mut fields = json!({
                "id": HostId::generate(), "number": number, "rev": 1, "state": "active", "at": "2026-01-01T00:00:00Z",
                "_broker_provider": "TestProvider", "name": name, "size": size, "labels": {"team": name},
            });
            if let Some(lease) = lease {
                fields["lease_until"] = lease.into();
            }
            Arc::new(serde_json::from_value(fields).unwrap())
        };
        let records = [
            record(0, Some("2026-01-01T00:00:00.5Z"), "b", json!(9)),
            record(1, None, "c", json!(10)),
            record(2, Some("2026-01-01T00:00:00Z"), "a", json!(null)),
        ];
        let directory = tempfile::tempdir().unwrap();
        let broker = Broker::bare().settings(Settings::default()).directory(directory.path()).build().unwrap();
        let sorted = |by: &str| {
            let mut records = records.to_vec();
            sort(&broker, &mut records, by).map(|()| records.iter().map(|record| record.number).collect::<Vec<_>>())
        };
        for (by, expected) in [
            ("number", [0, 1, 2]),
            ("-number", [2, 1, 0]),
            ("lease_until", [2, 0, 1]),
            ("-lease_until", [0, 2, 1]),
            ("name", [2, 0, 1]),
            ("labels.team", [2, 0, 1]),
            ("size", [0, 1, 2]),
            ("-size", [1, 0, 2]),
        ] {
            assert_eq!(sorted(by).unwrap(), expected, "{by}");
        }
        for (by, code) in [("lease_untl", 13), ("", 2), ("-", 2), ("a b", 2), ("x) || has(y", 2)] {
            assert_eq!(sorted(by).unwrap_err().code().number(), code, "{by}");
        }
    }
}
