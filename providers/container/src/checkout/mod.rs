//! Making a host: a container that is created, started and waited for, or leaves nothing behind.
//!
//! From the moment the engine has answered the creation the container is owned here: whatever goes wrong after that
//! removes it. Until then nothing exists, except where the answer itself was lost; then the error says so, and the
//! container is found by its label.

pub(crate) mod create;
pub(crate) mod facts;
pub(crate) mod ready;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::errors::Error as ApiError;
use bollard::models::NetworkConnectRequest;
use bollard::query_parameters as query;
use broker_core::provider::{ErrorKind, HostFacts, Order, ProviderError};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde_json::json;

use self::create::Placing;
use crate::ContainerProvider;
use crate::engine::Engine;
use crate::engine::error::{answer, was_refused};
use crate::network;
use crate::request::{Contents, PutFile, Spec};
use crate::session::Target;
use crate::session::files::Pulse;
use broker_core::session::archive::{self, Entry, Kind, Ownership};

/// After which pauses a container is made again whose group's network other processes make or remove at the moment.
const GROUP_PAUSES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// How much of a file on this machine is read at once.
const PIECE: usize = 256 * 1024;

/// A container that exists, and that nobody else would remove.
pub(crate) struct Made {
    pub(crate) target: Target,
    pub(crate) image: String,
    pub(crate) group: Option<String>,
}

impl ContainerProvider {
    pub(crate) async fn check_out(&self, order: &Order) -> Result<HostFacts, ProviderError> {
        let spec = Spec::read(order, &self.settings)?;
        let engine = self.engine().await?;
        let podman = engine.about().await?.podman;
        let (made, took) = self.make_and_start(&engine, order, &spec).await?;
        order.progress("waiting until it is ready");
        let ready = tokio::select! {
            ready = ready::wait(&made.target, &spec, podman, took) => ready,
            () = order.cancelled() => Err(cancelled(&made.target.label)),
        };
        match ready {
            Ok(container) => Ok(facts::of_container(&engine.address, &container, &made.image, made.group.as_deref())),
            Err(error) => Err(self.undo(&made, error).await),
        }
    }

    /// Makes a container of an order and starts it. On an error nothing is left, or the error says that it may be.
    pub(crate) async fn make_and_start(
        &self,
        engine: &Arc<Engine>,
        order: &Order,
        spec: &Spec,
    ) -> Result<(Made, Duration), ProviderError> {
        let mut pauses = GROUP_PAUSES.into_iter();
        loop {
            let made = self.make(engine, order, spec, &mut pauses).await?;
            let error = match self.bring_up(&made, order, spec).await {
                Ok(took) => return Ok((made, took)),
                Err(error) => error,
            };
            // A container that was made in a network which has changed since cannot be started.
            let is_changing = made.group.is_some() && network::says_changing(&error.to_string());
            let pause = if is_changing && !order.is_cancelled() { pauses.next() } else { None };
            let (Some(pause), Some(group)) = (pause, &made.group) else { return Err(self.undo(&made, error).await) };
            if engine.remove(&made.target.id).await.is_err() {
                return Err(self.undo(&made, error).await);
            }
            // The container that is noted is no longer the only one there can be.
            order.made(json!({})).await?;
            self.groups.forget(group).await;
            tokio::time::sleep(pause).await;
        }
    }

    /// Makes a container. Where its group's network changes meanwhile, that is tried again after each of the pauses.
    async fn make(
        &self,
        engine: &Arc<Engine>,
        order: &Order,
        spec: &Spec,
        pauses: &mut impl Iterator<Item = Duration>,
    ) -> Result<Made, ProviderError> {
        let name = create::name(spec, order, self.settings.name_prefix.as_deref());
        let platform = spec.platform.as_deref().unwrap_or_default();
        let mut fresh = false;
        loop {
            if order.is_cancelled() {
                return Err(cancelled(&name));
            }
            let image = self.images.resolve(engine, spec, false, &|text| order.progress(text)).await?;
            let group = match &spec.network_group {
                Some(group) => Some(self.groups.join(engine, group).await?),
                None => None,
            };
            let placing = Placing {
                image: &image,
                address: &engine.address,
                group: group.as_deref(),
                labels: &self.settings.labels,
            };
            // Not cut short by a cancellation: an answer that nobody waits for is a container that nobody knows.
            let error = match engine.create(&name, platform, create::body(spec, order, &placing)).await {
                Ok(id) => {
                    let target = Target { engine: Arc::clone(engine), id, label: name };
                    return Ok(Made { target, image: image.reference, group: spec.network_group.clone() });
                }
                Err(error) => error,
            };
            let words = answer(&error).map(|(_, words)| words.to_owned()).unwrap_or_default();
            if words.to_lowercase().contains("no such image") && !fresh {
                fresh = true;
                self.images.forget(spec);
                continue;
            }
            if let Some(group) = &spec.network_group {
                if network::says_changing(&words)
                    && let Some(pause) = pauses.next()
                {
                    self.groups.forget(group).await;
                    tokio::time::sleep(pause).await;
                    continue;
                }
                self.leave_quietly(engine, group).await;
            }
            return Err(create_error(engine, &name, spec, &error));
        }
    }

