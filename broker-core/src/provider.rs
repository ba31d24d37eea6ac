//! The [`Provider`] trait: what makes and releases hosts, and the types that it speaks in.
//!
//! A provider is asked for one host at a time, on the engine's own runtime. It keeps no books: the engine writes the
//! journal before and after every call, and hands back the stored [`HostRecord`] when the host is to be released,
//! maybe years later in another process.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::args::{ArgValue, Args};
use crate::filter::Filter;
use crate::host::LogRequest;
use crate::id::HostId;
use crate::inventory::{HostRecord, Owner};
use crate::session::{Access, Session, SessionError, SessionErrorKind, SshLogin};
use crate::settings::ProviderSettings;

/// The label of a resource that carries its [`HostId`].
pub const ID_LABEL: &str = "broker.id";
const OWNER_LABEL: &str = "broker.owner";
const ORIGIN_LABEL: &str = "broker.origin";
const ACTION_LABEL: &str = "broker.action";
const LEASE_LABEL: &str = "broker.lease_until";

/// Something that makes and releases hosts: one configured instance of a kind of provider.
///
/// Every method runs on the engine's runtime and may be called many times at once. A method that takes long must be
/// ready to be dropped at any await: the engine then runs [`find`](Self::find) and [`release`](Self::release), so that
/// whatever [`checkout`](Self::checkout) may have made is released. Every resource that a provider makes carries the
/// order's id from its first moment, so that `find` sees it.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The place where this instance makes hosts, resolved. Asked before the first record is written; worth caching.
    ///
    /// # Errors
    ///
    /// If there is no way to tell, such as no engine that answers.
    async fn endpoint(&self) -> Result<Endpoint, ProviderError>;

    /// Looks at a whole batch before any of it is made: quota, image, template. Makes nothing that outlives the call
    /// but caches, such as a pulled image.
    ///
    /// # Errors
    ///
    /// Anything that would make every order fail.
    async fn prepare(&self, orders: &[Order]) -> Result<(), ProviderError> {
        let _none_needed = orders;
        Ok(())
    }

    /// Makes one host, and returns when it is ready to be used.
    ///
    /// # Errors
    ///
    /// [`ProviderError::may_exist`] says whether something may have been left behind.
    async fn checkout(&self, order: &Order) -> Result<HostFacts, ProviderError>;

    /// Releases one host and everything made with it. Idempotent: a host that is already gone *at the endpoint it was
    /// made at* is no error. A record that is `pending` or `failed` may have no facts: what carries its id is meant.
    /// Returns only when [`find`](Self::find) does not see the host any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::EndpointChanged`] where the record's endpoint is another place than what answers there now.
    async fn release(&self, host: &HostRecord) -> Result<(), ProviderError>;

    /// Lets the host live longer, and returns what changed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] by default.
    async fn extend(&self, host: &HostRecord, by: Lease) -> Result<HostFacts, ProviderError> {
        let _unused = (host, by);
        Err(ProviderError::unsupported("extending a lease"))
    }

    /// As [`extend`](Self::extend), for a provider that takes more words on it than a span, or has a span of its own where
    /// nobody gives one. By default it needs one, and takes nothing else.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadRequest`] by default, where there is no span or where there are arguments.
    async fn extend_as(&self, host: &HostRecord, wanted: &Extension) -> Result<HostFacts, ProviderError> {
        if let Some(name) = wanted.args.keys().next() {
            let message = format!("this provider takes no argument `{name}` on extending a lease");
            return Err(ProviderError::new(ErrorKind::BadRequest, message));
        }
        match wanted.by {
            Some(by) => self.extend(host, by).await,
            None => Err(ProviderError::new(ErrorKind::BadRequest, "nothing says how long the host is to live")),
        }
    }

    /// Runs an action that makes no host.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] by default. An action that ran and failed is no error but a failed [`Execution`].
    async fn execute(&self, order: &Order) -> Result<Execution, ProviderError> {
        let _unused = order;
        Err(ProviderError::unsupported("executing actions"))
    }

    /// The hosts that are there, whether or not the inventory knows them; among them whatever carries a Broker id, such
    /// as what an execution left behind.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] by default.
    async fn list(&self, scope: &Scope) -> Result<Vec<Found>, ProviderError> {
        let _unused = scope;
        Err(ProviderError::unsupported("listing hosts"))
    }

    /// Whether hosts that [`list`](Self::list) finds without a Broker id are those of the same name that were made here:
    /// for a provider whose lists are somebody else's, and whose names are unique as long as their hosts live.
    fn knows_hosts_by_name(&self) -> bool {
        false
    }

    /// What exists under exactly this id at the record's endpoint: what a broken checkout left behind. Nothing found is
    /// an empty list.
    ///
    /// # Errors
    ///
    /// If the provider cannot tell, for instance because it is not reachable.
    async fn find(&self, host: &HostRecord) -> Result<Vec<Found>, ProviderError>;

    /// How long after a call was cut off what it asked for may still come to be. What a broken checkout of this host left
    /// behind is looked for until then; whoever made it waits for a few seconds of that, and leaves the rest to an entry in
    /// the inventory.
    fn settle_time(&self, host: &HostRecord) -> Duration {
        let _unused = host;
        Duration::from_secs(5)
    }

    /// How long a release may take that goes well, where that is long: what its settings say of a workflow, say.
    /// Nothing by default. Broker gives a release ten minutes and the undoing of a checkout one, and more where this is
    /// more.
    fn release_limit(&self) -> Option<Duration> {
        None
    }

    /// Answers a question about what the provider offers: images, flavors, workflows.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] by default; [`ErrorKind::NotFound`] where the thing asked for does not exist.
    async fn query(&self, query: &Query) -> Result<Table, ProviderError> {
        let _unused = query;
        Err(ProviderError::unsupported("queries"))
    }

    /// Says how a host is reached: by a session of the provider's own, which it opens here, or by SSH, with what it
    /// knows about logging in. By default by SSH, with what the host's facts and the settings say.
    ///
    /// # Errors
    ///
    /// [`SessionError`] says what stood in the way.
    async fn access(&self, host: &HostRecord) -> Result<Access, SessionError> {
        let _unused = host;
        Ok(Access::Ssh(SshLogin::default()))
    }

    /// What the host itself has printed: a container's log, a machine's console, a job's output. Sent piece by piece
    /// until the log ends, or the receiver is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] by default.
    async fn logs(&self, host: &HostRecord, request: LogRequest) -> Result<(), ProviderError> {
        let _unused = (host, request);
        Err(ProviderError::unsupported("logs"))
    }

    /// Gives back what the provider holds for itself, such as a login. Called when nobody will ask it anything more, also
    /// at the end of the process; it has a few seconds.
    async fn close(&self) {}
}

