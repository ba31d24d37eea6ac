//! What cannot be had: each with an error that names it, and nothing left behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::Duration;

use broker_tests::engines::{Engine, image};
use broker_tests::env::program;

use super::{Lab, on_each_engine};
use crate::support::{Env, Outcome, is_root};

on_each_engine!(
    an_image_that_is_nowhere,
    a_port_in_use,
    a_name_in_use,
    an_image_that_exits_at_once,
    what_is_never_ready,
    one_bad_host_of_a_batch_leaves_the_good_ones,
    a_network_that_is_nowhere;
    docker: a_name_for_several, arguments_that_do_not_do, every_error_comes_with_a_hint,
);

impl Lab {
    /// Asks for a container that cannot be had. It leaves nothing.
    #[track_caller]
    fn refuse(&self, code: i32, line: &str) -> Outcome {
        let outcome = self.env.broker(line).exits(code).prints_nothing();
        assert_eq!(outcome.errors(), 1, "{outcome}");
        self.assert_nothing_left();
        outcome
    }
}

fn an_image_that_is_nowhere(lab: Lab) {
    let outcome = lab.refuse(7, "checkout --container-host localhost/broker-no-such-image:x --count 2");
    outcome.says("localhost/broker-no-such-image:x").within(Duration::from_secs(60));
    let outcome = lab.refuse(7, "checkout --container-host localhost/broker-no-such-image:x --pull never");
    outcome.says("localhost/broker-no-such-image:x");
    lab.refuse(7, "checkout --container-host 'not an image'").says("`not an image`");
}

fn a_port_in_use(lab: Lab) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    lab.refuse(7, &format!("checkout --container-host {} --ports 8080:{port}", image("ports"))).says(&port.to_string());
}

fn a_name_in_use(lab: Lab) {
    let name = format!("{}_twin", lab.env.user());
    lab.check_out("tiny", &format!("--name {name}"));
    let outcome = lab.env.broker(&format!("checkout --container-host {} --name {name}", image("tiny")));
    outcome.exits(7).says(&name).prints_nothing();
    assert_eq!(lab.containers(), 1);
    assert_eq!(lab.env.inventory().len(), 1);
    lab.env.broker(&format!("exec {name} -- true")).ok();
    lab.env.broker("checkin 0").ok();
    lab.assert_nothing_left();
}

fn a_name_for_several(lab: Lab) {
    let name = format!("{}_twin", lab.env.user());
    lab.refuse(7, &format!("checkout --container-host {} --name {name} --count 2", image("tiny"))).says(&name);
}

fn an_image_that_exits_at_once(lab: Lab) {
    let outcome = lab.refuse(7, &format!("checkout --container-host {}", image("exits")));
    outcome.says("3").says("fatal: no configuration found");
}

fn what_is_never_ready(lab: Lab) {
    let tiny = image("tiny");
    let outcome = lab.refuse(7, &format!("checkout --container-host {tiny} --wait port:4242 --wait-timeout 2s"));
    outcome.says("4242").says("2s").within(Duration::from_secs(40));
    let outcome = lab.refuse(7, &format!("checkout --container-host {tiny} --wait log:never --timeout 2s"));
    outcome.says("2s").within(Duration::from_secs(40));
}

fn arguments_that_do_not_do(lab: Lab) {
    let tiny = image("tiny");
    let refuse = |code, options: &str| lab.refuse(code, &format!("checkout --container-host {tiny} {options}"));
    refuse(2, "--enviroment A=1").says("--enviroment").hints("--environment");
    refuse(2, "--port 22").says("--port").hints("--ports");
    refuse(2, "--privilegd").hints("--privileged");
    refuse(7, "--nonsense 1").says("`nonsense`");
    refuse(7, "--arg enviromnet=A=1").says("`enviromnet`").says("`environment`");
    refuse(7, "--ports many").says("`ports`").says("many");
    refuse(7, "--environment novalue").says("`environment`");
    refuse(7, "--volumes nocolon").says("`volumes`");
    refuse(7, "--shm-size big").says("`shm_size`");
    refuse(7, "--wait nonsense").says("`wait`");
    refuse(7, "--pull sometimes").says("`pull`");
}

fn one_bad_host_of_a_batch_leaves_the_good_ones(lab: Lab) {
    // The second of two that want the same port cannot start.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let line = format!("checkout --container-host {} --ports 8080:{free} --count 2", image("ports"));
    let outcome = lab.env.broker(&line).exits(7);
    assert_eq!((outcome.numbers().len(), outcome.errors()), (1, 1), "{outcome}");
    assert_eq!((lab.env.inventory().len(), lab.containers()), (1, 1));
    lab.env.broker("checkin --all --yes").ok();
    lab.env.broker(&format!("{line} --all-or-nothing")).exits(7).prints_nothing();
    lab.assert_nothing_left();
}

