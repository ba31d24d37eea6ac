//! A host for the time of a closure: it is checked in when the closure returns, or panics.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use broker::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> broker::Result<()> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "localhost/broker-testhost:tiny".to_owned());
    let broker = Broker::new()?;
    let kernel = broker
        .with_host(HostRequest::container(image), async |host| {
            host.execute("uname -r").await.map(|out| out.stdout().trim().to_owned())
        })
        .await??;
    println!("{kernel}");
    Ok(())
}
