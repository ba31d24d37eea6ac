//! One host for many processes, as tests under nextest are: the first makes it, the last one out gives it back.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::process::Command;

use broker::blocking::{Broker, HostGuard};
use broker::{HostRequest, Result};

/// What every test that needs the database calls.
fn database() -> Result<HostGuard> {
    Broker::new()?.shared("database", HostRequest::action("container_host", "localhost/broker-testhost:tiny"))
}

/// What would be a test.
fn test(name: &str) -> Result<()> {
    let database = database()?;
    // All of them write into the same file.
    database.execute(format!("echo {name} >> /tmp/visitors"))?.check()?;
    Ok(())
}

fn main() -> Result<()> {
    if let Some(name) = std::env::args().nth(1) {
        return test(&name);
    }
    // It stays as long as anybody holds it.
    let database = database()?;
    let program = std::env::current_exe().map_err(broker::Error::Start)?;
    let tests: Vec<_> = (0..4).map(|number| Command::new(&program).arg(format!("test-{number}")).spawn()).collect();
    for test in tests {
        test.and_then(|mut test| test.wait()).map_err(broker::Error::Start)?;
    }
    let visitors = database.execute("sort /tmp/visitors")?.check()?;
    print!("{}", visitors.stdout());
    database.checkin()
}
