//! `kill -9` of `broker` at each step of a checkout and of a checkin: at a request, which the wire holds until the process
//! is dead, or at a line of the journal.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Kind, Way, Wire};
use crate::env::TestEnv;

/// How long a step is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// A moment in which a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What people call it.
    pub name: &'static str,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A request is on its way, or has been answered.
    Request(Kind),
    /// The journal has one line more with this text.
    Line(&'static str),
}

const fn before(name: &'static str, method: &'static str, path: &'static str) -> Step {
    Step { name, at: At::Request(Kind { method, path, arrives: false }) }
}

const fn after(name: &'static str, method: &'static str, path: &'static str) -> Step {
    Step { name, at: At::Request(Kind { method, path, arrives: true }) }
}

const fn line(name: &'static str, text: &'static str) -> Step {
    Step { name, at: At::Line(text) }
}

/// The steps of a checkout with a key pair and a floating address of its own, in their order.
pub const CHECKOUT: &[Step] = &[
    after("logged in", "POST", "auth/tokens"),
    before("the room is looked at", "GET", "limits"),
    line("the entry is written", r#""state":"pending""#),
    before("the key pair is asked for", "POST", "os-keypairs"),
    after("the key pair is made", "POST", "os-keypairs"),
    before("the server is asked for", "POST", "servers"),
    after("the server is made", "POST", "servers"),
    line("the server's id is written", r#""server":"#),
    before("the server is looked at", "GET", "servers/*"),
    before("the floating address is asked for", "POST", "floatingips"),
    after("the floating address is made", "POST", "floatingips"),
    line("the host is active", r#""state":"active""#),
];

/// The steps of a checkin of such a host, in their order: each can be reached where the one before has been.
pub const CHECKIN: &[Step] = &[
    line("the release is written", r#""state":"releasing""#),
    before("the floating address is looked for", "GET", "floatingips"),
    before("the floating address is to go", "DELETE", "floatingips/*"),
    after("the floating address is gone", "DELETE", "floatingips/*"),
    before("the server is to go", "DELETE", "servers/*"),
    before("the server is waited for", "GET", "servers/*"),
    after("the server goes", "DELETE", "servers/*"),
    before("the ports are looked for", "GET", "ports"),
    before("the key pair is to go", "DELETE", "os-keypairs/*"),
    after("the key pair is gone", "DELETE", "os-keypairs/*"),
    line("the end is written", r#""state":"gone""#),
];

impl Step {
    /// Runs `broker` with a line of arguments, and kills it at this step. Afterwards the wire is fair. Returns whether the
    /// process got there.
    pub fn kill(&self, env: &TestEnv, wire: &Wire, arguments: &str) -> bool {
        let journal = env.directory().join("inventory.jsonl");
        let lines_before = self.lines(&journal);
        if let At::Request(held) = self.at {
            wire.lead(Way::Hold(held));
        }
        let mut broker = env.start(arguments.split_whitespace());
        let end = Instant::now() + LIMIT;
        let reached = loop {
            let is_there = match self.at {
                At::Request(_) => wire.has_held(),
                At::Line(_) => self.lines(&journal) > lines_before,
            };
            if is_there || broker.has_ended() || Instant::now() > end {
                break is_there;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        broker.signal(Signal::KILL);
        let was_killed = broker.wait(LIMIT).code == Some(137);
        wire.lead(Way::Fair);
        reached && (was_killed || matches!(self.at, At::Line(_)))
    }

    fn lines(&self, journal: &Path) -> usize {
        let At::Line(text) = self.at else { return 0 };
        std::fs::read_to_string(journal).map_or(0, |journal| journal.lines().filter(|line| line.contains(text)).count())
    }
}
