//! What a filter means, whichever way it was spelt; and its canonical spelling, which parses back to the same tree.

use std::cmp::Ordering;
use std::fmt::{self, Display, Formatter, Write as _};
use std::ops::Range;

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use regex_lite::Regex;

use crate::duration;

/// Where something stands in the text. It is no part of what a filter means: any two are equal.
#[derive(Debug, Clone)]
pub(super) struct Place(pub(super) Range<usize>);

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// One step of a filter. Each works on what the ones before it left.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// The records for which the condition is true.
    Keep(Expr),
    /// The one record at a position, from the end when negative.
    Position(i64, Place),
    /// Python's slice: bounds are cut to what there is.
    Slice { start: Option<i64>, stop: Option<i64>, step: i64 },
}

/// A condition. Made by the functions below, which keep it normal: no `All` in an `All`, no `Any` in an `Any`, at least
/// two members in each, no `Not` of a `Not`, `Eq` or `Ne`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Compare {
        left: Operand,
        comparison: Comparison,
        right: Operand,
    },
    OneOf {
        operand: Operand,
        list: Vec<Literal>,
    },
    /// Part of a text, member of a list, key of a map.
    Contains {
        path: Path,
        needle: Needle,
    },
    Text {
        path: Path,
        test: TextTest,
    },
    Has(Path),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Path(Path),
    /// Characters of a text, members of a list or map.
    Size(Path),
    /// How long ago a time was; negative when it is to come.
    Age(Path),
    Literal(Literal),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Text(Text),
    Number(Number),
    Duration(SignedDuration),
    Bool(bool),
}

/// What a side of a comparison is, where the filter alone says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Duration,
    Bool,
}

/// Quoted text, with the time it stands for, if any.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) time: Option<Timestamp>,
}

/// A number as written: `9.10` stays `9.10` where it is looked for in text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Number {
    pub(super) spelling: String,
    pub(super) value: Numeric,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Numeric {
    Whole(i128),
    Fraction(f64),
}

/// What [`Expr::Contains`] looks for. Text is never empty.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Needle {
    Text(Text),
    Number(Number),
}

/// Tests that only text passes. None is empty.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TextTest {
    StartsWith(String),
    EndsWith(String),
    Matches(Pattern),
}

/// A compiled regular expression.
#[derive(Debug, Clone)]
pub(super) struct Pattern(pub(super) Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A field, from the top of a record down.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Path {
    pub(super) head: String,
    pub(super) below: Vec<Segment>,
    pub(super) place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    /// A position in a list, from the end when negative; in a map, the key that is spelt like it.
    Index(i64),
}

impl Expr {
    pub(super) fn all(members: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(members.len());
        for member in members {
            match member {
                Self::All(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.swap_remove(0) } else { Self::All(flat) }
    }

    pub(super) fn any(members: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(members.len());
        for member in members {
            match member {
                Self::Any(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.swap_remove(0) } else { Self::Any(flat) }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            Self::Compare { left, comparison: Comparison::Eq, right } => {
                Self::Compare { left, comparison: Comparison::Ne, right }
            }
            Self::Compare { left, comparison: Comparison::Ne, right } => {
                Self::Compare { left, comparison: Comparison::Eq, right }
            }
            other => Self::Not(Box::new(other)),
        }
    }

    /// Visits the conditions that are not made of others, in the order of the text.
    pub(super) fn each_leaf<'e>(&'e self, visit: &mut impl FnMut(&'e Self)) {
        match self {
            Self::All(members) | Self::Any(members) => members.iter().for_each(|member| member.each_leaf(visit)),
            Self::Not(inner) => inner.each_leaf(visit),
            leaf => visit(leaf),
        }
    }

    /// The fields that a condition not made of others reads, in the order of the text.
    pub(super) fn fields(&self) -> impl Iterator<Item = &Path> {
        let (first, second) = match self {
            Self::All(_) | Self::Any(_) | Self::Not(_) => (None, None),
            Self::Compare { left, right, .. } => (left.path(), right.path()),
            Self::OneOf { operand, .. } => (operand.path(), None),
            Self::Contains { path, .. } | Self::Text { path, .. } | Self::Has(path) => (Some(path), None),
        };
        first.into_iter().chain(second)
    }

    /// The values that such a condition compares with.
    pub(super) fn literals(&self) -> impl Iterator<Item = &Literal> {
        let (sides, list) = match self {
            Self::Compare { left, right, .. } => ([left.literal(), right.literal()], &[][..]),
            Self::OneOf { list, .. } => ([None, None], &list[..]),
            _ => ([None, None], &[][..]),
        };
        sides.into_iter().flatten().chain(list)
    }
}

impl Comparison {
    pub(super) const ALL: [Self; 6] = [Self::Eq, Self::Ne, Self::Lt, Self::Le, Self::Gt, Self::Ge];

    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }

    pub(super) fn is_order(self) -> bool {
        !matches!(self, Self::Eq | Self::Ne)
    }

    /// Whether an order of the two sides satisfies this one.
    pub(super) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Lt => order.is_lt(),
            Self::Le => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Ge => order.is_ge(),
        }
    }
}

impl Operand {
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) | Self::Size(path) | Self::Age(path) => Some(path),
            Self::Literal(_) => None,
        }
    }

    fn literal(&self) -> Option<&Literal> {
        match self {
            Self::Literal(literal) => Some(literal),
            Self::Path(_) | Self::Size(_) | Self::Age(_) => None,
        }
    }

    /// What it always is; `None` for a field, which can be anything.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Path(_) => None,
            Self::Size(_) => Some(Kind::Number),
            Self::Age(_) => Some(Kind::Duration),
            Self::Literal(literal) => Some(literal.kind()),
        }
    }
}

