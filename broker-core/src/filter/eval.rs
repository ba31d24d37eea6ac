//! Whether a condition holds for a record, in three values.
//!
//! A field can stand for several values: a path goes through lists on its way (`disks.name`), and a list at its end is
//! compared member by member. A comparison or a test holds if it holds for any of them, and its negation if for none.
//! A value that is missing makes it unknown, as one member among others too unless another member makes it true.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::tree::{
    Comparison, Expr, Literal, Needle, Number, Numeric, Operand, Path, Segment, Text, TextTest, is_version,
    signed_duration, time,
};

/// Kleene's logic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    fn negated(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
        }
    }

    /// True if one is, else unknown if one is, else false, also if there is none.
    fn any(values: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::False;
        for value in values {
            match value {
                Self::True => return Self::True,
                Self::Unknown => all = Self::Unknown,
                Self::False => {}
            }
        }
        all
    }

    /// False if one is, else unknown if one is, else true.
    fn all(values: impl IntoIterator<Item = Self>) -> Self {
        Self::any(values.into_iter().map(Self::negated)).negated()
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// One value on a side of a comparison.
#[derive(Clone, Copy)]
enum Scalar<'v> {
    Number(Numeric),
    /// Text in a record, which can stand for a number, a truth value or a duration.
    Text(&'v str),
    /// Text that the filter quotes, which stands for itself.
    Quoted(&'v Text),
    Bool(bool),
    Duration(SignedDuration),
    /// A list in a list, or a map: equal to nothing.
    Nested,
}

/// What a condition is looked at with, besides a record.
#[derive(Clone, Copy)]
pub(super) struct Context<'c> {
    pub(super) now: Timestamp,
    /// Paths below the top level that lead to nothing in any record.
    pub(super) missing: &'c [&'c Path],
}

/// Whether `condition` holds for `record`.
pub(super) fn truth(condition: &Expr, record: &Map<String, Value>, context: Context<'_>) -> Truth {
    match condition {
        Expr::All(members) => Truth::all(members.iter().map(|member| truth(member, record, context))),
        Expr::Any(members) => Truth::any(members.iter().map(|member| truth(member, record, context))),
        Expr::Not(inner) => truth(inner, record, context).negated(),
        Expr::Compare { left, comparison: Comparison::Ne, right } => {
            compare(left, Comparison::Eq, right, record, context.now).negated()
        }
        Expr::Compare { left, comparison, right } => compare(left, *comparison, right, record, context.now),
        Expr::OneOf { operand, list } => each_scalar(operand, record, context.now, &mut |found| match found {
            Some(found) => list.iter().any(|literal| equal(found, literal_scalar(literal))).into(),
            None => Truth::Unknown,
        }),
        Expr::Contains { path, needle } => each_value(path, record, &mut |found| contains(found, needle)),
        Expr::Text { path, test } => each_value(path, record, &mut |found| {
            each_member(found, &mut |member| match member {
                Some(Scalar::Text(text)) => match test {
                    TextTest::StartsWith(start) => text.starts_with(&**start).into(),
                    TextTest::EndsWith(end) => text.ends_with(&**end).into(),
                    TextTest::Matches(pattern) => pattern.0.is_match(text).into(),
                },
                Some(_) => Truth::False,
                None => Truth::Unknown,
            })
        }),
        // A name that nobody uses is likely misspelt, and `!has(…)` of it would select everything.
        Expr::Has(path) if context.missing.contains(&path) => Truth::Unknown,
        Expr::Has(path) => has(path, record).into(),
    }
}

/// Whether a record has a value at a path.
pub(super) fn has(path: &Path, record: &Map<String, Value>) -> bool {
    each_value(path, record, &mut |found| found.is_some().into()) == Truth::True
}

/// Whether a record has a time at a path.
pub(super) fn has_time(path: &Path, record: &Map<String, Value>) -> bool {
    let is_time = |value: &Value| value.as_str().and_then(time).is_some();
    each_value(path, record, &mut |found| found.is_some_and(is_time).into()) == Truth::True
}

