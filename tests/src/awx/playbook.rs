//! What a playbook does, without Ansible: the tasks of a recorded playbook, or of one that tests add, one after the other.
//!
//! Known are `debug`, `fail`, `set_fact`, `set_stats` and `command: sleep N` of Ansible, with `when`, and `no_log` of
//! `set_stats`. Three modules are of this world alone: `lab.machine` (`name`, `state: present | absent`, `strict`)
//! makes and removes a machine, `lab.host` (`name`, `inventory`, `state`, `variables`, `facts`) a host of an inventory,
//! and `lab.command` (`stdout`, `stderr`, `rc`) is a command that prints something and ends. The recorded playbooks
//! only pretend to make machines, so a `vm_name` that one reports counts as made and a `removed` one as removed.

use std::collections::BTreeMap;

use broker_core::yaml;
use serde_json::{Value, json};

use super::expr;
use super::vars::{Vars, python_str, resolve};

/// The key among artifacts that says that they are shown to nobody.
pub(super) const NO_LOG: &str = "_ansible_no_log";

/// A playbook of one play.
#[derive(Debug, Clone)]
pub(super) struct Playbook {
    /// The play's name; its hosts where it has none, as Ansible shows it.
    pub(super) play: String,
    /// Whose hosts it runs on: `localhost` or `all`.
    pub(super) hosts: String,
    vars: Vars,
    tasks: Vec<Task>,
    /// The text, for what Ansible says about a line of it.
    text: String,
}

#[derive(Debug, Clone)]
struct Task {
    name: String,
    module: String,
    arguments: Value,
    when: Option<String>,
    no_log: bool,
    /// In which line of the text it begins.
    line: usize,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// The tasks that ran.
    pub(super) steps: Vec<Step>,
    /// What `set_stats` left.
    pub(super) artifacts: Vars,
    /// What `set_fact` left for the cache, by host.
    pub(super) facts: BTreeMap<String, Vars>,
    /// What it does to the world, each after so many seconds of sleep.
    pub(super) changes: Vec<(f64, Change)>,
    /// How many seconds of a real clock it slept.
    pub(super) slept: f64,
    /// Why Ansible ended before any task.
    pub(super) broken: Option<String>,
}

/// A task on all its hosts.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// The task's name.
    pub(super) task: String,
    /// The module as written.
    pub(super) action: String,
    /// In which line of the playbook it stands.
    pub(super) line: usize,
    /// How many seconds the playbook had slept when it began, and when it ended.
    pub(super) slept: [f64; 2],
    /// What came of it, by host.
    pub(super) results: Vec<(String, Ended, Value)>,
}

/// How a task ended on one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// All well.
    Ok,
    /// It failed.
    Failed,
    /// Its `when` did not hold.
    Skipped,
}

/// A change to the world.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// A machine is there from now on.
    Make(String),
    /// A machine is gone.
    Remove(String),
    /// A host is in an inventory.
    Add { inventory: String, name: String, variables: String, facts: Vars },
    /// A host is in an inventory no more.
    Drop { inventory: String, name: String },
}

impl Outcome {
    /// Whether a task failed, or Ansible could not begin.
    pub(super) fn has_failed(&self) -> bool {
        let mut all = self.steps.iter().flat_map(|step| &step.results);
        self.broken.is_some() || all.any(|(_, ended, _)| *ended == Ended::Failed)
    }
}

impl Playbook {
    /// Reads a playbook.
    ///
    /// # Panics
    ///
    /// If it is no list of one play with tasks.
    pub(super) fn parse(text: &str) -> Self {
        let node = yaml::parse(text).unwrap().expect("a playbook");
        let task_lines: Vec<usize> = lines_of_tasks(text);
        let play = resolve(node)[0].clone();
        let tasks = play["tasks"].as_array().expect("a play with tasks").iter().zip(task_lines);
        let tasks = tasks.map(|(task, line)| Task::read(task, line)).collect();
        let hosts = play["hosts"].as_str().unwrap_or("localhost").to_owned();
        Self {
            play: play["name"].as_str().unwrap_or(&hosts).to_owned(),
            hosts,
            vars: play["vars"].as_object().cloned().unwrap_or_default(),
            tasks,
            text: text.to_owned(),
        }
    }

