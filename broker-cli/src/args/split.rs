//! Sorts the words of a command line, before clap sees them: which are options that a command declares, and which are
//! arguments for a provider.
//!
//! clap alone cannot do that: an option it does not know ends its work, or swallows all that follows. Here declared
//! options keep their meaning wherever they stand, and the rest become arguments:
//!
//! - `--key value`, `--key=value` and `key=value` mean the same, for declared options too. Dashes in an undeclared key
//!   become underscores.
//! - A value that begins with a dash needs `=`, unless it is a number or a dash alone.
//! - A switch, declared without a value, takes none but `true` or `false`.
//! - `--arg key=value` is an argument whatever it is called, with the key taken as it is.
//! - After `--` there are no options, so only `key=value` can follow.
//! - What is one edit away from a declared option is an error: it is more likely a slip than an argument.
//!
//! Where a key is given twice, the last one counts.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use broker::ArgValue;
use broker::secrets::{HIDDEN, is_secret_name, masked};

/// The option that passes an argument on whatever its name is.
pub(crate) const ARG: &str = "arg";

/// A command, as far as sorting words needs to know it.
#[derive(Debug, Clone, Default)]
pub struct Grammar {
    name: String,
    options: Vec<Declared>,
    commands: Vec<Self>,
    /// What a word that is none of `commands` leads to, where any word is a command.
    other: Option<Box<Self>>,
    /// Whether what is not declared is an argument, and not an error.
    takes_arguments: bool,
    /// Whether nothing is known of it, so that no word can be wrong.
    is_unknown: bool,
}

/// An option that is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name without dashes in front, with dashes inside.
    pub long: Option<String>,
    /// Its one-letter name.
    pub short: Option<char>,
    /// Whether it takes a value.
    pub takes_value: bool,
    /// Who reads it.
    pub owner: Owner,
}

/// Who reads an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The command line itself.
    Broker,
    /// A provider, as an argument of this name.
    Provider(String),
}

impl Grammar {
    /// The grammar of a clap command and all below it. A command that has an option `--arg` takes undeclared arguments.
    pub(crate) fn of(command: &clap::Command) -> Self {
        let options: Vec<Declared> = command
            .get_arguments()
            .filter(|arg| !arg.is_positional())
            .map(|arg| Declared {
                long: arg.get_long().map(str::to_owned),
                short: arg.get_short(),
                takes_value: arg.get_action().takes_values(),
                owner: Owner::Broker,
            })
            .collect();
        Self {
            name: command.get_name().to_owned(),
            takes_arguments: options.iter().any(|option| option.long.as_deref() == Some(ARG)),
            commands: command.get_subcommands().map(Self::of).collect(),
            other: None,
            is_unknown: false,
            options,
        }
    }

    /// The command of this name directly below.
    pub(crate) fn command_mut(&mut self, name: &str) -> Option<&mut Self> {
        self.commands.iter_mut().find(|command| command.name == name)
    }

    /// Declares a provider's argument. What Broker declares under the same name goes first; of several providers that
    /// declare it, one that wants a value decides.
    pub fn declare(&mut self, argument: &str, takes_value: bool) {
        let long = argument.replace('_', "-");
        match self.options.iter_mut().find(|option| option.long.as_ref() == Some(&long)) {
            Some(known) => known.takes_value |= takes_value && known.owner != Owner::Broker,
            None => self.options.push(Declared {
                long: Some(long),
                short: None,
                takes_value,
                owner: Owner::Provider(argument.to_owned()),
            }),
        }
    }

    /// Makes any word that follows this command a command of its own, which has this one's options and takes arguments.
    pub(crate) fn open(&mut self, names: impl IntoIterator<Item = String>) {
        let below = |name| Self { name, options: self.options.clone(), takes_arguments: true, ..Self::default() };
        self.commands = names.into_iter().map(&below).collect();
        self.other = Some(Box::new(Self { is_unknown: true, ..below(String::new()) }));
        self.takes_arguments = false;
    }

