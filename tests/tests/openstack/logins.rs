//! The ways to log in, and which of a cloud's addresses are asked then.

use broker_tests::openstack::Service;
use serde_json::{Value, json};

use crate::Lab;

/// The settings without the lines that begin with one of these, and with others instead.
fn instead(lab: &Lab, without: &[&str], more: &str) -> String {
    let settings = lab.settings("");
    let kept = settings.lines().filter(|line| !without.iter().any(|key| line.trim_start().starts_with(key)));
    let kept = kept.fold(String::new(), |text, line| text + line + "\n");
    more.lines().fold(kept, |text, line| text + "  " + line + "\n")
}

const LOGIN: &[&str] = &["username", "password", "project_name"];

/// Has an application credential made for the user, and returns where it is, and what it is.
pub(crate) fn application_credential(lab: &Lab) -> (String, Value) {
    let admin = lab.tenant.lab.admin();
    let users = admin.get_json(Service::Identity, &format!("/users?name={}", lab.tenant.user));
    let path = format!("/users/{}/application_credentials", users["users"][0]["id"].as_str().unwrap());
    let body = json!({"application_credential": {"name": "ci", "roles": [{"name": "member"}]}});
    let made = lab.project().user.post(Service::Identity, &path, &body)["application_credential"].clone();
    (format!("{path}/{}", made["id"].as_str().unwrap()), made)
}

#[test]
fn an_application_credential_opens_its_project() {
    let mut lab = Lab::new();
    let (path, made) = application_credential(&lab);
    let [id, secret] = ["id", "secret"].map(|field| made[field].as_str().unwrap().to_owned());
    let by_id = format!("application_credential_id: {id}\napplication_credential_secret: {secret}");
    lab.env.write_settings(&instead(&lab, LOGIN, &by_id));
    lab.broker("checkout --ostack-image tiny --ostack-wait active");
    let host = &lab.inventory()[0];
    assert_eq!((&host["project"], &host["user"]), (&json!(lab.project().name), &json!(lab.tenant.user)));

    // By its name, and by variables alone.
    let user = lab.tenant.user.clone();
    let by_name = format!("application_credential_name: ci\nusername: {user}\napplication_credential_secret: {secret}");
    lab.env.write_settings(&instead(&lab, LOGIN, &by_name));
    assert!(lab.broker("providers OpenStack --quota").stdout.contains("servers"));
    lab.env.write_settings("OpenStack: {default_flavor: m1.nano}\n");
    for (name, value) in [
        ("OS_AUTH_TYPE", "v3applicationcredential"),
        ("OS_AUTH_URL", &lab.tenant.lab.auth_url.clone()),
        ("OS_APPLICATION_CREDENTIAL_ID", &id),
        ("OS_APPLICATION_CREDENTIAL_SECRET", &secret),
    ] {
        lab.env.set(name, value);
    }
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();

    lab.project().user.delete(Service::Identity, &path);
    let says = lab.fails("providers OpenStack --quota", 5);
    assert!(says.contains("does not take these credentials") && !says.contains(&secret), "{says}");
}

#[test]
fn a_token_is_good_for_as_long_as_it_lasts() {
    let lab = Lab::new();
    let token = &lab.project().user.token;
    let project = &lab.project().name;
    let settings = instead(&lab, LOGIN, &format!("auth_type: v3token\ntoken: {token}\nproject_name: {project}"));
    lab.env.write_settings(&settings);
    lab.broker("checkout --ostack-image tiny --ostack-wait active");
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
    lab.env.write_settings(&settings.replace(token, "gAAAAABnonsense"));
    let says = lab.fails("checkout --ostack-image tiny", 5);
    assert!(says.contains("does not take these credentials") && !says.contains("gAAAAAB"), "{says}");
}

#[test]
fn the_catalog_says_where_the_services_of_a_region_are() {
    let lab = Lab::new();
    let overrides = &["compute_endpoint", "network_endpoint", "image_endpoint"];
    // Some clouds have the project in the address.
    let user = &lab.project().user;
    let with_project = format!("compute_endpoint_override: {}/{}", user.address(Service::Compute), user.project);
    for (more, region) in [
        ("interface: internal", "RegionOne"),
        ("region_name: RegionOne", "RegionOne"),
        (with_project.as_str(), "RegionOne"),
    ] {
        lab.env.write_settings(&instead(&lab, overrides, more));
        lab.broker("checkout --ostack-image tiny --ostack-wait active");
        assert_eq!(lab.inventory()[0]["region"], region);
        lab.broker("checkin --all --yes");
    }
    lab.env.write_settings(&instead(&lab, overrides, "region_name: Nowhere"));
    let says = lab.fails("checkout --ostack-image tiny", 8);
    assert!(says.contains("in region `Nowhere`") && says.contains("public in `RegionOne`"), "{says}");
    lab.nothing_is_left();
}
