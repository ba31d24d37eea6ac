//! Logging in: one credential after the other, and what the server says to each.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ssh2::{KeyboardInteractivePrompt, Prompt, Session};

use super::super::agents_answer;
use super::super::questions::Answers;
use super::agent;
use super::code::{Meaning, meaning};
use super::handshake::{Beginning, Stop};
use super::key_file::{self, Unusable};
use crate::secrets::Secret;
use crate::session::ssh::dial::Refused;
use crate::session::ssh::target::Credential;
use crate::session::{SessionError, SessionErrorKind};

/// So many attempts a server allows at least: the sixth that fails is the last for OpenSSH's, which then hangs up.
const ATTEMPTS: usize = 5;

/// A login in the making.
struct Login<'a, 'b> {
    beginning: &'a mut Beginning<'b>,
    session: &'a Session,
    user: &'a str,
    /// The methods that the server offers.
    offered: Vec<String>,
    /// Attempts that are left.
    left: usize,
    /// What was tried, and what came of it.
    tried: Vec<String>,
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

/// What ends a login early.
enum End {
    Stop(Stop),
    /// The server has hung up after the attempt that is named.
    HungUp(String),
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Logs in.
pub(super) fn log_in(beginning: &mut Beginning<'_>, session: &Session) -> Result<(), Refused> {
    let target = beginning.target;
    let mut login =
        Login { beginning, session, user: &target.user, offered: Vec::new(), left: ATTEMPTS, tried: Vec::new() };
    let hung_up = match login.run(&target.credentials) {
        Ok(true) => return Ok(()),
        Ok(false) => false,
        Err(End::HungUp(what)) => {
            login.tried.push(what);
            true
        }
        Err(End::Stop(stop)) if login.tried.is_empty() => return Err(Refused::Finally(stop.into_error(target))),
        Err(End::Stop(stop)) => {
            let tried = login.tried.join(", ");
            let error = stop.into_error(target);
            let message = format!("logging in to `{}` did not get to an end, after: {tried}", target.label);
            return Err(Refused::Finally(SessionError::new(error.kind(), message).source(error)));
        }
    };
    // One that hangs up before it has refused anything may as well have been cut off.
    let cut_off = hung_up && login.left + 1 == ATTEMPTS;
    let kind = if cut_off { SessionErrorKind::Unreachable } else { SessionErrorKind::Auth };
    let message = login.message(&target.label, hung_up);
    Err(Refused::Finally(SessionError::new(kind, message)))
}

impl Login<'_, '_> {
    /// Whether the server lets us in.
    fn run(&mut self, credentials: &[Credential]) -> Result<bool, End> {
        if self.ask_for_methods()? {
            return Ok(true);
        }
        let only_one = credentials.len() == 1;
        for (index, credential) in credentials.iter().enumerate() {
            let answer = match credential {
                Credential::KeyFile { path, passphrase, named } => self.key_file(path, passphrase.as_ref(), *named)?,
                Credential::Key(text) => self.key(text)?,
                Credential::Agent => {
                    let later = credentials[index + 1..].iter().filter(|other| **other != Credential::Agent).count();
                    self.agent(only_one, later)?
                }
                Credential::AgentKey { path, public } => self.agent_key(path, public)?,
                Credential::Password(password) => self.password(password)?,
            };
            match answer {
                Answer::In => return Ok(true),
                Answer::No(what) => self.tried.push(what),
                Answer::Nothing => {}
            }
        }
        Ok(false)
    }

    /// Asks what methods there are, which is a login without any, and says whether that is enough.
    fn ask_for_methods(&mut self) -> Result<bool, End> {
        let (session, user) = (self.session, self.user);
        let methods = self.beginning.finish(session, || session.auth_methods(user).map(str::to_owned))?;
        self.offered = methods.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if let Ok(Some(banner)) = session.userauth_banner() {
            tracing::debug!("`{}` says: {}", self.beginning.target.label, banner.trim_end());
        }
        Ok(session.authenticated())
    }

