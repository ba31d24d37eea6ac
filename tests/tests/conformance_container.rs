//! The suites, on Docker and on Podman, as equals.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "all of this runs inside of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::Arc;

use broker::prelude::*;
use broker_core::HostId;
use broker_core::provider::{ErrorKind, ProviderFactory, Scope};
use broker_core::settings::Settings;
use broker_tests::conformance::provider::{Abilities, At, Cut, Failure, Obstacle, ProviderSubject, Weather};
use broker_tests::conformance::session::{SessionSubject, Traits};
use broker_tests::conformance::{Place, Subject};
use broker_tests::engines::{Container, Engine, image};
use broker_tests::proxy::{Proxy, Way};

/// The label that tells the containers of one case from all others.
const CASE: &str = "broker-case";

/// One engine, which the provider reaches through a socket that can be spoilt. The other engine of the machine is the
/// other instance, and what answers at the socket when another place is to answer.
struct Containers {
    place: Place,
    image: &'static str,
    engine: Engine,
    other: Engine,
    /// Only in the process that began the case.
    wires: Option<[Proxy; 2]>,
    /// Has a port for as long as this is there.
    taken: Option<TcpListener>,
}

impl Containers {
    fn new(place: &Place, engine: &str, image: &'static str) -> Self {
        let [engine, other] = [Engine::named(engine), Engine::named(engine).and_then(|engine| engine.other())]
            .map(|engine| engine.expect("the suite needs Docker and Podman: to each, the other one is another place"));
        let wires = (!place.is_child()).then(|| {
            [("main", &engine), ("other", &other)]
                .map(|(name, engine)| Proxy::start(&place.join(&format!("{name}.sock")), &engine.socket))
        });
        let taken = (!place.is_child()).then(|| TcpListener::bind("127.0.0.1:0").unwrap());
        Self { place: place.clone(), image, engine, other, wires, taken }
    }

    fn engine(&self, at: At) -> &Engine {
        match at {
            At::Main | At::Alias => &self.engine,
            At::Other => &self.other,
        }
    }

    fn containers(&self, at: At) -> Vec<Container> {
        self.engine(at).with_label(CASE, &self.place.word())
    }

    fn container(&self, at: At, id: HostId) -> Container {
        let id = id.to_string();
        self.containers(at).into_iter().find(|container| container.labels["broker.id"] == id).unwrap()
    }

    fn of(image_name: &str) -> HostRequest {
        HostRequest::action("container_host", image(image_name))
    }

    fn main_wire(&self) -> &Proxy {
        &self.wires.as_ref().expect("the weather is made by the process that began the case")[0]
    }

    fn other_wire(&self) -> &Proxy {
        &self.wires.as_ref().expect("the weather is made by the process that began the case")[1]
    }
}

/// The subjects differ in their engine and image alone, and those have to be types for the macros.
macro_rules! subject {
    ($name:ident, $engine:literal, $image:literal) => {
        struct $name(Containers);

        impl Subject for $name {
            fn open(place: &Place) -> Self {
                Self(Containers::new(place, $engine, $image))
            }

            fn clean(&self) {
                self.0.clean();
            }
        }

        impl std::ops::Deref for $name {
            type Target = Containers;

            fn deref(&self) -> &Containers {
                &self.0
            }
        }
    };
}

subject!(Docker, "docker", "tiny");
subject!(Podman, "podman", "tiny");
// Another shell and other programs.
subject!(DockerDebian, "docker", "debian");

impl Containers {
    fn clean(&self) {
        for at in [At::Main, At::Other] {
            for container in self.containers(at) {
                self.engine(at).remove(&container.id);
            }
        }
    }

    fn settings(&self) -> String {
        let socket = |name: &str| self.place.join(&format!("{name}.sock"));
        format!(
            "stop_grace: 3s\nContainer:\n  provider_labels: {{{CASE}: {}}}\n  timeout: 20\n  instances:\n    main: \
             {{host: {:?}, default: true}}\n    alias: {{host: {:?}}}\n    other: {{host: {:?}}}\n",
            self.place.word(),
            socket("main"),
            self.engine.socket,
            socket("other"),
        )
    }

