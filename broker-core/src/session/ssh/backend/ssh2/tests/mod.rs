//! Against real servers: OpenSSH's, started by the tests.

mod channels;
mod death;
mod hosts;
mod logins;
mod server;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::connect;
use crate::session::ssh::HostKeyPolicy;
use crate::session::ssh::connection::{Channel, Connection, FromRemote, Start, ToRemote};
use crate::session::ssh::target::{Credential, Families, SshLimits, SshTarget};
use crate::session::{ExitStatus, SessionError};

/// Long enough for anything on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// What a command has said.
#[derive(Debug, Default, PartialEq)]
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ended: Option<ExitStatus>,
    broken: Option<String>,
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

fn exec(line: &str) -> Start {
    Start::Exec { line: line.as_bytes().to_vec(), pty: None }
}

/// Takes all that comes out of a channel.
async fn collect(mut channel: Channel) -> Said {
    let mut said = Said::default();
    let all = async {
        while let Some(piece) = channel.output.recv().await {
            assert!(said.ended.is_none() && said.broken.is_none(), "{piece:?} after the end");
            match piece {
                FromRemote::Stdout(piece) => said.stdout.extend_from_slice(&piece),
                FromRemote::Stderr(piece) => said.stderr.extend_from_slice(&piece),
                FromRemote::Ended(status) => said.ended = Some(status),
                FromRemote::Broken(error) => said.broken = Some(error.to_string()),
            }
        }
    };
    tokio::time::timeout(SOON, all).await.expect("the channel has no end");
    said
}

/// Runs a command without an input.
async fn run(connection: &Arc<dyn Connection>, line: &str) -> Said {
    let channel = connection.open(exec(line)).await.unwrap();
    // It may have ended by now.
    channel.input.send(ToRemote::Eof).await.ok();
    collect(channel).await
}

async fn say(channel: &Channel, text: &str) {
    channel.input.send(ToRemote::Data(Bytes::copy_from_slice(text.as_bytes()))).await.unwrap();
}

/// Waits until something is true.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < SOON, "{what} takes too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Why there is no connection.
async fn refusal(target: &SshTarget) -> SessionError {
    match connect(target).await {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    }
}

/// An error with all that is beneath it.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
