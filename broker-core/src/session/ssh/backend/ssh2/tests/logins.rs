//! Credentials, and what is said about those that do not do.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::server::{Sshd, keygen};
use super::*;
use crate::secrets::Secret;
use crate::session::SessionErrorKind;

fn key(path: &Path, passphrase: Option<&str>, named: bool) -> Credential {
    Credential::KeyFile { path: path.to_owned(), passphrase: passphrase.map(Secret::new), named }
}

/// Lets one more key in.
fn authorise(sshd: &Sshd, name: &str) {
    let public = std::fs::read(sshd.path(name).with_extension("pub")).unwrap();
    let mut all = std::fs::read(sshd.path("authorized")).unwrap();
    all.extend(public);
    std::fs::write(sshd.path("authorized"), all).unwrap();
}

async fn logs_in(sshd: &Sshd, credential: Credential) {
    let mut target = sshd.target();
    target.credentials = vec![credential];
    let connection = connect(&target).await.unwrap().0;
    assert_eq!(run(&connection, "echo in").await.text(), "in\n");
}

async fn is_kept_out(sshd: &Sshd, credentials: Vec<Credential>) -> String {
    let mut target = sshd.target();
    target.credentials = credentials;
    let error = refusal(&target).await;
    assert_eq!(error.kind(), SessionErrorKind::Auth, "{error}");
    chain(&error)
}

#[tokio::test]
async fn keys_of_all_kinds_let_in() {
    let sshd = Sshd::start("");
    let kinds: [(&str, &[&str]); 6] = [
        ("ecdsa", &["-t", "ecdsa", "-b", "384"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("pem", &["-t", "rsa", "-b", "2048", "-m", "PEM"]),
        ("pkcs8", &["-t", "ecdsa", "-m", "PKCS8"]),
        ("locked", &["-t", "ed25519", "-N", "open sesame"]),
        ("locked_pem", &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "open sesame"]),
    ];
    for (name, options) in kinds {
        keygen(&sshd.path(name), options);
        authorise(&sshd, name);
        // One that is not needed does no harm.
        logs_in(&sshd, key(&sshd.path(name), Some("open sesame"), true)).await;
        if !name.starts_with("locked") {
            logs_in(&sshd, key(&sshd.path(name), None, true)).await;
        }
    }
}

#[tokio::test]
async fn keys_that_do_not_do_are_told_apart() {
    let sshd = Sshd::start("");
    let path = |name: &str| sshd.path(name);
    keygen(&path("stranger"), &["-t", "ed25519"]);
    keygen(&path("locked"), &["-t", "ed25519", "-N", "open sesame"]);
    keygen(&path("locked_pem"), &["-t", "rsa", "-m", "PEM", "-N", "open sesame"]);
    std::fs::write(path("text"), "hello").unwrap();
    let said = is_kept_out(
        &sshd,
        vec![
            key(&path("missing"), None, true),
            key(&path("unnamed"), None, false),
            key(&path("locked"), None, false),
            key(&path("locked"), None, true),
            key(&path("locked"), Some("wrong secret"), true),
            key(&path("locked_pem"), Some("wrong secret"), true),
            key(&path("user.pub"), None, true),
            key(&path("text"), None, true),
            key(&path("stranger"), None, true),
            Credential::Password(Secret::new("wrong secret")),
        ],
    )
    .await;
    let named = |name: &str, reason: &str| format!("key `{}` ({reason})", path(name).display());
    let tried = [
        named("missing", "does not exist"),
        named("locked", "locked, and there is no passphrase for it"),
        named("locked", "the passphrase does not open it"),
        named("locked_pem", "the passphrase does not open it"),
        named("user.pub", "holds a public key; the private one is wanted"),
        named("text", "holds no private key"),
        named("stranger", "refused"),
        "password (not tried: the server takes none)".to_owned(),
    ];
    let user = sshd.target().user;
    let offered = "it offers publickey";
    assert!(
        said.starts_with(&format!("`lab` lets `{user}` in with none of: {}; {offered}", tried.join(", "))),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");

    let said = is_kept_out(&sshd, Vec::new()).await;
    assert!(
        said.starts_with(&format!("there is no key, agent or password to log in to `lab` with as `{user}`")),
        "{said}"
    );
}

#[tokio::test]
async fn one_credential_after_the_other_is_tried_as_far_as_the_server_goes_along() {
    let sshd = Sshd::start("MaxAuthTries 3");
    for index in 0..5 {
        keygen(&sshd.path(&format!("stranger{index}")), &["-t", "ed25519"]);
    }
    let strangers = |count: usize| (0..count).map(|index| key(&sshd.path(&format!("stranger{index}")), None, true));
    let mut target = sshd.target();
    target.credentials = strangers(2).chain([sshd.key()]).collect();
    connect(&target).await.unwrap().0.close().await;
    let said = is_kept_out(&sshd, strangers(5).collect()).await;
    assert!(said.contains("stranger0` (refused)") && said.contains("stranger2` (the server hung up)"), "{said}");
    assert!(said.contains("it may allow fewer attempts; it offers publickey"), "{said}");
}

/// An agent at the socket that the environment names.
struct Agent {
    process: Child,
}

impl Agent {
    fn start(socket: &Path) -> Self {
        drop(std::fs::remove_file(socket));
        let process = Command::new("ssh-agent").arg("-D").arg("-a").arg(socket).stdout(Stdio::null()).spawn().unwrap();
        while !socket.exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process }
    }

    fn add(&self, sshd: &Sshd, name: &str) {
        let added = Command::new("ssh-add").arg("-q").arg(sshd.path(name)).stderr(Stdio::null()).status();
        assert!(added.unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop((self.process.kill(), self.process.wait()));
    }
}

/// The environment is the whole process's, so that the test runs itself again with one of its own.
#[test]
fn an_agent_is_asked_for_each_of_its_identities() {
    const OWN: &str = "BROKER_TEST_OF_AN_AGENT";
    const NAME: &str = "session::ssh::backend::ssh2::tests::logins::an_agent_is_asked_for_each_of_its_identities";
    if let Some(socket) = std::env::var_os(OWN) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(agent_is_asked(Path::new(&socket)));
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", NAME])
        .env("SSH_AUTH_SOCK", &socket)
        .env(OWN, &socket)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

async fn agent_is_asked(socket: &Path) {
    let sshd = Sshd::start("");
    let kept_out = async || is_kept_out(&sshd, vec![Credential::Agent]).await;
    let said = kept_out().await;
    assert!(said.contains("agent (does not answer at `"), "{said}");
    let agent = Agent::start(socket);
    assert!(kept_out().await.contains("agent (holds no identities)"));
    for index in 0..7 {
        let name = format!("stranger{index}");
        keygen(&sshd.path(&name), &["-t", "ed25519"]);
        agent.add(&sshd, &name);
        if index == 0 {
            assert!(kept_out().await.contains("agent (1 identity refused)"));
        }
    }
    let said = kept_out().await;
    assert!(said.contains("agent (5 of 7 identities refused, the others not tried"), "{said}");
    // Attempts are left for what comes after it.
    let mut target = sshd.target();
    target.credentials = vec![Credential::Agent, sshd.key()];
    connect(&target).await.unwrap().0.close().await;
    drop(agent);

    let agent = Agent::start(socket);
    keygen(&sshd.path("rsa"), &["-t", "rsa"]);
    authorise(&sshd, "rsa");
    for name in ["stranger0", "rsa"] {
        agent.add(&sshd, name);
    }
    logs_in(&sshd, Credential::Agent).await;
}
