//! SSH in Rust, by the `russh` crate: for builds without OpenSSL, for servers that speak what libssh2 does not, and for
//! more connections than there should be threads. All its connections share one thread.

mod auth;
mod channel;

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use russh::client::{Config, Handle, Handler, Msg};
use russh::keys::ssh_key::Algorithm;
use russh::keys::{EcdsaCurve, HashAlg, PublicKeyBase64};
use russh::{Channel as Inner, ChannelOpenFailure, Disconnect, Preferred, cipher, kex, mac};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::super::connection::{Channel, Connection, Start, Takes};
use super::super::dial::{Dialler, Patience, Refused as NotYet, place};
use super::super::host_key::HostKey;
use super::super::one_each::mixes_up_commands;
use super::super::target::SshTarget;
use super::Contact;
use crate::session::{SessionError, SessionErrorKind};

/// How much of a channel's output may be on its way, in bytes, and how large a packet of it is.
const WINDOW: u32 = 4 * 1024 * 1024;
const PACKET: u32 = 32 * 1024;

/// How many of its own messages a connection keeps for a channel before it stops reading from the server at all.
const CHANNEL_MESSAGES: usize = 1024;

/// After how long a channel that the server refused for want of room is asked for again, at the latest.
const ROOM_AGAIN: Duration = Duration::from_millis(500);

/// How long a server is given to forget a channel that was closed, before it is asked for another one again.
const CLOSING: Duration = Duration::from_millis(100);

/// How often it is asked again where no channel is left that it could wait for.
const CLOSINGS: u32 = 5;

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Connects and logs in, again and again where the machine may be booting.
pub(super) async fn connect(target: &SshTarget) -> Result<Contact, SessionError> {
    let mut patience = Patience::new(target);
    let dialler = Dialler::new(target).await?;
    let shared_target = Arc::new(target.clone());
    loop {
        let refused = match dialler.dial().await {
            Ok(socket) => {
                let work = runtime()?.spawn(attempt(socket, Arc::clone(&shared_target)));
                match AbortOnDropHandle::new(work).await {
                    Ok(Ok((connection, key))) => return Ok((Arc::new(connection), key, dialler.gates())),
                    Ok(Err(refused)) => refused,
                    Err(error) => {
                        let message = format!("connecting to `{}` was cut off", target.label);
                        return Err(SessionError::new(SessionErrorKind::Failed, message).source(error));
                    }
                }
            }
            Err(refused) => refused,
        };
        patience.after(refused).await?;
    }
}

/// The runtime of the one thread.
fn runtime() -> Result<&'static tokio::runtime::Handle, SessionError> {
    static RUNTIME: OnceLock<Result<tokio::runtime::Handle, String>> = OnceLock::new();
    let started = RUNTIME.get_or_init(|| {
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let run = move || runtime.block_on(std::future::pending::<()>());
            std::thread::Builder::new().name("broker-russh".to_owned()).spawn(run)?;
            Ok(handle)
        };
        start().map_err(|error: io::Error| error.to_string())
    });
    started.as_ref().map_err(|error| {
        SessionError::new(SessionErrorKind::Local, format!("cannot start a thread for SSH connections: {error}"))
    })
}

/// Exchanges keys and logs in over one socket.
async fn attempt(socket: OwnedFd, target: Arc<SshTarget>) -> Result<(RusshConnection, HostKey), NotYet> {
    let shared = Arc::new(Shared::default());
    let limit = target.limits.handshake;
    let handshake = async {
        let checker = Checker { target: Arc::clone(&target), shared: Arc::clone(&shared) };
        let config = Arc::new(config(&target));
        let socket = Socket::new(socket).map_err(|error| {
            let message = format!("cannot use the connection to `{}`", target.label);
            NotYet::Finally(SessionError::new(SessionErrorKind::Local, message).source(error))
        })?;
        // The library keeps the server's name for itself. Where it says something before that, it is not known.
        let said = socket.peek().await;
        shared.is_server.store(said.starts_with(b"SSH-"), Ordering::Relaxed);
        shared.mixes_up_commands.store(mixes_up_commands(&said), Ordering::Relaxed);
        let begun = match socket {
            Socket::Tcp(stream) => russh::client::connect_stream(config, stream, checker).await,
            Socket::Unix(stream) => russh::client::connect_stream(config, stream, checker).await,
        };
        let mut handle = begun.map_err(|error| error.told(&target, shared.is_server.load(Ordering::Relaxed)))?;
        auth::log_in(&mut handle, &target, &shared).await.map_err(NotYet::Finally)?;
        Ok(handle)
    };
    let handle = tokio::time::timeout(limit, handshake).await.unwrap_or_else(|_| {
        if shared.is_server.load(Ordering::Relaxed) {
            let message = format!("logging in to `{}` takes longer than {limit:?}", target.label);
            return Err(NotYet::Finally(SessionError::new(SessionErrorKind::Timeout, message)));
        }
        let at = format!("`{}` at `{}`", target.label, place(&target));
        let message = format!("{at} does not say within {limit:?} that it is an SSH server");
        Err(NotYet::Yet(SessionError::new(SessionErrorKind::Unreachable, message)))
    })?;
    let key = shared.key.lock().clone().ok_or_else(|| {
        let message = format!("`{}` has shown no host key that can be read", target.label);
        NotYet::Finally(SessionError::new(SessionErrorKind::HostKey, message))
    })?;
    Ok((RusshConnection { handle: Arc::new(handle), label: target.label.clone(), shared }, key))
}

