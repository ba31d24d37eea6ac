use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn value(text: &str) -> ArgValue {
    parse(text).unwrap().unwrap().into_value()
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn plain(text: &str) -> ArgValue {
    ArgValue::Plain(text.to_owned())
}

fn map(entries: &[(&str, ArgValue)]) -> ArgValue {
    ArgValue::Map(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

#[test]
fn scalars_keep_their_spelling() {
    let text = "a: 9.10\nb: '9.10'\nc: 0123\nd: yes\ne: ~\nf:\ng: !!str 5\nh: ! 5\ni: !!int '5'\nj: |\n  x\n  y\nk: 1e3\n5: n\n";
    let expected = map(&[
        ("a", plain("9.10")),
        ("b", "9.10".into()),
        ("c", plain("0123")),
        ("d", plain("yes")),
        ("e", plain("~")),
        ("f", plain("")),
        ("g", "5".into()),
        ("h", "5".into()),
        ("i", plain("5")),
        ("j", "x\ny\n".into()),
        ("k", plain("1e3")),
        ("5", plain("n")),
    ]);
    assert_eq!(value(text), expected);
}

#[test]
fn order_is_kept() {
    let ArgValue::Map(map) = value("z: 1\na: 2\nm: {q: 1, b: 2}\n") else { panic!() };
    assert_eq!(map.keys().collect::<Vec<_>>(), ["z", "a", "m"]);
    assert_eq!(map["m"].as_map().unwrap().keys().collect::<Vec<_>>(), ["q", "b"]);
}

#[test]
fn nothing_is_none() {
    for text in ["", "  \n", "# only a comment\n", "---\n", "--- \n...\n", "\u{feff}"] {
        assert_eq!(parse(text), Ok(None), "{text:?}");
    }
}

#[test]
fn aliases_and_merge_keys() {
    let text = "
base: &base {a: 1, b: 2}
other: &other {b: 3, c: 4}
one: {<<: *base, b: 9}
two:
  b: 9
  <<: [*base, *other]
quoted: {'<<': 1}
same: *base
";
    let ArgValue::Map(all) = value(text) else { panic!() };
    assert_eq!(all["one"], map(&[("a", plain("1")), ("b", plain("9"))]));
    assert_eq!(all["two"], map(&[("a", plain("1")), ("b", plain("9")), ("c", plain("4"))]));
    assert_eq!(all["quoted"], map(&[("<<", plain("1"))]));
    assert_eq!(all["same"], all["base"]);
}

#[test]
fn places() {
    let node = parse("a: 1\nb:\n  c:\n    - x\n    - y: z\n").unwrap().unwrap();
    let Content::Map(top) = node.content else { panic!() };
    assert_eq!(top["b"].place, Place { line: 2, column: 1 });
    let Content::Map(b) = &top["b"].content else { panic!() };
    assert_eq!(b["c"].place, Place { line: 3, column: 3 });
    let Content::List(items) = &b["c"].content else { panic!() };
    assert_eq!(items[1].place.line, 5);
}

#[test]
fn errors_point_at_the_place() {
    let table = [
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key `a` is given twice, first in line 1\n3 | a: 3\n  | ^"),
        (
            "a: 1\n---\nb: 2\n",
            "line 2, column 1: a second document begins here, and there may be only one\n2 | ---\n  | ^",
        ),
        ("a: !vault x\n", "line 1, column 4: the tag `!vault` is not supported\n1 | a: !vault x\n  |    ^"),
        ("a: !!binary x\n", "line 1, column 4: the tag `!!binary` is not supported\n1 | a: !!binary x\n  |    ^"),
        ("[1]: x\n", "line 1, column 1: a list cannot be a key\n1 | [1]: x\n  | ^"),
        ("? {a: b}\n: x\n", "line 1, column 3: a mapping cannot be a key\n1 | ? {a: b}\n  |   ^"),
        ("<<: 1\n", "line 1, column 5: `<<` takes a mapping or a list of mappings\n1 | <<: 1\n  |     ^"),
        (
            "a: &x [*x]\n",
            "line 1, column 8: an alias may not stand inside of what it names\n1 | a: &x [*x]\n  |        ^",
        ),
        ("a: x\0y\n", "line 1, column 5: the control character U+0000 is not allowed\n1 | a: x\u{fffd}y\n  |     ^"),
    ];
    for (text, expected) in table {
        assert_eq!(error(text), expected);
    }
}

#[test]
fn malformed_texts_are_errors_with_a_place() {
    for text in ["a: [1\nb: 2\n", "a: b: c\n", "a: \"x\n", "a: *nothing\n", "- a\nb: c\n", "%FOO\n"] {
        let error = error(text);
        assert!(error.starts_with("line "), "{error}");
    }
}

#[test]
fn the_shown_line_hides_secrets() {
    let table = [
        "host_password: hunter2 hunter2: hunter2\n",
        "user: {name: x, password: hunter2: hunter2}\n",
        "token:\n  hunter2: [\n",
        "token:\n- hunter1\n- hunter2: [\n",
        "api_key: |\n  first\n  second\n hunter2: x\n  - [\n",
        "a: 1\npassword: \"x\nhunter2\n",
        "password: hunter2\npassword: hunter2\n",
    ];
    for text in table {
        let error = error(text);
        assert!(!error.contains("hunter"), "{error}");
    }
    assert_eq!(
        error("password: a\npassword: b\n"),
        "line 2, column 1: the key `password` is given twice, first in line 1\n2 | password: ***\n  | ^"
    );
}

#[test]
fn long_lines_are_cut_around_the_place() {
    let text = format!("a: {}\nb: {{x: {}, x: 1}}\n", "y".repeat(500), "z".repeat(500));
    let error = error(&text);
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[1].chars().count() < 120, "{error}");
    assert_eq!(lines[1].chars().nth(lines[2].chars().count() - 1), Some('x'), "{error}");
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert!(error(&nested(MAX_DEPTH + 1)).contains("nested more than 100 deep"));
    assert!(parse(&"- ".repeat(100_000)).is_err());
    assert!(parse(&nested(100_000)).is_err());
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for n in 1..=MAX_DEPTH {
        chain.push_str(&format!("a{n}: &a{n} [*a{}]\n", n - 1));
    }
    assert!(error(&chain).contains("nested more than 100 deep"));
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..10 {
        let items = vec![format!("*a{}", n - 1); 9].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    assert!(error(&text).contains("anchors and aliases make the document too large"));
}

#[test]
fn json_keeps_spelling_and_reports_places() {
    let node = parse_json("{\"a\": 9.10,\n \"b\": [1e3, true, null, \"\\u00e9\\ud83d\\ude00\"]}").unwrap().unwrap();
    let Content::Map(top) = &node.content else { panic!() };
    assert_eq!(top["a"].place, Place { line: 1, column: 7 });
    assert_eq!(top["b"].place, Place { line: 2, column: 7 });
    let list = ArgValue::List(vec![plain("1e3"), plain("true"), plain("null"), "é😀".into()]);
    assert_eq!(node.into_value(), map(&[("a", plain("9.10")), ("b", list)]));
    assert_eq!(parse_json(" \n"), Ok(None));

    let error = |text: &str| parse_json(text).unwrap_err().to_string();
    assert_eq!(error("{\"a\": 1,}"), "line 1, column 9: key must be a string\n1 | {\"a\": 1,}\n  |         ^");
    assert_eq!(
        error("[1,\n {\"a\": 1, \"a\": 2}]"),
        "line 2, column 17: the key `a` is given twice\n2 |  {\"a\": 1, \"a\": 2}]\n  |                 ^"
    );
    assert!(error("[1] 2").contains("trailing characters"));
    assert!(error("[\"\\ud800\"]").starts_with("line 1, column "));
    assert!(error(&"[".repeat(100_000)).starts_with("line 1, column "));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(error(&deep).contains("nested more than 100 deep"));
}

#[test]
fn emitted_yaml_reads_well() {
    let value = json!({
        "name": "host-1.example.com",
        "image": "localhost/testhost:debian",
        "number": 5,
        "version": "9.10",
        "on": "yes",
        "empty": "",
        "none": null,
        "list": ["a", {"b": 1, "c": [2, 3]}, [], {}],
        "log": "one\n  two\n",
        "tail": "one\ntwo",
        "colon": "a: b",
        "tab": "a\tb",
        "time": "2024-01-01",
        "nested": {"x": {"z": null}},
    });
    let expected = "\
name: host-1.example.com
image: localhost/testhost:debian
number: 5
version: '9.10'
'on': 'yes'
empty: ''
none: null
list:
  - a
  - b: 1
    c:
      - 2
      - 3
  - []
  - {}
log: |
  one
    two
tail: |-
  one
  two
colon: 'a: b'
tab: \"a\\tb\"
time: '2024-01-01'
nested:
  x:
    z: null
";
    assert_eq!(to_yaml(&value), expected);
    assert_eq!(to_yaml(&json!([])), "[]\n");
    assert_eq!(to_yaml(&json!("no")), "'no'\n");
    let long = json!({ "k".repeat(2000): [1] });
    assert_eq!(value_of(&to_yaml(&long)), long);
}

fn value_of(yaml: &str) -> Value {
    parse(yaml).unwrap().map_or(Value::Null, |node| node.into_value().to_json())
}

/// Texts that readers of YAML trip over.
fn tricky_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9 :#\\-'\"\\[\\]{}&*!|>%@`,?.=~\n\t\\\\]{0,12}",
        "[ \n\ra-c]{0,8}",
        prop::sample::select(vec![
            "yes",
            "No",
            "on",
            "null",
            "~",
            "",
            "0123",
            "0x1f",
            "1_000",
            "1:20",
            "1e3",
            ".inf",
            "-.5",
            "=",
            "<<",
            "- a",
            "? a",
            "a: b",
            "a #b",
            " a",
            "a ",
            "---",
            "--- a",
            "...",
            "\u{85}",
            "\u{2028}",
            "\u{feff}x",
            "a\n\n",
            "\na",
            "a\n b\n  \n",
            "!!str x",
            "%TAG",
            "2024-01-01",
            "y",
            "é",
            "\u{7f}",
            "a\u{a0}b",
            "#",
            "key:",
            "|",
            "\u{e000}",
        ])
        .prop_map(str::to_owned),
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Numbers that serde_json itself reads back as they were.
        any::<f64>().prop_map(Value::from).prop_filter("exact", |value| serde_json::from_str::<Value>(
            &value.to_string()
        )
        .ok()
        .as_ref()
            == Some(value)),
        tricky_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((tricky_text(), inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in json_value()) {
        let yaml = to_yaml(&value);
        prop_assert_eq!(value_of(&yaml), value, "{}", yaml);
    }

    #[test]
    fn json_agrees_with_serde_json(value in json_value(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(parse_json(&text).unwrap().unwrap().into_value(), ArgValue::from_json(value));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-c0-9 :#\\-'\"\\[\\]{}&*!|>%@`,?.=~<\n\t\r\\\\\u{feff}\u{85}é]{0,60}") {
        let _either = parse(&text);
        let _either = parse_json(&text);
    }
}
