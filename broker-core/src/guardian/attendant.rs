//! Attends to a guardian: starts it when there is something to guard, keeps it told, and replaces one that has died.
//!
//! It keeps books of all that it said, so that the next one knows the same.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::client::warn;
use super::message::{FromGuardian, Instance, Run, ToGuardian, VERSION, Values, Watch, line};
use super::process::{Running, next_reply, start};
use crate::args::Args;
use crate::id::{HostId, RunId};
use crate::settings::ProviderSettings;

/// How often a guardian that died is replaced.
const REPLACED: u32 = 5;

/// What the attendant of a guardian is asked to do.
pub(super) enum Order {
    Watch(Box<Watched>),
    Settled(HostId),
    End(RunId),
}

/// Hosts that are about to be made, and all that a guardian has to know of them.
pub(super) struct Watched {
    pub(super) run: Run,
    pub(super) settings: Arc<ProviderSettings>,
    pub(super) ssh: Option<Args>,
    pub(super) watch: Watch,
    /// Answered when the guardian was told, or there is none.
    pub(super) told: oneshot::Sender<()>,
    /// Answered when the guardian has answered, or there is none.
    pub(super) answered: oneshot::Sender<()>,
}

/// What a guardian was told of a run.
struct Book {
    run: Run,
    instances: Vec<Arc<ProviderSettings>>,
    ssh: Option<Args>,
    hosts: HashMap<HostId, Option<Timestamp>>,
    has_ended: bool,
}

impl Book {
    fn is_over(&self) -> bool {
        self.has_ended && self.hosts.is_empty()
    }

    fn instance(&self, settings: &ProviderSettings) -> Vec<u8> {
        line(&ToGuardian::Instance { run: self.run.run, settings: Instance::from(settings) })
    }

    fn ssh(&self, values: &Args) -> Vec<u8> {
        line(&ToGuardian::Ssh { run: self.run.run, values: Values::from(values) })
    }

    /// All of it, for a guardian that knows nothing.
    fn lines(&self) -> Vec<u8> {
        let mut lines = line(&ToGuardian::Run(self.run.clone()));
        lines.extend(self.instances.iter().flat_map(|settings| self.instance(settings)));
        lines.extend(self.ssh.iter().flat_map(|values| self.ssh(values)));
        lines.extend(self.hosts.iter().flat_map(|(host, lease_until)| {
            let watch = Watch { run: self.run.run, hosts: vec![*host], lease_until: *lease_until };
            line(&ToGuardian::Watch(watch))
        }));
        if self.has_ended {
            lines.extend(line(&ToGuardian::End { run: self.run.run }));
        }
        lines
    }
}

/// Attends to one guardian.
pub(super) struct Attendant {
    program: PathBuf,
    is_slow: Arc<AtomicBool>,
    books: HashMap<RunId, Book>,
    running: Option<Running>,
    replaced: u32,
    /// Whether there will never be one that works.
    is_hopeless: bool,
    /// Those who wait for the first answer.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Attendant {
    pub(super) fn new(program: PathBuf, is_slow: Arc<AtomicBool>) -> Self {
        Self {
            program,
            is_slow,
            books: HashMap::new(),
            running: None,
            replaced: 0,
            is_hopeless: false,
            waiting: Vec::new(),
        }
    }

    pub(super) async fn attend(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            tokio::select! {
                biased;
                reply = next_reply(self.running.as_mut()) => self.heard(reply).await,
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Watch(watched) => self.watch(*watched).await,
            Order::Settled(host) => {
                if let Some(book) = self.books.values_mut().find(|book| book.hosts.contains_key(&host)) {
                    book.hosts.remove(&host);
                    self.send(&line(&ToGuardian::Settled { host })).await;
                }
            }
            Order::End(run) => {
                if let Some(book) = self.books.get_mut(&run) {
                    book.has_ended = true;
                    self.send(&line(&ToGuardian::End { run })).await;
                }
            }
        }
        self.books.retain(|_, book| !book.is_over());
    }

