//! What Ansible says while it runs: the events of a job, and its output, which is the events' output joined.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::clock::shown;
use super::playbook::{Ended, Outcome, Playbook, Step};
use super::vars::{Vars, dumps};

/// What the recorded installation printed before every playbook.
const WARNING: [&str; 4] = [
    "[DEPRECATION WARNING]: ANSIBLE_COLLECTIONS_PATHS option, does not fit var ",
    "naming standard, use the singular form ANSIBLE_COLLECTIONS_PATH instead. This ",
    "feature will be removed from ansible-core in version 2.19. Deprecation warnings",
    " can be disabled by setting deprecation_warnings=False in ansible.cfg.",
];

/// An event of a job.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) id: u64,
    pub(super) counter: u64,
    pub(super) kind: &'static str,
    pub(super) display: String,
    pub(super) level: u64,
    pub(super) failed: bool,
    pub(super) uuid: String,
    pub(super) parent: String,
    pub(super) host: Option<String>,
    pub(super) play: String,
    pub(super) task: String,
    pub(super) stdout: String,
    pub(super) start_line: u64,
    pub(super) end_line: u64,
    pub(super) data: Value,
    /// How many seconds the playbook had slept by then.
    pub(super) after: f64,
    pub(super) created: Timestamp,
}

impl Event {
    /// Whether it tells of the end of the playbook.
    pub(super) fn is_last(&self) -> bool {
        self.kind == "playbook_on_stats"
    }
}

/// The letters that a job's folder ends with.
pub(super) fn scratch(job: u64) -> String {
    uuid(job, 0)[24..32].to_owned()
}

/// The events of a run, in their order.
pub(super) fn of(outcome: &Outcome, playbook: &Playbook, name: &str, path: &str) -> Vec<Event> {
    let mut told = Teller::new(playbook, name, path);
    for line in WARNING {
        told.line("0;35", line);
    }
    if let Some(broken) = &outcome.broken {
        for line in broken.lines() {
            told.line("0;31", line);
        }
        return told.events;
    }
    told.begin();
    for step in &outcome.steps {
        told.step(step);
    }
    told.recap(outcome);
    told.events
}

/// Gives events their ids: four workers put them into the database, each a few at a time.
pub(super) fn number(events: &mut [Event], highest: &mut u64) {
    let worker = |counter: u64| match counter {
        1 | 5 | 9 | 13 => 0,
        3 | 7 | 11 => 1,
        2 | 8 | 12 => 2,
        counter => 3 + counter % 2,
    };
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_by_key(|index| (worker(events[*index].counter), events[*index].counter));
    for index in order {
        *highest += 1;
        events[index].id = *highest;
    }
}

/// The output of events, with colours.
pub(super) fn output(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events.iter().filter(|event| event.end_line > event.start_line) {
        text.push_str(&event.stdout.replace("\r\n", "\n"));
        text.push('\n');
    }
    text
}

/// A text without its colours.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    plain
}

fn uuid(a: u64, b: u64) -> String {
    let mixed = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    let other = mixed.rotate_left(29).wrapping_mul(0x1656_67b1_9e37_79f9);
    let text = format!("{mixed:016x}{other:016x}");
    format!("{}-{}-4{}-8{}-{}", &text[..8], &text[8..12], &text[13..16], &text[17..20], &text[20..])
}

fn coloured(colour: &str, text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("\u{1b}[{colour}m{line}\u{1b}[0m")).collect();
    lines.join("\r\n")
}

fn banner(text: &str) -> String {
    format!("\r\n{text} {}", "*".repeat(79_usize.saturating_sub(text.len()).max(3)))
}

struct Teller<'a> {
    events: Vec<Event>,
    playbook: &'a Playbook,
    name: &'a str,
    path: &'a str,
    line: u64,
    after: f64,
    seed: u64,
}

impl<'a> Teller<'a> {
    fn new(playbook: &'a Playbook, name: &'a str, path: &'a str) -> Self {
        let seed = path.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
        Self { events: Vec::new(), playbook, name, path, line: 0, after: 0.0, seed }
    }

