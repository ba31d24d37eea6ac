//! The container engines of this machine by their own API: the floor of everything that has to do with containers.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, ExecConfig};
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use futures_util::TryStreamExt as _;
use futures_util::future::{join_all, try_join_all};
use tokio::runtime::Runtime;

use crate::Result;
use crate::report::Bench;

/// The smallest host image of `cargo xtask setup`.
pub(crate) const IMAGE: &str = "localhost/broker-testhost:tiny";

/// All containers of a run have it, ours and the floor's, so that none is left behind.
pub(crate) const LABEL: (&str, &str) = ("broker.bench", "yes");

/// An engine that may be there.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    sockets: Vec<PathBuf>,
}

/// Docker and Podman, whether or not this machine has them.
pub(crate) fn all() -> [Engine; 2] {
    let variable = |name| std::env::var(name).ok();
    let named = variable("DOCKER_HOST").and_then(|host| host.strip_prefix("unix://").map(PathBuf::from));
    let own = variable("XDG_RUNTIME_DIR").map(|directory| PathBuf::from(directory).join("podman/podman.sock"));
    let docker = named.unwrap_or_else(|| "/var/run/docker.sock".into());
    let podman = own.into_iter().chain(["/run/podman/podman.sock".into()]).collect();
    [Engine { name: "docker", sockets: vec![docker] }, Engine { name: "podman", sockets: podman }]
}

impl Engine {
    /// Connects to it. Where it is not there, says so in the bench's last lines.
    pub(crate) fn connect(&self, bench: &mut Bench) -> Result<Option<Api>> {
        for socket in self.sockets.iter().filter(|socket| socket.exists()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let path = socket.to_string_lossy();
            let client = Docker::connect_with_unix(&path, 120, bollard::API_DEFAULT_VERSION)?;
            let Ok(client) = runtime.block_on(client.negotiate_version()) else { continue };
            if runtime.block_on(client.inspect_image(IMAGE)).is_err() {
                bench.leave_out(self.name, &format!("it has no image `{IMAGE}`; run `cargo xtask setup`"));
                return Ok(None);
            }
            let api = Api { socket: socket.clone(), runtime, client };
            // What a run that was killed has left.
            api.sweep()?;
            return Ok(Some(api));
        }
        let sockets: Vec<_> = self.sockets.iter().map(|socket| socket.display().to_string()).collect();
        bench.leave_out(self.name, &format!("nothing answers at {}", sockets.join(" or ")));
        Ok(None)
    }
}

/// An engine that is there. Dropping it removes every container of this program.
pub(crate) struct Api {
    pub(crate) socket: PathBuf,
    runtime: Runtime,
    client: Docker,
}

impl Api {
    /// Makes and starts containers at once.
    pub(crate) fn out(&self, count: u32) -> Result<Vec<String>> {
        let one = async || {
            let (label, value) = LABEL;
            let body = ContainerCreateBody {
                image: Some(IMAGE.to_owned()),
                labels: Some(HashMap::from([(label.to_owned(), value.to_owned())])),
                ..Default::default()
            };
            let id = self.client.create_container(None, body).await?.id;
            self.client.start_container(&id, None).await?;
            Ok::<_, bollard::errors::Error>(id)
        };
        Ok(self.runtime.block_on(try_join_all((0..count).map(|_| one())))?)
    }

    /// Removes containers at once.
    pub(crate) fn back(&self, ids: &[String]) -> Result {
        let remove = |id| {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            self.client.remove_container(id, Some(options))
        };
        // Every one is tried, and the first error told.
        let outcomes = self.runtime.block_on(join_all(ids.iter().map(|id| remove(id))));
        Ok(outcomes.into_iter().collect::<std::result::Result<(), _>>()?)
    }

    /// Runs a shell line in a container, and collects what it prints on standard output and standard error.
    pub(crate) fn exec(&self, container: &str, line: &str) -> Result<(Vec<u8>, Vec<u8>)> {
        let run = async {
            let config = ExecConfig {
                cmd: Some(["sh", "-c", line].map(str::to_owned).into()),
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                ..Default::default()
            };
            let exec = self.client.create_exec(container, config).await?.id;
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            if let StartExecResults::Attached { mut output, .. } = self.client.start_exec(&exec, None).await? {
                while let Some(piece) = output.try_next().await? {
                    match piece {
                        LogOutput::StdErr { message } => stderr.extend_from_slice(&message),
                        other => stdout.extend_from_slice(other.as_ref()),
                    }
                }
            }
            let status = self.client.inspect_exec(&exec).await?.exit_code;
            Ok::<_, bollard::errors::Error>((status, stdout, stderr))
        };
        match self.runtime.block_on(run)? {
            (Some(0), stdout, stderr) => Ok((stdout, stderr)),
            (status, ..) => Err(format!("`{line}` ended with {status:?}").into()),
        }
    }

    fn sweep(&self) -> Result {
        let (label, value) = LABEL;
        let filters = HashMap::from([("label", vec![format!("{label}={value}")])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let left = self.runtime.block_on(self.client.list_containers(Some(options)))?;
        self.back(&left.into_iter().filter_map(|container| container.id).collect::<Vec<_>>())
    }
}

impl Drop for Api {
    #[expect(clippy::print_stderr, reason = "whoever runs this has to know what is left")]
    fn drop(&mut self) {
        if let Err(error) = self.sweep() {
            eprintln!("warning: containers with the label `{}` may be left: {error}", LABEL.0);
        }
    }
}
