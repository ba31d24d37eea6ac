//! What goes over the wire: how many requests things cost, counted by a socket between us and the engine, and that a port
//! does as well as a socket.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use broker_core::session::{Access, Command};

use crate::support::{Lab, TINY, file, get, provider, put, run};

on_both_engines!(a_checkout_is_three_requests_and_a_checkin_one, an_engine_behind_a_port);

/// Passes connections on to an engine, and notes the first line of each. The client makes one connection a request.
fn counting(engine: String, socket: &std::path::Path) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(socket).unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&lines);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (engine, noted) = (engine.clone(), Arc::clone(&noted));
            tokio::spawn(async move {
                let mut head = vec![0; 65536];
                let size = client.read(&mut head).await.unwrap_or(0);
                let Some(bytes) = head.get(..size).filter(|bytes| !bytes.is_empty()) else { return };
                let line = String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned();
                noted.lock().unwrap().push(line);
                let mut engine = UnixStream::connect(engine).await.unwrap();
                engine.write_all(bytes).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut client, &mut engine).await);
            });
        }
    });
    lines
}

async fn a_checkout_is_three_requests_and_a_checkin_one(lab: Lab) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let lines = counting(lab.socket.clone(), &socket);
    let counted = Lab::through(socket.to_str().unwrap(), lab.podman);
    let take = || std::mem::take(&mut *lines.lock().unwrap());

    let orders: Vec<_> = (0..2).map(|_| counted.order(TINY, json!({}))).collect();
    counted.endpoint().await;
    counted.provider.prepare(&orders).await.unwrap();
    let setup = take();
    // The first is a connection that only sees whether anybody is there.
    assert_eq!(setup.iter().filter(|line| line.contains("/version")).count(), 1, "{setup:?}");
    assert_eq!(setup.iter().filter(|line| line.contains("/info")).count(), 1, "{setup:?}");
    assert_eq!(setup.iter().filter(|line| line.contains("/images/")).count(), 1, "{setup:?}");
    assert_eq!(setup.len(), 3, "{setup:?}");

    let mut hosts = Vec::new();
    for order in &orders {
        let facts = counted.provider.checkout(order).await.unwrap();
        let checkout = take();
        assert_eq!(checkout.len(), 3, "{checkout:?}");
        assert!(checkout[0].starts_with("POST ") && checkout[0].contains("/containers/create?"), "{checkout:?}");
        assert!(checkout[1].starts_with("POST ") && checkout[1].contains("/start"), "{checkout:?}");
        assert!(checkout[2].starts_with("GET ") && checkout[2].contains("/json"), "{checkout:?}");
        hosts.push(counted.record(order, facts).await);
    }
    for host in &hosts {
        counted.provider.release(host).await.unwrap();
        let checkin = take();
        assert_eq!(checkin.len(), 1, "{checkin:?}");
        assert!(checkin[0].starts_with("DELETE ") && checkin[0].contains("force=true"), "{checkin:?}");
        assert!(checkin[0].contains("v=true"), "{checkin:?}");
    }
    // By another process, too: nothing is discovered anew.
    let host = counted.host(TINY, json!({})).await;
    let other = Lab::through(socket.to_str().unwrap(), lab.podman);
    take();
    other.provider.release(&host).await.unwrap();
    let checkin = take();
    assert_eq!(checkin.len(), 1, "{checkin:?}");
}

async fn an_engine_behind_a_port(lab: Lab) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("tcp://{}", listener.local_addr().unwrap());
    let socket = lab.socket.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut engine = UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut engine).await });
        }
    });
    let remote = provider(&[("host", &uri)]);
    let order = lab.order(TINY, json!({"ports": "80"}));
    remote.prepare(std::slice::from_ref(&order)).await.unwrap();
    let facts = remote.checkout(&order).await.unwrap();
    assert!(facts.ports["80/tcp"].starts_with("127.0.0.1:"), "{:?}", facts.ports);
    let mut host = lab.record(&order, facts).await;
    host.endpoint = Some(remote.endpoint().await.unwrap());
    assert_eq!(host.endpoint.as_ref().unwrap().uri, uri);
    let Access::Session(session) = remote.access(&host).await.unwrap() else { panic!("not by exec") };
    let ran = run(&*session, &Command::words(["wc", "-c"]).stdin(vec![b'x'; 500_000])).await.unwrap();
    assert_eq!(ran.stdout().trim(), "500000");
    put(&*session, "/tmp/x", file(b"", 0o600, &[5; 300_000])).await.unwrap();
    assert_eq!(get(&*session, "/tmp/x").await.unwrap()[b"".as_slice()].1, [5; 300_000]);
    remote.release(&host).await.unwrap();
    assert!(remote.find(&host).await.unwrap().is_empty());
}