/// Makes providers of one kind: the part that needs no connection.
pub trait ProviderFactory: Send + Sync {
    /// What the kind is called, what it can do, and which arguments it takes.
    fn info(&self) -> &ProviderInfo;

    /// Makes the provider for one instance of the settings. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// If the settings do not do, with the name of the setting.
    fn build(&self, settings: &ProviderSettings) -> Result<Arc<dyn Provider>, ProviderError>;

    /// The settings with all in them that [`build`](Self::build) would look up in files or in the environment, so that
    /// another process builds the same of them, wherever it runs: a guardian is told these. Those that are whole already
    /// stay as they are. By default there is nothing to look up.
    ///
    /// # Errors
    ///
    /// If what is looked up does not do.
    fn whole(&self, settings: ProviderSettings) -> Result<ProviderSettings, ProviderError> {
        Ok(settings)
    }
}

/// A factory out of a description and a function.
pub fn factory<F>(info: ProviderInfo, build: F) -> Arc<dyn ProviderFactory>
where
    F: Fn(&ProviderSettings) -> Result<Arc<dyn Provider>, ProviderError> + Send + Sync + 'static,
{
    struct Factory<F>(ProviderInfo, F);

    impl<F> ProviderFactory for Factory<F>
    where
        F: Fn(&ProviderSettings) -> Result<Arc<dyn Provider>, ProviderError> + Send + Sync,
    {
        fn info(&self) -> &ProviderInfo {
            &self.0
        }

        fn build(&self, settings: &ProviderSettings) -> Result<Arc<dyn Provider>, ProviderError> {
            (self.1)(settings)
        }
    }

    Arc::new(Factory(info, build))
}

