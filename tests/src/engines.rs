//! The container engines of this machine, asked over their own API and without any code of Broker's provider.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

/// Lists engines to do without, with commas between: `BROKER_TESTS_WITHOUT=podman`.
pub const WITHOUT_VARIABLE: &str = "BROKER_TESTS_WITHOUT";

/// How long an engine may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// A container engine that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// `docker` or `podman`.
    pub name: &'static str,
    /// Its socket.
    pub socket: PathBuf,
}

/// A container, as its engine tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `running`, `exited` and so on.
    pub state: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// The full name of a test image: `tiny`, `debian`, `exits`, `health` or `ports`.
pub fn image(name: &str) -> String {
    format!("localhost/broker-testhost:{name}")
}

impl Engine {
    /// Docker's engine; nothing where [`WITHOUT_VARIABLE`] says so.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub fn docker() -> Option<Self> {
        Self::find("docker", docker_sockets())
    }

    /// Podman's engine; nothing where [`WITHOUT_VARIABLE`] says so.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub fn podman() -> Option<Self> {
        Self::find("podman", podman_sockets())
    }

    /// The engine of a name, if the tests are to use it.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub fn named(name: &str) -> Option<Self> {
        if name == "docker" { Self::docker() } else { Self::podman() }
    }

    /// All engines that the tests are to use.
    ///
    /// # Panics
    ///
    /// If one of them does not answer.
    pub fn all() -> Vec<Self> {
        Self::docker().into_iter().chain(Self::podman()).collect()
    }

    /// The engines that answer, without a word about those that do not: for tidying up.
    pub fn answering() -> Vec<Self> {
        let look = |(name, sockets): (_, Vec<PathBuf>)| {
            let answers = |socket: &PathBuf| matches!(ask(socket, "GET", "/_ping"), Ok((200, _)));
            sockets.into_iter().find(answers).map(|socket| Self { name, socket })
        };
        [("docker", docker_sockets()), ("podman", podman_sockets())].into_iter().filter_map(look).collect()
    }

    fn find(name: &'static str, sockets: Vec<PathBuf>) -> Option<Self> {
        let without = std::env::var(WITHOUT_VARIABLE).unwrap_or_default();
        if without.split(',').any(|given| given.trim() == name) {
            return None;
        }
        let mut tried = String::new();
        for socket in sockets {
            match ask(&socket, "GET", "/_ping") {
                Ok((200, _)) => return Some(Self { name, socket }),
                Ok((status, _)) => writeln!(tried, "  `{}`: status {status}", socket.display()).unwrap(),
                Err(error) => writeln!(tried, "  `{}`: {error}", socket.display()).unwrap(),
            }
        }
        panic!(
            "{name} does not answer:\n{tried}`cargo xtask test` starts it; {WITHOUT_VARIABLE}={name} does without it"
        );
    }

    /// The other engine of this machine.
    pub fn other(&self) -> Option<Self> {
        if self.name == "docker" { Self::podman() } else { Self::docker() }
    }

    /// All containers that carry a label with this value, whatever their state.
    ///
    /// # Panics
    ///
    /// If the engine does not answer as expected.
    pub fn with_label(&self, name: &str, value: &str) -> Vec<Container> {
        self.listed(&json!({"label": [format!("{name}={value}")]}))
    }

    /// All containers that carry a label, whatever its value and their state.
    ///
    /// # Panics
    ///
    /// If the engine does not answer as expected.
    pub fn with_any(&self, label: &str) -> Vec<Container> {
        self.listed(&json!({"label": [label]}))
    }

    fn listed(&self, filters: &Value) -> Vec<Container> {
        let path = format!("/v1.41/containers/json?all=1&filters={}", encoded(&filters.to_string()));
        let (status, body) = ask(&self.socket, "GET", &path).unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let containers: Vec<Value> = serde_json::from_slice(&body).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let container = |container: &Value| Container {
            id: text(&container["Id"]),
            name: text(&container["Names"][0]).trim_start_matches('/').to_owned(),
            state: text(&container["State"]),
            labels: container["Labels"]
                .as_object()
                .map(|labels| labels.iter().map(|(name, value)| (name.clone(), text(value))).collect())
                .unwrap_or_default(),
        };
        containers.iter().map(container).collect()
    }

    /// Creates a container that is not started, with one label.
    ///
    /// # Panics
    ///
    /// If the engine cannot, other than because it is there.
    pub fn create(&self, name: &str, image: &str, label: (&str, &str)) {
        let (key, value) = label;
        let body = json!({"Image": image, "Labels": {key: value}});
        let (status, body) =
            send(&self.socket, "POST", &format!("/v1.41/containers/create?name={name}"), &body.to_string()).unwrap();
        assert!(matches!(status, 201 | 409), "{status}: {}", String::from_utf8_lossy(&body));
    }

    /// Creates a container of what its API takes for one, starts it, and returns its id.
    ///
    /// # Panics
    ///
    /// If the engine cannot.
    pub fn run(&self, container: &Value) -> String {
        let (status, body) = send(&self.socket, "POST", "/v1.41/containers/create", &container.to_string()).unwrap();
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        let made: Value = serde_json::from_slice(&body).unwrap();
        let id = made["Id"].as_str().unwrap().to_owned();
        if let Err(why) = self.begin(&id) {
            self.remove(&id);
            panic!("{why}");
        }
        id
    }

    /// Starts a container that has ended.
    ///
    /// # Panics
    ///
    /// If the engine cannot.
    pub fn start(&self, id: &str) {
        self.begin(id).unwrap_or_else(|why| panic!("{why}"));
    }

    fn begin(&self, id: &str) -> Result<(), String> {
        let (status, body) = ask(&self.socket, "POST", &format!("/v1.41/containers/{id}/start")).unwrap();
        // 304: it runs.
        if matches!(status, 204 | 304) {
            return Ok(());
        }
        Err(format!("{status}: {}", String::from_utf8_lossy(&body)))
    }

    /// What the engine knows of a container.
    ///
    /// # Panics
    ///
    /// If it has none of that id.
    pub fn inspect(&self, id: &str) -> Value {
        let (status, body) = ask(&self.socket, "GET", &format!("/v1.41/containers/{id}/json")).unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// Removes a container at once. That it is gone is no error.
    ///
    /// # Panics
    ///
    /// If the engine cannot remove it.
    pub fn remove(&self, id: &str) {
        let (status, body) = ask(&self.socket, "DELETE", &format!("/v1.41/containers/{id}?force=1&v=1")).unwrap();
        // 409: somebody else is removing it.
        assert!(matches!(status, 204 | 200 | 404 | 409), "{status}: {}", String::from_utf8_lossy(&body));
    }
}

fn docker_sockets() -> Vec<PathBuf> {
    vec!["/var/run/docker.sock".into(), "/run/docker.sock".into()]
}

fn podman_sockets() -> Vec<PathBuf> {
    let rootless = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("podman/podman.sock"));
    rootless.into_iter().chain(["/run/podman/podman.sock".into()]).collect()
}

/// One request with its answer: the status and the body.
fn ask(socket: &Path, method: &str, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
    send(socket, method, path, "")
}

fn send(socket: &Path, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER))?;
    // Version 1.0, so that the body ends with the connection and is in one piece.
    let length = body.len();
    let about = format!("Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    write!(stream, "{method} {path} HTTP/1.0\r\n{about}\r\n{body}")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let strange = || std::io::Error::other("the answer is no HTTP");
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(strange)?;
    let body = answer.split_off(head + 4);
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(strange)?, body))
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
    }
    encoded
}
