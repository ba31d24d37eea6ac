//! Workflows that make hosts and release them, fifty at once too, and syncs, each beside a plain loop of the fewest requests
//! that come to the same.
//!
//! The AWX of the tests runs in this process: both sides pay for it. A workflow takes a second or so, as nothing is to be
//! learned from how fast it is.

use std::path::Path;
use std::time::Duration;

use broker::prelude::*;
use broker::provider::Scope;
use broker::{HostId, block_on};
use broker_tests::awx::{Awx, Pace, Seen, Template, World};
use broker_tests::conformance::current_thread;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::measure::{child, in_turn, seconds, timed};
use crate::report::{Bench, Samples, Target, Value as Figure};
use crate::{Result, fixtures};

const MANY: u32 = 50;
const HOSTS: usize = 2000;

/// What the Python tool needs for a checkout, beside its polls.
const PYTHON: f64 = 17.0;

/// How often the loop looks at a workflow; the provider's first look comes as soon.
const PERIOD: Duration = Duration::from_millis(300);

/// How many hosts' facts the loop asks for at once: as many as the provider.
const FACTS_AT_ONCE: usize = 16;

const MAKE: &str = "\
- name: Make
  hosts: localhost
  tasks:
    - name: Make it
      lab.machine: { name: \"vm-{{ _broker_id }}\", state: present }
    - name: Tell
      ansible.builtin.set_stats:
        data:
          vm_name: \"vm-{{ _broker_id }}\"
          _broker_args: \"{{ _broker_extra_vars }}\"
          _broker_facts: { fqdn: \"vm-{{ _broker_id }}.example.test\", name: \"vm-{{ _broker_id }}\" }
";

const REMOVE: &str = "\
- name: Remove
  hosts: localhost
  tasks:
    - name: Remove it
      lab.machine: { name: \"{{ source_vm }}\", state: absent }
";

pub(crate) fn run(bench: &mut Bench) -> Result {
    if bench.wants("tower/requests") {
        requests(bench)?;
    }
    if bench.wants("tower/50") {
        fifty(bench)?;
    }
    if bench.wants("tower/sync/2000") {
        sync(bench)?;
    }
    Ok(())
}

fn world() -> World {
    World::recorded()
        .all_at_once()
        .playbook("make.yml", MAKE)
        .playbook("remove-it.yml", REMOVE)
        .template(Template::job("jt-make", "make.yml"))
        .template(Template::job("jt-remove-it", "remove-it.yml"))
        .template(Template::workflow("make").node("jt-make"))
        .template(Template::workflow("remove-vm").node("jt-remove-it"))
}

fn settings(awx: &Awx) -> String {
    let (url, token) = (awx.url(), awx.token_of("rigger"));
    format!("AnsibleTower: {{base_url: '{url}', token: {token}, workflow_poll_interval: 300ms}}\n")
}

/// What some requests come to: how many are no polls, how many bytes they and their answers are, and how many are polls.
struct Cost {
    requests: f64,
    bytes: f64,
    polls: usize,
    names: Vec<String>,
}

impl Cost {
    /// Of all requests since the last time.
    fn take(awx: &Awx) -> Self {
        let is_poll = |seen: &Seen| {
            let path = seen.target.split('?').next().unwrap_or_default();
            let job = path.strip_prefix("/api/v2/workflow_jobs/").and_then(|rest| rest.strip_suffix('/'));
            seen.method == "GET" && job.is_some_and(|job| job.parse::<u64>().is_ok())
        };
        let (polls, others): (Vec<Seen>, Vec<Seen>) = awx.requests().into_iter().partition(is_poll);
        awx.forget_requests();
        Self {
            requests: others.len() as f64,
            bytes: others.iter().map(|seen| seen.bytes_in + seen.bytes_out).sum::<usize>() as f64,
            polls: polls.len(),
            names: others.into_iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect(),
        }
    }
}

fn bytes(bytes: f64) -> Samples {
    Samples { of: Figure::Bytes, numbers: vec![bytes] }
}

/// How many requests and bytes a host takes, in a process of its own and as one of many.
fn requests(bench: &mut Bench) -> Result {
    let awx = Awx::start(world());
    let count = |hosts: u32| {
        let directory = fixtures::directory()?;
        std::fs::write(directory.path().join("broker_settings.yaml"), settings(&awx))?;
        let broker = |line: &str| {
            awx.forget_requests();
            child(bench.broker(directory.path()).args(line.split(' ')))?;
            Ok::<_, Box<dyn std::error::Error>>(Cost::take(&awx))
        };
        let out = broker(&format!("checkout --workflow make --count {hosts}"))?;
        Ok::<_, Box<dyn std::error::Error>>((out, broker("checkin --all --yes")?))
    };
    let ((out, back), (out_many, back_many)) = (count(1)?, count(MANY)?);
    let script = Script::of(&awx);
    let plain = |way: fn(&Script<'_>, &str) -> Result| {
        awx.forget_requests();
        way(&script, "plain")?;
        Ok::<_, Box<dyn std::error::Error>>(Cost::take(&awx))
    };
    let plain_out = plain(|script, name| script.runtime.block_on(script.out(name)))?;
    let plain_back = plain(|script, name| script.runtime.block_on(script.back(name)))?;
    for (way, one, many, floor, target) in [
        ("out", &out, &out_many, &plain_out, Target::AtMost(Figure::Count(PYTHON))),
        ("in", &back, &back_many, &plain_back, Target::None),
    ] {
        let each = |one: f64, many: f64| (many - one) / f64::from(MANY - 1);
        let mut count = |name: &str, ours: f64, target: Target| {
            bench.row(name, &Samples::count(ours), &Samples::count(floor.requests), target);
        };
        count(&format!("tower/requests/{way}"), one.requests, target);
        count(&format!("tower/requests/{way}/each-of-{MANY}"), each(one.requests, many.requests), Target::None);
        bench.row(&format!("tower/bytes/{way}"), &bytes(one.bytes), &bytes(floor.bytes), Target::None);
        let each = bytes(each(one.bytes, many.bytes));
        bench.row(&format!("tower/bytes/{way}/each-of-{MANY}"), &each, &bytes(floor.bytes), Target::None);
        let polls = format!("{} polls of a process that does one, {} of one that does {MANY}", one.polls, many.polls);
        bench.note(&format!("beside {polls}: {}", one.names.join(", ")));
    }
    Ok(())
}

/// Many hosts at once.
fn fifty(bench: &mut Bench) -> Result {
    let awx = Awx::start(world().pace(Pace::fast().slower(20)));
    let directory = fixtures::directory()?;
    let broker = broker(&awx, directory.path())?;
    let request = || HostRequest::action("workflow", "make").count(MANY);
    let mut nodes = Vec::new();
    let mut ours = || {
        awx.forget_requests();
        let (time, guards) = timed(|| Ok(block_on(broker.checkout_many(request()))??))?;
        nodes.push(awx.requests().iter().filter(|seen| seen.target.contains("_nodes/?")).count() as f64);
        block_on(guards.checkin())??;
        Ok(time)
    };
    let script = Script::of(&awx);
    let mut floor = || {
        let names: Vec<String> = (0..MANY).map(|_| HostId::generate().to_string()).collect();
        let (time, _) = timed(|| script.runtime.block_on(try_join_all(names.iter().map(|name| script.out(name)))))?;
        Ok(time)
    };
    let [ours, floor] = in_turn(bench.rounds(5), [&mut ours, &mut floor])?;
    let times = |samples: &[Duration]| seconds(samples.iter().copied());
    bench.row(&format!("tower/{MANY}/out"), &times(&ours), &times(&floor), Target::None);
    // The loop reads each workflow's nodes once; more of them are the price of showing how far the workflows are.
    let nodes = Samples { of: Figure::Count, numbers: nodes };
    bench.row(&format!("tower/{MANY}/out/nodes"), &nodes, &Samples::count(f64::from(MANY)), Target::None);
    Ok(())
}

/// A sync into an empty inventory, and one that finds everything as it was.
fn sync(bench: &mut Bench) -> Result {
    let facts =
        |n: usize| json!({"_broker_facts": {"fqdn": format!("h{n}.example.test"), "remove_time": 4_000_000_000_u64}});
    let with_host =
        |world: World, n: usize| world.host("rigger-many", &format!("h{n}"), "ansible_host: 192.0.2.1", facts(n));
    let awx = Awx::start((0..HOSTS).fold(World::recorded().inventory("rigger-many", "", ""), with_host));
    let scope = || Scope { argument: Some("rigger-many".to_owned()), ..Scope::default() };
    let mut requests = [0.0; 2];
    let mut ours = || {
        let directory = fixtures::directory()?;
        let broker = broker(&awx, directory.path())?;
        let mut once = |at: usize| {
            awx.forget_requests();
            let (time, synced) = timed(|| Ok(block_on(broker.sync("AnsibleTower", None, scope()))??))?;
            requests[at] = Cost::take(&awx).requests;
            let found = synced.added.len() + synced.unchanged;
            if found != HOSTS {
                return Err(format!("{found} of {HOSTS} hosts were found").into());
            }
            Ok::<_, Box<dyn std::error::Error>>(time)
        };
        Ok((once(0)?, once(1)?))
    };
    let script = Script::of(&awx);
    let mut floor = || {
        let (whole, found) = timed(|| script.runtime.block_on(script.read(true)))?;
        let (pages, _) = timed(|| script.runtime.block_on(script.read(false)))?;
        if found == HOSTS { Ok((whole, pages)) } else { Err(format!("{found} of {HOSTS} hosts were listed").into()) }
    };
    let [ours, floor] = in_turn(bench.rounds(5), [&mut ours, &mut floor])?;
    awx.forget_requests();
    script.runtime.block_on(script.read(true))?;
    let fewest = Cost::take(&awx).requests;
    script.runtime.block_on(script.read(false))?;
    let fewest = [fewest, Cost::take(&awx).requests];
    let first = |samples: &[(Duration, Duration)]| seconds(samples.iter().map(|(first, _)| *first));
    let again = |samples: &[(Duration, Duration)]| seconds(samples.iter().map(|(_, again)| *again));
    let row = format!("tower/sync/{HOSTS}");
    bench.row(&row, &first(&ours), &first(&floor), Target::None);
    bench.row(&format!("{row}/again"), &again(&ours), &again(&floor), Target::None);
    for (name, ours, fewest) in [("requests", requests[0], fewest[0]), ("again/requests", requests[1], fewest[1])] {
        bench.row(&format!("{row}/{name}"), &Samples::count(ours), &Samples::count(fewest), Target::None);
    }
    Ok(())
}

fn broker(awx: &Awx, directory: &Path) -> Result<Broker> {
    fixtures::broker(directory, |builder| builder.known_providers(["AnsibleTower"]).yaml(settings(awx)))
}

/// One that knows all ids and has a token: it asks for nothing that it need not.
struct Script<'a> {
    awx: &'a Awx,
    client: broker_http::Client,
    token: String,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Script<'a> {
    fn of(awx: &'a Awx) -> Self {
        let tls = broker_http::Tls { verify: false, ca: None, client: None };
        let client = broker_http::client(&tls, Duration::from_secs(60)).unwrap_or_else(|error| panic!("{error}"));
        Self { awx, client, token: awx.token_of("rigger"), runtime: current_thread() }
    }

    async fn ask(&self, path: &str, body: Option<Value>) -> Result<Value> {
        let url = format!("{}{path}", self.awx.url());
        let request = match body {
            Some(body) => self.client.post(url).header("content-type", "application/json").body(body.to_string()),
            None => self.client.get(url),
        };
        let answer = request.bearer_auth(&self.token).send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// Launches a workflow, and looks until it is done.
    async fn launched(&self, workflow: &str, variables: &Value) -> Result<u64> {
        let body = json!({"extra_vars": variables.to_string()});
        let launched = self.ask(&self.awx.launch_path(workflow), Some(body)).await?;
        let id = launched["id"].as_u64().ok_or("no id of the job")?;
        loop {
            tokio::time::sleep(PERIOD).await;
            let job = self.ask(&format!("/api/v2/workflow_jobs/{id}/"), None).await?;
            match job["status"].as_str() {
                Some("successful") => return Ok(id),
                Some("failed" | "error" | "canceled") => return Err(format!("workflow job {id} failed").into()),
                _ => {}
            }
        }
    }

    /// Makes a host, and reads what its workflow tells of it.
    async fn out(&self, name: &str) -> Result {
        let id = self.launched("make", &json!({"_broker_id": name, "_broker_extra_vars": {}})).await?;
        let nodes = self.ask(&format!("/api/v2/workflow_jobs/{id}/workflow_nodes/"), None).await?;
        let job = nodes["results"][0]["job"].as_u64().ok_or("no job of the node")?;
        let job = self.ask(&format!("/api/v2/jobs/{job}/"), None).await?;
        let told = job["artifacts"]["_broker_facts"]["name"].as_str();
        told.map(drop).ok_or_else(|| format!("the workflow tells of no host: {job}").into())
    }

    /// Removes it.
    async fn back(&self, name: &str) -> Result {
        self.launched("remove-vm", &json!({"source_vm": format!("vm-{name}")})).await.map(drop)
    }

    /// Reads all pages of hosts, with the facts of each or without, and returns how many there are.
    async fn read(&self, with_facts: bool) -> Result<usize> {
        let inventories = self.ask("/api/v2/inventories/?name=rigger-many", None).await?;
        let inventory = inventories["results"][0]["id"].as_u64().ok_or("no inventory")?;
        let mut next = Some(format!("/api/v2/inventories/{inventory}/hosts/?page_size=200"));
        let mut hosts = Vec::new();
        while let Some(path) = next {
            let page = self.ask(&path, None).await?;
            hosts.extend(page["results"].as_array().into_iter().flatten().filter_map(|host| host["id"].as_u64()));
            next = page["next"].as_str().map(str::to_owned);
        }
        if with_facts {
            let facts =
                hosts.iter().map(async |host| self.ask(&format!("/api/v2/hosts/{host}/ansible_facts/"), None).await);
            stream::iter(facts).buffer_unordered(FACTS_AT_ONCE).try_for_each(async |_| Ok(())).await?;
        }
        Ok(hosts.len())
    }
}
