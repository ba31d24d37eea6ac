//! `kill -9` of a checkout or a checkin, at a named step or at any moment, with TestProvider.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use broker_tests::env::Started;
use rustix::process::Signal;

use crate::world::{World, many};
use crate::{Dose, Report};

/// How long a step is waited for. One that has been passed unseen is a kill at no particular moment.
const STEP: Duration = Duration::from_secs(10);

/// Something that can be seen from the outside, after which the process is killed.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A line of the journal with this text is there.
    Line(&'static str, &'static str),
    /// The provider has made a host.
    Made,
    /// The provider has removed a host.
    Removed,
    /// This long after the start.
    Moment,
}

const OUT: [Step; 4] = [
    Step::Line("pending", r#""state":"pending""#),
    Step::Made,
    Step::Line("made", r#""handle":"#),
    Step::Line("active", r#""state":"active""#),
];

const IN: [Step; 3] =
    [Step::Line("releasing", r#""state":"releasing""#), Step::Removed, Step::Line("gone", r#""state":"gone""#)];

/// The longest delay of a provider's call, and how far beyond it moments are chosen: the process has to start, too.
const DELAY: u64 = 60;
const BEYOND: u64 = 60;

pub(crate) fn run(dose: Dose) -> Report {
    many(dose, 4, |run, mut choices| {
        let checkin = run % 2 == 1;
        let steps: &[Step] = if checkin { &IN } else { &OUT };
        // Half of the runs go by steps, half by moments.
        let step = if choices.bool() { steps[choices.usize(..steps.len())] } else { Step::Moment };
        let hosts = choices.u32(1..=6);
        let delay = choices.u64(0..=DELAY);
        let moment = Duration::from_micros(choices.u64(0..=(DELAY + BEYOND) * 1000));
        let what = if checkin { "checkin" } else { "checkout" };
        let story = format!("run {run}: {what} of {hosts}, {delay} ms each, {step:?} {moment:?}");
        let mut world = World::new(story);
        let order = format!("checkout --test-action t --count {hosts} --delay {delay}ms --slow-release {delay}ms");
        let mut kept = BTreeSet::new();
        if checkin {
            world.broker(&order).expect(0);
        } else if choices.bool() {
            // One that was there before must be there afterwards.
            world.broker("checkout --test-action before").expect(0);
            kept = world.existing();
        }
        let before = world.existing();
        let line = if checkin { "checkin --all --yes" } else { &order };
        let mut started = world.env.start(line.split_whitespace());
        let seen = wait_for(step, moment, &world, &before, &mut started);
        started.signal(Signal::KILL);
        let ran = started.wait(Duration::from_secs(60));
        let killed = ran.code == Some(137);
        world.tell(if killed { "killed" } else { "ended before" });
        let existing = world.existing();
        world.nothing_lost(&existing, &kept);
        world.all_goes(|world| world.existing().len());
        let hit = match step {
            _ if !killed => format!("{what} that had ended"),
            Step::Line(name, _) if seen => format!("{what} at `{name}`"),
            Step::Made if seen => "checkout at a host made".to_owned(),
            Step::Removed if seen => "checkin at a host removed".to_owned(),
            _ => format!("{what} at any moment"),
        };
        (world.faults, hit)
    })
}

/// Returns as soon as the step is seen, the command has ended, or it has taken too long.
fn wait_for(step: Step, moment: Duration, world: &World, before: &BTreeSet<String>, started: &mut Started) -> bool {
    let journal = world.env.directory().join("inventory.jsonl");
    let seen_before = match step {
        Step::Line(_, text) => lines(&journal, text),
        _ => 0,
    };
    let end = Instant::now() + STEP;
    loop {
        let seen = match step {
            Step::Line(_, text) => lines(&journal, text) > seen_before,
            Step::Made => world.existing().difference(before).next().is_some(),
            Step::Removed => before.difference(&world.existing()).next().is_some(),
            Step::Moment => {
                std::thread::sleep(moment);
                return true;
            }
        };
        if seen || Instant::now() > end || started.has_ended() {
            return seen;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn lines(journal: &Path, text: &str) -> usize {
    std::fs::read_to_string(journal).map_or(0, |journal| journal.lines().filter(|line| line.contains(text)).count())
}
