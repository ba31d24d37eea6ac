//! Variables as AWX keeps them: a text that is JSON or YAML, read to an object, and written again as Python writes JSON.

use std::io::{self, Write};

use broker_core::yaml::{self, Content, Node};
use serde::Serialize;
use serde_json::ser::Formatter;
use serde_json::{Map, Value};

/// Variables by name, in their order.
pub(super) type Vars = Map<String, Value>;

/// Reads a text as JSON, and where it is none as YAML. Nothing is no variables.
///
/// # Errors
///
/// AWX's sentence on both, where the text is neither or no mapping. What is in it of the two parsers is theirs.
pub(super) fn parse(text: &str) -> Result<Vars, String> {
    let json = match serde_json::from_str(text) {
        Ok(Value::Object(vars)) => return Ok(vars),
        Ok(Value::String(empty)) if empty.is_empty() => return Ok(Vars::new()),
        Ok(other) => not_a_dictionary(&other),
        Err(error) => json_error(text, &error),
    };
    let yaml = match yaml::parse(text) {
        Ok(node) => match node.map_or(Value::Null, resolve) {
            Value::Object(vars) => return Ok(vars),
            Value::Null => return Ok(Vars::new()),
            other => not_a_dictionary(&other),
        },
        Err(error) => error.to_string(),
    };
    Err(format!("Cannot parse as JSON (error: {json}) or YAML (error: {yaml})."))
}

/// As [`parse`], and nothing where it is neither: for what an administrator typed into a template or a host.
pub(super) fn lenient(text: &str) -> Vars {
    parse(text).unwrap_or_default()
}

fn not_a_dictionary(value: &Value) -> String {
    format!("Input type `{}` is not a dictionary", python_type(value))
}

/// What Python calls the type of a value.
pub(super) fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// What Python's `str` makes of a value.
pub(super) fn python_str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => python_repr(other),
    }
}

/// What Python's `repr` makes of a value.
pub(super) fn python_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => {
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let inner = text.replace('\\', "\\\\").replace('\n', "\\n");
            let inner = if quote == '\'' { inner.replace('\'', "\\'") } else { inner };
            format!("{quote}{inner}{quote}")
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(python_repr).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let entries = map
                .iter()
                .map(|(key, value)| format!("{}: {}", python_repr(&Value::String(key.clone())), python_repr(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Python's sentence on a text that is no JSON, with the place as Python counts it.
pub(super) fn json_error(text: &str, error: &serde_json::Error) -> String {
    let said = error.to_string();
    let what = if said.starts_with("trailing characters") {
        "Extra data"
    } else if said.starts_with("key must be a string") || said.starts_with("EOF while parsing an object") {
        "Expecting property name enclosed in double quotes"
    } else if said.starts_with("EOF while parsing a string") {
        "Unterminated string starting at"
    } else if said.starts_with("expected `:`") {
        "Expecting ':' delimiter"
    } else if said.starts_with("expected `,`") || said.starts_with("EOF while parsing a list") {
        "Expecting ',' delimiter"
    } else {
        "Expecting value"
    };
    let before: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(|line| line.chars().count()).sum();
    // Where the text ends too early, both count up to its end, but Python names the place after it.
    let column = if error.is_eof() { error.column() + 1 } else { error.column().max(1) };
    format!("{what}: line {} column {column} (char {})", error.line(), before + column - 1)
}

/// What YAML 1.1, as PyYAML reads it, makes of a node.
pub(super) fn resolve(node: Node) -> Value {
    match node.content {
        Content::Text(text) => Value::String(text),
        Content::Plain(text) => scalar(text),
        Content::List(items) => Value::Array(items.into_iter().map(resolve).collect()),
        Content::Map(map) => Value::Object(map.into_iter().map(|(key, node)| (key, resolve(node))).collect()),
    }
}

fn scalar(text: String) -> Value {
    match text.to_ascii_lowercase().as_str() {
        "" | "~" | "null" => return Value::Null,
        "true" | "yes" | "on" => return Value::Bool(true),
        "false" | "no" | "off" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let is_octal =
        digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    if is_octal {
        return i64::from_str_radix(digits, 8).map_or(Value::String(text), Value::from);
    }
    if digits.starts_with(|first: char| first.is_ascii_digit()) {
        if let Ok(number) = text.parse::<i64>() {
            return Value::from(number);
        }
        if digits.contains('.')
            && let Ok(number) = text.parse::<f64>()
        {
            return Value::from(number);
        }
    }
    Value::String(text)
}

/// Writes a value as Python's `json.dumps` does: blanks after commas and colons, and ASCII alone.
pub(super) fn dumps(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Python);
    value.serialize(&mut serializer).unwrap();
    String::from_utf8(bytes).unwrap()
}

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, to: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            if character.is_ascii() {
                to.write_all(&[u8::try_from(character).unwrap_or(b'?')])?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(to, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_json_or_yaml() {
        assert_eq!(Value::Object(parse(r#"{"a": 9.10}"#).unwrap()), json!({"a": 9.1}));
        assert_eq!(
            Value::Object(parse("---\na: 010\nb: yes\nc: '010'").unwrap()),
            json!({"a": 8, "b": true, "c": "010"})
        );
        assert_eq!(parse("").unwrap(), Vars::new());
        let list = parse("[1,2]").unwrap_err();
        assert_eq!(
            list,
            "Cannot parse as JSON (error: Input type `list` is not a dictionary) or YAML (error: Input type `list` is not a dictionary)."
        );
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        assert_eq!(dumps(&json!({"a": [1, "ü😀"], "b": {}})), r#"{"a": [1, "\u00fc\ud83d\ude00"], "b": {}}"#);
    }

    #[test]
    fn a_text_that_ends_too_early_is_told_as_python_tells_it() {
        let text = "{\"extra_vars\": ";
        let error = serde_json::from_str::<Value>(text).unwrap_err();
        assert_eq!(json_error(text, &error), "Expecting value: line 1 column 16 (char 15)");
    }
}
