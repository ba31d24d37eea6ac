//! What a host runs.

use std::collections::BTreeMap;

use super::Host;
use crate::error::Result;
use crate::session::Command;

impl Host {
    /// What operating system the host has, as its `/etc/os-release` or `/usr/lib/os-release` says.
    ///
    /// # Errors
    ///
    /// [`Error::Command`](crate::Error::Command) if it has neither.
    pub async fn os_release(&self) -> Result<OsRelease> {
        const READ: &str = "cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release";
        let output = self.execute(Command::shell(READ)).await?.check()?;
        Ok(OsRelease::parse(&output.stdout()))
    }
}

/// What a machine's os-release(5) says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OsRelease {
    /// `ID`: one word in lower case, such as `debian`; `linux` where it does not say.
    pub id: String,
    /// `VERSION_ID`: `12`, `9.4`. Distributions without versions have none.
    pub version_id: Option<String>,
    /// `NAME`: `Debian GNU/Linux`; `Linux` where it does not say.
    pub name: String,
    /// `PRETTY_NAME`: `Debian GNU/Linux 12 (bookworm)`; `Linux` where it does not say.
    pub pretty_name: String,
    /// Everything that it says, by name.
    pub fields: BTreeMap<String, String>,
}

impl OsRelease {
    /// Reads the text of an os-release file. Lines that are no assignments say nothing; of two the last one counts.
    pub fn parse(text: &str) -> Self {
        let fields: BTreeMap<String, String> = text.lines().filter_map(assignment).collect();
        let field = |name: &str| fields.get(name).filter(|value| !value.is_empty()).cloned();
        Self {
            id: field("ID").unwrap_or_else(|| "linux".to_owned()),
            version_id: field("VERSION_ID"),
            name: field("NAME").unwrap_or_else(|| "Linux".to_owned()),
            pretty_name: field("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            fields,
        }
    }

    /// The names in `ID_LIKE`: the distributions that this one is made of, the closest first.
    pub fn id_like(&self) -> impl Iterator<Item = &str> {
        self.fields.get("ID_LIKE").map(String::as_str).unwrap_or_default().split_whitespace()
    }
}

/// `NAME=value`, quoted as for a shell.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim().split_once('=')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_name) {
        return None;
    }
    let mut unquoted = String::new();
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', None) => unquoted.extend(chars.next()),
            ('\\', Some('"')) => match chars.next() {
                Some(special @ ('"' | '\\' | '$' | '`')) => unquoted.push(special),
                other => unquoted.extend(['\\'].into_iter().chain(other)),
            },
            (c, None) if c.is_whitespace() => break,
            (c, _) => unquoted.push(c),
        }
    }
    quote.is_none().then(|| (name.to_owned(), unquoted))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_release() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME='Debian GNU/Linux'\nVERSION_ID=\"12\"\nID=debian\n\
                    # a comment=1\n\nHOME_URL=https://www.debian.org/\n";
        let release = OsRelease::parse(text);
        assert_eq!((release.id.as_str(), release.version_id.as_deref()), ("debian", Some("12")));
        assert_eq!(release.name, "Debian GNU/Linux");
        assert_eq!(release.pretty_name, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(release.fields.len(), 5);
        assert_eq!(release.id_like().count(), 0);
        assert_eq!(OsRelease::parse("ID_LIKE=\"rhel fedora\"").id_like().collect::<Vec<_>>(), ["rhel", "fedora"]);
    }

    #[test]
    fn quotes() {
        for (line, value) in [
            (r#"A="a \"b\" \$c \` \\ \d""#, Some(r#"a "b" $c ` \ \d"#)),
            (r"A='a \n $b'", Some(r"a \n $b")),
            (r"A=a\ b", Some("a b")),
            ("A=a b", Some("a")),
            ("A=", Some("")),
            ("A=\"\"", Some("")),
            ("A=\"open", None),
            ("  A=x  ", Some("x")),
            ("1A=x", None),
            ("A B=x", None),
            ("=x", None),
            ("A", None),
        ] {
            assert_eq!(assignment(line).map(|(_, value)| value).as_deref(), value, "{line}");
        }
    }

    #[test]
    fn a_file_that_says_nothing() {
        for text in ["", "ID=\nNAME=\n"] {
            let release = OsRelease::parse(text);
            assert_eq!((release.id.as_str(), release.name.as_str(), release.version_id), ("linux", "Linux", None));
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "([A-Z=\"'\\\\ \n$]|\\PC){0,60}") {
            drop(OsRelease::parse(&text));
        }

        #[test]
        fn what_is_quoted_comes_back(value in "[^\r\n]{0,20}") {
            let escaped: String = value.chars().flat_map(|c| {
                let escape = matches!(c, '"' | '\\' | '$' | '`').then_some('\\');
                escape.into_iter().chain([c])
            }).collect();
            prop_assert_eq!(assignment(&format!("A=\"{escaped}\"")), Some(("A".to_owned(), value)));
        }
    }
}
