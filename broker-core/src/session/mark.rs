//! Finding a command again that has no handle: what a way to a host can start, and not end.

use super::Signal;
use crate::id::HostId;

/// The variable that marks a command and its children.
const VARIABLE: &str = "BROKER_EXEC";

const END: &str = include_str!("end.sh");

/// A mark that a command carries in its environment, and its children inherit, so that a second command on the host can
/// find all of them and send them a signal. Needs `/bin/sh` and `/proc` on the host, and no other program.
///
/// What has emptied its environment (`env -i`) is found as long as it is in the session of a marked process or one of
/// its children.
#[derive(Debug, Clone)]
pub struct Mark(String);

impl Mark {
    /// A mark that nothing carries yet.
    #[expect(clippy::new_without_default, reason = "every mark is another one")]
    pub fn new() -> Self {
        Self(HostId::generate().to_string())
    }

    /// The variable's name.
    pub fn variable(&self) -> &'static str {
        VARIABLE
    }

    /// The variable's value: letters, digits and dashes.
    pub fn value(&self) -> &str {
        &self.0
    }

    /// The command that sends a signal to what carries the mark. It exits with 1 where there was anything, with 0 where
    /// there was nothing.
    pub fn signalling(&self, signal: Signal) -> [String; 6] {
        let mark = format!("{VARIABLE}={}", self.0);
        ["/bin/sh", "-c", END, "sh", &mark, signal.name()].map(str::to_owned)
    }
}
