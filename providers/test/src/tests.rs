//! The provider and its sessions, from the outside.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Instant;

use broker_core::ArgValue;
use broker_core::inventory::{Details, Holding, HostState};
use broker_core::provider::Provider;
use broker_core::session::local::read_tree;
use broker_core::session::{
    Command, ExitStatus, Input, Output, PtyRequest, PtySize, RemotePath, Session, Signal, Streams, TreeItem,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

const MOMENT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn provider_at(directory: Option<&Path>) -> Arc<dyn Provider> {
    Arc::new(TestProvider::new(&ProviderSettings::default(), directory.map(Path::to_owned)).unwrap())
}

async fn opened(provider: &dyn Provider, host: &HostRecord) -> Result<Arc<dyn Session>, SessionError> {
    match provider.access(host).await? {
        Access::Session(session) => Ok(session),
        access => panic!("{access:?} is no session"),
    }
}

fn order(args: &[(&str, &str)]) -> Order {
    let args = [("test_action", "demo")].iter().chain(args);
    Order::for_test("test_action", args.map(|(name, value)| ((*name).to_owned(), ArgValue::from(*value))).collect())
}

/// What the engine would have written before it asked for the host.
async fn pending(provider: &dyn Provider, order: &Order) -> HostRecord {
    HostRecord {
        rev: 1,
        details: Details { args: order.args.clone(), ..Details::default() }.into(),
        lease_until: order.lease_until,
        owner: Some(order.owner.clone()),
        holding: Holding::Guarded,
        endpoint: Some(provider.endpoint().await.unwrap()),
        ..HostRecord::new(order.id, "TestProvider", HostState::Pending)
    }
}

async fn checked_out(provider: &dyn Provider, args: &[(&str, &str)]) -> HostRecord {
    let order = order(args);
    let mut record = pending(provider, &order).await;
    record.absorb(provider.checkout(&order).await.unwrap());
    record.state = HostState::Active;
    record
}

/// Everything in a directory of hosts but what belongs to the directory itself.
fn contents(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != ".identity" && name != ".lock").collect();
    names.sort();
    names
}

