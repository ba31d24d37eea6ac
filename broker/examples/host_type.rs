//! A type of host with a setup and a teardown of its own.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use broker::HookError;
use broker::prelude::*;

struct WebServer {
    host: Host,
}

impl HostType for WebServer {
    fn new(host: Host) -> Self {
        Self { host }
    }

    async fn setup(&self, host: &Host) -> Result<(), HookError> {
        host.write("/tmp/www/index.html", "hello\n").await?;
        host.execute("httpd -p 8080 -h /tmp/www").await?.check()?;
        Ok(())
    }

    async fn teardown(&self, host: &Host) -> Result<(), HookError> {
        host.execute("killall httpd").await?.check()?;
        println!("stopped");
        Ok(())
    }
}

impl WebServer {
    async fn fetch(&self, page: &str) -> broker::Result<String> {
        let out = self.host.execute(["wget", "-q", "-O", "-", &format!("http://127.0.0.1:8080/{page}")]).await?;
        Ok(out.check()?.stdout().into_owned())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> broker::Result<()> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "localhost/broker-testhost:tiny".to_owned());
    let server = Broker::new()?.checkout_as::<WebServer>(HostRequest::container(image)).await?;
    print!("{}", server.typed().fetch("index.html").await?);
    server.checkin().await
}