/// A socket to the host itself, or to its jump host's channel.
enum Socket {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Socket {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        let tcp = std::net::TcpStream::from(socket);
        if tcp.peer_addr().is_ok() {
            tcp.set_nonblocking(true)?;
            return tokio::net::TcpStream::from_std(tcp).map(Self::Tcp);
        }
        let unix = std::os::unix::net::UnixStream::from(OwnedFd::from(tcp));
        unix.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(unix).map(Self::Unix)
    }

    /// The beginning of what the other side says, which is left there to be read.
    async fn peek(&self) -> Vec<u8> {
        let mut beginning = [0; 64];
        let look = |socket: BorrowedFd<'_>, beginning: &mut [u8]| {
            Ok(rustix::net::recv(socket, beginning, rustix::net::RecvFlags::PEEK)?.0)
        };
        let readable = tokio::io::Interest::READABLE;
        let said = match self {
            Self::Tcp(stream) => stream.async_io(readable, || look(stream.as_fd(), &mut beginning)).await,
            Self::Unix(stream) => stream.async_io(readable, || look(stream.as_fd(), &mut beginning)).await,
        };
        beginning.get(..said.unwrap_or_default()).unwrap_or_default().to_vec()
    }
}

fn config(target: &SshTarget) -> Config {
    let mut preferred = Preferred::DEFAULT;
    preferred.kex = Cow::Owned(legacy(
        &preferred.kex,
        &[kex::ECDH_SHA2_NISTP256, kex::ECDH_SHA2_NISTP384, kex::ECDH_SHA2_NISTP521, kex::DH_G14_SHA1],
    ));
    preferred.mac = Cow::Owned(legacy(&preferred.mac, &[mac::HMAC_SHA1_ETM, mac::HMAC_SHA1]));
    // A connection mostly carries files: what the processor has instructions for goes first.
    let old = [cipher::AES_128_GCM, cipher::AES_256_CBC, cipher::AES_128_CBC];
    let mut ciphers: Vec<cipher::Name> = legacy(&preferred.cipher, &old);
    ciphers.sort_by_key(|name| *name != cipher::AES_256_GCM);
    preferred.cipher = Cow::Owned(ciphers);
    let wanted = target.host_key.algorithms(&target.address, target.port);
    if !wanted.is_empty() {
        let mut keys: Vec<Algorithm> = preferred.key.to_vec();
        // The sort is stable: what is not wanted keeps its order behind what is.
        keys.sort_by_key(|algorithm| {
            let rank = wanted.iter().position(|name| plain(algorithm) == *name);
            rank.unwrap_or(usize::MAX)
        });
        preferred.key = Cow::Owned(keys);
    }
    Config {
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: CHANNEL_MESSAGES,
        preferred,
        keepalive_interval: Some(target.limits.keepalive),
        keepalive_max: 3,
        nodelay: true,
        ..Config::default()
    }
}

/// The usual names and, behind them, those for servers that know no better.
fn legacy<T: Clone + PartialEq>(usual: &[T], old: &[T]) -> Vec<T> {
    let old = old.iter().filter(|name| !usual.contains(name));
    usual.iter().chain(old).cloned().collect()
}

/// The name of a key's algorithm as the key itself has it: RSA keys are `ssh-rsa`, whatever they sign with.
fn plain(algorithm: &Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Ed25519 => "ssh-ed25519",
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 } => "ecdsa-sha2-nistp256",
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 } => "ecdsa-sha2-nistp384",
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 } => "ecdsa-sha2-nistp521",
        Algorithm::Rsa { hash: None | Some(HashAlg::Sha256 | HashAlg::Sha512) } => "ssh-rsa",
        _ => "",
    }
}

