//! The life of a container: out, used, and in again.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use broker_tests::engines::{Engine, image};

use super::{Lab, on_each_engine};
use crate::support::{Env, texts};

on_each_engine!(
    the_main_job,
    ports_are_published_on_this_machine_alone,
    a_container_is_as_it_was_asked_for,
    labels_say_whose_it_is,
    ready_means_healthy,
    a_vanished_container_checks_in_fine,
    a_checkout_that_is_killed_leaves_nothing_unknown,
    a_group_finds_each_other_by_name;
    docker: a_nick_makes_containers,
);

fn the_main_job(lab: Lab) {
    let checkout = lab.env.broker(&format!("checkout --container-host {} --count 3", image("tiny"))).ok();
    assert_eq!(checkout.numbers(), [0, 1, 2]);
    assert_eq!(lab.containers(), 3);
    let hosts = lab.env.inventory();
    let names = texts(&hosts, "name");
    assert!(names.iter().all(|name| name.starts_with(lab.env.user())), "{names:?}");
    for (line, name) in checkout.out().lines().zip(&names) {
        assert!(line.ends_with(&format!("\t{name}")), "{checkout}");
    }
    for (number, host) in hosts.iter().enumerate() {
        // `hostname` is what the machine calls itself.
        let said = lab.env.broker(&format!("exec {number} -- hostname")).ok();
        assert_eq!(said.out().trim(), host["hostname"].as_str().unwrap());
    }
    lab.env.broker("inventory").ok().prints(hosts[0]["hostname"].as_str().unwrap()).prints("Container");
    lab.env.broker(&format!("checkin 0 {}", names[1])).ok();
    assert_eq!(lab.containers(), 1);
    lab.env.broker("checkin --all --yes").ok().prints_nothing();
    lab.assert_nothing_left();
}

fn ports_are_published_on_this_machine_alone(lab: Lab) {
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    lab.check_out("ports", &format!("--ports 8080:{free} --wait port:8080"));
    let host = &lab.env.inventory()[0];
    assert_eq!(host["exposed_ports"]["8080/tcp"], format!("127.0.0.1:{free}"), "{host}");
    let other = host["exposed_ports"]["9090/tcp"].as_str().unwrap();
    assert!(other.starts_with("127.0.0.1:"), "every exposed port is published: {host}");
    let mut web = TcpStream::connect(("127.0.0.1", free)).unwrap();
    web.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    web.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    web.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    lab.check_out("ports", "--auto-map-ports false");
    assert!(lab.env.inventory()[1].get("exposed_ports").is_none());
}

fn a_container_is_as_it_was_asked_for(lab: Lab) {
    let shared = lab.env.root().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("note"), "from outside\n").unwrap();
    let volume = format!("{}:/shared:ro", shared.display());
    let name = format!("{}_mine", lab.env.user());
    lab.check_out(
        "tiny",
        &format!("--name {name} --hostname box.example.com --environment A=x=y,B=2 --volumes {volume} --user 1000:1000 --tmpfs /scratch:size=1m"),
    );
    let asked = "hostname; echo $A $B; cat /shared/note; touch /shared/x 2>/dev/null || echo read-only; id -u; df /scratch | grep -c tmpfs";
    let said = lab.env.broker(&format!("exec {name} -- '{asked}'")).ok();
    assert_eq!(said.out(), "box.example.com\nx=y 2\nfrom outside\nread-only\n1000\n1\n", "{said}");
    let host = &lab.env.inventory()[0];
    assert_eq!((host["name"].as_str(), host["hostname"].as_str()), (Some(name.as_str()), Some("box.example.com")));

    lab.check_out("tiny", "--command 'sleep 1000'");
    let processes = lab.env.broker("exec 1 -- 'tr \"\\0\" \" \" < /proc/1/cmdline'").ok();
    assert!(processes.out().contains("sleep 1000"), "{processes}");
}

fn labels_say_whose_it_is(lab: Lab) {
    lab.check_out("tiny", "--provider-labels team=qe --lease 2h");
    let id = texts(&lab.env.inventory(), "id").remove(0);
    let found = lab.engine.with_label("broker.id", &id);
    assert_eq!(found.len(), 1);
    let labels = &found[0].labels;
    assert_eq!(labels["team"], "qe", "{labels:?}");
    assert!(labels["broker.owner"].starts_with(lab.env.user()), "{labels:?}");
    assert!(labels.contains_key("broker.origin") && labels.contains_key("broker.lease_until"), "{labels:?}");
}

fn ready_means_healthy(lab: Lab) {
    lab.check_out("health", "");
    lab.env.broker("exec 0 -- test -e /tmp/healthy").ok();
}

