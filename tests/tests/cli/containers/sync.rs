//! `broker inventory --sync Container`.

use std::fs;

use super::{Lab, on_each_engine};
use crate::support::texts;

on_each_engine!(
    what_vanished_is_marked_and_what_is_there_stays,
    an_inventory_that_was_lost_is_found_again,
    foreign_containers_come_in_by_prefix_and_by_label,
);

fn what_vanished_is_marked_and_what_is_there_stays(lab: Lab) {
    lab.check_out("tiny", "--count 2");
    let id = texts(&lab.env.inventory(), "id").remove(0);
    lab.engine.remove(&lab.engine.with_label("broker.id", &id)[0].id);
    lab.env.broker("inventory --sync Container").ok();
    assert_eq!(texts(&lab.env.inventory(), "state"), ["vanished", "active"]);
    lab.env.broker("inventory --sync Container").ok();
    assert_eq!(texts(&lab.env.inventory(), "state"), ["vanished", "active"]);
    lab.env.broker("forget --all --filter state=vanished").ok();
    lab.env.broker("checkin --all --yes").ok();
    lab.assert_nothing_left();
}

fn an_inventory_that_was_lost_is_found_again(lab: Lab) {
    lab.check_out("tiny", "--count 2");
    let mut before = texts(&lab.env.inventory(), "id");
    before.sort();
    fs::remove_file(lab.env.broker_path("inventory.jsonl")).unwrap();
    assert_eq!(lab.env.inventory().len(), 0);
    lab.env.broker("inventory --sync Container").ok();
    let hosts = lab.env.inventory();
    let mut after = texts(&hosts, "id");
    after.sort();
    assert_eq!(before, after);
    assert!(hosts.iter().all(|host| host["name"].is_string() && host["endpoint"].is_object()), "{hosts:?}");
    lab.env.broker("exec --all -- true").ok();
    lab.env.broker("checkin --all --yes").ok();
    lab.assert_nothing_left();
}

fn foreign_containers_come_in_by_prefix_and_by_label(lab: Lab) {
    let prefix = format!("{}-foreign", lab.env.user());
    lab.start_foreign(&format!("{prefix}-one"), "");
    lab.start_foreign(&format!("{prefix}-two"), &format!("--label mark={prefix}"));
    lab.env.broker("inventory --sync Container").ok();
    assert_eq!(lab.env.inventory().len(), 0, "they are not Broker's");
    lab.env.broker(&format!("inventory --sync Container:{prefix}")).ok();
    let mut names = texts(&lab.env.inventory(), "name");
    names.sort();
    assert_eq!(names, [format!("{prefix}-one"), format!("{prefix}-two")]);
    lab.env.broker(&format!("inventory --sync Container:{prefix}")).ok();
    assert_eq!(lab.env.inventory().len(), 2, "no host twice");
    lab.env.broker("forget --all").ok();
    lab.env.broker(&format!("inventory --sync Container:mark={prefix}")).ok();
    assert_eq!(texts(&lab.env.inventory(), "name"), [format!("{prefix}-two")]);
    lab.env.broker(&format!("exec {prefix}-two -- true")).ok();
    // One that vanishes within the scope is marked; the other was never in it.
    lab.client(&format!("rm --force --volumes {prefix}-two"));
    lab.env.broker(&format!("inventory --sync Container:mark={prefix}")).ok();
    assert_eq!(texts(&lab.env.inventory(), "state"), ["vanished"]);
}
