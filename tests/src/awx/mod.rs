//! An AWX that has state, over real HTTP: what the tests of the AnsibleTower provider talk to.
//!
//! It answers as a real AWX 24.6 was recorded to answer (`tests/labs/awx/captures`; the test `awx_captures` walks these).
//! Users, tokens, inventories, templates, jobs and workflow jobs live and change as there, only faster; playbooks are read
//! and their few modules carried out without Ansible. A [`World`] says what there is at the beginning. Requests that a
//! test's code does not answer are a real server's errors, never a test's own.
//!
//! [`Awx::spoil`] makes it misbehave; the same is below `/_control/` for tests whose subject runs in another process.

mod actions;
mod auth;
mod call;
mod clock;
mod control;
mod events;
mod expr;
mod forms;
mod http;
mod lab;
mod launch;
mod lists;
mod misbehave;
mod nodes;
mod playbook;
mod recorded;
mod records;
mod reply;
mod resources;
mod routes;
mod run;
mod server;
mod store;
mod survey;
mod template;
mod vars;
mod world;

pub use clock::Pace;
pub use http::Seen;
pub use misbehave::{Fate, Rule};
pub use records::Machine;
pub use server::{Awx, Tls};
pub use template::Template;
pub use world::{Paths, Role, World};

/// The password of a user.
pub fn password_of(user: &str) -> String {
    format!("{user}-password")
}
