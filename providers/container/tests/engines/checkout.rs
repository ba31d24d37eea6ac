//! Hosts as they are wished.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use broker_core::inventory::HostRecord;
use serde_json::json;

use crate::support::{DEBIAN, HEALTH, HEALTH_LATE, Lab, PORTS, TINY, chain, provider};

on_both_engines!(
    the_whole_life,
    every_wish_reaches_the_container,
    rights_and_the_entrypoint_reach_the_container,
    the_platform_is_asked_for,
    ports_can_be_reached_as_they_are_told,
    an_explicit_port_wins_over_the_exposed_one,
    a_healthcheck_is_waited_for,
    conditions_are_waited_for,
    files_are_there_before_the_start,
    hosts_of_a_group_find_one_another,
    several_processes_join_one_group,
    modes_take_the_place_of_networks,
    a_healthcheck_has_the_time_that_its_image_gives_it,
    short_names_of_local_images,
    many_at_once,
    a_network_that_exists_is_joined,
);

async fn the_whole_life(lab: Lab) {
    let order = lab.order(TINY, json!({}));
    lab.provider.prepare(std::slice::from_ref(&order)).await.unwrap();
    let facts = lab.provider.checkout(&order).await.unwrap();
    assert_eq!(facts.name, Some(format!("tester_{}", order.id.short())));
    assert_eq!(facts.facts["image"], TINY);
    assert_eq!(facts.facts["status"], "running");
    let id = facts.facts["container"].as_str().unwrap().to_owned();
    assert_eq!(facts.hostname.as_deref(), id.get(..12));
    assert_eq!(facts.address.as_deref(), facts.facts["ip"].as_str());
    assert_eq!(facts.ssh_port, None);
    let host = lab.record(&order, facts).await;
    assert_eq!(lab.line(&host, "hostname").await.trim(), host.hostname.as_deref().unwrap());
    let (_, container) = lab.ask(&format!("/containers/{id}/json"));
    let labels = &container["Config"]["Labels"];
    assert_eq!(labels["broker.id"], order.id.to_string());
    assert_eq!(labels["broker.owner"], "tester@localhost");
    let found = lab.provider.find(&host).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].broker_id, Some(order.id));
    assert_eq!(found[0].facts.hostname, host.hostname);
    lab.provider.release(&host).await.unwrap();
    assert_eq!(lab.ask(&format!("/containers/{id}/json")).0, 404);
    assert!(lab.provider.find(&host).await.unwrap().is_empty());
    lab.provider.release(&host).await.unwrap();
}

async fn every_wish_reaches_the_container(lab: Lab) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("given"), "from outside").unwrap();
    let mut order = lab.order(
        DEBIAN,
        json!({
            "hostname": "web.example",
            "environment": "GREETING=hello=world,EMPTY=",
            "volumes": format!("{}:/given:ro", dir.path().display()),
            "command": "sh -c 'echo \"$0 $1\" > /tmp/args; exec sleep 1000' one 'two three'",
            "user": "daemon",
            "cap_drop": "CHOWN",
            "tmpfs": "/cache:size=1m,mode=1777",
            "shm_size": "8m",
            "auto_map_ports": false,
        }),
    );
    order.labels.insert("purpose".to_owned(), "testing".to_owned());
    let facts = lab.provider.checkout(&order).await.unwrap();
    assert!(facts.ports.is_empty());
    let host = lab.record(&order, facts).await;
    assert_eq!(host.hostname.as_deref(), Some("web.example"));
    assert_eq!(lab.line(&host, "hostname").await, "web.example\n");
    assert_eq!(lab.line(&host, "echo \"$GREETING,${EMPTY-unset}\"").await, "hello=world,\n");
    assert_eq!(lab.line(&host, "cat /given/given").await, "from outside");
    assert_eq!(lab.line(&host, "id -un").await, "daemon\n");
    assert_eq!(lab.line(&host, "cat /tmp/args").await, "one two three\n");
    assert_eq!(lab.line(&host, "df --output=size -k /cache | tail -1").await.trim(), "1024");
    assert_eq!(lab.line(&host, "df --output=size -k /dev/shm | tail -1").await.trim(), "8192");
    let container = host.details.facts["container"].as_str().unwrap();
    let (_, container) = lab.ask(&format!("/containers/{container}/json"));
    assert_eq!(container["Config"]["Labels"]["purpose"], "testing");
    lab.provider.release(&host).await.unwrap();
}

