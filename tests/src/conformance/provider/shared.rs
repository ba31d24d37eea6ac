//! What must be true of shared hosts: many use one, whoever of them dies, and none is left when the last has gone.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use broker_core::inventory::{Holding, HostState};
use broker_core::{Error, HostGuard, Reaping, RequestError};

use super::super::Case;
use super::{ProviderSubject, chain, entry, kinds, records};
use crate::wait;

const NAME: &str = "db";

/// How long twenty processes may take to get to the same point on a machine that is busy with everything else.
const LONG: Duration = Duration::from_secs(90);

/// How many processes share a host.
const USERS: usize = 20;

async fn join<S: ProviderSubject>(case: &Case<S>) -> HostGuard {
    let joined = case.broker().shared(NAME, case.subject.request()).await;
    joined.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// A process that uses the host, and notes which one it was. It leaves when the first is dead.
fn use_it<S: ProviderSubject>(case: &Case<S>, role: &str) {
    case.block(async {
        let host = join(case).await;
        note(case, role, &host);
        wait::until_within(LONG, "the first to be killed", || case.place.has_sign("killed"));
        // One after the other, since it is not the service that is put to the test here.
        let turn = std::fs::File::create(case.place.join("turn")).unwrap();
        turn.lock().unwrap();
        assert_eq!(host.execute("echo works").await.unwrap().stdout(), "works\n");
    });
}

fn note<S>(case: &Case<S>, role: &str, host: &HostGuard) {
    std::fs::write(case.place.join(&format!("{role}.used")), host.id().to_string()).unwrap();
}

/// What the processes noted.
fn used<S>(case: &Case<S>, roles: &[String]) -> BTreeSet<String> {
    roles.iter().map(|role| std::fs::read_to_string(case.place.join(&format!("{role}.used"))).unwrap()).collect()
}

/// Starts processes that use the host, waits for their ends, and says what was wrong with those that failed.
struct Users(Vec<(String, std::process::Child)>);

impl Users {
    fn start<S>(case: &Case<S>, roles: &[String]) -> Self {
        let start = |role: &String| {
            let errors = std::fs::File::create(case.place.join(&format!("{role}.errors"))).unwrap();
            (role.clone(), case.place.command(role).stdout(Stdio::null()).stderr(errors).spawn().unwrap())
        };
        Self(roles.iter().map(start).collect())
    }

    /// Whether all have ended. None may have failed.
    fn have_ended<S>(&mut self, case: &Case<S>) -> bool {
        let statuses: Vec<_> =
            self.0.iter_mut().map(|(role, child)| (role.clone(), child.try_wait().unwrap())).collect();
        for (role, status) in &statuses {
            let errors = || std::fs::read_to_string(case.place.join(&format!("{role}.errors"))).unwrap();
            assert!(status.is_none_or(|status| status.success()), "{role}: {status:?}\n{}", errors());
        }
        statuses.iter().all(|(_, status)| status.is_some())
    }

    fn wait<S>(mut self, case: &Case<S>) {
        wait::until_within(LONG, "all to end", || self.have_ended(case));
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            // Most have ended by themselves.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Stays until it is killed.
fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

fn roles() -> Vec<String> {
    (1..USERS).map(|user| format!("user-{user}")).collect()
}

/// The first makes the host and is killed while the others use it; they do not notice, and nothing is left.
pub fn twenty_processes_share_one_host_and_the_first_is_killed<S: ProviderSubject>(case: &Case<S>) {
    match case.role() {
        None => {}
        Some("first") => {
            let _host = case.block(join(case));
            case.place.sign("first");
            stay();
        }
        Some(role) => return use_it(case, role),
    }
    let first = case.place.start("first");
    case.place.await_sign("first");
    let made = case.hosts();
    assert_eq!(made.len(), 1);
    let roles = roles();
    let mut users = Users::start(case, &roles);
    let is_used = |role: &String| case.place.join(&format!("{role}.used")).exists();
    // Some are in, and some are still coming.
    wait::until_within(LONG, "half of them to use it", || {
        users.have_ended(case);
        roles.iter().filter(|role| is_used(role)).count() > USERS / 2
    });
    first.kill();
    case.place.sign("killed");
    users.wait(case);
    let made: BTreeSet<String> = made.iter().map(ToString::to_string).collect();
    // Whoever came when all others had left has made another one.
    assert!(used(case, &roles).is_superset(&made));
    case.nothing_is_left();
}

/// Where nobody who uses a host is left to release it, that is for its guardian or for `reap`.
fn reap_all<S: ProviderSubject>(case: &Case<S>) {
    let broker = case.broker();
    let due = case.block(broker.reapable(&Reaping::default())).unwrap().hosts;
    for (host, outcome) in case.block(broker.reap(due)).unwrap() {
        outcome.unwrap_or_else(|error| panic!("{:?}: {}", host.record, chain(&error)));
    }
}

/// All wait for the first, which is killed in mid-checkout: what it made is undone, the next one makes another, and all
/// others get that.
pub fn the_first_is_killed_while_it_makes_the_host<S: ProviderSubject>(case: &Case<S>) {
    match case.role() {
        None => {}
        Some("first") => {
            let broker = case.broker();
            drop(case.block(broker.shared(NAME, case.subject.slow())));
            stay();
        }
        Some(role) => {
            case.block(async {
                let host = case.broker().shared(NAME, case.subject.slow()).await;
                let host = host.unwrap_or_else(|error| panic!("{}", chain(&error)));
                case.place.sign(role);
                note(case, role, &host);
                // All of them are in at the same time.
                wait::until_within(LONG, "the others", || roles().iter().all(|role| case.place.has_sign(role)));
            });
            return;
        }
    }
    let first = case.place.start("first");
    wait::until("a host to be half made", || !case.hosts().is_empty());
    let half_made = case.hosts();
    let roles = roles();
    let users = Users::start(case, &roles);
    first.kill();
    users.wait(case);
    let used = used(case, &roles);
    assert_eq!(used.len(), 1, "{used:?}");
    assert!(!used.contains(&half_made.first().unwrap().to_string()), "{used:?}");
    case.nothing_is_left();
}

/// When all who used a host were killed at once, it is left behind, and reaped as such.
pub fn what_all_have_died_of_is_reaped<S: ProviderSubject>(case: &Case<S>) {
    if let Some(role) = case.role() {
        let _host = case.block(join(case));
        case.place.sign(role);
        stay();
    }
    let running: Vec<_> = ["one", "two", "three"].map(|role| (role, case.place.start(role))).into();
    for (role, _) in &running {
        case.place.await_sign(role);
    }
    let broker = case.broker();
    let record = records(&case.block(broker.inventory()).unwrap()).remove(0);
    assert_eq!(record.shared.as_ref().map(|shared| shared.members.len()), Some(3));
    // As long as one of them lives it is in use, whoever made it.
    assert!(broker.is_held(&record));
    assert!(case.block(broker.reapable(&Reaping::default())).unwrap().hosts.is_empty());
    for (_, running) in running {
        running.kill();
    }
    wait::until("it to be reaped", || {
        reap_all(case);
        case.hosts().is_empty()
    });
    case.nothing_is_left_soon();
}

/// Several guards in one process: the host goes with the last of them, dropped or checked in.
pub fn guards_of_one_process_share_too<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let (one, other) = tokio::join!(join(case), join(case));
        let third = join(case).await;
        assert_eq!((one.id(), other.id()), (third.id(), third.id()));
        drop(one);
        case.exactly([&*third]);
        assert!(other.execute("true").await.unwrap().success());
        other.checkin().await.unwrap();
        case.exactly([&*third]);
        let last = third.id();
        drop(third);
        case.exactly([]);
        let next = join(case).await;
        assert_ne!(next.id(), last);
    });
    case.nothing_is_left();
}

