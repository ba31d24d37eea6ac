//! The language as a whole: what filters select, what mistakes say, and laws that hold for every filter.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use regex_lite::Regex;
use serde_json::{Map, Value, json};

use super::eval::{Context, Truth, truth};
use super::parser::{self, DEPTH_LIMIT};
use super::tree::{
    Comparison, Expr, Literal, Needle, Number, Operand, Path, Pattern, Place, Segment, Stage, Text, TextTest,
};
use super::{Filter, FilterError, FilterErrorKind, Selection};

type Record = Map<String, Value>;

const KNOWN: [&str; 8] =
    ["id", "number", "name", "hostname", "state", "lease_until", "checked_out_at", "_broker_provider_instance"];

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn records(values: Vec<Value>) -> Vec<Record> {
    values.into_iter().map(|value| value.as_object().unwrap().clone()).collect()
}

/// Hosts of several providers and ages, some without a name, one with nothing at all.
fn inventory() -> Vec<Record> {
    records(vec![
        // 0
        json!({"number": 0, "name": "ci-web-1", "hostname": "web-1.example.com", "state": "active",
            "_broker_provider": "Container", "image": "localhost/ubi9:latest",
            "_broker_args": {"container_host": "ubi9:latest", "os_version": "9.10", "count": 3, "privileged": true},
            "checked_out_at": "2026-06-01T11:00:00Z", "lease_until": "2026-06-01T13:00:00Z",
            "exposed_ports": {"22": 2222, "80/tcp": 8080}, "tags": ["prod", "eu"],
            "disks": [{"name": "sda", "size": 10}, {"name": "sdb", "size": 200}]}),
        // 1: the name is null, numbers are text
        json!({"number": 1, "name": null, "hostname": "web-2.example.com", "state": "active",
            "_broker_provider": "Container",
            "_broker_args": {"container_host": "ubi8:latest", "os_version": "9.4", "count": "3", "privileged": "false"},
            "checked_out_at": "2026-06-01T05:00:00-04:00", "exposed_ports": {}, "tags": []}),
        // 2: no name, no arguments
        json!({"number": 2, "hostname": "sat.lab", "state": "failed", "_broker_provider": "AnsibleTower",
            "checked_out_at": "2026-05-30T12:00:00Z", "timeout": "90m", "tags": ["preprod"]}),
        // 3: a disk without a name
        json!({"number": 3, "name": "db", "hostname": "db.lab", "state": "pending", "_broker_provider": "AnsibleTower",
            "_broker_args": {"workflow": "deploy-db", "os_version": "8.10", "count": 12, "tower": {"inventory": "lab"}},
            "checked_out_at": "yesterday", "timeout": "2h", "disks": [{"name": "sda"}, {"size": 5}]}),
        // 4: nothing is of the usual kind
        json!({"number": "4", "name": 42, "hostname": ["a.lab", "b.lab"], "state": true, "_broker_provider": "Test",
            "_broker_args": "none", "tags": "prod", "disks": [], "timeout": 7200}),
        // 5
        json!({}),
        // 6: odd text
        json!({"number": 6, "name": "it's | \"odd\", isn't it?", "hostname": "UPPER.lab", "state": "active",
            "_broker_provider": "Test", "_broker_args": {"os_version": "rhel9", "count": -1.5},
            "labels": {"broker.owner": "me", "__x": 1}, "serial": "20260601"}),
    ])
}

fn select(text: &str) -> Result<Selection, FilterError> {
    Filter::parse(text)?.select(&inventory(), KNOWN, now())
}

