//! One thing on many hosts.

use std::future::Future;

use futures_util::{StreamExt as _, stream};

use super::{Host, Output};
use crate::broker::Broker;
use crate::error::Result;
use crate::guard::HostGuards;
use crate::session::Command;

/// Does something on every host, on so many of them at once. The order is that of the hosts.
async fn on_each<T, F: Future<Output = T>>(
    hosts: Vec<Host>,
    at_once: usize,
    work: impl Fn(Host) -> F,
) -> Vec<(Host, T)> {
    let running = hosts.into_iter().enumerate().map(|(at, host)| {
        let outcome = work(host.clone());
        async move { (at, (host, outcome.await)) }
    });
    let mut done: Vec<_> = stream::iter(running).buffer_unordered(at_once.max(1)).collect().await;
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

impl Broker {
    /// Does something on many hosts at once, on `thread_limit` of the settings at the most. Every host has its own
    /// outcome, in the order of `hosts`; one that fails or hangs holds up no other.
    ///
    /// ```no_run
    /// # async fn example(broker: broker_core::Broker) -> broker_core::Result<()> {
    /// let hosts = broker.from_inventory(Some("name{web")).await?;
    /// for (host, release) in broker.on_each(hosts, async |host| host.os_release().await).await {
    ///     println!("{}: {}", host.label(), release?.pretty_name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what is done on the hosts.
    pub async fn on_each<T, F: Future<Output = T>>(
        &self,
        hosts: impl IntoIterator<Item = Host>,
        work: impl Fn(Host) -> F,
    ) -> Vec<(Host, T)> {
        on_each(hosts.into_iter().collect(), self.core.concurrency(), work).await
    }

    /// Runs one command on many hosts at once, as [`on_each`](Self::on_each), and collects what it prints.
    ///
    /// ```no_run
    /// # async fn example(broker: broker_core::Broker) -> broker_core::Result<()> {
    /// let hosts = broker.from_inventory(None).await?;
    /// for (host, output) in broker.execute_on(hosts, "uname -r").await {
    ///     println!("{}: {}", host.label(), output?.stdout());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the command on all hosts.
    pub async fn execute_on(
        &self,
        hosts: impl IntoIterator<Item = Host>,
        command: impl Into<Command>,
    ) -> Vec<(Host, Result<Output>)> {
        execute_on(hosts.into_iter().collect(), command).await
    }
}

impl HostGuards {
    /// Runs one command on all the hosts at once, and collects what it prints: an outcome for each, in their order.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the command on all hosts.
    pub async fn execute(&self, command: impl Into<Command>) -> Vec<(Host, Result<Output>)> {
        execute_on(self.iter().map(|guard| Host::clone(guard)).collect(), command).await
    }
}

/// Runs one command on many hosts at once, as [`Broker::execute_on`] does, with the settings of the first one's broker.
///
/// # Cancel safety
///
/// Dropping the future ends the command on all hosts.
pub async fn execute_on(hosts: Vec<Host>, command: impl Into<Command>) -> Vec<(Host, Result<Output>)> {
    let command = command.into();
    let at_once = hosts.first().map_or(1, |host| host.core().concurrency());
    on_each(hosts, at_once, |host| execute(host, command.clone())).await
}

async fn execute(host: Host, command: Command) -> Result<Output> {
    host.execute(command).await
}
