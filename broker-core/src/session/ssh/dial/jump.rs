//! Sockets through another host: a channel of its connection, behind a pair of sockets.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::{Refused, place};
use crate::session::ssh::connection::{Channel, Connection, FromRemote, Start, ToRemote};
use crate::session::ssh::target::SshTarget;
use crate::session::{SessionError, SessionErrorKind};

/// How many bytes are moved at once.
const PIECE: usize = 128 * 1024;

/// Has the jump host connect to the target. The connection to the jump host lives as long as the socket does.
pub(super) async fn dial(target: &SshTarget, via: &SshTarget, jump: &Arc<dyn Connection>) -> Result<OwnedFd, Refused> {
    let start = Start::Tcp { host: target.address.clone(), port: target.port };
    let opened = tokio::time::timeout(target.limits.connect, jump.open(start)).await;
    let named = || format!("cannot connect to `{}` at `{}` through `{}`", target.label, place(target), via.label);
    let channel = match opened {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) if error.kind() == SessionErrorKind::Unreachable && jump.broken().is_none() => {
            return Err(Refused::Yet(SessionError::new(SessionErrorKind::Unreachable, named()).source(error)));
        }
        Ok(Err(error)) => return Err(Refused::Finally(SessionError::new(error.kind(), named()).source(error))),
        Err(_) => {
            let message = format!("{}: it does not answer within {:?}", named(), target.limits.connect);
            return Err(Refused::Yet(SessionError::new(SessionErrorKind::Unreachable, message)));
        }
    };
    let pair = || -> std::io::Result<(StdStream, UnixStream)> {
        let (near, far) = StdStream::pair()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        Ok((near, UnixStream::from_std(far)?))
    };
    let (near, far) =
        pair().map_err(|error| Refused::Finally(SessionError::new(SessionErrorKind::Local, named()).source(error)))?;
    let (from_near, to_near) = far.into_split();
    let Channel { input, output, .. } = channel;
    let jump = Arc::clone(jump);
    // Ends with the near side or with the channel, whichever is first, and lets go of both.
    let pump = async move {
        tokio::select! {
            () = send(from_near, &input) => {}
            () = receive(output, to_near) => {}
        }
        drop(jump);
    };
    drop(tokio::spawn(pump));
    Ok(near.into())
}

/// Moves what the near side says to the channel.
async fn send(mut from: OwnedReadHalf, to: &mpsc::Sender<ToRemote>) {
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() < PIECE / 8 {
            buffer.reserve(PIECE);
        }
        match from.read_buf(&mut buffer).await {
            // It has been closed, not only for one direction: libssh2 knows no other way.
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if to.send(ToRemote::Data(buffer.split().freeze())).await.is_err() {
            return;
        }
    }
}

/// Moves what comes out of the channel to the near side.
async fn receive(mut from: mpsc::Receiver<FromRemote>, mut to: OwnedWriteHalf) {
    while let Some(piece) = from.recv().await {
        match piece {
            FromRemote::Stdout(piece) => {
                if to.write_all(&piece).await.is_err() {
                    return;
                }
            }
            FromRemote::Stderr(_) | FromRemote::Ended(_) => {}
            FromRemote::Broken(_) => return,
        }
    }
}
