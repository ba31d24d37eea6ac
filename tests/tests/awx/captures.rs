//! Every exchange that was recorded from a real AWX, said again to the one of the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker_tests::awx::{Awx, World, password_of};
use serde_json::{Value, json};

use crate::alike::{Alike, Ids, Kind, without_folders};
use crate::client::{self, Answer};
use crate::story::{FAILED, LISTS, PAGES, STORY, Step};

/// What is not answered like the recording, on purpose: the exchange and why.
const NOT_SERVED: [(&str, &str); 0] = [];

/// Whose password a request with one had, where it was not `rigger`'s.
const WHO: [(&str, &str); 12] = [
    ("wf-job-no-rights-403", "nobody"),
    ("wf-launch-no-rights-403", "nobody"),
    ("host-facts-no-rights-403", "nobody"),
    ("wfjt-by-name-no-rights", "nobody"),
    ("wfjt-by-id-no-rights-403", "nobody"),
    ("wfjt-by-name-read-only", "viewer"),
    ("wf-launch-read-only-403", "viewer"),
    ("jt-launch-read-only-403", "viewer"),
    ("job-cancel-finished-admin-405", "admin"),
    ("wf-node-create-no-inventory-400", "admin"),
    ("page-size", "admin"),
    ("me-bad-password-401", "somebody"),
];

/// How far the clock goes before an answer counts as another one than recorded, and in which steps.
const LIMIT: u32 = 600;
const TICK: Duration = Duration::from_millis(2);

/// Headers that have to be the same, or missing on both sides.
const HEADERS: [&str; 9] = [
    "content-type",
    "location",
    "www-authenticate",
    "allow",
    "content-language",
    "x-api-product-name",
    "x-api-node",
    "x-api-session-cookie-name",
    "content-disposition",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("labs/awx/captures")
}

