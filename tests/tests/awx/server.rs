//! What tests ask of the server beyond what was recorded: machines, mishaps, other paths, encryption, control.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker_tests::awx::{Awx, Fate, Pace, Paths, Role, Rule, Template, Tls, World, password_of};
use broker_tests::wait;
use serde_json::{Value, json};

use crate::client::{self, Answer};

/// Somebody who asks a server.
struct User<'a> {
    awx: &'a Awx,
    authorization: String,
    root: &'static str,
}

impl<'a> User<'a> {
    fn new(awx: &'a Awx, name: &str) -> Self {
        Self { awx, authorization: format!("Bearer {}", awx.token_of(name)), root: "/api/v2/" }
    }

    fn ask(&self, method: &str, below: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        let headers = [("Authorization", self.authorization.clone()), ("Content-Type", "application/json".to_owned())];
        let body = body.map(Value::to_string).unwrap_or_default();
        client::send(self.awx.url(), method, &format!("{}{below}", self.root), &headers, body.as_bytes())
    }

    fn get(&self, below: &str) -> Value {
        let answer = self.ask("GET", below, None).unwrap();
        assert_eq!(answer.status, 200, "{below}: {}", answer.text());
        answer.json()
    }

    fn launch(&self, template: &str, vars: &Value) -> u64 {
        let path = self.awx.launch_path(template);
        let below = path.strip_prefix("/api/v2/").unwrap();
        let answer = self.ask("POST", below, Some(&json!({"extra_vars": vars}))).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_u64().unwrap()
    }

    fn run(&self, template: &str, vars: &Value) -> (u64, &'static str) {
        let id = self.launch(template, vars);
        (id, self.end(id))
    }

    fn end(&self, id: u64) -> &'static str {
        wait::until("the end of a job", || !self.awx.unfinished().contains(&id));
        self.awx.status_of(id).unwrap()
    }

    /// The artifacts of the last child of a workflow job.
    fn artifacts(&self, workflow_job: u64) -> Value {
        let nodes = self.get(&format!("workflow_jobs/{workflow_job}/workflow_nodes/"));
        let jobs = nodes["results"].as_array().unwrap().iter().filter_map(|node| node["job"].as_u64());
        self.get(&format!("jobs/{}/", jobs.max().unwrap()))["artifacts"].clone()
    }
}

#[test]
fn a_workflow_makes_a_machine_and_another_removes_it() {
    let awx = Awx::start(World::lab());
    let rigger = User::new(&awx, "rigger");
    let vars = json!({"name_prefix": "box", "host_type": "custom", "_broker_extra_vars": {"note": "hello"}});
    let (job, status) = rigger.run("deploy-host", &vars);
    assert_eq!(status, "successful");
    let artifacts = rigger.artifacts(job);
    let name = artifacts["_broker_facts"]["name"].as_str().unwrap().to_owned();
    assert_eq!(artifacts["_broker_facts"]["host_type"], "custom");
    assert_eq!(artifacts["_broker_args"], json!({"note": "hello"}));
    assert_eq!(awx.machines(), [name.as_str()]);
    let listed = rigger.get(&format!("hosts/?name={name}"))["results"][0]["id"].as_u64().unwrap();
    assert_eq!(rigger.get(&format!("hosts/{listed}/ansible_facts/"))["_broker_facts"]["name"], *name);

    assert_eq!(rigger.run("extend-host", &json!({"target_vm": name, "new_expire_time": "2027-01-01"})).1, "successful");
    let facts = rigger.get(&format!("hosts/{listed}/ansible_facts/"));
    assert_eq!(
        (&facts["_broker_facts"]["remove_time"], &facts["_broker_facts"]["name"]),
        (&json!("2027-01-01"), &json!(name))
    );

    assert_eq!(rigger.run("remove-host", &json!({"source_vm": name})).1, "successful");
    assert_eq!(awx.machines(), Vec::<String>::new());
    assert_eq!(awx.all_machines().len(), 1);
    assert_eq!(rigger.get(&format!("hosts/?name={name}"))["count"], 0);
    assert_eq!(rigger.run("remove-host", &json!({"source_vm": name})).1, "successful");
    assert_eq!(rigger.run("remove-host", &json!({"source_vm": name, "strict": true})).1, "failed");
}

