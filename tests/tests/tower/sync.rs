//! Syncing with the service's inventories.

use broker_tests::awx::{Fate, Rule, World};
use serde_json::json;

use super::{Lab, world};

/// A world in which an inventory of rigger's has so many hosts.
fn with_hosts(count: usize) -> World {
    (0..count).fold(World::recorded().inventory("rigger-many", "", ""), |world, n| {
        let facts =
            json!({"_broker_facts": {"fqdn": format!("h{n}.example.test"), "shutdown_time": 4_000_000_000_u64}});
        world.host("rigger-many", &format!("h{n}"), "", if n % 10 == 0 { facts } else { json!(null) })
    })
}

#[test]
fn the_users_inventories_are_taken_in() {
    let lab = Lab::new();
    lab.broker("inventory --sync AnsibleTower");
    let hosts = lab.inventory();
    let names: Vec<&str> = hosts.iter().map(|host| host["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["rig-a", "rig-b", "rig-c"]);
    assert_eq!(hosts[0]["hostname"], json!("rig-a.example.test"));
    assert_eq!((&hosts[0]["address"], &hosts[1]["address"]), (&json!("192.0.2.11"), &json!("192.0.2.12")));
    assert_eq!(hosts[1]["hostname"], json!("rig-b.example.test"));
    assert_eq!(hosts[2]["tower_inventory"], json!("rigger-hosts"));
    lab.broker("inventory --sync AnsibleTower");
    assert_eq!(lab.inventory().len(), 3);
    // Another user's, and everybody's.
    lab.broker("inventory --sync AnsibleTower:lab");
    assert_eq!(lab.inventory().len(), 4);
    lab.broker("inventory --sync AnsibleTower:@ll");
    assert_eq!(lab.inventory().len(), 4);
}

/// The Python tool reads the first page alone, and asks two things for each host, one after the other.
#[test]
fn hosts_on_all_pages_are_taken_in_with_few_requests() {
    let lab = Lab::of(with_hosts(450), "");
    lab.awx.forget_requests();
    lab.broker("inventory --sync AnsibleTower");
    let hosts = lab.inventory();
    assert_eq!(hosts.len(), 453);
    let with_facts: Vec<_> = hosts.iter().filter(|host| host.get("shutdown_time").is_some()).collect();
    assert_eq!(with_facts.len(), 45);
    assert!(with_facts.iter().all(|host| host["lease_until"] == json!("2096-10-02T07:06:40Z")), "{:?}", with_facts[0]);
    let requests = lab.awx.requests().len();
    assert!(requests <= 45 + 12, "{requests}");
}

/// Facts are asked for once, and again when they or the host have changed.
#[test]
fn hosts_that_have_not_changed_cost_nothing() {
    let lab = Lab::of(with_hosts(30), "");
    lab.broker("inventory --sync AnsibleTower");
    let before = lab.inventory();
    let asked = || {
        lab.awx.forget_requests();
        lab.broker("inventory --sync AnsibleTower");
        lab.awx.requests().iter().filter(|seen| seen.target.ends_with("/ansible_facts/")).count()
    };
    assert_eq!(asked(), 0);
    assert_eq!(lab.inventory(), before);
    let facts = json!({"_broker_facts": {"fqdn": "new.example.test", "shutdown_time": 4_100_000_000_u64}});
    lab.awx.set_facts("rigger-many", "h10", &facts);
    assert_eq!(asked(), 1);
    let hosts = lab.inventory();
    let changed = hosts.iter().find(|host| host["name"] == "h10").unwrap();
    assert_eq!(
        (&changed["hostname"], &changed["lease_until"]),
        (&json!("new.example.test"), &json!("2099-12-03T16:53:20Z"))
    );
    // Where something else says when a host ends, all of them are read anew.
    lab.settings(&format!("token: {}\nexpiry_facts: ended_at", lab.awx.token_of("rigger")));
    assert_eq!(asked(), 3);
}

/// A new host of an old name in another inventory is not taken for the old one.
#[test]
fn a_name_that_comes_twice_is_nobodys_other_host() {
    let facts = |inventory: &str| json!({"_broker_facts": {"fqdn": format!("h.{inventory}.test")}});
    let world = World::recorded().inventory("twice-a", "", "").inventory("twice-b", "", "");
    let lab = Lab::of(world.host("twice-a", "h", "", facts("a")), "");
    lab.broker("inventory --sync AnsibleTower:twice");
    lab.awx.set_facts("twice-b", "h", &facts("b"));
    for _ in 0..2 {
        lab.broker("inventory --sync AnsibleTower:twice");
        let hosts = lab.inventory();
        let names: Vec<&str> = hosts.iter().map(|host| host["hostname"].as_str().unwrap()).collect();
        assert_eq!(names, ["h.a.test", "h.b.test"]);
    }
}

/// A name beside a token is whose hosts are asked for.
#[test]
fn the_user_of_the_settings_is_the_one_whose_hosts_are_meant() {
    let lab = Lab::new();
    lab.settings(&format!("token: {}\nusername: lab-inv", lab.awx.token_of("rigger")));
    lab.broker("inventory --sync AnsibleTower");
    let hosts = lab.inventory();
    assert!(
        !hosts.is_empty() && hosts.iter().all(|host| host["tower_inventory"].as_str().unwrap().contains("lab-inv"))
    );
}

#[test]
fn a_host_that_is_listed_no_more_has_vanished_and_others_stay() {
    let lab = Lab::of(world(), "");
    lab.broker("checkout --workflow make");
    lab.broker("inventory --sync AnsibleTower");
    assert_eq!(lab.inventory().len(), 4);
    assert!(lab.inventory().iter().all(|host| host["state"] == json!("active")));
}

#[test]
fn what_cannot_be_listed_changes_nothing() {
    let lab = Lab::new();
    lab.broker("inventory --sync AnsibleTower");
    lab.awx.spoil(Rule::detail("GET", "/api/v2/inventories/", 403, "no"));
    lab.fails("inventory --sync AnsibleTower", 6);
    assert_eq!(lab.inventory().len(), 3);
    let error = lab.fails("inventory --sync AnsibleTower::nowhere", 13);
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn a_listed_host_is_released_by_its_name() {
    let lab = Lab::new();
    lab.broker("inventory --sync AnsibleTower");
    lab.broker("checkin 0");
    let told = super::life::told_by_last_job(&lab, "remove-vm");
    assert_eq!(told["source_vm"], json!("rig-a"));
}

/// What the Python tool has written of its hosts, one of them in none of the service's inventories.
const PYTHON: &str = "- _broker_args:
    deploy_flavor: tiny
    workflow: deploy-vm
  _broker_provider: AnsibleTower
  hostname: rig-a.example.test
  name: rig-a
  type: host
- _broker_args:
    deploy_flavor: big
    source_vm: unlisted-vm
    workflow: deploy-vm
  _broker_provider: AnsibleTower
  hostname: unlisted.example.test
  name: unlisted
  type: host
";

#[test]
fn hosts_of_the_python_tool_are_synced_extended_and_released() {
    let lab = Lab::new();
    std::fs::write(lab.env.directory().join("inventory.yaml"), PYTHON).unwrap();
    lab.broker("inventory --sync AnsibleTower");
    let names: Vec<String> = lab.inventory().iter().map(|host| host["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["rig-a", "unlisted", "rig-b", "rig-c"]);
    assert_eq!(lab.inventory()[0]["address"], json!("192.0.2.11"));
    for name in ["rig-a", "unlisted"] {
        lab.broker(&format!("extend {name} --new-expire-time +60"));
        assert_eq!(super::life::told_by_last_job(&lab, "extend-vm")["target_vm"], json!(name));
    }
    for (name, machine, flavor) in [("rig-a", "rig-a", "tiny"), ("unlisted", "unlisted-vm", "big")] {
        lab.broker(&format!("checkin {name}"));
        let told = super::life::told_by_last_job(&lab, "remove-vm");
        assert_eq!((&told["source_vm"], &told["deploy_flavor"]), (&json!(machine), &json!(flavor)));
    }
    assert_eq!(lab.inventory().len(), 2);
}

/// It looks like one that is not there.
#[test]
fn an_inventory_that_may_not_be_seen_any_more_loses_no_host() {
    let lab = Lab::new();
    lab.broker("inventory --sync AnsibleTower");
    lab.awx.set_inventory_role("rigger-hosts", "rigger", None);
    let said = lab.broker("inventory --sync AnsibleTower").stderr;
    assert!(said.contains("sees no inventory `rigger-hosts` any more"), "{said}");
    let hosts = lab.inventory();
    assert!(hosts.len() == 3 && hosts.iter().all(|host| host["state"] == json!("active")), "{hosts:?}");
}

/// The service counts the hosts of an inventory a while after they have come.
#[test]
fn hosts_that_are_not_counted_yet_are_listed() {
    let lab = Lab::new();
    let inventory = json!({"id": 4, "name": "rigger-hosts", "total_hosts": 0});
    let page = json!({"count": 1, "next": null, "previous": null, "results": [inventory]}).to_string();
    let answer = Fate::Answer(200, "application/json".to_owned(), page);
    lab.awx.spoil(Rule::new("GET", "/api/v2/inventories/", answer));
    lab.broker("inventory --sync AnsibleTower");
    assert_eq!(lab.inventory().len(), 3);
}
