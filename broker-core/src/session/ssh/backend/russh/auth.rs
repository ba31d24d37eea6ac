//! Logging in.

use std::io;
use std::path::Path;
use std::sync::Arc;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{self, PrivateKey, PrivateKeyWithHashAlg, load_secret_key};
use russh::{MethodKind, MethodSet};

use super::super::super::target::{Credential, SshTarget};
use super::{Checker, Shared};
use crate::secrets::Secret;
use crate::session::{SessionError, SessionErrorKind};

/// How many times a server is asked at most: OpenSSH's hangs up at the sixth failure.
const ATTEMPTS: u32 = 5;

/// How many rounds of questions are answered: one for the password and one for words that need no answer.
const ROUNDS: u32 = 4;

/// What was tried, and how often the server was asked.
#[derive(Default)]
struct Attempts {
    tried: Vec<String>,
    made: u32,
}

impl Attempts {
    /// Whether the server would still listen to another attempt, which is counted.
    fn another(&mut self) -> bool {
        self.made += 1;
        self.made <= ATTEMPTS
    }

    fn note(&mut self, what: &str, outcome: &str) {
        self.tried.push(format!("{what} ({outcome})"));
    }
}

/// Tries one credential after the other.
pub(super) async fn log_in(
    handle: &mut Handle<Checker>,
    target: &SshTarget,
    shared: &Shared,
) -> Result<(), SessionError> {
    let mut attempts = Attempts::default();
    let gone = |error: russh::Error| {
        let why = shared.ended.lock().clone().unwrap_or_else(|| error.to_string());
        let message = format!("`{}` hung up while we logged in: {why}", target.label);
        SessionError::new(SessionErrorKind::Unreachable, message)
    };
    let answer = handle.authenticate_none(&target.user).await.map_err(gone)?;
    let mut offered = match answer {
        AuthResult::Success => return Ok(()),
        AuthResult::Failure { remaining_methods, .. } => remaining_methods,
    };
    let at_first = names(&offered);
    for credential in &target.credentials {
        if handle.is_closed() {
            break;
        }
        let (what, method) = match credential {
            Credential::KeyFile { path, .. } => (format!("key `{}`", path.display()), MethodKind::PublicKey),
            Credential::Key(_) => ("the key that was made for the host".to_owned(), MethodKind::PublicKey),
            Credential::Agent => ("agent".to_owned(), MethodKind::PublicKey),
            Credential::Password(_) if offered.contains(&MethodKind::Password) => {
                ("password".to_owned(), MethodKind::Password)
            }
            Credential::Password(_) => ("keyboard-interactive".to_owned(), MethodKind::KeyboardInteractive),
        };
        if !offered.contains(&method) {
            match credential {
                Credential::Password(_) => attempts.note("password", "not tried: the server takes none"),
                _ => attempts.note(&what, "not tried: the server takes no keys"),
            }
            continue;
        }
        let answer = match credential {
            Credential::Key(text) => {
                let key = match keys::decode_secret_key(text.expose(), None) {
                    Ok(key) => key,
                    Err(error) => {
                        attempts.note(&what, &error.to_string());
                        continue;
                    }
                };
                if !attempts.another() {
                    break;
                }
                let hash = handle.best_supported_rsa_hash().await.map_err(gone)?.flatten();
                let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
                handle.authenticate_publickey(&target.user, key).await.map_err(gone)?
            }
            Credential::KeyFile { path, passphrase, named } => {
                let key = match key_file(path, passphrase.as_ref()).await {
                    Ok(key) => key,
                    Err(why) => {
                        if *named {
                            attempts.note(&what, &why);
                        }
                        continue;
                    }
                };
                if !attempts.another() {
                    break;
                }
                let hash = handle.best_supported_rsa_hash().await.map_err(gone)?.flatten();
                let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
                handle.authenticate_publickey(&target.user, key).await.map_err(gone)?
            }
            Credential::Agent => match agent(handle, target, &mut attempts).await.map_err(gone)? {
                Some(answer) => answer,
                None => continue,
            },
            Credential::Password(_) if !attempts.another() => break,
            Credential::Password(password) if method == MethodKind::Password => {
                handle.authenticate_password(&target.user, password.expose()).await.map_err(gone)?
            }
            Credential::Password(password) => answers(handle, &target.user, password).await.map_err(gone)?,
        };
        match answer {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { remaining_methods, partial_success } => {
                attempts.note(&what, if partial_success { "taken, and more is asked for" } else { "refused" });
                if !remaining_methods.is_empty() {
                    offered = remaining_methods;
                }
            }
        }
    }
    let SshTarget { label, user, .. } = target;
    // A connection that is cut off ends a login without an error of the library's.
    if handle.is_closed() && attempts.made <= 1 {
        let why = shared.ended.lock().clone().unwrap_or_else(|| "it hung up".to_owned());
        let message = format!("`{label}` hung up while we logged in: {why}");
        return Err(SessionError::new(SessionErrorKind::Unreachable, message));
    }
    let tried = match attempts.tried.as_slice() {
        [] => format!("there is no key, agent or password to log in to `{label}` with as `{user}`"),
        tried => format!("`{label}` lets `{user}` in with none of: {}", tried.join(", ")),
    };
    let offered = if at_first.is_empty() { "nothing".to_owned() } else { at_first.join(",") };
    Err(SessionError::new(SessionErrorKind::Auth, format!("{tried}; it offers {offered}")))
}

