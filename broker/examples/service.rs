//! What users of testcontainers look for: ports, files put in before the start, waits, logs, limits.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::time::Duration;

use broker::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> broker::Result<()> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "localhost/broker-testhost:tiny".to_owned());
    let request = HostRequest::container(image)
        .file("/srv/www/index.html", "it works\n")
        .env("GREETING", "hello")
        .command(["sh", "-c", "echo $GREETING; exec httpd -f -p 8080 -h /srv/www"])
        .port(8080)
        .tmpfs("/scratch")
        .shm_size("32m")
        .wait_for(Wait::Log("hello".to_owned()))
        .wait_for(Wait::http(8080, "/index.html"))
        .wait_timeout(Duration::from_secs(20));
    let host = Broker::new()?.checkout(request).await?;

    println!("port 8080 is at {}", host.port(8080)?);
    host.wait_for_port(8080, Duration::from_secs(5)).await?;
    print!("{}", host.logs().await?);
    Ok(())
}
