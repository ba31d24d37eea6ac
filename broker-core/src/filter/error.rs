//! What can be wrong with a filter, and where in its text.

use std::ops::Range;

use crate::names::closest;

/// A filter that cannot be read, or that does not fit the records it is applied to. It selects nothing.
///
/// The message says what is wrong and what to write instead; [`render`](Self::render) shows the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct FilterError {
    kind: Box<FilterErrorKind>,
    text: String,
    span: Range<usize>,
}

impl FilterError {
    pub(super) fn new(kind: FilterErrorKind, text: &str, span: Range<usize>) -> Self {
        Self { kind: Box::new(kind), text: text.to_owned(), span }
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> &FilterErrorKind {
        &self.kind
    }

    /// The whole filter.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place in [`text`](Self::text), in bytes, on character boundaries. Empty at the end of the text when
    /// something is missing there.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The line of the filter that holds the place, and below it carets under the place: two lines, no newline at the
    /// end. Control characters are shown as `\u{fffd}`, so that a terminal takes nothing in it for a command.
    ///
    /// ```
    /// # use broker_core::filter::Filter;
    /// let error = Filter::parse("name == ").unwrap_err();
    /// assert_eq!(error.to_string(), "nothing after `==`");
    /// assert_eq!(error.render(), "name == \n     ^^");
    /// ```
    #[must_use]
    pub fn render(&self) -> String {
        let (before, rest) = self.text.split_at(self.span.start);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = rest.find('\n').map_or(self.text.len(), |at| self.span.start + at);
        let line = &self.text[line_start..line_end];
        let indent = self.text[line_start..self.span.start].chars().count();
        let carets = self.text[self.span.start..self.span.end.clamp(self.span.start, line_end)].chars().count().max(1);
        let shown: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        format!("{shown}\n{}{}", " ".repeat(indent), "^".repeat(carets))
    }
}

/// What is wrong with a filter. Texts of the filter in it are as they were written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterErrorKind {
    /// No text, or white space alone.
    #[error("the filter is blank")]
    Blank,

    /// A character that has no meaning outside quotes.
    #[error("unexpected `{}`; text goes in quotes, `\"…\"` or `'…'`", .0.escape_debug())]
    UnexpectedCharacter(char),

    /// A quote that is not closed.
    #[error("the text that begins here has no closing {quote}")]
    UnclosedText {
        /// The quote it needs.
        quote: char,
    },

    /// An operator of the compact form or of another language.
    #[error("`{found}` is no operator of an expression; write `{instead}`")]
    WrongOperator {
        /// The operator as written.
        found: String,
        /// What to write for it.
        instead: String,
    },

