//! Running containers to their end, and asking what there is.

use std::time::{Duration, Instant};

use broker_core::provider::{ErrorKind, Query};
use serde_json::json;

use crate::support::{EXITS, Lab, Spoil, TINY, chain, provider, spoiling};

on_both_engines!(
    an_app_runs_and_is_removed,
    a_failing_app,
    a_cancelled_app_is_removed,
    an_app_that_cannot_be_removed_is_no_failure,
    an_answer_without_a_word_is_no_end,
    images_are_listed,
);

async fn an_app_runs_and_is_removed(lab: Lab) {
    let args = json!({
        "command": "sh -c 'cat /in; echo $WHO; echo aside >&2'",
        "environment": "WHO=me",
        "files": {"/in": {"content": "given "}},
    });
    let ran = lab
        .provider
        .execute(&lab.order_for("container_app", TINY, args))
        .await
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(ran.failure, None);
    let output = ran.output.as_str().unwrap();
    assert!(output.contains("given me\n") && output.contains("aside\n"), "{output}");
    assert!(lab.containers().await.is_empty());
    // A long one is waited for.
    let args = json!({"command": "sh -c 'echo one; sleep 2; echo two'"});
    let ran = lab.provider.execute(&lab.order_for("container_app", TINY, args)).await.unwrap();
    assert_eq!(ran.output, json!("one\ntwo\n"));
}

async fn a_failing_app(lab: Lab) {
    let ran = lab.provider.execute(&lab.order_for("container_app", EXITS, json!({}))).await.unwrap();
    assert_eq!(ran.failure.as_deref(), Some("exit status 3"));
    assert_eq!(ran.output, json!("starting the service\nfatal: no configuration found\n"));
    let order = lab.order_for("container_app", TINY, json!({"command": "/no/such"}));
    assert_eq!(lab.provider.execute(&order).await.unwrap_err().kind(), ErrorKind::BadRequest);
    assert!(lab.containers().await.is_empty());
}

async fn a_cancelled_app_is_removed(lab: Lab) {
    let order = lab.order_for("container_app", TINY, json!({"command": "sleep 1000"}));
    let begun = Instant::now();
    let (ran, ()) = tokio::join!(lab.provider.execute(&order), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        order.cancel();
    });
    assert_eq!(ran.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(lab.containers().await.is_empty());
}

async fn an_app_that_cannot_be_removed_is_no_failure(lab: Lab) {
    let dir = tempfile::tempdir().unwrap();
    for (times, is_left) in [(1, false), (usize::MAX, true)] {
        let socket = dir.path().join(format!("{times}.sock"));
        spoiling(&lab.socket, &socket, "DELETE ", times, Spoil::Cut);
        let order = lab.order_for("container_app", TINY, json!({"command": "echo magic"}));
        let ran = provider(&[("host", socket.to_str().unwrap())]).execute(&order).await;
        assert_eq!(ran.unwrap_or_else(|error| panic!("{}", chain(&error))).output, json!("magic\n"));
        assert_eq!(lab.containers().await.len(), usize::from(is_left));
    }
}

async fn an_answer_without_a_word_is_no_end(lab: Lab) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let empty = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    spoiling(&lab.socket, &socket, "/wait?", 1, Spoil::Answer(empty));
    let order = lab.order_for("container_app", TINY, json!({"command": "sh -c 'sleep 2; echo late; exit 5'"}));
    let ran = provider(&[("host", socket.to_str().unwrap())]).execute(&order).await.unwrap();
    assert_eq!((ran.output, ran.failure.as_deref()), (json!("late\n"), Some("exit status 5")));
    assert!(lab.containers().await.is_empty());
}

async fn images_are_listed(lab: Lab) {
    let ask = async |name: &str, value: Option<&str>| {
        let query = Query { name: name.to_owned(), value: value.map(str::to_owned), ..Query::default() };
        lab.provider.query(&query).await
    };
    for query in ["container_hosts", "container_apps"] {
        let table = ask(query, None).await.unwrap();
        assert_eq!(table.columns, ["image", "id", "size"]);
        assert!(table.rows.iter().any(|row| row[0] == TINY && row[1].len() == 12), "{:?}", table.rows);
    }
    for name in [TINY, "broker-testhost:tiny"] {
        let details = ask("container_host", Some(name)).await.unwrap();
        let property = |name: &str| details.rows.iter().find(|row| row[0] == name).map(|row| row[1].clone());
        assert_eq!(property("command").as_deref(), Some(r#"["/usr/bin/start"]"#));
        assert!(property("labels").unwrap().contains("broker_compatible=true"));
    }
    let error = ask("container_host", Some("no-such")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(ask("container_host", Some("../containers/json?x")).await.unwrap_err().to_string().contains("is no name"));
    assert!(ask("flavors", None).await.is_err());
}
