//! The provider's section of the settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker_core::provider::{ErrorKind, ProviderError};
use broker_core::secrets::Secret;
use broker_core::settings::{ProviderSettings, SettingError};
use broker_http::Tls;

/// What the settings say, with the defaults in place.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The address of the service, without a slash at its end.
    pub(crate) base_url: String,
    pub(crate) auth: Auth,
    /// Whose hosts a sync asks for.
    pub(crate) user: Option<String>,
    pub(crate) tls: Tls,
    /// The prefix of the API, where the version is set.
    pub(crate) prefix: Option<Prefix>,
    /// The name of the inventory that everything is launched with.
    pub(crate) inventory: Option<String>,
    pub(crate) release_workflow: String,
    pub(crate) extend_workflow: String,
    /// What the extend workflow is told where nobody says how long.
    pub(crate) new_expire_time: String,
    /// How long a job may run.
    pub(crate) workflow_timeout: Duration,
    pub(crate) at_deadline: AtDeadline,
    /// The longest pause between two looks at a job.
    pub(crate) poll_interval: Duration,
    /// How long the service may be out of order while a job is waited for.
    pub(crate) max_resilient_wait: Duration,
    pub(crate) results_limit: Option<usize>,
    pub(crate) error_scope: ErrorScope,
    pub(crate) dangling: Dangling,
    /// The facts that say when a host ends, the first one that there is.
    pub(crate) expiry_facts: Vec<String>,
    /// How long one answer may take.
    pub(crate) timeout: Duration,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Auth {
    Token(Secret),
    Password { username: String, password: Secret },
}

/// Where the API is below the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// `/api/v2/`: AWX, Ansible Tower, Automation Platform before 2.5.
    Classic,
    /// `/api/controller/v2/`: Automation Platform from 2.5 on.
    Controller,
}

impl Prefix {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Classic => "/api/v2/",
            Self::Controller => "/api/controller/v2/",
        }
    }

    /// What the links to the user interface begin with.
    pub(crate) fn ui(self) -> &'static str {
        match self {
            Self::Classic => "#",
            Self::Controller => "execution",
        }
    }
}

/// What becomes of a job that takes too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtDeadline {
    /// It is cancelled, and what it made is released.
    Cancel,
    /// It goes on, and the inventory has it.
    Keep,
}

/// Which reasons of a failure are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorScope {
    /// That of the job that failed last.
    Last,
    All,
}

/// What becomes of a host that a failed workflow has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dangling {
    Checkin,
    Store,
    Prompt,
}

impl Settings {
    pub(crate) fn read(settings: &ProviderSettings) -> Result<Self, ProviderError> {
        let span = |key: &str, default: u64| {
            let span = settings.duration(key)?.filter(|span| !span.is_zero());
            Ok::<_, ProviderError>(span.unwrap_or(Duration::from_secs(default)))
        };
        let text = |key: &str| -> Result<Option<String>, SettingError> {
            Ok(settings.text(key)?.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned))
        };
        let or = |key: &str, default: &str| Ok::<_, ProviderError>(text(key)?.unwrap_or_else(|| default.to_owned()));
        let word = |key: &str| Ok::<_, SettingError>(text(key)?.map(|word| word.to_ascii_lowercase()));
        let expiry_facts = settings.list("expiry_facts")?;
        Ok(Self {
            base_url: base_url(settings, text("base_url")?)?,
            auth: auth(settings)?,
            user: text("username")?,
            tls: tls(settings)?,
            prefix: prefix(settings, text("aap_version")?)?,
            inventory: text("inventory")?,
            release_workflow: or("release_workflow", "remove-vm")?,
            extend_workflow: or("extend_workflow", "extend-vm")?,
            new_expire_time: or("new_expire_time", "+172800")?,
            workflow_timeout: span("workflow_timeout", 3600)?,
            at_deadline: match word("timeout_behavior")?.as_deref() {
                None | Some("cancel") => AtDeadline::Cancel,
                Some("keep") => AtDeadline::Keep,
                Some(_) => return Err(settings.error("timeout_behavior", "`cancel` or `keep`").into()),
            },
            poll_interval: span("workflow_poll_interval", 5)?,
            max_resilient_wait: span("max_resilient_wait", 7200)?,
            results_limit: Some(settings.number("results_limit")?.unwrap_or(20)).filter(|limit| *limit > 0),
            error_scope: match word("error_scope")?.as_deref() {
                None | Some("last") => ErrorScope::Last,
                // The Python tool takes any other word for this.
                Some(_) => ErrorScope::All,
            },
            dangling: match word("dangling_behavior")?.as_deref() {
                None | Some("checkin") => Dangling::Checkin,
                Some("store") => Dangling::Store,
                Some("prompt") => Dangling::Prompt,
                Some(_) => return Err(settings.error("dangling_behavior", "`checkin`, `store` or `prompt`").into()),
            },
            expiry_facts: match expiry_facts.is_empty() {
                true => ["remove_time", "shutdown_time", "expire_time"].map(str::to_owned).to_vec(),
                false => expiry_facts,
            },
            timeout: span("timeout", 60)?,
            labels: settings.labels.clone(),
        })
    }
}

