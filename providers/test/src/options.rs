//! What the provider can be told to do wrong, and how slowly.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use broker_core::Args;
use broker_core::provider::{ArgumentInfo, ArgumentScope, ErrorKind, ProviderError};

/// The provider's arguments as help shows them.
pub(crate) fn arguments() -> Vec<ArgumentInfo> {
    let argument = |name, value, help, on| ArgumentInfo { name, value: Some(value), help, on };
    vec![
        argument(
            "name",
            "NAME",
            "What the provider calls the host; without this it has no name",
            ArgumentScope::Checkout,
        ),
        argument("hostname", "HOSTNAME", "What the host calls itself; chosen otherwise", ArgumentScope::Checkout),
        argument(
            "test_ssh",
            "ADDRESS[:PORT]",
            "The host is what answers there by SSH, in place of a directory on this machine",
            ArgumentScope::Checkout,
        ),
        argument("delay", "TIME", "Takes this long, such as `100ms`", ArgumentScope::Both),
        argument(
            "fail",
            "HOW",
            "Fails: auth, permission, not_found, quota, conflict, timeout, unreachable, bad_request, failed, bug, panic or hang",
            ArgumentScope::Both,
        ),
        argument("fail_every", "N", "Fails only every Nth time, as `fail` says or as `failed`", ArgumentScope::Both),
        ArgumentInfo {
            name: "hang",
            value: None,
            help: "Never returns, not even when told to stop",
            on: ArgumentScope::Both,
        },
        argument("slow_release", "TIME", "The host takes this long to release", ArgumentScope::Checkout),
        argument(
            "fail_release",
            "HOW",
            "Releasing the host fails: as `fail` says it, or hang",
            ArgumentScope::Checkout,
        ),
        argument(
            "fail_release_times",
            "N",
            "Releasing the host fails only so many times, and works then",
            ArgumentScope::Checkout,
        ),
    ]
}

/// A way to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Error(ErrorKind),
    Panic,
    Hang,
}

/// Where in the making of a host a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before anything is made.
    Before,
    /// When the host is there. It is undone, so that nothing is left.
    Undone,
    /// When the host is there, and stays.
    After,
}

const FAULTS: [(&str, Fault); 12] = [
    ("auth", Fault::Error(ErrorKind::Auth)),
    ("permission", Fault::Error(ErrorKind::Permission)),
    ("not_found", Fault::Error(ErrorKind::NotFound)),
    ("quota", Fault::Error(ErrorKind::Quota)),
    ("conflict", Fault::Error(ErrorKind::Conflict)),
    ("timeout", Fault::Error(ErrorKind::Timeout)),
    ("unreachable", Fault::Error(ErrorKind::Unreachable)),
    ("bad_request", Fault::Error(ErrorKind::BadRequest)),
    ("failed", Fault::Error(ErrorKind::Failed)),
    ("bug", Fault::Error(ErrorKind::Bug)),
    ("panic", Fault::Panic),
    ("hang", Fault::Hang),
];

impl Fault {
    pub(crate) fn moment(self) -> Moment {
        match self {
            Self::Error(ErrorKind::Failed) => Moment::Undone,
            Self::Error(ErrorKind::Timeout | ErrorKind::Bug) | Self::Panic | Self::Hang => Moment::After,
            Self::Error(_) => Moment::Before,
        }
    }

    /// Does what it says: returns the error, panics, or never returns.
    pub(crate) async fn strike(self, what: &str) -> ProviderError {
        match self {
            Self::Error(kind) => ProviderError::new(kind, format!("{what} was told to fail with `{self}`")),
            Self::Panic => panic!("{what} was told to panic"),
            Self::Hang => std::future::pending().await,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = FAULTS.iter().find(|(_, fault)| fault == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or("another error"))
    }
}

/// How a checkout or an execution is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Course {
    pub(crate) delay: Duration,
    pub(crate) fault: Option<Fault>,
    pub(crate) every: Option<NonZeroU64>,
}

impl Course {
    pub(crate) fn read(args: &Args) -> Result<Self, ProviderError> {
        let hang = switch(args, "hang")?.then_some(Fault::Hang);
        let fail = fault(args, "fail")?;
        if hang.is_some() && fail.is_some() {
            return Err(bad("arguments `hang` and `fail` exclude each other".to_owned()));
        }
        let every: Option<NonZeroU64> = number(args, "fail_every")?;
        let fault = hang.or(fail).or(every.map(|_| Fault::Error(ErrorKind::Failed)));
        Ok(Self { delay: time(args, "delay")?, fault, every })
    }
}

/// How a release is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReleaseCourse {
    pub(crate) delay: Duration,
    pub(crate) fault: Option<Fault>,
    /// How often the fault strikes; always where this is not said.
    pub(crate) times: Option<NonZeroU32>,
}

impl ReleaseCourse {
    pub(crate) fn read(args: &Args) -> Result<Self, ProviderError> {
        let course = Self {
            delay: time(args, "slow_release")?,
            fault: fault(args, "fail_release")?,
            times: number(args, "fail_release_times")?,
        };
        if course.times.is_some() && course.fault.is_none() {
            return Err(bad("argument `fail_release_times` needs `fail_release`".to_owned()));
        }
        Ok(course)
    }
}

