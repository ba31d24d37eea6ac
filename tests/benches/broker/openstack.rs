//! Servers out and in against a plain script of the fewest calls and the `openstack` command, and syncs against reading the
//! same pages.

use std::process::Stdio;
use std::time::{Duration, Instant};

use broker::prelude::*;
use broker::provider::Scope;
use broker::{HostId, block_on};
use broker_tests::openstack::{Answer, Clearance, KEY, Lab, NETWORK, Service, Tenant, Wire, openstack, seed};
use serde_json::{Value, json};

use crate::measure::{in_turn, seconds, timed};
use crate::report::{Bench, Samples, Target};
use crate::{Result, fixtures};

const MANY: u32 = 20;

/// How often the script looks whether a server is there or gone.
const PERIOD: Duration = Duration::from_millis(200);

pub(crate) fn run(bench: &mut Bench) -> Result {
    let wanted = ["openstack/one", "openstack/requests", "openstack/20", "openstack/sync/200", "openstack/sync/2000"]
        .map(|case| bench.wants(case));
    if !wanted.contains(&true) {
        return Ok(());
    }
    if !Lab::is_up() {
        bench.leave_out("openstack", "its lab is not up; `cargo xtask bench openstack` brings it up");
        return Ok(());
    }
    let lab = Bed::new()?;
    let [one, requests, twenty, some, many] = wanted;
    if one {
        lab.one(bench)?;
    }
    if requests {
        lab.requests(bench)?;
    }
    if twenty {
        lab.twenty(bench)?;
    }
    for (hosts, page, wanted) in [(200, Some(20), some), (2000, None, many)] {
        if wanted {
            lab.sync(bench, hosts, page)?;
        }
    }
    Ok(())
}

/// The project is the run's own.
fn everyone() -> Scope {
    Scope { everyone: true, ..Scope::default() }
}

/// A project of the run's own.
struct Bed {
    tenant: Tenant,
    image: String,
    flavor: String,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.tenant.clean();
    }
}

impl Bed {
    fn new() -> Result<Self> {
        let tenant = Tenant::take();
        let user = &tenant.main.user;
        let id = |value: &Value| value["id"].as_str().map(str::to_owned).ok_or("the lab has no image or flavor");
        let image = id(&user.get_json(Service::Image, "/images?name=tiny")["images"][0])?;
        let flavors = user.get_json(Service::Compute, "/flavors")["flavors"].clone();
        let nano = flavors.as_array().into_iter().flatten().find(|flavor| flavor["name"] == "m1.nano");
        let flavor = id(nano.unwrap_or(&Value::Null))?;
        Ok(Self { tenant, image, flavor })
    }

    /// A broker that goes straight to the services, or by a wire.
    fn broker(&self, directory: &std::path::Path, wire: Option<&Wire>, more: &str) -> Result<Broker> {
        let way = wire.map_or_else(|| format!("auth_url: '{}'", self.tenant.lab.auth_url), Wire::settings);
        let login = self.tenant.credentials(&self.tenant.main);
        let text = format!(
            "OpenStack: {{{way}, {login}, default_flavor: m1.nano, default_network: {NETWORK}, default_user: debian{more}}}\n"
        );
        fixtures::broker(directory, |settings| settings.known_providers(["OpenStack"]).yaml(text))
    }

    fn request(count: u32) -> HostRequest {
        HostRequest::action("ostack_image", "tiny").arg("ostack_wait", "active").count(count)
    }

    /// One host by a process that has not logged in yet.
    fn one(&self, bench: &mut Bench) -> Result {
        let directory = fixtures::directory()?;
        let mut ours = || {
            let broker = self.broker(directory.path(), None, "")?;
            let (out, guards) = timed(|| Ok(block_on(broker.checkout_many(Self::request(1)))??))?;
            let (back, ()) = timed(|| Ok(block_on(guards.checkin())??))?;
            Ok((out, back))
        };
        let mut floor = || {
            let script = Script::begin(self);
            let (out, server) = timed(|| Ok(script.out()))?;
            let (back, ()) = timed(|| {
                script.back(&server);
                Ok(())
            })?;
            Ok((out, back))
        };
        let [ours, floor] = in_turn(bench.rounds(7), [&mut ours, &mut floor])?;
        let out = |samples: &[(Duration, Duration)]| seconds(samples.iter().map(|(out, _)| *out));
        let back = |samples: &[(Duration, Duration)]| seconds(samples.iter().map(|(_, back)| *back));
        bench.row("openstack/one/out", &out(&ours), &out(&floor), Target::None);
        bench.row("openstack/one/in", &back(&ours), &back(&floor), Target::None);
        Ok(())
    }

