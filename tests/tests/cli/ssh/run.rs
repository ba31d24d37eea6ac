//! Commands and files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use super::Lab;

const EIGHT: usize = 8 * 1024 * 1024;

#[test]
fn the_status_and_both_outputs_are_the_commands() {
    let lab = Lab::new();
    lab.check_out("");
    assert_eq!(lab.env.broker("exec 0 -- true").code(), Some(0));
    assert_eq!(lab.env.broker("exec 0 -- 'exit 7'").code(), Some(7));
    assert_eq!(lab.env.broker("exec 0 -- sh -c 'kill -TERM $$'").code(), Some(143));
    let split = lab.env.broker("exec 0 -- 'echo out; echo err >&2; exit 1'").passes_on(1);
    assert_eq!((split.out(), split.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(lab.env.broker("exec 0 -- echo '$HOME' 'a  b' '*' '|'").ok().out(), "$HOME a  b * |\n");
    assert_eq!(lab.env.call("exec -i 0 -- 'wc -c'").input(vec![b'x'; 1_000_000]).run().ok().out().trim(), "1000000");
    let line = format!("(yes 0123456 | head -c {EIGHT}) & (yes abcdefg | head -c {EIGHT} >&2); wait");
    let outcome = lab.env.broker(&format!("exec 0 -- '{line}'")).passes_on(0);
    assert_eq!((outcome.stdout.len(), outcome.stderr.len()), (EIGHT, EIGHT));
}

#[test]
fn one_command_on_many_hosts() {
    let lab = Lab::new();
    lab.check_out("--count 3");
    let outcome = lab.env.broker("exec --all --output json -- 'echo out; exit 4'").passes_on(4);
    let results = crate::support::array(outcome.json());
    assert_eq!(results.len(), 3);
    for result in results {
        assert_eq!((&result["stdout"], &result["status"]), (&"out\n".into(), &4.into()), "{result}");
    }
}

#[test]
fn a_deadline_and_an_interrupt_end_what_runs_there() {
    let lab = Lab::new();
    lab.check_out("");
    let runs = |mark: &str| lab.env.broker("exec 0 -- ps -eo args").ok().out().lines().any(|line| line == mark);
    let outcome = lab.env.broker("exec --timeout 2s 0 -- 'echo before; sleep 4242'").exits(255);
    assert_eq!(outcome.out(), "before\n");
    outcome.says("2s").within(Duration::from_secs(25));
    broker_tests::wait::until("it to end", || !runs("sleep 4242"));
    let running = lab.env.call("exec 0 -- 'sleep 4343'").start();
    broker_tests::wait::until("it to run", || runs("sleep 4343"));
    running.signal("INT");
    running.finish().passes_on(130).within(Duration::from_secs(40));
    broker_tests::wait::until("it to end", || !runs("sleep 4343"));
}

#[test]
fn trees_go_there_and_back() {
    let lab = Lab::new();
    lab.check_out("");
    let (tree, place) = (lab.env.work_path("tree"), lab.server.directory().join("place"));
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("plain"), "text\n").unwrap();
    fs::write(tree.join("sub/new\nline 'quoted'"), "x").unwrap();
    fs::set_permissions(tree.join("plain"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("plain", tree.join("link")).unwrap();
    lab.env.broker(&format!("cp tree 0:{}", place.display())).ok().prints_nothing();
    assert_eq!(lab.env.broker(&format!("exec 0 -- cat {}/link", place.display())).ok().out(), "text\n");
    lab.env.broker(&format!("cp 0:{} back", place.display())).ok();
    let back = lab.env.work_path("back");
    assert_eq!(fs::metadata(back.join("plain")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(fs::read(back.join("sub/new\nline 'quoted'")).unwrap(), b"x");
    assert_eq!(fs::read_link(back.join("link")).unwrap().to_str(), Some("plain"));
    lab.env.broker("cp 0:/no/such/file here").exits(10).says("/no/such/file");
}

#[test]
fn a_server_that_is_not_there() {
    let lab = Lab::new();
    lab.check_out("");
    lab.server.stop();
    let outcome = lab.env.broker("exec 0 -- true").exits(255).says("refuses");
    outcome.within(Duration::from_secs(80)).prints_nothing();
    lab.env.broker("cp 0:/etc/hostname here").exits(10).says("refuses");
    lab.server.start();
    lab.env.broker("exec 0 -- true").passes_on(0);
}
