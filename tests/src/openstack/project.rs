//! A user of a test's own, with projects that nobody else has at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker_core::HostId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::put_bytes;
use super::pool::{Saved, Slot};
use super::{Answer, Clearance, Lab, Service, Wire};
use crate::wait;

/// The name of each project's network.
pub const NETWORK: &str = "case-net";

/// The name of the user's key pair.
pub const KEY: &str = "case-key";

/// The user's password.
const PASSWORD: &str = "case-password";

/// How often the services are asked for something that is waited for.
const PERIOD: Duration = Duration::from_millis(500);

/// How long they may take for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user with two projects, each with quotas for many servers and a network. They are used again by other tests, once
/// they are clean.
pub struct Tenant {
    /// The lab.
    pub lab: Lab,
    /// The user's name, which is also what the projects' names begin with.
    pub user: String,
    /// The first project.
    pub main: Place,
    /// The other one.
    pub other: Place,
    slot: Slot,
    is_spoilt: AtomicBool,
}

/// A project, as its user sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// What the user has there.
    pub user: Clearance,
}

impl Tenant {
    /// One that nobody else has: as another test has left it, or a new one.
    ///
    /// # Panics
    ///
    /// If the lab does not do it.
    pub fn take() -> Self {
        let lab = Lab::up();
        let slot = Slot::take(&lab);
        let saved = match slot.read().filter(|saved| saved.main.user.is_for(&lab)) {
            Some(saved) if saved.is_clean => saved,
            unclean => {
                if let Some(left) = unclean {
                    // Whoever had it was killed. What cannot be removed of it stays, and is nobody's any more.
                    drop(catch_unwind(AssertUnwindSafe(|| left.remove(&lab))));
                }
                make(&lab, slot.number)
            }
        };
        let mut tenant = Self::new(lab, slot, saved);
        for place in [&mut tenant.main, &mut tenant.other] {
            if !place.user.lasts() {
                place.user = Clearance::get(&tenant.lab.auth_url, &tenant.user, PASSWORD, &place.name);
            }
        }
        tenant.save(false);
        tenant
    }

    /// The one that another process of the same test has taken, by its [`number`](Self::number).
    ///
    /// # Panics
    ///
    /// If nobody has.
    pub fn again(number: u32) -> Self {
        let lab = Lab::up();
        let slot = Slot::of(&lab, number);
        let saved = slot.read().unwrap();
        Self::new(lab, slot, saved)
    }

    fn new(lab: Lab, slot: Slot, saved: Saved) -> Self {
        let Saved { user, main, other, .. } = saved;
        Self { lab, user, main, other, slot, is_spoilt: AtomicBool::new(false) }
    }

    /// What other processes of the test get it by.
    pub fn number(&self) -> u32 {
        self.slot.number
    }

    fn save(&self, is_clean: bool) {
        self.slot.write(&self.saved(is_clean));
    }

    fn saved(&self, is_clean: bool) -> Saved {
        Saved { user: self.user.clone(), is_clean, main: self.main.clone(), other: self.other.clone() }
    }

    /// No other test is to have it after this one.
    pub fn spoil(&self) {
        self.is_spoilt.store(true, Ordering::Relaxed);
    }

    /// Sets how much a project may have of what a service gives, by the administrator, which [spoils](Self::spoil) it.
    ///
    /// # Panics
    ///
    /// If the lab does not do it.
    pub fn set_quota(&self, place: &Place, service: Service, quota: &Value) {
        self.spoil();
        set_quota(&self.lab, &place.user.project, service, quota);
    }

    /// What a provider needs to log in to a project, beside Keystone's address.
    pub fn credentials(&self, place: &Place) -> String {
        format!("username: {}, password: {PASSWORD}, project_name: {}", self.user, place.name)
    }

