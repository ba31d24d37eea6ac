//! The way to a cloud: one [`Session`] for each, which logs in, knows where the services are, and repeats what may be
//! repeated; and [`Client`], which goes that way and insists on the place that it leads to.

mod catalog;
mod error;
mod login;
mod retry;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use broker_core::provider::{Endpoint, ErrorKind, ProviderError};
pub(crate) use broker_http::encoded;
use broker_http::{NoAnswer, retry_after};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use self::catalog::Service;
pub(crate) use self::error::{CallError, Refusal, kind_of_words};
use self::login::Login;
pub(crate) use self::login::Token;
use crate::cloud::Cloud;

/// The newest version of Nova's API whose answers are known here: 2.52 brings tags at the creation, 2.79 is what the
/// recorded answers are of.
const NEWEST: u32 = 79;

/// A cloud, as one user and project.
pub(crate) struct Session {
    cloud: Cloud,
    http: reqwest::Client,
    login: Login,
    /// The minor version of Nova's API that is spoken: the newest of ours until the cloud says that it is too new.
    minor: AtomicU32,
}

impl Session {
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// If the files for encryption do not do.
    pub(crate) fn new(cloud: Cloud, timeout: Duration) -> Result<Self, ProviderError> {
        if !cloud.tls.verify {
            tracing::warn!(
                cloud = cloud.name.as_deref().unwrap_or(&cloud.auth_url),
                "`verify: false`: whoever answers is believed to be the cloud, and gets its password."
            );
        }
        let http = broker_http::client(&cloud.tls, timeout)?;
        Ok(Self { cloud, http, login: Login::default(), minor: AtomicU32::new(NEWEST) })
    }

    pub(crate) fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// What we are logged in with. `stale` is one that was not believed any more.
    pub(crate) async fn token(&self, stale: Option<u64>) -> Result<Arc<Token>, ProviderError> {
        self.login.token(&self.http, &self.cloud, stale).await
    }
}

/// A session that is to lead to one place: a project in a region. Where it leads to another, nothing is asked there.
#[derive(Clone)]
pub(crate) struct Client {
    session: Arc<Session>,
    expected: Option<Endpoint>,
}

/// An answer that is no refusal.
pub(crate) struct Answer {
    body: Vec<u8>,
    place: String,
    /// When it was sent, by the service's own clock.
    pub(crate) at: Option<jiff::Timestamp>,
}

impl Answer {
    /// What the answer says.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("`{}` gave an answer that makes no sense", self.place);
            CallError::Garbled(ProviderError::new(ErrorKind::Bug, message).source(error))
        })
    }
}

/// A request: to which service, and what.
struct Request<'a> {
    service: Service,
    method: Method,
    path: &'a str,
    body: Option<&'a Value>,
}

