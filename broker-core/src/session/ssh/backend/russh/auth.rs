//! Logging in: one credential after the other, and what the server says to each.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{self, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyBase64 as _, load_secret_key};
use russh::{MethodKind, MethodSet};

use super::super::super::target::{Credential, SshTarget};
use super::super::agents_answer;
use super::super::questions::Answers;
use super::{Checker, Shared};
use crate::secrets::Secret;
use crate::session::{SessionError, SessionErrorKind};

/// So many attempts a server allows at least: the sixth that fails is the last for OpenSSH's, which then hangs up.
const ATTEMPTS: usize = 5;

/// How many rounds of questions are answered: one for the password and one for words that need no answer.
const ROUNDS: u32 = 4;

/// A login in the making.
struct Login<'a> {
    handle: &'a mut Handle<Checker>,
    user: &'a str,
    /// The methods that the server offers.
    offered: MethodSet,
    /// Attempts that are left.
    left: usize,
    /// For how long the agent may think.
    for_agent: Duration,
}

/// What came of a credential.
enum Answer {
    /// We are in.
    In,
    /// Not with this, for that reason.
    No(String),
    /// There is nothing to say about it.
    Nothing,
}

type Outcome = Result<Answer, russh::Error>;

/// Tries one credential after the other.
pub(super) async fn log_in(
    handle: &mut Handle<Checker>,
    target: &SshTarget,
    shared: &Shared,
) -> Result<(), SessionError> {
    let SshTarget { label, user, credentials, .. } = target;
    let gone = |error: russh::Error| {
        let why = shared.ended.lock().clone().unwrap_or_else(|| error.to_string());
        let message = format!("`{label}` hung up while we logged in: {why}");
        SessionError::new(SessionErrorKind::Unreachable, message)
    };
    let offered = match handle.authenticate_none(user).await.map_err(gone)? {
        AuthResult::Success => return Ok(()),
        AuthResult::Failure { remaining_methods, .. } => remaining_methods,
    };
    let at_first = names(&offered);
    let mut login = Login { handle, user, offered, left: ATTEMPTS, for_agent: target.limits.for_agent() };
    let mut tried = Vec::new();
    let alone = credentials.len() == 1;
    for (index, credential) in credentials.iter().enumerate() {
        if login.handle.is_closed() {
            break;
        }
        let later = credentials.get(index + 1..).unwrap_or_default();
        let answer = match credential {
            Credential::KeyFile { path, passphrase, named } => login.key_file(path, passphrase.as_ref(), *named).await,
            Credential::Key(text) => login.own_key(text).await,
            Credential::Agent => {
                login.agent(alone, later.iter().filter(|other| **other != Credential::Agent).count()).await
            }
            Credential::AgentKey { path, public } => login.agent_key(path, public).await,
            Credential::Password(password) => login.password(password).await,
        };
        match answer.map_err(gone)? {
            Answer::In => return Ok(()),
            Answer::No(what) => tried.push(what),
            Answer::Nothing => {}
        }
    }
    // A connection that is cut off ends a login without an error of the library's.
    let hung_up = login.handle.is_closed();
    if hung_up && login.left + 1 >= ATTEMPTS {
        let why = shared.ended.lock().clone().unwrap_or_else(|| "it hung up".to_owned());
        let message = format!("`{label}` hung up while we logged in: {why}");
        return Err(SessionError::new(SessionErrorKind::Unreachable, message));
    }
    let mut message = match tried.as_slice() {
        [] => format!("there is no key, agent or password to log in to `{label}` with as `{user}`"),
        tried => format!("`{label}` lets `{user}` in with none of: {}", tried.join(", ")),
    };
    if hung_up {
        message.push_str("; it hung up, and may allow fewer attempts");
    }
    let offered = if at_first.is_empty() { "nothing".to_owned() } else { at_first.join(",") };
    Err(SessionError::new(SessionErrorKind::Auth, format!("{message}; it offers {offered}")))
}

