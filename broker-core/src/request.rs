//! What to check out, as data.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::args::{ArgValue, Args, merge};
use crate::inventory::HostRecord;
use crate::provider::{ActionInfo, ProviderInfo};
use crate::settings::Settings;

/// Everything that a checkout or an execution needs.
///
/// The same struct is made from a nick, an arguments file, the command line or by hand:
///
/// ```
/// use std::time::Duration;
/// use broker_core::HostRequest;
///
/// let request = HostRequest::nick("rhel9").arg("deploy_memory", "8GiB").count(3).lease(Duration::from_secs(7200));
/// assert_eq!(request.count, Some(3));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct HostRequest {
    /// A request in the settings that this one is laid upon.
    pub nick: Option<String>,
    /// The provider, where the action alone does not tell.
    pub provider: Option<String>,
    /// The instance of the provider, where it should not be the default.
    pub instance: Option<String>,
    /// The action and its arguments: `container_host: ubi9`, `ports: 22`.
    pub args: Args,
    /// How many; one where nothing says otherwise.
    pub count: Option<u32>,
    /// Labels for the hosts.
    pub labels: BTreeMap<String, String>,
    /// How long the hosts may live.
    pub lease: Option<Duration>,
    /// How long the checkout of a host may take before it is given up and undone.
    pub timeout: Option<Duration>,
    /// What asks for the hosts, for people who look at the provider: the name of a test, a user, a job.
    pub origin: Option<String>,
    /// How long a guarded host stays when the test that holds it panics.
    pub keep_on_failure: Option<Duration>,
    /// How long a shared host stays when nobody uses it any more.
    pub idle: Option<Duration>,
    /// Whether no host at all is wanted where not all can be had.
    pub all_or_nothing: bool,
    /// What runs on the hosts before they are released.
    pub teardown_command: Option<String>,
}

impl HostRequest {
    /// A request without an action; use it to lay arguments upon.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request of the settings, by its name.
    pub fn nick(name: impl Into<String>) -> Self {
        Self { nick: Some(name.into()), ..Self::default() }
    }

    /// A provider's action with its value, such as `workflow` and `deploy-rhel`.
    pub fn action(name: impl Into<String>, value: impl Into<ArgValue>) -> Self {
        Self::new().arg(name, value)
    }

    /// What a host was made with, to make another like it.
    pub fn like(record: &HostRecord) -> Self {
        let args = record.details.args.iter().filter(|(key, _)| !key.starts_with('_') && record.was_asked_for(key));
        Self {
            provider: Some(record.provider.clone()),
            instance: record.instance.clone(),
            args: args.map(|(key, value)| (key.clone(), value.clone())).collect(),
            labels: record.details.labels.clone(),
            teardown_command: record.teardown_command.clone(),
            ..Self::default()
        }
    }

    /// Sets an argument.
    #[must_use]
    pub fn arg(mut self, name: impl Into<String>, value: impl Into<ArgValue>) -> Self {
        self.args.insert(name.into(), value.into());
        self
    }

