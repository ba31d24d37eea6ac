//! What must be true of guards, however they end.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;

use broker::blocking;
use broker_core::inventory::{Holding, HostState};
use broker_core::session::{Command, Output};
use broker_core::{Error, HookError, Host, HostGuard, HostGuards, HostType};

use super::super::{Case, current_thread};
use super::{ProviderSubject, chain, entry, records};

/// Two hours.
const LOOK: Duration = Duration::from_secs(7200);

/// A guard that is dropped has released its host when the drop returns.
pub fn a_dropped_guard_releases<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let guard = broker.checkout(case.subject.request()).await.unwrap();
        case.exactly([&*guard]);
        drop(guard);
        case.exactly([]);
        let guards = broker.checkout_many(case.subject.request().count(8)).await.unwrap();
        let host = Host::clone(&guards[0]);
        drop(guards);
        case.exactly([]);
        // What is left of a host after its guard is an error to use.
        host.execute("true").await.unwrap_err();
    });
    case.nothing_is_left();
}

/// A test that panics releases what it holds, before anybody sees the panic.
pub fn a_panic_releases<S: ProviderSubject>(case: &Case<S>) {
    let panicked = std::thread::scope(|scope| {
        let test = || {
            case.block(async {
                let broker = case.broker();
                let _one = broker.checkout(case.subject.request()).await.unwrap();
                let _two = broker.checkout_many(case.subject.request().count(2)).await.unwrap();
                assert_eq!(case.hosts().len(), 3);
                panic!("as a test does");
            });
        };
        scope.spawn(test).join()
    });
    panicked.unwrap_err();
    case.nothing_is_left();
}

/// A host that is kept outlives its guard, and anybody can check it in.
pub fn a_kept_host_stays<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let guard = broker.checkout(case.subject.request()).await.unwrap();
        let host = guard.keep().await.unwrap();
        let mut hosts = broker.checkout_many(case.subject.request().count(2)).await.unwrap().keep().await.unwrap();
        hosts.push(host);
        case.exactly(&hosts);
        for host in &hosts {
            let record = entry(&broker, host.id()).await;
            assert_eq!((record.state, record.holding), (HostState::Active, Holding::Kept));
            assert!(!broker.is_held(&record));
            assert!(host.execute("true").await.unwrap().success());
        }
    });
    case.everything_can_be_checked_in();
}

/// A test that panics keeps the host it was told to keep, and says how to get in.
pub fn a_failed_test_keeps_its_host<S: ProviderSubject>(case: &Case<S>) {
    let broker = case.broker();
    let request = || case.subject.request().keep_on_failure(LOOK);
    match case.role() {
        Some("guard") => {
            let _guard = case.block(broker.checkout(request())).unwrap();
            panic!("as a test does");
        }
        Some(_) => {
            let scope = broker.with_host(request(), async |_| panic!("as a test does"));
            let () = case.block(scope).unwrap();
            return;
        }
        None => {}
    }
    for role in ["guard", "scope"] {
        let (status, said) = case.place.run(role);
        assert!(!status.success());
        let left = records(&case.block(broker.inventory()).unwrap());
        assert_eq!(left.len(), 1, "{role}: {said}");
        assert_eq!((left[0].state, left[0].holding), (HostState::Active, Holding::Kept));
        let rest = left[0].lease_until.unwrap().duration_since(left[0].at).as_secs();
        assert!((7100..=7200).contains(&rest), "{role}: a lease of {rest} s");
        let way_in = format!("broker shell {}", left[0].number);
        assert!(said.contains(&way_in), "{role}: `{way_in}` is not in: {said}");
        assert_eq!(case.hosts().len(), 1);
        case.everything_can_be_checked_in();
    }
}

/// Asking for a host to stay on failure keeps nothing where nothing fails.
pub fn a_test_that_passes_keeps_nothing<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let request = || case.subject.request().keep_on_failure(LOOK);
        drop(broker.checkout(request()).await.unwrap());
        broker.checkout(request()).await.unwrap().checkin().await.unwrap();
        broker.with_host(request(), async |_| ()).await.unwrap();
    });
    case.nothing_is_left();
}

