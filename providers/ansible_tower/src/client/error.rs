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
    /// What answered is nothing of the service's, such as a page of HTML that something in between has made.
    Strange(Strange),
    /// Something of ours stood in the way, before the service was asked.
    Before(ProviderError),
}

/// What the service says where it says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// `field: what is wrong; …`, or what is the matter.
    pub(crate) words: String,
    /// Whether it is not in the service's own form, but a page for people.
    pub(crate) is_page: bool,
}

/// An answer that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Strange {
    /// The address that was asked.
    pub(crate) place: String,
    /// What is wrong with the answer.
    pub(crate) why: String,
    /// Whether it is whole all the same, so that the next one will hardly be another.
    pub(crate) is_whole: bool,
}

impl CallError {
    /// Whether the thing that was asked about is not there, by the service's own word.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused(Refusal { status: 404, is_page: false, .. }))
    }

    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            Self::NoAnswer(_) | Self::Strange(_) | Self::Before(_) => None,
        }
    }

    /// Whether it may have been done all the same.
    pub(crate) fn may_be_done(&self) -> bool {
        match self {
            // A service that breaks in the middle of its work may have done some of it.
            Self::Refused(refusal) => refusal.status >= 500,
            Self::NoAnswer(none) => !none.unsent,
            Self::Strange(_) => true,
            Self::Before(_) => false,
        }
    }

    /// Whether it may pass: the service, or what is in front of it, is out of order.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Refused(Refusal { status, is_page, .. }) => *status >= 500 || *status == 429 || *is_page,
            Self::NoAnswer(none) => !none.distrusted,
            Self::Strange(strange) => !strange.is_whole,
            Self::Before(error) => matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout),
        }
    }

    /// Whether it may be a glitch: under load a service has been seen to refuse what it allows before and after, and
    /// what is in front of it may answer with something of its own.
    pub(crate) fn may_be_glitch(&self) -> bool {
        self.status() == Some(403) || matches!(self, Self::Strange(Strange { is_whole: true, .. }))
    }

    /// As an error of a provider: `doing` says what was wanted, such as `could not look for workflow x`.
    pub(crate) fn at(self, doing: impl fmt::Display) -> ProviderError {
        match self {
            Self::Before(error) => error,
            Self::Strange(Strange { place, why, .. }) => {
                ProviderError::new(ErrorKind::Failed, format!("{doing}: `{place}` {why}"))
            }
            Self::NoAnswer(NoAnswer { place, distrusted: true, why, .. }) => {
                let host = host_of(&place);
                let message = format!(
                    "{doing}: the certificate of `{host}` is not believed: {why}; line `verify: PATH` in section \
                     `AnsibleTower` names the file of the authority that signed it"
                );
                ProviderError::new(ErrorKind::Settings, message)
            }
            Self::NoAnswer(NoAnswer { place, timed_out, why, .. }) => {
                let kind = if timed_out { ErrorKind::Timeout } else { ErrorKind::Unreachable };
                ProviderError::new(kind, format!("{doing}: no answer from `{place}`: {why}"))
            }
            Self::Refused(refusal) => {
                let Refusal { status, words, .. } = &refusal;
                let words = if words.is_empty() { format!("HTTP status {status}") } else { words.clone() };
                ProviderError::new(kind_of(&refusal), format!("{doing}: {words}"))
            }
        }
    }
}

fn kind_of(refusal: &Refusal) -> ErrorKind {
    match refusal.status {
        401 => ErrorKind::Auth,
        403 => ErrorKind::Permission,
        404 if refusal.is_page => ErrorKind::Failed,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        429 => ErrorKind::Quota,
        400..=499 => ErrorKind::BadRequest,
        _ => ErrorKind::Failed,
    }
}

