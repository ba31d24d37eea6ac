//! What a command line may look like, and what is said of one that does not do.

use serde_json::{Value, json};

use crate::support::Env;

/// The arguments that the first host was made with.
#[track_caller]
fn arguments(env: &Env) -> Value {
    env.inventory()[0]["_broker_args"].clone()
}

#[test]
fn undeclared_arguments_go_to_the_provider_in_every_spelling() {
    let env = Env::new();
    env.check_out("--target-memory 2g --disk=10 size=0123 --flavor-name x_y --arg odd-key=1 ratio=a=b --negative -5 --text='two words'");
    let arguments = arguments(&env);
    for (key, expected) in [
        ("test_action", "t"),
        ("target_memory", "2g"),
        ("disk", "10"),
        ("size", "0123"),
        ("flavor_name", "x_y"),
        ("odd-key", "1"),
        ("ratio", "a=b"),
        ("negative", "-5"),
        ("text", "two words"),
    ] {
        assert_eq!(
            arguments[key].as_str().map_or_else(|| arguments[key].to_string(), str::to_owned),
            expected,
            "{key}"
        );
    }
}

#[test]
fn options_stand_anywhere() {
    let env = Env::new();
    let outcome = env.broker("checkout flavor=x --count 2 --log-level error --test-action t --output json").ok();
    assert_eq!(outcome.json().as_array().map(Vec::len), Some(2));
    assert_eq!(arguments(&env)["flavor"], "x");
}

