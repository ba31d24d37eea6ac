//! The services' answers beside those that were recorded: a service of another version that tells less, or tells it under
//! another name, shows here first.

use std::collections::BTreeSet;
use std::path::Path;

use broker_tests::openstack::{Service, ask};
use broker_tests::wait;
use serde_json::{Value, json};

use crate::Lab;

fn recorded(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/openstack/captures").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()));
    serde_json::from_str::<Value>(&text).unwrap()["body"].clone()
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
    // Refusals, too.
    let nothing = "6a6a6a6a-0000-4000-8000-000000000000";
    alike(
        "server-show-404",
        &user.ask("GET", Service::Compute, &format!("/servers/{nothing}"), None).body,
        "/itemNotFound",
    );
    alike("network-404", &user.ask("GET", Service::Network, "/networks/nosuch", None).body, "/NeutronError");
    let body = json!({"keypair": {"name": "case-key", "public_key": lab.tenant.lab.public_key()}});
    let taken = user.ask("POST", Service::Compute, "/os-keypairs", Some(&body));
    alike("keypair-import-409", &taken.body, "/conflictingRequest");
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
    alike("auth-tokens-wrong-password", &log_in("wrong").body, "/error");

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
    let shown = || user.get_json(Service::Compute, &format!("/servers/{id}"))["server"]["status"].clone();
    wait::until("the server to be active", || shown() == "ACTIVE");
    let metadata = user.post(Service::Compute, &format!("/servers/{id}/metadata"), &json!({"metadata": {"c": "d"}}));
    alike("server-metadata-set", &metadata, "");
    let refused = user.ask("POST", Service::Compute, "/servers", Some(&server("nosuch")));
    assert_eq!(
        refused.body["badRequest"]["message"],
        recorded("server-create-invalid-key-400")["badRequest"]["message"]
    );
    assert_eq!(user.ask("DELETE", Service::Compute, &format!("/servers/{id}"), None).status, 204);
    assert_eq!(user.ask("DELETE", Service::Compute, "/os-keypairs/own", None).status, 204);
}