    fn uuid(&self, of: u64) -> String {
        uuid(self.seed, of)
    }

    fn playbook_uuid(&self) -> String {
        self.uuid(1_000_000)
    }

    fn play_uuid(&self) -> String {
        self.uuid(1_000_001)
    }

    /// Adds an event. Its data get what all of a playbook have; `stdout` takes as many lines as it has.
    fn tell(&mut self, kind: &'static str, display: String, level: u64, stdout: String, mut data: Value) -> &mut Event {
        let counter = u64::try_from(self.events.len()).unwrap() + 1;
        let uuid = self.uuid(counter);
        let lines = if stdout.is_empty() { 0 } else { u64::try_from(stdout.matches("\r\n").count()).unwrap() + 1 };
        if let Some(data) = data.as_object_mut().filter(|_| kind != "verbose") {
            let mut all = Vars::new();
            all.insert("playbook".to_owned(), self.name.into());
            all.insert("playbook_uuid".to_owned(), self.playbook_uuid().into());
            all.append(data);
            all.entry("uuid").or_insert_with(|| uuid.clone().into());
            all.insert("guid".to_owned(), self.uuid(1_000_002).replace('-', "").into());
            *data = all;
        }
        let event = Event {
            id: 0,
            counter,
            kind,
            display,
            level,
            failed: false,
            uuid: data["uuid"].as_str().map_or(uuid, str::to_owned),
            parent: String::new(),
            host: None,
            play: data["play"].as_str().unwrap_or_default().to_owned(),
            task: data["task"].as_str().unwrap_or_default().to_owned(),
            stdout,
            start_line: self.line,
            end_line: self.line + lines,
            data,
            after: self.after,
            created: Timestamp::UNIX_EPOCH,
        };
        self.line += lines;
        self.events.push(event);
        self.events.last_mut().unwrap()
    }

    fn line(&mut self, colour: &str, line: &str) {
        let stdout = format!("\u{1b}[{colour}m{line}\u{1b}[0m");
        self.tell("verbose", "Verbose".to_owned(), 0, stdout, json!({}));
    }

    fn begin(&mut self) {
        let uuid = self.playbook_uuid();
        self.tell("playbook_on_start", "Playbook Started".to_owned(), 0, String::new(), json!({"uuid": uuid}));
        let play = self.playbook.play.clone();
        let mut data = self.play_data();
        data["name"] = play.clone().into();
        data["pattern"] = self.playbook.hosts.clone().into();
        data["uuid"] = self.play_uuid().into();
        let text = banner(&format!("PLAY [{play}]"));
        let event = self.tell("playbook_on_play_start", format!("Play Started ({play})"), 1, text, data);
        event.parent = uuid;
    }

    fn play_data(&self) -> Value {
        json!({"play": self.playbook.play, "play_uuid": self.play_uuid(), "play_pattern": self.playbook.hosts})
    }

    fn step(&mut self, step: &Step) {
        [self.after, _] = step.slept;
        let task_uuid = self.uuid(2_000_000 + u64::try_from(self.events.len()).unwrap());
        let mut about = self.play_data();
        about["task"] = step.task.clone().into();
        about["task_uuid"] = task_uuid.clone().into();
        about["task_action"] = step.action.clone().into();
        about["resolved_action"] = step.action.clone().into();
        about["task_args"] = "".into();
        about["task_path"] = format!("{}:{}", self.path, step.line).into();
        let mut data = about.clone();
        data["name"] = step.task.clone().into();
        data["is_conditional"] = false.into();
        data["uuid"] = task_uuid.clone().into();
        let text = banner(&format!("TASK [{}]", step.task));
        let parent = self.play_uuid();
        self.tell("playbook_on_task_start", format!("Task Started ({})", step.task), 2, text, data).parent = parent;
        for (host, _, _) in &step.results {
            let mut data = about.clone();
            data["host"] = host.clone().into();
            let event = self.tell("runner_on_start", "Host Started".to_owned(), 3, String::new(), data);
            event.parent.clone_from(&task_uuid);
            event.host = Some(host.clone());
        }
        [_, self.after] = step.slept;
        for (host, ended, result) in &step.results {
            self.result(&about, &task_uuid, host, *ended, result);
        }
    }