/// A kind of provider as help, completion and argument routing see it.
#[derive(Debug, Clone, Default)]
pub struct ProviderInfo {
    /// The name of its settings section and in the inventory, such as `Container`.
    pub name: &'static str,
    /// One line on what it makes hosts of.
    pub about: &'static str,
    /// What it can be asked to do.
    pub actions: Vec<ActionInfo>,
    /// Arguments with a meaning of their own. Others are passed on as they are, where the provider takes any.
    pub arguments: Vec<ArgumentInfo>,
    /// Arguments that no output shows, whatever is in them: the contents of files, say. Those with the name of a secret
    /// are hidden anyway.
    pub hidden_args: Vec<&'static str>,
    /// What can be asked about it.
    pub queries: Vec<QueryInfo>,
    /// Names of the facts it sets on its hosts, beside Broker's own fields: what a filter may name.
    pub facts: Vec<&'static str>,
    /// Whether it ends its hosts itself. A lease in the inventory is then what it has told, for people to look at: nobody
    /// here ends a host by it, and a guard gives its host none.
    pub governs_leases: bool,
}

/// An action: its name is the argument that selects it, and that argument's value is what the action works on.
#[derive(Debug, Clone)]
pub struct ActionInfo {
    /// The argument's name, with underscores: `container_host`.
    pub name: &'static str,
    /// What stands for the value in help: `IMAGE`.
    pub value: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Whether `checkout` takes it.
    pub makes_host: bool,
    /// Whether `execute` takes it.
    pub executes: bool,
}

/// A declared argument.
#[derive(Debug, Clone)]
pub struct ArgumentInfo {
    /// The argument's name, with underscores.
    pub name: &'static str,
    /// What stands for the value in help; a switch has none.
    pub value: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
    /// Where it is taken.
    pub on: ArgumentScope,
}

/// The commands that take an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArgumentScope {
    /// `checkout` alone.
    Checkout,
    /// `execute` alone.
    Execute,
    /// Both of them.
    Both,
    /// `extend` alone.
    Extend,
}

/// A question that `broker providers NAME` can put.
#[derive(Debug, Clone)]
pub struct QueryInfo {
    /// The option's name, with underscores: `container_hosts`.
    pub name: &'static str,
    /// What stands for the value in help; a query for all has none.
    pub value: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// The place that hosts were made at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// How it is reached, resolved: `unix:///run/podman/podman.sock`. Without credentials.
    pub uri: String,
    /// What tells it from another place that answers at the same URI: the engine's id, the project, the install's UUID.
    pub identity: String,
}

/// How long a host may live, from the moment of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease(pub Duration);

