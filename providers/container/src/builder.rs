//! Requests for containers, written in Rust: each method sets the argument of the same meaning.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use broker_core::session::RemotePath;
use broker_core::{ArgValue, Args, HostRequest};

use crate::Wait;
use crate::request::CONTAINER_HOST;

/// What a [`HostRequest`] can ask of a container engine.
///
/// ```
/// use broker_container::{ContainerRequest, Wait};
/// use broker_core::HostRequest;
///
/// let database = HostRequest::container("docker.io/library/postgres:17")
///     .env("POSTGRES_PASSWORD", "test")
///     .port(5432)
///     .wait_for(Wait::Command("pg_isready -h 127.0.0.1".to_owned()));
/// ```
pub trait ContainerRequest: Sized {
    /// A container of this image.
    fn container(image: impl Into<String>) -> Self;

    /// Publishes a TCP port, at a free port of 127.0.0.1: [`Host::port`](broker_core::Host::port) tells which.
    #[must_use]
    fn port(self, port: u16) -> Self;

    /// Publishes a port as the engines' own tools write it: `8080:80`, `0.0.0.0:5353:53/udp`.
    #[must_use]
    fn publish(self, port: impl Into<String>) -> Self;

    /// Sets a variable in the container's environment.
    #[must_use]
    fn env(self, name: impl Into<String>, value: impl Into<String>) -> Self;

    /// Mounts a directory of the engine's machine, or a named volume: `/srv/data:/data:ro`.
    #[must_use]
    fn volume(self, volume: impl Into<String>) -> Self;

    /// Runs these words instead of the image's command.
    #[must_use]
    fn command<W: Into<String>>(self, words: impl IntoIterator<Item = W>) -> Self;

    /// Runs these words instead of the image's entrypoint.
    #[must_use]
    fn entrypoint<W: Into<String>>(self, words: impl IntoIterator<Item = W>) -> Self;

    /// Names the container. Without it Broker makes a name up.
    #[must_use]
    fn named(self, name: impl Into<String>) -> Self;

    /// What the container calls itself.
    #[must_use]
    fn hostname(self, name: impl Into<String>) -> Self;

    /// Runs as this user.
    #[must_use]
    fn user(self, user: impl Into<String>) -> Self;

    /// Gives the container all rights on the engine's machine.
    #[must_use]
    fn privileged(self) -> Self;

    /// Adds a capability, such as `NET_ADMIN`.
    #[must_use]
    fn cap_add(self, capability: impl Into<String>) -> Self;

    /// Takes a capability away.
    #[must_use]
    fn cap_drop(self, capability: impl Into<String>) -> Self;

    /// Mounts a file system in memory: a path, with options behind a colon (`/run:size=16m`).
    #[must_use]
    fn tmpfs(self, path: impl Into<String>) -> Self;

    /// Sets the size of `/dev/shm`: `64m`.
    #[must_use]
    fn shm_size(self, size: impl Into<String>) -> Self;

    /// Asks for the image of a platform: `linux/arm64`.
    #[must_use]
    fn platform(self, platform: impl Into<String>) -> Self;

    /// When to pull the image.
    #[must_use]
    fn pull(self, policy: PullPolicy) -> Self;

    /// Hands the host over only when this is so. Several conditions must all be so.
    #[must_use]
    fn wait_for(self, condition: Wait) -> Self;

    /// Limits how long the conditions may take.
    #[must_use]
    fn wait_timeout(self, limit: Duration) -> Self;

    /// Puts a small file in before the container starts: contents go into the inventory with the request, and have 64 KiB in
    /// all at the most. [`file_from`](Self::file_from) takes files of any size.
    #[must_use]
    fn file(self, to: impl Into<String>, contents: impl AsRef<[u8]>) -> Self;

    /// Puts a file of this machine in before the container starts.
    #[must_use]
    fn file_from(self, to: impl Into<String>, from: impl AsRef<Path>) -> Self;

    /// Attaches the container to a network that exists.
    #[must_use]
    fn network(self, name: impl Into<String>) -> Self;

    /// Attaches the container to the network of a group, which is made with its first container and removed with its
    /// last. The containers of a group find one another by name.
    #[must_use]
    fn network_group(self, name: impl Into<String>) -> Self;
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the engine does not have it.
    Missing,
    /// Every time.
    Always,
    /// Never: an image that is not there is an error.
    Never,
}