#[test]
fn machines_are_left_behind_by_workflows_that_fail_and_by_jobs_that_are_canceled() {
    let awx = Awx::start(World::lab().pace(Pace::fast().slower(2)));
    let rigger = User::new(&awx, "rigger");
    let (job, status) = rigger.run("deploy-then-fail", &json!({}));
    assert_eq!((status, awx.machines().len()), ("failed", 1));
    let said = rigger.get(&format!("workflow_jobs/{job}/"));
    assert_eq!(said["job_explanation"], "No error handling paths found, marking workflow as failed");
    assert_eq!(rigger.run("deploy-dies", &json!({})).1, "failed");
    assert_eq!(awx.machines().len(), 2);
    assert_eq!(rigger.run("deploy-mute", &json!({})).1, "successful");
    assert_eq!(awx.machines().len(), 3);
    assert_eq!(rigger.run("deploy-handled", &json!({})).1, "successful");
    assert_eq!(awx.machines().len(), 3);
    let slow = rigger.launch("deploy-host", &json!({"seconds": 10_000}));
    wait::until("the machine", || awx.machines().len() == 4);
    assert_eq!(rigger.ask("POST", &format!("workflow_jobs/{slow}/cancel/"), None).unwrap().status, 202);
    assert_eq!(rigger.end(slow), "canceled");
    assert_eq!(awx.machines().len(), 4);
}

#[test]
fn fifty_launches_at_once_make_fifty_machines() {
    let awx = Awx::start(World::lab());
    let rigger = User::new(&awx, "rigger");
    let jobs: Vec<u64> = (0..50).map(|_| rigger.launch("deploy-host", &json!({}))).collect();
    assert!(jobs.iter().all(|job| rigger.end(*job) == "successful"));
    assert_eq!(awx.machines().len(), 50);
}

#[test]
fn a_dropped_answer_to_a_launch_leaves_the_job() {
    let awx = Awx::start(World::lab());
    let rigger = User::new(&awx, "rigger");
    let path = awx.launch_path("deploy-host");
    awx.spoil(Rule::new("POST", &path, Fate::DropAfter).times(1));
    awx.forget_requests();
    let below = path.strip_prefix("/api/v2/").unwrap();
    assert!(rigger.ask("POST", below, Some(&json!({}))).is_err());
    wait::until("the host", || awx.machines().len() == 1);
    let seen = awx.requests();
    assert_eq!((seen.len(), seen[0].status, seen[0].user.as_deref()), (1, None, Some("rigger")));
    awx.spoil(Rule::new("POST", &path, Fate::DropBefore).times(1));
    let before = awx.next_job();
    assert!(rigger.ask("POST", below, Some(&json!({}))).is_err());
    assert_eq!(awx.next_job(), before);
    assert_eq!(rigger.ask("POST", below, Some(&json!({}))).unwrap().status, 201);
}

