//! Commands as processes on this machine.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use broker_core::session::{
    Command, ExitStatus, Input, Output, PtyRequest, PtySize, SessionError, SessionErrorKind, Signal, Streams,
};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Pid, Signal as OsSignal, kill_process, kill_process_group};
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, Command as Process};
use tokio::sync::{mpsc, watch};

/// How many bytes of output are read at once.
const PIECE: usize = 64 * 1024;

/// How long to wait for more once the command has ended. What it wrote itself is there by then; this is for the
/// children that it left behind, which may hold its output open for as long as they like.
const SILENCE: Duration = Duration::from_millis(100);

/// Runs a command in `directory`, in a process group of its own, which is killed when the future is dropped.
pub(crate) async fn run(
    command: &Command,
    directory: &Path,
    console: &Path,
    streams: Streams,
) -> Result<ExitStatus, SessionError> {
    if let Some(user) = command.user.as_deref().filter(|user| !is_current_user(user)) {
        let message = format!("the host runs commands as its own user alone, not as `{user}`");
        return Err(SessionError::new(SessionErrorKind::Unsupported, message));
    }
    let words = command.argv();
    let Some((program, arguments)) = words.split_first() else {
        return Err(SessionError::new(SessionErrorKind::Failed, "the command has no words"));
    };
    if !directory.is_dir() {
        let message = format!("directory `{}` does not exist", directory.display());
        return Err(SessionError::new(SessionErrorKind::NotFound, message));
    }
    // Looked for here, since what cannot be found is another error where a directory of the search cannot be read, and a
    // failure of the helper where the command gets a terminal.
    let search = command.env.get("PATH").map(|path| path.as_str().into()).or_else(|| std::env::var_os("PATH"));
    look_for(program, directory, search.as_deref()).map_err(|kind| cannot_start(program, kind.into()))?;
    let prepare = |process: &mut Process| {
        process.args(arguments).envs(&command.env).env("BROKER_TEST_CONSOLE", console).current_dir(directory);
        process.kill_on_drop(true);
    };
    match &command.pty {
        None => {
            let mut process = Process::new(program);
            prepare(&mut process);
            run_with_pipes(process, program, streams).await
        }
        Some(pty) => {
            // The helper makes the terminal the command's controlling one, which takes a call between fork and exec.
            let mut process = Process::new("setsid");
            process.args(["-c", "--", program]);
            process.env("TERM", &pty.term);
            prepare(&mut process);
            run_with_terminal(process, program, pty, streams).await
        }
    }
}

async fn run_with_pipes(mut process: Process, program: &str, streams: Streams) -> Result<ExitStatus, SessionError> {
    process.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process.spawn().map_err(|error| cannot_start(program, error))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let group = Group::of(&child, None);

    let (ended, seen) = watch::channel(false);
    let out = pump(stdout, Output::Stdout, &streams.output, seen.clone());
    let err = pump(stderr, Output::Stderr, &streams.output, seen);
    let output = async { tokio::try_join!(out, err).map(|_| ()) };
    let input = feed_pipe(streams.input, stdin, &group);
    let input = at_once(input, streams.control, None, &group);
    let end = finish(&mut child, &group, output, input, &ended).await;
    end.map_err(lost(program))
}

async fn run_with_terminal(
    mut process: Process,
    program: &str,
    pty: &PtyRequest,
    streams: Streams,
) -> Result<ExitStatus, SessionError> {
    let Terminal { control, reader, writer, line } = Terminal::open(pty.size).map_err(|error| {
        SessionError::new(SessionErrorKind::Failed, "cannot make a terminal on this machine").source(error)
    })?;
    let line = || line.try_clone().map(Stdio::from).map_err(lost(program));
    process.stdin(line()?).stdout(line()?).stderr(line()?);
    let spawned = process.spawn();
    // The output ends when the last one that has the line open closes it.
    drop((process, line));
    let mut child = spawned.map_err(|error| {
        SessionError::new(SessionErrorKind::Unsupported, "a terminal needs the program `setsid` on this machine")
            .source(error)
    })?;
    let group = Group::of(&child, Some(Arc::clone(&control)));

    let (ended, seen) = watch::channel(false);
    let output = pump(Some(reader), Output::Stdout, &streams.output, seen);
    let input = feed_terminal(streams.input, writer, &control, &group);
    let input = at_once(input, streams.control, Some(&control), &group);
    let end = finish(&mut child, &group, output, input, &ended).await;
    end.map_err(lost(program))
}

