//! An engine to test on, and short ways of doing things with it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use broker_core::inventory::{Details, HostRecord, HostState};
use broker_core::provider::{Endpoint, HostFacts, Order, Provider, ProviderError, Scope};
use broker_core::session::{
    Access, Command, EntryKind, ExitStatus, Output, RemotePath, Session, SessionError, Streams, TreeEntry, TreeItem,
};
use broker_core::settings::ProviderSettings;
use broker_core::{ArgValue, Args, HostId};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

pub(crate) const TINY: &str = "localhost/broker-testhost:tiny";
pub(crate) const DEBIAN: &str = "localhost/broker-testhost:debian";
pub(crate) const EXITS: &str = "localhost/broker-testhost:exits";
pub(crate) const HEALTH: &str = "localhost/broker-testhost:health";
/// Healthy after six seconds, and checked every ten.
pub(crate) const HEALTH_LATE: &str = "localhost/broker-testhost:health-late";
pub(crate) const PORTS: &str = "localhost/broker-testhost:ports";

/// What becomes of requests on their way to an engine.
#[derive(Clone, Copy)]
pub(crate) enum Spoil {
    /// Nothing ever comes of them.
    Hold,
    /// Their connections are cut.
    Cut,
    /// They are answered with this.
    Answer(&'static str),
}

/// A way to an engine on which so many requests are spoilt whose first line has these words in it.
pub(crate) fn spoiling(engine: &str, socket: &Path, words: &'static str, times: usize, how: Spoil) {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    let engine = engine.to_owned();
    let left = Arc::new(AtomicUsize::new(times));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (engine, left) = (engine.clone(), Arc::clone(&left));
            tokio::spawn(async move {
                let mut head = vec![0; 65536];
                let size = client.read(&mut head).await.unwrap_or(0);
                head.truncate(size);
                let is_meant = String::from_utf8_lossy(&head).lines().next().is_some_and(|line| line.contains(words));
                let one_less = |left: usize| left.checked_sub(1);
                if is_meant && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                    match how {
                        Spoil::Hold => std::future::pending().await,
                        Spoil::Cut => {}
                        Spoil::Answer(answer) => drop(client.write_all(answer.as_bytes()).await),
                    }
                    return;
                }
                let mut engine = tokio::net::UnixStream::connect(engine).await.unwrap();
                engine.write_all(&head).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut client, &mut engine).await);
            });
        }
    });
}

/// One engine, and all that a test makes at it: what is left at its end is removed.
pub(crate) struct Lab {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) socket: String,
    pub(crate) podman: bool,
    /// What this test's containers can be told by.
    origin: String,
}

impl Lab {
    pub(crate) fn docker() -> Self {
        Self::at(&["/var/run/docker.sock".into(), "/run/docker.sock".into()], false)
    }

    /// An ordinary user's engine, where they have one.
    pub(crate) fn podman() -> Self {
        let own = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| Path::new(&dir).join("podman/podman.sock"));
        let sockets: Vec<PathBuf> = own.into_iter().chain(["/run/podman/podman.sock".into()]).collect();
        Self::at(&sockets, true)
    }

    fn at(sockets: &[PathBuf], podman: bool) -> Self {
        let Some(socket) = sockets.iter().find(|socket| UnixStream::connect(socket).is_ok()) else {
            let name = if podman { "Podman" } else { "Docker" };
            panic!("this test needs {name}, and nothing answers at {sockets:?}");
        };
        Self::through(socket.to_str().unwrap(), podman)
    }

    /// The same engine behind another socket.
    pub(crate) fn through(socket: &str, podman: bool) -> Self {
        let origin = format!("test-{}", HostId::generate());
        Self { provider: provider(&[("host", socket)]), socket: socket.to_owned(), podman, origin }
    }

    pub(crate) fn order(&self, image: &str, args: Value) -> Order {
        self.order_for("container_host", image, args)
    }

    pub(crate) fn order_for(&self, action: &str, image: &str, args: Value) -> Order {
        let mut all = Args::from([(action.to_owned(), ArgValue::from(image))]);
        if let ArgValue::Map(map) = ArgValue::from_json(args) {
            all.extend(map);
        }
        let mut order = Order::for_test(action, all);
        order.origin.clone_from(&self.origin);
        order
    }

    /// Checks a host out, and returns its record.
    pub(crate) async fn host(&self, image: &str, args: Value) -> HostRecord {
        let order = self.order(image, args);
        let facts = self.provider.checkout(&order).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        self.record(&order, facts).await
    }

    /// What comes of an order that is to fail, and that it left nothing.
    pub(crate) async fn failure(&self, image: &str, args: Value) -> ProviderError {
        let order = self.order(image, args);
        let error = match self.provider.checkout(&order).await {
            Ok(facts) => panic!("a host was made: {facts:?}"),
            Err(error) => error,
        };
        assert!(!error.may_exist(), "{}", chain(&error));
        assert_eq!(self.containers().await, Vec::<String>::new(), "left by: {}", chain(&error));
        error
    }

    pub(crate) async fn record(&self, order: &Order, facts: HostFacts) -> HostRecord {
        let mut record = self.pending(order).await;
        record.absorb(facts);
        record.state = HostState::Active;
        record
    }

    /// A record as it is before the provider has answered.
    pub(crate) async fn pending(&self, order: &Order) -> HostRecord {
        HostRecord {
            rev: 1,
            details: Details { args: order.args.clone(), ..Details::default() }.into(),
            owner: Some(order.owner.clone()),
            endpoint: Some(self.endpoint().await),
            ..HostRecord::new(order.id, "Container", HostState::Pending)
        }
    }

    pub(crate) async fn endpoint(&self) -> Endpoint {
        self.provider.endpoint().await.unwrap()
    }

    /// The names of the containers that this test has at the engine.
    pub(crate) async fn containers(&self) -> Vec<String> {
        let scope = Scope { argument: Some(format!("broker.origin={}", self.origin)), ..Scope::default() };
        let found = self.provider.list(&scope).await.unwrap();
        found.into_iter().filter_map(|found| found.facts.name).collect()
    }

    pub(crate) async fn session(&self, host: &HostRecord) -> Arc<dyn Session> {
        match self.provider.access(host).await.unwrap() {
            Access::Session(session) => session,
            other => panic!("not by exec: {other:?}"),
        }
    }

    /// Runs a line on a host that must succeed, and returns what it prints.
    pub(crate) async fn line(&self, host: &HostRecord, line: &str) -> String {
        let session = self.session(host).await;
        let ran = run(&*session, &Command::shell(line)).await.unwrap();
        assert!(ran.status.success(), "`{line}` ended with {}: {}{}", ran.status, ran.stdout(), ran.stderr());
        ran.stdout()
    }

    /// What the engine itself answers to a `GET`.
    pub(crate) fn ask(&self, path: &str) -> (u16, Value) {
        self.call("GET", path)
    }

    pub(crate) fn call(&self, method: &str, path: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let request = format!("{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(json!(body)))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let provider = Arc::clone(&self.provider);
        let argument = format!("broker.origin={}", self.origin);
        let socket = self.socket.clone();
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let scope = Scope { argument: Some(argument), ..Scope::default() };
                let found = provider.list(&scope).await.unwrap_or_default();
                found
                    .into_iter()
                    .filter_map(|found| Some(found.facts.facts.get("container")?.as_str()?.to_owned()))
                    .collect::<Vec<_>>()
            })
        });
        for id in cleaning.join().unwrap_or_default() {
            let Ok(mut stream) = UnixStream::connect(&socket) else { return };
            let request = format!("DELETE /containers/{id}?force=1&v=1 HTTP/1.0\r\nHost: engine\r\n\r\n");
            let mut answer = String::new();
            let _sent = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
        }
    }
}

