//! The real `broker`, run as people and scripts run it.
//!
//! The program is the one that `BROKER_BIN` names, else the `broker` beside this test's own program. Every test has a
//! Broker directory, a home and hosts of its own, so that all of them can run at once.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's own work ends the test")]

mod actions;
mod arguments;
mod at_once;
mod checkout;
mod containers;
mod death;
mod import;
mod jobs;
mod journal;
mod no_room;
mod orphans;
mod output;
mod reap;
mod recovery;
mod secrets;
mod selection;
mod settings;
mod signals;
mod ssh;
mod support;
