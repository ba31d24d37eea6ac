//! The expression form, and the choice between it and the compact form.
//!
//! ```text
//! filter    := stage ('|' stage)*
//! stage     := '@inv' '[' position | slice ']'  |  any
//! any       := all (('||' | 'or') all)*
//! all       := not (('&&' | 'and') not)*
//! not       := ('!' | 'not') not  |  '(' any ')'  |  condition
//! condition := operand ('==' | '!=' | '<' | '<=' | '>' | '>=') operand
//!            | operand ['not'] 'in' '[' literal, … ']'       (also in parentheses, as a Python tuple)
//!            | literal ['not'] 'in' path
//!            | path '=~' text
//!            | path '.contains(' literal ')'  |  path '.startswith(' text ')'  |  path '.endswith(' text ')'
//!            | 'has(' path ')'
//! operand   := literal  |  path  |  'size(' path ')'  |  'age(' path ')'
//! path      := ['@inv.'] name ('.' name | '[' text | integer ']')*  |  '@inv[' text ']' …
//! ```
//!
//! Written by hand: nearly every way to get a filter wrong has a message of its own that says what to write instead,
//! which a parser combinator, whose failure is a failed alternative, would have to be told at every branch.

use std::ops::Range;

use regex_lite::Regex;

use super::compact;
use super::error::{FilterError, FilterErrorKind, nearest};
use super::lexer::{Lexer, Token};
use super::tree::{
    Comparison, Expr, Literal, Needle, Operand, Path, Pattern, Place, Segment, Stage, Text, TextTest, is_name_part,
    is_reserved, is_version,
};

/// How deep parentheses and negations may be nested. Parsing, evaluating and dropping recurse to this depth and no
/// further.
pub(super) const DEPTH_LIMIT: usize = 64;

const FUNCTIONS: [&str; 3] = ["has", "size", "age"];
const TESTS: [&str; 3] = ["contains", "startswith", "endswith"];

/// Operators of the compact form and of other languages.
fn instead_of(operator: &str) -> Option<&'static str> {
    Some(match operator {
        "=" | "===" => "==",
        "!==" | "<>" => "!=",
        "=<" => "<=",
        "=>" => ">=",
        "&" => "&&",
        "!~" => "!(… =~ \"…\")",
        "~" => "=~",
        "{" => ".startswith(\"…\")",
        "}" => ".endswith(\"…\")",
        "!<" => "!….contains(\"…\")",
        "!{" => "!….startswith(\"…\")",
        "!}" => "!….endswith(\"…\")",
        _ => return None,
    })
}

/// Reads a filter in either form.
pub(super) fn parse(text: &str) -> Result<Vec<Stage>, FilterError> {
    if text.trim().is_empty() {
        return Err(FilterError::new(FilterErrorKind::Blank, text, 0..0));
    }
    if let Some(compact) = compact::parse(text) {
        return compact.map(|condition| vec![Stage::Keep(condition)]);
    }
    let mut parser = Parser { text, lexer: Lexer::new(text, 0), token: Token::End, span: 0..0, end: 0, depth: 0 };
    parser.advance()?;
    parser.stages()
}

/// The test for a part of a text, a member of a list or a key of a map.
pub(super) fn contains(path: Path, needle: Needle) -> Result<Expr, FilterErrorKind> {
    match &needle {
        Needle::Text(Text { text, .. }) if text.is_empty() => {
            Err(FilterErrorKind::EmptyText { path: path.to_string() })
        }
        _ => Ok(Expr::Contains { path, needle }),
    }
}

/// A test of text, which must not be one that all text passes.
pub(super) fn text_test(path: Path, test: TextTest) -> Result<Expr, FilterErrorKind> {
    let is_empty = match &test {
        TextTest::StartsWith(text) | TextTest::EndsWith(text) => text.is_empty(),
        TextTest::Matches(pattern) => pattern.0.as_str().is_empty(),
    };
    if is_empty {
        return Err(FilterErrorKind::EmptyText { path: path.to_string() });
    }
    Ok(Expr::Text { path, test })
}

struct Parser<'t> {
    text: &'t str,
    lexer: Lexer<'t>,
    /// The token that is next, and its place.
    token: Token,
    span: Range<usize>,
    /// Where the token before it ended.
    end: usize,
    depth: usize,
}

