//! Reaping: what nobody holds any more goes, although nobody checks it in.
//!
//! Three kinds of hosts are due. What a dead process left behind: a guard's host, or one that was half made or half
//! released. What is past its lease and not in a living process's hands. And, where that is asked for, what a provider
//! has with our labels and past its lease, and no inventory entry speaks of: an agent's, that is gone with its inventory.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::broker::Broker;
use crate::context::Core;
use crate::engine::{self, Released, Terms};
use crate::error::{Error, Result};
use crate::inventory::{Holding, HostRecord, HostState, InventoryError, Liveness};
use crate::provider::{ErrorKind, Found, Scope};
use crate::recovery;
use crate::request::find_provider;
use crate::settings::SettingsError;
use crate::shared;
use crate::sync;

/// How long after its lease something that no inventory entry speaks of may still be somebody's.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// What to look for.
#[derive(Debug, Clone)]
pub struct Reaping {
    /// Only what is past its lease; else also what dead processes left behind.
    pub expired_only: bool,
    /// Also what providers have and the inventory has not.
    pub unknown: bool,
    /// Only hosts of this provider.
    pub provider: Option<String>,
    /// Only hosts of this instance of it.
    pub instance: Option<String>,
    /// Whose hosts.
    pub whose: Whose,
    /// How long what the inventory has not may stay after its lease: five minutes, if nothing else is said.
    pub grace: Duration,
}

impl Default for Reaping {
    fn default() -> Self {
        Self {
            expired_only: false,
            unknown: false,
            provider: None,
            instance: None,
            whose: Whose::default(),
            grace: GRACE,
        }
    }
}

/// Whose hosts are meant, by the `USER@MACHINE` of those who checked them out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Whose {
    /// Those of this user on this machine, and entries of the inventory that have no owner.
    #[default]
    Mine,
    /// Those of owners that fit a pattern, in which `*` stands for anything. Without `@` it is for the user alone.
    Matching(String),
    /// Everybody's.
    Anyone,
}

impl Whose {
    /// Whether an owner's hosts are meant.
    pub fn covers(&self, owner: Option<&str>) -> bool {
        match (self, owner) {
            (Self::Anyone, _) => true,
            (Self::Mine, Some(owner)) => owner == crate::sys::own_address(),
            (Self::Matching(pattern), Some(owner)) if pattern.contains('@') => fits(pattern, owner),
            (Self::Matching(pattern), Some(owner)) => fits(pattern, owner.split('@').next().unwrap_or_default()),
            (Self::Mine | Self::Matching(_), None) => false,
        }
    }

    fn covers_record(&self, record: &HostRecord) -> bool {
        match &record.owner {
            Some(owner) => self.covers(Some(&owner.address())),
            // It is in this user's inventory.
            None => *self == Self::Mine || *self == Self::Anyone,
        }
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.filter_map(|at| rest.get(at..)).any(|rest| fits(after, rest))
        }),
    }
}

/// Why a host is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Its owner died before it was handed over, or was done with it.
    LeftBehind,
    /// Its lease has ended.
    Expired,
    /// It is past its lease, and no entry of the inventory speaks of it.
    Unknown,
}

/// A host that is due.
#[derive(Debug, Clone)]
pub struct Reapable {
    /// The host; of one that the inventory does not have, what its provider tells.
    pub record: HostRecord,
    /// Why it is due.
    pub reason: Reason,
    /// Whose it is, as `USER@MACHINE`, as far as that is known.
    pub owner: Option<String>,
    /// Whether its owner lives, as it was when this was found out.
    liveness: Liveness,
}

/// What was found to be due, and what was not.
#[derive(Debug, Default)]
pub struct Due {
    /// The hosts that can be reaped.
    pub hosts: Vec<Reapable>,
    /// Hosts that would be due, were they not somebody else's.
    pub of_others: Vec<Reapable>,
    /// Hosts that are past their lease, and in the hands of a living process.
    pub in_use: Vec<HostRecord>,
    /// What providers have that no entry speaks of, and that has no lease by which to judge it.
    pub without_lease: Vec<Found>,
    /// Why providers could not be asked.
    pub failures: Vec<Error>,
}

