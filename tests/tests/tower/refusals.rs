//! Everything that the service may say to a launch, where what is looked at before has not told: it is a person's to read,
//! its exit code is what it is about, nothing is repeated, and no entry is left of what was never there.

use broker_tests::awx::{Fate, Role, Rule, Seen, Template, World};
use broker_tests::wait;
use serde_json::{Value, json};

use super::{Lab, world};

/// An answer of the API.
fn answer(method: &str, path: &str, status: u16, body: &Value) -> Rule {
    Rule::new(method, path, Fate::Answer(status, "application/json".to_owned(), body.to_string()))
}

/// A survey that this user may not read, so that nothing can be told before.
fn unreadable() -> Vec<Rule> {
    vec![
        Rule::detail("GET", "*/survey_spec/", 403, "You do not have permission to perform this action."),
        answer("GET", "*/launch/", 200, &json!({})),
    ]
}

#[test]
fn what_the_service_refuses_is_told_in_its_words_and_leaves_nothing() {
    let label = |id: u64| answer("POST", "*/labels/", 201, &json!({"id": id, "name": "team=rig"}));
    let gone = "No WorkflowJobTemplate matches the given query.";
    let ask = "could not launch workflow";
    let survey = "checkout --workflow with-survey";
    for (line, rules, says, code) in [
        (survey.to_owned(), unreadable(), "'deploy_flavor' value missing, 'name_prefix' value missing", 7),
        (
            format!("{survey} --deploy_flavor huge --name_prefix abc"),
            unreadable(),
            "Value huge for 'deploy_flavor' expected to be one of ['tiny', 'big']",
            7,
        ),
        (
            format!("{survey} --deploy_flavor tiny --name_prefix a"),
            unreadable(),
            "'name_prefix' value a is too small (length is 1 must be at least 3)",
            7,
        ),
        (
            "checkout --workflow deploy-vm --inventory 99999".to_owned(),
            vec![],
            "inventory: Invalid pk \"99999\" - object does not exist",
            7,
        ),
        // One that is there, and that this user may not use.
        ("checkout --workflow deploy-vm --inventory 5".to_owned(), vec![], "You do not have permission", 6),
        (
            "checkout --workflow deploy-vm -l team=rig".to_owned(),
            vec![label(99999)],
            "labels: Invalid pk \"99999\" - object does not exist",
            7,
        ),
        // Rights and templates go between a look and a launch.
        (
            "checkout --workflow deploy-vm".to_owned(),
            vec![Rule::detail("POST", "*/launch/", 403, "You do not have permission to perform this action.")],
            "You do not have permission",
            6,
        ),
        ("checkout --workflow deploy-vm".to_owned(), vec![Rule::detail("POST", "*/launch/", 404, gone)], gone, 7),
    ] {
        let lab = Lab::new();
        rules.into_iter().for_each(|rule| lab.awx.spoil(rule));
        let error = lab.fails(&line, code);
        assert!(error.contains(ask) && error.contains(says.trim_end_matches('.')), "{line}: {error}");
        lab.awx.behave();
        assert_eq!((lab.launches(), lab.inventory().len(), lab.awx.unfinished().len()), (1, 0, 0), "{line}");
    }
}

/// A job template needs an inventory, its own or the request's; of a workflow each node has its own.
#[test]
fn an_inventory_is_needed_by_job_templates_alone() {
    let lab = Lab::new();
    let token = lab.awx.token_of("rigger");
    let text =
        format!("AnsibleTower: {{base_url: '{}', token: {token}, workflow_poll_interval: 200ms}}\n", lab.awx.url());
    lab.env.write_settings(&text);
    let error = lab.fails("checkout --job-template jt-noinventory", 7);
    assert!(error.contains("has no inventory: `--tower-inventory NAME` or setting `inventory`"), "{error}");
    assert_eq!(lab.launches(), 0);
    lab.broker("checkout --job-template jt-noinventory --tower-inventory lab-inventory");
    lab.broker("checkout --workflow no-inventory");
    // Where a look does not tell, the service does.
    let bare = json!({"id": 20, "name": "jt-noinventory", "inventory": 2, "ask_variables_on_launch": true,
        "summary_fields": {"user_capabilities": {"start": true}}});
    let page = json!({"count": 1, "next": null, "previous": null, "results": [bare]});
    lab.awx.spoil(answer("GET", "*/job_templates/", 200, &page));
    lab.awx.spoil(answer("GET", "*/launch/", 200, &json!({})));
    let error = lab.fails("checkout --job-template jt-noinventory", 7);
    assert!(error.contains("Job Template inventory is missing or undefined"), "{error}");
}

/// A name goes to `tower_inventory`, so that the service never sees one where it wants a number.
#[test]
fn an_inventory_is_a_number_or_a_name_and_says_which() {
    let lab = Lab::new();
    let error = lab.fails("checkout --workflow deploy-vm --inventory lab-inventory", 7);
    assert!(error.contains("a name goes to `tower_inventory`"), "{error}");
    assert_eq!(lab.launches(), 0);
    lab.broker("checkout --workflow deploy-vm --inventory 3");
}

