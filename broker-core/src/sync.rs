//! What the inventory says, beside what a provider says: to settle the one with the other, or to show where they differ.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use crate::broker::Broker;
use crate::context::{Core, Instance};
use crate::engine;
use crate::error::{Error, Result};
use crate::id::HostId;
use crate::inventory::{Details, HostRecord, HostState, InventoryError};
use crate::provider::{Endpoint, Found, HostFacts, Provider, ProviderError, Scope};
use crate::recovery;
use crate::request::find_provider;

/// What a sync changed.
#[derive(Debug, Clone, Default)]
pub struct Synced {
    /// Hosts that the provider has, and that were not in the inventory.
    pub added: Vec<HostRecord>,
    /// Hosts of which the provider tells something else than before, and those that it still has of a process that ended
    /// while it made or released them.
    pub updated: Vec<HostRecord>,
    /// Hosts that the provider does not have any more.
    pub vanished: Vec<HostRecord>,
    /// Entries of what was never handed over, or was to go, and does not exist. They are out of the inventory now.
    pub gone: Vec<HostRecord>,
    /// How many are as they were.
    pub unchanged: usize,
}

/// Where the inventory and a provider differ.
#[derive(Debug, Clone, Default)]
pub struct Orphans {
    /// What is there, and not in the inventory.
    pub not_held: Vec<Found>,
    /// What is in the inventory, and not there.
    pub not_there: Vec<HostRecord>,
}

impl Broker {
    /// Settles the inventory with what a provider says is there: adds what it has and we have not, updates what changed,
    /// marks as `vanished` what it does not have any more, and settles what dead processes left behind. Nothing is
    /// released. Other providers and instances are left alone.
    ///
    /// # Errors
    ///
    /// If the provider or its instance does not exist or cannot answer; nothing is changed then.
    pub async fn sync(&self, provider: &str, instance: Option<&str>, scope: Scope) -> Result<Synced> {
        let asked = self.asked(provider, instance).await?;
        let core = Arc::clone(&self.core);
        engine::call("syncing", async move { sync(&core, &asked, scope).await }).await?
    }

    /// Finds out where the inventory and a provider differ, and changes nothing.
    ///
    /// # Errors
    ///
    /// If the provider or its instance does not exist or cannot answer.
    pub async fn orphans(&self, provider: &str, instance: Option<&str>, scope: Scope) -> Result<Orphans> {
        let asked = self.asked(provider, instance).await?;
        let core = Arc::clone(&self.core);
        engine::call("looking for orphans", async move {
            let seen = look(&core, &asked, &scope).await?;
            let Unlisted { not_there, .. } = unlisted(&core, &asked, &seen).await?;
            Ok(Orphans {
                not_held: seen.not_held.into_iter().map(|(_, found)| found).collect(),
                not_there: not_there.into_iter().map(Arc::unwrap_or_clone).collect(),
            })
        })
        .await?
    }

    pub(crate) async fn asked(&self, provider: &str, instance: Option<&str>) -> Result<Asked> {
        let name = find_provider(provider, &self.core.infos())?.name.to_owned();
        let Instance { provider, name: instance, .. } = self.instance(&name, instance).await?;
        Ok(Asked { name, instance, provider })
    }
}

/// The provider and instance that a question is for.
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) instance: Option<String>,
    pub(crate) provider: Arc<dyn Provider>,
}

impl Asked {
    fn failed(&self, source: ProviderError) -> Error {
        let doing = match &self.instance {
            Some(instance) => format!("could not find out what provider `{}` has at `{instance}`", self.name),
            None => format!("could not find out what provider `{}` has", self.name),
        };
        Error::Provider { doing, source }
    }

    /// Whether a record is of a host that was made there.
    fn has_made(&self, record: &HostRecord, endpoint: &Endpoint) -> bool {
        let here = record.endpoint.as_ref().is_none_or(|at| at.identity == endpoint.identity);
        record.provider == self.name && record.instance == self.instance && here
    }
}