    /// Chooses the instance of the provider.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// Asks for several hosts.
    #[must_use]
    pub fn count(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    /// Puts a label on the hosts.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Limits how long the hosts may live.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Limits how long the checkout of a host may take.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Keeps a guarded host for so long when the test that holds it panics, and says how to get in.
    #[must_use]
    pub fn keep_on_failure(mut self, lease: Duration) -> Self {
        self.keep_on_failure = Some(lease);
        self
    }

    /// Lets a shared host stay for so long when its last user has left, for the next one. See
    /// [`Broker::shared`](crate::Broker::shared).
    #[must_use]
    pub fn idle(mut self, time: Duration) -> Self {
        self.idle = Some(time);
        self
    }

    /// Asks for all the hosts or none: when one cannot be had the others are released.
    #[must_use]
    pub fn all_or_nothing(mut self) -> Self {
        self.all_or_nothing = true;
        self
    }

    /// Has a line run by the host's shell before the host is released, whoever releases it: its guard, `broker checkin`,
    /// or the guardian of a process that was killed, which runs no [`HostType::teardown`](crate::HostType::teardown).
    ///
    /// It has 30 seconds. A host whose command fails is released all the same. The line is stored in the inventory, where
    /// everybody can read it who can read the inventory, so it is no place for a password.
    #[must_use]
    pub fn teardown_command(mut self, line: impl Into<String>) -> Self {
        self.teardown_command = Some(line.into());
        self
    }

    /// Says what asks for the hosts.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// Finds out what is really wanted: the nick's arguments below the explicit ones, the provider and the action.
    ///
    /// # Errors
    ///
    /// If there is no such nick, provider or action, or more than one action, or the count makes no sense.
    pub(crate) fn resolve(
        mut self,
        settings: &Settings,
        providers: &[&ProviderInfo],
        wanted: Wanted,
    ) -> Result<ResolvedRequest, crate::Error> {
        // A nick may come as an argument too: out of an arguments file.
        if let Some(nick) = take_text(&mut self.args, "nick")? {
            self.nick.get_or_insert(nick);
        }
        if let Some(nick) = &self.nick {
            let mut args = settings.nick(nick)?.clone();
            merge(&mut args, std::mem::take(&mut self.args));
            self.args = args;
        }
        for key in ["_count", "count"] {
            if let Some(text) = take_text(&mut self.args, key)? {
                let count = text.parse().map_err(|_| RequestError::Count(text))?;
                self.count.get_or_insert(count);
            }
        }
        if self.count == Some(0) {
            return Err(RequestError::Count("0".to_owned()).into());
        }
        if let Some(labels) = self.args.shift_remove("provider_labels") {
            self.labels = labels_of(&labels)?.into_iter().chain(self.labels).collect();
        }
        // `--AnsibleTower testing` is how the Python tool's users choose an instance.
        for info in providers {
            if let Some(instance) = take_text(&mut self.args, info.name)? {
                self.provider.get_or_insert_with(|| info.name.to_owned());
                self.instance.get_or_insert(instance);
            }
        }
        for key in ["args_file", "hosts", "host_class", "host_classes"] {
            self.args.shift_remove(key);
        }
        self.args.retain(|_, value| !value.is_null());

        let (provider, action) = self.find_action(providers, wanted)?;
        self.take_terms(provider)?;
        let target = self.args.get(action.name).map(ToString::to_string).unwrap_or_default();
        let hidden = provider.hidden_args.iter().filter(|name| self.args.contains_key(**name));
        Ok(ResolvedRequest {
            hidden_args: hidden.copied().collect(),
            wanted: format!("{} {}={target}", provider.name, action.name),
            provider: provider.name.to_owned(),
            instance: self.instance,
            action: action.name.to_owned(),
            args: self.args,
            count: self.count.unwrap_or(1),
            labels: self.labels,
            lease: self.lease,
            timeout: self.timeout,
            origin: self.origin,
            keep_on_failure: self.keep_on_failure,
            idle: self.idle,
            all_or_nothing: self.all_or_nothing,
            teardown_command: self.teardown_command,
        })
    }

    /// Takes lease, timeout and the like out of the arguments, where they come with a nick or a file. An argument that the
    /// provider declares under such a name is the provider's.
    fn take_terms(&mut self, provider: &ProviderInfo) -> Result<(), RequestError> {
        let is_ours = |name: &str| !provider.arguments.iter().any(|argument| argument.name == name);
        for (name, field) in [("lease", &mut self.lease), ("timeout", &mut self.timeout)] {
            if is_ours(name)
                && let Some(text) = take_text(&mut self.args, name)?
            {
                let span = span(&text).map_err(|problem| RequestError::Value { name: name.to_owned(), problem })?;
                field.get_or_insert(span);
            }
        }
        let name = "all_or_nothing";
        if is_ours(name)
            && let Some(value) = self.args.shift_remove(name)
        {
            let problem = || format!("`{value}` must be `true` or `false`");
            let on =
                value.as_bool().ok_or_else(|| RequestError::Value { name: name.to_owned(), problem: problem() })?;
            self.all_or_nothing |= on;
        }
        Ok(())
    }

    fn find_action<'p>(
        &self,
        providers: &[&'p ProviderInfo],
        wanted: Wanted,
    ) -> Result<(&'p ProviderInfo, &'p ActionInfo), RequestError> {
        let provider = match &self.provider {
            Some(name) => Some(find_provider(name, providers)?),
            None => None,
        };
        let all: Vec<_> = providers
            .iter()
            .filter(|info| provider.is_none_or(|chosen| chosen.name == info.name))
            .flat_map(|info| info.actions.iter().map(move |action| (*info, action)))
            .filter(|(_, action)| wanted.takes(action))
            .collect();
        let given: Vec<_> = all.iter().filter(|(_, action)| self.args.contains_key(action.name)).collect();
        match given.as_slice() {
            [(info, action)] => Ok((info, action)),
            [] => Err(RequestError::NoAction {
                command: wanted.command(),
                nick: self.nick.clone(),
                actions: all.iter().map(|(info, action)| format!("{} ({})", action.name, info.name)).collect(),
                other: providers
                    .iter()
                    .flat_map(|info| &info.actions)
                    .find(|action| !wanted.takes(action) && self.args.contains_key(action.name))
                    .map(|action| action.name.to_owned()),
            }),
            several => Err(RequestError::Actions(several.iter().map(|(_, action)| action.name.to_owned()).collect())),
        }
    }
}

/// The provider of a name.
pub(crate) fn find_provider<'p>(name: &str, providers: &[&'p ProviderInfo]) -> Result<&'p ProviderInfo, RequestError> {
    providers.iter().copied().find(|info| info.name == name).ok_or_else(|| RequestError::Provider {
        name: name.to_owned(),
        known: providers.iter().map(|info| info.name.to_owned()).collect(),
    })
}