/// A scope hands the host to its body and releases it, and gives back what the body gave.
pub fn a_scope_releases<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let answer = broker.with_host(case.subject.request(), async |host| {
            case.exactly([host]);
            host.execute("echo 42").await.unwrap().stdout().trim().to_owned()
        });
        assert_eq!(answer.await.unwrap(), "42");
        case.exactly([]);
        // A body that fails is the caller's business, and the host goes all the same.
        let failed = broker.with_host(case.subject.request(), async |host| host.execute("false").await?.check());
        failed.await.unwrap().unwrap_err();
    });
    case.nothing_is_left();
}

/// A body that panics: the host is released before the panic goes on.
pub fn a_scope_that_panics_releases<S: ProviderSubject>(case: &Case<S>) {
    let broker = case.broker();
    let scope = async || {
        let body = async |_: &Host| -> () { panic!("as a test does") };
        broker.with_host(case.subject.request(), body).await
    };
    let panicked = catch_unwind(AssertUnwindSafe(|| case.block(scope())));
    assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"as a test does"));
    case.nothing_is_left();
    // Given up in the middle, it is released as well.
    case.block(async {
        let scope = broker.with_host(case.subject.request(), async |_| {
            case.place.sign("inside");
            std::future::pending::<()>().await;
        });
        tokio::select! {
            outcome = scope => panic!("{outcome:?}"),
            () = crate::wait::until_async("the body", async || case.place.has_sign("inside")) => {}
        }
    });
    case.nothing_is_left_soon();
}

/// A type of host whose hooks leave word of themselves.
struct Recorded;

/// What the hooks of this process did.
static HOOKS: std::sync::Mutex<Vec<(broker_core::HostId, &str)>> = std::sync::Mutex::new(Vec::new());

fn done(host: &Host, what: &'static str) {
    HOOKS.lock().unwrap().push((host.id(), what));
}

fn what_was_done(host: broker_core::HostId) -> Vec<&'static str> {
    HOOKS.lock().unwrap().iter().filter(|(id, _)| *id == host).map(|(_, what)| *what).collect()
}

impl HostType for Recorded {
    fn new(_host: Host) -> Self {
        Self
    }

    async fn setup(&self, host: &Host) -> Result<(), HookError> {
        host.execute("true").await?.check()?;
        done(host, "setup");
        Ok(())
    }

    async fn teardown(&self, host: &Host) -> Result<(), HookError> {
        // The host is still there, and can be used.
        host.execute("true").await?.check()?;
        done(host, "teardown");
        Ok(())
    }
}

struct SetupFails;

impl HostType for SetupFails {
    fn new(_host: Host) -> Self {
        Self
    }

    async fn setup(&self, _host: &Host) -> Result<(), HookError> {
        Err("the setup did not like it".into())
    }

    async fn teardown(&self, host: &Host) -> Result<(), HookError> {
        done(host, "teardown");
        Ok(())
    }
}

/// A setup that fails fails the checkout: the host is torn down and released.
pub fn a_failed_setup_releases<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let broker = case.broker();
        let mut steps = broker.steps();
        let error = broker.checkout_as::<SetupFails>(case.subject.request()).await.unwrap_err();
        assert!(matches!(error, Error::Hook { hook: "setup", .. }), "{error:?}");
        assert!(chain(&error).contains("the setup did not like it"), "{}", chain(&error));
        assert_eq!(what_was_done(steps.recv().await.unwrap().id), ["teardown"]);
    });
    case.nothing_is_left();
}

