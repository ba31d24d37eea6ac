//! The time of the world, and how fast things happen in it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long the parts of a job take. What a playbook sleeps, and timeouts, are counted in [`second`](Self::second)s.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long a job is `pending`, and again `waiting`.
    pub queue: Duration,
    /// How long a job runs that does not sleep.
    pub run: Duration,
    /// How long after a job's end its last events get into the database.
    pub events: Duration,
    /// How long a job goes on after it was told to stop.
    pub cancel: Duration,
    /// How long a second takes that a playbook sleeps, or that a template's timeout counts.
    pub second: Duration,
}

impl Pace {
    /// A job takes some 60 ms.
    pub fn fast() -> Self {
        let milliseconds = Duration::from_millis;
        Self {
            queue: milliseconds(5),
            run: milliseconds(40),
            events: milliseconds(10),
            cancel: milliseconds(20),
            second: milliseconds(10),
        }
    }

    /// As [`fast`](Self::fast), but everything takes so many times as long.
    #[must_use]
    pub fn slower(self, times: u32) -> Self {
        Self {
            queue: self.queue * times,
            run: self.run * times,
            events: self.events * times,
            cancel: self.cancel * times,
            second: self.second * times,
        }
    }
}

/// Tells the time of a world: that of the machine, or one that only tests move.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clock {
    /// The machine's, so much ahead.
    Real(SignedDuration),
    /// This one.
    Still(Timestamp),
}

impl Clock {
    pub(super) fn now(self) -> Timestamp {
        match self {
            Self::Real(ahead) => Timestamp::now() + ahead,
            Self::Still(at) => at,
        }
    }

    /// Puts the clock forward.
    pub(super) fn advance(&mut self, by: Duration) {
        match self {
            Self::Real(ahead) => *ahead += signed(by),
            Self::Still(at) => *at += signed(by),
        }
    }
}

pub(super) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// A time as AWX writes it: UTC with microseconds.
pub(super) fn shown(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Seconds from one time to another, to the millisecond, as a finished job's `elapsed` has them.
pub(super) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    let milliseconds = to.duration_since(from).as_millis();
    f64::from(u32::try_from(milliseconds).unwrap_or(0)) / 1000.0
}