fn base_url(settings: &ProviderSettings, text: Option<String>) -> Result<String, SettingError> {
    let wanted = "an address such as `https://awx.example.com`";
    let error = || settings.error("base_url", wanted);
    let text = text.ok_or_else(error)?;
    let url = text.trim_end_matches('/');
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).ok_or_else(error)?;
    if rest.contains('@') {
        return Err(settings.error("base_url", "an address without a user: `username` and `password` are settings"));
    }
    if rest.is_empty() || rest.contains(['?', '#', ' ']) {
        return Err(error());
    }
    // What people copy out of a browser or a script.
    let url = ["/api/controller/v2", "/api/v2", "/api"].iter().find_map(|end| url.strip_suffix(end)).unwrap_or(url);
    Ok(url.to_owned())
}

fn auth(settings: &ProviderSettings) -> Result<Auth, ProviderError> {
    let secret = |key: &str| Ok::<_, SettingError>(settings.secret(key)?.filter(|secret| !secret.expose().is_empty()));
    if let Some(token) = secret("token")? {
        return Ok(Auth::Token(token));
    }
    let username = settings.text("username")?.filter(|name| !name.is_empty());
    let lacks = match (username, secret("password")?) {
        (Some(username), Some(password)) => return Ok(Auth::Password { username: username.to_owned(), password }),
        (None, Some(_)) => "a `password` without a `username`",
        (Some(_), None) => "a `username` without a `password`",
        (None, None) => "nobody to log in as",
    };
    let section = &settings.provider;
    let message = format!("section `{section}` of the settings has {lacks}: it needs a `token`, or both of them");
    Err(ProviderError::new(ErrorKind::Settings, message))
}

fn tls(settings: &ProviderSettings) -> Result<Tls, SettingError> {
    let (verify, ca) = match settings.text("verify")?.map(str::trim).filter(|text| !text.is_empty()) {
        None => (true, None),
        Some(path) if path.contains('/') || Path::new(path).extension().is_some() => (true, Some(PathBuf::from(path))),
        Some(_) => match settings.boolean("verify") {
            Ok(verify) => (verify.unwrap_or(true), None),
            Err(_) => return Err(settings.error("verify", "`true`, `false` or the path of a file of certificates")),
        },
    };
    Ok(Tls { verify, ca, client: None })
}

fn prefix(settings: &ProviderSettings, version: Option<String>) -> Result<Option<Prefix>, SettingError> {
    let Some(version) = version else { return Ok(None) };
    let error = || settings.error("aap_version", "a version such as `2.5`");
    let mut parts = version.split('.').map(str::parse::<u32>);
    let major = parts.next().and_then(Result::ok).ok_or_else(error)?;
    let minor = parts.next().unwrap_or(Ok(0)).map_err(|_| error())?;
    Ok(Some(if (major, minor) >= (2, 5) { Prefix::Controller } else { Prefix::Classic }))
}

#[cfg(test)]
pub(crate) mod tests {
    use broker_core::ArgValue;

    use super::*;

    pub(crate) fn read(text: &str) -> Result<Settings, ProviderError> {
        let values = match broker_core::yaml::parse(text).unwrap().unwrap().into_value() {
            ArgValue::Map(values) => values,
            other => panic!("{other:?}"),
        };
        let settings = ProviderSettings { provider: "AnsibleTower".into(), values, ..ProviderSettings::default() };
        Settings::read(&settings)
    }