impl ContainerRequest for HostRequest {
    fn container(image: impl Into<String>) -> Self {
        Self::action(CONTAINER_HOST, image.into())
    }

    fn port(self, port: u16) -> Self {
        push(self, "ports", port.to_string())
    }

    fn publish(self, port: impl Into<String>) -> Self {
        push(self, "ports", port.into())
    }

    fn env(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        set(self, "environment", name.into(), value.into().into())
    }

    fn volume(self, volume: impl Into<String>) -> Self {
        push(self, "volumes", volume.into())
    }

    fn command<W: Into<String>>(self, words: impl IntoIterator<Item = W>) -> Self {
        self.arg("command", words.into_iter().map(Into::into).collect::<Vec<String>>())
    }

    fn entrypoint<W: Into<String>>(self, words: impl IntoIterator<Item = W>) -> Self {
        self.arg("entrypoint", words.into_iter().map(Into::into).collect::<Vec<String>>())
    }

    fn named(self, name: impl Into<String>) -> Self {
        self.arg("name", name.into())
    }

    fn hostname(self, name: impl Into<String>) -> Self {
        self.arg("hostname", name.into())
    }

    fn user(self, user: impl Into<String>) -> Self {
        self.arg("user", user.into())
    }

    fn privileged(self) -> Self {
        self.arg("privileged", true)
    }

    fn cap_add(self, capability: impl Into<String>) -> Self {
        push(self, "cap_add", capability.into())
    }

    fn cap_drop(self, capability: impl Into<String>) -> Self {
        push(self, "cap_drop", capability.into())
    }

    fn tmpfs(self, path: impl Into<String>) -> Self {
        push(self, "tmpfs", path.into())
    }

    fn shm_size(self, size: impl Into<String>) -> Self {
        self.arg("shm_size", size.into())
    }

    fn platform(self, platform: impl Into<String>) -> Self {
        self.arg("platform", platform.into())
    }

    fn pull(self, policy: PullPolicy) -> Self {
        let word = match policy {
            PullPolicy::Missing => "missing",
            PullPolicy::Always => "always",
            PullPolicy::Never => "never",
        };
        self.arg("pull", word)
    }

    fn wait_for(self, condition: Wait) -> Self {
        push(self, "wait", condition.to_string())
    }

    fn wait_timeout(self, limit: Duration) -> Self {
        self.arg("wait_timeout", broker_core::duration::format(limit))
    }

    fn file(self, to: impl Into<String>, contents: impl AsRef<[u8]>) -> Self {
        let contents = contents.as_ref();
        let (kind, text) = match std::str::from_utf8(contents) {
            Ok(text) => ("content", text.to_owned()),
            Err(_) => ("base64", BASE64_STANDARD.encode(contents)),
        };
        set(self, "files", to.into(), Args::from([(kind.to_owned(), text.into())]).into())
    }

    fn file_from(self, to: impl Into<String>, from: impl AsRef<Path>) -> Self {
        let from = RemotePath::from(from.as_ref().as_os_str()).to_string();
        set(self, "files", to.into(), Args::from([("source".to_owned(), from.into())]).into())
    }

    fn network(self, name: impl Into<String>) -> Self {
        push(self, "network", name.into())
    }

    fn network_group(self, name: impl Into<String>) -> Self {
        self.arg("network_group", name.into())
    }
}

/// Adds an item to an argument that is a list.
fn push(mut request: HostRequest, name: &str, item: String) -> HostRequest {
    match request.args.get_mut(name) {
        Some(ArgValue::List(items)) => items.push(item.into()),
        _ => {
            request.args.insert(name.to_owned(), ArgValue::List(vec![item.into()]));
        }
    }
    request
}

/// Sets an entry of an argument that is a mapping.
fn set(mut request: HostRequest, name: &str, key: String, value: ArgValue) -> HostRequest {
    match request.args.get_mut(name) {
        Some(ArgValue::Map(map)) => {
            map.insert(key, value);
        }
        _ => {
            request.args.insert(name.to_owned(), Args::from([(key, value)]).into());
        }
    }
    request
}
