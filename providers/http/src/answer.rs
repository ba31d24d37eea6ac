//! What there is to say of a request that got no answer, or one that asks for patience.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::HeaderMap;

/// A request without an answer.
#[derive(Debug)]
pub struct NoAnswer {
    /// The address that was asked.
    pub place: String,
    /// Whether it is certain that the service never saw it.
    pub unsent: bool,
    /// Whether it took too long.
    pub timed_out: bool,
    /// Whether who answered showed a certificate that is not believed.
    pub distrusted: bool,
    /// The innermost cause.
    pub why: String,
}

impl NoAnswer {
    /// What there is to say of an error; `place` is the address without anything that is nobody's business.
    pub fn of(error: &reqwest::Error, place: &str) -> Self {
        // The innermost cause is what people can do something about.
        let mut cause: &dyn std::error::Error = error;
        let mut distrusted = false;
        loop {
            distrusted |= shows_distrust(cause);
            match cause.source() {
                Some(next) => cause = next,
                None => break,
            }
        }
        let why = match error.source() {
            // Its own text names the whole address, which may hold anything.
            None => "the request broke off".to_owned(),
            Some(_) => cause.to_string(),
        };
        Self { place: place.to_owned(), unsent: error.is_connect(), timed_out: error.is_timeout(), distrusted, why }
    }
}

/// Whether an error is about a certificate. One inside an error of input and output is no source of it, and there may be
/// several around it.
fn shows_distrust(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return matches!(error, rustls::Error::InvalidCertificate(_));
    }
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inner.is_some_and(|inner| shows_distrust(inner))
}

/// Why the body of an answer could not be read.
#[derive(Debug)]
pub enum BodyError {
    /// It broke off.
    Broken(reqwest::Error),
    /// It is larger than it may be.
    TooLarge,
}

/// Reads the body of an answer, which may have so many bytes.
///
/// # Errors
///
/// If it breaks off, or is too large.
pub async fn body(mut answer: reqwest::Response, most: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + piece.len() > most {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// What a service says about when to come again. Dates are not read: they need clocks that agree.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_says_when_to_come_again() {
        let headers =
            |text: &'static str| HeaderMap::from_iter([("retry-after".parse().unwrap(), text.parse().unwrap())]);
        assert_eq!(retry_after(&headers("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("Wed, 21 Oct 2026 07:28:00 GMT")), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
