//! Durations as Broker writes and reads them: `100ms`, `2s`, `5m`, `2h`, `1d`, or several such parts, the larger unit
//! first: `1h30m`. The unit is never left out, so that no number can be taken for seconds by one reader and for
//! minutes by another.

use std::time::Duration;

/// The units, the largest first, with their lengths in milliseconds.
const UNITS: [(&str, u128); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is no duration. The message names the text and says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// There is nothing, or only white space.
    #[error("a duration is missing; write for example `30s`, `5m`, `2h` or `1d`")]
    Blank,
    /// A number, or the last part of a longer text, has no unit.
    #[error("`{text}` has no unit; write for example `{text}s` or `{text}m` (units: `ms`, `s`, `m`, `h`, `d`)")]
    NoUnit {
        /// The text as it was given.
        text: String,
    },
    /// A unit that is not one of the five.
    #[error("`{text}` has an unknown unit `{unit}`; the units are `ms`, `s`, `m`, `h` and `d`")]
    UnknownUnit {
        /// The text as it was given.
        text: String,
        /// The unit in it.
        unit: String,
    },
    /// A unit twice, or a smaller one before a larger one.
    #[error("`{text}` has its units out of order; the larger comes first and each once, as in `1h30m`")]
    Order {
        /// The text as it was given.
        text: String,
    },
    /// More than a [`Duration`] can hold.
    #[error("`{text}` is too long a time")]
    TooLong {
        /// The text as it was given.
        text: String,
    },
    /// Anything else: a sign, a fraction, white space in between, other text.
    #[error(
        "`{text}` is not a duration; write whole numbers with a unit, such as `100ms`, `2s`, `5m`, `2h`, `1d` or `1h30m`"
    )]
    Malformed {
        /// The text as it was given.
        text: String,
    },
}

/// Reads a duration: one or more parts of a whole number and a unit (`ms`, `s`, `m`, `h`, `d`), the larger unit first,
/// each unit once, nothing between them.
///
/// # Errors
///
/// [`DurationError`] for everything else, a number without a unit included.
///
/// ```
/// # use std::time::Duration;
/// # use broker_core::duration;
/// assert_eq!(duration::parse("1h30m"), Ok(Duration::from_secs(5400)));
/// assert!(duration::parse("90").is_err());
/// ```
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.trim().is_empty() {
        return Err(DurationError::Blank);
    }
    let owned = || text.to_owned();
    let mut rest = text;
    let mut millis: u128 = 0;
    let mut larger_units = 0;
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len()));
        if digits.is_empty() {
            return Err(DurationError::Malformed { text: owned() });
        }
        if unit.is_empty() {
            return Err(match after {
                "" => DurationError::NoUnit { text: owned() },
                _ => DurationError::Malformed { text: owned() },
            });
        }
        let Some(place) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(DurationError::UnknownUnit { text: owned(), unit: unit.to_owned() });
        };
        if place < larger_units {
            return Err(DurationError::Order { text: owned() });
        }
        larger_units = place + 1;
        millis = digits
            .parse::<u128>()
            .ok()
            .and_then(|number| number.checked_mul(UNITS[place].1))
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(|| DurationError::TooLong { text: owned() })?;
        rest = after;
    }
    let seconds = u64::try_from(millis / 1000).map_err(|_| DurationError::TooLong { text: owned() })?;
    Ok(Duration::from_secs(seconds) + Duration::from_millis((millis % 1000) as u64))
}

/// Writes a duration so that [`parse`] reads the same one back, in the fewest characters: `90m`, `1d`, `1h1s`.
///
/// What is below a millisecond is cut off: there is no unit for it. Of two texts as short as each other the one with
/// fewer parts is taken.
#[must_use]
pub fn format(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    // Which units to use is the only choice there is: within a choice each part is as large as it can be.
    (1_u32..1 << UNITS.len())
        .filter_map(|chosen| {
            let mut rest = millis;
            let mut text = String::new();
            for (place, (name, length)) in UNITS.iter().enumerate() {
                if chosen & (1 << place) != 0 && rest >= *length {
                    text += &(rest / length).to_string();
                    text += name;
                    rest %= length;
                }
            }
            (rest == 0).then_some((text.len(), chosen.count_ones(), text))
        })
        .min()
        .map_or_else(|| format!("{millis}ms"), |(_, _, text)| text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_it_says() {
        for (text, millis) in [
            ("100ms", 100),
            ("2s", 2_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("90m", 5_400_000),
            ("0s", 0),
            ("007s", 7_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("18446744073709551615s").map(|d| d.as_secs()), Ok(u64::MAX));
    }

    #[test]
    fn refuses_the_rest_and_says_why() {
        for (text, message) in [
            ("", "a duration is missing; write for example `30s`, `5m`, `2h` or `1d`"),
            (" ", "a duration is missing; write for example `30s`, `5m`, `2h` or `1d`"),
            ("5", "`5` has no unit; write for example `5s` or `5m` (units: `ms`, `s`, `m`, `h`, `d`)"),
            ("0", "`0` has no unit; write for example `0s` or `0m` (units: `ms`, `s`, `m`, `h`, `d`)"),
            ("1h30", "`1h30` has no unit; write for example `1h30s` or `1h30m` (units: `ms`, `s`, `m`, `h`, `d`)"),
            ("2w", "`2w` has an unknown unit `w`; the units are `ms`, `s`, `m`, `h` and `d`"),
            ("2H", "`2H` has an unknown unit `H`; the units are `ms`, `s`, `m`, `h` and `d`"),
            ("5µs", "`5µs` has an unknown unit `µs`; the units are `ms`, `s`, `m`, `h` and `d`"),
            ("5m2h", "`5m2h` has its units out of order; the larger comes first and each once, as in `1h30m`"),
            ("1h1h", "`1h1h` has its units out of order; the larger comes first and each once, as in `1h30m`"),
            ("18446744073709551616s", "`18446744073709551616s` is too long a time"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message, "{text}");
        }
        for text in ["-2h", "1.5h", "1h 30m", " 2h", "2h ", "h", "two hours", "+1s", "1_000ms", "٣s"] {
            assert_eq!(parse(text), Err(DurationError::Malformed { text: text.to_owned() }), "{text}");
        }
        let digits = "9".repeat(50) + "s";
        assert_eq!(parse(&digits), Err(DurationError::TooLong { text: digits.clone() }));
    }

    #[test]
    fn writes_the_short_form() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (1_000, "1s"),
            (1_500, "1500ms"),
            (60_000, "1m"),
            (90_000, "90s"),
            (5_400_000, "90m"),
            (86_400_000, "1d"),
            (129_600_000, "36h"),
            (3_601_000, "1h1s"),
            (8_640_000_001, "100d1ms"),
        ] {
            assert_eq!(format(Duration::from_millis(millis)), text);
        }
        assert_eq!(format(Duration::from_micros(1_999)), "1ms");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in prop_oneof![any::<u64>(), 0..100_000_000_u64]) {
            let duration = Duration::from_millis(millis);
            let text = format(duration);
            prop_assert_eq!(parse(&text), Ok(duration));
            prop_assert!(text.len() <= millis.to_string().len() + 2);
        }

        #[test]
        fn no_text_is_too_odd(text in "[0-9a-zµ .-]{0,12}") {
            if let Ok(duration) = parse(&text) {
                prop_assert_eq!(parse(&format(duration)), Ok(duration));
            }
        }
    }

    #[test]
    fn the_longest_one_survives() {
        let longest = Duration::new(u64::MAX, 999_000_000);
        assert_eq!(parse(&format(longest)), Ok(longest));
    }
}
