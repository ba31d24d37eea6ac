//! Commands and shells in containers.

use std::time::Duration;

use broker_tests::env::program;

use super::{Lab, on_each_engine};

on_each_engine!(
    the_status_is_the_commands,
    one_word_is_a_shell_line_and_several_are_taken_as_they_are,
    many_hosts_have_their_names_in_front,
    eight_megabytes_on_both_outputs_arrive_whole,
    a_command_that_never_ends_is_ended_at_its_deadline,
    a_command_that_is_interrupted_is_ended,
    input_goes_to_the_command,
    a_shell_on_a_terminal;
    docker: results_as_json, a_shell_without_a_terminal,
);

const EIGHT: usize = 8 * 1024 * 1024;

fn the_status_is_the_commands(lab: Lab) {
    lab.check_out("tiny", "--count 2");
    assert_eq!(lab.env.broker("exec 0 -- true").code(), Some(0));
    assert_eq!(lab.env.broker("exec 0 -- 'exit 7'").code(), Some(7));
    assert_eq!(lab.env.broker("exec 0 -- sh -c 'kill -TERM $$'").code(), Some(143));
    let highest = lab.env.broker("exec 0 1 -- 'test -e /only || exit 3; exit 9'");
    assert_eq!(highest.code(), Some(3));
    lab.env.broker("exec 1 -- touch /only").passes_on(0);
    assert_eq!(lab.env.broker("exec --all -- 'test -e /only || exit 3; exit 9'").code(), Some(9));
    // 255 is Broker's own.
    lab.env.broker("exec nobody -- true").exits(255).says("`nobody`");
    let missing = lab.env.broker("exec 0 -- no-such-program --x");
    assert!(matches!(missing.code(), Some(127 | 255)), "{missing}");
}

fn one_word_is_a_shell_line_and_several_are_taken_as_they_are(lab: Lab) {
    lab.check_out("tiny", "");
    assert_eq!(lab.env.broker("exec 0 -- 'echo a  b | wc -c'").ok().out().trim(), "4");
    assert_eq!(lab.env.broker("exec 0 -- echo '$HOME' 'a  b' '*' '|'").ok().out(), "$HOME a  b * |\n");
    let split = lab.env.broker("exec 0 -- 'echo out; echo err >&2; exit 1'").passes_on(1);
    assert_eq!((split.out(), split.stderr.as_str()), ("out\n", "err\n"));
    // What looks like an option of ours belongs to the command.
    assert_eq!(lab.env.broker("exec 0 -- echo --all --filter x").ok().out(), "--all --filter x\n");
}

fn many_hosts_have_their_names_in_front(lab: Lab) {
    lab.check_out("tiny", "--count 3");
    let outcome = lab.env.broker("exec --all -- 'hostname; printf last; echo problem >&2'").ok();
    assert_eq!(outcome.out().lines().count(), 6, "{outcome}");
    for host in lab.env.inventory() {
        let hostname = host["hostname"].as_str().unwrap();
        let begins = format!("{} (", host["number"]);
        let own: Vec<&str> = outcome.out().lines().filter(|line| line.starts_with(&begins)).collect();
        assert_eq!(own.len(), 2, "{outcome}");
        assert!(own[0].ends_with(hostname) && own[1].ends_with("last"), "{outcome}");
        assert!(outcome.stderr.lines().any(|line| line.starts_with(&begins) && line.ends_with("problem")), "{outcome}");
    }
}

fn eight_megabytes_on_both_outputs_arrive_whole(lab: Lab) {
    lab.check_out("tiny", "");
    let line = format!("(yes 0123456 | head -c {EIGHT}) & (yes abcdefg | head -c {EIGHT} >&2); wait");
    let outcome = lab.env.broker(&format!("exec 0 -- '{line}'"));
    assert_eq!(outcome.code(), Some(0));
    let whole = |bytes: &[u8], line: &[u8]| bytes.len() == EIGHT && bytes.chunks(8).all(|chunk| chunk == line);
    assert!(whole(&outcome.stdout, b"0123456\n"), "{} bytes on standard output", outcome.stdout.len());
    assert!(whole(outcome.stderr.as_bytes(), b"abcdefg\n"), "{} bytes on standard error", outcome.stderr.len());
}

