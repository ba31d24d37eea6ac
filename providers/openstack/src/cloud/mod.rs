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

impl Cloud {
    /// The cloud of an instance. What the settings say themselves wins over what `clouds.yaml` says of the cloud they name.
    /// Without a cloud and an address in them, the environment and the files decide as for the `openstack` command.
    pub(crate) fn of(settings: &ProviderSettings, around: &Surroundings) -> Result<Self, ProviderError> {
        let text = |key: &str| Ok::<_, ProviderError>(settings.text(key)?.filter(|text| !text.trim().is_empty()));
        let mut around = around.clone();
        if let Some(file) = text("clouds_file")? {
            around.clouds_file = Some(file.into());
        }
        let (name, mut values) = match (text("cloud")?, text("auth_url")?) {
            (Some(name), _) => (Some(name.to_owned()), files::cloud(name, &around)?),
            (None, Some(_)) => (None, Args::new()),
            (None, None) => files::chosen_by_the_environment(&around)?,
        };
        let given = |keys: &[&str]| -> Args {
            let value = |key: &&str| Some(((*key).to_owned(), settings.values.get(*key)?.clone()));
            keys.iter().filter_map(value).collect()
        };
        let mut own = given(CLOUD_KEYS);
        own.insert("auth".to_owned(), ArgValue::Map(given(AUTH_KEYS)));
        merge(&mut values, own);
        let origin = match &name {
            Some(name) => format!("cloud `{name}`"),
            None => "provider `OpenStack`".to_owned(),
        };
        Reader { values: &values, origin: &origin }.cloud(name)
    }
}

/// Reads merged values.
struct Reader<'a> {
    values: &'a Args,
    origin: &'a str,
}

impl Reader<'_> {
    fn cloud(&self, name: Option<String>) -> Result<Cloud, ProviderError> {
        if let Some(version) = self.top("identity_api_version")?.filter(|version| !version.starts_with('3')) {
            return Err(self.bad(&format!("`identity_api_version` is `{version}`, and must be `3`")));
        }
        let auth_url = self.auth("auth_url")?.ok_or_else(|| self.bad("there is no `auth_url`"))?;
        let (region, regions) = (self.top("region_name")?, self.list("regions"));
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
        let interface = match self.top("interface")? {
            Some(interface) => interface,
            None => self.top("endpoint_type")?.unwrap_or_else(|| "public".to_owned()),
        };
        let interface = interface.trim_end_matches("URL").to_owned();
        if !["public", "internal", "admin"].contains(&interface.as_str()) {
            let message = format!("`interface` is `{interface}`, and must be `public`, `internal` or `admin`");
            return Err(self.bad(&message));
        }
        let mut overrides = BTreeMap::new();
        for service in ["compute", "network", "image"] {
            if let Some(address) = self.top(&format!("{service}_endpoint_override"))? {
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
        let path = |text: String| match text.strip_prefix("~/").zip(std::env::var_os("HOME")) {
            Some((rest, home)) => PathBuf::from(home).join(rest),
            None => PathBuf::from(text),
        };
        let ca = match self.top("cacert")? {
            Some(file) => Some(file),
            None => named,
        };
        let (cert, key) = (self.top("cert")?.map(path), self.top("key")?.map(path));
        if let (None, Some(key)) = (&cert, &key) {
            return Err(self.bad(&format!("`key` is `{}`, and there is no `cert` that it belongs to", key.display())));
        }
        Ok(Tls { verify, ca: ca.map(path), client: cert.map(|cert| (cert, key)) })
    }

    fn credentials(&self) -> Result<Credentials, ProviderError> {
        let kind = self.top("auth_type")?;
        let has = |key: &str| Ok::<_, ProviderError>(self.auth(key)?.is_some());
        let is_application = has("application_credential_id")? || has("application_credential_name")?;
        match kind.as_deref() {
            Some("v3applicationcredential") => self.application_credential(),
            None if is_application => self.application_credential(),
            Some("token" | "v3token") => self.token(),
            None if has("token")? => self.token(),
            None | Some("password" | "v3password") => self.password(),
            Some(other) => {
                let known = "`v3password`, `v3applicationcredential` or `v3token`";
                Err(self.bad(&format!("`auth_type` is `{other}`, and must be {known}")))
            }
        }
    }

    fn password(&self) -> Result<Credentials, ProviderError> {
        let user = self.user()?.ok_or_else(|| self.bad("there is neither a `username` nor a `user_id`"))?;
        let password = self.auth("password")?.ok_or_else(|| self.bad("there is no `password`"))?;
        Ok(Credentials::Password { user, password: Secret::new(password), scope: self.project()? })
    }

    fn token(&self) -> Result<Credentials, ProviderError> {
        let token = self.auth("token")?.ok_or_else(|| self.bad("there is no `token`"))?;
        Ok(Credentials::Token { token: Secret::new(token), scope: self.project()? })
    }

    fn application_credential(&self) -> Result<Credentials, ProviderError> {
        let secret = self.auth("application_credential_secret")?;
        let secret = secret.ok_or_else(|| self.bad("there is no `application_credential_secret`"))?;
        let id = match (self.auth("application_credential_id")?, self.auth("application_credential_name")?) {
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
        if let Some(id) = self.auth("user_id")? {
            return Ok(Some(Named::Id(id)));
        }
        let Some(name) = self.auth("username")? else { return Ok(None) };
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
            if let Some(text) = self.auth(key)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn auth(&self, key: &str) -> Result<Option<String>, ProviderError> {
        let auth = self.values.get("auth").and_then(ArgValue::as_map);
        self.text(key, auth.and_then(|auth| auth.get(key)))
    }

    fn top(&self, key: &str) -> Result<Option<String>, ProviderError> {
        self.text(key, self.values.get(key))
    }

    fn text(&self, key: &str, value: Option<&ArgValue>) -> Result<Option<String>, ProviderError> {
        let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
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

/// An address that ends with an API's version: that one where it has none.
pub(crate) fn with_version(address: &str, version: &str) -> String {
    let address = address.trim_end_matches('/');
    let last = address.rsplit('/').next().unwrap_or_default();
    let digits = last.strip_prefix('v').unwrap_or_default();
    let has_one = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.chars().all(|character| character.is_ascii_digit() || character == '.');
    if has_one { address.to_owned() } else { format!("{address}/{version}") }
}

#[cfg(test)]
mod tests;
