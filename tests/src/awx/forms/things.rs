//! Inventories, hosts, labels, users, tokens, the organization and the project.

use serde_json::{Map, Value, json};

use super::{encoded, insert_after, links};
use crate::awx::clock::shown;
use crate::awx::store::{ORGANIZATION, PROJECT, Store};

/// The project, in short.
pub(super) fn project() -> Value {
    json!({"id": PROJECT, "name": "vmops", "description": "", "status": "ok", "scm_type": "", "allow_override": false})
}

/// The execution environment, in short.
pub(super) fn environment() -> Value {
    json!({"id": 1, "name": "AWX EE (latest)", "description": "", "image": "quay.io/ansible/awx-ee:latest"})
}

/// An inventory.
pub(in crate::awx) fn inventory(store: &Store, id: u64, user: u64) -> Value {
    let inventory = &store.inventories[&id];
    let own = format!("/api/v2/inventories/{id}/");
    let mut related: Map<String, Value> =
        ["created_by", "modified_by"].map(|key| (key.to_owned(), "/api/v2/users/1/".into())).into_iter().collect();
    related.extend(links(
        &own,
        &[
            "hosts",
            "variable_data",
            "script",
            "activity_stream",
            "job_templates",
            "ad_hoc_commands",
            "access_list",
            "object_roles",
            "instance_groups",
            "copy",
            "labels",
            "groups",
            "root_groups",
            "update_inventory_sources",
            "inventory_sources",
            "tree",
        ],
    ));
    related.insert("organization".to_owned(), format!("/api/v2/organizations/{ORGANIZATION}/").into());
    let roles = super::roles(
        id,
        &[
            ("admin_role", "Admin", "Can manage all aspects of the inventory"),
            ("update_role", "Update", "May update the inventory"),
            ("adhoc_role", "Ad Hoc", "May run ad hoc commands on the inventory"),
            ("use_role", "Use", "Can use the inventory in a job template"),
            ("read_role", "Read", "May view settings for the inventory"),
        ],
    );
    let edit = store.users[&user].is_superuser;
    let (total, failing) = (inventory.hosts, inventory.failing);
    let created = shown(store.created);
    json!({
        "id": id, "type": "inventory", "url": own, "related": related,
        "summary_fields": {
            "organization": super::organization(), "created_by": super::user(store, 1),
            "modified_by": super::user(store, 1), "object_roles": roles,
            "user_capabilities": {"edit": edit, "delete": edit, "copy": edit, "adhoc": edit},
            "labels": {"count": 0, "results": []},
        },
        "created": created, "modified": created, "name": inventory.name, "description": inventory.description,
        "organization": ORGANIZATION, "kind": "", "host_filter": null, "variables": inventory.variables,
        "has_active_failures": failing > 0, "total_hosts": total, "hosts_with_active_failures": failing,
        "total_groups": 0, "has_inventory_sources": false, "total_inventory_sources": 0,
        "inventory_sources_with_failures": 0, "pending_deletion": false, "prevent_instance_group_fallback": false,
    })
}

/// A host.
pub(in crate::awx) fn host(store: &Store, id: u64, user: u64) -> Value {
    let host = &store.hosts[&id];
    let own = format!("/api/v2/hosts/{id}/");
    let mut related: Map<String, Value> =
        ["created_by", "modified_by"].map(|key| (key.to_owned(), "/api/v2/users/1/".into())).into_iter().collect();
    related.extend(links(
        &own,
        &[
            "variable_data",
            "groups",
            "all_groups",
            "job_events",
            "job_host_summaries",
            "activity_stream",
            "inventory_sources",
            "smart_inventories",
            "ad_hoc_commands",
            "ad_hoc_command_events",
            "ansible_facts",
        ],
    ));
    related.insert("inventory".to_owned(), format!("/api/v2/inventories/{}/", host.inventory).into());
    let edit = store.users[&user].is_superuser;
    let summary = json!({
        "inventory": super::inventory(store, host.inventory), "created_by": super::user(store, 1),
        "modified_by": super::user(store, 1), "user_capabilities": {"edit": edit, "delete": edit},
        "groups": {"count": 0, "results": []}, "recent_jobs": [],
    });
    let mut summary = summary.as_object().cloned().unwrap();
    if let Some((job, number)) = host.last {
        related.insert("last_job".to_owned(), super::jobs::url(store, job).into());
        related.insert("last_job_host_summary".to_owned(), format!("/api/v2/job_host_summaries/{number}/").into());
        let (about, recent) = super::parts::last_on_host(store, job);
        let short = json!({"id": number, "failed": host.is_failing});
        insert_after(&mut summary, "inventory", [("last_job", about), ("last_job_host_summary", short)]);
        summary.insert("recent_jobs".to_owned(), json!([recent]));
    }
    let created = shown(host.created);
    json!({
        "id": id, "type": "host", "url": own, "related": related, "summary_fields": summary, "created": created,
        "modified": created, "name": host.name, "description": "", "inventory": host.inventory, "enabled": true,
        "instance_id": "", "variables": host.variables, "has_active_failures": host.is_failing,
        "has_inventory_sources": false, "last_job": host.last.map(|(job, _)| job),
        "last_job_host_summary": host.last.map(|(_, number)| number),
        "ansible_facts_modified": host.facts_modified.map(shown),
    })
}

