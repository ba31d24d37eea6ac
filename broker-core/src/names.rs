//! Names that were probably meant by others.

/// The name that is nearest to a word within a few typing errors, whatever the case of its letters.
pub(crate) fn closest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).clamp(1, 3);
    let distances = names.into_iter().map(|name| (strsim::damerau_levenshtein(&word, &name.to_lowercase()), name));
    distances.filter(|(distance, _)| *distance <= limit).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_typing_errors_are_seen_through() {
        let names = ["provider", "instance", "name"];
        assert_eq!(closest("Provdier", names), Some("provider"));
        assert_eq!(closest("instances", names), Some("instance"));
        assert_eq!(closest("nam", names), Some("name"));
        assert_eq!(closest("hostname", names), None);
    }
}