    fn find_command(&self, word: &str) -> Option<&Self> {
        let known = self.commands.iter().find(|command| command.name == word);
        known.or(self.other.as_deref())
    }

    fn long(&self, name: &str) -> Option<&Declared> {
        self.options.iter().find(|option| option.long.as_deref() == Some(name))
    }

    fn short(&self, letter: char) -> Option<&Declared> {
        self.options.iter().find(|option| option.short == Some(letter))
    }

    /// A declared option that differs from this name in one letter, one too many, one too few, or two swapped.
    fn near(&self, name: &str) -> Option<&str> {
        let longs = self.options.iter().filter_map(|option| option.long.as_deref());
        longs.into_iter().find(|long| strsim::osa_distance(long, name) == 1)
    }
}

/// A command line, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sorted {
    /// The word that names the command, or should.
    pub command: Option<String>,
    /// The words for clap.
    pub words: Vec<OsString>,
    /// The arguments for providers, in their order.
    pub arguments: Vec<Argument>,
}

/// An argument for a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub key: String,
    /// What it is set to.
    pub value: Given,
}

/// What an argument is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// A text.
    Text(String),
    /// A switch is on.
    On,
}

/// A command line that cannot be sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitError {
    /// An option that is probably another one.
    NearMiss {
        /// As it was written, without dashes in front.
        given: String,
        /// The option that is declared, without dashes in front.
        meant: String,
    },
    /// An option that needs a value, and is followed by none.
    NoValue {
        /// The option, without dashes in front.
        name: String,
        /// The word that follows, which begins with a dash.
        next: Option<String>,
    },
    /// A value for a switch that is neither true nor false.
    SwitchValue {
        /// The switch, without dashes in front.
        name: String,
    },
    /// A word that is no option and no argument, and follows a switch.
    AfterSwitch {
        /// The switch, without dashes in front.
        name: String,
        /// The word.
        word: String,
    },
    /// A word that is no option and no argument.
    Bare {
        /// The word.
        word: String,
    },
    /// `=value`, `--=value`, or `--arg` with something that is not `key=value`.
    NoKey {
        /// The word.
        word: String,
    },
    /// A word that is not UTF-8.
    NotText {
        /// The word, as far as it can be shown, and without secrets.
        word: String,
    },
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NearMiss { given, .. } => write!(f, "there is no option `--{given}`"),
            Self::NoValue { name, .. } => write!(f, "`--{name}` needs a value"),
            Self::SwitchValue { name } => write!(f, "`--{name}` is a switch, and takes no value but `true` or `false`"),
            Self::AfterSwitch { name, word } => {
                write!(f, "`--{name}` is a switch, and takes no value such as `{word}`")
            }
            Self::Bare { word } => write!(f, "`{word}` is neither an option nor `key=value`"),
            Self::NoKey { word } => write!(f, "`{word}` is not `key=value`"),
            Self::NotText { word } => write!(f, "`{word}` is not UTF-8"),
        }
    }
}

impl std::error::Error for SplitError {}

