//! What to run, and how it ended.

use std::fmt;
use std::time::Duration;

use indexmap::IndexMap;

/// A command to run on a host.
///
/// One word is a line for the host's shell, several are a program and its arguments, taken as they are:
///
/// ```
/// use broker_core::session::Command;
///
/// let line = Command::shell("echo $HOME | tr a-z A-Z");
/// let words = Command::words(["echo", "$HOME"]); // prints `$HOME`
/// assert_ne!(line, words);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What to run.
    pub program: Program,
    /// Variables added to the command's environment.
    pub env: IndexMap<String, String>,
    /// The directory to run it in; the host's default where there is none.
    pub directory: Option<String>,
    /// The user to run it as, where the way to the host can choose.
    pub user: Option<String>,
    /// A terminal for the command, which then has one output instead of two.
    pub pty: Option<PtyRequest>,
    /// How long the command may take before it is ended, with its children.
    pub deadline: Option<Duration>,
    /// What the command reads on its standard input.
    pub stdin: Vec<u8>,
}

/// Something a host can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A line for `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments. Never empty when it comes from [`Command::words`] with at least one word.
    Words(Vec<String>),
}

impl Command {
    /// A line for the shell of the host.
    pub fn shell(line: impl Into<String>) -> Self {
        Self::new(Program::Shell(line.into()))
    }

    /// A program and its arguments, without a shell. A single word is a program too, not a line.
    pub fn words<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::new(Program::Words(words.into_iter().map(Into::into).collect()))
    }

    fn new(program: Program) -> Self {
        Self {
            program,
            env: IndexMap::new(),
            directory: None,
            user: None,
            pty: None,
            deadline: None,
            stdin: Vec::new(),
        }
    }

    /// Sets a variable in the command's environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Runs it in a directory.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<String>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Runs it as another user.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Ends it, and all its children, when it takes longer than this.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Gives it something to read.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Gives it a terminal.
    #[must_use]
    pub fn pty(mut self, pty: PtyRequest) -> Self {
        self.pty = Some(pty);
        self
    }

    /// The argument vector: a shell line becomes `/bin/sh -c LINE`.
    pub fn argv(&self) -> Vec<String> {
        match &self.program {
            Program::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            Program::Words(words) => words.clone(),
        }
    }
}

impl From<&str> for Command {
    fn from(line: &str) -> Self {
        Self::shell(line)
    }
}

impl From<String> for Command {
    fn from(line: String) -> Self {
        Self::shell(line)
    }
}

impl<const N: usize> From<[&str; N]> for Command {
    fn from(words: [&str; N]) -> Self {
        Self::words(words)
    }
}

/// One word as it is, several with spaces between: for messages, not for a shell.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Program::Shell(line) => f.write_str(line),
            Program::Words(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// A terminal to give to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PtyRequest {
    /// The kind of terminal, as in `TERM`.
    pub term: String,
    /// Its size at the start.
    pub size: PtySize,
    /// Its modes at the start, such as whether it echoes, where the way to the host can set them: opcodes and values of
    /// RFC 4254, section 8. What is not mentioned is as the host has it.
    pub modes: Vec<(u8, u32)>,
}

impl Default for PtyRequest {
    fn default() -> Self {
        Self { term: "xterm-256color".to_owned(), size: PtySize::default(), modes: Vec::new() }
    }
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PtySize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl Default for PtySize {
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

/// A signal that can be sent to a command, by its POSIX name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// The terminal is gone.
    Hangup,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-\.
    Quit,
    /// A request to end.
    Terminate,
    /// The end.
    Kill,
}

impl Signal {
    /// The name without `SIG`, as `kill` and SSH take it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hangup => "HUP",
            Self::Interrupt => "INT",
            Self::Quit => "QUIT",
            Self::Terminate => "TERM",
            Self::Kill => "KILL",
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited with this status.
    Code(i32),
    /// A signal ended it: the name without `SIG`. Container engines report this as a status of 128 and more instead.
    Signal(String),
}

impl ExitStatus {
    /// Whether the status is 0.
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }

    /// The status as a shell gives it: the code, or 128 and the signal's number.
    pub fn code(&self) -> i32 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(name) => {
                128 + match name.as_str() {
                    "HUP" => 1,
                    "INT" => 2,
                    "QUIT" => 3,
                    "ILL" => 4,
                    "TRAP" => 5,
                    "ABRT" => 6,
                    "BUS" => 7,
                    "FPE" => 8,
                    "KILL" => 9,
                    "USR1" => 10,
                    "SEGV" => 11,
                    "USR2" => 12,
                    "PIPE" => 13,
                    "ALRM" => 14,
                    "TERM" => 15,
                    _ => 127,
                }
            }
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(name) => write!(f, "signal {name}"),
        }
    }
}
