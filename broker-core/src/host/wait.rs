//! Waiting for a host.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::Host;
use crate::engine;
use crate::error::{Error, Result};
use crate::session::{Command, ExitStatus, SessionError, SessionErrorKind};

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(100);

/// How long one attempt to connect may take: what gets lost on the way is sent again much later.
const CONNECT: Duration = Duration::from_secs(3);

/// How often somebody looks whether a machine that reboots is back.
const REBOOT_POLL: Duration = Duration::from_secs(1);

/// How long the command that reboots may take, and one look at whether that is done.
const REBOOT_STEP: Duration = Duration::from_secs(30);

/// Says which boot of the machine this is: the kernel's word for it, and when its first process began. The latter is
/// another one too where a container is begun anew that somebody treats as a machine.
const BOOT: &str = "read -r id < /proc/sys/kernel/random/boot_id && read -r first < /proc/1/stat && \
                    echo \"$id ${first##*) }\"";

/// Reboots the machine, as whoever may.
const REBOOT: &str = "if [ \"$(id -u)\" = 0 ]; then as_root=; else as_root='sudo -n'; fi; \
                      $as_root systemctl reboot 2>/dev/null || $as_root reboot";

impl Host {
    /// Waits until something accepts connections on a TCP port of the host. They are made from here, not by way of a
    /// jump host; [`wait_until`](Self::wait_until) can look from within.
    ///
    /// # Errors
    ///
    /// [`Error::Waited`] if nothing does within the limit.
    pub async fn wait_for_port(&self, port: u16, limit: Duration) -> Result<()> {
        let address = self.port(port)?;
        let what = format!("a connection to port {port} of host `{}`", self.label());
        engine::call_while_wanted("waiting for a port", async move {
            let connects = || async {
                match tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(&address)).await {
                    Ok(Ok(_)) => Ok(Seen::So),
                    Ok(Err(error)) => Ok(Seen::NotYet(error.to_string())),
                    Err(_) => Ok(Seen::NotYet("it does not answer".to_owned())),
                }
            };
            until(what, limit, connects).await
        })
        .await?
    }

    /// Waits until a command succeeds on the host.
    ///
    /// # Errors
    ///
    /// [`Error::Waited`] if it never does within the limit, with what came of the last attempt. At once an
    /// [`Error::Session`] where no attempt can have another end: another machine answers in its place, or this way to the
    /// host cannot run it.
    pub async fn wait_until(&self, command: impl Into<Command>, limit: Duration) -> Result<()> {
        let (host, command) = (self.clone(), command.into());
        let what = format!("success of `{command}` on host `{}`", self.label());
        engine::call_while_wanted("waiting for a command", async move {
            let succeeds = || async {
                match host.execute(command.clone()).await {
                    Ok(output) if output.success() => Ok(Seen::So),
                    Ok(output) => Ok(Seen::NotYet(output.status().to_string())),
                    Err(error) if is_final(&error) => Err(error),
                    Err(error) => Ok(Seen::NotYet(crate::error_chain(&error))),
                }
            };
            until(what, limit, succeeds).await
        })
        .await?
    }

    /// Reboots the host, and waits until it is up again and lets us in. Where the user is not root, `sudo` must work
    /// without a password.
    ///
    /// # Errors
    ///
    /// An [`Error::Session`] of kind [`Unsupported`](SessionErrorKind::Unsupported) where the host is no machine of its
    /// own, such as a container, or does not say when it was booted; nothing was done then. [`Error::Command`] if it
    /// could not be told to reboot, [`Error::Waited`] if it is not back within the limit, and at once an
    /// [`Error::Session`] if another machine answers in its place.
    ///
    /// # Cancel safety
    ///
    /// What has begun cannot be taken back: the host may reboot when the future is dropped.
    pub async fn reboot_and_wait(&self, limit: Duration) -> Result<()> {
        let host = self.clone();
        engine::call_while_wanted("rebooting a host", async move { host.reboot(limit).await }).await?
    }

    async fn reboot(&self, limit: Duration) -> Result<()> {
        let unsupported =
            |why: &str| Error::session(self, SessionError::new(SessionErrorKind::Unsupported, why.to_owned()));
        let end = Instant::now().checked_add(limit);
        if !self.open_within(Some(limit)).await?.is_ssh {
            return Err(unsupported("it is no machine of its own, and cannot be rebooted"));
        }
        let look = || {
            let left = end.map_or(REBOOT_STEP, |end| end.saturating_duration_since(Instant::now()));
            self.execute(Command::shell(BOOT).deadline(left.min(REBOOT_STEP)))
        };
        let Some(before) = boot(&look().await?) else {
            return Err(unsupported("it does not say when it was booted, so a reboot could not be told from none"));
        };
        match self.execute(Command::shell(REBOOT).deadline(REBOOT_STEP)).await {
            // A shell that was ended by the shutdown has done what it was to do.
            Ok(output) if !output.success() && matches!(output.status(), ExitStatus::Code(..128)) => {
                output.check()?;
            }
            Ok(_) => {}
            // The connection may well go before the answer.
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        let mut last = None;
        while end.is_none_or(|end| Instant::now() < end) {
            tokio::time::sleep(REBOOT_POLL).await;
            match look().await {
                Ok(output) => match boot(&output) {
                    Some(now) if now != before => return Ok(()),
                    // Not down yet.
                    Some(_) => last = None,
                    None => last = Some("it does not say when it was booted any more".to_owned()),
                },
                Err(error) if is_passing(&error) => {
                    // One that hangs half-way is of no more use.
                    drop(tokio::time::timeout(REBOOT_POLL, self.close_session()).await);
                    last = Some(crate::error_chain(&error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(waited(format!("the return of host `{}` from its reboot", self.label()), last, limit))
    }
}

/// Which boot of the machine it is.
fn boot(output: &super::Output) -> Option<(String, String)> {
    /// Where the start of a process stands behind its name in `/proc/PID/stat`; see proc(5), which counts the id and the
    /// name too.
    const START: usize = 19;

    let text = output.stdout();
    let mut words = text.split_whitespace();
    let (id, start) = (words.next()?, words.nth(START)?);
    output.success().then(|| (id.to_owned(), start.to_owned()))
}

/// Whether an error may pass when a machine is up. One that is booting or shutting down turns people away too.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Session { source, .. } => matches!(
            source.kind(),
            SessionErrorKind::Unreachable
                | SessionErrorKind::Auth
                | SessionErrorKind::Timeout
                | SessionErrorKind::NotRunning
                | SessionErrorKind::Failed
        ),
        _ => false,
    }
}

/// Whether no wait makes an error go away.
fn is_final(error: &Error) -> bool {
    let kinds = [SessionErrorKind::HostKey, SessionErrorKind::Unsupported];
    matches!(error, Error::Session { source, .. } if kinds.contains(&source.kind()))
}

/// What came of a look.
enum Seen {
    So,
    /// Not, for this reason.
    NotYet(String),
}

/// Looks until something is so.
async fn until<F: Future<Output = Result<Seen>>>(what: String, limit: Duration, look: impl Fn() -> F) -> Result<()> {
    let now = Instant::now();
    // A limit beyond the end of the clock is a year.
    let end = now.checked_add(limit).unwrap_or(now + Duration::from_secs(365 * 24 * 3600));
    let mut last = None;
    loop {
        match tokio::time::timeout_at(end, look()).await {
            Ok(Ok(Seen::So)) => return Ok(()),
            Ok(Ok(Seen::NotYet(why))) => {
                last = Some(why);
                if Instant::now() + POLL < end {
                    tokio::time::sleep(POLL).await;
                    continue;
                }
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
        return Err(waited(what, last, limit));
    }
}

fn waited(what: String, last: Option<String>, limit: Duration) -> Error {
    let last = last.map(|last| format!(" (last: {last})")).unwrap_or_default();
    Error::Waited { what: format!("{what}{last}"), limit }
}
