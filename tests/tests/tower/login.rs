//! Logging in, and giving back what that has made.

use std::time::Duration;

use broker_tests::awx::{Fate, Paths, Rule, World};
use broker_tests::wait;
use rustix::process::Signal;

use super::{Lab, world};

const PASSWORD: &str = "username: rigger\npassword: rigger-password";

#[test]
fn a_password_makes_one_token_that_is_given_back() {
    let lab = Lab::new();
    lab.settings(PASSWORD);
    let before = lab.awx.tokens();
    lab.broker("checkout --workflow deploy-vm --count 3");
    assert_eq!(lab.awx.tokens(), before);
    let made =
        lab.awx.requests().iter().filter(|seen| seen.method == "POST" && seen.target.ends_with("/tokens/")).count();
    assert_eq!(made, 1);
    lab.fails("checkout --workflow deploy-fail", 7);
    assert_eq!(lab.awx.tokens(), before, "a token is left after a failure");
    // The Python tool logs in for every host that it releases, and asks twice who it is.
    lab.awx.forget_requests();
    lab.broker("checkin --all");
    let asked = |end: &str| lab.awx.requests().iter().filter(|seen| seen.target.ends_with(end)).count();
    assert_eq!((asked("/tokens/"), asked("/me/")), (1, 0));
    let log = std::fs::read_to_string(lab.env.directory().join("logs/broker.log")).unwrap();
    assert!(!log.contains("rigger-password"), "{log}");
}

#[test]
fn a_token_is_given_back_after_a_signal_too() {
    let lab = Lab::new();
    lab.settings(PASSWORD);
    let before = lab.awx.tokens();
    let started = lab.env.start(["checkout", "--workflow", "slow", "--seconds", "3000"]);
    wait::until("the workflow to run", || !lab.awx.unfinished().is_empty());
    started.signal(Signal::INT);
    started.wait(wait::SOON).expect(130);
    assert!(lab.awx.unfinished().is_empty(), "the workflow runs on");
    assert_eq!(lab.awx.tokens(), before);
    assert!(lab.inventory().is_empty());
}

#[test]
fn a_token_whose_making_was_not_answered_is_not_left() {
    let lab = Lab::new();
    lab.settings(PASSWORD);
    let before = lab.awx.tokens();
    lab.awx.spoil(Rule::new("POST", "/api/v2/tokens/", Fate::DropAfter).times(1));
    lab.broker("providers AnsibleTower --workflows");
    assert_eq!(lab.awx.tokens(), before);
}

/// Nobody waits for the answer any more, and the token is there.
#[test]
fn a_signal_while_it_logs_in_leaves_no_token() {
    let lab = Lab::new();
    lab.settings(PASSWORD);
    let before = lab.awx.tokens();
    lab.awx.spoil(Rule::new("POST", "/api/v2/tokens/", Fate::Late(Duration::from_secs(60))).times(1));
    let started = lab.env.start(["checkout", "--workflow", "deploy-vm"]);
    wait::until("the token", || lab.awx.tokens() > before);
    started.signal(Signal::INT);
    started.wait(wait::SOON).expect(130);
    assert_eq!(lab.awx.tokens(), before);
    assert_eq!(lab.launches(), 0);
}

#[test]
fn a_password_logs_in_behind_a_gateway_too() {
    let lab = Lab::of(World::recorded().paths(Paths::Controller), "");
    lab.settings(PASSWORD);
    let before = lab.awx.tokens();
    lab.broker("checkout --workflow deploy-vm");
    lab.broker("checkin --all");
    let asked = |method: &str| {
        let tokens = "/api/controller/v2/tokens/";
        lab.awx.requests().iter().filter(|seen| seen.method == method && seen.target.starts_with(tokens)).count()
    };
    assert_eq!((asked("POST"), asked("DELETE"), lab.awx.tokens()), (2, 2, before));
}

/// The Python tool's are left alone, whose descriptions do not say how old they are; so are those of other users, and those
/// that somebody may be using.
#[test]
fn a_token_that_a_killed_process_has_left_goes_after_a_day() {
    let lab = Lab::new();
    lab.settings(PASSWORD);
    let before = lab.awx.tokens();
    let old = "Broker temp 018cc251-f400-7000-8000-000000000000";
    lab.awx.leave_token("rigger", old);
    lab.broker("providers AnsibleTower --workflows");
    assert_eq!(lab.awx.tokens(), before);
    lab.awx.leave_token("viewer", old);
    lab.awx.leave_token("rigger", "Broker temp ojhHpTlJlI");
    lab.awx.leave_token("rigger", &format!("Broker temp {}", broker_core::HostId::generate()));
    lab.broker("providers AnsibleTower --workflows");
    assert_eq!(lab.awx.tokens(), before + 3);
}