impl Lease {
    /// When a lease that begins now ends. A lease too long for the calendar ends with the calendar.
    pub fn until(self) -> Timestamp {
        let now = Timestamp::now();
        jiff::SignedDuration::try_from(self.0)
            .ok()
            .and_then(|span| now.checked_add(span).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// When a lease that ends at `current` ends after it was extended by this one: extending never shortens.
    pub fn extending(self, current: Option<Timestamp>) -> Timestamp {
        current.map_or(self.until(), |current| current.max(self.until()))
    }
}

/// How a host is to live longer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extension {
    /// For at least so long from now, where somebody says.
    pub by: Option<Lease>,
    /// What else is to be said to the provider.
    pub args: Args,
}

/// One host that is wanted, or one action to run.
#[derive(Clone)]
pub struct Order {
    /// The id that everything made for this order must carry.
    pub id: HostId,
    /// The action's name.
    pub action: String,
    /// All arguments, the action's own among them.
    pub args: Args,
    /// Labels for the resource.
    pub labels: BTreeMap<String, String>,
    /// When the lease ends, if it does: a hint for people who look at the provider.
    pub lease_until: Option<Timestamp>,
    /// What asked for it: `broker_cli:jane`, or the name of a test.
    pub origin: String,
    /// Whose it is.
    pub owner: Owner,
    pub(crate) link: Arc<dyn OrderLink>,
    pub(crate) cancel: CancellationToken,
}

/// The engine's end of an order.
#[async_trait]
pub(crate) trait OrderLink: Send + Sync {
    async fn made(&self, id: HostId, handle: Value) -> Result<(), ProviderError>;
    async fn known(&self, id: HostId, facts: HostFacts) -> Result<(), ProviderError>;
    fn progress(&self, id: HostId, message: String);
    fn told(&self, id: HostId, key: &'static str, value: Value);
    async fn session(&self, facts: HostFacts) -> Result<Arc<dyn Session>, SessionError>;
}

/// What there is to say of a session where there is no host in the making.
pub(crate) fn no_session() -> SessionError {
    SessionError::new(SessionErrorKind::Unsupported, "there is no host that a session could be opened on")
}

impl Order {
    /// An order that no engine stands behind, for the tests of a provider: what it reports is dropped.
    pub fn for_test(action: &str, args: Args) -> Self {
        struct Nobody;

        #[async_trait]
        impl OrderLink for Nobody {
            async fn made(&self, _: HostId, _: Value) -> Result<(), ProviderError> {
                Ok(())
            }

            async fn known(&self, _: HostId, _: HostFacts) -> Result<(), ProviderError> {
                Ok(())
            }

            fn progress(&self, _: HostId, _: String) {}

            fn told(&self, _: HostId, _: &'static str, _: Value) {}

            async fn session(&self, _: HostFacts) -> Result<Arc<dyn Session>, SessionError> {
                Err(no_session())
            }
        }

        let owner = Owner {
            run: crate::id::RunId::generate(),
            user: "tester".to_owned(),
            machine: "localhost".to_owned(),
            pid: std::process::id(),
        };
        Self {
            id: HostId::generate(),
            action: action.to_owned(),
            args,
            labels: BTreeMap::new(),
            lease_until: None,
            origin: "test".to_owned(),
            owner,
            link: Arc::new(Nobody),
            cancel: CancellationToken::new(),
        }
    }

    /// Says that nobody wants the order any more.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Writes down what was learned midway, a job's or server's id. It is in the journal when this returns.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written. Whatever was made must be undone, or the error returned with
    /// [`may_exist`](ProviderError::may_exist).
    pub async fn made(&self, handle: Value) -> Result<(), ProviderError> {
        self.link.made(self.id, handle).await
    }

    /// Writes down what is known of the host so far: for one that may be left behind by a checkout that fails. It is in the
    /// journal when this returns.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written.
    pub async fn known(&self, facts: HostFacts) -> Result<(), ProviderError> {
        self.link.known(self.id, facts).await
    }

    /// Tells whoever waits what is going on, in a few words without a full stop: `pulling layer 3 of 9`.
    pub fn progress(&self, message: impl Into<String>) {
        self.link.progress(self.id, message.into());
    }

    /// Tells programs something about the order that is no fact of its host: `broker --output-file` has it under this key,
    /// where the last one of a command counts.
    pub fn tell(&self, key: &'static str, value: impl Into<Value>) {
        self.link.told(self.id, key, value.into());
    }

    /// Opens a session on the host in the making, as one will be opened on the finished host of these facts: for what has
    /// to be asked on the host before it is handed over. Nothing is written down; whoever opens it closes it.
    ///
    /// # Errors
    ///
    /// If it cannot be opened; always for an order that makes no host.
    pub async fn session(&self, facts: HostFacts) -> Result<Arc<dyn Session>, SessionError> {
        self.link.session(facts).await
    }

    /// Completes when nobody wants the order any more. What follows should undo what was made, and soon: after the
    /// grace time the call is dropped.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + '_ {
        self.cancel.cancelled()
    }

    /// Whether nobody wants the order any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// The value of the action's own argument, such as the image of `container_host`; empty where it has none.
    pub fn target(&self) -> &str {
        self.args.get(&self.action).and_then(ArgValue::as_str).unwrap_or_default()
    }

    /// The identity that every resource made for this order carries, as label names and values: `broker.id`,
    /// `broker.owner`, `broker.origin`, `broker.action` and, with a lease, `broker.lease_until`.
    pub fn identity_labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            (ID_LABEL.to_owned(), self.id.to_string()),
            (OWNER_LABEL.to_owned(), self.owner.address()),
            (ORIGIN_LABEL.to_owned(), self.origin.clone()),
            (ACTION_LABEL.to_owned(), self.action.clone()),
        ]);
        if let Some(until) = self.lease_until {
            labels.insert(LEASE_LABEL.to_owned(), until.to_string());
        }
        labels
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("id", &self.id).field("action", &self.action).finish_non_exhaustive()
    }
}

