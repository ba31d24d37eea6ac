//! One host, a command on it, and its release when the guard goes out of scope.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use broker::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> broker::Result<()> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "localhost/broker-testhost:tiny".to_owned());
    let host = Broker::new()?.checkout(HostRequest::container(image)).await?;
    let out = host.execute("uname -s; hostname").await?.check()?;
    print!("{}", out.stdout());
    Ok(())
}
