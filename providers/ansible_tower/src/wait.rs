//! Waiting for jobs: whoever waits first looks for all who wait, so that many hosts in the making are one request.
//!
//! The pauses begin short, so that a job of a second costs no more than that, and grow to the interval of the settings.
//! What is out of order in between is outlasted, until the settings' `max_resilient_wait` is over.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use broker_core::provider::ProviderError;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::job::{self, Job, JobId, Node};
use crate::api::template::Kind;
use crate::client::{CallError, Client, GLITCH, PAGE, Page};

/// The first pause before a job is looked at.
const FIRST: Duration = Duration::from_millis(300);

/// How many jobs are asked for in one request, whose address may not be too long.
const TOGETHER: usize = 100;

/// How many requests are made at once.
const AT_ONCE: usize = 8;

/// All jobs that somebody waits for.
#[derive(Default)]
pub(crate) struct Watch {
    jobs: Mutex<HashMap<JobId, Watched>>,
    /// Held by the one who looks for all.
    turn: tokio::sync::Mutex<()>,
    newcomer: Notify,
    nodes: tokio::sync::Mutex<Nodes>,
}

/// The nodes of workflows, looked at for all who show how far theirs is.
#[derive(Default)]
struct Nodes {
    /// Whose are wanted.
    wanted: BTreeSet<u64>,
    /// What was seen last, until whoever wants it has taken it.
    seen: HashMap<u64, Vec<Node>>,
    /// When they may be looked at again.
    due: Option<Instant>,
    /// Whether the service tells of one workflow at a time.
    one_by_one: bool,
}

struct Watched {
    waiters: usize,
    /// Counts the looks, so that everybody sees each one once.
    looks: u64,
    seen: Option<Seen>,
    due: Instant,
    pause: Duration,
    /// Since when there was no answer.
    trouble: Option<Instant>,
}

/// What a look came to.
#[derive(Clone)]
pub(crate) enum Seen {
    /// The job, as it is.
    Job(Arc<Job>),
    /// It cannot be looked at, and that will not pass.
    Lost(Arc<Lost>),
}

/// Why a job cannot be looked at.
pub(crate) struct Lost {
    pub(crate) kind: broker_core::provider::ErrorKind,
    pub(crate) message: String,
}

/// How patient one is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The longest pause.
    pub(crate) interval: Duration,
    /// How long there may be no answer.
    pub(crate) outage: Duration,
}

/// One who waits. Dropping it ends that.
pub(crate) struct Waiter<'a> {
    watch: &'a Watch,
    job: JobId,
    looks: u64,
}

