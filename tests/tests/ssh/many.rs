//! Much at once.

use broker_core::session::SessionErrorKind;
use broker_core::session::ssh::connect;
use broker_core::{Host, error_chain, execute_on};
use broker_tests::conformance::session::{kind, noise};
use broker_tests::ssh::provider::request;
use broker_tests::ssh::{Lab, Setup};
use futures_util::future::join_all;

use crate::support::{block, run, target};

#[test]
fn fifty_commands_where_the_server_takes_two_at_a_time() {
    let server = Setup::openssh().option("MaxSessions 2").start();
    let lab = Lab::new();
    let host = lab.server(&server);
    block(async {
        let commands = (0..50).map(|at| host.execute(format!("echo out{at}; echo err{at} >&2; sleep 0.02; exit {at}")));
        for (at, outcome) in join_all(commands).await.into_iter().enumerate() {
            let done = outcome.unwrap();
            assert_eq!((done.stdout(), done.stderr()), (format!("out{at}\n").into(), format!("err{at}\n").into()));
            assert_eq!(done.status().code(), i32::try_from(at).unwrap());
        }
    });
    assert_eq!(server.log().matches("Accepted publickey").count(), 1, "one connection is enough");
}

#[test]
fn a_command_waits_for_its_turn_and_can_be_given_up_while_it_does() {
    let server = Setup::openssh().option("MaxSessions 2").start();
    block(async {
        let connected = connect(&target(&server)).await.unwrap();
        let session = &*connected.session;
        let long = async { run(session, "sleep 3").await.unwrap() };
        let waiting = async {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            let soon = std::time::Duration::from_millis(300);
            assert!(tokio::time::timeout(soon, run(session, "true")).await.is_err(), "there is no room for it");
        };
        tokio::join!(long, async { run(session, "sleep 3").await.unwrap() }, waiting);
        // What was given up has not taken a place.
        for done in join_all((0..6).map(|_| run(session, "echo works"))).await {
            assert_eq!(done.unwrap().stdout, b"works\n");
        }
    });
}

#[test]
fn files_and_commands_where_the_server_takes_one_at_a_time() {
    let server = Setup::openssh().option("MaxSessions 1").start();
    let lab = Lab::new();
    let host = lab.server(&server);
    let at = |name: &str| server.directory().join(name).display().to_string();
    block(async {
        for turn in 0..3 {
            host.write(at("file"), format!("{turn}")).await.unwrap();
            let done = host.execute(format!("cat '{}'", at("file"))).await.unwrap().check().unwrap();
            assert_eq!(done.stdout(), format!("{turn}"));
        }
        // From the host to itself, which takes and gives at the same time: more than is under way at once.
        std::fs::write(at("large"), noise(5, 20_000_000)).unwrap();
        host.copy_to(at("large"), &host, at("copy")).await.unwrap();
        assert!(std::fs::read(at("copy")).unwrap() == noise(5, 20_000_000));
        let transfers = (0..5).map(|turn| host.write(at(&format!("file-{turn}")), "much".repeat(100_000)));
        assert!(join_all(transfers).await.into_iter().all(|outcome| outcome.is_ok()));
    });
    assert_eq!(server.log().matches("Accepted publickey").count(), 1, "one connection is enough");
}

#[test]
fn two_hundred_hosts() {
    const HOSTS: usize = 200;
    let server = Setup::openssh().start();
    let lab = Lab::new();
    let hosts: Vec<_> =
        (0..HOSTS).map(|at| lab.host(request(&format!("host-{at}"), &server, server.address()))).collect();
    block(async {
        let commands = hosts.iter().enumerate().map(async |(at, host)| (at, host.execute(format!("echo {at}")).await));
        for (at, outcome) in join_all(commands).await {
            assert_eq!(outcome.unwrap().check().unwrap().stdout(), format!("{at}\n"));
        }
        // Once more, over what is open.
        let commands = hosts.iter().map(|host| host.execute("true"));
        assert!(join_all(commands).await.into_iter().all(|outcome| outcome.unwrap().success()));
    });
    assert_eq!(server.log().matches("Accepted publickey").count(), HOSTS);
    assert_eq!(server.connections(), HOSTS);
    drop(hosts);
    broker_tests::wait::until("the connections to be closed", || server.connections() == 0);
}

#[test]
fn one_command_on_many_hosts_has_an_outcome_for_each() {
    let (server, down) = (Setup::openssh().start(), Setup::openssh().prepare());
    let lab = Lab::new();
    let guards = [
        lab.host(request("first", &server, server.address())),
        lab.host(request("down", &down, down.address())),
        lab.host(request("last", &server, server.address())),
    ];
    let hosts = || guards.iter().map(|guard| Host::clone(guard)).collect::<Vec<_>>();
    block(async {
        let line = "echo out; echo err >&2; exit 3";
        for outcomes in [execute_on(hosts(), line).await, lab.broker().execute_on(hosts(), line).await] {
            let names: Vec<String> = outcomes.iter().map(|(host, _)| host.label()).collect();
            assert_eq!(names, ["first", "down", "last"]);
            for (at, (_, outcome)) in outcomes.into_iter().enumerate() {
                if at == 1 {
                    let error = outcome.unwrap_err();
                    assert_eq!(kind(&error), SessionErrorKind::Unreachable, "{}", error_chain(&error));
                    continue;
                }
                let done = outcome.unwrap();
                assert_eq!((done.stdout(), done.stderr(), done.status().code()), ("out\n".into(), "err\n".into(), 3));
            }
        }
        assert!(execute_on(Vec::new(), line).await.is_empty());
        // Those that were checked out together.
        let request = request("together", &server, server.address()).count(3);
        let together = lab.broker().checkout_many(request).await.unwrap();
        for (host, outcome) in together.execute("echo $PPID").await {
            assert!(!outcome.unwrap().check().unwrap().stdout().trim().is_empty(), "{}", host.label());
        }
        together.checkin().await.unwrap();
    });
}

#[test]
fn no_more_hosts_at_once_than_the_settings_allow() {
    let server = Setup::openssh().start();
    let lab = Lab::with_settings(&format!(
        "thread_limit: 2\nssh: {{backend: {}, boot_patience: 0, agent: false, config: false}}",
        broker_tests::ssh::backend()
    ));
    let guards: Vec<_> = (0..6).map(|at| lab.host(request(&format!("host-{at}"), &server, server.address()))).collect();
    let hosts: Vec<Host> = guards.iter().map(|guard| Host::clone(guard)).collect();
    // Each one leaves a sign while it runs, waits a while for another's, and counts them.
    let signs = server.directory().join("signs");
    std::fs::create_dir(&signs).unwrap();
    let line = format!(
        "cd '{}'; touch $$; for _ in $(seq 60); do test $(ls | wc -l) -gt 1 && break; sleep 0.05; done; ls | wc -l; \
         sleep 0.2; rm $$",
        signs.display()
    );
    block(async {
        let counts: Vec<usize> = lab
            .broker()
            .execute_on(hosts, line)
            .await
            .into_iter()
            .map(|(_, outcome)| outcome.unwrap().check().unwrap().stdout().trim().parse().unwrap())
            .collect();
        assert_eq!(counts.len(), 6);
        assert!(counts.iter().all(|count| *count <= 2) && counts.contains(&2), "{counts:?}");
    });
}