/// The host in an address.
fn host_of(place: &str) -> &str {
    let rest = place.split_once("://").map_or(place, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

impl Refusal {
    /// Reads the body of a refusal: `{"detail": …}`, `{field: [what is wrong, …]}`, or a page of HTML.
    pub(crate) fn of(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Self { status, words: shortened(&words(&value)), is_page: false },
            Err(_) => {
                let text = String::from_utf8_lossy(body);
                let is_page = text.trim_start().starts_with('<');
                // A page tells people nothing that the status does not.
                Self { status, words: if is_page { String::new() } else { shortened(&text) }, is_page }
            }
        }
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let one = |(key, value): (&String, &Value)| match key.as_str() {
                "detail"
                | "__all__"
                | "non_field_errors"
                | "variables_needed_to_start"
                | "resources_needed_to_start" => words(value),
                key => format!("{key}: {}", words(value)),
            };
            map.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// One line, as it is put into a sentence.
fn shortened(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.trim_end_matches('.').chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_in_every_form() {
        for (status, body, words, kind) in [
            (
                401,
                r#"{"detail": "Authentication credentials were not provided."}"#,
                "Authentication credentials were not provided",
                ErrorKind::Auth,
            ),
            (
                403,
                r#"{"detail": "You do not have permission to perform this action."}"#,
                "You do not have permission to perform this action",
                ErrorKind::Permission,
            ),
            (
                404,
                r#"{"detail": "No WorkflowJobTemplate matches the given query."}"#,
                "No WorkflowJobTemplate matches the given query",
                ErrorKind::NotFound,
            ),
            (
                400,
                r#"{"labels": ["Field is not configured to prompt on launch."], "inventory": ["Invalid pk \"9\" - object does not exist."]}"#,
                "labels: Field is not configured to prompt on launch.; inventory: Invalid pk \"9\" - object does not exist",
                ErrorKind::BadRequest,
            ),
            (
                400,
                r#"{"variables_needed_to_start": ["'a' value missing", "'b' value missing"]}"#,
                "'a' value missing, 'b' value missing",
                ErrorKind::BadRequest,
            ),
            (
                400,
                r#"{"resources_needed_to_start": ["Job Template inventory is missing or undefined."]}"#,
                "Job Template inventory is missing or undefined",
                ErrorKind::BadRequest,
            ),
            (
                400,
                r#"{"__all__": ["Label with this Name and Organization already exists."]}"#,
                "Label with this Name and Organization already exists",
                ErrorKind::BadRequest,
            ),
            (
                415,
                r#"{"detail": "You did not use correct Content-Type"}"#,
                "You did not use correct Content-Type",
                ErrorKind::BadRequest,
            ),
            (500, "\n<!doctype html>\n<html><body>Server Error</body></html>", "", ErrorKind::Failed),
            (404, "<html>", "", ErrorKind::Failed),
            (502, "bad\n gateway", "bad gateway", ErrorKind::Failed),
        ] {
            let refusal = Refusal::of(status, body.as_bytes());
            assert_eq!((refusal.words.as_str(), kind_of(&refusal)), (words, kind));
            let told = if words.is_empty() { format!("HTTP status {status}") } else { words.to_owned() };
            assert_eq!(CallError::Refused(refusal).at("could not").to_string(), format!("could not: {told}"));
        }
    }

    #[test]
    fn what_is_out_of_order_may_pass() {
        let refused = |status, body: &str| CallError::Refused(Refusal::of(status, body.as_bytes()));
        for error in [refused(500, "<html>"), refused(503, "{}"), refused(429, "{}"), refused(404, "<html>")] {
            assert!(error.may_pass(), "{error:?}");
        }
        for error in [refused(400, "{}"), refused(404, r#"{"detail": "No"}"#), refused(401, "{}"), refused(403, "{}")] {
            assert!(!error.may_pass(), "{error:?}");
        }
        assert!(refused(404, r#"{"detail": "No"}"#).is_missing() && !refused(404, "<html>").is_missing());
        assert!(refused(500, "<html>").may_be_done() && !refused(400, "{}").may_be_done());
    }

    #[test]
    fn a_certificate_that_is_not_believed_names_the_host_and_the_line() {
        let none = NoAnswer {
            place: "https://awx.example.com:8443".into(),
            unsent: true,
            timed_out: false,
            distrusted: true,
            why: "invalid peer certificate: UnknownIssuer".into(),
        };
        let error = CallError::NoAnswer(none).at("could not log in");
        assert_eq!(error.kind(), ErrorKind::Settings);
        let text = error.to_string();
        assert!(text.contains("`awx.example.com:8443`") && text.contains("`verify: PATH`"), "{text}");
    }
}