/// What a provider lists, beside what the inventory has.
pub(crate) struct Seen {
    endpoint: Endpoint,
    known: Vec<Arc<HostRecord>>,
    /// In both.
    held: Vec<(Arc<HostRecord>, Found)>,
    /// There alone, with the record that each would have.
    pub(crate) not_held: Vec<(HostRecord, Found)>,
}

/// Asks a provider what it has. Nothing is written.
pub(crate) async fn look(core: &Arc<Core>, asked: &Asked, scope: &Scope) -> Result<Seen> {
    let Asked { name, instance, provider } = asked;
    let wrap = |source| asked.failed(source);
    let endpoint = engine::caught(provider.endpoint()).await.map_err(wrap)?;
    let known = core.inventory().load().await?.records;
    let known = known.into_iter().filter(|record| asked.has_made(record, &endpoint)).collect();
    let mut listed = engine::caught(provider.list(&Scope { known, ..scope.clone() })).await.map_err(wrap)?;
    // Read after the provider was asked: a host that was checked out in between is in here, and not in there.
    let known = core.inventory().load().await?.records;
    let (held, drafts) = {
        let records = Records::of(&known, asked, &endpoint);
        // Of two hosts of one name neither is known to be the one that was meant.
        let mut names: HashMap<&str, usize> = HashMap::new();
        for name in listed.iter().filter(|found| found.broker_id.is_none()).filter_map(name_of) {
            *names.entry(name).or_default() += 1;
        }
        let taken: HashSet<HostId> = listed.iter().filter_map(|found| found.broker_id).collect();
        let by_name = |found: &Found| {
            let name = name_of(found).filter(|name| names.get(name) == Some(&1))?;
            records.named(name, provider.knows_hosts_by_name()).filter(|record| !taken.contains(&record.id))
        };
        let matches: Vec<Match> = listed
            .iter()
            .map(|found| match found.broker_id {
                Some(id) => records.of_id(id),
                // One that was made by us carries its id; only what came from elsewhere goes by its name.
                None => by_name(found).map_or(Match::Nobody, Match::Held),
            })
            .collect();
        let mut held = Vec::new();
        let mut drafts = Vec::new();
        for (found, matched) in listed.drain(..).zip(matches) {
            match matched {
                Match::Held(record) => held.push((record, found)),
                Match::Elsewhere => {}
                Match::Nobody => drafts.push((draft_of(&found, name, instance.as_ref(), &endpoint), found)),
            }
        }
        (held, drafts)
    };
    let looked = stream::iter(drafts).map(async |(draft, found): (HostRecord, Found)| {
        // One of ours may have been released, and its record have gone, since it was listed.
        let is_there = found.broker_id.is_none() || !engine::caught(provider.find(&draft)).await?.is_empty();
        Ok::<_, ProviderError>(is_there.then_some((draft, found)))
    });
    let looked: Vec<Option<_>> = looked.buffered(core.concurrency()).try_collect().await.map_err(wrap)?;
    let not_held = looked.into_iter().flatten().collect();
    Ok(Seen { endpoint, known, held, not_held })
}

fn name_of(found: &Found) -> Option<&str> {
    found.facts.name.as_deref()
}

/// The records of a sync, by what a provider's list may know them by.
struct Records<'a> {
    /// All that there are, of whatever instance.
    all: HashSet<HostId>,
    by_id: HashMap<HostId, &'a Arc<HostRecord>>,
    by_name: HashMap<&'a str, Vec<&'a Arc<HostRecord>>>,
}

/// Whose a listed host is.
enum Match {
    Held(Arc<HostRecord>),
    /// Known under another instance or endpoint.
    Elsewhere,
    Nobody,
}

impl<'a> Records<'a> {
    fn of(known: &'a [Arc<HostRecord>], asked: &Asked, endpoint: &Endpoint) -> Self {
        let mut by_id = HashMap::new();
        let mut by_name: HashMap<&str, Vec<_>> = HashMap::new();
        for record in known.iter().filter(|record| asked.has_made(record, endpoint)) {
            by_id.insert(record.id, record);
            if let Some(name) = &record.name {
                by_name.entry(name).or_default().push(record);
            }
        }
        Self { all: known.iter().map(|record| record.id).collect(), by_id, by_name }
    }

