//! `clouds.yaml` and what goes with it, and the variables of the environment, as the `openstack` command reads them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use broker_core::provider::{ErrorKind, ProviderError};
use broker_core::{ArgValue, Args, merge, yaml};

/// What around this process has a say in which cloud is meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// The variables whose names begin with `OS_`.
    pub(crate) variables: HashMap<String, String>,
    /// Where files are looked for, in this order.
    pub(crate) directories: Vec<PathBuf>,
    /// The file that the settings name.
    pub(crate) clouds_file: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn here() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
        let directories = [
            std::env::current_dir().ok(),
            config.map(|config| config.join("openstack")),
            Some(PathBuf::from("/etc/openstack")),
        ];
        Self {
            variables: std::env::vars().filter(|(name, value)| name.starts_with("OS_") && !value.is_empty()).collect(),
            directories: directories.into_iter().flatten().collect(),
            clouds_file: None,
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The file of a name that counts: the one that is named, else the first of those that are there.
    fn file(&self, named: Option<PathBuf>, stem: &str) -> Result<Option<PathBuf>, ProviderError> {
        if let Some(named) = named {
            if named.is_file() {
                return Ok(Some(named));
            }
            return Err(bad(format!("`{}` does not exist", named.display())));
        }
        let names = ["yaml", "yml", "json"].map(|end| format!("{stem}.{end}"));
        let places = self.directories.iter().flat_map(|directory| names.iter().map(|name| directory.join(name)));
        Ok(places.into_iter().find(|path| path.is_file()))
    }

    /// The mapping below `key` in a file.
    fn section(&self, named: Option<PathBuf>, stem: &str, key: &str) -> Result<Section, ProviderError> {
        let Some(path) = self.file(named, stem)? else { return Ok(Section { path: None, entries: Args::new() }) };
        let mut whole = read(&path)?;
        let entries = match whole.shift_remove(key) {
            Some(ArgValue::Map(map)) => map,
            None => Args::new(),
            Some(value) if value.is_null() => Args::new(),
            Some(_) => return Err(bad(format!("`{}`: `{key}` must be a mapping", path.display()))),
        };
        Ok(Section { path: Some(path), entries })
    }

    fn clouds(&self) -> Result<Section, ProviderError> {
        let named = self.clouds_file.clone().or_else(|| self.variable("OS_CLIENT_CONFIG_FILE").map(PathBuf::from));
        self.section(named, "clouds", "clouds")
    }
}

/// A part of a file.
struct Section {
    path: Option<PathBuf>,
    entries: Args,
}

/// What the files say of a cloud: its profile in `clouds-public.yaml`, `clouds.yaml`, and `secure.yaml` on top.
pub(crate) fn cloud(name: &str, around: &Surroundings) -> Result<Args, ProviderError> {
    let clouds = around.clouds()?;
    let Some(own) = clouds.entries.get(name) else {
        let message = match clouds.path {
            None => {
                let places = around.directories.iter().map(|directory| format!("`{}`", directory.display()));
                let places: Vec<String> = places.collect();
                format!("there is no `clouds.yaml` with cloud `{name}` in {}", places.join(", "))
            }
            Some(path) => {
                let known: Vec<String> = clouds.entries.keys().map(|name| format!("`{name}`")).collect();
                format!("there is no cloud `{name}` in `{}`: it has {}", path.display(), known.join(", "))
            }
        };
        return Err(bad(message));
    };
    let Some(own) = own.as_map().cloned() else {
        return Err(bad(format!("cloud `{name}` must be a mapping")));
    };
    let profile = own.get("profile").or_else(|| own.get("cloud")).and_then(ArgValue::as_str);
    let mut values = match profile {
        None => Args::new(),
        Some(profile) => profile_of(profile, name, around)?,
    };
    merge(&mut values, own);
    let secure = around.variable("OS_CLIENT_SECURE_FILE").map(PathBuf::from);
    let mut secrets = around.section(secure, "secure", "clouds")?.entries;
    if let Some(ArgValue::Map(secrets)) = secrets.shift_remove(name) {
        merge(&mut values, secrets);
    }
    Ok(values)
}

