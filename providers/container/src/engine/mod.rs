//! One engine, and everything that is asked of it.

pub(crate) mod address;
pub(crate) mod discover;
pub(crate) mod error;
pub(crate) mod hijack;
pub(crate) mod model;

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::models::{ContainerCreateBody, ExecConfig};
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use broker_core::provider::{Endpoint, ErrorKind, ProviderError};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use tokio::sync::OnceCell;

use self::address::Address;
use self::error::{answer, is_missing, provider_error};
use self::model::{Container, Image, ImageSummary, Info, Summary, Version, tolerant};

/// How long a container that somebody else is removing may take to go.
const REMOVAL: Duration = Duration::from_secs(60);

/// A limit for answers that may take as long as they like: a day of waiting for a container to end is a day.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// One container engine at one address. Nothing is connected until something is asked, and nothing stays connected.
pub(crate) struct Engine {
    pub(crate) address: Address,
    uri: String,
    timeout: Duration,
    docker: Docker,
    /// The same client, for answers that come when something ends.
    pub(crate) patient: Docker,
    about: OnceCell<About>,
}

/// What the engine tells of itself. Asked once.
#[derive(Debug)]
pub(crate) struct About {
    /// Whether it is Podman, which differs in some answers.
    pub(crate) podman: bool,
    /// What tells this engine from another at the same address.
    pub(crate) identity: String,
}

/// What an engine's answer to a removal came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// It was there, and is gone.
    Gone,
    /// It was not there.
    Missing,
}