#[test]
fn answers_are_spoiled_in_every_other_way() {
    let awx = Awx::start(World::lab());
    let rigger = User::new(&awx, "rigger");
    awx.spoil(Rule::page("GET", "/api/*/me/", 502).times(1));
    awx.spoil(Rule::detail("GET", "/api/*/me/", 403, "not now").times(1));
    awx.spoil(Rule::new("GET", "/api/*/me/", Fate::Cut).times(1));
    awx.spoil(Rule::new("GET", "/api/*/me/", Fate::Truncate).times(1));
    awx.spoil(Rule::new("GET", "/api/*/me/", Fate::Delay(Duration::from_millis(200))).times(1));
    let page = rigger.ask("GET", "me/", None).unwrap();
    assert_eq!((page.status, page.header("content-type")), (502, Some("text/html")));
    assert_eq!(rigger.ask("GET", "me/", None).unwrap().json(), json!({"detail": "not now"}));
    assert_eq!(rigger.ask("GET", "me/", None).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    let half = rigger.ask("GET", "me/", None).unwrap();
    assert!(half.status == 200 && serde_json::from_slice::<Value>(&half.body).is_err());
    let begun = Instant::now();
    assert_eq!(rigger.get("me/")["results"][0]["username"], "rigger");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    awx.spoil(Rule::page("*", "*", 503));
    assert_eq!(rigger.ask("GET", "me/", None).unwrap().status, 503);
    awx.behave();
    rigger.get("me/");
}

#[test]
fn connections_are_refused_for_a_time() {
    let awx = Awx::start(World::lab());
    let rigger = User::new(&awx, "rigger");
    rigger.get("me/");
    awx.refuse(Duration::from_millis(1500));
    let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    wait::until("a refused connection", || rigger.ask("GET", "me/", None).as_ref().is_err_and(refused));
    wait::until("an answer", || rigger.ask("GET", "me/", None).is_ok_and(|answer| answer.status == 200));
}

#[test]
fn the_api_is_where_the_world_has_it() {
    for (paths, classic, controller) in
        [(Paths::Classic, 200, 404), (Paths::Both, 200, 200), (Paths::Controller, 404, 200)]
    {
        let awx = Awx::start(World::recorded().paths(paths));
        let mut rigger = User::new(&awx, "rigger");
        assert_eq!(rigger.ask("GET", "me/", None).unwrap().status, classic, "{paths:?}");
        rigger.root = "/api/controller/v2/";
        assert_eq!(rigger.ask("GET", "me/", None).unwrap().status, controller, "{paths:?}");
    }
    let awx = Awx::start(World::recorded().paths(Paths::Controller));
    let root = client::send(awx.url(), "GET", "/api/", &[], b"").unwrap().json();
    assert_eq!(root["apis"]["controller"], "/api/controller/");
}

#[test]
fn roles_decide_what_is_seen_and_launched() {
    let template = Template::job("own", "finalize.yml").role("rigger", None).role("viewer", Some(Role::Use));
    let awx = Awx::start(World::recorded().template(template));
    let path = awx.launch_path("own");
    let below = path.strip_prefix("/api/v2/").unwrap();
    for (user, count, status) in [("rigger", 0, 403), ("viewer", 1, 201), ("nobody", 0, 403), ("admin", 1, 201)] {
        let user_of = User::new(&awx, user);
        assert_eq!(user_of.get("job_templates/?name=own")["count"], count, "{user}");
        assert_eq!(user_of.ask("POST", below, Some(&json!({}))).unwrap().status, status, "{user}");
    }
    let mut reader = User::new(&awx, "viewer");
    reader.authorization = format!("Bearer {}", awx.reading_token_of("viewer"));
    assert_eq!(reader.ask("POST", below, Some(&json!({}))).unwrap().status, 403);
}

#[test]
fn rights_and_facts_change_while_it_serves() {
    let awx = Awx::start(World::lab());
    let rigger = User::new(&awx, "rigger");
    awx.set_facts("rigger-hosts", "rig-a", &json!({"_broker_facts": {"remove_time": "2030-01-01"}}));
    assert_eq!(rigger.get("hosts/2/ansible_facts/")["_broker_facts"]["remove_time"], "2030-01-01");
    awx.set_role("deploy-host", "rigger", Some(Role::Read));
    let path = awx.launch_path("deploy-host");
    let below = path.strip_prefix("/api/v2/").unwrap();
    assert_eq!(rigger.ask("POST", below, Some(&json!({}))).unwrap().status, 403);
    awx.set_role("deploy-host", "rigger", None);
    assert_eq!(rigger.get("workflow_job_templates/?name=deploy-host")["count"], 0);
    awx.revoke_tokens("rigger");
    assert_eq!(rigger.ask("GET", "me/", None).unwrap().status, 401);
}

#[test]
fn answers_to_questions_for_passwords_are_shown_to_nobody() {
    let awx = Awx::start(World::lab());
    let rigger = User::new(&awx, "rigger");
    let job = rigger.launch("all-questions", &json!({"a_text": "abc", "a_password": "hunter22"}));
    rigger.end(job);
    let nodes = rigger.get(&format!("workflow_jobs/{job}/workflow_nodes/"));
    let child = nodes["results"][0]["job"].as_u64().unwrap();
    for path in [format!("workflow_jobs/{job}/"), format!("jobs/{child}/"), format!("workflow_jobs/?id={job}")] {
        let said = rigger.get(&path).to_string();
        assert!(said.contains("$encrypted$") && !said.contains("hunter22"), "{path}: {said}");
    }
    let template = rigger.get("workflow_job_templates/?name=all-questions")["results"][0]["id"].as_u64().unwrap();
    let survey = rigger.get(&format!("workflow_job_templates/{template}/survey_spec/")).to_string();
    assert!(survey.contains("$encrypted$") && !survey.contains("opensesame"), "{survey}");
    let vars = rigger.get(&format!("workflow_jobs/{job}/"))["extra_vars"].as_str().unwrap().to_owned();
    let vars: Value = serde_json::from_str(&vars).unwrap();
    assert_eq!(vars["some_of"], json!(["red"]));
    let refused =
        json!({"extra_vars": {"a_text": "a", "a_number": 9, "a_measure": "x", "some_of": ["pink"], "one_of": "no"}});
    let answer = rigger.ask("POST", &format!("workflow_job_templates/{template}/launch/"), Some(&refused)).unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json()["variables_needed_to_start"],
        json!([
            "'a_text' value a is too small (length is 1 must be at least 2).",
            "'a_number' value 9 is too large (must be no more than 5).",
            "Value x for 'a_measure' expected to be a numeric type.",
            "Value no for 'one_of' expected to be one of ['tiny', 'big'].",
            "Value pink for 'some_of' expected to be one of ['red', 'green', 'blue'].",
        ])
    );
}

