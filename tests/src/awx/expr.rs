//! As much of Jinja as the playbooks here use: names, literals, comparisons, `and`, `or`, `not`, `is defined`, `default`.

use serde_json::{Map, Value};

use super::vars::{Vars, python_str};

/// How deep variables may refer to each other.
const DEPTH: usize = 20;

/// Fills in a value: every text in it that has `{{ … }}`. A text that is one expression alone becomes what that is.
///
/// # Errors
///
/// Ansible's words on a name that is not defined, or what is wrong with the expression.
pub(super) fn render(value: &Value, scope: &Vars) -> Result<Value, String> {
    render_at(value, scope, 0)
}

/// Whether a condition holds.
///
/// # Errors
///
/// As [`render`].
pub(super) fn holds(condition: &str, scope: &Vars) -> Result<bool, String> {
    Ok(evaluate(condition, scope, 0)?.is_some_and(|value| is_true(&value)))
}

fn render_at(value: &Value, scope: &Vars, depth: usize) -> Result<Value, String> {
    if depth > DEPTH {
        return Err("recursive loop detected in template string".to_owned());
    }
    Ok(match value {
        Value::String(text) => render_text(text, scope, depth)?,
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| render_at(item, scope, depth)).collect::<Result<_, _>>()?)
        }
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| Ok((key.clone(), render_at(value, scope, depth)?)));
            Value::Object(entries.collect::<Result<Map<_, _>, String>>()?)
        }
        other => other.clone(),
    })
}

fn render_text(text: &str, scope: &Vars, depth: usize) -> Result<Value, String> {
    let defined = |source: &str| {
        let missing = || {
            let name = source.split('|').next().unwrap_or_default().trim();
            format!("The task includes an option with an undefined variable. The error was: '{name}' is undefined")
        };
        evaluate(source, scope, depth)?.ok_or_else(missing)
    };
    let mut rest = text;
    let mut filled = String::new();
    while let Some((before, after)) = rest.split_once("{{") {
        let (source, left) = after.split_once("}}").ok_or("template error while templating string")?;
        let value = defined(source)?;
        if before.is_empty() && left.is_empty() && filled.is_empty() {
            return Ok(sorted(value));
        }
        filled.push_str(before);
        filled.push_str(&python_str(&value));
        rest = left;
    }
    filled.push_str(rest);
    Ok(Value::String(filled))
}

