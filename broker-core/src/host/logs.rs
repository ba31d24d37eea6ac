//! What a host itself prints.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Host, PIECES};
use crate::engine;
use crate::error::{Error, Result};

impl Host {
    /// What the host itself has printed so far: a container's log, a machine's console.
    ///
    /// # Errors
    ///
    /// If the provider has none, or does not give it.
    pub async fn logs(&self) -> Result<String> {
        let mut pieces = self.follow_logs(None, false).await?;
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await {
            text.extend_from_slice(&piece?);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// What the host prints, as it comes: from the beginning or the last `tail` lines, and on with what follows.
    ///
    /// # Errors
    ///
    /// If the provider is not there.
    pub async fn follow_logs(&self, tail: Option<usize>, follow: bool) -> Result<Logs> {
        let (output, pieces) = mpsc::channel(PIECES);
        let (reply, outcome) = oneshot::channel();
        let record = self.record();
        let host = self.clone();
        let provider =
            engine::call("setting up a provider", async move { host.core().provider_of(&host.record()).await });
        let provider = provider.await??;
        let doing = format!("could not read the log of host {} (`{}`)", record.number, record.label());
        engine::spawn(async move {
            drop(reply.send(provider.logs(&record, LogRequest { tail, follow, output }).await));
        })?;
        Ok(Logs { pieces, outcome: Some(outcome), doing })
    }
}

/// A wish for what a host has printed.
#[derive(Debug)]
pub struct LogRequest {
    /// Only this many of the last lines.
    pub tail: Option<usize>,
    /// Whether to go on with what comes.
    pub follow: bool,
    /// Where the pieces go. Dropping the receiver ends the request.
    pub output: mpsc::Sender<Bytes>,
}

/// What a host prints, piece by piece.
#[derive(Debug)]
pub struct Logs {
    pieces: mpsc::Receiver<Bytes>,
    outcome: Option<oneshot::Receiver<Result<(), crate::provider::ProviderError>>>,
    doing: String,
}

impl Logs {
    /// The next piece, or the error that ended the log; nothing once it has ended.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        if let Some(piece) = self.pieces.recv().await {
            return Some(Ok(piece));
        }
        match self.outcome.take()?.await {
            Ok(Ok(())) => None,
            Ok(Err(source)) => Some(Err(Error::Provider { doing: self.doing.clone(), source })),
            Err(_) => Some(Err(Error::Panicked("reading a log"))),
        }
    }
}
