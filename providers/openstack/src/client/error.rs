//! What came of a request, where that is no answer to work with.

use std::fmt;

use broker_core::provider::{ErrorKind, ProviderError};
use broker_http::NoAnswer;
use serde_json::Value;

/// A request that came to nothing.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The service said no, so nothing was done.
    Refused(Refusal),
    /// There was no answer, so nobody knows what was done.
    NoAnswer(NoAnswer),
    /// The service said yes, in words that make no sense.
    Garbled(ProviderError),
    /// Something of ours stood in the way, before the service was asked.
    Before(ProviderError),
}

/// What a service says where it says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) words: String,
    /// By which the service's own log knows the request.
    pub(crate) request: Option<String>,
}

impl Refusal {
    /// What the service's own log knows the request by, to stand behind a message.
    pub(crate) fn trace(&self) -> String {
        self.request.as_ref().map(|request| format!(" ({request})")).unwrap_or_default()
    }
}

impl CallError {
    /// Whether the thing that was asked about is not there.
    pub(crate) fn is_missing(&self) -> bool {
        self.status() == Some(404)
    }

    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            Self::NoAnswer(_) | Self::Garbled(_) | Self::Before(_) => None,
        }
    }

    /// Whether it may have been done all the same.
    pub(crate) fn may_be_done(&self) -> bool {
        match self {
            // A service that breaks in the middle of its work may have done some of it.
            Self::Refused(refusal) => refusal.status >= 500,
            Self::NoAnswer(none) => !none.unsent,
            Self::Garbled(_) => true,
            Self::Before(_) => false,
        }
    }

    /// As an error of a provider: `doing` says what was wanted, such as ``could not delete server `x` ``.
    pub(crate) fn at(self, doing: impl fmt::Display) -> ProviderError {
        match self {
            Self::Garbled(error) | Self::Before(error) => error,
            Self::NoAnswer(NoAnswer { place, timed_out, why, .. }) => {
                let kind = if timed_out { ErrorKind::Timeout } else { ErrorKind::Unreachable };
                ProviderError::new(kind, format!("{doing}: no answer from `{place}`: {why}"))
            }
            Self::Refused(refusal) => {
                let kind = kind_of(&refusal);
                let trace = refusal.trace();
                let Refusal { status, words, .. } = refusal;
                let words = if words.is_empty() { format!("HTTP status {status}") } else { words };
                ProviderError::new(kind, format!("{doing}: {words}{trace}"))
            }
        }
    }
}

/// The kind of a refusal. The same status means several things, so that the words must tell.
pub(crate) fn kind_of(refusal: &Refusal) -> ErrorKind {
    kind_of_words(&refusal.words).unwrap_or(match refusal.status {
        401 => ErrorKind::Auth,
        403 => ErrorKind::Permission,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        413 | 429 => ErrorKind::Quota,
        400..=499 => ErrorKind::BadRequest,
        _ => ErrorKind::Failed,
    })
}

/// What words of a service are about, where they leave no doubt.
pub(crate) fn kind_of_words(words: &str) -> Option<ErrorKind> {
    let words = words.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if has(&["quota exceeded", "overquota", "over quota", "exceeds quota"]) {
        Some(ErrorKind::Quota)
    } else if has(&["already in use", "already exists", "in use by", "is still in use"]) {
        Some(ErrorKind::Conflict)
    } else if has(&["no valid host was found", "no more ip addresses", "no more addresses"]) {
        Some(ErrorKind::Quota)
    } else if has(&["requires a subnet", "no subnet", "could not be found", "can not find requested image"]) {
        Some(ErrorKind::NotFound)
    } else {
        None
    }
}

/// The words in the body of a refusal: each service has a form of its own.
pub(super) fn words_of(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let text = String::from_utf8_lossy(body);
        // A page of HTML, made by something in between, tells people nothing.
        let text = if text.trim_start().starts_with('<') { "" } else { text.trim() };
        return shortened(text);
    };
    let message = |value: &Value| Some(value.get("message")?.as_str()?.to_owned());
    let inner = || value.as_object()?.values().find_map(message);
    shortened(message(&value).or_else(inner).unwrap_or_default().trim())
}

fn shortened(text: &str) -> String {
    // One line, as it is put into a sentence.
    let text = text.replace("<br />", " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').chars().take(600).collect()
}
