//! Logging in at Keystone: once for all who wait, and again when a token is not believed any more.

use std::sync::Arc;
use std::time::Duration;

use broker_core::provider::{ErrorKind, ProviderError};
use broker_core::secrets::Secret;
use broker_http::retry_after;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::catalog::{Catalog, Entry, Service};
use super::error::{CallError, Refusal};
use super::{no_answer, refusal, retry};
use crate::cloud::{ApplicationCredential, Cloud, Credentials, Domain, Named};

/// A token that has less time left than this is not begun anything with.
const SPARE: SignedDuration = SignedDuration::from_secs(60);

/// The state of being logged in.
#[derive(Default)]
pub(super) struct Login(Mutex<State>);

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// Counts the attempts, so that those who waited for one do not make another.
    attempts: u64,
    failed: Option<Failed>,
}

/// Why the last attempt came to nothing.
struct Failed {
    attempt: u64,
    kind: ErrorKind,
    message: String,
}

/// What we are logged in with, and what Keystone said about it.
#[derive(Debug)]
pub(crate) struct Token {
    /// Of several, one after the other, which.
    pub(super) number: u64,
    secret: Secret,
    expires_at: Option<Timestamp>,
    pub(crate) project: Project,
    pub(crate) user: User,
    catalog: Catalog,
}

/// A project.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Project {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
}

/// A user.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct User {
    #[serde(default)]
    pub(crate) name: String,
}

impl Token {
    pub(super) fn secret(&self) -> &str {
        self.secret.expose()
    }

    pub(super) fn address(&self, service: Service) -> Result<&str, ProviderError> {
        self.catalog.address(service)
    }

    pub(crate) fn region(&self) -> Option<&str> {
        self.catalog.region.as_deref()
    }

    /// What tells the place from all others: the project, which has an id of its own in the whole world, and the region.
    pub(crate) fn identity(&self) -> String {
        match self.region() {
            Some(region) => format!("{}/{region}", self.project.id),
            None => self.project.id.clone(),
        }
    }

    fn lasts(&self) -> bool {
        let end = |at: Timestamp| at.checked_sub(SPARE).unwrap_or(at);
        self.expires_at.is_none_or(|at| end(at) > Timestamp::now())
    }
}

impl Login {
    /// The token, got anew if there is none, if it is about to end, or if it is the `stale` one.
    pub(super) async fn token(
        &self,
        http: &reqwest::Client,
        cloud: &Cloud,
        stale: Option<u64>,
    ) -> Result<Arc<Token>, ProviderError> {
        let began = self.0.try_lock().ok().map(|state| state.attempts);
        let mut state = self.0.lock().await;
        if let Some(token) = state.token.as_ref().filter(|token| token.lasts() && stale != Some(token.number)) {
            return Ok(Arc::clone(token));
        }
        // Somebody was at it when we came: what that came to is what we would come to.
        if let (None, Some(failed)) = (began, &state.failed)
            && failed.attempt == state.attempts
        {
            return Err(ProviderError::new(failed.kind, failed.message.clone()));
        }
        state.attempts += 1;
        let attempt = state.attempts;
        match log_in(http, cloud, attempt).await {
            Ok(token) => {
                let token = Arc::new(token);
                (state.token, state.failed) = (Some(Arc::clone(&token)), None);
                Ok(token)
            }
            Err(error) => {
                state.token = None;
                state.failed = Some(Failed { attempt, kind: error.kind(), message: error.to_string() });
                Err(error)
            }
        }
    }
}

/// Keystone's answer.
#[derive(Deserialize)]
struct Body {
    token: Described,
}

#[derive(Deserialize)]
struct Described {
    expires_at: Option<String>,
    project: Option<Project>,
    user: User,
    #[serde(default)]
    catalog: Vec<Entry>,
}