fn a_vanished_container_checks_in_fine(lab: Lab) {
    lab.check_out("tiny", "--count 3");
    let id = texts(&lab.env.inventory(), "id").remove(1);
    lab.engine.remove(&lab.engine.with_label("broker.id", &id)[0].id);
    lab.env.broker("exec 1 -- true").exits(255);
    lab.env.broker("checkin 0 1 2").ok();
    lab.assert_nothing_left();
}

fn a_checkout_that_is_killed_leaves_nothing_unknown(lab: Lab) {
    // For so long a creation may be carried out that nobody was there to hear of.
    lab.env.write_settings("Container:\n  timeout: 10\n");
    for moment in [50, 150, 300, 600] {
        let line = format!("checkout --container-host {} --count 2", image("tiny"));
        let running = lab.env.call(&line).start();
        std::thread::sleep(Duration::from_millis(moment));
        running.signal("KILL");
        running.finish();
        // What the engine was asked for may take a moment to be there.
        std::thread::sleep(Duration::from_millis(500));
        assert!(lab.containers() <= lab.env.inventory().len());
        lab.env.broker("checkin --all --yes").ok();
        lab.assert_nothing_left();
    }
}

fn a_nick_makes_containers(lab: Lab) {
    lab.env.write_settings(&format!(
        "nicks:\n  tiny:\n    container_host: {}\n    environment: {{LANG: C, LIST: 'a,b'}}\n    count: 2\n",
        image("tiny")
    ));
    assert_eq!(lab.env.broker("checkout --nick tiny").ok().numbers(), [0, 1]);
    assert_eq!(lab.env.broker("exec 1 -- 'echo $LANG $LIST'").ok().out(), "C a,b\n");
    assert_eq!(lab.env.broker("duplicate 1").ok().numbers(), [2]);
    assert_eq!(lab.env.broker("exec 2 -- 'echo $LIST'").ok().out(), "a,b\n");
}

fn a_group_finds_each_other_by_name(lab: Lab) {
    let group = format!("{}-net", lab.env.user());
    let _network = ForeignNetwork { lab: &lab, name: &group };
    lab.check_out("ports", &format!("--network-group {group} --hostname server --auto-map-ports false"));
    lab.check_out("tiny", &format!("--network-group {group}"));
    let name = texts(&lab.env.inventory(), "name").remove(0);
    for host in ["server", &name] {
        lab.env.broker(&format!("exec 1 -- wget -q -O - http://{host}:8080/index.html")).ok();
    }
    lab.env.broker("checkin --all --yes").ok();
    lab.assert_nothing_left();
    assert!(!lab.networks().contains(&group), "the network goes with its last host");
}

impl Lab {
    fn networks(&self) -> Vec<String> {
        self.client("network ls --format {{.Name}}").lines().map(str::to_owned).collect()
    }
}

/// Removes a network that Broker should have removed.
struct ForeignNetwork<'a> {
    lab: &'a Lab,
    name: &'a str,
}

impl Drop for ForeignNetwork<'_> {
    fn drop(&mut self) {
        let Lab { env, engine } = self.lab;
        for container in engine.with_any("broker.owner") {
            if container.labels["broker.owner"].starts_with(env.user()) {
                engine.remove(&container.id);
            }
        }
        if self.lab.networks().iter().any(|network| network == self.name) {
            self.lab.client(&format!("network rm {}", self.name));
        }
    }
}

#[test]
fn the_setting_chooses_between_the_engines_of_this_machine() {
    for engine in Engine::all() {
        let mut env = Env::new();
        env.set("BROKER_Container__runtime", engine.name);
        env.broker(&format!("checkout --container-host {}", image("tiny"))).ok();
        assert_eq!(env.containers(&engine), 1, "{}", engine.name);
        // The record knows where it was made: the setting does not matter any more.
        env.unset("BROKER_Container__runtime");
        env.broker("exec 0 -- true").ok();
        env.broker("checkin 0").ok();
        assert_eq!(env.containers(&engine), 0);
    }
}

#[test]
fn without_settings_an_engine_is_found() {
    let engines = Engine::all();
    if engines.is_empty() {
        return;
    }
    let env = Env::new();
    env.broker(&format!("checkout --container-host {}", image("tiny"))).ok();
    assert_eq!(engines.iter().map(|engine| env.containers(engine)).sum::<usize>(), 1);
    env.broker("checkin --all --yes").ok();
    assert!(!env.broker_path("broker_settings.yaml").exists());
}

#[test]
fn one_inventory_holds_hosts_of_several_engines() {
    let engines = Engine::all();
    let env = Env::new();
    for engine in &engines {
        let socket = format!("unix://{}", engine.socket.display());
        env.call(&format!("checkout --container-host {}", image("tiny"))).env("DOCKER_HOST", socket).run().ok();
    }
    assert_eq!(env.inventory().len(), engines.len());
    env.broker("exec --all -- true").ok();
    env.broker("checkin --all --yes").ok();
    assert!(engines.iter().all(|engine| env.containers(engine) == 0));
}
