//! The owner's end: tells of hosts that are to be made, and waits no longer for a guardian than it has to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::attendant::{Attendant, Order, Watched};
use super::message::{Run, Watch};
use super::program::{Choice, Program};
use crate::args::Args;
use crate::context::Core;
use crate::id::{HostId, RunId};
use crate::settings::ProviderSettings;

/// How long a checkout waits for its guardian to start, and again to answer.
const PATIENCE: Duration = Duration::from_secs(10);

const INSTALL: &str = "`cargo install --path broker-cli` in a checkout of Broker installs one";

/// A broker's way to its guardian.
pub(crate) struct Guarding {
    choice: Choice,
    link: OnceLock<Option<Link>>,
    run: OnceLock<RunId>,
}

/// A way to the task that attends to a guardian.
#[derive(Clone)]
struct Link {
    orders: mpsc::UnboundedSender<Order>,
    /// Whether it has kept somebody waiting in vain, so that nobody else is to wait.
    is_slow: Arc<AtomicBool>,
}

/// Hosts that a guardian was told of.
pub(crate) struct Watching(Option<(Link, oneshot::Receiver<()>)>);

impl Guarding {
    pub(crate) fn new(choice: Choice) -> Self {
        Self { choice, link: OnceLock::new(), run: OnceLock::new() }
    }

    /// Has hosts watched that are about to be made for guards. When this returns the guardian knows of them, or there is
    /// none and that was said; no fault of a guardian's holds up a checkout for long.
    pub(crate) async fn watch(
        core: &Arc<Core>,
        settings: &Arc<ProviderSettings>,
        hosts: Vec<HostId>,
        lease_until: Option<Timestamp>,
        has_teardown: bool,
    ) -> Watching {
        let this = &core.guarding;
        let Some(link) = this.link().await else { return Watching(None) };
        let Ok(owner) = core.owner().await else { return Watching(None) };
        // Cannot have been set to another one.
        let _known = this.run.set(owner.run);
        let run = Run {
            run: owner.run,
            directory: core.directory.path().to_owned(),
            thread_limit: core.settings.thread_limit().map(usize::from),
        };
        let ssh = if has_teardown { ssh(core).await } else { None };
        let (told, is_told) = oneshot::channel();
        let (answered, is_answered) = oneshot::channel();
        let watch = Watch { run: owner.run, hosts, lease_until };
        let watched = Watched { run, settings: Arc::clone(settings), ssh, watch, told, answered };
        if link.orders.send(Order::Watch(Box::new(watched))).is_err() {
            return Watching(None);
        }
        link.wait(is_told).await;
        Watching(Some((link, is_answered)))
    }

    async fn link(&self) -> Option<Link> {
        if let Some(link) = self.link.get() {
            return link.clone();
        }
        let choice = self.choice.clone();
        let program = tokio::task::spawn_blocking(move || choice.program()).await.unwrap_or(Program::Missing);
        self.link.get_or_init(|| link(program)).clone()
    }

    /// A host is gone, and needs no guardian any more.
    pub(crate) fn settled(&self, host: HostId) {
        self.tell(Order::Settled(host));
    }

    fn tell(&self, order: Order) {
        if let Some(Some(link)) = self.link.get() {
            // A task that has ended has nobody to tell.
            drop(link.orders.send(order));
        }
    }
}

impl Drop for Guarding {
    fn drop(&mut self) {
        if let Some(run) = self.run.get() {
            self.tell(Order::End(*run));
        }
    }
}

impl Watching {
    /// Waits until the guardian has said that it watches, or that was waited for long enough.
    pub(crate) async fn confirmed(self) {
        if let Some((link, answered)) = self.0 {
            link.wait(answered).await;
        }
    }
}

impl Link {
    async fn wait(&self, signal: oneshot::Receiver<()>) {
        if self.is_slow.load(Ordering::Relaxed) {
            return;
        }
        // A sender that is gone has nothing more to say.
        if tokio::time::timeout(PATIENCE, signal).await.is_err() && !self.is_slow.swap(true, Ordering::Relaxed) {
            warn("it does not answer");
        }
    }
}

/// The passwords and keys for SSH, which may have to be asked for.
async fn ssh(core: &Arc<Core>) -> Option<Args> {
    let settings = core.settings.clone();
    let values = tokio::task::spawn_blocking(move || settings.ssh_values()).await.ok()?;
    values
        .inspect_err(|error| {
            let error = crate::error_chain(error);
            tracing::warn!(error, "the guardian will not be able to run teardown commands by SSH");
        })
        .ok()
}

/// The way to the guardian that a program is. All brokers of the process share it.
fn link(program: Program) -> Option<Link> {
    static LINKS: Mutex<BTreeMap<PathBuf, Link>> = Mutex::new(BTreeMap::new());

    let program = match program {
        Program::At(program) => program,
        Program::Unwanted => return None,
        Program::Missing => {
            warn(&format!("there is no program `broker` beside this one or on the PATH ({INSTALL})"));
            return None;
        }
    };
    let mut links = LINKS.lock();
    if let Some(link) = links.get(&program) {
        return Some(link.clone());
    }
    let (orders, queue) = mpsc::unbounded_channel();
    let link = Link { orders, is_slow: Arc::default() };
    let attendant = Attendant::new(program.clone(), Arc::clone(&link.is_slow));
    crate::engine::spawn(attendant.attend(queue)).ok()?;
    links.insert(program, link.clone());
    Some(link)
}
/// Says once what stands in the way of a guardian.
#[expect(clippy::print_stderr, reason = "a test that sets up no log has to learn that its hosts can be lost sight of")]
pub(super) fn warn(why: &str) {
    static SAID: AtomicBool = AtomicBool::new(false);

    if SAID.swap(true, Ordering::Relaxed) {
        tracing::debug!(why, "no guardian");
        return;
    }
    let text = format!(
        "no guardian: {why}; if this process is killed its hosts stay until `broker checkin`, or until their leases end"
    );
    if tracing::dispatcher::has_been_set() {
        tracing::warn!("{text}");
    } else {
        eprintln!("broker: {text}");
    }
}
