//! The settings: `broker_settings.yaml`, the environment, and what a program gives.
//!
//! Layers lie on top of each other, and a later one wins key by key: the defaults, the file, the chosen instance of a
//! provider, the environment, the program. The `config` crate merges them. Scalars keep their spelling all the way, and
//! every value knows where it was given, so that a message can say so.
//!
//! The file has the schema of the Python tool, and its files work unchanged.

mod directory;
mod environment;
mod error;
mod fields;
mod general;
mod layers;
mod lookup;
mod provider;
mod schema;
mod ssh;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use crate::args::{ArgValue, Args};
use crate::yaml;

use general::General;
use layers::{Tree, merge};
use schema::Names;

pub use directory::BrokerDirectory;
pub use error::SettingsError;
pub use fields::FieldExpression;
pub use general::{LogLevel, LoggingSettings};
pub use provider::ProviderSettings;
pub(crate) use ssh::split_port;
pub use ssh::{ClientConfigFile, HostKeyRule, InvalidJumpHost, JumpHost, SshBackend, SshSettings};
pub use value::SettingError;

/// All settings of a process. Cheap to clone.
///
/// ```
/// use broker_core::settings::Settings;
///
/// let settings = Settings::builder().set("Container.runtime", "podman").build()?.settings;
/// assert_eq!(settings.provider("Container", None)?.text("runtime")?, Some("podman"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Settings(Arc<Inner>);

struct Inner {
    /// What relative paths of secrets start from.
    directory: Option<PathBuf>,
    environment: HashMap<OsString, OsString>,
    layers: ProviderLayers,
    general: General,
    ssh: Tree,
    nicks: IndexMap<String, Args>,
    labels: BTreeMap<String, String>,
}

/// The layers that providers' sections are merged from, when somebody asks for one.
struct ProviderLayers {
    file: Tree,
    environment: Tree,
    program: Tree,
}

/// Settings, and what is odd about them.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What should be told: unknown keys, one line each.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Reads the settings file of a Broker directory, if there is one, and the environment.
    ///
    /// `known_providers` are the names of the providers that the program has, as their sections are called.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is malformed, or a value does not do.
    pub fn load<K: Into<OsString>, V: Into<OsString>>(
        directory: &BrokerDirectory,
        environment: impl IntoIterator<Item = (K, V)>,
        known_providers: &[&str],
    ) -> Result<Loaded, SettingsError> {
        Self::builder().directory(directory).environment(environment).known_providers(known_providers).build()
    }

    /// Settings from many sources.
    pub fn builder() -> SettingsBuilder {
        SettingsBuilder::default()
    }

    /// Whether colours are unwanted.
    pub fn less_colors(&self) -> bool {
        self.0.general.less_colors
    }

    /// What is logged, and where.
    pub fn logging(&self) -> &LoggingSettings {
        &self.0.general.logging
    }

    /// How many hosts may be worked on at once, if that is limited.
    pub fn thread_limit(&self) -> Option<std::num::NonZeroUsize> {
        self.0.general.thread_limit
    }

    /// The columns of the inventory: titles, and what stands below them. Empty where the settings have none.
    pub fn inventory_fields(&self) -> &IndexMap<String, FieldExpression> {
        &self.0.general.inventory_fields
    }

    /// What names a host in a list of hosts.
    pub fn inventory_list_vars(&self) -> &FieldExpression {
        &self.0.general.inventory_list_vars
    }

    /// How long a host is held if nobody says how long.
    pub fn default_lease(&self) -> Option<Duration> {
        self.0.general.default_lease
    }

    /// How long a host may be held at most.
    pub fn max_lease(&self) -> Option<Duration> {
        self.0.general.max_lease
    }

    /// How long half-made hosts may take to be settled after an interruption.
    pub fn stop_grace(&self) -> Duration {
        self.0.general.stop_grace
    }

    /// How hosts are reached over SSH. Looks up the secrets, where the settings say where they are, and may wait for a
    /// command that prints one.
    ///
    /// # Errors
    ///
    /// If a secret cannot be looked up.
    pub fn ssh(&self) -> Result<SshSettings, SettingsError> {
        let section = self.secrets().resolve_below("ssh", self.0.ssh.clone())?;
        Ok(SshSettings::read(&section, "ssh")?)
    }

    /// The section about SSH as values, its secrets in their places. Otherwise as [`ssh`](Self::ssh).
    pub(crate) fn ssh_values(&self) -> Result<Args, SettingsError> {
        let section = self.secrets().resolve_below("ssh", self.0.ssh.clone())?;
        Ok(section.entries().map(layers::to_args).unwrap_or_default())
    }

    /// The arguments that a nick stands for.
    ///
    /// # Errors
    ///
    /// If there is no such nick, with the one that may have been meant.
    pub fn nick(&self, name: &str) -> Result<&Args, SettingsError> {
        self.0.nicks.get(name).ok_or_else(|| SettingsError::UnknownNick {
            nick: name.to_owned(),
            suggestion: crate::names::closest(name, self.nick_names()).map(str::to_owned),
            known: self.nick_names().map(str::to_owned).collect(),
        })
    }

    /// The nicks, in their order.
    pub fn nick_names(&self) -> impl Iterator<Item = &str> {
        self.0.nicks.keys().map(String::as_str)
    }

    /// The settings of one instance of a provider: its section, the instance's values, the environment and the program's
    /// values. A provider without a section has empty settings.
    ///
    /// Without a name it is the instance with `default: true`, or the only one. Looks up secrets, where the settings say
    /// where they are, and may wait for a command that prints one.
    ///
    /// # Errors
    ///
    /// If there is no such instance, if there are several and none is the default, if a value has the wrong shape, or if
    /// a secret cannot be looked up.
    pub fn provider(&self, name: &str, instance: Option<&str>) -> Result<ProviderSettings, SettingsError> {
        let ProviderLayers { file, environment, program } = &self.0.layers;
        let mut settings = provider::assemble(name, instance, [file, environment, program], |merged| {
            self.secrets().resolve_below(name, merged)
        })?;
        let own = std::mem::replace(&mut settings.labels, self.0.labels.clone());
        settings.labels.extend(own);
        Ok(settings)
    }

    /// The instances of a provider, in their order, and whether the settings say anything of the provider at all.
    pub fn provider_instances(&self, name: &str) -> (Vec<String>, bool) {
        let ProviderLayers { file, environment, program } = &self.0.layers;
        provider::instances(name, [file, environment, program])
    }

    fn secrets(&self) -> lookup::Secrets<'_> {
        lookup::Secrets { environment: &self.0.environment, directory: self.0.directory.as_deref() }
    }
}

