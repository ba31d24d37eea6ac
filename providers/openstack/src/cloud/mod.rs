//! Which cloud is meant, and how it is entered: the settings, `clouds.yaml` and the environment made into one [`Cloud`].

pub(crate) mod files;

use std::collections::BTreeMap;
use std::path::PathBuf;

use broker_core::provider::{ErrorKind, ProviderError};
use broker_core::secrets::Secret;
use broker_core::settings::ProviderSettings;
use broker_core::{ArgValue, Args, merge};
use broker_http::Tls;

use self::files::Surroundings;

/// A cloud as it is to be entered. Nothing in it is a wish: every default has been filled in.
#[derive(Debug, Clone)]
pub(crate) struct Cloud {
    /// Its name in `clouds.yaml`, where it has one.
    pub(crate) name: Option<String>,
    /// Keystone's address, with `/v3` at its end and no slash behind that.
    pub(crate) auth_url: String,
    pub(crate) credentials: Credentials,
    pub(crate) region: Option<String>,
    /// `public`, `internal` or `admin`.
    pub(crate) interface: String,
    /// Addresses of services that the catalog has no say in, by `compute`, `network` and `image`.
    pub(crate) overrides: BTreeMap<String, String>,
    pub(crate) tls: Tls,
}

/// Who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    Password { user: Named, password: Secret, scope: Option<Named> },
    ApplicationCredential { id: ApplicationCredential, secret: Secret },
    Token { token: Secret, scope: Option<Named> },
}

/// An application credential: by its id, or by its name and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApplicationCredential {
    Id(String),
    Name { name: String, user: Named },
}

/// A user or a project: an id says which one alone, a name in its domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    Id(String),
    Name { name: String, domain: Domain },
}

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Domain {
    Id(String),
    Name(String),
}

/// Settings that stand below `auth` in `clouds.yaml`, and at the top of the section here.
const AUTH_KEYS: &[&str] = &[
    "auth_url",
    "username",
    "user_id",
    "password",
    "project_name",
    "project_id",
    "tenant_name",
    "tenant_id",
    "user_domain_name",
    "user_domain_id",
    "project_domain_name",
    "project_domain_id",
    "default_domain",
    "default_domain_id",
    "domain_name",
    "domain_id",
    "application_credential_id",
    "application_credential_name",
    "application_credential_secret",
    "token",
];

/// The others.
const CLOUD_KEYS: &[&str] = &[
    "auth_type",
    "region_name",
    "regions",
    "interface",
    "endpoint_type",
    "identity_api_version",
    "verify",
    "cacert",
    "cert",
    "key",
    "compute_endpoint_override",
    "network_endpoint_override",
    "image_endpoint_override",
];

/// Settings that hold paths.
const PATHS: &[&str] = &["verify", "cacert", "cert", "key"];

/// Where the cloud's name stands in settings that need no files any more.
const NAME: &str = "cloud_name";

/// A path as people write it: `~` is the home directory.
fn at_home(text: &str) -> PathBuf {
    match text.strip_prefix("~/").zip(std::env::var_os("HOME")) {
        Some((rest, home)) => PathBuf::from(home).join(rest),
        None => PathBuf::from(text),
    }
}

/// Settings with all in them that the environment and files of this machine have to say about the cloud: whoever has
/// them needs neither. What they say themselves wins over what `clouds.yaml` says of the cloud they name. Where they say
/// neither a cloud nor an address, an instance means the cloud of its name, if there is one; else the environment and the
/// files decide, as for the `openstack` command.
pub(crate) fn resolved(settings: &ProviderSettings, around: &Surroundings) -> Result<ProviderSettings, ProviderError> {
    let text = |key: &str| Ok::<_, ProviderError>(settings.text(key)?.filter(|text| !text.trim().is_empty()));
    let mut around = around.clone();
    if let Some(file) = text("clouds_file")? {
        around.clouds_file = Some(at_home(file));
    }
    let (name, mut values) = match (text("cloud")?, text("auth_url")?, settings.instance.as_deref()) {
        (Some(name), ..) => (Some(name.to_owned()), files::cloud(name, &around)?),
        (None, Some(_), _) => (text(NAME)?.map(str::to_owned), Args::new()),
        (None, None, Some(name)) if files::has(name, &around)? => (Some(name.to_owned()), files::cloud(name, &around)?),
        (None, None, _) => files::chosen_by_the_environment(&around)?,
    };
    let given = |keys: &[&str]| -> Args {
        let value = |key: &&str| Some(((*key).to_owned(), settings.values.get(*key)?.clone()));
        keys.iter().filter_map(value).collect()
    };
    let mut own = given(CLOUD_KEYS);
    own.insert("auth".to_owned(), ArgValue::Map(given(AUTH_KEYS)));
    merge(&mut values, own);
    let mut whole = settings.clone();
    whole.values.retain(|key, _| !["cloud", "clouds_file"].contains(&key.as_str()));
    let auth = values.get("auth").and_then(ArgValue::as_map);
    for (keys, from) in [(CLOUD_KEYS, Some(&values)), (AUTH_KEYS, auth)] {
        for key in keys {
            if let Some(value) = from.and_then(|from| from.get(*key)) {
                let value = if PATHS.contains(key) { absolute(key, value) } else { value.clone() };
                whole.values.insert((*key).to_owned(), value);
            }
        }
    }
    if let Some(name) = name {
        whole.values.insert(NAME.to_owned(), ArgValue::Text(name));
    }
    Ok(whole)
}

