//! Files there and back, against `sftp` and `scp` over a connection that is open, near and far.

use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::block_on;
use broker_tests::conformance::session::noise;
use broker_tests::ssh::provider::request;
use broker_tests::ssh::{Lab, Server, Wire};

use super::{Master, finished, server};
use crate::measure::{here, in_turn, wall};
use crate::report::{Bench, Target};
use crate::{Result, fixtures};

/// Which way the files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

pub(super) fn run(bench: &mut Bench) -> Result {
    let mut wanted = Vec::new();
    for added in [0, 20] {
        for way in [Way::Up, Way::Down] {
            let case = format!("ssh/256 MiB {} at {added} ms", way.name());
            if bench.wants(&case) {
                wanted.push((case, added, way));
            }
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let server = server();
    let lab = Lab::new();
    let directory = fixtures::directory()?;
    let size = bench.size(256, 16) << 20;
    let source = directory.path().join("source");
    std::fs::write(&source, noise(1, size))?;
    for (case, added, way) in wanted {
        measure(bench, &case, &server, &lab, &source, Duration::from_millis(added), way)?;
    }
    Ok(())
}

/// The time that is added to a question with its answer is half a delay each way.
fn measure(
    bench: &mut Bench,
    case: &str,
    server: &Server,
    lab: &Lab,
    source: &Path,
    added: Duration,
    way: Way,
) -> Result {
    let wire = (!added.is_zero()).then(|| Wire::delayed(server.address(), added / 2));
    let at = wire.as_ref().map_or(server.address(), Wire::address);
    let host = lab.host(request("bench", server, at));
    block_on(host.execute("true"))??.check()?;
    let master = Master::open(server, at, 0)?;
    let size = std::fs::metadata(source)?.len();
    let target = source.with_file_name("target");
    let whole = |who: &str| -> Result {
        let there = std::fs::metadata(&target)?.len();
        if there != size {
            return Err(format!("{who} moved {there} bytes of {size}").into());
        }
        Ok(std::fs::remove_file(&target)?)
    };
    let mut ours = || {
        let usage = here(|| {
            match way {
                Way::Up => block_on(host.put(source, target.display().to_string()))??,
                Way::Down => block_on(host.get(source.display().to_string(), &target))??,
            }
            Ok(())
        })?;
        whole("Broker")?;
        Ok(usage)
    };
    let batch = batch(source, &target, way)?;
    let mut sftp = || {
        let usage = here(|| finished(master.client("sftp").arg("-q").arg("-b").arg(&batch).arg("lab")))?;
        whole("sftp")?;
        Ok(usage)
    };
    let there = |path: &Path| format!("lab:{}", path.display());
    let mut scp = || {
        let mut command = master.client("scp");
        match way {
            Way::Up => command.arg("-q").arg(source).arg(there(&target)),
            Way::Down => command.arg("-q").arg(there(source)).arg(&target),
        };
        let usage = here(|| finished(&mut command))?;
        whole("scp")?;
        Ok(usage)
    };
    let [ours, sftp, scp] = in_turn(bench.size(3, 1), [&mut ours, &mut sftp, &mut scp])?;
    let target = if added.is_zero() { Target::None } else { Target::Times(1.0) };
    bench.row(&format!("{case}/sftp"), &wall(&ours), &wall(&sftp), target);
    bench.row(&format!("{case}/scp"), &wall(&ours), &wall(&scp), Target::None);
    let fastest = ours.iter().map(|usage| usage.wall.as_secs_f64()).fold(f64::INFINITY, f64::min);
    bench.note(&format!("{:.0} MB/s at best", size as f64 / fastest / 1e6));
    Ok(())
}

/// What `sftp` is to do.
fn batch(source: &Path, target: &Path, way: Way) -> Result<PathBuf> {
    let word = if way == Way::Up { "put" } else { "get" };
    let batch = source.with_file_name(format!("batch-{word}"));
    std::fs::write(&batch, format!("{word} {} {}\n", source.display(), target.display()))?;
    Ok(batch)
}