#[test]
fn an_args_file_is_a_mapping_or_a_list_of_them() {
    let env = Env::new();
    env.write("one.yaml", "test_action: t\nversion: 9.10\nnested: {a: 1, b: 2}\ncount: 2\n");
    assert_eq!(env.broker("checkout --args-file one.yaml --flavor here").ok().numbers(), [0, 1]);
    let found = arguments(&env);
    assert_eq!(found["flavor"], "here");
    assert_eq!(found["nested"], json!({"a": 1, "b": 2}));
    assert!(env.broker("inventory --output json").ok().out().contains("9.10"), "{found}");

    let env = Env::new();
    env.write("list.yml", "- {test_action: t, a: 1, nested: {x: 1}}\n- {a: two, nested: {y: 2}}\n");
    env.broker("checkout --args-file list.yml").ok();
    assert_eq!(arguments(&env)["a"], "two");
    assert_eq!(arguments(&env)["nested"], json!({"x": 1, "y": 2}));

    let env = Env::new();
    env.write("args.json", r#"{"test_action": "t", "flavor": "file"}"#);
    env.broker("checkout --args-file args.json --flavor line").ok();
    assert_eq!(arguments(&env)["flavor"], "line", "the command line wins");
}

#[test]
fn an_args_file_that_does_not_do_is_a_usage_error() {
    let env = Env::new();
    env.write("empty.yaml", "");
    env.write("text.yaml", "just text\n");
    env.write("twice.yaml", "a: 1\na: 2\n");
    env.write("cut.json", "{\"a\": 1");
    env.write("mixed.yaml", "- a: 1\n- b\n");
    for (name, said) in [
        ("missing.yaml", "does not exist"),
        ("empty.yaml", "is empty"),
        ("text.yaml", "must hold a mapping"),
        ("twice.yaml", "line 2"),
        ("cut.json", "malformed"),
        ("mixed.yaml", "line 2"),
    ] {
        env.broker(&format!("checkout --test-action t --args-file {name}"))
            .exits(2)
            .says(name)
            .says(said)
            .prints_nothing();
    }
    env.assert_nothing_left();
}

#[test]
fn a_value_can_come_from_a_file() {
    let env = Env::new();
    env.write("vars.yaml", "list: [1, 2]\nname: x\n");
    env.write("notes.txt", "a: 1\n");
    env.check_out("vars=@vars.yaml notes=@notes.txt plain=notes.txt gone=none.yaml");
    let found = arguments(&env);
    assert_eq!(found["vars"], json!({"list": [1, 2], "name": "x"}));
    assert_eq!(found["notes"], json!({"a": 1}));
    assert_eq!(found["plain"], "notes.txt");
    assert_eq!(found["gone"], "none.yaml");
    env.broker("checkout --test-action t vars=@none.yaml").exits(2).says("none.yaml");

    let env = Env::new();
    env.write("vars.yaml", "list: [1, 2]\n");
    env.broker("checkout --test-action t --vars vars.yaml").ok().says("vars.yaml");
    assert_eq!(arguments(&env)["vars"], json!({"list": [1, 2]}));
}

#[test]
fn a_near_miss_of_an_option_is_an_error_with_a_suggestion() {
    let env = Env::new();
    for (given, meant) in [
        ("--cuont 3", "--count"),
        ("--coun 3", "--count"),
        ("--lesae 1h", "--lease"),
        ("--all-or-nothin x", "--all-or-nothing"),
        ("--delai 1s", "--delay"),
        ("--args_fil x", "--args-file"),
    ] {
        let first = given.split(' ').next().unwrap();
        env.broker(&format!("checkout --test-action t {given}")).exits(2).says(first).hints(meant).prints_nothing();
    }
    env.broker("checkout --test-acton t").exits(2).hints("--test-action");
    env.broker("chekout --test-action t").exits(2).hints("checkout");
    env.broker("checkin --al").exits(2).hints("--all");
    env.broker("inventory --detials").exits(2).hints("--details");
    env.assert_nothing_left();
}

#[test]
fn forms_that_do_not_do_are_usage_errors() {
    let env = Env::new();
    for line in [
        "checkout --test-action t --count 0",
        "checkout --test-action t --count -1",
        "checkout --test-action t --count many",
        "checkout --test-action t --timeout soon",
        "checkout --test-action t stray",
        "checkout --test-action t =x",
        "checkout --test-action t --flag --other 5",
        "checkout --test-action",
        "checkout --test-action a --container-host b",
        "inventory --output xml",
        "inventory --sync ''",
        "checkin",
        "checkin 0 --all",
        "forget",
        "exec 0",
        "cp one",
        "shell",
        "nonsense",
        "--log-level loud inventory",
    ] {
        let outcome = env.broker(line).exits(2).prints_nothing();
        assert_eq!(outcome.errors(), 1, "{outcome}");
        assert!(outcome.stderr.contains("hint: "), "{outcome}");
    }
    env.assert_nothing_left();
    let bare = env.broker("").passes_on(2);
    assert!(bare.stderr.contains("checkout"), "help: {bare}");
}

#[test]
fn things_that_do_not_exist_are_named() {
    let env = Env::new();
    env.write_settings("nicks:\n  rhel9: {test_action: t}\nTestProvider:\n  instances:\n    east: {}\n    west: {}\n");
    for (line, named) in [
        ("checkout --nick rhel8 --TestProvider east", "`rhel8`"),
        ("checkout --test-action t --TestProvider north", "`north`"),
        ("checkout", "action"),
        ("checkout flavor=large", "action"),
        ("providers Nowhere", "`Nowhere`"),
        ("inventory --sync Nowhere", "`Nowhere`"),
        ("inventory --sync TestProvider::north", "`north`"),
        ("execute --nick rhel8", "`rhel8`"),
        ("execute", "action"),
        ("checkin nobody", "`nobody`"),
        ("extend nobody --lease 1h", "`nobody`"),
        ("forget nobody", "`nobody`"),
        ("duplicate nobody", "`nobody`"),
    ] {
        env.broker(line).exits(13).says(named).prints_nothing();
    }
    // Those that there are.
    env.broker("checkout --nick rhel8").exits(13).says("`rhel9`");
    env.broker("checkout --test-action t --TestProvider north").exits(13).says("`east`").says("`west`");
    env.assert_nothing_left();
}

#[test]
fn what_only_the_python_tool_has_is_said_so() {
    let env = Env::new();
    for line in ["scenarios list", "scenarios execute x --var 1", "checkout --hostgroup x", "checkout --job-xml x"] {
        let outcome = env.broker(line).exits(9);
        assert!(outcome.stderr.contains("hint: "), "{outcome}");
    }
    env.assert_nothing_left();
}

#[test]
fn bad_arguments_of_the_provider_are_named_and_make_nothing() {
    let env = Env::new();
    for (options, named) in
        [("--delay soon", "`delay`"), ("--fail oauth", "`fail`"), ("--fail-every 0", "`fail_every`")]
    {
        env.broker(&format!("checkout --test-action t {options}")).exits(7).says(named);
    }
    env.assert_nothing_left();
}

#[test]
fn hints_name_what_the_command_has() {
    let env = Env::new();
    env.check_out("--fail-release timeout --fail-release-times 1");
    let late = env.broker("checkin 0").exits(7).hints("try again");
    assert!(!late.stderr.contains("--timeout"), "{late}");
    env.broker("checkin 0").ok();
    env.broker("checkout --test-action t --fail timeout").exits(7).hints("`--timeout`");
    env.broker("checkin --all").ok();
    let numbers = env.check_out("");
    let line = format!("extend {} --lease 1h --new-expire-time +3600", numbers[0]);
    env.broker(&line).exits(7).hints("`broker extend --help`");

    let far = env.broker("checkin 3 --fail-release x").exits(2).hints("`broker checkin --help`");
    assert!(!far.stderr.contains("did you mean"), "{far}");
    env.broker("checkin --al").exits(2).hints("did you mean `--all`?");
    env.broker("chekin 3").exits(2).hints("did you mean `checkin`?");
}

#[test]
fn a_word_after_a_switch_and_a_provider_that_is_not_there() {
    let env = Env::new();
    env.broker("checkout --workflow w --privileged maybe").exits(2).says("`--privileged`").hints("`privileged=maybe`");
    for (name, code) in [("Foreman --hostgroups", 9), ("Beaker --jobs --mine", 9), ("Nobody word --log-levl x", 13)] {
        let outcome = env.broker(&format!("providers {name}")).exits(code);
        outcome.says("there is no provider `").hints("the providers here are");
    }
    env.broker("checkout --bogus --help").ok().prints("broker checkout").prints("--container-host");
    env.check_out("");
    let sorted = env.broker("inventory --sort nmae").exits(13).says("`nmae`");
    assert!(!sorted.stderr.contains("has("), "{sorted}");
}

#[test]
fn options_of_the_python_tool() {
    let env = Env::new();
    env.check_out("--count 3 --slow-release 300ms");
    env.broker("extend --all --lease 1h --sequential").ok();
    env.broker("extend 0 --lease 1h -l team=qe").exits(7).says("provider_labels");
    let begun = std::time::Instant::now();
    env.broker("checkin --all --sequential").ok();
    assert!(begun.elapsed() > std::time::Duration::from_millis(900), "one after the other");
    env.assert_nothing_left();
    for line in ["config view", "config set logging.console_level debug", "config"] {
        env.broker(line).exits(9).hints("`broker --version`").prints_nothing();
    }
}

#[test]
fn what_is_wrong_comes_with_a_hint() {
    let env = Env::new();
    env.check_out("");
    env.write("empty.yaml", "");
    env.write("list.yaml", "[a]");
    env.write("bad.json", "{");
    let mut without = String::new();
    let mut look = |outcome: crate::support::Outcome| {
        assert_ne!(outcome.code(), Some(0), "{outcome}");
        if !outcome.stderr.contains("\nhint: ") {
            without.push_str(&format!("{outcome}\n"));
        }
    };
    for line in [
        "checkout --args-file none.yaml",
        "checkout --args-file empty.yaml",
        "checkout --args-file list.yaml",
        "checkout --args-file bad.json",
        "checkout --test-action t --TestProvider nowhere",
        "checkout --test-action t --lease soon",
        "checkout --test-action t --count 0",
        "checkout --test-action t --arg lease=soon",
        "checkout --test-action t --arg count=many",
        "checkout --test-action t --fail failed",
        "execute --test-action t --fail failed",
        "inventory --filter 'nmae<x'",
        "inventory --filter 'name <'",
        "inventory --filter ' '",
        "inventory --filter 'count<5'",
        "inventory --sort nmae",
        "inventory --import",
        "inventory --sync Nobody",
        "inventory --output-file none/out.json",
        "jobs log 7",
    ] {
        look(env.broker(line));
    }
    for settings in ["a: [", "thread_limit: many\n", "- a\n", "text"] {
        env.write_settings(settings);
        look(env.broker("inventory"));
    }
    env.write_settings("");
    std::fs::write(env.broker_path("inventory.jsonl"), "{\"format\": 99}\n").unwrap();
    look(env.broker("inventory"));
    assert!(without.is_empty(), "without a hint:\n{without}");
}