    #[test]
    fn the_python_tools_section_is_read() {
        let settings = read(
            "base_url: https://awx.example.com/\ntoken: abc\nusername: jane\ninventory: lab\naap_version: 2.5\n\
             release_workflow: remove\nextend_workflow: longer\nnew_expire_time: '+3600'\nworkflow_timeout: 90\n\
             workflow_poll_interval: 2\nmax_resilient_wait: 30\nresults_limit: 50\nerror_scope: all\n\
             dangling_behavior: store\n",
        )
        .unwrap();
        assert_eq!(settings.base_url, "https://awx.example.com");
        assert_eq!(settings.auth, Auth::Token(Secret::new("abc")));
        assert_eq!(settings.user.as_deref(), Some("jane"));
        assert_eq!(settings.prefix, Some(Prefix::Controller));
        assert_eq!(
            (settings.workflow_timeout, settings.poll_interval),
            (Duration::from_secs(90), Duration::from_secs(2))
        );
        assert_eq!((settings.results_limit, settings.error_scope), (Some(50), ErrorScope::All));
        assert_eq!(settings.dangling, Dangling::Store);
    }

    #[test]
    fn what_is_not_set_has_the_python_tools_defaults() {
        let settings = read("base_url: http://h\nusername: u\npassword: p\naap_version: ''\ninventory:\n").unwrap();
        assert_eq!((settings.release_workflow.as_str(), settings.extend_workflow.as_str()), ("remove-vm", "extend-vm"));
        assert_eq!(settings.new_expire_time, "+172800");
        let seconds = [settings.workflow_timeout, settings.poll_interval, settings.max_resilient_wait];
        assert_eq!(seconds.map(|span| span.as_secs()), [3600, 5, 7200]);
        assert_eq!((settings.results_limit, settings.error_scope), (Some(20), ErrorScope::Last));
        assert_eq!((settings.dangling, settings.at_deadline), (Dangling::Checkin, AtDeadline::Cancel));
        assert_eq!((settings.prefix, settings.inventory), (None, None));
        assert!(settings.tls.verify);
        assert_eq!(settings.expiry_facts, ["remove_time", "shutdown_time", "expire_time"]);
    }

    #[test]
    fn versions_choose_the_prefix() {
        for (version, prefix) in [
            ("2.4", Prefix::Classic),
            ("2.5", Prefix::Controller),
            ("'2.10'", Prefix::Controller),
            ("3", Prefix::Controller),
        ] {
            assert_eq!(
                read(&format!("base_url: http://h\ntoken: t\naap_version: {version}")).unwrap().prefix,
                Some(prefix)
            );
        }
    }

    #[test]
    fn certificates_are_believed_as_is_said() {
        let tls = |text: &str| read(&format!("base_url: http://h\ntoken: t\nverify: {text}")).unwrap().tls;
        assert!(tls("true").verify && !tls("false").verify && !tls("'no'").verify);
        for path in ["/etc/ca.pem", "certs/ca", "ca.pem"] {
            assert_eq!(tls(path), Tls { verify: true, ca: Some(path.into()), client: None });
        }
    }

    #[test]
    fn addresses_out_of_browsers_do() {
        for text in ["http://h", "http://h/", "http://h/api/v2/", "http://h/api/", "http://h/api/controller/v2/"] {
            assert_eq!(read(&format!("base_url: {text}\ntoken: t")).unwrap().base_url, "http://h");
        }
    }

    #[test]
    fn what_does_not_do_names_the_setting() {
        let base = "base_url: http://h\ntoken: t\n";
        for (text, says) in [
            ("token: t".to_owned(), "`AnsibleTower.base_url` is empty, and must be an address"),
            ("base_url: awx.example.com\ntoken: t".to_owned(), "`AnsibleTower.base_url` is `awx.example.com`"),
            ("base_url: http://u:p@h\ntoken: t".to_owned(), "without a user"),
            ("base_url: http://h".to_owned(), "has nobody to log in as: it needs a `token`"),
            ("base_url: http://h\nusername: u".to_owned(), "a `username` without a `password`"),
            ("base_url: http://h\npassword: u".to_owned(), "a `password` without a `username`"),
            (format!("{base}aap_version: new"), "`AnsibleTower.aap_version` is `new`"),
            (format!("{base}workflow_timeout: soon"), "`AnsibleTower.workflow_timeout` is `soon`"),
            (format!("{base}dangling_behavior: drop"), "`checkin`, `store` or `prompt`"),
            (format!("{base}timeout_behavior: drop"), "`cancel` or `keep`"),
            (format!("{base}verify: maybe"), "the path of a file of certificates"),
        ] {
            let error = read(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