/// What came of a host that was due.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reaped {
    /// It was released.
    Released,
    /// It did not exist any more.
    Gone,
    /// It was checked out to be kept, its checkout was cut off, and it exists: it stays, as its record says now.
    Settled(Box<HostRecord>),
    /// Things have changed since it was found to be due. It was left alone.
    NotDue,
}

impl Broker {
    /// Finds out which hosts are due to be reaped. Changes nothing, and asks providers only about what is unknown.
    ///
    /// # Errors
    ///
    /// If the inventory cannot be read, or there is no such provider or instance.
    pub async fn reapable(&self, reaping: &Reaping) -> Result<Due> {
        let provider = reaping.provider.as_deref();
        let provider = provider.map(|name| find_provider(name, &self.core.infos())).transpose()?;
        let provider = provider.map(|info| info.name.to_owned());
        self.check_instance(provider.as_deref(), reaping.instance.as_deref())?;
        let reaping = Reaping { provider, ..reaping.clone() };
        let mut due = Due::default();
        let (core, wanted) = (Arc::clone(&self.core), reaping.clone());
        let judged = engine::call("looking for hosts that are due", async move { judge(&core, &wanted).await });
        judged.await??.into_iter().for_each(|judged| judged.file(&reaping, &mut due));
        if reaping.unknown {
            self.find_unknown(&reaping, &mut due).await?;
        }
        Ok(due)
    }

    fn check_instance(&self, provider: Option<&str>, instance: Option<&str>) -> Result<()> {
        let (Some(provider), Some(instance)) = (provider, instance) else { return Ok(()) };
        let (known, _) = self.core.settings.provider_instances(provider);
        if known.iter().any(|known| known == instance) {
            return Ok(());
        }
        let (provider, instance) = (provider.to_owned(), instance.to_owned());
        Err(SettingsError::UnknownInstance { provider, instance, known }.into())
    }

    /// Asks every provider that is meant what it has.
    async fn find_unknown(&self, reaping: &Reaping, due: &mut Due) -> Result<()> {
        for info in self.core.infos() {
            if reaping.provider.as_ref().is_some_and(|name| info.name != name) {
                continue;
            }
            let (instances, is_configured) = self.core.settings.provider_instances(info.name);
            let mut instances: Vec<Option<String>> = instances.into_iter().map(Some).collect();
            if instances.is_empty() {
                instances.push(None);
            }
            instances.retain(|instance| reaping.instance.is_none() || *instance == reaping.instance);
            for instance in instances {
                match self.look_for_unknown(info.name, instance.as_deref()).await {
                    Ok(found) => found.into_iter().for_each(|(draft, found)| file_unknown(draft, found, reaping, due)),
                    // Nobody has said that it is there, so that it need not be.
                    Err(Error::Provider { source, .. })
                        if matches!(source.kind(), ErrorKind::Unreachable | ErrorKind::Settings)
                            && !is_configured
                            && reaping.provider.is_none() =>
                    {
                        tracing::debug!(provider = info.name, error = crate::error_chain(&source), "not asked");
                    }
                    Err(Error::Provider { source, .. })
                        if source.kind() == ErrorKind::Unsupported && reaping.provider.is_none() => {}
                    Err(error) => due.failures.push(error),
                }
            }
        }
        Ok(())
    }

    async fn look_for_unknown(&self, provider: &str, instance: Option<&str>) -> Result<Vec<(HostRecord, Found)>> {
        let asked = self.asked(provider, instance).await?;
        let core = Arc::clone(&self.core);
        let everything = Scope { everyone: true, ..Scope::default() };
        let seen = async move { sync::look(&core, &asked, &everything).await };
        Ok(engine::call_while_wanted("looking for what is unknown", seen).await??.not_held)
    }