    /// A comma between conditions that are not all compact.
    #[error(
        "`,` joins terms only where all of the filter is compact, without white space, as in `name<web,state=active`; here write `&&`"
    )]
    Comma,

    /// A word that begins with a digit and is no number and no duration.
    #[error(
        "`{word}` is neither a number nor a duration such as `100ms`, `2s`, `5m`, `2h` or `1d`; if it is text, quote it"
    )]
    NotANumber {
        /// The word.
        word: String,
    },

    /// A number or duration that cannot be held.
    #[error("`{word}` is too large")]
    TooLarge {
        /// The number or duration.
        word: String,
    },

    /// The grammar wants something else here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What could stand here.
        expected: &'static str,
        /// What stands here.
        found: String,
    },

    /// An operator, `,` or `|` with nothing behind it.
    #[error("nothing after `{operator}`")]
    NothingAfter {
        /// The operator.
        operator: String,
    },

    /// An operator, `,` or `|` with nothing before it.
    #[error("nothing before `{operator}`")]
    NothingBefore {
        /// The operator.
        operator: String,
    },

    /// A field that is compared with nothing.
    #[error("`{path}` alone is no condition; compare it (`{path} == \"…\"`) or ask `has({path})`")]
    BarePath {
        /// The field.
        path: String,
    },

    /// A value, a list or a function that is compared with nothing.
    #[error("`{value}` alone is no condition")]
    BareValue {
        /// The value.
        value: String,
    },

    /// A comparison of two constants, which would select all or nothing.
    #[error("`{condition}` names no field, so it is the same for every record")]
    NoField {
        /// The comparison.
        condition: String,
    },

    /// A compact `<` or `!<` before a number, a duration or a time.
    #[error("`{term}` can be read in two ways; write `{contains}` or `{order}`")]
    TwoReadings {
        /// The term.
        term: String,
        /// As a test of text.
        contains: String,
        /// As a comparison.
        order: String,
    },

    /// `<`, `<=`, `>` or `>=` with something that has no order.
    #[error("`{operator}` orders numbers, durations, times and versions, and `{value}` is none; {}", text_tests(.path.as_deref(), .value))]
    NoOrder {
        /// The operator.
        operator: String,
        /// The value.
        value: String,
        /// The field on the other side, if it is one.
        path: Option<String>,
    },

    /// A function compared with something that it never is.
    #[error("`{function}` is {is}, and `{value}` is not; {instead}")]
    Mismatch {
        /// The function with its field.
        function: String,
        /// What it is.
        is: &'static str,
        /// What it is compared with.
        value: String,
        /// How to write a value that it could be compared with.
        instead: String,
    },

    /// A comparison with `null` or `None`.
    #[error("nothing is equal to a missing field; write `has({path})` or `!has({path})`")]
    Null {
        /// The field.
        path: String,
    },

    /// `a < b < c`.
    #[error("comparisons do not chain; write two and join them with `&&`")]
    Chained,

    /// A call of a function that does not exist.
    #[error("there is no function `{name}`; the functions are `has`, `size` and `age`{}", did_you_mean(.nearest))]
    UnknownFunction {
        /// The name.
        name: String,
        /// The function that was probably meant.
        nearest: Option<String>,
    },

    /// A call of a text test that does not exist.
    #[error("there is no test `.{name}(…)`; the tests are `.contains`, `.startswith` and `.endswith`{}", did_you_mean(.nearest))]
    UnknownTest {
        /// The name.
        name: String,
        /// The test that was probably meant.
        nearest: Option<String>,
    },

    /// A name such as `__class__`.
    #[error("`{name}` is no field; names that begin with `__` are never read")]
    HiddenName {
        /// The name.
        name: String,
    },

    /// An `@` name other than `@inv`.
    #[error("there is no list `@{name}`; write `@inv`, or the field alone")]
    UnknownList {
        /// The name.
        name: String,
    },

    /// `@inv[0]` as a part of a condition.
    #[error("positions are a stage of their own; join them to the rest with `|`, as in `@inv[0:3] | name == \"web\"`")]
    PositionInside,

    /// Something in the brackets of `@inv[…]` that is no whole number.
    #[error("`{found}` is no position; write `@inv[0]`, `@inv[-1]` or `@inv[0:3]`")]
    NotAPosition {
        /// What stands there.
        found: String,
    },

    /// `@inv[::0]`.
    #[error("the step of a slice cannot be 0")]
    ZeroStep,

    /// A test for empty text, which every text passes.
    #[error("every text passes a test for empty text; to find empty fields write `{path} == \"\"`")]
    EmptyText {
        /// The field.
        path: String,
    },

    /// `in []`.
    #[error("the list is empty")]
    EmptyList,

    /// `field in "text"`.
    #[error(
        "`in` needs a list on its right; write `{path} in [{text}]`, or `{text} in {path}` if the field contains the text"
    )]
    NotAList {
        /// The field.
        path: String,
        /// The text, quoted.
        text: String,
    },

    /// `=~` with a pattern that cannot be used.
    #[error("this is no regular expression: {reason}")]
    BadPattern {
        /// What the pattern parser says.
        reason: String,
    },

    /// Parentheses and negations inside one another.
    #[error("the filter is nested more than {limit} levels deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },

    /// A top-level field that neither the schema nor any record has.
    #[error("there is no field `{name}`{}{}", did_you_mean(.nearest), if_text(.reading))]
    UnknownField {
        /// The field.
        name: String,
        /// The field that was probably meant.
        nearest: Option<String>,
        /// Where a value could stand: the condition with the name as text.
        reading: Option<String>,
    },

    /// A single position that the list does not have.
    #[error("`@inv[{position}]` is out of range: {} here", match .left { 0 => "nothing is left".to_owned(), 1 => "there is 1 record".to_owned(), n => format!("there are {n} records") })]
    OutOfRange {
        /// The position, negative from the end.
        position: i64,
        /// How many records there are at this stage.
        left: usize,
    },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn if_text(reading: &Option<String>) -> String {
    reading.as_ref().map(|condition| format!("; if it is text, write `{condition}`")).unwrap_or_default()
}

fn text_tests(path: Option<&str>, value: &str) -> String {
    match path {
        Some(path) if value.starts_with('"') => format!("write `{path} == {value}` or `{path}.contains({value})`"),
        Some(path) => format!("write `{path} == {value}`"),
        None => "use `==` or `!=`".to_owned(),
    }
}

/// The candidate that `name` was probably meant to be: the nearest one within a few typing errors, else one that ends
/// in it (`provider` for `_broker_provider`).
pub(super) fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let ends_in_it =
        |candidate: &&str| candidate.strip_suffix(name).is_some_and(|head| head.ends_with(['_', '-', '.']));
    let found = closest(name, candidates.iter().copied()).or_else(|| candidates.into_iter().find(ends_in_it));
    found.map(str::to_owned)
}