fn profile_of(profile: &str, cloud: &str, around: &Surroundings) -> Result<Args, ProviderError> {
    let named = around.variable("OS_CLIENT_VENDOR_FILE").map(PathBuf::from);
    let mut public = around.section(named, "clouds-public", "public-clouds")?.entries;
    match public.shift_remove(profile) {
        Some(ArgValue::Map(values)) => Ok(values),
        _ => {
            let message = format!(
                "cloud `{cloud}` has the profile `{profile}`, and no `clouds-public.yaml` has that; those that are part of \
                 openstacksdk are not known here, so what it says must be written there or into the cloud"
            );
            Err(bad(message))
        }
    }
}

/// Whether the files have a cloud of this name.
pub(crate) fn has(name: &str, around: &Surroundings) -> Result<bool, ProviderError> {
    Ok(around.clouds()?.entries.contains_key(name))
}

/// The cloud that is meant where nobody names one: `OS_CLOUD`, else what `OS_AUTH_URL` and the others say, else the only
/// one there is. What the variables say wins over what the files say of it.
pub(crate) fn chosen_by_the_environment(around: &Surroundings) -> Result<(Option<String>, Args), ProviderError> {
    let with_variables = |name: &str| {
        let mut values = cloud(name, around)?;
        merge(&mut values, of_variables(around));
        Ok((Some(name.to_owned()), values))
    };
    if let Some(name) = around.variable("OS_CLOUD") {
        return with_variables(name);
    }
    if around.variable("OS_AUTH_URL").is_some() {
        return Ok((None, of_variables(around)));
    }
    let clouds = around.clouds()?;
    let mut names = clouds.entries.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => with_variables(only),
        (Some(_), Some(_)) => {
            let known: Vec<String> = clouds.entries.keys().map(|name| format!("`{name}`")).collect();
            Err(bad(format!(
                "nothing says which cloud is meant: setting `cloud` or `OS_CLOUD`, of {}",
                known.join(", ")
            )))
        }
        (None, _) => {
            let message = "nothing says which cloud is meant: there is neither setting `cloud` nor `auth_url`, no \
                           `OS_CLOUD`, no `OS_AUTH_URL` and no `clouds.yaml`";
            Err(bad(message.to_owned()))
        }
    }
}

/// Variables that do not stand below `auth`.
const OUTSIDE: &[&str] = &[
    "auth_type",
    "region_name",
    "interface",
    "endpoint_type",
    "identity_api_version",
    "cacert",
    "cert",
    "key",
    "compute_endpoint_override",
    "network_endpoint_override",
    "image_endpoint_override",
];

fn of_variables(around: &Surroundings) -> Args {
    let mut values = Args::new();
    let mut auth = Args::new();
    for (name, value) in &around.variables {
        let key = name.trim_start_matches("OS_").to_ascii_lowercase();
        let place = if OUTSIDE.contains(&key.as_str()) { &mut values } else { &mut auth };
        place.insert(key, ArgValue::Text(value.clone()));
    }
    if let Some(insecure) = auth.shift_remove("insecure").and_then(|insecure| insecure.as_bool()) {
        values.insert("verify".to_owned(), ArgValue::Plain((!insecure).to_string()));
    }
    values.insert("auth".to_owned(), ArgValue::Map(auth));
    values
}

/// A YAML file; JSON is YAML too.
fn read(path: &Path) -> Result<Args, ProviderError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| bad(format!("cannot read `{}`", path.display())).source(error))?;
    let node = yaml::parse(&text).map_err(|error| bad(format!("`{}` is no YAML", path.display())).source(error))?;
    match node.map(yaml::Node::into_value) {
        None => Ok(Args::new()),
        Some(ArgValue::Map(map)) => Ok(map),
        Some(_) => Err(bad(format!("`{}` must be a mapping", path.display()))),
    }
}

fn bad(message: String) -> ProviderError {
    ProviderError::new(ErrorKind::Settings, message)
}