    /// How many requests hosts take, the login among them.
    fn requests(&self, bench: &mut Bench) -> Result {
        let wire = Wire::start(&self.tenant.main.user);
        let count = |hosts: u32| {
            let directory = fixtures::directory()?;
            let broker = self.broker(directory.path(), Some(&wire), "")?;
            let begun = wire.requests();
            let guards = block_on(broker.checkout_many(Self::request(hosts)))??;
            let made = wire.requests();
            block_on(guards.checkin())??;
            let gone = wire.requests();
            Ok::<_, Box<dyn std::error::Error>>((f64::from(made - begun), f64::from(gone - made)))
        };
        let (one, many) = (count(1)?, count(MANY)?);
        let script = Script::begin(self);
        let server = script.out();
        let out = f64::from(script.requests.get());
        script.back(&server);
        let back = f64::from(script.requests.get()) - out;
        let each = |one: f64, many: f64| Samples::count((many - one) / f64::from(MANY - 1));
        let mut row = |name: &str, ours: Samples, floor: f64| {
            bench.row(&format!("openstack/requests/{name}"), &ours, &Samples::count(floor), Target::None);
        };
        row("out", Samples::count(one.0), out);
        row("in", Samples::count(one.1), back);
        // Without the login.
        row("out/each-of-20", each(one.0, many.0), out - 1.0);
        row("in/each-of-20", each(one.1, many.1), back);
        Ok(())
    }

