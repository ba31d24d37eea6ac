//! Commands over the session of a container, against the engine's own API.

use std::path::Path;

use broker::block_on;
use broker::prelude::*;

use crate::containers::broker_at;
use crate::engine::{Api, Engine, IMAGE, LABEL};
use crate::measure::{cpu, here, in_turn, wall};
use crate::report::{Bench, Target};
use crate::{Result, fixtures};

/// So many bytes on both outputs of a command at once.
const MUCH: usize = 8 << 20;

pub(crate) fn run(bench: &mut Bench, engine: &Engine) -> Result {
    let [short, long] = ["true", "8MiB"].map(|name| format!("exec/{}/{name}", engine.name));
    let (wants_short, wants_long) = (bench.wants(&short), bench.wants(&long));
    if !wants_short && !wants_long {
        return Ok(());
    }
    let Some(api) = engine.connect(bench)? else { return Ok(()) };
    let directory = fixtures::directory()?;
    let host = host(&api, directory.path())?;
    let container = host.name().ok_or("a container without a name")?;
    if wants_short {
        measure(bench, &short, 50, 0, "true", &host, &api, &container)?;
    }
    if wants_long {
        let line = format!("head -c {MUCH} /dev/zero >&2 & head -c {MUCH} /dev/zero; wait");
        measure(bench, &long, 7, MUCH, &line, &host, &api, &container)?;
    }
    Ok(block_on(host.checkin())??)
}

fn host(api: &Api, directory: &Path) -> Result<HostGuard> {
    let request = HostRequest::action("container_host", IMAGE).label(LABEL.0, LABEL.1);
    Ok(block_on(broker_at(api, directory)?.checkout(request))??)
}

#[expect(clippy::too_many_arguments, reason = "two measurements that differ in nothing else")]
fn measure(
    bench: &mut Bench,
    case: &str,
    rounds: usize,
    expected: usize,
    line: &str,
    host: &Host,
    api: &Api,
    container: &str,
) -> Result {
    let whole = |stdout: usize, stderr: usize| match (stdout, stderr) {
        both if both == (expected, expected) => Ok(()),
        (stdout, stderr) => Err(format!("`{line}` gave {stdout} and {stderr} bytes, not {expected} each")),
    };
    let mut ours = || {
        here(|| {
            let output = block_on(host.execute(line))??.check()?;
            Ok(whole(output.stdout_bytes().len(), output.stderr_bytes().len())?)
        })
    };
    let mut floor = || {
        here(|| {
            let (stdout, stderr) = api.exec(container, line)?;
            Ok(whole(stdout.len(), stderr.len())?)
        })
    };
    let [ours, floor] = in_turn(bench.rounds(rounds), [&mut ours, &mut floor])?;
    bench.row(&format!("{case}/wall"), &wall(&ours), &wall(&floor), Target::None);
    bench.row(&format!("{case}/cpu"), &cpu(&ours), &cpu(&floor), Target::None);
    Ok(())
}
