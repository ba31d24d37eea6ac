//! Waiting for a container to be of use, and saying why when it never is.

use std::fmt;
use std::io;
use std::time::Duration;

use bollard::query_parameters as query;
use broker_core::duration;
use broker_core::provider::{ErrorKind, ProviderError};
use broker_core::session::{SessionError, SessionErrorKind};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::facts;
use crate::engine::model::{Container, Healthcheck};
use crate::request::{Spec, Wait};
use crate::session::Target;
use crate::session::exec::collect;

/// Which part of the time that the engine took to start it a process that fails at once gets for that, before the one look
/// at the container: a machine that is busy is slow with both.
const SETTLE: u32 = 10;

/// What it gets at least.
const SETTLE_AT_LEAST: Duration = Duration::from_millis(8);

/// How long one try at one condition may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// The interval and the timeout of a healthcheck that names none.
const HEALTH_DEFAULT: Duration = Duration::from_secs(30);

/// How many errors in a row mean that nobody will ever know.
const ERRORS: u32 = 3;

/// How many lines of the log are shown, and how much of each.
const LINES: usize = 20;
const LINE: usize = 400;

/// Waits until a container that was started, which took the engine so long, is ready, and returns what the engine tells of
/// it.
pub(super) async fn wait(
    target: &Target,
    spec: &Spec,
    podman: bool,
    start_took: Duration,
) -> Result<Container, ProviderError> {
    tokio::time::sleep((start_took / SETTLE).max(SETTLE_AT_LEAST)).await;
    let deadline = Instant::now() + spec.wait_timeout;
    let container = look(target, spec).await?;
    let healthcheck =
        container.config.healthcheck.clone().filter(|check| check.test.first().is_some_and(|kind| kind != "NONE"));
    let conditions = match (spec.wait.is_empty(), &healthcheck) {
        (true, Some(_)) => vec![Wait::Healthy],
        (true, None) => Vec::new(),
        (false, _) => spec.wait.clone(),
    };
    let waiting = Waiting { target, spec, podman, container: &container, healthcheck: healthcheck.as_ref() };
    for condition in conditions {
        match tokio::time::timeout_at(deadline, waiting.until(&condition)).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(waiting.too_late(&condition).await),
        }
    }
    Ok(container)
}

/// Looks at a container that should be running, and fails where it is not.
async fn look(target: &Target, spec: &Spec) -> Result<Container, ProviderError> {
    let container =
        target.engine.inspect(&target.id).await.map_err(|error| {
            target.engine.failed(&format!("could not look at container `{}`", target.label), &error)
        })?;
    if container.state.running {
        return Ok(container);
    }
    let state = &container.state;
    let mut message = format!(
        "container `{}` of image `{}` has ended with exit status {}",
        target.label, spec.image, state.exit_code
    );
    if state.out_of_memory {
        message.push_str(", for it ran out of memory");
    }
    if !state.error.is_empty() {
        message.push_str(": ");
        message.push_str(&hide(&state.error, &spec.secrets()));
    }
    Err(ProviderError::new(ErrorKind::Failed, message).source(log(target, spec).await))
}

/// What can be tried again and again.
enum Probe<'a> {
    Port(u16),
    Http { address: &'a str, path: &'a str },
    Command(&'a str),
}

struct Waiting<'a> {
    target: &'a Target,
    spec: &'a Spec,
    podman: bool,
    container: &'a Container,
    healthcheck: Option<&'a Healthcheck>,
}