fn kind<T: std::fmt::Debug>(result: Result<T, ProviderError>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn a_host_lives_and_goes() {
    run(async {
        let scratch = tempfile::tempdir().unwrap();
        let provider = provider_at(Some(scratch.path()));
        let host = checked_out(&*provider, &[("anything", "goes")]).await;
        assert_eq!(contents(scratch.path()), [format!("{}.json", host.id), format!("{}.log", host.id)]);
        assert_eq!(host.name, None);
        assert_eq!(host.hostname.as_deref(), Some(&*format!("test-{}.host.example.com", host.id.short())));
        assert_eq!(host.details.facts["os_distribution"], "FakeOS");
        let mode = fs::metadata(scratch.path().join(format!("{}.json", host.id))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let found = provider.find(&host).await.unwrap();
        assert_eq!((found.len(), found[0].broker_id, &found[0].args), (1, Some(host.id), &host.details.args));
        let other = checked_out(&*provider, &[("name", "named"), ("hostname", "h.example.com")]).await;
        assert_eq!((other.name.as_deref(), other.hostname.as_deref()), (Some("named"), Some("h.example.com")));
        for (argument, count) in [(None, 2), (Some("test-"), 1), (Some("h."), 1), (Some("nam"), 1), (Some("est"), 0)] {
            let scope = Scope { argument: argument.map(str::to_owned), ..Scope::default() };
            assert_eq!(provider.list(&scope).await.unwrap().len(), count, "{argument:?}");
        }

        drop(opened(&*provider, &host).await.unwrap());
        provider.release(&host).await.unwrap();
        assert_eq!(contents(scratch.path()), [format!("{}.json", other.id), format!("{}.log", other.id)]);
        provider.release(&host).await.unwrap();
        assert!(provider.find(&host).await.unwrap().is_empty());
        let gone = opened(&*provider, &host).await.err().unwrap();
        assert_eq!(gone.kind(), SessionErrorKind::NotRunning);
        assert_eq!(kind(provider.extend(&host, Lease(LONG)).await), ErrorKind::NotFound);
    });
}

#[test]
fn without_a_directory_there_is_nothing_to_find() {
    run(async {
        let provider = provider_at(None);
        let host = checked_out(&*provider, &[]).await;
        assert_eq!(provider.endpoint().await.unwrap(), nowhere());
        assert!(provider.find(&host).await.unwrap().is_empty());
        assert!(provider.list(&Scope::default()).await.unwrap().is_empty());
        assert!(provider.extend(&host, Lease(LONG)).await.unwrap().lease_until > Some(Timestamp::now()));
        let session = opened(&*provider, &host).await.unwrap();
        assert_eq!(collect(&*session, &"echo $PWD > file; cat file".into()).await.2, ExitStatus::Code(0));
        let home = Disk::temporary(host.id).home;
        assert!(home.join("file").is_file());
        provider.release(&host).await.unwrap();
        provider.release(&host).await.unwrap();
        assert!(!home.exists());

        let failing = checked_out(&*provider, &[("fail_release", "auth"), ("fail_release_times", "1")]).await;
        assert_eq!(kind(provider.release(&failing).await), ErrorKind::Auth);
        provider.release(&failing).await.unwrap();
    });
}

#[test]
fn an_ssh_server_can_stand_for_a_host() {
    run(async {
        let scratch = tempfile::tempdir().unwrap();
        let provider = provider_at(Some(scratch.path()));
        let host = checked_out(&*provider, &[("test_ssh", "[::1]:2222")]).await;
        assert_eq!((host.address.as_deref(), host.ssh_port), (Some("::1"), Some(2222)));
        assert!(matches!(provider.access(&host).await, Ok(Access::Ssh(login)) if login == SshLogin::default()));
        provider.release(&host).await.unwrap();
    });
}

#[test]
fn the_factory_reads_settings() {
    run(async {
        let scratch = tempfile::tempdir().unwrap();
        let values = [("directory", scratch.path().to_str().unwrap()), ("foo", "bar"), ("config_value", "9.10")];
        let values = values.map(|(name, value)| (name.to_owned(), ArgValue::Plain(value.to_owned())));
        let settings = ProviderSettings { values: values.into_iter().collect(), ..ProviderSettings::default() };
        let factory = factory();
        let provider = factory.build(&settings).unwrap();
        let host = checked_out(&*provider, &[]).await;
        assert_eq!((&host.details.facts["foo"], &host.details.facts["config_value"]), (&json!("bar"), &json!("9.10")));
        assert!(host.details.facts.keys().all(|fact| factory.info().facts.contains(&fact.as_str())));
        assert_eq!(contents(scratch.path()).len(), 2);
        let bad = ProviderSettings {
            provider: "TestProvider".to_owned(),
            values: Args::from([("directory".to_owned(), vec!["x"].into())]),
            ..ProviderSettings::default()
        };
        let error = factory.build(&bad).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Settings);
        assert!(error.to_string().contains("TestProvider.directory"));
    });
}

#[test]
fn another_directory_is_another_endpoint() {
    run(async {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let provider = provider_at(Some(one.path()));
        let host = checked_out(&*provider, &[]).await;
        for elsewhere in [Some(two.path().to_owned()), Some(two.path().join("missing")), None] {
            let other = provider_at(elsewhere.as_deref());
            assert_eq!(kind(other.release(&host).await), ErrorKind::EndpointChanged, "{elsewhere:?}");
            assert_eq!(kind(other.find(&host).await), ErrorKind::EndpointChanged, "{elsewhere:?}");
            assert_eq!(kind(other.extend(&host, Lease(LONG)).await), ErrorKind::EndpointChanged, "{elsewhere:?}");
            assert!(opened(&*other, &host).await.is_err());
        }
        assert!(!two.path().join("missing").exists());
        let nowhere = checked_out(&*provider_at(None), &[]).await;
        assert_eq!(kind(provider.release(&nowhere).await), ErrorKind::EndpointChanged);
        // The same place by another name is the same place.
        let alias = two.path().join("alias");
        symlink(one.path(), &alias).unwrap();
        provider_at(Some(&alias)).release(&host).await.unwrap();
        assert!(contents(one.path()).is_empty());
    });
}

#[test]
fn one_identity_whoever_comes_first() {
    let scratch = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let path = scratch.path().join(round.to_string());
        let endpoints: Vec<Endpoint> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| run(provider_at(Some(&path)).endpoint()).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(endpoints.iter().all(|endpoint| *endpoint == endpoints[0] && !endpoint.identity.is_empty()));
        assert!(contents(&path).is_empty());
    }
}

