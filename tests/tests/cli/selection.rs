//! Which hosts a command touches: those that were named, and no other.

use crate::support::{Env, numbers, texts};

/// Six hosts: two of the same hostname, one without a name, one whose name is another's number.
fn lab() -> Env {
    let env = Env::new();
    env.check_out("--name web --hostname web.example.com --flavor large");
    env.check_out("--name db --hostname same.example.com");
    env.check_out("--name cache --hostname same.example.com");
    env.check_out("--hostname nameless.example.com");
    env.check_out("--name 0 --hostname zero.example.com");
    env.check_out("--name test-web --hostname test.example.com");
    env
}

#[track_caller]
fn selected(env: &Env, filter: &str) -> Vec<u64> {
    let words = env.call("inventory --output json").arg("--filter").arg(filter).run().ok();
    numbers(&crate::support::array(words.json()))
}

#[test]
fn a_host_is_a_number_an_id_a_name_or_a_hostname_in_that_order() {
    let env = lab();
    let id = texts(&env.inventory(), "id")[5].clone();
    env.broker("checkin 0").ok();
    assert_eq!(numbers(&env.inventory()), [1, 2, 3, 4, 5], "the number 0, not the host named so");
    env.broker(&format!("checkin {id} nameless.example.com")).ok();
    assert_eq!(numbers(&env.inventory()), [1, 2, 4]);
    env.broker("checkin db").ok();
    env.broker("checkin same.example.com").ok();
    env.broker("checkin 0").ok();
    env.assert_nothing_left();
}

#[test]
fn an_ambiguous_name_does_nothing_and_lists_the_candidates() {
    let env = lab();
    for command in ["checkin", "extend --lease 1h", "forget", "duplicate"] {
        let outcome = env.broker(&format!("{command} 0 same.example.com")).exits(13).prints_nothing();
        outcome.says("`same.example.com`").says("1 (").says("2 (");
    }
    assert_eq!(env.inventory().len(), 6);
    assert_eq!(env.made().len(), 6);
}

#[test]
fn one_unknown_name_and_nothing_is_done() {
    let env = lab();
    let outcome = env.broker("checkin 0 wob 1 99").exits(13).says("`wob`").says("`99`").says("did you mean `web`");
    outcome.hints("broker inventory");
    assert_eq!(env.inventory().len(), 6);
}

#[test]
fn a_filter_alone_selects_nothing() {
    let env = lab();
    for command in ["checkin", "extend --lease 1h", "forget", "duplicate"] {
        env.broker(&format!("{command} --filter name=web")).exits(2).hints("--all");
    }
    env.broker("exec --filter name=web -- true").exits(2).hints("--all");
    assert_eq!(env.inventory().len(), 6);
}

#[test]
fn a_filter_narrows_all_and_names() {
    let env = lab();
    env.broker("checkin --all --filter name<web --yes").ok();
    assert_eq!(numbers(&env.inventory()), [1, 2, 3, 4]);
    env.broker("checkin 1 2 --filter name=cache").ok();
    assert_eq!(numbers(&env.inventory()), [1, 3, 4]);
}

#[test]
fn a_selection_never_widens() {
    let env = lab();
    for (filter, expected) in [
        ("name<web", vec![0, 5]),
        ("name!<web", vec![1, 2, 4]),
        ("name!=web", vec![1, 2, 4, 5]),
        ("name{test", vec![5]),
        ("hostname}example.com,name=db", vec![1]),
        ("_broker_args.flavor=large", vec![0]),
        ("_broker_args.flavor!=large", vec![]),
        ("name == 'web' || number == 3", vec![0, 3]),
        ("!(name =~ '^test')", vec![0, 1, 2, 4]),
        ("has(name)", vec![0, 1, 2, 4, 5]),
        ("!has(name)", vec![3]),
        ("!has(_broker_args.flavor)", vec![1, 2, 3, 4, 5]),
        ("!has(_broker_args.flavour)", vec![]),
        ("number in [1, 3]", vec![1, 3]),
        ("@inv.name == 'web'", vec![0]),
        ("@inv[-1]", vec![5]),
        ("age(checked_out_at) > 2h", vec![]),
    ] {
        assert_eq!(selected(&env, filter), expected, "{filter}");
    }
}

