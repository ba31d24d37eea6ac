//! Checks hosts out of whatever provisions them, and never loses one.

mod args;
pub mod duration;
mod host;
mod id;
pub mod inventory;
pub mod provider;
pub mod secrets;
pub mod session;
pub mod settings;

pub use args::{ArgValue, Args, merge};
pub use host::LogRequest;
pub use id::{HostId, InvalidId, RunId};