    /// Everything between the creation and the start, and the start. Returns how long the engine took over that. Ends early
    /// where the order is cancelled.
    async fn bring_up(&self, made: &Made, order: &Order, spec: &Spec) -> Result<Duration, ProviderError> {
        let target = &made.target;
        let starting = async {
            put_files(target, &spec.files).await?;
            for network in create::networks(spec, None).into_iter().skip(usize::from(made.group.is_none())) {
                let wanted = NetworkConnectRequest {
                    container: target.id.clone(),
                    endpoint_config: Some(create::place_in_network(spec, &network, None)),
                };
                target.engine.docker().connect_network(&network, wanted).await.map_err(|error| {
                    target.engine.failed(
                        &format!("could not connect container `{}` to network `{network}`", target.label),
                        &error,
                    )
                })?;
            }
            let begun = Instant::now();
            target.engine.start(&target.id).await.map_err(|error| {
                let doing = format!("could not start container `{}` of image `{}`", target.label, spec.image);
                masked(&target.engine.failed(&doing, &error), spec)
            })?;
            Ok(begun.elapsed())
        };
        // The journal and the engine work at the same time.
        let both = async {
            let (noted, started) = tokio::join!(order.made(json!({ facts::CONTAINER: target.id })), starting);
            started.and_then(|took| noted.map(|()| took))
        };
        tokio::select! {
            outcome = both => outcome,
            () = order.cancelled() => Err(cancelled(&target.label)),
        }
    }

    /// Removes what was made, and returns the error that made it necessary, with the removal's own where that failed too.
    pub(crate) async fn undo(&self, made: &Made, error: ProviderError) -> ProviderError {
        let engine = &made.target.engine;
        match engine.remove(&made.target.id).await {
            Ok(_) => {
                if let Some(group) = &made.group {
                    self.leave_quietly(engine, group).await;
                }
                error
            }
            Err(removal) => {
                let message = format!("{error}; and the container could not be removed");
                let doing = format!("could not remove container `{}`", made.target.label);
                ProviderError::new(error.kind(), message).source(engine.failed(&doing, &removal)).leaving_something()
            }
        }
    }

    /// Removes a group's network if nobody is in it. What is left is no host, and goes with the group's next one.
    pub(crate) async fn leave_quietly(&self, engine: &Engine, group: &str) {
        if let Err(error) = self.groups.leave(engine, group).await {
            tracing::warn!(group, %error, "the network of a group is left.");
        }
    }
}

fn cancelled(name: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Cancelled, format!("container `{name}` is not wanted any more"))
}

/// The engine's words without what the order keeps secret.
fn masked(error: &ProviderError, spec: &Spec) -> ProviderError {
    ProviderError::new(error.kind(), ready::hide(&error.to_string(), &spec.secrets()))
}

fn create_error(engine: &Engine, name: &str, spec: &Spec, error: &ApiError) -> ProviderError {
    let words = answer(error).map(|(_, words)| words).unwrap_or_default();
    if words.contains("already in use by") {
        let other = words
            .split(|character: char| !character.is_ascii_hexdigit())
            .find(|word| word.len() >= 32)
            .and_then(|id| id.get(..12));
        let message = match other {
            Some(other) => format!("there is a container `{name}` already: `{other}`"),
            None => format!("there is a container `{name}` already"),
        };
        return ProviderError::new(ErrorKind::Conflict, message);
    }
    let doing = format!("could not create container `{name}` of image `{}`", spec.image);
    let failed = masked(&engine.failed(&doing, error), spec);
    // Without an answer nobody knows whether the engine has done it.
    if was_refused(error) { failed } else { failed.leaving_something() }
}