/// With `checkin` the teardown runs once, before the release.
pub fn a_teardown_runs_on_checkin<S: ProviderSubject>(case: &Case<S>) {
    case.block(async {
        let guard = case.broker().checkout_as::<Recorded>(case.subject.request()).await.unwrap();
        let id = guard.id();
        assert_eq!(what_was_done(id), ["setup"]);
        guard.checkin().await.unwrap();
        assert_eq!(what_was_done(id), ["setup", "teardown"]);
    });
    case.nothing_is_left();
}

/// With a drop, and with a panic, the teardown runs once, before the release.
pub fn a_teardown_runs_on_drop<S: ProviderSubject>(case: &Case<S>) {
    let checkout = async || case.broker().checkout_as::<Recorded>(case.subject.request()).await.unwrap();
    case.block(async {
        let guard = checkout().await;
        let id = guard.id();
        drop(guard);
        assert_eq!(what_was_done(id), ["setup", "teardown"]);
    });
    case.nothing_is_left();
    let mut id = None;
    let test = catch_unwind(AssertUnwindSafe(|| {
        case.block(async {
            let guard = checkout().await;
            id = Some(guard.id());
            panic!("as a test does");
        });
    }));
    test.unwrap_err();
    assert_eq!(what_was_done(id.unwrap()), ["setup", "teardown"]);
    case.nothing_is_left();
}

struct TeardownFails;

impl HostType for TeardownFails {
    fn new(_host: Host) -> Self {
        Self
    }

    async fn teardown(&self, _host: &Host) -> Result<(), HookError> {
        Err("the teardown did not like it".into())
    }
}

struct TeardownPanics;

impl HostType for TeardownPanics {
    fn new(_host: Host) -> Self {
        Self
    }

    async fn teardown(&self, _host: &Host) -> Result<(), HookError> {
        panic!("the teardown panics");
    }
}

struct TeardownBlocks(blocking::Host);

impl HostType for TeardownBlocks {
    fn new(host: Host) -> Self {
        Self(host.into())
    }

    async fn teardown(&self, host: &Host) -> Result<(), HookError> {
        // A blocking call in a hook would wait for the one that waits for the hook: an error, and no deadlock.
        match self.0.execute("true") {
            Err(Error::Blocking) => done(host, "refused"),
            _ => done(host, "worked"),
        }
        Ok(())
    }
}

/// A teardown that fails, panics or makes blocking calls does not keep a host from being released.
pub fn a_bad_teardown_stops_no_release<S: ProviderSubject>(case: &Case<S>) {
    let broker = case.broker();
    case.block(async {
        let guard = broker.checkout_as::<TeardownFails>(case.subject.request()).await.unwrap();
        let error = guard.checkin().await.unwrap_err();
        assert!(matches!(error, Error::Hook { hook: "teardown", .. }), "{error:?}");
        case.exactly([]);
        drop(broker.checkout_as::<TeardownFails>(case.subject.request()).await.unwrap());
        case.exactly([]);
        drop(broker.checkout_as::<TeardownPanics>(case.subject.request()).await.unwrap());
        case.exactly([]);
        let guard = broker.checkout_as::<TeardownBlocks>(case.subject.request()).await.unwrap();
        let id = guard.id();
        drop(guard);
        assert_eq!(what_was_done(id), ["refused"]);
        case.exactly([]);
    });
    // Under `checkin` the panic is the caller's to see, and the host goes.
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        case.block(async {
            let guard = broker.checkout_as::<TeardownPanics>(case.subject.request()).await.unwrap();
            guard.checkin().await
        })
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"the teardown panics"));
    case.nothing_is_left();
}

