//! Commands in a container, by the engine's exec.
//!
//! The engine can start a command and tell how it ended, but not end it. So every command carries a mark in its
//! environment, which its children inherit, and a second command looks for the mark and sends the signal: see [`Mark`].

use std::convert::Infallible;
use std::time::Duration;

use bollard::models::ExecConfig;
use broker_core::session::{
    Command, ExitStatus, Input, Mark, Output, PtySize, SessionError, SessionErrorKind, Signal, Streams,
};
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Target;
use crate::engine::ExecStatus;
use crate::engine::hijack::{Attached, Pieces};

/// The key that ends what is typed: Ctrl-D.
const END_OF_INPUT: u8 = 0x04;

/// How long a command on a terminal has to end by itself before it is told that nobody types any more.
const TYPING_PAUSE: Duration = Duration::from_millis(300);

/// How often, and with what pause, a command that is to end is looked for: it may just be starting.
const END_ATTEMPTS: u32 = 20;
const END_PAUSE: Duration = Duration::from_millis(150);

/// How often, and with what pause, a terminal that is not there yet is given its size.
const RESIZE_ATTEMPTS: u32 = 10;
const RESIZE_PAUSE: Duration = Duration::from_millis(30);

/// After how long a size is said once more.
const RESIZE_AGAIN: Duration = Duration::from_millis(250);

/// How long one look may take.
const END_LIMIT: Duration = Duration::from_secs(10);

/// The most that a command of our own is listened to.
const MOST_COLLECTED: usize = 1024 * 1024;

/// Runs a command to its end. Dropping the future ends it.
pub(super) async fn run(
    target: &Target,
    command: &Command,
    streams: Streams,
    tracker: &TaskTracker,
) -> Result<ExitStatus, SessionError> {
    let argv = command.argv();
    check(command, &argv)?;
    let mark = Mark::new();
    let terminal = command.pty.as_ref();
    let mut env: Vec<String> = vec![format!("{}={}", mark.variable(), mark.value())];
    if let Some(pty) = terminal.filter(|_| !command.env.contains_key("TERM")) {
        env.push(format!("TERM={}", pty.term));
    }
    env.extend(command.env.iter().map(|(name, value)| format!("{name}={value}")));
    let config = ExecConfig {
        attach_stdin: Some(streams.input.is_some() || !command.stdin.is_empty()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(terminal.is_some()),
        env: Some(env),
        cmd: Some(argv),
        user: command.user.clone(),
        working_dir: command.directory.clone(),
        ..ExecConfig::default()
    };
    let doing = || format!("could not run `{command}`");
    let engine = &target.engine;
    let exec = engine.create_exec(&target.id, config).await.map_err(|error| target.failed(&doing(), &error))?;
    let mut end = EndOnDrop {
        target: target.clone(),
        exec: exec.clone(),
        user: command.user.clone(),
        mark: mark.clone(),
        tracker: tracker.clone(),
        armed: true,
    };
    let attached = match engine.start_exec(&exec, terminal.is_some()).await {
        Ok(attached) => attached,
        Err(error) => {
            // A refusal has started nothing.
            end.armed = !crate::engine::error::was_refused(&error);
            let refused =
                crate::engine::error::answer(&error).map(|(_, message)| start_failure(target, command, message));
            return Err(refused.unwrap_or_else(|| target.failed(&doing(), &error)));
        }
    };
    let Attached { mut output, input: writer } = attached;
    if let Some(pty) = terminal {
        resize(target, &exec, pty.size).await;
    }
    let Streams { input, control, output: sink } = streams;
    let doing = Doing { target, command, exec: &exec, mark: &mark };
    let feeding = async {
        let (fed, _never) = tokio::join!(feed(&doing, writer, input), doing.each(control));
        fed
    };
    let (outcome, mut held) = tokio::select! {
        read = forward(&mut output, &sink) => read,
        never = feeding => match never {},
    };
    outcome.map_err(|error| {
        let message = format!("the connection to container `{}` broke while `{command}` ran", target.label);
        SessionError::new(SessionErrorKind::Unreachable, message).source(error)
    })?;
    let status = ended(target, command, &exec).await?;
    end.armed = false;
    if let Some(words) = held.first().filter(|_| !status.started && matches!(status.code, 125..=127)) {
        return Err(explain(target, command, &String::from_utf8_lossy(bytes_of(words))).await);
    }
    // What was held back was the command's own after all.
    hand(&sink, &mut held).await;
    Ok(ExitStatus::Code(status.code))
}

fn check(command: &Command, argv: &[String]) -> Result<(), SessionError> {
    let bad = |message: String| Err(SessionError::new(SessionErrorKind::Failed, message));
    if argv.first().is_none_or(String::is_empty) {
        return bad("the command names no program".to_owned());
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return bad("a word of the command has a zero byte in it, which no program can be given".to_owned());
    }
    for (name, value) in &command.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return bad(format!("`{name}` is no name of a variable"));
        }
        if value.contains('\0') {
            return bad(format!("variable `{name}` has a zero byte in it"));
        }
    }
    Ok(())
}

