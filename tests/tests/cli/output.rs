//! What goes where: standard output, standard error, `--output-file`, the log.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Env, array, numbers, texts};

/// What a command wrote to its output file.
#[track_caller]
fn report(env: &Env, line: &str) -> (i32, Value) {
    let code = env.broker(&format!("{line} --output-file out.json")).code().unwrap();
    let text = fs::read_to_string(env.work_path("out.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert!(keys.is_sorted(), "{keys:?}");
    assert!(text.starts_with("{\n    \""), "four spaces: {text}");
    assert_eq!(value["return_code"], code, "{text}");
    (code, value)
}

#[test]
fn the_inventory_as_json_is_an_array_of_whole_records() {
    let env = Env::new();
    let empty = env.broker("inventory --output json").ok();
    assert_eq!(empty.out().trim(), "[]");
    env.check_out("--count 2 --name x --provider-labels team=qe,nightly");
    let hosts = array(env.broker("inventory --output json").ok().json());
    assert_eq!(hosts.len(), 2);
    for host in &hosts {
        for field in [
            "id",
            "number",
            "state",
            "hostname",
            "name",
            "_broker_provider",
            "_broker_args",
            "labels",
            "checked_out_at",
            "owner",
            "endpoint",
            "os_distribution",
        ] {
            assert!(host.get(field).is_some(), "no `{field}`: {host}");
        }
        assert_eq!(host["labels"], json!({"team": "qe", "nightly": ""}));
    }
    let one = env.broker("inventory --output json --filter 'number == 1'").ok();
    assert_eq!(numbers(&array(one.json())), [1]);
}

#[test]
fn the_inventory_as_yaml_is_a_list_of_whole_records() {
    let env = Env::new();
    assert_eq!(env.broker("inventory --output yaml").ok().out().trim(), "[]");
    env.check_out("--name x --version 9.10");
    let yaml = env.broker("inventory --output yaml").ok();
    assert!(yaml.out().starts_with("- "), "{yaml}");
    for line in ["name: x", "state: active", "os_distribution: FakeOS"] {
        assert!(yaml.out().contains(line), "{yaml}");
    }
    assert!(yaml.out().contains("9.10"), "{yaml}");
}

#[test]
fn checkout_as_json_and_yaml_gives_whole_records() {
    let env = Env::new();
    let hosts = array(env.broker("checkout --test-action t --count 2 --output json").ok().json());
    assert_eq!(numbers(&hosts), [0, 1]);
    assert_eq!(texts(&hosts, "state"), ["active", "active"]);
    let yaml = env.broker("checkout --test-action t --output yaml").ok();
    assert!(yaml.out().contains("number: 2"), "{yaml}");
}

#[test]
fn the_columns_without_settings() {
    let env = Env::new();
    env.check_out("--name x --hostname h");
    let titles = |env: &Env| env.broker("inventory").ok().out().lines().next().unwrap().to_owned();
    let without_a_lease = titles(&env);
    env.check_out("--name x --hostname h --lease 2h");
    let words = |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(words(&without_a_lease), words(&titles(&env)), "the columns are always the same");
    let table = env.broker("inventory").ok();
    let mut lines = table.out().lines();
    let titles = lines.next().unwrap().to_lowercase();
    let order = ["number", "hostname", "provider", "instance", "state", "lease"];
    let places: Vec<usize> =
        order.iter().map(|title| titles.find(title).unwrap_or_else(|| panic!("no {title}: {table}"))).collect();
    assert!(places.is_sorted(), "{table}");
    let row = lines.next().unwrap();
    assert!(row.starts_with('0') && row.contains("TestProvider") && row.contains("active"), "{table}");
}

#[test]
fn columns_and_lists_from_the_settings() {
    let env = Env::new();
    env.write_settings(
        "inventory_fields:\n  Host: hostname | name\n  Action: $action\n  OS: os_distribution os_distribution_version\n  \
         Left: reported_devices.nothing\ninventory_list_vars: name | hostname\n",
    );
    env.broker("checkout --test-action demo --hostname h.example.com").ok();
    env.broker("checkout --test-action demo --name named --hostname i.example.com").ok();
    let table = env.broker("inventory").ok();
    for text in ["HOST", "ACTION", "OS", "h.example.com", "demo", "FakeOS 1.0", "Unknown"] {
        assert!(table.out().to_uppercase().contains(&text.to_uppercase()), "no {text}: {table}");
    }
    assert!(!table.out().to_lowercase().contains("lease"), "{table}");
    let list = env.broker("inventory --list").ok();
    let rows: Vec<Vec<&str>> = list.out().lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["0", "h.example.com"]) && rows.contains(&vec!["1", "named"]), "{list}");
}