impl Literal {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Number(_) => Kind::Number,
            Self::Duration(_) => Kind::Duration,
            Self::Bool(_) => Kind::Bool,
        }
    }
}

impl Text {
    pub(super) fn new(text: String) -> Self {
        let time = time(&text);
        Self { text, time }
    }
}

impl Number {
    /// Reads `[-]digits[.digits]`. `None` for anything else, and for more digits than a number can hold.
    pub(super) fn parse(spelling: &str) -> Option<Self> {
        Numeric::parse(spelling).map(|value| Self { spelling: spelling.to_owned(), value })
    }

    /// The value in its shortest spelling.
    pub(super) fn plain(&self) -> String {
        match self.value {
            Numeric::Whole(number) => number.to_string(),
            Numeric::Fraction(number) => number.to_string(),
        }
    }
}

impl Numeric {
    /// The number that a text spells, if it spells nothing else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if !looks_numeric(text) {
            return None;
        }
        if let Ok(number) = text.parse() {
            return Some(Self::Whole(number));
        }
        text.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Fraction)
    }

    fn float(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Fraction(number) => number,
        }
    }
}

impl PartialEq for Numeric {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(right)),
            _ => self.float().partial_cmp(&other.float()),
        }
    }
}

/// Whether a text has the form of a number.
pub(super) fn looks_numeric(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    match unsigned.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(unsigned),
    }
}