async fn rights_and_the_entrypoint_reach_the_container(lab: Lab) {
    const CHOWN: u64 = 1 << 0;
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;

    let bounds = async |host: &HostRecord| {
        let line = lab.line(host, "grep CapBnd /proc/self/status").await;
        u64::from_str_radix(line.trim_start_matches("CapBnd:").trim(), 16).unwrap()
    };
    let wishes = json!({
        "entrypoint": ["/bin/sh", "-c", "echo \"$0 $1\" > /tmp/entered; exec sleep 1000"],
        "command": "one 'two three'",
        "cap_add": "net_admin",
        "cap_drop": "CHOWN",
    });
    let host = lab.host(DEBIAN, wishes).await;
    assert_eq!(lab.line(&host, "cat /tmp/entered").await, "one two three\n");
    let has = bounds(&host).await;
    assert_eq!((has & CHOWN, has & NET_ADMIN, has & SYS_ADMIN), (0, NET_ADMIN, 0), "{has:x}");
    lab.provider.release(&host).await.unwrap();

    let order = lab.order(DEBIAN, json!({"privileged": true}));
    match lab.provider.checkout(&order).await {
        Ok(facts) => {
            let host = lab.record(&order, facts).await;
            let has = bounds(&host).await;
            assert_eq!(has & SYS_ADMIN, SYS_ADMIN, "{has:x}");
            lab.provider.release(&host).await.unwrap();
        }
        // All rights there are cannot be given on a machine that does not have all of them itself.
        Err(error) => assert!(chain(&error).contains("caps"), "{}", chain(&error)),
    }
}

async fn the_platform_is_asked_for(lab: Lab) {
    let (own, other) = if cfg!(target_arch = "x86_64") { ("amd64", "arm64") } else { ("arm64", "amd64") };
    let host = lab.host(DEBIAN, json!({"platform": format!("linux/{own}")})).await;
    assert_eq!(lab.line(&host, "uname -m").await.trim(), std::env::consts::ARCH);
    lab.provider.release(&host).await.unwrap();
    let error = lab.failure(DEBIAN, json!({"platform": format!("linux/{other}"), "pull": "never"})).await;
    assert!(chain(&error).contains(DEBIAN), "{}", chain(&error));
}