#[test]
fn a_list_is_a_list_in_every_format() {
    let env = Env::new();
    env.check_out("--hostname h.example.com");
    let expected = serde_json::json!([{"number": 0, "host": "h.example.com"}]);
    assert_eq!(env.broker("inventory --list --output json").ok().json(), expected);
    env.broker("inventory --list --output yaml").ok().prints("host: h.example.com");
}

#[test]
fn details_are_everything_in_yaml() {
    let env = Env::new();
    assert!(env.broker("inventory --details").ok().out().trim().len() <= 2, "an empty map or nothing");
    env.check_out("--name x --flavor large");
    let details = env.broker("inventory --details").ok();
    for text in ["name: x", "flavor: large", "os_distribution: FakeOS", "eth0"] {
        assert!(details.out().contains(text), "no {text}: {details}");
    }

    let keys: Vec<&str> = details.out().lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(keys, ["0:"], "{details}");
    // Data is the same with them as without.
    assert_eq!(array(env.broker("inventory --details --output json").ok().json()), env.inventory());
}

#[test]
fn data_is_on_standard_output_and_all_else_on_standard_error() {
    let env = Env::new();
    let checkout = env.broker("checkout --test-action t --count 3 --delay 1200ms").ok();
    assert_eq!(checkout.out().lines().count(), 3);
    assert!(checkout.out().lines().all(|line| line.split('\t').count() == 3), "{checkout}");
    assert!(!checkout.stderr.trim().is_empty(), "progress without a terminal: {checkout}");
    assert!(!checkout.stderr.contains('\x1b'), "{checkout}");
    env.broker("checkin 0").ok();
    let failed = env.broker("checkin 0").exits(13);
    assert!(failed.stdout.is_empty(), "{failed}");
}

#[test]
fn silent_is_silent_and_the_status_still_tells() {
    let env = Env::new();
    let failed = env.broker("--log-level silent checkout --test-action t --fail quota").passes_on(7);
    assert_eq!(failed.stderr, "", "{failed}");
    let ok = env.broker("checkout --test-action t --log-level silent --delay 1200ms").passes_on(0);
    assert_eq!(ok.stderr, "", "{ok}");
    assert_eq!(ok.numbers().len(), 1);
    let error = env.broker("--log-level error checkout --test-action t --fail quota").exits(7);
    assert!(error.stderr.starts_with("error: "), "{error}");
}

#[test]
fn an_error_is_one_line_with_causes_and_a_hint() {
    let env = Env::new();
    let outcome = env.broker("checkout --test-action t --fail quota").exits(7);
    assert_eq!(outcome.errors(), 1, "{outcome}");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let error = lines.iter().position(|line| line.starts_with("error: ")).unwrap();
    let hint = lines.iter().position(|line| line.starts_with("hint: ")).unwrap();
    assert!(error < hint && lines[hint - 1].is_empty(), "{outcome}");
    // Of several it says which.
    let outcome = env.broker("checkout --test-action t --fail-every 2 --count 2").exits(7);
    let made = outcome.numbers();
    outcome.says(&format!("could not check out host {} (TestProvider ", 3 - made[0]));
}

