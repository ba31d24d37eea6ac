//! The services' answers beside those that were recorded: a service of another version that tells less, or tells it under
//! another name, shows here first.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use broker_tests::openstack::{Answer, KEY, Service, ask, ask_with};
use broker_tests::wait;
use serde_json::{Value, json};

use crate::Lab;
use crate::logins::application_credential;

/// An id that nothing has.
const NOTHING: &str = "6a6a6a6a-0000-4000-8000-000000000000";

/// How often a server is looked at.
const PERIOD: Duration = Duration::from_millis(300);

/// What was recorded of one call: its status, and its body.
fn exchange(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/openstack/captures").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn recorded(name: &str) -> Value {
    exchange(name)["body"].clone()
}

/// Compares a refusal with the one that was recorded: its status and fields, and its words but for ids and numbers. By the
/// words a quota is told from what is not allowed, and a version that is too new from the newest one.
#[track_caller]
fn refused(name: &str, now: &Answer) {
    let before = exchange(name);
    assert_eq!(before["status"], now.status, "{name}: {now:?}");
    assert_eq!(without_numbers(&before["body"]), without_numbers(&now.body), "{name}");
}

/// The same with `#` for all that is an id, an address or a number.
fn without_numbers(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), without_numbers(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_numbers).collect(),
        Value::String(text) => {
            let mut plain = String::new();
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let is_of_number = |character: char| character.is_ascii_hexdigit() || "-.".contains(character);
                let end = rest.find(|character: char| !is_of_number(character)).unwrap_or(rest.len());
                let (run, after) = rest.split_at(end);
                plain.push_str(if run.contains(|character: char| character.is_ascii_digit()) { "#" } else { run });
                let next = after.find(is_of_number).unwrap_or(after.len());
                plain.push_str(&after[..next]);
                rest = &after[next..];
            }
            plain.into()
        }
        other => other.clone(),
    }
}

fn fields(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("no mapping: {value}")).keys().map(String::as_str).collect()
}

/// Compares what is at a path in both.
#[track_caller]
fn alike(name: &str, now: &Value, path: &str) {
    let before = recorded(name);
    let at = |whole: &Value| whole.pointer(path).unwrap_or_else(|| panic!("{name} has no `{path}`: {whole}")).clone();
    let (before, now) = (at(&before), at(now));
    assert_eq!(fields(&before), fields(&now), "{name}{path}");
}

