//! Containers out and in through the library, against the engine's own API at the same concurrency.

use std::time::Duration;

use broker::block_on;
use broker::prelude::*;

use crate::engine::{Api, Engine, IMAGE, LABEL};
use crate::measure::{in_turn, seconds, timed};
use crate::report::{Bench, Target};
use crate::{Result, fixtures};

const TARGET: Target = Target::Times(1.15);

pub(crate) fn run(bench: &mut Bench, engine: &Engine) -> Result {
    for (count, rounds) in [(1, 41), (10, 9), (30, 7)] {
        let case = format!("containers/{}/{count}", engine.name);
        if !bench.wants(&case) {
            continue;
        }
        let Some(api) = engine.connect(bench)? else { continue };
        let directory = fixtures::directory()?;
        let broker = broker_at(&api, directory.path())?;

        let mut ours = || {
            let request = HostRequest::action("container_host", IMAGE).count(count).label(LABEL.0, LABEL.1);
            let (out, guards) = timed(|| Ok(block_on(broker.checkout_many(request))??))?;
            let (back, ()) = timed(|| Ok(block_on(guards.checkin())??))?;
            Ok((out, back))
        };
        let mut floor = || {
            let (out, ids) = timed(|| api.out(count))?;
            let (back, ()) = timed(|| api.back(&ids))?;
            Ok((out, back))
        };
        let [ours, floor] = in_turn(bench.rounds(rounds), [&mut ours, &mut floor])?;
        let out = |samples: &[(Duration, Duration)]| seconds(samples.iter().map(|(out, _)| *out));
        let back = |samples: &[(Duration, Duration)]| seconds(samples.iter().map(|(_, back)| *back));
        bench.row(&format!("{case}/out"), &out(&ours), &out(&floor), TARGET);
        bench.row(&format!("{case}/in"), &back(&ours), &back(&floor), TARGET);
    }
    Ok(())
}

/// A broker whose containers are made by this engine.
pub(crate) fn broker_at(api: &Api, directory: &std::path::Path) -> Result<Broker> {
    let socket = format!("unix://{}", api.socket.display());
    fixtures::broker(directory, |settings| settings.known_providers(["Container"]).set("Container.host", socket))
}