/// Which kind of action is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// One that makes hosts, for a checkout.
    Host,
    /// One that makes none, for an execution.
    Execution,
}

impl Wanted {
    fn takes(self, action: &ActionInfo) -> bool {
        match self {
            Self::Host => action.makes_host,
            Self::Execution => action.executes,
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Host => "checkout",
            Self::Execution => "execute",
        }
    }
}

/// A request of which everything is known.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResolvedRequest {
    /// The request in a few words: `Container container_host=ubi9`.
    pub wanted: String,
    /// The provider's name.
    pub provider: String,
    /// The instance of the provider, where one was named.
    pub instance: Option<String>,
    /// The action's name.
    pub action: String,
    /// All arguments, the action's own among them.
    pub args: Args,
    /// Those of the arguments that no output shows, beside those with the name of a secret.
    pub hidden_args: Vec<&'static str>,
    /// How many.
    pub count: u32,
    /// Labels for the hosts.
    pub labels: BTreeMap<String, String>,
    /// How long the hosts may live, where the request says.
    pub lease: Option<Duration>,
    /// How long each may take.
    pub timeout: Option<Duration>,
    /// What asks for them.
    pub origin: Option<String>,
    /// How long a guarded host stays when its test panics.
    pub keep_on_failure: Option<Duration>,
    /// How long a shared host stays when nobody uses it any more.
    pub idle: Option<Duration>,
    /// Whether none is wanted where not all can be had.
    pub all_or_nothing: bool,
    /// What runs on the hosts before they are released.
    pub teardown_command: Option<String>,
}

fn span(text: &str) -> Result<Duration, String> {
    match crate::duration::parse(text) {
        Ok(Duration::ZERO) => Err(format!("`{text}` must be more than nothing")),
        other => other.map_err(|error| error.to_string()),
    }
}

fn take_text(args: &mut Args, key: &str) -> Result<Option<String>, RequestError> {
    match args.shift_remove(key) {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(ArgValue::Text(text) | ArgValue::Plain(text)) => Ok(Some(text)),
        Some(other) => Err(RequestError::Argument { name: key.to_owned(), kind: other.kind() }),
    }
}

/// Labels as `a=1,b,c=x=y` or as a mapping.
///
/// # Errors
///
/// If the value is a list, or a label is no text.
pub fn labels_of(value: &ArgValue) -> Result<BTreeMap<String, String>, RequestError> {
    let error = |kind| RequestError::Argument { name: "provider_labels".to_owned(), kind };
    match value {
        ArgValue::Text(text) | ArgValue::Plain(text) => Ok(text
            .split(',')
            .map(|label| label.split_once('=').unwrap_or((label, "")))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .filter(|(name, _)| !name.is_empty())
            .collect()),
        ArgValue::Map(map) => map
            .iter()
            .map(|(name, value)| match value.as_str() {
                Some(_) if value.is_null() => Ok((name.clone(), String::new())),
                Some(text) => Ok((name.clone(), text.to_owned())),
                None => Err(error(value.kind())),
            })
            .collect(),
        ArgValue::List(_) => Err(error("list")),
    }
}

