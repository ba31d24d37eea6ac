//! A provider of one's own: a pool of machines that are simply there.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::sync::Arc;

use broker::inventory::HostRecord;
use broker::prelude::*;
use broker::provider::{
    ActionInfo, Endpoint, ErrorKind, Found, HostFacts, Order, Provider, ProviderError, ProviderFactory, ProviderInfo,
};
use broker::session::{Access, SessionError, SessionErrorKind};

struct Lab {
    machines: Vec<&'static str>,
}

fn lab() -> Arc<dyn ProviderFactory> {
    let info = ProviderInfo {
        name: "Lab",
        about: "machines of the lab",
        actions: vec![ActionInfo {
            name: "lab_machine",
            value: "NAME",
            help: "take a machine of the lab",
            makes_host: true,
            executes: false,
        }],
        ..ProviderInfo::default()
    };
    broker::provider::factory(info, |_settings| Ok(Arc::new(Lab { machines: vec!["anvil", "bellows"] })))
}

#[async_trait::async_trait]
impl Provider for Lab {
    async fn endpoint(&self) -> Result<Endpoint, ProviderError> {
        Ok(Endpoint { uri: "lab:".to_owned(), identity: "the lab in the cellar".to_owned() })
    }

    async fn checkout(&self, order: &Order) -> Result<HostFacts, ProviderError> {
        let wanted = order.target();
        let name = self
            .machines
            .iter()
            .find(|name| **name == wanted)
            .ok_or_else(|| ProviderError::new(ErrorKind::NotFound, format!("the lab has no machine `{wanted}`")))?;
        order.progress("switching it on");
        Ok(HostFacts { hostname: Some(format!("{name}.lab")), ..HostFacts::default() })
    }

    async fn release(&self, _host: &HostRecord) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn find(&self, _host: &HostRecord) -> Result<Vec<Found>, ProviderError> {
        Ok(Vec::new())
    }

    async fn access(&self, host: &HostRecord) -> Result<Access, SessionError> {
        Err(SessionError::new(SessionErrorKind::Unsupported, format!("`{}` has no way in", host.label())))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> broker::Result<()> {
    let broker = Broker::builder().provider(lab()).build()?;
    let host = broker.checkout(HostRequest::action("lab_machine", "anvil")).await?;
    println!("{}", host.label());
    match broker.checkout(HostRequest::action("lab_machine", "hammer")).await {
        Ok(_) => println!("a machine that is not there was handed out"),
        Err(error) => println!("{}", broker::error_chain(&error)),
    }
    host.checkin().await
}
