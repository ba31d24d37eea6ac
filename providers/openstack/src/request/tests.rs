use serde_json::json;

use super::*;
use crate::cloud::files::Surroundings;

fn settings(text: &str) -> Settings {
    let base = "auth_url: http://k\nusername: u\npassword: p\n";
    let values = match broker_core::yaml::parse(&format!("{base}{text}")).unwrap().unwrap().into_value() {
        ArgValue::Map(values) => values,
        other => panic!("{other:?}"),
    };
    let settings = broker_core::settings::ProviderSettings { values, ..Default::default() };
    Settings::read(&settings, &Surroundings::default()).unwrap()
}

const DEFAULTS: &str = "default_flavor: f\ndefault_network: n\n";

fn read(settings_text: &str, action: &str, arguments: serde_json::Value) -> Result<Spec, ProviderError> {
    let mut args = Args::from([(action.to_owned(), ArgValue::from("thing"))]);
    if let ArgValue::Map(map) = ArgValue::from_json(arguments) {
        args.extend(map);
    }
    Spec::read(&Order::for_test(action, args), &settings(settings_text))
}

#[test]
fn the_whole_of_it() {
    let spec = read(
        "",
        IMAGE,
        json!({
            "name": "web", "ostack_flavor": "f", "ostack_network": "a, b=10.0.0.5", "ostack_port": ["p1"],
            "ostack_key_name": "k", "ostack_security_groups": "x,y", "ostack_availability_zone": "z",
            "ostack_server_group": "g", "ostack_user_data": "#!/bin/sh\n", "ostack_config_drive": "yes",
            "ostack_metadata": "team=a", "ostack_tags": "t1,t2", "ostack_floating_network": "public",
            "ostack_ip_version": 6, "ostack_user": "debian", "ostack_wait": "active", "ostack_ssh_port": 2222,
            "ostack_timeout": "90s", "ostack_ssh_timeout": "5m", "ostack_volume_size": 20,
        }),
    )
    .unwrap();
    let network = |name: &str, address: Option<&str>| Plug::Network {
        network: name.to_owned(),
        address: address.map(|address| address.parse().unwrap()),
    };
    assert_eq!(spec.plugs, [Plug::Port("p1".into()), network("a", None), network("b", Some("10.0.0.5"))]);
    assert_eq!((&*spec.image, &*spec.flavor, spec.name.as_deref()), ("thing", "f", Some("web")));
    assert_eq!(
        (spec.key_name.as_deref(), spec.group.as_deref(), spec.zone.as_deref()),
        (Some("k"), Some("g"), Some("z"))
    );
    assert_eq!(
        (spec.security_groups, spec.tags),
        (vec!["x".to_owned(), "y".into()], vec!["t1".to_owned(), "t2".into()])
    );
    assert_eq!((spec.user_data.as_deref(), spec.config_drive), (Some(&b"#!/bin/sh\n"[..]), Some(true)));
    assert_eq!((spec.floating.as_deref(), spec.family, spec.wait), (Some("public"), Family::V6, Wait::Active));
    assert_eq!((spec.user.as_deref(), spec.ssh_port), (Some("debian"), Some(2222)));
    assert_eq!((spec.timeout.as_secs(), spec.ssh_timeout.as_secs()), (90, 300));
    assert_eq!((spec.volume, &*spec.metadata["team"]), (Some(20), "a"));
    assert!(spec.metadata.contains_key("broker.id") && spec.metadata.contains_key("broker.owner"));
}

#[test]
fn defaults_templates_and_the_request_are_laid_on_top_of_each_other() {
    let text = format!(
        "{DEFAULTS}default_key_name: dk\ntemplates: {{thing: {{image: ti, flavor: tf}}}}\nfloating_network: pub\n"
    );
    let spec = read(&text, TEMPLATE, json!({"ostack_flavor": "mine", "ostack_floating_network": "none"})).unwrap();
    assert_eq!(
        (&*spec.image, &*spec.flavor, spec.key_name.as_deref(), spec.floating),
        ("ti", "mine", Some("dk"), None)
    );
    let spec = read(&text, IMAGE, json!({"ostack_flavor": null})).unwrap();
    assert_eq!((&*spec.image, &*spec.flavor, spec.floating.as_deref()), ("thing", "f", Some("pub")));
    let error = read(DEFAULTS, TEMPLATE, json!({})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "there is no template `thing` in the settings: there are none");
}

#[test]
fn identity_wins_over_labels() {
    let spec = read(DEFAULTS, IMAGE, json!({"ostack_metadata": {"broker.id": "x", "a": "1,2"}})).unwrap();
    assert_ne!(spec.metadata["broker.id"], "x");
    assert_eq!(spec.metadata["a"], "1,2");
}

#[test]
fn every_bad_value_names_its_argument() {
    for (key, value, part) in [
        ("ostack_network", json!("a=b"), "`b` is no IP address"),
        ("ostack_network", json!("a,,b"), "an item is empty"),
        ("ostack_key_name", json!(["k"]), "it must be a text, and is a list"),
        ("ostack_user_data_file", json!("/no/such/file"), "cannot read `/no/such/file`"),
        ("ostack_user_data", json!("x".repeat(50_000)), "user data may have 49149 bytes"),
        ("ostack_config_drive", json!("maybe"), "`maybe` must be `true` or `false`"),
        ("ostack_metadata", json!("hunter2"), "an item has no `=`"),
        ("ostack_tags", json!("a/b"), "`a/b` must be"),
        ("ostack_ip_version", json!("5"), "`5` must be `4` or `6`"),
        ("ostack_wait", json!("boot"), "`boot` must be `ssh` or `active`"),
        ("ostack_ssh_port", json!("0"), "`0` is no port"),
        ("ostack_timeout", json!("soon"), "`soon`"),
        ("ostack_volume_size", json!("20G"), "`20G` must be a whole number of GiB"),
        ("ostack_flavour", json!("f"), "`ostack_image` does not take it; similar: `ostack_flavor`"),
    ] {
        let error = read(DEFAULTS, IMAGE, json!({key: value})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadRequest);
        let text = error.to_string();
        assert!(text.starts_with(&format!("argument `{key}`: ")) && text.contains(part), "{text}");
    }
    let error = read("", IMAGE, json!({})).unwrap_err().to_string();
    assert!(error.starts_with("there is no flavor: `--ostack-flavor`"), "{error}");
    let error = read(DEFAULTS, IMAGE, json!({"ostack_metadata": {"a/b": "c"}})).unwrap_err().to_string();
    assert!(error.starts_with("label `a/b` cannot be metadata"), "{error}");
}