impl Default for Settings {
    #[expect(clippy::expect_used, reason = "the defaults are constants, and tested")]
    fn default() -> Self {
        Self::builder().build().expect("the defaults are valid").settings
    }
}

/// Secrets may stand anywhere in nicks and providers' sections, so their values are left out.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("directory", &self.0.directory)
            .field("general", &self.0.general)
            .field("nicks", &self.0.nicks.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Builds [`Settings`]. Nothing is read before [`build`](Self::build).
#[derive(Default)]
pub struct SettingsBuilder {
    directory: Option<PathBuf>,
    file: FileSource,
    environment: HashMap<OsString, OsString>,
    known_providers: Vec<String>,
    program: Args,
}

#[derive(Default)]
enum FileSource {
    #[default]
    None,
    Path(PathBuf),
    Text(String),
}

impl SettingsBuilder {
    /// Reads the settings file of a Broker directory, if it is there. Relative paths in it start from the directory.
    #[must_use]
    pub fn directory(mut self, directory: &BrokerDirectory) -> Self {
        self.directory = Some(directory.path().to_owned());
        self.file = FileSource::Path(directory.settings_file());
        self
    }

    /// Reads a text in the place of the settings file.
    #[must_use]
    pub fn yaml(mut self, text: impl Into<String>) -> Self {
        self.file = FileSource::Text(text.into());
        self
    }

    /// The environment: variables such as `BROKER_Container__runtime` are settings, and secrets may name any variable.
    #[must_use]
    pub fn environment<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.environment = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self
    }

    /// The names of the providers that the program has, as their sections are called.
    #[must_use]
    pub fn known_providers<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.known_providers = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        self
    }

    /// Sets one value, whatever file and environment say. The path has dots, as in `Container.runtime`.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<ArgValue>) -> Self {
        let value =
            path.rsplit('.').fold(value.into(), |value, key| ArgValue::Map(Args::from([(key.to_owned(), value)])));
        if let ArgValue::Map(values) = value {
            crate::args::merge(&mut self.program, values);
        }
        self
    }

    /// Sets the values of a whole section, whatever file and environment say. Its keys may have dots.
    #[must_use]
    pub fn section(mut self, name: &str, values: Args) -> Self {
        crate::args::merge(&mut self.program, Args::from([(name.to_owned(), ArgValue::Map(values))]));
        self
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is malformed, or a value does not do.
    pub fn build(self) -> Result<Loaded, SettingsError> {
        let names = Names::new(&self.known_providers);
        let file = schema::normalize(read_file(&self.file)?, &names)?;
        let environment = environment::layer(&self.environment, &file, &names)?;
        let environment = schema::normalize(environment, &names)?;
        let program = Tree::from_value(ArgValue::Map(self.program), "given by the program");
        let program = schema::normalize(program, &names)?;

        let merged = merge(&[&schema::defaults(), &file, &environment, &program])?;
        let warnings = schema::warnings(&merged, &names);
        let inner = Inner {
            general: General::read(&merged)?,
            ssh: general::ssh_section(&merged)?,
            nicks: general::nicks(&merged)?,
            labels: general::labels(&merged)?,
            directory: self.directory,
            environment: self.environment,
            layers: ProviderLayers { file, environment, program },
        };
        Ok(Loaded { settings: Settings(Arc::new(inner)), warnings })
    }
}

fn read_file(source: &FileSource) -> Result<Tree, SettingsError> {
    let (name, text) = match source {
        FileSource::None => return Ok(Tree::empty()),
        FileSource::Text(text) => ("the text of the settings".to_owned(), text.clone()),
        FileSource::Path(path) => match std::fs::read_to_string(path) {
            Ok(text) => (format!("settings file `{}`", path.display()), text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Tree::empty()),
            Err(source) => return Err(SettingsError::Read { path: path.clone(), source }),
        },
    };
    let origin = |line: usize| match source {
        FileSource::Path(path) => format!("`{}:{line}`", path.display()),
        _ => format!("line {line}"),
    };
    match yaml::parse(&text) {
        Err(source) => Err(SettingsError::Malformed { name, source }),
        Ok(None) => Ok(Tree::empty()),
        Ok(Some(node)) => match Tree::from_node(node, &origin) {
            Tree::Leaf { value, .. } => Err(SettingsError::NotAMapping { name, kind: value.kind() }),
            map @ Tree::Map { .. } => Ok(map),
        },
    }
}

#[cfg(test)]
mod tests;