#[test]
fn a_filter_that_does_not_do_is_shown_with_its_place_and_does_nothing() {
    let env = lab();
    for (filter, said) in [
        ("name ==", "^"),
        ("hostnme=web", "`hostname`"),
        ("name <> 'x'", "^"),
        ("number<5", "contains"),
        ("", "filter"),
        ("   ", "filter"),
        ("name", "^"),
        ("name == 'open", "^"),
        ("@inv[99]", "99"),
        ("__import__('os').system('touch gone') == 0", "^"),
    ] {
        for command in ["inventory", "checkin --all --yes", "forget --all --yes"] {
            let outcome = env.call(command).arg("--filter").arg(filter).run().exits(13).prints_nothing();
            let outcome = outcome.says(said);
            assert_eq!(outcome.errors(), 1, "{outcome}");
        }
    }
    assert_eq!(env.inventory().len(), 6);
    assert!(!env.work_path("gone").exists());
}

#[test]
fn all_that_matches_nothing_is_said_and_no_error() {
    let env = Env::new();
    for line in ["checkin --all --yes", "extend --all --lease 1h", "forget --all --yes", "checkin --all"] {
        let outcome = env.broker(line).ok().prints_nothing();
        assert!(!outcome.stderr.trim().is_empty(), "{outcome}");
    }
    let env = lab();
    for command in ["checkin --yes", "forget --yes", "extend --lease 1h", "duplicate"] {
        let outcome = env.broker(&format!("{command} --all --filter name=nobody")).ok().prints_nothing();
        assert!(!outcome.stderr.trim().is_empty(), "{outcome}");
    }
    assert_eq!(env.inventory().len(), 6);
    env.broker("inventory --filter name=nobody --output json").ok().prints("[]");
}

#[test]
fn forgotten_hosts_go_on_existing() {
    let env = lab();
    env.broker("forget web 3").ok();
    assert_eq!(numbers(&env.inventory()), [1, 2, 4, 5]);
    assert_eq!(env.made().len(), 6);
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let env = lab();
    // There is nobody who could answer: it is done, or refused with the remedy, but it does not wait.
    let outcome = env.broker("checkin --all");
    if outcome.code() == Some(0) {
        env.assert_nothing_left();
    } else {
        outcome.exits(2).hints("--yes");
        assert_eq!(env.inventory().len(), 6);
        env.call("checkin --all").env("BROKER_NON_INTERACTIVE", "1").run().ok();
        env.assert_nothing_left();
    }
}

#[test]
fn sync_brings_in_what_exists_and_marks_what_does_not() {
    let env = lab();
    std::fs::remove_dir_all(env.broker_path("")).unwrap();
    assert_eq!(env.inventory().len(), 0);
    env.broker("inventory --sync TestProvider").ok().prints("web.example.com");
    assert_eq!(env.inventory().len(), 6);
    let id = env.inventory().iter().find(|host| host["name"] == "web").unwrap()["id"].as_str().unwrap().to_owned();
    assert!(env.made().contains(&id), "the same identity as before");
    std::fs::remove_file(env.root().join("hosts").join(format!("{id}.json"))).unwrap();
    env.broker("inventory --sync TestProvider").ok();
    let inventory = env.inventory();
    let vanished: Vec<_> = inventory.iter().filter(|host| host["state"] == "vanished").collect();
    assert_eq!(vanished.len(), 1);
    assert_eq!(vanished[0]["name"], "web");
    env.broker("checkin --all --yes").ok();
    env.assert_nothing_left();
}

#[test]
fn sync_of_one_instance_leaves_the_others_alone() {
    let env = Env::new();
    let (east, west) = (env.root().join("east"), env.root().join("west"));
    env.write_settings(&format!(
        "TestProvider:\n  instances:\n    east: {{directory: {}}}\n    west: {{directory: {}}}\n",
        east.display(),
        west.display()
    ));
    env.broker("checkout --test-action t --TestProvider east").ok();
    env.broker("checkout --test-action t --TestProvider west").ok();
    for (directory, number) in [(&east, 0), (&west, 1)] {
        let id = texts(&env.inventory(), "id").remove(number);
        std::fs::remove_file(directory.join(format!("{id}.json"))).unwrap();
    }
    env.broker("inventory --sync TestProvider::east").ok();
    assert_eq!(texts(&env.inventory(), "state"), ["vanished", "active"]);
    env.broker("inventory --sync TestProvider::west").ok();
    assert_eq!(texts(&env.inventory(), "state"), ["vanished", "vanished"]);
}
