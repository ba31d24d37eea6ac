//! Pulling from a registry: a small one of our own, which wants a login.
//!
//! Docker alone: it takes registries on the loopback address without TLS, and Podman does so only when told in its
//! configuration.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use broker_core::provider::{ErrorKind, Order};
use broker_core::settings::Settings;
use broker_core::{Broker, HostRequest, Step};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Lab, chain};

/// Tells the second process of the test where the registry is.
const ADDRESS: &str = "BROKER_TEST_REGISTRY";

/// Where the registry tells how often it was asked.
const ASKED: &str = "/asked";

/// A password that has a character beyond letters and digits in every way of packing it.
const PASSWORD: &str = "???>>>???";

fn sha256(bytes: &[u8]) -> String {
    let mut child =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum is needed");
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    format!("sha256:{}", String::from_utf8(output.stdout).unwrap().split_ascii_whitespace().next().unwrap())
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What a registry has by a tag or digest: the kind, and the contents.
type Stored = HashMap<String, (&'static str, Vec<u8>)>;

/// The image `mine:1`, and `both:1`, which is there for two platforms.
fn stored() -> Stored {
    let mut stored = Stored::new();
    let platforms = ["amd64", "arm64"].map(|architecture| {
        let (manifest, blobs) = image(architecture);
        stored.extend(blobs.into_iter().map(|(digest, blob)| (digest, ("application/octet-stream", blob))));
        let (digest, size) = (sha256(&manifest), manifest.len());
        stored.insert(digest.clone(), (MANIFEST, manifest.clone()));
        stored.insert(format!("mine/{architecture}"), (MANIFEST, manifest));
        json!({
            "mediaType": MANIFEST, "size": size, "digest": digest,
            "platform": {"architecture": architecture, "os": "linux"},
        })
    });
    if let Some(manifest) = stored.remove("mine/amd64") {
        stored.insert("mine/1".to_owned(), manifest);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": platforms}).to_string().into_bytes();
    stored.insert(sha256(&index), (INDEX, index.clone()));
    stored.insert("both/1".to_owned(), (INDEX, index));
    stored
}

/// The manifest and the blobs of an image with one file in it.
fn image(architecture: &str) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    layer.append_data(&mut header, "hello", &b"hello"[..]).unwrap();
    let layer = layer.into_inner().unwrap();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"ExposedPorts": {"7/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
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

/// Serves images to who has logged in, and tells everybody how often their manifests were asked for by a tag.
async fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let stored = Arc::new(stored());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (stored, asked) = (Arc::clone(&stored), Arc::clone(&asked));
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
                let tag = path.strip_prefix("/v2/").map(|path| path.replace("/manifests/", "/"));
                let by_tag = tag.filter(|tag| tag.ends_with("/1"));
                let found = stored.get(by_tag.as_deref().unwrap_or(digest));
                let answer = if path == ASKED {
                    ("200 OK", "X-Is: count".to_owned(), asked.load(Ordering::SeqCst).to_string().into_bytes())
                } else if !head.contains(&login) {
                    ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"test\"".to_owned(), Vec::new())
                } else if let Some((kind, contents)) = found {
                    asked.fetch_add(usize::from(by_tag.is_some()), Ordering::SeqCst);
                    let digest = if kind.contains("manifest") { sha256(contents) } else { digest.to_owned() };
                    ("200 OK", format!("Content-Type: {kind}\r\nDocker-Content-Digest: {digest}"), contents.clone())
                } else if path == "/v2/" {
                    ("200 OK", "Content-Type: application/json".to_owned(), b"{}".to_vec())
                } else {
                    let refusal = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]});
                    ("404 Not Found", "Content-Type: application/json".to_owned(), refusal.to_string().into_bytes())
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
    address
}

/// How often manifests were asked for by a tag.
fn asked(address: &str) -> usize {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {ASKED} HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n\r\n").next().unwrap().parse().unwrap()
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
    let address = registry().await;
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
}

async fn pull(address: &str) {
    let lab = Lab::docker();
    let image = format!("{address}/mine:1");
    let orders: Vec<Order> = (0..2).map(|_| lab.order(&image, json!({}))).collect();
    lab.provider.prepare(&orders).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    // Missing, and not for the second of a batch.
    let once = asked(address);
    assert!((1..=2).contains(&once), "one pull asks {once} times");
    lab.provider.prepare(&orders).await.unwrap();
    assert_eq!(asked(address), once);
    assert_eq!(lab.ask(&format!("/images/{image}/json")).0, 200);
    // There is no program in it; the failure shows that the image is taken for what it is.
    let error = lab.failure(&image, json!({"command": "/none"})).await;
    assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
    let always: Vec<Order> = (0..2).map(|_| lab.order(&image, json!({"pull": "always"}))).collect();
    lab.provider.prepare(&always).await.unwrap();
    assert_eq!(asked(address), 2 * once, "once for a batch");
    // What has been removed meanwhile is pulled again.
    assert_eq!(lab.call("DELETE", &format!("/images/{image}")).0, 200);
    let error = lab.failure(&image, json!({"command": "/none"})).await;
    assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
    assert_eq!(asked(address), 3 * once);
    assert_eq!(lab.call("DELETE", &format!("/images/{image}")).0, 200);
    assert!(told(&lab, &image).await.contains(&format!("pulling image `{image}`")));
    assert_eq!(lab.call("DELETE", &format!("/images/{image}")).0, 200);
    // Of an image that is there for several platforms it is the one that was asked for.
    let both = format!("{address}/both:1");
    for architecture in ["arm64", "amd64"] {
        let order = lab.order(&both, json!({"platform": format!("linux/{architecture}")}));
        lab.provider.prepare(&[order]).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(lab.ask(&format!("/images/{both}/json")).1["Architecture"], architecture);
    }
    assert_eq!(lab.call("DELETE", &format!("/images/{both}")).0, 200);
    let error = lab.provider.prepare(&[lab.order(&format!("{address}/other:1"), json!({}))]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("manifest"), "{error}");
}

/// What is told while an image is pulled for a checkout.
async fn told(lab: &Lab, image: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::builder().yaml(format!("Container: {{host: {}}}", lab.socket));
    let broker = Broker::bare()
        .provider(broker_container::factory())
        .settings(settings.known_providers(["Container"]).build().unwrap().settings)
        .directory(dir.path())
        .without_guardian()
        .build()
        .unwrap();
    let mut steps = broker.steps();
    let request = HostRequest::action("container_host", image).arg("command", "/none");
    assert!(broker.checkout(request).await.is_err());
    let mut told = Vec::new();
    while let Ok(step) = steps.try_recv() {
        if let Step::Doing(text) = step.step {
            told.push(text);
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_login_it_is_refused() {
    let address = registry().await;
    let lab = Lab::docker();
    let error = lab.provider.prepare(&[lab.order(&format!("{address}/mine:1"), json!({}))]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    assert!(error.to_string().starts_with(&format!("could not pull image `{address}/mine:1`: ")), "{error}");
}
