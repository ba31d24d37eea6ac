//! As much of HTTP as it takes to ask a service on this machine.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// How long a service may take to answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a service answers.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, with their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; null where it is no JSON.
    pub body: Value,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Asks a service, in the version of its interface whose answers are known.
///
/// # Panics
///
/// If it does not answer.
pub fn ask(method: &str, url: &str, token: Option<&str>, body: Option<&Value>) -> Answer {
    let token = token.map(|token| ("X-Auth-Token", token));
    // Answers are to have the same form whatever the service's default is.
    let headers: Vec<_> = token.into_iter().chain([("OpenStack-API-Version", "compute 2.79")]).collect();
    ask_with(method, url, &headers, body)
}

/// Asks a service with these headers.
///
/// # Panics
///
/// If it does not answer.
pub fn ask_with(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
    let body = body.map(Value::to_string).unwrap_or_default();
    send(method, url, headers, "application/json", body.as_bytes())
}

/// Ends a token, by the power of another.
///
/// # Panics
///
/// If there is no answer.
pub fn revoke_token(url: &str, by: &str, token: &str) -> Answer {
    ask_with("DELETE", url, &[("X-Auth-Token", by), ("X-Subject-Token", token)], None)
}

/// Sends bytes as they are.
///
/// # Panics
///
/// If there is no answer.
pub(super) fn put_bytes(url: &str, token: &str, bytes: &[u8]) -> Answer {
    send("PUT", url, &[("X-Auth-Token", token)], "application/octet-stream", bytes)
}

fn send(method: &str, url: &str, headers: &[(&str, &str)], kind: &str, body: &[u8]) -> Answer {
    let rest = url.strip_prefix("http://").unwrap();
    let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // The older version, so that the answer ends with the connection.
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {place}\r\nContent-Type: {kind}\r\n");
    write!(head, "Accept: application/json\r\nContent-Length: {}\r\n", body.len()).unwrap();
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(place).unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end =
        answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("{method} {url}: no answer"));
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let headers = lines.map(header).collect();
    Answer { status, headers, body: serde_json::from_slice(&answer[end + 4..]).unwrap_or_default() }
}