/// The twins without `async` do the same.
pub fn the_blocking_twins_do_the_same<S: ProviderSubject>(case: &Case<S>) {
    let broker = blocking::Broker::from(case.broker());
    let request = || case.subject.request();
    let guard = broker.checkout(request()).unwrap();
    case.exactly([guard.deref_host()]);
    assert_eq!(guard.execute("echo works").unwrap().stdout(), "works\n");
    let path = format!("/tmp/{}", guard.id());
    guard.write(path.as_str(), "written").unwrap();
    assert_eq!(guard.read(path.as_str()).unwrap(), "written");
    assert!(guard.execute(Command::words(["rm", &path])).unwrap().success());
    let mut streamed = Vec::new();
    let status = guard.stream("echo streamed; exit 2", |piece| streamed.push(piece)).unwrap();
    assert_eq!((status.code(), streamed), (2, vec![Output::Stdout("streamed\n".into())]));
    let mut running = guard.start(Command::shell("read -r word; echo got $word; exit 3")).unwrap();
    running.write("input\n").unwrap();
    assert_eq!(running.next(), Some(Output::Stdout("got input\n".into())));
    assert_eq!(running.wait().unwrap().code(), 3);
    guard.checkin().unwrap();
    case.exactly([]);

    drop(broker.checkout_many(request().count(3)).unwrap());
    case.exactly([]);
    broker.checkout_many(request().count(2)).unwrap().checkin().unwrap();
    let all = broker.checkout_all([("one", request()), ("two", request().count(2))]).unwrap();
    assert_eq!(all["two"].len(), 2);
    drop(all);
    case.exactly([]);

    let guard = broker.checkout_as::<Recorded>(request()).unwrap();
    let id = guard.id();
    drop(guard);
    assert_eq!(what_was_done(id), ["setup", "teardown"]);
    assert_eq!(broker.with_host(request(), |host| host.execute("exit 3").unwrap().status().code()).unwrap(), 3);
    let panicked =
        catch_unwind(AssertUnwindSafe(|| broker.with_host(request(), |_| -> () { panic!("as a test does") })));
    panicked.unwrap_err();
    case.nothing_is_left();

    let kept = broker.checkout(request()).unwrap().keep().unwrap();
    assert_eq!(broker.from_inventory(None).unwrap().len(), 1);
    assert_eq!(broker.find(&kept.number().to_string()).unwrap().id(), kept.id());
    let (twice, together) = ([kept.clone(), kept.clone()], std::sync::Barrier::new(2));
    let each = broker.on_each(twice.clone(), |host| {
        together.wait();
        host.execute("echo here").unwrap().stdout().into_owned()
    });
    assert!(each.unwrap().iter().all(|(host, printed)| host.id() == kept.id() && printed == "here\n"));
    let panics = AssertUnwindSafe(|| broker.on_each(twice, |_| -> () { panic!("as the work does") }));
    catch_unwind(panics).unwrap_err();
    let (_, outcome) = broker.checkin(vec![kept.record()]).unwrap().remove(0);
    outcome.unwrap();
    case.nothing_is_left();
}

trait DerefHost {
    fn deref_host(&self) -> &Host;
}

impl<T: HostType> DerefHost for blocking::HostGuard<T> {
    /// The async twin that the blocking guard's host stands for.
    fn deref_host(&self) -> &Host {
        self.as_async()
    }
}

/// A guard can be dropped on every kind of runtime and on none.
pub fn guards_drop_in_every_kind_of_runtime<S: ProviderSubject>(case: &Case<S>) {
    let broker = case.broker();
    let checkout = || broker.checkout(case.subject.request());

    current_thread().block_on(async { drop(checkout().await.unwrap()) });
    case.nothing_is_left();

    // On a worker, and there is only one.
    let one_worker = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (own, request) = (broker.clone(), case.subject.request());
    let task = async move { drop(own.checkout(request).await.unwrap()) };
    one_worker.block_on(async { tokio::spawn(task).await.unwrap() });
    case.nothing_is_left();

    let local = tokio::task::LocalSet::new();
    let (own, request) = (broker.clone(), case.subject.request());
    let task = async move { drop(own.checkout(request).await.unwrap()) };
    local.block_on(&current_thread(), async { tokio::task::spawn_local(task).await.unwrap() });
    case.nothing_is_left();

    // After its runtime is gone, on a thread that has none.
    let runtime = current_thread();
    let guard = runtime.block_on(checkout()).unwrap();
    drop(runtime);
    std::thread::scope(|scope| scope.spawn(|| drop(guard)).join().unwrap());
    case.nothing_is_left();

    // In a task that is aborted together with its runtime.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (own, request, place) = (broker.clone(), case.subject.request(), case.place.clone());
    runtime.spawn(async move {
        let _guard = own.checkout(request).await.unwrap();
        place.sign("held");
        std::future::pending::<()>().await;
    });
    case.place.await_sign("held");
    drop(runtime);
    case.nothing_is_left();
}

