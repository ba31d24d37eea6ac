//! What breaks in the middle: tokens that end, services that are restarted.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use broker::prelude::*;
use broker_core::settings::Settings;
use broker_tests::openstack::{Kind, Service, Spoil, Way, revoke_token};
use broker_tests::wait;

use crate::Lab;

fn broker(lab: &Lab) -> Broker {
    let settings = Settings::builder().yaml(lab.settings("")).known_providers(["OpenStack"]).build().unwrap().settings;
    let builder = Broker::bare().provider(broker_openstack::factory()).settings(settings).without_guardian();
    builder.directory(lab.env.directory()).build().unwrap()
}

fn request() -> HostRequest {
    HostRequest::action("ostack_image", "tiny").arg("ostack_wait", "active")
}

fn block<F: Future>(future: F) -> F::Output {
    broker_tests::conformance::current_thread().block_on(future)
}

/// A token that is not believed any more is replaced once, however many calls were made with it.
#[test]
fn a_token_that_ends_is_replaced_once_for_all() {
    let lab = Lab::new();
    let broker = broker(&lab);
    block(async {
        let guards = broker.checkout_many(request().count(4)).await.unwrap();
        assert_eq!(lab.wire.tokens().len(), 1, "all of them share one login");
        revoke(&lab);
        guards.checkin().await.unwrap();
        assert_eq!(lab.wire.tokens().len(), 2, "all of them share the second one");
        revoke(&lab);
        // In the middle of it, too.
        let (made, ()) = tokio::join!(broker.checkout(request()), async {
            wait::until_async("the server", async || !lab.project().servers().is_empty()).await;
            revoke(&lab);
        });
        made.unwrap().checkin().await.unwrap();
    });
    lab.nothing_is_left();
}

/// Ends all tokens that the provider has. The services, which remember for minutes whom they have let in, are told so by
/// the wire.
fn revoke(lab: &Lab) {
    for token in lab.wire.expire_tokens() {
        let url = format!("{}/auth/tokens", lab.tenant.lab.auth_url);
        let answer = revoke_token(&url, &lab.tenant.lab.admin().token, &token);
        assert!(matches!(answer.status, 204 | 404), "{answer:?}");
    }
}

/// More often than a call is repeated by itself, and for as long as `outage_timeout` allows.
#[test]
fn a_service_that_is_out_of_order_for_a_while_is_waited_for() {
    let lab = Lab::new();
    lab.project().connect_outside();
    let spoil = |method, path, status, times| {
        lab.wire.lead(Way::Spoilt { what: Kind { method, path, arrives: false }, how: Spoil::Status(status), times });
    };
    let line = "checkout --ostack-image tiny --ostack-wait active --ostack-floating-network public";
    for (method, path, status, times) in
        [("GET", "flavors/detail", 429, 2), ("GET", "servers/*", 503, 6), ("GET", "ports", 503, 6)]
    {
        spoil(method, path, status, times);
        lab.broker(line);
        lab.wire.lead(Way::Fair);
        spoil("DELETE", "servers/*", 502, 2);
        lab.broker("checkin --all --yes");
        lab.nothing_is_left();
    }
    // From when the address is there until Nova tells of it.
    lab.wire.lead(Way::Late(Kind { method: "POST", path: "floatingips", arrives: false }));
    let broker = lab.env.start(line.split_whitespace());
    wait::until("the address to be asked for", || lab.wire.has_held());
    spoil("GET", "servers/*", 503, 6);
    broker.wait(wait::SOON).expect(0);
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();

    // What cannot be waited for says who knows more.
    spoil("GET", "limits", 403, 9);
    lab.broker("checkout --ostack-image tiny --ostack-wait active");
    spoil("GET", "flavors/detail", 503, 9);
    let says = lab.fails("checkout --ostack-image tiny", 7);
    assert!(says.contains("could not look for flavor `m1.nano`: spoilt by the wire"), "{says}");
    lab.wire.lead(Way::Fair);
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

/// Services are stopped while a server is made or removed, and started again. Alone in the lab, as others would notice
/// it.
#[test]
fn a_service_that_is_restarted_is_waited_for() {
    let lab = Lab::new();
    let broker = broker(&lab);
    block(async {
        let (made, ()) = tokio::join!(broker.checkout(request()), async {
            wait::until_async("the server", async || !lab.project().servers().is_empty()).await;
            restarted("nova-api", || ()).await;
        });
        let guard = made.unwrap();
        let (gone, ()) = tokio::join!(guard.checkin(), restarted("nova-api", || ()));
        gone.unwrap();
        // Nobody can look at a token without Keystone.
        let (made, ()) = tokio::join!(broker.checkout(request()), async {
            wait::until_async("the server", async || !lab.project().servers().is_empty()).await;
            restarted("keystone", || ()).await;
        });
        made.unwrap().checkin().await.unwrap();
        // Nova cannot build without Neutron, so that is stopped once the server is there.
        lab.project().connect_outside();
        lab.wire.lead(Way::Late(Kind { method: "GET", path: "ports", arrives: false }));
        let wanted = request().arg("ostack_floating_network", "public");
        let (made, ()) = tokio::join!(broker.checkout(wanted), async {
            wait::until_async("the port to be looked for", async || lab.wire.has_held()).await;
            restarted("neutron", || lab.wire.lead(Way::Fair)).await;
        });
        made.unwrap().checkin().await.unwrap();
    });
    lab.nothing_is_left();
}

/// Stops a service and starts it again. `between` is when it is down.
async fn restarted(service: &'static str, between: impl FnOnce()) {
    tokio::task::spawn_blocking(move || stop(service)).await.unwrap();
    between();
    tokio::task::spawn_blocking(start).await.unwrap();
}

fn stop(service: &str) {
    let lab = broker_tests::openstack::Lab::up();
    let pid = std::fs::read_to_string(lab.directory.join("run").join(format!("{service}.pid"))).unwrap();
    let pid = pid.split(' ').next().unwrap();
    assert!(as_root(["kill", pid]).status().unwrap().success());
    wait::until(&format!("{service} to be gone"), || !Path::new("/proc").join(pid).exists());
}

/// Starts whatever is down.
fn start() {
    let lab = broker_tests::openstack::Lab::up();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/openstack/up.sh");
    let directory = format!("OPENSTACK_LAB_DIR={}", lab.directory.display());
    let given = ["OPENSTACK_LAB_VENV", "OPENSTACK_LAB_OFFSET", "PYTHON"]
        .into_iter()
        .filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    let mut words = vec!["env".to_owned(), "OPENSTACK_LAB_GUESTS=namespace".to_owned(), directory];
    words.extend(given);
    words.extend(["OPENSTACK_LAB_INSTALL=never".to_owned(), script.display().to_string()]);
    let output = as_root(words).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lab.admin().get_json(Service::Compute, "/limits");
}

/// The services are root's.
fn as_root(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let is_root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if is_root { "env" } else { "sudo" });
    command.args(words);
    command
}
