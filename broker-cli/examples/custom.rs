//! A whole `broker` of one's own: every command, with a provider that hands out the machines of a lab.
//!
//! `cargo run -p broker-cli --example custom -- checkout --lab-machine anvil`

use std::process::ExitCode;
use std::sync::Arc;

use broker::inventory::HostRecord;
use broker::provider::{
    ActionInfo, ArgumentInfo, ArgumentScope, Endpoint, ErrorKind, Found, HostFacts, Order, Provider, ProviderError,
    ProviderFactory, ProviderInfo, Query, QueryInfo, Table,
};
use broker::session::{Access, SessionError, SessionErrorKind};
use broker_cli::Cli;

fn main() -> ExitCode {
    Cli::new().provider(lab()).run()
}

/// The machines, where section `Lab` of the settings has no `machines`.
const MACHINES: [&str; 2] = ["anvil", "bellows"];

struct Lab {
    machines: Vec<String>,
}

/// What the command line knows of the provider before it is used: its options, and the help for them.
fn lab() -> Arc<dyn ProviderFactory> {
    let info = ProviderInfo {
        name: "Lab",
        about: "the machines in the cellar",
        actions: vec![ActionInfo {
            name: "lab_machine",
            value: "NAME",
            help: "A machine of the lab",
            makes_host: true,
            executes: false,
        }],
        arguments: vec![ArgumentInfo {
            name: "boot_from",
            value: Some("DEVICE"),
            help: "What the machine boots from: disk or network",
            on: ArgumentScope::Checkout,
        }],
        queries: vec![QueryInfo { name: "machines", value: None, help: "The machines there are" }],
        facts: vec!["boot_from"],
        ..ProviderInfo::default()
    };
    broker::provider::factory(info, |settings| {
        let machines = settings.list("machines")?;
        let usual = || MACHINES.iter().map(ToString::to_string).collect();
        Ok(Arc::new(Lab { machines: if machines.is_empty() { usual() } else { machines } }))
    })
}

#[async_trait::async_trait]
impl Provider for Lab {
    async fn endpoint(&self) -> Result<Endpoint, ProviderError> {
        Ok(Endpoint { uri: "lab:cellar".to_owned(), identity: "cellar".to_owned() })
    }

    async fn checkout(&self, order: &Order) -> Result<HostFacts, ProviderError> {
        let name = order.target();
        if !self.machines.iter().any(|machine| machine == name) {
            return Err(ProviderError::new(ErrorKind::NotFound, format!("the lab has no machine `{name}`")));
        }
        let device = order.args.get("boot_from").and_then(|value| value.as_str()).unwrap_or("disk");
        order.progress(format!("booting from {device}"));
        let mut facts = HostFacts { hostname: Some(format!("{name}.lab.example.com")), ..HostFacts::default() };
        facts.facts.insert("boot_from".to_owned(), device.into());
        Ok(facts)
    }

    async fn release(&self, _host: &HostRecord) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Nothing is made that a broken checkout could leave behind.
    async fn find(&self, _host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        Ok(Vec::new())
    }

    async fn query(&self, _query: &Query) -> Result<Table, ProviderError> {
        let rows = self.machines.iter().map(|machine| vec![machine.clone()]).collect();
        Ok(Table { columns: vec!["machine".to_owned()], rows })
    }

    async fn access(&self, host: &HostRecord) -> Result<Access, SessionError> {
        Err(SessionError::new(SessionErrorKind::Unsupported, format!("there is no way into `{}` yet", host.label())))
    }
}