/// The names of the maps that a path of `depth` segments below the top leads to in a record.
pub(super) fn names_below<'r>(
    path: &Path,
    depth: usize,
    record: &'r Map<String, Value>,
    visit: &mut impl FnMut(&'r str),
) {
    walk(record.get(&path.head), &path.below[..depth], &mut |found| {
        let mut names = |value: &'r Value| {
            if let Value::Object(map) = value {
                map.keys().for_each(|name| visit(name));
            }
        };
        match found {
            Some(Value::Array(members)) => members.iter().for_each(names),
            Some(value) => names(value),
            None => {}
        }
        Truth::False
    });
}

fn compare(
    left: &Operand,
    comparison: Comparison,
    right: &Operand,
    record: &Map<String, Value>,
    now: Timestamp,
) -> Truth {
    each_scalar(left, record, now, &mut |left| {
        let Some(left) = left else { return Truth::Unknown };
        each_scalar(right, record, now, &mut |right| {
            let Some(right) = right else { return Truth::Unknown };
            if comparison.is_order() {
                order(left, right).map_or(Truth::Unknown, |order| comparison.holds(order).into())
            } else {
                equal(left, right).into()
            }
        })
    })
}

/// Whether any of an operand's values passes `test`, which sees `None` for a missing one.
fn each_scalar<'v>(
    operand: &'v Operand,
    record: &'v Map<String, Value>,
    now: Timestamp,
    test: &mut dyn FnMut(Option<Scalar<'v>>) -> Truth,
) -> Truth {
    match operand {
        Operand::Literal(literal) => test(Some(literal_scalar(literal))),
        Operand::Path(path) => each_value(path, record, &mut |found| each_member(found, test)),
        Operand::Size(path) => each_value(path, record, &mut |found| {
            test(found.and_then(|value| {
                let size = match value {
                    Value::String(text) => text.chars().count(),
                    Value::Array(members) => members.len(),
                    Value::Object(map) => map.len(),
                    Value::Null | Value::Bool(_) | Value::Number(_) => return None,
                };
                Some(Scalar::Number(Numeric::Whole(size as i128)))
            }))
        }),
        Operand::Age(path) => each_value(path, record, &mut |found| {
            each_member(found, &mut |member| {
                test(match member {
                    Some(Scalar::Text(text)) => time(text).map(|time| Scalar::Duration(now.duration_since(time))),
                    _ => None,
                })
            })
        }),
    }
}

fn each_value<'v>(
    path: &Path,
    record: &'v Map<String, Value>,
    test: &mut dyn FnMut(Option<&'v Value>) -> Truth,
) -> Truth {
    walk(record.get(&path.head), &path.below, test)
}

/// Follows `segments` from `value`, through every member of a list where a name is asked of it. It recurses at lists
/// only, and no deeper than the record is nested.
fn walk<'v>(value: Option<&'v Value>, segments: &[Segment], test: &mut dyn FnMut(Option<&'v Value>) -> Truth) -> Truth {
    let mut value = value.filter(|value| !value.is_null());
    for (at, segment) in segments.iter().enumerate() {
        let below = match (value, segment) {
            (None, _) => break,
            (Some(Value::Object(map)), Segment::Key(key)) => map.get(key),
            (Some(Value::Object(map)), Segment::Index(index)) => map.get(&index.to_string()),
            (Some(Value::Array(members)), Segment::Index(index)) => {
                position(members.len(), *index).and_then(|index| members.get(index))
            }
            (Some(Value::Array(members)), Segment::Key(_)) if !members.is_empty() => {
                return Truth::any(members.iter().map(|member| match member {
                    Value::Array(_) => test(None),
                    member => walk(Some(member), &segments[at..], test),
                }));
            }
            (Some(_), _) => None,
        };
        value = below.filter(|value| !value.is_null());
    }
    test(value)
}

