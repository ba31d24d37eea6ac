//! Servers that are not as they should be, and those that are kept apart.

use std::time::Duration;

use broker_tests::openstack::{Kind, Service, Spoil, Way};
use broker_tests::wait;
use serde_json::{Value, json};

use crate::Lab;

/// Has an action done to a host's server by the administrator.
fn act(lab: &Lab, host: &Value, action: &Value) {
    let path = format!("/servers/{}/action", host["instance_id"].as_str().unwrap());
    let answer = lab.tenant.lab.admin().ask("POST", Service::Compute, &path, Some(action));
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[test]
fn broken_servers_go_as_others_do() {
    let lab = Lab::new();
    lab.broker("checkout --ostack-image tiny --ostack-wait active --count 2");
    let hosts = lab.inventory();
    act(&lab, &hosts[0], &json!({"os-resetState": {"state": "error"}}));
    act(&lab, &hosts[1], &json!({"os-stop": null}));
    let server = |host: &Value| lab.project().server(host["id"].as_str().unwrap().parse().unwrap());
    let is_off = || server(&hosts[1])["status"] == "SHUTOFF";
    wait::until_every(Duration::from_millis(300), wait::SOON, "it to be off", is_off);
    assert_eq!(server(&hosts[0])["status"], "ERROR");
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

/// The lab's Nova keeps none. By what it keeps a server could be had back.
#[test]
fn a_server_that_the_cloud_keeps_for_a_while_keeps_its_ports() {
    let lab = Lab::new();
    lab.broker("checkout --ostack-image tiny --ostack-wait active");
    let says = r#"{"server": {"id": "x", "status": "SOFT_DELETED"}}"#;
    let what = Kind { method: "GET", path: "servers/*", arrives: false };
    lab.wire.lead(Way::Spoilt { what, how: Spoil::Says(says), times: 1 });
    lab.broker("checkin 0");
    assert!(lab.wire.asked("GET", "ports").is_empty() && lab.wire.asked("DELETE", "ports/*").is_empty());
    assert!(lab.project().keypairs().is_empty());
    lab.broker("checkout --ostack-image tiny --ostack-wait active");
    lab.broker("checkin 1");
    assert_eq!(lab.wire.asked("GET", "ports").len(), 1, "they are looked for where the server has gone");
    lab.nothing_is_left();
}

/// The id of a new group `apart`, of servers that must not share a machine.
fn apart(lab: &Lab) -> String {
    let group = json!({"server_group": {"name": "apart", "policy": "anti-affinity"}});
    let made = lab.project().user.post(Service::Compute, "/os-server-groups", &group);
    made["server_group"]["id"].as_str().unwrap().to_owned()
}

/// Nova says that there is no room also where there is some in a moment.
#[test]
fn what_found_no_room_is_tried_once_more() {
    let lab = Lab::new();
    let group = apart(&lab);
    let line = "checkout --ostack-image tiny --ostack-wait active --ostack-server-group apart";
    lab.broker(line);
    let first = lab.inventory()[0]["id"].as_str().unwrap().parse().unwrap();
    let broker = lab.env.start(line.split_whitespace());
    let has_no_room = || lab.project().servers().iter().any(|server| server["status"] == "ERROR");
    wait::until_every(Duration::from_millis(100), wait::SOON, "the second one to find no room", has_no_room);
    lab.project().remove(first);
    broker.wait(wait::SOON).expect(0);
    assert_eq!(lab.wire.asked("POST", "servers").len(), 3);
    assert_eq!(lab.project().servers().len(), 1, "what found no room has gone");
    lab.broker("checkin --all --yes");
    lab.project().user.delete(Service::Compute, &format!("/os-server-groups/{group}"));
    lab.nothing_is_left();
}

/// The lab has one machine, so that the second of two servers that must not share one finds no room.
#[test]
fn servers_of_a_group_are_kept_apart() {
    let lab = Lab::new();
    let group = apart(&lab);
    let user = &lab.project().user;
    let path = format!("/os-server-groups/{group}");
    lab.broker("checkout --ostack-image tiny --ostack-wait active --ostack-server-group apart");
    let members = user.get_json(Service::Compute, &path)["server_group"]["members"].clone();
    assert_eq!(members, json!([lab.inventory()[0]["instance_id"]]));
    let says = lab.fails(&format!("checkout --ostack-image tiny --ostack-server-group {group}"), 7);
    assert!(says.contains("no machine of the cloud has room"), "{says}");
    let says = lab.fails("checkout --ostack-image tiny --ostack-server-group aparts", 7);
    assert!(says.contains("there is no server group `aparts`; similar: `apart`"), "{says}");
    lab.broker("checkin --all --yes");
    user.delete(Service::Compute, &path);
    lab.nothing_is_left();
}
