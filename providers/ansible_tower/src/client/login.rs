//! Logging in: with the token of the settings, or with one of our own that lives as long as we use it.
//!
//! A token outlives everything by a thousand years, so that one of our own is deleted by [`Login::close`]. Its description
//! is ours alone: one whose making was not answered is found by it, and so is what a process has left that was killed.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker_core::HostId;
use broker_core::provider::{ErrorKind, ProviderError};
use broker_core::secrets::Secret;
use broker_http::encoded;
use jiff::Timestamp;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::error::CallError;
use super::{PAGE, Page, Wire};
use crate::settings::Auth;

/// What the descriptions of our own tokens begin with. An id follows, which says when the token was made.
const DESCRIPTION: &str = "Broker temp ";

/// How old a token of ours is that somebody has left. One that is in use all the same is replaced when it is refused.
const LEFT: Duration = Duration::from_secs(24 * 60 * 60);

/// After which pauses a token is looked for that nobody waited for.
const LOOKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];

/// The state of being logged in.
pub(super) struct Login {
    auth: Auth,
    state: Mutex<State>,
    /// The description of a token that is being made, or whose making was cut off.
    making: parking_lot::Mutex<Option<String>>,
}

#[derive(Default)]
struct State {
    key: Option<Arc<Key>>,
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

/// What is shown with every request.
pub(super) struct Key {
    /// Of several, one after the other, which.
    pub(super) number: u64,
    pub(super) header: HeaderValue,
    /// Where it is our own.
    own: Option<Own>,
}

/// A token of our own.
#[derive(Debug, Clone, Copy)]
struct Own {
    id: u64,
    user: Option<u64>,
}

/// A token, as far as we need to know it.
#[derive(Deserialize)]
struct Token {
    id: u64,
    #[serde(default)]
    token: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    user: Option<u64>,
}

impl Token {
    /// Whether it was made by a process that is long gone, and should have deleted it.
    fn is_left(&self) -> bool {
        let id = self.description.strip_prefix(DESCRIPTION).and_then(|id| id.parse::<HostId>().ok());
        let age = id.and_then(|id| id.made_at()).map(|made| Timestamp::now().duration_since(made));
        age.and_then(|age| Duration::try_from(age).ok()).is_some_and(|age| age > LEFT)
    }
}

impl Login {
    pub(super) fn new(auth: Auth) -> Self {
        Self { auth, state: Mutex::default(), making: parking_lot::Mutex::default() }
    }

    /// The key, got anew if there is none, or if it is the `stale` one.
    pub(super) async fn key(&self, wire: &Wire<'_>, stale: Option<u64>) -> Result<Arc<Key>, ProviderError> {
        let began = self.state.try_lock().ok().map(|state| state.attempts);
        let mut state = self.state.lock().await;
        if let Some(key) = state.key.as_ref().filter(|key| stale != Some(key.number)) {
            return Ok(Arc::clone(key));
        }
        // Somebody was at it when we came: what that came to is what we would come to.
        if let (None, Some(failed)) = (began, &state.failed)
            && failed.attempt == state.attempts
        {
            return Err(ProviderError::new(failed.kind, failed.message.clone()));
        }
        state.attempts += 1;
        let attempt = state.attempts;
        match self.log_in(wire, attempt, stale.is_some()).await {
            Ok(key) => {
                let key = Arc::new(key);
                (state.key, state.failed) = (Some(Arc::clone(&key)), None);
                Ok(key)
            }
            Err(error) => {
                state.key = None;
                state.failed = Some(Failed { attempt, kind: error.kind(), message: error.to_string() });
                Err(error)
            }
        }
    }

    /// Whether another key can be had where one was not believed.
    pub(super) fn can_renew(&self) -> bool {
        matches!(self.auth, Auth::Password { .. })
    }

    /// Whether what is shown with requests is a token, and not the password itself.
    pub(super) async fn has_token(&self) -> bool {
        matches!(self.auth, Auth::Token(_)) || self.state.lock().await.key.as_ref().is_some_and(|key| key.own.is_some())
    }

    /// The error for a key that is not believed.
    pub(super) fn refused(&self, wire: &Wire<'_>) -> ProviderError {
        let what = match &self.auth {
            Auth::Token(_) => "the `token` of the settings".to_owned(),
            Auth::Password { username, .. } => format!("the `password` of user `{username}`"),
        };
        ProviderError::new(ErrorKind::Auth, format!("could not log in: `{}` does not take {what}", wire.base))
    }