/// What can stand on a side of a comparison, or is a condition already.
enum Atom {
    Operand(Operand),
    Null,
    Condition(Expr),
}

impl Parser<'_> {
    fn error<T>(&self, kind: FilterErrorKind, span: Range<usize>) -> Result<T, FilterError> {
        Err(FilterError::new(kind, self.text, span))
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, FilterError> {
        let found = self.found();
        self.error(FilterErrorKind::Expected { expected, found }, self.span.clone())
    }

    fn found(&self) -> String {
        match self.token {
            Token::End => "the end".to_owned(),
            _ => format!("`{}`", &self.text[self.span.clone()]),
        }
    }

    fn slice(&self, span: Range<usize>) -> String {
        self.text[span].to_owned()
    }

    fn advance(&mut self) -> Result<(), FilterError> {
        self.end = self.span.end;
        (self.token, self.span) = self.lexer.next()?;
        Ok(())
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(&self.token, Token::Symbol(found) if *found == symbol)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Word(found) if found == word)
    }

    /// Takes one of two spellings.
    fn take(&mut self, symbol: &str, word: &str) -> Result<Option<Range<usize>>, FilterError> {
        if self.is(symbol) || (!word.is_empty() && self.is_word(word)) {
            let span = self.span.clone();
            self.advance()?;
            return Ok(Some(span));
        }
        Ok(None)
    }

    fn close(&mut self, bracket: &'static str, expected: &'static str) -> Result<(), FilterError> {
        match self.take(bracket, "")? {
            Some(_) => Ok(()),
            None => self.expected(expected),
        }
    }

    /// Whether nothing that belongs to a condition can follow.
    fn at_a_boundary(&self) -> bool {
        matches!(self.token, Token::End)
            || [",", "|", "||", "&&", ")", "]"].iter().any(|symbol| self.is(symbol))
            || self.is_word("and")
            || self.is_word("or")
    }

    fn stages(&mut self) -> Result<Vec<Stage>, FilterError> {
        let mut stages = Vec::new();
        loop {
            stages.push(self.stage()?);
            match self.take("|", "")? {
                Some(pipe) if self.token == Token::End => {
                    return self.error(FilterErrorKind::NothingAfter { operator: "|".to_owned() }, pipe);
                }
                Some(_) => {}
                None if self.token == Token::End => return Ok(stages),
                None => return self.unexpected(),
            }
        }
    }

    /// The error for something behind a whole condition.
    fn unexpected<T>(&self) -> Result<T, FilterError> {
        match &self.token {
            Token::Symbol(",") => self.error(FilterErrorKind::Comma, self.span.clone()),
            Token::Symbol(symbol) => match instead_of(symbol) {
                Some(instead) => self.wrong_operator(symbol, instead),
                None => self.expected("`&&`, `||`, `|` or the end"),
            },
            _ => self.expected("`&&`, `||`, `|` or the end"),
        }
    }

    fn wrong_operator<T>(&self, found: &str, instead: &str) -> Result<T, FilterError> {
        let kind = FilterErrorKind::WrongOperator { found: found.to_owned(), instead: instead.to_owned() };
        self.error(kind, self.span.clone())
    }

    fn stage(&mut self) -> Result<Stage, FilterError> {
        if matches!(self.token, Token::List(_)) && self.at_positions()? {
            let start = self.span.start;
            self.list()?;
            return self.positions(start);
        }
        Ok(Stage::Keep(self.any()?))
    }

    /// Whether the token after `@inv` opens positions and not the name of a field.
    fn at_positions(&self) -> Result<bool, FilterError> {
        let mut ahead = self.lexer.clone();
        if ahead.next()?.0 != Token::Symbol("[") {
            return Ok(false);
        }
        Ok(!matches!(ahead.next(), Ok((Token::Text(_), _)) | Err(_)))
    }

    /// Checks the name behind `@` and goes past it.
    fn list(&mut self) -> Result<(), FilterError> {
        match &self.token {
            // `@res` is what the Python tool calls a list of anything but hosts.
            Token::List(name) if name == "inv" || name == "res" => self.advance(),
            Token::List(name) => self.error(FilterErrorKind::UnknownList { name: name.clone() }, self.span.clone()),
            _ => self.expected("`@inv`"),
        }
    }

    /// `[0]`, `[-1]`, `[0:3]`, `[::2]`.
    fn positions(&mut self, start: usize) -> Result<Stage, FilterError> {
        self.advance()?;
        let first = self.position()?;
        if first.is_none() && !self.is(":") {
            return self
                .error(FilterErrorKind::NotAPosition { found: self.slice(self.span.clone()) }, self.span.clone());
        }
        let mut bounds = [None, None];
        let mut colons = 0;
        let mut step_span = self.span.clone();
        while colons < 2 && self.take(":", "")?.is_some() {
            step_span = self.span.clone();
            bounds[colons] = self.position()?;
            colons += 1;
        }
        let end = self.span.end;
        if !self.is("]") {
            return match self.token {
                Token::End => self.expected("`]`"),
                _ => self
                    .error(FilterErrorKind::NotAPosition { found: self.slice(self.span.clone()) }, self.span.clone()),
            };
        }
        self.advance()?;
        if self.token != Token::End && !self.is("|") {
            return self.error(FilterErrorKind::PositionInside, start..end);
        }
        let [stop, step] = bounds;
        match (colons, first) {
            (0, Some(position)) => Ok(Stage::Position(position, Place(start..end))),
            _ if step == Some(0) => self.error(FilterErrorKind::ZeroStep, step_span),
            _ => Ok(Stage::Slice { start: first, stop, step: step.unwrap_or(1) }),
        }
    }

    /// A whole number, if one stands here.
    fn position(&mut self) -> Result<Option<i64>, FilterError> {
        let Token::Number(number) = &self.token else { return Ok(None) };
        match number.spelling.parse() {
            Ok(position) => {
                self.advance()?;
                Ok(Some(position))
            }
            Err(_) => self.error(FilterErrorKind::NotAPosition { found: number.spelling.clone() }, self.span.clone()),
        }
    }

    fn any(&mut self) -> Result<Expr, FilterError> {
        let mut members = vec![self.all()?];
        while let Some(operator) = self.take("||", "or")? {
            self.something_after(operator)?;
            members.push(self.all()?);
        }
        Ok(Expr::any(members))
    }

    fn all(&mut self) -> Result<Expr, FilterError> {
        let mut members = vec![self.not()?];
        while let Some(operator) = self.take("&&", "and")? {
            self.something_after(operator)?;
            members.push(self.not()?);
        }
        Ok(Expr::all(members))
    }

    fn something_after(&self, operator: Range<usize>) -> Result<(), FilterError> {
        if self.at_a_boundary() {
            return self.error(FilterErrorKind::NothingAfter { operator: self.slice(operator.clone()) }, operator);
        }
        Ok(())
    }

    fn not(&mut self) -> Result<Expr, FilterError> {
        let start = self.span.clone();
        if let Some(operator) = self.take("!", "not")? {
            self.something_after(operator)?;
            return self.nested(start, |parser| Ok(parser.not()?.negated()));
        }
        if self.take("(", "")?.is_some() {
            return self.nested(start, |parser| {
                if parser.is(")") {
                    return parser.expected("a condition");
                }
                let condition = parser.any()?;
                if parser.is(",") || !parser.at_a_boundary() {
                    return parser.unexpected();
                }
                parser.close(")", "`)`")?;
                Ok(condition)
            });
        }
        self.condition()
    }

    fn nested(
        &mut self,
        at: Range<usize>,
        inner: impl FnOnce(&mut Self) -> Result<Expr, FilterError>,
    ) -> Result<Expr, FilterError> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return self.error(FilterErrorKind::TooDeep { limit: DEPTH_LIMIT }, at);
        }
        let expr = inner(self);
        self.depth -= 1;
        expr
    }

    fn condition(&mut self) -> Result<Expr, FilterError> {
        let start = self.span.start;
        if self.at_a_boundary() && self.token != Token::End {
            return self
                .error(FilterErrorKind::NothingBefore { operator: self.slice(self.span.clone()) }, self.span.clone());
        }
        let left = match self.atom()? {
            Atom::Condition(condition) => return Ok(condition),
            Atom::Operand(operand) => operand,
            Atom::Null => {
                return self.error(FilterErrorKind::BareValue { value: self.slice(start..self.end) }, start..self.end);
            }
        };
        let left_span = start..self.end;
        if let Some(comparison) = self.comparison() {
            let (right, right_span) = match self.value_after()? {
                (Atom::Operand(right), span) => (right, span),
                (Atom::Null, span) => {
                    let path = self.slice(left_span);
                    return self.error(FilterErrorKind::Null { path }, span);
                }
                (Atom::Condition(_), span) => {
                    let found = format!("the condition `{}`", self.slice(span.clone()));
                    return self.error(FilterErrorKind::Expected { expected: "a value or a field", found }, span);
                }
            };
            if let Err(kind) = check_sides(&left, comparison, &right) {
                let span = match kind {
                    FilterErrorKind::NoOrder { .. } if matches!(right, Operand::Literal(_)) => right_span,
                    FilterErrorKind::NoOrder { .. } => left_span,
                    _ => start..self.end,
                };
                return self.error(kind, span);
            }
            if self.comparison().is_some() {
                return self.error(FilterErrorKind::Chained, self.span.clone());
            }
            return Ok(Expr::Compare { left, comparison, right });
        }
        if self.is("=~") {
            return self.pattern(left, left_span);
        }
        if self.is_word("not") {
            self.advance()?;
            if !self.is_word("in") {
                return self.expected("`in` after `not`");
            }
            return Ok(self.member(left, left_span)?.negated());
        }
        if self.is_word("in") {
            return self.member(left, left_span);
        }
        if self.is_word("is") {
            let operator = self.span.clone();
            self.advance()?;
            self.take("", "not")?;
            if self.is_word("None") || self.is_word("null") {
                let path = self.slice(left_span);
                return self.error(FilterErrorKind::Null { path }, operator.start..self.span.end);
            }
            let kind = FilterErrorKind::WrongOperator { found: "is".to_owned(), instead: "==".to_owned() };
            return self.error(kind, operator);
        }
        self.no_operator(&left, left_span)
    }

    /// The comparison whose operator is next.
    fn comparison(&self) -> Option<Comparison> {
        Comparison::ALL.into_iter().find(|comparison| self.is(comparison.symbol()))
    }

    /// The error for a left side with no operator behind it.
    fn no_operator<T>(&self, left: &Operand, left_span: Range<usize>) -> Result<T, FilterError> {
        if let Token::Symbol(symbol) = self.token
            && let Some(instead) = instead_of(symbol)
        {
            return self.wrong_operator(symbol, instead);
        }
        match (&self.token, left) {
            (_, Operand::Path(path)) if self.at_a_boundary() => {
                self.error(FilterErrorKind::BarePath { path: path.to_string() }, left_span)
            }
            _ if self.at_a_boundary() => {
                self.error(FilterErrorKind::BareValue { value: self.slice(left_span.clone()) }, left_span)
            }
            (Token::Word(word), Operand::Path(path)) if let Some(test) = nearest(word, TESTS) => {
                self.wrong_operator(word, &format!("{path}.{test}(\"…\")"))
            }
            _ => self.expected("an operator such as `==`"),
        }
    }

    /// What stands behind the operator that is next.
    fn value_after(&mut self) -> Result<(Atom, Range<usize>), FilterError> {
        let operator = self.span.clone();
        self.advance()?;
        self.something_after(operator)?;
        let start = self.span.start;
        let atom = self.atom()?;
        Ok((atom, start..self.end))
    }

    fn pattern(&mut self, left: Operand, left_span: Range<usize>) -> Result<Expr, FilterError> {
        let operator = self.span.clone();
        self.advance()?;
        self.something_after(operator)?;
        let Token::Text(text) = &self.token else {
            return self.expected("a regular expression in quotes");
        };
        let span = self.span.clone();
        let regex = match Regex::new(text) {
            Ok(regex) => regex,
            Err(error) => return self.error(FilterErrorKind::BadPattern { reason: error.to_string() }, span),
        };
        self.advance()?;
        let Operand::Path(path) = left else {
            let found = format!("`{}`", self.slice(left_span.clone()));
            return self.error(FilterErrorKind::Expected { expected: "a field before `=~`", found }, left_span);
        };
        text_test(path, TextTest::Matches(Pattern(regex))).or_else(|kind| self.error(kind, span))
    }

    /// `in` and what follows it.
    fn member(&mut self, left: Operand, left_span: Range<usize>) -> Result<Expr, FilterError> {
        let operator = self.span.clone();
        self.advance()?;
        self.something_after(operator)?;
        let list_start = self.span.start;
        if let Some(closing) = if self.is("[") {
            Some("]")
        } else if self.is("(") {
            Some(")")
        } else {
            None
        } {
            let (list, has_comma) = self.literals(closing, &left_span)?;
            let list_span = list_start..self.end;
            let path = match &left {
                Operand::Literal(_) => {
                    let condition = self.slice(left_span.start..self.end);
                    return self.error(FilterErrorKind::NoField { condition }, left_span.start..self.end);
                }
                other => other.to_string(),
            };
            match &list[..] {
                [] => return self.error(FilterErrorKind::EmptyList, list_span),
                // In Python one value in parentheses is no tuple, and `in` would look for a part of it.
                [(only, _)] if closing == ")" && !has_comma => {
                    return self.error(FilterErrorKind::NotAList { path, text: only.to_string() }, list_span);
                }
                _ => {}
            }
            let mut members = Vec::with_capacity(list.len());
            for (literal, span) in list {
                let literal = Operand::Literal(literal);
                if let Err(kind) = check_sides(&left, Comparison::Eq, &literal) {
                    return self.error(kind, span);
                }
                if let Operand::Literal(literal) = literal {
                    members.push(literal);
                }
            }
            return Ok(Expr::OneOf { operand: left, list: members });
        }
        let atom = self.atom()?;
        let right_span = list_start..self.end;
        match (left, atom) {
            (Operand::Literal(literal), Atom::Operand(Operand::Path(path))) => match needle(literal) {
                Some(needle) => contains(path, needle).or_else(|kind| self.error(kind, left_span)),
                None => {
                    let found = format!("`{}`", self.slice(left_span.clone()));
                    self.error(FilterErrorKind::Expected { expected: "text or a number before `in`", found }, left_span)
                }
            },
            (Operand::Literal(_), Atom::Operand(Operand::Literal(_))) => {
                let span = left_span.start..right_span.end;
                self.error(FilterErrorKind::NoField { condition: self.slice(span.clone()) }, span)
            }
            (left, Atom::Operand(Operand::Literal(Literal::Text(text)))) => {
                self.error(FilterErrorKind::NotAList { path: left.to_string(), text: text.to_string() }, right_span)
            }
            (Operand::Path(_), Atom::Operand(Operand::Path(_))) => {
                let found = format!("the field `{}`", self.slice(left_span.clone()));
                self.error(FilterErrorKind::Expected { expected: "a value in quotes before `in`", found }, left_span)
            }
            _ => {
                let found = format!("`{}`", self.slice(right_span.clone()));
                self.error(FilterErrorKind::Expected { expected: "a list or a field after `in`", found }, right_span)
            }
        }
    }

    /// A list up to its closing bracket, and whether it has a comma. `left` is what is looked for in it.
    #[expect(clippy::type_complexity, reason = "two halves of one answer")]
    fn literals(
        &mut self,
        closing: &'static str,
        left: &Range<usize>,
    ) -> Result<(Vec<(Literal, Range<usize>)>, bool), FilterError> {
        self.advance()?;
        let mut list = Vec::new();
        let mut has_comma = false;
        while !self.is(closing) {
            let start = self.span.start;
            match self.atom()? {
                Atom::Operand(Operand::Literal(literal)) => list.push((literal, start..self.end)),
                Atom::Null => {
                    return self.error(FilterErrorKind::Null { path: self.slice(left.clone()) }, start..self.end);
                }
                _ => {
                    let span = start..self.end;
                    let found = format!("`{}`", self.slice(span.clone()));
                    return self
                        .error(FilterErrorKind::Expected { expected: "a value (text goes in quotes)", found }, span);
                }
            }
            if self.take(",", "")?.is_none() {
                break;
            }
            has_comma = true;
        }
        self.close(closing, if closing == "]" { "`,` or `]`" } else { "`,` or `)`" })?;
        Ok((list, has_comma))
    }

    fn atom(&mut self) -> Result<Atom, FilterError> {
        let span = self.span.clone();
        let literal = match &self.token {
            Token::Text(text) => Literal::Text(Text::new(text.clone())),
            Token::Number(number) => Literal::Number(number.clone()),
            Token::Duration(duration) => Literal::Duration(*duration),
            Token::Word(word) if word == "true" || word == "True" => Literal::Bool(true),
            Token::Word(word) if word == "false" || word == "False" => Literal::Bool(false),
            Token::Word(word) if matches!(&word[..], "null" | "None") => {
                self.advance()?;
                return Ok(Atom::Null);
            }
            Token::Word(word) if is_reserved(word) => return self.expected("a field or a value"),
            Token::Word(_) | Token::List(_) => return self.path_or_call(),
            Token::Symbol(symbol) => {
                return match instead_of(symbol) {
                    Some(_) | None if self.is("[") || self.is("(") => self.expected("a field or a value"),
                    Some(instead) => self.wrong_operator(symbol, instead),
                    None => self.expected("a field or a value"),
                };
            }
            Token::End => return self.expected("a field or a value"),
        };
        self.advance()?;
        if self.is(".") {
            let found = format!("`{}`", self.slice(span.clone()));
            return self.error(FilterErrorKind::Expected { expected: "a field before `.`", found }, span);
        }
        Ok(Atom::Operand(Operand::Literal(literal)))
    }

    fn path_or_call(&mut self) -> Result<Atom, FilterError> {
        let start = self.span.start;
        if let Token::Word(name) = &self.token {
            let name = name.clone();
            let span = self.span.clone();
            self.refuse_hidden(&name, &span)?;
            self.advance()?;
            if self.is("(") {
                return self.call(&name, span);
            }
            return self.path(name, start);
        }
        if self.at_positions()? {
            self.list()?;
            let end = self.span.end;
            return self.error(FilterErrorKind::PositionInside, start..end);
        }
        self.list()?;
        let end = self.end;
        let head = match self.token {
            Token::Symbol(".") => self.name()?,
            Token::Symbol("[") => self.key()?,
            _ if self.at_a_boundary() => {
                let value = self.slice(start..end);
                return self.error(FilterErrorKind::BareValue { value }, start..end);
            }
            _ => return self.expected("a field, as in `@inv.name`"),
        };
        self.path(head, start)
    }

    fn refuse_hidden(&self, name: &str, span: &Range<usize>) -> Result<(), FilterError> {
        if name.starts_with("__") {
            return self.error(FilterErrorKind::HiddenName { name: name.to_owned() }, span.clone());
        }
        Ok(())
    }

    /// The name right behind the dot that is next.
    fn name(&mut self) -> Result<String, FilterError> {
        let start = self.lexer.at();
        let name = self.lexer.run(is_name_part).to_owned();
        if name.is_empty() {
            self.advance()?;
            return self.expected("a name right after `.`");
        }
        self.refuse_hidden(&name, &(start..self.lexer.at()))?;
        self.span = start..self.lexer.at();
        self.advance()?;
        Ok(name)
    }

    /// The quoted name in the brackets that open here.
    fn key(&mut self) -> Result<String, FilterError> {
        self.advance()?;
        let Token::Text(key) = &self.token else {
            return self.expected("a name in quotes");
        };
        let key = key.clone();
        self.advance()?;
        self.close("]", "`]`")?;
        Ok(key)
    }

    /// The rest of a path, and the test behind it if there is one.
    fn path(&mut self, head: String, start: usize) -> Result<Atom, FilterError> {
        let mut below = Vec::new();
        let mut end = self.end;
        loop {
            if self.is(".") {
                let before = self.end;
                let name = self.name()?;
                if self.is("(") {
                    let span = self.end - name.len()..self.end;
                    let path = Path { head, below, place: Place(start..before) };
                    return self.test(path, &name, span);
                }
                below.push(Segment::Key(name));
            } else if self.is("[") {
                self.advance()?;
                below.push(match &self.token {
                    Token::Text(key) => Segment::Key(key.clone()),
                    Token::Number(number) if let Ok(index) = number.spelling.parse() => Segment::Index(index),
                    _ => return self.expected("a name in quotes or a whole number"),
                });
                self.advance()?;
                self.close("]", "`]`")?;
            } else {
                return Ok(Atom::Operand(Operand::Path(Path { head, below, place: Place(start..end) })));
            }
            end = self.end;
        }
    }

    /// `path.name(` with a literal.
    fn test(&mut self, path: Path, name: &str, name_span: Range<usize>) -> Result<Atom, FilterError> {
        if !TESTS.contains(&name) {
            let kind =
                FilterErrorKind::UnknownTest { name: name.to_owned(), nearest: nearest(&name.replace('_', ""), TESTS) };
            return self.error(kind, name_span);
        }
        self.advance()?;
        let argument_span = self.span.clone();
        let test = match (name, &self.token) {
            ("contains", Token::Text(text)) => contains(path, Needle::Text(Text::new(text.clone()))),
            ("contains", Token::Number(number)) => contains(path, Needle::Number(number.clone())),
            ("startswith", Token::Text(text)) => text_test(path, TextTest::StartsWith(text.clone())),
            ("endswith", Token::Text(text)) => text_test(path, TextTest::EndsWith(text.clone())),
            ("contains", _) => return self.expected("text in quotes or a number"),
            _ => return self.expected("text in quotes"),
        };
        let test = test.or_else(|kind| self.error(kind, argument_span))?;
        self.advance()?;
        self.close(")", "`)`")?;
        Ok(Atom::Condition(test))
    }

    /// `name(` with a field.
    fn call(&mut self, name: &str, name_span: Range<usize>) -> Result<Atom, FilterError> {
        if !FUNCTIONS.contains(&name) {
            let nearest = match name {
                "len" | "length" | "count" => Some("size".to_owned()),
                _ => nearest(name, FUNCTIONS),
            };
            return self.error(FilterErrorKind::UnknownFunction { name: name.to_owned(), nearest }, name_span);
        }
        self.advance()?;
        let start = self.span.start;
        let is_path =
            matches!(&self.token, Token::Word(word) if !is_reserved(word)) || matches!(self.token, Token::List(_));
        if !is_path {
            return self.expected("a field");
        }
        let Atom::Operand(Operand::Path(path)) = self.path_or_call()? else {
            let span = start..self.end;
            let found = format!("`{}`", self.slice(span.clone()));
            return self.error(FilterErrorKind::Expected { expected: "a field", found }, span);
        };
        self.close(")", "`)`")?;
        Ok(match name {
            "has" => Atom::Condition(Expr::Has(path)),
            "size" => Atom::Operand(Operand::Size(path)),
            _ => Atom::Operand(Operand::Age(path)),
        })
    }
}