/// Sorts the words of a command line; the name of the program is not among them.
///
/// # Errors
///
/// [`SplitError`] for the first word that does not fit. Words of commands that take no arguments always do: what is
/// wrong with those is for clap to say.
pub fn split(grammar: &Grammar, words: impl IntoIterator<Item = OsString>) -> Result<Sorted, SplitError> {
    let mut sorter = Sorter { at: grammar, rest: words.into_iter().collect(), sorted: Sorted::default(), switch: None };
    while let Some(word) = sorter.rest.pop_front() {
        let text = match word.to_str() {
            Some("--") => {
                sorter.end_of_options()?;
                break;
            }
            Some(text) => text.to_owned(),
            None if sorter.at.takes_arguments => return Err(not_text(&word)),
            None => {
                sorter.sorted.words.push(word);
                continue;
            }
        };
        if text.starts_with('-') {
            sorter.switch = None;
        }
        if let Some(long) = text.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            sorter.option(&text, name, value.map(OsString::from))?;
        } else if is_dashed(&word) {
            sorter.shorts(&text);
        } else if let Some(command) = sorter.at.find_command(&text) {
            sorter.at = command;
            sorter.sorted.command.get_or_insert(text);
            sorter.sorted.words.push(word);
        } else if !sorter.at.commands.is_empty() {
            // No command of ours, so nothing is known of what follows.
            sorter.sorted.command.get_or_insert(text);
            sorter.sorted.words.push(word);
            sorter.sorted.words.extend(sorter.rest);
            break;
        } else if sorter.at.takes_arguments {
            sorter.bare(&text)?;
        } else {
            sorter.sorted.words.push(word);
        }
    }
    Ok(sorter.sorted)
}

struct Sorter<'a> {
    at: &'a Grammar,
    rest: VecDeque<OsString>,
    sorted: Sorted,
    /// The provider's switch that the word before was.
    switch: Option<String>,
}

