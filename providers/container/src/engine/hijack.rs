//! Starting a command in a container, with a connection of our own.
//!
//! The engine answers `POST /exec/ID/start` by handing the connection over: from then on it carries what the command
//! reads and prints. The client library takes what a terminal prints for its own framing where a piece begins with a
//! byte below three, and waits for whole frames; here bytes go through as they come.
//!
//! Protocol: <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach>,
//! "Hijacking" and "Stream format".

use std::time::Duration;

use bollard::errors::Error as ApiError;
use broker_core::session::Output;
use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Engine;

/// The most that an engine may say before its answer begins.
const MOST_HEAD: usize = 64 * 1024;

/// How much is read at once.
const PIECE: usize = 64 * 1024;

/// A running command's ends.
pub(crate) struct Attached {
    pub(crate) output: Pieces,
    pub(crate) input: Box<dyn AsyncWrite + Send + Unpin>,
}

/// What a command prints.
pub(crate) struct Pieces {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
    framing: Framing,
}

enum Framing {
    /// A terminal: everything is one stream.
    Raw,
    /// Frames of eight bytes and a payload. How much of the present payload is still to come, and where it belongs.
    Frames { left: usize, stderr: bool },
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Engine {
    /// Starts a command that was created, and takes the connection over.
    pub(crate) async fn start_exec(&self, exec: &str, terminal: bool) -> Result<Attached, ApiError> {
        match tokio::time::timeout(self.timeout(), self.hijack(exec, terminal)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ApiError::RequestTimeoutError),
        }
    }

    async fn hijack(&self, exec: &str, terminal: bool) -> Result<Attached, ApiError> {
        let mut connection = self.address.connect().await?;
        let body = format!("{{\"Detach\":false,\"Tty\":{terminal}}}");
        let head = format!(
            "POST /exec/{exec}/start HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nConnection: Upgrade\r\n\
             Upgrade: tcp\r\nContent-Length: {}\r\n\r\n{body}",
            self.address.reachable_host(),
            body.len()
        );
        connection.writer.write_all(head.as_bytes()).await?;
        let mut buffer = BytesMut::with_capacity(PIECE);
        let head = loop {
            if let Some(end) = find(&buffer, b"\r\n\r\n") {
                break buffer.split_to(end + 4);
            }
            if buffer.len() > MOST_HEAD || connection.reader.read_buf(&mut buffer).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        };
        let head = String::from_utf8_lossy(&head).into_owned();
        let status: u16 = head.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_default();
        if matches!(status, 101 | 200) {
            let framing = if terminal { Framing::Raw } else { Framing::Frames { left: 0, stderr: false } };
            let output = Pieces { reader: connection.reader, buffer, framing };
            return Ok(Attached { output, input: connection.writer });
        }
        let message = refusal(&mut connection.reader, buffer).await;
        Err(ApiError::DockerResponseServerError { status_code: status, message })
    }
}

/// The engine's words of refusal. The connection may stay open behind them, so that only the JSON tells where they end.
async fn refusal(reader: &mut (impl AsyncRead + Unpin), mut buffer: BytesMut) -> String {
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&buffer);
            // The body may come in chunks, with their lengths around it.
            if let Some((start, end)) = text.find('{').zip(text.rfind('}'))
                && let Ok(refusal) = serde_json::from_str::<Refusal>(text.get(start..=end).unwrap_or_default())
            {
                return refusal.message;
            }
            if buffer.len() > MOST_HEAD || reader.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return String::from_utf8_lossy(&buffer).trim().to_owned();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reading).await.unwrap_or_else(|_| "no reason given".to_owned())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

impl Pieces {
    /// The next piece; nothing at the end.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Output>> {
        loop {
            if let Some(piece) = self.take() {
                return Ok(Some(piece));
            }
            if self.buffer.capacity() - self.buffer.len() < PIECE / 4 {
                self.buffer.reserve(PIECE);
            }
            let size = match self.reader.read_buf(&mut self.buffer).await {
                // How an engine hangs up on a command that has not read all that it was given.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
                read => read?,
            };
            if size == 0 {
                return if self.buffer.is_empty() && !self.inside_a_frame() {
                    Ok(None)
                } else {
                    Err(std::io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    fn inside_a_frame(&self) -> bool {
        matches!(self.framing, Framing::Frames { left, .. } if left > 0)
    }

    /// What is in the buffer, as far as it belongs together.
    fn take(&mut self) -> Option<Output> {
        match &mut self.framing {
            Framing::Raw if self.buffer.is_empty() => None,
            Framing::Raw => Some(Output::Stdout(self.buffer.split().freeze())),
            Framing::Frames { left, stderr } => loop {
                if *left > 0 {
                    let size = (*left).min(self.buffer.len());
                    if size == 0 {
                        return None;
                    }
                    *left -= size;
                    let bytes: Bytes = self.buffer.split_to(size).freeze();
                    return Some(if *stderr { Output::Stderr(bytes) } else { Output::Stdout(bytes) });
                }
                if self.buffer.len() < 8 {
                    return None;
                }
                *stderr = self.buffer.get_u32() >> 24 == 2;
                *left = usize::try_from(self.buffer.get_u32()).unwrap_or(usize::MAX);
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(terminal: bool, bytes: &'static [u8]) -> Pieces {
        let framing = if terminal { Framing::Raw } else { Framing::Frames { left: 0, stderr: false } };
        Pieces { reader: Box::new(bytes), buffer: BytesMut::new(), framing }
    }

    #[tokio::test]
    async fn frames_are_taken_apart() {
        let mut frames = pieces(false, b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\x01e");
        assert_eq!(frames.next().await.unwrap(), Some(Output::Stdout(Bytes::from_static(b"hi"))));
        assert_eq!(frames.next().await.unwrap(), Some(Output::Stderr(Bytes::from_static(b"e"))));
        assert_eq!(frames.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_broken_frame_is_an_error() {
        let mut frames = pieces(false, b"\x01\0\0\0\0\0\0\x09hi");
        assert!(frames.next().await.unwrap().is_some());
        assert!(frames.next().await.is_err());
        assert!(pieces(false, b"\x01\0\0").next().await.is_err());
    }

    #[tokio::test]
    async fn a_terminals_bytes_are_never_taken_for_frames() {
        let mut raw = pieces(true, b"\x01\x02\0\0\0\0\0\x09ab");
        assert_eq!(raw.next().await.unwrap(), Some(Output::Stdout(Bytes::from_static(b"\x01\x02\0\0\0\0\0\x09ab"))));
        assert_eq!(raw.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_refusal_is_read_though_the_connection_stays_open() {
        let (mut ours, theirs) = tokio::io::duplex(1024);
        ours.write_all(b"1f\r\n{\"cause\":\"x\",\"message\":\"no {such}\"}\r\n").await.unwrap();
        let mut theirs = theirs;
        assert_eq!(refusal(&mut theirs, BytesMut::new()).await, "no {such}");
    }
}