#[test]
fn whoever_may_make_no_tokens_uses_the_password() {
    let lab = Lab::new();
    lab.settings(PASSWORD);
    lab.awx.spoil(Rule::detail("POST", "/api/v2/tokens/", 403, "OAuth2 tokens cannot be created by external users"));
    lab.broker("checkout --workflow deploy-vm");
}

/// The Python tool takes a bad token for an error of its own.
#[test]
fn bad_credentials_are_an_error_of_their_own_and_are_not_shown() {
    let lab = Lab::new();
    for (lines, says) in [
        ("token: nonsense-secret", "does not take the `token` of the settings"),
        ("username: rigger\npassword: wrong-secret", "does not take the `password` of user `rigger`"),
    ] {
        lab.settings(lines);
        let error = lab.fails("checkout --workflow deploy-vm", 5);
        assert!(error.contains(says) && !error.contains("-secret"), "{error}");
        assert!(lab.inventory().is_empty());
    }
    let log = std::fs::read_to_string(lab.env.directory().join("logs/broker.log")).unwrap();
    assert!(!log.contains("-secret"), "{log}");
}

#[test]
fn what_is_not_allowed_is_an_error_of_permission() {
    let lab = Lab::of(World::recorded(), "");
    lab.settings(&format!("token: {}", lab.awx.token_of("viewer")));
    let error = lab.fails("checkout --workflow deploy-vm", 6);
    assert!(error.contains("may not launch it"), "{error}");
    lab.settings(&format!("token: {}", lab.awx.reading_token_of("rigger")));
    lab.fails("checkout --workflow deploy-vm", 6);
    assert!(lab.inventory().is_empty());
}

#[test]
fn what_is_no_awx_is_said_to_be_none() {
    let lab = Lab::new();
    lab.awx.spoil(Rule::detail("GET", "/api/", 200, "hello"));
    let error = lab.fails("checkout --workflow deploy-vm", 8);
    assert!(error.contains("is no AWX, Ansible Tower or Automation Platform"), "{error}");
}

#[test]
fn instances_have_services_of_their_own() {
    let (one, two) = (Lab::of(world(), ""), Lab::of(world(), ""));
    let instance = |lab: &Lab| format!("{{base_url: '{}', token: {}}}", lab.awx.url(), lab.awx.token_of("rigger"));
    let text = format!(
        "AnsibleTower:\n  inventory: lab-inventory\n  workflow_poll_interval: 200ms\n  instances:\n    one: {}\n    two: {}\n",
        instance(&one),
        instance(&two)
    );
    one.env.write_settings(&text);
    one.broker("checkout --workflow make --AnsibleTower two");
    assert_eq!((one.awx.machines().len(), two.awx.machines().len()), (0, 1));
    let error = one.fails("checkout --workflow make --AnsibleTower three", 13);
    assert!(error.contains("`three`"), "{error}");
    // The Python tool extends at the default instance, whatever the host's is.
    one.broker("extend 0 --new-expire-time +60");
    let extensions = two.awx.requests().into_iter().filter(|seen| seen.target == two.awx.launch_path("extend-vm"));
    assert_eq!((extensions.filter(|seen| seen.method == "POST").count(), one.launches()), (1, 0));
    one.broker("checkin --all");
    assert!(two.awx.machines().is_empty());
}

#[test]
fn another_installation_at_the_same_address_releases_nothing() {
    let lab = Lab::of(world(), "");
    lab.broker("checkout --workflow make");
    let other = Lab::of(world(), "");
    lab.settings(&format!("token: {}\nbase_url: {}", other.awx.token_of("rigger"), other.awx.url()));
    let settings = lab.env.directory().join("broker_settings.yaml");
    let text = std::fs::read_to_string(&settings).unwrap();
    // The address that comes by itself goes.
    let text = text.replacen(&format!("  base_url: {}\n", lab.awx.url()), "", 1);
    std::fs::write(settings, text).unwrap();
    let error = lab.fails("checkin 0", 7);
    assert!(error.contains("was made at installation"), "{error}");
    assert_eq!((lab.awx.machines().len(), other.launches()), (1, 0));
}