impl Engine {
    pub(crate) fn new(address: Address, timeout: Duration) -> Result<Self, ProviderError> {
        let uri = address.to_string();
        let seconds = timeout.as_secs().max(1);
        let docker = match &address {
            Address::Unix(path) => Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION),
            Address::Tcp { .. } => Docker::connect_with_http(&uri, seconds, API_DEFAULT_VERSION),
        };
        let docker = docker
            .map_err(|error| provider_error("could not reach the container engine", &uri, &error))?
            .with_request_modifier(url_safe_credentials);
        let patient = docker.clone().with_timeout(NO_LIMIT);
        Ok(Self { address, uri, timeout, docker, patient, about: OnceCell::new() })
    }

    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// How long one answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// An error of this engine, with what was being done.
    pub(crate) fn failed(&self, doing: &str, error: &ApiError) -> ProviderError {
        provider_error(doing, &self.uri, error)
    }

    /// Limits a whole call; the client library's own limit ends with the head of the answer.
    async fn limited<T>(&self, call: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ApiError::RequestTimeoutError),
        }
    }

    /// The next piece of an answer that the engine may keep to itself for so long at the most.
    pub(crate) async fn piece<T>(
        &self,
        pieces: &mut (impl Stream<Item = Result<T, ApiError>> + Unpin),
        silence: Duration,
    ) -> Option<Result<T, ApiError>> {
        tokio::time::timeout(silence, pieces.next()).await.unwrap_or(Some(Err(ApiError::RequestTimeoutError)))
    }

    /// What the engine is. Two requests the first time, none after.
    pub(crate) async fn about(&self) -> Result<&About, ProviderError> {
        self.about
            .get_or_try_init(|| async {
                let asking = async {
                    let version: Version = tolerant(self.docker.version().await)?;
                    let info: Info = tolerant(self.docker.info().await)?;
                    Ok((version, info))
                };
                let (version, info) = self
                    .limited(asking)
                    .await
                    .map_err(|error| self.failed("could not ask the container engine what it is", &error))?;
                let podman = version.components.iter().any(|component| component.name.starts_with("Podman"));
                let identity = identity_of(podman, info);
                if identity.is_empty() {
                    let message = format!("what answers at `{}` is no container engine", self.uri);
                    return Err(ProviderError::new(ErrorKind::Bug, message));
                }
                tracing::debug!(uri = %self.uri, version = %version.version, podman, "using this container engine.");
                Ok(About { podman, identity })
            })
            .await
    }

    /// Who answers now. Asked every time: another engine may have come to the same address since this one was met.
    pub(crate) async fn identity_now(&self) -> Result<String, ProviderError> {
        Ok(self.identity_and_time().await?.0)
    }

    /// Who answers now, and what time it is there, if it says so.
    pub(crate) async fn identity_and_time(&self) -> Result<(String, Option<Timestamp>), ProviderError> {
        let podman = self.about().await?.podman;
        let info: Result<Info, ApiError> = self.limited(async { tolerant(self.docker.info().await) }).await;
        let info = info.map_err(|error| self.failed("could not ask the container engine what it is", &error))?;
        let time = info.time.parse().ok();
        Ok((identity_of(podman, info), time))
    }

    pub(crate) async fn endpoint(&self) -> Result<Endpoint, ProviderError> {
        Ok(Endpoint { uri: self.uri.clone(), identity: self.about().await?.identity.clone() })
    }

    pub(crate) async fn inspect(&self, id: &str) -> Result<Container, ApiError> {
        self.limited(async { tolerant(self.docker.inspect_container(id, None).await) }).await
    }

    /// All containers that the filters let through, ended ones too.
    pub(crate) async fn list(&self, filters: &[(&str, &str)]) -> Result<Vec<Summary>, ApiError> {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        for (key, value) in filters {
            map.entry((*key).to_owned()).or_default().push((*value).to_owned());
        }
        let options = query::ListContainersOptions { all: true, filters: Some(map), ..Default::default() };
        self.limited(async { tolerant(self.docker.list_containers(Some(options)).await) }).await
    }

    /// Makes a container and returns its id.
    pub(crate) async fn create(
        &self,
        name: &str,
        platform: &str,
        body: ContainerCreateBody,
    ) -> Result<String, ApiError> {
        let options = query::CreateContainerOptions { name: Some(name.to_owned()), platform: platform.to_owned() };
        self.limited(async { Ok(self.docker.create_container(Some(options), body).await?.id) }).await
    }

    pub(crate) async fn start(&self, id: &str) -> Result<(), ApiError> {
        self.limited(self.docker.start_container(id, None)).await
    }

    /// Ends and removes a container with its anonymous volumes, and returns once it is gone.
    pub(crate) async fn remove(&self, id: &str) -> Result<Removed, ApiError> {
        let options = query::RemoveContainerOptions { v: true, force: true, ..Default::default() };
        match self.limited(self.docker.remove_container(id, Some(options))).await {
            Ok(()) => Ok(Removed::Gone),
            Err(error) if is_missing(&error) => Ok(Removed::Missing),
            Err(error) => match answer(&error) {
                Some((409, message)) if message.contains("already in progress") => self.wait_until_gone(id).await,
                _ => Err(error),
            },
        }
    }

    async fn wait_until_gone(&self, id: &str) -> Result<Removed, ApiError> {
        let waiting = async {
            let mut pause = Duration::from_millis(20);
            loop {
                match self.inspect(id).await {
                    Err(error) if is_missing(&error) => return Ok(Removed::Gone),
                    Err(error) => return Err(error),
                    Ok(_) => tokio::time::sleep(pause).await,
                }
                pause = (pause * 2).min(Duration::from_millis(500));
            }
        };
        match tokio::time::timeout(REMOVAL, waiting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ApiError::RequestTimeoutError),
        }
    }

    pub(crate) async fn image(&self, name: &str) -> Result<Image, ApiError> {
        self.limited(async { tolerant(self.docker.inspect_image(name).await) }).await
    }

    /// All tagged images, or those with a label.
    pub(crate) async fn images(&self, label: Option<&str>) -> Result<Vec<ImageSummary>, ApiError> {
        let filters = label.map(|label| HashMap::from([("label".to_owned(), vec![label.to_owned()])]));
        let options = query::ListImagesOptions { filters, ..Default::default() };
        self.limited(async { tolerant(self.docker.list_images(Some(options)).await) }).await
    }

    /// The client itself, for what is asked in one place only.
    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    pub(crate) async fn create_exec(&self, container: &str, config: ExecConfig) -> Result<String, ApiError> {
        self.limited(async { Ok(self.docker.create_exec(container, config).await?.id) }).await
    }

    /// How a command that was started ended; nothing while it still runs.
    pub(crate) async fn exec_status(&self, exec: &str) -> Result<Option<ExecStatus>, ApiError> {
        let answer = self.limited(self.docker.inspect_exec(exec)).await?;
        let started = answer.pid.unwrap_or_default() != 0;
        match (answer.running, answer.exit_code) {
            (Some(true), _) | (_, None) => Ok(None),
            (_, Some(code)) => Ok(Some(ExecStatus { code: i32::try_from(code).unwrap_or(i32::MAX), started })),
        }
    }

    pub(crate) async fn resize_exec(&self, exec: &str, rows: u16, columns: u16) -> Result<(), ApiError> {
        let options = query::ResizeExecOptions { h: i32::from(rows), w: i32::from(columns) };
        self.limited(self.docker.resize_exec(exec, options)).await
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExecStatus {
    pub(crate) code: i32,
    /// Whether the engine knows of a process that it had. Podman never does.
    pub(crate) started: bool,
}

/// What tells an engine from another at the same address. Podman makes up another id for every answer.
fn identity_of(podman: bool, info: Info) -> String {
    if podman { format!("podman:{}:{}", info.name, info.root) } else { info.id }
}

/// Engines read registry credentials in the URL-safe alphabet, and take others for none; the library sends the common one.
fn url_safe_credentials(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth")
        && let Ok(text) = value.to_str()
        && let Ok(safe) = text.replace('+', "-").replace('/', "_").parse()
    {
        *value = safe;
        value.set_sensitive(true);
    }
    request
}