#[test]
fn answers_have_the_fields_that_were_recorded() {
    let lab = Lab::new();
    let user = &lab.project().user;
    lab.broker("checkout --ostack-image tiny");
    let id = lab.inventory()[0]["instance_id"].as_str().unwrap().to_owned();
    let get = |service, path: &str| user.get_json(service, path);
    let server = get(Service::Compute, &format!("/servers/{id}"));
    alike("server-show-active-2.79", &server, "/server");
    let address =
        |server: &Value| server["server"]["addresses"].as_object().unwrap().values().next().unwrap()[0].clone();
    assert_eq!(fields(&address(&recorded("server-show-active-2.79"))), fields(&address(&server)));
    alike("servers-detail-2.79", &get(Service::Compute, "/servers/detail"), "/servers/0");
    alike("servers-list-limit", &get(Service::Compute, "/servers?limit=1"), "/servers_links/0");
    let group = json!({"server_group": {"name": "apart", "policy": "anti-affinity"}});
    let group = user.post(Service::Compute, "/os-server-groups", &group);
    alike("server-groups-list-2.79", &get(Service::Compute, "/os-server-groups"), "/server_groups/0");
    user.delete(Service::Compute, &format!("/os-server-groups/{}", group["server_group"]["id"].as_str().unwrap()));
    alike("flavors-detail-2.79", &get(Service::Compute, "/flavors/detail"), "/flavors/0");
    // Recorded of an older version of the API, which told more.
    let limits = get(Service::Compute, "/limits");
    let told = recorded("limits");
    for field in [
        "maxTotalInstances",
        "maxTotalCores",
        "maxTotalRAMSize",
        "totalInstancesUsed",
        "totalCoresUsed",
        "totalRAMUsed",
    ] {
        let at = |whole: &Value| whole["limits"]["absolute"][field].is_i64();
        assert!(at(&limits) && at(&told), "{field}: {limits}");
    }
    for (keypairs, of) in [(get(Service::Compute, "/os-keypairs"), "now"), (recorded("keypairs-list"), "then")] {
        let keypair = &keypairs["keypairs"][0]["keypair"];
        assert!(
            ["name", "public_key", "fingerprint"].iter().all(|field| keypair[field].is_string()),
            "{of}: {keypair}"
        );
    }
    let console = json!({"os-getConsoleOutput": {"length": 10}});
    alike("server-console-log", &user.post(Service::Compute, &format!("/servers/{id}/action"), &console), "");
    let images = get(Service::Image, "/images?name=tiny");
    alike("images-list", &images, "/images/0");
    alike("image-list-limit", &get(Service::Image, "/images?limit=1"), "");
    alike("networks-list", &get(Service::Network, "/networks?name=public"), "/networks/0");
    alike("ports-list-device", &get(Service::Network, &format!("/ports?device_id={id}")), "/ports/0");
    alike("security-groups-list", &get(Service::Network, "/security-groups"), "/security_groups/0");
    alike("network-quota", &get(Service::Network, &format!("/quotas/{}", user.project)), "/quota");
    let pool = get(Service::Network, "/networks?name=public")["networks"][0]["id"].clone();
    let made = user.post(Service::Network, "/floatingips", &json!({"floatingip": {"floating_network_id": pool}}));
    alike("floatingip-create", &made, "/floatingip");
    let listed = get(Service::Network, "/floatingips");
    alike("floatingips-list", &listed, "/floatingips/0");
    let keypair = get(Service::Compute, &format!("/os-keypairs/{KEY}"));
    for (keypair, of) in [(keypair, "now"), (recorded("keypair-show"), "then")] {
        let told = fields(&keypair["keypair"]);
        assert!(["name", "public_key", "fingerprint"].iter().all(|field| told.contains(field)), "{of}: {keypair}");
    }
    // An image's own properties are fields too.
    let image = get(Service::Image, &format!("/images/{}", images["images"][0]["id"].as_str().unwrap()));
    let of_image = fields(&image);
    for field in ["id", "name", "status", "size", "virtual_size", "min_disk", "min_ram", "visibility", "created_at"] {
        assert!(of_image.contains(field) && fields(&recorded("image-show")).contains(field), "{field}: {image}");
    }
    lab.broker("checkin --all --yes");
}

