//! The life of a server: out, used, and in again.

use std::collections::{BTreeMap, BTreeSet};

use broker_tests::openstack::Service;
use serde_json::json;

use crate::Lab;

#[test]
fn the_main_job() {
    let lab = Lab::new();
    lab.broker("checkout --ostack-image tiny --count 2");
    // A key pair of its own for each.
    assert_eq!(lab.project().keypairs().len(), 2);
    let hosts = lab.inventory();
    for (number, host) in hosts.iter().enumerate() {
        let said = lab.env.ok(["exec", &number.to_string(), "--", "hostname; whoami"]);
        assert_eq!(said.stdout, format!("{}\ndebian\n", host["hostname"].as_str().unwrap()));
        let server = lab.project().server(host["id"].as_str().unwrap().parse().unwrap());
        assert_eq!(host["instance_id"], server["id"]);
        for (fact, value) in [
            ("image", "tiny"),
            ("flavor", "m1.nano"),
            ("project", &*lab.project().name),
            ("user", &*lab.tenant.user),
            ("region", "RegionOne"),
            ("username", "debian"),
            ("_broker_provider", "OpenStack"),
        ] {
            assert_eq!(host[fact], value, "{host}");
        }
        assert_eq!(host["address"], server["addresses"]["case-net"][0]["addr"]);
        assert_eq!(host["handle"]["ssh_private_key"], "***", "the key is a secret");
    }
    lab.broker("checkin 0");
    assert_eq!((lab.project().servers().len(), lab.project().keypairs().len()), (1, 1));
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

#[test]
fn a_server_is_as_it_was_asked_for() {
    let lab = Lab::new();
    let script = lab.env.write("setup.sh", "#!/bin/sh\necho from user data > /var/lib/guest/said\n");
    let range = lab.project().range();
    for name in ["web", "ssh"] {
        lab.project().make("security-groups", "security_group", &json!({ "name": name }));
    }
    lab.env.ok([
        "checkout",
        "--ostack-image",
        "tiny",
        "--name",
        "My_Server",
        "--ostack-network",
        &format!("case-net={range}.77"),
        "--ostack-key-name",
        "case-key",
        "--ostack-security-groups",
        "web,ssh",
        "--ostack-availability-zone",
        "nova",
        "--ostack-user-data-file",
        &script.to_string_lossy(),
        "--ostack-config-drive",
        "true",
        "--ostack-metadata",
        "team=a,purpose=test",
        "--ostack-tags",
        "blue,green",
        "--provider-labels",
        "from=label",
        "--lease",
        "1h",
    ]);
    let host = &lab.inventory()[0];
    assert_eq!((&host["name"], &host["hostname"]), (&json!("My_Server"), &json!("my-server")));
    assert_eq!(host["address"], format!("{range}.77"));
    let id = host["id"].as_str().unwrap();
    let server = lab.project().server(id.parse().unwrap());
    assert_eq!((&server["key_name"], &server["config_drive"]), (&json!("case-key"), &json!("True")));
    let groups: BTreeSet<&str> =
        server["security_groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!(groups, BTreeSet::from(["web", "ssh"]));
    // The lab has but one zone, which is also that of servers that name none.
    assert_eq!((&server["OS-EXT-AZ:availability_zone"], &host["availability_zone"]), (&json!("nova"), &json!("nova")));
    let asked = lab.wire.asked("POST", "servers");
    assert_eq!(asked[0]["server"]["availability_zone"], "nova", "{asked:?}");
    let metadata: BTreeMap<String, String> = serde_json::from_value(server["metadata"].clone()).unwrap();
    for (key, value) in [("team", "a"), ("purpose", "test"), ("from", "label"), ("broker.id", id)] {
        assert_eq!(metadata[key], value);
    }
    let tags = server["tags"].as_array().unwrap();
    assert!(tags.contains(&json!("blue")) && tags.contains(&json!(format!("broker.id={id}"))), "{tags:?}");
    assert!(lab.project().keypairs().is_empty(), "no key pair is made where one is named");

    // The new lease is the server's, too.
    let before = metadata["broker.lease_until"].clone();
    lab.broker("extend 0 --lease 5h");
    let after = lab.project().metadata(id.parse().unwrap());
    let lease = lab.inventory()[0]["lease_until"].as_str().unwrap().to_owned();
    assert!(after["broker.lease_until"] > before && after["broker.lease_until"] == lease, "{after:?}, {lease}");
    assert_eq!(after["team"], "a");

    let key = lab.tenant.lab.key_file();
    lab.env.write_settings(&lab.settings(&format!("ssh: {{host_ssh_key_filename: {key:?}}}")));
    assert_eq!(lab.broker("exec 0 -- cat /var/lib/guest/said").stdout, "from user data\n");
    lab.broker("checkin 0");
    lab.nothing_is_left();
}

/// The lab has no volumes, so that what is asked for is all there is to see.
#[test]
fn a_server_can_be_wanted_on_a_volume() {
    let lab = Lab::new();
    let says = lab.fails("checkout --ostack-image tiny --ostack-volume-size 7 --ostack-wait active", 7);
    let asked = lab.wire.asked("POST", "servers");
    assert_eq!(asked.len(), 1, "{says}");
    let asked = &asked[0]["server"];
    let image = lab.project().user.get_json(Service::Image, "/images?name=tiny")["images"][0]["id"].clone();
    let disk = json!([{
        "boot_index": 0, "uuid": image, "source_type": "image", "destination_type": "volume", "volume_size": 7,
        "delete_on_termination": true,
    }]);
    assert_eq!((&asked["block_device_mapping_v2"], &asked["imageRef"]), (&disk, &json!("")));
    lab.nothing_is_left();
}

#[test]
fn a_zone_that_is_not_there_is_said_by_its_name() {
    let lab = Lab::with("default_availability_zone: nowhere");
    let says = lab.fails("checkout --ostack-image tiny", 7);
    assert!(says.contains("could not make server") && says.contains("availability zone"), "{says}");
    lab.broker("checkout --ostack-image tiny --ostack-wait active --ostack-availability-zone nova");
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

#[test]
fn a_server_has_the_networks_and_ports_that_it_was_to_have() {
    let lab = Lab::new();
    let project = lab.project();
    let range = project.range();
    let network = project.make("networks", "network", &json!({"name": "second"}))["id"].clone();
    let cidr = format!("{}9.0/24", range.trim_end_matches('1'));
    project.make("subnets", "subnet", &json!({"network_id": network, "ip_version": 4, "cidr": cidr}));
    lab.broker("checkout --ostack-image tiny --ostack-network second,case-net --ostack-wait active");
    let host = &lab.inventory()[0];
    let networks: Vec<&String> = host["addresses"].as_object().unwrap().keys().collect();
    assert_eq!(networks, ["second", "case-net"], "{host}");
    assert_eq!(host["address"], host["addresses"]["second"][0]);
    lab.broker("checkin 0");

    // Ports that the user has brought along come first, and stay the user's.
    let fixed = json!([{"ip_address": format!("{range}.88")}]);
    let port = json!({"network_id": project.network(), "name": "mine", "fixed_ips": fixed});
    let port = project.make("ports", "port", &port)["id"].clone();
    let path = format!("/ports/{}", port.as_str().unwrap());
    let line = format!("checkout --ostack-image tiny --ostack-port {}", port.as_str().unwrap());
    let line = [line.split_whitespace().collect(), vec!["--ostack-network", "second"]].concat();
    lab.env.ok(&line);
    let host = &lab.inventory()[0];
    assert_eq!(host["address"], format!("{range}.88"));
    assert_eq!(lab.broker("exec 1 -- whoami").stdout, "debian\n");
    let device = || project.user.get_json(Service::Network, &path)["port"]["device_id"].clone();
    assert_eq!(device(), host["instance_id"]);
    lab.broker("checkin 1");
    assert_eq!(device(), "");

    // Also where it still names a server that is gone, as it does where Nova broke off. Others go then.
    lab.env.ok(&line);
    let host = lab.inventory()[0].clone();
    project.remove(host["id"].as_str().unwrap().parse().unwrap());
    let named = json!({"port": {"device_id": host["instance_id"]}});
    assert_eq!(project.user.ask("PUT", Service::Network, &path, Some(&named)).status, 200);
    let left = json!({"network_id": project.network(), "device_id": host["instance_id"]});
    let left = project.make("ports", "port", &left)["id"].clone();
    lab.broker("checkin --all --yes");
    assert_eq!(device(), host["instance_id"]);
    let path = format!("/ports/{}", left.as_str().unwrap());
    assert_eq!(project.user.ask("GET", Service::Network, &path, None).status, 404);
    lab.nothing_is_left();
}

#[test]
fn ready_is_what_a_command_says() {
    let lab = Lab::new();
    let script = "#!/bin/sh\nsleep 2; touch /var/lib/guest/up\n";
    let ready = |path: &str| format!("test -e /var/lib/guest/{path}");
    lab.env.ok([
        "checkout",
        "--ostack-image",
        "tiny",
        "--ostack-user-data",
        script,
        "--ostack-ready-command",
        &ready("up"),
    ]);
    lab.env.ok(["exec", "0", "--", &ready("up")]);
    let ran = lab.env.broker([
        "checkout",
        "--ostack-image",
        "tiny",
        "--ostack-ready-command",
        &ready("never"),
        "--ostack-ready-timeout",
        "3s",
    ]);
    ran.expect(7);
    assert!(ran.stderr.contains("did not succeed within 3s: it exited with 1"), "{ran}");
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

#[test]
fn a_template_and_a_nick_say_it_once() {
    let lab = Lab::with("templates: {small: {image: tiny, flavor: m1.tiny, network: case-net}}\nip_version: 4");
    lab.broker("checkout --ostack-template small");
    assert_eq!(lab.inventory()[0]["flavor"], "m1.tiny");
    let says = lab.fails("checkout --ostack-template large", 7);
    assert!(says.contains("there is no template `large`") && says.contains("`small`"), "{says}");
    lab.broker("duplicate 0");
    assert_eq!(lab.inventory()[1]["flavor"], "m1.tiny");
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}