fn names(methods: &MethodSet) -> Vec<String> {
    methods.iter().map(|method| <&'static str>::from(method).to_owned()).collect()
}

/// The key in a file, or why it cannot be used.
async fn key_file(path: &Path, passphrase: Option<&Secret>) -> Result<PrivateKey, String> {
    let (path, text) = (path.to_owned(), passphrase.map(|passphrase| passphrase.expose().to_owned()));
    let has_passphrase = text.is_some();
    // Opening a locked key takes its time on purpose.
    let loaded = tokio::task::spawn_blocking(move || load_secret_key(path, text.as_deref())).await;
    loaded.map_err(|error| error.to_string())?.map_err(|error| match error {
        keys::Error::KeyIsEncrypted => "locked, and there is no passphrase for it".to_owned(),
        keys::Error::IO(error) if error.kind() == io::ErrorKind::NotFound => "does not exist".to_owned(),
        keys::Error::SshKey(keys::ssh_key::Error::Crypto) if has_passphrase => {
            "the passphrase does not open it".to_owned()
        }
        other => other.to_string(),
    })
}

/// Tries each identity of the agent. Nothing where there is none.
async fn agent(
    handle: &mut Handle<Checker>,
    target: &SshTarget,
    attempts: &mut Attempts,
) -> Result<Option<AuthResult>, russh::Error> {
    let identities = async {
        let mut agent = AgentClient::connect_env().await?;
        let identities = agent.request_identities().await?;
        Ok::<_, keys::Error>((agent, identities))
    };
    let (mut agent, identities) = match identities.await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%error, "there is no agent.");
            return Ok(None);
        }
    };
    let hash = handle.best_supported_rsa_hash().await?.flatten();
    for identity in identities {
        // Certificates are left to OpenSSH.
        let AgentIdentity::PublicKey { key, .. } = identity else { continue };
        if !attempts.another() {
            break;
        }
        let hash = hash.filter(|_| key.algorithm().is_rsa());
        match handle.authenticate_publickey_with(&target.user, key, hash, &mut agent).await {
            Ok(AuthResult::Failure { partial_success: false, .. }) => {}
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => tracing::debug!(%error, "the agent did not sign."),
        }
        if handle.is_closed() {
            break;
        }
    }
    Ok(Some(AuthResult::Failure { remaining_methods: MethodSet::empty(), partial_success: false }))
}

/// Answers every question that is not shown while it is typed with the password.
async fn answers(handle: &mut Handle<Checker>, user: &str, password: &Secret) -> Result<AuthResult, russh::Error> {
    let mut response = handle.authenticate_keyboard_interactive_start(user, None::<String>).await?;
    for _ in 0..ROUNDS {
        match response {
            KeyboardInteractiveAuthResponse::Success => return Ok(AuthResult::Success),
            KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                return Ok(AuthResult::Failure { remaining_methods, partial_success });
            }
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                let answer = |echo: bool| if echo { String::new() } else { password.expose().to_owned() };
                let answers = prompts.iter().map(|prompt| answer(prompt.echo)).collect();
                response = handle.authenticate_keyboard_interactive_respond(answers).await?;
            }
        }
    }
    Ok(AuthResult::Failure { remaining_methods: MethodSet::empty(), partial_success: false })
}
