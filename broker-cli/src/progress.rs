//! How far hosts have come: a line a host on a terminal; without one, a line when something changes, and every so
//! often.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::settings::LogLevel;
use broker::{HostId, Progress as Told, Step, Transferred};
use indexmap::IndexMap;
use indicatif::{ProgressBar, ProgressStyle};

use crate::log::FILE_ONLY;
use crate::output::Console;

/// How often a host that nothing happens to is mentioned, without a terminal.
const REMINDER: Duration = Duration::from_secs(30);

/// How often a host's changes are mentioned, without a terminal.
const PAUSE: Duration = Duration::from_secs(1);

/// More hosts than this share one line on a terminal.
const LINES: usize = 16;

/// The hosts of one command.
pub(crate) struct Progress {
    console: Arc<Console>,
    view: View,
    hosts: IndexMap<HostId, Host>,
    begun: Instant,
}

enum View {
    /// Nobody wants to know.
    Nothing,
    /// A line when something changes.
    Lines,
    /// A line a host, redrawn in place.
    Each,
    /// One line for all of so many.
    Together(usize, ProgressBar),
}

struct Host {
    label: String,
    doing: String,
    /// Whether `doing` was told.
    is_told: bool,
    told_at: Option<Instant>,
    state: State,
    bar: Option<ProgressBar>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Working,
    Done,
    Failed,
}

impl Progress {
    /// The progress of so many hosts.
    pub(crate) fn new(console: &Arc<Console>, total: usize) -> Self {
        let view = if console.level() < LogLevel::Info {
            View::Nothing
        } else if !io::stderr().is_terminal() {
            View::Lines
        } else if total > LINES {
            View::Together(total, spinner(console))
        } else {
            View::Each
        };
        Self { console: Arc::clone(console), view, hosts: IndexMap::new(), begun: Instant::now() }
    }

    /// How often [`tick`](Self::tick) wants to be called.
    pub(crate) fn period(&self) -> Duration {
        match self.view {
            View::Nothing | View::Lines => Duration::from_secs(1),
            View::Each | View::Together(..) => Duration::from_millis(100),
        }
    }

    pub(crate) fn step(&mut self, told: Told) {
        let label = label(&told);
        let since = span(self.begun.elapsed());
        // Not worth a line before it takes its time.
        let is_quiet = matches!(told.step, Step::Ordered | Step::Releasing);
        let is_release = told.step == Step::Released;
        let (doing, state) = match told.step {
            Step::Ordered => ("asking for it".to_owned(), State::Working),
            Step::Doing(what) => (what, State::Working),
            Step::Ready => (format!("ready after {since}"), State::Done),
            Step::Failed => (format!("failed after {since}"), State::Failed),
            Step::Releasing => ("being released".to_owned(), State::Working),
            Step::Released => (format!("released after {since}"), State::Done),
            _ => return,
        };
        tracing::debug!(target: FILE_ONLY, id = %told.id, "{label}: {doing}");
        let host = self.hosts.entry(told.id).or_insert_with(|| Host {
            label: String::new(),
            doing: String::new(),
            is_told: true,
            told_at: None,
            state: State::Working,
            bar: None,
        });
        host.label = label;
        host.state = state;
        if host.doing != doing {
            host.doing = doing;
            host.is_told = is_quiet;
            if is_quiet {
                host.told_at = Some(Instant::now());
            }
        }
        match &self.view {
            View::Nothing => {}
            View::Lines => host.tell(&self.console, false),
            View::Each => match state {
                State::Working => {
                    let bar = host.bar.get_or_insert_with(|| spinner(&self.console));
                    bar.set_message(format!("{}: {}", host.label, host.doing));
                }
                State::Done | State::Failed => {
                    if let Some(bar) = host.bar.take() {
                        bar.finish_and_clear();
                    }
                    // A checkout prints its hosts itself.
                    if is_release {
                        self.console.note(&format!("{}: {}", host.label, host.doing));
                    }
                }
            },
            View::Together(total, bar) => bar.set_message(summary(&self.hosts, *total)),
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        match &self.view {
            View::Nothing => {}
            View::Lines => {
                for host in self.hosts.values_mut().filter(|host| host.state == State::Working) {
                    host.tell(&self.console, true);
                }
            }
            View::Each => self.hosts.values().filter_map(|host| host.bar.as_ref()).for_each(ProgressBar::tick),
            View::Together(_, bar) => bar.tick(),
        }
    }
}

impl Host {
    /// Says what the host does, unless it was said just now.
    fn tell(&mut self, console: &Console, remind: bool) {
        let ago = self.told_at.map(|at| at.elapsed());
        let is_due = match (self.is_told, self.state) {
            (false, State::Working) => ago.is_none_or(|ago| ago >= PAUSE),
            (false, _) => true,
            (true, _) => remind && ago.is_none_or(|ago| ago >= REMINDER),
        };
        if is_due {
            let still = if self.is_told { "still " } else { "" };
            console.note(&format!("{}: {still}{}", self.label, self.doing));
            self.is_told = true;
            self.told_at = Some(Instant::now());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        for bar in self.hosts.values().filter_map(|host| host.bar.as_ref()) {
            bar.finish_and_clear();
        }
        if let View::Together(total, bar) = &self.view {
            bar.finish_and_clear();
            self.console.note(&summary(&self.hosts, *total));
        }
    }
}

/// Files on their way: a line on a terminal, and nothing without one.
pub(crate) struct Copying(Option<ProgressBar>);

impl Copying {
    /// The way of `what`.
    pub(crate) fn new(console: &Arc<Console>, what: String) -> Self {
        let is_shown = console.level() >= LogLevel::Info && io::stderr().is_terminal();
        Self(is_shown.then(|| {
            let bar = spinner(console);
            bar.set_message(what);
            bar
        }))
    }

    /// So far have they come.
    pub(crate) fn tell(&self, so_far: Transferred) {
        let Some(bar) = &self.0 else { return };
        let template = match so_far.total {
            Some(total) => {
                bar.set_length(total);
                "{spinner} {msg}  {bytes} of {total_bytes}  {bytes_per_sec}"
            }
            None => "{spinner} {msg}  {bytes}  {bytes_per_sec}",
        };
        if bar.position() == 0
            && let Ok(style) = ProgressStyle::with_template(template)
        {
            bar.set_style(style);
        }
        bar.set_position(so_far.bytes);
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// `3 (web.example.com)`, with as much of it as is known.
fn label(told: &Told) -> String {
    let is_named = told.host != told.id.to_string();
    match told.number {
        Some(number) if is_named => format!("{number} ({})", told.host),
        Some(number) => format!("{number}"),
        None => told.host.clone(),
    }
}

fn summary(hosts: &IndexMap<HostId, Host>, total: usize) -> String {
    let count = |state| hosts.values().filter(|host| host.state == state).count();
    let (done, failed) = (count(State::Done), count(State::Failed));
    let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    format!("{done} of {total} done{failures}")
}

fn spinner(console: &Console) -> ProgressBar {
    let bar = console.bars().add(ProgressBar::new_spinner());
    // Not as wide as the terminal: the `^C` that it shows would begin a line of its own, and be in the way.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn span(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{}ms", time.as_millis())
    } else if time < Duration::from_secs(10) {
        format!("{:.1}s", time.as_secs_f64())
    } else {
        broker::duration::format(Duration::from_secs(time.as_secs()))
    }
}
