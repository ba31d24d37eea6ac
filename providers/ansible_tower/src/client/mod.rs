//! The way to the service: [`Client`] finds out where its API is, logs in, reads lists page by page, and repeats what may
//! be repeated.

mod error;
mod login;
mod retry;

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker_core::provider::{ErrorKind, ProviderError};
use broker_http::{BodyError, NoAnswer, retry_after};
use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;

pub(crate) use self::error::{CallError, Refusal, Strange};
use self::login::Login;
use self::retry::Attempts;
pub(crate) use self::retry::GLITCH;
use crate::settings::{Prefix, Settings};

/// The most that one answer may hold. A page of 200 jobs is about a megabyte.
const LARGEST: usize = 64 << 20;

/// How many items a page has at the most, by the service's own limit.
pub(crate) const PAGE: u32 = 200;

/// The service, as one user.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<Shared>,
    patience: Duration,
    knows_glitches: bool,
}

struct Shared {
    base: String,
    http: reqwest::Client,
    login: Login,
    /// What the settings say, or what was found out.
    prefix: OnceCell<Prefix>,
    /// The service's clock, as of some moment of ours.
    clock: Mutex<Option<(Timestamp, Instant)>>,
}

/// The way of one request, without logging in.
struct Wire<'a> {
    base: &'a str,
    prefix: Prefix,
    http: &'a reqwest::Client,
    clock: &'a Mutex<Option<(Timestamp, Instant)>>,
}

/// An answer that is no refusal.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Vec<u8>,
    place: String,
}

impl Answer {
    /// What the answer says.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let is_page = self.body.trim_ascii_start().starts_with(b"<");
            let why = match is_page {
                true => "answered with a page for people".to_owned(),
                false => format!("gave an answer that makes no sense: {error}"),
            };
            let is_whole = error.classify() == serde_json::error::Category::Data;
            CallError::Strange(Strange { place: self.place.clone(), why, is_whole })
        })
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    #[serde(default)]
    pub(crate) next: Option<String>,
    pub(crate) results: Vec<T>,
}

/// What answers at `/api/`, as far as it says where the API is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Root {
    current_version: Option<String>,
    available_versions: Option<Value>,
    /// Of the gateway of Automation Platform 2.5.
    apis: Option<Value>,
}

impl Root {
    fn prefix(&self) -> Option<Prefix> {
        let has =
            |value: &Option<Value>, text: &str| value.as_ref().is_some_and(|value| value.to_string().contains(text));
        let current = self.current_version.as_deref().unwrap_or_default();
        if current.contains("/controller/")
            || has(&self.available_versions, "/controller/")
            || has(&self.apis, "/controller/")
        {
            return Some(Prefix::Controller);
        }
        (current.contains("/v2") || has(&self.available_versions, "/v2/")).then_some(Prefix::Classic)
    }
}

impl Client {
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// If the file of certificates does not do.
    pub(crate) fn new(settings: &Settings) -> Result<Self, ProviderError> {
        if !settings.tls.verify {
            let service = &settings.base_url;
            tracing::warn!(
                service,
                "`verify: false`: whoever answers is believed to be the service, and gets its password"
            );
        }
        let shared = Shared {
            base: settings.base_url.clone(),
            http: broker_http::client(&settings.tls, settings.timeout)?,
            login: Login::new(settings.auth.clone()),
            prefix: OnceCell::new_with(settings.prefix),
            clock: Mutex::default(),
        };
        let patience = retry::SHORT.min(settings.max_resilient_wait);
        Ok(Self { shared: Arc::new(shared), patience, knows_glitches: false })
    }