/// The index that a position means in a list of `len`, if the list has it.
pub(super) fn position(len: usize, position: i64) -> Option<usize> {
    let index = if position < 0 { (len as i64).checked_add(position)? } else { position };
    usize::try_from(index).ok().filter(|index| *index < len)
}

/// Whether a value, or any member of a list, passes `test`.
fn each_member<'v>(value: Option<&'v Value>, test: &mut dyn FnMut(Option<Scalar<'v>>) -> Truth) -> Truth {
    match value {
        Some(Value::Array(members)) => Truth::any(members.iter().map(|member| test(scalar(member)))),
        value => test(value.and_then(scalar)),
    }
}

fn scalar(value: &Value) -> Option<Scalar<'_>> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => Scalar::Bool(*value),
        Value::Number(number) => Scalar::Number(match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Numeric::Whole(number.into()),
            (None, Some(number)) => Numeric::Whole(number.into()),
            (None, None) => Numeric::Fraction(number.as_f64()?),
        }),
        Value::String(text) => Scalar::Text(text),
        Value::Array(_) | Value::Object(_) => Scalar::Nested,
    })
}

fn literal_scalar(literal: &Literal) -> Scalar<'_> {
    match literal {
        Literal::Text(text) => Scalar::Quoted(text),
        Literal::Number(number) => Scalar::Number(number.value),
        Literal::Duration(duration) => Scalar::Duration(*duration),
        Literal::Bool(value) => Scalar::Bool(*value),
    }
}

fn contains(value: Option<&Value>, needle: &Needle) -> Truth {
    let (spelling, wanted) = match needle {
        Needle::Text(text) => (&text.text, Scalar::Quoted(text)),
        Needle::Number(Number { spelling, value }) => (spelling, Scalar::Number(*value)),
    };
    match value {
        None => Truth::Unknown,
        Some(Value::String(text)) => text.contains(&**spelling).into(),
        Some(Value::Object(map)) => map.get(spelling).is_some_and(|value| !value.is_null()).into(),
        Some(Value::Array(members)) => Truth::any(members.iter().map(|member| match scalar(member) {
            Some(member) => equal(member, wanted).into(),
            None => Truth::Unknown,
        })),
        Some(Value::Null | Value::Bool(_) | Value::Number(_)) => Truth::False,
    }
}

fn equal(left: Scalar<'_>, right: Scalar<'_>) -> bool {
    use Scalar::{Bool, Duration, Number, Quoted, Text};
    match (left, right) {
        (Number(left), Number(right)) => left == right,
        (Number(number), Text(text)) | (Text(text), Number(number)) => Numeric::parse(text) == Some(number),
        // A compact `count=5` has no other way to say it.
        (Number(number), Quoted(text)) | (Quoted(text), Number(number)) => match number {
            Numeric::Whole(number) => number.to_string() == text.text,
            Numeric::Fraction(number) => format!("{number:?}") == text.text,
        },
        (Text(left), Text(right)) => left == right,
        (Text(text), Quoted(quoted)) | (Quoted(quoted), Text(text)) => text == quoted.text,
        (Bool(left), Bool(right)) => left == right,
        (Bool(value), Text(text)) | (Text(text), Bool(value)) => is_spelling_of(text, value),
        (Bool(value), Quoted(text)) | (Quoted(text), Bool(value)) => is_spelling_of(&text.text, value),
        (Duration(left), Duration(right)) => left == right,
        (Duration(duration), Text(text)) | (Text(text), Duration(duration)) => signed_duration(text) == Ok(duration),
        _ => false,
    }
}

fn is_spelling_of(text: &str, value: bool) -> bool {
    text.eq_ignore_ascii_case(if value { "true" } else { "false" })
}