fn http(place: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(place).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

async fn ports_can_be_reached_as_they_are_told(lab: Lab) {
    let host = lab.host(PORTS, json!({"wait": "port:8080,http:8080/"})).await;
    let place = &host.details.ports["8080/tcp"];
    assert!(place.starts_with("127.0.0.1:"), "{place}");
    assert!(host.details.ports["9090/tcp"].starts_with("127.0.0.1:"), "{:?}", host.details.ports);
    assert!(http(place, "/").starts_with("HTTP/1."), "{place}");
    lab.provider.release(&host).await.unwrap();
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn an_explicit_port_wins_over_the_exposed_one(lab: Lab) {
    let (one, other) = (free_port(), free_port());
    let ports = format!("8080:{one}, 127.0.0.1:{other}:22/tcp");
    let host = lab.host(PORTS, json!({"ports": ports})).await;
    assert_eq!(host.details.ports["8080/tcp"], format!("127.0.0.1:{one}"));
    assert_eq!(host.details.ports["22/tcp"], format!("127.0.0.1:{other}"));
    assert!(host.details.ports.contains_key("9090/tcp"));
    assert_eq!((host.address.as_deref(), host.ssh_port), (Some("127.0.0.1"), Some(other)));
    lab.provider.release(&host).await.unwrap();
}

async fn a_healthcheck_is_waited_for(lab: Lab) {
    let host = lab.host(HEALTH, json!({})).await;
    lab.line(&host, "test -e /tmp/healthy").await;
    lab.provider.release(&host).await.unwrap();
}

async fn conditions_are_waited_for(lab: Lab) {
    let begun = Instant::now();
    let host = lab
        .host(
            TINY,
            json!({
                "command": ["sh", "-c", "echo warming up; sleep 1; echo it is up, really; touch /tmp/up; nc -l -p 7 & exec sleep 1000"],
                "wait": ["running", "log:it is up, really", "command:test -e /tmp/up", "port:7"],
            }),
        )
        .await;
    assert!(begun.elapsed() > Duration::from_secs(1));
    lab.provider.release(&host).await.unwrap();
}

async fn files_are_there_before_the_start(lab: Lab) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("tool");
    std::fs::write(&source, "#!/bin/sh\necho ran before all else\n").unwrap();
    let host = lab
        .host(
            TINY,
            json!({
                "files": {
                    "/opt/new/tool": {"source": source.to_str().unwrap(), "mode": "0755"},
                    "/etc/app/secret": {"content": "hush", "mode": "0600"},
                    "/etc/app/bytes": {"base64": "AAH/"},
                },
                "command": "sh -c '/opt/new/tool > /tmp/ran; exec sleep 1000'",
                "wait": "command:test -s /tmp/ran",
            }),
        )
        .await;
    assert_eq!(lab.line(&host, "cat /tmp/ran").await, "ran before all else\n");
    assert_eq!(lab.line(&host, "cat /etc/app/secret; stat -c ' %a %u' /etc/app/secret").await, "hush 600 0\n");
    assert_eq!(lab.line(&host, "od -An -tx1 /etc/app/bytes").await.trim(), "00 01 ff");
    assert_eq!(lab.line(&host, "stat -c %a /opt/new").await, "755\n");
    lab.provider.release(&host).await.unwrap();
}

async fn hosts_of_a_group_find_one_another(lab: Lab) {
    let group = format!("group-{}", broker_core::HostId::generate().short());
    let web = json!({"network_group": group, "hostname": "web", "wait": "port:8080"});
    let (web, client) = tokio::join!(lab.host(PORTS, web), lab.host(TINY, json!({"network_group": group})));
    let name = web.name.clone().unwrap();
    for name in ["web", &name] {
        let line =
            format!("wget -q -O /dev/null http://{name}:8080/ || wget -S -O - http://{name}:8080/ 2>&1 | grep HTTP/");
        lab.line(&client, &line).await;
    }
    let networks = || {
        let (_, networks) = lab.ask("/networks");
        networks.as_array().unwrap().iter().filter(|network| network["Name"] == group.as_str()).count()
    };
    assert_eq!(networks(), 1);
    lab.provider.release(&web).await.unwrap();
    assert_eq!(networks(), 1, "one host is left in it");
    lab.provider.release(&client).await.unwrap();
    assert_eq!(networks(), 0);
    // It is made again when the group comes back.
    let again = lab.host(TINY, json!({"network_group": group})).await;
    assert_eq!(networks(), 1);
    lab.provider.release(&again).await.unwrap();
    assert_eq!(networks(), 0);
}

async fn several_processes_join_one_group(lab: Lab) {
    for _ in 0..3 {
        let group = format!("group-{}", broker_core::HostId::generate().short());
        // What a provider has looked up the others do not know, as if each were in a process of its own.
        let providers: Vec<_> = (0..7).map(|_| provider(&[("host", &lab.socket)])).collect();
        let joining = providers.iter().map(async |provider| {
            let order = lab.order(TINY, json!({"network_group": group}));
            let facts = provider.checkout(&order).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
            lab.record(&order, facts).await
        });
        let hosts = futures_util::future::join_all(joining).await;
        let count = || {
            let (_, networks) = lab.ask("/networks");
            networks.as_array().unwrap().iter().filter(|network| network["Name"] == group.as_str()).count()
        };
        assert_eq!(count(), 1);
        let leaving = hosts.iter().zip(&providers).map(|(host, provider)| provider.release(host));
        let left = futures_util::future::join_all(leaving).await;
        assert!(left.iter().all(Result::is_ok), "{left:?}");
        assert_eq!(count(), 0);
    }
}

async fn modes_take_the_place_of_networks(lab: Lab) {
    let other = lab.host(TINY, json!({})).await;
    let with_other = format!("container:{}", other.name.as_deref().unwrap());
    let mut modes = vec!["host", "none", "bridge", with_other.as_str()];
    if lab.podman {
        modes.push("private");
    }
    for mode in modes {
        let order = lab.order(TINY, json!({"network": mode}));
        lab.provider.prepare(std::slice::from_ref(&order)).await.unwrap();
        let facts = lab.provider.checkout(&order).await.unwrap_or_else(|error| panic!("{mode}: {}", chain(&error)));
        let host = lab.record(&order, facts).await;
        let interfaces = lab.line(&host, "ls /sys/class/net | tr '\\n' ' '").await;
        match mode {
            "none" => assert_eq!(interfaces, "lo "),
            "host" => {
                let id = host.details.facts["container"].as_str().unwrap();
                assert_eq!(lab.ask(&format!("/containers/{id}/json")).1["HostConfig"]["NetworkMode"], "host");
            }
            _ => assert!(interfaces.contains("eth0"), "{mode}: {interfaces}"),
        }
        lab.provider.release(&host).await.unwrap();
    }
    lab.provider.release(&other).await.unwrap();
}

async fn a_healthcheck_has_the_time_that_its_image_gives_it(lab: Lab) {
    let host = lab.host(HEALTH_LATE, json!({})).await;
    assert_eq!(lab.line(&host, "cat /tmp/healthy").await, "");
    lab.provider.release(&host).await.unwrap();
}

async fn short_names_of_local_images(lab: Lab) {
    let host = lab.host("broker-testhost:tiny", json!({"pull": "never"})).await;
    assert_eq!(host.details.facts["image"], TINY);
    lab.provider.release(&host).await.unwrap();
}

async fn many_at_once(lab: Lab) {
    let orders: Vec<_> = (0..6).map(|_| lab.order(TINY, json!({}))).collect();
    lab.provider.prepare(&orders).await.unwrap();
    let made = futures_util::future::join_all(orders.iter().map(|order| lab.provider.checkout(order))).await;
    assert_eq!(lab.containers().await.len(), 6);
    let mut records = Vec::new();
    for (order, facts) in orders.iter().zip(made) {
        records.push(lab.record(order, facts.unwrap()).await);
    }
    let released = futures_util::future::join_all(records.iter().map(|host| lab.provider.release(host))).await;
    assert!(released.iter().all(Result::is_ok), "{released:?}");
    assert!(lab.containers().await.is_empty());
}

async fn a_network_that_exists_is_joined(lab: Lab) {
    // The group's network serves as one that is there.
    let name = format!("net-{}", broker_core::HostId::generate().short());
    let maker = lab.host(TINY, json!({"network_group": name})).await;
    let order = lab.order(TINY, json!({"network": name}));
    lab.provider.prepare(std::slice::from_ref(&order)).await.unwrap();
    let facts = lab.provider.checkout(&order).await.unwrap();
    let host = lab.record(&order, facts).await;
    let (_, container) = lab.ask(&format!("/containers/{}/json", host.details.facts["container"].as_str().unwrap()));
    assert!(container["NetworkSettings"]["Networks"].get(&name).is_some(), "{}", container["NetworkSettings"]);
    lab.provider.release(&host).await.unwrap();
    lab.provider.release(&maker).await.unwrap();
}
