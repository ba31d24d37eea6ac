//! The `openstack` command, which the lab has: what there is of hosts, told by somebody else's program.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use broker_core::HostId;
use serde_json::Value;

use super::{Place, Tenant};

/// What is asked, and which field of an answer tells of a host.
const QUESTIONS: [(&str, &str); 3] = [
    ("server list --long -f json", "Properties"),
    ("floating ip list --long -f json", "Description"),
    ("keypair list -f json", "Name"),
];

/// The question about ports, which do not tell of hosts.
const PORTS: &str = "port list --long -f json";

/// What the command knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The hosts that there is a server, a floating address or a key pair of.
    pub hosts: BTreeSet<HostId>,
    /// How many ports belong to servers.
    pub ports: usize,
}

/// What the command knows of hosts.
///
/// # Panics
///
/// If it does not tell.
pub fn told_by_command(tenant: &Tenant, place: &Place) -> Told {
    // It takes seconds to start, and answers any number of questions then.
    let questions = QUESTIONS.map(|(question, _)| question).into_iter().chain([PORTS]);
    let questions: String = questions.map(|question| format!("{question}\n")).collect();
    let mut command = openstack(tenant, place);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(questions.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let answers = lists(&text);
    // Its exit code is that of the last question, or of the end of its input.
    let said = || format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let (ports, answers) =
        answers.split_last().filter(|(_, answers)| answers.len() == QUESTIONS.len()).unwrap_or_else(|| {
            panic!("`openstack`: {}", said());
        });
    let fields =
        answers.iter().zip(QUESTIONS).flat_map(|(answer, (_, field))| answer.iter().map(move |row| &row[field]));
    let of_server = |port: &&Value| port["Device Owner"].as_str().unwrap_or_default().starts_with("compute:");
    Told { hosts: fields.filter_map(host_in).collect(), ports: ports.iter().filter(of_server).count() }
}

/// The command for a user in a project.
pub fn openstack(tenant: &Tenant, place: &Place) -> Command {
    let venv = std::env::var_os("OPENSTACK_LAB_VENV").map_or_else(|| tenant.lab.directory.join("venv"), PathBuf::from);
    let mut command = Command::new(venv.join("bin/openstack"));
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("HOME", "/nonexistent").envs(tenant.variables(place));
    command
}

/// The lists in a text, whatever stands between them.
fn lists(text: &str) -> Vec<Vec<Value>> {
    let mut lists = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let mut values = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<Vec<Value>>();
        let found = values.next();
        let read = values.byte_offset();
        match found {
            Some(Ok(list)) => {
                lists.push(list);
                rest = &rest[at + read..];
            }
            _ => rest = &rest[at + 1..],
        }
    }
    lists
}

/// The host that a field tells of.
fn host_in(field: &Value) -> Option<HostId> {
    match field {
        Value::Object(properties) => properties.get("broker.id")?.as_str()?.parse().ok(),
        Value::String(text) => {
            let id = text.strip_prefix("broker.id=").or_else(|| text.strip_prefix("broker-"))?;
            id.parse().ok()
        }
        _ => None,
    }
}
