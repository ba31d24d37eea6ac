//! Connecting without a broker in between.

use std::net::SocketAddr;
use std::process::Command as Process;
use std::time::Duration;

use broker_core::error_chain;
use broker_core::session::ssh::{Connected, Credential, Families, HostKeyPolicy, SshLimits, SshTarget, connect};
use broker_core::session::{Command, ExitStatus, Output, Session, SessionError, SessionErrorKind, Streams};
use broker_core::settings::SshBackend;
use broker_tests::conformance::current_thread;
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

fn backend() -> SshBackend {
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
        tokio::join!(session.run(&command, Streams { input: None, control: None, output: sender }), collect);
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
    const CHILD: &str = "BROKER_TESTS_ELSEWHERE";
    if std::env::var_os(CHILD).is_some() {
        return false;
    }
    let (_, test) = test.split_once("::").unwrap();
    let output = Process::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .envs(variables.iter().copied())
        .env(CHILD, "yes")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}{said}");
    true
}
