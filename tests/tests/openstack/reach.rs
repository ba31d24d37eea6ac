//! How hosts are reached: at which address, as whom, and by whom.

use broker_tests::openstack::{NETWORK, Service};
use serde_json::json;

use crate::Lab;
use crate::sync::elsewhere;

#[test]
fn a_host_is_reached_at_the_kind_of_address_that_is_preferred() {
    let lab = Lab::new();
    let user = &lab.project().user;
    let cidr = format!("fd00:{:x}:{:x}::/64", fastrand::u16(..), fastrand::u16(..));
    let subnet = json!({"network_id": lab.project().network(), "ip_version": 6, "cidr": cidr});
    user.post(Service::Network, "/subnets", &json!({ "subnet": subnet }));
    // Its network is not what others expect any more.
    lab.tenant.spoil();
    lab.broker("checkout --ostack-image tiny --ostack-ip-version 6");
    lab.broker("checkout --ostack-image tiny --ostack-wait active");
    let hosts = lab.inventory();
    let address = |number: usize| hosts[number]["address"].as_str().unwrap();
    assert!(address(0).starts_with("fd00:") && !address(1).contains(':'), "{hosts:?}");
    assert_eq!(hosts[0]["addresses"][NETWORK].as_array().unwrap().len(), 2);
    assert_eq!(lab.broker("exec 0 -- whoami").stdout, "debian\n");
    // Whoever finds it later prefers the same.
    lab.broker("inventory --sync OpenStack");
    let other = elsewhere(&lab, &lab.settings(""));
    other.ok(["inventory", "--sync", "OpenStack"]);
    for found in [lab.inventory(), other.ok(["inventory", "--output", "json"]).json().as_array().unwrap().clone()] {
        let host = found.iter().find(|host| host["id"] == hosts[0]["id"]).unwrap();
        assert_eq!((&host["address"], &host["username"]), (&hosts[0]["address"], &json!("debian")));
    }
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

#[test]
fn a_host_that_was_found_has_no_key_of_its_own() {
    let lab = Lab::new();
    lab.broker("checkout --ostack-image tiny");
    let other = elsewhere(&lab, &lab.settings(""));
    other.ok(["inventory", "--sync", "OpenStack"]);
    let ran = other.broker(["exec", "0", "--", "true"]);
    ran.expect(255);
    assert!(
        ran.stderr.contains("the key that was made for it is in the inventory that it was checked out into"),
        "{ran}"
    );
    assert!(ran.stderr.contains("hint:"), "{ran}");
    // It can be checked in all the same, with the key pair.
    let ran = other.ok(["checkin", "0"]);
    assert!(!ran.stderr.contains("key pair"), "{ran}");
    assert!(lab.project().hosts().is_empty());
    // Another user of the project would not see the key pair, and could not remove it.
    lab.broker("checkout --ostack-image tiny --ostack-wait active");
    other.ok(["inventory", "--sync", "OpenStack"]);
    let id = lab.inventory().last().unwrap()["id"].as_str().unwrap().to_owned();
    lab.project().user.delete(Service::Compute, &format!("/os-keypairs/broker-{id}"));
    let ran = other.ok(["checkin", "--all", "--yes"]);
    assert!(ran.stderr.contains("this user has no such key pair"), "{ran}");
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

#[test]
fn an_image_says_what_it_is_and_who_its_user_is() {
    let lab = Lab::new();
    lab.env.write_settings(&lab.settings("").replace("default_user: debian", "name_prefix: ci"));
    let image = json!({
        "name": "own", "disk_format": "raw", "container_format": "bare", "os_admin_user": "debian",
        "os_distro": "debian", "os_version": "12",
    });
    let image = lab.project().upload(&image, &[0; 4096]);
    lab.broker("checkout --ostack-image own");
    let host = &lab.inventory()[0];
    for (fact, value) in [
        ("username", "debian"),
        ("os_distribution", "debian"),
        ("os_distribution_version", "12"),
        ("image_id", &*image),
    ] {
        assert_eq!(host[fact], value, "{host}");
    }
    assert!(host["name"].as_str().unwrap().starts_with("ci-"), "{host}");
    assert_eq!(lab.broker("exec 0 -- whoami").stdout, "debian\n");
    lab.broker("checkin 0");
    // The request has the last word.
    lab.broker("checkout --ostack-image own --ostack-user root");
    assert_eq!(lab.broker("exec 1 -- whoami").stdout, "root\n");
    lab.broker("checkin --all --yes");
    lab.project().user.delete(Service::Image, &format!("/images/{image}"));
    lab.nothing_is_left();
}