/// Hands what comes over. What looks like the engine's own words instead of the command's, before anything else was
/// printed, is held back and returned at the end.
async fn forward(output: &mut Pieces, sink: &mpsc::Sender<Output>) -> (std::io::Result<()>, Vec<Output>) {
    let mut held: Vec<Output> = Vec::new();
    let mut first = true;
    loop {
        let piece = match output.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return (Ok(()), held),
            Err(error) => return (Err(error), held),
        };
        let hold =
            if std::mem::take(&mut first) { is_engines_own(&piece) } else { !held.is_empty() && is_echo(&piece) };
        held.push(piece);
        if !hold {
            hand(sink, &mut held).await;
        }
    }
}

/// Nobody may be listening any more; the command goes on all the same.
async fn hand(sink: &mpsc::Sender<Output>, pieces: &mut Vec<Output>) {
    for piece in pieces.drain(..) {
        drop(sink.send(piece).await);
    }
}

fn bytes_of(piece: &Output) -> &Bytes {
    match piece {
        Output::Stdout(bytes) | Output::Stderr(bytes) => bytes,
    }
}

/// Docker says on the standard output, Podman on the standard error why it could not start a command.
fn is_engines_own(piece: &Output) -> bool {
    let bytes = bytes_of(piece);
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(4096)).unwrap_or_default());
    let docker = ["OCI runtime exec failed: ", "unable to find user ", "unable to find group "];
    docker.iter().any(|words| text.starts_with(words)) || text.starts_with("Error: ") && text.contains(": OCI ")
}

/// What Podman says after that.
fn is_echo(piece: &Output) -> bool {
    let text = String::from_utf8_lossy(bytes_of(piece));
    text.starts_with("Error: read unixpacket ") && text.contains("/attach: ")
}

/// Why a command did not start. Of a container that is just ending the engine says odd things, so that it is looked at.
async fn explain(target: &Target, command: &Command, words: &str) -> SessionError {
    let error = start_failure(target, command, words);
    if error.kind() == SessionErrorKind::Failed
        && let Ok(container) = target.engine.inspect(&target.id).await
        && !container.state.running
    {
        let message = format!("could not run `{command}`: container `{}` is not running", target.label);
        return SessionError::new(SessionErrorKind::NotRunning, message);
    }
    error
}

/// The engine's words about a command that did not start, as an error that names what is wrong.
fn start_failure(target: &Target, command: &Command, words: &str) -> SessionError {
    let words = words.trim();
    let program = command.argv().first().cloned().unwrap_or_default();
    let container = &target.label;
    let (kind, message) = if words.contains("chdir to cwd") {
        let directory = command.directory.as_deref().unwrap_or_default();
        (SessionErrorKind::NotFound, format!("there is no directory `{directory}` in container `{container}`"))
    } else if words.contains("unable to find user") || words.contains("unable to find group") {
        let user = command.user.as_deref().unwrap_or_default();
        (SessionErrorKind::NotFound, format!("there is no user `{user}` in container `{container}`"))
    } else if words.contains("executable file") && words.contains("not found")
        || words.contains("no such file or directory")
    {
        (SessionErrorKind::NotFound, format!("there is no program `{program}` in container `{container}`"))
    } else if words.contains("ermission denied") {
        (SessionErrorKind::Permission, format!("`{program}` in container `{container}` may not be executed"))
    } else if target.says_not_running(words) {
        (SessionErrorKind::NotRunning, format!("container `{container}` is not running"))
    } else {
        (SessionErrorKind::Failed, format!("could not run `{program}` in container `{container}`: {words}"))
    };
    SessionError::new(kind, message)
}

