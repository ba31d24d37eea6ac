//! Lines of a configuration, word by word.

/// The words of a line: the keyword, which a `=` may part from the rest, and its values. None of them where the line is
/// empty or a comment; `None` where a quotation mark has no other half.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Some(Vec::new());
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=' || c == '"').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let mut words = vec![keyword.to_owned()];
    let mut chars = rest.trim_start().chars().peekable();
    while let Some(first) = chars.peek() {
        match first {
            '#' => break,
            c if c.is_whitespace() => {
                chars.next();
            }
            _ => words.push(word(&mut chars)?),
        }
    }
    Some(words)
}

fn word(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut word = String::new();
    let mut quote = None;
    while let Some(c) = chars.peek().copied() {
        match (c, quote) {
            (c, None) if c.is_whitespace() => break,
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            ('\\', _) => {
                let mut next = chars.clone();
                next.next();
                // A backslash is nothing special before anything else.
                match next.peek() {
                    Some(escaped @ ('"' | '\'' | '\\')) => {
                        word.push(*escaped);
                        chars.next();
                    }
                    Some(' ') if quote.is_none() => {
                        word.push(' ');
                        chars.next();
                    }
                    _ => word.push('\\'),
                }
            }
            (c, _) => word.push(c),
        }
        chars.next();
    }
    quote.is_none().then_some(word)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn lines_come_apart() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  # Host a", &[]),
            ("Host a b", &["Host", "a", "b"]),
            ("\tPort=22", &["Port", "22"]),
            ("Port = 22", &["Port", "22"]),
            ("IdentityFile \"a b\" # why", &["IdentityFile", "a b"]),
            ("User a#b", &["User", "a#b"]),
            (r"User CORP\jane", &["User", r"CORP\jane"]),
            (r"IdentityFile a\ b", &["IdentityFile", "a b"]),
            ("Match host=a", &["Match", "host=a"]),
            ("User \"\"", &["User", ""]),
            ("Host", &["Host"]),
        ];
        for (line, expected) in table {
            assert_eq!(words(line).unwrap(), *expected, "{line}");
        }
        assert_eq!(words("User \"jane"), None);
    }
}
