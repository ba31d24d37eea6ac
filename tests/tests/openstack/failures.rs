//! What is said of a request that cannot be, and what stays of it.

use broker_tests::openstack::Service;
use serde_json::json;

use crate::Lab;

#[test]
fn an_ambiguous_name_lists_what_there_is() {
    let lab = Lab::new();
    let user = &lab.project().user;
    let ids = [0, 1].map(|_| {
        let made = user.post(Service::Network, "/networks", &json!({"network": {"name": "twice"}}));
        made["network"]["id"].as_str().unwrap().to_owned()
    });
    let says = lab.fails("checkout --ostack-image tiny --ostack-network twice", 7);
    assert!(says.contains("there are 2 networks `twice`"), "{says}");
    assert!(ids.iter().all(|id| says.contains(id.as_str())), "{says}");
    // An id says which.
    let says = lab.fails(&format!("checkout --ostack-image tiny --ostack-network {}", ids[0]), 7);
    assert!(says.contains("network `twice` has no subnet"), "{says}");
    lab.nothing_is_left();
}

#[test]
fn a_quota_is_looked_at_before_anything_is_made() {
    let lab = Lab::new();
    lab.tenant.set_quota(lab.project(), Service::Compute, &json!({"instances": 1}));
    let says = lab.fails("checkout --ostack-image tiny --count 2", 7);
    assert!(says.contains("2 servers are wanted, and 0 of 1 are used"), "{says}");
    assert!(lab.project().servers().is_empty());
    lab.broker("checkout --ostack-image tiny");
    lab.fails("checkout --ostack-image tiny", 7);
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

#[test]
fn wrong_credentials_are_told_from_a_cloud_that_is_not_there() {
    let lab = Lab::new();
    let settings = lab.settings("").replace("case-password", "hunter2");
    lab.env.write_settings(&settings);
    let says = lab.fails("checkout --ostack-image tiny", 5);
    assert!(says.contains("does not take these credentials (req-") && !says.contains("hunter2"), "{says}");
    lab.env.write_settings(&lab.settings("").replace("/identity/v3", "/identity/nonsense"));
    let says = lab.fails("checkout --ostack-image tiny", 8);
    assert!(says.contains("is no address of Keystone (req-"), "{says}");
    lab.env.write_settings("OpenStack: {auth_url: 'http://127.0.0.1:1', username: a, password: b, project_name: c}\n");
    let says = lab.fails("checkout --ostack-image tiny", 7);
    assert!(says.contains("no answer from `http://127.0.0.1:1/v3`"), "{says}");
}

/// What an image takes on a disk is what counts, and not how large its file is.
#[test]
fn an_image_that_unfolds_to_more_than_the_disk_is_not_begun_with() {
    let lab = Lab::new();
    let image = json!({"name": "unfolds", "disk_format": "qcow2", "container_format": "bare"});
    let image = lab.project().upload(&image, &qcow2(5 << 30));
    let says = lab.fails("checkout --ostack-image unfolds", 7);
    assert!(says.contains("image `unfolds` needs a disk of 5 GiB, and flavor `m1.nano` has one of 1 GiB"), "{says}");
    assert!(lab.wire.asked("POST", "servers").is_empty());
    lab.project().user.delete(Service::Image, &format!("/images/{image}"));
    lab.nothing_is_left();
}

/// An image of a disk of so many bytes on which nothing was ever written.
fn qcow2(size: u64) -> Vec<u8> {
    const CLUSTER_BITS: u32 = 16;
    let mut image = b"QFI\xfb".to_vec();
    // Version 2, without another image behind it.
    image.extend([2_u32.to_be_bytes(), [0; 4], [0; 4], [0; 4], CLUSTER_BITS.to_be_bytes()].concat());
    image.extend(size.to_be_bytes());
    // Not encrypted; the table of its clusters is in the second one, and that of who uses them in the third.
    image.extend([[0; 4], 16_u32.to_be_bytes()].concat());
    image.extend([1_u64 << CLUSTER_BITS, 2 << CLUSTER_BITS].map(u64::to_be_bytes).concat());
    image.extend([1_u32.to_be_bytes(), [0; 4]].concat());
    image.extend([0; 8]);
    image.resize(4 << CLUSTER_BITS, 0);
    image
}

#[test]
fn a_server_that_is_never_ready_shows_its_console() {
    let lab = Lab::new();
    let says = lab.fails("checkout --ostack-image tiny --ostack-ssh-port 9 --ostack-ssh-timeout 4s", 7);
    assert!(says.contains("within 4s nothing spoke SSH at port 9"), "{says}");
    assert!(says.contains("its console ends with") && says.contains("login:"), "{says}");
    lab.nothing_is_left();
}

#[test]
fn a_cloud_of_clouds_yaml_is_meant_by_its_name() {
    let mut lab = Lab::new();
    let clouds = format!("clouds: {{mine: {{auth: {{{}}}, profile: lab}}}}", lab.tenant.credentials(lab.project()));
    let clouds = clouds.replace("password: case-password, ", "");
    lab.env.write("home/.config/openstack/clouds.yaml", clouds);
    lab.env.write("home/.config/openstack/secure.yaml", "clouds: {mine: {auth: {password: case-password}}}");
    let public = format!("public-clouds: {{lab: {{auth: {{auth_url: '{}'}}}}}}", lab.tenant.lab.auth_url);
    lab.env.write("home/.config/openstack/clouds-public.yaml", public);
    lab.env.write_settings("OpenStack: {default_flavor: m1.nano, default_user: debian}\n");
    lab.env.set("OS_CLOUD", "mine");
    // There is but one network of the project's own, so nobody has to say which.
    lab.broker("checkout --ostack-image tiny");
    let host = &lab.inventory()[0];
    assert_eq!((&host["cloud"], &host["project"]), (&json!("mine"), &json!(lab.project().name)));
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
    lab.env.set("OS_CLOUD", "yours");
    let says = lab.fails("checkout --ostack-image tiny", 8);
    assert!(says.contains("there is no cloud `yours`") && says.contains("`mine`"), "{says}");
}
