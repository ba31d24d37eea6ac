//! A guardian as a process, seen from its owner.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe;

use crate::sys::{self, Uninherited};

/// A guardian that runs.
pub(super) struct Running {
    child: Child,
    /// No child that is forked has the other end of `input`. Dropped before that.
    uninherited: Uninherited,
    /// The end of this process closes it.
    input: pipe::Sender,
    replies: Lines<BufReader<pipe::Receiver>>,
    /// Those that it has, once it has said so.
    pub(super) providers: Option<HashSet<String>>,
}

/// A guardian that was just started.
pub(super) struct Started {
    child: Child,
    input: OwnedFd,
    output: OwnedFd,
    uninherited: Uninherited,
}

/// Starts a guardian.
pub(super) fn start(program: &Path) -> io::Result<Started> {
    let mut command = Command::new(program);
    command.arg(super::WORD).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Settings come through the pipe.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("BROKER_") && name.contains("__")) {
            command.env_remove(name);
        }
    }
    sys::in_own_session(&mut command);
    let mut child = command.spawn()?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(input), Some(output)) => {
            let uninherited = sys::uninherited(input.as_fd());
            Ok(Started { child, input: input.into(), output: output.into(), uninherited })
        }
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

impl Running {
    pub(super) fn new(started: Started) -> io::Result<Self> {
        let Started { child, input, output, uninherited } = started;
        Ok(Self {
            child,
            uninherited,
            input: pipe::Sender::from_owned_fd(input)?,
            replies: BufReader::new(pipe::Receiver::from_owned_fd(output)?).lines(),
            providers: None,
        })
    }

    /// Tells it something.
    pub(super) async fn send(&mut self, lines: &[u8]) {
        // That it has ended is noticed by its replies.
        if let Err(error) = self.input.write_all(lines).await {
            tracing::debug!(%error, "the guardian takes nothing more");
        }
    }

    /// Ends it, and waits for that. Blocks.
    pub(super) fn end(self) {
        let Self { mut child, uninherited, input, .. } = self;
        drop(uninherited);
        drop(input);
        // One that has ended takes no signal.
        drop(child.kill());
        if let Err(error) = child.wait() {
            tracing::debug!(%error, "the guardian cannot be waited for");
        }
    }
}

/// The next line that a guardian says; nothing once it has ended. Where there is none it never comes.
pub(super) async fn next_reply(running: Option<&mut Running>) -> Option<String> {
    match running {
        // What cannot be read has ended.
        Some(running) => running.replies.next_line().await.ok().flatten(),
        None => std::future::pending().await,
    }
}
