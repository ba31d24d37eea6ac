//! Guards in every situation that a process can get into: each test is about how another process ends, which is this
//! program again, in a role.
//!
//! What a process has to do by itself is tested without a guardian, which would do it in its place.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's own work ends the test")]

mod containers;
mod ends;
mod fork;
mod guardians;
mod hooks;
mod killed;
mod leases;
mod living;
mod runners;
mod support;
mod teardown;
