//! The server: a thread with a runtime of its own, for as long as its handle lives.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::http::{Seen, Shared};
use super::misbehave::Rule;
use super::records::{Machine, Status};
use super::routes;
use super::store::Store;
use super::template::What;
use super::world::{Role, World};

/// A running AWX. Dropping it stops it.
pub struct Awx {
    url: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A certificate by an authority of its own, in a directory of its own.
pub struct Tls(tempfile::TempDir);

impl Tls {
    /// Makes an authority and by it a certificate for `127.0.0.1`, with the `openssl` program.
    ///
    /// # Panics
    ///
    /// If that cannot be done.
    pub fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        made.openssl(&format!("req -x509 {ec} -days 2 -subj /CN=awx-ca -keyout ca.key -out ca.pem"));
        std::fs::write(made.0.path().join("extensions"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
            .unwrap();
        made.openssl(&format!("req {ec} -subj /CN=awx -keyout server.key -out server.csr"));
        made.openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem");
        made
    }

    /// The file with the authority's certificate.
    pub fn authority(&self) -> String {
        self.0.path().join("ca.pem").to_string_lossy().into_owned()
    }

    fn openssl(&self, line: &str) {
        let output = Command::new("openssl").args(line.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let chain = CertificateDer::pem_file_iter(self.0.path().join("server.pem")).unwrap().map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_file(self.0.path().join("server.key")).unwrap();
        let config = builder.with_no_client_auth().with_single_cert(chain.collect(), key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl Awx {
    /// Serves a world at a free port of this machine.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn start(world: World) -> Self {
        Self::start_at(world, 0, None)
    }

    /// As [`start`](Self::start), encrypted, with this certificate.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn start_tls(world: World, tls: &Tls) -> Self {
        Self::start_at(world, 0, Some(tls))
    }

    /// Serves a world at a port, 0 for any.
    ///
    /// # Panics
    ///
    /// If the port is not free.
    pub fn start_at(world: World, port: u16, tls: Option<&Tls>) -> Self {
        let shared = Arc::new(Shared::new(Store::new(world)));
        let acceptor = tls.map(Tls::acceptor);
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port))).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(&serving, listener, address, acceptor) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { url: format!("{scheme}://{address}"), shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it is: `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A new token of a user, to write with.
    ///
    /// # Panics
    ///
    /// If there is no such user.
    pub fn token_of(&self, user: &str) -> String {
        self.shared.token_of(user, true).unwrap_or_else(|| panic!("no user `{user}`"))
    }

    /// A new token of a user, to read with alone.
    ///
    /// # Panics
    ///
    /// If there is no such user.
    pub fn reading_token_of(&self, user: &str) -> String {
        self.shared.token_of(user, false).unwrap_or_else(|| panic!("no user `{user}`"))
    }

    /// Leaves a token of a user's behind, as a process does that is killed.
    ///
    /// # Panics
    ///
    /// If there is no such user.
    pub fn leave_token(&self, user: &str, description: &str) {
        let mut store = self.shared.store();
        let id = store.user_named(user).unwrap_or_else(|| panic!("no user `{user}`"));
        store.add_token(id, description, true);
    }

    /// The requests so far, in their order.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.seen()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.shared.forget_seen();
    }

    /// How many tokens there are, of whomever.
    pub fn tokens(&self) -> usize {
        self.shared.store().tokens.len()
    }

    /// The names of the machines that are there.
    pub fn machines(&self) -> Vec<String> {
        let machines = self.shared.machines().into_iter().filter(|machine| machine.removed_by.is_none());
        machines.map(|machine| machine.name).collect()
    }

    /// The machines there have been.
    pub fn all_machines(&self) -> Vec<Machine> {
        self.shared.machines()
    }

    /// Takes a machine away behind everybody's back.
    pub fn lose_machine(&self, name: &str) {
        self.shared.store().machines.retain(|machine| machine.name != name);
    }

    /// The ids of the jobs and workflow jobs that have not ended.
    pub fn unfinished(&self) -> Vec<u64> {
        let store = self.shared.store();
        store.jobs.iter().filter(|(_, job)| !job.status.is_end()).map(|(id, _)| *id).collect()
    }

    /// The status of a job, as the API has it; none if there is no such job.
    pub fn status_of(&self, job: u64) -> Option<&'static str> {
        let store = self.shared.store();
        routes::status_of(&store, job).map(Status::shown)
    }

    /// The path of a template's launch.
    ///
    /// # Panics
    ///
    /// If there is no such template.
    pub fn launch_path(&self, template: &str) -> String {
        routes::launch_path(&self.shared.store(), template)
    }

    /// The id of the job that is made next.
    pub fn next_job(&self) -> u64 {
        super::store::next(&self.shared.store().jobs)
    }

    /// From now on the folder of the project is gone, and AWX itself fails over every job; or it is there again.
    pub fn lose_project(&self, is_gone: bool) {
        self.shared.store().project_is_gone = is_gone;
    }

    /// Ends all running playbooks, as a shutdown of the worker does.
    pub fn kill_worker(&self) {
        self.shared.store().kill_worker();
    }

    /// Gives a job template another timeout, in seconds.
    ///
    /// # Panics
    ///
    /// If there is no such job template.
    pub fn set_timeout(&self, template: &str, seconds: u32) {
        let mut store = self.shared.store();
        let id = store.template_named(template);
        match &mut store.templates.get_mut(&id).unwrap().template.what {
            What::Job { timeout, .. } => *timeout = seconds,
            What::Workflow(_) => panic!("`{template}` is no job template"),
        }
    }

    /// Makes every token of a user worthless.
    ///
    /// # Panics
    ///
    /// If there is no such user.
    pub fn revoke_tokens(&self, user: &str) {
        let mut store = self.shared.store();
        let user = store.user_named(user).unwrap_or_else(|| panic!("no user `{user}`"));
        store.tokens.retain(|_, token| token.user != user);
    }

    /// Changes what a user may do with a template; nothing takes the right away.
    ///
    /// # Panics
    ///
    /// If there is no such template.
    pub fn set_role(&self, template: &str, user: &str, role: Option<Role>) {
        let mut store = self.shared.store();
        let id = store.template_named(template);
        let roles = &mut store.templates.get_mut(&id).unwrap().template.roles;
        roles.remove(user);
        roles.extend(role.map(|role| (user.to_owned(), role)));
    }

    /// Changes what a user may do with an inventory; nothing takes the right away.
    ///
    /// # Panics
    ///
    /// If there is no such inventory.
    pub fn set_inventory_role(&self, inventory: &str, user: &str, role: Option<Role>) {
        let mut store = self.shared.store();
        let id = store.inventory_named(inventory);
        let roles = &mut store.inventories.get_mut(&id).unwrap().roles;
        roles.remove(user);
        roles.extend(role.map(|role| (user.to_owned(), role)));
    }

    /// Puts facts over those that a host has, key by key.
    ///
    /// # Panics
    ///
    /// If there is no such inventory.
    pub fn set_facts(&self, inventory: &str, host: &str, facts: &Value) {
        let mut store = self.shared.store();
        let inventory = store.inventory_named(inventory);
        store.add_host(inventory, host, "", facts.as_object().cloned().unwrap_or_default());
    }

    /// Gives certain requests a fate.
    pub fn spoil(&self, rule: Rule) {
        self.shared.spoil(rule);
    }

    /// No request has a fate any more.
    pub fn behave(&self) {
        self.shared.behave();
    }

    /// Accepts no connection for so long, and cuts those there are.
    pub fn refuse(&self, time: Duration) {
        self.shared.refuse(time);
    }

    /// Puts the clock forward.
    pub fn advance(&self, by: Duration) {
        self.shared.advance(by);
    }
}

impl Drop for Awx {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics only where a test would have failed over it already.
            drop(thread.join());
        }
    }
}

/// Accepts connections, but for the times when it was told not to.
async fn accept(shared: &Arc<Shared>, listener: TcpListener, address: SocketAddr, acceptor: Option<TlsAcceptor>) {
    let mut listener = Some(listener);
    let mut closed = shared.closed.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let until = (*closed.borrow_and_update()).filter(|until| *until > Instant::now());
        if let Some(until) = until {
            listener = None;
            connections.shutdown().await;
            tokio::time::sleep_until(until.into()).await;
            continue;
        }
        let open = match listener.take() {
            Some(open) => open,
            None => match TcpListener::bind(address).await {
                Ok(open) => open,
                // Somebody else's connection may have the port for a moment.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        let open = listener.insert(open);
        tokio::select! {
            accepted = open.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Answers are small; none waits for another.
                drop(stream.set_nodelay(true));
                let (shared, acceptor) = (Arc::clone(shared), acceptor.clone());
                connections.spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            // One that does not believe us hangs up.
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(shared, stream).await;
                            }
                        }
                        None => serve(shared, stream).await,
                    }
                });
            }
            _ = closed.changed() => {}
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(shared: Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request| Arc::clone(&shared).serve(request));
    // What ends a connection early is the client's business, or was asked for.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}
