//! The examples of the library do what they say, on Docker and on Podman, and leave nothing behind.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's own work ends the test")]

use std::path::PathBuf;

use broker_tests::engines::Engine;
use broker_tests::env::TestEnv;

/// Runs an example on an engine and returns what it prints.
fn run(name: &str, engine: &Engine) -> String {
    let mut env = TestEnv::new();
    env.set("BROKER_Container__runtime", engine.name);
    env.set("BROKER_Container__host", format!("unix://{}", engine.socket.display()));
    let output = env.command(program(name)).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} on {}: {}\n{stdout}{stderr}", engine.name, output.status);
    assert_eq!(env.containers(engine), 0, "{name} left containers behind on {}", engine.name);
    assert_eq!(env.ok(["inventory", "--output", "json"]).json(), serde_json::json!([]), "{name}");
    stdout.into_owned()
}

/// `cargo build --examples` puts them beside the directory that the tests are in.
fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let target = tests.parent().and_then(|deps| deps.parent()).unwrap();
    let program = target.join("examples").join(name);
    assert!(program.exists(), "`{}` is missing: `cargo build --workspace --examples` makes it", program.display());
    program
}

/// Runs an example on both engines; `check` looks at what it prints.
fn on_both(name: &str, check: impl Fn(&str)) {
    for engine in Engine::all() {
        check(&run(name, &engine));
    }
}

#[test]
fn checkout() {
    on_both("checkout", |printed| assert!(printed.starts_with("Linux\n"), "{printed}"));
}

#[test]
fn blocking() {
    on_both("blocking", |printed| assert_eq!(printed, "apple\npear\n"));
}

#[test]
fn many() {
    on_both("many", |printed| assert_eq!(printed.lines().count(), 3, "{printed}"));
}

#[test]
fn groups() {
    on_both("groups", |printed| {
        assert_eq!(printed.lines().filter(|line| line.ends_with(" answers")).count(), 2, "{printed}");
    });
}

#[test]
fn host_type() {
    on_both("host_type", |printed| assert_eq!(printed, "hello\nstopped\n"));
}

#[test]
fn scope() {
    on_both("scope", |printed| assert_eq!(printed.lines().count(), 1, "{printed}"));
}

#[test]
fn keep() {
    on_both("keep", |printed| assert_eq!(printed, "host 0 stays\nhost 0 is checked in\n"));
}

#[test]
fn service() {
    on_both("service", |printed| {
        let (first, rest) = printed.split_once('\n').unwrap();
        assert!(first.starts_with("port 8080 is at 127.0.0.1:"), "{printed}");
        assert_eq!(rest, "hello\n");
    });
}

#[test]
fn shared_host() {
    on_both("shared_host", |printed| assert_eq!(printed, "test-0\ntest-1\ntest-2\ntest-3\n"));
}

#[test]
fn nicks() {
    // It brings settings of its own, so it takes the engine that it finds.
    let env = TestEnv::new();
    let output = env.command(program("nicks")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "small\n");
}

#[test]
fn own_provider() {
    let env = TestEnv::new();
    let output = env.command(program("own_provider")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        printed,
        "anvil.lab\ncould not check out host 1 (Lab lab_machine=hammer): the lab has no machine `hammer`\n"
    );
}

#[test]
fn a_command_line_of_ones_own() {
    let env = TestEnv::new();
    let output = env.command(program("custom")).arg("providers").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Container"));
}