/// What the library's task and ours tell each other.
#[derive(Default)]
struct Shared {
    key: Mutex<Option<HostKey>>,
    /// Why the connection ended.
    ended: Mutex<Option<String>>,
    /// How many channels are open, and a bell for when one of them is closed.
    open: Mutex<usize>,
    closed: Notify,
    mixes_up_commands: AtomicBool,
    /// Whether the other side has said that it is an SSH server.
    is_server: AtomicBool,
    /// Whether a command was given up before it had ended.
    gave_up: AtomicBool,
}

/// Looks at the host's key, and listens for the end.
struct Checker {
    target: Arc<SshTarget>,
    shared: Arc<Shared>,
}

/// An error of the library, or ours about the host's key.
#[derive(Debug)]
pub(super) enum Refused {
    Library(russh::Error),
    Key(SessionError),
}

impl From<russh::Error> for Refused {
    fn from(error: russh::Error) -> Self {
        Self::Library(error)
    }
}

impl Refused {
    fn told(self, target: &SshTarget, is_server: bool) -> NotYet {
        let at = format!("`{}` at `{}`", target.label, place(target));
        match self {
            Self::Key(error) => NotYet::Finally(error),
            Self::Library(russh::Error::NoCommonAlgo { kind, theirs, .. }) => {
                let theirs = theirs.join(", ");
                let message = format!("{at} and russh have no algorithm in common ({kind:?}): it offers {theirs}");
                NotYet::Finally(SessionError::new(SessionErrorKind::Unsupported, message))
            }
            // Whoever hangs up at the beginning may be a machine that boots, or what stands in front of one.
            Self::Library(error) => {
                let message = format!("no SSH connection to {at}");
                let error = SessionError::new(SessionErrorKind::Unreachable, message).source(error);
                if is_server { NotYet::Finally(error) } else { NotYet::Yet(error) }
            }
        }
    }
}

impl Handler for Checker {
    type Error = Refused;

    async fn check_server_key(&mut self, shown: &russh::keys::PublicKeyOrCertificate) -> Result<bool, Refused> {
        let blob = shown.public_key().public_key_bytes();
        let key = HostKey::from_blob(blob)
            .map_err(|error| SessionError::new(SessionErrorKind::HostKey, error.to_string()))
            .and_then(|key| self.target.host_key.check(&self.target, &key).map(|()| key))
            .map_err(Refused::Key)?;
        *self.shared.key.lock() = Some(key);
        Ok(true)
    }

    async fn disconnected(&mut self, reason: russh::client::DisconnectReason<Refused>) -> Result<(), Refused> {
        use russh::client::DisconnectReason::{Error, ReceivedDisconnect};
        let (why, outcome) = match reason {
            ReceivedDisconnect(told) => (format!("the server said `{}`", told.message), Ok(())),
            Error(Refused::Library(error)) => (error.to_string(), Err(Refused::Library(error))),
            Error(other) => ("the host's key is not believed".to_owned(), Err(other)),
        };
        self.shared.ended.lock().get_or_insert(why);
        self.shared.closed.notify_waiters();
        outcome
    }
}

struct RusshConnection {
    handle: Arc<Handle<Checker>>,
    label: String,
    shared: Arc<Shared>,
}

#[async_trait]
impl Connection for RusshConnection {
    async fn open(&self, start: Start) -> Result<Channel, SessionError> {
        let (handle, shared, label) = (Arc::clone(&self.handle), Arc::clone(&self.shared), self.label.clone());
        let work = runtime()?.spawn(async move { open(&handle, &shared, &label, start).await });
        AbortOnDropHandle::new(work)
            .await
            .unwrap_or_else(|_| Err(SessionError::new(SessionErrorKind::Failed, "opening a channel was cut off")))
    }

    fn broken(&self) -> Option<String> {
        let ended = self.shared.ended.lock().clone();
        ended.or_else(|| self.handle.is_closed().then(|| "the connection was closed".to_owned()))
    }

    fn takes(&self) -> Takes {
        let Shared { mixes_up_commands, gave_up, .. } = &*self.shared;
        match (mixes_up_commands.load(Ordering::Relaxed), gave_up.load(Ordering::Relaxed)) {
            (false, _) => Takes::Many,
            (true, false) => Takes::One,
            (true, true) => Takes::None,
        }
    }

