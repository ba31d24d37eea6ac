//! Arguments, inventories, labels and surveys: what is told before a launch, and what reaches it.

use broker_tests::awx::{Fate, Rule, Template, World};
use serde_json::{Value, json};

use super::life::told_by_last_job;
use super::{Lab, world};

#[test]
fn scalars_reach_the_workflow_as_they_are_written() {
    let lab = Lab::of(world(), "");
    let settings = lab.env.directory().join("broker_settings.yaml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let nicks = "nicks:\n  old:\n    workflow: make\n    version: 9.10\n    float: 9.4\n    zero: 0123\n    flag: true\n    \
                 sizes: [1, {a: b}]\n";
    std::fs::write(settings, format!("{text}{nicks}")).unwrap();
    lab.broker("checkout --nick old --memory 8 --list [1,2] --dashed-name x");
    let told = told_by_last_job(&lab, "make");
    assert_eq!((&told["version"], &told["float"], &told["zero"]), (&json!("9.10"), &json!(9.4), &json!("0123")));
    assert_eq!((&told["flag"], &told["sizes"]), (&json!(true), &json!([1, {"a": "b"}])));
    assert_eq!((&told["memory"], &told["list"], &told["dashed_name"]), (&json!("8"), &json!([1, 2]), &json!("x")));
    assert_eq!(told["workflow"], json!("make"));
    assert_eq!(told["_broker_extra_vars"]["version"], json!("9.10"));
}

#[test]
fn what_a_template_does_not_take_is_told_before_the_launch() {
    let lab = Lab::new();
    for (line, says) in [
        ("checkout --workflow no-prompts --a 1 --b 2", "workflow `no-prompts` does not take `a`, `b` on launch"),
        ("checkout --job-template jt-noprompt --a 1", "job template `jt-noprompt` does not take `a` on launch"),
        ("checkout --workflow no-prompts --tower-inventory lab-inventory-2", "its own is `lab-inventory`"),
        ("execute --job-template jt-noprompt --a 1", "job template `jt-noprompt` does not take `a` on launch"),
        ("checkout --workflow nonsense", "there is no workflow `nonsense`"),
        ("checkout --job-template nonsense", "there is no job template `nonsense`"),
        ("checkout --workflow deploy-vm --tower-inventory nonsense", "there is no inventory `nonsense`"),
        (
            "checkout --workflow deploy-vm --tower-inventory hidden-inventory",
            "there is no inventory `hidden-inventory`",
        ),
        ("checkout --workflow deploy-vm --artifacts first", "must be `last` or `merge`"),
    ] {
        let error = lab.fails(line, 7);
        assert!(error.contains(says), "{line}: {error}");
    }
    assert_eq!(lab.launches(), 0);
    assert!(lab.inventory().is_empty());
}

/// The Python tool's own variables make such a workflow unusable.
#[test]
fn a_workflow_that_prompts_for_nothing_can_be_run() {
    let lab = Lab::new();
    lab.broker("checkout --workflow no-prompts");
    assert_eq!(lab.inventory()[0]["name"], json!("none"));
}

#[test]
fn surveys_are_checked_first_and_secrets_are_not_shown() {
    let spec = json!([
        {"variable": "deploy_flavor", "type": "multiplechoice", "choices": ["tiny", "big"], "required": true, "question_name": "Flavor", "default": "", "min": null, "max": null},
        {"variable": "cpus", "type": "integer", "min": 1, "max": 5, "required": false, "question_name": "Cpus", "default": "", "choices": ""},
        {"variable": "pin", "type": "password", "min": 8, "max": 32, "required": false, "question_name": "Pin", "default": "", "choices": ""},
    ]);
    let lab = Lab::of(World::recorded().template(Template::workflow("asks").node("jt-deploy").survey(spec)), "");
    for (line, says) in [
        ("checkout --workflow asks", "`deploy_flavor` is missing (one of `tiny`, `big`)"),
        (
            "checkout --workflow asks --deploy_flavor huge",
            "`deploy_flavor` is `huge`, and must be one of `tiny`, `big`",
        ),
        ("checkout --workflow asks --deploy_flavor tiny --cpus 9", "`cpus` is `9`, and must be at most 5"),
        (
            "checkout --workflow asks --deploy_flavor tiny --pin hunter2",
            "`pin` is `***`, and must be at least 8 characters",
        ),
    ] {
        let error = lab.fails(line, 7);
        assert!(error.contains(says) && !error.contains("hunter2"), "{line}: {error}");
    }
    assert_eq!(lab.launches(), 0);
    let out = lab.env.root().join("out.json");
    let file = format!("--output-file {}", out.to_str().unwrap());
    let pin = "--pin hunter2hunter2";
    let said = lab.broker(&format!("{file} checkout --workflow asks --deploy_flavor big --cpus 3 {pin}"));
    let shown = [said.stderr, std::fs::read_to_string(&out).unwrap(), lab.broker("inventory --details").stdout];
    assert!(shown.iter().all(|shown| !shown.contains("hunter2")), "{shown:#?}");
    assert_eq!(lab.inventory()[0]["_broker_args"]["pin"], json!("***"));
    lab.fails(&format!("{file} checkout --workflow asks --deploy_flavor huge {pin}"), 7);
    assert!(!std::fs::read_to_string(&out).unwrap().contains("hunter2"));
    // It is there to be used again.
    lab.broker("duplicate 0");
    let told = told_by_last_job(&lab, "asks");
    assert_eq!(told["cpus"], json!(3));
    assert!(told["_broker_extra_vars"].get("pin").is_none(), "{told}");
}

#[test]
fn labels_are_made_once_and_go_along() {
    let lab = Lab::new();
    for _ in 0..2 {
        lab.broker("checkout --workflow deploy-vm -l team=rig,owner");
    }
    let told = told_by_last_job(&lab, "deploy-vm");
    assert_eq!(told["provider_labels"], json!({"team": "rig", "owner": ""}));
    let posts =
        lab.awx.requests().into_iter().filter(|seen| seen.method == "POST" && seen.target.ends_with("/labels/"));
    let statuses: Vec<u16> = posts.filter_map(|seen| seen.status).collect();
    assert_eq!(statuses, [201, 201, 400, 400]);
    let error = lab.broker("checkout --workflow no-prompts -l team=rig").stderr;
    assert!(error.contains("does not take `label team=rig` on launch"), "{error}");
}

#[test]
fn an_inventory_may_be_named() {
    let lab = Lab::new();
    lab.broker("checkout --workflow deploy-vm --tower-inventory lab-inventory-2");
    lab.broker("checkin 0");
    lab.broker("checkout --workflow no-inventory");
    let error = lab.fails("checkout --job-template jt-noinventory --tower-inventory nonsense", 7);
    assert!(error.contains("nonsense"), "{error}");
}

/// An answer of the API.
fn answer(method: &str, path: &str, body: &Value) -> Rule {
    Rule::new(method, path, Fate::Answer(200, "application/json".to_owned(), body.to_string()))
}

/// What the launch says to that, where nothing has said it before.
#[test]
fn what_a_job_template_drops_is_told() {
    let lab = Lab::new();
    let takes_all = json!({"id": 19, "name": "jt-noprompt", "inventory": 2, "ask_variables_on_launch": true,
        "summary_fields": {"user_capabilities": {"start": true}}});
    let page = json!({"count": 1, "next": null, "previous": null, "results": [takes_all]});
    lab.awx.spoil(answer("GET", "/api/v2/job_templates/", &page));
    let said = lab.env.broker(["checkout", "--job-template", "jt-noprompt", "--a", "1"]).stderr;
    assert!(said.contains("job template `jt-noprompt` has dropped what it was told of [\"extra_vars\"]"), "{said}");
}

/// A question as the API has it.
fn question(variable: &str, kind: &str, choices: &Value) -> Value {
    json!({"variable": variable, "type": kind, "choices": choices, "required": true, "question_name": variable,
        "default": "", "min": null, "max": null})
}

/// Nobody but the service knows then what it asks for: it is told what somebody has given, and what it needs.
#[test]
fn a_survey_that_may_not_be_read_stops_nothing() {
    let asks = |name: &str, variable: &str, node: &str| {
        let spec = json!([question(variable, "text", &json!(""))]);
        Template::workflow(name).survey(spec).without_variables().node(node)
    };
    let world = world().template(asks("asks", "name_prefix", "jt-deploy")).template(asks(
        "remove-vm",
        "source_vm",
        "jt-unmake",
    ));
    let lab = Lab::of(world, "");
    lab.awx.spoil(Rule::detail("GET", "*/survey_spec/", 403, "You do not have permission to perform this action."));
    lab.broker("checkout --workflow asks --name_prefix one");
    assert_eq!(told_by_last_job(&lab, "asks"), json!({"name_prefix": "one"}));
    let error = lab.fails("checkout --workflow asks --name_prefix two --other x", 7);
    assert!(error.contains("Variables other are not allowed on launch"), "{error}");
    lab.broker("checkin --all");
    assert_eq!(told_by_last_job(&lab, "remove-vm"), json!({"source_vm": "one-vm01"}));
    assert!(lab.awx.machines().is_empty());
}

/// A nick's version is a number to whoever reads it.
#[test]
fn a_number_answers_a_question_for_a_text() {
    let spec =
        json!([question("version", "multiplechoice", &json!(["9.4", "9.10"])), question("zone", "text", &json!(""))]);
    let lab = Lab::of(world().template(Template::workflow("asks").survey(spec).node("jt-make")), "");
    let settings = lab.env.directory().join("broker_settings.yaml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(settings, format!("{text}nicks:\n  old:\n    workflow: asks\n    version: 9.4\n    zone: 7\n"))
        .unwrap();
    lab.broker("checkout --nick old");
    let told = told_by_last_job(&lab, "asks");
    assert_eq!((&told["version"], &told["zone"]), (&json!("9.4"), &json!("7")));
}

#[test]
fn the_build_that_asks_is_told() {
    let mut lab = Lab::of(world(), "");
    lab.env.set("BUILD_URL", "https://jenkins.example.com/job/nightly/7/");
    lab.broker("checkout --workflow make");
    assert_eq!(told_by_last_job(&lab, "make")["_jenkins_url"], json!("https://jenkins.example.com/job/nightly/7/"));
}

/// A host is to go, whatever else is wrong with the workflow.
#[test]
fn a_release_workflow_that_lacks_a_template_is_launched_all_the_same() {
    let lab = Lab::of(world(), "");
    lab.broker("checkout --workflow make");
    let lacks = json!({"variables_needed_to_start": [], "node_templates_missing": [4]});
    lab.awx.spoil(answer("GET", &lab.awx.launch_path("remove-vm"), &lacks));
    lab.broker("checkin 0");
    assert!(lab.awx.machines().is_empty());
}
