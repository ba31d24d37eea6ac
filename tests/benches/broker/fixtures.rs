//! Inventories to measure with.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use broker::inventory::{Details, HostRecord, HostState, Inventory, Owner};
use broker::prelude::*;
use broker::provider::{Endpoint, Lease};
use broker::settings::{Settings, SettingsBuilder};
use broker::{Args, HostId, RunId, block_on};
use serde_json::{Map, json};
use tempfile::TempDir;

use crate::Result;

/// A directory that goes away with the value.
pub(crate) fn directory() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("broker-bench-").tempdir()?)
}

/// A directory whose inventory has so many hosts, a line each, as after a compaction.
pub(crate) fn compact(hosts: u64) -> Result<TempDir> {
    let directory = directory()?;
    if hosts > 0 {
        let records = (0..hosts).map(|number| active(pending(number), number)).collect();
        block_on(Inventory::open(directory.path()).add(records))??;
    }
    Ok(directory)
}

/// A directory whose inventory has so many hosts as they are after checkouts: two lines each.
pub(crate) fn fresh(hosts: u64) -> Result<TempDir> {
    let directory = directory()?;
    let inventory = Inventory::open(directory.path());
    let records = block_on(inventory.add((0..hosts).map(pending).collect()))??;
    let active = records.into_iter().zip(0..).map(|(record, number)| active(record, number)).collect();
    for updated in block_on(inventory.update_many(active))? {
        updated?;
    }
    Ok(directory)
}

/// A broker of this process, with a directory of its own and without the settings of whoever runs this.
pub(crate) fn broker(directory: &Path, settings: impl FnOnce(SettingsBuilder) -> SettingsBuilder) -> Result<Broker> {
    let settings = settings(Settings::builder()).build()?.settings;
    Ok(Broker::builder().directory(directory).settings(settings).build()?)
}

fn pending(number: u64) -> HostRecord {
    let text = |text: &str| text.to_owned();
    let mut args = Args::new();
    args.insert(text("container_host"), "localhost/broker-testhost:debian".into());
    args.insert(text("ports"), "22,8080".into());
    args.insert(text("_broker_origin"), "broker_cli:jane".into());
    HostRecord {
        number,
        details: Details { args, labels: BTreeMap::from([(text("team"), text("qe"))]), ..Details::default() }.into(),
        lease_until: Some(Lease(Duration::from_secs(24 * 60 * 60)).until()),
        owner: Some(Owner { run: RunId::generate(), user: text("jane"), machine: text("builder-7"), pid: 4711 }),
        endpoint: Some(Endpoint {
            uri: text("unix:///var/run/docker.sock"),
            identity: text("7TLC:M5QX:PJ2H:WFJZ:3Y6L:AVQG:HF7K:2XTK:EQ4M:ZQ3S:VN6C:R5WD"),
        }),
        ..HostRecord::new(HostId::generate(), "Container", HostState::Pending)
    }
}

/// As a provider leaves it. One in ten has no name and one in five has failed, since inventories are not all alike.
fn active(mut record: HostRecord, number: u64) -> HostRecord {
    record.state = if number % 5 == 3 { HostState::Failed } else { HostState::Active };
    record.name = (number % 10 != 7).then(|| format!("jane-{}", record.id.short()));
    record.hostname = Some(format!("{}.example.com", record.id.short()));
    record.address = Some("127.0.0.1".to_owned());
    record.checked_out_at = Some(record.at);
    record.error = (record.state == HostState::Failed).then(|| "the image exited at once with status 1".to_owned());
    record.details.handle = Some(json!({"container": format!("{:064x}", number)}));
    record.details.ports = BTreeMap::from([("22/tcp".to_owned(), format!("127.0.0.1:{}", 20_000 + number % 40_000))]);
    record.details.facts = Map::from_iter([
        ("image".to_owned(), json!("localhost/broker-testhost:debian")),
        ("status".to_owned(), json!("running")),
        ("cpus".to_owned(), json!(number % 8)),
    ]);
    record
}