    fn result(&mut self, about: &Value, task_uuid: &str, host: &str, ended: Ended, result: &Value) {
        let mut data = about.clone();
        data["host"] = host.into();
        data["remote_addr"] = host.into();
        data["res"] = result.clone();
        let now = shown(Timestamp::UNIX_EPOCH).replace('Z', "+00:00");
        data["start"] = now.clone().into();
        data["end"] = now.into();
        data["duration"] = 0.04.into();
        let (kind, display, text) = match ended {
            Ended::Ok if result.get("_ansible_verbose_always").is_some() => {
                let text = format!("ok: [{host}] => {{\n    \"msg\": {}\n}}", dumps(&result["msg"]));
                ("runner_on_ok", "Host OK", coloured("0;32", &text))
            }
            Ended::Ok => ("runner_on_ok", "Host OK", coloured("0;32", &format!("ok: [{host}]"))),
            Ended::Skipped => ("runner_on_skipped", "Host Skipped", coloured("0;36", &format!("skipping: [{host}]"))),
            Ended::Failed => {
                data["ignore_errors"] = Value::Null;
                let shown = dumps(&json!({"changed": false, "msg": result["msg"]}));
                ("runner_on_failed", "Host Failed", coloured("0;31", &format!("fatal: [{host}]: FAILED! => {shown}")))
            }
        };
        data["event_loop"] = Value::Null;
        let event = self.tell(kind, display.to_owned(), 3, text, data);
        task_uuid.clone_into(&mut event.parent);
        event.host = Some(host.to_owned());
        event.failed = ended == Ended::Failed;
    }

    fn recap(&mut self, outcome: &Outcome) {
        let mut text = banner("PLAY RECAP");
        let mut counts = json!({"changed": {}, "dark": {}, "failures": {}, "ignored": {}, "ok": {}, "processed": {},
            "rescued": {}, "skipped": {}, "artifact_data": {}});
        let mut hosts: Vec<&String> = Vec::new();
        for (host, _, _) in outcome.steps.iter().flat_map(|step| &step.results) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        for host in hosts {
            let [ok, failed, skipped] = counted(outcome, host);
            counts["processed"][host] = 1.into();
            for (key, count) in [("ok", ok), ("failures", failed), ("skipped", skipped)] {
                if count > 0 {
                    counts[key][host] = count.into();
                }
            }
            let coloured = |colour: &str, text: String, is_on: bool| {
                if is_on { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text }
            };
            let name = coloured(if failed > 0 { "0;31" } else { "0;32" }, host.clone(), true);
            let padding = " ".repeat(27_usize.saturating_sub(host.len()).max(1));
            text.push_str(&format!(
                "\r\n{name}{padding}: {} changed=0    unreachable=0    {} {} rescued=0    ignored=0   ",
                coloured("0;32", format!("ok={ok:<4}"), ok > 0),
                coloured("0;31", format!("failed={failed:<4}"), failed > 0),
                coloured("0;36", format!("skipped={skipped:<4}"), skipped > 0),
            ));
        }
        let parent = self.playbook_uuid();
        let event = self.tell("playbook_on_stats", "Playbook Complete".to_owned(), 1, text, counts);
        event.parent = parent;
        event.failed = outcome.has_failed();
        // An empty line follows, which is not kept.
        event.end_line += 1;
    }
}

/// How many tasks went well, failed and were skipped on a host.
pub(super) fn counted(outcome: &Outcome, host: &str) -> [u64; 3] {
    let results = outcome.steps.iter().flat_map(|step| &step.results).filter(|(name, _, _)| name == host);
    let mut counts = [0; 3];
    for (_, ended, _) in results {
        counts[match ended {
            Ended::Ok => 0,
            Ended::Failed => 1,
            Ended::Skipped => 2,
        }] += 1;
    }
    counts
}
