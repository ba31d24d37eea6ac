//! Pulling from a registry: a small one of our own, which wants a login.
//!
//! Docker alone: it takes registries on the loopback address without TLS, and Podman does so only when told in its
//! configuration.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use broker_core::provider::{ErrorKind, Order};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Lab, chain};

/// Tells the second process of the test where the registry is.
const ADDRESS: &str = "BROKER_TEST_REGISTRY";

/// A password that has a character beyond letters and digits in every way of packing it.
const PASSWORD: &str = "???>>>???";

fn sha256(bytes: &[u8]) -> String {
    let mut child =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum is needed");
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    format!("sha256:{}", String::from_utf8(output.stdout).unwrap().split_ascii_whitespace().next().unwrap())
}

/// The manifest and the blobs of an image with one file in it.
fn image() -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    layer.append_data(&mut header, "hello", &b"hello"[..]).unwrap();
    let layer = layer.into_inner().unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"ExposedPorts": {"7/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": config.len(), "digest": sha256(&config),
        },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar",
            "size": layer.len(), "digest": sha256(&layer),
        }],
    });
    (manifest.to_string().into_bytes(), vec![(sha256(&config), config), (sha256(&layer), layer)])
}

/// Serves the image `mine:1` to who has logged in, and notes who asked for manifests.
async fn registry() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let (manifest, blobs) = image();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (manifest, blobs, noted) = (manifest.clone(), blobs.clone(), Arc::clone(&noted));
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                    // Docker tries TLS first, and waits for it.
                    if head.starts_with(&[0x16]) {
                        return Ok(());
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned();
                let login = format!("Authorization: Basic {}", encoded(&format!("jane:{PASSWORD}")));
                let digest = path.rsplit('/').next().unwrap_or_default();
                let answer = if !head.contains(&login) {
                    ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"test\"", Vec::new())
                } else if path.contains("/mine/manifests/") {
                    noted.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
                    ("200 OK", "Content-Type: application/vnd.docker.distribution.manifest.v2+json", manifest)
                } else if let Some((_, blob)) = blobs.into_iter().find(|(name, _)| name == digest) {
                    ("200 OK", "Content-Type: application/octet-stream", blob)
                } else if path == "/v2/" {
                    ("200 OK", "Content-Type: application/json", b"{}".to_vec())
                } else {
                    let refusal = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]});
                    ("404 Not Found", "Content-Type: application/json", refusal.to_string().into_bytes())
                };
                let (status, header, body) = answer;
                let version = "Docker-Distribution-Api-Version: registry/2.0";
                let length = body.len();
                let head_of_answer = format!(
                    "HTTP/1.1 {status}\r\n{header}\r\n{version}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(head_of_answer.as_bytes()).await?;
                if !head.starts_with("HEAD ") {
                    stream.write_all(&body).await?;
                }
                stream.shutdown().await
            });
        }
    });
    (address, asked)
}

fn encoded(text: &str) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(text)
}

/// The test runs itself again with the login in its environment, where it is looked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_login_is_used() {
    if let Ok(address) = std::env::var(ADDRESS) {
        println!("this is the second process");
        return pull(&address).await;
    }
    let (address, asked) = registry().await;
    let dir = tempfile::tempdir().unwrap();
    let auth = dir.path().join("auth.json");
    let stored = json!({"auths": {&address: {"auth": encoded(&format!("jane:{PASSWORD}"))}}});
    std::fs::write(&auth, stored.to_string()).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "pull::a_stored_login_is_used", "--nocapture"]);
    again.env("REGISTRY_AUTH_FILE", &auth).env(ADDRESS, &address);
    let output = tokio::task::spawn_blocking(move || again.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("this is the second process"), "{text}");
    // Once because it was missing, once because it was to be pulled always, and not for the second of a batch.
    let pulls = asked.lock().unwrap().iter().filter(|line| line.contains("/manifests/1 ")).count();
    assert!((2..=4).contains(&pulls), "{:?}", asked.lock().unwrap());
}

async fn pull(address: &str) {
    let lab = Lab::docker();
    let image = format!("{address}/mine:1");
    let orders: Vec<Order> = (0..2).map(|_| lab.order(&image, json!({}))).collect();
    lab.provider.prepare(&orders).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(lab.ask(&format!("/images/{image}/json")).0, 200);
    // There is no program in it; the failure shows that the image is taken for what it is.
    let error = lab.failure(&image, json!({"command": "/none"})).await;
    assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
    let always: Vec<Order> = (0..2).map(|_| lab.order(&image, json!({"pull": "always"}))).collect();
    lab.provider.prepare(&always).await.unwrap();
    // What has been removed meanwhile is pulled again.
    assert_eq!(lab.call("DELETE", &format!("/images/{image}")).0, 200);
    let error = lab.provider.prepare(&[lab.order(&format!("{address}/other:1"), json!({}))]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("manifest"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_login_it_is_refused() {
    let (address, _asked) = registry().await;
    let lab = Lab::docker();
    let error = lab.provider.prepare(&[lab.order(&format!("{address}/mine:1"), json!({}))]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    assert!(error.to_string().starts_with(&format!("could not pull image `{address}/mine:1`: ")), "{error}");
}