    async fn log_in(&self, wire: &Wire<'_>, number: u64, again: bool) -> Result<Key, ProviderError> {
        match &self.auth {
            Auth::Token(_) if again => Err(self.refused(wire)),
            Auth::Token(token) => Ok(Key { number, header: bearer(token.expose())?, own: None }),
            Auth::Password { username, password } => {
                let basic = basic(username, password)?;
                match make_token(wire, &basic, &self.making).await {
                    Ok(token) => Ok(Key {
                        number,
                        header: bearer(&token.token)?,
                        own: Some(Own { id: token.id, user: token.user }),
                    }),
                    // Not everybody may make tokens: then it is the password every time.
                    Err(error) if matches!(error.status(), Some(403..=405)) => {
                        tracing::debug!(?error, "no token of our own: the password is used for every request.");
                        Ok(Key { number, header: basic, own: None })
                    }
                    Err(error) if error.status() == Some(401) => Err(self.refused(wire)),
                    Err(error) => Err(error.at(format!("could not log in as `{username}`"))),
                }
            }
        }
    }

    /// Deletes the token of our own, if there is one, and those that others of us have left.
    pub(super) async fn close(&self, wire: &Wire<'_>) {
        let key = self.state.lock().await.key.take();
        let Auth::Password { username, password } = &self.auth else { return };
        let Ok(basic) = basic(username, password) else { return };
        let cut_off = self.making.lock().take();
        if let Some(description) = cut_off
            && let Err(error) = delete_late(wire, &basic, &description).await
        {
            tracing::debug!(?error, "whether a token was made that nobody waited for cannot be seen.");
        }
        let Some(Own { id, user }) = key.and_then(|key| key.own) else { return };
        match wire.delete(&format!("tokens/{id}/"), &basic).await {
            Ok(()) => tracing::debug!(id, "deleted the token of our own."),
            Err(error) if matches!(error.status(), Some(401 | 404)) => {}
            Err(error) => {
                let error = error.at(format!("could not delete token {id}"));
                tracing::warn!(%error, "a token of ours may be left; the user's page of tokens deletes it");
                return;
            }
        }
        if let Some(user) = user
            && let Err(error) = delete_left(wire, &basic, user).await
        {
            tracing::debug!(?error, "whether tokens of ours are left cannot be seen.");
        }
    }
}

/// Deletes the tokens of a description.
async fn delete_described(wire: &Wire<'_>, basic: &HeaderValue, description: &str) -> Result<usize, CallError> {
    let path = format!("tokens/?description={}", encoded(description));
    let found: Page<Token> = wire.get(&path, basic).await?.read()?;
    for token in &found.results {
        wire.delete(&format!("tokens/{}/", token.id), basic).await?;
    }
    Ok(found.results.len())
}

/// Deletes a token that may be made only now, since nobody waited for it.
async fn delete_late(wire: &Wire<'_>, basic: &HeaderValue, description: &str) -> Result<(), CallError> {
    for pause in LOOKS {
        tokio::time::sleep(pause).await;
        if delete_described(wire, basic, description).await? > 0 {
            break;
        }
    }
    Ok(())
}

/// Deletes those tokens of ours that processes have left which were killed.
async fn delete_left(wire: &Wire<'_>, basic: &HeaderValue, user: u64) -> Result<(), CallError> {
    let path = format!("tokens/?description__startswith={}&user={user}&page_size={PAGE}", encoded(DESCRIPTION));
    let found: Page<Token> = wire.get(&path, basic).await?.read()?;
    for token in found.results.iter().filter(|token| token.is_left()) {
        wire.delete(&format!("tokens/{}/", token.id), basic).await?;
    }
    Ok(())
}

/// Makes a token. One that was made and not told of is deleted, and another one made. `making` has its description for
/// as long as it may be there and nobody knows it: whoever waits may be gone at any await.
async fn make_token(
    wire: &Wire<'_>,
    basic: &HeaderValue,
    making: &parking_lot::Mutex<Option<String>>,
) -> Result<Token, CallError> {
    let mut is_last = false;
    loop {
        let id = HostId::generate().to_string();
        let description = format!("{DESCRIPTION}{id}");
        let body = json!({"description": description, "application": Value::Null, "scope": "write"});
        *making.lock() = Some(description.clone());
        let answer = wire.post("tokens/", &body, basic).await.and_then(|answer| answer.read());
        let error = match answer {
            Ok(token) => {
                *making.lock() = None;
                return Ok(token);
            }
            Err(error) => error,
        };
        if !error.may_be_done() {
            *making.lock() = None;
        }
        if !error.may_be_done() && !error.may_pass() || is_last {
            return Err(error);
        }
        is_last = true;
        tokio::time::sleep(super::retry::FIRST).await;
        if error.may_be_done() {
            delete_described(wire, basic, &description).await?;
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, ProviderError> {
    header(&format!("Bearer {token}"), "token")
}

fn basic(username: &str, password: &Secret) -> Result<HeaderValue, ProviderError> {
    let both = STANDARD.encode(format!("{username}:{}", password.expose()));
    header(&format!("Basic {both}"), "password")
}

fn header(text: &str, what: &str) -> Result<HeaderValue, ProviderError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        ProviderError::new(
            ErrorKind::Settings,
            format!("setting `AnsibleTower.{what}` has characters that cannot be sent"),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