    fn offers(&self, method: &str) -> bool {
        self.offered.iter().any(|offered| offered == method)
    }

    /// Makes one attempt. What it is called is for messages.
    fn attempt(&mut self, what: &str, mut call: impl FnMut() -> Result<(), ssh2::Error>) -> Result<Answer, End> {
        let answer = |reason: &str| Ok(Answer::No(format!("{what} ({reason})")));
        if self.left == 0 {
            return answer("not tried: the server allows no more attempts");
        }
        self.left -= 1;
        match self.beginning.finish(self.session, &mut call) {
            Ok(()) => Ok(Answer::In),
            Err(Stop::Failed(error)) => match meaning(&error) {
                Meaning::NotLetIn => answer("refused"),
                Meaning::NoSignature => answer("the server takes none of its signatures"),
                Meaning::Expired => answer("it has expired and must be changed"),
                Meaning::HungUp => Err(End::HungUp(format!("{what} (the server hung up)"))),
                _ => answer(error.message()),
            },
            Err(stop) => Err(stop.into()),
        }
    }

    fn key_file(&mut self, path: &Path, passphrase: Option<&Secret>, named: bool) -> Result<Answer, End> {
        let what = format!("key `{}`", path.display());
        let because = |reason: &str| Ok(Answer::No(format!("{what} ({reason})")));
        let key = match key_file::read(path) {
            Ok(key) => key,
            Err(Unusable::Missing) if !named => return Ok(Answer::Nothing),
            Err(Unusable::Missing) => return because("does not exist"),
            Err(Unusable::Because(reason)) => return because(&reason),
        };
        if key.locked && passphrase.is_none() {
            return if named { because("locked, and there is no passphrase for it") } else { Ok(Answer::Nothing) };
        }
        if !self.offers("publickey") {
            return because("not tried: the server takes no keys");
        }
        let (session, user) = (self.session, self.user);
        // A passphrase for a key that has none is no mistake: one may be given for several keys.
        let passphrase = passphrase.filter(|_| key.locked).map(Secret::expose);
        let mut unreadable = None;
        let answer = self.attempt(&what, || {
            session.userauth_pubkey_memory(user, None, &key.text, passphrase).inspect_err(|error| {
                if meaning(error) == Meaning::Other {
                    unreadable = Some(error.message().to_owned());
                }
            })
        })?;
        let Some(reason) = unreadable else { return Ok(answer) };
        // The server has not heard of it.
        self.left += 1;
        if key.locked { because("the passphrase does not open it") } else { because(&format!("libssh2: {reason}")) }
    }

    /// A key that is at hand.
    fn key(&mut self, text: &Secret) -> Result<Answer, End> {
        let what = "the key that was made for the host";
        if !self.offers("publickey") {
            return Ok(Answer::No(format!("{what} (not tried: the server takes no keys)")));
        }
        let (session, user) = (self.session, self.user);
        self.attempt(what, || session.userauth_pubkey_memory(user, None, text.expose(), None))
    }

    /// The agent and what it holds, or why there is nothing to be had of it.
    fn identities(&self) -> Result<(ssh2::Agent, Vec<ssh2::PublicKey>), String> {
        let path = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from);
        let Some(path) = path else { return Err("none is running: `SSH_AUTH_SOCK` is not set".to_owned()) };
        let ask = || -> Result<(ssh2::Agent, Vec<ssh2::PublicKey>), ssh2::Error> {
            let mut agent = self.session.agent()?;
            agent.connect()?;
            agent.list_identities()?;
            let identities = agent.identities()?;
            Ok((agent, identities))
        };
        let answers = agent::answers(&path, self.beginning.target.limits.for_agent()).is_ok();
        let found = if answers { ask().ok() } else { None };
        found.ok_or_else(|| format!("does not answer at `{}`", path.display()))
    }