    async fn watch(&mut self, watched: Watched) {
        let Watched { run, settings, ssh, watch, told, answered } = watched;
        let mut lines = Vec::new();
        let book = self.books.entry(run.run).or_insert_with(|| {
            lines.extend(line(&ToGuardian::Run(run.clone())));
            Book { run, instances: Vec::new(), ssh: None, hosts: HashMap::new(), has_ended: false }
        });
        if !book.instances.iter().any(|known| Arc::ptr_eq(known, &settings)) {
            lines.extend(book.instance(&settings));
            book.instances.push(Arc::clone(&settings));
        }
        if let (None, Some(values)) = (&book.ssh, ssh) {
            lines.extend(book.ssh(&values));
            book.ssh = Some(values);
        }
        book.hosts.extend(watch.hosts.iter().map(|host| (*host, watch.lease_until)));
        lines.extend(line(&ToGuardian::Watch(watch)));
        match &self.running {
            Some(_) => self.send(&lines).await,
            None => self.start().await,
        }
        let _nobody_may_wait = told.send(());
        match self.running.as_ref().map(|running| &running.providers) {
            Some(None) => self.waiting.push(answered),
            Some(Some(providers)) => {
                warn_of_strangers(&self.program, providers, &settings.provider);
                let _nobody_may_wait = answered.send(());
            }
            // Dropping it is an answer too.
            None => {}
        }
    }

    /// Starts a guardian, and tells it everything.
    async fn start(&mut self) {
        if self.is_hopeless {
            return;
        }
        let program = self.program.clone();
        let started =
            tokio::task::spawn_blocking(move || start(&program)).await.unwrap_or_else(|panic| Err(panic.into()));
        match started.and_then(Running::new) {
            Ok(running) => {
                self.running = Some(running);
                let mut lines = line(&ToGuardian::Hello { version: VERSION.to_owned() });
                lines.extend(self.books.values().flat_map(Book::lines));
                self.send(&lines).await;
            }
            Err(error) => self.give_up(&format!("`{}` cannot be run: {error}", self.program.display())),
        }
    }

    async fn send(&mut self, lines: &[u8]) {
        if let Some(running) = &mut self.running {
            running.send(lines).await;
        }
    }

    async fn heard(&mut self, reply: Option<String>) {
        let reply = reply.map(|line| serde_json::from_str(&line));
        match reply {
            Some(Ok(FromGuardian::Ready { providers })) => {
                let providers = providers.into_iter().collect();
                for settings in self.books.values().flat_map(|book| &book.instances) {
                    warn_of_strangers(&self.program, &providers, &settings.provider);
                }
                if let Some(running) = &mut self.running {
                    running.providers = Some(providers);
                }
                self.is_slow.store(false, Ordering::Relaxed);
                self.waiting.clear();
            }
            Some(Ok(FromGuardian::Refused { why })) => {
                self.give_up(&format!("`{}` cannot be it: {why}", self.program.display()));
                self.end().await;
            }
            Some(Err(_)) => {
                self.give_up(&format!("`{}` answers as no guardian does", self.program.display()));
                self.end().await;
            }
            None => self.replace().await,
        }
    }

    /// The guardian has ended.
    async fn replace(&mut self) {
        let was_ready = self.running.as_ref().is_some_and(|running| running.providers.is_some());
        self.end().await;
        let has_work = self.books.values().any(|book| !book.hosts.is_empty());
        if !was_ready {
            self.give_up(&format!("`{}` is none, or ended at once", self.program.display()));
        } else if self.replaced >= REPLACED {
            self.give_up("one after the other has ended");
        } else if has_work {
            self.replaced += 1;
            tracing::debug!("the guardian has ended before its time, and is replaced");
            self.start().await;
        }
    }

    /// Ends a guardian that is of no use.
    async fn end(&mut self) {
        if let Some(running) = self.running.take()
            && let Err(error) = tokio::task::spawn_blocking(move || running.end()).await
        {
            tracing::debug!(%error, "the guardian cannot be ended");
        }
    }

    fn give_up(&mut self, why: &str) {
        warn(why);
        self.is_hopeless = true;
        self.waiting.clear();
    }
}

/// Says once for each provider that a guardian does not have it.
fn warn_of_strangers(program: &Path, providers: &HashSet<String>, provider: &str) {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

    if providers.contains(provider) || SAID.lock().iter().any(|said| said == provider) {
        return;
    }
    SAID.lock().push(provider.to_owned());
    warn(&format!(
        "`{}` does not have provider `{provider}`; `Broker::builder().guardian(…)` takes the path of one that has",
        program.display()
    ));
}
