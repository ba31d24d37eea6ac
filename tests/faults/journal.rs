//! A journal that is cut off, has no room, is locked by a process that is killed, or is of another version.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::world::{World, many};
use crate::{Dose, Report};

/// How many lines the journal has at least that is cut.
const LINES: usize = 50;

/// Up to how many blocks of 512 bytes a file may have where there is little room.
const BLOCKS: u32 = 24;

pub(crate) fn run(dose: Dose) -> Report {
    let mut report = cut(dose);
    for part in [full(dose), locked(), another_version()] {
        report.figures.extend(part.figures);
        report.faults.extend(part.faults);
    }
    report
}

fn journal(world: &World) -> std::path::PathBuf {
    world.env.directory().join("inventory.jsonl")
}

/// The journal cut at `count` bytes, and around the end of every line: what is shown is what the whole lines say.
fn cut(dose: Dose) -> Report {
    let mut world = World::new("a journal that is cut".to_owned());
    let mut lines = 0;
    while lines < LINES {
        world.broker("checkout --test-action t --count 3").expect(0);
        let first = world.shown().pop_first().unwrap();
        world.broker(&format!("checkin --yes {first}")).expect(0);
        lines = std::fs::read_to_string(journal(&world)).unwrap().lines().count();
    }
    let whole = std::fs::read(journal(&world)).unwrap();
    let ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index);
    let mut cuts: Vec<usize> = ends.flat_map(|end| [end, end + 1, (end + 2).min(whole.len())]).collect();
    let mut choices = dose.choices(0);
    cuts.extend((0..dose.count).map(|_| choices.usize(..whole.len())));
    let total = cuts.len();
    for cut in cuts {
        std::fs::write(journal(&world), &whole[..cut]).unwrap();
        let expected = living(&whole[..cut]);
        let ran = world.broker("inventory --output json");
        let shown = states(&ran.json());
        if ran.code != Some(0) || shown != expected {
            world.wrong(&format!("cut at byte {cut} of {}: {shown:?} is shown, not {expected:?}: {ran}", whole.len()));
        }
    }
    std::fs::write(journal(&world), &whole).unwrap();
    world.all_goes(|world| world.existing().len());
    Report { figures: vec![format!("{total} cuts of {lines} lines")], faults: world.faults }
}

/// The living records by the whole lines, and their states.
fn living(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut living = BTreeMap::new();
    let whole = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    for line in whole.filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
        let record = if line["id"].is_string() { &line } else { &line["record"] };
        let Some(id) = record["id"].as_str() else { continue };
        match record["state"].as_str().unwrap() {
            "gone" => drop(living.remove(id)),
            state => drop(living.insert(id.to_owned(), state.to_owned())),
        }
    }
    // A host that is being made by a process that is dead is asked about.
    living.values_mut().for_each(settled);
    living
}

fn states(shown: &Value) -> BTreeMap<String, String> {
    let mut states: BTreeMap<String, String> = shown
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|record| Some((record["id"].as_str()?.to_owned(), record["state"].as_str()?.to_owned())))
        .collect();
    states.values_mut().for_each(settled);
    states
}

/// What is shown of a host may be what became of it since.
fn settled(state: &mut String) {
    "held".clone_into(state);
}

/// Commands whose files may not grow beyond a limit, as on a full disk: what they made is shown, and goes.
fn full(dose: Dose) -> Report {
    let mut report = many(dose, 2, |run, mut choices| {
        let blocks = choices.u32(0..=BLOCKS);
        let checkin = run % 2 == 1;
        let mut world = World::new(format!("run {run}: no file beyond {blocks} blocks"));
        let line = if checkin { "checkin --all --yes" } else { "checkout --test-action t --count 4" };
        if checkin {
            world.broker("checkout --test-action t --count 4").expect(0);
        }
        let before = world.existing();
        // The signal would end the command; without it a write is an error, as it is without room.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let mut command = world.env.command("sh");
        command.args(["-c", &script, "sh"]).arg(broker_tests::env::program()).args(line.split_whitespace());
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        world.tell(&format!("{line}: {status}"));
        let existing = world.existing();
        let kept = if checkin { existing.clone() } else { before };
        world.nothing_lost(&existing, &kept);
        world.all_goes(|world| world.existing().len());
        let hit = if status.success() { "commands with room enough" } else { "commands without room" };
        (world.faults, hit.to_owned())
    });
    report.figures.iter_mut().for_each(|line| line.insert_str(0, "full disk: "));
    report
}

/// A process that holds the lock of the inventory is killed: whoever waits for it goes on.
fn locked() -> Report {
    let mut world = World::new("the holder of the lock is killed".to_owned());
    world.broker("checkout --test-action t").expect(0);
    let mut holder = world.env.command("flock");
    let lock = world.env.directory().join("inventory.lock");
    let held = world.env.root().join("held");
    holder.arg("--no-fork").arg(&lock).args(["sh", "-c", "echo >\"$0\"; exec sleep 600"]).arg(&held);
    let mut holder = holder.spawn().unwrap();
    broker_tests::wait::until("the lock", || held.exists());
    let waiting = world.env.start("checkout --test-action t".split_whitespace());
    std::thread::sleep(Duration::from_millis(500));
    if world.existing().len() > 1 {
        world.wrong("a host was made although its record could not be written");
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    waiting.wait(Duration::from_secs(60)).expect(0);
    let existing = world.existing();
    world.nothing_lost(&existing, &existing);
    world.all_goes(|world| world.existing().len());
    Report { figures: vec!["the holder of the lock killed: 1".to_owned()], faults: world.faults }
}

/// What another version has written is left alone.
fn another_version() -> Report {
    let mut world = World::new("a journal of another version".to_owned());
    world.broker("checkout --test-action t").expect(0);
    let path = journal(&world);
    let ours = std::fs::read_to_string(&path).unwrap();
    let (first, rest) = ours.split_once('\n').unwrap();
    let digits = |c: char| c.is_ascii_digit();
    let version = first.find(digits).unwrap();
    let end = first[version..].find(|c| !digits(c)).map_or(first.len(), |length| version + length);
    let theirs = format!("{}999{}\n{rest}", &first[..version], &first[end..]);
    std::fs::write(&path, &theirs).unwrap();
    for line in ["inventory", "checkout --test-action t", "checkin --all --yes", "reap"] {
        let ran = world.broker(line);
        if ran.code == Some(0) || has_changed(&path, &theirs) {
            world.wrong(&format!("`{line}` does not refuse the file of another version: {ran}"));
        }
    }
    if world.existing().len() != 1 {
        world.wrong("a host was made or released");
    }
    std::fs::write(&path, ours).unwrap();
    world.all_goes(|world| world.existing().len());
    Report { figures: vec!["another version's file: 4 commands".to_owned()], faults: world.faults }
}

fn has_changed(path: &Path, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|found| found != text)
}