/// With an idle time the host stays for the next one, and after that it is past its lease.
pub fn an_idle_host_waits_for_the_next<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let long = || case.subject.request().idle(Duration::from_secs(3600));
        let first = broker.shared(NAME, long()).await.unwrap();
        let id = first.id();
        drop(first);
        let idle = entry(&broker, id).await;
        assert_eq!((idle.state, idle.holding), (HostState::Active, Holding::Kept));
        assert!(broker.reapable(&Reaping::default()).await.unwrap().hosts.is_empty());
        let again = case.broker().shared(NAME, case.subject.request().idle(Duration::from_millis(1))).await.unwrap();
        assert_eq!(again.id(), id);
        let used = entry(&broker, id).await;
        assert_eq!(used.holding, Holding::Guarded);
        assert!(used.lease_until > idle.lease_until, "{used:#?}");
        drop(again);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(broker.reapable(&Reaping::default()).await.unwrap().hosts.len(), 1);
    });
    reap_all(case);
    case.nothing_is_left();
}

/// A host that one of its users keeps is there when all have left.
pub fn a_kept_host_stays_when_all_have_left<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let (one, other) = (join(case).await, join(case).await);
        let kept = one.keep().await.unwrap();
        case.exactly([&kept]);
        drop(other);
        case.exactly([&kept]);
        assert_eq!(entry(&case.broker(), kept.id()).await.holding, Holding::Kept);
    });
    case.everything_can_be_checked_in();
}

/// Who asks for something else under the same name gets an error while the host is in use, and a host of its own after.
pub fn one_name_is_one_host<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let first = broker.shared(NAME, case.subject.request().idle(Duration::from_secs(3600))).await.unwrap();
        let error = broker.shared(NAME, case.subject.slow()).await.unwrap_err();
        assert!(matches!(&error, Error::Request(RequestError::SharedDiffers { .. })), "{}", chain(&error));
        let other = broker.shared("other", case.subject.request()).await.unwrap();
        assert_ne!(other.id(), first.id());
        let id = first.id();
        drop(first);
        let differs = broker.shared(NAME, case.subject.slow()).await.unwrap();
        assert_ne!(differs.id(), id);
        case.exactly([&*differs, &*other]);
        broker.shared(NAME, case.subject.request().count(2)).await.unwrap_err();
    });
    case.nothing_is_left();
}

/// What cannot be made is an error to each that asked, and nobody waits for ever.
pub fn a_shared_host_that_cannot_be_had_is_an_error_to_all<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let failure = case.subject.failures().remove(0);
        let asking = (0..4).map(|_| broker.shared(NAME, failure.request.clone()));
        for outcome in futures_util::future::join_all(asking).await {
            let error = outcome.unwrap_err();
            assert!(!kinds(&error).is_empty(), "{}", chain(&error));
        }
        assert!(join(case).await.execute("true").await.unwrap().success());
        // Who waits, and is not wanted any more, leaves nothing behind.
        let slow = tokio::spawn({
            let (broker, request) = (case.broker(), case.subject.slow());
            async move { broker.shared(NAME, request).await }
        });
        wait::until_async("it to be begun", async || !records(&broker.inventory().await.unwrap()).is_empty()).await;
        drop(tokio::time::timeout(Duration::from_millis(50), broker.shared(NAME, case.subject.slow())).await);
        drop(slow.await.unwrap().unwrap());
    });
    case.nothing_is_left_soon();
}