/// Waits for the end of the process and of its output, while its input is fed.
async fn finish(
    child: &mut Child,
    group: &Group,
    output: impl Future<Output = io::Result<()>>,
    input: impl Future<Output = ()>,
    ended: &watch::Sender<bool>,
) -> io::Result<ExitStatus> {
    let mut output = std::pin::pin!(output);
    let mut input = std::pin::pin!(input);
    let (mut output_done, mut input_done) = (false, false);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            result = &mut output, if !output_done => { result?; output_done = true; }
            () = &mut input, if !input_done => input_done = true,
        }
    };
    group.leave();
    ended.send_replace(true);
    if !output_done {
        output.await?;
    }
    Ok(exit_status(status))
}

/// Hands over what a command prints. Once nobody wants it, it is read and thrown away, so that the command goes on.
async fn pump(
    source: Option<impl AsyncRead + Unpin>,
    wrap: fn(Bytes) -> Output,
    output: &mpsc::Sender<Output>,
    mut ended: watch::Receiver<bool>,
) -> io::Result<()> {
    let Some(mut source) = source else { return Ok(()) };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        let running = !*ended.borrow_and_update();
        let count = tokio::select! {
            biased;
            count = source.read_buf(&mut buffer) => match count {
                Ok(count) => count,
                // A terminal that nobody has open any more.
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => 0,
                Err(error) => return Err(error),
            },
            changed = ended.changed(), if running => {
                drop(changed);
                continue;
            }
            () = tokio::time::sleep(SILENCE), if !running => 0,
        };
        if count == 0 {
            return Ok(());
        }
        if output.send(wrap(buffer.split().freeze())).await.is_err() {
            buffer.clear();
        }
    }
}

/// Does to the command what does not wait for it to read, beside its input.
async fn at_once(
    input: impl Future<Output = ()>,
    control: Option<mpsc::Receiver<Input>>,
    terminal: Option<&OwnedFd>,
    group: &Group,
) {
    let doing = async {
        let Some(mut control) = control else { return };
        while let Some(item) = control.recv().await {
            match (item, terminal) {
                // A terminal that is gone has no size.
                (Input::Resize(size), Some(terminal)) => {
                    tcsetwinsize(terminal, window(size)).ok();
                }
                (Input::Signal(signal), _) => group.signal(os_signal(signal)),
                _ => {}
            }
        }
    };
    tokio::join!(input, doing);
}