    async fn close(&self) {
        let goodbye = self.handle.disconnect(Disconnect::ByApplication, "", "");
        drop(tokio::time::timeout(GOODBYE, goodbye).await);
        self.shared.ended.lock().get_or_insert("it was closed".to_owned());
        self.shared.closed.notify_waiters();
    }
}

/// A channel counts as open from before it is asked for until its end was seen.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Self {
        *shared.open.lock() += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.open.lock() -= 1;
        self.0.closed.notify_waiters();
    }
}

async fn open(
    handle: &Handle<Checker>,
    shared: &Arc<Shared>,
    label: &str,
    start: Start,
) -> Result<Channel, SessionError> {
    let mut tries_alone = CLOSINGS;
    let (inner, place) = loop {
        let room = shared.closed.notified();
        if shared.mixes_up_commands.load(Ordering::Relaxed) && *shared.open.lock() > 0 {
            drop(tokio::time::timeout(ROOM_AGAIN, room).await);
            if shared.ended.lock().is_none() {
                continue;
            }
            return Err(lost(shared, label, &start, russh::Error::Disconnect));
        }
        let place = Place::take(shared);
        match ask(handle, &start).await {
            Ok(inner) => break (inner, place),
            Err(russh::Error::ChannelOpenFailure(
                ChannelOpenFailure::AdministrativelyProhibited
                | ChannelOpenFailure::ResourceShortage
                | ChannelOpenFailure::ConnectFailed,
            )) if (*shared.open.lock() > 1 || tries_alone > 0) && !matches!(start, Start::Tcp { .. }) => {
                // OpenSSH says `connect failed` where it has no session left.
                let is_alone = *shared.open.lock() == 1;
                drop(place);
                if is_alone {
                    // One that we have closed may be one for it yet.
                    tries_alone -= 1;
                    tokio::time::sleep(CLOSING).await;
                    continue;
                }
                drop(tokio::time::timeout(ROOM_AGAIN, room).await);
            }
            Err(error) => return Err(lost(shared, label, &start, error)),
        }
    };
    let (output, taken) = mpsc::channel(channel::PIECES);
    let (input, given) = mpsc::channel(channel::PIECES);
    let (sizes, resized) = mpsc::channel(channel::PIECES);
    let mut inner = inner;
    if let Err(error) = channel::start(&mut inner, &start).await {
        // The library leaves it open, and the server counts it.
        drop(inner.close().await);
        return Err(match error {
            channel::NotStarted::Refused => {
                let message = format!("`{label}` refuses {}", what(&start));
                SessionError::new(SessionErrorKind::Unsupported, message)
            }
            channel::NotStarted::Lost(error) => lost(shared, label, &start, error),
        });
    }
    let pump =
        channel::Pump { inner, given, resized, output, place, shared: Arc::clone(shared), label: label.to_owned() };
    drop(tokio::spawn(pump.run()));
    Ok(Channel { input, output: taken, sizes })
}

async fn ask(handle: &Handle<Checker>, start: &Start) -> Result<Inner<Msg>, russh::Error> {
    match start {
        Start::Tcp { host, port } => handle.channel_open_direct_tcpip(host, u32::from(*port), "127.0.0.1", 0).await,
        Start::Exec { .. } | Start::Subsystem(_) => handle.channel_open_session().await,
    }
}

fn what(start: &Start) -> String {
    match start {
        Start::Exec { .. } => "to run a command".to_owned(),
        Start::Subsystem(name) => format!("the subsystem `{name}`"),
        Start::Tcp { host, port } => format!("to connect to {host} port {port}"),
    }
}

fn lost(shared: &Shared, label: &str, start: &Start, error: russh::Error) -> SessionError {
    match (shared.ended.lock().clone(), error) {
        (Some(why), _) => {
            SessionError::new(SessionErrorKind::Unreachable, format!("the connection to `{label}` broke: {why}"))
        }
        (None, russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited))
            if matches!(start, Start::Tcp { .. }) =>
        {
            let message =
                format!("the SSH server of `{label}` may not forward connections: it refuses {}", what(start));
            SessionError::new(SessionErrorKind::Permission, message)
        }
        (None, russh::Error::ChannelOpenFailure(reason)) => {
            SessionError::new(SessionErrorKind::Unreachable, format!("`{label}` refuses {}: {reason:?}", what(start)))
        }
        (None, error) => {
            let message = format!("the connection to `{label}` broke");
            SessionError::new(SessionErrorKind::Unreachable, message).source(error)
        }
    }
}