/// Mappings that come out of an expression have their keys in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn evaluate(source: &str, scope: &Vars, depth: usize) -> Result<Option<Value>, String> {
    let tokens = tokens(source)?;
    let mut parser = Parser { tokens: &tokens, at: 0, scope, depth };
    let value = parser.any()?;
    if parser.at < tokens.len() {
        return Err(format!("template error while templating string: unexpected `{}`", tokens[parser.at]));
    }
    Ok(value)
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Words, texts in their quotes, and signs.
fn tokens(source: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first == '\'' || first == '"' {
            rest[1..].find(first).ok_or("template error while templating string: open quote")? + 2
        } else if first.is_alphanumeric() || first == '_' {
            rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
        } else if ["==", "!=", "{}", "[]"].iter().any(|sign| rest.starts_with(sign)) {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [String],
    at: usize,
    scope: &'a Vars,
    depth: usize,
}

/// A value, or none where a name is not defined.
type Maybe = Result<Option<Value>, String>;

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        let is_next = self.tokens.get(self.at).is_some_and(|next| next == token);
        self.at += usize::from(is_next);
        is_next
    }

    fn any(&mut self) -> Maybe {
        let mut value = self.all()?;
        while self.take("or") {
            let other = self.all()?;
            if !value.as_ref().is_some_and(is_true) {
                value = other;
            }
        }
        Ok(value)
    }

    fn all(&mut self) -> Maybe {
        let mut value = self.not()?;
        while self.take("and") {
            let other = self.not()?;
            if value.as_ref().is_some_and(is_true) {
                value = other;
            }
        }
        Ok(value)
    }

    fn not(&mut self) -> Maybe {
        if self.take("not") {
            let value = self.not()?;
            return Ok(Some(Value::Bool(!value.is_some_and(|value| is_true(&value)))));
        }
        let value = self.filtered()?;
        if self.take("==") {
            let other = self.filtered()?;
            return Ok(Some(Value::Bool(value.is_some() && value == other)));
        }
        if self.take("!=") {
            let other = self.filtered()?;
            return Ok(Some(Value::Bool(value != other)));
        }
        if self.take("is") {
            let inverted = self.take("not");
            if !self.take("defined") {
                return Err("template error while templating string: only `is defined` is known".to_owned());
            }
            return Ok(Some(Value::Bool(value.is_some() != inverted)));
        }
        Ok(value)
    }

    fn filtered(&mut self) -> Maybe {
        let mut value = self.atom()?;
        while self.take("|") {
            let name = self.tokens.get(self.at).cloned().unwrap_or_default();
            self.at += 1;
            let argument = if self.take("(") {
                let argument = self.any()?;
                if !self.take(")") {
                    return Err("template error while templating string: expected `)`".to_owned());
                }
                argument
            } else {
                None
            };
            value = match name.as_str() {
                "default" => value.or(argument.or_else(|| Some(Value::String(String::new())))),
                "int" => value.map(|value| Value::from(python_str(&value).trim().parse::<i64>().unwrap_or(0))),
                "string" => value.map(|value| Value::String(python_str(&value))),
                "bool" => {
                    value.map(|value| Value::Bool(matches!(python_str(&value).as_str(), "True" | "true" | "yes" | "1")))
                }
                other => return Err(format!("template error while templating string: no filter named '{other}'")),
            };
        }
        Ok(value)
    }

    fn atom(&mut self) -> Maybe {
        let token = self.tokens.get(self.at).ok_or("template error while templating string: unexpected end")?;
        self.at += 1;
        match token.as_str() {
            "(" => {
                let value = self.any()?;
                return if self.take(")") { Ok(value) } else { Err("expected `)`".to_owned()) };
            }
            "{}" => return Ok(Some(Value::Object(Map::new()))),
            "[]" => return Ok(Some(Value::Array(Vec::new()))),
            "true" | "True" => return Ok(Some(Value::Bool(true))),
            "false" | "False" => return Ok(Some(Value::Bool(false))),
            _ => {}
        }
        if token.starts_with(['\'', '"']) {
            return Ok(Some(Value::String(token[1..token.len() - 1].to_owned())));
        }
        if let Ok(number) = token.parse::<i64>() {
            return Ok(Some(Value::from(number)));
        }
        let mut value = match self.scope.get(token) {
            Some(value) => Some(render_at(value, self.scope, self.depth + 1)?),
            None => None,
        };
        while self.take(".") {
            let key = self.tokens.get(self.at).cloned().unwrap_or_default();
            self.at += 1;
            value = value.and_then(|value| value.get(&key).cloned());
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope() -> Vars {
        let Value::Object(map) = json!({
            "prefix": "rig", "vm": "{{ prefix | default('x') }}-{{ 'vm01' }}", "args": {"a": 1}, "n": 3,
        }) else {
            unreachable!()
        };
        map
    }

    #[test]
    fn texts_are_filled_in_and_single_expressions_keep_their_type() {
        let value =
            json!({"vms": ["{{ vm }}"], "args": "{{ args | default({}) }}", "none": "{{ other | default({}) }}"});
        let rendered = render(&value, &scope()).unwrap();
        assert_eq!(rendered, json!({"vms": ["rig-vm01"], "args": {"a": 1}, "none": {}}));
        assert_eq!(render(&json!("{{ args.a }}/{{ n }}"), &scope()).unwrap(), json!("1/3"));
    }

    #[test]
    fn a_name_that_is_not_defined_is_an_error_with_ansibles_words() {
        let error = render(&json!("{{ target }}"), &scope()).unwrap_err();
        assert!(error.ends_with("'target' is undefined"), "{error}");
    }

    #[test]
    fn conditions_hold_or_do_not() {
        assert!(holds("source is not defined or source == 'missing'", &scope()).unwrap());
        assert!(!holds("prefix is not defined or prefix == 'missing'", &scope()).unwrap());
        assert!(holds("n == 3 and not (prefix != 'rig')", &scope()).unwrap());
    }
}
