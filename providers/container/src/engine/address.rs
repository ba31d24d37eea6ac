//! Where a container engine listens.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The port of an engine that is named without one: what Docker calls its unencrypted port.
pub(crate) const DEFAULT_PORT: u16 = 2375;

/// How long a connection may take. A local socket answers at once or never.
const CONNECT: Duration = Duration::from_secs(5);

/// Where an engine listens, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A socket in the file system. Always a path that is valid UTF-8, for the client library takes nothing else.
    Unix(String),
    /// A port without encryption.
    Tcp {
        /// The host's name or address, an IPv6 address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Why a text names no engine that can be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("engines behind SSH are not supported; forward the socket with `ssh -L` and name that")]
    Ssh,
    #[error("engines behind TLS are not supported; name a socket or an unencrypted port")]
    Tls,
    #[error("`{0}` is no way to reach an engine; use `unix://`, `tcp://` or `http://`")]
    Scheme(String),
    #[error("the path of a socket must be absolute")]
    Relative,
    #[error("there is no such Docker context")]
    NoContext,
    #[error("it has no host name")]
    NoHost,
    #[error("`{0}` is no port")]
    Port(String),
    #[error("only a host and a port can be named, without a path")]
    Path,
}

impl Address {
    /// Reads `unix:///path`, `/path`, `tcp://host[:port]` or `http://host[:port]`. A user name is dropped.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.to_owned()));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Self::tcp(text, DEFAULT_PORT);
        };
        match scheme {
            "unix" | "http+unix" if rest.starts_with('/') => Ok(Self::Unix(rest.to_owned())),
            "unix" | "http+unix" => Err(AddressError::Relative),
            "tcp" => Self::tcp(rest, DEFAULT_PORT),
            "http" => Self::tcp(rest, 80),
            "ssh" | "http+ssh" => Err(AddressError::Ssh),
            "https" => Err(AddressError::Tls),
            other => Err(AddressError::Scheme(format!("{other}://"))),
        }
    }

    /// Reads `[user@]host[:port]`, where an IPv6 address with a port stands in brackets.
    pub(crate) fn tcp(text: &str, default_port: u16) -> Result<Self, AddressError> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let text = text.rsplit_once('@').map_or(text, |(_user, rest)| rest);
        if text.contains(['/', '?', '#']) {
            return Err(AddressError::Path);
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or(AddressError::NoHost)?;
            (host, after.strip_prefix(':'))
        } else {
            match text.split_once(':') {
                // Two colons without brackets: an IPv6 address alone.
                Some((_, port)) if port.contains(':') => (text, None),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(AddressError::NoHost);
        }
        let port = match port {
            None => default_port,
            Some(port) => port.parse().map_err(|_| AddressError::Port(port.to_owned()))?,
        };
        Ok(Self::Tcp { host: host.to_owned(), port })
    }

    /// The address at which ports that the engine publishes on all of its machine's addresses can be reached from here.
    pub(crate) fn reachable_host(&self) -> &str {
        match self {
            Self::Unix(_) => "127.0.0.1",
            Self::Tcp { host, .. } if host == "localhost" => "127.0.0.1",
            Self::Tcp { host, .. } => host,
        }
    }

    /// Whether the engine runs on this machine, as far as the address tells.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => host == "localhost" || host.starts_with("127.") || host == "::1",
        }
    }

    /// Opens a connection, for what the client library does not do.
    pub(crate) async fn connect(&self) -> std::io::Result<Connection> {
        let connecting = async {
            Ok::<Connection, std::io::Error>(match self {
                Self::Unix(path) => {
                    let (reader, writer) = UnixStream::connect(PathBuf::from(path)).await?.into_split();
                    Connection { reader: Box::new(reader), writer: Box::new(writer) }
                }
                Self::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    let (reader, writer) = stream.into_split();
                    Connection { reader: Box::new(reader), writer: Box::new(writer) }
                }
            })
        };
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

/// The two halves of a connection. Shutting the writing half down leaves the other open.
pub(crate) struct Connection {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_all_spellings() {
        for (text, wanted) in [
            ("unix:///run/podman/podman.sock", "unix:///run/podman/podman.sock"),
            ("/var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("tcp://lab", "tcp://lab:2375"),
            ("tcp://root@lab:2376/", "tcp://lab:2376"),
            ("http://lab", "tcp://lab:80"),
            ("tcp://[::1]:99", "tcp://[::1]:99"),
            ("lab.example.com", "tcp://lab.example.com:2375"),
            ("::1", "tcp://[::1]:2375"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), wanted, "{text}");
            assert_eq!(Address::parse(&address.to_string()).unwrap(), address, "{text}");
        }
    }

    #[test]
    fn what_is_no_address() {
        for (text, error) in [
            ("ssh://root@lab", AddressError::Ssh),
            ("https://lab:2376", AddressError::Tls),
            ("npipe:////./pipe/docker", AddressError::Scheme("npipe://".into())),
            ("unix://run/x", AddressError::Relative),
            ("tcp://", AddressError::NoHost),
            ("tcp://lab:http", AddressError::Port("http".into())),
            ("tcp://lab:99999", AddressError::Port("99999".into())),
            ("http://lab/docker", AddressError::Path),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_local() {
        for (text, local, host) in [
            ("/x.sock", true, "127.0.0.1"),
            ("tcp://localhost", true, "127.0.0.1"),
            ("tcp://10.0.0.7", false, "10.0.0.7"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.is_local(), address.reachable_host()), (local, host));
        }
    }
}
