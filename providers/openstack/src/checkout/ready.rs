//! Waiting: until a server is active, until its SSH server answers. Each wait has an end, and says what it saw.

use std::time::{Duration, Instant};

use broker_core::duration;
use broker_core::provider::{ErrorKind, HostFacts, ProviderError};
use broker_core::session::{Command, SessionError, Streams};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::{Making, facts};
use crate::api::compute::{self, Server};
use crate::client::CallError;

/// The first pause before a look at a server that is built, and the longest. Each look has Nova ask Neutron, and none is
/// worth it in the first second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1200), Duration::from_secs(2));

/// The first pause after a command that has not succeeded, and the longest.
const COMMAND_PAUSES: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(2));

/// How long one attempt at a port may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How often the server is looked at while its port is tried.
const LOOK: Duration = Duration::from_secs(5);

/// How many lines of the console are told.
const LINES: usize = 20;

impl Making<'_> {
    /// Waits until a server is active.
    pub(super) async fn until_active(&self, id: &str, had_no_room: &mut bool) -> Result<Server, ProviderError> {
        let end = Instant::now() + self.spec.timeout;
        let mut outage = Outage::default();
        let mut pause = PAUSES.0;
        let mut last = String::new();
        loop {
            // Nothing is active at once.
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(PAUSES.1);
            let server = match compute::server(&self.client, id).await {
                Ok(server) => Some(server),
                Err(error) => outage.goes_on(error, self.provider.settings.outage_timeout, || self.looking())?,
            };
            if let Some(server) = server {
                outage = Outage::default();
                match server.status.as_str() {
                    "ACTIVE" => return Ok(server),
                    "ERROR" => {
                        *had_no_room =
                            server.fault.as_ref().is_some_and(|fault| fault.message.contains("No valid host"));
                        return Err(self.with_console(self.broken(&server), id).await);
                    }
                    "DELETED" | "SOFT_DELETED" => {
                        let message = format!("server `{}` was deleted by somebody else while it was built", self.name);
                        return Err(ProviderError::new(ErrorKind::Failed, message));
                    }
                    _ => {}
                }
                let now = server.task.unwrap_or_default();
                if now != last && !now.is_empty() {
                    self.order.progress(format!("server `{}` is {}", self.name, now.replace('_', " ")));
                    last = now;
                }
            }
            if Instant::now() >= end {
                let limit = duration::format(self.spec.timeout);
                let message = format!("server `{}` was not active within {limit}", self.name);
                return Err(self.with_console(ProviderError::new(ErrorKind::Timeout, message), id).await);
            }
        }
    }

    /// Asks until there is an answer, for as long as the cloud may be silent.
    pub(super) async fn patiently<T, A: Future<Output = Result<T, CallError>>>(
        &self,
        doing: impl Fn() -> String,
        ask: impl Fn() -> A,
    ) -> Result<T, ProviderError> {
        let mut outage = Outage::default();
        let mut pause = PAUSES.0;
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let _silent: Option<T> = outage.goes_on(error, self.provider.settings.outage_timeout, &doing)?;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(PAUSES.1);
        }
    }

    /// Waits until Nova, too, knows of the floating address, so that all who look see the same.
    pub(super) async fn until_it_shows(&self, id: &str) -> Result<Server, ProviderError> {
        let mut pause = PAUSES.0;
        let end = Instant::now() + self.spec.timeout;
        loop {
            let server = self.patiently(|| self.looking(), || compute::server(&self.client, id)).await?;
            if server.addresses.values().flatten().any(|address| address.kind == "floating") {
                return Ok(server);
            }
            if Instant::now() >= end {
                let message = format!("the floating address of server `{}` did not come to it", self.name);
                return Err(ProviderError::new(ErrorKind::Timeout, message));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(PAUSES.1);
        }
    }

    /// Waits until something speaks SSH at the server's port.
    pub(super) async fn until_ssh(&self, server: &Server) -> Result<(), ProviderError> {
        let address = facts::address(server, self.spec.family).ok_or_else(|| {
            ProviderError::new(ErrorKind::Failed, format!("server `{}` is active, and has no address", self.name))
        })?;
        let port = self.spec.ssh_port.unwrap_or(22);
        self.order.progress(format!("waiting for SSH at {address}"));
        let end = Instant::now() + self.spec.ssh_timeout;
        let mut looked = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            let why = match tokio::time::timeout(ATTEMPT, greets(address, port)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it does not answer".to_owned(),
            };
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.still_runs(&server.id).await?;
            }
            if Instant::now() >= end {
                let limit = duration::format(self.spec.ssh_timeout);
                let message = format!(
                    "server `{}` is active, and within {limit} nothing spoke SSH at port {port} of `{address}`: {why}",
                    self.name
                );
                return Err(self.with_console(ProviderError::new(ErrorKind::Timeout, message), &server.id).await);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Waits until a command succeeds on the host.
    pub(super) async fn until_command(
        &self,
        server: &Server,
        told: &HostFacts,
        line: &str,
    ) -> Result<(), ProviderError> {
        self.order.progress(format!("waiting for `{line}`"));
        let end = Instant::now() + self.spec.ready_timeout;
        let mut pause = COMMAND_PAUSES.0;
        let mut why = "it did not end".to_owned();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let tried = tokio::time::timeout(left, self.succeeds(told, line)).await;
            match tried {
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(code))) => why = format!("it exited with {code}"),
                Ok(Err(error)) => why = error.to_string(),
                // What the attempt before came to says more.
                Err(_) => {}
            }
            if Instant::now() >= end {
                let limit = duration::format(self.spec.ready_timeout);
                let message =
                    format!("server `{}` is active, and `{line}` did not succeed within {limit}: {why}", self.name);
                return Err(self.with_console(ProviderError::new(ErrorKind::Timeout, message), &server.id).await);
            }
            self.still_runs(&server.id).await?;
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(COMMAND_PAUSES.1);
        }
    }

    /// The exit code of a command that does not succeed.
    async fn succeeds(&self, told: &HostFacts, line: &str) -> Result<Option<i32>, SessionError> {
        let session = self.order.session(told.clone()).await?;
        let (output, mut printed) = tokio::sync::mpsc::channel(16);
        let command = Command::shell(line);
        // What it prints is nobody's business, and must not hold it up.
        let drained = async { while printed.recv().await.is_some() {} };
        let (ended, ()) = tokio::join!(session.run(&command, Streams { input: None, control: None, output }), drained);
        session.close().await;
        let ended = ended?;
        Ok((!ended.success()).then(|| ended.code()))
    }

    async fn still_runs(&self, id: &str) -> Result<(), ProviderError> {
        let server = match compute::server(&self.client, id).await {
            Ok(server) => server,
            Err(error) if error.is_missing() => {
                let message = format!("server `{}` was deleted by somebody else", self.name);
                return Err(ProviderError::new(ErrorKind::Failed, message));
            }
            // The port is what is waited for.
            Err(_) => return Ok(()),
        };
        match server.status.as_str() {
            "ERROR" => Err(self.with_console(self.broken(&server), id).await),
            "SHUTOFF" => {
                let message = format!("server `{}` has shut down before it could be used", self.name);
                Err(self.with_console(ProviderError::new(ErrorKind::Failed, message), id).await)
            }
            _ => Ok(()),
        }
    }

    fn looking(&self) -> String {
        format!("could not look at server `{}`", self.name)
    }

    /// Adds the end of what the server has printed, where there is any.
    async fn with_console(&self, error: ProviderError, id: &str) -> ProviderError {
        let asking = compute::console(&self.client, id, Some(LINES));
        let Ok(Ok(text)) = tokio::time::timeout(ATTEMPT, asking).await else { return error };
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let Some(tail) = lines.get(lines.len().saturating_sub(LINES)..).filter(|tail| !tail.is_empty()) else {
            return error;
        };
        let tail = ConsoleTail(tail.iter().map(|line| (*line).to_owned()).collect());
        let kind = error.kind();
        ProviderError::new(kind, error.to_string()).source(tail)
    }
}