pub(crate) fn provider(values: &[(&str, &str)]) -> Arc<dyn Provider> {
    let values = values.iter().map(|(key, value)| ((*key).to_owned(), ArgValue::from(*value))).collect();
    let settings = ProviderSettings { provider: "Container".to_owned(), values, ..ProviderSettings::default() };
    broker_container::factory().build(&settings).unwrap()
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Ran {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Runs a command with an empty standard input, and collects what it prints.
pub(crate) async fn run(session: &dyn Session, command: &Command) -> Result<Ran, SessionError> {
    let (output, mut pieces) = mpsc::channel(8);
    let collecting = async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(piece) = pieces.recv().await {
            match piece {
                Output::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Output::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            }
        }
        (stdout, stderr)
    };
    let (status, (stdout, stderr)) =
        tokio::join!(session.run(command, Streams { input: None, control: None, output }), collecting);
    Ok(Ran { status: status?, stdout, stderr })
}

pub(crate) fn file(path: &[u8], mode: u32, contents: &[u8]) -> Vec<TreeItem> {
    let kind = EntryKind::File { size: contents.len() as u64 };
    let mut items = vec![entry(path, kind, mode)];
    items.extend(contents.chunks(100_000).map(|piece| TreeItem::Data(Bytes::copy_from_slice(piece))));
    items
}

pub(crate) fn directory(path: &[u8], mode: u32) -> Vec<TreeItem> {
    vec![entry(path, EntryKind::Directory, mode)]
}

pub(crate) fn symlink(path: &[u8], target: &str) -> Vec<TreeItem> {
    vec![entry(path, EntryKind::Symlink { target: target.into() }, 0o777)]
}

fn entry(path: &[u8], kind: EntryKind, mode: u32) -> TreeItem {
    TreeItem::Entry(TreeEntry { path: RemotePath::from_bytes(path.to_vec()), kind, mode, modified: 1_000_000_000 })
}

pub(crate) async fn put(
    session: &dyn Session,
    to: impl Into<RemotePath>,
    items: Vec<TreeItem>,
) -> Result<(), SessionError> {
    let (sender, receiver) = mpsc::channel(4);
    let sending = async move {
        for item in items {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    };
    let to = to.into();
    let (put, ()) = tokio::join!(session.put(&to, receiver), sending);
    put
}

/// A tree as a map of paths to what is there: `file MODE CONTENTS`, `dir MODE`, `link TARGET`.
pub(crate) async fn get(
    session: &dyn Session,
    from: impl Into<RemotePath>,
) -> Result<BTreeMap<Vec<u8>, (String, Vec<u8>)>, SessionError> {
    let (sender, mut receiver) = mpsc::channel(4);
    let receiving = async move {
        let mut tree = BTreeMap::new();
        let mut last = None;
        while let Some(item) = receiver.recv().await {
            match item {
                TreeItem::Entry(entry) => {
                    let what = match &entry.kind {
                        EntryKind::File { .. } => format!("file {:o}", entry.mode),
                        EntryKind::Directory => format!("dir {:o}", entry.mode),
                        EntryKind::Symlink { target } => format!("link {target}"),
                    };
                    let path = entry.path.as_bytes().to_vec();
                    assert!(tree.insert(path.clone(), (what, Vec::new())).is_none(), "{:?} came twice", entry.path);
                    last = Some(path);
                }
                TreeItem::Data(bytes) => {
                    tree.get_mut(last.as_ref().unwrap()).unwrap().1.extend_from_slice(&bytes);
                }
            }
        }
        tree
    };
    let from = from.into();
    let (got, tree) = tokio::join!(session.get(&from, sender), receiving);
    got.map(|()| tree)
}
