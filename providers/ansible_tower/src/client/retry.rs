//! What is asked again, and when: only what changes nothing when it is done twice. A launch is the caller's to look after,
//! who knows how to find what it may have made.

use std::time::{Duration, Instant};

use super::error::CallError;

/// The first pause. Each further one is twice as long.
pub(super) const FIRST: Duration = Duration::from_millis(250);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// How long a service may be out of order where nothing depends on it yet.
pub(super) const SHORT: Duration = Duration::from_secs(4);

/// How long what may be a glitch is taken for one.
pub(crate) const GLITCH: Duration = Duration::from_secs(30);

/// The attempts of one request.
pub(super) struct Attempts {
    begun: Instant,
    patience: Duration,
    pause: Duration,
    /// Whether there are glitches, which a service that nothing depends on yet may keep to itself.
    knows_glitches: bool,
    /// Since when there was nothing else.
    glitch: Option<Instant>,
}

impl Attempts {
    pub(super) fn new(patience: Duration, knows_glitches: bool) -> Self {
        Self { begun: Instant::now(), patience, pause: FIRST, knows_glitches, glitch: None }
    }

    /// How long to wait before the next attempt; nothing where there is none.
    pub(super) fn pause(&mut self, error: &CallError, after: Option<Duration>) -> Option<Duration> {
        let glitch = match self.knows_glitches && error.may_be_glitch() {
            true => Some(*self.glitch.get_or_insert_with(Instant::now)),
            false => None,
        };
        self.glitch = glitch;
        let is_long = matches!(error, CallError::NoAnswer(none) if none.timed_out) && self.patience <= SHORT;
        // What has taken as long as it may is not given as long again, where nothing depends on it.
        if !(error.may_pass() || glitch.is_some()) || is_long {
            return None;
        }
        let pause = after.unwrap_or(self.pause).min(LONGEST);
        self.pause = (self.pause * 2).min(LONGEST);
        if glitch.is_some_and(|since| since.elapsed() + pause > GLITCH) {
            return None;
        }
        (self.begun.elapsed() + pause <= self.patience).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use broker_http::NoAnswer;

    use super::super::error::{Refusal, Strange};
    use super::*;

    fn refused(status: u16) -> CallError {
        CallError::Refused(Refusal { status, words: String::new(), is_page: false })
    }

    fn silent(timed_out: bool) -> CallError {
        let place = String::new();
        CallError::NoAnswer(NoAnswer { place, unsent: true, timed_out, distrusted: false, why: String::new() })
    }

    #[test]
    fn what_may_pass_is_asked_again_for_a_while() {
        let mut attempts = Attempts::new(SHORT, false);
        let pauses: Vec<_> = std::iter::from_fn(|| attempts.pause(&refused(502), None)).take(5).collect();
        assert_eq!(pauses.first(), Some(&FIRST));
        assert!(pauses.is_sorted() && pauses.iter().all(|pause| *pause <= SHORT));
        assert_eq!(
            Attempts::new(SHORT, false).pause(&refused(503), Some(Duration::from_secs(2))),
            Some(Duration::from_secs(2))
        );
        assert_eq!(Attempts::new(SHORT, false).pause(&refused(503), Some(Duration::from_secs(60))), None);
        for status in [400, 401, 403, 404] {
            assert_eq!(Attempts::new(SHORT, false).pause(&refused(status), None), None);
        }
        assert_eq!(Attempts::new(SHORT, false).pause(&silent(true), None), None);
        assert_eq!(Attempts::new(SHORT, false).pause(&silent(false), None), Some(FIRST));
    }

    fn odd() -> CallError {
        CallError::Strange(Strange { place: String::new(), why: String::new(), is_whole: true })
    }

    #[test]
    fn what_may_be_a_glitch_is_none_after_half_a_minute() {
        for error in [refused(403), odd()] {
            let mut attempts = Attempts::new(Duration::from_secs(7200), true);
            assert_eq!(attempts.pause(&error, None), Some(FIRST));
            attempts.glitch = Instant::now().checked_sub(GLITCH);
            assert_eq!(attempts.pause(&error, None), None, "{error:?}");
            // Something else in between shows that it was one.
            assert!(attempts.pause(&refused(502), None).is_some());
            assert!(attempts.pause(&error, None).is_some(), "{error:?}");
            assert_eq!(Attempts::new(SHORT, false).pause(&error, None), None);
        }
    }

    #[test]
    fn whoever_waits_for_a_job_has_more_patience() {
        let patience = Duration::from_secs(7200);
        for error in [refused(403), refused(500), silent(true), silent(false)] {
            assert_eq!(Attempts::new(patience, true).pause(&error, None), Some(FIRST), "{error:?}");
        }
        assert_eq!(Attempts::new(patience, true).pause(&refused(404), None), None);
        assert_eq!(Attempts::new(Duration::ZERO, true).pause(&refused(500), None), None);
    }
}
