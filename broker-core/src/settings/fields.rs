//! The small language of `inventory_fields`: what stands in a column of the inventory.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

/// What is shown where a host has no value.
const UNKNOWN: &str = "Unknown";

/// What stands in a column of the inventory.
///
/// `a | b` is the first that has a value, `a b` both with a space between, `x.y` a value inside of another, and `$action`
/// what the host was made of: the value of its provider's action. A number in a field whose name ends in `_time` shows
/// as a date or as a span of time. What is missing is `Unknown`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldExpression {
    /// Alternatives, each of which is one or more fields side by side.
    alternatives: Vec<Vec<String>>,
}

impl FieldExpression {
    /// Reads an expression. Every text is one.
    pub fn parse(text: &str) -> Self {
        let fields = |part: &str| part.split_whitespace().map(str::to_owned).collect();
        Self { alternatives: text.split('|').map(fields).collect() }
    }

    /// The text for a host, given as one flat object. `action_names` are the actions of its provider.
    pub fn evaluate(&self, host: &Map<String, Value>, action_names: &[&str]) -> String {
        let (last, others) = match self.alternatives.split_last() {
            Some(split) => split,
            None => return UNKNOWN.to_owned(),
        };
        let texts = |fields: &[String]| -> Option<String> {
            let values: Vec<Option<&Value>> = fields.iter().map(|field| look_up(field, host, action_names)).collect();
            let shown = fields.iter().zip(&values).map(|(field, value)| match value {
                Some(value) => show(field, value),
                None => UNKNOWN.to_owned(),
            });
            values.iter().any(Option::is_some).then(|| shown.collect::<Vec<_>>().join(" "))
        };
        let worth_showing = |fields: &&Vec<String>| {
            let found = fields.iter().filter_map(|field| look_up(field, host, action_names));
            found.into_iter().any(|value| !is_blank(value))
        };
        let chosen = others.iter().find(worth_showing).unwrap_or(last);
        texts(chosen).unwrap_or_else(|| UNKNOWN.to_owned())
    }
}

fn look_up<'a>(field: &str, host: &'a Map<String, Value>, action_names: &[&str]) -> Option<&'a Value> {
    let value = if field == "$action" {
        let arguments = host.get("_broker_args")?.as_object()?;
        arguments.iter().find(|(name, _)| action_names.contains(&name.as_str())).map(|(_, value)| value)?
    } else {
        let mut names = field.split('.');
        let first = host.get(names.next()?)?;
        names.try_fold(first, |value, name| match value {
            Value::Object(map) => map.get(name),
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            _ => None,
        })?
    };
    Some(value).filter(|value| !value.is_null() && value.as_str() != Some(UNKNOWN))
}

/// What the Python tool passes over in favour of the next alternative.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn show(field: &str, value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if field.ends_with("_time") { humanize(&text).unwrap_or(text) } else { text }
}

/// A number of seconds since 1970 as a date, if that is in this century; any other as a span of time.
fn humanize(text: &str) -> Option<String> {
    const CENTURY: std::ops::Range<i64> = 978_307_200..4_102_444_800;
    let seconds: f64 = text.trim().parse().ok()?;
    if !seconds.is_finite() || seconds.abs() > 1e15 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "parts of a second are not shown, and the rest fits")]
    let seconds = seconds as i64;
    if CENTURY.contains(&seconds) {
        let time = Timestamp::from_second(seconds).ok()?.to_zoned(TimeZone::UTC);
        return Some(time.strftime("%b %d, %Y %H:%M UTC").to_string());
    }
    let sign = if seconds < 0 { "-" } else { "" };
    let left = Duration::from_secs(seconds.unsigned_abs()).as_secs();
    let (days, hours, minutes, rest) = (left / 86_400, left / 3600 % 24, left / 60 % 60, left % 60);
    let rest = if days == 0 { rest } else { 0 };
    let parts = [(days, 'd'), (hours, 'h'), (minutes, 'm'), (rest, 's')];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    Some(if parts.is_empty() { "0s".to_owned() } else { format!("{sign}{}", parts.join(" ")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expressions() {
        let host = json!({
            "hostname": "h1.example.com",
            "name": "",
            "ip": null,
            "os": "RHEL",
            "version": 9.4,
            "zero": 0,
            "unknown": "Unknown",
            "list": ["a", {"b": "c"}],
            "_broker_args": {"count": 1, "container_host": "debian", "deploy": {"version": "6.17"}},
            "expire_time": 1_704_461_400,
            "created_time": "1704461400.5",
            "left_time": 97_230,
            "short_time": 65,
            "long_time": -86_400,
            "no_time": "soon",
            "null_time": 0,
        });
        let host = host.as_object().unwrap();
        let table = [
            ("hostname", "h1.example.com"),
            ("name", ""),
            ("name | hostname", "h1.example.com"),
            ("ip | missing | hostname", "h1.example.com"),
            ("zero | os", "RHEL"),
            ("zero", "0"),
            ("unknown | os", "RHEL"),
            ("missing | zero", "0"),
            ("missing | name", ""),
            ("os version", "RHEL 9.4"),
            ("os missing", "RHEL Unknown"),
            ("missing gone", "Unknown"),
            ("missing gone | os version", "RHEL 9.4"),
            ("missing", "Unknown"),
            ("ip", "Unknown"),
            ("", "Unknown"),
            ("|", "Unknown"),
            ("_broker_args.deploy.version", "6.17"),
            ("_broker_args.nothing.version", "Unknown"),
            ("hostname.x", "Unknown"),
            ("list.0", "a"),
            ("list.1.b", "c"),
            ("list.7", "Unknown"),
            ("list", r#"["a",{"b":"c"}]"#),
            ("$action", "debian"),
            ("expire_time", "Jan 05, 2024 13:30 UTC"),
            ("created_time", "Jan 05, 2024 13:30 UTC"),
            ("left_time", "1d 3h"),
            ("short_time", "1m 5s"),
            ("long_time", "-1d"),
            ("no_time", "soon"),
            ("null_time", "0s"),
        ];
        for (expression, expected) in table {
            let shown = FieldExpression::parse(expression).evaluate(host, &["workflow", "container_host"]);
            assert_eq!(shown, expected, "{expression}");
        }
        assert_eq!(FieldExpression::parse("$action").evaluate(host, &["workflow"]), "Unknown");
        assert_eq!(FieldExpression::parse("$action").evaluate(&Map::new(), &["workflow"]), "Unknown");
    }
}