/// Answers to what makes something, and to logging in.
#[test]
fn answers_to_orders_have_the_fields_that_were_recorded() {
    let lab = Lab::new();
    let user = &lab.project().user;
    let tokens = format!("{}/auth/tokens", lab.tenant.lab.auth_url);
    let log_in = |password: &str| {
        let domain = json!({"name": "Default"});
        let of_user = json!({"name": lab.tenant.user, "domain": domain, "password": password});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": of_user}},
            "scope": {"project": {"name": lab.project().name, "domain": domain}},
        }});
        ask("POST", &tokens, None, Some(&body))
    };
    let token = log_in("case-password");
    assert!(token.header("x-subject-token").is_some());
    for path in ["/token", "/token/user", "/token/project", "/token/catalog/0", "/token/catalog/0/endpoints/0"] {
        alike("auth-tokens-project-scoped", &token.body, path);
    }
    refused("auth-tokens-wrong-password", &log_in("wrong"));
    let (path, made) = application_credential(&lab);
    let credential = json!({"id": made["id"], "secret": made["secret"]});
    let identity = json!({"methods": ["application_credential"], "application_credential": credential});
    let token = ask("POST", &tokens, None, Some(&json!({"auth": {"identity": identity}})));
    assert!(token.header("x-subject-token").is_some());
    for path in ["/token", "/token/user", "/token/project", "/token/catalog/0", "/token/catalog/0/endpoints/0"] {
        alike("auth-tokens-application-credential", &token.body, path);
    }
    user.delete(Service::Identity, &path);

    let body = json!({"keypair": {"name": "own", "public_key": lab.tenant.lab.public_key()}});
    let keypair = user.post(Service::Compute, "/os-keypairs", &body);
    // Recorded of an older version of the API, which told less.
    for keypair in [&keypair, &recorded("keypair-import")] {
        let told = fields(&keypair["keypair"]);
        assert!(["name", "public_key", "fingerprint", "user_id"].iter().all(|field| told.contains(field)), "{keypair}");
    }
    let image = user.get_json(Service::Image, "/images?name=tiny")["images"][0]["id"].clone();
    let flavors = user.get_json(Service::Compute, "/flavors");
    let flavor = flavors["flavors"].as_array().unwrap().iter().find(|flavor| flavor["name"] == "m1.nano").unwrap();
    let server = |key: &str| {
        json!({"server": {
            "name": "one", "imageRef": image, "flavorRef": flavor["id"], "key_name": key,
            "networks": [{"uuid": lab.project().network()}], "metadata": {"a": "b"},
        }})
    };
    let made = user.post(Service::Compute, "/servers", &server("own"));
    alike("server-create-2.79", &made, "/server");
    let id = made["server"]["id"].as_str().unwrap();
    let path = format!("/servers/{id}");
    let shown = || user.ask("GET", Service::Compute, &path, None);
    let building = shown().body;
    assert_eq!(building["server"]["status"], "BUILD", "it was seen too late to be compared");
    without_later("server-show-build", &building);
    wait::until_every(PERIOD, wait::SOON, "the server to be active", || shown().body["server"]["status"] == "ACTIVE");
    let metadata = user.post(Service::Compute, &format!("/servers/{id}/metadata"), &json!({"metadata": {"c": "d"}}));
    alike("server-metadata-set", &metadata, "");
    let done = |name: &str, now: Answer| assert_eq!(exchange(name)["status"], now.status, "{name}: {now:?}");
    done("server-delete", user.ask("DELETE", Service::Compute, &path, None));
    // Then it is there for a moment, or gone already.
    let going = shown();
    if going.status == 200 {
        without_later("server-show-deleting", &going.body);
    }
    wait::until_every(PERIOD, wait::SOON, "the server to be gone", || shown().status == 404);
    refused("server-show-404", &shown());
    refused("server-delete-404", &user.ask("DELETE", Service::Compute, &path, None));
    // A newer version of the API says it with another status.
    assert_eq!(user.ask("DELETE", Service::Compute, "/os-keypairs/own", None).status, 204);
}

/// Compares a server with one that was recorded in an older version of the API, which told less: nothing of that has gone.
#[track_caller]
fn without_later(name: &str, now: &Value) {
    let before = recorded(name);
    let missing: Vec<_> =
        fields(&before["server"]).difference(&fields(&now["server"])).map(|&field| field.to_owned()).collect();
    assert!(missing.is_empty(), "{name}: {missing:?}");
}