    /// Tries the identities of the agent, and leaves an attempt for each of the credentials that come later.
    fn agent(&mut self, alone: bool, later: usize) -> Result<Answer, End> {
        let no = |reason: &str| Ok(Answer::No(format!("agent ({reason})")));
        let (agent, identities) = match self.identities() {
            Ok(found) => found,
            Err(reason) if alone => return no(&reason),
            Err(_) => return Ok(Answer::Nothing),
        };
        if identities.is_empty() {
            return no("holds no identities");
        }
        if !self.offers("publickey") {
            return no("not tried: the server takes no keys");
        }
        let mut refused = 0;
        let user = self.user;
        for identity in &identities {
            if self.left <= later {
                break;
            }
            let what = format!("agent's `{}`", identity.comment());
            match self.attempt(&what, || agent.userauth(user, identity))? {
                Answer::In => return Ok(Answer::In),
                _ => refused += 1,
            }
        }
        Ok(Answer::No(agents_answer(refused, identities.len())))
    }

    /// One identity of the agent.
    fn agent_key(&mut self, path: &Path, public: &[u8]) -> Result<Answer, End> {
        let what = format!("agent's key `{}`", path.display());
        let no = |reason: &str| Ok(Answer::No(format!("{what} ({reason})")));
        let (agent, identities) = match self.identities() {
            Ok(found) => found,
            Err(reason) => return no(&format!("only the agent can use it, and {reason}")),
        };
        let Some(identity) = identities.iter().find(|identity| identity.blob() == public) else {
            return no("only the agent can use it, and does not hold it");
        };
        if !self.offers("publickey") {
            return no("not tried: the server takes no keys");
        }
        let user = self.user;
        self.attempt(&what, || agent.userauth(user, identity))
    }

    fn password(&mut self, password: &Secret) -> Result<Answer, End> {
        if !self.offers("password") && !self.offers("keyboard-interactive") && self.left < ATTEMPTS {
            // After a key that is one of several things asked for, the server asks for the next.
            self.left = self.left.saturating_sub(1);
            if self.ask_for_methods()? {
                return Ok(Answer::In);
            }
        }
        let (session, user) = (self.session, self.user);
        let mut said = Vec::new();
        if self.offers("password") {
            match self.attempt("password", || session.userauth_password(user, password.expose()))? {
                Answer::In => return Ok(Answer::In),
                Answer::No(what) => said.push(what),
                Answer::Nothing => {}
            }
        }
        if self.offers("keyboard-interactive") {
            let mut answers = Answers::new(password);
            let call = || session.userauth_keyboard_interactive(user, &mut answers);
            match self.attempt("keyboard-interactive", call)? {
                Answer::In => return Ok(Answer::In),
                Answer::No(_) if answers.wants_change() => {
                    said.push("keyboard-interactive (the password has expired and must be changed)".to_owned());
                }
                Answer::No(what) => said.push(what),
                Answer::Nothing => {}
            }
        }
        if said.is_empty() {
            said.push("password (not tried: the server takes none)".to_owned());
        }
        Ok(Answer::No(said.join(", ")))
    }

    fn message(&self, label: &str, hung_up: bool) -> String {
        let user = self.user;
        let mut message = if self.tried.is_empty() {
            format!("there is no key, agent or password to log in to `{label}` with as `{user}`")
        } else {
            format!("`{label}` lets `{user}` in with none of: {}", self.tried.join(", "))
        };
        if hung_up {
            message.push_str("; it may allow fewer attempts");
        }
        let offered = if self.offered.is_empty() { "nothing".to_owned() } else { self.offered.join(",") };
        // Writing to a string cannot fail.
        let _written = write!(message, "; it offers {offered}");
        message
    }
}

impl KeyboardInteractivePrompt for Answers<'_> {
    fn prompt<'b>(&mut self, _user: &str, _instructions: &str, prompts: &[Prompt<'b>]) -> Vec<String> {
        prompts.iter().map(|prompt| self.answer(&prompt.text, prompt.echo)).collect()
    }
}