/// The end of a console, as a cause.
#[derive(Debug)]
struct ConsoleTail(Vec<String>);

impl std::fmt::Display for ConsoleTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("its console ends with")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for ConsoleTail {}

/// For how long a cloud has not answered.
#[derive(Debug, Default)]
pub(crate) struct Outage(Option<Instant>);

impl Outage {
    /// Goes on without an answer, if it has not been too long; and gives the error back where it is another one.
    pub(crate) fn goes_on<T>(
        &mut self,
        error: CallError,
        limit: Duration,
        doing: impl FnOnce() -> String,
    ) -> Result<Option<T>, ProviderError> {
        let passes = match &error {
            CallError::NoAnswer(_) => true,
            CallError::Refused(refusal) => refusal.status >= 500 || refusal.status == 429,
            // Keystone, which is on the way, may be what does not answer.
            CallError::Before(error) => matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout),
            CallError::Garbled(_) => false,
        };
        let since = *self.0.get_or_insert_with(Instant::now);
        if passes && since.elapsed() < limit { Ok(None) } else { Err(error.at(doing())) }
    }
}

/// Whether something at a port says that it speaks SSH.
async fn greets(address: &str, port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((address, port)).await?;
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).await?;
    if &greeting == b"SSH-" { Ok(()) } else { Err(std::io::Error::other("what answers there does not speak SSH")) }
}

#[cfg(test)]
mod tests {
    use broker_core::provider::ErrorKind;
    use broker_http::NoAnswer;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::client::Refusal;

    #[tokio::test]
    async fn only_ssh_will_do() {
        for (greeting, good) in [(&b"SSH-2.0-x\r\n"[..], true), (b"HTTP/1.1", false), (b"SS", false), (b"", false)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(greeting).await.unwrap();
            });
            assert_eq!(greets("127.0.0.1", port).await.is_ok(), good);
            server.await.unwrap();
        }
    }

    #[test]
    fn an_outage_may_last_for_a_while() {
        let silent = || {
            CallError::NoAnswer(NoAnswer {
                place: "k".into(),
                unsent: true,
                timed_out: false,
                distrusted: false,
                why: "gone".into(),
            })
        };
        let refused = |status| CallError::Refused(Refusal { status, words: "no".into(), request: None });
        let ours = |kind| CallError::Before(ProviderError::new(kind, "x"));
        let goes_on = |error: CallError, limit| Outage::default().goes_on::<()>(error, limit, || "looking".to_owned());
        let long = Duration::from_secs(1000);
        for error in [silent(), refused(503), refused(429), ours(ErrorKind::Unreachable)] {
            assert!(goes_on(error, long).is_ok());
        }
        for error in [refused(404), refused(403), ours(ErrorKind::EndpointChanged), ours(ErrorKind::Auth)] {
            assert!(goes_on(error, long).is_err());
        }
        let error = goes_on(silent(), Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "looking: no answer from `k`: gone");
    }
}
