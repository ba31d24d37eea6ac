//! What the cloud has, beside what the inventory has.

use broker_core::HostId;
use broker_tests::env::TestEnv;
use broker_tests::openstack::Service;
use serde_json::json;

use crate::Lab;

/// Another Broker directory of the same user.
pub(crate) fn elsewhere(lab: &Lab, settings: &str) -> TestEnv {
    let mut other = TestEnv::new();
    other.set("USER", lab.env.user());
    other.write_settings(settings);
    other
}

#[test]
fn all_pages_are_read() {
    let lab = Lab::with("page_size: 2");
    lab.broker("checkout --ostack-image tiny --count 5 --ostack-wait active");
    let other = elsewhere(&lab, &lab.settings("page_size: 2"));
    other.ok(["inventory", "--sync", "OpenStack"]);
    let taken = other.ok(["inventory", "--output", "json"]).json();
    assert_eq!(taken.as_array().unwrap().len(), 5);
    let shown = lab.broker("inventory --orphans OpenStack");
    assert!(!shown.stdout.contains("not held"), "{shown}");
    // By the beginning of their names.
    let third = elsewhere(&lab, &lab.settings("page_size: 2"));
    let name = lab.inventory()[3]["name"].as_str().unwrap().to_owned();
    third.ok(["inventory", "--sync", &format!("OpenStack:{name}")]);
    let taken = third.ok(["inventory", "--output", "json"]).json();
    assert_eq!(taken[0]["name"], *name);
    assert_eq!(taken.as_array().unwrap().len(), 1);
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

#[test]
fn an_image_that_is_gone_is_asked_for_once() {
    let lab = Lab::new();
    let image = json!({"name": "short-lived", "disk_format": "raw", "container_format": "bare"});
    let image = lab.project().upload(&image, &[0; 4096]);
    lab.broker("checkout --ostack-image short-lived --ostack-wait active --count 3");
    lab.project().user.delete(Service::Image, &format!("/images/{image}"));
    let other = elsewhere(&lab, &lab.settings(""));
    let asked = || lab.wire.asked("GET", "images/*").len();
    let before = asked();
    other.ok(["inventory", "--sync", "OpenStack"]);
    let taken = other.ok(["inventory", "--output", "json"]).json();
    assert!(taken.as_array().unwrap().iter().all(|host| host["image_id"] == image.as_str()), "{taken}");
    assert_eq!((taken.as_array().unwrap().len(), asked() - before), (3, 1));
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

/// What else there is of a host makes no host of it, and goes with its checkin.
#[test]
fn a_host_that_has_lost_its_server_has_vanished() {
    let lab = Lab::new();
    lab.project().connect_outside();
    lab.broker("checkout --ostack-image tiny --ostack-wait active --ostack-floating-network public");
    let id = lab.inventory()[0]["id"].as_str().unwrap().parse().unwrap();
    lab.project().remove(id);
    let orphans = lab.broker("inventory --orphans OpenStack");
    assert!(orphans.stdout.contains("not there"), "{orphans}");
    lab.broker("inventory --sync OpenStack");
    assert_eq!(lab.inventory()[0]["state"], "vanished");
    lab.broker("inventory --sync OpenStack");
    assert_eq!(lab.inventory()[0]["state"], "vanished");
    // The key pair and the floating address.
    assert_eq!(lab.project().hosts().into_iter().collect::<Vec<HostId>>(), [id]);
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

#[test]
fn what_no_inventory_has_is_shown_and_left_until_its_lease_is_over() {
    let lab = Lab::new();
    lab.broker("checkout --ostack-image tiny --lease 1h --ostack-wait active");
    let other = elsewhere(&lab, &lab.settings(""));
    let orphans = other.ok(["inventory", "--orphans", "OpenStack", "--output", "json"]).json();
    assert!(orphans.to_string().contains(lab.inventory()[0]["id"].as_str().unwrap()), "{orphans}");
    let reaped = other.ok(["reap", "--unknown", "--provider", "OpenStack", "--yes", "--output", "json"]).json();
    assert_eq!(reaped, json!([]), "its lease goes on");
    assert_eq!(lab.project().servers().len(), 1);
    // Somebody else's are nobody's business.
    let stranger = TestEnv::new();
    stranger.write_settings(&lab.settings(""));
    let orphans = stranger.ok(["inventory", "--orphans", "OpenStack", "--output", "json"]).json();
    assert!(!orphans.to_string().contains(lab.inventory()[0]["id"].as_str().unwrap()), "{orphans}");
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

#[test]
fn an_entry_of_the_python_tool_is_the_one_server_of_its_name_and_address() {
    let lab = Lab::new();
    // Two of one name, and one whose name begins like theirs.
    for name in ["web", "web", "web-2"] {
        lab.env.ok(["checkout", "--ostack-image", "tiny", "--ostack-wait", "active", "--name", name]);
    }
    let hosts = lab.inventory();
    let entry = |hostname: &str| {
        format!(
            "- hostname: {hostname}\n  name: web\n  _broker_provider: OpenStack\n  _broker_args:\n    ostack_image: tiny\n"
        )
    };
    let other = elsewhere(&lab, &lab.settings(""));
    let address = hosts[1]["address"].as_str().unwrap();
    std::fs::write(other.directory().join("inventory.yaml"), entry(address)).unwrap();
    other.ok(["checkin", "--all", "--yes"]);
    let left: Vec<HostId> =
        lab.project().servers().iter().filter_map(broker_tests::openstack::Place::host_of).collect();
    assert_eq!(left.len(), 2, "only one has gone");
    assert!(!left.contains(&hosts[1]["id"].as_str().unwrap().parse().unwrap()));

    // An address that none of them has means none of them.
    let other = elsewhere(&lab, &lab.settings(""));
    std::fs::write(other.directory().join("inventory.yaml"), entry("192.0.2.1")).unwrap();
    let ran = other.broker(["checkin", "--all", "--yes"]);
    assert_ne!(ran.code, Some(0), "{ran}");
    assert_eq!(lab.project().servers().len(), 2);
    assert_eq!(lab.inventory()[1]["id"], json!(hosts[1]["id"]));
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}
