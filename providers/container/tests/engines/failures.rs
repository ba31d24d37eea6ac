//! Orders that cannot be met: each leaves nothing, and says what is wrong.

use std::time::{Duration, Instant};

use broker_core::provider::ErrorKind;
use broker_core::{ArgValue, Args};
use serde_json::json;

use crate::support::{EXITS, HEALTH, Lab, Spoil, TINY, chain, provider, spoiling};

on_both_engines!(
    an_image_that_exits_at_once,
    a_command_that_does_not_exist,
    a_port_in_use,
    a_name_in_use,
    an_unknown_image,
    a_network_that_does_not_exist,
    never_ready,
    an_engine_that_falls_silent,
    a_container_that_ends_while_it_is_waited_for,
    secrets_are_not_shown,
    a_cancelled_order_leaves_nothing,
    a_dropped_checkout_is_found_again,
    bad_arguments_make_nothing,
);

async fn an_image_that_exits_at_once(lab: Lab) {
    let error = lab.failure(EXITS, json!({})).await;
    assert_eq!(error.kind(), ErrorKind::Failed);
    let text = chain(&error);
    assert!(text.contains("has ended with exit status 3"), "{text}");
    assert!(text.contains("its log ends with\n  starting the service\n  fatal: no configuration found"), "{text}");
}

async fn a_command_that_does_not_exist(lab: Lab) {
    let error = lab.failure(TINY, json!({"command": "/no/such/program"})).await;
    assert_eq!(error.kind(), ErrorKind::BadRequest, "{}", chain(&error));
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}

async fn a_port_in_use(lab: Lab) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = lab.failure(TINY, json!({"ports": format!("80:{port}")})).await;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", chain(&error));
    assert!(error.to_string().contains("already in use"), "{error}");
}

