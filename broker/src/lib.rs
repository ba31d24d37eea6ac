//! Hosts for tests and scripts, from whatever provisions them: checked out, used, checked in, and never lost.
//!
//! ```no_run
//! use broker::prelude::*;
//!
//! # async fn example() -> broker::Result<()> {
//! let host = Broker::new()?.checkout(HostRequest::container("localhost/broker-testhost:debian")).await?;
//! let out = host.execute("uname -r").await?.check()?;
//! println!("{}", out.stdout());
//! # Ok(())
//! # } // the host is checked in here, on panic too
//! ```

pub mod blocking;

use std::sync::Arc;

pub use broker_core::*;

/// A broker with the providers that this crate was built with.
pub trait BrokerExt: Sized {
    /// A broker with the settings of the user, if there are any.
    ///
    /// # Errors
    ///
    /// If there is a settings file and it does not do.
    fn new() -> Result<Self>;

    /// Starts a broker with the providers that this crate was built with. Others can be added.
    fn builder() -> Builder;
}

impl BrokerExt for Broker {
    fn new() -> Result<Self> {
        Self::builder().build()
    }

    fn builder() -> Builder {
        providers().into_iter().fold(Self::bare(), Builder::provider)
    }
}

/// The providers that this crate was built with: one line each.
pub fn providers() -> Vec<Arc<dyn provider::ProviderFactory>> {
    vec![
        #[cfg(feature = "ansible-tower")]
        broker_ansible_tower::factory(),
        #[cfg(feature = "container")]
        broker_container::factory(),
        #[cfg(feature = "openstack")]
        broker_openstack::factory(),
        #[cfg(feature = "test-provider")]
        broker_test_provider::factory(),
    ]
}

/// What most programs need: `use broker::prelude::*;`.
pub mod prelude {
    #[cfg(feature = "container")]
    pub use broker_container::{ContainerRequest, PullPolicy, Wait};
    pub use broker_core::session::Command;
    pub use broker_core::{Broker, Host, HostGuard, HostGuards, HostRequest, HostType};

    pub use crate::BrokerExt;
}