    /// Runs it for these hosts. `exists` tells whether there is a machine of a name.
    pub(super) fn run(&self, extra: &Vars, hosts: &[String], path: &str, exists: impl Fn(&str) -> bool) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(task) = self.tasks.iter().find(|task| !is_known(&task.module)) {
            outcome.broken = Some(self.cannot_resolve(task, path));
            return outcome;
        }
        let mut running: Vec<String> = hosts.to_vec();
        for task in &self.tasks {
            let slept = [outcome.slept; 2];
            let (name, action) = (task.name.clone(), task.module.clone());
            let mut step = Step { task: name, action, line: task.line, slept, results: Vec::new() };
            for host in running.clone() {
                let mut scope = self.vars.clone();
                scope.extend(extra.clone());
                scope.extend(outcome.facts.get(&host).cloned().unwrap_or_default());
                scope.insert("inventory_hostname".to_owned(), Value::String(host.clone()));
                let (ended, result) = task.run(&scope, &host, &mut outcome, &exists);
                if ended == Ended::Failed {
                    running.retain(|other| *other != host);
                }
                step.results.push((host, ended, result));
            }
            step.slept[1] = outcome.slept;
            outcome.steps.push(step);
            if running.is_empty() {
                break;
            }
        }
        outcome
    }

    /// What Ansible prints when a task names a module that it does not have.
    fn cannot_resolve(&self, task: &Task, path: &str) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let before = lines.get(task.line.saturating_sub(2)).copied().unwrap_or_default();
        let at = lines.get(task.line - 1).copied().unwrap_or_default();
        let column = at.find("name").map_or(1, |at| at + 1);
        format!(
            "ERROR! couldn't resolve module/action '{}'. This often indicates a misspelling, missing collection, or \
             incorrect module path.\n\nThe error appears to be in '{path}': line {}, column {column}, but may\nbe \
             elsewhere in the file depending on the exact syntax problem.\n\nThe offending line appears to be:\n\n\
             {before}\n{at}\n{:>column$} here",
            task.module, task.line, "^"
        )
    }
}

/// Where the tasks of a text begin: every item of a list below `tasks:`.
fn lines_of_tasks(text: &str) -> Vec<usize> {
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| line.trim() != "tasks:").skip(1).peekable();
    let indent = lines.peek().map_or(0, |(_, line)| line.len() - line.trim_start().len());
    let is_item =
        |line: &str| line.len() > indent && line[indent..].starts_with("- ") && line[..indent].trim().is_empty();
    lines.filter(|(_, line)| is_item(line)).map(|(index, _)| index + 1).collect()
}

fn short(module: &str) -> &str {
    module.strip_prefix("ansible.builtin.").unwrap_or(module)
}

fn is_known(module: &str) -> bool {
    matches!(
        short(module),
        "debug" | "fail" | "set_fact" | "set_stats" | "command" | "lab.command" | "lab.machine" | "lab.host"
    )
}

impl Task {
    fn read(task: &Value, line: usize) -> Self {
        let words = ["name", "when", "changed_when", "register", "no_log"];
        let entry = task.as_object().expect("a task").iter().find(|(key, _)| !words.contains(&key.as_str()));
        let (module, arguments) = entry.expect("a task with a module");
        let name = task["name"].as_str().unwrap_or_else(|| short(module));
        Self {
            name: name.to_owned(),
            module: module.clone(),
            arguments: arguments.clone(),
            when: task["when"].as_str().map(str::to_owned),
            no_log: task["no_log"] == true,
            line,
        }
    }