    /// Twenty hosts at once, beside as many processes of the `openstack` command.
    fn twenty(&self, bench: &mut Bench) -> Result {
        let directory = fixtures::directory()?;
        let mut ours = || {
            let broker = self.broker(directory.path(), None, "")?;
            let (out, guards) = timed(|| Ok(block_on(broker.checkout_many(Self::request(MANY)))??))?;
            block_on(guards.checkin())??;
            Ok(out)
        };
        let mut floor = || {
            let (out, ()) = timed(|| {
                let mut running = Vec::new();
                for number in 0..MANY {
                    let name = format!("by-command-{number}");
                    let mut command = openstack(&self.tenant, &self.tenant.main);
                    command.args(["server", "create", "--wait", "--image", "tiny", "--flavor", "m1.nano"]);
                    command.args(["--network", NETWORK, "--key-name", KEY, &name]);
                    running.push(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
                }
                for mut child in running {
                    let status = child.wait()?;
                    if !status.success() {
                        return Err(format!("`openstack server create` ended with {status}").into());
                    }
                }
                Ok(())
            })?;
            self.tenant.main.remove_all();
            Ok(out)
        };
        let [ours, floor] = in_turn(bench.rounds(3), [&mut ours, &mut floor])?;
        let times = |samples: &[Duration]| seconds(samples.iter().copied());
        bench.row("openstack/20/out", &times(&ours), &times(&floor), Target::None);
        Ok(())
    }

    /// A sync into an empty inventory, beside reading the same pages.
    fn sync(&self, bench: &mut Bench, hosts: usize, page: Option<u32>) -> Result {
        let directory = fixtures::directory()?;
        let broker = self.broker(directory.path(), None, "")?;
        let guards = block_on(broker.checkout_many(Self::request(1)))??;
        let server = guards.iter().next().map(|guard| self.tenant.main.server(guard.id())).ok_or("no server")?;
        let like = server["id"].as_str().ok_or("no id of the server")?;
        let ids: Vec<HostId> = (1..hosts).map(|_| HostId::generate()).collect();
        let seeded = seed(&self.tenant.lab, like, &ids);
        let more = page.map(|page| format!(", page_size: {page}")).unwrap_or_default();
        let mut ours = || {
            let directory = fixtures::directory()?;
            let broker = self.broker(directory.path(), None, &more)?;
            let (time, found) = timed(|| Ok(block_on(broker.sync("OpenStack", None, everyone()))??))?;
            let records = block_on(broker.inventory())??.records.len();
            if records != hosts {
                return Err(format!("{records} of {hosts} servers were found: {found:?}").into());
            }
            Ok(time)
        };
        let mut floor = || {
            let (time, count) = timed(|| Ok(self.read(page)))?;
            if count < hosts {
                return Err(format!("{count} of {hosts} servers were listed").into());
            }
            Ok(time)
        };
        let outcome = in_turn(bench.rounds(5), [&mut ours, &mut floor]);
        drop(seeded);
        block_on(guards.checkin())??;
        let [ours, floor] = outcome?;
        let times = |samples: &[Duration]| seconds(samples.iter().copied());
        bench.row(&format!("openstack/sync/{hosts}"), &times(&ours), &times(&floor), Target::None);
        Ok(())
    }

    /// Reads all pages, and returns how many servers they have.
    fn read(&self, page: Option<u32>) -> usize {
        let user = Script::log_in(self);
        let limit = page.map(|page| format!("limit={page}&")).unwrap_or_default();
        let (mut count, mut marker) = (0, String::new());
        loop {
            let path = format!("/servers/detail?{limit}{marker}");
            let listed = user.get_json(Service::Compute, path.trim_end_matches(['?', '&']));
            let servers = listed["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
            count += servers.len();
            match servers.last().filter(|_| listed["servers_links"].is_array()) {
                Some(last) => marker = format!("marker={}", last["id"].as_str().unwrap_or_default()),
                None => return count,
            }
        }
    }
}

/// A script that knows all ids: it logs in, makes a key pair and a server, and looks until that is active.
struct Script<'a> {
    bed: &'a Bed,
    key: String,
    user: std::cell::OnceCell<Clearance>,
    requests: std::cell::Cell<u32>,
}

impl<'a> Script<'a> {
    fn begin(bed: &'a Bed) -> Self {
        let key = format!("script-{:08x}", fastrand::u32(..));
        Self { bed, key, user: std::cell::OnceCell::new(), requests: std::cell::Cell::new(0) }
    }

    fn log_in(bed: &Bed) -> Clearance {
        bed.tenant.log_in(&bed.tenant.main)
    }

    /// A request, the first one after logging in.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let user = self.user.get_or_init(|| {
            self.requests.set(self.requests.get() + 1);
            Self::log_in(self.bed)
        });
        self.requests.set(self.requests.get() + 1);
        user.ask(method, Service::Compute, path, body)
    }

    fn out(&self) -> String {
        let key = json!({"keypair": {"name": self.key, "public_key": self.bed.tenant.lab.public_key()}});
        self.ask("POST", "/os-keypairs", Some(&key));
        let server = json!({"server": {
            "name": self.key, "imageRef": self.bed.image, "flavorRef": self.bed.flavor, "key_name": self.key,
            "networks": [{"uuid": self.bed.tenant.main.network()}],
        }});
        let made = self.ask("POST", "/servers", Some(&server));
        let id = made.body["server"]["id"].as_str().unwrap_or_default().to_owned();
        self.until(&id, |answer| answer.body["server"]["status"] == "ACTIVE");
        id
    }

    fn back(&self, id: &str) {
        self.ask("DELETE", &format!("/servers/{id}"), None);
        self.until(id, |answer| answer.status == 404);
        self.ask("DELETE", &format!("/os-keypairs/{}", self.key), None);
    }

    fn until(&self, id: &str, is_so: impl Fn(&Answer) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so(&self.ask("GET", &format!("/servers/{id}"), None)) {
            assert!(Instant::now() < end, "server `{id}` does not come or go");
            std::thread::sleep(PERIOD);
        }
    }
}
