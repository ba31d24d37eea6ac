//! Taking over from the Python tool.

use proptest::prelude::*;

use super::*;

const SEED: &str = r#"- _broker_args:
    container_host: ubi8
    nick: rhel8
    version: 8.10
    empty: null
  _broker_provider: Container
  hostname: 2bd5a6f6d43c
  name: jdoe_ubi8_1
  type: host
- _broker_args: {workflow: deploy-rhel, deploy_rhel_version: '9.4', size: 0123}
  _broker_provider: AnsibleTower
  hostname: host-1.example.com
  name: jdoe-rhel9-1
  tower_inventory: broker
  type: host
"#;

const LATER: &str = r#"- _broker_args:
    container_host: ubi9
    ports: "22"
    _broker_origin: broker_cli:jdoe
  _broker_provider: Container
  _broker_provider_instance: docker
  exposed_ports: {"22": 49153}
  hostname: localhost:49153
  name: jdoe_ubi9_1
  type: host
- hostname: host-2.example.com
  ip: 10.0.0.7
  os_distribution: RedHat
  os_distribution_version: 9.10
  reported_devices: {nics: [eth0, eth1]}
  expire_time: 2026-01-01 10:00:00
  deploy_failed: true
  job_id: 5
  name: null
  type: host
  _broker_provider: AnsibleTower
  _broker_provider_instance: prod
- {id: 17, owner: jdoe, _attrs: {arch: x86_64}, state: reserved, ssh_host_key: theirs}
- _broker_args: just text
"#;

fn with(yaml: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("inventory.yaml"), yaml).unwrap();
    dir
}

fn shown(record: &HostRecord) -> Value {
    let mut json = record.to_json(Secrets::Shown);
    for key in ["id", "at"] {
        json.shift_remove(key).unwrap();
    }
    Value::Object(json)
}

#[test]
fn the_first_look_imports_once() {
    let dir = with(SEED);
    let snapshot = read(dir.path()).unwrap();
    assert_eq!(snapshot.warnings, [""; 0]);
    assert_eq!(
        shown(&snapshot.records[0]),
        json!({"number": 0, "state": "active", "hostname": "2bd5a6f6d43c", "name": "jdoe_ubi8_1",
            "_broker_provider": "Container", "holding": "kept", "rev": 1, "type": "host",
            "_broker_args": {"container_host": "ubi8", "nick": "rhel8", "version": "8.10"}})
    );
    let args = &snapshot.records[1].details.args;
    assert_eq!((args["size"].as_str(), args["deploy_rhel_version"].as_str()), (Some("0123"), Some("9.4")));
    assert_eq!(snapshot.records[1].details.facts["tower_inventory"], "broker");
    assert_eq!(read(dir.path()).unwrap(), snapshot, "the ids stay");
    let inventory = Inventory::open(dir.path());
    assert_eq!(wait(inventory.add(drafts(1))).unwrap()[0].number, 2);
    assert_eq!(fs::read_to_string(dir.path().join("inventory.yaml")).unwrap(), SEED);
}

#[test]
fn a_first_checkout_imports_too() {
    let dir = with(SEED);
    assert_eq!(wait(Inventory::open(dir.path()).add(drafts(1))).unwrap()[0].number, 2);
    assert_eq!(numbers(&read(dir.path()).unwrap()), [0, 1, 2]);
}

