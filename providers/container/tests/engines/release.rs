//! Letting hosts go, and only those that are meant.

use broker_core::inventory::HostRecord;
use broker_core::provider::{Endpoint, ErrorKind, Lease, Scope};
use serde_json::json;

use crate::support::{Lab, TINY};

on_both_engines!(
    a_vanished_host_is_released,
    another_engine_at_the_same_place_is_told,
    an_engine_that_is_away_is_told,
    records_of_broken_checkouts_are_released_by_their_label,
    imported_records_are_released_by_their_exact_name,
    lists_by_label_and_prefix,
    a_lease_is_the_inventorys,
    the_log_is_handed_over,
    two_releases_at_once,
);

async fn a_vanished_host_is_released(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let id = host.details.facts["container"].as_str().unwrap();
    assert_eq!(lab.call("DELETE", &format!("/containers/{id}?force=1")).0, 204);
    lab.provider.release(&host).await.unwrap();
    assert!(lab.provider.find(&host).await.unwrap().is_empty());
}

async fn another_engine_at_the_same_place_is_told(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    lab.provider.release(&host).await.unwrap();
    let endpoint = host.endpoint.clone().unwrap();
    let elsewhere = Endpoint { identity: "another engine".to_owned(), ..endpoint };
    let moved = HostRecord { endpoint: Some(elsewhere), ..host };
    for error in [lab.provider.release(&moved).await.unwrap_err(), lab.provider.find(&moved).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::EndpointChanged);
        assert!(error.to_string().starts_with("endpoint changed: "), "{error}");
    }
}

async fn an_engine_that_is_away_is_told(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let endpoint = Endpoint { uri: "unix:///run/no-such-engine.sock".to_owned(), identity: "x".to_owned() };
    let away = HostRecord { endpoint: Some(endpoint), ..host.clone() };
    for error in [lab.provider.release(&away).await.unwrap_err(), lab.provider.find(&away).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.to_string().contains("`unix:///run/no-such-engine.sock`"), "{error}");
    }
    assert!(lab.provider.access(&away).await.is_err());
    assert_eq!(lab.containers().await.len(), 1, "it is released where it was made, and nowhere else");
    lab.provider.release(&host).await.unwrap();
}

async fn records_of_broken_checkouts_are_released_by_their_label(lab: Lab) {
    let order = lab.order(TINY, json!({}));
    lab.provider.checkout(&order).await.unwrap();
    let other = lab.host(TINY, json!({})).await;
    let pending = lab.pending(&order).await;
    lab.provider.release(&pending).await.unwrap();
    assert_eq!(lab.containers().await, [other.name.clone().unwrap()], "the other one stays");
    lab.provider.release(&pending).await.unwrap();
    lab.provider.release(&other).await.unwrap();
}

async fn imported_records_are_released_by_their_exact_name(lab: Lab) {
    let name = format!("old-{}", broker_core::HostId::generate().short());
    let longer = lab.host(TINY, json!({"name": format!("{name}-2")})).await;
    let host = lab.host(TINY, json!({"name": name})).await;
    let mut imported = lab.pending(&lab.order(TINY, json!({}))).await;
    imported.endpoint = None;
    imported.name = Some(name.clone());
    imported.hostname = Some("someone-else".to_owned());
    let error = lab.provider.release(&imported).await.unwrap_err();
    assert!(error.to_string().contains("it is another one"), "{error}");
    imported.hostname.clone_from(&host.hostname);
    lab.provider.release(&imported).await.unwrap();
    assert_eq!(lab.containers().await, [format!("{name}-2")]);
    let error = lab.provider.release(&imported).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().starts_with(&format!("there is no container `{name}` at `unix://")), "{error}");
    assert!(lab.provider.find(&imported).await.unwrap().is_empty());
    lab.provider.release(&longer).await.unwrap();
}

async fn lists_by_label_and_prefix(lab: Lab) {
    let prefix = format!("pre{}", broker_core::HostId::generate().short());
    let host = lab.host(TINY, json!({"name": format!("{prefix}-a"), "ports": "80"})).await;
    let other = lab.host(TINY, json!({})).await;
    let list = async |argument: String| {
        lab.provider.list(&Scope { argument: Some(argument), ..Scope::default() }).await.unwrap()
    };
    let found = list(prefix).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].broker_id, Some(host.id));
    assert_eq!(found[0].args["container_host"].as_str(), Some(TINY));
    assert_eq!((&found[0].facts.ports, &found[0].facts.hostname), (&host.details.ports, &host.hostname));
    assert_eq!(list(format!("broker.id={}", other.id)).await.len(), 1);
    assert!(list("no-such-prefix".to_owned()).await.is_empty());
    lab.provider.release(&host).await.unwrap();
    lab.provider.release(&other).await.unwrap();
}

async fn a_lease_is_the_inventorys(lab: Lab) {
    let order = lab.order(TINY, json!({}));
    let host = lab.pending(&order).await;
    let facts = lab.provider.extend(&host, Lease(std::time::Duration::from_secs(3600))).await.unwrap();
    assert!(facts.lease_until.is_some_and(|until| until > jiff::Timestamp::now()));
}

async fn the_log_is_handed_over(lab: Lab) {
    let command = "sh -c 'for i in 1 2 3; do echo line $i; done; sleep 1; echo later; exec sleep 1000'";
    let host = lab.host(TINY, json!({"command": command, "wait": "log:line 3"})).await;
    let (output, mut pieces) = tokio::sync::mpsc::channel(4);
    let request = broker_core::LogRequest { tail: Some(2), follow: true, output };
    // The receiver goes at the end of this, which ends the request.
    let reading = async move {
        let mut text = String::new();
        while let Some(piece) = pieces.recv().await {
            text.push_str(&String::from_utf8_lossy(&piece));
            if text.contains("later") {
                break;
            }
        }
        text
    };
    let (text, logged) = tokio::join!(reading, lab.provider.logs(&host, request));
    logged.unwrap();
    assert_eq!(text, "line 2\nline 3\nlater\n");
    lab.provider.release(&host).await.unwrap();
    let (output, _pieces) = tokio::sync::mpsc::channel(4);
    let request = broker_core::LogRequest { tail: None, follow: false, output };
    assert_eq!(lab.provider.logs(&host, request).await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn two_releases_at_once(lab: Lab) {
    let host = lab.host(TINY, json!({})).await;
    let (one, other) = tokio::join!(lab.provider.release(&host), lab.provider.release(&host));
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    assert!(lab.containers().await.is_empty());
}