impl Waiting<'_> {
    async fn until(&self, condition: &Wait) -> Result<(), ProviderError> {
        match condition {
            Wait::Running => Ok(()),
            Wait::Healthy => self.healthy().await,
            Wait::Log(text) => self.logged(text).await,
            Wait::Port(port) => self.again_and_again(Probe::Port(*port)).await,
            Wait::Http { port, path } => {
                let Some(address) = facts::reach(&self.target.engine.address, self.container, &format!("{port}/tcp"))
                else {
                    let message = format!(
                        "`{condition}`: port {port} of container `{}` is not published, and it has no address of its own",
                        self.target.label
                    );
                    return Err(ProviderError::new(ErrorKind::BadRequest, message));
                };
                self.again_and_again(Probe::Http { address: &address, path }).await
            }
            Wait::Command(line) => self.again_and_again(Probe::Command(line)).await,
        }
    }

    /// Tries until it is so, as long as the container runs.
    async fn again_and_again(&self, probe: Probe<'_>) -> Result<(), ProviderError> {
        let mut pause = Duration::from_millis(50);
        let mut errors = 0;
        loop {
            let attempt = tokio::time::timeout(ATTEMPT, self.once(&probe)).await;
            if matches!(attempt, Ok(Ok(true))) {
                return Ok(());
            }
            // This says more about a container that has ended than any try does, which may hit it just then.
            look(self.target, self.spec).await?;
            if let Ok(Err(error)) = attempt {
                errors += 1;
                if errors == ERRORS {
                    let message = format!("could not see whether container `{}` is ready", self.target.label);
                    return Err(ProviderError::new(ErrorKind::Failed, message).source(error));
                }
            } else {
                errors = 0;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    async fn once(&self, probe: &Probe<'_>) -> Result<bool, SessionError> {
        match probe {
            Probe::Port(port) => self.listens(*port).await,
            Probe::Http { address, path } => Ok(answers(address, path).await),
            Probe::Command(line) => self.succeeds(&["/bin/sh", "-c", line]).await,
        }
    }

    async fn succeeds(&self, words: &[&str]) -> Result<bool, SessionError> {
        Ok(collect(self.target, words, None).await?.code == 0)
    }

    /// Whether something in the container listens at a port. Asked inside: a published port takes connections before.
    async fn listens(&self, port: u16) -> Result<bool, SessionError> {
        let words = ["cat", "/proc/net/tcp", "/proc/net/tcp6"];
        match collect(self.target, &words, None).await {
            Ok(done) => Ok(is_listening(&String::from_utf8_lossy(&done.stdout), port)),
            Err(error) if error.kind() == SessionErrorKind::NotFound => {
                // An image without programs: the best there is.
                let address = facts::reach(&self.target.engine.address, self.container, &format!("{port}/tcp"));
                let Some(address) = address else { return Err(error) };
                Ok(stays_open(&address).await)
            }
            Err(error) => Err(error),
        }
    }

    async fn healthy(&self) -> Result<(), ProviderError> {
        let Some(check) = self.healthcheck else {
            let message = format!("image `{}` has no healthcheck to wait for", self.spec.image);
            return Err(ProviderError::new(ErrorKind::BadRequest, message));
        };
        if self.podman { self.healthy_by_us(check).await } else { self.healthy_by_engine().await }
    }

    async fn healthy_by_engine(&self) -> Result<(), ProviderError> {
        let mut pause = Duration::from_millis(50);
        loop {
            let container = look(self.target, self.spec).await?;
            match container.state.health.map(|health| health.status).as_deref() {
                Some("healthy") => return Ok(()),
                Some("unhealthy") => return Err(self.unhealthy().await),
                _ => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Podman leaves the checks to timers of systemd, which may never fire: so they are run from here, and more often than
    /// an engine would, which has to do so for as long as the container lives.
    async fn healthy_by_us(&self, check: &Healthcheck) -> Result<(), ProviderError> {
        let mut patience = HealthPatience::of(check, Instant::now());
        let words: Vec<&str> = match check.test.split_first() {
            Some((kind, line)) if kind == "CMD-SHELL" => {
                ["/bin/sh", "-c"].into_iter().chain(line.iter().map(String::as_str)).collect()
            }
            Some((kind, words)) if kind == "CMD" => words.iter().map(String::as_str).collect(),
            _ => check.test.iter().map(String::as_str).collect(),
        };
        loop {
            let healthy = tokio::time::timeout(patience.attempt, self.succeeds(&words)).await;
            if matches!(healthy, Ok(Ok(true))) {
                return Ok(());
            }
            look(self.target, self.spec).await?;
            if patience.is_over(Instant::now()) {
                return Err(self.unhealthy().await);
            }
            tokio::time::sleep(patience.pause).await;
        }
    }

    async fn unhealthy(&self) -> ProviderError {
        let message = format!("container `{}` of image `{}` is unhealthy", self.target.label, self.spec.image);
        ProviderError::new(ErrorKind::Failed, message).source(log(self.target, self.spec).await)
    }

    /// Follows the log until a line has the text in it.
    async fn logged(&self, text: &str) -> Result<(), ProviderError> {
        let options = query::LogsOptions {
            follow: true,
            stdout: true,
            stderr: true,
            tail: "all".to_owned(),
            ..Default::default()
        };
        let mut pieces = std::pin::pin!(self.target.engine.patient.logs(&self.target.id, Some(options)));
        let mut seen: Vec<u8> = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| {
                self.target
                    .engine
                    .failed(&format!("could not read the log of container `{}`", self.target.label), &error)
            })?;
            seen.extend_from_slice(&piece.into_bytes());
            if seen.windows(text.len()).any(|window| window == text.as_bytes()) {
                return Ok(());
            }
            // What could be the beginning of the text stays.
            let keep = seen.len().min(text.len().saturating_sub(1));
            seen.drain(..seen.len() - keep);
        }
        look(self.target, self.spec).await?;
        let message = format!("the log of container `{}` ended without `{text}` in it", self.target.label);
        Err(ProviderError::new(ErrorKind::Failed, message).source(log(self.target, self.spec).await))
    }

    async fn too_late(&self, condition: &Wait) -> ProviderError {
        let state = match self.target.engine.inspect(&self.target.id).await {
            Ok(container) if !container.state.running => {
                format!("it has ended with exit status {}", container.state.exit_code)
            }
            // Podman has a health without a word for containers that have no check.
            Ok(Container { state, .. }) => match state.health.filter(|health| !health.status.is_empty()) {
                Some(health) => format!("it is {}, {}", state.status, health.status),
                None => format!("it is {}", state.status),
            },
            Err(_) => "the engine does not tell its state".to_owned(),
        };
        let message = format!(
            "container `{}` of image `{}` was not ready within {}: waited for `{condition}`, and {state}; `wait_timeout` \
             gives it more time",
            self.target.label,
            self.spec.image,
            duration::format(self.spec.wait_timeout)
        );
        ProviderError::new(ErrorKind::Timeout, message).telling_what_helps().source(log(self.target, self.spec).await)
    }
}

/// How long a healthcheck may go on failing. An engine looks once an interval, and so many failures in a row count, from
/// the end of the start period: however often we look, no more than that is held against a container.
struct HealthPatience {
    attempt: Duration,
    pause: Duration,
    interval: Duration,
    /// When a failure counts next.
    next: Instant,
    left: u32,
}

impl HealthPatience {
    fn of(check: &Healthcheck, started: Instant) -> Self {
        let or_default = |value: u64| if value == 0 { HEALTH_DEFAULT } else { Duration::from_nanos(value) };
        let interval = or_default(check.interval);
        Self {
            attempt: or_default(check.timeout),
            pause: interval.min(Duration::from_secs(1)),
            interval,
            next: started + interval.max(Duration::from_nanos(check.start_period)),
            left: if check.retries == 0 { 3 } else { check.retries },
        }
    }

    /// Whether the container is unhealthy, after a failure at this moment.
    fn is_over(&mut self, now: Instant) -> bool {
        if now >= self.next {
            self.left = self.left.saturating_sub(1);
            self.next = now + self.interval;
        }
        self.left == 0
    }
}

/// Whether a table of the kernel has a listener at the port that others than the container itself can reach.
fn is_listening(table: &str, port: u16) -> bool {
    table.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (local, state) = (fields.nth(1), fields.nth(1));
        let Some((address, hex)) = local.and_then(|local| local.split_once(':')) else { return false };
        let loopback = address.ends_with("7F") && address.len() == 8 || address == "00000000000000000000000001000000";
        state == Some("0A") && !loopback && u16::from_str_radix(hex, 16) == Ok(port)
    })
}

/// Whether a connection is taken and not closed at once, as a proxy without a listener behind it does.
async fn stays_open(address: &str) -> bool {
    let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await else {
        return false;
    };
    let mut byte = [0; 1];
    match tokio::time::timeout(Duration::from_millis(200), stream.read(&mut byte)).await {
        Ok(read) => matches!(read, Ok(1)),
        Err(_) => true,
    }
}

/// Whether a `GET` is answered with a status from 200 to 399.
async fn answers(address: &str, path: &str) -> bool {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: */*\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        let mut piece = [0; 512];
        while head.len() < 12 {
            match stream.read(&mut piece).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                size => head.extend_from_slice(piece.get(..size).unwrap_or_default()),
            }
        }
        Ok::<_, io::Error>(String::from_utf8_lossy(&head).split_ascii_whitespace().nth(1).map(str::to_owned))
    };
    match tokio::time::timeout(Duration::from_secs(5), asking).await {
        Ok(Ok(Some(status))) => status.parse().is_ok_and(|status: u16| (200..400).contains(&status)),
        _ => false,
    }
}

/// The end of a container's log, as the cause of an error.
#[derive(Debug)]
struct LogTail(Vec<String>);

impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("its log is empty");
        }
        f.write_str("its log ends with")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for LogTail {}

async fn log(target: &Target, spec: &Spec) -> LogTail {
    let secrets = spec.secrets();
    let text = tail(target, LINES).await.unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(LINES));
    LogTail(last.map(|line| hide(line, &secrets).chars().filter(|c| !c.is_control()).take(LINE).collect()).collect())
}

/// The last lines that a container has printed.
async fn tail(target: &Target, lines: usize) -> Option<String> {
    let options = query::LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..Default::default() };
    let reading = async {
        let mut pieces = std::pin::pin!(target.engine.docker().logs(&target.id, Some(options)));
        let mut text = Vec::new();
        while let Some(Ok(piece)) = pieces.next().await {
            text.extend_from_slice(&piece.into_bytes());
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    tokio::time::timeout(Duration::from_secs(5), reading).await.ok()
}

/// A text without secrets in it.
pub(super) fn hide(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, broker_core::secrets::HIDDEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_a_healthcheck_count_once_an_interval() {
        let second = 1_000_000_000;
        let unhealthy_after = |check: Healthcheck| {
            let started = Instant::now();
            let mut patience = HealthPatience::of(&check, started);
            let mut now = started;
            while !patience.is_over(now) {
                now += patience.pause;
            }
            (now - started).as_secs()
        };
        let check = Healthcheck { interval: 10 * second, retries: 3, ..Healthcheck::default() };
        assert_eq!(unhealthy_after(check.clone()), 30);
        assert_eq!(unhealthy_after(Healthcheck { start_period: 60 * second, ..check.clone() }), 80);
        assert_eq!(unhealthy_after(Healthcheck { interval: 0, retries: 0, ..check.clone() }), 90);
        assert_eq!(unhealthy_after(Healthcheck { interval: second / 2, retries: 2, ..check.clone() }), 1);
        let timeout =
            |timeout: u64| HealthPatience::of(&Healthcheck { timeout, ..check.clone() }, Instant::now()).attempt;
        assert_eq!((timeout(0).as_secs(), timeout(2 * second).as_secs()), (30, 2));
    }

    #[test]
    fn listeners_are_found_in_the_kernels_tables() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                     0: 0100007F:1538 00000000:0000 0A 00000000:00000000\n\
                     1: 00000000:0050 00000000:0000 0A 00000000:00000000\n\
                     2: 0200A8C0:0051 0100A8C0:0016 01 00000000:00000000\n\
                     0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0\n\
                     1: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 0\n";
        assert!(is_listening(table, 80) && is_listening(table, 8080));
        assert!(!is_listening(table, 5432), "the loopback address is nobody else's");
        assert!(!is_listening(table, 8081), "nor is that of IPv6");
        assert!(!is_listening(table, 81), "a connection is no listener");
        assert!(!is_listening("", 80));
    }

    #[test]
    fn secrets_are_hidden_in_logs() {
        assert_eq!(hide("login with hunter2 failed: hunter2", &["hunter2".to_owned()]), "login with *** failed: ***");
        let tail = LogTail(vec!["one".to_owned(), "two".to_owned()]);
        assert_eq!(tail.to_string(), "its log ends with\n  one\n  two");
    }

    #[tokio::test]
    async fn only_good_answers_count() {
        for (answer, good) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            ("HTTP/1.0 302 Found\r\n", true),
            ("HTTP/1.1 503 No\r\n", false),
            ("", false),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let size = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                String::from_utf8_lossy(&request[..size]).into_owned()
            });
            assert_eq!(answers(&address, "/health").await, good, "{answer}");
            assert!(server.await.unwrap().starts_with("GET /health HTTP/1.1\r\n"));
        }
        assert!(!answers("127.0.0.1:1", "/").await);
    }
}
