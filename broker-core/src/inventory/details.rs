//! The part of a record that few commands look at, and that is read when one does.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::record::FIELDS;
use crate::args::Args;

/// What a host was made with, and what its provider told of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Details {
    /// The action and the arguments that the host was made with.
    pub args: Args,
    /// Labels, as the user and the settings gave them.
    pub labels: BTreeMap<String, String>,
    /// What the provider learned while it was making the host, such as a job's or a server's id.
    pub handle: Option<Value>,
    /// Where the host's ports can be reached: `22/tcp` to `127.0.0.1:49153`.
    pub ports: BTreeMap<String, String>,
    /// What the provider told of the host, in its own words.
    pub facts: Map<String, Value>,
}

/// The [`Details`] of a record, which it gives as a reference.
///
/// An inventory of thousands is mostly details, and a list of hosts needs none of them. So those that come from the
/// journal are checked when its line is read, and understood when somebody first looks at them.
#[derive(Clone)]
pub struct LazyDetails(State);

#[derive(Clone)]
enum State {
    Read(Box<Details>),
    Unread { text: UnreadDetails, read: OnceLock<Box<Details>> },
}

impl LazyDetails {
    /// As a reference gives them, but what nobody has looked at before is forgotten again: for those who pass over
    /// thousands of records once.
    pub(super) fn glance(&self) -> Cow<'_, Details> {
        match &self.0 {
            State::Read(details) => Cow::Borrowed(details),
            State::Unread { text, read } => {
                read.get().map_or_else(|| Cow::Owned(text.read()), |details| Cow::Borrowed(&**details))
            }
        }
    }
}

impl Deref for LazyDetails {
    type Target = Details;

    fn deref(&self) -> &Details {
        match &self.0 {
            State::Read(details) => details,
            State::Unread { text, read } => read.get_or_init(|| Box::new(text.read())),
        }
    }
}

impl DerefMut for LazyDetails {
    fn deref_mut(&mut self) -> &mut Details {
        if let State::Unread { text, read } = &mut self.0 {
            let details = read.take().unwrap_or_else(|| Box::new(text.read()));
            self.0 = State::Read(details);
        }
        match &mut self.0 {
            State::Read(details) => details,
            State::Unread { .. } => unreachable!("they were read in the lines above"),
        }
    }
}

impl From<Details> for LazyDetails {
    fn from(details: Details) -> Self {
        Self(State::Read(Box::new(details)))
    }
}

impl Default for LazyDetails {
    fn default() -> Self {
        Details::default().into()
    }
}

impl PartialEq for LazyDetails {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for LazyDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A JSON object with details in it, and maybe with other fields. It has been through [`Check`].
#[derive(Clone)]
struct UnreadDetails(Box<str>);

impl UnreadDetails {
    fn read(&self) -> Details {
        struct DetailsVisitor;

        impl<'de> Visitor<'de> for DetailsVisitor {
            type Value = Details;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the details of a host")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Details, A::Error> {
                let mut read = Read::default();
                while let Some(Key(key)) = entries.next_key()? {
                    if FIELDS.contains(&&*key) && !DETAILS.contains(&&*key) {
                        let IgnoredAny = entries.next_value()?;
                    } else {
                        read.take(key, &mut entries)?;
                    }
                }
                Ok(read.details())
            }
        }

        match serde_json::Deserializer::from_str(&self.0).deserialize_map(DetailsVisitor) {
            Ok(details) => details,
            // To go on without them would release a host by half of what is known of it.
            Err(error) => unreachable!("details that were checked cannot be read: {error}"),
        }
    }
}

/// Those of a record's [`FIELDS`] that are details. Facts have names of their own.
const DETAILS: [&str; 5] = ["_broker_args", "labels", "handle", "exposed_ports", "_imported"];

/// Whether a field of this name belongs to the details.
pub(super) fn is_detail(key: &str) -> bool {
    DETAILS.contains(&key) || !FIELDS.contains(&key)
}

