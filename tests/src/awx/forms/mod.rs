//! The objects of the API as they were recorded: every key, also of what nobody here uses, in the recorded order.
//!
//! Links begin with `/api/v2/`; [`reply`](super::reply) changes that where the request came by another path.

pub(super) mod jobs;
pub(super) mod parts;
pub(super) mod templates;
pub(super) mod things;

use serde_json::{Map, Value, json};

use super::store::{ORGANIZATION, Store};

/// Links by name: `own` are below the object's own path, under their names.
fn links(url: &str, own: &[&str]) -> Map<String, Value> {
    own.iter().map(|name| ((*name).to_owned(), format!("{url}{name}/").into())).collect()
}

/// The organization, in short.
fn organization() -> Value {
    json!({"id": ORGANIZATION, "name": "Lab", "description": ""})
}

/// A user, in short.
fn user(store: &Store, id: u64) -> Value {
    json!({"id": id, "username": store.users[&id].name, "first_name": "", "last_name": ""})
}

/// An inventory, in short.
fn inventory(store: &Store, id: u64) -> Value {
    let inventory = &store.inventories[&id];
    let (total, failing) = (inventory.hosts, inventory.failing);
    json!({
        "id": id,
        "name": inventory.name,
        "description": inventory.description,
        "has_active_failures": failing > 0,
        "total_hosts": total,
        "hosts_with_active_failures": failing,
        "total_groups": 0,
        "has_inventory_sources": false,
        "total_inventory_sources": 0,
        "inventory_sources_with_failures": 0,
        "organization_id": ORGANIZATION,
        "kind": "",
    })
}

/// A role of an object. Ids of roles are of no use to anybody who only launches.
fn roles(id: u64, of: &[(&str, &str, &str)]) -> Value {
    let role = |((key, name, description), index): (&(&str, &str, &str), u64)| {
        ((*key).to_owned(), json!({"description": description, "name": name, "id": id * 6 + index}))
    };
    Value::Object(of.iter().zip(0..).map(role).collect())
}

/// A name in a path: what is not safe there is written with `%`.
pub(super) fn encoded(name: &str) -> String {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    name.bytes().map(|byte| if is_safe(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Puts entries into an object's map, after one of its keys.
fn insert_after(map: &mut Map<String, Value>, key: &str, entries: impl IntoIterator<Item = (&'static str, Value)>) {
    let at = map.keys().position(|other| other == key).map_or(map.len(), |at| at + 1);
    for (offset, (name, value)) in entries.into_iter().enumerate() {
        map.shift_insert(at + offset, name.to_owned(), value);
    }
}
