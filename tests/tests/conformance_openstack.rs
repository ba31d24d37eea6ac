//! The suite, on a real OpenStack.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "all of this runs inside of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use broker::prelude::*;
use broker_core::HostId;
use broker_core::inventory::Holding;
use broker_core::provider::{ErrorKind, ProviderFactory, Scope};
use broker_tests::conformance::provider::{Abilities, At, Cut, Failure, Obstacle, ProviderSubject, Weather};
use broker_tests::conformance::{Place, Subject};
use broker_tests::openstack::{KEY, NETWORK, Service, Tenant, Way, Wire};
use serde_json::json;

/// Two projects of one user, each behind a wire that can be spoilt. The other project is the other place, and what
/// answers in the first one's stead.
struct OpenStack {
    place: Place,
    tenant: Tenant,
    /// Only in the process that began the case.
    wires: Option<[Wire; 2]>,
}

impl Subject for OpenStack {
    /// A server takes seconds, and some cases make dozens.
    const LIMIT: Duration = Duration::from_secs(900);

    fn open(place: &Place) -> Self {
        let kept = place.join("tenant");
        let tenant = if place.is_child() {
            Tenant::again(std::fs::read_to_string(kept).unwrap().parse().unwrap())
        } else {
            let tenant = Tenant::take();
            std::fs::write(kept, tenant.number().to_string()).unwrap();
            tenant
        };
        let wires = (!place.is_child()).then(|| {
            let wires = [&tenant.main, &tenant.other].map(|project| Wire::start(&project.user));
            std::fs::write(place.join("wires"), wires.each_ref().map(Wire::settings).join("\n")).unwrap();
            wires
        });
        Self { place: place.clone(), tenant, wires }
    }

    fn clean(&self) {
        self.tenant.clean();
    }
}

impl OpenStack {
    fn project(&self, at: At) -> &broker_tests::openstack::Place {
        match at {
            At::Main | At::Alias => &self.tenant.main,
            At::Other => &self.tenant.other,
        }
    }

    fn wire(&self, at: At) -> &Wire {
        let wires = self.wires.as_ref().expect("the weather is made by the process that began the case");
        &wires[usize::from(at == At::Other)]
    }

    fn of(image: &str) -> HostRequest {
        HostRequest::action("ostack_image", image)
    }
}

impl ProviderSubject for OpenStack {
    fn factory(&self) -> Arc<dyn ProviderFactory> {
        broker_openstack::factory()
    }

    fn settings(&self) -> String {
        let wires = std::fs::read_to_string(self.place.join("wires")).unwrap();
        let (main, other) = wires.split_once('\n').unwrap();
        let lab = &self.tenant.lab;
        let [to_main, to_other] = [At::Main, At::Other].map(|at| self.tenant.credentials(self.project(at)));
        format!(
            "stop_grace: 500ms\nOpenStack:\n  default_flavor: m1.nano\n  default_network: {NETWORK}\n  \
             default_key_name: {KEY}\n  timeout: 100\n  outage_timeout: 3\n  ssh: {{host_username: root, \
             host_ssh_key_filename: {:?}, config: false}}\n  instances:\n    main: {{{main}, {to_main}, default: true}}\n    \
             alias: {{auth_url: '{}', {to_main}}}\n    other: {{{other}, {to_other}}}\n",
            lab.key_file(),
            lab.auth_url,
        )
    }

    fn request(&self) -> HostRequest {
        Self::of("tiny")
    }

    fn slow(&self) -> HostRequest {
        self.request().arg("ostack_ready_command", "sleep 1.2")
    }

    fn stuck(&self) -> HostRequest {
        self.request().arg("ostack_ssh_port", "9").arg("ostack_ssh_timeout", "1h")
    }

    fn races(&self) -> usize {
        2
    }

