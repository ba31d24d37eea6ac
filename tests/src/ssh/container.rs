//! Containers with an SSH server, made without Broker.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::engines::{Engine, image};
use crate::wait;

/// The label of every such container.
const LABEL: &str = "broker-ssh-lab";

/// After this a container ends by itself, should nobody have ended it.
const LIFE: &str = "900";

/// A container whose port 22 is published on loopback. Dropping it removes it.
#[derive(Debug)]
pub struct ContainerHost {
    engine: Engine,
    id: String,
    port: u16,
}

impl ContainerHost {
    /// Starts an image with the command that it has; `prepare` is a script for its shell that runs before.
    ///
    /// # Panics
    ///
    /// If the SSH server in it does not answer.
    pub fn start(engine: &Engine, image_name: &str, prepare: &str, more: &Value) -> Self {
        let script = format!("{prepare}\nexec timeout -s KILL {LIFE} \"$@\"");
        let command = ["sh", "-ec", &script, "lab"].into_iter().chain(START).collect::<Vec<_>>();
        let mut host_config = json!({
            "AutoRemove": true,
            "PortBindings": {"22/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            host_config[name] = value.clone();
        }
        let body = json!({
            "Image": image(image_name),
            "Labels": {LABEL: "yes"},
            "Entrypoint": command,
            "Cmd": [],
            "ExposedPorts": {"22/tcp": {}},
            "HostConfig": host_config,
        });
        let id = engine.run(&body);
        let mut container = Self { engine: engine.clone(), id, port: 0 };
        container.wait();
        container
    }

    fn wait(&mut self) {
        wait::until("the container's SSH server", || {
            self.port = self.published();
            self.greets()
        });
    }

    /// Whether it runs.
    ///
    /// # Panics
    ///
    /// If the engine does not know it: where `AutoRemove` was left on, one that has ended is gone.
    pub fn is_running(&self) -> bool {
        self.engine.inspect(&self.id)["State"]["Running"] == true
    }

    /// Starts it again after it has ended, with its files as they were; [`address`](Self::address) may be another one.
    ///
    /// # Panics
    ///
    /// If the SSH server in it does not answer.
    pub fn start_again(&mut self) {
        self.engine.start(&self.id);
        self.wait();
    }

    fn published(&self) -> u16 {
        let seen = self.engine.inspect(&self.id);
        let port = &seen["NetworkSettings"]["Ports"]["22/tcp"][0]["HostPort"];
        port.as_str().and_then(|port| port.parse().ok()).unwrap_or(0)
    }

    fn greets(&self) -> bool {
        let greeted = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&self.address(), Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting)?;
            Ok(&greeting == b"SSH-")
        };
        greeted().unwrap_or(false)
    }

    /// Where its SSH server is reached.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The engine's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Removes it at once. That it is gone is no error.
    ///
    /// # Panics
    ///
    /// If the engine cannot remove it.
    pub fn remove(&self) {
        self.engine.remove(&self.id);
    }
}

impl Drop for ContainerHost {
    fn drop(&mut self) {
        self.remove();
    }
}

/// What both images have for a command.
const START: [&str; 1] = ["/usr/local/bin/start"];