impl Client {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, expected: None }
    }

    /// The same, for a place of which it must not stray.
    pub(crate) fn expecting(&self, place: Option<&Endpoint>) -> Self {
        Self { session: Arc::clone(&self.session), expected: place.cloned() }
    }

    pub(crate) async fn token(&self) -> Result<Arc<Token>, ProviderError> {
        let token = self.session.token(None).await?;
        self.check(&token)?;
        Ok(token)
    }

    pub(crate) fn cloud(&self) -> &Cloud {
        self.session.cloud()
    }

    /// The minor version of Nova's API, as far as it is known.
    pub(crate) fn minor(&self) -> u32 {
        self.session.minor.load(Ordering::Relaxed)
    }

    /// Asks for something. `path` begins with a slash, and has its query in it.
    pub(crate) async fn get(&self, service: Service, path: &str) -> Result<Answer, CallError> {
        self.ask(Request { service, method: Method::GET, path, body: None }).await
    }

    /// Has something removed. What is not there is a refusal with the status 404.
    pub(crate) async fn delete(&self, service: Service, path: &str) -> Result<(), CallError> {
        self.ask(Request { service, method: Method::DELETE, path, body: None }).await.map(drop)
    }

    /// Has something made or done. This is never repeated: without an answer nobody knows whether it has been.
    pub(crate) async fn post(&self, service: Service, path: &str, body: &Value) -> Result<Answer, CallError> {
        self.ask(Request { service, method: Method::POST, path, body: Some(body) }).await
    }

    /// Everything that a list has, page by page. `path` is the list's, with its query; `key` is where the items are.
    pub(crate) async fn all<T: DeserializeOwned>(
        &self,
        service: Service,
        path: &str,
        key: &str,
    ) -> Result<(Vec<T>, Option<jiff::Timestamp>), CallError> {
        let mut items = Vec::new();
        let mut next = Some(path.to_owned());
        let mut seen = Vec::new();
        let mut at = None;
        while let Some(path) = next.take() {
            let answer = self.get(service, &path).await?;
            at = at.or(answer.at);
            let mut page: serde_json::Map<String, Value> = answer.read()?;
            let found = page.remove(key).unwrap_or_default();
            let found: Vec<T> = serde_json::from_value(found).map_err(|error| {
                let message = format!("`{}` gave a list `{key}` that makes no sense", answer.place);
                CallError::Garbled(ProviderError::new(ErrorKind::Bug, message).source(error))
            })?;
            let is_empty = found.is_empty();
            items.extend(found);
            let marker = next_marker(&page, key).filter(|marker| !is_empty && !seen.contains(marker));
            if let Some(marker) = marker {
                next = Some(with_marker(&path, &marker));
                seen.push(marker);
            }
        }
        Ok((items, at))
    }

    async fn ask(&self, request: Request<'_>) -> Result<Answer, CallError> {
        let mut attempt = 0;
        loop {
            let trouble = match self.ask_once(&request).await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            let Some(pause) = retry::pause(&request.method, &trouble.error, trouble.retry_after, attempt) else {
                return Err(trouble.error);
            };
            tracing::debug!(method = %request.method, path = request.path, attempt, error = ?trouble.error, "asking again.");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// One attempt, with what a service may want before it listens: a new token, or an older version.
    async fn ask_once(&self, request: &Request<'_>) -> Result<Answer, Trouble> {
        let mut stale = None;
        let mut older = false;
        loop {
            let token = self.session.token(stale).await.map_err(CallError::Before)?;
            self.check(&token).map_err(CallError::Before)?;
            let base = token.address(request.service).map_err(CallError::Before)?;
            let place = format!("{base}{}", request.path);
            let minor = self.minor();
            let answer = self.send(request, &place, &token, minor).await?;
            match answer.status() {
                // A request that was not let in has not been looked at, whatever it was.
                StatusCode::UNAUTHORIZED if stale.is_none() => stale = Some(token.number),
                StatusCode::NOT_ACCEPTABLE if !older && request.service == Service::Compute => {
                    older = true;
                    let refusal = refusal(answer).await;
                    let newest = newest_minor(&refusal.words).filter(|newest| *newest < minor);
                    let Some(newest) = newest else { return Err(CallError::Refused(refusal).into()) };
                    self.session.minor.store(newest, Ordering::Relaxed);
                }
                status if status.is_success() => {
                    let at = date(answer.headers());
                    let body = answer.bytes().await.map_err(|error| no_answer(&error, base))?;
                    return Ok(Answer { body: body.to_vec(), place: place.clone(), at });
                }
                _ => {
                    let retry_after = retry_after(answer.headers());
                    let refusal = refusal(answer).await;
                    return Err(Trouble { error: CallError::Refused(refusal), retry_after });
                }
            }
        }
    }

    async fn send(&self, request: &Request<'_>, place: &str, token: &Token, minor: u32) -> Result<Response, Trouble> {
        let mut built = self.session.http.request(request.method.clone(), place);
        let mut secret = HeaderValue::from_str(token.secret()).map_err(|_| {
            let message = "the token of the cloud is none that can be sent";
            CallError::Before(ProviderError::new(ErrorKind::Auth, message))
        })?;
        secret.set_sensitive(true);
        built = built.header("x-auth-token", secret).header("accept", "application/json");
        if request.service == Service::Compute {
            built = built
                .header("openstack-api-version", format!("compute 2.{minor}"))
                .header("x-openstack-nova-api-version", format!("2.{minor}"));
        }
        if let Some(body) = request.body {
            built = built.header("content-type", "application/json").body(body.to_string());
        }
        let base = token.address(request.service).map_err(CallError::Before)?;
        tracing::debug!(method = %request.method, place, "asking the cloud.");
        built.send().await.map_err(|error| no_answer(&error, base))
    }

    fn check(&self, token: &Token) -> Result<(), ProviderError> {
        let Some(expected) = &self.expected else { return Ok(()) };
        if expected.identity == token.identity() {
            return Ok(());
        }
        let message = format!(
            "endpoint changed: it was made in project and region `{}` at `{}`, and the settings lead to `{}` at `{}` now",
            expected.identity,
            expected.uri,
            token.identity(),
            self.cloud().auth_url
        );
        Err(ProviderError::new(ErrorKind::EndpointChanged, message))
    }
}

/// A request that came to nothing, and when to come again.
struct Trouble {
    error: CallError,
    retry_after: Option<Duration>,
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self { error, retry_after: None }
    }
}

fn no_answer(error: &reqwest::Error, place: &str) -> Trouble {
    CallError::NoAnswer(NoAnswer::of(error, place)).into()
}

async fn refusal(answer: Response) -> Refusal {
    let status = answer.status().as_u16();
    let request =
        answer.headers().get("x-openstack-request-id").or_else(|| answer.headers().get("x-compute-request-id"));
    let request = request.and_then(|id| id.to_str().ok()).map(str::to_owned);
    // One whose words do not come is a refusal all the same.
    let body = answer.bytes().await.unwrap_or_default();
    Refusal { status, words: error::words_of(&body), request }
}

fn date(headers: &HeaderMap) -> Option<jiff::Timestamp> {
    let text = headers.get("date")?.to_str().ok()?;
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// The newest minor version in `Minimum is 2.1 and maximum is 2.104.`
fn newest_minor(words: &str) -> Option<u32> {
    let (_, rest) = words.split_once("maximum is 2.")?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// Where the next page begins: each service says it in a form of its own.
fn next_marker(page: &serde_json::Map<String, Value>, key: &str) -> Option<String> {
    let links = page.get(&format!("{key}_links")).and_then(Value::as_array);
    let is_next = |link: &&Value| link.get("rel").and_then(Value::as_str) == Some("next");
    let of_links = || links?.iter().find(is_next)?.get("href")?.as_str();
    let href = page.get("next").and_then(Value::as_str).or_else(of_links)?;
    let (_, query) = href.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("marker=")).map(str::to_owned)
}

/// A list's path for the page behind a marker.
fn with_marker(path: &str, marker: &str) -> String {
    let (bare, query) = path.split_once('?').unwrap_or((path, ""));
    let mut pairs: Vec<&str> =
        query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("marker=")).collect();
    let marker = format!("marker={marker}");
    pairs.push(&marker);
    format!("{bare}?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests;