#[test]
fn failures_leave_what_they_say() {
    run(async {
        let scratch = tempfile::tempdir().unwrap();
        let provider = provider_at(Some(scratch.path()));
        for (how, expected, left) in [
            ("auth", ErrorKind::Auth, false),
            ("permission", ErrorKind::Permission, false),
            ("quota", ErrorKind::Quota, false),
            ("not_found", ErrorKind::NotFound, false),
            ("conflict", ErrorKind::Conflict, false),
            ("unreachable", ErrorKind::Unreachable, false),
            ("bad_request", ErrorKind::BadRequest, false),
            ("failed", ErrorKind::Failed, false),
            ("timeout", ErrorKind::Timeout, true),
            ("bug", ErrorKind::Bug, true),
        ] {
            let order = order(&[("fail", how)]);
            let record = pending(&*provider, &order).await;
            let error = provider.checkout(&order).await.unwrap_err();
            assert_eq!((error.kind(), error.may_exist()), (expected, left), "{how}");
            assert_eq!(error.to_string(), format!("checking out `demo` was told to fail with `{how}`"));
            assert_eq!(provider.find(&record).await.unwrap().len(), usize::from(left), "{how}");
            provider.release(&record).await.unwrap();
            assert!(contents(scratch.path()).is_empty(), "{how}");
        }
        let nonsense = order(&[("fail", "nonsense")]);
        assert_eq!(kind(provider.checkout(&nonsense).await), ErrorKind::BadRequest);
        let late = order(&[("fail_release", "nonsense")]);
        assert_eq!(kind(provider.checkout(&late).await), ErrorKind::BadRequest);
        assert!(contents(scratch.path()).is_empty());
    });
}

#[test]
fn a_panic_leaves_the_host() {
    let scratch = tempfile::tempdir().unwrap();
    let provider = provider_at(Some(scratch.path()));
    let order = order(&[("fail", "panic")]);
    let record = run(pending(&*provider, &order));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(provider.checkout(&order))));
    assert!(panicked.is_err());
    run(async {
        assert_eq!(provider.find(&record).await.unwrap().len(), 1);
        provider.release(&record).await.unwrap();
        assert!(contents(scratch.path()).is_empty());
    });
}

#[test]
fn every_third_fails() {
    run(async {
        let scratch = tempfile::tempdir().unwrap();
        let provider = provider_at(Some(scratch.path()));
        let mut outcomes = Vec::new();
        for _ in 0..7 {
            outcomes.push(provider.checkout(&order(&[("fail_every", "3")])).await.map_err(|error| error.kind()).err());
        }
        let failed = Some(ErrorKind::Failed);
        assert_eq!(outcomes, [None, None, failed, None, None, failed, None]);
        provider.checkout(&order(&[])).await.unwrap();
        provider.checkout(&order(&[("fail_every", "3"), ("fail", "quota")])).await.unwrap();
        assert_eq!(kind(provider.checkout(&order(&[("fail_every", "3"), ("fail", "quota")])).await), ErrorKind::Quota);
        assert_eq!(contents(scratch.path()).iter().filter(|name| name.ends_with(".json")).count(), 7);
    });
}

#[test]
fn a_delay_can_be_cancelled_at_any_time() {
    run(async {
        let scratch = tempfile::tempdir().unwrap();
        let provider = provider_at(Some(scratch.path()));
        let started = Instant::now();
        provider.checkout(&order(&[("delay", "200ms")])).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(200));
        fs::remove_dir_all(scratch.path()).unwrap();

        for (delay, patience, made) in [("1h", MOMENT, false), ("500ms", Duration::from_millis(350), true)] {
            let order = order(&[("delay", delay)]);
            let record = pending(&*provider, &order).await;
            let cancel = async {
                tokio::time::sleep(patience).await;
                assert_eq!(provider.find(&record).await.unwrap().len(), usize::from(made));
                order.cancel();
            };
            let (result, ()) = timeout(LONG, async { tokio::join!(provider.checkout(&order), cancel) }).await.unwrap();
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.may_exist()), (ErrorKind::Cancelled, false));
            assert!(contents(scratch.path()).is_empty());
        }
        let cancelled = order(&[]);
        cancelled.cancel();
        assert_eq!(kind(provider.checkout(&cancelled).await), ErrorKind::Cancelled);
        assert_eq!(kind(provider.execute(&cancelled).await), ErrorKind::Cancelled);
        assert!(contents(scratch.path()).is_empty());
    });
}