/// What stands for a host in a path, beside its id.
pub(in crate::awx) fn host_named(store: &Store, id: u64) -> String {
    let host = &store.hosts[&id];
    format!("{}++{}++Lab", encoded(&host.name), encoded(&store.inventories[&host.inventory].name))
}

/// What stands for an inventory in a path, beside its id.
pub(in crate::awx) fn inventory_named(store: &Store, id: u64) -> String {
    format!("{}++Lab", encoded(&store.inventories[&id].name))
}

/// A label.
pub(in crate::awx) fn label(store: &Store, id: u64) -> Value {
    let label = &store.labels[&id];
    let user = format!("/api/v2/users/{}/", label.user);
    let organization = match label.organization {
        ORGANIZATION => super::organization(),
        other => json!({"id": other, "name": "Default", "description": ""}),
    };
    let created = shown(label.created);
    json!({
        "id": id, "type": "label", "url": format!("/api/v2/labels/{id}/"),
        "related": {
            "created_by": user, "modified_by": user,
            "organization": format!("/api/v2/organizations/{}/", label.organization),
        },
        "summary_fields": {
            "organization": organization, "created_by": super::user(store, label.user),
            "modified_by": super::user(store, label.user),
        },
        "created": created, "modified": created, "name": label.name, "organization": label.organization,
    })
}

/// What stands for a label in a path, beside its id.
pub(in crate::awx) fn label_named(store: &Store, id: u64) -> String {
    format!("{}++Lab", encoded(&store.labels[&id].name))
}

/// A user, as `seen_by` sees it.
pub(in crate::awx) fn user(store: &Store, id: u64, seen_by: u64) -> Value {
    let user = &store.users[&id];
    let own = format!("/api/v2/users/{id}/");
    let related = links(
        &own,
        &[
            "teams",
            "organizations",
            "admin_of_organizations",
            "projects",
            "credentials",
            "roles",
            "activity_stream",
            "access_list",
            "tokens",
            "authorized_tokens",
            "personal_tokens",
        ],
    );
    let is_admin = store.users[&seen_by].is_superuser;
    let login = user.last_login.map(shown);
    json!({
        "id": id, "type": "user", "url": own, "related": related,
        "summary_fields": {
            "resource": {"ansible_id": format!("7d4066da-7106-416c-9887-{id:012x}"), "resource_type": "shared.user"},
            "user_capabilities": {"edit": is_admin || id == seen_by, "delete": is_admin && id != seen_by},
        },
        "created": shown(store.created), "modified": login, "username": user.name, "first_name": "", "last_name": "",
        "email": format!("{}@example.test", user.name), "is_superuser": user.is_superuser, "is_system_auditor": false,
        "password": "$encrypted$", "last_login": login,
    })
}

/// A token; its value is shown once, when it is made.
pub(in crate::awx) fn token(store: &Store, id: u64, is_new: bool) -> Value {
    let token = &store.tokens[&id];
    let created = shown(token.created);
    // It lasts for 31,536,000,000 seconds, which is a thousand years and some months.
    let expires = token.created.checked_add(jiff::SignedDuration::from_secs(31_536_000_000));
    json!({
        "id": id, "type": "o_auth2_access_token", "url": format!("/api/v2/tokens/{id}/"),
        "related": {
            "user": format!("/api/v2/users/{}/", token.user), "activity_stream": format!("/api/v2/tokens/{id}/activity_stream/"),
        },
        "summary_fields": {"user": super::user(store, token.user)},
        "created": created, "modified": created, "description": token.description, "user": token.user,
        "token": if is_new { token.value.as_str() } else { "************" }, "refresh_token": null,
        "application": null, "expires": expires.ok().map(shown),
        "scope": if token.may_write { "write" } else { "read" },
    })
}

/// The organization.
pub(in crate::awx) fn organization(store: &Store) -> Value {
    let own = format!("/api/v2/organizations/{ORGANIZATION}/");
    let created = shown(store.created);
    json!({
        "id": ORGANIZATION, "type": "organization", "url": own,
        "related": links(&own, &["projects", "inventories", "job_templates", "workflow_job_templates", "users", "labels"]),
        "summary_fields": {"user_capabilities": {"edit": false, "delete": false}},
        "created": created, "modified": created, "name": "Lab", "description": "", "max_hosts": 0,
        "custom_virtualenv": null, "default_environment": null,
    })
}
