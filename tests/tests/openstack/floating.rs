//! Floating addresses: taken from a pool, and given back.

use broker_tests::openstack::Service;
use serde_json::json;

use crate::Lab;

#[test]
fn an_address_is_taken_and_given_back() {
    let lab = Lab::new();
    lab.project().connect_outside();
    lab.broker("checkout --ostack-image tiny --ostack-floating-network public");
    let host = &lab.inventory()[0];
    let address = host["address"].as_str().unwrap();
    assert!(address.starts_with("172.24.5."), "{host}");
    assert_eq!(host["floating_ip"], address);
    assert_eq!(lab.broker("exec 0 -- whoami").stdout, "debian\n");
    let id = host["id"].as_str().unwrap();
    let floating = lab.project().user.get_json(Service::Network, "/floatingips");
    assert_eq!(floating["floatingips"][0]["description"], format!("broker.id={id}"));
    lab.broker("checkin 0");
    lab.nothing_is_left();

    // One that is left alone by its server is still the host's.
    lab.broker("checkout --ostack-image tiny --ostack-floating-network public");
    let id = lab.inventory()[0]["id"].as_str().unwrap().parse().unwrap();
    let user = &lab.project().user;
    let floating = user.get_json(Service::Network, "/floatingips")["floatingips"][0]["id"].clone();
    let path = format!("/floatingips/{}", floating.as_str().unwrap());
    let alone = json!({"floatingip": {"port_id": null}});
    assert_eq!(user.ask("PUT", Service::Network, &path, Some(&alone)).status, 200);
    lab.project().remove(id);
    assert_eq!(lab.project().hosts().into_iter().collect::<Vec<_>>(), [id]);
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();

    lab.tenant.set_quota(lab.project(), Service::Network, &json!({"floatingip": 0}));
    let says = lab.fails("checkout --ostack-image tiny --ostack-floating-network public", 7);
    assert!(says.contains("floating address") && says.contains("Quota exceeded"), "{says}");
    lab.nothing_is_left();
}

#[test]
fn an_inner_network_is_no_pool() {
    let lab = Lab::new();
    let says = lab.fails("checkout --ostack-image tiny --ostack-floating-network case-net", 7);
    assert!(says.contains("network `case-net` is no external one"), "{says}");
    lab.nothing_is_left();
}
