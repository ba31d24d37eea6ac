use broker_core::ArgValue;
use broker_core::provider::Order;

use super::*;
use crate::api::template::{Needs, Survey, Template};

/// A blueprint as recorded answers make it. `survey` is its questions.
fn blueprint(kind: Kind, template: Value, survey: Option<Value>) -> Arc<Blueprint> {
    let template: Template = serde_json::from_value(template).unwrap();
    let survey = survey.map(|spec| serde_json::from_value::<Survey>(json!({ "spec": spec })).unwrap());
    Arc::new(Blueprint { kind, template, needs: Needs::default(), survey })
}

/// `deploy-vm` of the recorded world.
fn deploy_vm() -> Value {
    json!({"id": 22, "name": "deploy-vm", "extra_vars": "{\"deploy_flavor\":\"tiny\",\"name_prefix\":\"rig\"}", "inventory": 2,
        "ask_inventory_on_launch": true, "ask_variables_on_launch": true, "ask_labels_on_launch": true,
        "summary_fields": {"organization": {"id": 2, "name": "Lab"}, "inventory": {"id": 2, "name": "lab-inventory"}}})
}

/// `no-prompts` of the recorded world.
fn no_prompts() -> Value {
    json!({"id": 32, "name": "no-prompts", "extra_vars": "", "inventory": 2,
        "summary_fields": {"organization": {"id": 2, "name": "Lab"}, "inventory": {"id": 2, "name": "lab-inventory"}}})
}

fn wanted(kind: Kind, args: Value) -> Wanted {
    let ArgValue::Map(args) = ArgValue::from_json(args) else { panic!("no arguments") };
    let action = if kind == Kind::Job { "job_template" } else { "workflow" };
    let mut order = Order::for_test(action, args);
    order.labels = [("team".to_owned(), "rig".to_owned())].into();
    Wanted::of(&order).unwrap()
}

fn refused(blueprint: &Arc<Blueprint>, wanted: &Wanted, inventory: Option<u64>) -> String {
    let error = prepare(blueprint, wanted, inventory).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    error.to_string()
}

#[test]
fn a_template_that_takes_everything_is_told_everything() {
    let template = blueprint(Kind::Workflow, deploy_vm(), None);
    let wanted = wanted(Kind::Workflow, json!({"workflow": "deploy-vm", "deploy_flavor": "big", "note": "hello"}));
    let prepared = prepare(&template, &wanted, Some(2)).unwrap();
    assert_eq!(
        (&prepared.body["inventory"], prepared.labels.as_slice()),
        (&json!(2), ["team=rig".to_owned()].as_slice())
    );
    let variables: Value = serde_json::from_str(prepared.body["extra_vars"].as_str().unwrap()).unwrap();
    assert_eq!(variables["deploy_flavor"], "big");
    assert_eq!(variables["_broker_extra_vars"]["note"], "hello");
    assert!(variables["_broker_extra_vars"].get("deploy_flavor").is_none());
    assert_eq!(prepared.mark.as_ref().map(|(name, value)| (*name, json!(value))), Some((ID, variables[ID].clone())));
    assert!(prepared.left_out.is_empty());
}

#[test]
fn what_a_template_does_not_take_is_told_before_the_launch() {
    for (kind, word) in [(Kind::Workflow, "workflow"), (Kind::Job, "job template")] {
        let template = blueprint(kind, no_prompts(), None);
        let action = if kind == Kind::Job { "job_template" } else { "workflow" };
        let error = refused(&template, &wanted(kind, json!({action: "no-prompts", "a": "1", "b": "2"})), None);
        assert_eq!(
            error,
            format!("{word} `no-prompts` does not take `a`, `b` on launch: it does not prompt for variables")
        );
        let error = refused(&template, &wanted(kind, json!({action: "no-prompts", "tower_inventory": "x"})), Some(3));
        assert!(error.ends_with("does not take an inventory on launch; its own is `lab-inventory`"), "{error}");
        // Its own may be named, and what is Broker's own is left out without a word of the service's.
        let prepared = prepare(&template, &wanted(kind, json!({action: "no-prompts"})), Some(2)).unwrap();
        assert!(prepared.body.is_empty() && prepared.mark.is_none(), "{prepared:?}");
        assert_eq!(prepared.left_out, ["label team=rig"]);
    }
}

