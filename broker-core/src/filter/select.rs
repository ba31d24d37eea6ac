//! A filter applied to a list of records.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Filter;
use super::error::{FilterError, FilterErrorKind, nearest};
use super::eval::{Context, Truth, has, has_time, names_below, position, truth};
use super::tree::{Comparison, Expr, Literal, Operand, Path, Segment, Stage};

/// What a filter selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The positions of the selected records in the list that was filtered, each once, in the order of the list (a slice
    /// with a negative step reverses it).
    pub indices: Vec<usize>,
    /// What the person who wrote the filter should know: show them, on standard error, whether or not anything was
    /// selected.
    pub notes: Vec<Note>,
}

/// Something about a filter that is no error and may be a mistake. Displayed as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// No record has a value below the top level at this path.
    NoRecordHas {
        /// The path.
        path: String,
        /// The path that was probably meant.
        nearest: Option<String>,
    },
    /// A field that holds times is compared with a duration, which neither is nor is not.
    TimeAndDuration {
        /// The field.
        path: String,
    },
    /// A number is spelt in a way that matters in text and not in a number: a version, say.
    ComparedAsNumber {
        /// The number as written.
        spelling: String,
        /// What it is compared as.
        number: String,
    },
}

impl Display for Note {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRecordHas { path, nearest: Some(nearest) } => {
                write!(out, "no record has `{path}`, so it selects nothing; did you mean `{nearest}`?")
            }
            Self::NoRecordHas { path, nearest: None } => write!(out, "no record has `{path}`, so it selects nothing"),
            Self::TimeAndDuration { path } => {
                write!(out, "`{path}` is a time; to compare how long ago it was write `age({path})`")
            }
            Self::ComparedAsNumber { spelling, number } => {
                write!(
                    out,
                    "`{spelling}` is compared as the number {number}; quote it to compare it as text or version"
                )
            }
        }
    }
}

impl Filter {
    /// Selects from `records`.
    ///
    /// `known_fields` are the top-level fields that a record could have: those of the schema and of the registered
    /// providers. A field that is not among them and that no record has is an error, unless there are no records at all.
    /// `now` is what `age()` counts from.
    ///
    /// # Errors
    ///
    /// An unknown top-level field, or a single position (`@inv[7]`) that the list does not have. Nothing is selected
    /// then.
    pub fn select<R, F>(
        &self,
        records: &[R],
        known_fields: impl IntoIterator<Item = F>,
        now: Timestamp,
    ) -> Result<Selection, FilterError>
    where
        R: Borrow<Map<String, Value>>,
        F: AsRef<str>,
    {
        if !records.is_empty() {
            self.check_fields(records, known_fields)?;
        }
        let missing = self.missing(records);
        let context = Context { now, missing: &missing };
        let mut indices: Vec<usize> = (0..records.len()).collect();
        for stage in &self.stages {
            match stage {
                Stage::Keep(condition) => {
                    indices.retain(|&index| truth(condition, records[index].borrow(), context) == Truth::True);
                }
                Stage::Position(at, place) => {
                    let Some(index) = position(indices.len(), *at) else {
                        let kind = FilterErrorKind::OutOfRange { position: *at, left: indices.len() };
                        return Err(FilterError::new(kind, &self.text, place.0.clone()));
                    };
                    indices = vec![indices[index]];
                }
                Stage::Slice { start, stop, step } => indices = slice(&indices, *start, *stop, *step),
            }
        }
        Ok(Selection { indices, notes: self.notes(records, &missing) })
    }

    fn each_leaf<'f>(&'f self, mut visit: impl FnMut(&'f Expr)) {
        for stage in &self.stages {
            if let Stage::Keep(condition) = stage {
                condition.each_leaf(&mut visit);
            }
        }
    }

    fn check_fields<R, F>(&self, records: &[R], known_fields: impl IntoIterator<Item = F>) -> Result<(), FilterError>
    where
        R: Borrow<Map<String, Value>>,
        F: AsRef<str>,
    {
        let mut unknown = Vec::new();
        self.each_leaf(|leaf| {
            let is_present = |path: &Path| records.iter().any(|record| record.borrow().contains_key(&path.head));
            unknown.extend(leaf.fields().filter(|path| !is_present(path)).map(|path| (path, leaf)));
        });
        if unknown.is_empty() {
            return Ok(());
        }
        let mut fields: BTreeSet<String> = known_fields.into_iter().map(|field| field.as_ref().to_owned()).collect();
        let Some((path, leaf)) = unknown.into_iter().find(|(path, _)| !fields.contains(&path.head)) else {
            return Ok(());
        };
        for record in records {
            for field in record.borrow().keys() {
                if !fields.contains(field) {
                    fields.insert(field.clone());
                }
            }
        }
        let kind = FilterErrorKind::UnknownField {
            name: path.head.clone(),
            nearest: nearest(&path.head, fields.iter().map(String::as_str)),
            reading: read_as_text(path, leaf),
        };
        Err(FilterError::new(kind, &self.text, path.place.0.clone()))
    }

