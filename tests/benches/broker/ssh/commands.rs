//! Commands over connections that are open.

use broker::block_on;
use broker::prelude::*;
use broker_tests::ssh::provider::request;
use broker_tests::ssh::{Lab, Server};
use futures_util::future::try_join_all;

use super::{Master, finished, server};
use crate::Result;
use crate::measure::{here, in_turn, wall};
use crate::report::{Bench, Target};

const ONE_AFTER_THE_OTHER: &str = "ssh/commands/200 on 1 session";
const AT_ONCE: &str = "ssh/commands/1000 on 20 sessions";
const OUTPUTS: &str = "ssh/commands/8 MB on both outputs";

const SESSIONS: usize = 20;
const MUCH: usize = 8_000_000;

pub(super) fn run(bench: &mut Bench) -> Result {
    let wanted = [ONE_AFTER_THE_OTHER, AT_ONCE, OUTPUTS].map(|case| bench.wants(case));
    if wanted == [false; 3] {
        return Ok(());
    }
    let server = server();
    let lab = Lab::new();
    let [sequential, at_once, outputs] = wanted;
    if sequential {
        measure(bench, ONE_AFTER_THE_OTHER, &server, &lab, 1, bench.size(200, 50))?;
    }
    if at_once {
        measure(bench, AT_ONCE, &server, &lab, SESSIONS, bench.size(50, 5))?;
    }
    if outputs { both_outputs(bench, &server, &lab) } else { Ok(()) }
}

/// So many times `true` on each of so many sessions, which go on at the same time.
fn measure(bench: &mut Bench, case: &str, server: &Server, lab: &Lab, sessions: usize, each: usize) -> Result {
    let hosts: Vec<HostGuard> =
        (0..sessions).map(|at| lab.host(request(&format!("bench-{at}"), server, server.address()))).collect();
    let masters = (0..sessions).map(|at| Master::open(server, server.address(), at)).collect::<Result<Vec<_>>>()?;
    let mut ours = || {
        here(|| {
            let work = hosts.iter().map(async |host| {
                for _ in 0..each {
                    host.execute("true").await?.check()?;
                }
                Ok::<_, broker::Error>(())
            });
            Ok(block_on(try_join_all(work))??)
        })
    };
    let mut floor = || {
        here(|| {
            std::thread::scope(|scope| {
                let work = masters.iter().map(|master| {
                    scope.spawn(|| {
                        let run = || finished(master.client("ssh").args(["lab", "true"])).map(drop);
                        (0..each).try_for_each(|_| run()).map_err(|error| error.to_string())
                    })
                });
                let threads: Vec<_> = work.collect();
                threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a panic".into())))
            })?;
            Ok(())
        })
    };
    let [ours, floor] = in_turn(bench.rounds(5), [&mut ours, &mut floor])?;
    bench.row(case, &wall(&ours), &wall(&floor), Target::Times(0.5));
    bench.note("the floor: `ssh` over open master connections, a process for each command");
    Ok(())
}

fn both_outputs(bench: &mut Bench, server: &Server, lab: &Lab) -> Result {
    let host = lab.server(server);
    let master = Master::open(server, server.address(), 0)?;
    let line = format!("head -c {MUCH} /dev/zero >&2 & head -c {MUCH} /dev/zero; wait");
    let whole = |stdout: usize, stderr: usize| {
        if (stdout, stderr) == (MUCH, MUCH) { Ok(()) } else { Err(format!("{stdout} and {stderr} bytes came")) }
    };
    let mut ours = || {
        here(|| {
            let done = block_on(host.execute(line.as_str()))??.check()?;
            Ok(whole(done.stdout_bytes().len(), done.stderr_bytes().len())?)
        })
    };
    let mut floor = || {
        here(|| {
            let (stdout, stderr) = finished(master.client("ssh").args(["lab", &line]))?;
            Ok(whole(stdout.len(), stderr.len())?)
        })
    };
    let [ours, floor] = in_turn(bench.rounds(7), [&mut ours, &mut floor])?;
    bench.row(OUTPUTS, &wall(&ours), &wall(&floor), Target::None);
    Ok(())
}