#[test]
fn selects_exactly() {
    let table: &[(&str, &[usize])] = &[
        // compact
        ("name=db", &[3]),
        ("name!=db", &[0, 4, 6]),
        ("name<web", &[0]),
        ("name!<web", &[3, 4, 6]),
        ("name{ci-", &[0]),
        ("name!{ci-", &[3, 4, 6]),
        ("hostname}.lab", &[2, 3, 4, 6]),
        ("hostname!}.lab", &[0, 1]),
        ("hostname}.example.com", &[0, 1]),
        ("_broker_provider=Container,state=active", &[0, 1]),
        ("_broker_provider!=Container,hostname}.lab", &[2, 3, 4, 6]),
        ("  _broker_provider=Container,_broker_args.os_version=9.4\n", &[1]),
        ("_broker_args.os_version=9.10", &[0]),
        ("_broker_args.count=3", &[0, 1]),
        ("_broker_args.count!=3", &[3, 6]),
        ("_broker_args.count=-1.5", &[6]),
        ("_broker_args.privileged=True", &[0]),
        ("_broker_args.tower.inventory=lab", &[3]),
        ("name=\"it's | \\\"odd\\\", isn't it?\"", &[6]),
        ("name<'\", '", &[6]),
        ("image=localhost/ubi9:latest", &[0]),
        ("tags<prod", &[0, 4]),
        ("tags<prod,state=active", &[0]),
        ("tags=prod", &[0, 4]),
        ("tags!=prod", &[1, 2]),
        ("exposed_ports.22=2222", &[0]),
        ("disks.name=sda", &[0, 3]),
        ("disks.name!=sda", &[]),
        ("disks.name!=sdb", &[]),
        // expressions
        ("name == \"db\"", &[3]),
        ("name == 'db'", &[3]),
        ("name != \"db\"", &[0, 4, 6]),
        ("!(name == \"db\")", &[0, 4, 6]),
        ("not name == \"db\"", &[0, 4, 6]),
        ("\"db\" == name", &[3]),
        ("name == 42", &[4]),
        ("name == \"42\"", &[4]),
        ("hostname.contains(\"web\") && _broker_provider != \"AnsibleTower\"", &[0, 1]),
        ("hostname.contains(\"web\") || name == \"db\"", &[0, 1, 3]),
        ("state == \"failed\" or state == \"pending\" and name == \"db\"", &[2, 3]),
        ("(state == \"failed\" or state == \"pending\") and name == \"db\"", &[3]),
        ("state in [\"active\", \"failed\"]", &[0, 1, 2, 6]),
        ("state in (\"active\", \"failed\",)", &[0, 1, 2, 6]),
        ("state not in [\"active\", \"failed\"]", &[3, 4]),
        ("!(state in [\"active\"])", &[2, 3, 4]),
        ("state == true", &[4]),
        ("state != true", &[0, 1, 2, 3, 6]),
        ("number in [0, 4, 6]", &[0, 4, 6]),
        ("name =~ \"^ci-\"", &[0]),
        ("!(name =~ \"^ci-\")", &[3, 4, 6]),
        ("hostname =~ '^web-\\d+\\.'", &[0, 1]),
        ("hostname =~ \"(?i)^upper\"", &[6]),
        ("has(name)", &[0, 3, 4, 6]),
        ("!has(name)", &[1, 2, 5]),
        ("has(_broker_args.tower.inventory)", &[3]),
        ("!has(_broker_args.tower)", &[0, 1, 2, 4, 5, 6]),
        ("!has(_broker_args.towr)", &[]),
        ("!has(_broker_args.tower.inventroy)", &[]),
        ("not has(disks[9].name)", &[]),
        ("has(name) && !has(_broker_args.towr)", &[]),
        ("has(lease_until)", &[0]),
        ("size(tags) > 0", &[0, 2, 4]),
        ("size(tags) == 0", &[1]),
        ("size(exposed_ports) >= 2", &[0]),
        ("size(name) > 1000", &[]),
        ("age(checked_out_at) > 2h", &[1, 2]),
        ("age(checked_out_at) <= 2h", &[0]),
        ("!(age(checked_out_at) > 2h)", &[0]),
        ("age(checked_out_at) >= 3h && age(checked_out_at) < 1d", &[1]),
        ("2h < age(checked_out_at)", &[1, 2]),
        ("age(lease_until) > -90m", &[0]),
        ("age(lease_until) > 0s", &[]),
        ("timeout > 1h", &[2, 3]),
        ("timeout == 1h30m", &[2]),
        ("timeout > 100", &[4]),
        ("checked_out_at < \"2026-06-01T10:00:00Z\"", &[1, 2]),
        ("checked_out_at < \"2026-06-01\"", &[2]),
        ("checked_out_at >= '2026-06-01 09:00:00'", &[0, 1]),
        ("lease_until > checked_out_at", &[0]),
        ("_broker_args.count > 2", &[0, 1, 3]),
        ("_broker_args.count<=3", &[0, 1, 6]),
        ("_broker_args.count == 3", &[0, 1]),
        ("_broker_args.count == 3.0", &[0, 1]),
        ("_broker_args.count < -1", &[6]),
        ("!(_broker_args.count > 2)", &[6]),
        ("_broker_args.os_version >= 9.2", &[1]),
        ("_broker_args.os_version >= \"9.4\"", &[0, 1]),
        ("_broker_args.os_version < \"9\"", &[3]),
        ("_broker_args.os_version == 9.1", &[0]),
        ("_broker_args.os_version == \"9.1\"", &[]),
        ("_broker_args.privileged == true", &[0]),
        ("_broker_args.privileged == False", &[1]),
        ("\"prod\" in tags", &[0, 4]),
        ("\"prod\" not in tags", &[1, 2]),
        ("tags.startswith(\"pr\")", &[0, 2, 4]),
        ("!tags.startswith(\"pr\")", &[1]),
        ("\"22\" in exposed_ports", &[0]),
        ("22 in exposed_ports", &[0]),
        ("exposed_ports[22] == 2222", &[0]),
        ("exposed_ports[\"80/tcp\"] > 8000", &[0]),
        ("labels[\"broker.owner\"] == \"me\"", &[6]),
        ("disks.size > 100", &[0]),
        ("!(disks.size > 100)", &[]),
        ("disks[0].name == \"sda\"", &[0, 3]),
        ("disks[-1].size < 100", &[3]),
        ("disks[7].size < 100", &[]),
        ("hostname == \"b.lab\"", &[4]),
        ("hostname != \"b.lab\"", &[0, 1, 2, 3, 6]),
        ("name == hostname", &[]),
        ("serial == 20260601", &[6]),
        ("_broker_args.contains(\"on\")", &[4]),
        ("_broker_args == \"none\"", &[4]),
        ("_broker_args != \"none\"", &[0, 1, 3, 6]),
        // as the Python tool spells it
        ("@inv.name == \"db\"", &[3]),
        ("\"web\" in @inv.hostname", &[0, 1]),
        ("@inv._broker_args.workflow.startswith(\"deploy-\")", &[3]),
        ("@inv._broker_provider == \"Container\" and not \"2\" in @inv.hostname", &[0]),
        ("@inv[\"name\"] == \"db\"", &[3]),
        ("@inv[0]", &[0]),
        ("@inv[-1]", &[6]),
        ("@inv[0:3]", &[0, 1, 2]),
        ("@inv[5:99]", &[5, 6]),
        ("@inv[99:]", &[]),
        ("@inv[:]", &[0, 1, 2, 3, 4, 5, 6]),
        ("@inv[::-2]", &[6, 4, 2, 0]),
        ("@inv[:3] | \"web\" in @inv.hostname", &[0, 1]),
        ("state == \"active\" | @inv[-1]", &[6]),
        ("state == \"active\" | @inv[1:] | name.contains(\"odd\")", &[6]),
        ("name == \"it's | \\\"odd\\\", isn't it?\" | @inv[0]", &[6]),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in table {
        match select(text) {
            Ok(selection) if selection.indices == *expected => {}
            other => wrong.push(format!("{text}: {other:?}, not {expected:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `errors.txt` holds, a block each: a filter, carets below the place, the message.
#[test]
fn mistakes_are_explained() {
    let mut wrong = Vec::new();
    for block in include_str!("errors.txt").trim_end().split("\n\n") {
        let text = block.lines().next().unwrap_or_default();
        match select(text) {
            Ok(selection) => wrong.push(format!("{text}\nis no error: {selection:?}")),
            Err(error) => {
                let shown = format!("{}\n{error}", error.render());
                if shown != block {
                    wrong.push(shown);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn blank_is_no_filter() {
    for text in ["", " ", "\n\t "] {
        assert_eq!(Filter::parse(text).unwrap_err().kind(), &FilterErrorKind::Blank);
    }
}

#[test]
fn the_line_of_the_mistake_is_shown() {
    let error = Filter::parse("name == \"é\" &&\n  'ü' == &&\n  true").unwrap_err();
    assert_eq!(error.render(), "  'ü' == &&\n      ^^");
    assert_eq!(&error.text()[error.span()], "==");
    let error = Filter::parse("name == \"a\nb").unwrap_err();
    assert_eq!(error.render(), "name == \"a\n        ^^");
    assert_eq!(Filter::parse("\u{1b}[2J").unwrap_err().render(), "\u{fffd}[2J\n^");
}

#[test]
fn an_empty_inventory_is_not_checked() {
    let none: [&Record; 0] = [];
    let selected = Filter::parse("nmae.x == 9.10").unwrap().select(&none, KNOWN, now()).unwrap();
    assert_eq!(selected, Selection { indices: vec![], notes: vec![] });
    let error = Filter::parse("@inv[0]").unwrap().select(&none, KNOWN, now()).unwrap_err();
    assert_eq!(error.to_string(), "`@inv[0]` is out of range: nothing is left here");
}

#[test]
fn a_field_is_known_by_the_schema_or_a_record() {
    let inventory = records(vec![json!({"a": null}), json!({"b": 1})]);
    let select = |text: &str| Filter::parse(text).unwrap().select(&inventory, ["c"], now()).map(|found| found.indices);
    assert_eq!(select("a == 1"), Ok(vec![]));
    assert_eq!(select("b == 1"), Ok(vec![1]));
    assert_eq!(select("c == 1"), Ok(vec![]));
    assert_eq!(select("!has(c)"), Ok(vec![0, 1]));
    for text in ["d == 1", "!has(d)", "has(d.e)", "b == 1 || d == 1", "@inv[0] | size(d) == 0", "b == 1 | age(d) > 1s"]
    {
        assert!(matches!(select(text).unwrap_err().kind(), FilterErrorKind::UnknownField { name, .. } if name == "d"));
    }
}

#[test]
fn notes() {
    let table: &[(&str, &[&str])] = &[
        ("name == \"db\"", &[]),
        ("_broker_args.workflow == \"x\"", &[]),
        (
            "_broker_args.workflw == \"x\"",
            &["no record has `_broker_args.workflw`, so it selects nothing; did you mean `_broker_args.workflow`?"],
        ),
        (
            "!has(_broker_args.tower.inventroy)",
            &[
                "no record has `_broker_args.tower.inventroy`, so it selects nothing; did you mean `_broker_args.tower.inventory`?",
            ],
        ),
        ("disks.nme == \"x\"", &["no record has `disks.nme`, so it selects nothing; did you mean `disks.name`?"]),
        ("disks[9].name == \"x\"", &["no record has `disks[9].name`, so it selects nothing"]),
        ("name.first == \"x\" || name.first == \"y\"", &["no record has `name.first`, so it selects nothing"]),
        (
            "_broker_args.os_version == 9.10",
            &["`9.10` is compared as the number 9.1; quote it to compare it as text or version"],
        ),
        ("number in [1, 007]", &["`007` is compared as the number 7; quote it to compare it as text or version"]),
        ("_broker_args.os_version.contains(9.10)", &[]),
        (
            "checked_out_at < 2h",
            &["`checked_out_at` is a time; to compare how long ago it was write `age(checked_out_at)`"],
        ),
        ("timeout < 2h", &[]),
    ];
    for (text, expected) in table {
        let notes: Vec<String> = select(text).unwrap().notes.iter().map(ToString::to_string).collect();
        assert_eq!(notes, *expected, "{text}");
    }
}

#[test]
fn two_spellings_are_one_filter() {
    for (left, right) in [
        ("name<web", "\"web\" in @inv.name"),
        ("name<web,state!=active", "name.contains('web') and not (state == \"active\")"),
        ("name!{web", "!name.startswith(\"web\")"),
        ("name}web", "@inv[\"name\"].endswith(\"web\")"),
        ("a == 1 && (b == 2 && c == 3)", "a == 1 and b == 2 and c == 3"),
        ("!!(a == 1)", "a == 1"),
        ("a == 1 || b == 2 && c == 3", "a == 1 || (b == 2 && c == 3)"),
        ("age(a) > 90m", "age(a) > 1h30m"),
        ("@res[:2:1]", "@inv[:2]"),
    ] {
        assert_eq!(Filter::parse(left), Filter::parse(right), "{left}");
    }
    assert_ne!(Filter::parse("a == 1"), Filter::parse("a == \"1\""));
    assert_ne!(Filter::parse("a =~ \"x\""), Filter::parse("a =~ \"y\""));
}

#[test]
fn nesting_is_limited_and_length_is_not() {
    let nested = |open: &str, close: &str, times: usize| open.repeat(times) + "a == 1" + &close.repeat(times);
    for (open, close) in [("(", ")"), ("!", ""), ("not ", "")] {
        assert!(Filter::parse(&nested(open, close, DEPTH_LIMIT)).is_ok());
        for times in [DEPTH_LIMIT + 1, 200_000] {
            let error = Filter::parse(&nested(open, close, times)).unwrap_err();
            assert_eq!(error.kind(), &FilterErrorKind::TooDeep { limit: DEPTH_LIMIT });
            assert_eq!(error.span().start, DEPTH_LIMIT * open.len());
        }
    }
    // What is nested as deep as it may be is displayed no deeper.
    for leaf in ["a not in [1]", "not a < 1", "1 not in a", "!has(a)"] {
        let filter =
            Filter::parse(&format!("{}b == 1 || !({leaf} && c == 1{}", "(".repeat(60), ")".repeat(61))).unwrap();
        assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
    }
    for long in
        ["a == 1 && ".repeat(20_000) + "b == 2", "a<x,".repeat(20_000) + "b=y", ["a.b"; 20_000].join(".") + " == 1"]
    {
        let filter = Filter::parse(&long).unwrap();
        assert_eq!(
            filter.select(&records(vec![json!({"a": {"b": 1}, "b": 2})]), KNOWN, now()).unwrap().indices,
            Vec::<usize>::new()
        );
        assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["a", "prod", "9.4", "9.10", "5", "2h", "true", "2026-01-02", "2026-01-02T03:04:05Z"])
            .prop_map(str::to_owned),
        "[ab\"'\\\\\n\t\r.|,()é\u{0}]{1,6}",
    ]
}

fn any_path() -> impl Strategy<Value = Path> {
    let key = || prop::sample::select(vec!["a", "b", "name", "in", "22", "x-y", "80/tcp", "__y", "", "é", "a\"]"]);
    let segment = prop_oneof![
        4 => key().prop_map(|key| Segment::Key(key.to_owned())),
        1 => (-2_i64..3).prop_map(Segment::Index),
    ];
    (key(), prop::collection::vec(segment, 0..3)).prop_map(|(head, below)| Path {
        head: head.to_owned(),
        below,
        place: Place(0..0),
    })
}

fn any_number() -> impl Strategy<Value = Number> {
    "-?(0|5|9[.](4|10)|[0-9]{1,40}([.][0-9]{1,3})?)".prop_filter_map("a number", |spelling| Number::parse(&spelling))
}

fn any_literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        any_text().prop_map(|text| Literal::Text(Text::new(text))),
        any_number().prop_map(Literal::Number),
        (-100_000_000_i64..100_000_000).prop_map(|millis| Literal::Duration(SignedDuration::from_millis(millis))),
        any::<bool>().prop_map(Literal::Bool),
    ]
}

fn any_operand() -> impl Strategy<Value = Operand> {
    prop_oneof![
        4 => any_path().prop_map(Operand::Path),
        1 => any_path().prop_map(Operand::Size),
        1 => any_path().prop_map(Operand::Age),
        3 => any_literal().prop_map(Operand::Literal),
    ]
}

/// Any condition but `has`, which alone is never unknown.
fn any_comparison() -> impl Strategy<Value = Expr> {
    let needle =
        prop_oneof![any_text().prop_map(|text| Needle::Text(Text::new(text))), any_number().prop_map(Needle::Number),];
    let test = prop_oneof![
        any_text().prop_map(TextTest::StartsWith),
        any_text().prop_map(TextTest::EndsWith),
        prop::sample::select(vec!["^a", "\\d+", "(?i)PROD", "\"", "a|b"])
            .prop_map(|pattern| TextTest::Matches(Pattern(Regex::new(pattern).unwrap()))),
    ];
    let comparison = prop::sample::select(Comparison::ALL.to_vec());
    prop_oneof![
        4 => (any_operand(), comparison, any_operand())
            .prop_filter("sides that go together", |(l, c, r)| parser::check_sides(l, *c, r).is_ok())
            .prop_map(|(left, comparison, right)| Expr::Compare { left, comparison, right }),
        1 => (any_path(), prop::collection::vec(any_literal(), 1..3))
            .prop_map(|(path, list)| Expr::OneOf { operand: Operand::Path(path), list }),
        1 => (any_path(), needle).prop_map(|(path, needle)| Expr::Contains { path, needle }),
        1 => (any_path(), test).prop_map(|(path, test)| Expr::Text { path, test }),
    ]
}

fn joined(leaf: impl Strategy<Value = Expr> + 'static) -> impl Strategy<Value = Expr> {
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::all),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::any),
            inner.prop_map(Expr::negated),
        ]
    })
}

fn any_condition() -> impl Strategy<Value = Expr> {
    joined(prop_oneof![5 => any_comparison(), 1 => any_path().prop_map(Expr::Has)])
}

fn any_stage() -> impl Strategy<Value = Stage> {
    let bound = || prop::option::of(-4_i64..5);
    prop_oneof![
        3 => any_condition().prop_map(Stage::Keep),
        1 => (-4_i64..5).prop_map(|at| Stage::Position(at, Place(0..0))),
        1 => (bound(), bound(), prop::sample::select(vec![1, 2, -1, -3, i64::MIN, i64::MAX]))
            .prop_map(|(start, stop, step)| Stage::Slice { start, stop, step }),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-10_i64..10).prop_map(Value::from),
        Just(json!(9.4)),
        any_text().prop_map(Value::from),
        Just(json!("")),
    ];
    scalar.prop_recursive(3, 12, 3, |inner| {
        let key = prop::sample::select(vec!["a", "b", "name", "22", "0", "x-y"]).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..3).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_record() -> impl Strategy<Value = Record> {
    let key = prop::sample::select(vec!["a", "b", "name", "in", "22", "x-y"]).prop_map(str::to_owned);
    prop::collection::vec((key, any_value()), 0..6).prop_map(|members| members.into_iter().collect())
}

/// What looks like a filter and mostly is none.
fn any_soup() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "name",
        "_broker_args",
        "hostname",
        ".",
        ".contains(",
        ".startswith('",
        "a",
        "in",
        "not in",
        "not",
        "and",
        "or",
        "has(",
        "size(",
        "age(",
        "@inv",
        "@inv.",
        "@inv[",
        "[",
        "]",
        "(",
        ")",
        "\"",
        "'",
        "\\",
        ",",
        ":",
        "-",
        "0",
        "1",
        "-1",
        "9.10",
        "2h",
        "1.",
        "==",
        "!=",
        "<",
        "<=",
        ">",
        "=",
        "=~",
        "{",
        "}",
        "!",
        "&&",
        "||",
        "|",
        "\"x\"",
        "'é'",
        "\"^a\"",
        "null",
        "true",
        "is None",
        "__x",
        "é",
        "\n",
        "\u{202e}",
        "name<x",
        "name={\"",
        "state!{a",
    ]);
    (prop::collection::vec(word, 0..12), prop::sample::select(vec!["", " "])).prop_map(|(words, gap)| words.join(gap))
}

fn filter(stages: Vec<Stage>) -> Filter {
    Filter { text: String::new(), stages }
}

/// What the fuzz target does, too.
fn survives(text: &str) -> Result<(), TestCaseError> {
    match Filter::parse(text) {
        Ok(filter) => {
            let shown = filter.to_string();
            prop_assert_eq!(Filter::parse(&shown), Ok(filter.clone()), "{}", shown);
            let inventory = inventory();
            match filter.select(&inventory, KNOWN, now()) {
                Ok(Selection { mut indices, .. }) => {
                    prop_assert!(indices.iter().all(|index| *index < inventory.len()));
                    let found = indices.len();
                    indices.sort_unstable();
                    indices.dedup();
                    prop_assert_eq!(indices.len(), found);
                }
                Err(error) => well_placed(&error)?,
            }
        }
        Err(error) => well_placed(&error)?,
    }
    Ok(())
}

fn well_placed(error: &FilterError) -> Result<(), TestCaseError> {
    prop_assert!(error.text().get(error.span()).is_some(), "{:?}", error);
    prop_assert_eq!(error.render().lines().count(), 2);
    prop_assert!(!error.to_string().is_empty());
    Ok(())
}

/// For a record that is looked at without others.
fn alone() -> Context<'static> {
    Context { now: now(), missing: &[] }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn display_reads_back(stages in prop::collection::vec(any_stage(), 1..4)) {
        let filter = filter(stages);
        let shown = filter.to_string();
        prop_assert_eq!(Filter::parse(&shown), Ok(filter), "{}", shown);
    }

    #[test]
    fn no_text_is_too_odd(text in prop_oneof![any_soup(), ".{0,24}", "[a.<={}!,\"' 0-9@|&()\\[\\]]{0,16}"]) {
        survives(&text)?;
    }

    #[test]
    fn a_slip_in_a_filter_is_survived(
        stages in prop::collection::vec(any_stage(), 1..3), at in any::<prop::sample::Index>(), slip in any_soup(),
    ) {
        let mut shown = filter(stages).to_string();
        let at = at.index(shown.len() + 1);
        let at = (0..=at).rev().find(|at| shown.is_char_boundary(*at)).unwrap();
        shown.insert_str(at, &slip);
        survives(&shown)?;
    }

    #[test]
    fn a_filter_and_its_negation_share_nothing(
        condition in any_condition(), records in prop::collection::vec(any_record(), 1..6),
    ) {
        let known = ["a", "b", "name", "in", "22", "x-y", "80/tcp", "__y", "", "é", "a\"]"];
        let select = |text: String| Filter::parse(&text).unwrap().select(&records, known, now()).unwrap().indices;
        let plain = select(condition.to_string());
        let negated = select(format!("!({condition})"));
        prop_assert!(plain.iter().all(|index| !negated.contains(index)), "{}", condition);
    }

    #[test]
    fn laws_of_three_values(a in any_condition(), b in any_condition(), c in any_condition(), record in any_record()) {
        let is = |condition: &Expr| truth(condition, &record, alone());
        let both = |a: &Expr, b: &Expr| Expr::All(vec![a.clone(), b.clone()]);
        let either = |a: &Expr, b: &Expr| Expr::Any(vec![a.clone(), b.clone()]);
        let not = |a: &Expr| Expr::Not(Box::new(a.clone()));
        prop_assert_eq!(is(&not(&not(&a))), is(&a));
        prop_assert_eq!(is(&a.clone().negated()), is(&not(&a)));
        prop_assert_eq!(is(&not(&both(&a, &b))), is(&either(&not(&a), &not(&b))));
        prop_assert_eq!(is(&both(&a, &b)), is(&both(&b, &a)));
        prop_assert_eq!(is(&both(&a, &either(&b, &c))), is(&either(&both(&a, &b), &both(&a, &c))));
        prop_assert_eq!(is(&Expr::all(vec![a.clone(), b.clone()])), is(&both(&a, &b)));
        prop_assert_eq!(is(&both(&a, &not(&a))) == Truth::True, false);
        prop_assert_eq!(is(&Expr::Any(vec![a.clone(), not(&a)])) == Truth::Unknown, is(&a) == Truth::Unknown);
    }

    #[test]
    fn a_record_that_loses_a_field_is_not_selected_for_it(
        condition in joined(any_comparison()), record in any_record(), lost in any::<prop::sample::Index>(),
    ) {
        let names: Vec<&String> = record.keys().collect();
        if !names.is_empty() {
            let mut poorer = record.clone();
            poorer.remove(*lost.get(&names));
            let (before, after) = (truth(&condition, &record, alone()), truth(&condition, &poorer, alone()));
            prop_assert!(after == before || after == Truth::Unknown, "{}: {:?}, {:?}", condition, before, after);
        }
        prop_assert_eq!(truth(&condition, &Record::new(), alone()), Truth::Unknown);
    }

    #[test]
    fn has_is_unknown_of_what_nobody_has_below_the_top(path in any_path(), record in any_record()) {
        prop_assert_ne!(truth(&Expr::Has(path.clone()), &record, alone()), Truth::Unknown);
        let context = Context { missing: &[&path], ..alone() };
        prop_assert_eq!(truth(&Expr::Has(path.clone()), &record, context), Truth::Unknown);
    }
}