/// A request that does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nothing says what to do.
    #[error("{}", no_action(.nick.as_deref(), command, .other.as_deref()))]
    NoAction {
        /// The command that needs one.
        command: &'static str,
        /// The nick that should have named one.
        nick: Option<String>,
        /// The actions there are, with their providers.
        actions: Vec<String>,
        /// An action that was given, and is for another command.
        other: Option<String>,
    },
    /// More than one thing says what to do.
    #[error("more than one action is given: `{}`", .0.join("`, `"))]
    Actions(Vec<String>),
    /// There is no provider of that name.
    #[error("there is no provider `{name}`")]
    Provider {
        /// The name.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// The count is no number, or zero.
    #[error("the count is `{0}`, and must be a whole number of at least 1")]
    Count(String),
    /// Several hosts are asked for where one is handed over.
    #[error("{0} hosts are asked for, and this call hands over one; `checkout_many` hands over as many as there are")]
    NotOne(u32),
    /// Two requests have one name.
    #[error("two of the requests have the same name")]
    SameName,
    /// An argument of Broker's own is not a text.
    #[error("argument `{name}` is a {kind}, and must be a text")]
    Argument {
        /// Which.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// An argument of Broker's own does not do.
    #[error("argument `{name}`: {problem}")]
    Value {
        /// Which.
        name: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// A shared host of that name is in use, and is another one.
    #[error("shared host `{name}` is in use, and was made of something else: {made_of}")]
    SharedDiffers {
        /// The name.
        name: String,
        /// What it was made of.
        made_of: String,
    },
    /// The lease is longer than the settings allow.
    #[error("a lease of {} is longer than the {} that setting `max_lease` allows", crate::duration::format(*.wanted), crate::duration::format(*.limit))]
    Lease {
        /// The lease asked for.
        wanted: Duration,
        /// The most that is allowed.
        limit: Duration,
    },
}

fn no_action(nick: Option<&str>, command: &str, other: Option<&str>) -> String {
    match (nick, other) {
        (_, Some(other)) => format!("action `{other}` is not one that `{command}` takes"),
        (Some(nick), None) => format!("nick `{nick}` names no action"),
        (None, None) => "no action is given".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{ArgumentInfo, ArgumentScope};

    fn action(name: &'static str, makes_host: bool, executes: bool) -> ActionInfo {
        ActionInfo { name, value: "X", help: "", makes_host, executes }
    }

    fn providers() -> Vec<ProviderInfo> {
        vec![
            ProviderInfo {
                name: "Container",
                actions: vec![action("container_host", true, false), action("container_app", false, true)],
                arguments: vec![ArgumentInfo { name: "lease", value: Some("X"), help: "", on: ArgumentScope::Both }],
                ..ProviderInfo::default()
            },
            ProviderInfo {
                name: "AnsibleTower",
                actions: vec![action("workflow", true, true)],
                ..ProviderInfo::default()
            },
        ]
    }

    #[test]
    fn a_duplicate_asks_for_what_was_asked_for() {
        let (id, state) = (crate::id::HostId::generate(), crate::inventory::HostState::Active);
        let args = |pairs: &[(&str, &str)]| -> Args {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), ArgValue::from(*value))).collect()
        };
        let mut record = HostRecord::new(id, "AnsibleTower", state);
        record.details.args = args(&[("workflow", "deploy"), ("version", "9"), ("_broker_origin", "me")]);
        let told = |pairs| crate::provider::HostFacts { args: args(pairs), ..Default::default() };
        record.absorb(told(&[("version", "9.10"), ("region", "eu")]));
        // Told once more, as after a recovery, and of something else.
        record.absorb(told(&[("region", "eu"), ("zone", "b")]));
        assert_eq!(record.details.args.get("region"), Some(&ArgValue::from("eu")));
        assert_eq!(HostRequest::like(&record).args, args(&[("workflow", "deploy"), ("version", "9.10")]));
    }

    fn resolve(request: HostRequest, wanted: Wanted) -> Result<ResolvedRequest, String> {
        let settings = "nicks:\n  rhel9:\n    workflow: deploy\n    version: 9.10\n    count: 2\n    AnsibleTower: testing\n    \
                        provider_labels: {team: a, plain: }\n  nothing: {version: 1}\n";
        let settings = Settings::builder().yaml(settings).build().unwrap().settings;
        let infos = providers();
        request
            .resolve(&settings, &infos.iter().collect::<Vec<_>>(), wanted)
            .map_err(|error| crate::error_chain(&error))
    }

    #[test]
    fn a_nick_lies_below_what_is_explicit() {
        let request = HostRequest::nick("rhel9").arg("memory", "8").label("team", "b");
        let resolved = resolve(request, Wanted::Host).unwrap();
        assert_eq!((resolved.provider.as_str(), resolved.action.as_str()), ("AnsibleTower", "workflow"));
        assert_eq!(resolved.instance.as_deref(), Some("testing"));
        assert_eq!(resolved.count, 2);
        assert_eq!(resolved.args.get("version"), Some(&ArgValue::Plain("9.10".to_owned())));
        assert_eq!(resolved.args.keys().collect::<Vec<_>>(), ["workflow", "version", "memory"]);
        assert_eq!(resolved.labels.get("team").map(String::as_str), Some("b"));
        assert_eq!(resolved.labels.get("plain").map(String::as_str), Some(""));
        assert_eq!(resolve(HostRequest::nick("rhel9").count(5), Wanted::Host).unwrap().count, 5);
    }

    #[test]
    fn the_terms_of_a_request_may_come_as_arguments() {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let request = HostRequest::action("workflow", "a")
            .arg("lease", "1h")
            .arg("timeout", ArgValue::Plain("5m".to_owned()))
            .arg("all_or_nothing", true);
        let resolved = resolve(request.clone(), Wanted::Host).unwrap();
        assert_eq!((resolved.lease, resolved.timeout), (Some(minutes(60)), Some(minutes(5))));
        assert!(resolved.all_or_nothing);
        assert_eq!(resolved.args.keys().collect::<Vec<_>>(), ["workflow"]);
        assert_eq!(resolve(request.lease(minutes(2)), Wanted::Host).unwrap().lease, Some(minutes(2)));

        let declared = HostRequest::action("container_host", "a").arg("lease", "of a flat");
        let resolved = resolve(declared, Wanted::Host).unwrap();
        assert_eq!((resolved.lease, resolved.args.get("lease")), (None, Some(&ArgValue::from("of a flat"))));
    }

    #[test]
    fn what_does_not_do_is_named() {
        let cases = [
            (HostRequest::new(), "no action is given"),
            (HostRequest::new().arg("memory", "8"), "no action is given"),
            (HostRequest::nick("nothing"), "nick `nothing` names no action"),
            (
                HostRequest::action("workflow", "a").arg("container_host", "b"),
                "more than one action is given: `container_host`, `workflow`",
            ),
            (HostRequest::action("container_app", "a"), "action `container_app` is not one that `checkout` takes"),
            (
                HostRequest { provider: Some("Nope".to_owned()), ..HostRequest::action("workflow", "a") },
                "there is no provider `Nope`",
            ),
            (
                HostRequest::action("workflow", "a").count(0),
                "the count is `0`, and must be a whole number of at least 1",
            ),
            (
                HostRequest::action("workflow", "a").arg("lease", "soon"),
                "argument `lease`: `soon` is not a duration; write whole numbers with a unit, such as `100ms`, `2s`, `5m`, \
                 `2h`, `1d` or `1h30m`",
            ),
            (
                HostRequest::action("workflow", "a").arg("timeout", "0s"),
                "argument `timeout`: `0s` must be more than nothing",
            ),
            (
                HostRequest::action("workflow", "a").arg("all_or_nothing", "maybe"),
                "argument `all_or_nothing`: `maybe` must be `true` or `false`",
            ),
            (
                HostRequest::action("workflow", "a").arg("count", "many"),
                "the count is `many`, and must be a whole number of at least 1",
            ),
        ];
        for (request, message) in cases {
            assert_eq!(resolve(request, Wanted::Host).unwrap_err(), message);
        }
        assert!(resolve(HostRequest::nick("rhel8"), Wanted::Host).unwrap_err().contains("rhel8"));
    }

    #[test]
    fn labels_in_both_forms() {
        let text = labels_of(&"a=1, b ,c=x=y,,".into()).unwrap();
        let expected = [("a", "1"), ("b", ""), ("c", "x=y")];
        assert!(text.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
        assert!(labels_of(&ArgValue::List(Vec::new())).is_err());
    }
}
