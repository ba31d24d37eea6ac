//! The states of a host as a machine: whatever processes do and whenever they die, a simple model says what is in the
//! inventory and what exists.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "all of this runs inside of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use broker::prelude::*;
use broker_core::HostId;
use broker_core::inventory::{Holding, HostRecord, HostState, Inventory, Owner, RunLock};
use broker_core::provider::Scope;
use broker_core::settings::Settings;
use broker_tests::conformance::current_thread;
use serde_json::{Value, json};

/// How many histories, and how long each is.
const HISTORIES: u64 = 24;
const STEPS: usize = 60;

/// How many processes there are besides those that the commands run in.
const OTHERS: usize = 3;

/// What the model knows of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Life {
    /// Nothing, as soon as the host is gone from the inventory.
    state: Option<HostState>,
    exists: bool,
    /// Which of the other processes makes or releases it, as long as that lives.
    busy: Option<usize>,
    /// Whether it was begun and never handed over.
    half_made: bool,
    /// Whether the provider refuses to release it.
    stuck: bool,
}

impl Life {
    /// A process dies over it, or is at work on it, in a state that is one of both.
    fn is_under_way(&self) -> bool {
        matches!(self.state, Some(HostState::Pending | HostState::Releasing))
    }

    /// What a checkin makes of it. Returns whether it succeeds.
    fn check_in(&mut self) -> bool {
        if self.is_under_way() && self.busy.is_some() {
            return false;
        }
        if self.stuck && self.exists {
            // It goes back to where it was; of one whose release was cut off nobody knows where that is.
            if self.state == Some(HostState::Releasing) {
                self.state = Some(HostState::Failed);
            }
            return false;
        }
        *self = Self { state: None, exists: false, busy: None, ..self.clone() };
        true
    }

    /// What it is for whoever wants to use it.
    fn recover(&mut self) {
        if self.state == Some(HostState::Pending) && self.busy.is_none() {
            self.state = self.exists.then_some(HostState::Active);
            self.half_made &= !self.exists;
        }
    }

    /// What a sync makes of it.
    fn sync(&mut self) {
        if self.is_under_way() {
            if self.busy.is_some() {
                return;
            }
            if self.state == Some(HostState::Pending) {
                return self.recover();
            }
            self.state = self.exists.then_some(HostState::Failed);
            return;
        }
        self.state = match self.state {
            Some(HostState::Active | HostState::Failed) if !self.exists => {
                (!self.half_made).then_some(HostState::Vanished)
            }
            Some(HostState::Vanished) if self.exists => Some(HostState::Active),
            state => state,
        };
    }
}

/// A Broker directory, a provider, and processes: two that run commands, and others that are at work and die.
struct World {
    place: tempfile::TempDir,
    brokers: [Broker; 2],
    journal: Inventory,
    others: [RunLock; OTHERS],
    model: BTreeMap<HostId, Life>,
    history: Vec<String>,
}