#[test]
fn the_output_file_has_the_python_tools_keys() {
    let env = Env::new();
    let (code, checkout) = report(&env, "checkout --test-action t --count 2 --flavor large");
    assert_eq!(code, 0);
    for key in ["provider", "action", "arguments", "hosts", "return_code"] {
        assert!(checkout.get(key).is_some(), "no `{key}`: {checkout}");
    }
    assert_eq!((&checkout["provider"], &checkout["action"]), (&"TestProvider".into(), &"test_action".into()));
    assert_eq!(checkout["arguments"]["flavor"], "large");
    assert_eq!(numbers(&array(checkout["hosts"].clone())), [0, 1]);
    assert!(checkout.get("error_message").is_none());

    let (code, inventory) = report(&env, "inventory");
    assert_eq!((code, array(inventory["inventory"].clone()).len()), (0, 2));
    assert!(inventory.get("hosts").is_none(), "nothing of an earlier command is left: {inventory}");

    let (code, executed) = report(&env, "execute --test-action report --flavor large");
    assert_eq!(code, 0);
    assert!(executed["output"].to_string().contains("large"), "{executed}");

    let (code, extended) = report(&env, "extend 0 --lease 2h");
    assert_eq!((code, &extended["return_code"]), (0, &json!(0)));
    let (code, _) = report(&env, "checkin --all --yes");
    assert_eq!(code, 0);
}

#[test]
fn the_output_file_is_written_on_failure_too() {
    let env = Env::new();
    let (code, failed) = report(&env, "checkout --test-action t --fail quota");
    assert_eq!(code, 7);
    assert!(failed["error_message"].as_str().unwrap().contains("quota"), "{failed}");
    assert_eq!(failed["provider"], "TestProvider");

    let (code, partial) = report(&env, "checkout --test-action t --fail-every 2 --count 2");
    assert_eq!((code, array(partial["hosts"].clone()).len()), (7, 1));
    assert!(partial["error_message"].is_string(), "{partial}");

    let (code, failed) = report(&env, "execute --test-action t --fail failed");
    assert_eq!(code, 7);
    assert!(failed["error_message"].is_string(), "{failed}");

    for (line, expected) in [("checkin nobody", 13), ("checkout --cuont 3", 2), ("inventory --filter x==", 13)] {
        let (code, failed) = report(&env, line);
        assert_eq!(code, expected, "{line}");
        assert!(failed["error_message"].is_string(), "{line}: {failed}");
    }
}

#[test]
fn the_output_file_is_written_however_the_option_is_spelled() {
    let env = Env::new();
    for line in [
        "checkout --test-action t --output_file out.json",
        "checkout --test-action t output_file=out.json",
        "checkout --test-action t output-file=out.json",
        "--output_file=out.json inventory",
        "--output_file=out.json checkout --cuont 3",
    ] {
        env.broker(line);
        let text = fs::read_to_string(env.work_path("out.json")).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(text.contains("return_code"), "{line}: {text}");
        fs::remove_file(env.work_path("out.json")).unwrap();
    }
    // What belongs to the command on the host is none of ours.
    env.broker("exec 0 -- echo --output-file=out.json").ok();
    assert!(!env.work_path("out.json").exists());
}

#[test]
fn the_output_file_has_what_commands_printed() {
    let env = Env::new();
    env.check_out("--count 2");
    for (line, hosts) in [("exec 0", 1), ("exec 0 1", 2), ("exec 0 1 --output json", 2), ("exec 0 -i", 1)] {
        env.broker(&format!("{line} --output-file out.json -- 'echo out; echo err >&2; exit 4'")).passes_on(4);
        let text = fs::read_to_string(env.work_path("out.json")).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        let results = array(report["output"].clone());
        assert_eq!((results.len(), &report["return_code"]), (hosts, &json!(4)), "{line}: {text}");
        for result in results {
            assert_eq!((&result["stdout"], &result["stderr"]), (&json!("out\n"), &json!("err\n")), "{line}: {text}");
            assert_eq!(result["status"], 4, "{line}: {text}");
        }
    }
}

#[test]
fn an_output_file_that_cannot_be_written_is_known_before_anything_is_made() {
    let env = Env::new();
    env.broker("checkout --test-action t --output-file none/out.json").exits(1).says("none/out.json");
    env.assert_nothing_left();
}