#[test]
fn later_formats_keep_every_key() {
    let dir = with(LATER);
    let records = read(dir.path()).unwrap().records;
    assert_eq!(
        shown(&records[0]),
        json!({"number": 0, "state": "active", "hostname": "localhost:49153", "name": "jdoe_ubi9_1",
            "_broker_provider": "Container", "_broker_provider_instance": "docker", "holding": "kept", "rev": 1,
            "_broker_args": {"container_host": "ubi9", "ports": "22", "_broker_origin": "broker_cli:jdoe"},
            "type": "host", "_imported": {"exposed_ports": {"22": 49153}}})
    );
    assert_eq!(
        shown(&records[1]),
        json!({"number": 1, "state": "active", "hostname": "host-2.example.com", "address": "10.0.0.7",
            "_broker_provider": "AnsibleTower", "_broker_provider_instance": "prod", "_broker_args": {},
            "holding": "kept", "rev": 1, "ip": "10.0.0.7", "os_distribution": "RedHat",
            "os_distribution_version": "9.10", "reported_devices": {"nics": ["eth0", "eth1"]},
            "expire_time": "2026-01-01 10:00:00", "deploy_failed": true, "job_id": 5, "type": "host"})
    );
    assert_eq!(
        shown(&records[2]),
        json!({"number": 2, "state": "active", "_broker_provider": "Unknown", "_broker_args": {}, "holding": "kept",
            "rev": 1, "_attrs": {"arch": "x86_64"}, "_imported": {"id": 17, "owner": "jdoe", "state": "reserved", "ssh_host_key": "theirs"}})
    );
    assert_eq!(records[3].details.facts["_broker_args"], "just text");
}

#[test]
fn a_merge_adds_what_is_new_and_nothing_else() {
    let dir = with(SEED);
    let inventory = Inventory::open(dir.path());
    let before = wait(inventory.load()).unwrap();
    let again = wait(inventory.import()).unwrap();
    assert_eq!((again.added.len(), again.known), (0, 2));

    // Two that look alike are two hosts, and so are those of another instance.
    let nameless = "- {_broker_provider: Test, hostname: same}\n- {_broker_provider: Test, hostname: same}\n";
    let twin = "- {_broker_provider: Container, _broker_provider_instance: x, name: c}\n\
        - {_broker_provider: Container, _broker_provider_instance: y, name: c}\n";
    fs::write(dir.path().join("inventory.yaml"), format!("{SEED}{LATER}{nameless}{twin}")).unwrap();
    let warning = wait(inventory.load()).unwrap().warnings.remove(0);
    assert!(warning.contains("`broker inventory --import`"), "{warning}");
    assert_eq!(read(dir.path()).unwrap().warnings, [warning]);
    let merged = wait(inventory.import()).unwrap();
    assert_eq!((merged.added.len(), merged.known), (8, 2));
    let after = read(dir.path()).unwrap();
    assert_eq!(after.records[..2], before.records[..]);
    assert_eq!(numbers(&after), (0..10).collect::<Vec<_>>());
    assert_eq!(after.warnings, [""; 0]);
    assert_eq!(wait(inventory.load()).unwrap(), after);
    assert_eq!(wait(Inventory::open(dir.path()).import()).unwrap().known, 10);

    // What the Python tool no longer has stays.
    fs::write(dir.path().join("inventory.yaml"), "[]\n").unwrap();
    wait(inventory.import()).unwrap();
    assert_eq!(read(dir.path()).unwrap().records.len(), 10);
}

#[test]
fn a_merge_brings_back_nothing_that_was_released() {
    let dir = with(SEED);
    let file = dir.path().join("inventory.yaml");
    let inventory = Inventory::open(dir.path());
    let release = |record: &HostRecord| {
        wait(inventory.update(HostRecord { state: HostState::Gone, ..record.clone() })).unwrap();
    };
    release(&wait(inventory.load()).unwrap().records[0]);
    fs::write(&file, format!("{SEED}- {{_broker_provider: Test, hostname: new}}\n")).unwrap();
    let merged = wait(inventory.import()).unwrap();
    assert_eq!((merged.added.len(), merged.known), (1, 2));
    assert_eq!(merged.added[0].hostname.as_deref(), Some("new"));
    assert_eq!(numbers(&read(dir.path()).unwrap()), [1, 2]);

    // What was imported by a merge is known to the next one.
    release(&merged.added[0]);
    let again = wait(Inventory::open(dir.path()).import()).unwrap();
    assert_eq!((again.added.len(), again.known), (0, 3));

    // Checked out anew by the Python tool it says something else of itself.
    let anew = SEED.replace("size: 0123", "size: 0124");
    assert_ne!(anew, SEED);
    release(&read(dir.path()).unwrap().records[0]);
    fs::write(&file, &anew).unwrap();
    assert_eq!(wait(inventory.import()).unwrap().added.len(), 1);

    // A copy of another import proves nothing.
    fs::write(dir.path().join("inventory.imported.yaml"), SEED).unwrap();
    assert_eq!(wait(inventory.import()).unwrap().added.len(), 1);
}

