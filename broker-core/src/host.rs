//! Hosts as users see them.

use bytes::Bytes;
use tokio::sync::mpsc;

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
