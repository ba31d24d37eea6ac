//! What we read of the engine's answers.
//!
//! The client library's own types fail as a whole on one word that they do not know, and engines do use such words:
//! Podman 4 calls an ended container `stopped`. So these hold only what is needed, as text, with a default for everything.

use std::collections::HashMap;

use bollard::errors::Error as ApiError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// An answer in our own type: by way of the library's type where that did, else out of the raw text.
pub(crate) fn tolerant<L: Serialize, T: DeserializeOwned>(answer: Result<L, ApiError>) -> Result<T, ApiError> {
    match answer {
        Ok(known) => Ok(serde_json::from_value(serde_json::to_value(known)?)?),
        Err(ApiError::JsonDataError { message, contents, column }) => {
            tracing::debug!(%message, "the client library does not understand an answer; reading it loosely.");
            serde_json::from_str(&contents).map_err(|_| ApiError::JsonDataError {
                message,
                contents: String::new(),
                column,
            })
        }
        Err(error) => Err(error),
    }
}

/// Takes `null` for the default, as Go programs write it for empty lists and maps.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

macro_rules! answer {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty = $key:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize)]
        pub(crate) struct $name {
            $(#[serde(default, rename = $key, deserialize_with = "or_default")]
            pub(crate) $field: $kind,)*
        }
    };
}

answer! {
    /// `GET /info`.
    Info { id: String = "ID", name: String = "Name", root: String = "DockerRootDir", time: String = "SystemTime", }
}

answer! {
    /// `GET /version`.
    Version { components: Vec<Component> = "Components", version: String = "Version", }
}

answer! { Component { name: String = "Name", } }

answer! {
    /// `GET /containers/ID/json`.
    Container {
        id: String = "Id",
        name: String = "Name",
        created: String = "Created",
        state: State = "State",
        config: Config = "Config",
        host_config: HostConfig = "HostConfig",
        mounts: Vec<Mount> = "Mounts",
        network: NetworkSettings = "NetworkSettings",
    }
}

answer! {
    State {
        status: String = "Status",
        running: bool = "Running",
        exit_code: i64 = "ExitCode",
        error: String = "Error",
        out_of_memory: bool = "OOMKilled",
        health: Option<Health> = "Health",
    }
}

answer! { Health { status: String = "Status", } }

answer! {
    Config {
        hostname: String = "Hostname",
        user: String = "User",
        directory: String = "WorkingDir",
        image: String = "Image",
        labels: HashMap<String, String> = "Labels",
        healthcheck: Option<Healthcheck> = "Healthcheck",
    }
}

answer! {
    /// Times are in nanoseconds; zero is the default.
    Healthcheck {
        test: Vec<String> = "Test",
        interval: u64 = "Interval",
        timeout: u64 = "Timeout",
        start_period: u64 = "StartPeriod",
        retries: u32 = "Retries",
    }
}

answer! { HostConfig { tmpfs: HashMap<String, String> = "Tmpfs", } }

answer! { Mount { kind: String = "Type", destination: String = "Destination", } }

answer! {
    NetworkSettings {
        ip: String = "IPAddress",
        ports: HashMap<String, Option<Vec<Binding>>> = "Ports",
        networks: HashMap<String, Attachment> = "Networks",
    }
}

answer! { Attachment { ip: String = "IPAddress", } }

answer! { Binding { ip: String = "HostIp", port: String = "HostPort", } }

answer! {
    /// An item of `GET /containers/json`.
    Summary {
        id: String = "Id",
        names: Vec<String> = "Names",
        labels: HashMap<String, String> = "Labels",
    }
}

answer! {
    /// `GET /images/NAME/json`.
    Image {
        id: String = "Id",
        tags: Vec<String> = "RepoTags",
        created: String = "Created",
        size: i64 = "Size",
        architecture: String = "Architecture",
        variant: String = "Variant",
        os: String = "Os",
        config: ImageConfig = "Config",
    }
}

answer! {
    ImageConfig {
        user: String = "User",
        directory: String = "WorkingDir",
        command: Vec<String> = "Cmd",
        entrypoint: Vec<String> = "Entrypoint",
        exposed: ExposedPorts = "ExposedPorts",
        labels: HashMap<String, String> = "Labels",
    }
}

/// The ports that an image exposes, such as `22/tcp`: on the wire a map to nothing, in the library's type a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExposedPorts(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for ExposedPorts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut ports: Vec<String> = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Object(map) => map.into_iter().map(|(port, _)| port).collect(),
            serde_json::Value::Array(items) => {
                items.into_iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        };
        ports.sort();
        Ok(Self(ports))
    }
}

answer! {
    /// An item of `GET /images/json`.
    ImageSummary {
        id: String = "Id",
        tags: Vec<String> = "RepoTags",
        size: i64 = "Size",
    }
}

impl Container {
    /// The name without the slash that the API puts before it.
    pub(crate) fn bare_name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    /// The container's address in its networks: the first it has.
    pub(crate) fn ip(&self) -> Option<String> {
        self.network.first_ip()
    }
}

impl NetworkSettings {
    pub(crate) fn first_ip(&self) -> Option<String> {
        let mut networks: Vec<_> = self.networks.iter().collect();
        networks.sort_by_key(|(name, _)| name.as_str());
        std::iter::once(&self.ip)
            .chain(networks.into_iter().map(|(_, attachment)| &attachment.ip))
            .find(|ip| !ip.is_empty())
            .cloned()
    }
}

impl Summary {
    /// The container's own name, without the slash; Docker also lists the names that links gave it.
    pub(crate) fn name(&self) -> &str {
        self.names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/')).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerInspectResponse;

    use super::*;

    #[test]
    fn words_that_the_library_does_not_know_are_read_all_the_same() {
        let text = r#"{"Id":"ab","Name":"/x","State":{"Status":"stopped","Running":false,"ExitCode":3},
            "Config":{"Labels":null,"Hostname":"h"},"Mounts":null,"NetworkSettings":{"Ports":{"22/tcp":null}}}"#;
        let theirs = serde_json::from_str::<ContainerInspectResponse>(text);
        assert!(theirs.is_err(), "the library has learned the word, so that the detour may go");
        let error = ApiError::JsonDataError { message: String::new(), contents: text.to_owned(), column: 1 };
        let container: Container = tolerant(Err::<ContainerInspectResponse, _>(error)).unwrap();
        assert_eq!((container.state.status.as_str(), container.state.exit_code), ("stopped", 3));
        assert_eq!(container.bare_name(), "x");
    }

    #[test]
    fn exposed_ports_are_read_from_both_shapes() {
        for text in [r#"{"22/tcp":{},"80/tcp":{}}"#, r#"["80/tcp","22/tcp"]"#] {
            assert_eq!(serde_json::from_str::<ExposedPorts>(text).unwrap().0, ["22/tcp", "80/tcp"]);
        }
        assert!(serde_json::from_str::<ImageConfig>(r#"{"ExposedPorts":null}"#).unwrap().exposed.0.is_empty());
    }
}