impl Login<'_> {
    /// Counts an attempt, if the server would still listen to it.
    fn may_try(&mut self) -> bool {
        let may_try = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may_try
    }

    /// What the server says to an attempt. What it is called is for messages.
    fn heard(&mut self, what: &str, answer: AuthResult) -> Answer {
        match answer {
            AuthResult::Success => Answer::In,
            AuthResult::Failure { remaining_methods, partial_success } => {
                if !remaining_methods.is_empty() {
                    self.offered = remaining_methods;
                }
                no(what, if partial_success { "taken, and more is asked for" } else { "refused" })
            }
        }
    }

    async fn key_file(&mut self, path: &Path, passphrase: Option<&Secret>, named: bool) -> Outcome {
        let what = format!("key `{}`", path.display());
        match key_file(path, passphrase).await {
            Ok(key) => self.key(&what, key).await,
            Err(why) if named => Ok(no(&what, &why)),
            Err(_) => Ok(Answer::Nothing),
        }
    }

    async fn own_key(&mut self, text: &Secret) -> Outcome {
        let what = "the key that was made for the host";
        match keys::decode_secret_key(text.expose(), None) {
            Ok(key) => self.key(what, key).await,
            Err(error) => Ok(no(what, &error.to_string())),
        }
    }

    /// Why no key need be tried, if that is so. Else the attempt is counted.
    fn no_key(&mut self, what: &str) -> Option<Answer> {
        if !self.offered.contains(&MethodKind::PublicKey) {
            return Some(no(what, "not tried: the server takes no keys"));
        }
        (!self.may_try()).then(|| no(what, NO_MORE))
    }

    async fn key(&mut self, what: &str, key: PrivateKey) -> Outcome {
        if let Some(answer) = self.no_key(what) {
            return Ok(answer);
        }
        let hash = self.handle.best_supported_rsa_hash().await?.flatten();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        let answer = self.handle.authenticate_publickey(self.user, key).await?;
        Ok(self.heard(what, answer))
    }

    /// Tries the identities of the agent, and leaves an attempt for each of the credentials that come later.
    async fn agent(&mut self, alone: bool, later: usize) -> Outcome {
        let (mut agent, identities) = match identities(self.for_agent).await {
            Ok(found) => found,
            Err(why) if alone => return Ok(no("agent", &why)),
            Err(_) => return Ok(Answer::Nothing),
        };
        if identities.is_empty() {
            return Ok(no("agent", "holds no identities"));
        }
        if !self.offered.contains(&MethodKind::PublicKey) {
            return Ok(no("agent", "not tried: the server takes no keys"));
        }
        let all = identities.len();
        let mut refused = 0;
        for key in identities {
            if self.left <= later || self.handle.is_closed() {
                break;
            }
            self.left -= 1;
            match self.identity("agent", key, &mut agent).await? {
                Answer::In => return Ok(Answer::In),
                _ => refused += 1,
            }
        }
        Ok(Answer::No(agents_answer(refused, all)))
    }

    /// One identity of the agent.
    async fn agent_key(&mut self, path: &Path, public: &[u8]) -> Outcome {
        let what = format!("agent's key `{}`", path.display());
        let (mut agent, identities) = match identities(self.for_agent).await {
            Ok(found) => found,
            Err(why) => return Ok(no(&what, &format!("only the agent can use it, and {why}"))),
        };
        let Some(key) = identities.into_iter().find(|key| key.public_key_bytes() == public) else {
            return Ok(no(&what, "only the agent can use it, and does not hold it"));
        };
        if let Some(answer) = self.no_key(&what) {
            return Ok(answer);
        }
        self.identity(&what, key, &mut agent).await
    }

    async fn identity(&mut self, what: &str, key: PublicKey, agent: &mut Agent) -> Outcome {
        let hash = self.handle.best_supported_rsa_hash().await?.flatten().filter(|_| key.algorithm().is_rsa());
        match self.handle.authenticate_publickey_with(self.user, key, hash, agent).await {
            Ok(answer) => Ok(self.heard(what, answer)),
            Err(error) => {
                tracing::debug!(%error, "the agent did not sign.");
                Ok(no(what, "the agent did not sign"))
            }
        }
    }

    async fn password(&mut self, password: &Secret) -> Outcome {
        let mut said = Vec::new();
        if self.offered.contains(&MethodKind::Password) {
            let answer = if self.may_try() {
                let answer = self.handle.authenticate_password(self.user, password.expose()).await?;
                self.heard("password", answer)
            } else {
                no("password", NO_MORE)
            };
            match answer {
                Answer::In => return Ok(Answer::In),
                Answer::No(what) => said.push(what),
                Answer::Nothing => {}
            }
        }
        if self.offered.contains(&MethodKind::KeyboardInteractive) && !self.handle.is_closed() {
            match self.questions(password).await? {
                Answer::In => return Ok(Answer::In),
                Answer::No(what) => said.push(what),
                Answer::Nothing => {}
            }
        }
        if said.is_empty() {
            return Ok(no("password", "not tried: the server takes none"));
        }
        Ok(Answer::No(said.join(", ")))
    }

    /// Answers what the server asks.
    async fn questions(&mut self, password: &Secret) -> Outcome {
        let what = "keyboard-interactive";
        if !self.may_try() {
            return Ok(no(what, NO_MORE));
        }
        let mut answers = Answers::new(password);
        let mut response = self.handle.authenticate_keyboard_interactive_start(self.user, None::<String>).await?;
        for _ in 0..ROUNDS {
            match response {
                KeyboardInteractiveAuthResponse::Success => return Ok(Answer::In),
                KeyboardInteractiveAuthResponse::Failure { .. } if answers.wants_change() => break,
                KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                    return Ok(self.heard(what, AuthResult::Failure { remaining_methods, partial_success }));
                }
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                    let given = prompts.iter().map(|prompt| answers.answer(&prompt.prompt, prompt.echo)).collect();
                    response = self.handle.authenticate_keyboard_interactive_respond(given).await?;
                }
            }
        }
        let expired = "the password has expired and must be changed";
        Ok(no(what, if answers.wants_change() { expired } else { "it goes on asking" }))
    }
}

/// Why an attempt is not made that could be.
const NO_MORE: &str = "not tried: the server allows no more attempts";

fn no(what: &str, why: &str) -> Answer {
    Answer::No(format!("{what} ({why})"))
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

type Agent = AgentClient<tokio::net::UnixStream>;

/// The agent and the keys that it holds, or why there is nothing to be had of it.
async fn identities(limit: Duration) -> Result<(Agent, Vec<PublicKey>), String> {
    let path = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
    let Some(path) = path else { return Err("none is running: `SSH_AUTH_SOCK` is not set".to_owned()) };
    let ask = async {
        let mut agent = AgentClient::connect_uds(&path).await?;
        let identities = agent.request_identities().await?;
        // Certificates are left to OpenSSH.
        let keys = identities.into_iter().filter_map(|identity| match identity {
            AgentIdentity::PublicKey { key, .. } => Some(key),
            _ => None,
        });
        Ok::<_, keys::Error>((agent, keys.collect()))
    };
    let found = tokio::time::timeout(limit, ask).await.ok().and_then(Result::ok);
    found.ok_or_else(|| format!("does not answer at `{}`", Path::new(&path).display()))
}
