//! Hosts over SSH, against real servers.
//!
//! Beside what every way to a host must do (the conformance suites in `conformance_ssh.rs`), here is what only SSH has:
//! keys, ways to log in, connections that break, servers of all kinds.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "all of this runs inside of tests")]

mod agents;
mod breaks;
mod files;
mod host_keys;
mod jump;
mod labs;
mod login;
mod many;
mod reach;
mod servers;
mod settings;
mod support;
mod waits;
