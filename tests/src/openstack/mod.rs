//! The OpenStack of this machine, asked over its own API and without any code of Broker's provider.

mod command;
mod http;
pub mod kill;
mod pool;
mod project;
mod rows;
mod wire;

use std::path::PathBuf;

use broker_core::{ArgValue, yaml};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::command::{Told, openstack, told_by_command};
pub use self::http::{Answer, ask, ask_with, revoke_token};
pub use self::project::{KEY, NETWORK, Place, Tenant};
pub use self::rows::{Seeded, seed};
pub use self::wire::{Kind, Spoil, Way, Wire};

/// Where the lab keeps what it has.
const DIRECTORY_VARIABLE: &str = "OPENSTACK_LAB_DIR";

/// The lab.
#[derive(Debug, Clone)]
pub struct Lab {
    /// Where it keeps what it has.
    pub directory: PathBuf,
    /// Keystone's address, with its version.
    pub auth_url: String,
    admin: Clearance,
}

/// A token, and the addresses that came with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Clearance {
    /// The token.
    pub token: String,
    /// The project that it is for.
    pub project: String,
    expires_at: Timestamp,
    catalog: Value,
    auth_url: String,
}

/// A token that has less time left than this is not begun with: longer than a run of the tests takes.
const SPARE: SignedDuration = SignedDuration::from_hours(2);

/// A service of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Keystone.
    Identity,
    /// Nova.
    Compute,
    /// Neutron.
    Network,
    /// Glance.
    Image,
}

impl Lab {
    /// Whether the lab is up.
    pub fn is_up() -> bool {
        let Ok(text) = std::fs::read_to_string(Self::directory().join("clouds.yaml")) else { return false };
        let place = text.lines().find_map(|line| line.trim().strip_prefix("auth_url: http://")?.split('/').next());
        place.is_some_and(|place| std::net::TcpStream::connect(place).is_ok())
    }

    fn directory() -> PathBuf {
        std::env::var_os(DIRECTORY_VARIABLE).map_or_else(|| "/tmp/openstack-lab".into(), PathBuf::from)
    }