/// Waits for the engine to know how the command ended: it may lag behind the end of the output, and a command may close
/// its outputs and go on.
async fn ended(target: &Target, command: &Command, exec: &str) -> Result<ExecStatus, SessionError> {
    let mut pause = Duration::from_millis(2);
    loop {
        match target.engine.exec_status(exec).await {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => tokio::time::sleep(pause).await,
            Err(error) if crate::engine::error::is_missing(&error) => {
                let message = format!("container `{}` ended while `{command}` ran", target.label);
                return Err(SessionError::new(SessionErrorKind::NotRunning, message));
            }
            Err(error) => {
                return Err(target.failed(&format!("could not learn how `{command}` ended"), &error));
            }
        }
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// What is done to a command that runs.
struct Doing<'a> {
    target: &'a Target,
    command: &'a Command,
    exec: &'a str,
    mark: &'a Mark,
}

impl Doing<'_> {
    /// Does what comes, until there is something to be read, which is returned.
    async fn until_data(
        &self,
        input: &mut mpsc::Receiver<Input>,
        repeat: &mut Option<(Instant, PtySize)>,
    ) -> Option<Bytes> {
        loop {
            let item = match *repeat {
                None => input.recv().await,
                Some((at, size)) => match tokio::time::timeout_at(at, input.recv()).await {
                    Ok(item) => item,
                    Err(_) => {
                        *repeat = None;
                        resize(self.target, self.exec, size).await;
                        continue;
                    }
                },
            };
            match item? {
                Input::Data(bytes) => return Some(bytes),
                Input::Resize(size) => {
                    resize(self.target, self.exec, size).await;
                    // Podman's monitor takes two sizes that come at once for the first one twice; so the last is said
                    // once more.
                    *repeat = Some((Instant::now() + RESIZE_AGAIN, size));
                }
                Input::Signal(signal) => {
                    signal_marked(self.target, self.command.user.as_deref(), self.mark, signal).await;
                }
                _ => {}
            }
        }
    }

    /// Does what does not wait for the command to read. Never completes, so that the output decides.
    async fn each(&self, control: Option<mpsc::Receiver<Input>>) -> Infallible {
        if let Some(mut control) = control {
            let mut repeat = None;
            while self.until_data(&mut control, &mut repeat).await.is_some() {}
        }
        std::future::pending().await
    }
}

/// Hands the command what it reads, and does to it what else is asked. Never completes, so that the output decides.
async fn feed(
    doing: &Doing<'_>,
    mut writer: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
    input: Option<mpsc::Receiver<Input>>,
) -> Infallible {
    let command = doing.command;
    // A command that has closed its standard input refuses more, which is its own affair.
    if !command.stdin.is_empty() {
        drop(writer.write_all(&command.stdin).await);
    }
    let mut line_begun = command.stdin.last().is_some_and(|last| *last != b'\n');
    if let Some(mut input) = input {
        let mut repeat = None;
        while let Some(bytes) = doing.until_data(&mut input, &mut repeat).await {
            line_begun = bytes.last().map_or(line_begun, |last| *last != b'\n');
            drop(writer.write_all(&bytes).await);
            drop(writer.flush().await);
        }
    }
    if command.pty.is_some() {
        // What is typed and not read when a command ends makes Podman print an error of its own among the output: those
        // that end soon are left alone.
        tokio::time::sleep(TYPING_PAUSE).await;
        // A terminal has no end but the key that says so: once to send off a line that was begun, once for the end. To
        // Podman the end of the connection says nothing, and Docker takes it for the end of the output.
        let keys: &[u8] = if line_begun { &[END_OF_INPUT; 2] } else { &[END_OF_INPUT] };
        drop(writer.write_all(keys).await);
        drop(writer.flush().await);
    } else {
        // Half of the connection: the command sees the end of its input, and its output still comes.
        drop(writer.shutdown().await);
    }
    std::future::pending().await
}

