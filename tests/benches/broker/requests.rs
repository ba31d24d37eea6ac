//! How many requests a checkout, a command and a checkin make, counted between `broker` and the engine.

use std::path::Path;

use crate::engine::{Engine, IMAGE, LABEL};
use crate::measure::child;
use crate::proxy::Proxy;
use crate::report::{Bench, Samples, Target, Value};
use crate::{Result, fixtures};

const MANY: u32 = 10;

/// Create, start, and one look at what came of it.
const CHECKOUT: f64 = 3.0;
/// Remove.
const CHECKIN: f64 = 1.0;
/// Create, start, and one look at how it ended.
const EXEC: f64 = 3.0;

/// The requests of one process each.
struct Requests {
    checkout: Vec<String>,
    exec: Vec<String>,
    checkin: Vec<String>,
}

pub(crate) fn run(bench: &mut Bench, engine: &Engine) -> Result {
    let case = format!("requests/{}", engine.name);
    if !bench.wants(&case) {
        return Ok(());
    }
    let Some(api) = engine.connect(bench)? else { return Ok(()) };
    let directory = fixtures::directory()?;
    let proxy = Proxy::start(&api.socket)?;
    let one = count(bench, directory.path(), &proxy, 1)?;
    let many = count(bench, directory.path(), &proxy, MANY)?;

    let ways =
        [("checkout", &one.checkout, &many.checkout, CHECKOUT), ("checkin", &one.checkin, &many.checkin, CHECKIN)];
    for (way, one, many, floor) in ways {
        let each = (many.len() as f64 - one.len() as f64) / f64::from(MANY - 1);
        let target = Target::AtMost(Value::Count(floor));
        bench.row(&format!("{case}/{way}"), &Samples::count(each), &Samples::count(floor), target);
        bench.note(&format!("a process that does one: {}", one.join(", ")));
    }
    let all = Samples::count(one.exec.len() as f64);
    bench.row(&format!("{case}/exec"), &all, &Samples::count(EXEC), Target::None);
    bench.note(&format!("a process that does one: {}", one.exec.join(", ")));
    Ok(())
}

/// Checks so many hosts out, runs a command on one of them, and checks all in.
fn count(bench: &Bench, directory: &Path, proxy: &Proxy, hosts: u32) -> Result<Requests> {
    let broker = |arguments: &[&str]| {
        let socket = format!("unix://{}", proxy.socket().display());
        child(bench.broker(directory).args(arguments).env("DOCKER_HOST", socket))?;
        Ok::<_, Box<dyn std::error::Error>>(proxy.take())
    };
    let label = format!("{}={}", LABEL.0, LABEL.1);
    let hosts = hosts.to_string();
    let checkout = broker(&["checkout", "--container-host", IMAGE, "--count", &hosts, "--provider-labels", &label])?;
    let records = broker::inventory::read(directory)?.records;
    let number = records.first().ok_or("nothing was checked out")?.number.to_string();
    let exec = broker(&["exec", &number, "--", "true"])?;
    Ok(Requests { checkout, exec, checkin: broker(&["checkin", "--all", "--yes"])? })
}
