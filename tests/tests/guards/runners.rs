//! Test runners that kill what they run.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use broker::prelude::*;
use broker_tests::engines::{Engine, WITHOUT_VARIABLE, image};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::support::{LONG, Watcher, holder, name_of};

/// How often a runner kills a test that holds hosts.
const ROUNDS: usize = 3;

/// How soon nothing is left after that: seconds, and more where the machine is busy with other tests.
const SOON: Duration = Duration::from_secs(30);

#[track_caller]
fn nothing_is_left_soon(watcher: &Watcher) {
    let ended = Instant::now();
    watcher.all_is_settled();
    assert!(ended.elapsed() < SOON, "{:?}", ended.elapsed());
}

/// A test that takes too long: nextest sends SIGTERM to its process group, and SIGKILL after a grace time.
#[test]
fn nextest_ends_a_test_that_hangs() {
    if let Some(holder) = holder() {
        let _guards = holder.checkout_many(3);
        holder.wait_for_the_end();
    }
    if std::env::var(WITHOUT_VARIABLE).is_ok_and(|without| without.split(',').any(|name| name == "nextest")) {
        return;
    }
    let mut watcher = Watcher::new(name_of!(nextest_ends_a_test_that_hangs));
    watcher.set_role("hangs");
    for round in 0..ROUNDS {
        // At once, or after a signal that a test can do something about.
        let grace = if round % 2 == 0 { "0s" } else { "1s" };
        let output = nextest(&watcher, grace, &format!("test(={})", watcher.test())).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(100), "{said}");
        assert!(said.contains("TIMEOUT") && !said.contains("LEAK"), "{said}");
        fs::remove_file(watcher.path("ready")).unwrap_or_else(|_| panic!("the test held nothing yet: {said}"));
        nothing_is_left_soon(&watcher);
    }
}

/// How many tests at once are killed while each holds a container.
const AT_ONCE: usize = 10;

/// The tests that hang. They do something in a process that another one has started for that alone.
macro_rules! hangs {
    ($($test:ident)*) => {
        mod hangs {
            $(#[test]
            fn $test() {
                super::hold_a_container(stringify!($test));
            })*
        }
    };
}

hangs!(test_0 test_1 test_2 test_3 test_4 test_5 test_6 test_7 test_8 test_9);

fn hold_a_container(test: &str) {
    let Some(holder) = holder() else { return };
    let request = HostRequest::container(image("tiny"));
    let _guard = holder.checkout(request);
    holder.sign(test);
    loop {
        std::thread::park();
    }
}

/// `BROKER_TESTS_COUNT` tests (10), ten at once, each of which holds a container when nextest kills it for its being slow.
#[test]
fn nextest_ends_tests_that_hold_containers() {
    let without = std::env::var(WITHOUT_VARIABLE).unwrap_or_default();
    let Some(engine) = Engine::docker().filter(|_| !without.split(',').any(|name| name == "nextest")) else { return };
    let count = std::env::var("BROKER_TESTS_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(AT_ONCE);
    let (mut killed, mut holding, mut longest) = (0, 0, Duration::ZERO);
    while killed < count {
        let mut watcher = Watcher::new(name_of!(nextest_ends_tests_that_hold_containers));
        watcher.env.set("BROKER_Container__host", format!("unix://{}", engine.socket.display()));
        watcher.set_role("hangs");
        let mut command = nextest(&watcher, "0s", "test(~runners::hangs::)");
        let output = command.arg(format!("--test-threads={AT_ONCE}")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(100), "{said}");
        assert!(!said.contains("LEAK"), "{said}");
        holding += (0..AT_ONCE).filter(|number| watcher.path(&format!("test_{number}")).exists()).count();
        killed += AT_ONCE;
        let ended = Instant::now();
        broker_tests::wait::until_within(LONG, "the containers to go", || watcher.env.containers(&engine) == 0);
        longest = longest.max(ended.elapsed());
        watcher.all_is_settled();
    }
    assert!(holding > 0, "no test held a container yet when it was killed");
    println!(
        "{killed} tests killed, {holding} of them held a container; all were gone after {longest:.1?} at the latest"
    );
}

/// nextest for this test program alone, which is built already. Hosts have six seconds to be there.
fn nextest(watcher: &Watcher, grace: &str, filter: &str) -> Command {
    let slow = format!("{{ period = \"6s\", terminate-after = 1, grace-period = \"{grace}\" }}");
    let config = watcher.env.write("nextest.toml", format!("[profile.default]\nslow-timeout = {slow}\nretries = 0\n"));
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let metadata = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["metadata", "--format-version", "1", "--offline", "--no-deps"])
        .current_dir(package)
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{metadata:?}");
    let mut packages: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let id = packages["packages"].as_array().unwrap().iter().find(|one| one["name"] == "broker-tests").unwrap()["id"]
        .clone();
    // nextest wants the graph of dependencies, which it does not look at here.
    packages["packages"].as_array_mut().unwrap().retain(|one| one["id"] == id);
    packages["packages"][0]["dependencies"] = json!([]);
    packages["workspace_members"] = json!([id]);
    packages["workspace_default_members"] = json!([id]);
    packages["resolve"] = json!({"nodes": [{"id": id, "deps": [], "dependencies": [], "features": []}], "root": null});
    let binary = json!({
        "binary-id": "broker-tests::guards", "binary-name": "guards", "package-id": id, "kind": "test",
        "binary-path": std::env::current_exe().unwrap(), "build-platform": "target",
    });
    let binaries = json!({
        "rust-build-meta": {
            "target-directory": watcher.path("target"), "base-output-directories": [], "non-test-binaries": {},
            "build-script-out-dirs": {}, "linked-paths": [], "platforms": null, "target-platforms": [],
            "target-platform": null,
        },
        "rust-binaries": {"broker-tests::guards": binary},
    });
    let packages = watcher.env.write("packages.json", packages.to_string());
    let binaries = watcher.env.write("binaries.json", binaries.to_string());
    let mut command = watcher.env.command("cargo-nextest");
    command.args(["nextest", "run", "--color=never", "--no-fail-fast"]);
    command.arg("--cargo-metadata").arg(packages).arg("--binaries-metadata").arg(binaries);
    command.arg("--config-file").arg(config).arg("--workspace-remap").arg(package.parent().unwrap());
    command.arg("-E").arg(filter);
    command
}

/// `cargo test` in a job that is cancelled: its whole process group is killed.
#[test]
fn a_cancelled_job_leaves_nothing() {
    if let Some(holder) = holder() {
        let _guards = holder.checkout_many(3);
        holder.wait_for_the_end();
    }
    let mut watcher = Watcher::new(name_of!(a_cancelled_job_leaves_nothing));
    watcher.set_role("hangs");
    for signal in [Signal::KILL, Signal::TERM, Signal::INT] {
        // As `cargo test` does it: the program as a child of another one, with all threads.
        let mut job = watcher.env.command("sh");
        job.arg("-c")
            .arg("\"$0\" \"$@\"; exit")
            .arg(std::env::current_exe().unwrap())
            .args([watcher.test(), "--exact"]);
        let mut job =
            job.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        broker_tests::wait::until_within(LONG, "the test", || watcher.path("ready").exists());
        fs::remove_file(watcher.path("ready")).unwrap();
        kill_process_group(Pid::from_child(&job), signal).unwrap();
        job.wait().unwrap();
        nothing_is_left_soon(&watcher);
    }
}
