//! Whether the other side is still there.

use std::time::{Duration, Instant};

/// So many questions go unanswered before a connection counts as dead, one `every` apart and one more to wait for an
/// answer to the last.
const QUESTIONS: u32 = 2;

/// When the server has last been heard of, and what to do about that.
#[derive(Debug)]
pub(super) struct Pulse {
    every: Duration,
    /// When it was heard of, or asked.
    last: Instant,
    asked: u32,
}

/// What is to be done when nothing has been heard for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// Ask for a word.
    Ask,
    /// Give it up: this long without a word.
    Dead(Duration),
}

impl Pulse {
    /// libssh2 asks no more often than that.
    pub(super) const SHORTEST: Duration = Duration::from_secs(2);

    pub(super) fn new(every: Duration, now: Instant) -> Self {
        Self { every: every.max(Self::SHORTEST), last: now, asked: 0 }
    }

    /// Something has been heard.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last = now;
        self.asked = 0;
    }

    /// When to look again. Never, where that is further away than a clock can tell.
    pub(super) fn next(&self) -> Option<Instant> {
        self.last.checked_add(self.every)
    }

    /// What is due now. A question counts as asked.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        if self.next().is_none_or(|next| now < next) {
            return Due::Nothing;
        }
        self.last = now;
        self.asked += 1;
        // A machine that was asleep has missed every beat, so that it is questions that count, not time.
        if self.asked > QUESTIONS { Due::Dead(self.every * self.asked) } else { Due::Ask }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_questions_in_vain_are_enough() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(Duration::from_secs(10), start);
        assert_eq!(pulse.next(), Some(at(10)));
        assert_eq!(pulse.due(at(9)), Due::Nothing);
        assert_eq!(pulse.due(at(10)), Due::Ask);
        assert_eq!(pulse.due(at(11)), Due::Nothing);
        assert_eq!(pulse.due(at(20)), Due::Ask);
        pulse.heard(at(21));
        assert_eq!(pulse.due(at(30)), Due::Nothing);
        assert_eq!(pulse.due(at(31)), Due::Ask);
        assert_eq!(pulse.due(at(41)), Due::Ask);
        assert_eq!(pulse.due(at(51)), Due::Dead(Duration::from_secs(30)));
    }

    #[test]
    fn a_machine_that_was_asleep_asks_first() {
        let start = Instant::now();
        let mut pulse = Pulse::new(Duration::from_secs(10), start);
        assert_eq!(pulse.due(start + Duration::from_secs(100_000)), Due::Ask);
    }

    #[test]
    fn a_beat_that_never_comes_is_no_trouble() {
        let mut pulse = Pulse::new(Duration::MAX, Instant::now());
        assert_eq!((pulse.next(), pulse.due(Instant::now())), (None, Due::Nothing));
    }
}
