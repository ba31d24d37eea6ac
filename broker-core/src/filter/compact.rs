//! The compact form: terms `path op value`, joined by commas, with no white space between them.

use std::ops::Range;

use super::error::{FilterError, FilterErrorKind};
use super::lexer::Lexer;
use super::parser;
use super::tree::{
    Comparison, Expr, Literal, Needle, Operand, Path, Place, Segment, Text, TextTest, is_name_part, is_name_start,
    is_reserved, looks_numeric, signed_duration,
};

/// Longest first. `!` before an operator inverts it.
const OPERATORS: [&str; 8] = ["!<", "!=", "!{", "!}", "<", "=", "{", "}"];

/// Reads `text` if all of it is compact. `None` if it is not and is to be read as an expression, which also words the
/// error if it is neither.
pub(super) fn parse(text: &str) -> Option<Result<Expr, FilterError>> {
    let start = text.len() - text.trim_start().len();
    let end = text.trim_end().len();
    let mut lexer = Lexer::new(&text[..end], start);
    let mut terms = Vec::new();
    // Only a text that is compact to its end has errors of its own; until that is known the first one waits.
    let mut first_error = None;
    loop {
        let term = match term(&mut lexer)? {
            Ok(term) => Some(term),
            Err((kind, span)) => {
                first_error.get_or_insert((kind, span));
                None
            }
        };
        terms.extend(term);
        match lexer.rest().chars().next() {
            None => break,
            Some(',') => {
                let comma = lexer.at()..lexer.at() + 1;
                lexer = Lexer::new(&text[..end], comma.end);
                if lexer.rest().is_empty() {
                    first_error.get_or_insert((FilterErrorKind::NothingAfter { operator: ",".to_owned() }, comma));
                    break;
                }
            }
            Some(_) => return None,
        }
    }
    Some(match first_error {
        Some((kind, span)) => Err(FilterError::new(kind, text, span)),
        None => Ok(Expr::all(terms)),
    })
}

type Wrong = (FilterErrorKind, Range<usize>);

/// One term, up to a comma or the end. `None` if no term stands here.
fn term(lexer: &mut Lexer<'_>) -> Option<Result<Expr, Wrong>> {
    let start = lexer.at();
    let path = path(lexer)?;
    let operator_at = lexer.at();
    let Some(operator) = OPERATORS.into_iter().find(|operator| lexer.rest().starts_with(operator)) else {
        let ends_here = matches!(lexer.rest().chars().next(), None | Some(','));
        let bare = |path: Path| Err((FilterErrorKind::BarePath { path: path.to_string() }, start..operator_at));
        return ends_here.then(|| path.and_then(bare));
    };
    lexer.run_past(operator);
    let value_at = lexer.at();
    let (value, is_quoted) = match lexer.rest().chars().next() {
        Some('"' | '\'') => match lexer.quoted() {
            Ok(text) => (text, true),
            Err(unclosed) => {
                lexer.run(|_| true);
                return Some(Err((unclosed.kind().clone(), unclosed.span())));
            }
        },
        // `==`, `<=`, `=~` and the like are operators of expressions.
        Some('=' | '~' | '<' | '>' | '{' | '}' | '!') => return None,
        _ => (lexer.run(|c| !c.is_whitespace() && !",()&|\"'".contains(c)).to_owned(), false),
    };
    if !matches!(lexer.rest().chars().next(), None | Some(',')) {
        return None;
    }
    let path = match path {
        Ok(path) => path,
        Err(wrong) => return Some(Err(wrong)),
    };
    if value.is_empty() && !is_quoted {
        let kind = FilterErrorKind::NothingAfter { operator: operator.to_owned() };
        return Some(Err((kind, operator_at..value_at)));
    }
    let span = start..lexer.at();
    let (inverted, plain) = operator.strip_prefix('!').map_or((false, operator), |plain| (true, plain));
    if plain == "<"
        && let Some(order) = orderable(&value, is_quoted)
    {
        let contains = Expr::Contains { path: path.clone(), needle: Needle::Text(Text::new(value)) };
        let kind = FilterErrorKind::TwoReadings {
            term: lexer.slice(span.clone()).to_owned(),
            contains: if inverted { contains.negated() } else { contains }.to_string(),
            order: format!("{path} {} {order}", if inverted { ">=" } else { "<" }),
        };
        return Some(Err((kind, operator_at..span.end)));
    }
    let term = match plain {
        "=" => Ok(Expr::Compare {
            left: Operand::Path(path),
            comparison: Comparison::Eq,
            right: Operand::Literal(Literal::Text(Text::new(value))),
        }),
        "<" => parser::contains(path, Needle::Text(Text::new(value))),
        "{" => parser::text_test(path, TextTest::StartsWith(value)),
        _ => parser::text_test(path, TextTest::EndsWith(value)),
    };
    Some(match term {
        Ok(term) if inverted => Ok(term.negated()),
        Ok(term) => Ok(term),
        Err(kind) => Err((kind, value_at..span.end)),
    })
}

/// A dotted path. `None` if there is none, an error if it is one that may not be read.
fn path(lexer: &mut Lexer<'_>) -> Option<Result<Path, Wrong>> {
    let start = lexer.at();
    if !lexer.rest().starts_with(is_name_start) {
        return None;
    }
    let mut hidden = None;
    let mut names = Vec::new();
    loop {
        let at = lexer.at();
        let name = lexer.run(is_name_part);
        if name.is_empty() {
            return None;
        }
        if name.starts_with("__") {
            hidden.get_or_insert((FilterErrorKind::HiddenName { name: name.to_owned() }, at..lexer.at()));
        }
        names.push(name.to_owned());
        if !lexer.rest().starts_with('.') {
            break;
        }
        lexer.run_past(".");
    }
    let head = names.remove(0);
    if is_reserved(&head) {
        return None;
    }
    Some(match hidden {
        Some(wrong) => Err(wrong),
        None => {
            Ok(Path { head, below: names.into_iter().map(Segment::Key).collect(), place: Place(start..lexer.at()) })
        }
    })
}

/// How `value` would be written in an expression, if it is something that `<` orders.
fn orderable(value: &str, is_quoted: bool) -> Option<String> {
    let text = Text::new(value.to_owned());
    let is_time = text.time.is_some();
    let is_amount = looks_numeric(value) || signed_duration(value).is_ok();
    (is_time || is_amount).then(|| if is_time || is_quoted { text.to_string() } else { value.to_owned() })
}
