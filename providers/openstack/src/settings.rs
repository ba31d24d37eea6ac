//! The provider's section of the settings.

use std::collections::BTreeMap;
use std::time::Duration;

use broker_core::provider::{ErrorKind, ProviderError};
use broker_core::settings::ProviderSettings;
use broker_core::{ArgValue, Args};

use crate::cloud::Cloud;
use crate::cloud::files::Surroundings;
use crate::request::{Family, is_argument};

/// What the settings say, with the defaults in place.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) cloud: Cloud,
    /// How long a server may take to become active, or to go.
    pub(crate) server_timeout: Duration,
    /// How long an active server may take to answer on its SSH port.
    pub(crate) ssh_timeout: Duration,
    /// How long the command that says whether a host is ready may take to succeed.
    pub(crate) ready_timeout: Duration,
    /// How long the cloud may be silent while a server is waited for.
    pub(crate) outage_timeout: Duration,
    /// How long one answer of the cloud may take.
    pub(crate) timeout: Duration,
    /// Arguments of every host that does not say otherwise.
    pub(crate) defaults: Args,
    /// Sets of arguments by name.
    pub(crate) templates: BTreeMap<String, Args>,
    /// What names begin with; the owner's user name where it is not set.
    pub(crate) name_prefix: Option<String>,
    /// How many servers are asked for in one page; the cloud decides where it is not set.
    pub(crate) page_size: Option<u32>,
    /// How many rows a query gives at the most.
    pub(crate) results_limit: Option<usize>,
    /// Labels for everything that is made.
    pub(crate) labels: BTreeMap<String, String>,
    /// The family of addresses of hosts that do not say otherwise.
    pub(crate) family: Family,
    /// The port of the servers' SSH server.
    pub(crate) ssh_port: Option<u16>,
    /// Whether servers are reached through another host, so that nothing can be told from here.
    pub(crate) through_another: bool,
}

/// Settings whose names are those of the Python tool, and the arguments that they are the defaults of.
const DEFAULTS: &[(&str, &str)] = &[
    ("default_image", "ostack_image"),
    ("default_flavor", "ostack_flavor"),
    ("default_network", "ostack_network"),
    ("default_key_name", "ostack_key_name"),
    ("default_user", "ostack_user"),
    ("default_security_groups", "ostack_security_groups"),
    ("default_availability_zone", "ostack_availability_zone"),
    ("floating_network", "ostack_floating_network"),
    ("ip_version", "ostack_ip_version"),
    ("ready_command", "ostack_ready_command"),
];

impl Settings {
    pub(crate) fn read(settings: &ProviderSettings, around: &Surroundings) -> Result<Self, ProviderError> {
        let span = |key: &str, default: u64| {
            let span = settings.duration(key)?.filter(|span| !span.is_zero());
            Ok::<_, ProviderError>(span.unwrap_or(Duration::from_secs(default)))
        };
        let mut defaults = Args::new();
        for (key, argument) in DEFAULTS {
            if let Some(value) =
                settings.values.get(*key).filter(|value| !value.is_null() && value.as_str() != Some(""))
            {
                defaults.insert((*argument).to_owned(), value.clone());
            }
        }
        let ssh = settings.ssh()?;
        let family = match settings.text("ip_version")?.unwrap_or_default() {
            "" | "4" => Family::V4,
            "6" => Family::V6,
            _ => return Err(settings.error("ip_version", "`4` or `6`").into()),
        };
        Ok(Self {
            cloud: Cloud::of(settings, around)?,
            server_timeout: span("server_timeout", 600)?,
            ssh_timeout: span("ssh_timeout", 300)?,
            ready_timeout: span("ready_timeout", 300)?,
            outage_timeout: span("outage_timeout", 60)?,
            timeout: span("timeout", 60)?,
            defaults,
            templates: templates(settings)?,
            name_prefix: settings.text("name_prefix")?.filter(|text| !text.is_empty()).map(str::to_owned),
            page_size: settings.number("page_size")?.filter(|size| *size > 0),
            results_limit: settings.number("results_limit")?,
            labels: settings.labels.clone(),
            family,
            ssh_port: ssh.host_ssh_port,
            through_another: ssh.jump_host.is_some_and(|hops| !hops.is_empty()),
        })
    }
}