impl Sorter<'_> {
    /// `--name`, `--name value`, `--name=value`; `word` is all of the first word.
    fn option(&mut self, word: &str, name: &str, value: Option<OsString>) -> Result<(), SplitError> {
        let dashed = name.replace('_', "-");
        let Some(declared) = self.at.long(&dashed) else {
            if !self.at.takes_arguments {
                self.sorted.words.push(word.into());
                return Ok(());
            }
            return self.undeclared(word, name, &dashed, value);
        };
        match (&declared.owner, declared.takes_value) {
            (Owner::Broker, true) => {
                let value = value.or_else(|| self.next_value());
                if dashed == ARG && self.at.takes_arguments {
                    let value = value.ok_or_else(|| self.no_value(name))?;
                    return self.explicit(text(value)?);
                }
                // One word, so that nothing in the value can be taken for an option.
                let equals = value.map(|value| joined(&format!("--{dashed}="), &value));
                self.sorted.words.push(equals.unwrap_or_else(|| format!("--{dashed}").into()));
            }
            (Owner::Broker, false) => {
                let word = format!("--{dashed}");
                self.sorted
                    .words
                    .push(value.map_or_else(|| word.clone().into(), |value| joined(&format!("{word}="), &value)));
            }
            (Owner::Provider(key), true) => {
                let key = key.clone();
                let value = value.or_else(|| self.next_value()).ok_or_else(|| self.no_value(name))?;
                self.push_text(key, value)?;
            }
            (Owner::Provider(key), false) => {
                let key = key.clone();
                match value.or_else(|| self.rest.pop_front_if(|next| is_boolean(next))) {
                    Some(value) if is_boolean(&value) => self.push_text(key, value)?,
                    Some(_) => return Err(SplitError::SwitchValue { name: name.to_owned() }),
                    None => {
                        self.push(key, Given::On);
                        self.switch = Some(dashed);
                    }
                }
            }
        }
        Ok(())
    }

    fn undeclared(&mut self, word: &str, name: &str, dashed: &str, value: Option<OsString>) -> Result<(), SplitError> {
        if name.is_empty() {
            return Err(SplitError::NoKey { word: word.to_owned() });
        }
        if self.at.is_unknown {
            let value = value.or_else(|| self.next_value());
            let value = value.map_or(Ok(Given::On), |value| text(value).map(Given::Text))?;
            self.push(name.replace('-', "_"), value);
            return Ok(());
        }
        if let Some(meant) = self.at.near(dashed) {
            return Err(SplitError::NearMiss { given: name.to_owned(), meant: meant.to_owned() });
        }
        let value = value.or_else(|| self.next_value()).ok_or_else(|| self.no_value(name))?;
        self.push_text(name.replace('-', "_"), value)
    }

    /// `key=value`.
    fn bare(&mut self, word: &str) -> Result<(), SplitError> {
        let switch = self.switch.take();
        match word.split_once('=') {
            None if self.at.is_unknown => Ok(()),
            None => match switch {
                Some(name) => Err(SplitError::AfterSwitch { name, word: word.to_owned() }),
                None => Err(SplitError::Bare { word: word.to_owned() }),
            },
            Some(("", _)) => Err(SplitError::NoKey { word: word.to_owned() }),
            Some((name, value)) => match self.at.long(&name.replace('_', "-")) {
                // Unlike `--switch=value` this is a spelling in which there is always a value.
                Some(Declared { owner: Owner::Provider(key), takes_value: false, .. }) => {
                    let key = key.clone();
                    self.push(key, Given::Text(value.to_owned()));
                    Ok(())
                }
                _ => self.option(word, name, Some(value.into())),
            },
        }
    }

    /// The `key=value` of `--arg key=value`.
    fn explicit(&mut self, word: String) -> Result<(), SplitError> {
        match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                self.push(key.to_owned(), Given::Text(value.to_owned()));
                Ok(())
            }
            _ => Err(SplitError::NoKey { word }),
        }
    }

    /// `-x`, `-xy`, `-x value`, `-xvalue`, `-x=value`. What is not declared is left for clap to refuse.
    fn shorts(&mut self, word: &str) {
        for (at, letter) in word[1..].char_indices() {
            match self.at.short(letter) {
                Some(declared) if declared.takes_value => {
                    let is_last = word[1..].len() == at + letter.len_utf8();
                    let value = if is_last { self.next_value() } else { None };
                    let word = value.map_or_else(|| word.into(), |value| joined(&format!("{word}="), &value));
                    self.sorted.words.push(word);
                    return;
                }
                Some(_) => {}
                None => break,
            }
        }
        self.sorted.words.push(word.into());
    }

    /// What follows `--`.
    fn end_of_options(&mut self) -> Result<(), SplitError> {
        let rest = std::mem::take(&mut self.rest);
        if !self.at.takes_arguments {
            self.sorted.words.push("--".into());
            self.sorted.words.extend(rest);
            return Ok(());
        }
        for word in rest {
            let word = text(word)?;
            if word.contains('=') {
                self.explicit(word)?;
            } else {
                return Err(SplitError::Bare { word });
            }
        }
        Ok(())
    }

    /// The next word, if it can be a value.
    fn next_value(&mut self) -> Option<OsString> {
        self.rest.pop_front_if(|next| !is_dashed(next))
    }

    fn no_value(&self, name: &str) -> SplitError {
        SplitError::NoValue {
            name: name.to_owned(),
            next: self.rest.front().map(|next| next.to_string_lossy().into_owned()),
        }
    }

    fn push_text(&mut self, key: String, value: OsString) -> Result<(), SplitError> {
        let value = value.into_string().map_err(|value| match is_secret_name(&key) {
            true => SplitError::NotText { word: HIDDEN.to_owned() },
            false => not_text(&value),
        })?;
        self.push(key, Given::Text(value));
        Ok(())
    }

    fn push(&mut self, key: String, value: Given) {
        self.sorted.arguments.push(Argument { key, value });
    }
}

/// Whether a word looks like an option: it begins with a dash, and is neither a dash alone nor a number.
fn is_dashed(word: &OsStr) -> bool {
    match word.as_bytes() {
        [b'-'] => false,
        [b'-', b'.', digit, ..] | [b'-', digit, ..] if digit.is_ascii_digit() => false,
        [b'-', ..] => true,
        _ => false,
    }
}

fn is_boolean(word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| ArgValue::from(word).as_bool().is_some())
}

fn joined(start: &str, value: &OsStr) -> OsString {
    OsString::from_vec([start.as_bytes(), value.as_bytes()].concat())
}