    fn run(&self, scope: &Vars, host: &str, to: &mut Outcome, exists: &impl Fn(&str) -> bool) -> (Ended, Value) {
        let failed =
            |message: &str| (Ended::Failed, json!({"msg": message, "_ansible_no_log": false, "changed": false}));
        match self.when.as_deref().map_or(Ok(true), |condition| expr::holds(condition, scope)) {
            Ok(true) => {}
            Ok(false) => {
                let skipped =
                    json!({"changed": false, "skip_reason": "Conditional result was False", "_ansible_no_log": false});
                return (Ended::Skipped, skipped);
            }
            Err(error) => return failed(&error),
        }
        let arguments = match expr::render(&self.arguments, scope) {
            Ok(arguments) => arguments,
            Err(error) => return failed(&error),
        };
        let text = |key: &str| python_str(&arguments[key]);
        let slept = to.slept;
        let mut change = |change: Change| to.changes.push((slept, change));
        let mut result = json!({"_ansible_no_log": false, "changed": false});
        match short(&self.module) {
            "fail" => return failed(&text("msg")),
            "debug" => {
                result = json!({
                    "msg": arguments["msg"], "_ansible_verbose_always": true, "_ansible_no_log": false, "changed": false,
                });
            }
            "set_stats" => {
                let data = arguments["data"].as_object().cloned().unwrap_or_default();
                data.get("vm_name").into_iter().for_each(|name| change(Change::Make(python_str(name))));
                data.get("removed").into_iter().for_each(|name| change(Change::Remove(python_str(name))));
                result["ansible_stats"] = json!({"data": data, "per_host": false, "aggregate": true});
                to.artifacts.extend(data);
                if self.no_log {
                    to.artifacts.insert(NO_LOG.to_owned(), Value::Bool(true));
                }
            }
            "set_fact" => {
                let mut facts = arguments.as_object().cloned().unwrap_or_default();
                facts.shift_remove("cacheable");
                result["ansible_facts"] = Value::Object(facts.clone());
                to.facts.entry(host.to_owned()).or_default().extend(facts);
            }
            "command" => {
                let line = python_str(&arguments);
                let seconds = line.strip_prefix("sleep ").and_then(|seconds| seconds.trim().parse::<f64>().ok());
                to.slept += seconds.unwrap_or(0.0);
                result["cmd"] = json!(line.split(' ').collect::<Vec<_>>());
                result["rc"] = json!(0);
            }
            "lab.command" => {
                let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
                let (stdout, stderr, rc) = (text("stdout"), text("stderr"), &arguments["rc"]);
                result = json!({
                    "_ansible_no_log": false, "changed": true, "cmd": ["lab"], "rc": rc, "stdout": stdout, "stderr": stderr,
                    "stdout_lines": lines(&stdout), "stderr_lines": lines(&stderr),
                });
                if *rc != 0 {
                    result["msg"] = "non-zero return code".into();
                    return (Ended::Failed, result);
                }
            }
            "lab.machine" if text("state") == "absent" => {
                if arguments["strict"] == true && !exists(&text("name")) {
                    return failed(&format!("Host {} does not exist", text("name")));
                }
                change(Change::Remove(text("name")));
            }
            "lab.machine" => change(Change::Make(text("name"))),
            _ if text("state") == "absent" => {
                change(Change::Drop { inventory: text("inventory"), name: text("name") });
            }
            _ => change(Change::Add {
                inventory: text("inventory"),
                name: text("name"),
                variables: arguments["variables"].as_object().map(|map| json!(map).to_string()).unwrap_or_default(),
                facts: arguments["facts"].as_object().cloned().unwrap_or_default(),
            }),
        }
        (Ended::Ok, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(value: &Value) -> Vars {
        value.as_object().cloned().unwrap()
    }

    const DEPLOY: &str = "- name: Deploy\n  hosts: localhost\n  vars:\n    vm: \"{{ prefix }}-1\"\n  tasks:\n    - name: Save\n      \
                          ansible.builtin.set_stats:\n        data: { vm_name: \"{{ vm }}\" }\n    - name: Refuse\n      \
                          ansible.builtin.fail: { msg: \"no {{ what | default('room') }}\" }\n      when: refuse is defined\n";

    #[test]
    fn a_playbook_reports_what_it_made() {
        let outcome =
            Playbook::parse(DEPLOY).run(&vars(&json!({"prefix": "a"})), &["localhost".to_owned()], "x", |_| false);
        assert_eq!(Value::Object(outcome.artifacts.clone()), json!({"vm_name": "a-1"}));
        assert_eq!(outcome.changes, [(0.0, Change::Make("a-1".to_owned()))]);
        assert!(!outcome.has_failed());
    }

    #[test]
    fn a_failed_task_ends_it_with_its_message() {
        let extra = vars(&json!({"prefix": "a", "refuse": 1, "what": "disk"}));
        let outcome = Playbook::parse(DEPLOY).run(&extra, &["localhost".to_owned()], "x", |_| false);
        assert!(outcome.has_failed());
        assert_eq!(outcome.steps[1].results[0].2["msg"], "no disk");
        assert_eq!(outcome.steps[1].line, 9);
    }

    #[test]
    fn an_unknown_module_ends_it_before_any_task() {
        let broken = "- hosts: localhost\n  tasks:\n    - name: bad\n      no_such_module_zz: {}\n";
        let outcome = Playbook::parse(broken).run(&Vars::new(), &["localhost".to_owned()], "/p/broken.yml", |_| false);
        let said = outcome.broken.unwrap();
        assert!(outcome.steps.is_empty());
        assert!(said.starts_with("ERROR! couldn't resolve module/action 'no_such_module_zz'."), "{said}");
        assert!(said.contains("in '/p/broken.yml': line 3, column 7, but may\n"), "{said}");
        assert!(said.ends_with("\n  tasks:\n    - name: bad\n      ^ here"), "{said}");
    }
}
