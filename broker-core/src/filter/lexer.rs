//! Words, values and symbols, read one at a time, so that the first mistake in a text is the one that is reported.

use std::ops::Range;

use jiff::SignedDuration;

use super::error::{FilterError, FilterErrorKind};
use super::tree::{Number, is_name_part, is_name_start, looks_numeric, signed_duration};
use crate::duration::DurationError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Word(String),
    Text(String),
    Number(Number),
    Duration(SignedDuration),
    /// `@inv`, without the `@`.
    List(String),
    Symbol(&'static str),
    End,
}

/// All symbols, each before its own beginnings. Those that the grammar does not have are here to be named in errors.
const SYMBOLS: [&str; 35] = [
    "===", "!==", "&&", "||", "==", "!=", "<=", ">=", "=~", "!~", "!<", "!{", "!}", "<>", "=<", "=>", "(", ")", "[",
    "]", ",", ":", ".", "<", ">", "!", "|", "=", "{", "}", "&", "~", "?", "*", "/",
];

#[derive(Debug, Clone)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str, at: usize) -> Self {
        Self { text, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn error<T>(&self, kind: FilterErrorKind, span: Range<usize>) -> Result<T, FilterError> {
        Err(FilterError::new(kind, self.text, span))
    }

    /// Takes what `part` accepts.
    pub(super) fn run(&mut self, part: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let (taken, _) = rest.split_at(rest.find(|c| !part(c)).unwrap_or(rest.len()));
        self.at += taken.len();
        taken
    }

    /// Goes past `prefix`, which the rest is known to begin with.
    pub(super) fn run_past(&mut self, prefix: &str) {
        self.at += prefix.len();
    }

    pub(super) fn slice(&self, span: Range<usize>) -> &'t str {
        &self.text[span]
    }

    /// The next token and its place. Past the end it is always [`Token::End`].
    pub(super) fn next(&mut self) -> Result<(Token, Range<usize>), FilterError> {
        self.run(char::is_whitespace);
        let start = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, start..start));
        };
        let token = match first {
            '"' | '\'' => Token::Text(self.quoted()?),
            '@' => {
                self.at += 1;
                Token::List(self.run(is_name_part).to_owned())
            }
            c if is_name_start(c) => Token::Word(self.run(is_name_part).to_owned()),
            c if c.is_ascii_digit() => self.number()?,
            '-' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            c => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                Some(symbol) => {
                    self.at += symbol.len();
                    Token::Symbol(symbol)
                }
                None => {
                    return self.error(FilterErrorKind::UnexpectedCharacter(c), start..start + c.len_utf8());
                }
            },
        };
        Ok((token, start..self.at))
    }

    /// Quoted text, from its first quote. `\\`, `\"`, `\'`, `\n`, `\t` and `\r` mean what they mean in Python; before
    /// any other character the backslash stays, which spares regular expressions a second one.
    pub(super) fn quoted(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        let mut chars = self.rest().char_indices();
        let quote = chars.next().map_or('"', |(_, c)| c);
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at = start + at + c.len_utf8();
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('\\' | '"' | '\''))) => text.push(c),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, c)) => text.extend(['\\', c]),
                    None => break,
                },
                c => text.push(c),
            }
        }
        self.error(FilterErrorKind::UnclosedText { quote }, start..self.text.len())
    }

    fn number(&mut self) -> Result<Token, FilterError> {
        let start = self.at;
        self.at += 1;
        self.run(|c| is_name_part(c) || c == '.');
        let word = &self.text[start..self.at];
        let span = start..self.at;
        if let Some(number) = Number::parse(word) {
            return Ok(Token::Number(number));
        }
        if looks_numeric(word) {
            return self.error(FilterErrorKind::TooLarge { word: word.to_owned() }, span);
        }
        match signed_duration(word) {
            Ok(duration) => Ok(Token::Duration(duration)),
            Err(DurationError::TooLong { .. }) => self.error(FilterErrorKind::TooLarge { word: word.to_owned() }, span),
            Err(_) => self.error(FilterErrorKind::NotANumber { word: word.to_owned() }, span),
        }
    }
}