/// What becomes of the details while a record is read.
pub(super) trait Take<'de>: Sized {
    /// Takes the value of a field that is a detail.
    fn take<A: MapAccess<'de>>(&mut self, key: Cow<'de, str>, entries: &mut A) -> Result<(), A::Error>;

    fn finish(self) -> LazyDetails;
}

/// Reads them.
#[derive(Default)]
pub(super) struct Read {
    args: Option<Args>,
    labels: Option<BTreeMap<String, String>>,
    handle: Option<Value>,
    ports: Option<BTreeMap<String, String>>,
    facts: Map<String, Value>,
    clashing: Option<Map<String, Value>>,
}

impl Read {
    fn details(self) -> Details {
        let Self { args, labels, handle, ports, mut facts, clashing } = self;
        facts.extend(clashing.unwrap_or_default());
        Details {
            args: args.unwrap_or_default(),
            labels: labels.unwrap_or_default(),
            handle,
            ports: ports.unwrap_or_default(),
            facts,
        }
    }
}

impl<'de> Take<'de> for Read {
    fn take<A: MapAccess<'de>>(&mut self, key: Cow<'de, str>, entries: &mut A) -> Result<(), A::Error> {
        match &*key {
            "_broker_args" => into(&mut self.args, &key, entries),
            "labels" => into(&mut self.labels, &key, entries),
            "handle" => into(&mut self.handle, &key, entries),
            "exposed_ports" => into(&mut self.ports, &key, entries),
            "_imported" => into(&mut self.clashing, &key, entries),
            _ => {
                self.facts.insert(key.into_owned(), entries.next_value()?);
                Ok(())
            }
        }
    }

    fn finish(self) -> LazyDetails {
        self.details().into()
    }
}

/// Looks whether [`Read`] could read them, and keeps the text. It has to be as strict.
pub(super) struct Check<'de> {
    /// The whole line.
    line: &'de str,
    /// Where in the line the first of them begins.
    begin: Option<usize>,
}

impl<'de> Check<'de> {
    pub(super) fn new(line: &'de str) -> Self {
        Self { line, begin: None }
    }

    /// Where the entry of this key begins. The start of the line for a key that is a copy, since it was written with
    /// escapes.
    fn place(&self, key: &str) -> usize {
        let offset = key.as_ptr().addr().checked_sub(self.line.as_ptr().addr());
        // The quotation mark comes before the key.
        offset.filter(|offset| *offset < self.line.len()).map_or(0, |offset| offset.saturating_sub(1))
    }
}

impl<'de> Take<'de> for Check<'de> {
    fn take<A: MapAccess<'de>>(&mut self, key: Cow<'de, str>, entries: &mut A) -> Result<(), A::Error> {
        self.begin.get_or_insert(self.place(&key));
        match &*key {
            "_broker_args" | "_imported" => into(&mut None::<MapOf<Anything>>, &key, entries),
            "labels" | "exposed_ports" => into(&mut None::<MapOf<Text>>, &key, entries),
            "handle" => into(&mut None::<Anything>, &key, entries),
            _ => entries.next_value().map(|Anything| ()),
        }
    }

    fn finish(self) -> LazyDetails {
        let Some(begin) = self.begin else { return LazyDetails::default() };
        let text = match self.line.get(begin..) {
            Some(rest) if rest.starts_with('"') => format!("{{{rest}"),
            _ => self.line.to_owned(),
        };
        LazyDetails(State::Unread { text: UnreadDetails(text.into_boxed_str()), read: OnceLock::new() })
    }
}

/// Reads the value of a field of Broker's own. Null is as good as no field.
pub(super) fn into<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    field: &mut Option<T>,
    key: &str,
    entries: &mut A,
) -> Result<(), A::Error> {
    *field = entries.next_value().map_err(|error| A::Error::custom(format_args!("field `{key}`: {error}")))?;
    Ok(())
}

/// A key, without a copy of it where that can be.
pub(super) struct Key<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }

            fn visit_string<E>(self, key: String) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key)))
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Any value, looked at and not kept. Unlike [`IgnoredAny`] it refuses what [`Value`] and [`Args`] refuse: numbers that
/// are too large, and lists in lists without end.
struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Text, Self>()?.is_some() {}
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