/// The time that a text stands for: RFC 3339, or a date with or without a time of day, in UTC.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    // Without the dashes jiff would also read eight digits, a serial number say, as a date.
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' || !bytes[0].is_ascii_digit() {
        return None;
    }
    text.parse().ok().or_else(|| {
        let civil: civil::DateTime = text.parse().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

/// The duration that a text stands for, with a sign if it has one.
pub(super) fn signed_duration(text: &str) -> Result<SignedDuration, duration::DurationError> {
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let duration = SignedDuration::try_from(duration::parse(unsigned)?)
        .map_err(|_| duration::DurationError::TooLong { text: text.to_owned() })?;
    Ok(if negative { -duration } else { duration })
}

/// Whether text can be ordered as a version: `9.4`, `24.04-rc1`.
pub(super) fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

pub(super) fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

pub(super) fn is_name_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// Words that cannot begin a field as they stand.
pub(super) fn is_reserved(word: &str) -> bool {
    matches!(word, "and" | "or" | "not" | "in" | "is" | "true" | "false" | "null" | "True" | "False" | "None")
}

fn quoted(out: &mut Formatter<'_>, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(out, "\\{c}")?,
            '\n' => out.write_str("\\n")?,
            '\t' => out.write_str("\\t")?,
            '\r' => out.write_str("\\r")?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

impl Display for Stage {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(condition) => condition.fmt(out),
            Self::Position(position, _) => write!(out, "@inv[{position}]"),
            Self::Slice { start, stop, step } => {
                let bound = |bound: &Option<i64>| bound.map(|n| n.to_string()).unwrap_or_default();
                write!(out, "@inv[{}:{}", bound(start), bound(stop))?;
                if *step != 1 {
                    write!(out, ":{step}")?;
                }
                out.write_char(']')
            }
        }
    }
}

impl Display for Expr {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(members) => {
                for (i, member) in members.iter().enumerate() {
                    if i > 0 {
                        out.write_str(" && ")?;
                    }
                    match member {
                        Self::Any(_) => write!(out, "({member})")?,
                        _ => member.fmt(out)?,
                    }
                }
                Ok(())
            }
            Self::Any(members) => {
                for (i, member) in members.iter().enumerate() {
                    if i > 0 {
                        out.write_str(" || ")?;
                    }
                    member.fmt(out)?;
                }
                Ok(())
            }
            // None of these nests deeper than what it was read from, or a filter at the limit would not be read back.
            Self::Not(inner) => match &**inner {
                Self::All(_) | Self::Any(_) => write!(out, "!({inner})"),
                Self::OneOf { operand, list } => write!(out, "{operand} not in {}", Listed(list)),
                Self::Contains { path, needle } => write!(out, "{needle} not in {path}"),
                Self::Compare { .. } => write!(out, "not {inner}"),
                _ => write!(out, "!{inner}"),
            },
            Self::Compare { left, comparison, right } => write!(out, "{left} {} {right}", comparison.symbol()),
            Self::OneOf { operand, list } => write!(out, "{operand} in {}", Listed(list)),
            Self::Contains { path, needle } => write!(out, "{path}.contains({needle})"),
            Self::Text { path, test } => match test {
                TextTest::StartsWith(text) => {
                    write!(out, "{path}.startswith(")?;
                    quoted(out, text)?;
                    out.write_char(')')
                }
                TextTest::EndsWith(text) => {
                    write!(out, "{path}.endswith(")?;
                    quoted(out, text)?;
                    out.write_char(')')
                }
                TextTest::Matches(pattern) => {
                    write!(out, "{path} =~ ")?;
                    quoted(out, pattern.0.as_str())
                }
            },
            Self::Has(path) => write!(out, "has({path})"),
        }
    }
}

struct Listed<'l>(&'l [Literal]);

impl Display for Listed<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_char('[')?;
        for (i, literal) in self.0.iter().enumerate() {
            if i > 0 {
                out.write_str(", ")?;
            }
            literal.fmt(out)?;
        }
        out.write_char(']')
    }
}

impl Display for Operand {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.fmt(out),
            Self::Size(path) => write!(out, "size({path})"),
            Self::Age(path) => write!(out, "age({path})"),
            Self::Literal(literal) => literal.fmt(out),
        }
    }
}

impl Display for Literal {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(out),
            Self::Number(number) => out.write_str(&number.spelling),
            Self::Duration(duration) => {
                if duration.is_negative() {
                    out.write_char('-')?;
                }
                out.write_str(&duration::format(duration.unsigned_abs()))
            }
            Self::Bool(value) => value.fmt(out),
        }
    }
}

impl Display for Needle {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(out),
            Self::Number(number) => out.write_str(&number.spelling),
        }
    }
}

impl Display for Text {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        quoted(out, &self.text)
    }
}

impl Display for Path {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let plain = |name: &str| !name.is_empty() && !name.starts_with("__") && name.chars().all(is_name_part);
        if plain(&self.head) && self.head.starts_with(is_name_start) && !is_reserved(&self.head) {
            out.write_str(&self.head)?;
        } else {
            out.write_str("@inv[")?;
            quoted(out, &self.head)?;
            out.write_char(']')?;
        }
        for segment in &self.below {
            match segment {
                Segment::Key(key) if plain(key) => write!(out, ".{key}")?,
                Segment::Key(key) => {
                    out.write_char('[')?;
                    quoted(out, key)?;
                    out.write_char(']')?;
                }
                Segment::Index(index) => write!(out, "[{index}]")?,
            }
        }
        Ok(())
    }
}
