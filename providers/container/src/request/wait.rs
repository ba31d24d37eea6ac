//! What must be true of a container before it counts as ready.

use std::fmt;

use broker_core::ArgValue;

use super::{Bad, items};

/// Something to wait for before a host is handed over.
///
/// ```
/// use broker_container::Wait;
/// use broker_core::ArgValue;
///
/// assert_eq!(ArgValue::from(Wait::Port(5432)), ArgValue::from("port:5432"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// The container runs.
    Running,
    /// Its healthcheck says that it is healthy.
    Healthy,
    /// Something in it listens at this TCP port, on more than the loopback address.
    Port(u16),
    /// It has printed this text, on either of its outputs.
    Log(String),
    /// A `GET` of this path at this port is answered with a status from 200 to 399.
    Http {
        /// The port in the container.
        port: u16,
        /// The path, with its slash and query.
        path: String,
    },
    /// This line for its shell succeeds.
    Command(String),
}

impl Wait {
    /// A `GET` of a path at a port of the container.
    pub fn http(port: u16, path: impl Into<String>) -> Self {
        let path = path.into();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        Self::Http { port, path }
    }

    /// Reads one condition as it is written in the argument `wait`.
    pub(crate) fn parse(text: &str) -> Result<Self, Bad> {
        let text = text.trim();
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let port = |text: &str| {
            let port = text.strip_suffix("/tcp").unwrap_or(text).parse().ok().filter(|port| *port != 0);
            port.ok_or_else(|| Bad(format!("`{text}` in `{kind}:{rest}` is no TCP port")))
        };
        let some = |rest: &str| match rest {
            "" => Err(Bad(format!("`{kind}:` needs something behind it"))),
            rest => Ok(rest.to_owned()),
        };
        match kind {
            "running" if rest.is_empty() => Ok(Self::Running),
            "healthcheck" | "healthy" if rest.is_empty() => Ok(Self::Healthy),
            "port" => Ok(Self::Port(port(rest)?)),
            "log" => Ok(Self::Log(some(rest)?)),
            "command" => Ok(Self::Command(some(rest)?)),
            "http" => {
                let (number, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                if path.contains(|character: char| character.is_whitespace() || character.is_control()) {
                    return Err(Bad(format!("the path `{path}` has white space in it; write `%20`")));
                }
                Ok(Self::http(port(number)?, path))
            }
            _ => Err(Bad(format!(
                "`{text}` is nothing to wait for; write `running`, `healthcheck`, `port:5432`, `log:TEXT`, \
                 `http:8080/path` or `command:LINE`"
            ))),
        }
    }
}

/// Reads the argument `wait`: one condition, several with commas between, or a list. A comma followed by something else
/// than a condition belongs to the text before it.
pub(super) fn parse(value: &ArgValue) -> Result<Vec<Wait>, Bad> {
    let texts = match value.as_str() {
        None => items(value, |_| false)?,
        Some(text) => {
            let mut texts: Vec<String> = Vec::new();
            for piece in text.split(',') {
                match texts.last_mut() {
                    Some(last) if !begins_a_condition(piece) && takes_text(last) => {
                        last.push(',');
                        last.push_str(piece);
                    }
                    _ => texts.push(piece.to_owned()),
                }
            }
            texts
        }
    };
    texts.iter().map(|text| Wait::parse(text)).collect()
}

fn begins_a_condition(piece: &str) -> bool {
    let piece = piece.trim();
    matches!(piece, "running" | "healthcheck" | "healthy") || piece.starts_with("port:") || takes_text(piece)
}

fn takes_text(piece: &str) -> bool {
    ["log:", "http:", "command:"].iter().any(|kind| piece.trim().starts_with(kind))
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Healthy => f.write_str("healthcheck"),
            Self::Port(port) => write!(f, "port:{port}"),
            Self::Log(text) => write!(f, "log:{text}"),
            Self::Http { port, path } => write!(f, "http:{port}{path}"),
            Self::Command(line) => write!(f, "command:{line}"),
        }
    }
}

impl From<Wait> for ArgValue {
    fn from(wait: Wait) -> Self {
        Self::Text(wait.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_read_and_print_the_same() {
        for wait in [
            Wait::Running,
            Wait::Healthy,
            Wait::Port(5432),
            Wait::Log("ready: accept connections".into()),
            Wait::http(8080, "/health?full=1"),
            Wait::http(80, ""),
            Wait::Command("pg_isready -U postgres".into()),
        ] {
            assert_eq!(parse(&wait.clone().into()).unwrap(), [wait]);
        }
    }

    #[test]
    fn several_in_one_text() {
        let wanted = [Wait::Port(5432), Wait::Log("one, two".into()), Wait::Running];
        assert_eq!(parse(&"port:5432,log:one, two,running".into()).unwrap(), wanted);
        let list = ArgValue::from(vec!["log:a,running", "port:1"]);
        assert_eq!(parse(&list).unwrap(), [Wait::Log("a,running".into()), Wait::Port(1)]);
    }

    #[test]
    fn what_cannot_be_waited_for() {
        for (text, part) in [
            ("ready", "`ready` is nothing to wait for"),
            ("", "`` is nothing to wait for"),
            ("port:http", "`http` in `port:http` is no TCP port"),
            ("port:53/udp", "is no TCP port"),
            ("log:", "`log:` needs something behind it"),
            ("http:80/a b", "has white space"),
            ("http:/x", "is no TCP port"),
            ("running,port:x", "is no TCP port"),
        ] {
            let error = parse(&text.into()).unwrap_err().0;
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
