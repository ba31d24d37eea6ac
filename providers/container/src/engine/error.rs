//! What the engine's refusals mean.

use bollard::errors::Error as ApiError;
use broker_core::provider::{ErrorKind, ProviderError};

/// The status and message of an engine's own answer.
pub(crate) fn answer(error: &ApiError) -> Option<(u16, &str)> {
    match error {
        ApiError::DockerResponseServerError { status_code, message } => Some((*status_code, message.trim())),
        _ => None,
    }
}

/// Whether the engine says that the thing does not exist.
pub(crate) fn is_missing(error: &ApiError) -> bool {
    answer(error).is_some_and(|(status, words)| status == 404 || words.to_lowercase().contains("no such container"))
}

/// Whether the engine never saw the request.
pub(crate) fn never_sent(error: &ApiError) -> bool {
    match error {
        ApiError::HyperLegacyError { err } => err.is_connect(),
        ApiError::SocketNotFoundError(_) => true,
        _ => false,
    }
}

/// Whether the engine answered with a refusal, so that nothing was done.
pub(crate) fn was_refused(error: &ApiError) -> bool {
    answer(error).is_some() || never_sent(error)
}

/// The innermost cause, which is what people can do something about.
fn root_cause(error: &ApiError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match error {
        ApiError::SocketNotFoundError(_) => "the socket is missing".to_owned(),
        _ => cause.to_string(),
    }
}

/// The kind of an engine's refusal. Podman answers 500 to nearly everything, so that the words must tell.
pub(crate) fn kind_of(status: u16, message: &str) -> ErrorKind {
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["already in use", "already allocated", "port is reserved", "already exists"]) {
        ErrorKind::Conflict
    } else if has(&[
        "unable to find user",
        "executable file not found",
        "no such file or directory",
        "command that was not found",
        "permission denied: unknown",
        "OCI permission denied",
        "unknown capability",
        "must be an absolute path",
        "invalid argument",
    ]) {
        ErrorKind::BadRequest
    } else if has(&[
        "unauthorized",
        "authentication required",
        "no basic auth credentials",
        "access to the resource is denied",
    ]) {
        ErrorKind::Auth
    } else {
        match status {
            400 => ErrorKind::BadRequest,
            401 => ErrorKind::Auth,
            403 => ErrorKind::Permission,
            404 => ErrorKind::NotFound,
            409 => ErrorKind::Conflict,
            _ => ErrorKind::Failed,
        }
    }
}

/// An error of the client library as one of a provider: `doing` says what was wanted, such as ``could not start `x` ``.
pub(crate) fn provider_error(doing: &str, uri: &str, error: &ApiError) -> ProviderError {
    match error {
        ApiError::DockerResponseServerError { status_code, message } => {
            ProviderError::new(kind_of(*status_code, message), format!("{doing}: {}", message.trim()))
        }
        ApiError::DockerStreamError { error: message } => {
            ProviderError::new(kind_of(500, message), format!("{doing}: {}", message.trim()))
        }
        ApiError::RequestTimeoutError => {
            ProviderError::new(ErrorKind::Timeout, format!("{doing}: the engine at `{uri}` did not answer in time"))
        }
        ApiError::JsonDataError { .. } | ApiError::JsonSerdeError { .. } | ApiError::APIVersionParseError {} => {
            let message = format!("{doing}: the engine at `{uri}` gave an answer that makes no sense: {error}");
            ProviderError::new(ErrorKind::Bug, message)
        }
        ApiError::HyperLegacyError { .. }
        | ApiError::HyperResponseError { .. }
        | ApiError::IOError { .. }
        | ApiError::SocketNotFoundError(_) => {
            let message = format!("{doing}: no answer from the engine at `{uri}`: {}", root_cause(error));
            let denied = message.contains("ermission denied");
            ProviderError::new(if denied { ErrorKind::Permission } else { ErrorKind::Unreachable }, message)
        }
        other => ProviderError::new(ErrorKind::Bug, format!("{doing}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell_where_the_status_does_not() {
        for (status, message, kind) in [
            (500, "that name is already in use", ErrorKind::Conflict),
            (500, "listen tcp4 127.0.0.1:80: bind: address already in use", ErrorKind::Conflict),
            (409, "Conflict", ErrorKind::Conflict),
            (500, "unable to find user nosuch: no matching entries in passwd file", ErrorKind::BadRequest),
            (404, "No such image: x", ErrorKind::NotFound),
            (500, "pull access denied, repository does not exist or may require authorization", ErrorKind::Failed),
            (500, "unauthorized: authentication required", ErrorKind::Auth),
            (500, "disk is full", ErrorKind::Failed),
        ] {
            assert_eq!(kind_of(status, message), kind, "{message}");
        }
    }

    #[test]
    fn an_unreachable_engine_is_named_with_the_last_cause() {
        let error =
            provider_error("could not look", "unix:///x.sock", &ApiError::SocketNotFoundError("/x.sock".into()));
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.can_retry());
        let wanted = "could not look: no answer from the engine at `unix:///x.sock`: the socket is missing";
        assert_eq!(error.to_string(), wanted);
    }
}