#[test]
fn a_file_that_comes_later_is_not_imported_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(dir.path());
    wait(inventory.add(drafts(1))).unwrap();
    let error = wait(inventory.import()).unwrap_err();
    assert!(matches!(error, InventoryError::Io { .. }), "{error}");
    fs::write(dir.path().join("inventory.yaml"), SEED).unwrap();
    let snapshot = read(dir.path()).unwrap();
    assert_eq!(numbers(&snapshot), [0]);
    assert!(snapshot.warnings[0].contains("was not imported"), "{:?}", snapshot.warnings);
    assert_eq!(wait(inventory.import()).unwrap().added.len(), 2);
    assert_eq!(numbers(&read(dir.path()).unwrap()), [0, 1, 2]);
}

#[test]
fn what_cannot_be_understood_is_left_alone() {
    for (yaml, expected) in [
        ("- name: a\n  hostname: [\n", "line"),
        ("- name: a\n  name: b\n", "line 2"),
        ("name: a\n", "it holds a mapping, not a list of hosts"),
        ("- name: a\n- text\n", "entry 2 of the list is a text, not a mapping"),
    ] {
        let dir = with(yaml);
        for error in [read(dir.path()).unwrap_err(), wait(Inventory::open(dir.path()).add(drafts(1))).unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains("inventory.yaml`") && text.contains(expected), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
        assert!(!dir.path().join("inventory.jsonl").exists());
        assert_eq!(fs::read_to_string(dir.path().join("inventory.yaml")).unwrap(), yaml);
    }
    let dir = with("");
    fs::write(dir.path().join("inventory.yaml"), b"- name: \xff\n").unwrap();
    assert!(read(dir.path()).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn a_broken_merge_changes_nothing() {
    let dir = with(SEED);
    let inventory = Inventory::open(dir.path());
    let before = wait(inventory.load()).unwrap().records;
    fs::write(dir.path().join("inventory.yaml"), format!("{SEED}- [\n")).unwrap();
    let journal = text(dir.path());
    assert!(matches!(wait(inventory.import()), Err(InventoryError::Import { .. })));
    assert_eq!(text(dir.path()), journal);
    assert_eq!(wait(inventory.load()).unwrap().records, before);
}

#[test]
fn an_empty_file_is_an_empty_inventory() {
    for yaml in ["", "[]\n", "null\n", "# nothing\n", "---\n"] {
        assert_eq!(read(with(yaml).path()).unwrap(), Snapshot::default(), "{yaml:?}");
    }
}

#[test]
fn a_lock_that_the_python_tool_left_behind_stops_nobody() {
    let dir = with(SEED);
    fs::write(dir.path().join("inventory.yaml.lock"), "").unwrap();
    assert_eq!(numbers(&read(dir.path()).unwrap()), [0, 1]);
    assert!(dir.path().join("inventory.yaml.lock").exists());
}

proptest! {
    #[test]
    fn no_text_makes_the_import_panic(text in "(- |  |[a-z_]{1,5}: |[\\[\\]{},:&*!|>'\"#~-]|\n|[0-9.]{1,4}|null){0,40}") {
        if let Ok(records) = parse_python_inventory(Path::new("inventory.yaml"), &text) {
            for record in records {
                let json = record.to_json(Secrets::Shown);
                prop_assert!(HostRecord::from_json(json).is_ok());
            }
        }
    }
}