#[test]
fn a_survey_lets_its_own_variables_in() {
    let mut template = no_prompts();
    template["survey_enabled"] = json!(true);
    let spec = json!([{"variable": "size", "type": "integer", "required": true, "max": 5}, {"variable": "_broker_id", "type": "text"}]);
    let template = blueprint(Kind::Workflow, template, Some(spec));
    let error = refused(&template, &wanted(Kind::Workflow, json!({"workflow": "w", "size": "3", "other": "1"})), None);
    assert!(
        error.ends_with("does not take `other` on launch: its survey asks for `size`, `_broker_id` and nothing else"),
        "{error}"
    );
    let error = refused(&template, &wanted(Kind::Workflow, json!({"workflow": "w", "size": "9"})), None);
    assert_eq!(error, "the survey of workflow `no-prompts` is not answered: `size` is `9`, and must be at most 5");
    let prepared = prepare(&template, &wanted(Kind::Workflow, json!({"workflow": "w", "size": "3"})), None).unwrap();
    let variables: Value = serde_json::from_str(prepared.body["extra_vars"].as_str().unwrap()).unwrap();
    assert_eq!(variables.as_object().unwrap().keys().collect::<Vec<_>>(), ["size", "_broker_id"]);
    assert_eq!(variables["size"], 3);
    assert!(prepared.mark.is_some());
}

#[test]
fn what_a_launch_lacks_is_told_before() {
    let mut bare = no_prompts();
    bare["inventory"] = Value::Null;
    let job = blueprint(Kind::Job, bare.clone(), None);
    let error = refused(&job, &wanted(Kind::Job, json!({"job_template": "j"})), None);
    assert!(error.contains("has no inventory: `--tower-inventory NAME`"), "{error}");
    // Of a workflow each node has its own.
    prepare(&blueprint(Kind::Workflow, bare, None), &wanted(Kind::Workflow, json!({"workflow": "w"})), None).unwrap();
    let lacking = |needs: Needs| {
        let Blueprint { kind, template, survey, .. } = (*blueprint(Kind::Workflow, deploy_vm(), None)).clone();
        let blueprint = Arc::new(Blueprint { kind, template, needs, survey });
        refused(&blueprint, &wanted(Kind::Workflow, json!({"workflow": "w"})), None)
    };
    let error = lacking(Needs { variables_needed_to_start: vec!["deploy_flavor".into()], ..Needs::default() });
    assert_eq!(error, "workflow `deploy-vm` needs `deploy_flavor`");
    let error = lacking(Needs { passwords_needed_to_start: vec!["ssh_password".into()], ..Needs::default() });
    assert!(error.contains("asks for a credential or a password"), "{error}");
    let error = lacking(Needs { node_templates_missing: vec![json!(4)], ..Needs::default() });
    assert!(error.contains("does not exist any more"), "{error}");
}

#[test]
fn a_release_leaves_out_what_its_workflow_does_not_take() {
    let mut template = no_prompts();
    template["survey_enabled"] = json!(true);
    let template =
        blueprint(Kind::Workflow, template, Some(json!([{"variable": "source_vm", "type": "text", "required": true}])));
    let given = json!({"workflow": "remove-vm", "source_vm": "rig-vm01", "note": "hello"});
    let wanted =
        Wanted::workflow("remove-vm", given.as_object().cloned().unwrap(), broker_core::HostId::generate(), "me");
    let prepared = prepare(&template, &wanted, Some(9)).unwrap();
    assert_eq!(prepared.left_out, ["note"]);
    assert_eq!(prepared.body["extra_vars"], json!("{\"source_vm\":\"rig-vm01\"}"));
    assert!(!prepared.body.contains_key("inventory"));
}
