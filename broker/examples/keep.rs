//! A host that outlives the program that checked it out, found again by a filter and checked in by another broker.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::time::Duration;

use broker::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> broker::Result<()> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "localhost/broker-testhost:tiny".to_owned());
    let request = HostRequest::container(image).label("purpose", "example").lease(Duration::from_secs(3600));
    let kept = Broker::new()?.checkout(request).await?.keep().await?;
    println!("host {} stays", kept.number());

    let broker = Broker::new()?;
    let hosts = broker.from_inventory(Some(r#"labels.purpose == "example" && state == "active""#)).await?;
    let records = hosts.iter().map(Host::record).collect();
    for (record, outcome) in broker.checkin(records).await? {
        outcome?;
        println!("host {} is checked in", record.number);
    }
    Ok(())
}