/// What a provider tells of a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostFacts {
    /// The provider's name for the host.
    pub name: Option<String>,
    /// What the machine calls itself.
    pub hostname: Option<String>,
    /// The host name or IP address by which it can be reached.
    pub address: Option<String>,
    /// The port of its SSH server at `address`, where that is known to be other than 22.
    pub ssh_port: Option<u16>,
    /// Where the host's ports can be reached: `22/tcp` to `127.0.0.1:49153`.
    pub ports: BTreeMap<String, String>,
    /// When the lease ends, where the provider has a say in that.
    pub lease_until: Option<Timestamp>,
    /// What the host was made with beside what was asked for, or in its place, because the service chose it. It joins the
    /// arguments in the record; a duplicate asks only for what was asked for.
    pub args: Args,
    /// Everything else, under the names listed in [`ProviderInfo::facts`].
    pub facts: Map<String, Value>,
}

/// A host that a provider has.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The Broker id that the resource carries, if it does.
    pub broker_id: Option<HostId>,
    /// What the provider tells of it.
    pub facts: HostFacts,
    /// The arguments it was made with, as far as the provider can tell: `container_host`.
    pub args: Args,
    /// What else the resource carries of [`Order::identity_labels`].
    pub identity: Identity,
    /// How long it has been there by the provider's own clock, as far as the provider can tell.
    pub age: Option<Duration>,
    /// Why it cannot be used as it is, if that is so, as a fragment: `it was never started`.
    pub flaw: Option<String>,
    /// Whether it is still in the making, by the provider itself: it may yet become a host without a flaw.
    pub unfinished: bool,
    /// Facts that the provider notes for its own use, and gets back in [`Scope::known`]. They are no news to anybody.
    pub notes: Map<String, Value>,
}

impl Found {
    /// Whether it has been there for longer than its lease and `grace` together. Both are spans, the lease as its maker
    /// gave it and the age by the provider's clock, so that no two clocks are compared. What has no lease, or no age
    /// that is known, never has.
    pub fn has_outlived_its_lease(&self, grace: Duration) -> bool {
        let lease = || {
            let lease = self.identity.lease_until?.duration_since(self.broker_id?.made_at()?);
            // A lease that ended before it began is none at all, which is no reason to wait.
            Some(Duration::try_from(lease).unwrap_or_default())
        };
        matches!((self.age, lease()), (Some(age), Some(lease)) if age > lease.saturating_add(grace))
    }
}

/// What a resource says of itself by the labels of [`Order::identity_labels`], beside its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Whose it is: `jane@laptop`.
    pub owner: Option<String>,
    /// What asked for it.
    pub origin: Option<String>,
    /// The action that made it.
    pub action: Option<String>,
    /// When its lease ends, as of when it was made: labels stay as they are when a lease is extended.
    pub lease_until: Option<Timestamp>,
}

impl Identity {
    /// Reads the labels of a resource. `label` gives the value of one, by its name.
    pub fn of_labels<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Self {
        let text = |name| label(name).map(str::to_owned);
        Self {
            owner: text(OWNER_LABEL),
            origin: text(ORIGIN_LABEL),
            action: text(ACTION_LABEL),
            lease_until: label(LEASE_LABEL).and_then(|until| until.parse().ok()),
        }
    }
}

/// What `list` is to look at.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The part after the provider's name in `--sync Provider:arg`: a prefix, a label, a user; each provider says which.
    pub argument: Option<String>,
    /// Whether what other users made is wanted too. Without an argument a provider that many share lists the user's own:
    /// what the scope [covers](Self::covers).
    pub everyone: bool,
    /// What the inventory has of this instance's hosts: of one that has not changed since, nothing needs to be asked again.
    /// Filled in by Broker.
    pub known: Vec<Arc<HostRecord>>,
}

impl Scope {
    /// Whether what an owner has made (`USER@MACHINE`, as resources tell it) is wanted where there is no argument: what this
    /// process's user made, on whichever machine, and what tells of no owner, or everybody's.
    pub fn covers(&self, owner: Option<&str>) -> bool {
        let is_ours = |owner: &str| {
            let user = owner.rsplit_once('@').map_or(owner, |(user, _)| user);
            user == crate::sys::user_name()
        };
        self.everyone || owner.is_none_or(is_ours)
    }
}

