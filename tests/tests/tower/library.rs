//! The library: host types that the service names, and hosts that its lists know by name.

use std::sync::atomic::{AtomicUsize, Ordering};

use broker::prelude::*;
use broker::{HookError, HostType};
use broker_core::provider::Scope;
use broker_tests::awx::World;
use serde_json::json;

use super::{Lab, world};

static SET_UP: AtomicUsize = AtomicUsize::new(0);
static TORN_DOWN: AtomicUsize = AtomicUsize::new(0);

struct Satellite(String);

impl HostType for Satellite {
    fn new(host: Host) -> Self {
        Self(host.hostname().unwrap_or_default())
    }

    async fn setup(&self, host: &Host) -> Result<(), HookError> {
        assert_eq!(host.hostname().as_deref(), Some(self.0.as_str()));
        SET_UP.fetch_add(1, Ordering::SeqCst);
        if host.fact("broken").is_some() { Err("it does not start".into()) } else { Ok(()) }
    }

    async fn teardown(&self, _host: &Host) -> Result<(), HookError> {
        TORN_DOWN.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn broker(lab: &Lab) -> Broker {
    let settings = format!(
        "AnsibleTower:\n  base_url: {}\n  token: {}\n  inventory: lab-inventory\n  workflow_poll_interval: 200ms\n",
        lab.awx.url(),
        lab.awx.token_of("rigger")
    );
    let settings = broker_core::settings::Settings::builder().yaml(settings).known_providers(["AnsibleTower"]);
    Broker::bare()
        .provider(broker_ansible_tower::factory())
        .settings(settings.build().unwrap().settings)
        .directory(lab.env.root().join("library"))
        .without_guardian()
        .host_type::<Satellite>("satellite")
        .build()
        .unwrap()
}

/// As `make.yml`, of a type, with one more fact.
fn typed(world: World, host_type: &str, fact: &str) -> World {
    let text = format!(
        "- name: Make\n  hosts: localhost\n  tasks:\n    - name: Make it\n      lab.machine: {{name: \"m{{{{ _broker_id }}}}\", \
         state: present}}\n    - name: Tell\n      ansible.builtin.set_stats:\n        data:\n          _broker_facts: {{fqdn: \
         h.example.test, name: \"m{{{{ _broker_id }}}}\", host_type: {host_type}, {fact}: 1}}\n"
    );
    world.playbook("make.yml", &text)
}

#[test]
fn a_host_becomes_the_type_that_the_service_says_it_is() {
    let request = || HostRequest::action("workflow", "make");
    broker_core::block_on(async {
        let lab = Lab::of(typed(world(), "satellite", "x"), "");
        let guards = broker(&lab).checkout_many(request().count(2)).await.unwrap();
        assert_eq!(guards[0].special::<Satellite>().unwrap().0, "h.example.test");
        assert_eq!(SET_UP.load(Ordering::SeqCst), 2);
        drop(guards);
        assert_eq!(TORN_DOWN.load(Ordering::SeqCst), 2);
        assert!(lab.awx.machines().is_empty());

        let lab = Lab::of(typed(world(), "capsule", "x"), "");
        let guard = broker(&lab).checkout(request()).await.unwrap();
        assert!(guard.special::<Satellite>().is_none());
        guard.checkin().await.unwrap();
        assert_eq!(TORN_DOWN.load(Ordering::SeqCst), 2);

        let lab = Lab::of(typed(world(), "satellite", "broken"), "");
        let error = broker(&lab).checkout(request()).await.unwrap_err();
        assert!(broker_core::error_chain(&error).contains("it does not start"), "{error}");
        assert_eq!(TORN_DOWN.load(Ordering::SeqCst), 3);
        assert!(lab.awx.machines().is_empty());
    })
    .unwrap();
}

/// A type of the caller's own, and what became of its hosts.
struct Mine;

static MINE_TORN_DOWN: AtomicUsize = AtomicUsize::new(0);

impl HostType for Mine {
    fn new(_host: Host) -> Self {
        Self
    }

    async fn teardown(&self, _host: &Host) -> Result<(), HookError> {
        assert_eq!(
            TORN_DOWN.load(Ordering::SeqCst),
            MINE_TORN_DOWN.fetch_add(1, Ordering::SeqCst),
            "the caller's is first"
        );
        Ok(())
    }
}

#[test]
fn a_type_of_the_callers_joins_that_of_the_service() {
    broker_core::block_on(async {
        let lab = Lab::of(typed(world(), "satellite", "x"), "");
        let request = || HostRequest::action("workflow", "make");
        let guard = broker(&lab).checkout_as::<Mine>(request()).await.unwrap();
        assert!(guard.special::<Satellite>().is_some());
        guard.checkin().await.unwrap();
        drop(broker(&lab).checkout_as::<Mine>(request()).await.unwrap());
        let torn_down = [&MINE_TORN_DOWN, &TORN_DOWN].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(torn_down, [2, 2]);
        assert!(lab.awx.machines().is_empty());
    })
    .unwrap();
}

#[test]
fn named_hosts_become_their_types_or_none_is_left() {
    broker_core::block_on(async {
        let request = || HostRequest::action("workflow", "make");
        let lab = Lab::of(typed(world(), "satellite", "x"), "");
        let all = broker(&lab).checkout_all([("one", request()), ("two", request().count(2))]).await.unwrap();
        assert!(all.values().flatten().all(|guard| guard.special::<Satellite>().is_some()));
        assert_eq!(SET_UP.load(Ordering::SeqCst), 3);
        drop(all);
        assert_eq!(TORN_DOWN.load(Ordering::SeqCst), 3);

        let lab = Lab::of(typed(world(), "satellite", "broken"), "");
        let error = broker(&lab).checkout_all([("one", request()), ("two", request())]).await.unwrap_err();
        assert!(broker_core::error_chain(&error).contains("it does not start"), "{error}");
        assert!(lab.awx.machines().is_empty());
    })
    .unwrap();
}

#[test]
fn a_host_that_is_listed_without_its_id_is_known_by_its_name() {
    let listed = "- name: Make\n  hosts: localhost\n  tasks:\n    - name: Add it\n      lab.host: {name: listed-vm, inventory: \
                  rigger-hosts, state: present, variables: {ansible_host: 192.0.2.77}}\n    - name: Tell\n      \
                  ansible.builtin.set_stats:\n        data:\n          _broker_facts: {fqdn: listed.example.test, name: listed-vm}\n";
    broker_core::block_on(async {
        let lab = Lab::of(world().playbook("make.yml", listed), "");
        let broker = broker(&lab);
        let host = broker.checkout(HostRequest::action("workflow", "make")).await.unwrap().keep().await.unwrap();
        let synced = broker.sync("AnsibleTower", None, Scope::default()).await.unwrap();
        let ids: Vec<_> = synced.updated.iter().map(|record| record.id).collect();
        assert_eq!(ids, [host.id()], "{synced:?}");
        assert_eq!(synced.added.len(), 3);
        let record = broker.find("listed-vm").await.unwrap().record();
        assert_eq!(record.details.facts["tower_inventory"], json!("rigger-hosts"));
        assert_eq!(record.address.as_deref(), Some("192.0.2.77"));
    })
    .unwrap();
}

/// A guard's host has no lease of Broker's, so that nobody ends it by one.
#[test]
fn a_guarded_host_has_the_lease_that_its_laboratory_tells() {
    broker_core::block_on(async {
        let lab = Lab::of(typed(world(), "host", "x"), "");
        let guard = broker(&lab).checkout(HostRequest::action("workflow", "make")).await.unwrap();
        assert_eq!(guard.record().lease_until, None);
        let lab = Lab::of(world(), "");
        let guard = broker(&lab).checkout(HostRequest::action("workflow", "make")).await.unwrap();
        assert_eq!(guard.record().lease_until.unwrap().as_second(), 4_000_000_000);
    })
    .unwrap();
}
