//! A settings file, and the environment over it.

use serde_json::json;

use crate::support::Env;

#[test]
fn a_nick_is_a_request_that_explicit_arguments_change() {
    let env = Env::new();
    env.write_settings(
        "nicks:\n  lab:\n    test_action: deploy\n    count: 2\n    version: 9.10\n    nested: {a: 1, b: 2}\n",
    );
    env.write("more.yaml", "nested: {b: 3}\n");
    assert_eq!(env.broker("checkout --nick lab --flavor x --args-file more.yaml").ok().numbers(), [0, 1]);
    let host = &env.inventory()[0];
    assert_eq!(host["_broker_args"]["nested"], json!({"a": 1, "b": 3}));
    assert_eq!(host["_broker_args"]["flavor"], "x");
    assert_eq!(env.broker("checkout -n lab --count 1").ok().numbers(), [2]);
}

#[test]
fn instances_have_settings_of_their_own() {
    let env = Env::new();
    env.write_settings(
        "TestProvider:\n  foo: outer\n  config_value: shared\n  instances:\n    east: {foo: eastern, default: true}\n    \
         west: {foo: western}\n",
    );
    env.check_out("");
    env.check_out("--TestProvider west");
    let hosts = env.inventory();
    assert_eq!(hosts[0]["foo"], "eastern");
    assert_eq!(hosts[1]["foo"], "western");
    assert_eq!(hosts[1]["config_value"], "shared");
    assert_eq!(hosts[0]["_broker_provider_instance"], "east");
    assert_eq!(hosts[1]["_broker_provider_instance"], "west");
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn several_instances_without_a_default_have_to_be_named() {
    let env = Env::new();
    env.write_settings("TestProvider:\n  instances:\n    east: {}\n    west: {}\n");
    env.broker("checkout --test-action t").exits(8).says("`east`").says("`west`").hints("--TestProvider");
    env.assert_nothing_left();
}

#[test]
fn the_environment_goes_over_the_file() {
    let mut env = Env::new();
    env.write_settings("TestProvider: {foo: file}\n");
    env.set("BROKER_TestProvider__foo", "environment");
    env.check_out("");
    assert_eq!(env.inventory()[0]["foo"], "environment");
    env.unset("BROKER_TestProvider__foo");
    env.set("BROKER_TESTPROVIDER__CONFIG_VALUE", "1.50");
    env.check_out("");
    let host = env.inventory()[1].clone();
    assert_eq!(host["foo"], "file");
    assert_eq!(host["config_value"], "1.50");
}

#[test]
fn provider_labels_are_on_every_host_and_win() {
    let env = Env::new();
    env.write_settings("provider_labels: {team: qe}\nTestProvider: {provider_labels: {purpose: tests}}\n");
    env.check_out("-l team=dev,own=1");
    let text = std::fs::read_to_string(env.root().join("hosts").join(format!("{}.json", env.made()[0]))).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (label, value) in [("team", "qe"), ("purpose", "tests"), ("own", "1")] {
        assert_eq!(file["labels"][label], value, "{file}");
    }
    assert!(file["labels"]["broker.id"].is_string(), "{file}");
}

#[test]
fn the_thread_limit_is_kept() {
    let env = Env::new();
    env.write_settings("thread_limit: 1\n");
    let slow = env.broker("checkout --test-action t --count 4 --delay 300ms").ok();
    assert!(slow.time.as_millis() >= 1200, "{slow}");
    // Also by those that are asked for together and not in one request.
    let twice = env.broker("duplicate --all").ok();
    assert!(twice.time.as_millis() >= 1200, "{twice}");
    // The time of a host begins when its turn has come.
    env.broker("checkout --test-action t --count 8 --delay 600ms --timeout 4s").ok();
    let env = Env::new();
    let fast = env.broker("checkout --test-action t --count 4 --delay 2s").ok();
    assert!(fast.time.as_millis() < 6000, "{fast}");
}

#[test]
fn unknown_keys_warn_with_their_path_and_those_of_the_python_tool_do_not() {
    let env = Env::new();
    env.write_settings(
        "_version: 0.6.9\nless_colours: true\nlogging: {console_levl: info}\nAnsibleTower: {base_url: https://x}\n\
         Foreman: {foreman_url: https://y}\nSCENARIO_IMPORT: {git_hosts: []}\nssh: {backend: hussh}\n",
    );
    let outcome = env.broker("inventory").ok();
    for key in ["`less_colours`", "`logging.console_levl`"] {
        assert!(outcome.stderr.contains(key), "no {key}: {outcome}");
    }
    for key in ["AnsibleTower", "Foreman", "SCENARIO", "_version", "backend"] {
        assert!(!outcome.stderr.contains(key), "{outcome}");
    }
}

#[test]
fn settings_that_do_not_do_are_an_error_with_their_place() {
    for (text, place, said) in [
        ("nicks:\n  a: [1\n", ":", "malformed"),
        ("a: 1\nless_colors: maybe\n", ":2", "less_colors"),
        ("logging:\n  console_level: loud\n", ":2", "console_level"),
        ("thread_limit: many\n", ":1", "thread_limit"),
        ("- a\n- b\n", "", "mapping"),
        ("a: 1\na: 2\n", "2", "twice"),
    ] {
        let env = Env::new();
        env.write_settings(text);
        let outcome = env.broker("checkout --test-action t").exits(8).says("broker_settings.yaml").says(said);
        assert!(outcome.stderr.contains(place), "no {place}: {outcome}");
        assert_eq!(outcome.errors(), 1, "{outcome}");
        assert_eq!(env.made(), [] as [&str; 0]);
    }
    let env = Env::new();
    let outcome = env.call("inventory").env("BROKER_thread_limit", "many").run().exits(8);
    assert!(outcome.stderr.contains("BROKER_thread_limit"), "{outcome}");
}

#[test]
fn settings_that_cannot_be_read_do_not_lock_the_user_out_of_help() {
    let env = Env::new();
    env.write_settings("nicks: [1\n");
    env.broker("--version").ok().prints("broker_settings.yaml");
    env.broker("--help").ok();
    env.broker("checkout --help").ok();
}

#[test]
fn what_is_logged_follows_the_settings() {
    let env = Env::new();
    env.write_settings("logging: {console_level: silent, log_path: elsewhere/my.log, file_level: info}\n");
    let failed = env.broker("checkout --test-action t --fail quota").passes_on(7);
    assert_eq!(failed.stderr, "");
    assert!(env.broker_path("elsewhere/my.log").is_file());
    env.broker("checkout --test-action t --fail quota --log-level error").exits(7);
}

#[test]
fn leases_follow_the_settings() {
    let env = Env::new();
    env.write_settings("default_lease: 1h\nmax_lease: 2h\n");
    env.check_out("");
    assert!(env.inventory()[0]["lease_until"].is_string());
    env.broker("checkout --test-action t --lease 3h").exits(2).says("2h");
    env.broker("extend 0 --lease 1d").exits(2).says("2h");
    env.broker("extend 0").ok();
}