fn needle(literal: Literal) -> Option<Needle> {
    match literal {
        Literal::Text(text) => Some(Needle::Text(text)),
        Literal::Number(number) => Some(Needle::Number(number)),
        Literal::Duration(_) | Literal::Bool(_) => None,
    }
}

/// The error for a function, of the two, and something else that it is compared with.
fn mismatch(left: &Operand, right: &Operand) -> FilterErrorKind {
    let (function, value) = if left.path().is_some() { (left, right) } else { (right, left) };
    let (is, instead) = match (function, value) {
        (Operand::Age(_), Operand::Literal(Literal::Number(number))) => {
            let number = &number.spelling;
            ("a duration", format!("add a unit, as in `{number}s`, `{number}m` or `{number}h`"))
        }
        (Operand::Age(_), _) => ("a duration", "write one without quotes, as in `2h`".to_owned()),
        _ => ("a number", "write one without quotes or a unit, as in `2`".to_owned()),
    };
    FilterErrorKind::Mismatch { function: function.to_string(), is, value: value.to_string(), instead }
}

/// Whether a comparison of the two can hold for some records and fail for others.
pub(super) fn check_sides(left: &Operand, comparison: Comparison, right: &Operand) -> Result<(), FilterErrorKind> {
    if left.path().is_none() && right.path().is_none() {
        return Err(FilterErrorKind::NoField { condition: format!("{left} {} {right}", comparison.symbol()) });
    }
    if let (Some(left_kind), Some(right_kind)) = (left.kind(), right.kind())
        && left_kind != right_kind
    {
        return Err(mismatch(left, right));
    }
    for (side, other) in [(left, right), (right, left)] {
        let has_order = match side {
            Operand::Literal(Literal::Text(text)) => text.time.is_some() || is_version(&text.text),
            Operand::Literal(Literal::Bool(_)) => false,
            _ => true,
        };
        if comparison.is_order() && !has_order {
            return Err(FilterErrorKind::NoOrder {
                operator: comparison.symbol().to_owned(),
                value: side.to_string(),
                path: other.path().map(ToString::to_string),
            });
        }
    }
    Ok(())
}