impl Watch {
    /// Begins to wait for a job.
    pub(crate) fn begin(&self, job: JobId) -> Waiter<'_> {
        let mut jobs = self.jobs.lock();
        let watched = jobs.entry(job).or_insert_with(|| Watched {
            waiters: 0,
            looks: 0,
            seen: None,
            due: Instant::now() + FIRST,
            pause: FIRST,
            trouble: None,
        });
        watched.waiters += 1;
        let looks = watched.looks;
        drop(jobs);
        self.newcomer.notify_one();
        Waiter { watch: self, job, looks }
    }

    /// The nodes of a workflow job that is waited for, unless all have been looked at lately. One request is for all
    /// who ask, and `every` is how long nobody looks again; where one look takes several requests it is as many times
    /// as long.
    pub(crate) async fn nodes(
        &self,
        client: &Client,
        workflow: u64,
        every: Duration,
    ) -> Result<Option<Vec<Node>>, CallError> {
        let mut nodes = self.nodes.lock().await;
        nodes.wanted.insert(workflow);
        if nodes.due.is_some_and(|due| Instant::now() < due) {
            return Ok(nodes.seen.remove(&workflow));
        }
        nodes.due = Some(Instant::now() + every);
        {
            let jobs = self.jobs.lock();
            nodes.wanted.retain(|id| jobs.contains_key(&JobId { kind: Kind::Workflow, id: *id }));
        }
        let wanted: Vec<u64> = nodes.wanted.iter().copied().take(TOGETHER).collect();
        let together = match wanted.len() > 1 && !nodes.one_by_one {
            true => match job::nodes_of(client, &wanted).await {
                Err(error) if matches!(error.status(), Some(400 | 403 | 404)) => None,
                found => Some(found?).filter(|found| !found.is_empty()),
            },
            false => None,
        };
        let Some(found) = together else {
            nodes.one_by_one |= wanted.len() > 1;
            return job::nodes(client, workflow).await.map(Some);
        };
        let requests = u32::try_from(found.len()).unwrap_or(u32::MAX).div_ceil(PAGE).max(1);
        nodes.due = Some(Instant::now() + every * requests);
        nodes.seen.clear();
        for node in found {
            nodes.seen.entry(node.workflow_job).or_default().push(node);
        }
        Ok(nodes.seen.remove(&workflow))
    }

    fn next_due(&self) -> Option<Instant> {
        self.jobs.lock().values().map(|watched| watched.due).min()
    }

    /// Looks at all jobs that are due, once the first of them is.
    async fn look(&self, client: &Client, patience: Patience) {
        loop {
            let Some(due) = self.next_due() else { return };
            tokio::select! {
                () = tokio::time::sleep_until(due) => break,
                // Somebody has come whose job is to be looked at sooner.
                () = self.newcomer.notified() => {}
            }
        }
        let now = Instant::now();
        let (all, due): (Vec<JobId>, HashSet<JobId>) = {
            let jobs = self.jobs.lock();
            // Those that are nearly due go along.
            let is_due = |watched: &Watched| watched.due <= now + watched.pause / 4;
            let due = jobs.iter().filter(|(_, watched)| is_due(watched)).map(|(job, _)| *job);
            (jobs.keys().copied().collect(), due.collect())
        };
        // In a request for many all others go along too.
        let (workflows, jobs): (Vec<JobId>, Vec<JobId>) = all.into_iter().partition(|job| job.kind == Kind::Workflow);
        let groups: Vec<Vec<JobId>> =
            workflows.chunks(TOGETHER).chain(jobs.chunks(TOGETHER)).map(<[JobId]>::to_vec).collect();
        let looks = groups.into_iter().map(|group| async move {
            let seen = together(client, &group).await;
            (group, seen)
        });
        let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
        let mut left: Vec<JobId> = Vec::new();
        while let Some((group, mut seen)) = looks.next().await {
            for job in group {
                match seen.remove(&job.id) {
                    // A list does not tell all of a job.
                    Some(found) if found.status.is_over() => left.push(job),
                    Some(found) => self.take_in(job, Ok(found), patience, due.contains(&job)),
                    None if due.contains(&job) => left.push(job),
                    None => {}
                }
            }
        }
        let looks = left.into_iter().map(|job| async move { (job, client.get_once::<Job>(&job.path()).await) });
        let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
        while let Some((job, answer)) = looks.next().await {
            self.take_in(job, answer, patience, true);
        }
    }

    fn take_in(&self, job: JobId, answer: Result<Job, CallError>, patience: Patience, was_due: bool) {
        let mut jobs = self.jobs.lock();
        let Some(watched) = jobs.get_mut(&job) else { return };
        let now = Instant::now();
        // The turns of all come together, and nobody's grows sooner for that.
        if was_due {
            watched.pause = (watched.pause * 3 / 2).min(patience.interval.max(FIRST));
        }
        watched.due = now + watched.pause;
        let seen = match answer {
            Ok(job) => {
                watched.trouble = None;
                Seen::Job(Arc::new(job))
            }
            Err(error) => {
                let since = *watched.trouble.get_or_insert(now);
                // A job that was launched can be seen: a refusal of that is no last word.
                let outage = match error.may_pass() || error.status() == Some(403) {
                    true => patience.outage,
                    false if error.may_be_glitch() => patience.outage.min(GLITCH),
                    false => Duration::ZERO,
                };
                if now.duration_since(since) < outage {
                    tracing::debug!(%job, ?error, "the job cannot be looked at just now.");
                    return;
                }
                let error = error.at(format!("could not see how {job} is getting on"));
                Seen::Lost(Arc::new(Lost { kind: error.kind(), message: error.to_string() }))
            }
        };
        watched.seen = Some(seen);
        watched.looks += 1;
    }
}

/// Looks at several jobs of one kind at once. Those that cannot be seen in this way are left out.
async fn together(client: &Client, jobs: &[JobId]) -> HashMap<u64, Job> {
    let [first, _, ..] = jobs else { return HashMap::new() };
    let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();
    let path = format!("{}/?id__in={}&page_size={PAGE}", first.kind.jobs(), ids.join(","));
    match client.get_once::<Page<Job>>(&path).await {
        Ok(page) => page.results.into_iter().map(|job| (job.id, job)).collect(),
        Err(error) => {
            tracing::debug!(?error, "the jobs cannot be looked at together just now.");
            HashMap::new()
        }
    }
}

impl Waiter<'_> {
    fn fresh(&mut self) -> Option<Seen> {
        let jobs = self.watch.jobs.lock();
        let watched = jobs.get(&self.job).filter(|watched| watched.looks > self.looks)?;
        self.looks = watched.looks;
        watched.seen.clone()
    }

    /// The next look at the job.
    ///
    /// # Errors
    ///
    /// If it cannot be looked at, and that will not pass.
    pub(crate) async fn next(&mut self, client: &Client, patience: Patience) -> Result<Arc<Job>, ProviderError> {
        loop {
            if let Some(seen) = self.fresh() {
                return match seen {
                    Seen::Job(job) => Ok(job),
                    Seen::Lost(lost) => Err(ProviderError::new(lost.kind, lost.message.clone())),
                };
            }
            let _turn = self.watch.turn.lock().await;
            // Whoever had the turn before may have looked for us.
            if self.watch.jobs.lock().get(&self.job).is_some_and(|watched| watched.looks > self.looks) {
                continue;
            }
            self.watch.look(client, patience).await;
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut jobs = self.watch.jobs.lock();
        if let Some(watched) = jobs.get_mut(&self.job) {
            watched.waiters -= 1;
            if watched.waiters == 0 {
                jobs.remove(&self.job);
            }
        }
    }
}
