//! Whether an answer is like a recorded one: everything is to be equal but for what the table here lets differ.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Leaves that differ from run to run: their types alone are compared.
const VARYING: [&str; 33] = [
    "created",
    "modified",
    "started",
    "finished",
    "canceled_on",
    "elapsed",
    "last_login",
    "heartbeat",
    "expires",
    "token",
    "install_uuid",
    "uuid",
    "parent_uuid",
    "guid",
    "play_uuid",
    "task_uuid",
    "playbook_uuid",
    "identifier",
    "ansible_id",
    "job_args",
    "job_cwd",
    "work_unit_id",
    "ansible_facts_modified",
    "task_path",
    "start",
    "end",
    "duration",
    // Counted from the events that are in the database, which are so many at the one moment and so many at the next.
    "host_status_counts",
    "play_count",
    "task_count",
    // The folder of the job is in them.
    "JOB_ID",
    "AWX_PRIVATE_DATA_DIR",
    "AWX_ISOLATED_DATA_DIR",
];

/// Keys that tell of jobs before: they may be there or not, and their values are not compared.
const HISTORY: [&str; 11] = [
    "last_job",
    "last_update",
    "current_job",
    "current_update",
    "recent_jobs",
    "last_job_run",
    "last_job_failed",
    "last_job_host_summary",
    "has_active_failures",
    "hosts_with_active_failures",
    // Set where a person made it, and null where the set-up did.
    "next_job_run",
];

/// Which of our ids stands for a recorded one, by kind.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ids {
    ours: BTreeMap<(Kind, u64), u64>,
}

/// Whose ids differ from those in the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Job,
    Node,
    Event,
    Summary,
    Token,
    Role,
    Label,
}

impl Kind {
    fn of_path(segment: &str) -> Option<Self> {
        Some(match segment {
            "jobs" | "workflow_jobs" => Self::Job,
            "workflow_job_nodes" => Self::Node,
            "job_events" => Self::Event,
            "job_host_summaries" => Self::Summary,
            "tokens" => Self::Token,
            "labels" => Self::Label,
            _ => return None,
        })
    }

    fn of_type(kind: &str) -> Option<Self> {
        Some(match kind {
            "job" | "workflow_job" => Self::Job,
            "workflow_job_node" => Self::Node,
            "job_event" => Self::Event,
            "job_host_summary" => Self::Summary,
            "o_auth2_access_token" => Self::Token,
            "label" => Self::Label,
            _ => return None,
        })
    }

    /// By the key that an id, or an object with an id, is under.
    fn of_key(key: &str) -> Option<Self> {
        Some(match key {
            "job" | "workflow_job" | "source_workflow_job" | "ancestor_job" => Self::Job,
            "success_nodes" | "failure_nodes" | "always_nodes" => Self::Node,
            "object_roles" => Self::Role,
            "labels" => Self::Label,
            _ => return None,
        })
    }
}

impl Ids {
    /// Our id for a recorded one, if it is known.
    pub(crate) fn ours(&self, kind: Kind, recorded: u64) -> Option<u64> {
        self.ours.get(&(kind, recorded)).copied()
    }

    /// Notes that one of our ids stands for a recorded one; false if another one does.
    pub(crate) fn learn(&mut self, kind: Kind, recorded: u64, ours: u64) -> bool {
        let is_taken = self.ours.iter().any(|((other, id), own)| *other == kind && *own == ours && *id != recorded);
        !is_taken && *self.ours.entry((kind, recorded)).or_insert(ours) == ours
    }

    /// A path or another text with links, with our ids.
    pub(crate) fn mapped(&self, text: &str) -> String {
        let mut parts: Vec<String> = text.split('/').map(str::to_owned).collect();
        for at in 1..parts.len() {
            let ours = Kind::of_path(&parts[at - 1]).zip(parts[at].parse().ok());
            if let Some(ours) = ours.and_then(|(kind, id)| self.ours(kind, id)) {
                parts[at] = ours.to_string();
            }
        }
        parts.join("/")
    }
}

/// Compares two values, and notes what is different and which ids stand for which.
pub(crate) struct Alike<'a> {
    pub(crate) ids: &'a mut Ids,
    pub(crate) differences: Vec<String>,
}

