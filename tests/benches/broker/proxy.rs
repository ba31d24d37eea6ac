//! A Unix socket that hands everything on to an engine's, and writes down the requests that pass.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tempfile::TempDir;

use crate::{Result, fixtures};

/// Ends with the value.
pub(crate) struct Proxy {
    directory: TempDir,
    requests: Requests,
    stopped: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

type Requests = Arc<Mutex<Vec<String>>>;

impl Proxy {
    pub(crate) fn start(engine: &Path) -> Result<Self> {
        let directory = fixtures::directory()?;
        let listener = UnixListener::bind(socket_in(&directory))?;
        let requests = Requests::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let listening = std::thread::spawn({
            let (engine, requests, stopped) = (engine.to_owned(), Arc::clone(&requests), Arc::clone(&stopped));
            move || {
                for client in listener.incoming().map_while(io::Result::ok) {
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    // Where the engine cannot be reached the client sees its connection end.
                    if let Ok(engine) = UnixStream::connect(&engine) {
                        let _ended = hand_on(client, engine, &requests);
                    }
                }
            }
        });
        Ok(Self { directory, requests, stopped, listening: Some(listening) })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(&self.directory)
    }

    /// The requests since the last time: method and path, ids left out.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that listens.
        if UnixStream::connect(self.socket()).is_ok()
            && let Some(listening) = self.listening.take()
        {
            let _panicked = listening.join();
        }
    }
}

fn socket_in(directory: &TempDir) -> PathBuf {
    directory.path().join("engine.sock")
}

/// Copies both ways until both have ended, each on a thread of its own.
fn hand_on(client: UnixStream, engine: UnixStream, requests: &Requests) -> io::Result<()> {
    let (mut from_client, mut to_engine) = (client.try_clone()?, engine.try_clone()?);
    let requests = Arc::clone(requests);
    std::thread::spawn(move || {
        let mut scanner = Scanner::default();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = from_client.read(&mut buffer) {
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            // Written down before the engine sees it, so that whoever has the answer finds it counted.
            let seen = scanner.scan(bytes);
            requests.lock().unwrap_or_else(PoisonError::into_inner).extend(seen);
            if to_engine.write_all(bytes).is_err() {
                break;
            }
        }
        let _ended_already = to_engine.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let (mut engine, mut client) = (engine, client);
        let _either_end_is_gone = io::copy(&mut engine, &mut client);
        let _ended_already = client.shutdown(Shutdown::Write);
    });
    Ok(())
}

/// Finds the requests in what a client sends over one connection, by RFC 9112.
#[derive(Default)]
struct Scanner {
    part: Part,
    /// What has come of a line or a head.
    pending: Vec<u8>,
}

#[derive(Default, Clone, Copy)]
enum Part {
    /// The request line and the fields.
    #[default]
    Head,
    /// So much of a body is still to come.
    Body(usize),
    /// The line before a chunk.
    ChunkSize,
    /// So much of a chunk is still to come, its line end included.
    Chunk(usize),
    /// The fields after the last chunk.
    Trailer,
    /// No requests any more: the connection was handed to a command.
    Raw,
}

impl Scanner {
    fn scan(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut requests = Vec::new();
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            match self.part {
                Part::Raw => break,
                Part::Body(left) | Part::Chunk(left) => {
                    let (_, after) = rest.split_at(left.min(rest.len()));
                    let left = left - (rest.len() - after.len());
                    rest = after;
                    self.part = match self.part {
                        Part::Body(_) if left == 0 => Part::Head,
                        Part::Body(_) => Part::Body(left),
                        _ if left == 0 => Part::ChunkSize,
                        _ => Part::Chunk(left),
                    };
                }
                Part::Head | Part::ChunkSize | Part::Trailer => {
                    self.pending.push(*first);
                    rest = after;
                    if let Some(text) = self.complete() {
                        self.part = match self.part {
                            Part::Head => {
                                let (request, body) = head(&text);
                                requests.push(request);
                                body
                            }
                            Part::ChunkSize => chunk(&text),
                            _ => Part::Head,
                        };
                    }
                }
            }
        }
        requests
    }

    /// The line or the head that is there to its end.
    fn complete(&mut self) -> Option<String> {
        let ends = match self.part {
            Part::Head => self.pending.ends_with(b"\r\n\r\n"),
            Part::Trailer => self.pending == b"\r\n" || self.pending.ends_with(b"\r\n\r\n"),
            _ => self.pending.ends_with(b"\r\n"),
        };
        ends.then(|| String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned())
    }
}

/// The request of a head, and what follows it.
fn head(text: &str) -> (String, Part) {
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut part = Part::Head;
    let mut upgrade = false;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                part = value.trim().parse().ok().filter(|length| *length > 0).map_or(Part::Head, Part::Body);
            }
            "transfer-encoding" => part = Part::ChunkSize,
            "upgrade" => upgrade = true,
            _ => {}
        }
    }
    (format!("{method} {}", path(target)), if upgrade { Part::Raw } else { part })
}

/// What follows the line before a chunk. The last chunk has no bytes.
fn chunk(line: &str) -> Part {
    let digits = line.split(';').next().unwrap_or_default().trim();
    match usize::from_str_radix(digits, 16) {
        Ok(0) | Err(_) => Part::Trailer,
        Ok(length) => Part::Chunk(length + 2),
    }
}

/// The path of a target without version, query and ids.
fn path(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let is_version =
        |part: &&str| part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let is_id = |part: &str| part.len() >= 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = path.split('/').filter(|part| !is_version(part) && !part.is_empty());
    parts.map(|part| if is_id(part) { "/ID".to_owned() } else { format!("/{part}") }).collect()
}
