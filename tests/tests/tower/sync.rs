//! Syncing with the service's inventories.

use broker_tests::awx::World;
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
    lab.awx.spoil(broker_tests::awx::Rule::detail("GET", "/api/v2/inventories/", 403, "no"));
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