fn capture(name: &str) -> Value {
    let path = folder().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn names() -> BTreeSet<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// One who says again what was said.
struct Walker {
    awx: Awx,
    token: String,
    reading: String,
    ids: Ids,
    cookies: BTreeMap<String, String>,
    faults: Vec<String>,
}

impl Walker {
    fn new(world: World) -> Self {
        let awx = Awx::start(world.still());
        let (token, reading) = (awx.token_of("rigger"), awx.reading_token_of("rigger"));
        Self { awx, token, reading, ids: Ids::default(), cookies: BTreeMap::new(), faults: Vec::new() }
    }

    fn walk(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Say(names) => names.iter().for_each(|name| self.say_single(name)),
                Step::Launch(template, vars, id) => self.launch(template, vars, *id),
                Step::Begin(id) => {
                    self.wait(*id, &["running"]);
                    self.awx.advance(Duration::from_millis(30));
                }
                Step::End(id) => self.end(*id),
                Step::Project(is_gone) => self.awx.lose_project(*is_gone),
                Step::Timeout(template, seconds) => self.awx.set_timeout(template, *seconds),
                Step::Kill => self.awx.kill_worker(),
            }
        }
    }

    fn launch(&mut self, template: &str, vars: &str, id: u64) {
        let path = self.awx.launch_path(template);
        let headers =
            [("Authorization", format!("Bearer {}", self.token)), ("Content-Type", "application/json".to_owned())];
        let body = json!({"extra_vars": vars}).to_string();
        let answer = client::send(self.awx.url(), "POST", &path, &headers, body.as_bytes()).unwrap();
        assert_eq!(answer.status, 201, "{template}: {}", answer.text());
        assert!(self.ids.learn(Kind::Job, id, answer.json()["id"].as_u64().unwrap()));
    }

    fn wait(&self, id: u64, for_any: &[&str]) {
        let ours = self.ids.ours(Kind::Job, id).unwrap();
        for _ in 0..LIMIT {
            if self.awx.status_of(ours).is_some_and(|status| for_any.contains(&status)) {
                return;
            }
            self.awx.advance(TICK);
        }
        panic!("job {id} is not {for_any:?}");
    }

    fn end(&self, id: u64) {
        self.wait(id, &["successful", "failed"]);
        self.awx.advance(Duration::from_millis(20));
    }

    fn say_single(&mut self, name: &str) {
        let capture = capture(name);
        if name == "wf-canceled-pending-poll-1-canceled" {
            self.cancel(&capture);
        }
        self.say(name, &capture);
    }

    /// Somebody else cancels the job that an exchange asks for.
    fn cancel(&self, exchange: &Value) {
        let path = self.ids.mapped(exchange["request"]["path"].as_str().unwrap());
        let headers = [("Authorization", format!("Bearer {}", self.token))];
        client::send(self.awx.url(), "POST", &format!("{path}cancel/"), &headers, b"").unwrap();
    }

    /// Says what was said, and notes what is answered otherwise. What only reads may be answered alike a while later.
    fn say(&mut self, name: &str, exchange: &Value) {
        let (request, response) = (&exchange["request"], &exchange["response"]);
        let method = request["method"].as_str().unwrap();
        let may_wait = method == "GET" && response["status"] == 200;
        let mut least: Option<Vec<String>> = None;
        for tick in 0..LIMIT {
            let answer = self.send(name, request);
            let mut ids = self.ids.clone();
            let differences = compare(&mut ids, request, response, &answer);
            if differences.is_empty() {
                self.ids = ids;
                self.cookies.extend(answer.cookies());
                return;
            }
            if least.as_ref().is_none_or(|least| differences.len() < least.len()) {
                least = Some(differences);
            }
            if !may_wait {
                break;
            }
            if tick + 1 < LIMIT {
                self.awx.advance(TICK);
            }
        }
        let target = request["target"].as_str().unwrap();
        self.faults.push(format!("{name} ({method} {target}):\n  {}", least.unwrap_or_default().join("\n  ")));
    }

    fn send(&self, name: &str, request: &Value) -> Answer {
        let method = request["method"].as_str().unwrap();
        let target = self.target(request["target"].as_str().unwrap());
        let mut headers: Vec<(&str, String)> = Vec::new();
        for (key, value) in request["headers"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            match key.as_str() {
                "Authorization" => headers.push(("Authorization", self.authorization(name, value))),
                "Cookie" => {
                    let jar: Vec<String> = self.cookies.iter().map(|(key, value)| format!("{key}={value}")).collect();
                    if !jar.is_empty() {
                        headers.push(("Cookie", jar.join("; ")));
                    }
                }
                "X-CSRFToken" => {
                    headers.push(("X-CSRFToken", self.cookies.get("csrftoken").cloned().unwrap_or_default()))
                }
                "Content-Type" | "Accept" | "Referer" => headers.push((key, value.to_owned())),
                other => panic!("{name}: what is the header {other}?"),
            }
        }
        let body = self.body(&request["body"]);
        client::send(self.awx.url(), method, &target, &headers, body.as_bytes()).unwrap()
    }

    fn target(&self, target: &str) -> String {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = self.ids.mapped(path);
        let Some(query) = query else { return path };
        let is_of_jobs = path.contains("jobs/") && query.starts_with("id=");
        let id = query.strip_prefix("id=").and_then(|id| id.parse().ok()).filter(|_| is_of_jobs);
        match id.and_then(|id| self.ids.ours(Kind::Job, id)) {
            Some(ours) => format!("{path}?id={ours}"),
            None => format!("{path}?{query}"),
        }
    }

    fn authorization(&self, name: &str, recorded: &str) -> String {
        let who = WHO.iter().find(|(start, _)| name.starts_with(start)).map_or("rigger", |(_, user)| user);
        match recorded.split(' ').next().unwrap() {
            "Bearer" if name.contains("bad-token") => "Bearer no-such-token".to_owned(),
            "Bearer" if name.contains("read-scope") || name.contains("read-token") => {
                format!("Bearer {}", self.reading)
            }
            "Bearer" => format!("Bearer {}", self.token),
            "Basic" => format!("Basic {}", STANDARD.encode(format!("{who}:{}", password_of(who)))),
            other => format!("{other} abc"),
        }
    }

    fn body(&self, recorded: &Value) -> String {
        match recorded {
            Value::Null => String::new(),
            Value::String(text) => text.replace("<password>", &password_of("rigger")),
            other => {
                let mut body = other.clone();
                if let Some(labels) = body.get_mut("labels").and_then(Value::as_array_mut) {
                    for label in labels {
                        let ours = label.as_u64().and_then(|id| self.ids.ours(Kind::Label, id));
                        *label = ours.map_or(label.clone(), Value::from);
                    }
                }
                body.to_string()
            }
        }
    }

    fn finish(self) {
        assert!(self.faults.is_empty(), "{} answered otherwise:\n{}", self.faults.len(), self.faults.join("\n"));
    }
}