    fn request(&self) -> HostRequest {
        Self::of(self.image)
    }

    fn failures(&self) -> Vec<Failure> {
        let failure =
            |name, request, kinds, says: &str| Failure { name, request, kinds, says: says.to_owned(), stays: false };
        let port = self.taken.as_ref().map_or(0, |taken| taken.local_addr().unwrap().port());
        let name = format!("{}-taken", self.place.word());
        self.engine.create(&name, &image("tiny"), (CASE, &self.place.word()));
        vec![
            failure(
                "unknown image",
                HostRequest::action("container_host", "localhost/broker-no-such-image:x").arg("pull", "never"),
                &[ErrorKind::NotFound],
                "broker-no-such-image",
            ),
            failure(
                "an image that ends before it is ready",
                Self::of("exits").arg("wait", "log:never"),
                &[ErrorKind::Failed],
                "no configuration found",
            ),
            failure("unknown argument", self.request().arg("prots", "80"), &[ErrorKind::BadRequest], "prots"),
            failure(
                "port in use",
                self.request().arg("ports", format!("127.0.0.1:{port}:80")),
                &[ErrorKind::Conflict],
                &port.to_string(),
            ),
            failure("name in use", self.request().arg("name", name.as_str()), &[ErrorKind::Conflict], &name),
            failure(
                "no such command",
                self.request().arg("command", "/no/such/program"),
                &[ErrorKind::BadRequest, ErrorKind::NotFound, ErrorKind::Failed],
                "/no/such/program",
            ),
            failure(
                "never ready",
                self.request().arg("wait", "command:false").arg("wait_timeout", "1s"),
                &[ErrorKind::Timeout],
                "1s",
            ),
        ]
    }

    /// All of them want the same port.
    fn mixed(&self) -> HostRequest {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        self.request().arg("ports", format!("{free}:80")).count(3)
    }

    fn hosts(&self, at: At) -> BTreeSet<HostId> {
        let ids =
            self.containers(at).into_iter().filter_map(|container| container.labels.get("broker.id")?.parse().ok());
        ids.collect()
    }

    fn cut(&self, cut: Cut) {
        let to = self.engine.socket.clone();
        self.main_wire().lead(match cut {
            Cut::After(request) => Way::CutAfter(request, to),
            Cut::Before(request) => Way::CutBefore(request, to),
            Cut::Late(request) => Way::Late(request, to),
            Cut::ForGoodAfter(request) => Way::GoneAfter(request, to),
        });
    }

    fn weather(&self, weather: Weather) {
        match weather {
            Weather::Fair => self.main_wire().lead(Way::To(self.engine.socket.clone())),
            Weather::Unreachable => self.main_wire().take_away(),
            Weather::Elsewhere => self.main_wire().lead(Way::To(self.other.socket.clone())),
        }
    }

    fn host(&self) -> HostGuard {
        let settings = Settings::builder().yaml(self.settings()).known_providers(["Container"]).build().unwrap();
        let broker = Broker::bare().provider(broker_container::factory()).settings(settings.settings);
        let broker = broker.directory(self.place.join("broker")).build().unwrap();
        broker_core::block_on(broker.checkout(self.request())).unwrap().unwrap()
    }
}

