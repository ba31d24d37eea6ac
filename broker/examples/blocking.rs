//! The same without `async`, with files both ways.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use broker::HostRequest;
use broker::blocking::Broker;
use broker::prelude::ContainerRequest as _;

fn main() -> broker::Result<()> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "localhost/broker-testhost:tiny".to_owned());
    let host = Broker::new()?.checkout(HostRequest::container(image))?;
    host.write("/tmp/names", "pear\napple\n")?;
    host.execute("sort /tmp/names > /tmp/sorted")?.check()?;
    let sorted = host.read("/tmp/sorted")?;
    print!("{}", String::from_utf8_lossy(&sorted));
    host.checkin()
}
