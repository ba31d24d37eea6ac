//! What breaks in the middle: tokens that end, services that are restarted.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use broker::prelude::*;
use broker_core::settings::Settings;
use broker_tests::openstack::{Service, revoke_token};
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

/// Nova's API is stopped while a server is waited for, and started again. Alone in the lab, as others would notice.
#[test]
fn a_service_that_is_restarted_is_waited_for() {
    let lab = Lab::new();
    let broker = broker(&lab);
    block(async {
        let (made, ()) = tokio::join!(broker.checkout(request()), async {
            wait::until_async("the server", async || !lab.project().servers().is_empty()).await;
            let restarted = tokio::task::spawn_blocking(restart_nova);
            restarted.await.unwrap();
        });
        let guard = made.unwrap();
        let (gone, ()) = tokio::join!(guard.checkin(), async {
            tokio::task::spawn_blocking(restart_nova).await.unwrap();
        });
        gone.unwrap();
    });
    lab.nothing_is_left();
}

fn restart_nova() {
    let lab = broker_tests::openstack::Lab::up();
    let pid = std::fs::read_to_string(lab.directory.join("run/nova-api.pid")).unwrap();
    let pid = pid.split(' ').next().unwrap();
    assert!(as_root(["kill", pid]).status().unwrap().success());
    wait::until("Nova to be gone", || !Path::new("/proc").join(pid).exists());
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
