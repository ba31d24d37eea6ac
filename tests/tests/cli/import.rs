//! The Python tool's inventory.

use std::fs;

use crate::support::{Env, numbers, texts};

/// As 0.2.6 writes it: no instances, no systems.
const OLD: &str = "\
- _broker_args:
    workflow: deploy-rhel
    rhel_version: 9.10
    count: 0123
    note: null
  _broker_provider: AnsibleTower
  hostname: deploy.lab.example.com
  name: deploy-rhel-42
  type: host
- _broker_args:
    container_host: ubi8
  _broker_provider: Container
  hostname: 3f1d7c0a9b2e
  name: jane_3f1d7c0a
  type: host
- _broker_args: {test_action: demo}
  _broker_provider: TestProvider
  hostname: test.host.example.com
  type: host
";

/// As 0.8 writes it.
const NEW: &str = "\
- _broker_args:
    _broker_origin: broker_cli:jane
    ostack_image: rhel-9
  _broker_provider: OpenStack
  _broker_provider_instance: rdu
  hostname: 10.0.1.17
  name: broker-1a2b3c4d
  type: host
- _attrs: {cpu: 8, disks: [sda, sdb]}
  _broker_args:
    job_xml: job.xml
  _broker_provider: Beaker
  _broker_provider_instance: hub
  hostname: bkr.example.com
  job_id: J:1234567
  type: host
- _broker_args: {container_host: 'localhost/x:1.10', _broker_origin: 'test_a:test_b.py'}
  _broker_provider: Container
  _broker_provider_instance: docker
  exposed_ports: {22: 40022}
  hostname: localhost:40022
  id: not-ours
  ip: 172.17.0.2
  name: jane_9c
  number: 77
  os_distribution: RHEL
  os_distribution_version: 8.10
  reported_devices: {nics: [eth0]}
  state: on
  type: host
";

fn with(text: &str) -> Env {
    let env = Env::new();
    fs::write(env.broker_path("inventory.yaml"), text).unwrap();
    env
}

#[test]
fn an_inventory_of_0_2_6_is_taken_over() {
    let env = with(OLD);
    let hosts = env.inventory();
    assert_eq!(numbers(&hosts), [0, 1, 2]);
    assert_eq!(texts(&hosts, "hostname"), ["deploy.lab.example.com", "3f1d7c0a9b2e", "test.host.example.com"]);
    assert_eq!(texts(&hosts, "name"), ["deploy-rhel-42", "jane_3f1d7c0a"]);
    assert_eq!(texts(&hosts, "_broker_provider"), ["AnsibleTower", "Container", "TestProvider"]);
    assert!(hosts.iter().all(|host| host["type"] == "host"), "unknown keys are kept");
    let json = env.broker("inventory --output json").ok();
    assert!(json.out().contains("9.10") && json.out().contains("0123"), "{json}");
    let found = env.broker("inventory --output json --filter '_broker_args.rhel_version == \"9.10\"'").ok();
    assert_eq!(numbers(&crate::support::array(found.json())), [0]);
    assert_eq!(fs::read_to_string(env.broker_path("inventory.yaml")).unwrap(), OLD, "the file is never written");
}

#[test]
fn an_inventory_of_0_8_is_taken_over() {
    let env = with(NEW);
    let hosts = env.inventory();
    assert_eq!(numbers(&hosts), [0, 1, 2]);
    assert_eq!(texts(&hosts, "_broker_provider_instance"), ["rdu", "hub", "docker"]);
    assert_eq!(hosts[1]["job_id"], "J:1234567");
    assert_eq!(hosts[1]["_attrs"]["disks"][1], "sdb");
    let clashing = &hosts[2];
    assert_eq!(clashing["state"], "active");
    assert_eq!(clashing["_imported"]["id"], "not-ours", "{clashing}");
    assert_eq!(clashing["_imported"]["number"].to_string().trim_matches('"'), "77", "{clashing}");
    assert!(clashing["os_distribution_version"].to_string().contains("8.10"), "{clashing}");
    assert_eq!(clashing["_broker_args"]["container_host"], "localhost/x:1.10");
    env.broker("inventory").ok().prints("bkr.example.com").prints("Beaker");
}

#[test]
fn an_imported_host_can_be_listed_and_forgotten_and_its_provider_is_missed() {
    let env = with(NEW);
    env.broker("checkin 1").exits(9).says("Beaker");
    assert_eq!(env.inventory().len(), 3);
    env.broker("forget 1").ok();
    assert_eq!(numbers(&env.inventory()), [0, 2]);
    assert_eq!(env.check_out(""), [3], "the numbers go on");
}

#[test]
fn an_inventory_that_changes_later_is_mentioned_and_merged_on_demand() {
    let env = with(OLD);
    env.check_out("");
    let quiet = env.broker("inventory").ok();
    assert!(!quiet.stderr.contains("--import"), "{quiet}");
    let more =
        format!("{OLD}- {{_broker_provider: Container, name: added, hostname: added.example.com, type: host}}\n");
    fs::write(env.broker_path("inventory.yaml"), &more).unwrap();
    env.broker("inventory").ok().says("broker inventory --import");
    assert_eq!(env.inventory().len(), 4);
    env.broker("inventory --import").ok();
    assert_eq!(numbers(&env.inventory()), [0, 1, 2, 3, 4]);
    let quiet = env.broker("inventory --import").ok();
    assert_eq!(env.inventory().len(), 5, "{quiet}");
    // It never deletes.
    fs::write(env.broker_path("inventory.yaml"), "[]\n").unwrap();
    env.broker("inventory --import").ok();
    assert_eq!(env.inventory().len(), 5);
}

#[test]
fn an_inventory_that_cannot_be_imported_is_an_error_with_its_place() {
    for (text, said) in [("- a: [1\n", "line"), ("just text\n", "list"), ("- a: 1\n- b\n", "entry 2")] {
        let env = with(text);
        env.broker("inventory").exits(1).says("inventory.yaml").says(said);
        env.broker("checkout --test-action t").exits(1);
        assert_eq!(env.made(), [] as [&str; 0]);
        assert_eq!(fs::read_to_string(env.broker_path("inventory.yaml")).unwrap(), text);
    }
    let env = with("");
    assert_eq!(env.inventory().len(), 0);
    assert_eq!(env.check_out(""), [0]);
}