impl World {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("broker");
        let brokers = [(); 2].map(|()| {
            let hosts = place.path().join("hosts");
            let settings = Settings::builder().set("TestProvider.directory", hosts.to_str().unwrap());
            let settings = settings.known_providers(["TestProvider"]).build().unwrap().settings;
            Broker::builder().settings(settings).directory(&directory).without_guardian().build().unwrap()
        });
        let others = [(); OTHERS].map(|()| RunLock::acquire(&directory).unwrap());
        let journal = Inventory::open(&directory);
        Self { place, brokers, journal, others, model: BTreeMap::new(), history: Vec::new() }
    }

    fn file(&self, id: HostId) -> PathBuf {
        self.place.path().join(format!("hosts/{id}.json"))
    }

    fn existing(&self) -> BTreeSet<HostId> {
        let Ok(entries) = fs::read_dir(self.place.path().join("hosts")) else { return BTreeSet::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect()
    }

    async fn record(&self, id: HostId) -> Option<HostRecord> {
        let records = self.journal.load().await.unwrap().records;
        records.iter().find(|record| record.id == id).map(|record| HostRecord::clone(record))
    }

    /// Does something at random. The model does the same.
    async fn step(&mut self, choices: &mut fastrand::Rng) {
        let broker = self.brokers[choices.usize(..2)].clone();
        let known: Vec<HostId> =
            self.model.iter().filter(|(_, life)| life.state.is_some()).map(|(id, _)| *id).collect();
        let id = known.get(choices.usize(..known.len().max(1))).copied();
        match (choices.u32(0..20), id) {
            (0..4, _) | (_, None) => self.check_out(&broker, choices.u32(1..=3)).await,
            (4..9, Some(id)) => {
                let state = [HostState::Pending, HostState::Releasing, HostState::Failed][choices.usize(..3)];
                self.is_at_work(choices.usize(..OTHERS), id, state).await;
            }
            (9..11, _) => self.dies(choices.usize(..OTHERS)),
            (11, Some(id)) => self.disappears(id),
            (12, Some(id)) => self.gets_stuck(id, choices.bool()),
            (13..16, Some(id)) => self.check_in(&broker, id).await,
            (16..18, Some(id)) => self.use_it(&broker, id).await,
            _ => self.sync(&broker).await,
        }
    }

    async fn check_out(&mut self, broker: &Broker, count: u32) {
        self.history.push(format!("checkout of {count}"));
        for made in broker.checkout_kept(HostRequest::action("test_action", "t").count(count)).await.unwrap() {
            let life =
                Life { state: Some(HostState::Active), exists: true, busy: None, half_made: false, stuck: false };
            self.model.insert(made.unwrap().id(), life);
        }
    }

    /// Another process has begun to make a host or to release it, or has failed to.
    async fn is_at_work(&mut self, other: usize, id: HostId, state: HostState) {
        if self.model[&id].is_under_way() && self.model[&id].busy.is_some() {
            // Nobody takes over what somebody who lives is at work on.
            return;
        }
        self.history.push(format!("{id} is {state} by process {other}"));
        let current = self.record(id).await.unwrap();
        let owner = Owner { run: self.others[other].id(), ..current.owner.clone().unwrap_or_else(owner) };
        let mut wanted = HostRecord { state, owner: Some(owner), holding: Holding::Kept, ..current };
        if state == HostState::Pending {
            wanted.checked_out_at = None;
        }
        let half_made = wanted.is_half_made();
        self.journal.update(wanted).await.unwrap();
        let busy = (state != HostState::Failed).then_some(other);
        let life = self.model.get_mut(&id).unwrap();
        *life = Life { state: Some(state), busy, half_made, ..life.clone() };
    }

    /// A process ends, and another one takes its place.
    fn dies(&mut self, other: usize) {
        self.history.push(format!("process {other} dies"));
        self.others[other] = RunLock::acquire(&self.place.path().join("broker")).unwrap();
        for life in self.model.values_mut().filter(|life| life.busy == Some(other)) {
            life.busy = None;
        }
    }

    /// Somebody removes the host without a word.
    fn disappears(&mut self, id: HostId) {
        self.history.push(format!("{id} disappears"));
        // It may not exist.
        fs::remove_file(self.file(id)).ok();
        self.model.get_mut(&id).unwrap().exists = false;
    }

    fn gets_stuck(&mut self, id: HostId, stuck: bool) {
        let Ok(text) = fs::read(self.file(id)) else { return };
        self.history.push(format!("{id} can{} be released", if stuck { "not" } else { "" }));
        let mut host: Value = serde_json::from_slice(&text).unwrap();
        let arguments = host["args"].as_object_mut().unwrap();
        match stuck {
            true => arguments.insert("fail_release".to_owned(), json!("unreachable")),
            false => arguments.remove("fail_release"),
        };
        fs::write(self.file(id), host.to_string()).unwrap();
        self.model.get_mut(&id).unwrap().stuck = stuck;
    }

    async fn check_in(&mut self, broker: &Broker, id: HostId) {
        self.history.push(format!("checkin of {id}"));
        let record = self.record(id).await.unwrap();
        let (_, outcome) = broker.checkin(vec![record]).await.unwrap().remove(0);
        let expected = self.model.get_mut(&id).unwrap().check_in();
        assert_eq!(outcome.is_ok(), expected, "{outcome:?}");
    }

    async fn use_it(&mut self, broker: &Broker, id: HostId) {
        if self.model[&id].busy.is_some() {
            return;
        }
        self.history.push(format!("use of {id}"));
        let record = self.record(id).await.unwrap();
        // Whether there is anything to use is seen by what is in the inventory afterwards.
        drop(broker.host(record).execute("true").await);
        self.model.get_mut(&id).unwrap().recover();
    }

    async fn sync(&mut self, broker: &Broker) {
        self.history.push("sync".to_owned());
        broker.sync("TestProvider", None, Scope::default()).await.unwrap();
        self.model.values_mut().for_each(Life::sync);
    }

    /// The inventory and the provider have what the model says.
    async fn check(&self) {
        let records = self.journal.load().await.unwrap().records;
        let shown: BTreeMap<HostId, HostState> = records.iter().map(|record| (record.id, record.state)).collect();
        let expected: BTreeMap<HostId, HostState> =
            self.model.iter().filter_map(|(id, life)| Some((*id, life.state?))).collect();
        assert_eq!(shown, expected, "the inventory");
        let existing: BTreeSet<HostId> = self.model.iter().filter(|(_, life)| life.exists).map(|(id, _)| *id).collect();
        assert_eq!(self.existing(), existing, "what exists");
        assert!(existing.iter().all(|id| shown.contains_key(id)), "a host is lost");
    }
}

/// The one of a host that had none.
fn owner() -> Owner {
    Owner { run: broker_core::RunId::generate(), user: "jane".into(), machine: "laptop".into(), pid: 1 }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what came before:\n{}", self.history.join("\n"));
        }
    }
}

#[test]
fn the_states_are_those_of_a_simple_model() {
    for seed in 0..HISTORIES {
        let mut choices = fastrand::Rng::with_seed(seed);
        let mut world = World::new();
        world.history.push(format!("history {seed}"));
        current_thread().block_on(async {
            for _ in 0..STEPS {
                world.step(&mut choices).await;
                world.check().await;
            }
        });
    }
}