/// What is said of orders that cannot be done: by each service in its own form.
#[test]
fn refusals_have_the_words_that_were_recorded() {
    let lab = Lab::new();
    let project = lab.project();
    let user = &project.user;
    for (name, service, path) in [
        ("compute-401", Service::Compute, "/servers"),
        ("network-401", Service::Network, "/networks"),
        ("image-401", Service::Image, "/images"),
    ] {
        refused(name, &ask("GET", &format!("{}{path}", user.address(service)), Some("bad"), None));
    }
    let scope = json!({"project": {"name": "nosuch", "domain": {"name": "Default"}}});
    refused("auth-tokens-unknown-project", &lab.tenant.try_to_log_in(&scope));

    // Nova.
    let image = user.get_json(Service::Image, "/images?name=tiny")["images"][0]["id"].clone();
    let flavors = user.get_json(Service::Compute, "/flavors");
    let flavor = |name: &str| {
        let all = flavors["flavors"].as_array().unwrap();
        all.iter().find(|flavor| flavor["name"] == name).unwrap()["id"].clone()
    };
    let server = |changes: Value| {
        let mut server = json!({
            "name": "cap-1", "imageRef": image, "flavorRef": flavor("m1.tiny"), "key_name": KEY,
            "networks": [{"uuid": project.network()}],
        });
        server.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({ "server": server })
    };
    let large = {
        let found = user.get_json(Service::Image, &format!("/images?name={}", lab.tenant.lab.hungry_image()));
        found["images"][0]["id"].clone()
    };
    lab.tenant.set_quota(project, Service::Compute, &json!({"instances": 10, "cores": 20}));
    for (name, changes) in [
        ("server-create-invalid-flavor-400", json!({"flavorRef": "nosuch"})),
        ("server-create-invalid-image-400", json!({"imageRef": NOTHING})),
        ("server-create-image-not-uuid-400", json!({"imageRef": "nosuch"})),
        ("server-create-invalid-key-400", json!({"key_name": "nosuch"})),
        ("server-create-invalid-network-400", json!({"networks": [{"uuid": NOTHING}]})),
        ("server-create-invalid-az-400", json!({"availability_zone": "nosuch"})),
        ("server-create-invalid-name-400", json!({"name": ""})),
        ("server-create-flavor-too-small-400", json!({"imageRef": large})),
        ("server-create-bad-security-group-400", json!({"security_groups": [{"name": "nosuch"}]})),
        ("server-create-quota-403", json!({"min_count": 50, "max_count": 50})),
        ("server-create-quota-cores-403", json!({"flavorRef": flavor("m1.large"), "min_count": 6, "max_count": 6})),
    ] {
        refused(name, &user.ask("POST", Service::Compute, "/servers", Some(&server(changes))));
    }
    let headers = [("X-Auth-Token", user.token.as_str()), ("OpenStack-API-Version", "compute 9.99")];
    let url = format!("{}/servers", user.address(Service::Compute));
    refused("server-create-bad-microversion-406", &ask_with("POST", &url, &headers, Some(&server(json!({})))));
    let none = user.post(Service::Compute, "/servers", &server(json!({"flavorRef": flavor("x1.impossible")})));
    let path = format!("/servers/{}", none["server"]["id"].as_str().unwrap());
    let shown = || user.get_json(Service::Compute, &path);
    wait::until_every(PERIOD, wait::SOON, "it to find no room", || shown()["server"]["status"] == "ERROR");
    alike("server-show-error-fault", &shown(), "/server/fault");
    assert_eq!(
        shown()["server"]["fault"]["message"],
        recorded("server-show-error-fault")["server"]["fault"]["message"]
    );
    user.delete(Service::Compute, &path);
    let import = |name: &str, key: &str| {
        let body = json!({"keypair": {"name": name, "public_key": key, "type": "ssh"}});
        user.ask("POST", Service::Compute, "/os-keypairs", Some(&body))
    };
    let public = lab.tenant.lab.public_key();
    assert_eq!(import("cap-key", &public).status, 201);
    refused("keypair-import-409", &import("cap-key", &public));
    refused("keypair-import-400", &import("cap-bad", "not a key"));

    // Neutron and Glance.
    refused("network-404", &user.ask("GET", Service::Network, "/networks/nosuch", None));
    refused("image-show-404", &user.ask("GET", Service::Image, &format!("/images/{NOTHING}"), None));
    project.connect_outside();
    let pool = user.get_json(Service::Network, "/networks?name=public")["networks"][0]["id"].clone();
    let take = |more: Value| {
        let mut body = json!({ "floating_network_id": pool });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        user.ask("POST", Service::Network, "/floatingips", Some(&json!({ "floatingip": body })))
    };
    refused("floatingip-create-bad-network-400", &take(json!({"floating_network_id": project.network()})));
    let port = user.post(Service::Network, "/ports", &json!({"port": {"network_id": project.network()}}));
    let first = take(json!({"port_id": port["port"]["id"]}));
    assert_eq!(first.status, 201, "{first:?}");
    refused("floatingip-create-port-taken-409", &take(json!({"port_id": port["port"]["id"]})));
    lab.tenant.set_quota(project, Service::Network, &json!({"floatingip": 1}));
    refused("floatingip-create-quota-409", &take(json!({})));
    let path = format!("/floatingips/{}", first.body["floatingip"]["id"].as_str().unwrap());
    assert_eq!(exchange("floatingip-delete")["status"], user.ask("DELETE", Service::Network, &path, None).status);
    refused("floatingip-delete-404", &user.ask("DELETE", Service::Network, &path, None));
}
