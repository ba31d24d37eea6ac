//! What the providers of HTTP services have in common: whom to believe when a connection is encrypted, what can be said
//! of a request without an answer, and texts in addresses.

mod answer;
mod tls;

use std::time::Duration;

use broker_core::provider::{ErrorKind, ProviderError};
pub use reqwest::Client;
use reqwest::redirect::Policy;

pub use self::answer::{BodyError, NoAnswer, body, retry_after};
pub use self::tls::Tls;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A client that connects to nothing yet, and follows no redirect. `timeout` is how long one answer may take.
///
/// # Errors
///
/// If a file for encryption does not do, with its name.
pub fn client(tls: &Tls, timeout: Duration) -> Result<Client, ProviderError> {
    Client::builder()
        .tls_backend_preconfigured(tls::configuration(tls)?)
        .connect_timeout(CONNECT)
        .timeout(timeout)
        .redirect(Policy::none())
        .build()
        .map_err(|error| ProviderError::new(ErrorKind::Bug, "no HTTP client can be made").source(error))
}

/// A text as it may stand in a path or a query.
pub fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_encoded() {
        assert_eq!(encoded("a-b_c.d~9"), "a-b_c.d~9");
        assert_eq!(encoded("broker.id=x/y z&é"), "broker.id%3Dx%2Fy%20z%26%C3%A9");
    }
}
