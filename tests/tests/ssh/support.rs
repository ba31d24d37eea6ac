//! Connecting without a broker in between.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command as Process;
use std::time::Duration;

use broker_core::error_chain;
use broker_core::session::ssh::{Connected, Credential, Families, HostKeyPolicy, SshLimits, SshTarget, connect};
use broker_core::session::{Command, ExitStatus, Output, Session, SessionError, SessionErrorKind, Streams};
use broker_core::settings::SshBackend;
use broker_tests::conformance::current_thread;
use broker_tests::ssh::jail::is_root;
use broker_tests::ssh::{Key, Server};
use tokio::sync::mpsc;

/// Runs a future to its end, which is to come before the test runner's.
#[track_caller]
pub(crate) fn block<T>(future: impl Future<Output = T>) -> T {
    current_thread().block_on(async {
        tokio::time::timeout(Duration::from_secs(200), future).await.expect("it does not come to an end")
    })
}

/// The server as a target, for its own user and key.
pub(crate) fn target(server: &Server) -> SshTarget {
    target_at(server, server.address())
}

/// The same at another address.
pub(crate) fn target_at(server: &Server, at: SocketAddr) -> SshTarget {
    SshTarget {
        label: "lab-host".to_owned(),
        address: at.ip().to_string(),
        port: at.port(),
        user: server.user(),
        credentials: vec![by_key(server.key())],
        host_key: HostKeyPolicy::AcceptNew,
        families: Families::default(),
        jump: None,
        limits: SshLimits::default(),
        backend: backend(),
    }
}

pub(crate) fn backend() -> SshBackend {
    broker_tests::ssh::backend().parse().unwrap()
}

pub(crate) fn by_key(key: &Key) -> Credential {
    Credential::KeyFile { path: key.path().to_owned(), passphrase: None, named: true }
}

/// Connects, and runs a command there that says so.
#[track_caller]
pub(crate) fn gets_in(target: &SshTarget) -> Connected {
    block(async {
        let connected = connect(target).await.unwrap_or_else(|error| panic!("{}", error_chain(&error)));
        assert_eq!(output(&*connected.session, "echo in").await, "in\n");
        connected
    })
}

/// Does not get in, for this kind of reason. Returns what is said about it.
#[track_caller]
pub(crate) fn is_kept_out(target: &SshTarget, kind: SessionErrorKind) -> String {
    let error = block(connect(target)).err().expect("it gets in");
    let text = error_chain(&error);
    assert_eq!(error.kind(), kind, "{text}");
    text
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Runs a command to its end.
pub(crate) async fn run(session: &dyn Session, command: impl Into<Command>) -> Result<Done, SessionError> {
    let (sender, mut pieces) = mpsc::channel(8);
    let collect = async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(piece) = pieces.recv().await {
            match piece {
                Output::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Output::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            }
        }
        (stdout, stderr)
    };
    let command = command.into();
    let (status, (stdout, stderr)) =
        tokio::join!(session.run(&command, Streams { input: None, output: sender }), collect);
    Ok(Done { status: status?, stdout, stderr })
}

/// The output of a line for the shell, which must succeed and print nothing else.
pub(crate) async fn output(session: &dyn Session, line: &str) -> String {
    let done = run(session, line).await.unwrap_or_else(|error| panic!("`{line}`: {}", error_chain(&error)));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success() && done.stderr.is_empty(), "`{line}`: {}, {}", done.status, text(&done.stderr));
    text(&done.stdout)
}

/// Runs the same test in a process of its own, with variables that cannot be set in this one. False in that process.
#[track_caller]
pub(crate) fn elsewhere(test: &str, variables: &[(&str, &std::ffi::OsStr)]) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return false;
    }
    by(Process::new(std::env::current_exe().unwrap()).envs(variables.iter().copied()), test);
    true
}

/// The same where names have these addresses, as `/etc/hosts` has them. Needs root.
#[track_caller]
pub(crate) fn where_names_are(test: &str, hosts: &str) -> bool {
    const MOUNTED: &str = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    if std::env::var_os(CHILD).is_some() {
        return false;
    }
    assert!(is_root(), "only root can give names other addresses: run this test as root");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(hosts.as_bytes()).unwrap();
    let mut command = Process::new("unshare");
    command.args(["--mount", "sh", "-c", MOUNTED, "sh"]).arg(file.path());
    by(command.arg(std::env::current_exe().unwrap()), test);
    true
}

/// The same where there is no network, not even to this machine. Needs root.
#[track_caller]
pub(crate) fn without_a_network(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return false;
    }
    assert!(is_root(), "only root can do without a network: run this test as root");
    by(Process::new("unshare").arg("--net").arg(std::env::current_exe().unwrap()), test);
    true
}

/// Says that this process was started for one test.
const CHILD: &str = "BROKER_TESTS_ELSEWHERE";

/// Runs a test by a command that takes the arguments of the test program.
#[track_caller]
fn by(command: &mut Process, test: &str) {
    let (_, test) = test.split_once("::").unwrap();
    let output = command.args([test, "--exact", "--nocapture"]).env(CHILD, "yes").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}{said}");
}

/// The full name of a test, for a process that runs it alone.
macro_rules! this_test {
    ($name:ident) => {
        concat!(module_path!(), "::", stringify!($name))
    };
}

pub(crate) use this_test;