/// A text, looked at and not kept.
struct Text;

impl Visitor<'_> for Text {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Self)
    }
}

/// An object whose values are all of one type, looked at and not kept.
struct MapOf<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for MapOf<T> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Text, T>()?.is_some() {}
        Ok(self)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for MapOf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::HostRecord;
    use super::super::record::Line;
    use super::*;

    fn line(more: &str) -> String {
        let id = crate::id::HostId::generate();
        format!(
            r#"{{"id":"{id}","number":1,"rev":2,"state":"active","at":"2026-01-01T00:00:00Z","_broker_provider":"Test"{more}}}"#
        )
    }

    /// Read late or at once, a line is refused or means the same.
    fn same(line: &str) -> bool {
        let late = Line::parse(line).map(|line| line.record);
        let at_once = serde_json::from_str::<HostRecord>(line);
        match (late, at_once) {
            (Ok(late), Ok(at_once)) => {
                assert_eq!(*late.details.glance(), *at_once.details, "{line}");
                assert_eq!(late, at_once, "{line}");
                true
            }
            (Err(late), Err(at_once)) => {
                assert_eq!(late.to_string(), at_once.to_string(), "{line}");
                false
            }
            (late, at_once) => panic!("{line}: {late:?}, {at_once:?}"),
        }
    }

    #[test]
    fn what_can_be_read_at_once_can_be_read_late() {
        let deep = |depth: usize| format!(r#","fact":{}1{}"#, "[".repeat(depth), "]".repeat(depth));
        for more in [
            "",
            r#","fact":1"#,
            r#","labels":{"a":"b"},"name":"x","fact":{"a":[1,2.5,null,true,"é\n"]}"#,
            r#","_broker_args":{"a":1,"b":{"c":[1e3,-1]}},"handle":null,"exposed_ports":{}"#,
            r#","_imported":{"name":"theirs","_broker_args":"text"},"_broker_args":null,"labels":null"#,
            r#","\u006cabels":{"a":"b"},"fact":1"#,
            r#","labels":{"a":"b"},"labels":{"c":"d"},"fact":1,"fact":2"#,
            r#","fact":18446744073709551616,"other":-9223372036854775809"#,
            &deep(100),
        ] {
            assert!(same(&line(more)), "{more}");
        }
        for more in [
            r#","labels":{"a":1}"#,
            r#","labels":[]"#,
            r#","exposed_ports":"none""#,
            r#","_broker_args":5"#,
            r#","_broker_args":{"a":1e999}"#,
            r#","_imported":[]"#,
            r#","handle":"\ud800""#,
            r#","fact":{"\ud800":1}"#,
            r#","fact":1e999"#,
            r#","fact":1}{"#,
            &deep(200),
        ] {
            assert!(!same(&line(more)), "{more}");
        }
    }

    #[test]
    fn what_was_changed_before_it_was_read_is_no_less() {
        let text = line(r#","_broker_args":{"a":"1"},"fact":1"#);
        let mut record = Line::parse(&text).unwrap().record;
        record.details.facts.insert("other".to_owned(), json!(2));
        assert_eq!(record.details.facts["fact"], 1);
        assert_eq!(record.details.args["a"].as_str(), Some("1"));
        let LazyDetails(State::Read(_)) = &record.details else { panic!("still the text") };
    }

    proptest! {
        #[test]
        fn whatever_happens_to_a_line(
            damage in proptest::collection::vec(
                (any::<prop::sample::Index>(), prop::sample::select(br#"{}[]",:\0e9u-ntx"#.to_vec())), 0..4),
        ) {
            let mut text = line(r#","_broker_args":{"a":"1","b":[1e9,{}]},"labels":{"a":"\u00e9"},"fact":[0,null]"#).into_bytes();
            for (index, byte) in damage {
                let index = index.index(text.len());
                text[index] = byte;
            }
            same(std::str::from_utf8(&text).unwrap());
        }
    }
}