    /// The same, for one who waits for a job: what is out of order may be so for this long, and a refusal of permission
    /// is taken for a glitch for a while.
    pub(crate) fn patient(&self, patience: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), patience, knows_glitches: true }
    }

    /// The address of the service.
    pub(crate) fn base(&self) -> &str {
        &self.shared.base
    }

    /// Where the API is. Found out once.
    pub(crate) async fn prefix(&self) -> Result<Prefix, CallError> {
        self.shared.prefix.get_or_try_init(|| self.detect()).await.copied()
    }

    /// The same, if it is known already.
    pub(crate) fn known_prefix(&self) -> Option<Prefix> {
        self.shared.prefix.get().copied()
    }

    /// Whether requests carry a token, and not the password itself.
    pub(crate) async fn has_token(&self) -> bool {
        self.shared.login.has_token().await
    }

    async fn detect(&self) -> Result<Prefix, CallError> {
        let mut attempts = Attempts::new(self.patience, false);
        loop {
            let wire = self.wire(Prefix::Classic);
            let error = match wire.once(Method::GET, "/api/", None, None).await {
                Ok(answer) => match answer.read::<Root>().map(|root| root.prefix()) {
                    Ok(Some(prefix)) => return Ok(prefix),
                    Ok(None) | Err(_) => {
                        let message = format!(
                            "`{}/api/` is no AWX, Ansible Tower or Automation Platform: it names no version of their API",
                            self.base()
                        );
                        return Err(CallError::Before(ProviderError::new(ErrorKind::Settings, message)));
                    }
                },
                Err((CallError::Refused(refusal), _)) if matches!(refusal.status, 401 | 403 | 404) => {
                    // A proxy may show the one part and not the other.
                    match self.wire(Prefix::Controller).once(Method::GET, "/api/controller/", None, None).await {
                        Ok(_) => return Ok(Prefix::Controller),
                        Err(_) => {
                            let message = format!(
                                "`{}` is no address of AWX, Ansible Tower or Automation Platform: there is no `/api/`",
                                self.base()
                            );
                            return Err(CallError::Before(ProviderError::new(ErrorKind::Settings, message)));
                        }
                    }
                }
                Err(trouble) => trouble,
            };
            self.pause(&mut attempts, "/api/", error.0, error.1).await?;
        }
    }

    fn wire(&self, prefix: Prefix) -> Wire<'_> {
        let Shared { base, http, clock, .. } = &*self.shared;
        Wire { base, prefix, http, clock }
    }

    /// The time by the service's clock, as far as it is known.
    pub(crate) fn service_now(&self) -> Option<Timestamp> {
        let (at, seen) = (*self.shared.clock.lock())?;
        at.checked_add(jiff::SignedDuration::try_from(seen.elapsed()).ok()?).ok()
    }

    /// How long ago something was made, by the service's clock. Its readings come without parts of seconds.
    pub(crate) fn age(&self, made: Option<Timestamp>) -> Option<Duration> {
        let (made, now) = (made?, self.service_now()?);
        Some(Duration::try_from(now.duration_since(made)).unwrap_or_default())
    }

    /// Asks for something below the prefix: `workflow_jobs/2/`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let mut attempts = Attempts::new(self.patience, self.knows_glitches);
        loop {
            let (error, after) = match self.ask(Method::GET, path, None).await {
                Ok(answer) => match answer.read() {
                    Ok(value) => return Ok(value),
                    Err(error) => (error, None),
                },
                Err(trouble) => trouble,
            };
            self.pause(&mut attempts, path, error, after).await?;
        }
    }

    /// As [`get`](Self::get), without anything being repeated: for one who asks again by itself.
    pub(crate) async fn get_once<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.ask(Method::GET, path, None).await.map_err(|(error, _)| error)?.read()
    }

    /// A text.
    pub(crate) async fn text(&self, path: &str) -> Result<String, CallError> {
        let mut attempts = Attempts::new(self.patience, self.knows_glitches);
        loop {
            match self.ask(Method::GET, path, None).await {
                Ok(answer) => return Ok(answer.text()),
                Err((error, after)) => self.pause(&mut attempts, path, error, after).await?,
            }
        }
    }

    async fn pause(
        &self,
        attempts: &mut Attempts,
        path: &str,
        error: CallError,
        after: Option<Duration>,
    ) -> Result<(), CallError> {
        let Some(pause) = attempts.pause(&error, after) else { return Err(error) };
        tracing::debug!(path, ?error, "asking again.");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Has something made or done. This is never repeated: without an answer nobody knows whether it has been.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer, CallError> {
        self.ask(Method::POST, path, Some(body)).await.map_err(|(error, _)| error)
    }

    /// Everything that a list has, page by page. `path` is the list's, with its query but for `page_size`.
    pub(crate) async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, CallError> {
        self.while_wanted(path, PAGE, |_| true).await
    }

    /// As [`all`](Self::all), up to the first page with an item that is not wanted any more.
    pub(crate) async fn while_wanted<T: DeserializeOwned>(
        &self,
        path: &str,
        page_size: u32,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, CallError> {
        let join = if path.contains('?') { '&' } else { '?' };
        let mut next = Some(format!("{path}{join}page_size={page_size}"));
        let mut seen: Vec<String> = Vec::new();
        let mut items: Vec<T> = Vec::new();
        while let Some(path) = next.take() {
            let page: Page<T> = match self.get(&path).await {
                Ok(page) => page,
                // The list has become shorter in the meantime.
                Err(error) if error.is_missing() && !items.is_empty() => break,
                Err(error) => return Err(error),
            };
            let goes_on = page.results.iter().all(&wanted);
            items.extend(page.results);
            if goes_on {
                // Only the part below the prefix is followed, so that no key of ours goes to another place.
                let link =
                    page.next.as_deref().and_then(|link| link.split_once("/v2/")).map(|(_, rest)| rest.to_owned());
                next = link.filter(|link| !seen.contains(link));
            }
            seen.push(path);
        }
        Ok(items)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Asked {
        let prefix = self.prefix().await.map_err(|error| (error, None))?;
        let wire = self.wire(prefix);
        let mut stale = None;
        loop {
            let key = self.shared.login.key(&wire, stale).await.map_err(|error| (CallError::Before(error), None))?;
            let full = format!("{}{path}", prefix.path());
            match wire.once(method.clone(), &full, body, Some(&key.header)).await {
                Ok(answer) => return Ok(answer),
                // A request that was not let in has not been looked at, whatever it was.
                Err((error, _)) if error.status() == Some(StatusCode::UNAUTHORIZED.as_u16()) => {
                    if stale.is_some() || !self.shared.login.can_renew() {
                        return Err((CallError::Before(self.shared.login.refused(&wire)), None));
                    }
                    stale = Some(key.number);
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Gives back what logging in has made.
    pub(crate) async fn close(&self) {
        if let Some(prefix) = self.shared.prefix.get() {
            self.shared.login.close(&self.wire(*prefix)).await;
        }
    }
}

type Asked = Result<Answer, (CallError, Option<Duration>)>;

impl Wire<'_> {
    async fn get(&self, path: &str, key: &HeaderValue) -> Result<Answer, CallError> {
        self.once(Method::GET, &self.below(path), None, Some(key)).await.map_err(|(error, _)| error)
    }

    async fn post(&self, path: &str, body: &Value, key: &HeaderValue) -> Result<Answer, CallError> {
        self.once(Method::POST, &self.below(path), Some(body), Some(key)).await.map_err(|(error, _)| error)
    }

    async fn delete(&self, path: &str, key: &HeaderValue) -> Result<(), CallError> {
        let mut attempts = Attempts::new(retry::SHORT, false);
        loop {
            let (error, after) = match self.once(Method::DELETE, &self.below(path), None, Some(key)).await {
                Ok(_) => return Ok(()),
                Err(trouble) => trouble,
            };
            let Some(pause) = attempts.pause(&error, after) else { return Err(error) };
            tokio::time::sleep(pause).await;
        }
    }

    fn below(&self, path: &str) -> String {
        format!("{}{path}", self.prefix.path())
    }

    /// One attempt. `path` is all that comes after the address.
    async fn once(&self, method: Method, path: &str, body: Option<&Value>, key: Option<&HeaderValue>) -> Asked {
        let place = format!("{}{path}", self.base);
        tracing::debug!(%method, path, "asking the service.");
        let mut request = self.http.request(method, &place).header("accept", "application/json, text/plain;q=0.9");
        if let Some(key) = key {
            request = request.header("authorization", key.clone());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let silent = |error: &reqwest::Error| (CallError::NoAnswer(NoAnswer::of(error, self.base)), None);
        let answer = request.send().await.map_err(|error| silent(&error))?;
        let (status, after) = (answer.status(), retry_after(answer.headers()));
        if let Some(at) = date(answer.headers()) {
            *self.clock.lock() = Some((at, Instant::now()));
        }
        if status.is_redirection() {
            return Err((CallError::Before(self.redirected(answer.headers())), None));
        }
        let refused = |body: &[u8]| (CallError::Refused(Refusal::of(status.as_u16(), body)), after);
        match broker_http::body(answer, LARGEST).await {
            Ok(body) if status.is_success() => Ok(Answer { body, place }),
            Ok(body) => Err(refused(&body)),
            Err(BodyError::TooLarge) => {
                let message = format!("`{place}` gave an answer of more than {} MiB", LARGEST >> 20);
                Err((CallError::Before(ProviderError::new(ErrorKind::Failed, message)), None))
            }
            Err(BodyError::Broken(error)) if status.is_success() => Err(silent(&error)),
            // One whose words do not come is a refusal all the same.
            Err(BodyError::Broken(_)) => Err(refused(b"")),
        }
    }

    /// No path of ours is redirected by the service itself, so it is the address that does not do.
    fn redirected(&self, headers: &HeaderMap) -> ProviderError {
        let to = headers.get("location").and_then(|to| to.to_str().ok()).unwrap_or("another place");
        let to = to.split_once("/api").map_or(to, |(to, _)| to);
        let to = to.split('?').next().unwrap_or(to);
        let message =
            format!("`{}` sends us on to `{to}`: setting `AnsibleTower.base_url` must be where it leads to", self.base);
        ProviderError::new(ErrorKind::Settings, message)
    }
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get("date")?.to_str().ok()?;
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests;
