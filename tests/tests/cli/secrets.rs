//! What must not be seen is not seen.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use broker_tests::engines::image;
use broker_tests::wait::until;

use crate::containers::{Lab, on_each_engine};
use crate::support::{Env, Outcome};

const PLANTED: &str = "s3cr3t-planted-value";

#[track_caller]
fn assert_clean(outcome: &Outcome) {
    assert!(!outcome.out().contains(PLANTED), "{outcome}");
    assert!(!outcome.stderr.contains(PLANTED), "{outcome}");
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn secret_arguments_are_hidden_in_every_output_and_in_the_log() {
    let env = Env::new();
    env.write_settings("logging: {file_level: trace, structured: true}\n");
    env.write("login.yaml", &format!("login: {{user: me, password: {PLANTED}}}\n"));
    let secrets = format!("--password {PLANTED} --api-token={PLANTED} --args-file login.yaml");
    let checkout = format!("checkout --test-action t {secrets}");
    for line in [
        checkout.clone(),
        format!("{checkout} --output json"),
        format!("{checkout} --output yaml"),
        format!("{checkout} --log-level trace --output-file out.json"),
        format!("{checkout} --fail quota --log-level trace"),
        format!("{checkout} --fail timeout --output-file failed.json"),
        format!("execute --test-action t {secrets} --log-level trace --output-file executed.json"),
        format!("execute --test-action t {secrets} -o raw"),
        format!("execute --test-action t {secrets} -o yaml --fail failed"),
        "inventory --log-level trace --output-file inventory.json".to_owned(),
        "inventory --details".to_owned(),
        "inventory --output json".to_owned(),
        "inventory --output yaml".to_owned(),
        "inventory --sync TestProvider --output json".to_owned(),
        "duplicate 0 --output json --log-level trace".to_owned(),
        "extend 0 --lease 1h --output json".to_owned(),
        "checkin 0 --log-level trace --output-file checkin.json".to_owned(),
    ] {
        let outcome = env.broker(&line);
        assert_clean(&outcome);
        assert!(matches!(outcome.code(), Some(0 | 7)), "{outcome}");
    }
    for file in files(&env.root().join("broker")).into_iter().chain(files(&env.root().join("work"))) {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        match file.file_name().unwrap().to_str().unwrap() {
            // Needed to make another host like it, and for this user alone.
            "inventory.jsonl" => assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600),
            "login.yaml" => {}
            _ => assert!(!text.contains(PLANTED), "`{}` has it: {text}", file.display()),
        }
    }
    assert!(env.broker("inventory --output json").ok().out().contains("***"));
}

#[test]
fn secrets_are_shown_when_asked_for_and_reach_the_provider() {
    let env = Env::new();
    env.check_out(&format!("--password {PLANTED}"));
    let shown = env.broker("inventory --output json --show-secrets").ok();
    assert_eq!(shown.json()[0]["_broker_args"]["password"], PLANTED);
    env.broker("duplicate 0").ok();
    let shown = env.broker("inventory --output json --show-secrets").ok();
    assert_eq!(shown.json()[1]["_broker_args"]["password"], PLANTED, "a duplicate gets the secret, not the stars");
}

#[test]
fn secrets_of_the_settings_are_hidden() {
    let env = Env::new();
    env.write_settings(&format!(
        "ssh: {{host_password: {PLANTED}}}\nnicks:\n  n: {{test_action: t, password: {PLANTED}}}\nlogging: {{file_level: trace}}\n"
    ));
    for line in ["checkout --nick n --log-level trace", "checkout --nick nn", "inventory --output json", "--version"] {
        assert_clean(&env.broker(line));
    }
    let log = fs::read_to_string(env.broker_path("logs/broker.log")).unwrap();
    assert!(!log.contains(PLANTED), "{log}");
}

on_each_engine!(containers_show_no_secrets);

