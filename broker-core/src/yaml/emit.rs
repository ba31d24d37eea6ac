//! Writing YAML that every reader takes for the same.

use std::fmt::Write as _;

use serde_json::Value;

/// Keys longer than this cannot be told from their values without a mark; the standard says 1024 characters.
const LONGEST_SIMPLE_KEY: usize = 1000;

/// Writes a value as a YAML document, in block style, with a line break at the end.
///
/// A text stands in quotes wherever a reader of YAML 1.1 or 1.2 could take it for something else; a text of several lines
/// is a `|` block where that keeps it whole. [`parse`](super::parse) reads the same value back.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut out, map, 0),
        Value::Array(items) if !items.is_empty() => write_list(&mut out, items, 0),
        scalar => {
            write_scalar(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("  ", level));
}

/// Writes the entries of a map, each on a line of its own. The first line is already indented where it follows a dash.
fn write_map(out: &mut String, map: &serde_json::Map<String, Value>, level: usize) {
    for (position, (key, value)) in map.iter().enumerate() {
        if position > 0 || out.is_empty() || out.ends_with('\n') {
            indent(out, level);
        }
        let key = inline(key);
        if key.len() > LONGEST_SIMPLE_KEY {
            out.push_str("? ");
            out.push_str(&key);
            out.push('\n');
            indent(out, level);
        } else {
            out.push_str(&key);
        }
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                write_map(out, inner, level + 1);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                write_list(out, items, level + 1);
            }
            scalar => {
                out.push(' ');
                write_scalar(out, scalar, level + 1);
                out.push('\n');
            }
        }
    }
}

fn write_list(out: &mut String, items: &[Value], level: usize) {
    for (position, item) in items.iter().enumerate() {
        if position > 0 || out.is_empty() || out.ends_with('\n') {
            indent(out, level);
        }
        out.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => write_map(out, inner, level + 1),
            Value::Array(inner) if !inner.is_empty() => write_list(out, inner, level + 1),
            scalar => {
                write_scalar(out, scalar, level + 1);
                out.push('\n');
            }
        }
    }
}

/// Writes a scalar or something empty. Does not end the line.
fn write_scalar(out: &mut String, value: &Value, level: usize) {
    match value {
        Value::String(text) if fits_a_block(text) => write_block(out, text, level.max(1)),
        Value::String(text) => out.push_str(&inline(text)),
        other => {
            let _infallible = write!(out, "{other}");
        }
    }
}

/// A text on one line.
fn inline(text: &str) -> String {
    if is_safe_plain(text) {
        text.to_owned()
    } else if text.chars().all(is_printable) {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        let mut quoted = String::from("\"");
        for c in text.chars() {
            match c {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                '\r' => quoted.push_str("\\r"),
                c if is_printable(c) => quoted.push(c),
                c => {
                    let code = u32::from(c);
                    let _infallible =
                        if code > 0xffff { write!(quoted, "\\U{code:08x}") } else { write!(quoted, "\\u{code:04x}") };
                }
            }
        }
        quoted.push('"');
        quoted
    }
}

/// Whether no reader can take the text for anything but itself. Rather too few than too many are.
fn is_safe_plain(text: &str) -> bool {
    const WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/'));
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-' | '+' | '@' | ' ' | ':');
    begins_well
        && text.chars().all(harmless)
        && !text.contains(": ")
        && !text.ends_with([' ', ':'])
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn fits_a_block(text: &str) -> bool {
    text.contains('\n')
        && text.chars().all(|c| c == '\n' || is_printable(c))
        && text.starts_with(|c: char| !matches!(c, ' ' | '\n'))
        && !text.lines().any(|line| !line.is_empty() && line.trim().is_empty())
}

fn write_block(out: &mut String, text: &str, level: usize) {
    out.push_str(match text.strip_suffix('\n') {
        None => "|-",
        Some(rest) if rest.ends_with('\n') => "|+",
        Some(_) => "|",
    });
    let body = text.strip_suffix('\n').unwrap_or(text);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(out, level);
            out.push_str(line);
        }
    }
}