    /// The paths below the top level that lead to nothing in any of the records, if there are records.
    fn missing<R: Borrow<Map<String, Value>>>(&self, records: &[R]) -> Vec<&Path> {
        let mut missing = Vec::new();
        self.each_leaf(|leaf| {
            let is_missing = |path: &&Path| {
                !path.below.is_empty()
                    && !records.is_empty()
                    && !records.iter().any(|record| has(path, record.borrow()))
            };
            missing.extend(leaf.fields().filter(is_missing));
        });
        missing
    }

    fn notes<R: Borrow<Map<String, Value>>>(&self, records: &[R], missing: &[&Path]) -> Vec<Note> {
        let mut notes = Vec::new();
        if records.is_empty() {
            return notes;
        }
        let mut add = |note| {
            if !notes.contains(&note) {
                notes.push(note);
            }
        };
        self.each_leaf(|leaf| {
            for path in leaf.fields().filter(|path| missing.contains(path)) {
                add(Note::NoRecordHas { path: path.to_string(), nearest: nearest_path(path, records) });
            }
            for literal in leaf.literals() {
                if let Literal::Number(number) = literal
                    && number.plain() != number.spelling
                {
                    add(Note::ComparedAsNumber { spelling: number.spelling.clone(), number: number.plain() });
                }
            }
            if let Expr::Compare { left, right, .. } = leaf
                && let (Operand::Path(path), Operand::Literal(Literal::Duration(_)))
                | (Operand::Literal(Literal::Duration(_)), Operand::Path(path)) = (left, right)
                && records.iter().any(|record| has_time(path, record.borrow()))
            {
                add(Note::TimeAndDuration { path: path.to_string() });
            }
        });
        notes
    }
}

/// The condition with an unknown field taken for text, where text could stand.
fn read_as_text(path: &Path, leaf: &Expr) -> Option<String> {
    let Expr::Compare { left: Operand::Path(left), comparison, right: Operand::Path(right) } = leaf else {
        return None;
    };
    // The left side of a comparison is a field if one of them is.
    if !std::ptr::eq(right, path) {
        return None;
    }
    Some(match comparison {
        Comparison::Lt => format!("{left}.contains(\"{path}\")"),
        Comparison::Eq | Comparison::Ne => format!("{left} {} \"{path}\"", comparison.symbol()),
        Comparison::Le | Comparison::Gt | Comparison::Ge => format!("{left} == \"{path}\""),
    })
}

/// The path that differs from one that no record has in the first name that none has, if a similar name is there.
fn nearest_path<R: Borrow<Map<String, Value>>>(path: &Path, records: &[R]) -> Option<String> {
    let upto =
        |depth: usize| Path { head: path.head.clone(), below: path.below[..depth].to_vec(), place: path.place.clone() };
    let has_upto = |depth: usize| records.iter().any(|record| has(&upto(depth), record.borrow()));
    let depth = (0..path.below.len()).find(|&depth| !has_upto(depth + 1))?;
    let Segment::Key(wrong) = &path.below[depth] else { return None };
    let mut names = BTreeSet::new();
    for record in records {
        names_below(path, depth, record.borrow(), &mut |name| {
            names.insert(name);
        });
    }
    let mut meant = path.clone();
    meant.below[depth] = Segment::Key(nearest(wrong, names)?);
    Some(meant.to_string())
}

/// Python's `list[start:stop:step]`.
fn slice(list: &[usize], start: Option<i64>, stop: Option<i64>, step: i64) -> Vec<usize> {
    let len = list.len() as i64;
    // Backwards, the place before the first is a bound too.
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let bound = |bound: Option<i64>, default: i64| match bound {
        None => default,
        Some(at) if at < 0 => (len.saturating_add(at)).clamp(lowest, highest),
        Some(at) => at.clamp(lowest, highest),
    };
    let (first, end) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
    let (mut at, stop) = (bound(start, first), bound(stop, end));
    let mut taken = Vec::new();
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        taken.extend(usize::try_from(at).ok().and_then(|at| list.get(at)));
        at = at.saturating_add(step);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_pythons() {
        let list = [0, 1, 2, 3, 4];
        for (start, stop, step, expected) in [
            (None, None, 1, vec![0, 1, 2, 3, 4]),
            (Some(1), Some(3), 1, vec![1, 2]),
            (Some(-2), None, 1, vec![3, 4]),
            (None, Some(-1), 1, vec![0, 1, 2, 3]),
            (Some(3), Some(99), 1, vec![3, 4]),
            (Some(-99), Some(2), 1, vec![0, 1]),
            (Some(4), Some(2), 1, vec![]),
            (None, None, 2, vec![0, 2, 4]),
            (None, None, -1, vec![4, 3, 2, 1, 0]),
            (Some(3), Some(0), -2, vec![3, 1]),
            (Some(99), None, -3, vec![4, 1]),
            (None, Some(-99), -1, vec![4, 3, 2, 1, 0]),
            (None, None, i64::MIN, vec![4]),
            (Some(i64::MIN), Some(i64::MAX), i64::MAX, vec![0]),
        ] {
            assert_eq!(slice(&list, start, stop, step), expected, "[{start:?}:{stop:?}:{step}]");
            assert_eq!(slice(&[], start, stop, step), Vec::<usize>::new());
        }
    }
}
