//! TCP connections to whichever address of a host answers first.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustix::net::sockopt;
use tokio::net::TcpStream;

use super::{Refused, place, unreachable};
use crate::session::ssh::target::{Families, SshTarget};

/// An address gets so much of a start before the next one is tried beside it (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the first address that answers.
pub(super) async fn dial(target: &SshTarget) -> Result<StdStream, Refused> {
    let addresses = resolve(target).await?;
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    let mut rest = addresses.into_iter();
    let mut next = rest.next();
    loop {
        if let Some(address) = next.take() {
            attempts.push(connect(address, target.limits.connect));
        }
        tokio::select! {
            biased;
            attempt = attempts.next() => match attempt {
                Some(Ok(stream)) => return prepare(stream, target.limits.keepalive).map_err(|error| {
                    Refused::Yet(unreachable(format!("the connection to `{}` broke at once", place(target))).source(error))
                }),
                Some(Err(failure)) => {
                    failures.push(failure);
                    next = rest.next();
                }
                None => return Err(Refused::Yet(all_failed(target, &failures))),
            },
            () = tokio::time::sleep(STAGGER), if !rest.as_slice().is_empty() => next = rest.next(),
        }
    }
}

/// The addresses to try, in their order.
async fn resolve(target: &SshTarget) -> Result<Vec<SocketAddr>, Refused> {
    let SshTarget { label, address, port, .. } = target;
    if let Ok(literal) = address.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(literal, *port)]);
    }
    let looked_up = tokio::time::timeout(target.limits.connect, tokio::net::lookup_host((address.as_str(), *port)));
    let found: Vec<SocketAddr> = match looked_up.await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            let message = format!("cannot connect to `{label}`: no address is known for `{address}`");
            return Err(Refused::Yet(unreachable(message).source(error)));
        }
        Err(_) => {
            let message = format!(
                "cannot connect to `{label}`: looking up `{address}` takes longer than {:?}",
                target.limits.connect
            );
            return Err(Refused::Yet(unreachable(message)));
        }
    };
    let chosen = choose(target.families, &found);
    if chosen.is_empty() {
        let others: Vec<String> = found.iter().map(|address| format!("`{}`", address.ip())).collect();
        let message = if others.is_empty() {
            format!("cannot connect to `{label}`: no address is known for `{address}`")
        } else {
            format!("cannot connect to `{label}`: `{address}` has no IPv6 address, only {}", others.join(", "))
        };
        return Err(Refused::Yet(unreachable(message)));
    }
    Ok(chosen)
}

fn choose(families: Families, found: &[SocketAddr]) -> Vec<SocketAddr> {
    let (mut v6, v4): (Vec<SocketAddr>, Vec<SocketAddr>) = found.iter().partition(|address| address.is_ipv6());
    match families {
        Families::Ipv4 if v4.is_empty() => v6,
        Families::Ipv4 => v4,
        Families::Ipv6 => v6,
        Families::Ipv6First => {
            v6.extend(v4);
            v6
        }
    }
}

/// Connects to one address, or says what it does instead.
async fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, String> {
    match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("`{address}` refuses connections"),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                format!("there is no way to `{address}`")
            }
            // This machine has no IPv6 address of its own.
            io::ErrorKind::AddrNotAvailable if address.is_ipv6() => format!("there is no way to `{address}`"),
            io::ErrorKind::TimedOut => format!("`{address}` does not answer"),
            _ => format!("`{address}`: {error}"),
        }),
        Err(_) => Err(format!("`{address}` does not answer within {limit:?}")),
    }
}

fn all_failed(target: &SshTarget, failures: &[String]) -> crate::session::SessionError {
    unreachable(format!("cannot connect to `{}` at `{}`: {}", target.label, place(target), failures.join(", ")))
}

/// Has the system look after a quiet connection too, and send what there is at once.
fn prepare(stream: TcpStream, keepalive: Duration) -> io::Result<StdStream> {
    let stream = stream.into_std()?;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    // These take whole seconds, and none is no value. That a system has no such option is no reason not to connect.
    let every = keepalive.max(Duration::from_secs(1));
    #[cfg(not(any(target_os = "macos", target_os = "ios", target_os = "openbsd")))]
    sockopt::set_tcp_keepidle(&stream, every).ok();
    sockopt::set_tcp_keepintvl(&stream, every).ok();
    sockopt::set_tcp_keepcnt(&stream, 3).ok();
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(&stream, u32::try_from((every * 3).as_millis()).unwrap_or(u32::MAX)).ok();
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_chosen_and_ordered() {
        let [a, b, c, d] = ["10.0.0.1:22", "[fd00::1]:22", "10.0.0.2:22", "[fd00::2]:22"]
            .map(|address| address.parse::<SocketAddr>().unwrap());
        let all = [a, b, c, d];
        assert_eq!(choose(Families::Ipv4, &all), [a, c]);
        assert_eq!(choose(Families::Ipv6, &all), [b, d]);
        assert_eq!(choose(Families::Ipv6First, &all), [b, d, a, c]);
        assert_eq!(choose(Families::Ipv4, &[b, d]), [b, d]);
        assert_eq!(choose(Families::Ipv6, &[a, c]), []);
        assert_eq!(choose(Families::Ipv6First, &[a, c]), [a, c]);
    }
}