    /// A settings file that leads `broker` to the first project by a wire, with servers that are as small as can be, and
    /// with further settings, each on a line of its own.
    pub fn settings(&self, wire: &Wire, more: &str) -> String {
        let place = format!("{}, {}", wire.settings(), self.credentials(&self.main));
        let network = format!("default_network: {NETWORK}");
        let lines = place.split(", ").chain(["default_flavor: m1.nano", network.as_str()]);
        let lines = lines.chain(["default_user: debian", "results_limit: 1000"]).chain(more.lines());
        lines.fold("OpenStack:\n".to_owned(), |text, line| text + "  " + line + "\n")
    }

    /// A login of its own.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub fn log_in(&self, place: &Place) -> Clearance {
        Clearance::get(&self.lab.auth_url, &self.user, PASSWORD, &place.name)
    }

    /// What Keystone says to the user's login with a scope.
    ///
    /// # Panics
    ///
    /// If it says nothing.
    pub fn try_to_log_in(&self, scope: &Value) -> Answer {
        Clearance::ask_for(&self.lab.auth_url, &self.user, PASSWORD, scope)
    }

    /// The variables by which the `openstack` command logs in to a project.
    pub fn variables(&self, place: &Place) -> [(&'static str, String); 8] {
        let text = str::to_owned;
        [
            ("OS_AUTH_URL", self.lab.auth_url.clone()),
            ("OS_USERNAME", self.user.clone()),
            ("OS_PASSWORD", text(PASSWORD)),
            ("OS_PROJECT_NAME", place.name.clone()),
            ("OS_USER_DOMAIN_NAME", text("Default")),
            ("OS_PROJECT_DOMAIN_NAME", text("Default")),
            ("OS_IDENTITY_API_VERSION", text("3")),
            ("OS_COMPUTE_API_VERSION", text("2.79")),
        ]
    }

    /// Removes all that a test has left: servers, floating addresses, networks, key pairs.
    ///
    /// # Panics
    ///
    /// If something stays. Then no other test has the tenant.
    pub fn clean(&self) {
        if self.is_spoilt.load(Ordering::Relaxed) {
            self.saved(false).remove(&self.lab);
            self.slot.forget();
            return;
        }
        self.main.clean();
        if !self.other.is_bare() {
            self.other.clean();
        }
        self.save(true);
    }
}

impl Saved {
    /// Removes the projects and the user, with all that they have.
    fn remove(&self, lab: &Lab) {
        let admin = lab.admin();
        for place in [&self.main, &self.other] {
            place.clean();
            place.delete_all("networks", |_| true);
            admin.delete(Service::Identity, &format!("/projects/{}", place.user.project));
        }
        let users = admin.get_json(Service::Identity, &format!("/users?name={}", self.user));
        for user in users["users"].as_array().unwrap() {
            admin.delete(Service::Identity, &format!("/users/{}", id(user)));
        }
    }
}

/// Has a user made, with two projects.
fn make(lab: &Lab, number: u32) -> Saved {
    // The number is for people; one that could not be removed may have it already.
    let name = format!("case-{number}-{:08x}", fastrand::u32(..));
    let admin = lab.admin();
    let user = json!({"user": {"name": name, "password": PASSWORD, "domain_id": "default"}});
    let user = id(&admin.post(Service::Identity, "/users", &user)["user"]);
    let roles = admin.get_json(Service::Identity, "/roles?name=member");
    let role = id(&roles["roles"][0]);
    let [main, other] = [("main", 1), ("other", 2)].map(|(which, third)| {
        let place = format!("{name}-{which}");
        let project = json!({"project": {"name": place, "domain_id": "default"}});
        let project = id(&admin.post(Service::Identity, "/projects", &project)["project"]);
        let grant = format!("/projects/{project}/users/{user}/roles/{role}");
        assert_eq!(admin.ask("PUT", Service::Identity, &grant, None).status, 204);
        set_quota(lab, &project, Service::Compute, &json!({"instances": 100, "cores": 200, "ram": -1}));
        let user = Clearance::get(&lab.auth_url, &name, PASSWORD, &place);
        let network = json!({"network": {"name": NETWORK}});
        let network = id(&user.post(Service::Network, "/networks", &network)["network"]);
        // All servers are reached from the same machine.
        let cidr = format!("10.{}.{third}.0/24", 20 + number);
        let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": cidr}});
        user.post(Service::Network, "/subnets", &subnet);
        Place { name: place, user }
    });
    let key = json!({"keypair": {"name": KEY, "public_key": lab.public_key()}});
    main.user.post(Service::Compute, "/os-keypairs", &key);
    Saved { user: name, is_clean: true, main, other }
}