fn text(word: OsString) -> Result<String, SplitError> {
    word.into_string().map_err(|word| not_text(&word))
}

fn not_text(word: &OsStr) -> SplitError {
    SplitError::NotText { word: masked(&word.to_string_lossy()).into_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn option(long: &str, short: Option<char>, takes_value: bool) -> Declared {
        Declared { long: Some(long.to_owned()), short, takes_value, owner: Owner::Broker }
    }

    fn grammar() -> Grammar {
        let globals = [option("log-level", None, true), option("yes", Some('y'), false)];
        let mut checkout = Grammar {
            name: "checkout".to_owned(),
            options: [
                option("nick", Some('n'), true),
                option("count", Some('c'), true),
                option("all-or-nothing", None, false),
                option(ARG, None, true),
            ]
            .into_iter()
            .chain(globals.clone())
            .collect(),
            takes_arguments: true,
            ..Grammar::default()
        };
        checkout.declare("container_host", true);
        checkout.declare("privileged", false);
        let checkin = Grammar { name: "checkin".to_owned(), options: globals.to_vec(), ..Grammar::default() };
        let mut providers = Grammar { name: "providers".to_owned(), options: globals.to_vec(), ..Grammar::default() };
        providers.open(["Container".to_owned()]);
        providers.command_mut("Container").unwrap().declare("container_hosts", false);
        Grammar { options: globals.to_vec(), commands: vec![checkout, checkin, providers], ..Grammar::default() }
    }

    fn sort(line: &str) -> Result<Sorted, SplitError> {
        split(&grammar(), line.split(' ').filter(|word| !word.is_empty()).map(OsString::from))
    }

    /// The words for clap, then a bar, then the arguments.
    fn shown(line: &str) -> String {
        match sort(line) {
            Err(error) => format!("error: {error}"),
            Ok(sorted) => {
                let words = sorted.words.iter().map(|word| word.to_string_lossy().into_owned());
                let arguments = sorted.arguments.iter().map(|Argument { key, value }| match value {
                    Given::Text(text) => format!("{key}={text}"),
                    Given::On => key.clone(),
                });
                words.chain(["|".to_owned()]).chain(arguments).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn words_are_sorted() {
        for (line, expected) in [
            ("", "|"),
            ("checkout", "checkout |"),
            ("checkout --nick rhel9", "checkout --nick=rhel9 |"),
            ("checkout --workflow deploy --count 3", "checkout --count=3 | workflow=deploy"),
            ("checkout --count 3 --workflow deploy --nick x", "checkout --count=3 --nick=x | workflow=deploy"),
            ("checkout --target-memory 8GiB", "checkout | target_memory=8GiB"),
            ("checkout --target-memory=8GiB", "checkout | target_memory=8GiB"),
            ("checkout target-memory=8GiB", "checkout | target_memory=8GiB"),
            ("checkout target_memory=8GiB", "checkout | target_memory=8GiB"),
            ("checkout --env A=x=y", "checkout | env=A=x=y"),
            ("checkout --env=A=x=y", "checkout | env=A=x=y"),
            ("checkout env=A=x=y", "checkout | env=A=x=y"),
            ("checkout --env=", "checkout | env="),
            ("checkout --lines=--long", "checkout | lines=--long"),
            ("checkout --offset -5", "checkout | offset=-5"),
            ("checkout --offset -.5", "checkout | offset=-.5"),
            ("checkout --file -", "checkout | file=-"),
            ("checkout --count -5", "checkout --count=-5 |"),
            ("checkout -c -5", "checkout -c=-5 |"),
            // Declared options, in every spelling.
            ("checkout count=3", "checkout --count=3 |"),
            ("checkout --all_or_nothing", "checkout --all-or-nothing |"),
            ("checkout -n rhel9 -c 3", "checkout -n=rhel9 -c=3 |"),
            ("checkout -nrhel9 -c=3 -yc 4", "checkout -nrhel9 -c=3 -yc=4 |"),
            ("checkout -y --x 1", "checkout -y | x=1"),
            ("checkout --container-host ubi9", "checkout | container_host=ubi9"),
            ("checkout --container_host ubi9", "checkout | container_host=ubi9"),
            ("checkout container_host=ubi9", "checkout | container_host=ubi9"),
            ("checkout --privileged --x 1", "checkout | privileged x=1"),
            ("checkout privileged=false", "checkout | privileged=false"),
            ("checkout --privileged true x=1", "checkout | privileged=true x=1"),
            ("checkout --privileged=False --x 1", "checkout | privileged=False x=1"),
            ("checkout --log-level debug --x 1", "checkout --log-level=debug | x=1"),
            ("--log-level debug checkout --x 1", "--log-level=debug checkout | x=1"),
            // The last one counts, so the order is kept.
            ("checkout --x 1 x=2 --arg x=3", "checkout | x=1 x=2 x=3"),
            // Explicit arguments go by any name, as it is.
            ("checkout --arg cuont=3 --arg=nick=x", "checkout | cuont=3 nick=x"),
            ("checkout --arg a-b=c", "checkout | a-b=c"),
            ("checkout --x 1 -- a=b --count=5", "checkout | x=1 a=b --count=5"),
            // clap says what is wrong with these.
            ("checkout --nick", "checkout --nick |"),
            ("checkout --nick --count 3", "checkout --nick --count=3 |"),
            ("checkout --all-or-nothing=yes", "checkout --all-or-nothing=yes |"),
            ("checkout -z 5=3", "checkout -z | 5=3"),
            ("checkin --what --yes 0 a=b", "checkin --what --yes 0 a=b |"),
            ("checkin -- --yes", "checkin -- --yes |"),
            ("chekout --x 1", "chekout --x 1 |"),
            ("scenarios checkout --x 1", "scenarios checkout --x 1 |"),
            ("providers", "providers |"),
            ("providers Container --container-hosts", "providers Container | container_hosts"),
            ("providers Container x=1 --log-level error", "providers Container --log-level=error | x=1"),
            ("providers Unknown --anything 1", "providers Unknown | anything=1"),
            ("providers Unknown --things", "providers Unknown | things"),
            ("providers Unknown --log-levl word", "providers Unknown | log_levl=word"),
            ("providers Unknown word --yes", "providers Unknown --yes |"),
            ("providers --what", "providers --what |"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    #[test]
    fn slips_are_errors() {
        for (line, expected) in [
            ("checkout --cuont 3", "there is no option `--cuont`"),
            ("checkout --coun=3", "there is no option `--coun`"),
            ("checkout cont=3", "there is no option `--cont`"),
            ("checkout --container-hosts x", "there is no option `--container-hosts`"),
            ("checkout --all_or_nothin", "there is no option `--all_or_nothin`"),
            ("checkout --log-levl debug", "there is no option `--log-levl`"),
            ("checkout --flag", "`--flag` needs a value"),
            ("checkout --flag --count 3", "`--flag` needs a value"),
            ("checkout --flag -x", "`--flag` needs a value"),
            ("checkout --flag --", "`--flag` needs a value"),
            ("checkout --container-host", "`--container-host` needs a value"),
            ("checkout --privileged=maybe", "`--privileged` is a switch, and takes no value but `true` or `false`"),
            ("checkout --privileged maybe", "`--privileged` is a switch, and takes no value such as `maybe`"),
            ("checkout --privileged --x 1 true", "`true` is neither an option nor `key=value`"),
            ("checkout --privileged x=1 true", "`true` is neither an option nor `key=value`"),
            ("checkout word", "`word` is neither an option nor `key=value`"),
            ("checkout --x 1 2", "`2` is neither an option nor `key=value`"),
            ("checkout -5", "`-5` is neither an option nor `key=value`"),
            ("checkout =x", "`=x` is not `key=value`"),
            ("checkout --=x", "`--=x` is not `key=value`"),
            ("checkout --arg", "`--arg` needs a value"),
            ("checkout --arg word", "`word` is not `key=value`"),
            ("checkout --arg =x", "`=x` is not `key=value`"),
            ("checkout -- word", "`word` is neither an option nor `key=value`"),
        ] {
            assert_eq!(shown(line), format!("error: {expected}"), "{line}");
        }
        assert_eq!(
            sort("checkout --cuont 3"),
            Err(SplitError::NearMiss { given: "cuont".to_owned(), meant: "count".to_owned() })
        );
    }

    #[test]
    fn words_that_are_no_text() {
        let odd = OsString::from_vec(vec![b'a', 0xff]);
        let words = |words: &[&OsStr]| split(&grammar(), words.iter().map(|word| (*word).to_owned()));
        let checkout = OsStr::new("checkout");
        assert!(matches!(words(&[checkout, &odd]), Err(SplitError::NotText { .. })));
        assert!(matches!(words(&[checkout, OsStr::new("--x"), &odd]), Err(SplitError::NotText { .. })));
        let secret = OsString::from_vec(b"--password=s3cr3t\xff".to_vec());
        for words in [words(&[checkout, &secret]), words(&[checkout, OsStr::new("--password"), &odd])] {
            let error = words.unwrap_err().to_string();
            assert!(error.contains("***") && !error.contains("s3cr3t"), "{error}");
        }
        // A path for an option of Broker's own may be any bytes.
        let sorted = words(&[checkout, OsStr::new("--nick"), &odd]).unwrap();
        assert_eq!(sorted.words[1].as_bytes(), b"--nick=a\xff");
        assert_eq!(words(&[OsStr::new("checkin"), &odd]).unwrap().words[1], odd);
    }

    const ODD: &str = "(checkout|--|-|=|@|--(count|x|arg|nick)=?|[ -~]{0,6}|\\PC{0,3})";

    proptest! {
        #[test]
        fn no_words_are_too_odd(words in prop::collection::vec(ODD, 0..8)) {
            // Whatever comes, every word ends up on one side or the other, and declared options only on one.
            if let Ok(sorted) = split(&grammar(), words.iter().map(OsString::from)) {
                prop_assert!(sorted.words.len() + sorted.arguments.len() <= words.len());
                prop_assert!(sorted.arguments.iter().all(|argument| !argument.key.is_empty()));
            }
        }

        #[test]
        fn undeclared_arguments_survive_in_every_spelling(key in "[a-z][a-z0-9_]{3,8}", value in "[^-].{0,12}") {
            prop_assume!(grammar().commands[0].near(&key.replace('_', "-")).is_none());
            prop_assume!(grammar().commands[0].long(&key.replace('_', "-")).is_none());
            let expected = vec![Argument { key: key.clone(), value: Given::Text(value.clone()) }];
            for words in [
                vec![format!("--{key}"), value.clone()],
                vec![format!("--{key}={value}")],
                vec![format!("{key}={value}")],
                vec!["--arg".to_owned(), format!("{key}={value}")],
                vec!["--".to_owned(), format!("{key}={value}")],
            ] {
                let words = ["checkout".to_owned()].into_iter().chain(words);
                prop_assert_eq!(split(&grammar(), words.map(OsString::from)).unwrap().arguments, expected.clone());
            }
        }

        #[test]
        fn declared_options_keep_their_meaning_wherever_they_stand(at in 0_usize..4) {
            let mut words = vec!["--a1=x", "b1=y", "--c1=z"];
            words.insert(at.min(words.len()), "--count=3");
            let line = format!("checkout {}", words.join(" "));
            prop_assert_eq!(shown(&line), "checkout --count=3 | a1=x b1=y c1=z");
        }
    }
}