async fn log_in(http: &reqwest::Client, cloud: &Cloud, number: u64) -> Result<Token, ProviderError> {
    let doing = format!("could not log in to {}", cloud.label());
    let mut attempt = 0;
    loop {
        let (error, after) = match ask(http, cloud).await {
            Ok((secret, body)) => return token_of(cloud, number, secret, &body),
            Err(trouble) => trouble,
        };
        // One token more does no harm, so this is as good as asking.
        let Some(pause) = retry::pause(&Method::GET, &error, after, attempt) else {
            return Err(explained(error, cloud, &doing));
        };
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

type Asked = Result<(String, Vec<u8>), (CallError, Option<Duration>)>;

async fn ask(http: &reqwest::Client, cloud: &Cloud) -> Asked {
    let place = format!("{}/auth/tokens", cloud.auth_url);
    tracing::debug!(place, "logging in.");
    let silent = |error: &reqwest::Error| (no_answer(error, &cloud.auth_url).error, None);
    let request = http.post(&place).header("content-type", "application/json").header("accept", "application/json");
    let answer = request.body(request_body(cloud).to_string()).send().await.map_err(|error| silent(&error))?;
    if !answer.status().is_success() {
        let after = retry_after(answer.headers());
        return Err((CallError::Refused(refusal(answer).await), after));
    }
    let secret = answer.headers().get("x-subject-token").and_then(|token| token.to_str().ok()).map(str::to_owned);
    let Some(secret) = secret else {
        let message = format!("`{}` is no Keystone: its answer holds no token", cloud.auth_url);
        return Err((CallError::Before(ProviderError::new(ErrorKind::Settings, message)), None));
    };
    let body = answer.bytes().await.map_err(|error| silent(&error))?;
    Ok((secret, body.to_vec()))
}

fn token_of(cloud: &Cloud, number: u64, secret: String, body: &[u8]) -> Result<Token, ProviderError> {
    let Body { token } = serde_json::from_slice(body).map_err(|error| {
        let message = format!("`{}` gave a token that makes no sense", cloud.auth_url);
        ProviderError::new(ErrorKind::Bug, message).source(error)
    })?;
    let project = token.project.ok_or_else(|| {
        let message = format!("{}: there is no project: `project_name` or `project_id` must say which", cloud.label());
        ProviderError::new(ErrorKind::Settings, message)
    })?;
    Ok(Token {
        number,
        secret: Secret::new(secret),
        expires_at: token.expires_at.and_then(|at| at.parse().ok()),
        project,
        user: token.user,
        catalog: Catalog::new(&token.catalog, cloud)?,
    })
}

fn explained(error: CallError, cloud: &Cloud, doing: &str) -> ProviderError {
    match &error {
        CallError::Refused(refusal) if refusal.status == 401 => {
            let trace = refusal.trace();
            let message = format!("{doing}: `{}` does not take these credentials{trace}", cloud.auth_url);
            ProviderError::new(ErrorKind::Auth, message)
        }
        // An application credential that is gone, and a token that is none, are things that were not found.
        CallError::Refused(refusal @ Refusal { status: 404, words, .. })
            if words.starts_with("Could not find") || words.starts_with("Could not recognize") =>
        {
            let trace = refusal.trace();
            let message = format!("{doing}: `{}` does not take these credentials: {words}{trace}", cloud.auth_url);
            ProviderError::new(ErrorKind::Auth, message)
        }
        CallError::Refused(refusal) if refusal.status == 404 => {
            let message = format!("{doing}: `{}` is no address of Keystone{}", cloud.auth_url, refusal.trace());
            ProviderError::new(ErrorKind::Settings, message)
        }
        CallError::NoAnswer(_) | CallError::Refused(_) | CallError::Garbled(_) | CallError::Before(_) => {
            error.at(doing)
        }
    }
}

impl Cloud {
    /// What people call it.
    pub(crate) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("cloud `{name}`"),
            None => format!("`{}`", self.auth_url),
        }
    }
}

fn request_body(cloud: &Cloud) -> Value {
    let (identity, scope) = match &cloud.credentials {
        Credentials::Password { user, password, scope } => {
            let mut user = named(user);
            if let Some(user) = user.as_object_mut() {
                user.insert("password".to_owned(), json!(password.expose()));
            }
            (json!({"methods": ["password"], "password": {"user": user}}), scope)
        }
        Credentials::Token { token, scope } => (json!({"methods": ["token"], "token": {"id": token.expose()}}), scope),
        Credentials::ApplicationCredential { id, secret } => {
            let credential = match id {
                ApplicationCredential::Id(id) => json!({"id": id, "secret": secret.expose()}),
                ApplicationCredential::Name { name, user } => {
                    json!({"name": name, "user": named(user), "secret": secret.expose()})
                }
            };
            let methods = json!(["application_credential"]);
            (json!({"methods": methods, "application_credential": credential}), &None)
        }
    };
    match scope {
        Some(project) => json!({"auth": {"identity": identity, "scope": {"project": named(project)}}}),
        None => json!({"auth": {"identity": identity}}),
    }
}

fn named(named: &Named) -> Value {
    match named {
        Named::Id(id) => json!({"id": id}),
        Named::Name { name, domain: Domain::Id(id) } => json!({"name": name, "domain": {"id": id}}),
        Named::Name { name, domain: Domain::Name(domain) } => json!({"name": name, "domain": {"name": domain}}),
    }
}
