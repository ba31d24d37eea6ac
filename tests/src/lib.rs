//! What the end-to-end tests share: conformance suites, a clean environment, the engines of this machine.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "all of this runs inside of tests, where a surprise is to end the test"
)]

pub mod awx;
pub mod conformance;
pub mod engines;
pub mod env;
pub mod lab;
pub mod openstack;
pub mod proxy;
pub mod signals;
pub mod ssh;
pub mod wait;