    fn of_id(&self, id: HostId) -> Match {
        match self.by_id.get(&id) {
            Some(record) => Match::Held(Arc::clone(record)),
            None if self.all.contains(&id) => Match::Elsewhere,
            None => Match::Nobody,
        }
    }

    /// The record of a name that can only be that one: one that came from elsewhere itself, or where the provider's names
    /// are good enough for that, the only one of the name.
    fn named(&self, name: &str, knows_by_name: bool) -> Option<Arc<HostRecord>> {
        let records = self.by_name.get(name)?;
        let may_be = |record: &&&Arc<HostRecord>| record.owner.is_none() || knows_by_name && records.len() == 1;
        records.iter().find(may_be).copied().map(Arc::clone)
    }
}

/// What the inventory has and a provider's list has not.
struct Unlisted {
    /// The provider does not have it.
    not_there: Vec<Arc<HostRecord>>,
    /// The provider has it, and whoever was making or releasing it is dead.
    left_behind: Vec<(Arc<HostRecord>, Vec<Found>)>,
}

/// Asks for each host that is not listed whether it is there.
async fn unlisted(core: &Arc<Core>, asked: &Asked, seen: &Seen) -> Result<Unlisted> {
    let provider = &asked.provider;
    // A list that was narrowed says nothing of the rest, so each of them is looked for by its own id.
    let listed: HashSet<HostId> = seen.held.iter().map(|(listed, _)| listed.id).collect();
    let unlisted = seen.known.iter().filter(|record| {
        record.endpoint.is_some() && asked.has_made(record, &seen.endpoint) && !listed.contains(&record.id)
    });
    let looked = stream::iter(unlisted.cloned().collect::<Vec<_>>())
        .map(async |record: Arc<HostRecord>| {
            // Whoever makes or releases a host is the one that knows.
            let busy = matches!(record.state, HostState::Pending | HostState::Releasing);
            if busy && core.is_owner_busy(&record).await {
                return Ok(None);
            }
            let found = engine::caught(provider.find(&record)).await;
            found.map(|found| Some((record, found, busy)))
        })
        .buffer_unordered(core.concurrency())
        .collect::<Vec<_>>()
        .await;
    let mut sorted = Unlisted { not_there: Vec::new(), left_behind: Vec::new() };
    for looked in looked {
        match looked.map_err(|source| asked.failed(source))? {
            Some((record, found, _)) if found.is_empty() => sorted.not_there.push(record),
            Some((record, found, true)) => sorted.left_behind.push((record, found)),
            _ => {}
        }
    }
    sorted.not_there.sort_unstable_by_key(|record| record.number);
    Ok(sorted)
}

async fn sync(core: &Arc<Core>, asked: &Asked, scope: Scope) -> Result<Synced> {
    // Everything is asked before anything is written.
    let seen = look(core, asked, &scope).await?;
    let Unlisted { not_there, left_behind } = unlisted(core, asked, &seen).await?;
    let Seen { held, not_held, .. } = seen;
    let mut synced = Synced::default();
    for (record, found) in held {
        match settle_with(core, asked, &record, found).await? {
            Some(updated) => synced.updated.push(updated),
            None => synced.unchanged += 1,
        }
    }
    for (record, found) in left_behind {
        match write(core, recovery::settled(&record, &found, asked.provider.as_ref())).await? {
            Some(updated) => synced.updated.push(updated),
            None => synced.unchanged += 1,
        }
    }
    for record in not_there {
        match without_host(core, asked, record).await? {
            Some(record) if record.state == HostState::Gone => synced.gone.push(record),
            Some(record) => synced.vanished.push(record),
            None => synced.unchanged += 1,
        }
    }
    let drafts = not_held.into_iter().filter(|(_, found)| is_host(core, asked, found)).map(|(draft, _)| draft);
    synced.added = add(core, drafts.collect()).await?;
    Ok(synced)
}

