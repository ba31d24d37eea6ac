//! Real containers of a process that is killed.

use std::time::Duration;

use broker::prelude::*;
use broker_tests::conformance::current_thread;
use broker_tests::engines::{Engine, image};
use broker_tests::wait::until_within;

use crate::support::{LONG, Watcher, holder, name_of};

fn containers_of_the_killed(test: &str, engine: &str) {
    if let Some(holder) = holder() {
        let request = HostRequest::container(image("tiny"));
        if holder.role == "holds" {
            let request = request.teardown_command("echo torn down > /proc/1/fd/1");
            let _guards = current_thread().block_on(holder.broker().checkout_many(request.count(3))).unwrap();
            holder.wait_for_the_end();
        }
        holder.sign("ready");
        let _guards = current_thread().block_on(holder.broker().checkout_many(request.count(3))).unwrap();
        holder.wait_for_the_end();
    }
    let Some(engine) = Engine::named(engine) else { return };
    let mut watcher = Watcher::new(test);
    watcher.env.set("BROKER_Container__host", format!("unix://{}", engine.socket.display()));
    let holder = watcher.start_ready("holds");
    assert_eq!(watcher.env.containers(&engine), 3);
    holder.kill();
    let settled = || watcher.env.containers(&engine) == 0 && watcher.guardians().is_empty();
    until_within(LONG, "three containers to go", settled);
    assert!(watcher.records().is_empty(), "{:#?}", watcher.records());
    for moment in [100, 300, 700] {
        let holder = watcher.start_ready("checks out");
        std::thread::sleep(Duration::from_millis(moment));
        holder.kill();
        until_within(LONG, "what was begun to go", || watcher.guardians().is_empty());
        assert_eq!(watcher.env.containers(&engine), 0, "killed after {moment} ms\n{}", watcher.log());
        assert!(watcher.records().is_empty(), "killed after {moment} ms: {:#?}", watcher.records());
    }
}

#[test]
fn docker_containers_go_with_their_process() {
    containers_of_the_killed(name_of!(docker_containers_go_with_their_process), "docker");
}

#[test]
fn podman_containers_go_with_their_process() {
    containers_of_the_killed(name_of!(podman_containers_go_with_their_process), "podman");
}
