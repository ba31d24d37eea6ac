//! Servers that are rows of the database alone: as many as nobody wants to wait for.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use broker_core::HostId;

use super::Lab;

/// The tables that have rows of a server, and the column that names it.
const TABLES: [(&str, &str); 7] = [
    ("nova_cell1.instances", "uuid"),
    ("nova_cell1.instance_extra", "instance_uuid"),
    ("nova_cell1.instance_info_caches", "instance_uuid"),
    ("nova_cell1.instance_metadata", "instance_uuid"),
    ("nova_cell1.instance_system_metadata", "instance_uuid"),
    ("nova_cell1.tags", "resource_id"),
    ("nova_api.instance_mappings", "instance_uuid"),
];

/// Rows of servers. Dropping it removes them.
pub struct Seeded<'a> {
    lab: &'a Lab,
    uuids: Vec<String>,
}

/// Copies a server's rows, once for each of the hosts. The copies run on no machine that Nova knows of.
///
/// # Panics
///
/// If the database does not take them.
pub fn seed<'a>(lab: &'a Lab, like: &str, hosts: &[HostId]) -> Seeded<'a> {
    let uuid = |host: &HostId| {
        let hex = host.to_string().replace('-', "");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    };
    let uuids: Vec<String> = hosts.iter().map(uuid).collect();
    let mut script = with(hosts.iter().map(ToString::to_string).zip(&uuids));
    for (table, column) in TABLES {
        let mut own = vec![(column, "seed.uuid".to_owned())];
        match table {
            "nova_cell1.instances" => own.push(("host", "'nowhere'".to_owned())),
            "nova_cell1.instance_metadata" => {
                own.push(("value", "IF(t.`key` = 'broker.id', seed.host, t.value)".to_owned()))
            }
            "nova_cell1.tags" => {
                own.push(("tag", "REGEXP_REPLACE(t.tag, '^broker.id=.*', CONCAT('broker.id=', seed.host))".to_owned()))
            }
            _ => {}
        }
        let columns: Vec<String> = columns(lab, table).into_iter().filter(|column| column != "id").collect();
        let values = columns.iter().map(|name| {
            let own = own.iter().find(|(column, _)| column == name).map(|(_, value)| value.clone());
            own.unwrap_or_else(|| format!("t.`{name}`"))
        });
        let values = values.collect::<Vec<_>>().join(", ");
        let names = columns.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        writeln!(
            script,
            "INSERT INTO {table} ({names}) SELECT {values} FROM {table} t JOIN seed WHERE t.`{column}` = '{like}';"
        )
        .unwrap();
    }
    query(lab, &script);
    Seeded { lab, uuids }
}

impl Drop for Seeded<'_> {
    fn drop(&mut self) {
        let mut script = with(self.uuids.iter().map(|_| String::new()).zip(&self.uuids));
        // The servers themselves come last, as the others refer to them.
        for (table, column) in TABLES.iter().rev() {
            writeln!(script, "DELETE t FROM {table} t JOIN seed ON t.`{column}` = seed.uuid;").unwrap();
        }
        query(self.lab, &script);
    }
}

/// A table of the rows to come.
fn with<'a>(rows: impl Iterator<Item = (String, &'a String)>) -> String {
    let rows: Vec<String> = rows.map(|(host, uuid)| format!("('{host}', '{uuid}')")).collect();
    let columns = "host VARCHAR(36), uuid VARCHAR(36), PRIMARY KEY (uuid)";
    let mut script = format!("CREATE TEMPORARY TABLE nova_cell1.seed ({columns});\nUSE nova_cell1;\n");
    for rows in rows.chunks(500) {
        writeln!(script, "INSERT INTO seed VALUES {};", rows.join(", ")).unwrap();
    }
    script
}

fn columns(lab: &Lab, table: &str) -> Vec<String> {
    query(lab, &format!("SHOW COLUMNS FROM {table};"))
        .lines()
        .filter_map(|line| line.split('\t').next())
        .map(str::to_owned)
        .collect()
}

/// Has the database do something, as its administrator, and returns the rows.
fn query(lab: &Lab, script: &str) -> String {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "--batch", "--skip-column-names", "--user=root"]);
    command.arg(format!("--socket={}", lab.directory.join("run/mysql.sock").display()));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the database refuses: {script:.400}");
    String::from_utf8(output.stdout).unwrap()
}
