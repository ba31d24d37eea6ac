//! `broker execute --container-app`, and what an engine offers.

use broker_tests::engines::image;

use super::{Lab, on_each_engine};
use crate::support::array;

on_each_engine!(
    an_app_runs_to_its_end,
    an_app_that_hangs_is_ended,
    an_app_whose_broker_was_killed_is_found,
    images_are_listed_and_described,
);

fn an_app_runs_to_its_end(lab: Lab) {
    let run = format!("execute --container-app {}", image("tiny"));
    let said = lab.env.broker(&format!("{run} --command 'echo hello world' --environment A=1")).ok();
    assert_eq!(said.out().trim(), "hello world");
    let failed =
        lab.env.script(&format!("broker {run} --command \"sh -c 'echo out; echo err >&2; exit 4'\"")).run().exits(7);
    let failed = failed.says("4");
    assert!(failed.out().contains("out") && failed.out().contains("err"), "{failed}");
    let raw = lab.env.broker(&format!("{run} --command 'echo hello' -o raw")).ok();
    assert_eq!(raw.out(), "hello\n");
    let report = lab.env.broker(&format!("execute --container-app {} --output-file out.json", image("exits"))).exits(7);
    drop(report);
    let report = std::fs::read_to_string(lab.env.work_path("out.json")).unwrap();
    assert!(report.contains("no configuration found") && report.contains("\"return_code\": 7"), "{report}");
    lab.env.broker("execute --container-app localhost/broker-no-such-image:x").exits(7);
    lab.assert_nothing_left();
}

fn an_app_that_hangs_is_ended(lab: Lab) {
    let run = format!("execute --container-app {} --command 'sleep 1000'", image("tiny"));
    lab.env.broker(&format!("{run} --timeout 1s")).exits(7);
    lab.assert_nothing_left();
    let running = lab.env.call(&run).start();
    broker_tests::wait::until("it runs", || lab.containers() == 1);
    running.signal("INT");
    running.finish().exits(130);
    lab.assert_nothing_left();
}

/// No entry speaks of it, but its labels do.
fn an_app_whose_broker_was_killed_is_found(lab: Lab) {
    let run = format!("execute --container-app {} --command 'sleep 1000'", image("tiny"));
    let running = lab.env.call(&run).start();
    broker_tests::wait::until("it runs", || lab.containers() == 1);
    running.signal("KILL");
    running.finish();
    lab.check_out("tiny", "");
    let orphans = lab.env.broker("inventory --orphans Container --output json").ok().json();
    let found = array(orphans["not_held"].clone());
    assert_eq!(found.len(), 1, "{orphans}");
    assert_eq!(found[0]["action"], "container_app");
    assert!(found[0]["age_seconds"].as_u64().is_some_and(|age| age < 600), "{orphans}");
    assert!(found[0]["lease_until"].is_string(), "so that it can be reaped some day: {orphans}");
    // It is no host.
    lab.env.broker("inventory --sync Container").ok();
    assert_eq!(lab.env.inventory().len(), 1);
    lab.env.broker("reap --unknown --provider Container --dry-run").ok().prints_nothing();
    assert_eq!(lab.containers(), 2);
    lab.env.broker("checkin --all --yes").ok();
}

fn images_are_listed_and_described(lab: Lab) {
    let tiny = image("tiny");
    lab.env.broker("providers Container --container-hosts").ok().prints(&tiny);
    lab.env.broker("providers Container --container-apps").ok().prints(&tiny);
    let rows = array(lab.env.broker("providers Container --container-hosts --output json").ok().json());
    assert!(rows.iter().any(|row| row["image"] == tiny), "{rows:?}");
    let details = lab.env.broker(&format!("providers Container --container-host {}", image("ports"))).ok();
    let details = details.prints("8080").prints("9090");
    assert!(details.out().contains("broker_compatible=true"), "{details}");
    lab.env.broker("providers Container --container-host localhost/none:x").exits(7).says("localhost/none:x");
    lab.env.broker("providers Container --container-hots").exits(2).hints("--container-hosts");
}