impl Place {
    /// The servers, as Nova tells of them.
    pub fn servers(&self) -> Vec<Value> {
        let listed = self.user.get_json(Service::Compute, "/servers/detail");
        listed["servers"].as_array().unwrap().clone()
    }

    /// The host that a server is, as far as it is one.
    pub fn host_of(server: &Value) -> Option<HostId> {
        server["metadata"]["broker.id"].as_str()?.parse().ok()
    }

    /// The server of a host.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn server(&self, host: HostId) -> Value {
        self.servers().into_iter().find(|server| Self::host_of(server) == Some(host)).unwrap()
    }

    /// The hosts that anything exists of: a server, a floating address, a key pair.
    pub fn hosts(&self) -> BTreeSet<HostId> {
        let mut hosts: BTreeSet<HostId> = self.servers().iter().filter_map(Self::host_of).collect();
        let floating = self.user.get_json(Service::Network, "/floatingips");
        let marked = |ip: &Value| ip["description"].as_str()?.strip_prefix("broker.id=")?.parse::<HostId>().ok();
        hosts.extend(floating["floatingips"].as_array().unwrap().iter().filter_map(marked));
        hosts.extend(self.keypairs());
        hosts
    }

    /// The hosts that have a key pair of their own. Those are the user's, whatever the project.
    pub fn keypairs(&self) -> BTreeSet<HostId> {
        let keypairs = self.user.get_json(Service::Compute, "/os-keypairs");
        let named =
            |keypair: &Value| keypair["keypair"]["name"].as_str()?.strip_prefix("broker-")?.parse::<HostId>().ok();
        keypairs["keypairs"].as_array().unwrap().iter().filter_map(named).collect()
    }

    /// The ports that belong to servers.
    pub fn ports(&self) -> usize {
        let ports = self.user.get_json(Service::Network, "/ports");
        let of_server = |port: &&Value| port["device_owner"].as_str().unwrap_or_default().starts_with("compute:");
        ports["ports"].as_array().unwrap().iter().filter(of_server).count()
    }

    /// What a host's server carries.
    pub fn metadata(&self, host: HostId) -> BTreeMap<String, String> {
        serde_json::from_value(self.server(host)["metadata"].clone()).unwrap()
    }

    /// Makes an image, and returns its id.
    ///
    /// # Panics
    ///
    /// If the lab does not do it.
    pub fn upload(&self, image: &Value, bytes: &[u8]) -> String {
        let image = id(&self.user.post(Service::Image, "/images", image));
        let url = format!("{}/images/{image}/file", self.user.address(Service::Image));
        let answer = put_bytes(&url, &self.user.token, bytes);
        assert_eq!(answer.status, 204, "{answer:?}");
        image
    }

    /// Has Neutron make something, and returns it.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub fn make(&self, kind: &str, one: &str, what: &Value) -> Value {
        self.user.post(Service::Network, &format!("/{kind}"), &json!({ one: what }))[one].clone()
    }

    /// Removes a server behind everybody's back.
    pub fn remove(&self, host: HostId) {
        self.remove_server(&id(&self.server(host)));
    }

    /// Removes all servers, together.
    ///
    /// # Panics
    ///
    /// If one stays.
    pub fn remove_all(&self) {
        for server in self.servers() {
            self.user.delete(Service::Compute, &format!("/servers/{}", id(&server)));
        }
        wait::until_every(PERIOD, PATIENCE, "the servers to be gone", || self.servers().is_empty());
    }

    fn remove_server(&self, server: &str) {
        let path = format!("/servers/{server}");
        self.user.delete(Service::Compute, &path);
        let is_gone = || self.user.ask("GET", Service::Compute, &path, None).status == 404;
        wait::until_every(PERIOD, PATIENCE, "the server to be gone", is_gone);
    }

    /// The range of addresses of the network, as its first three numbers.
    ///
    /// # Panics
    ///
    /// If there is no network.
    pub fn range(&self) -> String {
        let subnets = self.user.get_json(Service::Network, "/subnets");
        let mine = subnets["subnets"]
            .as_array()
            .unwrap()
            .iter()
            .find(|subnet| subnet["project_id"] == self.user.project.as_str());
        mine.unwrap()["cidr"].as_str().unwrap().trim_end_matches(".0/24").to_owned()
    }

    /// The id of the network.
    pub fn network(&self) -> String {
        id(&self.user.get_json(Service::Network, &format!("/networks?name={NETWORK}"))["networks"][0])
    }

    /// Connects the network with the outer one, so that servers can have floating addresses.
    ///
    /// # Panics
    ///
    /// If the lab does not do it.
    pub fn connect_outside(&self) {
        let public = id(&self.user.get_json(Service::Network, "/networks?name=public")["networks"][0]);
        let router = json!({"router": {"name": "router", "external_gateway_info": {"network_id": public}}});
        let router = id(&self.user.post(Service::Network, "/routers", &router)["router"]);
        let path = format!("/routers/{router}/add_router_interface");
        let answer = self.user.ask("PUT", Service::Network, &path, Some(&json!({"subnet_id": self.subnet()})));
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    fn disconnect_outside(&self) {
        for router in self.user.get_json(Service::Network, "/routers")["routers"].as_array().unwrap() {
            let path = format!("/routers/{}", id(router));
            let subnet = json!({"subnet_id": self.subnet()});
            // One that a test has made and not connected has nothing to let go.
            self.user.ask("PUT", Service::Network, &format!("{path}/remove_router_interface"), Some(&subnet));
            self.user.delete(Service::Network, &path);
        }
    }

    fn subnet(&self) -> Value {
        let path = format!("/subnets?project_id={}", self.user.project);
        self.user.get_json(Service::Network, &path)["subnets"][0]["id"].clone()
    }

    /// Whether it has neither servers nor ports.
    fn is_bare(&self) -> bool {
        let ports = self.user.get_json(Service::Network, "/ports");
        ports["ports"] == json!([]) && self.servers().is_empty()
    }

    /// Removes all but what it was made with.
    fn clean(&self) {
        // In this order: Neutron trips over a port that goes while a floating address leads to it, and routers keep ports of
        // their own.
        self.delete_all("floatingips", |_| true);
        self.remove_all();
        self.disconnect_outside();
        self.delete_all("ports", |_| true);
        self.delete_all("networks", |network| network["name"] != NETWORK);
        self.delete_all("security-groups", |group| group["name"] != "default");
        for keypair in self.user.get_json(Service::Compute, "/os-keypairs")["keypairs"].as_array().unwrap() {
            let name = keypair["keypair"]["name"].as_str().unwrap();
            if name != KEY {
                self.user.delete(Service::Compute, &format!("/os-keypairs/{name}"));
            }
        }
    }

    /// Removes what Neutron has of a kind in the project.
    fn delete_all(&self, kind: &str, is_one: impl Fn(&Value) -> bool) {
        let all = self.user.get_json(Service::Network, &format!("/{kind}"));
        for one in all[kind.replace('-', "_")].as_array().unwrap() {
            if one["project_id"] == self.user.project.as_str() && is_one(one) {
                self.user.delete(Service::Network, &format!("/{kind}/{}", id(one)));
            }
        }
    }
}

fn set_quota(lab: &Lab, project: &str, service: Service, quota: &Value) {
    let (path, body) = match service {
        Service::Network => (format!("/quotas/{project}"), json!({ "quota": quota })),
        _ => (format!("/os-quota-sets/{project}"), json!({ "quota_set": quota })),
    };
    let answer = lab.admin().ask("PUT", service, &path, Some(&body));
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap_or_else(|| panic!("no id: {of}")).to_owned()
}
