//! Settings in the program instead of a file: a request by its nick.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use broker::prelude::*;
use broker::settings::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> broker::Result<()> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "localhost/broker-testhost:tiny".to_owned());
    let yaml = format!("nicks:\n  small:\n    container_host: {image}\n    environment: {{ SIZE: small }}\n");
    let settings = Settings::builder().yaml(yaml).build()?.settings;
    let broker = Broker::builder().settings(settings).build()?;
    let host = broker.checkout(HostRequest::nick("small")).await?;
    print!("{}", host.execute("echo $SIZE").await?.check()?.stdout());
    Ok(())
}
