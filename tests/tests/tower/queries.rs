//! What a service offers.

use broker_tests::awx::{Template, World};

use super::Lab;

#[test]
fn workflows_and_job_templates_are_listed_and_described() {
    let lab = Lab::with("results_limit: 100");
    let all = lab.broker("providers AnsibleTower --workflows").stdout;
    assert!(all.contains("deploy-vm") && all.contains("Deploy one VM"), "{all}");
    let one = lab.broker("providers AnsibleTower --workflow deploy-vm").stdout;
    for text in ["Deploy one VM", "lab-inventory", "variable deploy_flavor", "tiny", "any variable, inventory, labels"]
    {
        assert!(one.contains(text), "{one}");
    }
    let survey = lab.broker("providers AnsibleTower --job-template jt-survey").stdout;
    for text in
        ["Flavor; one of tiny, big; required", "Prefix; text; 3 to 8; required", "Count; integer; 1 to 5; default 1"]
    {
        assert!(survey.contains(text), "{survey}");
    }
    let all = lab.broker("providers AnsibleTower --job-templates").stdout;
    assert!(all.contains("jt-deploy"), "{all}");
    let error = lab.fails("providers AnsibleTower --workflow nonsense", 7);
    assert!(error.contains("there is no workflow `nonsense`"), "{error}");
}

/// The Python tool fails on such a template.
#[test]
fn variables_in_yaml_are_read() {
    let lab = Lab::new();
    let one = lab.broker("providers AnsibleTower --workflow yaml-vars").stdout;
    assert!(one.contains("variable sizes") && one.contains("[1,2]"), "{one}");
}

#[test]
fn inventories_are_listed_and_described() {
    let lab = Lab::new();
    let all = lab.broker("providers AnsibleTower --inventories").stdout;
    assert!(all.contains("rigger-hosts") && !all.contains("hidden-inventory"), "{all}");
    for option in ["--inventory", "--tower-inventory"] {
        let one = lab.broker(&format!("providers AnsibleTower {option} lab-inventory-2")).stdout;
        assert!(one.contains("variable region") && one.contains("eu"), "{one}");
    }
}

#[test]
fn what_workflows_list_is_shown() {
    let lab = Lab::new();
    let templates = lab.broker("providers AnsibleTower --templates").stdout;
    assert_eq!(templates.matches("rhel-9.4").count(), 1, "{templates}");
    let flavors = lab.broker("providers AnsibleTower --flavors").stdout;
    assert!(flavors.contains("16384"), "{flavors}");
    let lab = Lab::of(
        World::recorded().template(Template::workflow("list-flavors").node("jt-fail")).without("list-templates"),
        "",
    );
    let error = lab.fails("providers AnsibleTower --flavors", 7);
    assert!(error.contains("No hypervisor has capacity"), "{error}");
    let error = lab.fails("providers AnsibleTower --templates", 7);
    assert!(error.contains("there is no workflow `list-templates`"), "{error}");
}

/// The setting counts on the command line too, and the option goes before it. What a filter selects is all shown.
#[test]
fn results_are_limited_and_filtered() {
    let lab = Lab::with("results_limit: 3");
    let all = |options: &str| {
        let line = format!("providers AnsibleTower --workflows --output json {options}");
        lab.broker(&line).json().as_array().unwrap().len()
    };
    assert_eq!((all(""), all("--results-limit 2"), all("--results-limit 5")), (3, 2, 5));
    let deploy = all("--results-filter workflow{deploy");
    assert_eq!(deploy, 3);
    assert_eq!(all("--results-filter @res.workflow.startswith(\"wi\")"), 2);
    assert_eq!(all("--results-filter workflow{deploy --results-limit 1"), 1);
    let error = lab.fails("providers AnsibleTower --workflows --results-filter name{deploy", 13);
    assert!(error.contains("there is no field `name`"), "{error}");
}
