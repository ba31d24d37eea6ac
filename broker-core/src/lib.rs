//! Checks hosts out of whatever provisions them, and never loses one.
//!
//! This is the core: it knows no provider. Programs add the `infra-broker` crate, which has this one and the providers;
//! this one alone is for who writes a provider, or brings one:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use broker_core::provider::ProviderFactory;
//! use broker_core::{Broker, HostRequest};
//!
//! # async fn example(my_provider: Arc<dyn ProviderFactory>) -> broker_core::Result<()> {
//! let broker = Broker::bare().provider(my_provider).build()?;
//! let host = broker.checkout(HostRequest::action("lab_machine", "anvil").arg("memory", "2g")).await?;
//! let out = host.execute("uname -r").await?.check()?;
//! println!("{} runs {}", host.label(), out.stdout());
//! host.checkin().await
//! # }
//! ```

mod args;
pub mod args_file;
mod broker;
mod builder;
mod choose;
mod context;
pub mod duration;
mod engine;
mod error;
mod execute;
mod extend;
pub mod filter;
mod forget;
mod guard;
pub mod guardian;
mod host;
mod id;
pub mod inventory;
mod names;
pub mod provider;
mod reap;
mod recovery;
mod request;
pub mod secrets;
pub mod session;
pub mod settings;
mod shared;
mod sync;
mod sys;
pub mod yaml;

pub use args::{ArgValue, Args, merge};
pub use broker::Broker;
pub use builder::Builder;
pub use choose::{Choice, Chosen};
pub use context::{Progress, Step};
pub use engine::{Released, abandon, block_on};
pub use error::{CheckoutError, CheckoutFailure, Error, FailureCause, HookError, Result};
pub use guard::{HostGuard, HostGuards, HostType};
pub use host::{Host, LogRequest, Logs, OsRelease, Output, Running, Tail, Transfer, Transferred, execute_on};
pub use id::{GuardId, HostId, InvalidId, RunId};
pub use reap::{Due, Reapable, Reaped, Reaping, Reason, Whose};
pub use request::{HostRequest, RequestError, ResolvedRequest, Wanted, labels_of};
pub use sync::{Orphans, Synced};
pub use sys::in_own_session;

/// An error and all that is underneath it, in one line, with colons between.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