#[test]
fn a_second_launch_waits_where_only_one_may_run() {
    let awx = Awx::start(World::recorded().still());
    let rigger = User::new(&awx, "rigger");
    let (first, second) = (rigger.launch("slow", &json!({"seconds": 30})), rigger.launch("slow", &json!({})));
    awx.advance(Duration::from_millis(200));
    assert_eq!((awx.status_of(first), awx.status_of(second)), (Some("running"), Some("pending")));
    awx.advance(Duration::from_secs(10));
    assert_eq!((awx.status_of(first), awx.status_of(second)), (Some("successful"), Some("successful")));
}

#[test]
fn a_job_that_is_ended_from_outside_tells_only_what_it_had_done() {
    let awx = Awx::start(World::lab().still());
    let rigger = User::new(&awx, "rigger");
    awx.set_timeout("lab-deploy", 3);
    let ends = |id: u64| -> Vec<String> {
        awx.advance(Duration::from_secs(5));
        let events = rigger.get(&format!("jobs/{id}/job_events/?order_by=-counter"));
        events["results"].as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    let late = rigger.launch("lab-deploy", &json!({"seconds": 30}));
    assert_eq!(ends(late)[0], "runner_on_start");
    let said = rigger.get(&format!("jobs/{late}/"));
    assert_eq!((&said["status"], &said["artifacts"]), (&json!("failed"), &json!({})));
    assert_eq!(said["job_explanation"], "Job terminated due to timeout");
    assert_eq!(awx.machines().len(), 1);
    awx.set_timeout("lab-deploy", 0);
    let whole = rigger.launch("lab-deploy", &json!({"seconds": 30}));
    assert_eq!(ends(whole)[0], "playbook_on_stats");
    let killed = rigger.launch("jt-sleep", &json!({"seconds": 1000}));
    awx.advance(Duration::from_millis(100));
    let running = rigger.get(&format!("jobs/{killed}/stdout/?format=json"));
    assert!(running["content"].as_str().unwrap().contains("TASK [Sleep a while]"), "{running}");
    awx.kill_worker();
    assert_eq!(ends(killed)[0], "runner_on_start");
    let said = rigger.get(&format!("jobs/{killed}/"));
    assert_eq!(said["job_explanation"], "The running ansible process received a shutdown signal.");
}

#[test]
fn the_program_serves_it_by_hand() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_awx")).arg("0").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said: BTreeMap<String, String> = (0..4)
        .filter_map(|_| lines.next()?.split_once(": ").map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let headers = [("Authorization", format!("Bearer {}", said["token"]))];
    let answer = client::send(&said["base_url"], "GET", "/api/v2/me/", &headers, b"");
    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(answer.unwrap().json()["results"][0]["username"], *said["username"]);
}

#[test]
fn lists_are_searched_filtered_and_ordered() {
    let awx = Awx::start(World::lab().inventory("big", "many hosts", "").many_hosts("big", "node", 300));
    let rigger = User::new(&awx, "rigger");
    let big = rigger.get("inventories/?name=big")["results"][0]["id"].as_u64().unwrap();
    let page = rigger.get(&format!("inventories/{big}/hosts/?page_size=200&page=2"));
    assert_eq!((&page["count"], page["results"].as_array().unwrap().len()), (&json!(300), 100));
    let count = |below: &str| rigger.get(below)["count"].as_u64().unwrap();
    assert_eq!(count("hosts/?name__icontains=NODE-000"), 10);
    assert_eq!(count("hosts/?inventory__name=big&name__startswith=node-02"), 100);
    assert_eq!(count("hosts/?name__in=node-0001,node-0002"), 2);
    assert_eq!(count("hosts/?or__name=node-0001&or__name=node-0002&name__endswith=1"), 1);
    assert_eq!(count("hosts/?search=0007"), 1);
    assert_eq!(count(&format!("hosts/?inventory={big}&enabled=false")), 0);
    assert_eq!(count("hosts/?not__name__startswith=node&page_size=1"), 4);
    let last = rigger.get("hosts/?order_by=-name&page_size=1&name__startswith=node");
    assert_eq!(last["results"][0]["name"], "node-0299");
    let next = "/api/v2/hosts/?name__startswith=node&order_by=-name&page=2&page_size=1";
    assert_eq!(last["next"], next);
    for (below, status) in [("hosts/?order_by=nothing", 400), ("hosts/?page=x", 404), ("hosts/?inventory=x", 400)] {
        assert_eq!(rigger.ask("GET", below, None).unwrap().status, status, "{below}");
    }
    let job = rigger.launch("deploy-host", &json!({"_broker_id": "0199-find-me"}));
    let found = rigger.get("workflow_jobs/?extra_vars__icontains=0199-find-me");
    assert_eq!((&found["count"], &found["results"][0]["id"]), (&json!(1), &json!(job)));
}

#[test]
fn objects_are_found_by_name_in_the_path() {
    let awx = Awx::start(World::recorded());
    let rigger = User::new(&awx, "rigger");
    let mut detail = rigger.get("workflow_job_templates/deploy-vm++Lab/");
    assert_eq!(detail["id"], 22);
    detail = rigger.get("hosts/rig-a++rigger-hosts++Lab/");
    assert_eq!(detail["id"], 2);
    let headers = [("Authorization", rigger.authorization.clone())];
    let moved = client::send(awx.url(), "GET", "/api/v2/hosts?name=rig-a", &headers, b"").unwrap();
    assert_eq!((moved.status, moved.header("location")), (301, Some("/api/v2/hosts/?name=rig-a")));
}

#[test]
fn a_token_is_made_with_a_password_and_is_of_no_use_once_deleted() {
    let awx = Awx::start(World::recorded());
    let basic = format!("Basic {}", STANDARD.encode(format!("rigger:{}", password_of("rigger"))));
    let mut rigger = User { awx: &awx, authorization: basic, root: "/api/v2/" };
    let body = json!({"description": "for a while", "application": null, "scope": "write"});
    let made = rigger.ask("POST", "tokens/", Some(&body)).unwrap().json();
    assert_eq!(awx.tokens(), 1);
    rigger.authorization = format!("Bearer {}", made["token"].as_str().unwrap());
    assert_eq!(rigger.get("tokens/?description=for+a+while")["count"], 1);
    assert_eq!(rigger.ask("DELETE", &format!("tokens/{}/", made["id"]), None).unwrap().status, 204);
    assert_eq!(rigger.ask("GET", "me/", None).unwrap().status, 401);
    assert_eq!(awx.tokens(), 0);
}

#[test]
fn another_process_can_control_it() {
    let awx = Awx::start(World::lab());
    let control = |method: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        client::send(awx.url(), method, &format!("/_control/{path}"), &[], body.as_bytes()).unwrap()
    };
    let token = control("POST", "token", json!({"user": "rigger"})).json()["token"].as_str().unwrap().to_owned();
    let rigger = User { awx: &awx, authorization: format!("Bearer {token}"), root: "/api/v2/" };
    let rule = json!({"method": "GET", "path": "/api/v2/me/", "fate": "answer", "status": 500, "times": 1});
    assert_eq!(control("POST", "rules", rule).status, 204);
    assert_eq!(rigger.ask("GET", "me/", None).unwrap().status, 500);
    assert_eq!(rigger.ask("GET", "me/", None).unwrap().status, 200);
    assert_eq!(control("POST", "rules", json!({"path": "*", "fate": "unknown"})).status, 400);
    rigger.run("deploy-host", &json!({}));
    let machines = control("GET", "machines", Value::Null).json();
    assert_eq!((machines.as_array().unwrap().len(), &machines[0]["removed_by"]), (1, &Value::Null));
    let requests = control("GET", "requests", Value::Null).json();
    assert_eq!((&requests[0]["target"], &requests[0]["status"]), (&json!("/api/v2/me/"), &json!(500)));
    control("POST", "project", json!({"gone": true}));
    let job = rigger.launch("jt-deploy", &json!({}));
    assert_eq!(rigger.end(job), "error");
    assert_eq!(control("GET", "nothing", Value::Null).status, 404);
}

#[test]
fn what_is_encrypted_is_answered_to_who_trusts_the_authority() {
    let tls = Tls::new();
    let awx = Awx::start_tls(World::recorded(), &tls);
    assert!(awx.url().starts_with("https://127.0.0.1:"));
    let answer = client::get_encrypted(awx.url(), "/api/v2/ping/", &[tls.authority()]).unwrap();
    assert_eq!(answer.json()["active_node"], "rig");
    assert!(client::get_encrypted(awx.url(), "/api/v2/ping/", &[]).is_err());
}