    /// Reaps hosts that were found to be due, as far as they still are. Every host has its own outcome.
    ///
    /// # Errors
    ///
    /// If the engine is gone.
    ///
    /// # Cancel safety
    ///
    /// The work goes on when the future is dropped.
    pub async fn reap(&self, hosts: Vec<Reapable>) -> Result<Vec<(Reapable, Result<Reaped>)>> {
        let records = hosts.iter().map(|host| host.record.clone()).collect();
        let due: std::collections::HashMap<_, _> = hosts.into_iter().map(|host| (host.record.id, host)).collect();
        let all = due.clone();
        let reap = move |core: Arc<Core>, record: HostRecord| {
            let host = due.get(&record.id).cloned();
            async move {
                match host {
                    Some(host) => reap_one(&core, host).await,
                    None => Ok(Reaped::NotDue),
                }
            }
        };
        let outcomes = self.each("reaping", records, reap).await?;
        Ok(outcomes.into_iter().filter_map(|(record, outcome)| Some((all.get(&record.id)?.clone(), outcome))).collect())
    }
}

/// What is to be thought of one entry of the inventory.
struct Judged {
    record: HostRecord,
    liveness: Liveness,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Due(Reason),
    /// Past its lease, and in the hands of a living process.
    InUse,
}

impl Judged {
    fn file(self, reaping: &Reaping, due: &mut Due) {
        let Self { record, liveness, verdict } = self;
        let reason = match verdict {
            Verdict::InUse => return due.in_use.push(record),
            Verdict::Due(Reason::LeftBehind) if reaping.expired_only => return,
            Verdict::Due(reason) => reason,
        };
        let owner = record.owner.as_ref().map(crate::inventory::Owner::address);
        let is_ours = reaping.whose.covers_record(&record);
        let host = Reapable { record, reason, owner, liveness };
        if is_ours { due.hosts.push(host) } else { due.of_others.push(host) }
    }
}

async fn judge(core: &Arc<Core>, reaping: &Reaping) -> Result<Vec<Judged>> {
    let now = Timestamp::now();
    let mut judged = Vec::new();
    for record in core.inventory().load().await?.records {
        let is_meant = reaping.provider.as_ref().is_none_or(|provider| record.provider == *provider)
            && (reaping.instance.is_none() || record.instance == reaping.instance);
        if !is_meant {
            continue;
        }
        let liveness = if is_in_hand(&record) { core.liveness_aside(&record).await } else { Liveness::Unknown };
        if let Some(verdict) = verdict(&record, liveness, now, core.governs_leases(&record.provider)) {
            judged.push(Judged { record: Arc::unwrap_or_clone(record), liveness, verdict });
        }
    }
    Ok(judged)
}

/// Whether a host is for its owner alone, as long as that one lives.
fn is_in_hand(record: &HostRecord) -> bool {
    matches!(record.state, HostState::Pending | HostState::Releasing)
        || record.holding == Holding::Guarded
        || shared::is_used(record)
}

fn verdict(record: &HostRecord, liveness: Liveness, now: Timestamp, governed: bool) -> Option<Verdict> {
    if record.state == HostState::Gone {
        return None;
    }
    let expired = (record.is_expired(now) && !governed).then_some(Verdict::Due(Reason::Expired));
    match liveness {
        _ if !is_in_hand(record) => expired,
        Liveness::Alive => expired.map(|_| Verdict::InUse),
        // Where no death can be proven, only leases count.
        Liveness::Unknown => expired,
        Liveness::Dead => expired.or(Some(Verdict::Due(Reason::LeftBehind))),
    }
}