/// Whether a command is running in the first host.
fn runs(lab: &Lab, mark: &str) -> bool {
    lab.env.broker("exec 0 -- ps -o args").ok().out().lines().any(|line| line.contains(mark))
}

fn a_command_that_never_ends_is_ended_at_its_deadline(lab: Lab) {
    lab.check_out("tiny", "");
    for line in ["sleep 4242", "trap \"\" TERM INT HUP; (sleep 4242 & wait); sleep 4242"] {
        let outcome = lab.env.broker(&format!("exec --timeout 1s 0 -- '{line}'")).exits(255);
        outcome.says("1s").within(Duration::from_secs(25));
        assert!(!runs(&lab, "sleep 4242"), "`{line}` still runs");
    }
    // What it printed before has come.
    let outcome = lab.env.broker("exec --timeout 6s 0 -- 'echo before; sleep 4242'").exits(255);
    assert_eq!(outcome.out(), "before\n");
}

fn a_command_that_is_interrupted_is_ended(lab: Lab) {
    lab.check_out("tiny", "");
    let running = lab.env.call("exec 0 -- 'sleep 4343'").start();
    broker_tests::wait::until("it runs", || runs(&lab, "sleep 4343"));
    running.signal("INT");
    running.finish().passes_on(130).within(Duration::from_secs(40));
    broker_tests::wait::until("it has ended", || !runs(&lab, "sleep 4343"));
}

fn input_goes_to_the_command(lab: Lab) {
    lab.check_out("tiny", "");
    let outcome = lab.env.call("exec -i 0 -- 'wc -c'").input(vec![b'x'; 1_000_000]).run().ok();
    assert_eq!(outcome.out().trim(), "1000000");
    // Nobody waits for input that was not asked for.
    assert_eq!(lab.env.call("exec 0 -- 'wc -c'").input("unread").run().ok().out().trim(), "0");
}

fn results_as_json(lab: Lab) {
    lab.check_out("tiny", "--count 2");
    let outcome = lab.env.broker("exec --all --output json -- 'echo out; echo err >&2; exit 4'").passes_on(4);
    let results = crate::support::array(outcome.json());
    assert_eq!(results.len(), 2);
    for (number, result) in results.iter().enumerate() {
        assert_eq!(result["number"], number);
        assert_eq!((&result["stdout"], &result["stderr"]), (&"out\n".into(), &"err\n".into()), "{result}");
        assert_eq!(result["status"], 4);
    }
}

fn a_shell_on_a_terminal(lab: Lab) {
    lab.check_out("tiny", "");
    let shell = format!("stty rows 40 cols 120; '{}' shell 0", program().display());
    // Typed when the shell is there: a terminal that becomes raw forgets what was typed before.
    let typed = "(sleep 2; echo 'tty; stty size; echo answer-$((40 + 2)); exit 3'; sleep 2)";
    let outcome = lab.env.script(&format!("{typed} | script -qec \"{shell}\" /dev/null")).run().passes_on(3);
    for text in ["answer-42", "/dev/pts/", "40 120"] {
        assert!(outcome.out().contains(text), "no {text}: {outcome}");
    }
    let tty = lab.env.broker("exec -t 0 -- tty").passes_on(0);
    assert!(tty.out().contains("/dev/"), "{tty}");
    lab.env.broker("exec 0 -- tty").passes_on(1).prints("not a tty");
}

fn a_shell_without_a_terminal(lab: Lab) {
    lab.check_out("tiny", "");
    let outcome = lab.env.call("shell 0").input("echo $((40 + 2))\nexit 4\n").run().passes_on(4);
    assert_eq!(outcome.out(), "42\n");
    lab.env.broker("shell nobody").exits(255).says("`nobody`");
}
