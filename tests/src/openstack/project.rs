//! A user of a test's own, with projects that nobody else has.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::HostId;
use serde_json::{Value, json};

use super::http::put_bytes;
use super::{Clearance, Lab, Service, Wire};
use crate::wait;

/// The name of each project's network.
pub const NETWORK: &str = "case-net";

/// The name of the user's key pair.
pub const KEY: &str = "case-key";

/// The user's password.
const PASSWORD: &str = "case-password";

/// A user with two projects.
pub struct Tenant {
    /// The lab.
    pub lab: Lab,
    /// The user's name, which is also what the projects' names begin with.
    pub user: String,
    /// The first project.
    pub main: Place,
    /// The other one.
    pub other: Place,
}

/// A project, as its user sees it.
pub struct Place {
    /// Its name.
    pub name: String,
    /// What the user has there.
    pub user: Clearance,
}

impl Tenant {
    /// The user of a name, made if there is none yet, with quotas for many servers and a network in each project.
    ///
    /// # Panics
    ///
    /// If the lab does not do it.
    pub fn of(name: &str) -> Self {
        let lab = Lab::up();
        let names = ["main", "other"].map(|project| format!("{name}-{project}"));
        let admin = lab.admin();
        let is_new = admin.get_json(Service::Identity, &format!("/users?name={name}"))["users"] == json!([]);
        if is_new {
            let user = json!({"user": {"name": name, "password": PASSWORD, "domain_id": "default"}});
            let user = id(&admin.post(Service::Identity, "/users", &user)["user"]);
            let roles = admin.get_json(Service::Identity, "/roles?name=member");
            let role = id(&roles["roles"][0]);
            for name in &names {
                let project = json!({"project": {"name": name, "domain_id": "default"}});
                let project = id(&admin.post(Service::Identity, "/projects", &project)["project"]);
                let grant = format!("/projects/{project}/users/{user}/roles/{role}");
                assert_eq!(admin.ask("PUT", Service::Identity, &grant, None).status, 204);
                set_quota(&lab, &project, &json!({"instances": 100, "cores": 200, "ram": -1}));
            }
        }
        let [main, other] = names.map(|project| {
            let user = Clearance::get(&lab.auth_url, name, PASSWORD, &project);
            Place { name: project, user }
        });
        if is_new {
            main.user.post(
                Service::Compute,
                "/os-keypairs",
                &json!({"keypair": {"name": KEY, "public_key": lab.public_key()}}),
            );
            for place in [&main, &other] {
                let network = json!({"network": {"name": NETWORK}});
                let network = id(&place.user.post(Service::Network, "/networks", &network)["network"]);
                let (second, third) = (fastrand::u8(20..), fastrand::u8(..));
                let cidr = format!("10.{second}.{third}.0/24");
                let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": cidr}});
                place.user.post(Service::Network, "/subnets", &subnet);
            }
        }
        Self { lab, user: name.to_owned(), main, other }
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

    /// Removes everything: servers, floating addresses, networks, the projects and the user.
    ///
    /// # Panics
    ///
    /// If something stays.
    pub fn clean(&self) {
        let admin = self.lab.admin();
        for place in [&self.main, &self.other] {
            place.clean();
            admin.delete(Service::Identity, &format!("/projects/{}", place.user.project));
        }
        let users = admin.get_json(Service::Identity, &format!("/users?name={}", self.user));
        for user in users["users"].as_array().unwrap() {
            admin.delete(Service::Identity, &format!("/users/{}", id(user)));
        }
    }
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

    /// Makes an image of a few bytes, and returns its id.
    ///
    /// # Panics
    ///
    /// If the lab does not do it.
    pub fn upload(&self, image: &Value) -> String {
        let image = id(&self.user.post(Service::Image, "/images", image));
        let url = format!("{}/images/{image}/file", self.user.address(Service::Image));
        let answer = put_bytes(&url, &self.user.token, &[0; 4096]);
        assert_eq!(answer.status, 204, "{answer:?}");
        image
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
        wait::until_within(wait::SOON * 2, "the servers to be gone", || self.servers().is_empty());
    }

    fn remove_server(&self, server: &str) {
        let path = format!("/servers/{server}");
        self.user.delete(Service::Compute, &path);
        wait::until("the server to be gone", || self.user.ask("GET", Service::Compute, &path, None).status == 404);
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

    fn clean(&self) {
        // In this order: Neutron trips over a port that goes while a floating address leads to it, and routers keep ports of
        // their own.
        self.delete_all("floatingips");
        self.remove_all();
        self.disconnect_outside();
        self.delete_all("ports");
        self.delete_all("networks");
        for keypair in self.user.get_json(Service::Compute, "/os-keypairs")["keypairs"].as_array().unwrap() {
            let name = keypair["keypair"]["name"].as_str().unwrap();
            self.user.delete(Service::Compute, &format!("/os-keypairs/{name}"));
        }
    }

    /// Removes all that Neutron has of a kind in the project.
    fn delete_all(&self, kind: &str) {
        for one in self.user.get_json(Service::Network, &format!("/{kind}"))[kind].as_array().unwrap() {
            if one["project_id"] == self.user.project.as_str() {
                self.user.delete(Service::Network, &format!("/{kind}/{}", id(one)));
            }
        }
    }
}

/// Sets how much a project may have, by the administrator.
///
/// # Panics
///
/// If the lab does not do it.
pub fn set_quota(lab: &Lab, project: &str, quota: &Value) {
    let path = format!("/os-quota-sets/{project}");
    let answer = lab.admin().ask("PUT", Service::Compute, &path, Some(&json!({ "quota_set": quota })));
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap_or_else(|| panic!("no id: {of}")).to_owned()
}