async fn feed_pipe(input: Option<mpsc::Receiver<Input>>, stdin: Option<ChildStdin>, group: &Group) {
    let (Some(mut input), mut stdin) = (input, stdin) else { return };
    while let Some(item) = input.recv().await {
        match item {
            Input::Data(bytes) => {
                // A command need not read what it is given.
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Input::Signal(signal) => group.signal(os_signal(signal)),
            _ => {}
        }
    }
}

async fn feed_terminal(
    input: Option<mpsc::Receiver<Input>>,
    mut writer: pipe::Sender,
    control: &OwnedFd,
    group: &Group,
) {
    let mut line_begun = false;
    if let Some(mut input) = input {
        while let Some(item) = input.recv().await {
            match item {
                Input::Data(bytes) => {
                    line_begun = bytes.last().map_or(line_begun, |last| *last != b'\n');
                    if writer.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Input::Resize(size) => {
                    // A terminal that is gone has no size.
                    tcsetwinsize(control, window(size)).ok();
                }
                Input::Signal(signal) => group.signal(os_signal(signal)),
                _ => {}
            }
        }
    }
    // A terminal has no end but the key that says so: once to send off a line that was begun, once for the end.
    let Ok(attributes) = tcgetattr(control) else { return };
    if attributes.local_modes.contains(LocalModes::ICANON) {
        let key = attributes.special_codes[SpecialCodeIndex::VEOF];
        let keys = if line_begun { vec![key, key] } else { vec![key] };
        writer.write_all(&keys).await.ok();
    }
}

/// A new terminal.
struct Terminal {
    /// Our end.
    control: Arc<OwnedFd>,
    /// What is printed on it.
    reader: pipe::Receiver,
    /// What is typed on it.
    writer: pipe::Sender,
    /// The command's end.
    line: OwnedFd,
}

impl Terminal {
    fn open(size: PtySize) -> io::Result<Self> {
        use rustix::fs::{Mode, OFlags};
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

        let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&control)?;
        unlockpt(&control)?;
        let name = ptsname(&control, Vec::new())?;
        let line = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        tcsetwinsize(&control, window(size))?;
        rustix::io::ioctl_fionbio(&control, true)?;
        // To the runtime the two directions of a terminal are like two pipes.
        let reader = pipe::Receiver::from_owned_fd_unchecked(control.try_clone()?)?;
        let writer = pipe::Sender::from_owned_fd_unchecked(control.try_clone()?)?;
        Ok(Self { control: Arc::new(control), reader, writer, line })
    }
}

fn window(size: PtySize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// A command and its children. Dropped before the command has ended, it kills them all.
struct Group {
    leader: Mutex<Option<Pid>>,
    terminal: Option<Arc<OwnedFd>>,
}

impl Group {
    fn of(child: &Child, terminal: Option<Arc<OwnedFd>>) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { leader: Mutex::new(leader), terminal }
    }

    /// The command has ended. What it left running is left, and its number may soon be another's.
    fn leave(&self) {
        *self.leader.lock() = None;
    }

    fn signal(&self, signal: OsSignal) {
        let Some(leader) = *self.leader.lock() else { return };
        // Before the helper for terminals has made the group there is the process alone.
        if kill_process_group(leader, signal).is_err() {
            kill_process(leader, signal).ok();
        }
        // An interactive shell gives what it runs in the foreground a group of its own.
        let foreground = self.terminal.as_ref().and_then(|terminal| tcgetpgrp(terminal).ok());
        if let Some(foreground) = foreground.filter(|group| *group != leader) {
            kill_process_group(foreground, signal).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(OsSignal::KILL);
    }
}

fn os_signal(signal: Signal) -> OsSignal {
    match signal {
        Signal::Hangup => OsSignal::HUP,
        Signal::Interrupt => OsSignal::INT,
        Signal::Quit => OsSignal::QUIT,
        Signal::Kill => OsSignal::KILL,
        // `Terminate`, and what this provider does not know yet: a request to end is the mildest.
        _ => OsSignal::TERM,
    }
}

fn exit_status(status: std::process::ExitStatus) -> ExitStatus {
    const NAMES: [(OsSignal, &str); 15] = [
        (OsSignal::HUP, "HUP"),
        (OsSignal::INT, "INT"),
        (OsSignal::QUIT, "QUIT"),
        (OsSignal::ILL, "ILL"),
        (OsSignal::TRAP, "TRAP"),
        (OsSignal::ABORT, "ABRT"),
        (OsSignal::BUS, "BUS"),
        (OsSignal::FPE, "FPE"),
        (OsSignal::KILL, "KILL"),
        (OsSignal::USR1, "USR1"),
        (OsSignal::SEGV, "SEGV"),
        (OsSignal::USR2, "USR2"),
        (OsSignal::PIPE, "PIPE"),
        (OsSignal::ALARM, "ALRM"),
        (OsSignal::TERM, "TERM"),
    ];
    if let Some(code) = status.code() {
        return ExitStatus::Code(code);
    }
    let number = status.signal().unwrap_or_default();
    let name = NAMES.iter().find(|(signal, _)| signal.as_raw() == number).map(|(_, name)| (*name).to_owned());
    ExitStatus::Signal(name.unwrap_or_else(|| number.to_string()))
}

/// Whether a user's name or number is that of this process.
fn is_current_user(user: &str) -> bool {
    let current = rustix::process::geteuid().as_raw().to_string();
    let named = |line: &str| {
        let mut fields = line.split(':');
        fields.next() == Some(user) && fields.nth(1) == Some(&current)
    };
    user == current || std::fs::read_to_string("/etc/passwd").is_ok_and(|users| users.lines().any(named))
}

/// Whether a program can be started, looked for as `exec` does it.
fn look_for(program: &str, directory: &Path, search: Option<&OsStr>) -> Result<(), io::ErrorKind> {
    let places: Vec<PathBuf> = match search {
        _ if program.contains('/') => vec![directory.to_owned()],
        Some(search) => std::env::split_paths(search).collect(),
        None => vec!["/usr/bin".into(), "/bin".into()],
    };
    let modes = places.iter().filter_map(|place| {
        let metadata = std::fs::metadata(place.join(program)).ok()?;
        metadata.is_file().then(|| metadata.permissions().mode())
    });
    match modes.map(|mode| mode & 0o111 != 0).max() {
        Some(true) => Ok(()),
        Some(false) => Err(io::ErrorKind::PermissionDenied),
        None => Err(io::ErrorKind::NotFound),
    }
}

fn cannot_start(program: &str, error: io::Error) -> SessionError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => SessionErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => SessionErrorKind::Permission,
        _ => SessionErrorKind::Failed,
    };
    SessionError::new(kind, format!("cannot start `{program}`")).source(error)
}

fn lost(program: &str) -> impl Fn(io::Error) -> SessionError + Copy + use<'_> {
    move |error| SessionError::new(SessionErrorKind::Failed, format!("lost track of `{program}`")).source(error)
}
