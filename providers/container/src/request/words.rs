//! Splitting a command line into words, as a shell does it, without running anything.

/// A quote that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {0} is never closed")]
pub(crate) struct Unclosed(&'static str);

/// The words of a line. White space parts them; single quotes keep everything, double quotes everything but a backslash
/// before `"`, `\`, `$`, `` ` `` and a line's end; elsewhere a backslash keeps the next character. Nothing is expanded.
pub(crate) fn split(line: &str) -> Result<Vec<String>, Unclosed> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(Unclosed("single quote"))? {
                        '\'' => break,
                        inside => word.push(inside),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(Unclosed("double quote"))? {
                        '"' => break,
                        '\\' => match characters.next().ok_or(Unclosed("double quote"))? {
                            '\n' => {}
                            special @ ('"' | '\\' | '$' | '`') => word.push(special),
                            other => word.extend(['\\', other]),
                        },
                        inside => word.push(inside),
                    }
                }
            }
            '\\' => match characters.next() {
                Some('\n') => {}
                Some(kept) => word.get_or_insert_default().push(kept),
                None => word.get_or_insert_default().push('\\'),
            },
            space if space.is_ascii_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_into_words() {
        for (line, words) in [
            ("", &[][..]),
            ("  sleep   infinity ", &["sleep", "infinity"]),
            ("sh -c 'echo \"$HOME\"'", &["sh", "-c", "echo \"$HOME\""]),
            (r#"a "b c"d '' "\$x \q""#, &["a", "b cd", "", r"$x \q"]),
            (r"a\ b \\", &["a b", r"\"]),
            ("tail\\", &["tail\\"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
    }

    #[test]
    fn open_quotes_are_errors() {
        assert_eq!(split("echo 'x").unwrap_err().to_string(), "a single quote is never closed");
        assert_eq!(split("echo \"x\\").unwrap_err().to_string(), "a double quote is never closed");
    }
}