/// A text argument.
pub(crate) fn text<'a>(args: &'a Args, name: &str) -> Result<Option<&'a str>, ProviderError> {
    match args.get(name) {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(bad(format!("argument `{name}` is a {}, and must be a text", value.kind()))),
        },
    }
}

/// Where the SSH server is that stands for the host, if one does.
pub(crate) fn ssh(args: &Args) -> Result<Option<(String, Option<u16>)>, ProviderError> {
    let wanted = || "`ADDRESS` or `ADDRESS:PORT`".to_owned();
    read(args, "test_ssh", wanted, |text| {
        let (address, port) = match text.rsplit_once(':') {
            // An IPv6 address has colons of its own.
            Some((address, port)) if !address.contains(':') || address.ends_with(']') => {
                (address, Some(port.parse().ok().filter(|port| *port > 0)?))
            }
            _ => (text, None),
        };
        let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        (!address.is_empty()).then(|| (address.to_owned(), port))
    })
}

fn read<T>(
    args: &Args,
    name: &str,
    wanted: impl FnOnce() -> String,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, ProviderError> {
    let Some(text) = text(args, name)? else { return Ok(None) };
    parse(text.trim()).map(Some).ok_or_else(|| bad(format!("argument `{name}` is `{text}`, and must be {}", wanted())))
}

fn time(args: &Args, name: &str) -> Result<Duration, ProviderError> {
    let wanted = || "a time such as `100ms` or `2s`".to_owned();
    Ok(read(args, name, wanted, |text| broker_core::duration::parse(text).ok())?.unwrap_or_default())
}

fn number<N: std::str::FromStr>(args: &Args, name: &str) -> Result<Option<N>, ProviderError> {
    read(args, name, || "a whole number from 1".to_owned(), |text| text.parse().ok())
}

fn fault(args: &Args, name: &str) -> Result<Option<Fault>, ProviderError> {
    let wanted = || format!("one of {}", FAULTS.map(|(name, _)| format!("`{name}`")).join(", "));
    let fault = |text: &str| FAULTS.iter().find(|(name, _)| *name == text.replace('-', "_")).map(|(_, fault)| *fault);
    read(args, name, wanted, fault)
}

fn switch(args: &Args, name: &str) -> Result<bool, ProviderError> {
    match args.get(name) {
        None => Ok(false),
        Some(value) if value.is_null() => Ok(false),
        Some(value) => {
            value.as_bool().ok_or_else(|| bad(format!("argument `{name}` is `{value}`, and must be `true` or `false`")))
        }
    }
}

fn bad(message: String) -> ProviderError {
    ProviderError::new(ErrorKind::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(pairs: &[(&str, &str)]) -> Args {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
    }

    #[test]
    fn bad_arguments_are_named() {
        let checkout = |pairs: &[(&str, &str)]| Course::read(&args(pairs)).unwrap_err().to_string();
        assert_eq!(
            checkout(&[("delay", "soon")]),
            "argument `delay` is `soon`, and must be a time such as `100ms` or `2s`"
        );
        assert_eq!(checkout(&[("fail_every", "0")]), "argument `fail_every` is `0`, and must be a whole number from 1");
        assert_eq!(checkout(&[("hang", "maybe")]), "argument `hang` is `maybe`, and must be `true` or `false`");
        assert_eq!(checkout(&[("hang", "true"), ("fail", "auth")]), "arguments `hang` and `fail` exclude each other");
        assert!(checkout(&[("fail", "oauth")]).starts_with("argument `fail` is `oauth`, and must be one of `auth`, "));
        let list = Args::from([("fail".to_owned(), vec!["auth"].into())]);
        assert_eq!(Course::read(&list).unwrap_err().to_string(), "argument `fail` is a list, and must be a text");
        for text in ["localhost:ssh", ":22", "localhost:0", ""] {
            let error = ssh(&args(&[("test_ssh", text)])).unwrap_err().to_string();
            assert_eq!(error, format!("argument `test_ssh` is `{text}`, and must be `ADDRESS` or `ADDRESS:PORT`"));
        }
        let release = ReleaseCourse::read(&args(&[("fail_release_times", "2")])).unwrap_err();
        assert_eq!(release.to_string(), "argument `fail_release_times` needs `fail_release`");
    }

    #[test]
    fn arguments_are_read() {
        let course = Course::read(&args(&[("delay", "100ms"), ("fail", "not-found"), ("hang", "no")])).unwrap();
        assert_eq!(course.delay, Duration::from_millis(100));
        assert_eq!(course.fault, Some(Fault::Error(ErrorKind::NotFound)));
        let course = Course::read(&args(&[("fail_every", "3")])).unwrap();
        assert_eq!((course.fault, course.every.unwrap().get()), (Some(Fault::Error(ErrorKind::Failed)), 3));
        assert_eq!(Course::read(&args(&[("unknown", "x")])).unwrap().fault, None);
        for (text, address) in [("localhost:2222", "localhost"), ("[::1]:2222", "::1")] {
            assert_eq!(ssh(&args(&[("test_ssh", text)])).unwrap(), Some((address.to_owned(), Some(2222))));
        }
        assert_eq!(ssh(&args(&[])).unwrap(), None);
    }
}