#[test]
fn version_and_help_make_nothing() {
    let mut env = Env::new();
    env.unset("BROKER_DIRECTORY");
    for line in
        ["--version", "--help", "checkout --help", "inventory --help", "help", "exec --help", "inventory", "providers"]
    {
        let outcome = env.broker(line).ok();
        assert!(line == "inventory" || !outcome.stdout.is_empty(), "{outcome}");
        let left: Vec<_> = fs::read_dir(env.root().join("home")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "`broker {line}` made {left:?}");
    }
    let version = env.broker("--version").ok();
    for text in [env!("CARGO_PKG_VERSION"), ".broker", "broker_settings.yaml", "inventory.jsonl", "broker.log"] {
        assert!(version.out().contains(text), "no {text}: {version}");
    }
    let help = env.broker("--help").ok();
    for command in [
        "checkout",
        "checkin",
        "inventory",
        "extend",
        "duplicate",
        "execute",
        "providers",
        "exec",
        "shell",
        "cp",
        "forget",
    ] {
        assert!(help.out().lines().any(|line| line.trim_start().starts_with(command)), "no {command}: {help}");
    }
    env.broker("checkout --help").ok().prints("--container-host").prints("--test-action");
}

#[test]
fn the_broker_directory_is_the_users_alone_and_no_settings_are_made() {
    let mut env = Env::new();
    env.unset("BROKER_DIRECTORY");
    env.check_out("");
    let directory = env.root().join("home/.broker");
    let mode = |name: &str| fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    assert_eq!(mode("inventory.jsonl"), 0o600);
    assert_eq!(mode("logs/broker.log"), 0o600);
    assert!(!directory.join("broker_settings.yaml").exists());
    // A directory that is missing is made, not passed over.
    let elsewhere = env.root().join("deep/er");
    env.call("checkout --test-action t").env("BROKER_DIRECTORY", &elsewhere).run().ok();
    assert!(elsewhere.join("inventory.jsonl").is_file());
}

#[test]
fn the_log_file_tells_what_was_done() {
    let env = Env::new();
    env.check_out("--hostname logged.example.com");
    env.broker("checkout --test-action t --fail quota").exits(7);
    let log = fs::read_to_string(env.broker_path("logs/broker.log")).unwrap();
    assert!(log.contains("logged.example.com"), "{log}");
    assert!(log.contains("quota"), "{log}");
}

#[test]
fn the_log_can_be_had_as_json_too() {
    let env = Env::new();
    env.write_settings("logging: {structured: true}\n");
    env.check_out("--hostname logged.example.com");
    env.broker("checkout --test-action t --fail quota").exits(7);
    let log = fs::read_to_string(env.broker_path("logs/broker.log.json")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        let time = line["time"].as_str().unwrap_or_default();
        assert!(time.parse::<jiff::Timestamp>().is_ok() && line["level"].is_string(), "{line}");
    }
    assert!(log.contains("logged.example.com") && log.contains("quota"), "{log}");
    let plain = fs::read_to_string(env.broker_path("logs/broker.log")).unwrap();
    assert_eq!(plain.lines().count(), lines.len());
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let env = Env::new();
    env.check_out("--count 50");
    let outcome = env.script("broker inventory --output json | head -c 10").run().ok();
    assert_eq!(outcome.stdout.len(), 10);
    assert!(!outcome.stderr.contains("error"), "{outcome}");
}

#[test]
fn the_output_file_is_none_of_brokers_own() {
    let env = Env::new();
    env.write_settings("thread_limit: 4\n");
    env.check_out("");
    let own = [
        "inventory.jsonl",
        "inventory.lock",
        "inventory.damaged.jsonl",
        "inventory.yaml",
        "inventory.imported.yaml",
        "broker_settings.yaml",
    ];
    let files = || own.map(|name| std::fs::read(env.broker_path(name)).ok());
    let before = files();
    std::os::unix::fs::symlink(env.broker_path("inventory.jsonl"), env.work_path("link")).unwrap();
    std::fs::hard_link(env.broker_path("broker_settings.yaml"), env.work_path("twin")).unwrap();
    for path in own.map(|name| format!("../broker/{name}")).iter().map(String::as_str).chain(["link", "twin"]) {
        for line in ["inventory", "checkout --test-action t", "--version", "checkout --cuont 3"] {
            let outcome = env.broker(&format!("{line} --output-file {path}")).exits(2);
            outcome.says("is a file of Broker's own").hints("name another one").prints_nothing();
        }
    }
    assert_eq!(files(), before);
    env.broker("inventory --output-file ../broker/out.json").ok();
}