/// A path from the root, whatever the working directory is later.
fn absolute(key: &str, value: &ArgValue) -> ArgValue {
    // Most that is said of `verify` is no path.
    let is_path = |text: &str| if key == "verify" { text.contains('/') } else { !text.is_empty() };
    let is_relative = |text: &&str| is_path(text) && !text.starts_with(['/', '~']);
    let path = value.as_str().filter(is_relative).and_then(|text| std::path::absolute(text).ok());
    path.map_or_else(|| value.clone(), |path| ArgValue::Text(path.to_string_lossy().into_owned()))
}

impl Cloud {
    /// The cloud of an instance: see [`resolved`].
    pub(crate) fn of(settings: &ProviderSettings, around: &Surroundings) -> Result<Self, ProviderError> {
        let settings = resolved(settings, around)?;
        let name = settings.text(NAME)?.map(str::to_owned);
        let origin = match &name {
            Some(name) => format!("cloud `{name}`"),
            None => "provider `OpenStack`".to_owned(),
        };
        Reader { values: &settings.values, origin: &origin }.cloud(name)
    }
}

/// Reads resolved values.
struct Reader<'a> {
    values: &'a Args,
    origin: &'a str,
}

impl Reader<'_> {
    fn cloud(&self, name: Option<String>) -> Result<Cloud, ProviderError> {
        if let Some(version) = self.text("identity_api_version")?.filter(|version| !version.starts_with('3')) {
            return Err(self.bad(&format!("`identity_api_version` is `{version}`, and must be `3`")));
        }
        let auth_url = self.text("auth_url")?.ok_or_else(|| self.bad("there is no `auth_url`"))?;
        let (region, regions) = (self.text("region_name")?, self.list("regions"));
        let region = match (region, regions.as_slice()) {
            (Some(region), _) => Some(region),
            // Of several the user has to choose.
            (None, [only]) => Some(only.clone()),
            (None, []) => None,
            (None, several) => {
                let message =
                    format!("it has several regions, and `region_name` must be one of `{}`", several.join("`, `"));
                return Err(self.bad(&message));
            }
        };
        let interface = match self.text("interface")? {
            Some(interface) => interface,
            None => self.text("endpoint_type")?.unwrap_or_else(|| "public".to_owned()),
        };
        let interface = interface.trim_end_matches("URL").to_owned();
        if !["public", "internal", "admin"].contains(&interface.as_str()) {
            let message = format!("`interface` is `{interface}`, and must be `public`, `internal` or `admin`");
            return Err(self.bad(&message));
        }
        let mut overrides = BTreeMap::new();
        for service in ["compute", "network", "image"] {
            if let Some(address) = self.text(&format!("{service}_endpoint_override"))? {
                overrides.insert(service.to_owned(), address);
            }
        }
        let credentials = self.credentials()?;
        Ok(Cloud {
            name,
            auth_url: with_version(&auth_url, "v3"),
            credentials,
            region,
            interface,
            overrides,
            tls: self.tls()?,
        })
    }

    fn tls(&self) -> Result<Tls, ProviderError> {
        let verify = self.values.get("verify").filter(|value| !value.is_null());
        // As for `requests`: a path says whom to believe.
        let (verify, named) = match verify {
            None => (true, None),
            Some(value) => match (value.as_bool(), value.as_str()) {
                (Some(verify), _) => (verify, None),
                (None, Some(path)) if path.contains('/') => (true, Some(path.to_owned())),
                _ => return Err(self.bad("`verify` must be `true`, `false` or the path of a file")),
            },
        };
        let ca = match self.text("cacert")? {
            Some(file) => Some(file),
            None => named,
        };
        let file = |text: String| at_home(&text);
        let (cert, key) = (self.text("cert")?.map(file), self.text("key")?.map(file));
        if let (None, Some(key)) = (&cert, &key) {
            return Err(self.bad(&format!("`key` is `{}`, and there is no `cert` that it belongs to", key.display())));
        }
        Ok(Tls { verify, ca: ca.map(file), client: cert.map(|cert| (cert, key)) })
    }

    fn credentials(&self) -> Result<Credentials, ProviderError> {
        let kind = self.text("auth_type")?;
        let has = |key: &str| Ok::<_, ProviderError>(self.text(key)?.is_some());
        let is_application = has("application_credential_id")? || has("application_credential_name")?;
        match kind.as_deref() {
            Some("v3applicationcredential") => self.application_credential(),
            None if is_application => self.application_credential(),
            Some("token" | "v3token") => self.token(),
            None if has("token")? => self.token(),
            None | Some("password" | "v3password") => self.password(),
            Some("totp" | "v3totp") => {
                let why = "a passcode opens one login, and every command logs in anew";
                let remedy = "make an application credential, and write `v3applicationcredential`";
                Err(self.bad(&format!("`auth_type` is `v3totp`, which cannot be used here: {why}; {remedy}")))
            }
            Some(other) => {
                let known = "`v3password`, `v3applicationcredential` or `v3token`";
                Err(self.bad(&format!("`auth_type` is `{other}`, and must be {known}")))
            }
        }
    }

    fn password(&self) -> Result<Credentials, ProviderError> {
        let user = self.user()?.ok_or_else(|| self.bad("there is neither a `username` nor a `user_id`"))?;
        let password = self.text("password")?.ok_or_else(|| self.bad("there is no `password`"))?;
        Ok(Credentials::Password { user, password: Secret::new(password), scope: self.project()? })
    }

    fn token(&self) -> Result<Credentials, ProviderError> {
        let token = self.text("token")?.ok_or_else(|| self.bad("there is no `token`"))?;
        Ok(Credentials::Token { token: Secret::new(token), scope: self.project()? })
    }

    fn application_credential(&self) -> Result<Credentials, ProviderError> {
        let secret = self.text("application_credential_secret")?;
        let secret = secret.ok_or_else(|| self.bad("there is no `application_credential_secret`"))?;
        let id = match (self.text("application_credential_id")?, self.text("application_credential_name")?) {
            (Some(id), _) => ApplicationCredential::Id(id),
            (None, Some(name)) => {
                let user = self.user()?;
                let user = user.ok_or_else(|| self.bad("`application_credential_name` needs a `username`"))?;
                ApplicationCredential::Name { name, user }
            }
            (None, None) => return Err(self.bad("there is no `application_credential_id`")),
        };
        Ok(Credentials::ApplicationCredential { id, secret: Secret::new(secret) })
    }

    fn user(&self) -> Result<Option<Named>, ProviderError> {
        if let Some(id) = self.text("user_id")? {
            return Ok(Some(Named::Id(id)));
        }
        let Some(name) = self.text("username")? else { return Ok(None) };
        Ok(Some(Named::Name { name, domain: self.domain("user")? }))
    }

    fn project(&self) -> Result<Option<Named>, ProviderError> {
        if let Some(id) = self.first(&["project_id", "tenant_id"])? {
            return Ok(Some(Named::Id(id)));
        }
        let Some(name) = self.first(&["project_name", "tenant_name"])? else { return Ok(None) };
        Ok(Some(Named::Name { name, domain: self.domain("project")? }))
    }

    fn domain(&self, whose: &str) -> Result<Domain, ProviderError> {
        if let Some(id) = self.first(&[&format!("{whose}_domain_id"), "domain_id", "default_domain_id"])? {
            return Ok(Domain::Id(id));
        }
        let name = self.first(&[&format!("{whose}_domain_name"), "domain_name", "default_domain"])?;
        Ok(Domain::Name(name.unwrap_or_else(|| "Default".to_owned())))
    }

    fn first(&self, keys: &[&str]) -> Result<Option<String>, ProviderError> {
        for key in keys {
            if let Some(text) = self.text(key)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn text(&self, key: &str) -> Result<Option<String>, ProviderError> {
        let Some(value) = self.values.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| self.bad(&format!("`{key}` is a {}, no text", value.kind())))?;
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    /// The names in a list, of which each may also be a mapping with a `name`.
    fn list(&self, key: &str) -> Vec<String> {
        let items = self.values.get(key).and_then(ArgValue::as_list).unwrap_or_default();
        let name = |item: &ArgValue| item.as_str().or_else(|| item.as_map()?.get("name")?.as_str()).map(str::to_owned);
        items.iter().filter_map(name).collect()
    }

    fn bad(&self, what: &str) -> ProviderError {
        ProviderError::new(ErrorKind::Settings, format!("{}: {what}", self.origin))
    }
}

/// An address with an API's version in its path: that one at the end where it has none. Behind the version there may be
/// a project's id.
pub(crate) fn with_version(address: &str, version: &str) -> String {
    let address = address.trim_end_matches('/');
    let is_version = |part: &str| {
        let digits = part.strip_prefix('v').unwrap_or_default();
        digits.starts_with(|first: char| first.is_ascii_digit())
            && digits.chars().all(|character| character.is_ascii_digit() || character == '.')
    };
    // What stands before the path may look like anything.
    let (_, place) = address.split_once("://").unwrap_or(("", address));
    let has_one = place.split('/').skip(1).any(is_version);
    if has_one { address.to_owned() } else { format!("{address}/{version}") }
}

#[cfg(test)]
mod tests;