/// The blocking twins work inside of a runtime, and while other tasks run.
pub fn blocking_calls_work_inside_a_runtime<S: ProviderSubject>(case: &Case<S>) {
    let work = || {
        let broker = blocking::Broker::from(case.broker());
        let guard = broker.checkout(case.subject.request()).unwrap();
        assert_eq!(guard.execute("echo works").unwrap().stdout(), "works\n");
        drop(guard);
        case.exactly([]);
    };
    case.block(async { work() });
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    threads.block_on(async { work() });
    let local = tokio::task::LocalSet::new();
    local.block_on(&current_thread(), async { work() });
    case.nothing_is_left();
}

/// A guard in a static is never dropped, and its host is released when the process ends.
pub fn a_guard_in_a_static_is_released_at_exit<S: ProviderSubject>(case: &Case<S>) {
    static GUARD: OnceLock<HostGuard> = OnceLock::new();
    static GUARDS: OnceLock<HostGuards> = OnceLock::new();

    if case.role().is_some() {
        case.block(async {
            let broker = case.broker();
            GUARD.set(broker.checkout(case.subject.request()).await.unwrap()).unwrap();
            GUARDS.set(broker.checkout_many(case.subject.request().count(2)).await.unwrap()).unwrap();
        });
        case.place.sign("held");
        return;
    }
    let (status, said) = case.place.run("static");
    assert!(status.success(), "{said}");
    case.place.await_sign("held");
    case.nothing_is_left();
}

/// `exit` in the middle of a test releases what is held.
pub fn an_exit_in_mid_test_releases<S: ProviderSubject>(case: &Case<S>) {
    #[expect(clippy::exit, reason = "that is what the case is about")]
    if case.role().is_some() {
        let guard = case.block(case.broker().checkout_as::<Recorded>(case.subject.request())).unwrap();
        case.place.sign("held");
        std::process::exit(if case.hosts().contains(&guard.id()) { 3 } else { 4 });
    }
    let (status, said) = case.place.run("exit");
    assert_eq!(status.code(), Some(3), "{said}");
    case.place.await_sign("held");
    case.nothing_is_left();
}

/// A guard that was forgotten is released when the process ends.
pub fn a_forgotten_guard_is_released_at_exit<S: ProviderSubject>(case: &Case<S>) {
    if case.role().is_some() {
        std::mem::forget(case.block(case.broker().checkout(case.subject.request())).unwrap());
        assert_eq!(case.hosts().len(), 1);
        case.place.sign("held");
        return;
    }
    let (status, said) = case.place.run("forget");
    assert!(status.success(), "{said}");
    case.place.await_sign("held");
    case.nothing_is_left();
}

/// A guard in a thread-local goes with its thread, or with the process at the latest.
pub fn a_guard_of_a_thread_is_released_with_it<S: ProviderSubject>(case: &Case<S>) {
    thread_local! {
        static GUARD: RefCell<Option<HostGuard>> = const { RefCell::new(None) };
    }
    let hold = || GUARD.set(Some(case.block(case.broker().checkout(case.subject.request())).unwrap()));
    if case.role().is_some() {
        hold();
        std::thread::scope(|scope| scope.spawn(hold).join().unwrap());
        case.place.sign("held");
        return;
    }
    let (status, said) = case.place.run("thread");
    assert!(status.success(), "{said}");
    case.place.await_sign("held");
    case.nothing_is_left();
}