/// What is different between the recorded answer and ours.
fn compare(ids: &mut Ids, request: &Value, response: &Value, answer: &Answer) -> Vec<String> {
    let mut alike = Alike { ids, differences: Vec::new() };
    if response["status"] != answer.status {
        let text: String = answer.text().chars().take(400).collect();
        return vec![format!("status: recorded {}, ours {}: {text}", response["status"], answer.status)];
    }
    for name in HEADERS {
        let recorded = response["headers"].as_object().unwrap().iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let recorded = recorded.and_then(|(_, value)| value.as_str());
        let ours = answer.header(name);
        let is_same = match (recorded, ours) {
            (Some(recorded), Some(ours)) if name == "location" => alike.link(recorded, ours),
            (Some(recorded), Some(ours)) if name == "content-disposition" => {
                recorded.starts_with("attachment; filename=\"job_") && ours.starts_with("attachment; filename=\"job_")
            }
            (recorded, ours) => recorded == ours,
        };
        if !is_same {
            alike.differences.push(format!("header {name}: recorded {recorded:?}, ours {ours:?}"));
        }
    }
    let cookies = response["headers"]["Set-Cookie"].as_str().unwrap_or_default();
    for name in ["csrftoken", "awx_sessionid", "userLoggedIn"] {
        let (recorded, ours) = (cookies.contains(&format!("{name}=")), answer.cookies().contains_key(name));
        if recorded != ours {
            alike.differences.push(format!("cookie {name}: recorded {recorded}, ours {ours}"));
        }
    }
    let is_cut = |text: &str| text.ends_with("characters of HTML, cut]");
    match &response["body"] {
        Value::Null if answer.body.is_empty() => {}
        Value::String(text) if is_cut(text) => {
            if !answer.text().trim_start().to_lowercase().starts_with("<!doctype html>") {
                alike.differences.push("body: recorded a page of HTML".to_owned());
            }
        }
        Value::String(text) if answer.header("content-type") != Some("application/json") => {
            if without_folders(text) != without_folders(&answer.text()) {
                alike.differences.push(format!("body: recorded {text:?}, ours {:?}", answer.text()));
            }
        }
        body => {
            let mut ours = answer.json();
            let are_names = body["results"].as_array().is_some_and(|results| results.iter().any(Value::is_string));
            if are_names {
                let names = ours["results"].as_array().unwrap().iter().map(|result| result["name"].clone()).collect();
                ours["results"] = names;
            }
            let is_history = request["target"].as_str().unwrap().contains("status=failed");
            let kind = if is_history { Some(Kind::Job) } else { None };
            alike.value("", body, &ours, kind);
        }
    }
    alike.differences
}

fn told(steps: &[Step]) -> Vec<&'static str> {
    let told = steps.iter().filter_map(|step| if let Step::Say(names) = step { Some(*names) } else { None });
    told.flatten().copied().collect()
}

#[test]
fn every_recording_is_told_or_listed_with_the_reason_why_not() {
    let told: Vec<&str> = [STORY, LISTS, PAGES, FAILED].iter().flat_map(|steps| told(steps)).collect();
    let known: BTreeSet<String> =
        told.iter().chain(NOT_SERVED.iter().map(|(name, _)| name)).map(|&name| name.to_owned()).collect();
    let told_once: BTreeSet<&str> = told.iter().copied().collect();
    assert_eq!(told_once.len(), told.len(), "some exchange is told twice");
    let singles: BTreeSet<String> = names().into_iter().filter(|name| !name.starts_with("flow-")).collect();
    assert_eq!(singles.symmetric_difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn single_exchanges_are_answered_as_recorded() {
    let mut walker = Walker::new(World::recorded());
    walker.walk(STORY);
    walker.finish();
}

#[test]
fn lists_of_templates_are_answered_as_recorded() {
    let mut walker = Walker::new(World::recorded().without("wide").without("prompt-node"));
    walker.walk(LISTS);
    walker.finish();
}

#[test]
fn pages_of_a_long_list_are_answered_as_recorded() {
    let mut world = World::recorded().inventory("many", "", "");
    for number in 0..230 {
        world = world.host("many", &format!("h{number:03}"), "", Value::Null);
    }
    let mut walker = Walker::new(world);
    walker.walk(PAGES);
    walker.finish();
}

#[test]
fn jobs_are_filtered_and_ordered_as_recorded() {
    let mut walker = Walker::new(World::recorded());
    walker.walk(FAILED);
    walker.finish();
}

#[test]
fn whole_runs_of_clients_are_answered_as_recorded() {
    let flows: Vec<String> = names().into_iter().filter(|name| name.starts_with("flow-")).collect();
    assert!(flows.len() >= 48, "{}", flows.len());
    let mut faults = Vec::new();
    for name in flows {
        let mut walker = Walker::new(World::recorded());
        prepare(&mut walker, &name);
        let mut is_canceled = false;
        for exchange in capture(&name)["exchanges"].as_array().unwrap() {
            if name == "flow-broker-wait-canceled"
                && exchange["response"]["body"]["status"] == "canceled"
                && !is_canceled
            {
                walker.cancel(exchange);
                is_canceled = true;
            }
            walker.say(&name, exchange);
        }
        faults.extend(walker.faults);
    }
    assert!(faults.is_empty(), "{} answered otherwise:\n{}", faults.len(), faults.join("\n"));
}

/// What there was before a run: labels, facts, and a project that was gone.
fn prepare(walker: &mut Walker, name: &str) {
    let headers =
        [("Authorization", format!("Bearer {}", walker.token)), ("Content-Type", "application/json".to_owned())];
    for label in ["team=rig", "owner"] {
        let has = capture(name)["exchanges"]
            .as_array()
            .unwrap()
            .iter()
            .any(|exchange| exchange["request"]["body"]["name"] == label && exchange["response"]["status"] == 400);
        if has || label == "team=rig" {
            let body = json!({"name": label, "organization": 2}).to_string();
            let answer = client::send(walker.awx.url(), "POST", "/api/v2/labels/", &headers, body.as_bytes()).unwrap();
            assert_eq!(answer.status, 201);
        }
    }
    if name == "flow-broker-inv-sync" {
        walker.launch("jt-facts", "{}", 39);
        walker.end(39);
    }
    walker.awx.lose_project(name == "flow-broker-checkout-error");
}
