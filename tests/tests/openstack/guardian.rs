//! The guardian of a process that has found its cloud in its working directory.

use std::path::PathBuf;
use std::time::Duration;

use broker::prelude::*;
use broker_tests::conformance::current_thread;
use broker_tests::env::program;
use broker_tests::openstack::NETWORK;
use broker_tests::wait;

use crate::Lab;

/// Where the process that holds a host says so.
const READY: &str = "BROKER_TESTS_OPENSTACK_READY";

/// How long the guardian may take.
const LONG: Duration = Duration::from_secs(90);

#[test]
fn a_guardian_knows_the_cloud_that_its_owner_has_found() {
    if let Some(ready) = std::env::var_os(READY) {
        let request = HostRequest::action("ostack_image", "tiny").arg("ostack_wait", "active");
        let _guard = current_thread().block_on(Broker::new().unwrap().checkout(request)).unwrap();
        std::fs::write(PathBuf::from(ready), "").unwrap();
        loop {
            std::thread::park();
        }
    }
    let mut lab = Lab::new();
    let auth = format!("auth_url: '{}', {}", lab.tenant.lab.auth_url, lab.tenant.credentials(lab.project()));
    let clouds = lab.env.write("work/clouds.yaml", format!("clouds: {{mine: {{auth: {{{auth}}}}}}}\n"));
    let work = clouds.parent().unwrap();
    lab.env
        .write_settings(&format!("OpenStack: {{cloud: mine, default_flavor: m1.nano, default_network: {NETWORK}}}\n"));
    let ready = lab.env.root().join("ready");
    lab.env.set("BROKER_GUARDIAN", program()).set(READY, &ready);
    let name = "guardian::a_guardian_knows_the_cloud_that_its_owner_has_found";
    let mut command = lab.env.command(std::env::current_exe().unwrap());
    let mut holder = command.args(["--exact", name, "--nocapture"]).current_dir(work).spawn().unwrap();
    let is_ready = || ready.exists() || holder.try_wait().unwrap().is_some();
    wait::until("it to hold a host", is_ready);
    assert_eq!(lab.project().servers().len(), 1);
    std::fs::remove_dir_all(work).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait::until_every(Duration::from_millis(500), LONG, "the guardian to check it in", || lab.inventory().is_empty());
    lab.nothing_is_left();
}