/// Whoever has no role does not see a template, whoever may only read does not launch it.
#[test]
fn rights_decide_before_a_launch() {
    let lab = Lab::new();
    lab.settings(&format!("token: {}", lab.awx.token_of("nobody")));
    let error = lab.fails("checkout --workflow deploy-vm", 7);
    assert!(error.contains("there is no workflow `deploy-vm` that this user may see"), "{error}");
    lab.settings(&format!("token: {}", lab.awx.token_of("rigger")));
    lab.awx.set_role("deploy-vm", "rigger", Some(Role::Read));
    let error = lab.fails("checkout --workflow deploy-vm", 6);
    assert!(error.contains("may see workflow `deploy-vm`, and may not launch it"), "{error}");
    assert_eq!(lab.launches(), 0);
}

/// Whatever the values look like, variables reach the service as one object.
#[test]
fn odd_values_reach_the_service_as_they_are() {
    let lab = Lab::of(world(), "");
    let odd = [
        ("bracket", "[not: a: map"),
        ("brace", "{"),
        ("colon", "a: b"),
        ("quote", "\"'"),
        ("yaml", "- x"),
        ("text", "a=b"),
    ];
    let line = ["checkout", "--workflow", "make"].map(str::to_owned);
    let line =
        line.into_iter().chain(odd.iter().flat_map(|(name, value)| ["--arg".to_owned(), format!("{name}={value}")]));
    lab.env.ok(line);
    let told = super::life::told_by_last_job(&lab, "make");
    for (name, value) in odd {
        assert_eq!(told[name], json!(value));
    }
}

/// The service starts the second when the first has ended.
#[test]
fn what_may_not_run_twice_at_once_waits() {
    let one = Template::workflow("one").node("jt-make").one_at_a_time();
    let lab = Lab::of(world().template(one), "");
    lab.broker("checkout --workflow one --count 3");
    assert_eq!((lab.awx.machines().len(), lab.launches()), (3, 3));
}

/// No request is answered with what only a client that does not know the API gets: a redirect for a missing slash, another
/// type of content or answer, a body that is none, a page or a page size that is none.
#[test]
fn every_request_has_the_form_that_the_service_takes() {
    let lab = Lab::of(world(), "username: rigger");
    for line in [
        "checkout --workflow make --note x -l team=rig --tower-inventory lab-inventory-2 --lease 1h",
        "checkout --job-template jt-make",
        "extend 0 --new-expire-time +60 --provider-labels team=rig",
        "inventory --sync AnsibleTower",
        "execute --workflow nested --artifacts merge",
        "providers AnsibleTower --workflows",
        "providers AnsibleTower --job-template jt-survey",
        "providers AnsibleTower --inventory lab-inventory-2",
        "providers AnsibleTower --templates",
        "checkin 0 1",
    ] {
        lab.broker(line);
    }
    lab.fails("checkout --workflow deploy-error", 7);
    lab.fails("checkout --workflow slow --seconds 3000 --timeout 1s", 7);
    // That there is a label already is heard by asking for it.
    let is_label = |seen: &Seen| seen.method == "POST" && seen.target.ends_with("/labels/") && seen.status == Some(400);
    let is_bad = |seen: &Seen| seen.status.is_none_or(|status| status >= 300) && !is_label(seen);
    let bad: Vec<Seen> = lab.awx.requests().into_iter().filter(is_bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// A password gets another token; a token of the settings that is worth nothing any more is said to be that, and the job is
/// not forgotten.
#[test]
fn a_token_that_is_revoked_over_a_job_loses_no_host() {
    let lab = Lab::of(world(), "");
    lab.settings("username: rigger\npassword: rigger-password");
    let started = lab.env.start(["checkout", "--workflow", "slow", "--seconds", "100"]);
    wait::until("the workflow to run", || !lab.awx.unfinished().is_empty());
    lab.awx.revoke_tokens("rigger");
    started.wait(wait::SOON).expect(0);

    let lab = Lab::of(world(), "");
    lab.settings(&format!("token: {}", lab.awx.token_of("rigger")));
    let started = lab.env.start(["checkout", "--workflow", "slow", "--seconds", "100"]);
    wait::until("the workflow to run", || !lab.awx.unfinished().is_empty());
    lab.awx.revoke_tokens("rigger");
    let ran = started.wait(wait::SOON);
    ran.expect(5);
    assert!(ran.stderr.contains("does not take the `token` of the settings"), "{}", ran.stderr);
    // Its job is known, for whoever has a token that is good.
    assert_eq!(lab.inventory()[0]["state"], json!("failed"));
}

/// What a user may not see is missing from the service's lists, without a word.
#[test]
fn what_may_not_be_seen_is_not_there() {
    let lab = Lab::of(World::recorded(), "");
    let error = lab.fails("providers AnsibleTower --inventory hidden-inventory", 7);
    assert!(error.contains("there is no inventory `hidden-inventory` that this user may see"), "{error}");
    lab.broker("inventory --sync AnsibleTower:hidden");
    assert!(lab.inventory().is_empty());
}
