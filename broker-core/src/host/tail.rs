//! The end of a file on a host, and what is added to it.

use bytes::{Bytes, BytesMut};

use super::{Host, Running};
use crate::error::{Error, Result};
use crate::session::{Command, Output as Piece, RemotePath};

/// How much of what `tail` says is kept for an error, in bytes.
const ENOUGH: usize = 4096;

impl Host {
    /// Reads the last lines of a file, and with `follow` what is added to it from then on: until the [`Tail`] is dropped.
    ///
    /// A file that is followed need not be there yet, may be cut off, and may be replaced by another of its name, as logs
    /// are.
    ///
    /// ```no_run
    /// # async fn example(host: broker_core::Host) -> broker_core::Result<()> {
    /// let mut log = host.tail("/var/log/messages", 10, true).await?;
    /// while let Some(line) = log.line().await {
    ///     println!("{}", line?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If no session could be opened. What is wrong with the file is told in its place among the pieces.
    pub async fn tail(&self, path: impl Into<RemotePath>, lines: usize, follow: bool) -> Result<Tail> {
        let command = command(&path.into(), lines, follow);
        let text = command.to_string();
        let mut running = self.start(command).await?;
        running.close_stdin();
        let host = self.label();
        Ok(Tail { host, command: text, running: Some(running), said: Vec::new(), rest: BytesMut::new() })
    }
}

/// `tail`, for a file of any name.
fn command(path: &RemotePath, lines: usize, follow: bool) -> Command {
    // What begins with a slash or a dot is neither an option nor the standard input.
    let bytes = match path.as_bytes() {
        absolute @ [b'/', ..] => absolute.to_vec(),
        relative => [b"./".as_slice(), relative].concat(),
    };
    let count = lines.to_string();
    let options: &[&str] = if follow { &["-n", &count, "-F"] } else { &["-n", &count] };
    match String::from_utf8(bytes) {
        Ok(path) => Command::words([&["tail"], options, &[path.as_str()]].concat()),
        // Words are text, so a name that is none is put together on the host.
        Err(error) => {
            let name = RemotePath::from_bytes(error.into_bytes()).set_in_shell("name");
            Command::shell(format!("{name}; exec tail {} \"$name\"", options.join(" ")))
        }
    }
}

/// The end of a file as it comes. Dropping it ends the reading.
#[derive(Debug)]
#[must_use = "dropping it ends the reading"]
pub struct Tail {
    host: String,
    command: String,
    running: Option<Running>,
    said: Vec<u8>,
    rest: BytesMut,
}

impl Tail {
    /// The next piece of the file, of any size, or the error that ended the reading; nothing once it has ended.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        if !self.rest.is_empty() {
            return Some(Ok(self.rest.split().freeze()));
        }
        self.piece().await
    }

    /// The next line of the file without its end, bytes that are no UTF-8 replaced. A last line without an end comes when
    /// the reading ends.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn line(&mut self) -> Option<Result<String>> {
        let mut seen = 0;
        loop {
            let newline = self.rest.iter().skip(seen).position(|byte| *byte == b'\n');
            if let Some(at) = newline {
                let line = self.rest.split_to(seen + at + 1);
                return Some(Ok(text(line.get(..seen + at).unwrap_or_default())));
            }
            seen = self.rest.len();
            match self.piece().await {
                Some(Ok(bytes)) => self.rest.extend_from_slice(&bytes),
                Some(Err(error)) => return Some(Err(error)),
                None if self.rest.is_empty() => return None,
                None => return Some(Ok(text(&self.rest.split()))),
            }
        }
    }

    async fn piece(&mut self) -> Option<Result<Bytes>> {
        let running = self.running.as_mut()?;
        while let Some(piece) = running.next().await {
            match piece {
                Piece::Stdout(bytes) => return Some(Ok(bytes)),
                Piece::Stderr(bytes) => {
                    self.said.extend_from_slice(&bytes);
                    self.said.drain(..self.said.len().saturating_sub(ENOUGH));
                }
            }
        }
        match self.running.take()?.wait().await {
            Ok(status) if status.success() => None,
            Ok(status) => {
                let said = String::from_utf8_lossy(&self.said);
                let tail = said.lines().map(|line| format!("\n  {line}")).collect();
                let (host, command) = (self.host.clone(), self.command.clone());
                Some(Err(Error::Command { host, command, status, tail }))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_kind() {
        let argv = |path: &[u8], follow| command(&RemotePath::from_bytes(path.to_vec()), 5, follow).argv();
        assert_eq!(argv(b"/var/log/a b'$(x)", true), ["tail", "-n", "5", "-F", "/var/log/a b'$(x)"]);
        assert_eq!(argv(b"-f", false), ["tail", "-n", "5", "./-f"]);
        let odd = b"/tmp/\xff \n'\"$x\n";
        let argv = argv(odd, false);
        assert_eq!(argv[..2], ["/bin/sh", "-c"]);
        // The shell of this machine puts it together as the host's does.
        let line = argv[2].replace("exec tail -n 5", "printf %s");
        let printed = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        assert_eq!(printed.stdout, odd);
    }
}