    /// The lab, which must be up.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn up() -> Self {
        let directory = Self::directory();
        let file = directory.join("clouds.yaml");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| {
            panic!("`{}`: {error}: is the lab up? `cargo xtask test openstack` brings it up", file.display())
        });
        let clouds = yaml::parse(&text).unwrap().unwrap().into_value();
        let auth = |cloud: &str, key: &str| {
            let value = ["clouds", cloud, "auth", key].iter().try_fold(&clouds, |at, key| at.as_map()?.get(*key));
            value.and_then(ArgValue::as_str).unwrap().to_owned()
        };
        let auth_url = auth("lab-admin", "auth_url");
        // Each of hundreds of processes would log in, and have its token looked at by each of the services.
        let kept = pool::directory(&directory).join("admin.json");
        let admin = pool::read(&kept).filter(|admin: &Clearance| admin.auth_url == auth_url && admin.lasts());
        let admin = admin.unwrap_or_else(|| {
            let admin = Clearance::get(&auth_url, "admin", &auth("lab-admin", "password"), "admin");
            pool::write(&kept, &admin);
            admin
        });
        Self { directory, auth_url, admin }
    }

    /// The administrator's.
    pub fn admin(&self) -> &Clearance {
        &self.admin
    }

    /// The private key that goes with the public one of [`Tenant`]s.
    pub fn key_file(&self) -> PathBuf {
        self.directory.join("keypair.pem")
    }

    /// The public key.
    ///
    /// # Panics
    ///
    /// If the lab has none.
    pub fn public_key(&self) -> String {
        std::fs::read_to_string(self.directory.join("keypair.pub")).unwrap().trim().to_owned()
    }

    /// A flavor with more cores than the quota of any [`Tenant`] allows.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn large_flavor(&self) -> &'static str {
        const NAME: &str = "needs-many-cores";
        let flavor = json!({"flavor": {"name": NAME, "vcpus": 300, "ram": 512, "disk": 1}});
        let answer = self.admin.ask("POST", Service::Compute, "/flavors", Some(&flavor));
        // It is there already, if another test was here before.
        assert!(answer.status < 300 || answer.status == 409, "{answer:?}");
        NAME
    }

    /// A public image that needs a larger disk than most flavors have.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn large_image(&self) -> &'static str {
        self.image("needs-much-room", &json!({"min_disk": 60}))
    }

    /// A public image that needs more memory than any flavor has.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn hungry_image(&self) -> &'static str {
        self.image("needs-much-memory", &json!({"min_ram": 1 << 20}))
    }

    /// A public image of a name, made if there is none yet.
    fn image(&self, name: &'static str, needs: &Value) -> &'static str {
        // Two of a name would be one too many.
        let _alone = pool::alone(&self.directory);
        let found = self.admin.get_json(Service::Image, &format!("/images?name={name}"));
        let ready = |image: &Value| image["status"] == "active";
        if !found["images"].as_array().unwrap().iter().any(ready) {
            let mut image =
                json!({"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "public"});
            image.as_object_mut().unwrap().extend(needs.as_object().unwrap().clone());
            let made = self.admin.post(Service::Image, "/images", &image);
            let path = format!("/images/{}/file", made["id"].as_str().unwrap());
            let url = format!("{}{path}", self.admin.address(Service::Image));
            let answer = http::put_bytes(&url, &self.admin.token, &[0; 4096]);
            assert_eq!(answer.status, 204, "{answer:?}");
        }
        name
    }
}

impl Clearance {
    /// Logs in.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    pub fn get(auth_url: &str, user: &str, password: &str, project: &str) -> Self {
        let scope = json!({"project": {"name": project, "domain": {"name": "Default"}}});
        let answer = Self::ask_for(auth_url, user, password, &scope);
        assert_eq!(answer.status, 201, "{answer:?}");
        Self {
            token: answer.header("x-subject-token").unwrap().to_owned(),
            project: answer.body["token"]["project"]["id"].as_str().unwrap().to_owned(),
            expires_at: answer.body["token"]["expires_at"].as_str().unwrap().parse().unwrap(),
            catalog: answer.body["token"]["catalog"].clone(),
            auth_url: auth_url.to_owned(),
        }
    }

    fn ask_for(auth_url: &str, user: &str, password: &str, scope: &Value) -> Answer {
        let user = json!({"name": user, "domain": {"name": "Default"}, "password": password});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let body = json!({"auth": {"identity": identity, "scope": scope}});
        ask("POST", &format!("{auth_url}/auth/tokens"), None, Some(&body))
    }

    /// Whether it is good for a while.
    fn lasts(&self) -> bool {
        self.expires_at.duration_since(Timestamp::now()) > SPARE
    }

    /// Whether it was got from this lab.
    fn is_for(&self, lab: &Lab) -> bool {
        self.auth_url == lab.auth_url
    }

    /// Where a service is, with its version.
    ///
    /// # Panics
    ///
    /// If the catalog does not have it.
    pub fn address(&self, service: Service) -> String {
        let (kind, version) = match service {
            Service::Identity => return self.auth_url.clone(),
            Service::Compute => ("compute", ""),
            Service::Network => ("network", "/v2.0"),
            Service::Image => ("image", "/v2"),
        };
        let entries = self.catalog.as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["type"] == kind).unwrap();
        let public = entry["endpoints"].as_array().unwrap().iter().find(|at| at["interface"] == "public").unwrap();
        format!("{}{version}", public["url"].as_str().unwrap())
    }

    /// Asks, and takes any answer.
    pub fn ask(&self, method: &str, service: Service, path: &str, body: Option<&Value>) -> Answer {
        ask(method, &format!("{}{path}", self.address(service)), Some(&self.token), body)
    }

    /// What there is at a path.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub fn get_json(&self, service: Service, path: &str) -> Value {
        let answer = self.ask("GET", service, path, None);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }

    /// Has something made or done.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub fn post(&self, service: Service, path: &str, body: &Value) -> Value {
        let answer = self.ask("POST", service, path, Some(body));
        assert!(answer.status < 300, "{path}: {answer:?}");
        answer.body
    }

    /// Removes something, which may be gone already.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub fn delete(&self, service: Service, path: &str) {
        let answer = self.ask("DELETE", service, path, None);
        assert!(answer.status < 300 || answer.status == 404, "{path}: {answer:?}");
    }
}