/// Adds hosts, but for those that somebody else has added in the meantime.
async fn add(core: &Core, mut drafts: Vec<HostRecord>) -> Result<Vec<HostRecord>> {
    loop {
        match core.inventory().add(drafts.clone()).await {
            Err(InventoryError::Duplicate { id }) if drafts.iter().any(|draft| draft.id == id) => {
                drafts.retain(|draft| draft.id != id);
            }
            added => return Ok(added?),
        }
    }
}

/// Whether something is a host, and not what an execution made.
fn is_host(core: &Core, asked: &Asked, found: &Found) -> bool {
    let actions = core.infos().into_iter().filter(|info| info.name == asked.name).flat_map(|info| &info.actions);
    let made_by = actions.into_iter().find(|action| Some(action.name) == found.identity.action.as_deref());
    made_by.is_none_or(|action| action.makes_host)
}

/// Takes over what a provider tells of a host that we know, if it tells anything new.
async fn settle_with(core: &Arc<Core>, asked: &Asked, record: &HostRecord, found: Found) -> Result<Option<HostRecord>> {
    if matches!(record.state, HostState::Pending | HostState::Releasing) {
        // Whoever makes or releases a host writes its record; a sync stays out of that.
        if core.is_owner_busy(record).await {
            return Ok(None);
        }
        return write(core, recovery::settled(record, &[found], asked.provider.as_ref())).await;
    }
    let refresh = |record: &mut HostRecord, facts: HostFacts| {
        record.absorb(facts);
        if record.state == HostState::Vanished {
            record.state = HostState::Active;
        }
    };
    let mut wanted = record.clone();
    refresh(&mut wanted, found.facts.clone());
    let is_news = wanted != *record;
    wanted.details.facts.extend(found.notes.clone());
    if wanted == *record {
        return Ok(None);
    }
    let changed = core.change(record.clone(), |record| {
        if !matches!(record.state, HostState::Pending | HostState::Releasing) {
            refresh(record, found.facts.clone());
            record.details.facts.extend(found.notes.clone());
        }
        Ok(())
    });
    changed.await.map(|changed| is_news.then_some(changed))
}

/// Writes down that the provider does not have a host. Returns its record, if that is news.
async fn without_host(core: &Arc<Core>, asked: &Asked, record: Arc<HostRecord>) -> Result<Option<HostRecord>> {
    let provider = asked.provider.as_ref();
    let settled = match record.state {
        HostState::Pending | HostState::Releasing => recovery::settled(&record, &[], provider),
        HostState::Failed if record.is_half_made() => {
            let gone = HostRecord { state: HostState::Gone, ..HostRecord::clone(&record) };
            recovery::is_settled(&record, provider).then_some(gone)
        }
        HostState::Active | HostState::Failed => {
            Some(HostRecord { state: HostState::Vanished, ..HostRecord::clone(&record) })
        }
        HostState::Vanished | HostState::Gone => None,
    };
    write(core, settled).await
}

/// Writes a record, unless somebody else has written it in the meantime: what they wrote is newer than what we asked.
async fn write(core: &Core, record: Option<HostRecord>) -> Result<Option<HostRecord>> {
    let Some(record) = record else { return Ok(None) };
    match core.inventory().update(record).await {
        Ok(written) => Ok(Some(written)),
        Err(InventoryError::Conflict { .. } | InventoryError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The record of a host that the provider has and nobody has written down.
fn draft_of(found: &Found, provider: &str, instance: Option<&String>, endpoint: &Endpoint) -> HostRecord {
    let mut record = HostRecord {
        instance: instance.cloned(),
        details: Details { args: found.args.clone(), ..Details::default() }.into(),
        checked_out_at: Some(Timestamp::now()),
        lease_until: found.identity.lease_until,
        endpoint: Some(endpoint.clone()),
        ..HostRecord::new(found.broker_id.unwrap_or_else(HostId::generate), provider, HostState::Active)
    };
    record.absorb(found.facts.clone());
    record.details.facts.extend(found.notes.clone());
    record
}