fn file_unknown(record: HostRecord, found: Found, reaping: &Reaping, due: &mut Due) {
    let is_ours = reaping.whose.covers(found.identity.owner.as_deref());
    if found.broker_id.is_none() {
        return;
    }
    if found.identity.lease_until.is_none() || found.age.is_none() {
        if is_ours {
            due.without_lease.push(found);
        }
        return;
    }
    if !found.has_outlived_its_lease(reaping.grace) {
        return;
    }
    let owner = found.identity.owner;
    let host = Reapable { record, reason: Reason::Unknown, owner, liveness: Liveness::Unknown };
    if is_ours { due.hosts.push(host) } else { due.of_others.push(host) }
}

async fn reap_one(core: &Arc<Core>, host: Reapable) -> Result<Reaped> {
    let Reapable { record, reason, liveness, .. } = host;
    let run = |record: &HostRecord| record.owner.as_ref().map(|owner| owner.run);
    let owner = run(&record);
    let governed = core.governs_leases(&record.provider);
    let is_kept = record.holding == Holding::Kept;
    let released = match reason {
        Reason::Unknown => {
            // From here on the journal knows of it, so that a release that is cut off can be repeated.
            let record = match core.inventory().add(vec![record]).await {
                Ok(mut added) => added.pop(),
                Err(InventoryError::Duplicate { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            match record {
                Some(record) => Some(engine::release(core, record).await?),
                None => None,
            }
        }
        // Somebody wanted to have it: it is settled, and stays.
        Reason::LeftBehind if record.state == HostState::Pending && is_kept => {
            let settled = recovery::settle(core, record).await?;
            return Ok(match settled.state {
                HostState::Gone => Reaped::Gone,
                HostState::Pending => Reaped::NotDue,
                _ => Reaped::Settled(Box::new(settled)),
            });
        }
        Reason::LeftBehind | Reason::Expired => {
            let terms = Terms {
                wanted: |record: &HostRecord| {
                    let now = verdict(record, liveness, Timestamp::now(), governed);
                    run(record) == owner && matches!(now, Some(Verdict::Due(_)))
                },
                unproven_is_dead: reason == Reason::Expired,
            };
            engine::release_on(core, record, &terms).await?
        }
    };
    Ok(match released {
        Some(Released::Now) => Reaped::Released,
        Some(Released::Before) => Reaped::Gone,
        None => Reaped::NotDue,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::HostId;

    fn record(state: &str, holding: &str, lease: Option<&str>) -> HostRecord {
        let mut fields = json!({
            "id": HostId::generate(), "number": 0, "rev": 1, "state": state, "at": "2026-01-01T00:00:00Z",
            "_broker_provider": "TestProvider", "holding": holding,
        });
        if let Some(lease) = lease {
            fields["lease_until"] = lease.into();
        }
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn who_is_due() {
        use Liveness::{Alive, Dead, Unknown};

        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let (past, future) = (Some("2026-01-01T12:00:00Z"), Some("2026-01-03T00:00:00Z"));
        let (left, expired) = (Some(Verdict::Due(Reason::LeftBehind)), Some(Verdict::Due(Reason::Expired)));
        let in_use = Some(Verdict::InUse);
        for (state, holding, lease, expected) in [
            // Expected for a living owner, one of whom nobody can tell, and a dead one.
            ("active", "kept", None, [None, None, None]),
            ("active", "kept", future, [None, None, None]),
            ("active", "kept", past, [expired, expired, expired]),
            ("failed", "kept", past, [expired, expired, expired]),
            ("failed", "kept", None, [None, None, None]),
            ("vanished", "kept", past, [expired, expired, expired]),
            ("active", "guarded", None, [None, None, left]),
            ("active", "guarded", future, [None, None, left]),
            ("active", "guarded", past, [in_use, expired, expired]),
            ("failed", "guarded", future, [None, None, left]),
            ("pending", "kept", None, [None, None, left]),
            ("pending", "guarded", past, [in_use, expired, expired]),
            ("releasing", "kept", None, [None, None, left]),
            ("releasing", "kept", past, [in_use, expired, expired]),
            ("gone", "guarded", past, [None, None, None]),
        ] {
            let record = record(state, holding, lease);
            let judged = [Alive, Unknown, Dead].map(|liveness| verdict(&record, liveness, now, false));
            assert_eq!(judged, expected, "{state} {holding} {lease:?}");
        }
    }

    #[test]
    fn a_lease_that_the_provider_governs_ends_nothing_here() {
        use Liveness::{Alive, Dead, Unknown};

        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let left = Some(Verdict::Due(Reason::LeftBehind));
        for (state, holding, expected) in [
            ("active", "kept", [None, None, None]),
            ("failed", "kept", [None, None, None]),
            // That nobody is left who would release it is another reason.
            ("active", "guarded", [None, None, left]),
            ("pending", "guarded", [None, None, left]),
        ] {
            let record = record(state, holding, Some("2026-01-01T12:00:00Z"));
            let judged = [Alive, Unknown, Dead].map(|liveness| verdict(&record, liveness, now, true));
            assert_eq!(judged, expected, "{state} {holding}");
        }
    }

    #[test]
    fn a_clock_that_jumps_back_expires_nothing() {
        let mut record = record("active", "kept", Some("2026-01-01T12:00:00Z"));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(record.is_expired(at("2026-01-01T12:00:01Z")));
        assert!(!record.is_expired(at("2026-01-01T12:00:00Z")));
        assert!(!record.is_expired(at("1970-01-01T00:00:00Z")));
        // It was past its lease when it was last written, and now it is before that.
        record.at = at("2026-01-01T14:00:00Z");
        assert!(!record.is_expired(at("2026-01-01T13:00:00Z")));
    }

    #[test]
    fn what_is_unknown_is_judged_by_spans() {
        let id = HostId::generate();
        let made_at = id.made_at().unwrap();
        let hour = Duration::from_secs(3600);
        let found = |lease: Option<Timestamp>, age: Option<Duration>| {
            let identity = crate::provider::Identity { lease_until: lease, ..Default::default() };
            Found { broker_id: Some(id), identity, age, ..Found::default() }
        };
        let until = Some(made_at + hour);
        let over = |found: Found| found.has_outlived_its_lease(GRACE);
        assert!(!over(found(until, Some(hour))));
        assert!(!over(found(until, Some(hour + GRACE))));
        assert!(over(found(until, Some(hour + GRACE + Duration::from_secs(1)))));
        assert!(!over(found(until, None)), "a provider whose clock was set back");
        assert!(!over(found(None, Some(hour * 1000))));
        assert!(!over(Found { broker_id: None, ..found(until, Some(hour * 1000)) }));
        let before = Some(made_at - hour);
        assert!(over(found(before, Some(GRACE * 2))) && !over(found(before, Some(GRACE))));
    }

    #[test]
    fn owners_fit_patterns() {
        let matching = |pattern: &str, owner: &str| Whose::Matching(pattern.to_owned()).covers(Some(owner));
        for (pattern, owner, expected) in [
            ("ci", "ci@agent-7", true),
            ("ci", "cindy@agent-7", false),
            ("ci*", "cindy@agent-7", true),
            ("ci@*", "ci@agent-7", true),
            ("ci@agent-*", "ci@agent-7.example.com", true),
            ("*@agent-7", "ci@agent-7", true),
            ("*@agent-7", "ci@agent-77", false),
            ("*a*b", "xaxbxb@y", true),
            ("", "ci@agent-7", false),
            ("*", "ci@agent-7", true),
            ("ci@Agent-7", "ci@agent-7", false),
        ] {
            assert_eq!(matching(pattern, owner), expected, "{pattern} {owner}");
        }
        assert!(!Whose::Matching("*".to_owned()).covers(None) && Whose::Anyone.covers(None));
        assert!(Whose::Mine.covers(Some(&crate::sys::own_address())) && !Whose::Mine.covers(Some("else@where")));
    }
}