/// Implements the suites' traits by the methods of [`Containers`].
macro_rules! provider_subject {
    ($name:ident) => {
        impl ProviderSubject for $name {
            fn factory(&self) -> Arc<dyn ProviderFactory> {
                broker_container::factory()
            }

            fn settings(&self) -> String {
                self.0.settings()
            }

            fn request(&self) -> HostRequest {
                self.0.request()
            }

            fn slow(&self) -> HostRequest {
                let line = "sh -c 'sleep 1.2; touch /tmp/up; exec /usr/bin/start'";
                self.request().arg("command", line).arg("wait", "command:test -e /tmp/up")
            }

            fn stuck(&self) -> HostRequest {
                self.request().arg("wait", "command:false").arg("wait_timeout", "1h")
            }

            fn failures(&self) -> Vec<Failure> {
                self.0.failures()
            }

            fn mixed(&self) -> HostRequest {
                self.0.mixed()
            }

            fn stubborn(&self, _how: Obstacle) -> HostRequest {
                self.request().instance(At::Other.name())
            }

            fn obstruct(&self, how: Obstacle) {
                match how {
                    Obstacle::Fails => self.other_wire().take_away(),
                    Obstacle::Hangs => self.other_wire().lead(Way::Hanging),
                }
            }

            fn mend(&self) {
                self.other_wire().lead(Way::To(self.other.socket.clone()));
            }

            fn weather(&self, weather: Weather) {
                self.0.weather(weather);
            }

            fn cut(&self, cut: Cut) {
                self.0.cut(cut);
            }

            fn has_yet_to_cut(&self) -> bool {
                self.main_wire().has_yet_to_cut()
            }

            fn hosts(&self, at: At) -> BTreeSet<HostId> {
                self.0.hosts(at)
            }

            fn labels(&self, at: At, id: HostId) -> BTreeMap<String, String> {
                self.container(at, id).labels
            }

            fn remove(&self, at: At, id: HostId) {
                self.engine(at).remove(&self.container(at, id).id);
            }

            fn scope(&self) -> Scope {
                Scope { argument: Some(format!("{CASE}={}", self.place.word())), ..Scope::default() }
            }

            fn abilities(&self) -> Abilities {
                let app = HostRequest::action("container_app", image("tiny")).arg("command", "echo magic");
                Abilities { extend: true, execute: Some((app, "magic")), log: Some("echo hello > /proc/1/fd/1") }
            }
        }
    };
}

macro_rules! session_subject {
    ($name:ident) => {
        impl SessionSubject for $name {
            fn host(&self) -> HostGuard {
                self.0.host()
            }

            fn directory(&self, host: &Host) -> String {
                let made = broker_core::block_on(host.execute("mkdir -p /work/case")).unwrap();
                made.unwrap().check().unwrap();
                "/work/case".to_owned()
            }

            fn end(&self, host: &Host) {
                self.engine(At::Main).remove(&self.container(At::Main, host.id()).id);
            }

            fn traits(&self) -> Traits {
                let unread_input_is_harmless = self.engine.name == "docker";
                Traits { user: Some("65534"), read_only: "/sys", unread_input_is_harmless, holds_back: true }
            }
        }
    };
}

provider_subject!(Docker);
provider_subject!(Podman);
session_subject!(Docker);
session_subject!(Podman);
session_subject!(DockerDebian);

mod docker {
    use super::Docker;

    broker_tests::provider_conformance!(Docker);
    broker_tests::core_conformance!(Docker);
    broker_tests::provider_conformance_over_the_wire!(Docker);
}

mod podman {
    use super::Podman;

    broker_tests::provider_conformance!(Podman);
    broker_tests::core_conformance!(Podman);
    broker_tests::provider_conformance_over_the_wire!(Podman);
}

mod session_docker {
    use super::Docker;

    broker_tests::session_conformance!(Docker);
}

mod session_podman {
    use super::Podman;

    broker_tests::session_conformance!(Podman);
}

mod session_docker_debian {
    use super::DockerDebian;

    // What depends on the shell and the programs of the host.
    broker_tests::session_conformance! { DockerDebian =>
        commands::outputs_are_apart_and_exact,
        commands::one_word_is_a_line_and_several_are_words,
        commands::words_survive_as_they_are,
        commands::environment_and_directory_are_set,
        commands::another_user_runs_it_or_it_is_said_that_none_can,
        commands::what_cannot_be_run_is_an_error_that_names_it,
        ends::a_deadline_ends_the_command_and_its_children,
        ends::signals_arrive,
        pty::a_terminal_is_given_on_request,
        pty::a_terminal_has_a_size_that_changes,
        pty::keys_reach_the_command,
        pty::a_terminal_carries_much,
        files::modes_and_times_are_kept,
        trees::a_tree_goes_and_comes_back,
        trees::names_that_are_no_text_survive,
    }
}
