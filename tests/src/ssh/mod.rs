//! SSH servers of a test's own: OpenSSH's and dropbear on loopback or in containers, the ways to them, and what logs in.
//!
//! Every server has keys, users and homes of its own. It ends with the value that stands for it, and with the test's
//! process however that ends.

pub mod agent;
pub mod container;
pub mod jail;
pub mod keys;
pub mod openssh;
pub mod process;
pub mod provider;
pub mod server;
mod setup;
pub mod wire;

pub use self::agent::Agent;
pub use self::container::ContainerHost;
pub use self::keys::{Key, Kind};
pub use self::provider::{HOST_ACTION, Lab};
pub use self::server::Server;
pub use self::setup::Setup;
pub use self::wire::{Flow, Wire};

/// Says which SSH library the tests are to go through.
pub const BACKEND_VARIABLE: &str = "BROKER_TESTS_SSH_BACKEND";

/// The SSH library that the tests go through: `ssh2`, or what [`BACKEND_VARIABLE`] says.
pub fn backend() -> String {
    std::env::var(BACKEND_VARIABLE).unwrap_or_else(|_| "ssh2".to_owned())
}
