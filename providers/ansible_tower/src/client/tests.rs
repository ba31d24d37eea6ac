use super::*;

fn root(text: &str) -> Option<Prefix> {
    serde_json::from_str::<Root>(text).unwrap().prefix()
}

#[test]
fn the_api_says_where_it_is() {
    let classic = r#"{"description": "AWX REST API", "current_version": "/api/v2/", "available_versions": {"v2": "/api/v2/"}, "oauth2": "/api/o/"}"#;
    assert_eq!(root(classic), Some(Prefix::Classic));
    let controller =
        r#"{"current_version": "/api/controller/v2/", "available_versions": {"v2": "/api/controller/v2/"}}"#;
    assert_eq!(root(controller), Some(Prefix::Controller));
    let gateway =
        r#"{"description": "AAP gateway", "apis": {"gateway": "/api/gateway/", "controller": "/api/controller/"}}"#;
    assert_eq!(root(gateway), Some(Prefix::Controller));
    assert_eq!(root(r#"{"hello": "world"}"#), None);
}

#[test]
fn an_answer_that_is_no_json_is_said_to_be_none() {
    let answer = |body: &str| Answer { body: body.as_bytes().to_vec(), place: "http://h/api/v2/me/".into() };
    let error = answer("\n<html>").read::<Value>().unwrap_err();
    assert_eq!(error.at("x").to_string(), "x: `http://h/api/v2/me/` answered with a page for people");
    assert!(answer("{").read::<Value>().unwrap_err().may_pass());
    let odd = answer(r#"{"detail": "hello"}"#).read::<Page<Value>>().unwrap_err();
    assert!(!odd.may_pass() && odd.may_be_glitch(), "{odd:?}");
}

#[test]
fn the_clock_of_the_service_is_read() {
    let headers = HeaderMap::from_iter([("date".parse().unwrap(), "Sat, 21 Nov 2026 00:30:10 GMT".parse().unwrap())]);
    assert_eq!(date(&headers).unwrap().to_string(), "2026-11-21T00:30:10Z");
}
