//! A client and two servers on a network of their own: all of them or none, under names.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use broker::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> broker::Result<()> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "localhost/broker-testhost:tiny".to_owned());
    let group = format!("example-{}", std::process::id());
    let one = HostRequest::container(image).network_group(&group);
    let server = one.clone().command(["httpd", "-f", "-p", "8080", "-h", "/etc"]).wait_for(Wait::Port(8080));

    let hosts = Broker::new()?.checkout_all([("client", one), ("server", server.count(2))]).await?;
    let client = &hosts["client"][0];
    for server in &hosts["server"] {
        let name = server.name().unwrap_or_default();
        client.execute(format!("wget -q -O /dev/null http://{name}:8080/hostname")).await?.check()?;
        println!("{name} answers");
    }
    Ok(())
}
