//! Errors that point at a place in a text, without giving away secrets that stand there.

use std::fmt;

use super::Place;
use crate::secrets::{HIDDEN, is_secret_name};

/// How much of a long line is shown.
const WIDTH: usize = 100;

/// What is wrong with a text that should be YAML or JSON.
///
/// It prints as one line, `line 3, column 5: …`, and below that the line of the text with a caret, where there is one.
/// What may be a secret is hidden in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    message: String,
    place: Place,
    /// The line as it is shown, and how many characters are left of the caret.
    shown: Option<(String, usize)>,
}

impl YamlError {
    pub(super) fn new(text: &str, place: Place, message: &str) -> Self {
        // The end of the text is behind its last line break, where there is nothing to see.
        let lines: Vec<&str> = text.lines().collect();
        let place = if place.line > lines.len() && !lines.is_empty() {
            Place { line: lines.len(), column: lines.last().map_or(0, |line| line.chars().count()) + 1 }
        } else {
            Place { line: place.line.max(1), column: place.column.max(1) }
        };
        Self { message: message.to_owned(), place, shown: show(&lines, place) }
    }

    /// What is wrong, in a few words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        self.place
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.place;
        write!(f, "line {line}, column {column}: {}", self.message)?;
        if let Some((shown, before)) = &self.shown {
            let number = line.to_string();
            write!(f, "\n{number} | {shown}\n{:width$} | {:before$}^", "", "", width = number.len())?;
        }
        Ok(())
    }
}

impl std::error::Error for YamlError {}

/// Where the byte at `offset` stands.
pub(super) fn locate(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
    Place { line, column }
}

fn show(lines: &[&str], place: Place) -> Option<(String, usize)> {
    let line = lines.get(place.line - 1).filter(|line| !line.trim().is_empty())?;
    if below_a_secret(lines, place.line - 1) {
        return Some((HIDDEN.to_owned(), 0));
    }
    let visible = match end_of_secret_name(line) {
        Some(end) => format!("{}: {HIDDEN}", &line[..end]),
        None => (*line).to_owned(),
    };
    let length = visible.chars().count();
    let before = (place.column - 1).min(length);
    let start = before.saturating_sub(WIDTH / 2).min(length.saturating_sub(WIDTH));
    let window = visible.chars().skip(start).take(WIDTH);
    let window = window
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect();
    Some((window, before - start))
}

/// Where the first name of a secret on a line ends.
fn end_of_secret_name(line: &str) -> Option<usize> {
    let mut start = None;
    for (at, c) in line.char_indices().chain([(line.len(), ' ')]) {
        let in_word = c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        match start {
            None if in_word => start = Some(at),
            Some(from) if !in_word => {
                if is_secret_name(&line[from..at]) {
                    return Some(at);
                }
                start = None;
            }
            _ => {}
        }
    }
    None
}

/// Whether a line belongs to the value of a secret that began above it: by its indentation, or because quotes are open.
fn below_a_secret(lines: &[&str], index: usize) -> bool {
    // The items of a list belong to the key above them also where they are not indented.
    let indentation = |line: &str| {
        let rest = line.trim_start();
        line.len() - rest.len() + usize::from(rest.starts_with('-'))
    };
    let mut inner = indentation(lines[index]);
    for (distance, line) in lines[..index].iter().rev().filter(|line| !line.trim().is_empty()).enumerate() {
        let Some(end) = end_of_secret_name(line) else {
            inner = inner.min(indentation(line));
            continue;
        };
        let open = ['"', '\''].iter().any(|quote| line[end..].matches(*quote).count() % 2 == 1);
        if indentation(line) < inner || open || distance == 0 && line[end..].trim_end().ends_with([':', '|', '>', '-'])
        {
            return true;
        }
        inner = inner.min(indentation(line));
    }
    false
}