/// The templates: mappings of arguments, with or without the `ostack_` in front of their names.
fn templates(settings: &ProviderSettings) -> Result<BTreeMap<String, Args>, ProviderError> {
    let Some(all) = settings.values.get("templates").filter(|value| !value.is_null()) else {
        return Ok(BTreeMap::new());
    };
    let all = all.as_map().ok_or_else(|| settings.error("templates", "a mapping of names to mappings"))?;
    let mut templates = BTreeMap::new();
    for (name, template) in all {
        let bad = |what: String| {
            ProviderError::new(ErrorKind::Settings, format!("setting `OpenStack.templates.{name}`: {what}"))
        };
        let entries = template.as_map().ok_or_else(|| bad("it must be a mapping".to_owned()))?;
        let mut args = Args::new();
        for (key, value) in entries.iter().filter(|(_, value)| !value.is_null()) {
            let long = if key == "name" || key.starts_with("ostack_") { key.clone() } else { format!("ostack_{key}") };
            if !is_argument(&long) {
                return Err(bad(format!("`{key}` is nothing that a template has")));
            }
            args.insert(long, value.clone());
        }
        if !args.get("ostack_image").is_some_and(|image| matches!(image, ArgValue::Text(_) | ArgValue::Plain(_))) {
            return Err(bad("it has no `image`".to_owned()));
        }
        templates.insert(name.clone(), args);
    }
    Ok(templates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, ProviderError> {
        let base = "auth_url: http://k\nusername: u\npassword: p\nproject_name: x\n";
        let values = match broker_core::yaml::parse(&format!("{base}{text}")).unwrap().unwrap().into_value() {
            ArgValue::Map(values) => values,
            other => panic!("{other:?}"),
        };
        let settings = ProviderSettings { provider: "OpenStack".into(), values, ..ProviderSettings::default() };
        Settings::read(&settings, &Surroundings::default())
    }

    #[test]
    fn the_python_tools_section_is_read() {
        let settings = read(
            "server_timeout: 90\ndefault_image: rhel-9\ndefault_flavor: m1.small\ndefault_network: net\n\
             default_key_name: ''\ntemplates: {small: {image: 9.10, flavor: f, network: n, key_name: k, name: t}}\n",
        )
        .unwrap();
        assert_eq!((settings.server_timeout, settings.ssh_timeout.as_secs()), (Duration::from_secs(90), 300));
        let names: Vec<&String> = settings.defaults.keys().collect();
        assert_eq!(names, ["ostack_image", "ostack_flavor", "ostack_network"]);
        let names: Vec<&String> = settings.templates["small"].keys().collect();
        assert_eq!(names, ["ostack_image", "ostack_flavor", "ostack_network", "ostack_key_name", "name"]);
        assert_eq!(settings.templates["small"]["ostack_image"].as_str(), Some("9.10"));
    }

    #[test]
    fn what_does_not_do_names_the_setting() {
        for (text, says) in [
            ("server_timeout: soon", "`OpenStack.server_timeout` is `soon`"),
            ("page_size: many", "`OpenStack.page_size` is `many`"),
            ("ip_version: 5", "`OpenStack.ip_version` is `5`, and must be `4` or `6`"),
            ("templates: small", "`OpenStack.templates` is `small`, and must be a mapping of names to mappings"),
            ("templates: {a: b}", "setting `OpenStack.templates.a`: it must be a mapping"),
            ("templates: {a: {image: i, colour: red}}", "`colour` is nothing that a template has"),
            ("templates: {a: {flavor: f}}", "it has no `image`"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
