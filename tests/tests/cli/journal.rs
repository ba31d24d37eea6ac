//! A journal that has come to harm.

use std::fs;
use std::io::Write;

use crate::support::{Env, numbers};

/// Three hosts, and the lines of the journal that tells of them.
fn three() -> (Env, Vec<String>) {
    let env = Env::new();
    for name in ["zero", "one", "two"] {
        env.check_out(&format!("--name {name}"));
    }
    let lines = String::from_utf8(env.journal()).unwrap().lines().map(str::to_owned).collect();
    (env, lines)
}

fn append(env: &Env, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().append(true).open(env.broker_path("inventory.jsonl")).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn a_torn_last_line_is_passed_over_and_cut_by_the_next_writer() {
    let (env, lines) = three();
    let last = lines.last().unwrap();
    for length in [1, last.len() / 2, last.len()] {
        append(&env, &last.as_bytes()[..length]);
        assert_eq!(numbers(&env.inventory()).len(), env.made().len());
        env.check_out("");
        assert_eq!(numbers(&env.inventory()).len(), env.made().len());
        let journal = String::from_utf8(env.journal()).unwrap();
        assert!(journal.ends_with('\n'));
        assert!(journal.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{journal}");
    }
    env.assert_nothing_lost();
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn garbage_in_the_middle_is_reported_and_kept_aside_and_nothing_is_lost() {
    let (env, mut lines) = three();
    let garbage = ["not a record \u{1}", "{\"id\": 5}", "{\"half\": "];
    for (index, line) in garbage.iter().enumerate() {
        lines.insert(2 + 2 * index, (*line).to_owned());
    }
    fs::write(env.broker_path("inventory.jsonl"), lines.join("\n") + "\n").unwrap();

    let outcome = env.broker("inventory --output json").ok().says("damaged").says("line 3");
    assert_eq!(numbers(&crate::support::array(outcome.json())), [0, 1, 2]);
    env.check_out("--name three");
    assert_eq!(numbers(&env.inventory()), [0, 1, 2, 3]);
    env.assert_nothing_lost();
    env.broker("checkin 1").ok();
    let aside = env.broker_path("inventory.damaged.jsonl");
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
    // Wherever they are now, they are somewhere.
    let kept = [env.journal(), fs::read(aside).unwrap_or_default()].concat();
    let kept = String::from_utf8_lossy(&kept);
    for line in garbage {
        assert!(kept.contains(line), "`{line}` is gone: {kept}");
    }
}

#[test]
fn what_compaction_drops_of_a_damaged_journal_is_kept_aside() {
    let (env, mut lines) = three();
    lines.insert(2, "not a record".to_owned());
    fs::write(env.broker_path("inventory.jsonl"), lines.join("\n") + "\n").unwrap();
    // Enough dead lines for a compaction.
    for _ in 0..2 {
        env.check_out("--count 40");
        env.broker("checkin --all --filter 'number > 2' --yes").ok();
    }
    let aside = fs::read_to_string(env.broker_path("inventory.damaged.jsonl")).unwrap();
    assert!(aside.contains("not a record"), "{aside}");
    assert_eq!(numbers(&env.inventory()), [0, 1, 2]);
}

#[test]
fn a_journal_of_another_version_is_left_as_it_is() {
    let (env, lines) = three();
    for (header, said) in [
        ("{\"broker_inventory\":2,\"new\":true}", "format 2"),
        ("{\"something\":\"else\"}", "not an inventory"),
        ("no json at all", "not an inventory"),
    ] {
        let mut lines = lines.clone();
        lines[0] = header.to_owned();
        let text = lines.join("\n") + "\n";
        fs::write(env.broker_path("inventory.jsonl"), &text).unwrap();
        for line in ["inventory", "checkout --test-action t", "checkin --all --yes", "forget --all --yes"] {
            env.broker(line).exits(1).says("inventory.jsonl").says(said);
            assert_eq!(String::from_utf8(env.journal()).unwrap(), text, "`{line}` changed it");
        }
        assert_eq!(env.made().len(), 3);
    }
}

#[test]
fn hosts_are_all_there_after_compaction() {
    let env = Env::new();
    env.check_out("--count 5");
    for _ in 0..3 {
        env.check_out("--count 40");
        env.broker("checkin --all --filter 'number > 4' --yes").ok();
    }
    assert_eq!(numbers(&env.inventory()), [0, 1, 2, 3, 4]);
    let lines = env.journal().iter().filter(|byte| **byte == b'\n').count();
    assert!(lines < 300, "{lines} lines for five hosts");
    assert_eq!(env.check_out(""), [125]);
}
