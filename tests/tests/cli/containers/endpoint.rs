//! A container is released where it was made, and nowhere else.

use std::fs;
use std::os::unix::fs::symlink;

use broker_tests::engines::{Engine, image};

use crate::support::Env;

#[test]
fn another_engine_at_the_same_place_is_not_asked_to_release() {
    let (Some(docker), Some(podman)) = (Engine::docker(), Engine::podman()) else { return };
    let mut env = Env::new();
    let socket = env.root().join("engine.sock");
    env.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    symlink(&docker.socket, &socket).unwrap();
    env.broker(&format!("checkout --container-host {}", image("tiny"))).ok();

    fs::remove_file(&socket).unwrap();
    symlink(&podman.socket, &socket).unwrap();
    env.broker("checkin 0").exits(7).says("endpoint").hints("broker forget");
    assert_eq!(env.inventory().len(), 1, "the record stays");
    assert_eq!(env.containers(&docker), 1);
    // Nor does a sync there take it for vanished.
    env.broker("inventory --sync Container");
    assert!(env.inventory().iter().all(|host| host["state"] != "vanished"));

    fs::remove_file(&socket).unwrap();
    env.broker("checkin 0").exits(7).says("engine.sock");
    assert_eq!(env.inventory().len(), 1);

    symlink(&docker.socket, &socket).unwrap();
    env.broker("checkin 0").ok();
    assert_eq!(env.inventory().len(), 0);
    assert_eq!(env.containers(&docker), 0);
}

#[test]
fn where_it_was_made_goes_before_what_is_configured_now() {
    let (Some(docker), Some(podman)) = (Engine::docker(), Engine::podman()) else { return };
    let env = Env::new();
    let at = |engine: &Engine| format!("unix://{}", engine.socket.display());
    env.call(&format!("checkout --container-host {}", image("tiny"))).env("DOCKER_HOST", at(&docker)).run().ok();
    env.call("exec 0 -- true").env("DOCKER_HOST", at(&podman)).run().ok();
    env.call("checkin 0").env("DOCKER_HOST", at(&podman)).run().ok();
    assert_eq!(env.containers(&docker), 0);
}