/// A question about what a provider offers.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The query's name, with underscores.
    pub name: String,
    /// The one thing asked for, where the query is for one.
    pub value: Option<String>,
    /// Further arguments.
    pub args: Args,
    /// Which rows of the answer are wanted, by their columns. Providers leave that to Broker.
    pub filter: Option<Filter>,
    /// How many rows of a list are wanted at the most; what the settings say if nothing is said.
    pub limit: Option<usize>,
}

/// The answer to a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// The columns' titles.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<String>>,
}

/// What an action that makes no host came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// What it gave back: a text, or data.
    pub output: Value,
}

/// What went wrong at a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Not logged in, or the credentials are wrong.
    Auth,
    /// Logged in, and not allowed to.
    Permission,
    /// A thing named in the request does not exist: an image, a workflow.
    NotFound,
    /// A limit is reached.
    Quota,
    /// The request clashes with something that is there: a name or a port in use.
    Conflict,
    /// It took too long.
    Timeout,
    /// The provider does not answer.
    Unreachable,
    /// The request makes no sense to the provider.
    BadRequest,
    /// The provider tried, and it did not work.
    Failed,
    /// What answers at the record's endpoint is another place than the one the host was made at.
    EndpointChanged,
    /// This provider cannot do that at all.
    Unsupported,
    /// Nobody wanted it any more.
    Cancelled,
    /// The settings of the provider do not do.
    Settings,
    /// A mistake in the provider's code, or an answer that it does not understand.
    Bug,
}

/// An error of a provider.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ProviderError {
    kind: ErrorKind,
    message: String,
    retry: bool,
    may_exist: bool,
    asks: bool,
    tells_what_helps: bool,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ProviderError {
    /// An error of a kind. The message is a fragment in lower case that names the thing.
    ///
    /// By default a repeat can help where the kind is [`Timeout`](ErrorKind::Timeout) or
    /// [`Unreachable`](ErrorKind::Unreachable), and nothing was left behind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retry = matches!(kind, ErrorKind::Timeout | ErrorKind::Unreachable);
        Self {
            kind,
            message: message.into(),
            retry,
            may_exist: false,
            asks: false,
            tells_what_helps: false,
            source: None,
        }
    }

    pub(crate) fn unsupported(what: &str) -> Self {
        Self::new(ErrorKind::Unsupported, format!("this provider does not support {what}"))
    }

    /// Adds the error underneath. Its text must not be in the message too.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says that something may have been left behind, so that the host stays in the inventory as `failed`.
    #[must_use]
    pub fn leaving_something(mut self) -> Self {
        self.may_exist = true;
        self
    }

    /// Says that whoever asked for the host is to decide what becomes of what was left behind.
    #[must_use]
    pub fn to_be_asked_about(mut self) -> Self {
        self.asks = true;
        self
    }

    /// Says that the message names what can be done about it, so that nobody adds what follows from the kind.
    #[must_use]
    pub fn telling_what_helps(mut self) -> Self {
        self.tells_what_helps = true;
        self
    }

    /// The error underneath.
    pub fn into_source(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        self.source
    }

    /// Whether the message names what can be done about it.
    pub fn tells_what_helps(&self) -> bool {
        self.tells_what_helps
    }

    /// Whether somebody is to be asked what becomes of what was left behind.
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether asking again can help.
    pub fn can_retry(&self) -> bool {
        self.retry
    }

    /// Whether something may exist that was made for the order.
    pub fn may_exist(&self) -> bool {
        self.may_exist
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_an_argument_is_of_the_users_own() {
        let user = crate::sys::user_name();
        let (mine, everyone) = (Scope::default(), Scope { everyone: true, ..Scope::default() });
        for (owner, is_mine) in [
            (Some(crate::sys::own_address()), true),
            (Some(format!("{user}@elsewhere")), true),
            (Some(format!("{user}x@elsewhere")), false),
            (Some(format!("else@{user}")), false),
            (Some(String::new()), false),
            (None, true),
        ] {
            assert_eq!(mine.covers(owner.as_deref()), is_mine, "{owner:?}");
            assert!(everyone.covers(owner.as_deref()));
        }
    }
}
