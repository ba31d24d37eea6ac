//! What is asked again, and when.
//!
//! Only what changes nothing when it is done twice: GET and DELETE. A request to make something is the caller's to look
//! after, who knows how to find what it may have made.

use std::time::Duration;

use reqwest::Method;

use super::error::CallError;

/// So many times, beside the first.
const REPEATS: u32 = 3;

/// The first pause. Each further one is twice as long.
const FIRST: Duration = Duration::from_millis(250);

/// The longest pause, also where a service asks for more.
const LONGEST: Duration = Duration::from_secs(30);

/// How long to wait before the next attempt; nothing where there is none.
pub(super) fn pause(method: &Method, error: &CallError, after: Option<Duration>, attempt: u32) -> Option<Duration> {
    let is_harmless = *method == Method::GET || *method == Method::DELETE;
    if !is_harmless || attempt >= REPEATS {
        return None;
    }
    match error {
        CallError::NoAnswer(none) if none.timed_out => None,
        CallError::NoAnswer(_) => Some(FIRST * 2_u32.pow(attempt)),
        CallError::Refused(refusal) if refusal.status == 429 || refusal.status >= 500 => {
            Some(after.unwrap_or(FIRST * 2_u32.pow(attempt)).min(LONGEST))
        }
        CallError::Refused(_) | CallError::Garbled(_) | CallError::Before(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use broker_core::provider::{ErrorKind, ProviderError};
    use broker_http::NoAnswer;

    use super::super::error::Refusal;
    use super::*;

    fn refused(status: u16) -> CallError {
        CallError::Refused(Refusal { status, words: String::new(), request: None })
    }

    fn silent(timed_out: bool) -> CallError {
        CallError::NoAnswer(NoAnswer {
            place: String::new(),
            unsent: true,
            timed_out,
            distrusted: false,
            why: String::new(),
        })
    }

    #[test]
    fn only_what_is_harmless_is_repeated() {
        for status in [429, 500, 502, 503, 504] {
            assert_eq!(pause(&Method::GET, &refused(status), None, 0), Some(FIRST));
            assert_eq!(pause(&Method::DELETE, &refused(status), None, 1), Some(FIRST * 2));
            assert_eq!(pause(&Method::POST, &refused(status), None, 0), None);
            assert_eq!(pause(&Method::PUT, &refused(status), None, 0), None);
            assert_eq!(pause(&Method::GET, &refused(status), None, REPEATS), None);
        }
        for status in [400, 401, 403, 404, 406, 409] {
            assert_eq!(pause(&Method::GET, &refused(status), Some(FIRST), 0), None);
        }
        assert_eq!(pause(&Method::GET, &silent(false), None, 2), Some(FIRST * 4));
        assert_eq!(pause(&Method::POST, &silent(false), None, 0), None);
        // What has taken as long as it may is not given as long again.
        assert_eq!(pause(&Method::GET, &silent(true), None, 0), None);
        let ours = CallError::Before(ProviderError::new(ErrorKind::Auth, "x"));
        assert_eq!(pause(&Method::GET, &ours, None, 0), None);
    }

    #[test]
    fn a_service_says_when_to_come_again() {
        assert_eq!(pause(&Method::GET, &refused(503), Some(Duration::from_secs(7)), 0), Some(Duration::from_secs(7)));
        assert_eq!(pause(&Method::GET, &refused(429), Some(Duration::from_secs(900)), 0), Some(LONGEST));
    }
}
