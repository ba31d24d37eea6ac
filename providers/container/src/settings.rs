//! The provider's section of the settings.

use std::time::Duration;

use broker_core::provider::{ErrorKind, ProviderError};
use broker_core::settings::ProviderSettings;

/// A kind of engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Docker,
    Podman,
}

/// What the settings say, with the defaults in place.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Which kind of engine is preferred.
    pub(crate) runtime: Option<Runtime>,
    /// The engine's host name, URI or socket.
    pub(crate) host: Option<String>,
    /// The port that goes with a bare host name.
    pub(crate) host_port: Option<u16>,
    /// How long one answer of the engine may take.
    pub(crate) timeout: Duration,
    /// Networks that every host joins.
    pub(crate) networks: Vec<String>,
    /// Whether every port that the image exposes is published.
    pub(crate) auto_map_ports: bool,
    /// What names begin with; the owner's user name where it is not set.
    pub(crate) name_prefix: Option<String>,
    /// How many rows a query gives at the most.
    pub(crate) results_limit: Option<usize>,
    /// Labels for everything that is made.
    pub(crate) labels: std::collections::BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            runtime: None,
            host: None,
            host_port: None,
            timeout: Duration::from_secs(120),
            networks: Vec::new(),
            auto_map_ports: true,
            name_prefix: None,
            results_limit: None,
            labels: std::collections::BTreeMap::new(),
        }
    }
}

impl Settings {
    pub(crate) fn read(settings: &ProviderSettings) -> Result<Self, ProviderError> {
        let defaults = Self::default();
        let text = |key| Ok::<_, ProviderError>(settings.text(key)?.filter(|text| !text.is_empty()));
        let runtime = match text("runtime")? {
            None => None,
            Some(name) if name.eq_ignore_ascii_case("docker") => Some(Runtime::Docker),
            Some(name) if name.eq_ignore_ascii_case("podman") => Some(Runtime::Podman),
            Some(other) => {
                let message = format!("setting `Container.runtime` is `{other}`, and must be `docker` or `podman`");
                return Err(ProviderError::new(ErrorKind::Settings, message));
            }
        };
        let timeout = settings.duration("timeout")?.filter(|limit| !limit.is_zero()).unwrap_or(defaults.timeout);
        Ok(Self {
            runtime,
            host: text("host")?.map(str::to_owned),
            host_port: settings.number("host_port")?,
            // The client library counts whole seconds.
            timeout: timeout.max(Duration::from_secs(1)),
            networks: settings.list("network")?,
            auto_map_ports: settings.boolean("auto_map_ports")?.unwrap_or(defaults.auto_map_ports),
            name_prefix: text("name_prefix")?.map(str::to_owned),
            results_limit: settings.number("results_limit")?,
            labels: settings.labels.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use broker_core::{ArgValue, Args};

    use super::*;

    fn read(values: &[(&str, &str)]) -> Result<Settings, ProviderError> {
        let values: Args =
            values.iter().map(|(key, value)| ((*key).to_owned(), ArgValue::Plain((*value).to_owned()))).collect();
        Settings::read(&ProviderSettings { provider: "Container".into(), values, ..ProviderSettings::default() })
    }

    #[test]
    fn the_python_tools_section_is_read() {
        let settings = read(&[
            ("runtime", "docker"),
            ("host", "localhost"),
            ("host_username", "root"),
            ("host_password", "toor"),
            ("host_port", "2375"),
            ("network", "a, b"),
            ("timeout", "30"),
            ("auto_map_ports", "False"),
            ("name_prefix", "ci"),
            ("results_limit", "50"),
        ])
        .unwrap();
        assert_eq!(settings.runtime, Some(Runtime::Docker));
        assert_eq!(settings.networks, ["a", "b"]);
        assert_eq!(settings.timeout, Duration::from_secs(30));
        assert!(!settings.auto_map_ports);
        assert_eq!(settings.results_limit, Some(50));
    }

    #[test]
    fn what_does_not_do_names_the_setting() {
        for (key, value) in
            [("runtime", "lxc"), ("host_port", "70000"), ("timeout", "soon"), ("auto_map_ports", "maybe")]
        {
            let error = read(&[(key, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(error.to_string().contains(&format!("`Container.{key}` is `{value}`")), "{error}");
        }
    }
}