/// Variables in their text form, and what is put into files: while a container is made, when it is there, and when it fails.
fn containers_show_no_secrets(lab: Lab) {
    let env = &lab.env;
    env.write_settings("logging: {file_level: trace, structured: true}\n");
    env.write(
        "files.yaml",
        &format!("/etc/inline: {{content: {PLANTED}}}\n/etc/other: {{content: '{PLANTED}', mode: 600}}\n"),
    );
    let secrets = format!("--environment LANG=C,DB_PASSWORD={PLANTED},B=2 --files @files.yaml");
    let checkout = format!("checkout --container-host {} {secrets}", image("tiny"));

    let making = env.call(&format!("{checkout} --wait port:4242 --wait-timeout 60s")).start();
    until("it is pending", || !env.inventory().is_empty());
    for line in ["inventory --output json", "inventory --details"] {
        assert_clean(&env.broker(line).ok().prints("pending"));
    }
    making.signal("INT");
    assert_clean(&making.finish().exits(130));

    for line in [
        format!("{checkout} --output json --log-level trace --output-file out.json"),
        format!("{checkout} --ports many --output-file failed.json"),
        format!("execute --container-app {} {secrets} --command 'true' --output-file ran.json", image("tiny")),
        "inventory --output json --output-file inventory.json".to_owned(),
        "inventory --output yaml".to_owned(),
        "inventory --details".to_owned(),
    ] {
        let outcome = env.broker(&line);
        assert_clean(&outcome);
        assert!(matches!(outcome.code(), Some(0 | 7)), "{outcome}");
    }
    for file in files(&env.work_path("")).into_iter().chain(files(&env.broker_path("logs"))) {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        assert!(file.ends_with("files.yaml") || !text.contains(PLANTED), "`{}` has it: {text}", file.display());
    }
    let args = &env.inventory()[0]["_broker_args"];
    assert_eq!((&args["environment"], &args["files"]), (&"LANG=C,DB_PASSWORD=***,B=2".into(), &"***".into()));
    let shown = env.broker("inventory --output json --show-secrets").ok().json();
    assert_eq!(shown[0]["_broker_args"]["files"]["/etc/inline"]["content"], PLANTED);
    let twin = env.broker(&format!("duplicate {}", shown[0]["number"])).ok().numbers()[0];
    env.broker(&format!("exec {twin} -- 'cat /etc/inline; echo $DB_PASSWORD'"))
        .ok()
        .prints(&format!("{PLANTED}{PLANTED}"));
    env.broker("checkin --all --yes").ok();
}

#[test]
fn a_secret_that_cannot_be_read_is_not_shown() {
    let env = Env::new();
    env.write(&format!("{PLANTED}.yaml"), "{");
    for (words, code, hint) in [
        (format!("--password @{PLANTED}"), 2, "two of them"),
        (format!("--password=@{PLANTED}.yaml"), 2, "two of them"),
        (format!("--password -{PLANTED}"), 2, "`--password=VALUE`"),
        (format!("password=@{PLANTED} --output-file out.json"), 2, "two of them"),
        (format!("--password {PLANTED}.yaml --fail quota"), 7, ""),
    ] {
        let outcome = env.broker(&format!("checkout --test-action t {words}"));
        assert_clean(&outcome);
        outcome.exits(code).says("password").hints(hint);
    }
    for file in [env.work_path("out.json"), env.broker_path("logs/broker.log")] {
        assert!(!fs::read_to_string(&file).unwrap().contains(PLANTED), "`{}` has it", file.display());
    }
}

#[test]
fn a_value_can_begin_with_an_at_sign() {
    let env = Env::new();
    env.check_out("--password @@me --greeting=@@@you");
    let shown = env.broker("inventory --output json --show-secrets").ok().json();
    let args = &shown[0]["_broker_args"];
    assert_eq!((&args["password"], &args["greeting"]), (&"@me".into(), &"@@you".into()));
    env.broker("checkout --test-action t --greeting @you").exits(2).hints("two of them");
}