/// Puts files into a container that has not started.
async fn put_files(target: &Target, files: &[PutFile]) -> Result<(), ProviderError> {
    if files.is_empty() {
        return Ok(());
    }
    let options = query::UploadToContainerOptions {
        path: "/".to_owned(),
        no_overwrite_dir_non_dir: Some("1".to_owned()),
        ..Default::default()
    };
    let pulse = Arc::new(Pulse::default());
    let beating = Arc::clone(&pulse);
    let body = bollard::body_try_stream(archive_of(files.to_vec()).inspect(move |_| beating.beat()));
    let sending = target.engine.patient.upload_to_container(&target.id, Some(options), body);
    let sent = tokio::select! {
        sent = sending => sent,
        () = pulse.stalled(target.engine.timeout()) => Err(ApiError::RequestTimeoutError),
    };
    sent.map_err(|error| {
        let names: Vec<String> = files.iter().map(|file| format!("`{}`", file.to)).collect();
        let doing = format!("could not put {} into container `{}`", names.join(", "), target.label);
        target.engine.failed(&doing, &error)
    })
}

/// An archive of files, read as it is sent.
fn archive_of(files: Vec<PutFile>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let files = stream::iter(files).flat_map(|file| {
        let pieces: std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>> = match file.contents {
            Contents::Bytes(bytes) => {
                let head = head_of(&file.to, file.mode.unwrap_or(0o644), bytes.len() as u64);
                let padding = archive::padding(bytes.len() as u64);
                Box::pin(stream::iter([head, Bytes::from(bytes), padding].map(Ok)))
            }
            Contents::File(path) => Box::pin(read_file(file.to, file.mode, path)),
        };
        pieces
    });
    // An empty piece would end the body early.
    files
        .chain(stream::once(async { Ok(archive::end()) }))
        .filter(|piece| std::future::ready(!matches!(piece, Ok(piece) if piece.is_empty())))
}

fn head_of(to: &str, mode: u32, size: u64) -> Bytes {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let entry = Entry {
        path: to.trim_start_matches('/').as_bytes().to_vec(),
        kind: Kind::File,
        target: Vec::new(),
        size,
        mode,
        modified: now.as_secs(),
    };
    archive::header(&entry, Ownership::default())
}

/// A file of this machine as an entry of an archive. Reading happens on threads that may block.
fn read_file(
    to: String,
    mode: Option<u32>,
    path: std::path::PathBuf,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let reading = move || {
        let send = |piece| sender.blocking_send(piece).is_ok();
        let whole = || -> io::Result<()> {
            let mut file = std::fs::File::open(&path)?;
            let entry = file.metadata()?;
            let size = entry.len();
            if !send(Ok(head_of(&to, mode.unwrap_or(entry.permissions().mode() & 0o7777), size))) {
                return Ok(());
            }
            let mut left = size;
            let mut buffer = vec![0; PIECE];
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
                let read = file.read(buffer.get_mut(..most).unwrap_or_default())?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                left -= read as u64;
                if !send(Ok(Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default()))) {
                    return Ok(());
                }
            }
            send(Ok(archive::padding(size)));
            Ok(())
        };
        if let Err(error) = whole() {
            let named = io::Error::new(error.kind(), format!("`{}`: {error}", path.display()));
            send(Err(named));
        }
    };
    drop(tokio::task::spawn_blocking(reading));
    stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_become_an_archive() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("big");
        std::fs::write(&source, vec![7; PIECE + 10]).unwrap();
        let files = vec![
            PutFile { to: "/etc/a".into(), mode: Some(0o600), contents: Contents::Bytes(b"text".to_vec()) },
            PutFile { to: "/empty".into(), mode: None, contents: Contents::Bytes(Vec::new()) },
            PutFile { to: "/srv/big".into(), mode: None, contents: Contents::File(source) },
        ];
        let pieces: Vec<io::Result<Bytes>> = archive_of(files).collect().await;
        assert!(pieces.iter().all(|piece| piece.as_ref().is_ok_and(|piece| !piece.is_empty())));
        let bytes = pieces.into_iter().map(Result::unwrap).collect::<Vec<_>>().concat();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let found: Vec<(String, u64, u32)> = archive
            .entries()
            .unwrap()
            .map(Result::unwrap)
            .map(|entry| {
                let mode = entry.header().mode().unwrap();
                (entry.path().unwrap().display().to_string(), entry.size(), mode)
            })
            .collect();
        let wanted = [("etc/a", 4, 0o600), ("empty", 0, 0o644), ("srv/big", PIECE as u64 + 10, 0o644)];
        assert_eq!(found, wanted.map(|(path, size, mode)| (path.to_owned(), size, mode)));
    }

    #[tokio::test]
    async fn a_source_that_goes_away_is_named() {
        let file = PutFile { to: "/x".into(), mode: None, contents: Contents::File("/nowhere/x".into()) };
        let pieces: Vec<io::Result<Bytes>> = archive_of(vec![file]).collect().await;
        let error = pieces.into_iter().find_map(Result::err).unwrap();
        assert!(error.to_string().starts_with("`/nowhere/x`: "), "{error}");
    }
}