/// How two values are ordered. `None` if they are not comparable: neither is the smaller one then, so that nothing is
/// selected by a comparison or by its negation.
fn order(left: Scalar<'_>, right: Scalar<'_>) -> Option<Ordering> {
    use Scalar::{Duration, Number, Quoted, Text};
    match (left, right) {
        (Number(left), Number(right)) => left.partial_cmp(&right),
        (Number(number), Text(text)) => number.partial_cmp(&Numeric::parse(text)?),
        (Text(text), Number(number)) => Numeric::parse(text)?.partial_cmp(&number),
        (Number(number), Quoted(text)) => number.partial_cmp(&Numeric::parse(&text.text)?),
        (Quoted(text), Number(number)) => Numeric::parse(&text.text)?.partial_cmp(&number),
        (Text(left), Text(right)) => text_order(left, time(left), right, time(right)),
        (Text(left), Quoted(right)) => text_order(left, time(left), &right.text, right.time),
        (Quoted(left), Text(right)) => text_order(&left.text, left.time, right, time(right)),
        (Duration(left), Duration(right)) => Some(left.cmp(&right)),
        (Duration(duration), Text(text)) => Some(duration.cmp(&signed_duration(text).ok()?)),
        (Text(text), Duration(duration)) => Some(signed_duration(text).ok()?.cmp(&duration)),
        _ => None,
    }
}

fn text_order(
    left: &str,
    left_time: Option<Timestamp>,
    right: &str,
    right_time: Option<Timestamp>,
) -> Option<Ordering> {
    match (left_time, right_time) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        (None, None) if is_version(left) && is_version(right) => Some(version_order(left, right)),
        _ => None,
    }
}

/// Runs of digits by their value, all else by its characters: `9.4` before `9.10`, `24.04` before `24.04-rc1`.
fn version_order(mut left: &str, mut right: &str) -> Ordering {
    let split = |text: &str| {
        let is_digit = text.starts_with(|c: char| c.is_ascii_digit());
        text.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(text.len())
    };
    while !left.is_empty() && !right.is_empty() {
        let (left_run, left_rest) = left.split_at(split(left));
        let (right_run, right_rest) = right.split_at(split(right));
        let both_numbers = [left_run, right_run].iter().all(|run| run.starts_with(|c: char| c.is_ascii_digit()));
        let order = if both_numbers {
            let left_digits = left_run.trim_start_matches('0');
            let right_digits = right_run.trim_start_matches('0');
            left_digits.len().cmp(&right_digits.len()).then_with(|| left_digits.cmp(right_digits))
        } else {
            left_run.cmp(right_run)
        };
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    left.len().cmp(&right.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kleene() {
        use Truth::{False, True, Unknown};
        assert_eq!([True, False, Unknown].map(Truth::negated), [False, True, Unknown]);
        for (values, any, all) in [
            (vec![], False, True),
            (vec![True, Unknown], True, Unknown),
            (vec![False, Unknown], Unknown, False),
            (vec![True, False], True, False),
            (vec![Unknown, Unknown], Unknown, Unknown),
            (vec![Unknown, True, False], True, False),
        ] {
            assert_eq!((Truth::any(values.clone()), Truth::all(values.clone())), (any, all), "{values:?}");
        }
    }

    #[test]
    fn versions() {
        let sorted = ["8.10", "9", "9.0", "9.4", "9.10", "9.10-1", "9.10.1", "10", "24.04"];
        for pair in sorted.windows(2) {
            assert_eq!(version_order(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(version_order(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(version_order("9.04", "9.4"), Ordering::Equal);
        assert_eq!(version_order(&"9".repeat(60), &"9".repeat(61)), Ordering::Less);
    }

    #[test]
    fn positions() {
        assert_eq!(
            [0, 2, 3, -1, -3, -4, i64::MIN, i64::MAX].map(|at| position(3, at)),
            [Some(0), Some(2), None, Some(2), Some(0), None, None, None]
        );
        assert_eq!(position(0, -1), None);
    }
}
