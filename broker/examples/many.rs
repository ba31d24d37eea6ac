//! Three hosts at once, one command on all of them at the same time, and the steps on their way shown as they happen.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it finds")]

use broker::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> broker::Result<()> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "localhost/broker-testhost:tiny".to_owned());
    let broker = Broker::new()?;
    let mut steps = broker.steps();
    let show = tokio::spawn(async move {
        while let Ok(progress) = steps.recv().await {
            eprintln!("{}: {:?}", progress.host, progress.step);
        }
    });

    let hosts = broker.checkout_many(HostRequest::container(image).count(3)).await?;
    let outputs = hosts.iter().map(|host| host.execute("hostname"));
    for output in futures_util::future::join_all(outputs).await {
        print!("{}", output?.check()?.stdout());
    }
    hosts.checkin().await?;
    show.abort();
    Ok(())
}