impl Alike<'_> {
    fn differ(&mut self, at: &str, recorded: &Value, ours: &Value) {
        let short = |value: &Value| value.to_string().chars().take(300).collect::<String>();
        self.differences.push(format!("{at}: recorded {}, ours {}", short(recorded), short(ours)));
    }

    /// Compares what is at `at`; `kind` is whose ids are there.
    pub(crate) fn value(&mut self, at: &str, recorded: &Value, ours: &Value, kind: Option<Kind>) {
        let key = at.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap_or_default().to_owned();
        match (recorded, ours) {
            _ if VARYING.contains(&key.as_str()) => {
                let is_same = same_type(recorded, ours) || recorded.is_null() || ours.is_null();
                if !is_same {
                    self.differ(at, recorded, ours);
                }
            }
            (Value::Object(recorded), Value::Object(ours)) => self.object(at, &key, recorded, ours, kind),
            (Value::Array(recorded), Value::Array(ours)) if recorded.len() == ours.len() => {
                for (index, (recorded, ours)) in recorded.iter().zip(ours).enumerate() {
                    self.value(&format!("{at}/{index}"), recorded, ours, kind);
                }
            }
            (Value::Number(_), Value::Number(_)) if kind.is_some() => {
                let ids = recorded.as_u64().zip(ours.as_u64());
                let is_same =
                    ids.is_some_and(|(recorded, ours)| kind.is_some_and(|kind| self.ids.learn(kind, recorded, ours)));
                if !is_same {
                    self.differ(at, recorded, ours);
                }
            }
            (Value::String(a), Value::String(b)) => self.text(at, &key, a, b),
            _ if recorded == ours => {}
            _ => self.differ(at, recorded, ours),
        }
    }

    fn object(
        &mut self,
        at: &str,
        key: &str,
        recorded: &Map<String, Value>,
        ours: &Map<String, Value>,
        kind: Option<Kind>,
    ) {
        let is_template = recorded.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("template"));
        let kind_of = |map: &Map<String, Value>| map.get("type").and_then(Value::as_str).and_then(Kind::of_type);
        let own = kind_of(recorded).or(kind).or_else(|| Kind::of_key(key));
        let is_history = |key: &str| HISTORY.contains(&key) || (is_template && key == "status");
        for (key, value) in recorded.iter().filter(|(key, _)| !is_history(key)) {
            let at = format!("{at}/{key}");
            let Some(other) = ours.get(key) else {
                self.differences.push(format!("{at}: recorded {value}, ours has no such key"));
                continue;
            };
            let kind = match key.as_str() {
                "id" => own,
                "results" | "object_roles" | "admin_role" | "execute_role" | "read_role" | "approval_role"
                | "update_role" | "adhoc_role" | "use_role"
                    if own.is_some() || key == "object_roles" =>
                {
                    own.or_else(|| Kind::of_key(key))
                }
                // Facts, variables and artifacts have keys of their own.
                _ if at.contains("/artifacts/") || at.contains("/event_data/") => None,
                key => Kind::of_key(key),
            };
            self.value(&at, value, other, kind);
        }
        for key in ours.keys().filter(|key| !recorded.contains_key(*key) && !is_history(key)) {
            self.differences.push(format!("{at}/{key}: ours, but not recorded"));
        }
    }

    fn text(&mut self, at: &str, key: &str, recorded: &str, ours: &str) {
        if recorded.starts_with("/api/") && self.link(recorded, ours) {
            return;
        }
        // Folders of jobs have letters at the end that nobody can know; parsers have their own words.
        let is_free = key == "inventory" && at.contains("job_env");
        let parser = "Cannot parse as JSON (error: ";
        let are_of_parsers =
            recorded.starts_with(parser) && ours.starts_with(parser) && recorded.contains("while parsing");
        if is_free || are_of_parsers || without_folders(recorded) == without_folders(ours) {
            return;
        }
        self.differ(at, &recorded.into(), &ours.into());
    }

    /// Whether two paths lead to the same, with ids learned on the way.
    pub(crate) fn link(&mut self, recorded: &str, ours: &str) -> bool {
        let (recorded, ours): (Vec<_>, Vec<_>) = (recorded.split('/').collect(), ours.split('/').collect());
        recorded.len() == ours.len()
            && (0..recorded.len()).all(|at| {
                let kind = if at == 0 { None } else { Kind::of_path(recorded[at - 1]) };
                match (kind, recorded[at].parse(), ours[at].parse()) {
                    (Some(kind), Ok(recorded), Ok(ours)) => self.ids.learn(kind, recorded, ours),
                    _ => recorded[at] == ours[at],
                }
            })
    }
}

fn same_type(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// A text with every `awx_N_LETTERS` made the same, and without the ends of lines that a terminal needs.
pub(crate) fn without_folders(text: &str) -> String {
    let mut parts = text.split("/awx_");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str("/awx_*");
        clean.push_str(part.find(['/', '"', '\'']).map_or("", |at| &part[at..]));
    }
    clean
}
