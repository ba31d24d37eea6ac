//! Patterns of host names, as `known_hosts` and `~/.ssh/config` have them (ssh_config(5), PATTERNS).

/// Whether a pattern describes all of a text: `*` stands for any characters, `?` for one.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and up to where it reaches so far. Only this one is ever worth another try.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(expected) if *expected == b'?' || expected == byte => (p, t) = (p + 1, t + 1),
            _ => match &mut star {
                Some((at, reach)) => {
                    *reach += 1;
                    (p, t) = (*at + 1, *reach);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// Whether any of several patterns describes a text, and none does that has a `!` in front.
pub(super) fn any_matches<'a>(patterns: impl IntoIterator<Item = &'a str>, text: &str) -> bool {
    let mut is_in = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern, text) => return false,
            Some(_) => {}
            None => is_in |= matches(pattern, text),
        }
    }
    is_in
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("web", "web", true),
            ("web", "web1", false),
            ("web?", "web1", true),
            ("web?", "web", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("192.168.0.*", "192.168.0.7", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-c-d", false),
            ("**", "x", true),
            ("[::1]:*", "[::1]:22", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_with_an_exclamation_mark_wins() {
        let list = ["*.lab", "!bad.lab"];
        assert!(any_matches(list, "good.lab") && !any_matches(list, "bad.lab"));
        assert!(!any_matches(["!bad.lab"], "good.lab"));
    }

    #[test]
    fn many_stars_take_no_time() {
        let (pattern, text) = ("*a".repeat(2000) + "b", "a".repeat(4000));
        assert!(!matches(&pattern, &text));
    }

    proptest! {
        #[test]
        fn a_text_is_its_own_pattern_and_parts_can_be_left_out(head in "[a-c]{0,5}", middle in "[a-c]{0,5}", tail in "[a-c]{0,5}") {
            let text = format!("{head}{middle}{tail}");
            prop_assert!(matches(&text, &text));
            let pattern = format!("{head}*{tail}");
            prop_assert!(matches(&pattern, &text));
            let pattern = format!("{head}{}{tail}", "?".repeat(middle.len()));
            prop_assert!(matches(&pattern, &text));
        }
    }
}