    fn cuts(&self, holding: Holding) -> &'static [fn(u32) -> Cut] {
        match holding {
            Holding::Kept => &[Cut::After, Cut::Before],
            Holding::Guarded => &[Cut::Late],
        }
    }

    fn failures(&self) -> Vec<Failure> {
        let failure =
            |name, request, kinds, says: &str| Failure { name, request, kinds, says: says.to_owned(), stays: false };
        let user = &self.tenant.main.user;
        let bare = format!("{}-bare", self.place.word());
        user.post(Service::Network, "/networks", &json!({"network": {"name": bare}}));
        let port = json!({"port": {"network_id": self.tenant.main.network(), "device_id": "somebody-else"}});
        let port = user.post(Service::Network, "/ports", &port)["port"]["id"].as_str().unwrap().to_owned();
        vec![
            failure("unknown image", Self::of("no-such-image"), &[ErrorKind::NotFound], "no-such-image"),
            failure(
                "wrong flavor",
                self.request().arg("ostack_flavor", "m1.tini"),
                &[ErrorKind::NotFound],
                "`m1.tiny`",
            ),
            failure(
                "unknown argument",
                self.request().arg("ostack_flavour", "x"),
                &[ErrorKind::BadRequest],
                "ostack_flavor",
            ),
            failure(
                "image too large",
                Self::of(self.tenant.lab.large_image()),
                &[ErrorKind::BadRequest],
                "needs a disk of 60 GiB",
            ),
            failure(
                "quota",
                self.request().arg("ostack_flavor", self.tenant.lab.large_flavor()),
                &[ErrorKind::Quota],
                "300 cores are wanted, and",
            ),
            failure(
                "no valid host",
                self.request().arg("ostack_flavor", "x1.impossible"),
                &[ErrorKind::Quota],
                "No valid host was found",
            ),
            failure(
                "network without a subnet",
                self.request().arg("ostack_network", bare.as_str()),
                &[ErrorKind::BadRequest],
                &bare,
            ),
            failure(
                "port in use",
                self.request().arg("ostack_network", "").arg("ostack_port", port.as_str()),
                &[ErrorKind::Conflict],
                &port,
            ),
            failure(
                "no such key pair",
                self.request().arg("ostack_key_name", "nobody"),
                &[ErrorKind::NotFound],
                "nobody",
            ),
            failure(
                "never ready",
                self.request().arg("ostack_ssh_port", "9").arg("ostack_ssh_timeout", "1s"),
                &[ErrorKind::Timeout],
                "within 1s",
            ),
        ]
    }

    /// All of them want the same address.
    fn mixed(&self) -> HostRequest {
        let network = format!("{NETWORK}={}.{}", self.tenant.main.range(), fastrand::u8(20..250));
        self.request().arg("ostack_network", network).count(3)
    }

    fn stubborn(&self, _how: Obstacle) -> HostRequest {
        self.request().instance(At::Other.name())
    }

    fn obstruct(&self, how: Obstacle) {
        self.wire(At::Other).lead(match how {
            Obstacle::Fails => Way::Cut,
            Obstacle::Hangs => Way::Hanging,
        });
    }

    fn mend(&self) {
        self.wire(At::Other).lead(Way::Fair);
    }

    fn weather(&self, weather: Weather) {
        self.wire(At::Main).lead(match weather {
            Weather::Fair => Way::Fair,
            Weather::Unreachable => Way::Cut,
            Weather::Elsewhere => {
                Way::Elsewhere { name: self.tenant.main.name.clone(), other: self.tenant.other.name.clone() }
            }
        });
    }

    fn cut(&self, cut: Cut) {
        self.wire(At::Main).lead(match cut {
            Cut::After(request) => Way::CutAfter(request),
            Cut::Before(request) => Way::CutBefore(request),
            Cut::Late(request) => Way::CutAndLate(request),
            Cut::ForGoodAfter(request) => Way::GoneAfter(request),
        });
    }

    fn has_yet_to_cut(&self) -> bool {
        self.wire(At::Main).has_yet_to_cut()
    }

    /// No other key pair and no floating address is asked for, so that a server is all there can be of a host.
    fn hosts(&self, at: At) -> BTreeSet<HostId> {
        self.project(at).servers().iter().filter_map(broker_tests::openstack::Place::host_of).collect()
    }

    fn labels(&self, at: At, id: HostId) -> BTreeMap<String, String> {
        self.project(at).metadata(id)
    }

    fn remove(&self, at: At, id: HostId) {
        self.project(at).remove(id);
    }

    /// The project is the case's own.
    fn scope(&self) -> Scope {
        Scope { everyone: true, ..Scope::default() }
    }

    fn abilities(&self) -> Abilities {
        Abilities { extend: true, execute: None, log: Some("echo hello > /proc/1/fd/1") }
    }
}

broker_tests::provider_conformance!(OpenStack);
broker_tests::provider_conformance_over_the_wire!(OpenStack);
broker_tests::core_conformance!(OpenStack);
