//! The suite, on an AWX that answers as recorded.
//!
//! A host is a machine that a workflow makes, named after the id, with the SSH server of the case at its address. It is
//! listed in an inventory, and its playbook stores the id with its facts. The cases that end hosts by a lease are left out:
//! here that is the laboratory's (`what_the_laboratory_ends_no_reaper_does` in `tests/tower`).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "all of this runs inside of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use broker::prelude::*;
use broker_core::HostId;
use broker_core::provider::{ErrorKind, ProviderFactory, Scope};
use broker_tests::awx::{Awx, Fate, Pace, Rule, Template, World};
use broker_tests::conformance::provider::{Abilities, At, Cut, Failure, Obstacle, ProviderSubject, Weather};
use broker_tests::conformance::{Place, Subject};
use broker_tests::ssh::{Server, Setup};
use serde_json::{Value, json};

/// Two services, each at an address of its own, and an SSH server.
struct Tower {
    place: Place,
    /// Only in the process that began the case.
    services: Option<Services>,
}

struct Services {
    main: Awx,
    other: Awx,
    server: Server,
    /// Which request the last cut is for, and how many there had been before.
    cut: (AtomicU32, AtomicUsize),
}

const MAKE: &str = "\
- name: Make
  hosts: localhost
  tasks:
    - name: Make it
      lab.machine: { name: \"vm-{{ _broker_id }}\", state: present }
    - name: Tell
      ansible.builtin.set_stats: { data: { vm_name: \"vm-{{ _broker_id }}\" } }
";

const FINISH: &str = "\
- name: Finish
  hosts: localhost
  vars:
    told: { fqdn: \"{{ vm_name }}.example.test\", name: \"{{ vm_name }}\", ip: 127.0.0.1, remove_time: 4000000000, tower_inventory: case-hosts }
  tasks:
    - name: Take its time
      ansible.builtin.command: \"sleep {{ seconds | default(0) }}\"
    - name: List it
      lab.host:
        name: \"{{ vm_name }}\"
        inventory: case-hosts
        state: present
        variables: { fqdn: \"{{ vm_name }}.example.test\", ansible_host: 127.0.0.1 }
        facts: { _broker_args: \"{{ _broker_extra_vars }}\", _broker_facts: \"{{ told }}\" }
    - name: Hand over
      ansible.builtin.set_stats: { data: { _broker_facts: \"{{ told }}\" } }
";

const REMOVE: &str = "\
- name: Remove
  hosts: localhost
  tasks:
    - name: Destroy it
      lab.machine: { name: \"{{ source_vm }}\", state: absent }
    - name: Strike it off the list
      lab.host: { name: \"{{ source_vm }}\", inventory: case-hosts, state: absent }
";

fn world() -> World {
    let pace = Pace { run: Duration::from_millis(2), ..Pace::fast() };
    World::recorded()
        .all_at_once()
        .pace(pace)
        .inventory("case-hosts", "", "")
        .playbook("make.yml", MAKE)
        .playbook("finish.yml", FINISH)
        .playbook("remove-it.yml", REMOVE)
        .template(Template::job("jt-make", "make.yml"))
        .template(Template::job("jt-finish", "finish.yml"))
        .template(Template::job("jt-remove-it", "remove-it.yml"))
        .template(Template::workflow("make").node("jt-make").node("jt-finish").on_success(0, 1))
        .template(Template::workflow("make-and-fail").node("jt-make").node("jt-fail").on_success(0, 1))
        .template(Template::workflow("remove-vm").node("jt-remove-it"))
}

impl Subject for Tower {
    /// What a broken checkout left is looked for for seconds, and some cases break many.
    const LIMIT: Duration = Duration::from_secs(600);

    fn open(place: &Place) -> Self {
        let services = (!place.is_child()).then(|| {
            let start = || Awx::start(world());
            let server = Setup::openssh().start();
            Services { main: start(), other: start(), server, cut: Default::default() }
        });
        let opened = Self { place: place.clone(), services };
        if let Some(services) = &opened.services {
            std::fs::write(place.join("settings"), settings(services)).unwrap();
            let urls = [services.main.url(), services.other.url()].join("\n");
            std::fs::write(place.join("urls"), urls).unwrap();
        }
        opened
    }

    fn clean(&self) {}
}

fn settings(services: &Services) -> String {
    let Services { main, other, server, .. } = services;
    let instance = |awx: &Awx, url: &str| format!("base_url: '{url}', token: {}", awx.token_of("rigger"));
    let alias = main.url().replace("127.0.0.1", "localhost");
    format!(
        "stop_grace: 500ms\nAnsibleTower:\n  inventory: lab-inventory\n  workflow_poll_interval: 100ms\n  \
         max_resilient_wait: 700ms\n  timeout: 100\n  ssh: {{host_username: {}, host_ssh_port: {}, host_ssh_key_filename: {:?}, \
         config: false}}\n  instances:\n    main: {{{}, default: true}}\n    alias: {{{}}}\n    other: {{{}}}\n",
        server.user(),
        server.port(),
        server.key().path(),
        instance(main, main.url()),
        instance(main, &alias),
        instance(other, other.url()),
    )
}

impl Tower {
    fn services(&self) -> &Services {
        self.services.as_ref().expect("only the process that began the case has the services")
    }

    fn url(&self, at: At) -> String {
        let urls = std::fs::read_to_string(self.place.join("urls")).unwrap();
        let (main, other) = urls.split_once('\n').unwrap();
        if at == At::Other { other } else { main }.to_owned()
    }

    /// Asks a service something as its administrator, or as nobody, whatever the weather and whoever waits.
    fn ask(&self, at: At, method: &str, path: &str, body: Option<Value>) -> Value {
        let (url, method, path) = (self.url(at), method.to_owned(), path.to_owned());
        let asking = std::thread::spawn(move || {
            let tls = broker_http::Tls { verify: false, ca: None, client: None };
            let client = broker_http::client(&tls, Duration::from_secs(20)).unwrap();
            broker_tests::conformance::current_thread().block_on(async {
                let request = match method.as_str() {
                    "POST" => client.post(format!("{url}{path}")),
                    _ => client.get(format!("{url}{path}")),
                };
                let request = request.basic_auth("admin", Some("admin-password"));
                let request = request.header("content-type", "application/json");
                let answer = request.body(body.map(|body| body.to_string()).unwrap_or_default()).send().await.unwrap();
                serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null)
            })
        });
        asking.join().unwrap()
    }
}

impl ProviderSubject for Tower {
    fn factory(&self) -> Arc<dyn ProviderFactory> {
        broker_ansible_tower::factory()
    }

    fn settings(&self) -> String {
        std::fs::read_to_string(self.place.join("settings")).unwrap()
    }

    fn request(&self) -> HostRequest {
        HostRequest::action("workflow", "make")
    }

    fn slow(&self) -> HostRequest {
        self.request().arg("seconds", "120")
    }

    fn stuck(&self) -> HostRequest {
        self.request().arg("seconds", "1000000")
    }

    fn failures(&self) -> Vec<Failure> {
        let failure =
            |name, request, kinds, says: &str| Failure { name, request, kinds, says: says.to_owned(), stays: false };
        let of = |name: &str| HostRequest::action("workflow", name);
        vec![
            failure("unknown workflow", of("nonsense"), &[ErrorKind::NotFound], "nonsense"),
            failure(
                "unknown inventory",
                self.request().arg("tower_inventory", "nonsense"),
                &[ErrorKind::NotFound],
                "nonsense",
            ),
            failure("a variable too many", of("no-prompts").arg("colour", "red"), &[ErrorKind::BadRequest], "colour"),
            failure("a survey without answers", of("with-survey"), &[ErrorKind::BadRequest], "deploy_flavor"),
            failure("a failing workflow", of("make-and-fail"), &[ErrorKind::Failed], "No hypervisor has capacity"),
            failure("an empty workflow", of("empty"), &[ErrorKind::Failed], "empty"),
        ]
    }

    /// One launch of every three is refused, three times.
    fn mixed(&self) -> HostRequest {
        let main = &self.services().main;
        for spared in [1, 3, 5] {
            let path = main.launch_path("make");
            main.spoil(Rule::detail("POST", &path, 400, "not this one").skip(spared).times(1));
        }
        self.request().count(3)
    }

    fn stubborn(&self, _how: Obstacle) -> HostRequest {
        self.request().instance(At::Other.name())
    }

    fn obstruct(&self, how: Obstacle) {
        self.services().other.spoil(match how {
            Obstacle::Fails => {
                Rule::detail("POST", "*/launch/", 403, "You do not have permission to perform this action.")
            }
            Obstacle::Hangs => Rule::new("GET", "*/ping/", Fate::Delay(Duration::from_secs(3600))),
        });
    }

    fn mend(&self) {
        self.services().other.behave();
    }

    fn weather(&self, weather: Weather) {
        let main = &self.services().main;
        main.behave();
        match weather {
            Weather::Fair => {}
            Weather::Unreachable => main.spoil(Rule::new("*", "/api/*", Fate::DropBefore)),
            Weather::Elsewhere => {
                let ping = json!({"install_uuid": "another-installation", "version": "24.6.1"}).to_string();
                main.spoil(Rule::new("GET", "*/ping/", Fate::Answer(200, "application/json".to_owned(), ping)));
            }
        }
    }

    fn cut(&self, cut: Cut) {
        let Services { main, cut: (number, before), .. } = self.services();
        main.behave();
        let (Cut::After(at) | Cut::Before(at) | Cut::Late(at) | Cut::ForGoodAfter(at)) = cut;
        number.store(at, Ordering::SeqCst);
        before.store(main.requests().len(), Ordering::SeqCst);
        let fate = match cut {
            Cut::Before(_) => Fate::DropBefore,
            Cut::Late(_) => Fate::DropLate,
            Cut::After(_) | Cut::ForGoodAfter(_) => Fate::DropAfter,
        };
        main.spoil(Rule::new("*", "/api/*", fate).skip(at - 1).times(1));
        if matches!(cut, Cut::ForGoodAfter(_)) {
            main.spoil(Rule::new("*", "/api/*", Fate::DropBefore).skip(at - 1));
        }
    }

    fn has_yet_to_cut(&self) -> bool {
        let Services { main, cut: (number, before), .. } = self.services();
        let since = main.requests().len() - before.load(Ordering::SeqCst);
        since < number.load(Ordering::SeqCst) as usize
    }

    fn hosts(&self, at: At) -> BTreeSet<HostId> {
        let machines = self.ask(at, "GET", "/_control/machines", None);
        let there = machines.as_array().unwrap().iter().filter(|machine| machine["removed_by"].is_null());
        there.filter_map(|machine| machine["name"].as_str()?.strip_prefix("vm-")?.parse().ok()).collect()
    }

    fn labels(&self, at: At, id: HostId) -> BTreeMap<String, String> {
        let page = self.ask(at, "GET", "/api/v2/workflow_jobs/?order_by=-id&page_size=200", None);
        let told = page["results"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|job| job["name"] == "make")
            .map(|job| serde_json::from_str::<Value>(job["extra_vars"].as_str().unwrap()).unwrap());
        let Some(told) = told.into_iter().find(|told| told["_broker_id"] == id.to_string()) else {
            return BTreeMap::new();
        };
        let mut labels = BTreeMap::new();
        for (name, value) in told.as_object().unwrap() {
            if let (Some(name), Some(value)) = (name.strip_prefix("_broker_"), value.as_str()) {
                labels.insert(format!("broker.{name}"), value.to_owned());
            }
        }
        for (name, value) in told["provider_labels"].as_object().into_iter().flatten() {
            labels.insert(name.clone(), value.as_str().unwrap().to_owned());
        }
        labels
    }

    /// As another Broker would.
    fn remove(&self, at: At, id: HostId) {
        let variables = json!({"source_vm": format!("vm-{id}"), "_broker_id": id.to_string()}).to_string();
        let launched =
            self.ask(at, "POST", "/api/v2/workflow_job_templates/25/launch/", Some(json!({"extra_vars": variables})));
        let job = format!("/api/v2/workflow_jobs/{}/", launched["id"]);
        broker_tests::wait::until("the removal", || self.ask(at, "GET", &job, None)["status"] == "successful");
    }

    fn scope(&self) -> Scope {
        Scope { argument: Some("case-hosts".to_owned()), ..Scope::default() }
    }

    fn abilities(&self) -> Abilities {
        let lists = HostRequest::action("workflow", "list-templates").arg("artifacts", "last");
        Abilities { extend: true, execute: Some((lists, "rhel-9.4")), log: None }
    }
}

broker_tests::conformance_tests! { Tower =>
    life::a_host_is_checked_out_used_and_released,
    life::a_host_carries_its_identity,
    life::a_second_release_does_no_harm,
    life::a_host_that_has_vanished_can_be_released,
    life::a_host_is_released_by_its_id_alone,
    life::leases_are_extended_or_it_is_said_that_they_cannot_be,
    life::an_action_is_executed_or_it_is_said_that_it_cannot_be,
    life::the_console_can_be_read_or_it_is_said_that_it_cannot_be,
    life::ten_at_once,
    life::twenty_come_and_go_at_once,
    trouble::another_place_at_the_same_address_releases_nothing,
    trouble::what_is_gone_elsewhere_is_not_gone,
    trouble::nothing_is_found_where_nobody_can_tell,
    trouble::an_unreachable_provider_keeps_its_hosts,
    trouble::an_unreachable_provider_gets_no_orders,
    trouble::each_failure_leaves_nothing_or_an_entry,
    trouble::a_guarded_failure_leaves_nothing,
    trouble::of_a_mixed_batch_the_good_ones_are_handed_over,
    trouble::all_or_nothing_leaves_nothing,
    trouble::a_named_batch_is_all_or_nothing,
    trouble::one_that_fails_to_go_does_not_hold_up_nine,
    trouble::one_that_hangs_does_not_hold_up_nine,
    cancel::a_cancelled_checkout_keeps_what_is_recorded,
    cancel::a_cancelled_guarded_checkout_leaves_nothing,
    cancel::a_stopped_broker_leaves_nothing_half_made,
    cancel::a_checkout_that_takes_too_long_is_undone,
    cancel::a_provider_that_hangs_is_undone,
    cancel::a_cancelled_checkin_goes_on,
    sync::what_the_provider_has_is_taken_in,
    sync::what_has_changed_is_updated,
    sync::what_the_provider_has_no_more_is_marked,
    sync::other_instances_are_left_alone,
    sync::a_place_of_two_names_is_listed_once,
    sync::what_cannot_be_listed_changes_nothing,
    crash::a_process_killed_while_it_checks_out,
    crash::a_process_killed_while_it_checks_in,
    recovery::what_a_dead_process_made_can_be_used,
    recovery::what_a_dead_process_did_not_make_is_not_there,
    recovery::what_a_dead_process_left_can_be_checked_in,
    recovery::recoveries_at_once_do_no_harm,
    recovery::nobody_can_tell_where_the_provider_is_not_there,
    recovery::a_sync_settles_what_dead_processes_left,
    recovery::orphans_are_shown_and_left_alone,
    reap::what_dead_processes_left_is_reaped,
    shared::what_all_have_died_of_is_reaped,
    race::two_brokers_check_the_same_host_in,
    race::two_processes_check_the_same_hosts_in,
    race::four_processes_check_out_at_once,
    guards::a_dropped_guard_releases,
    guards::a_panic_releases,
    guards::a_kept_host_stays,
    guards::a_failed_test_keeps_its_host,
    guards::a_test_that_passes_keeps_nothing,
    guards::a_scope_releases,
    guards::a_scope_that_panics_releases,
    guards::a_failed_setup_releases,
    guards::a_teardown_runs_on_checkin,
    guards::a_teardown_runs_on_drop,
    guards::a_bad_teardown_stops_no_release,
    guards::the_blocking_twins_do_the_same,
    guards::guards_drop_in_every_kind_of_runtime,
    guards::blocking_calls_work_inside_a_runtime,
    guards::a_guard_in_a_static_is_released_at_exit,
    guards::an_exit_in_mid_test_releases,
    guards::a_forgotten_guard_is_released_at_exit,
    guards::a_guard_of_a_thread_is_released_with_it,
    shared::twenty_processes_share_one_host_and_the_first_is_killed,
    shared::the_first_is_killed_while_it_makes_the_host,
    shared::guards_of_one_process_share_too,
    shared::a_kept_host_stays_when_all_have_left,
    shared::one_name_is_one_host,
    shared::a_shared_host_that_cannot_be_had_is_an_error_to_all,
    trouble::a_wire_cut_at_any_request_of_a_checkout,
    trouble::a_wire_cut_at_any_request_of_a_checkin,
    trouble::a_service_that_goes_in_mid_checkout,
}
