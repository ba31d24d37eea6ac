use serde_json::json;

use super::*;

fn page(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().cloned().unwrap()
}

#[test]
fn the_next_page_is_read_in_every_form() {
    let links = json!({"servers_links": [{"rel": "next", "href": "http://n/v2.1/servers?limit=1&marker=abc"}]});
    assert_eq!(next_marker(&page(links), "servers").as_deref(), Some("abc"));
    let glance = json!({"next": "/v2/images?limit=1&marker=def", "first": "/v2/images?limit=1"});
    assert_eq!(next_marker(&page(glance), "images").as_deref(), Some("def"));
    let back = json!({"networks_links": [{"rel": "previous", "href": "http://n/v2.0/networks?marker=x"}]});
    assert_eq!(next_marker(&page(back), "networks"), None);
    assert_eq!(next_marker(&page(json!({})), "servers"), None);
}

#[test]
fn markers_are_put_into_paths() {
    assert_eq!(with_marker("/servers", "a"), "/servers?marker=a");
    assert_eq!(with_marker("/servers?limit=2", "a"), "/servers?limit=2&marker=a");
    assert_eq!(with_marker("/servers?marker=a&limit=2", "b"), "/servers?limit=2&marker=b");
}

#[test]
fn the_newest_version_of_a_cloud_is_in_its_words() {
    let words = "Version 9.99 is not supported by the API. Minimum is 2.1 and maximum is 2.104.";
    assert_eq!(newest_minor(words), Some(104));
    assert_eq!(newest_minor("Not Acceptable"), None);
}

#[test]
fn the_words_of_every_service_are_read() {
    for (body, words) in [
        (r#"{"badRequest": {"code": 400, "message": "Can not find requested image"}}"#, "Can not find requested image"),
        (
            r#"{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['floatingip'].", "detail": ""}}"#,
            "Quota exceeded for resources: ['floatingip']",
        ),
        (r#"{"message": "No.<br /><br />\n\n\n", "code": "401 Unauthorized"}"#, "No"),
        ("<html><body>502 Bad Gateway</body></html>", ""),
        ("plain\n words", "plain words"),
        ("{}", ""),
        ("", ""),
    ] {
        assert_eq!(error::words_of(body.as_bytes()), words);
    }
}

#[test]
fn refusals_say_what_they_are() {
    let refusal = |status, words: &str| Refusal { status, words: words.to_owned(), request: Some("req-1".to_owned()) };
    for (status, words, kind) in [
        (403, "Quota exceeded for cores, instances: Requested 50, 50", ErrorKind::Quota),
        (403, "Policy doesn't allow it", ErrorKind::Permission),
        (409, "Quota exceeded for resources: ['floatingip']", ErrorKind::Quota),
        (409, "Key pair 'cap-key' already exists", ErrorKind::Conflict),
        (400, "Port 1 is still in use", ErrorKind::Conflict),
        (400, "Can not find requested image", ErrorKind::NotFound),
        (400, "Flavor's disk is too small for requested image", ErrorKind::BadRequest),
        (500, "Unexpected API Error", ErrorKind::Failed),
        (404, "", ErrorKind::NotFound),
    ] {
        let error = CallError::Refused(refusal(status, words)).at("could not do it");
        assert_eq!(error.kind(), kind, "{words}");
        let told = if words.is_empty() { format!("HTTP status {status}") } else { words.to_owned() };
        assert_eq!(error.to_string(), format!("could not do it: {told} (req-1)"));
    }
}

#[test]
fn what_may_have_been_done_is_told_from_what_has_not() {
    let refused = |status| CallError::Refused(Refusal { status, words: String::new(), request: None });
    let silent = |unsent| {
        CallError::NoAnswer(NoAnswer {
            place: "n".into(),
            unsent,
            timed_out: false,
            distrusted: false,
            why: "gone".into(),
        })
    };
    for (error, may_be) in [(refused(400), false), (refused(503), true), (silent(true), false), (silent(false), true)] {
        assert_eq!(error.may_be_done(), may_be, "{error:?}");
    }
    // The service said yes, so that there is something, whatever it is called.
    let answer = Answer { body: b"{\"server\": {}}".to_vec(), place: "http://n/servers".into(), at: None };
    let error = answer.read::<Vec<String>>().unwrap_err();
    assert!(error.may_be_done() && error.status().is_none());
    let error = error.at("could not do it");
    assert_eq!(
        (error.kind(), &*error.to_string()),
        (ErrorKind::Bug, "`http://n/servers` gave an answer that makes no sense")
    );
}

/// What the services of the lab said, as it was recorded.
#[test]
fn refusals_of_real_services_are_told_apart() {
    let captures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/labs/openstack/captures");
    for (name, kind) in [
        ("auth-tokens-wrong-password", ErrorKind::Auth),
        ("auth-tokens-unknown-project", ErrorKind::Auth),
        ("compute-401", ErrorKind::Auth),
        ("network-401", ErrorKind::Auth),
        ("image-401", ErrorKind::Auth),
        ("server-show-404", ErrorKind::NotFound),
        ("image-show-404", ErrorKind::NotFound),
        ("floatingip-delete-404", ErrorKind::NotFound),
        ("server-create-invalid-flavor-400", ErrorKind::NotFound),
        ("server-create-invalid-image-400", ErrorKind::NotFound),
        ("server-create-invalid-network-400", ErrorKind::NotFound),
        ("server-create-invalid-key-400", ErrorKind::BadRequest),
        ("server-create-invalid-az-400", ErrorKind::BadRequest),
        ("server-create-invalid-name-400", ErrorKind::BadRequest),
        ("server-create-flavor-too-small-400", ErrorKind::BadRequest),
        ("server-create-bad-security-group-400", ErrorKind::BadRequest),
        ("keypair-import-400", ErrorKind::BadRequest),
        ("floatingip-create-bad-network-400", ErrorKind::BadRequest),
        ("server-create-quota-403", ErrorKind::Quota),
        ("server-create-quota-cores-403", ErrorKind::Quota),
        ("floatingip-create-quota-409", ErrorKind::Quota),
        ("keypair-import-409", ErrorKind::Conflict),
        ("floatingip-create-port-taken-409", ErrorKind::Conflict),
        ("image-create-public-403", ErrorKind::Permission),
        ("server-create-bad-microversion-406", ErrorKind::BadRequest),
    ] {
        let text = std::fs::read_to_string(format!("{captures}/{name}.json")).unwrap();
        let recorded: Value = serde_json::from_str(&text).unwrap();
        let status = u16::try_from(recorded["status"].as_u64().unwrap()).unwrap();
        let words = error::words_of(recorded["body"].to_string().as_bytes());
        assert!(!words.is_empty() && !words.contains('<'), "{name}: {words}");
        assert_eq!(error::kind_of(&Refusal { status, words, request: None }), kind, "{name}");
    }
}
