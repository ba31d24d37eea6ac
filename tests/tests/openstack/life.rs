//! The life of a server: out, used, and in again.

use std::collections::BTreeMap;

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
        "default",
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
    assert_eq!(server["security_groups"], json!([{"name": "default"}]));
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