async fn a_name_in_use(lab: Lab) {
    let name = format!("taken-{}", broker_core::HostId::generate().short());
    let first = lab.host(TINY, json!({"name": name})).await;
    let error = lab.provider.checkout(&lab.order(TINY, json!({"name": name}))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let id = first.details.facts["container"].as_str().unwrap().get(..12).unwrap();
    assert_eq!(error.to_string(), format!("there is a container `{name}` already: `{id}`"));
    assert!(!error.may_exist());
    assert_eq!(lab.containers().await, std::slice::from_ref(&name));
    lab.provider.release(&first).await.unwrap();
    // Twice in one batch is seen before anything is made.
    let orders = [lab.order(TINY, json!({"name": name})), lab.order(TINY, json!({"name": name}))];
    let error = lab.provider.prepare(&orders).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

async fn an_unknown_image(lab: Lab) {
    let order = lab.order("localhost/no-such-image:1", json!({"pull": "never"}));
    let error = lab.provider.prepare(std::slice::from_ref(&order)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("there is no image `localhost/no-such-image:1`"), "{error}");
    // Nothing listens at port 1: a registry that does not answer.
    let error = lab.failure("127.0.0.1:1/no-such-image", json!({})).await;
    assert!(error.to_string().starts_with("could not pull image `127.0.0.1:1/no-such-image`: "), "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");
}

async fn a_network_that_does_not_exist(lab: Lab) {
    let order = lab.order(TINY, json!({"network": "no-such-network"}));
    let error = lab.provider.prepare(std::slice::from_ref(&order)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().starts_with("there is no network `no-such-network` at `unix://"), "{error}");
    // Without the look before, the engine itself refuses.
    let error = lab.failure(TINY, json!({"network": "no-such-network"})).await;
    assert!(error.to_string().contains("no-such-network"), "{error}");
}

async fn never_ready(lab: Lab) {
    let begun = Instant::now();
    let args =
        json!({"command": "sh -c 'echo still starting; exec sleep 1000'", "wait": "port:1234", "wait_timeout": "1s"});
    let error = lab.failure(TINY, args).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let text = chain(&error);
    let says = "was not ready within 1s: waited for `port:1234`, and it is running; `wait_timeout` gives it more time: its log";
    assert!(text.contains(says), "{text}");
    assert!(text.contains("still starting"), "{text}");
    let command = json!({"command": "sh -c 'exec sleep 1000'", "wait_timeout": "30s"});
    let error = lab.failure(HEALTH, command).await;
    assert!(error.to_string().contains("is unhealthy"), "{error}");
    let error = lab.failure(TINY, json!({"wait": "healthcheck"})).await;
    assert_eq!(error.to_string(), format!("image `{TINY}` has no healthcheck to wait for"));
}

async fn an_engine_that_falls_silent(lab: Lab) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, words| {
        let socket = dir.path().join(name);
        spoiling(&lab.socket, &socket, words, usize::MAX, Spoil::Hold);
        provider(&[("host", socket.to_str().unwrap()), ("timeout", "5")])
    };
    let while_it_is = Duration::from_secs(60);
    let order = lab.order(TINY, json!({"files": {"/etc/given": {"content": "text"}}}));
    let put = at("put.sock", "/archive");
    let error = tokio::time::timeout(while_it_is, put.checkout(&order)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", chain(&error));
    assert!(error.to_string().starts_with("could not put `/etc/given` into container"), "{error}");
    let order = lab.order_for("container_app", TINY, json!({"command": "true"}));
    let logs = at("logs.sock", "/logs?");
    let error = tokio::time::timeout(while_it_is, logs.execute(&order)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", chain(&error));
    assert_eq!(lab.containers().await, Vec::<String>::new());
    let mut host = lab.host(TINY, json!({})).await;
    host.endpoint = Some(logs.endpoint().await.unwrap());
    let (output, _pieces) = tokio::sync::mpsc::channel(1);
    let request = broker_core::LogRequest { tail: None, follow: false, output };
    let error = tokio::time::timeout(while_it_is, logs.logs(&host, request)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", chain(&error));
}

async fn a_container_that_ends_while_it_is_waited_for(lab: Lab) {
    for wait in ["port:1", "log:never said", "command:false", "http:1/"] {
        let args = json!({"command": "sh -c 'sleep 1; echo giving up; exit 7'", "wait": wait});
        let text = chain(&lab.failure(TINY, args).await);
        assert!(text.contains("has ended with exit status 7") && text.contains("giving up"), "{wait}: {text}");
    }
}

async fn secrets_are_not_shown(lab: Lab) {
    let args = json!({
        "environment": {"DB_PASSWORD": "hunter2", "HOME": "/root"},
        "command": "sh -c 'echo connecting with $DB_PASSWORD; exit 1'",
    });
    let text = chain(&lab.failure(TINY, args).await);
    assert!(text.contains("connecting with ***") && !text.contains("hunter2"), "{text}");
}

async fn a_cancelled_order_leaves_nothing(lab: Lab) {
    let order = lab.order(TINY, json!({"wait": "port:1234"}));
    let begun = Instant::now();
    let (made, ()) = tokio::join!(lab.provider.checkout(&order), async {
        while lab.containers().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        order.cancel();
    });
    let error = made.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(!error.may_exist() && begun.elapsed() < Duration::from_secs(20));
    assert!(lab.containers().await.is_empty());
    // One that is not wanted from the beginning makes nothing at all.
    assert_eq!(lab.provider.checkout(&order).await.unwrap_err().kind(), ErrorKind::Cancelled);
}

async fn a_dropped_checkout_is_found_again(lab: Lab) {
    let order = lab.order(TINY, json!({"wait": "port:1234"}));
    let begun = tokio::time::timeout(Duration::from_secs(3), lab.provider.checkout(&order)).await;
    assert!(begun.is_err());
    let host = lab.pending(&order).await;
    let found = lab.provider.find(&host).await.unwrap();
    assert_eq!(found.iter().map(|found| found.broker_id).collect::<Vec<_>>(), [Some(order.id)]);
    lab.provider.release(&host).await.unwrap();
    assert!(lab.containers().await.is_empty());
}

async fn bad_arguments_make_nothing(lab: Lab) {
    for (args, part) in [
        (json!({"prots": "22"}), "similar: `ports`"),
        (json!({"ports": "many"}), "`many` is no port"),
        (json!({"cap_add": "NO_SUCH_THING"}), "NO_SUCH_THING"),
    ] {
        let error = lab.failure(TINY, args).await;
        assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let order = broker_core::provider::Order::for_test("container_host", Args::new());
    assert!(lab.provider.checkout(&order).await.unwrap_err().to_string().contains("the name of an image is needed"));
    let mut args = Args::new();
    args.insert("workflow".to_owned(), ArgValue::from("x"));
    let order = broker_core::provider::Order::for_test("workflow", args);
    assert!(lab.provider.checkout(&order).await.unwrap_err().to_string().contains("`workflow` is no action"));
}

#[tokio::test]
async fn no_engine_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.sock");
    let error = provider(&[("host", missing.to_str().unwrap())]).endpoint().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let wanted =
        format!("no container engine answers; tried `{}` from setting `Container.host` (missing)", missing.display());
    assert_eq!(error.to_string(), wanted);
    // Something that answers, and is no engine.
    let socket = dir.path().join("other.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
            drop(tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await);
        }
    });
    let error = provider(&[("host", socket.to_str().unwrap())]).endpoint().await.unwrap_err();
    assert!(error.to_string().contains("answers, but not as a container engine"), "{error}");
    server.abort();
    // One that is there and never says anything.
    let silent = dir.path().join("silent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    let silent = provider(&[("host", silent.to_str().unwrap()), ("timeout", "1s")]);
    let begun = Instant::now();
    let error = silent.endpoint().await.unwrap_err();
    assert!(error.to_string().contains("did not answer in time"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}
