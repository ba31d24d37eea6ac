//! Which ports are published, and where.

use std::fmt;
use std::net::IpAddr;

use broker_core::ArgValue;

use super::{Bad, items};

/// One port of a container and where it is to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    /// The port and protocol in the container.
    pub(crate) inside: Inside,
    /// The address to publish at; the default depends on where the engine is.
    pub(crate) address: Option<IpAddr>,
    /// The port to publish at; the engine chooses where there is none.
    pub(crate) outside: Option<u16>,
}

/// A port in a container, such as `22/tcp`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Inside {
    port: u16,
    protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        write!(f, "{}/{protocol}", self.port)
    }
}

impl Inside {
    /// Reads `22` or `22/tcp`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return None,
        };
        Some(Self { port: port.parse().ok().filter(|port| *port != 0)?, protocol })
    }
}

/// Reads the argument `ports`.
pub(super) fn parse(value: &ArgValue) -> Result<Vec<Publish>, Bad> {
    let mut ports = Vec::new();
    if let ArgValue::Map(map) = value {
        for (inside, outside) in map {
            let places = match outside {
                ArgValue::List(places) => places.as_slice(),
                one => std::slice::from_ref(one),
            };
            for place in places {
                let text = match place {
                    nothing if nothing.is_null() => "",
                    place => place.as_str().ok_or_else(|| Bad(format!("the place of port `{inside}` is no text")))?,
                };
                let inside = Inside::parse(inside).ok_or_else(|| no_port(inside))?;
                let (address, outside) = match text.rsplit_once(':') {
                    Some((address, outside)) => (Some(parse_address(address)?), outside),
                    None => (None, text),
                };
                ports.push(Publish { inside, address, outside: parse_outside(outside)? });
            }
        }
    } else {
        for item in items(value, |character| character == ',' || character.is_whitespace())? {
            ports.push(parse_one(&item)?);
        }
    }
    for (index, port) in ports.iter().enumerate() {
        if ports.iter().take(index).any(|other| other == port) {
            return Err(Bad(format!("port `{}` is there twice", port.inside)));
        }
    }
    Ok(ports)
}

/// One of `22`, `22/udp`, `22:1337` (the container's port first), `127.0.0.1:1337:22` (the container's port last).
fn parse_one(text: &str) -> Result<Publish, Bad> {
    let inside = |text: &str| Inside::parse(text).ok_or_else(|| no_port(text));
    if let Some((rest, last)) = text.rsplit_once(':')
        && let Some((address, outside)) = rest.rsplit_once(':')
    {
        return Ok(Publish {
            inside: inside(last)?,
            address: Some(parse_address(address)?),
            outside: parse_outside(outside)?,
        });
    }
    match text.split_once(':') {
        None => Ok(Publish { inside: inside(text)?, address: None, outside: None }),
        Some((port, outside)) => Ok(Publish { inside: inside(port)?, address: None, outside: parse_outside(outside)? }),
    }
}

fn no_port(text: &str) -> Bad {
    Bad(format!("`{text}` is no port; write `22`, `22/udp`, `22:1337` (container:host) or `127.0.0.1:1337:22`"))
}

fn parse_address(text: &str) -> Result<IpAddr, Bad> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| Bad(format!("`{text}` is no IP address to publish a port at")))
}

/// An empty text and 0 leave the choice to the engine.
fn parse_outside(text: &str) -> Result<Option<u16>, Bad> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(0) => Ok(None),
        Ok(port) => Ok(Some(port)),
        Err(_) => Err(Bad(format!("`{text}` is no port to publish at; it must be a number up to 65535"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: ArgValue) -> Vec<String> {
        let show = |port: Publish| {
            let address = port.address.map_or("-".to_owned(), |address| address.to_string());
            let outside = port.outside.map_or("-".to_owned(), |port| port.to_string());
            format!("{} at {address} {outside}", port.inside)
        };
        parse(&value).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn all_spellings() {
        for (text, wanted) in [
            ("22", &["22/tcp at - -"][..]),
            ("22:1337", &["22/tcp at - 1337"]),
            ("22/tcp", &["22/tcp at - -"]),
            ("53/udp:5353", &["53/udp at - 5353"]),
            ("127.0.0.1:8080:80", &["80/tcp at 127.0.0.1 8080"]),
            ("0.0.0.0::80/tcp", &["80/tcp at 0.0.0.0 -"]),
            ("[::1]:8080:80", &["80/tcp at ::1 8080"]),
            ("22,23", &["22/tcp at - -", "23/tcp at - -"]),
            ("22:1337 23, 24:0", &["22/tcp at - 1337", "23/tcp at - -", "24/tcp at - -"]),
            ("", &[]),
        ] {
            assert_eq!(shown(text.into()), wanted, "{text}");
        }
        assert_eq!(shown(vec!["22", "80:8080"].into()), ["22/tcp at - -", "80/tcp at - 8080"]);
        let map = serde_json::json!({"22/tcp": null, "80": 8080, "81": "127.0.0.1:9", "82/udp": [1, 2]});
        let wanted = ["22/tcp at - -", "80/tcp at - 8080", "81/tcp at 127.0.0.1 9", "82/udp at - 1", "82/udp at - 2"];
        assert_eq!(shown(ArgValue::from_json(map)), wanted);
    }

    #[test]
    fn what_is_no_port() {
        for (text, part) in [
            ("ssh", "`ssh` is no port"),
            ("0", "`0` is no port"),
            ("22/icmp", "`22/icmp` is no port"),
            ("22:high", "`high` is no port to publish at"),
            ("22:70000", "`70000` is no port to publish at"),
            ("lab:80:80", "`lab` is no IP address"),
            ("22,22", "port `22/tcp` is there twice"),
        ] {
            let error = parse(&text.into()).unwrap_err().0;
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse(&ArgValue::List(vec![ArgValue::List(vec![])])).is_err());
    }
}