#[test]
fn what_hangs_must_be_dropped() {
    run(async {
        let scratch = tempfile::tempdir().unwrap();
        let provider = provider_at(Some(scratch.path()));
        let order = order(&[("hang", "true")]);
        let record = pending(&*provider, &order).await;
        timeout(MOMENT, provider.checkout(&order)).await.unwrap_err();
        order.cancel();
        assert_eq!(provider.find(&record).await.unwrap().len(), 1);
        timeout(MOMENT, provider.execute(&super::tests::order(&[("hang", "true")]))).await.unwrap_err();
        provider.release(&record).await.unwrap();
        assert!(contents(scratch.path()).is_empty());
    });
}

#[test]
fn releases_misbehave_in_other_processes_too() {
    run(async {
        let scratch = tempfile::tempdir().unwrap();
        let provider = provider_at(Some(scratch.path()));
        let args = [("slow_release", "100ms"), ("fail_release", "timeout"), ("fail_release_times", "2")];
        let mut host = checked_out(&*provider, &args).await;
        // What the record says does not matter where there is a file.
        host.details.args.clear();
        for expected in [Some(ErrorKind::Timeout), Some(ErrorKind::Timeout), None, None] {
            let provider = provider_at(Some(scratch.path()));
            let (started, there) = (Instant::now(), provider.find(&host).await.unwrap().len() == 1);
            let error = provider.release(&host).await.err().map(|error| error.kind());
            assert_eq!(error, expected);
            assert_eq!(started.elapsed() >= Duration::from_millis(100), there);
            assert_eq!(provider.find(&host).await.unwrap().len(), usize::from(expected.is_some()));
        }
        let stuck = checked_out(&*provider, &[("fail_release", "hang")]).await;
        timeout(MOMENT, provider.release(&stuck)).await.unwrap_err();
        assert_eq!(provider.find(&stuck).await.unwrap().len(), 1);
    });
}

#[test]
fn a_damaged_file_can_be_released() {
    run(async {
        let scratch = tempfile::tempdir().unwrap();
        let provider = provider_at(Some(scratch.path()));
        let host = checked_out(&*provider, &[]).await;
        let path = scratch.path().join(format!("{}.json", host.id));
        fs::write(&path, "{").unwrap();
        let error = provider.find(&host).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot use `{}`", path.display()));
        assert_eq!(kind(provider.list(&Scope::default()).await), ErrorKind::Failed);
        provider.release(&host).await.unwrap();
        assert!(contents(scratch.path()).is_empty());
    });
}

#[test]
fn a_lease_grows() {
    run(async {
        let scratch = tempfile::tempdir().unwrap();
        let provider = provider_at(Some(scratch.path()));
        let mut order = order(&[]);
        let until = Lease(Duration::from_secs(3600)).until();
        order.lease_until = Some(until);
        let mut host = pending(&*provider, &order).await;
        host.absorb(provider.checkout(&order).await.unwrap());
        assert_eq!(host.lease_until, Some(until));
        let facts = provider.extend(&host, Lease(Duration::from_secs(60))).await.unwrap();
        assert_eq!(facts.lease_until, Some(until), "extending never shortens");
        host.absorb(facts);
        assert_eq!(provider.find(&host).await.unwrap()[0].facts.lease_until, host.lease_until);
        let forever = provider.extend(&host, Lease(Duration::MAX)).await.unwrap();
        assert_eq!(forever.lease_until, Some(Timestamp::MAX));
    });
}

#[test]
fn actions_are_executed() {
    run(async {
        let provider = provider_at(None);
        let done = provider.execute(&order(&[("x", "1"), ("api_token", "hunter2")])).await.unwrap();
        let output = json!({"test_action": "demo", "x": "1", "api_token": "***"});
        assert_eq!(done, Execution { failure: None, output });
        let failed = provider.execute(&order(&[("fail", "failed")])).await.unwrap();
        assert_eq!(failed.failure.as_deref(), Some("executing `demo` was told to fail with `failed`"));
        assert_eq!(kind(provider.execute(&order(&[("fail", "quota")])).await), ErrorKind::Quota);

        let query = |name: &str| Query { name: name.to_owned(), ..Query::default() };
        let table = provider.query(&query("test_actions")).await.unwrap();
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
        assert!(table.rows.iter().any(|row| row[0] == "--fail-every N"));
        assert_eq!(kind(provider.query(&query("images")).await), ErrorKind::Unsupported);
    });
}

