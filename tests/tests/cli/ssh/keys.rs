//! Whom to believe and whom to let in, across commands that are processes of their own.

use broker_tests::ssh::{Key, Kind, Setup};

use super::Lab;

#[test]
fn a_host_key_is_pinned_for_the_life_of_a_checkout() {
    let lab = Lab::new();
    lab.check_out("");
    lab.env.broker("exec 0 -- true").passes_on(0);
    let before = lab.server.host_key_pair(Kind::Ed25519).fingerprint();
    lab.server.stop();
    lab.server.change_host_keys();
    lab.server.start();
    let now = lab.server.host_key_pair(Kind::Ed25519).fingerprint();
    let outcome = lab.env.broker("exec 0 -- true").exits(255).says("key");
    assert!(outcome.stderr.contains(&before) && outcome.stderr.contains(&now), "{outcome}");
    assert!(outcome.stderr.lines().any(|line| line.starts_with("hint: ")), "{outcome}");
    lab.env.broker("cp 0:/etc/hostname here").exits(10).says("key");
    // The same address, and another machine: a later checkout.
    assert_eq!(lab.check_out(""), [1]);
    lab.env.broker("exec 1 -- true").passes_on(0);
}

#[test]
fn a_key_that_is_not_let_in() {
    let lab = Lab::new();
    lab.check_out("");
    let stranger = Key::make(lab.env.work_path("stranger"), Kind::Ed25519, "");
    let path = stranger.path().display().to_string();
    let outcome = lab.env.call("exec 0 -- true").env("BROKER_SSH__host_ssh_key_filename", &path).run().exits(255);
    outcome.says(&path).says("publickey").hints("ssh");
    let missing = lab.env.call("exec 0 -- true").env("BROKER_SSH__host_ssh_key_filename", "/no/such/key").run();
    missing.exits(255).says("/no/such/key");
}

#[test]
fn a_password_is_never_shown() {
    let lab = Lab::of(Setup::openssh().jailed().option("PasswordAuthentication yes"));
    lab.env.write_settings(&format!(
        "ssh:\n  host_username: {}\n  host_password: {}\n",
        broker_tests::ssh::jail::TESTER,
        serde_json::json!(broker_tests::ssh::jail::PASSWORD)
    ));
    lab.check_out("");
    lab.env.broker("exec 0 -- id -un").ok().prints(broker_tests::ssh::jail::TESTER);
    let outcome = lab.env.call("exec 0 -- true").env("BROKER_SSH__host_password", "hunter2").run().exits(255);
    let outcome = outcome.says("password");
    assert!(!outcome.stderr.contains("hunter2"), "{outcome}");
    for line in [lab.env.broker("inventory --output json"), lab.env.broker("inventory 0 --output yaml")] {
        assert!(!line.out().contains("pass word"), "{line}");
    }
}