fn a_network_that_is_nowhere(lab: Lab) {
    lab.refuse(7, &format!("checkout --container-host {} --network no-such-network", image("tiny")))
        .says("no-such-network");
}

fn every_error_comes_with_a_hint(lab: Lab) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let name = format!("{}_twin", lab.env.user());
    let (tiny, ports, exits) = (image("tiny"), image("ports"), image("exits"));
    lab.check_out("tiny", &format!("--name {name}"));
    let mut without = String::new();
    for line in [
        "checkout --container-host localhost/broker-no-such-image:x".to_owned(),
        format!("checkout --container-host {ports} --ports 8080:{port}"),
        format!("checkout --container-host {tiny} --name {name}"),
        format!("checkout --container-host {exits}"),
        format!("checkout --container-host {tiny} --nonsense 1"),
        format!("checkout --container-host {tiny} --ports many"),
        format!("checkout --container-host {tiny} --network no-such-network"),
        format!("checkout --container-host {tiny} --wait port:4242 --wait-timeout 1s"),
        format!("checkout --container-host {tiny} --timeout 1ms"),
        "execute --container-app localhost/broker-no-such-image:x".to_owned(),
        "providers Container --container-host localhost/none:x".to_owned(),
        "cp 0:/none x".to_owned(),
    ] {
        let outcome = lab.env.broker(&line);
        assert_ne!(outcome.code(), Some(0), "{outcome}");
        let says_itself = outcome.stderr.contains("`wait_timeout` gives it more time");
        if !says_itself && !outcome.stderr.lines().any(|line| line.starts_with("hint: ")) {
            without.push_str(&format!("{outcome}\n"));
        }
    }
    let nowhere =
        lab.env.call(&format!("checkout --container-host {tiny}")).env("DOCKER_HOST", "unix:///nowhere").run();
    if !nowhere.stderr.lines().any(|line| line.starts_with("hint: ")) {
        without.push_str(&format!("{nowhere}\n"));
    }
    assert!(without.is_empty(), "without a hint:\n{without}");
}

#[test]
fn an_engine_that_is_named_and_not_there() {
    for variable in ["DOCKER_HOST", "CONTAINER_HOST"] {
        let mut env = Env::new();
        env.set(variable, "unix:///nowhere/engine.sock");
        for line in
            ["checkout --container-host x", "providers Container --container-hosts", "inventory --sync Container"]
        {
            env.broker(line).exits(7).says("/nowhere/engine.sock").says(variable).prints_nothing();
        }
        assert_eq!(env.inventory().len(), 0);
    }
    let env = Env::new();
    for value in ["unix://", "ftp://host", "tcp://host:99999"] {
        let outcome = env.call("checkout --container-host x").env("DOCKER_HOST", value).run();
        outcome.exits(7).says("DOCKER_HOST").says(value);
    }
}

#[test]
fn no_engine_anywhere_lists_every_place() {
    let env = Env::new();
    let become_root = if is_root() { "" } else { "--map-root-user" };
    let hide = format!("mount -t tmpfs tmpfs /run && exec '{}' checkout --container-host x", program().display());
    let outcome = env.script(&format!("exec unshare --mount {become_root} sh -c \"{hide}\"")).run().exits(7);
    let home = env.root().join("home/.docker/run/docker.sock");
    for place in ["/run/podman/podman.sock", "/var/run/docker.sock", home.to_str().unwrap()] {
        assert!(outcome.stderr.contains(place), "no {place}: {outcome}");
    }
    assert_eq!(env.inventory().len(), 0);
}

#[test]
fn a_socket_that_this_user_may_not_use() {
    let Some(engine) = Engine::docker() else { return };
    let mut env = Env::new();
    let socket = if is_root() {
        engine.socket
    } else {
        // One's own socket can be closed to oneself.
        let path = env.root().join("closed.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        path
    };
    env.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    let mut unprivileged = String::new();
    let mut broker = program();
    if is_root() {
        const NOBODY: u32 = 65534;
        unprivileged = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups ");
        // The program may be where nobody else can look.
        let copy = env.root().join("broker-program");
        fs::copy(&broker, &copy).unwrap();
        broker = copy;
        fs::set_permissions(env.root(), fs::Permissions::from_mode(0o755)).unwrap();
        for directory in ["home", "broker", "work", "tmp"] {
            chown(env.root().join(directory), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let line = format!("exec {unprivileged}'{}' checkout --container-host x", broker.display());
    let outcome = env.script(&line).run().exits(6).prints_nothing();
    outcome.says(&socket.display().to_string()).says("permission");
    assert_eq!(env.inventory().len(), 0);
}