async fn log(provider: &dyn Provider, host: &HostRecord, tail: Option<usize>) -> String {
    let (output, mut pieces) = mpsc::channel(10);
    provider.logs(host, LogRequest { tail, follow: false, output }).await.unwrap();
    let mut text = Vec::new();
    while let Some(piece) = pieces.recv().await {
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn hosts_have_logs() {
    run(async {
        let scratch = tempfile::tempdir().unwrap();
        let provider = provider_at(Some(scratch.path()));
        let host = checked_out(&*provider, &[]).await;
        assert!(log(&*provider, &host, None).await.ends_with(" made for test\n"));
        let session = opened(&*provider, &host).await.unwrap();
        collect(&*session, &"printf 'one\\ntwo\\nthree' >> $BROKER_TEST_CONSOLE".into()).await;
        assert_eq!(log(&*provider, &host, Some(2)).await, "two\nthree");
        assert_eq!(log(&*provider, &host, Some(0)).await, "");
        assert_eq!(log(&*provider, &host, Some(100)).await.lines().count(), 4);

        let (output, mut pieces) = mpsc::channel(10);
        let follow = provider.logs(&host, LogRequest { tail: Some(1), follow: true, output });
        let watch = async {
            assert_eq!(pieces.recv().await.unwrap(), "three");
            collect(&*session, &"echo four >> $BROKER_TEST_CONSOLE".into()).await;
            assert_eq!(pieces.recv().await.unwrap(), "four\n");
            provider.release(&host).await.unwrap();
            assert_eq!(pieces.recv().await, None);
        };
        let (followed, ()) = timeout(LONG, async { tokio::join!(follow, watch) }).await.unwrap();
        followed.unwrap();

        let host = checked_out(&*provider, &[]).await;
        let (output, pieces) = mpsc::channel(10);
        drop(pieces);
        timeout(LONG, provider.logs(&host, LogRequest { tail: None, follow: true, output })).await.unwrap().unwrap();
    });
}

/// Runs a command to its end: what it printed on each output, and how it ended.
async fn collect(session: &dyn Session, command: &Command) -> (Vec<u8>, Vec<u8>, ExitStatus) {
    feed(session, command, Vec::new()).await
}

async fn feed(session: &dyn Session, command: &Command, inputs: Vec<Input>) -> (Vec<u8>, Vec<u8>, ExitStatus) {
    let (output, mut outputs) = mpsc::channel(4);
    let (typing, input) = mpsc::channel(1);
    let feeding = async move {
        for item in inputs {
            if typing.send(item).await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(piece) = outputs.recv().await {
            match piece {
                Output::Stdout(bytes) => out.extend_from_slice(&bytes),
                Output::Stderr(bytes) => err.extend_from_slice(&bytes),
            }
        }
        (out, err)
    };
    let running = session.run(command, Streams { input: Some(input), control: None, output });
    let (status, (), (out, err)) = timeout(LONG, async { tokio::join!(running, feeding, reading) }).await.unwrap();
    (out, err, status.unwrap())
}

async fn failure(session: &dyn Session, command: &Command) -> SessionErrorKind {
    let (output, _outputs) = mpsc::channel(4);
    session.run(command, Streams { input: None, control: None, output }).await.unwrap_err().kind()
}

/// A session in a host of its own. The directory goes when the first of them does.
async fn open_session() -> (tempfile::TempDir, Arc<dyn Provider>, HostRecord, Arc<dyn Session>) {
    let scratch = tempfile::tempdir().unwrap();
    let provider = provider_at(Some(scratch.path()));
    let host = checked_out(&*provider, &[]).await;
    let session = opened(&*provider, &host).await.unwrap();
    (scratch, provider, host, session)
}

fn data(text: &str) -> Input {
    Input::Data(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn commands_run() {
    run(async {
        let (scratch, _, host, session) = open_session().await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, err, status) = collect(&*session, &"echo out; echo err >&2; exit 3".into()).await;
        assert_eq!((text(out), text(err), status), ("out\n".to_owned(), "err\n".to_owned(), ExitStatus::Code(3)));
        let (out, _, _) = collect(&*session, &Command::words(["printf", "%s|", "$HOME", "a  b"])).await;
        assert_eq!(text(out), "$HOME|a  b|");
        let (out, _, _) = collect(&*session, &Command::shell("echo $A; pwd").env("A", "b c")).await;
        let home = fs::canonicalize(scratch.path().join(format!("{}.d", host.id))).unwrap();
        assert_eq!(text(out), format!("b c\n{}\n", home.display()));
        let (out, _, _) = collect(&*session, &Command::shell("pwd").directory("/")).await;
        assert_eq!(text(out), "/\n");
        let (out, _, status) = feed(&*session, &"cat; echo done".into(), vec![data("a"), data("b\n")]).await;
        assert_eq!((text(out), status), ("ab\ndone\n".to_owned(), ExitStatus::Code(0)));
        let big = "x".repeat(1 << 20);
        let (out, _, _) = feed(&*session, &"wc -c".into(), vec![data(&big), data(&big)]).await;
        assert_eq!(text(out).trim(), "2097152");
        // One that does not read what it is given, and one whose end is a signal.
        assert_eq!(feed(&*session, &"true".into(), vec![data(&big), data(&big)]).await.2, ExitStatus::Code(0));
        let killed = ExitStatus::Signal("KILL".to_owned());
        assert_eq!(collect(&*session, &"kill -9 $$".into()).await.2, killed);

        let me = rustix::process::geteuid().as_raw().to_string();
        assert_eq!(collect(&*session, &Command::shell("true").user(me)).await.2, ExitStatus::Code(0));
        assert_eq!(
            failure(&*session, &Command::shell("true").user("nobody-at-all")).await,
            SessionErrorKind::Unsupported
        );
        assert_eq!(failure(&*session, &Command::words(["no-such-program"])).await, SessionErrorKind::NotFound);
        assert_eq!(failure(&*session, &Command::words(["/etc/passwd"])).await, SessionErrorKind::Permission);
        assert_eq!(failure(&*session, &Command::words(["echo", "a\0b"])).await, SessionErrorKind::Failed);
        assert_eq!(failure(&*session, &Command::words([""; 0])).await, SessionErrorKind::Failed);
        let nowhere = Command::shell("true").directory("no/such/directory");
        assert_eq!(failure(&*session, &nowhere).await, SessionErrorKind::NotFound);
    });
}

#[test]
fn eight_megabytes_on_both_outputs_arrive() {
    run(async {
        let (_scratch, _, _, session) = open_session().await;
        let line = "head -c 8388608 /dev/zero | tr '\\0' o & head -c 8388608 /dev/zero | tr '\\0' e >&2; wait";
        let (out, err, _) = collect(&*session, &line.into()).await;
        assert_eq!((out.len(), err.len()), (8 << 20, 8 << 20));
        assert!(out.iter().all(|byte| *byte == b'o') && err.iter().all(|byte| *byte == b'e'));
    });
}

#[test]
fn output_that_nobody_wants_does_not_hold_the_command_up() {
    run(async {
        let (_scratch, _, _, session) = open_session().await;
        let (output, outputs) = mpsc::channel(1);
        drop(outputs);
        let command = "head -c 1000000 /dev/zero; exit 4".into();
        let status = timeout(LONG, session.run(&command, Streams { input: None, control: None, output }))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(status, ExitStatus::Code(4));
    });
}

#[test]
fn what_is_left_running_does_not_hold_the_end_up() {
    run(async {
        let (scratch, _, host, session) = open_session().await;
        let started = Instant::now();
        let (out, _, status) = collect(&*session, &"sleep 60 & echo $! > pid; echo out".into()).await;
        assert_eq!((out, status), (b"out\n".to_vec(), ExitStatus::Code(0)));
        assert!(started.elapsed() < Duration::from_secs(10));
        let pid = fs::read_to_string(scratch.path().join(format!("{}.d/pid", host.id))).unwrap();
        assert!(alive(&pid), "it is left running");
        collect(&*session, &Command::words(["kill", pid.trim()])).await;
    });
}

fn alive(pid: &str) -> bool {
    // A zombie has been killed.
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z"))
}

async fn pids(directory: &Path, host: &HostRecord, count: usize) -> Vec<String> {
    let file = directory.join(format!("{}.d/pids", host.id));
    let wait = async {
        loop {
            let pids: Vec<String> = fs::read_to_string(&file).unwrap_or_default().lines().map(str::to_owned).collect();
            if pids.len() == count {
                return pids;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, wait).await.unwrap()
}

async fn all_end(pids: &[String]) {
    let wait = async {
        while pids.iter().any(|pid| alive(pid)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, wait).await.unwrap();
}

const FAMILY: &str = "sleep 60 & echo $! >> pids; sh -c 'sleep 60 & echo $! >> pids; wait' & echo $! >> pids; \
                      echo $$ >> pids; wait";

#[test]
fn dropping_the_future_ends_the_whole_family() {
    run(async {
        for pty in [None, Some(PtyRequest::default())] {
            let (scratch, _, host, session) = open_session().await;
            let (output, _outputs) = mpsc::channel(4);
            let command = Command { pty, ..Command::shell(FAMILY) };
            let mut running = session.run(&command, Streams { input: None, control: None, output });
            let family = tokio::select! {
                ended = &mut running => panic!("ended: {ended:?}"),
                family = pids(scratch.path(), &host, 4) => family,
            };
            assert!(family.iter().all(|pid| alive(pid)));
            drop(running);
            all_end(&family).await;
        }
    });
}

#[test]
fn closing_the_session_ends_what_runs() {
    run(async {
        let (scratch, provider, host, session) = open_session().await;
        let (output, _outputs) = mpsc::channel(4);
        let command = FAMILY.into();
        let running = session.run(&command, Streams { input: None, control: None, output });
        let close = async {
            let family = pids(scratch.path(), &host, 4).await;
            assert!(!session.is_broken());
            session.close().await;
            family
        };
        let (ended, family) = tokio::join!(running, close);
        assert_eq!(ended.unwrap_err().kind(), SessionErrorKind::Unreachable);
        all_end(&family).await;
        assert!(session.is_broken());
        assert_eq!(failure(&*session, &"true".into()).await, SessionErrorKind::Unreachable);
        let again = opened(&*provider, &host).await.unwrap();
        assert_eq!(collect(&*again, &"true".into()).await.2, ExitStatus::Code(0));
        provider.release(&host).await.unwrap();
        assert_eq!(failure(&*again, &"true".into()).await, SessionErrorKind::NotRunning);
    });
}

#[test]
fn signals_reach_the_children() {
    run(async {
        let (scratch, _, host, session) = open_session().await;
        for (signal, pty) in [
            (Signal::Terminate, None),
            (Signal::Interrupt, None),
            (Signal::Kill, None),
            (Signal::Hangup, Some(PtyRequest::default())),
        ] {
            fs::remove_file(scratch.path().join(format!("{}.d/pids", host.id))).ok();
            let (output, mut outputs) = mpsc::channel(4);
            let (typing, input) = mpsc::channel(1);
            let command =
                Command { pty, ..Command::shell("echo $$ > pids; sh -c 'echo $$ >> pids; exec sleep 60'; :") };
            let running = session.run(&command, Streams { input: Some(input), control: None, output });
            let send = async {
                let family = pids(scratch.path(), &host, 2).await;
                typing.send(Input::Signal(signal)).await.unwrap();
                while outputs.recv().await.is_some() {}
                family
            };
            let (status, family) = timeout(LONG, async { tokio::join!(running, send) }).await.unwrap();
            assert_eq!(status.unwrap(), ExitStatus::Signal(signal.name().to_owned()));
            all_end(&family).await;
        }
    });
}

#[test]
fn a_terminal_is_one() {
    run(async {
        let (_scratch, _, _, session) = open_session().await;
        let pty =
            PtyRequest { term: "vt220".to_owned(), size: PtySize { columns: 132, rows: 43 }, ..PtyRequest::default() };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let command = Command::shell("tty -s && echo $TERM $(stty size) >&2; test -t 1 && : > /dev/tty; exit 5");
        let (out, err, status) = collect(&*session, &command.pty(pty)).await;
        assert_eq!((text(out), err.len(), status), ("vt220 43 132\r\n".to_owned(), 0, ExitStatus::Code(5)));

        // What is typed ends with the end of the input, also in the middle of a line.
        for typed in ["one\ntwo\n", "one\ntwo", ""] {
            let inputs = if typed.is_empty() { Vec::new() } else { vec![data(typed)] };
            let cat = Command::shell("stty -echo; cat; echo end").pty(PtyRequest::default());
            let (out, _, status) = feed(&*session, &cat, inputs).await;
            assert!(text(out).ends_with("end\r\n"), "{typed:?}");
            assert_eq!(status, ExitStatus::Code(0));
        }

        // Ctrl-C is a key like others, and a new size is told of.
        let interrupted = Command::shell(
            "trap 'stty size; kill $!; exit 7' WINCH; trap 'kill $!; exit 6' INT; echo ready; sleep 60 & wait",
        )
        .pty(PtyRequest::default());
        for (item, expected) in [
            (data("\x03"), ("ready\r\n^C".to_owned(), ExitStatus::Code(6))),
            (Input::Resize(PtySize { columns: 99, rows: 9 }), ("ready\r\n9 99\r\n".to_owned(), ExitStatus::Code(7))),
        ] {
            let (output, mut outputs) = mpsc::channel(4);
            let (typing, input) = mpsc::channel(1);
            let running = session.run(&interrupted, Streams { input: Some(input), control: None, output });
            let typist = async {
                let mut seen = Vec::new();
                let mut item = Some(item);
                while let Some(Output::Stdout(piece)) = outputs.recv().await {
                    seen.extend_from_slice(&piece);
                    if seen.ends_with(b"ready\r\n")
                        && let Some(item) = item.take()
                    {
                        tokio::time::sleep(MOMENT).await;
                        typing.send(item).await.unwrap();
                    }
                }
                text(seen)
            };
            let (status, seen) = timeout(LONG, async { tokio::join!(running, typist) }).await.unwrap();
            assert_eq!((seen, status.unwrap()), expected);
        }
        for (program, kind) in
            [("no-such-program", SessionErrorKind::NotFound), ("/etc/passwd", SessionErrorKind::Permission)]
        {
            let command = Command::words([program]).pty(PtyRequest::default());
            assert_eq!(failure(&*session, &command).await, kind);
        }
    });
}

#[test]
fn many_commands_run_at_once() {
    run(async {
        let (_scratch, _, _, session) = open_session().await;
        let commands: Vec<Command> = (0..20).map(|number| format!("sleep 0.2; echo {number}").into()).collect();
        let started = Instant::now();
        let mut running = Vec::new();
        for command in &commands {
            running.push(collect(&*session, command));
        }
        // Polled by hand, so that no other crate is needed to join a list.
        let mut running: Vec<_> = running.into_iter().map(Box::pin).collect();
        let mut results = Vec::new();
        std::future::poll_fn(|context| {
            running.retain_mut(|future| match future.as_mut().poll(context) {
                std::task::Poll::Ready((out, _, _)) => {
                    results.push(String::from_utf8(out).unwrap().trim().parse::<usize>().unwrap());
                    false
                }
                std::task::Poll::Pending => true,
            });
            if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        results.sort_unstable();
        assert_eq!(results, (0..20).collect::<Vec<_>>());
        assert!(started.elapsed() < Duration::from_secs(3), "one after the other takes 4 s at least");
    });
}

async fn get(session: &dyn Session, from: &str) -> Result<Vec<TreeItem>, SessionError> {
    let (items, mut received) = mpsc::channel(2);
    let from = RemotePath::from(from);
    let collect = async {
        let mut all = Vec::new();
        while let Some(item) = received.recv().await {
            all.push(item);
        }
        all
    };
    let (result, all) = tokio::join!(session.get(&from, items), collect);
    result.map(|()| all)
}

async fn put(session: &dyn Session, to: &str, items: Vec<TreeItem>) -> Result<(), SessionError> {
    let (sender, received) = mpsc::channel(2);
    let to = RemotePath::from(to);
    let send = async move {
        for item in items {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(session.put(&to, received), send).0
}

#[test]
fn trees_go_and_come() {
    run(async {
        let (scratch, _, host, session) = open_session().await;
        let from = scratch.path().join("from");
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::write(from.join("deep/er/file"), vec![1; 1_000_000]).unwrap();
        fs::set_permissions(from.join("deep/er/file"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", from.join("deep/er/link")).unwrap();
        let mut items = Vec::new();
        read_tree(&from, |item| {
            items.push(item);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();

        put(&*session, "new/place", items.clone()).await.unwrap();
        assert!(get(&*session, "new/place").await.unwrap() == items);
        let absolute = scratch.path().join(format!("{}.d/new/place/deep/er/link", host.id));
        assert_eq!(get(&*session, absolute.to_str().unwrap()).await.unwrap().len(), 1);
        assert_eq!(get(&*session, "missing").await.unwrap_err().kind(), SessionErrorKind::NotFound);
        assert_eq!(put(&*session, "empty", Vec::new()).await.unwrap_err().kind(), SessionErrorKind::Failed);
        items.truncate(4);
        assert_eq!(put(&*session, "cut", items).await.unwrap_err().kind(), SessionErrorKind::Failed);

        // A receiver that goes away ends the reading without an error.
        let (sender, mut received) = mpsc::channel(1);
        let path = RemotePath::from("new/place");
        let stop = async {
            received.recv().await.unwrap();
            drop(received);
        };
        let (result, ()) = tokio::join!(session.get(&path, sender), stop);
        result.unwrap();
        session.close().await;
        assert_eq!(get(&*session, "new").await.unwrap_err().kind(), SessionErrorKind::Unreachable);
    });
}
