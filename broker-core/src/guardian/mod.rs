//! The guardian: a process that outlives the one whose guards hold hosts, and checks in what those held when it dies.
//!
//! A process that is killed runs no destructor and no `atexit`. So the first guard starts a second process, in a process
//! session of its own, which waits for the end of a pipe whose other end only the owner has. The journal stays the one
//! place that says what is to be done: the guardian is told which hosts to look at, and reads there what became of them.

// The owner's end is `client`, with the task that looks after a guardian in `attendant`; the guardian is `serve`, and what
// it does about a host is `ward`. What they tell each other is `message`.

mod attendant;
mod client;
mod message;
mod process;
mod program;
mod serve;
mod ward;

pub(crate) use self::client::{Guarding, Watching};
pub(crate) use self::program::Choice;
pub use self::serve::{ServeError, serve};

/// The word that makes a `broker` a guardian: its only argument.
pub const WORD: &str = "guardian";