/// Sets the size of a command's terminal. Podman refuses until the command has really started.
async fn resize(target: &Target, exec: &str, size: PtySize) {
    for _ in 0..RESIZE_ATTEMPTS {
        match target.engine.resize_exec(exec, size.rows, size.columns).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "could not set the size of a terminal."),
        }
        tokio::time::sleep(RESIZE_PAUSE).await;
    }
}

/// Signals what carries the mark. Whether anything did; nothing where the container could not be asked.
async fn signal_marked(target: &Target, user: Option<&str>, mark: &Mark, signal: Signal) -> Option<bool> {
    let words = mark.signalling(signal);
    match tokio::time::timeout(END_LIMIT, collect(target, &words.each_ref().map(String::as_str), user)).await {
        Ok(Ok(done)) => Some(done.code != 0),
        Ok(Err(error)) => {
            tracing::debug!(%error, container = %target.label, "could not signal a command.");
            None
        }
        Err(_) => None,
    }
}

/// Ends a command that nobody waits for any more. Needs a runtime: where there is none, nothing can be done.
struct EndOnDrop {
    target: Target,
    exec: String,
    user: Option<String>,
    mark: Mark,
    tracker: TaskTracker,
    armed: bool,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (target, exec) = (self.target.clone(), std::mem::take(&mut self.exec));
        let (user, mark) = (self.user.take(), self.mark.clone());
        let ending = async move {
            for _ in 0..END_ATTEMPTS {
                let found = signal_marked(&target, user.as_deref(), &mark, Signal::Kill).await;
                let ended = !matches!(target.engine.exec_status(&exec).await, Ok(None));
                if ended && found != Some(true) {
                    return;
                }
                tokio::time::sleep(END_PAUSE).await;
            }
            tracing::warn!(container = %target.label, "could not end a command in a container.");
        };
        drop(runtime.spawn(self.tracker.track_future(ending)));
    }
}

/// What a command of our own came to.
pub(crate) struct Collected {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
}

/// Runs a command of our own, and collects what it prints. Not ended when the future is dropped: meant for what ends by
/// itself.
pub(crate) async fn collect(target: &Target, words: &[&str], user: Option<&str>) -> Result<Collected, SessionError> {
    let command = Command::words(words.iter().copied());
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.argv()),
        user: user.map(str::to_owned),
        ..ExecConfig::default()
    };
    let program = words.first().copied().unwrap_or_default();
    let failed = |error| target.failed(&format!("could not run `{program}`"), &error);
    let exec = target.engine.create_exec(&target.id, config).await.map_err(failed)?;
    let attached = target.engine.start_exec(&exec, false).await.map_err(|error| {
        let refused = crate::engine::error::answer(&error).map(|(_, words)| start_failure(target, &command, words));
        refused.unwrap_or_else(|| failed(error))
    })?;
    let Attached { mut output, input: _kept_open } = attached;
    let mut stdout = Vec::new();
    let mut engines_own = None;
    let mut first = true;
    loop {
        let piece = output.next().await.map_err(|error| {
            let message = format!("the connection to container `{}` broke while `{program}` ran", target.label);
            SessionError::new(SessionErrorKind::Unreachable, message).source(error)
        })?;
        let Some(piece) = piece else { break };
        if std::mem::take(&mut first) && is_engines_own(&piece) {
            engines_own = Some(piece);
        } else if let Output::Stdout(bytes) = piece
            && stdout.len() < MOST_COLLECTED
        {
            stdout.extend_from_slice(&bytes);
        }
    }
    let status = ended(target, &command, &exec).await?;
    if let Some(words) = engines_own.filter(|_| !status.started && matches!(status.code, 125..=127)) {
        return Err(start_failure(target, &command, &String::from_utf8_lossy(bytes_of(&words))));
    }
    Ok(Collected { code: status.code, stdout })
}
